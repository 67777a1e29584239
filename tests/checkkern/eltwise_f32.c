/* eltwise_f32.c: checks and times the kernels of engine/kernels/eltwise/f32.h against libm. */
#include "engine/kernels/eltwise/f32.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

static const char *const unary_names[WN_ELT_UNARY_COUNT] = { "clamp", "leaky", "hard_sigmoid", "hard_swish",
                                                             "exp",   "elu",   "sigmoid",      "silu",
                                                             "tanh",  "erf",   "gelu",         "gelu_tanh" };
static const char *const binary_names[WN_ELT_BINARY_COUNT] = { "add", "sub", "mul", "div" };

static float *values(struct ck *ck, size_t n, float scale)
{
    static const float special[] = { 0.0f, -0.0f, 1e-30f, 50.0f, -50.0f, 88.0f, -88.0f, 1000.0f, -1000.0f, NAN };
    float *x = ck_buf(ck, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = ck_rand(ck, 12) ? scale * ck_float(ck) : special[ck_rand(ck, WN_COUNT(special))];
    return x;
}

static void make(struct ck *ck, struct wn_elt_f32 *a, bool binary)
{
    float *x, *b = NULL;
    a->n = ck_rand(ck, 200);
    a->x = x = values(ck, a->n, ck_rand(ck, 2) ? 8.0f : 0.5f);
    if (binary)
        a->b = b = values(ck, a->n, 3.0f);
    a->y = ck_rand(ck, 3) ? ck_buf(ck, a->n * sizeof *a->y) : x;
    if (a->y != x)
        ck_freeze(ck, x);
    if (b)
        ck_freeze(ck, b);
    a->mask = ck_rand(ck, 2) ? ck_mask(ck, a->n) : NULL;
    a->alpha = 0.25f * (1.0f + ck_float(ck));
    a->beta = 0.5f;
    a->lo = ck_rand(ck, 2) ? -INFINITY : 0.0f;
    a->hi = ck_rand(ck, 2) ? INFINITY : 6.0f;
}

/* e^88 is not 1e-6 from anything: tolerance grows with the answer and the input. */
static void compare(struct ck *ck, const struct wn_elt_f32 *want, const float *x, const float *got)
{
    float *size = ck_buf(ck, want->n * sizeof *size);
    for (size_t i = 0; i < want->n; i++) {
        size[i] = fmaxf(fabsf(want->y[i]), isnan(x[i]) ? 0.0f : fabsf(x[i]));
        if (isinf(size[i]))
            size[i] = 0;
    }
    ck_near(ck, want->y, got, size, want->n);
}

static void check_unary(struct ck *ck, const struct ck_kernel *k)
{
    wn_elt_f32_unary_fn *fn = (wn_elt_f32_unary_fn *)k->fn;
    const enum wn_elt_f32_unary op = (enum wn_elt_f32_unary)ck_rand(ck, WN_ELT_UNARY_COUNT);
    struct wn_elt_f32 a = { 0 };
    make(ck, &a, false);
    ck_shape(ck, "%s n=%zu", unary_names[op], a.n);
    struct wn_elt_f32 ref = a;
    float *x = ck_buf(ck, a.n * sizeof *x);
    memcpy(x, a.x, a.n * sizeof *x);
    ref.x = x;
    ref.y = ck_buf(ck, a.n * sizeof *x);
    wn_elt_f32_unary_1__scalar(op, &ref);
    CK_CALL(ck, fn(op, &a));
    compare(ck, &ref, x, a.y);
}

static void check_binary(struct ck *ck, const struct ck_kernel *k)
{
    wn_elt_f32_binary_fn *fn = (wn_elt_f32_binary_fn *)k->fn;
    const enum wn_elt_f32_binary op = (enum wn_elt_f32_binary)ck_rand(ck, WN_ELT_BINARY_COUNT);
    struct wn_elt_f32 a = { 0 };
    make(ck, &a, true);
    ck_shape(ck, "%s n=%zu", binary_names[op], a.n);
    struct wn_elt_f32 ref = a;
    float *x = ck_buf(ck, a.n * sizeof *x);
    memcpy(x, a.x, a.n * sizeof *x);
    ref.x = x;
    ref.y = ck_buf(ck, a.n * sizeof *x);
    wn_elt_f32_binary_1__scalar(op, &ref);
    CK_CALL(ck, fn(op, &a));
    compare(ck, &ref, x, a.y);
}

static void bench_unary(struct ck *ck, const struct ck_kernel *k)
{
    static const enum wn_elt_f32_unary ops[] = { WN_ELT_CLAMP, WN_ELT_SIGMOID, WN_ELT_GELU, WN_ELT_TANH };
    wn_elt_f32_unary_fn *fn = (wn_elt_f32_unary_fn *)k->fn;
    struct wn_elt_f32 a = { .n = 65536, .alpha = 1, .lo = -INFINITY, .hi = INFINITY };
    float *x = ck_buf(ck, a.n * sizeof *x);
    ck_fill_f32(ck, x, a.n);
    a.x = x;
    a.y = ck_buf(ck, a.n * sizeof *x);
    for (size_t i = 0; i < WN_COUNT(ops); i++) {
        ck_shape(ck, "%s n=%zu (elements)", unary_names[ops[i]], a.n);
        CK_BENCH(ck, (double)a.n, fn(ops[i], &a));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_elt_f32_unary_##NR##__##isa, isa, check_unary, bench_unary)                                           \
    CK_KERNEL(wn_elt_f32_binary_##NR##__##isa, isa, check_binary, NULL)
#include "engine/kernels/eltwise/f32.def"
#undef KERNEL
    CK_KERNEL(wn_elt_f32_unary_run, scalar, check_unary, NULL) /* as dispatched */
    CK_KERNEL(wn_elt_f32_binary_run, scalar, check_binary, NULL)
};
CK_FAMILY(kernels)
