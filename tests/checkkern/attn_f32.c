/* attn_f32.c: checks and times the kernels of engine/kernels/attn_f32. */
#include "engine/kernels/attn_f32/attn_f32.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

static float *floats(struct ck *ck, size_t n, float scale)
{
    float *x = ck_buf(ck, n * sizeof *x);
    ck_fill_f32(ck, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
    return x;
}

/* 0, or something that hides a key; mostly every query keeps one, and sometimes all keys before it are hidden. */
static float *mask(struct ck *ck, size_t n_k, size_t stride, bool replace)
{
    static const float hide[] = { -10000.0f, -INFINITY, -3.4028235e38f, -1.5f, 2.0f };
    const size_t n = stride ? n_k * stride : n_k;
    const float value = hide[ck_rand(ck, WN_COUNT(hide))];
    const size_t row = WN_MAX(stride, (size_t)1), keep = ck_rand(ck, 8) ? ck_rand(ck, n_k) : n_k;
    const bool hide_first = ck_rand(ck, 4) == 0;
    float *m = ck_buf(ck, n * sizeof *m);
    for (size_t i = 0; i < n; i++)
        m[i] = i / row == keep || (ck_rand(ck, 3) && !(hide_first && i / row < keep)) ? 0.0f : value;
    return m;
}

static void make(struct ck *ck, struct wn_attn_f32 *a)
{
    const float scale = ck_rand(ck, 2) ? 1.0f : 4.0f;
    a->q_stride = a->n_q + ck_rand(ck, 20);
    a->k_stride = a->n_k + ck_rand(ck, 20);
    a->v_stride = a->n_k + ck_rand(ck, 20);
    a->y_stride = a->n_q + ck_rand(ck, 20);
    float *q = floats(ck, a->d * a->q_stride, scale), *k = floats(ck, a->d * a->k_stride, scale),
          *v = floats(ck, a->dv * a->v_stride, 1);
    ck_freeze(ck, q);
    ck_freeze(ck, k);
    ck_freeze(ck, v);
    a->q = q;
    a->k = k;
    a->v = v;
    a->scale = 1 / sqrtf((float)a->d);
    if (ck_rand(ck, 3)) {
        a->replace = ck_rand(ck, 2);
        a->guarded = ck_rand(ck, 2);
        a->mask_stride = ck_rand(ck, 2) ? a->n_q + ck_rand(ck, 20) : 0;
        a->mask = mask(ck, a->n_k, a->mask_stride, a->replace);
    }
    a->y = ck_buf(ck, a->dv * a->y_stride * sizeof *a->y);
}

static void check(struct ck *ck, const struct ck_kernel *kern)
{
    struct wn_attn_f32 a = { .n_q = 1 + ck_rand(ck, ck_rand(ck, 2) ? 20 : 150),
                             .n_k = 1 + ck_rand(ck, ck_rand(ck, 2) ? 20 : 300),
                             .d = 1 + ck_rand(ck, 70),
                             .dv = 1 + ck_rand(ck, 70) },
                       ref;
    make(ck, &a);
    ck_shape(ck, "n_q=%zu n_k=%zu d=%zu dv=%zu mask=%d/%zu replace=%d", a.n_q, a.n_k, a.d, a.dv, a.mask != NULL,
             a.mask_stride, a.replace);
    ref = a;
    ref.y = ck_buf(ck, a.dv * a.y_stride * sizeof *ref.y);
    wn_attn_f32_1x1__scalar(&ref);
    CK_CALL(ck, ((wn_attn_f32_fn *)kern->fn)(&a));
    float *size = ck_buf(ck, a.n_q * sizeof *size);
    for (size_t i = 0; i < a.n_q; i++)
        size[i] = 4;                  /* the exponent of a score near 64 carries an error of some 1e-5 */
    for (size_t f = 0; f < a.dv; f++) /* between the columns nothing is written */
        ck_near(ck, ref.y + f * a.y_stride, a.y + f * a.y_stride, size, a.n_q);
}

static void bench(struct ck *ck, const struct ck_kernel *kern)
{
    static const size_t tokens[] = { 16, 128, 384 };
    for (size_t i = 0; i < WN_COUNT(tokens); i++) {
        struct wn_attn_f32 a = { .n_q = tokens[i], .n_k = tokens[i], .d = 64, .dv = 64, .scale = 0.125f };
        a.q_stride = a.k_stride = a.v_stride = a.y_stride = tokens[i] / 16 % 2 ? tokens[i] : tokens[i] + 16;
        a.q = floats(ck, a.d * a.q_stride, 1);
        a.k = floats(ck, a.d * a.k_stride, 1);
        a.v = floats(ck, a.dv * a.v_stride, 1);
        a.mask = floats(ck, a.n_k, 0);
        a.y = ck_buf(ck, a.dv * a.y_stride * sizeof *a.y);
        ck_shape(ck, "%zu tokens, head of 64", tokens[i]);
        CK_BENCH(ck, 2.0 * 64 * (double)(tokens[i] * tokens[i]), ((wn_attn_f32_fn *)kern->fn)(&a));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NR) CK_KERNEL(wn_attn_f32_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/attn_f32/attn_f32.def"
#undef KERNEL
    CK_KERNEL(wn_attn_f32_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
