/* q8_spmm_b4.h: int8 matrix product, weights sparse in blocks of four neighbouring input channels at one tap (a quad).
 *
 * Activations in quad form, so that a stored block times 8 (16) columns is one multiply; y = epilogue(W x).
 * Unstructured weights of moderate sparsity are welcome too: their blocks are filled up with zeros.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(wn_cpu_isa()), w, rows, channels, taps, 255, arena, &mat, err)
 *          Memory: 8 bytes per step (mat.steps) and 6 per row; mat.bytes says exactly.
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32):
 *            wn_q8_spmm_b4_link(&mat, koff, off)       koff[kq] from wn_q8_quads_koff()
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_spmm_b4_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r, mask and colsum point at the block's first column, args.n is its extent. Rows: bias,
 *          mul and w_zp start at row 0, and so do y and r, whatever row0 is.
 * IN    quad form. OUT quad, plane or f32, each with the full epilogue of wn_q8_args: residual, mask, w_zp * colsum.
 *       In quad form the lanes past the last row get y_zp.
 * COST  cycles per 64 columns. chain: 9.3 * mat.steps + 32 * rows, and 17 * rows more with a residual (least squares
 * over 21 shapes, Zen 3 at 3.1 GHz with the other core busy). Useful GMAC/s of one such core at 95 / 90 % sparsity:
 *       768x768 58 / 70, 768x3072 61 / 67, 3x3 512@7 74 / 80, 3x3 64@56 54 / 70, 1x1 64->256@56 15 / 23.
 *       At 0 % q8_gemm is faster.
 *       quad: 2.3 * mat.steps + 8 * rows (from the loop's issue limits; never timed on a VNNI machine).
 * EXACT the same bits from every stream and ISA, for any weights (-128 included) and any activations. */
#ifndef WN_Q8_SPMM_B4_H
#define WN_Q8_SPMM_B4_H

#include "engine/kernels/q8_quads.h"

/** Forms of packed weights. Rows keep their order, and come in groups of four that share a chain length.
 *    plain  the dense matrix (rows, quads, 4): the scalar reference
 *    chain  AVX2. A chain is S = 1..4 blocks of a row whose products are summed in 16 bits before they are widened. In
 *           each of the two 16-bit lanes of a chain the positive weights sum to at most the budget, 32767 / the
 *           largest activation, and so do the negative ones. A block that breaks the budget alone is split in two.
 *           Short chains are filled up with zero weights.
 *    quad   VNNI of 256 or 512 bits, NEON. The blocks, in order; S = 1 */
enum wn_q8_spmm_b4_stream { WN_Q8_SPMM_B4_PLAIN, WN_Q8_SPMM_B4_CHAIN, WN_Q8_SPMM_B4_QUAD, WN_Q8_SPMM_B4_STREAMS };
#define WN_Q8_SPMM_B4_MAX_S 4u

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
    size_t steps;                            /* executed: blocks, splits, fill */
    size_t noffs;                            /* int32 offsets that linking fills */
    size_t bytes;                            /* taken from the arena */
    const int32_t *w;                        /* [steps] four weights each; plain: (rows, quads) */
    const uint32_t *idx;                     /* [steps] their quads; plain: NULL */
    const struct wn_q8_spmm_b4_group *group; /* [ceil(rows / 4)]; plain: NULL */
    size_t channels;                         /* of the input, for choosing tiles */
    size_t taps;
};

/** The stream that kernels of `isa` read. */
enum wn_q8_spmm_b4_stream wn_q8_spmm_b4_stream_of(enum wn_isa isa);

/** Pack w (rows, channels, taps) s8 into `arena`.
 *  @param x_max    the largest activation there can be, pad value included, 1..255: 127 packs better where the
 *                  producer promises it (chain); a larger one spoils the columns that read it, nothing else
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (channels * taps past WN_Q8_MAX_K, or more than 2^31 weights)
 */
enum winnow_status wn_q8_spmm_b4_pack(enum wn_q8_spmm_b4_stream stream, const int8_t *w, size_t rows, size_t channels,
                                      size_t taps, unsigned x_max, struct wn_arena *arena,
                                      struct wn_q8_spmm_b4 *ret_mat, struct winnow_err *err);

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
