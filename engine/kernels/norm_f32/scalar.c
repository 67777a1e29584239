/* scalar.c: the reference: plain C, sums in double. */
#include "engine/kernels/norm_f32/norm_f32.h"

#include <math.h>

/* One token whose features are `step` floats apart. */
static void token(const struct wn_norm_f32 *a, const float *x, size_t xs, const float *r, size_t rs, float *y,
                  size_t ys)
{
    double sum = 0, sq = 0;
    for (size_t f = 0; f < a->k; f++) {
        y[f * ys] = x[f * xs] + (r ? r[f * rs] : 0.0f);
        sum += (double)y[f * ys];
    }
    const double mean = sum / (double)a->k;
    for (size_t f = 0; f < a->k; f++)
        sq += ((double)y[f * ys] - mean) * ((double)y[f * ys] - mean);
    const double inv = 1 / sqrt(sq / (double)a->k + (double)a->eps);
    for (size_t f = 0; f < a->k; f++)
        y[f * ys] = (float)(((double)y[f * ys] - mean) * inv) * a->gamma[f] + (a->beta ? a->beta[f] : 0.0f);
}

void wn_norm_f32_cols_1__scalar(const struct wn_norm_f32 *a)
{
    for (size_t t = 0; t < a->n; t++)
        token(a, a->x + t, a->x_stride, a->r ? a->r + t : NULL, a->r_stride, a->y + t, a->y_stride);
}

void wn_norm_f32_rows_1__scalar(const struct wn_norm_f32 *a)
{
    for (size_t t = 0; t < a->n; t++)
        token(a, a->x + t * a->k, 1, a->r ? a->r + t * a->k : NULL, 1, a->y + t * a->k, 1);
}

void wn_softmax_f32_1__scalar(const struct wn_softmax_f32 *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->k;
        float *y = a->y + i * a->k, top = -INFINITY, sum = 0;
        for (size_t f = 0; f < a->k; f++) {
            y[f] = x[f] + (a->mask ? a->mask[f] : 0.0f);
            top = y[f] > top ? y[f] : top;
        }
        for (size_t f = 0; f < a->k; f++) {
            y[f] = expf(y[f] - top);
            sum += y[f];
        }
        for (size_t f = 0; f < a->k; f++)
            y[f] /= sum;
    }
}
