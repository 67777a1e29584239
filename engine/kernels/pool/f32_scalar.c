/* f32_scalar.c: the reference: plain C, window by window. */
#include "engine/kernels/pool/f32.h"

#include <math.h>
#include <string.h>

static float window(const struct wn_pool_f32 *g, const struct wn_plane *in, const float *x, int32_t oy, int32_t ox)
{
    int32_t i0, i1, j0, j1;
    wn_pool_taps(oy, g->kh, g->stride_h, g->dil_h, g->pad_t, in->h, &i0, &i1);
    wn_pool_taps(ox, g->kw, g->stride_w, g->dil_w, g->pad_l, in->w, &j0, &j1);
    float sum = 0, max = -INFINITY;
    for (int32_t i = i0; i < i1; i++)
        for (int32_t j = j0; j < j1; j++) {
            const float v = x[(oy * g->stride_h - g->pad_t + i * g->dil_h) * (ptrdiff_t)in->pitch + ox * g->stride_w -
                              g->pad_l + j * g->dil_w];
            sum += v;
            max = v > max || isnan(v) ? v : max;
        }
    if (g->kind == WN_POOL_MAX)
        return max;
    if (g->count_include_pad) {
        int32_t h0, h1, w0, w1;
        wn_pool_taps(oy, g->kh, g->stride_h, g->dil_h, 0, in->h + g->pad_t + g->pad_b, &h0, &h1);
        wn_pool_taps(ox, g->kw, g->stride_w, g->dil_w, 0, in->w + g->pad_l + g->pad_r, &w0, &w1);
        return h1 > 0 && w1 > 0 ? sum / (float)(h1 * w1) : 0.0f;
    }
    return i1 > i0 && j1 > j0 ? sum / (float)((i1 - i0) * (j1 - j0)) : 0.0f;
}

void wn_pool_f32_1__scalar(const struct wn_pool_f32 *g, const struct wn_plane *in, const float *x,
                           const struct wn_plane *out, float *y, size_t channels)
{
    for (size_t c = 0; c < channels; c++, x += in->stride, y += out->stride) {
        memset(y, 0, out->cols * sizeof *y);
        for (int32_t oy = 0; oy < out->h; oy++)
            for (int32_t ox = 0; ox < out->w; ox++)
                y[oy * (ptrdiff_t)out->pitch + ox] = window(g, in, x, oy, ox);
    }
}

void wn_pool_f32_mean_1__scalar(const struct wn_plane *in, const float *x, float *y, size_t y_stride, size_t channels)
{
    for (size_t c = 0; c < channels; c++, x += in->stride) {
        float sum = 0;
        for (int32_t i = 0; i < in->h; i++)
            for (int32_t j = 0; j < in->w; j++)
                sum += x[i * (ptrdiff_t)in->pitch + j];
        y[c * y_stride] = sum / ((float)in->h * (float)in->w);
    }
}
