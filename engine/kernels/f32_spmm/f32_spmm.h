/* f32_spmm.h: f32 matrix product with sparse weights: y = clamp(W x + bias + r), any weight may be zero. Unstructured,
 * or in blocks of R x 1: R successive output rows have their non-zeros at the same k, so that one load serves all of
 * them.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_f32_spmm_pack(arena, w, rows, k, taps, block, &mat, err)
 *          with w (O, I * kh * kw), k = (i * kh + y) * kw + x, and taps = kh * kw (1 for a linear layer): how many
 *          successive k read the same input plane.
 *       2. link once per concrete shape, into the plan's memory (mat.stored + WN_F32_SPMM_AHEAD int32, aligned to 64):
 *            wn_f32_spmm_link(&mat, koff, off)       koff[k] = byte offset of k's first element from args.x:
 *            i * plane stride + the tap's offset, in floats, times 4
 *       3. run, any number of threads at once, each on its own block:
 *            wn_f32_spmm_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r and mask point at the block's first column, args.n is its extent. Rows: bias, y and r
 *          start at row 0, whatever row0 is; row0 <= row1 <= rows, both multiples of the block or = rows.
 * Column blocks for threads: multiples of 48 (AVX2) or 128 (AVX-512) waste nothing. A weight that is not
 * stored is no term at all: 0 * infinity or NaN does not arise. y is written in several passes when k is large (partial
 * sums): nobody may read it before the call returns. */
#ifndef WN_F32_SPMM_H
#define WN_F32_SPMM_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

/** Offsets of nothing behind the last: kernels fetch what they read so many positions later. */
#define WN_F32_SPMM_AHEAD 8

/** A packed matrix of blocks of 1, 2 or 4 rows. A position is a k at which some row of the block is not zero. The k
 * axis is cut into chunks whose input tile fits a cache; within a chunk the positions lie block by block, k ascending.
 * Those of chunk c, block b: at[c * (blocks + 1) + b] .. at[c * (blocks + 1) + b + 1] - 1. A block may be empty; the
 * last may be short of rows, whose values are 0. The arrays belong to the arena it was packed into. */
struct wn_f32_spmm {
    unsigned block;                      /* rows per block */
    size_t rows, k, chunks, nnz, stored; /* stored: positions */
    const uint32_t *at;                  /* [chunks * (ceil(rows / block) + 1)] */
    const float *val;                    /* [stored][block] */
    const uint32_t *idx;                 /* [stored] k of every position */
};

/** Pack w (rows, k) f32, row-major; taps >= 1; blocks of 1, 2 or 4 rows, more than 1 only where wn_cpu_isa() is not
 *  scalar. Any weights will do.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (2^32 weights or more) */
enum winnow_status wn_f32_spmm_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k, size_t taps,
                                    unsigned block, struct wn_f32_spmm *ret_mat, struct winnow_err *err);
/** off[i] = koff[idx[i]] for all positions. koff [k], bytes, may be negative. */
void wn_f32_spmm_link(const struct wn_f32_spmm *mat, const int32_t *koff, int32_t *off);

/** y rows row0 .. row1 - 1, all args->n columns; n a multiple of WN_COLS. Reads exactly the n columns. */
typedef void wn_f32_spmm_fn(const struct wn_f32_spmm *mat, const int32_t *off, const struct wn_f32_args *args,
                            size_t row0, size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_spmm_fn wn_f32_spmm_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_spmm_init(void);

#define KERNEL(isa, MR, NR) wn_f32_spmm_fn wn_f32_spmm_##MR##x##NR##__##isa;
#include "engine/kernels/f32_spmm/f32_spmm.def"
#undef KERNEL

#endif
