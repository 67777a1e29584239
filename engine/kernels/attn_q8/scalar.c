/* scalar.c: the reference: one query after the other, scores computed again rather than stored. */
#include "engine/kernels/attn_q8/attn_q8.h"

#include <float.h>
#include "engine/kernels/f32_scalar.h"
#include "engine/kernels/q8_epilogue.h"

static float score(const struct wn_attn_q8 *a, size_t i, size_t j)
{
    int32_t acc = 0;
    for (size_t f = 0; f < a->d; f++)
        acc += (a->q[f / 4 * a->q_stride + 4 * i + f % 4] - a->q_zp) *
               (a->k[f / 4 * a->k_stride + 4 * j + f % 4] - a->k_zp);
    float s = (float)acc * a->mul;
    if (a->s_mul != 0)
        s = (float)(wn_q8_byte(s, a->s_zp, 0, 255) - a->s_zp) * a->s_mul;
    if (!a->mask)
        return s;
    const float m = a->mask_stride ? a->mask[j * a->mask_stride + i] : a->mask[j];
    return a->replace ? (m != 0.0f ? m : s) : s + m;
}

static void put(const struct wn_attn_q8 *a, size_t f, size_t i, int32_t acc)
{
    const float y = (float)acc * a->y_mul;
    if (a->out == WN_OUT_F32) {
        memcpy((char *)a->y + f * a->y_stride + 4 * i, &y, sizeof y);
        return;
    }
    const size_t at = a->out == WN_OUT_QUAD ? f / 4 * a->y_stride + 4 * i + f % 4 : f * a->y_stride + i;
    ((uint8_t *)a->y)[at] = wn_q8_byte(y, a->y_zp, 0, 255);
}

/* Features of the answer summed at a time. */
#define PIECE ((size_t)64)

void wn_attn_q8_1x1__scalar(const struct wn_attn_q8 *a)
{
    for (size_t i = 0; i < a->n_q; i++) {
        float top = -FLT_MAX, sum = 0;
        for (size_t j = 0; j < a->n_k; j++) {
            const float s = score(a, i, j);
            top = s > top ? s : top;
        }
        for (size_t j = 0; j < a->n_k; j++)
            sum += wn_exp_below(score(a, i, j) - top);
        const float inv = sum > 0.5f ? 1.0f / (sum * a->p_scale) : 0.0f; /* at least one e is 1, if there is a key */
        for (size_t from = 0; from < a->dv; from += PIECE) {
            const size_t n = WN_MIN(PIECE, a->dv - from);
            int32_t acc[PIECE] = { 0 };
            for (size_t j = 0; j < a->n_k; j++) {
                const int32_t p = wn_q8_byte(wn_exp_below(score(a, i, j) - top) * inv, a->p_zp, 0, 255) - a->p_zp;
                for (size_t f = 0; f < n; f++)
                    acc[f] += p * (a->v[(from + f) * a->v_stride + j] - a->v_zp);
            }
            for (size_t f = 0; f < n; f++)
                put(a, from + f, i, acc[f]);
        }
        for (size_t f = a->dv; f % 4 && a->out == WN_OUT_QUAD; f++)
            put(a, f, i, 0);
    }
}
