/* q8_spmm_b4.h: int8 matrix product, weights sparse in blocks of four neighbouring input channels at one tap (a quad).
 *
 * Activations in quad form, so that a stored block times 8 (16) columns is one multiply; y = epilogue(W x).
 * Unstructured weights of moderate sparsity are welcome too: their blocks are filled up with zeros.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(wn_cpu_isa()), w, rows, channels, taps, arena, &mat, err)
 *          Memory: 8 bytes per step (mat.steps; chain: 12) and 6 per row (10); mat.bytes says exactly.
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32):
 *            wn_q8_spmm_b4_link(&mat, koff, off)       koff[kq] from wn_q8_quads_koff()
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_spmm_b4_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r, mask and colsum point at the block's first column, args.n is its extent. Rows: bias,
 *          mul and w_zp start at row 0, and so do y and r, whatever row0 is.
 * IN    quad form. OUT quad, plane or f32, each with the full epilogue of wn_q8_args: residual, mask, w_zp * colsum.
 *       In quad form the lanes past the last row get y_zp.
 * COST  cycles per 64 columns. chain: 9 to 10 for a chain of one, 16 for one of two, and 32 per row (17 more with a residual).
 *       quad: engine/plan/cost.def has what was fitted.
 * EXACT the same bits from every stream and ISA, for any weights (-128 included) and any activations. */
#ifndef WN_Q8_SPMM_B4_H
#define WN_Q8_SPMM_B4_H

#include "engine/kernels/q8_quads.h"

/** Forms of packed weights. Rows keep their order, and come in groups of four that share a chain length.
 *    plain  the dense matrix (rows, quads, 4): the scalar reference
 *    chain  AVX2. Of each block the absolute weights as unsigned bytes, then a mask that turns the activations x into signed
 *           bytes: x ^ 0x80 = x - 128 under a weight that is not negative, x ^ 0x7f = 127 - x under one that is. So
 *           products are |w| times -128 .. 127, and two of them always fit 16 bits; what they add to w * x lies in
 *           `shift`. A chain is S = 1 or 2 blocks of a row whose products are summed in 16 bits before they are widened:
 *           in each of its two 16-bit lanes the absolute weights sum to at most 255. A chain of one where two are
 *           meant is filled up with zero weights.
 *    quad   VNNI of 256 or 512 bits, NEON. The blocks, in order; S = 1 */
enum wn_q8_spmm_b4_stream { WN_Q8_SPMM_B4_PLAIN, WN_Q8_SPMM_B4_CHAIN, WN_Q8_SPMM_B4_QUAD, WN_Q8_SPMM_B4_STREAMS };
#define WN_Q8_SPMM_B4_MAX_S 2u
#define WN_Q8_SPMM_B4_AHEAD 8u /* offsets of nothing behind the last: kernels fetch activations so many steps ahead */

/** Four rows: their steps follow each other from `at` on, row r has chains[r] * s of them. */
struct wn_q8_spmm_b4_group {
    uint32_t at;
    uint32_t s;
    uint32_t chains[4];
};

/** A packed matrix; the arrays belong to the arena it was packed into. */
struct wn_q8_spmm_b4 {
    enum wn_q8_spmm_b4_stream stream;
    size_t rows, quads;
    size_t blocks;                           /* that are not all zero */
    size_t steps;                            /* executed: blocks, fill */
    size_t noffs;                            /* int32 offsets that linking fills: steps + AHEAD */
    size_t bytes;                            /* taken from the arena */
    const int32_t *w;     /* [steps] four weights each (chain: and their mask); plain: (rows, quads) */
    const int32_t *shift; /* chain: [rows] what a row's sum lacks; else NULL */
    const uint32_t *idx;                     /* [steps] their quads; plain: NULL */
    const struct wn_q8_spmm_b4_group *group; /* [ceil(rows / 4)]; plain: NULL */
    size_t channels;                         /* of the input, for choosing tiles */
    size_t taps;
};

/** The stream that kernels of `isa` read. */
enum wn_q8_spmm_b4_stream wn_q8_spmm_b4_stream_of(enum wn_isa isa);

/** Pack w (rows, channels, taps) s8 into `arena`.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (channels * taps past WN_Q8_MAX_K, or more than 2^31 weights)
 */
enum winnow_status wn_q8_spmm_b4_pack(enum wn_q8_spmm_b4_stream stream, const int8_t *w, size_t rows, size_t channels,
                                      size_t taps, struct wn_arena *arena, struct wn_q8_spmm_b4 *ret_mat,
                                      struct winnow_err *err);

/** Offsets of every step from koff [quads], bytes, may be negative. */
void wn_q8_spmm_b4_link(const struct wn_q8_spmm_b4 *mat, const int32_t *koff, int32_t *off);

/** y rows row0..row1-1, all args->n columns. row0 is a multiple of 4, row1 too or = rows; n a multiple of WN_COLS. */
typedef void wn_q8_spmm_b4_fn(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args,
                              size_t row0, size_t row1);

/** Run with the kernel of mat's stream. */
wn_q8_spmm_b4_fn wn_q8_spmm_b4_run;

#define KERNEL(isa, stream, MR, NR) wn_q8_spmm_b4_fn wn_q8_spmm_b4_##MR##x##NR##__##isa;
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.def"
#undef KERNEL

#endif
