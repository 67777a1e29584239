/* norm_f32.h: each token brought to mean 0 and variance 1 over its features (ONNX LayerNormalization on the last axis),
 * and softmax over the features of a token.
 *
 *     s = x (+ r)      y = (s - mean(s)) / sqrt(variance(s) + eps) * gamma + beta
 *
 * Two forms: columns (plan/cols.h: lanes run over tokens, no horizontal sums) and rows (tokens as they lie). Sums are
 * f32 in several chains, the variance is taken around the mean; error below 1e-6 of the largest |s| / deviation for
 * k <= 4096. A token's result does not depend on its neighbours, nor on its place among the columns. Nothing is packed.
 * Any number of threads, each on its own tokens. Sources: ONNX operators LayerNormalization, Softmax. */
#ifndef WN_NORM_F32_H
#define WN_NORM_F32_H

#include "engine/kernels/kernels.h"

struct wn_norm_f32 {
    size_t k, n;                         /* features, tokens; cols: n is a multiple of WN_COLS */
    const float *x;                      /* cols: (k, x_stride), from the first token; rows: (n, k) */
    const float *r;                      /* residual in x's form, or NULL */
    float *y;                            /* in x's form; may be x or r */
    size_t x_stride, r_stride, y_stride; /* cols: floats from feature to feature; rows: unused */
    const float *gamma;                  /* [k] */
    const float *beta;                   /* [k] or NULL */
    float eps;
};

struct wn_softmax_f32 {
    size_t k, n;       /* elements of a row, rows */
    const float *x;    /* (n, k) */
    const float *mask; /* [k] added to every row first, or NULL */
    float *y;          /* (n, k); may be x */
};

/** All n tokens in columns. Reads exactly the n columns. */
typedef void wn_norm_f32_cols_fn(const struct wn_norm_f32 *args);
/** All n tokens in rows, any k >= 1. */
typedef void wn_norm_f32_rows_fn(const struct wn_norm_f32 *args);
/** y = e^(x - max) / sum of those, row by row; elements 87 below the maximum give 0; a row of -infinity gives NaN. */
typedef void wn_softmax_f32_fn(const struct wn_softmax_f32 *args);
/** The fastest kernels this CPU has (WINNOW_CPU permitting). Any thread. */
wn_norm_f32_cols_fn wn_norm_f32_cols_run;
wn_norm_f32_rows_fn wn_norm_f32_rows_run;
wn_softmax_f32_fn wn_softmax_f32_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_norm_f32_init(void);

#define KERNEL(isa, NR)                                                                                                \
    wn_norm_f32_cols_fn wn_norm_f32_cols_##NR##__##isa;                                                                \
    wn_norm_f32_rows_fn wn_norm_f32_rows_##NR##__##isa;                                                                \
    wn_softmax_f32_fn wn_softmax_f32_##NR##__##isa;
#include "engine/kernels/norm_f32/norm_f32.def"
#undef KERNEL

#endif
