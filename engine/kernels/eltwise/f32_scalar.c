/* f32_scalar.c: the reference: plain C and libm. */
#include "engine/kernels/eltwise/f32.h"

#include <math.h>
#include "engine/kernels/f32_scalar.h"

static float unary(enum wn_elt_f32_unary op, float x, float alpha, float beta)
{
    switch (op) {
    case WN_ELT_LEAKY:
        return x > 0.0f ? x : alpha * x;
    case WN_ELT_HARD_SIGMOID:
        return wn_f32_clamp(alpha * x + beta, 0.0f, 1.0f);
    case WN_ELT_HARD_SWISH:
        return x * wn_f32_clamp(alpha * x + beta, 0.0f, 1.0f);
    case WN_ELT_EXP:
        return expf(x);
    case WN_ELT_ELU:
        return x > 0.0f ? x : alpha * expm1f(x);
    case WN_ELT_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    case WN_ELT_SILU:
        return x / (1.0f + expf(-alpha * x));
    case WN_ELT_TANH:
        return tanhf(x);
    case WN_ELT_ERF:
        return erff(x);
    case WN_ELT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case WN_ELT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default:
        return x;
    }
}

void wn_elt_f32_unary_1__scalar(enum wn_elt_f32_unary op, const struct wn_elt_f32 *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const float y = unary(op, a->x[i], a->alpha, a->beta);
        a->y[i] = a->mask && !a->mask[i] ? 0.0f : wn_f32_clamp(y, a->lo, a->hi);
    }
}

void wn_elt_f32_binary_1__scalar(enum wn_elt_f32_binary op, const struct wn_elt_f32 *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const float x = a->x[i], b = a->b[i];
        const float y = op == WN_ELT_ADD ? x + b : op == WN_ELT_SUB ? x - b : op == WN_ELT_MUL ? x * b : x / b;
        a->y[i] = a->mask && !a->mask[i] ? 0.0f : wn_f32_clamp(y, a->lo, a->hi);
    }
}
