/* scalar.c: the reference: plain C, token by token. */
#include "engine/kernels/norm_q8/norm_q8.h"

/* Where feature f of token t lies. */
static size_t at(enum wn_q8_out form, size_t stride, size_t f, size_t t)
{
    return form == WN_OUT_QUAD ? f / 4 * stride + 4 * t + f % 4 : f * stride + t;
}

static void token(const struct wn_norm_q8 *a, size_t t)
{
    int64_t sum = 0, squares = 0;
    float mean, inv;
    for (size_t f = 0; f < a->k; f++) {
        const int64_t x = a->x[at(a->form, a->x_stride, f, t)];
        sum += x;
        squares += x * x;
    }
    wn_norm_q8_moments(a, sum, squares, &mean, &inv);
    for (size_t f = 0; f < a->k; f++) {
        const float n = ((float)a->x[at(a->form, a->x_stride, f, t)] - mean) * inv;
        a->y[at(a->form, a->y_stride, f, t)] = wn_q8_byte(n * a->gamma[f] + a->beta[f], a->y_zp, 0, 255);
    }
}

void wn_norm_q8_cols_1__scalar(const struct wn_norm_q8 *a)
{
    for (size_t t = 0; t < a->n; t++)
        token(a, t);
}

void wn_norm_q8_rows_1__scalar(const struct wn_norm_q8 *a)
{
    for (size_t t = 0; t < a->n; t++) { /* a token's features are planes of one column */
        struct wn_norm_q8 one = *a;
        one.x += t * a->k;
        one.y += t * a->k;
        one.x_stride = one.y_stride = 1;
        one.form = WN_OUT_PLANE;
        token(&one, 0);
    }
}
