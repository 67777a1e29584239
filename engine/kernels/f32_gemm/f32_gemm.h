/* f32_gemm.h: dense f32 matrix product, register-blocked: y = clamp(W x + bias + r).
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_f32_gemm_pack(arena, w, rows, k, &mat, err)
 *          A convolution's weights (O, I/g, kh, kw) are (rows, k) as they lie, k = (i * kh + y) * kw + x; a grouped one
 *          is one matrix per group. A linear layer's weights are (N, K).
 *       2. per concrete shape, koff[k]: the byte offset of k's first element from args.x, i.e. i * plane stride + the
 *          tap's offset (dy * pitch + dx, or into a stride phase) in floats, times 4. No im2col, no copy.
 *       3. run, any number of threads at once, each on its own block:
 *            wn_f32_gemm_run(&mat, koff, &args, row0, row1)
 *          Columns: args.x, y, r and mask point at the block's first column, args.n is its extent. Rows: bias, y and r
 *          start at row 0, whatever row0 is.
 * Column blocks for threads: multiples of 128 waste nothing.
 * y is written in several passes when k is large (partial sums): nobody may read it before the call returns.
 * One image with few columns (a linear layer on one token) is f32_gemv's. */
#ifndef WN_F32_GEMM_H
#define WN_F32_GEMM_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

#define WN_F32_GEMM_MR 6u /* rows of a panel */

/** A packed matrix: panels of MR rows, [ceil(rows / MR)][k][MR], zeros past the last row. */
struct wn_f32_gemm {
    size_t rows, k;
    const float *panels; /* in the arena it was packed into, aligned to 64 */
};

/** Pack w (rows, k) f32, row-major.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM */
enum winnow_status wn_f32_gemm_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k,
                                    struct wn_f32_gemm *ret_mat, struct winnow_err *err);

/** y rows row0 .. row1 - 1, all args->n columns. row0 is a multiple of WN_F32_GEMM_MR, row1 too or = rows; n a multiple
 *  of WN_COLS. Reads exactly the n columns of every k. */
typedef void wn_f32_gemm_fn(const struct wn_f32_gemm *mat, const int32_t *koff, const struct wn_f32_args *args,
                            size_t row0, size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_gemm_fn wn_f32_gemm_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_gemm_init(void);

#define KERNEL(isa, MR, NR) wn_f32_gemm_fn wn_f32_gemm_##MR##x##NR##__##isa;
#include "engine/kernels/f32_gemm/f32_gemm.def"
#undef KERNEL

#endif
