/* q8_gemm.h: dense int8 matrix product on quad-form activations: y = epilogue(W x). A tap is an offset.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_gemm_pack(wn_q8_gemm_stream_of(wn_cpu_isa()), w, rows, channels, taps, 255, arena, &mat, err)
 *          Memory: about rows * K bytes (quad), 1 to 1.6 times that plus rows * K / 4 (pair); mat.bytes says exactly.
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32):
 *            wn_q8_gemm_link(&mat, koff, off)       koff[kq] from wn_q8_quads_koff()
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_gemm_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r, mask and colsum point at the block's first column, args.n is its extent. Rows: bias,
 *          mul and w_zp start at row 0, and so do y and r, whatever row0 is.
 * IN    quad form. OUT quad, plane or f32, each with the full epilogue of wn_q8_args: residual, mask, w_zp * colsum.
 *       In quad form the lanes past the last row get y_zp.
 * COST  pair, cycles per 16 columns: 16 * mat.pairs + 12.5 * mat.singles + 4 * rows (least squares over 14 shapes, Zen
 * 3 at 3.1 GHz with the other core busy). One such core: 60 to 109 GMAC/s; least where K is small, as few quads find
 * few partners (K = 64: 40 to 80 % stay single). quad: rows * K * n / 110 cycles (from the loop's issue limits; never
 * timed on a VNNI machine). EXACT the same bits from every stream and ISA, for any weights (-128 included) and any
 * activations. */
#ifndef WN_Q8_GEMM_H
#define WN_Q8_GEMM_H

#include "engine/kernels/q8_quads.h"

/** Forms of packed weights. Rows come in groups of four (the last one filled up with zeros).
 *    plain  (rows, quads, 4), natural order: the scalar reference
 *    pair   AVX2. Per group two lists of steps of 8 dwords. First the pairs of quads: row r's two weight quads are
 *           dwords 2r, 2r + 1. They are multiplied in 16 bits and summed there, which is exact because in each 16-bit
 *           lane the positive weights sum to at most the budget, 32767 / the largest activation, and so do the
 *           negative ones. Quads without a partner follow, widened: row r's (w0, w2) and (w1, w3) as words.
 *    quad   VNNI of 256 or 512 bits, NEON. Per group and quad four dwords, one of each row; natural order */
enum wn_q8_gemm_stream { WN_Q8_GEMM_PLAIN, WN_Q8_GEMM_PAIR, WN_Q8_GEMM_QUAD, WN_Q8_GEMM_STREAMS };

/** pair: one group's steps start at step `at`; its offsets at group * quads. */
struct wn_q8_gemm_group {
    uint32_t at, pairs, singles;
};

/** A packed matrix; the arrays belong to the arena it was packed into. */
struct wn_q8_gemm {
    enum wn_q8_gemm_stream stream;
    size_t rows, quads;
    size_t noffs;          /* int32 offsets that linking fills */
    size_t bytes;          /* taken from the arena */
    size_t pairs, singles; /* pair: steps in all */
    const int32_t *w;
    const uint32_t *idx;                  /* pair: [noffs] quad of every offset */
    const struct wn_q8_gemm_group *group; /* pair: [ceil(rows / 4)] */
};

/** The stream that kernels of `isa` read. */
enum wn_q8_gemm_stream wn_q8_gemm_stream_of(enum wn_isa isa);

/** Pack w (rows, channels, taps) s8 into `arena`.
 *  @param x_max    the largest activation there can be, pad value included, 1..255: 127 packs better where the
 *                  producer promises it (pair); a larger one spoils the columns that read it, nothing else
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (channels * taps past WN_Q8_MAX_K, or more than 2^31 weights)
 */
enum winnow_status wn_q8_gemm_pack(enum wn_q8_gemm_stream stream, const int8_t *w, size_t rows, size_t channels,
                                   size_t taps, unsigned x_max, struct wn_arena *arena, struct wn_q8_gemm *ret_mat,
                                   struct winnow_err *err);

/** Offsets of every step from koff [quads], bytes, may be negative. */
void wn_q8_gemm_link(const struct wn_q8_gemm *mat, const int32_t *koff, int32_t *off);

/** y rows row0..row1-1, all args->n columns. row0 is a multiple of 4, row1 too or = rows; n a multiple of WN_COLS. */
typedef void wn_q8_gemm_fn(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1);

/** Run with the kernel of mat's stream. */
wn_q8_gemm_fn wn_q8_gemm_run;

#define KERNEL(isa, stream, MR, NR) wn_q8_gemm_fn wn_q8_gemm_##MR##x##NR##__##isa;
#include "engine/kernels/q8_gemm/q8_gemm.def"
#undef KERNEL

#endif
