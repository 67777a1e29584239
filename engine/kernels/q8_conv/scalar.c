/* scalar.c: the reference: plain C, no tricks. */
#include "engine/kernels/q8_conv/q8_conv.h"

/* What tap (ky, kx) adds to row o of pixel (oy, ox). */
static uint32_t tap(const struct wn_q8_conv *mat, const struct wn_conv_shape *s, const uint8_t *x,
                    const int32_t *outside, size_t o, int32_t oy, int32_t ox, int32_t ky, int32_t kx)
{
    const size_t t = (size_t)(ky * s->kw + kx);
    const int32_t iy = oy * s->stride_h - s->pad_t + ky * s->dil_h, ix = ox * s->stride_w - s->pad_l + kx * s->dil_w;
    if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
        return outside ? (uint32_t)outside[t * mat->lanes + o] : 0;
    const uint8_t *at = x + 4 * ((size_t)iy * s->x_pitch + (size_t)ix);
    uint32_t sum = 0;
    for (size_t i = 0; i < mat->channels; i++)
        sum += (uint32_t)(wn_q8_conv_at(mat, o, i, t) * at[4 * (i / 4 * s->x_stride) + i % 4]);
    return sum;
}

/* Where the window says. */
static void put_at(const struct wn_conv_shape *s, const struct wn_q8_args *a, size_t o, int32_t oy, int32_t ox,
                   uint32_t acc)
{
    float f = (float)(int32_t)acc * a->mul[o];
    f = f < a->lo ? a->lo : f;
    f = f > a->hi ? a->hi : f;
    ((float *)a->y)[(size_t)oy * s->y_pitch + (size_t)ox * s->y_px + (size_t)s->y_at[o]] = f;
}

void wn_q8_conv_1x1__scalar(const struct wn_q8_conv *mat, const struct wn_conv_window *win, const int32_t *outside,
                            const struct wn_q8_args *args, int32_t oy0, int32_t oy1, size_t row0, size_t row1)
{
    const struct wn_conv_shape *s = &win->shape;
    for (int32_t oy = oy0; oy < oy1; oy++) {
        struct wn_q8_args a = wn_q8_args_cols(args, (size_t)oy * s->y_pitch, (size_t)s->ow); /* pixels */
        a.mask = NULL;
        a.w_zp = NULL;
        for (size_t o = row0; o < row1; o++)
            for (int32_t ox = 0; ox < s->ow; ox++) {
                uint32_t acc = (uint32_t)a.bias[o];
                for (int32_t k = 0; k < s->kh * s->kw; k++)
                    acc += tap(mat, s, a.x, outside, o, oy, ox, k / s->kw, k % s->kw);
                if (s->y_at)
                    put_at(s, args, o, oy, ox, acc);
                else
                    wn_q8_put(&a, o, (size_t)ox, acc);
            }
        if (row1 == mat->rows)
            wn_q8_put_pad_rows(&a, row1);
        if (args->mask)
            wn_q8_conv_gap(s, args, oy, row0, row1);
    }
}
