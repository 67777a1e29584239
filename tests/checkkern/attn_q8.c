/* attn_q8.c: checks and times the kernels of engine/kernels/attn_q8. */
#include "engine/kernels/attn_q8/attn_q8.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

static uint8_t *bytes(struct ck *ck, size_t n)
{
    uint8_t *x = ck_buf(ck, n + WN_OVERREAD);
    ck_fill_u8(ck, x, n + WN_OVERREAD, ck_extremes(ck));
    ck_freeze(ck, x);
    return x;
}

static int32_t zero_point(struct ck *ck)
{
    static const double usual[] = { 0, 128, 255 };
    return ck_rand(ck, 2) ? (int32_t)ck_rand(ck, 256) : (int32_t)ck_pick(ck, usual, WN_COUNT(usual));
}

/* 0, or something that hides a key; sometimes all of them. */
static float *mask(struct ck *ck, size_t n_k, size_t stride)
{
    static const float hide[] = { -10000.0f, -INFINITY, -3.4028235e38f, -1.5f, 2.0f };
    const size_t n = stride ? n_k * stride : n_k, share = ck_rand(ck, 4);
    const float value = hide[ck_rand(ck, WN_COUNT(hide))];
    float *m = ck_buf(ck, n * sizeof *m + WN_OVERREAD);
    for (size_t i = 0; i < n; i++)
        m[i] = ck_rand(ck, 3) < share ? value : 0.0f;
    return m;
}

static size_t output_bytes(const struct wn_attn_q8 *a)
{
    return (a->out == WN_OUT_QUAD ? (a->dv + 3) / 4 : a->dv) * a->y_stride;
}

static void make(struct ck *ck, struct wn_attn_q8 *a)
{
    a->q_stride = 4 * (a->n_q + ck_rand(ck, 20));
    a->k_stride = 4 * (a->n_k + ck_rand(ck, 20));
    a->v_stride = a->n_k + ck_rand(ck, 20);
    a->out = (enum wn_q8_out[]){ WN_OUT_F32, WN_OUT_QUAD, WN_OUT_PLANE }[ck_rand(ck, 3)];
    a->y_stride = (a->out == WN_OUT_PLANE ? 1 : 4) * (a->n_q + ck_rand(ck, 20));
    a->q = bytes(ck, a->d / 4 * a->q_stride);
    a->k = bytes(ck, a->d / 4 * a->k_stride);
    a->v = bytes(ck, a->dv * a->v_stride);
    a->q_zp = zero_point(ck);
    a->k_zp = zero_point(ck);
    a->v_zp = zero_point(ck);
    a->s_zp = zero_point(ck);
    a->p_zp = ck_rand(ck, 2) ? 0 : zero_point(ck);
    a->y_zp = zero_point(ck);
    /* scores of a few units, or of hundreds, where one key takes all */
    a->mul = (ck_rand(ck, 2) ? 3.0f : 300.0f) / (5000.0f * sqrtf((float)a->d)) * (ck_rand(ck, 8) ? 1.0f : -1.0f);
    if (ck_rand(ck, 3) == 0) {
        a->s_mul = 0.05f;
        a->mul *= 20;
    }
    a->p_scale = ck_rand(ck, 4) ? 1 / 255.0f : 0.002f * (float)(1 + ck_rand(ck, 10));
    a->y_mul = (a->out == WN_OUT_F32 ? 1e-4f : 5e-3f) * (float)(1 + ck_rand(ck, 9));
    if (ck_rand(ck, 16) == 0) { /* far beyond bytes, and 2^31 */
        a->p_scale *= 1e-12f;
        if (ck_rand(ck, 2))
            a->mul = 0; /* every weight the greatest there is */
        a->y_mul *= 1e8f;
    }
    if (ck_rand(ck, 3)) {
        a->replace = ck_rand(ck, 2);
        a->mask_stride = ck_rand(ck, 2) ? a->n_q + ck_rand(ck, 20) : 0;
        a->mask = mask(ck, a->n_k, a->mask_stride);
    }
}

static void check(struct ck *ck, const struct ck_kernel *kern)
{
    struct wn_attn_q8 a = { .n_q = 1 + ck_rand(ck, ck_rand(ck, 2) ? 20 : 150),
                            .n_k = 1 + ck_rand(ck, ck_rand(ck, 2) ? 20 : 300),
                            .d = 4 * (1 + ck_rand(ck, 20)),
                            .dv = 1 + ck_rand(ck, 70) };
    if (ck_rand(ck, 16) == 0) { /* more keys than a tile holds */
        a.n_k = 900 + ck_rand(ck, 3000);
        a.n_q = 1 + ck_rand(ck, 20);
        a.dv = 1 + ck_rand(ck, 140);
        a.d = 4 * (1 + ck_rand(ck, 3));
    }
    make(ck, &a);
    ck_shape(ck, "n_q=%zu n_k=%zu d=%zu dv=%zu mask=%d/%zu replace=%d requantized=%d out=%d", a.n_q, a.n_k, a.d, a.dv,
             a.mask != NULL, a.mask_stride, a.replace, a.s_mul != 0, (int)a.out);
    const size_t n = output_bytes(&a);
    uint8_t *want = ck_buf(ck, n), *got = ck_buf(ck, n);
    a.y = want;
    wn_attn_q8_1x1__scalar(&a);
    a.y = got;
    CK_CALL(ck, ((wn_attn_q8_fn *)kern->fn)(&a));
    ck_same(ck, want, got, n);
}

static void bench(struct ck *ck, const struct ck_kernel *kern)
{
    static const size_t tokens[] = { 16, 128, 384 };
    for (size_t i = 0; i < WN_COUNT(tokens); i++) {
        struct wn_attn_q8 a = { .n_q = tokens[i], .n_k = tokens[i], .d = 64, .dv = 64 };
        make(ck, &a);
        a.s_mul = 0;
        a.mask = ck_buf(ck, a.n_k * sizeof *a.mask);
        a.mask_stride = 0;
        memset((void *)(uintptr_t)a.mask, 0, a.n_k * sizeof *a.mask);
        a.out = WN_OUT_QUAD;
        a.y_stride = 4 * a.n_q;
        a.y = ck_buf(ck, output_bytes(&a));
        ck_shape(ck, "%zu tokens, head of 64", tokens[i]);
        CK_BENCH(ck, 2.0 * 64 * (double)(tokens[i] * tokens[i]), ((wn_attn_q8_fn *)kern->fn)(&a));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, KR, NR) CK_KERNEL(wn_attn_q8_##KR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/attn_q8/attn_q8.def"
#undef KERNEL
    CK_KERNEL(wn_attn_q8_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
