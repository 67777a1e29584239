/* act_q8: for some scales, every float from 2^-10 to 32 and its negative, and one of 257 of all floats, gives the byte
 * that activation and quantization give one after the other. (That every float does was checked once, with STRIDE 1.)
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "engine/kernels/act_q8/act_q8.h"

enum { N = 4096, STRIDE = 257 };

static void fill(float *x, uint32_t from, uint32_t step)
{
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t bits = from + i * step;
        memcpy(&x[i], &bits, sizeof bits);
        if (isnan(x[i]))
            x[i] = NAN; /* none that signals */
    }
}

/* Floats whose bits are from, from + step, ... */
static void compare(const struct wn_act_q8 *act, int32_t zp, uint32_t from, uint32_t step)
{
    static float x[N], y[N];
    static uint8_t want[N], got[N];
    struct wn_move_q8 quant = {
        .channels = 1, .n = N, .form = WN_OUT_PLANE, .scale = act->scale, .zp = zp, .q_hi = 255, .x = y, .y = want
    };
    struct wn_elt_f32 e = act->elt;
    fill(x, from, step);
    e.x = x;
    e.y = y;
    e.n = N;
    wn_elt_f32_unary_run(act->op, &e);
    wn_move_q8_quantize_run(&quant, 0, 1);
    quant.y = got;
    wn_act_q8_run(act, &quant, x, 0, 1);
    for (uint32_t i = 0; i < N; i++)
        cr_assert(want[i] == got[i], "operator %d, scale %a, bits %#x: %d, not %d", (int)act->op, (double)act->scale,
                  from + i * step, got[i], want[i]);
}

static void walk(enum wn_elt_f32_unary op, float scale, int32_t zp)
{
    const struct wn_elt_f32 plain = { .alpha = 1, .lo = -INFINITY, .hi = INFINITY };
    struct wn_act_q8 act;
    wn_act_q8_init(&act, op, &plain, scale);
    for (uint64_t from = 0; from < (uint64_t)1 << 32; from += (uint64_t)N * STRIDE)
        compare(&act, zp, (uint32_t)from, STRIDE);
    for (uint32_t sign = 0; sign < 2; sign++)
        for (uint32_t from = 0x3a800000; from < 0x42000000; from += N) /* 2^-10 .. 32 */
            compare(&act, zp, sign << 31 | from, 1);
}

Test(act_q8, every_gelu)
{
    walk(WN_ELT_GELU, 5.2f / 255, 10);
    walk(WN_ELT_GELU, 0.00092f, 190);
}

Test(act_q8, every_gelu_tanh)
{
    walk(WN_ELT_GELU_TANH, 0.031f, 128);
}

Test(act_q8, every_silu)
{
    walk(WN_ELT_SILU, 7.0f / 255, 10);
}
