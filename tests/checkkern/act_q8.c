/* act_q8.c: activation and quantization in one pass against the two by themselves: random scales, arguments at and
 * beside the places where the byte changes, and runs of neighbouring floats. */
#include <math.h>
#include <string.h>
#include "engine/kernels/act_q8/act_q8.h"
#include "tests/checkkern/checkkern.h"

static double function(enum wn_elt_f32_unary op, double x)
{
    return op == WN_ELT_GELU        ? 0.5 * x * erfc(-x * M_SQRT1_2)
           : op == WN_ELT_GELU_TANH ? x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)))
                                    : x / (1 + exp(-x));
}

/* Where the quotient is step + 1/2, about: a float or a few beside it. */
static float boundary(struct ck *ck, enum wn_elt_f32_unary op, double scale)
{
    const bool falls = ck_rand(ck, 3) == 0; /* on the left of the minimum, or on its right */
    const double at = op == WN_ELT_SILU ? -1.2785 : -0.752, least = function(op, at) / scale;
    const double y0 = falls ? -0.0001 / scale : fmin(300, 20 / scale);
    const double want = floor(least + (y0 - least) * (0.5 + 0.5 * (double)ck_float(ck))) + 0.5;
    double lo = at, hi = falls ? -20 : 400;
    for (int i = 0; i < 60; i++) {
        const double mid = (lo + hi) / 2;
        *(function(op, mid) / scale < want ? &lo : &hi) = mid;
    }
    float x = (float)lo;
    for (size_t n = ck_rand(ck, 12); n; n--)
        x = nextafterf(x, ck_float(ck) * 1e9f);
    return x;
}

static void fill(struct ck *ck, enum wn_elt_f32_unary op, float scale, float *x, size_t n)
{
    static const float odd[] = { NAN,   -NAN,   INFINITY, -INFINITY, 0.0f,   -0.0f,
                                 1e30f, -1e30f, 1e-40f,   -6e30f,    -1e38f, 5.4f };
    const uint32_t from = (uint32_t)ck_rand64(ck);
    const size_t kind = ck_rand(ck, 4);
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = from + (uint32_t)i;
        if (kind == 0)
            memcpy(&x[i], &bits, sizeof bits);
        if (kind == 0 && isnan(x[i]))
            x[i] = NAN; /* none that signals */
        if (kind == 1)
            x[i] = boundary(ck, op, (double)scale);
        if (kind > 1)
            x[i] = ck_rand(ck, 64) ? ck_float(ck) * (kind == 2 ? 8 : 300 * scale) : odd[ck_rand(ck, WN_COUNT(odd))];
    }
}

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    const size_t channels = 1 + ck_rand(ck, 10), n = 16 * (1 + ck_rand(ck, 20)), rows = (channels + 3) / 4 * 4;
    const enum wn_elt_f32_unary ops[] = { WN_ELT_GELU, WN_ELT_GELU_TANH, WN_ELT_SILU, WN_ELT_TANH };
    const enum wn_elt_f32_unary op = ops[ck_rand(ck, WN_COUNT(ops))];
    const enum wn_q8_out form = ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE;
    const float scale = expf(ck_float(ck) * (ck_rand(ck, 4) ? 3 : 12) - 4);
    struct wn_elt_f32 e = { .n = channels * n, .alpha = 1, .lo = -INFINITY, .hi = INFINITY };
    struct wn_act_q8 act;
    float *x = ck_buf(ck, channels * n * 4), *y = ck_buf(ck, channels * n * 4);
    uint8_t *want = ck_buf(ck, rows * n), *got = ck_buf(ck, rows * n);
    struct wn_move_q8 quant = { .x = y,
                                .y = want,
                                .x_stride = 4 * n,
                                .y_stride = form == WN_OUT_QUAD ? 4 * n : n,
                                .channels = channels,
                                .n = n,
                                .form = form,
                                .scale = scale,
                                .zp = (int32_t)ck_rand(ck, 256),
                                .q_lo = (int32_t)ck_rand(ck, 100),
                                .q_hi = 100 + (int32_t)ck_rand(ck, 156),
                                .mask = ck_rand(ck, 3) ? NULL : ck_mask(ck, n) };
    fill(ck, op, scale, x, channels * n);
    wn_act_q8_init(&act, op, &e, scale);
    e.x = x;
    e.y = y;
    const size_t c0 = 4 * ck_rand(ck, (channels + 3) / 4);
    ck_shape(ck, "channels=%zu.. of %zu n=%zu op=%d form=%d scale=%a zp=%d", c0, channels, n, (int)op, (int)form,
             (double)scale, quant.zp);
    wn_elt_f32_unary_run(op, &e);
    wn_move_q8_quantize_1__scalar(&quant, c0, channels);
    quant.x = NULL;
    quant.y = got;
    CK_CALL(ck, ((wn_act_q8_fn *)kernel->fn)(&act, &quant, x, c0, channels));
    ck_same(ck, want, got, rows * n);
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    enum { CHANNELS = 32, N = 128 };
    float *x = ck_buf(ck, (size_t)CHANNELS * N * 4), *scratch = ck_buf(ck, (size_t)CHANNELS * N * 4);
    uint8_t *y = ck_buf(ck, (size_t)CHANNELS * N);
    for (size_t i = 0; i < (size_t)CHANNELS * N; i++)
        x[i] = (ck_float(ck) + ck_float(ck) + ck_float(ck)) * 1.5f;
    const struct wn_elt_f32 plain = { .alpha = 1, .lo = -INFINITY, .hi = INFINITY };
    static const enum wn_elt_f32_unary ops[] = { WN_ELT_GELU, WN_ELT_GELU_TANH, WN_ELT_SILU };
    static const char *const names[] = { "gelu", "gelu by tanh", "silu" };
    for (size_t i = 0; i < WN_COUNT(ops); i++) {
        struct wn_act_q8 act;
        wn_act_q8_init(&act, ops[i], &plain, 5.2f / 255);
        const struct wn_move_q8 quant = { .y = y,
                                          .x_stride = 4 * N,
                                          .y_stride = 4 * N,
                                          .channels = CHANNELS,
                                          .n = N,
                                          .form = WN_OUT_QUAD,
                                          .scale = act.scale,
                                          .zp = 10,
                                          .q_hi = 255 };
        ck_shape(ck, "%s, %d channels x %d", names[i], CHANNELS, N);
        CK_BENCH(ck, (double)CHANNELS * N, memcpy(scratch, x, (size_t)CHANNELS * N * 4);
                 ((wn_act_q8_fn *)kernel->fn)(&act, &quant, scratch, 0, CHANNELS));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR) CK_KERNEL(wn_act_q8_##NR##__##isa, isa, check, bench)
#include "engine/kernels/act_q8/act_q8.def"
#undef KERNEL
};
CK_FAMILY(kernels)
