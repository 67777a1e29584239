/* q8_gemv.h: dense int8 matrix times one vector, y[o] = epilogue(sum w[o][k] * x[k]): a linear layer at batch one.
 *
 * USE   1. pack once per model, into its arena: wn_q8_gemv_pack(w, rows, k, arena, &mat, err)
 *          Memory: rows * k, k rounded up to 64 bytes, rows to four; the same for every instruction set.
 *       2. run, any number of threads at once, each on its own rows: wn_q8_gemv_run(&mat, &args, row0, row1)
 *          args: x = u8 [k], n = 1, no mask; out = WN_OUT_PLANE with y_stride 1 (y u8 [rows]) or WN_OUT_F32 with
 *          y_stride 4 (y f32 [rows]); r laid out as y; with w_zp, colsum = one number, from wn_q8_gemv_sum().
 *          For a few vectors: call it for each, with args.x, y, r and colsum moved.
 *          row0 a multiple of WN_Q8_GEMV_MR.
 * FORM  four rows lie side by side, 64 bytes of each in turn: a matrix is read once, from memory more often than from a
 *       cache, and a prefetcher follows one stream at twice the pace of four that are k bytes apart.
 * COST  9 to 12 MAC a cycle (avx2, Zen 3: 1000x2048 in 53 us, 768x768 in 19 us); 20 with VNNI (Zen 4: 27 us, 8 us) out
 * of the cache, 6 out of memory. EXACT the same bits on every ISA, for any weights and any activations. */
#ifndef WN_Q8_GEMV_H
#define WN_Q8_GEMV_H

#include "base/arena.h"
#include "engine/kernels/q8_epilogue.h"

#define WN_Q8_GEMV_MR 4u  /* rows of a block */
#define WN_Q8_GEMV_KR 64u /* bytes of a row that lie together */

struct wn_q8_gemv {
    size_t rows, k;
    size_t stride;   /* bytes from block to block */
    size_t bytes;    /* taken from the arena */
    const int8_t *w; /* [rows / 4][k / 64][4][64]; what is past rows and k is 0 */
};

/** Pack w (rows, k) s8, row-major.
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (k past WN_Q8_MAX_K or 0, no rows) */
enum winnow_status wn_q8_gemv_pack(const int8_t *w, size_t rows, size_t k, struct wn_arena *arena,
                                   struct wn_q8_gemv *ret_mat, struct winnow_err *err);

/** y[row0 .. row1-1]; row0 a multiple of WN_Q8_GEMV_MR. Reads up to 63 bytes past x[k - 1]. */
typedef void wn_q8_gemv_fn(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1);

/** On the best instruction set there is. */
wn_q8_gemv_fn wn_q8_gemv_run;

/** Weight k of row o. */
static inline int8_t wn_q8_gemv_at(const struct wn_q8_gemv *mat, size_t o, size_t k)
{
    const size_t block = k / WN_Q8_GEMV_KR * WN_Q8_GEMV_MR + o % WN_Q8_GEMV_MR;
    return mat->w[o / WN_Q8_GEMV_MR * mat->stride + block * WN_Q8_GEMV_KR + k % WN_Q8_GEMV_KR];
}

/** Sum of x [k]: the colsum of one vector. */
int32_t wn_q8_gemv_sum(const uint8_t *x, size_t k);

#define KERNEL(isa, MR, NR) wn_q8_gemv_fn wn_q8_gemv_##MR##x##NR##__##isa;
#include "engine/kernels/q8_gemv/q8_gemv.def"
#undef KERNEL

#endif
