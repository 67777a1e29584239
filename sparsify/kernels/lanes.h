/* lanes.h: training kernels whose vector lanes run over 16 samples, so that any pattern of zero weights is skipped.
 *
 * LAYOUT   [N/16][C][plane][16] float. A plane is H rows of `pitch` pixels with `halo` pixels of zeros around; the
 * zeros right of a row are those left of the next. One pixel = 16 samples = 64 bytes. A pruned weight costs nothing:
 * every kept one is a broadcast and a run of multiply-adds over neighbouring pixels. Two-axis values (N, F) have one
 * row of up to 7 pixels: pixel p of block b holds samples 16 (b * w + p) … + 15. HALO     Read, never written by
 * kernels: zeroed when the buffer is made, and a buffer keeps its geometry for life. ORDER    Every sum is taken in an
 * order that depends on shapes alone, never on the number of threads: blocks or rows are shared out, no partial results
 * are merged across threads. Checked: tests/grad compares with plain C and with the dense path; scalar is the same code
 * at one lane. */
#ifndef WN_LANES_H
#define WN_LANES_H

#include "base/base.h"

#define WN_LANES 16

struct wn_lanes_geom {
    int nb, c, h, w; /* blocks, channels, rows, pixels per row */
    int halo, pitch; /* pixels */
    size_t plane;    /* pixels from one channel to the next */
    size_t block;    /* pixels from one block of samples to the next */
    size_t origin;   /* pixels from a plane's start to (0, 0) */
};

/** Geometry of (n, c, h, w), n a multiple of 16. */
void wn_lanes_geom_image(struct wn_lanes_geom *g, int64_t n, int64_t c, int64_t h, int64_t w, int halo);
/** Geometry of (n, f). */
void wn_lanes_geom_matrix(struct wn_lanes_geom *g, int64_t n, int64_t f);
/** Floats of a buffer. */
static inline size_t wn_lanes_floats(const struct wn_lanes_geom *g)
{
    return (size_t)g->nb * g->block * WN_LANES;
}
static inline size_t wn_lanes_at(const struct wn_lanes_geom *g, int b, int c, int y, int x)
{
    return ((size_t)b * g->block + (size_t)c * g->plane + g->origin + (size_t)((ptrdiff_t)y * g->pitch + x)) * WN_LANES;
}

/** Sums over the kept weights of an output row, at every output pixel of one block (forward), or of an input row at the
 *  pixels of one stride phase (backward-data). Offsets and steps are in floats. */
struct wn_lanes_sum {
    uint32_t rows;
    const uint32_t *start; /* [rows + 1] */
    const int32_t *off;    /* from x's pixel (0, 0) of channel 0 */
    const float *val;      /* [start[rows]] */
    const float *bias;     /* [rows] or NULL */
    int h, w;              /* output pixels */
    int chunk;             /* dot: rows done for all output channels before the next ones, so that they stay cached */
    size_t x_row, x_px;    /* input step per output row and pixel */
    size_t y_row, y_px, y_plane;
};

/** The scalars of one channel's batch norm. */
struct wn_lanes_bn {
    float mean, inv;      /* statistics used: batch or running; inv = 1 / sqrt(var + eps) */
    float var;            /* biased batch variance; set in training */
    float scale, shift;   /* the layer's */
    float dscale, dshift; /* gradients; set by backward */
    float eps;
    bool batch; /* use the batch's statistics (training), else mean and inv as given */
    bool relu;  /* max(0, ·) behind it */
};

struct wn_lanes_fq {
    float scale, inv; /* inv = 1 / scale */
    float lo, hi;     /* smallest and largest representable q - zero, as float: -zero, 255 - zero */
};

/** One instruction set's kernels. All float buffers are 64-byte aligned; n is a multiple of 16 unless it says any n. */
struct wn_lanes_kernels {
    /** y(rows, h, w) = bias + sums (+ add, laid out as y, may be NULL). x and y point at block's pixel (0,0), channel
     * 0. */
    void (*sum)(const struct wn_lanes_sum *s, const float *x, const float *add, float *y);
    /** dw[k] += sum over the pixels and lanes of dy(row of k) * x(off[k] …), rows from … to - 1. s as in the forward
     * pass (val and bias unused, y = dy). */
    void (*dot)(const struct wn_lanes_sum *s, uint32_t from, uint32_t to, const float *x, const float *dy, float *dw);
    /** Sum of x over the lanes and pixels of channel c, in double. */
    double (*channel_sum)(const struct wn_lanes_geom *g, int c, const float *x);
    void (*bn_forward)(const struct wn_lanes_geom *g, int c, struct wn_lanes_bn *bn, const float *x, float *y);
    void (*bn_backward)(const struct wn_lanes_geom *g, int c, struct wn_lanes_bn *bn, const float *x, const float *dy,
                        float *dx); /* dx NULL: only dscale and dshift */
    /* flat: y and its inputs may be one buffer */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*add_relu)(float *y, const float *a, const float *b, size_t n);
    void (*clamp)(float *y, const float *x, float lo, float hi, size_t n);
    /** dx = lo < y < hi ? dy : 0. */
    void (*clamp_back)(float *dx, const float *dy, const float *y, float lo, float hi, size_t n);
    /** y = clamp(rne(x * inv), lo, hi) * scale. */
    void (*fq)(float *y, const float *x, const struct wn_lanes_fq *q, size_t n);
    /** dx = lo <= rne(x * inv) <= hi ? dy : 0. */
    void (*fq_back)(float *dx, const float *dy, const float *x, const struct wn_lanes_fq *q, size_t n);
    /** Extends [*lo, *hi] by x; any n. */
    void (*range)(const float *x, size_t n, float *lo, float *hi);
    /** One SGD step, any n: d = g + wd * w; v = mu * v + d; w -= lr * (nesterov ? d + mu * v : v). keep (bytes 0/1, may
     * be NULL) 0: w = v = 0. */
    void (*sgd)(float *w, float *v, const float *g, const uint8_t *keep, size_t n, float lr, float mu, float wd,
                bool nesterov);
};

extern const struct wn_lanes_kernels wn_lanes_kernels__scalar, wn_lanes_kernels__avx2, wn_lanes_kernels__avx512vnni;
/** The kernels of engine/kernels' wn_cpu_isa(). */
const struct wn_lanes_kernels *wn_lanes_kernels(void);

/* ---- sparse convolution: structure and the three passes over all blocks ---- */

/** A convolution's (or, kh = kw = 1, a linear layer's) shape; any groups, strides, dilations. */
struct wn_lanes_conv_shape {
    int o, i, groups; /* output and input channels of the whole layer */
    int kh, kw, sh, sw, ph, pw, dh, dw;
    struct wn_lanes_geom x, y;
};
/** How many pixels around x and y the passes read. */
int wn_lanes_conv_halo_x(int k, int stride, int pad_begin, int dilation, int64_t in, int64_t out);
int wn_lanes_conv_halo_y(int k, int stride, int pad_begin, int dilation, int64_t in, int64_t out);

struct wn_lanes_conv;
/** Build the index structure for the kept positions of w (O, I / groups, kh, kw): mask[k] != 0, or all (mask NULL). */
WINNOW_MUST_USE enum winnow_status wn_lanes_conv_new(const struct wn_lanes_conv_shape *shape, const uint8_t *mask,
                                                     struct wn_lanes_conv **ret, struct winnow_err *err);
void wn_lanes_conv_free(struct wn_lanes_conv *cv);
size_t wn_lanes_conv_kept(const struct wn_lanes_conv *cv);
/** y = conv(x, w) + bias. w dense (O, I/g, kh, kw); its kept values are gathered here, once per step. */
void wn_lanes_conv_forward(struct wn_lanes_conv *cv, unsigned threads, const float *x, const float *w,
                           const float *bias, float *y);
/** dx = conv^T(dy, w as given to forward) (+ add, laid out as dx). */
void wn_lanes_conv_back_data(struct wn_lanes_conv *cv, unsigned threads, const float *dy, const float *add, float *dx);
/** dw at kept positions = correlation of x and dy; other elements of dw are left alone. db (may be NULL) = sums of dy.
 */
void wn_lanes_conv_back_weights(struct wn_lanes_conv *cv, unsigned threads, const float *x, const float *dy, float *dw,
                                float *db);

#endif
