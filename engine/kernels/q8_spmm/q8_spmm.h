/* q8_spmm.h: int8 matrix product with sparse weights: y = epilogue(W x), any weight may be zero. Unstructured, or in
 * blocks of R x 1: R successive output rows have their non-zeros at the same k, so that one reading of the input serves
 * all of them.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_spmm_pack(wn_q8_spmm_stream_of(wn_cpu_isa()), block, w, rows, k, arena, &mat, err)
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32, aligned to 64):
 *            wn_q8_spmm_link(&mat, koff, off)        koff[k] = byte offset of weight column k's plane from args.x;
 *            with k = (i * kh + y) * kw + x that is i * plane stride + the tap's offset, in bytes of the plane form
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_spmm_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r, mask and colsum point at the block's first column, args.n is its extent. Rows: bias,
 *          mul and w_zp start at row 0, and so do y and r, whatever row0 is.
 * IN    plane form. OUT quad, plane or f32, each with the full epilogue of wn_q8_args: residual, mask, w_zp * colsum.
 *       In quad form the lanes past the last row get y_zp.
 * EXACT the same bits from every stream and ISA, for any weights (-128 included) and any activations. */
#ifndef WN_Q8_SPMM_H
#define WN_Q8_SPMM_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

/** Forms of packed weights. Which one a model has is decided when it is packed. quad takes blocks of 1, 2 or 4 rows,
 *  the others of 1.
 *    plain  the dense matrix; off[k] for every k                                   scalar reference
 *    pair   two non-zeros per dword (w1,w2,w1,w2). A half-chain is 1..3 such pairs whose products are summed in 16
 *           bits; a step is two half-chains, so step kind s (1..3) takes 2s dwords and 4s offsets. In a half-chain the
 *           positive weights sum to at most WN_Q8_SPMM_BUDGET and so do the negative ones: no sum of a part of it, with
 *           activations up to 255, leaves int16 (128 * 255 = 32640).                  AVX2
 *    quad   four positions k at which some row of the block is not zero: four offsets, and a dword of weights for each
 *           row of the block                                                       VNNI, NEON */
enum wn_q8_spmm_stream { WN_Q8_SPMM_PLAIN, WN_Q8_SPMM_PAIR, WN_Q8_SPMM_QUAD, WN_Q8_SPMM_STREAMS };
#define WN_Q8_SPMM_BUDGET    128
#define WN_Q8_SPMM_MAX_S     3u
#define WN_Q8_SPMM_MAX_BLOCK 4u
#define WN_Q8_SPMM_AHEAD     16u /* offsets behind the last, which repeat it: kernels fetch planes so far ahead at most */

/** A block of output rows: where its dwords start, and how many steps of each kind follow, the longest kind first.
 *    pair   steps[s - 1] of kind s; dwords from w + at, offsets from 2 * at
 *    quad   steps[0]; dwords from w + block * at, offsets from 4 * at
 *    plain  none */
struct wn_q8_spmm_row {
    uint32_t at;
    uint16_t steps[WN_Q8_SPMM_MAX_S];
};

/** A packed matrix; the arrays belong to the arena it was packed into. */
struct wn_q8_spmm {
    enum wn_q8_spmm_stream stream;
    unsigned block; /* rows per block: 1, 2 or 4; the last may be short of rows, whose weights are then 0 */
    size_t rows, k;
    size_t nnz;                       /* weights that are not zero */
    size_t noffs;                     /* int32 offsets that linking fills; pair, quad: the last is there AHEAD times more */
    const uint32_t *w;                /* pair, quad: dwords of weights, in row order */
    const uint32_t *idx;              /* [noffs] weight column of every offset; padding repeats a neighbour's */
    const struct wn_q8_spmm_row *row; /* [ceil(rows / block)] */
    const int8_t *dense;              /* plain: (rows, k) */
};

/** The stream that kernels of `isa` read. */
enum wn_q8_spmm_stream wn_q8_spmm_stream_of(enum wn_isa isa);

/** True when kernels that read `stream` take blocks of `block` rows. */
bool wn_q8_spmm_takes(enum wn_q8_spmm_stream stream, unsigned block);

/** Pack w (rows, k) s8, row-major, into `arena`, in blocks of `block` rows that the stream takes. Any weights will do:
 *  a position is stored when one row of its block has a non-zero there.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (k past WN_Q8_MAX_K, or a stream past 2^30 dwords) */
enum winnow_status wn_q8_spmm_pack(enum wn_q8_spmm_stream stream, unsigned block, const int8_t *w, size_t rows,
                                   size_t k, struct wn_arena *arena, struct wn_q8_spmm *ret_mat,
                                   struct winnow_err *err);

/** off[i] = koff[idx[i]] for all noffs offsets. koff [k], bytes, may be negative. */
void wn_q8_spmm_link(const struct wn_q8_spmm *mat, const int32_t *koff, int32_t *off);

/** y rows row0..row1-1, all args->n columns. row0 is a multiple of 4, row1 too or = rows; n a multiple of WN_COLS.
 *  Reads up to WN_OVERREAD bytes past the last column of x, mask and colsum. */
typedef void wn_q8_spmm_fn(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1);

/** Run with the kernel of mat's stream. */
wn_q8_spmm_fn wn_q8_spmm_run;

/** colsum[c] = sum of x at koff[0..k-1] over all k weight columns, for args.colsum when some w_zp is not 0. x is in
 * plane form, n a multiple of WN_COLS. Uses the best instruction set there is. */
void wn_q8_spmm_colsum(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum);
typedef void wn_q8_spmm_colsum_fn(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum);
#define COLSUM(isa) wn_q8_spmm_colsum_fn wn_q8_spmm_colsum__##isa;
#include "engine/kernels/q8_spmm/colsum.def"
#undef COLSUM

#define KERNEL(isa, stream, MR, NR) wn_q8_spmm_fn wn_q8_spmm_##MR##x##NR##__##isa;
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL

#endif
