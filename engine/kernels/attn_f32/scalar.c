/* scalar.c: the reference: one query after the other, scores twice computed rather than stored; sums in double. */
#include "engine/kernels/attn_f32/attn_f32.h"

#include <math.h>

static float score(const struct wn_attn_f32 *a, size_t i, size_t j)
{
    double sum = 0;
    for (size_t f = 0; f < a->d; f++)
        sum += (double)a->q[f * a->q_stride + i] * (double)a->k[f * a->k_stride + j];
    const float s = (float)sum * a->scale;
    if (!a->mask)
        return s;
    const float m = a->mask_stride ? a->mask[j * a->mask_stride + i] : a->mask[j];
    return a->replace ? (m != 0.0f ? m : s) : s + m;
}

/* Features of the answer summed at a time. */
#define PIECE ((size_t)64)

void wn_attn_f32_1x1__scalar(const struct wn_attn_f32 *a)
{
    for (size_t i = 0; i < a->n_q; i++) {
        float top = -INFINITY;
        double out[PIECE], sum = 0;
        for (size_t j = 0; j < a->n_k; j++)
            top = fmaxf(top, score(a, i, j));
        for (size_t j = 0; j < a->n_k; j++)
            sum += (double)expf(score(a, i, j) - top);
        for (size_t from = 0; from < a->dv; from += PIECE) {
            const size_t n = WN_MIN(PIECE, a->dv - from);
            for (size_t f = 0; f < n; f++)
                out[f] = 0;
            for (size_t j = 0; j < a->n_k; j++) {
                const double p = (double)expf(score(a, i, j) - top) / sum;
                for (size_t f = 0; f < n; f++)
                    out[f] += p * (double)a->v[(from + f) * a->v_stride + j];
            }
            for (size_t f = 0; f < n; f++)
                a->y[(from + f) * a->y_stride + i] = a->guarded && !(sum > 0) ? 0.0f : (float)out[f];
        }
    }
}
