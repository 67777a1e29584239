/* f32_conv.h: dense f32 convolution with output channels in the lanes of vectors: y = clamp(W * x + bias + r).
 *
 * f32_gemm lays lanes over columns, padding among them, a multiple of 16. Where rows are short (14 or 7 pixels) that is
 * an eighth to a quarter of the work. Here an input is broadcast to 32 output channels, so only pixels cost
 * anything, taps that lie in the padding are left out, and a stride is a distance between broadcasts: no phases.
 * Activations are planes on both sides, as everywhere: a tile is transposed when it is stored.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_f32_conv_pack(arena, w, rows, channels, taps, &mat, err)          w (O, I/g, kh, kw) of a group
 *       2. per concrete shape, into the plan's arena:
 *            wn_conv_window_make(arena, &shape, &win)
 *       3. run, any number of threads at once, each on its own block:
 *            wn_f32_conv_run(&mat, &win, &args, oy0, oy1, row0, row1)
 *          args.x, y and r point at element (0, 0) of the group's first channel, whatever the block is; args.n is not
 *          used. args.mask: not NULL writes 0 to the columns that are no pixels; NULL leaves them as they are.
 * Padding around x is not read, and need not be there.
 * AVX2 has no kernel: 6 pixels x 16 channels was measured on Zen 3 and is slower than f32_gemm from a copy, its padding
 * included. */
#ifndef WN_F32_CONV_H
#define WN_F32_CONV_H

#include "engine/kernels/conv_window.h"

/** A packed matrix: [ceil(rows / LANES)][taps][channels][LANES], zeros past the last row. */
struct wn_f32_conv {
    size_t rows, channels, taps;
    const float *panels; /* in the arena it was packed into, aligned to 64 */
};

/** Pack w (rows, channels, taps) f32, row-major.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM */
enum winnow_status wn_f32_conv_pack(struct wn_arena *arena, const float *w, size_t rows, size_t channels, size_t taps,
                                    struct wn_f32_conv *ret_mat, struct winnow_err *err);
/** Weight of output o, input channel i, tap t. */
static inline float wn_f32_conv_at(const struct wn_f32_conv *mat, size_t o, size_t i, size_t t)
{
    const size_t L = WN_CONV_LANES;
    return mat->panels[((o / L * mat->taps + t) * mat->channels + i) * L + o % L];
}

/** Output rows oy0 .. oy1 - 1 of the picture, of channels row0 .. row1 - 1; row0 a multiple of WN_CONV_ROWS. Where
 * mask is given, the block with the last output row writes zeros up to y_cols. */
typedef void wn_f32_conv_fn(const struct wn_f32_conv *mat, const struct wn_conv_window *win,
                            const struct wn_f32_args *args, int32_t oy0, int32_t oy1, size_t row0, size_t row1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_conv_fn wn_f32_conv_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_conv_init(void);
/** Pixels per step of the kernel in use: rows are cut into the fewest tiles of at most so many, as even as possible. */
size_t wn_f32_conv_pixels(void);

#define KERNEL(isa, NP, NR) wn_f32_conv_fn wn_f32_conv_##NP##x##NR##__##isa;
#include "engine/kernels/f32_conv/f32_conv.def"
#undef KERNEL

#endif
