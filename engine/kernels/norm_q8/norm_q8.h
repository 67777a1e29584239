/* norm_q8.h: layer normalization from bytes to bytes: wn.QLayerNorm of fused.h.
 *
 *     S = sum of x, Q = sum of x^2 over a token's k features, exact integers;  mean = (float)(S / k)
 *     inv = (float)(k / sqrt(k Q - S^2 + eps)), in double; 0 where the root is not above 0
 *     y = clamp(rne(((float)x - mean) * inv * gamma[f] + beta[f]) + y_zp, 0, 255), each step rounded, none contracted
 *
 * x's scale and zero point are in eps alone, for neither changes what is left of a normalization; y's scale is in gamma
 * and beta.
 * USE    Columns (plan/cols_q8.h), quads or planes, x and y in the same; or rows, tokens as they lie. Nothing is
 * packed. Any number of threads, each on its own tokens. y may be x. EXACT  the same bits on every ISA: sums are
 * integers, so that their order does not matter as it does in norm_f32. */
#ifndef WN_NORM_Q8_H
#define WN_NORM_Q8_H

#include <math.h>
#include "engine/kernels/q8_epilogue.h"

/** What gamma and beta hold past k: any numbers, up to the next multiple of this. */
#define WN_NORM_Q8_PAD 64u

struct wn_norm_q8 {
    size_t k, n;               /* features, 1 ... WN_Q8_MAX_K; tokens */
    const uint8_t *x;          /* cols: from the first token; rows: (n, k) */
    uint8_t *y;                /* as x */
    size_t x_stride, y_stride; /* cols: bytes from feature to feature, or quad to quad; rows: unused */
    enum wn_q8_out form;       /* cols: WN_OUT_QUAD or WN_OUT_PLANE */
    const float *gamma, *beta; /* [k], readable to a multiple of WN_NORM_Q8_PAD */
    double eps;                /* k^2 times the operator's, over the square of x's scale */
    int32_t y_zp;
};

/** All n tokens; columns: exactly n are read and written, whole quads of them, whose lanes past k hold anything. */
typedef void wn_norm_q8_fn(const struct wn_norm_q8 *args);
/** On the best instruction set there is. */
wn_norm_q8_fn wn_norm_q8_cols_run;
wn_norm_q8_fn wn_norm_q8_rows_run;

/** A token's mean and inv from its sums. */
static inline void wn_norm_q8_moments(const struct wn_norm_q8 *a, int64_t sum, int64_t squares, float *ret_mean,
                                      float *ret_inv)
{
    const double k = (double)a->k, left = (double)((int64_t)a->k * squares - sum * sum) + a->eps;
    *ret_mean = (float)((double)sum / k);
    *ret_inv = left > 0 ? (float)(k / sqrt(left)) : 0.0f;
}

#define KERNEL(isa, NR)                                                                                                \
    wn_norm_q8_fn wn_norm_q8_cols_##NR##__##isa;                                                                       \
    wn_norm_q8_fn wn_norm_q8_rows_##NR##__##isa;
#include "engine/kernels/norm_q8/norm_q8.def"
#undef KERNEL

#endif
