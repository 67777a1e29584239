/* q8_conv.h: dense int8 convolution with output channels in the lanes of vectors: y = epilogue(W * x).
 *
 * q8_gemm lays lanes over columns, padding among them, a multiple of 16. Where rows are short (14 or 7 pixels) that is
 * an eighth to a quarter of the work. Here a quad of a pixel is broadcast to 32 output channels, so only pixels cost
 * anything, taps that lie in the padding are left out, and a stride is a distance between broadcasts: no phases. The
 * bytes of four pixels leave the epilogue as quads, without a transposition.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_conv_pack(arena, w, rows, channels, taps, &mat, err)           w (O, I/g, kh, kw) of a group
 *       2. per concrete shape, into the plan's arena:
 *            wn_conv_window_make(arena, &shape, &win)                             shape.channels: mat.quads
 *          and, where the zero point of x is not 0, wn_q8_conv_outside(&mat, x_zp, outside) [taps][mat.lanes]
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_conv_run(&mat, &win, outside, &args, oy0, oy1, row0, row1)
 *          args.x, y and r point at element (0, 0) of the group's first channel, whatever the block is; bias, mul, y
 * and r at row 0 of the group. args.n, w_zp and colsum are not used: weights have no zero point. args.mask: not NULL
 * writes the pad value to the columns that are no pixels; NULL leaves them as they are. IN    quad form. Padding around
 * x is not read, and need not be there. OUT quad, plane or f32. EXACT the same bits as q8_gemm on every ISA, for any
 * weights and any activations. */
#ifndef WN_Q8_CONV_H
#define WN_Q8_CONV_H

#include "engine/kernels/conv_window.h"
#include "engine/kernels/q8_quads.h"

/** A packed matrix: panels [ceil(rows / LANES)][taps][quads][LANES] of four weights, zeros past the last row. */
struct wn_q8_conv {
    size_t rows, channels, taps;
    size_t quads;          /* of one tap */
    size_t lanes;          /* rows rounded up to WN_CONV_LANES */
    size_t bytes;          /* taken from the arena */
    const int32_t *panels; /* in the arena it was packed into, aligned to 64 */
    const int32_t *sums;   /* [taps][lanes] of a tap's weights in a row */
};

/** Pack w (rows, channels, taps) s8, row-major.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (channels * taps past WN_Q8_MAX_K or 0; no rows) */
enum winnow_status wn_q8_conv_pack(struct wn_arena *arena, const int8_t *w, size_t rows, size_t channels, size_t taps,
                                   struct wn_q8_conv *ret_mat, struct winnow_err *err);
/** Weight of output o, input channel i, tap t. */
static inline int8_t wn_q8_conv_at(const struct wn_q8_conv *mat, size_t o, size_t i, size_t t)
{
    const size_t L = WN_CONV_LANES, step = (o / L * mat->taps + t) * mat->quads + i / 4;
    return ((const int8_t *)(mat->panels + step * L + o % L))[i % 4];
}

/** What the taps add to each row's sum where they lie in the padding, which holds x_zp; outside [taps][lanes]. */
void wn_q8_conv_outside(const struct wn_q8_conv *mat, int32_t x_zp, int32_t *outside);

/** Output rows oy0 .. oy1 - 1 of the picture, of channels row0 .. row1 - 1; row0 a multiple of WN_CONV_ROWS. Where mask
 *  is given, the block with the last output row writes the pad value up to y_cols. outside: NULL where x_zp is 0. */
typedef void wn_q8_conv_fn(const struct wn_q8_conv *mat, const struct wn_conv_window *win, const int32_t *outside,
                           const struct wn_q8_args *args, int32_t oy0, int32_t oy1, size_t row0, size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_q8_conv_fn wn_q8_conv_run;
/** Pixels per step of that kernel: rows are cut into the fewest tiles of at most so many, as even as possible. */
size_t wn_q8_conv_pixels(void);

#define KERNEL(isa, NP, NR) wn_q8_conv_fn wn_q8_conv_##NP##x##NR##__##isa;
#include "engine/kernels/q8_conv/q8_conv.def"
#undef KERNEL

/** The pad value in the columns behind output row oy that are no pixels, of rows row0 .. row1 - 1. */
void wn_q8_conv_gap(const struct wn_conv_shape *s, const struct wn_q8_args *args, int32_t oy, size_t row0, size_t row1);

#endif
