/* activate.c: see activate.h. */
#include "engine/plan/activate.h"

#include "engine/kernels/eltwise/f32.h"

static const enum wn_elt_f32_unary ops[WN_ACT_COUNT] = { [WN_ACT_NONE] = WN_ELT_CLAMP,
                                                         [WN_ACT_GELU] = WN_ELT_GELU,
                                                         [WN_ACT_GELU_TANH] = WN_ELT_GELU_TANH,
                                                         [WN_ACT_TANH] = WN_ELT_TANH,
                                                         [WN_ACT_SIGMOID] = WN_ELT_SIGMOID,
                                                         [WN_ACT_SWISH] = WN_ELT_SILU,
                                                         [WN_ACT_HARD_SWISH] = WN_ELT_HARD_SWISH,
                                                         [WN_ACT_LEAKY_RELU] = WN_ELT_LEAKY };

static struct wn_elt_f32 settings(const struct wn_activation *a)
{
    struct wn_elt_f32 e = { .alpha = a->alpha, .lo = a->lo, .hi = a->hi };
    if (a->act != WN_ACT_LEAKY_RELU)
        e.alpha = 1;
    if (a->act == WN_ACT_HARD_SWISH) {
        e.alpha = 1.0f / 6;
        e.beta = 0.5f;
    }
    return e;
}

void wn_activate(const struct wn_activation *a, const uint32_t *mask, float *y, size_t n)
{
    struct wn_elt_f32 e = settings(a);
    e.x = y;
    e.y = y;
    e.n = n;
    e.mask = mask;
    wn_elt_f32_unary_run(ops[a->act], &e);
}

void wn_activate_bytes_init(const struct wn_activation *a, float scale, struct wn_act_q8 *ret)
{
    const struct wn_elt_f32 e = settings(a);
    wn_act_q8_init(ret, ops[a->act], &e, scale);
}

void wn_activate_bytes(const struct wn_act_q8 *a, const struct wn_move_q8 *quant, float *x, size_t n, size_t from,
                       size_t to)
{
    struct wn_move_q8 q = *quant;
    q.x_stride = n * sizeof *x;
    q.n = n;
    wn_act_q8_run(a, &q, (float *)((uintptr_t)x - from * q.x_stride), from, to); /* where row 0 would be */
}
