/* f32_gemv.h: a dense linear layer on few rows: y[m][o] = clamp(sum over k of w[o][k] * x[m][k] + bias[o] + r[m][o]).
 *
 * Here x and y are plain row-major vectors, not columns: the product of one row reads every weight once and is bound by
 * memory, so weights (N, K) are used as they lie and nothing is packed. For more than about eight rows f32_gemm with
 * the rows as columns is faster. Threads: any number at once, each on its own outputs row0 .. row1 - 1. */
#ifndef WN_F32_GEMV_H
#define WN_F32_GEMV_H

#include "engine/kernels/kernels.h"

struct wn_f32_gemv_args {
    const float *w; /* (rows, k) */
    size_t k;
    const float *x; /* (m, k), rows x_stride floats apart */
    size_t m, x_stride;
    float *y; /* (m, rows), rows y_stride floats apart; may be r, never x */
    size_t y_stride;
    const float *bias; /* [rows] or NULL */
    const float *r;    /* laid out as y, or NULL */
    float lo, hi;      /* clamp; -INFINITY, INFINITY for none. NaN passes through */
};

/** Outputs row0 .. row1 - 1 of all m rows; any extents. Reads exactly w, x. */
typedef void wn_f32_gemv_fn(const struct wn_f32_gemv_args *args, size_t row0, size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_gemv_fn wn_f32_gemv_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_gemv_init(void);

#define KERNEL(isa, MR, NK) wn_f32_gemv_fn wn_f32_gemv_##MR##x##NK##__##isa;
#include "engine/kernels/f32_gemv/f32_gemv.def"
#undef KERNEL

#endif
