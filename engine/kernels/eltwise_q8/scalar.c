/* scalar.c: the reference: plain C, byte by byte. */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

#include "engine/kernels/q8_bytes.h"

void wn_elt_q8_add_1__scalar(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + c / lanes * args->a_stride, *b = args->b + c / lanes * args->b_stride;
        uint8_t *y = args->y + c / lanes * args->y_stride;
        for (size_t i = 0; i < args->n * lanes; i++) {
            float f = (float)(a[i] - args->a_zp) * args->a_mul + (float)(b[i] - args->b_zp) * args->b_mul;
            bool live = wn_q8_live(args->form, c, args->channels, args->mask, i);
            y[i] = live ? wn_q8_byte(f, args->y_zp, args->q_lo, args->q_hi) : (uint8_t)args->y_zp;
        }
    }
}

void wn_elt_q8_lookup_1__scalar(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + c / lanes * args->a_stride;
        uint8_t *y = args->y + c / lanes * args->y_stride;
        for (size_t i = 0; i < args->n * lanes; i++)
            y[i] = wn_q8_live(args->form, c, args->channels, args->mask, i) ? args->table[a[i]] : (uint8_t)args->y_zp;
    }
}

void wn_elt_q8_requant_table(float mul, int32_t a_zp, int32_t y_zp, int32_t q_lo, int32_t q_hi, uint8_t table[256])
{
    for (int32_t a = 0; a < 256; a++)
        table[a] = wn_q8_byte((float)(a - a_zp) * mul, y_zp, q_lo, q_hi);
}
