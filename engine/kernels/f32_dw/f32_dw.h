/* f32_dw.h: depthwise f32 convolution: y[o] = clamp(sum over taps of w[o][t] * x[o / mult][tap t] + bias[o] + r[o]).
 *
 * USE   Weights (O, 1, kh, kw) are used as they lie; nothing is packed. Per concrete shape, koff[t] for the kh * kw
 * taps: byte offset of tap t's element from column 0 of the same channel, (dy * pitch + dx) * 4 at stride 1. For other
 *       strides it leads into the phase plane that holds the tap (move/f32.h), so that successive outputs read
 *       successive inputs; x_stride is the distance from a channel's column 0 to the next channel's.
 *       Stride 2 along the width reads the planes as they lie, zeros around them, instead: wn_f32_dw2_run().
 *       Run, any number of threads at once, each on its own block:
 *            wn_f32_dw_run(&dw, koff, x_stride, &args, row0, row1)
 *       args.x, y, r and mask point at the block's first column; channel 0 and row 0, whatever row0 is. */
#ifndef WN_F32_DW_H
#define WN_F32_DW_H

#include "engine/kernels/kernels.h"

struct wn_f32_dw {
    const float *w; /* (rows, taps); the caller's */
    size_t taps;    /* kh * kw, >= 1 */
    size_t mult;    /* output channels per input channel, >= 1 */
};

/** y rows row0 .. row1 - 1, all args->n columns; n a multiple of WN_COLS. x_stride in bytes. Reads exactly the n
 *  columns of every tap. */
typedef void wn_f32_dw_fn(const struct wn_f32_dw *dw, const int32_t *koff, size_t x_stride,
                          const struct wn_f32_args *args, size_t row0, size_t row1);

/** Stride 2 along the width. koff[t]: bytes from element (0, 0) of x, to which args.x points, to tap t of output (0,
 * 0). */
struct wn_f32_dw2 {
    int32_t oh, ow;
    size_t x_down; /* floats of x from an output row to the next: stride_h * pitch */
    size_t y_pitch, y_cols;
};
/** y rows row0 .. row1 - 1, all pixels; args->mask: not NULL writes 0 to the columns that are none. Reads up to
 * WN_OVERREAD past a tap's last element. */
typedef void wn_f32_dw2_fn(const struct wn_f32_dw *dw, const struct wn_f32_dw2 *shape, const int32_t *koff,
                           size_t x_stride, const struct wn_f32_args *args, size_t row0, size_t row1);

/** The fastest kernels this CPU has (WINNOW_CPU permitting). Any thread. */
wn_f32_dw_fn wn_f32_dw_run;
wn_f32_dw2_fn wn_f32_dw2_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_f32_dw_init(void);

#define KERNEL(isa, MR, NR)                                                                                            \
    wn_f32_dw_fn wn_f32_dw_##MR##x##NR##__##isa;                                                                       \
    wn_f32_dw2_fn wn_f32_dw2_##MR##x##NR##__##isa;
#include "engine/kernels/f32_dw/f32_dw.def"
#undef KERNEL

#endif
