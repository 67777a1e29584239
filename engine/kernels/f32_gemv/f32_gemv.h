/* f32_gemv.h: a dense linear layer on few rows: y[m][o] = clamp(sum over k of w[o][k] * x[m][k] + bias[o] + r[m][o]).
 *
 * Here x and y are plain row-major vectors, not columns: the product of a few rows reads every weight once and is bound
 * by memory. For more than about eight rows f32_gemm with the rows as columns is faster.
 *
 * USE   1. pack once per model, into its arena: wn_f32_gemv_pack(arena, w, rows, k, &mat, err)
 *          Memory: rows * k floats, rows rounded up to four, k to 16; the same for every instruction set.
 *       2. run, any number of threads at once, each on its own outputs: wn_f32_gemv_run(&mat, &args, row0, row1)
 * FORM  four outputs lie side by side, 16 weights of each in turn: one stream, which a prefetcher follows at up to
 * twice the pace of four that are k floats apart. */
#ifndef WN_F32_GEMV_H
#define WN_F32_GEMV_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

#define WN_F32_GEMV_MR 4u  /* outputs of a block */
#define WN_F32_GEMV_KR 16u /* floats of an output that lie together */

struct wn_f32_gemv {
    size_t rows, k;
    size_t stride;  /* floats from block to block */
    const float *w; /* [rows / 4][k / 16][4][16]; what is past rows and k is 0 */
};

/** Pack w (rows, k), row-major. @return WINNOW_OK, WINNOW_E_NOMEM */
enum winnow_status wn_f32_gemv_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k,
                                    struct wn_f32_gemv *ret_mat, struct winnow_err *err);
/** Weight k of output o. */
static inline float wn_f32_gemv_at(const struct wn_f32_gemv *mat, size_t o, size_t k)
{
    const size_t piece = k / WN_F32_GEMV_KR * WN_F32_GEMV_MR + o % WN_F32_GEMV_MR;
    return mat->w[o / WN_F32_GEMV_MR * mat->stride + piece * WN_F32_GEMV_KR + k % WN_F32_GEMV_KR];
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

/** Outputs row0 .. row1 - 1 of all m rows; row0 a multiple of WN_F32_GEMV_MR. Reads exactly x. */
typedef void wn_f32_gemv_fn(const struct wn_f32_gemv *mat, const struct wn_f32_gemv_args *args, size_t row0,
                            size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_gemv_fn wn_f32_gemv_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_gemv_init(void);

#define KERNEL(isa, MR, NK) wn_f32_gemv_fn wn_f32_gemv_##MR##x##NK##__##isa;
#include "engine/kernels/f32_gemv/f32_gemv.def"
#undef KERNEL

#endif
