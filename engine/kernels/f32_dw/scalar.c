/* scalar.c: the reference: plain C, no tricks. */
#include "engine/kernels/f32_dw/f32_dw.h"

#include "engine/kernels/f32_scalar.h"

void wn_f32_dw_1x1__scalar(const struct wn_f32_dw *dw, const int32_t *koff, size_t x_stride,
                           const struct wn_f32_args *a, size_t row0, size_t row1)
{
    for (size_t o = row0; o < row1; o++) {
        const char *x = (const char *)a->x + o / dw->mult * x_stride;
        float *y = a->y + o * a->y_stride;
        const float *r = a->r ? a->r + o * a->y_stride : NULL;
        for (size_t c = 0; c < a->n; c++) {
            float acc = (a->bias ? a->bias[o] : 0.0f) + (r ? r[c] : 0.0f);
            for (size_t t = 0; t < dw->taps; t++)
                acc += dw->w[o * dw->taps + t] * ((const float *)(const void *)(x + koff[t]))[c];
            y[c] = a->mask && !a->mask[c] ? 0.0f : wn_f32_clamp(acc, a->lo, a->hi);
        }
    }
}

void wn_f32_dw2_1x1__scalar(const struct wn_f32_dw *dw, const struct wn_f32_dw2 *shape, const int32_t *koff,
                            size_t x_stride, const struct wn_f32_args *a, size_t row0, size_t row1)
{
    for (size_t o = row0; o < row1; o++)
        for (int32_t oy = 0; oy < shape->oh; oy++) {
            const char *x = (const char *)a->x + o / dw->mult * x_stride + (size_t)oy * shape->x_down * sizeof(float);
            const size_t at = o * a->y_stride + (size_t)oy * shape->y_pitch;
            for (size_t c = 0; c < (size_t)shape->ow; c++) {
                float acc = (a->bias ? a->bias[o] : 0.0f) + (a->r ? a->r[at + c] : 0.0f);
                for (size_t t = 0; t < dw->taps; t++)
                    acc += dw->w[o * dw->taps + t] * ((const float *)(const void *)(x + koff[t]))[2 * c];
                a->y[at + c] = wn_f32_clamp(acc, a->lo, a->hi);
            }
            if (a->mask)
                wn_f32_gap(a->y + at, oy, shape->oh, shape->ow, shape->y_pitch, shape->y_cols);
        }
}
