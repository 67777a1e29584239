/* dense.h: dense convolutions, batch norm and pools for training; oneDNN behind it, in one file (onednn.c).
 *
 * LAYOUTS  Four-axis activations are "C8": [N][ceil(C / 8)][H][W][8], channels past C hold 0. A convolution's input may
 *   be plain (N, C, H, W) instead (pictures of 1 … 4 channels). Matrices are plain row-major. Weights come and go as
 *   dense row-major (O, I / groups, kh, kw); reordering them costs 0.1 … 0.3 % of a step.
 * EXACT    For a fixed team size (team.h) results repeat bit for bit.
 * THREADS  One thread at a time per context; objects belong to their context. Errors of oneDNN name its status.
 * Source: oneDNN 2.6 C API (oneapi/dnnl/dnnl.h) and its developer guide. */
#ifndef WN_DENSE_H
#define WN_DENSE_H

#include "base/base.h"

/** Engine, stream and shared scratch memory. */
struct wn_dense;
WINNOW_MUST_USE enum winnow_status wn_dense_new(struct wn_dense **ret, struct winnow_err *err);
void wn_dense_free(struct wn_dense *d);

/** Floats of a C8 buffer. */
static inline size_t wn_c8_floats(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (size_t)n * wn_round_up((size_t)c, 8) * (size_t)h * (size_t)w;
}

struct wn_dense_conv_shape {
    int n, ic, ih, iw, oc, oh, ow, groups;
    int kh, kw, sh, sw, ph, pw, ph_end, pw_end, dh, dw;
    bool x_plain; /* input (and its gradient) plain, not C8 */
    bool bias;
    bool back_data, back_weights; /* passes to prepare */
};
struct wn_dense_conv;
WINNOW_MUST_USE enum winnow_status wn_dense_conv_new(struct wn_dense *d, const struct wn_dense_conv_shape *shape,
                                                     struct wn_dense_conv **ret, struct winnow_err *err);
void wn_dense_conv_free(struct wn_dense_conv *cv);
WINNOW_MUST_USE enum winnow_status wn_dense_conv_forward(struct wn_dense_conv *cv, const float *x, const float *w,
                                                         const float *bias, float *y, struct winnow_err *err);
/** w as given to the last forward pass. */
WINNOW_MUST_USE enum winnow_status wn_dense_conv_back_data(struct wn_dense_conv *cv, const float *dy, const float *w,
                                                           float *dx, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_dense_conv_back_weights(struct wn_dense_conv *cv, const float *x, const float *dy,
                                                              float *dw, float *db, struct winnow_err *err);

struct wn_dense_bn;
/** On C8 (n, c, h, w); relu: max(0, ·) fused behind it. */
WINNOW_MUST_USE enum winnow_status wn_dense_bn_new(struct wn_dense *d, int n, int c, int h, int w, float eps, bool relu,
                                                   struct wn_dense_bn **ret, struct winnow_err *err);
void wn_dense_bn_free(struct wn_dense_bn *bn);
/** batch: normalise with the batch's mean and biased variance and store them in mean, var ([c]); else use those given.
 */
WINNOW_MUST_USE enum winnow_status wn_dense_bn_forward(struct wn_dense_bn *bn, bool batch, const float *x,
                                                       const float *scale, const float *shift, float *mean, float *var,
                                                       float *y, struct winnow_err *err);
/** Gradients for the mode, mean and var of the last forward pass. */
WINNOW_MUST_USE enum winnow_status wn_dense_bn_backward(struct wn_dense_bn *bn, const float *x, const float *dy,
                                                        const float *scale, const float *shift, const float *mean,
                                                        const float *var, float *dx, float *dscale, float *dshift,
                                                        struct winnow_err *err);

enum wn_pool_kind { WN_POOL_MAX, WN_POOL_AVG, WN_POOL_AVG_INCLUDE_PAD };
struct wn_dense_pool_shape {
    enum wn_pool_kind kind;
    int n, c, ih, iw, oh, ow, kh, kw, sh, sw, ph, pw, ph_end, pw_end;
};
struct wn_dense_pool;
/** On C8. */
WINNOW_MUST_USE enum winnow_status wn_dense_pool_new(struct wn_dense *d, const struct wn_dense_pool_shape *shape,
                                                     struct wn_dense_pool **ret, struct winnow_err *err);
void wn_dense_pool_free(struct wn_dense_pool *p);
WINNOW_MUST_USE enum winnow_status wn_dense_pool_forward(struct wn_dense_pool *p, const float *x, float *y,
                                                         struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_dense_pool_backward(struct wn_dense_pool *p, const float *dy, float *dx,
                                                          struct winnow_err *err);

/** c (m, n) = op(a) op(b) + beta * c; row-major, op transposes where asked (a is then stored (k, m), b (n, k)). */
WINNOW_MUST_USE enum winnow_status wn_dense_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                                                 const float *b, float beta, float *c, struct winnow_err *err);

#endif
