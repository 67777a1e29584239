/* q8_stem.h: dense int8 convolution of a few input channels in plane form: a network's first layer.
 *
 * With 3 channels, quads along channels would be a quarter empty. Here K = channels * kh * kw taps are taken four at a
 * time, whatever their channel: each tile of columns first gathers its taps' bytes into quads in L1, then all rows run
 * over it as a q8_gemm. Strides: x holds the phases of the image, tap offsets point into them.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_stem_pack(wn_q8_gemm_stream_of(wn_cpu_isa()), w, rows, k, 255, arena, &mat, err)
 *          Memory: as q8_gemm; mat.gemm.bytes says exactly.
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32):
 *            wn_q8_stem_link(&mat, tap_off, off)
 *          tap_off[k]: byte offset of tap k = (i * kh + y) * kw + x from args.x
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_stem_run(&mat, off, &args, row0, row1)
 *          Columns: args.x, y, r and mask point at the block's first column, args.n is its extent. args.colsum is not
 *          used: sums for w_zp are made on the way. Every row block gathers anew, so split columns before rows.
 * IN    plane form. OUT quad, plane or f32, each with the full epilogue of wn_q8_args.
 * COST  as q8_gemm plus the gathering. 7x7/2 3->64 at 112x112: 1.7 ms on one Zen 3 core (avx2).
 * EXACT the same bits from every stream and ISA, for any weights (-128 included) and any activations. */
#ifndef WN_Q8_STEM_H
#define WN_Q8_STEM_H

#include "engine/kernels/q8_gemm/q8_gemm.h"

#define WN_Q8_STEM_MAX_K 1024u /* gathered tiles live on the stack: 64 KiB */
#define WN_Q8_STEM_TILE  64u   /* columns gathered at a time */

struct wn_q8_stem {
    size_t k;
    size_t noffs;           /* int32 offsets that linking fills: k of the taps, then those of gemm */
    struct wn_q8_gemm gemm; /* of (rows, ceil(k / 4) quads) */
};

/** Pack w (rows, k) s8 into `arena`; arguments as wn_q8_gemm_pack().
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (k past WN_Q8_STEM_MAX_K or 0; no rows) */
enum winnow_status wn_q8_stem_pack(enum wn_q8_gemm_stream stream, const int8_t *w, size_t rows, size_t k,
                                   unsigned x_max, struct wn_arena *arena, struct wn_q8_stem *ret_mat,
                                   struct winnow_err *err);

/** Offsets from tap_off [k], bytes, may be negative. */
void wn_q8_stem_link(const struct wn_q8_stem *mat, const int32_t *tap_off, int32_t *off);

/** y rows row0..row1-1, all args->n columns. row0 is a multiple of 4, row1 too or = rows; n a multiple of WN_COLS. */
typedef void wn_q8_stem_fn(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1);

/** Run with the kernel of mat's stream. */
wn_q8_stem_fn wn_q8_stem_run;

/** quads[kq][WN_Q8_STEM_TILE][4] of n columns of x, at most WN_Q8_STEM_TILE (those behind n may be anything); taps past
 *  mat->k are 0. x may be over-read as args.x may. */
typedef void wn_q8_stem_gather_fn(const struct wn_q8_stem *mat, const int32_t *tap_off, const uint8_t *x, size_t n,
                                  uint8_t *quads);
/** The loop over tiles, with the gathering and the dense kernel to use. */
void wn_q8_stem_tiles(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                      size_t row1, wn_q8_stem_gather_fn *gather, wn_q8_gemm_fn *gemm, wn_q8_colsum_fn *colsum);

#define KERNEL(isa, stream, MR, NR) wn_q8_stem_fn wn_q8_stem_##MR##x##NR##__##isa;
#include "engine/kernels/q8_stem/q8_stem.def"
#undef KERNEL

#endif
