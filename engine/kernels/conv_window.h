/* conv_window.h: windows over planes for the kernels that lay lanes over output channels: f32_conv, q8_conv.
 *
 * Elements are 4 bytes: floats, or quads of bytes. What is called a channel here is a plane of them. */
#ifndef WN_CONV_WINDOW_H
#define WN_CONV_WINDOW_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

#define WN_CONV_LANES  16u /* rows of a panel of weights, on every instruction set */
#define WN_CONV_ROWS   32u /* rows that a step of the widest kernel takes */
#define WN_CONV_STRIDE 2
#define WN_CONV_AHEAD  6 /* steps that inputs are fetched ahead */

/** A window over planes. Extents and distances in elements. */
struct wn_conv_shape {
    size_t channels;                                                /* of a group's input */
    int32_t h, w, oh, ow;                                           /* input, output */
    int32_t kh, kw, stride_h, stride_w, dil_h, dil_w, pad_t, pad_l; /* stride_w at most WN_CONV_STRIDE */
    size_t x_pitch, x_stride, y_pitch, y_cols;                      /* x_stride: from channel to channel */
    const int32_t
        *y_at; /* NULL: y is planes. Else (q8_conv, f32 out, no residual, no mask): row o of a pixel lies y_at[o] floats
                * from row 0 of pixel (0, 0); y_px floats from pixel to pixel, y_pitch from line to line */
    size_t y_px;
};

struct wn_conv_window {
    struct wn_conv_shape shape;
    const int32_t *koff; /* [taps][channels] bytes from the window's first tap in the group's first channel;
                          * WN_CONV_AHEAD more can be read */
    const int32_t *lo;   /* [kw] the outputs of a row whose tap kx is inside x: lo .. hi - 1 */
    const int32_t *hi;
    int32_t left, right; /* the outputs of a row all of whose taps are inside: left .. right - 1 */
    bool edges_apart;    /* the others want tiles of one pixel: too many, or without pixels between them */
};

/** Window of `shape`; arrays in `arena`. False: no memory. */
bool wn_conv_window_make(struct wn_arena *arena, const struct wn_conv_shape *shape, struct wn_conv_window *ret);

/** Output row oy reads the input rows of taps *ret_ky0 .. *ret_ky1 - 1; the others lie in the padding. */
static inline void wn_conv_window_rows(const struct wn_conv_shape *s, int32_t oy, int32_t *ret_ky0, int32_t *ret_ky1)
{
    const int32_t iy = oy * s->stride_h - s->pad_t;
    int32_t ky0 = 0, ky1 = s->kh;
    while (ky0 < ky1 && iy + ky0 * s->dil_h < 0)
        ky0++;
    while (ky1 > ky0 && iy + (ky1 - 1) * s->dil_h >= s->h)
        ky1--;
    *ret_ky0 = ky0;
    *ret_ky1 = ky1;
}

/** One past the columns of output row oy that are no pixels: the next row's first, or the end of the columns. */
static inline size_t wn_conv_row_end(const struct wn_conv_shape *s, int32_t oy)
{
    return oy + 1 < s->oh ? s->y_pitch : s->y_cols - (size_t)oy * s->y_pitch;
}

#endif
