/* scalar.c: the reference: plain C, no tricks. */
#include "engine/kernels/f32_conv/f32_conv.h"

#include "engine/kernels/f32_scalar.h"

static float pixel(const struct wn_f32_conv *mat, const struct wn_conv_window *win, const float *x, size_t o, int32_t oy,
                   int32_t ox, float acc)
{
    const struct wn_conv_shape *s = &win->shape;
    for (int32_t ky = 0; ky < s->kh; ky++)
        for (int32_t kx = 0; kx < s->kw; kx++) {
            const int32_t iy = oy * s->stride_h - s->pad_t + ky * s->dil_h,
                          ix = ox * s->stride_w - s->pad_l + kx * s->dil_w;
            if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
                continue;
            for (size_t i = 0; i < s->channels; i++)
                acc += wn_f32_conv_at(mat, o, i, (size_t)(ky * s->kw + kx)) *
                       x[i * s->x_stride + (size_t)iy * s->x_pitch + (size_t)ix];
        }
    return acc;
}

void wn_f32_conv_1x1__scalar(const struct wn_f32_conv *mat, const struct wn_conv_window *win,
                             const struct wn_f32_args *a, int32_t oy0, int32_t oy1, size_t row0, size_t row1)
{
    const struct wn_conv_shape *s = &win->shape;
    for (size_t o = row0; o < row1; o++)
        for (int32_t oy = oy0; oy < oy1; oy++) {
            const size_t at = o * a->y_stride + (size_t)oy * s->y_pitch;
            for (int32_t ox = 0; ox < s->ow; ox++) {
                float acc = (a->bias ? a->bias[o] : 0.0f) + (a->r ? a->r[at + (size_t)ox] : 0.0f);
                a->y[at + (size_t)ox] = wn_f32_clamp(pixel(mat, win, a->x, o, oy, ox, acc), a->lo, a->hi);
            }
            if (a->mask)
                wn_f32_gap(a->y + at, oy, s->oh, s->ow, s->y_pitch, s->y_cols);
        }
}
