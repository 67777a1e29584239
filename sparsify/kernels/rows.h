/* rows.h: training kernels of encoders: softmax, layer norm, GELU, AdamW, and the way into lanes (lanes.h) and back.
 *
 * LAYOUT   Plain matrices are row-major (rows, n). In lanes, 16 rows lie side by side: feature c of the 16 rows at x is
 *   x + c * step (step: floats from one feature to the next, see wn_lanes_geom). Nothing needs more than the alignment
 * of a float. EXACT  Sums are taken in an order that depends on shapes alone. GELU and softmax use polynomials good to
 *   2e-7; results differ between instruction sets in the last bits, never between runs. Checked: tests/grad compares
 * every instruction set with plain C in double. Source: Abramowitz and Stegun, 7.1.26 (erf); Loshchilov and Hutter,
 * Decoupled weight decay regularization (AdamW). */
#ifndef WN_ROWS_H
#define WN_ROWS_H

#include "base/base.h"

struct wn_adamw {
    float lr, beta1, beta2, eps, decay; /* decay: w -= lr * decay * w */
    float fix1, fix2;                   /* 1 / (1 - beta1^t), 1 / (1 - beta2^t) */
};

struct wn_rows_kernels {
    const char *name;
    /** y = x * Phi(x), by erf or by tanh (GELU's approximation); any n; y may be x. */
    void (*gelu)(float *y, const float *x, size_t n, bool by_tanh);
    void (*gelu_back)(float *dx, const float *dy, const float *x, size_t n, bool by_tanh);
    void (*softmax)(float *y, const float *x, size_t rows, size_t n);
    /** dx = y * (dy - sum of dy * y). */
    void (*softmax_back)(float *dx, const float *dy, const float *y, size_t rows, size_t n);
    /** y = (x - mean) * inv * scale + shift per row; mean and inv = 1 / sqrt(var + eps) ([rows]) are kept for backward.
     */
    void (*norm)(float *y, float *mean, float *inv, const float *x, const float *scale, const float *shift, size_t rows,
                 size_t n, float eps);
    void (*norm_back)(float *dx, const float *dy, const float *x, const float *mean, const float *inv,
                      const float *scale, size_t rows, size_t n);
    /** dscale and dshift of features from … to - 1 over all rows. */
    void (*norm_params)(float *dscale, float *dshift, const float *dy, const float *x, const float *mean,
                        const float *inv, size_t rows, size_t n, size_t from, size_t to);
    /* the same for 16 rows in lanes; mean and inv [16] */
    void (*lanes_norm)(float *y, float *mean, float *inv, const float *x, size_t step, const float *scale,
                       const float *shift, size_t n, float eps);
    void (*lanes_norm_back)(float *dx, const float *dy, const float *x, size_t step, const float *mean,
                            const float *inv, const float *scale, size_t n);
    /** Adds what 16 rows contribute to the dscale and dshift of one feature; x, dy: that feature's 16 numbers. */
    void (*lanes_norm_params)(float *dscale, float *dshift, const float *dy, const float *x, const float *mean,
                              const float *inv);
    /** n features of 16 plain rows, `row` floats apart, into lanes, and back. */
    void (*to_lanes)(float *y, size_t step, const float *x, size_t row, size_t n);
    void (*from_lanes)(float *y, size_t row, const float *x, size_t step, size_t n);
    /** One AdamW step at n positions; keep (bytes 0/1, may be NULL) 0: w = m = v = 0. */
    void (*adamw)(float *w, float *m, float *v, const float *g, const uint8_t *keep, size_t n,
                  const struct wn_adamw *a);
};

extern const struct wn_rows_kernels wn_rows_kernels__scalar, wn_rows_kernels__avx2, wn_rows_kernels__avx512vnni;
/** The kernels of engine/kernels' wn_cpu_isa(). */
const struct wn_rows_kernels *wn_rows_kernels(void);

#endif
