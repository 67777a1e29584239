/* f32_gemv.h: a dense linear layer on few rows: y[m][o] = clamp(sum over k of w[o][k] * x[m][k] + bias[o] + r[m][o]).
 *
 * Here x and y are plain row-major vectors, not columns: the product of a few rows reads every weight once and is bound
 * by memory. For more than about eight rows f32_gemm with the rows as columns is faster. Both read the same packed
 * weights, so a layer that meets long and short inputs has them once.
 *
 * USE   1. pack once per model: wn_f32_gemm_pack() of f32_gemm.h
 *       2. run, any number of threads at once, each on its own outputs: wn_f32_gemv_run(&mat, &args, row0, row1) */
#ifndef WN_F32_GEMV_H
#define WN_F32_GEMV_H

#include "engine/kernels/f32_gemm/f32_gemm.h"

#define WN_F32_GEMV_MR WN_F32_GEMM_MR /* outputs of a block */

/** Weight k of output o. */
static inline float wn_f32_gemv_at(const struct wn_f32_gemm *mat, size_t o, size_t k)
{
    return mat->panels[(o / WN_F32_GEMM_MR * mat->k + k) * WN_F32_GEMM_MR + o % WN_F32_GEMM_MR];
}

struct wn_f32_gemv_args {
    const float *x; /* (m, k), rows x_stride floats apart */
    size_t m, x_stride;
    float *y; /* (m, rows), rows y_stride floats apart; may be r, never x */
    size_t y_stride;
    const float *bias; /* [rows] or NULL */
    const float *r;    /* laid out as y, or NULL */
    float lo, hi;      /* clamp; -INFINITY, INFINITY for none. NaN passes through */
};

/** Outputs row0 .. row1 - 1 of all m rows; row0 a multiple of WN_F32_GEMV_MR. Reads exactly x. y is written in several
 *  passes when k is large: nobody may read it before the call returns. */
typedef void wn_f32_gemv_fn(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *args, size_t row0,
                            size_t row1);
/** Many rows as columns (koff, args as f32_gemm has them), each with the bits that wn_f32_gemv_run() gives it alone. */
typedef wn_f32_gemm_fn wn_f32_gemv_cols_fn;
/** The fastest kernels this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_gemv_fn wn_f32_gemv_run;
wn_f32_gemv_cols_fn wn_f32_gemv_cols_run;
/** False where this CPU's instruction set has no kernel for columns: wn_f32_gemv_cols_run() is not to be called. */
bool wn_f32_gemv_has_cols(void);
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_gemv_init(void);

#define KERNEL(isa, MR, NK) wn_f32_gemv_fn wn_f32_gemv_##MR##x##NK##__##isa;
#define COLS(isa, MR, NR)   wn_f32_gemv_cols_fn wn_f32_gemv_cols_##MR##x##NR##__##isa;
#include "engine/kernels/f32_gemv/f32_gemv.def"

#endif
