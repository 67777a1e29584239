/* norm_f32.c: checks and times the kernels of engine/kernels/norm_f32. */
#include "engine/kernels/norm_f32/norm_f32.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

static float *floats(struct ck *ck, size_t n, float scale, float shift)
{
    float *x = ck_buf(ck, n * sizeof *x);
    ck_fill_f32(ck, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * scale + shift;
    return x;
}

static size_t stride(struct ck *ck, size_t n)
{
    return n + 16 * ck_rand(ck, 3);
}

/* A problem; in columns when `cols`. The answer goes to a buffer of its own, or over x or r. */
static struct wn_norm_f32 make(struct ck *ck, bool cols, size_t k, size_t n, float **ret_want)
{
    struct wn_norm_f32 a = { .k = k, .n = n, .eps = ck_rand(ck, 2) ? 1e-12f : 1e-5f };
    const float scale = ck_rand(ck, 2) ? 1.0f : 20.0f, shift = ck_rand(ck, 2) ? 0.0f : 3.0f;
    a.x_stride = stride(ck, n);
    a.r_stride = stride(ck, n);
    a.y_stride = stride(ck, n);
    const unsigned where = (unsigned)ck_rand(ck, 3);
    float *x = floats(ck, cols ? k * a.x_stride : k * n, scale, shift), *r = NULL, *y;
    if (ck_rand(ck, 2))
        a.r = r = floats(ck, cols ? k * a.r_stride : k * n, scale, shift);
    if (where == 1) {
        y = x;
        a.y_stride = a.x_stride;
    } else if (where == 2 && r) {
        y = r;
        a.y_stride = a.r_stride;
    } else {
        y = ck_buf(ck, (cols ? k * a.y_stride : k * n) * sizeof *y);
    }
    a.x = x;
    a.y = y;
    a.gamma = floats(ck, k, 1.0f, 1.0f);
    a.beta = ck_rand(ck, 2) ? floats(ck, k, 0.5f, 0.0f) : NULL;
    ck_shape(ck, "k=%zu n=%zu%s%s at %u", k, n, a.r ? " residual" : "", a.beta ? " beta" : "", where);
    struct wn_norm_f32 ref = a;
    const size_t bytes = (cols ? k * a.y_stride : k * n) * sizeof *y;
    float *want = ck_buf(ck, bytes), *x2 = floats(ck, cols ? k * a.x_stride : k * n, 0, 0), *r2 = NULL;
    memcpy(want, y, bytes);
    memcpy(x2, x, (cols ? k * a.x_stride : k * n) * sizeof *x);
    ref.x = x2;
    if (r) {
        r2 = floats(ck, cols ? k * a.r_stride : k * n, 0, 0);
        memcpy(r2, r, (cols ? k * a.r_stride : k * n) * sizeof *r);
        ref.r = r2;
    }
    ref.y = want;
    if (cols)
        wn_norm_f32_cols_1__scalar(&ref);
    else
        wn_norm_f32_rows_1__scalar(&ref);
    *ret_want = want;
    return a;
}

/* One feature leaves no deviation: everything is divided by the root of eps. */
static void compare(struct ck *ck, const struct wn_norm_f32 *a, const float *want, size_t n)
{
    float *size = ck_buf(ck, n * sizeof *size);
    for (size_t i = 0; i < n; i++)
        size[i] = 20.0f + fabsf(want[i]);
    ck_near(ck, want, a->y, size, n);
}

static void check_cols(struct ck *ck, const struct ck_kernel *k)
{
    float *want;
    const size_t n = 16 * (1 + ck_rand(ck, 5));
    struct wn_norm_f32 a = make(ck, true, 2 + ck_rand(ck, 140), n, &want);
    CK_CALL(ck, ((wn_norm_f32_cols_fn *)k->fn)(&a));
    for (size_t f = 0; f < a.k; f++)
        compare(ck, &(struct wn_norm_f32){ .y = a.y + f * a.y_stride }, want + f * a.y_stride, n);
}

static void check_rows(struct ck *ck, const struct ck_kernel *k)
{
    float *want;
    struct wn_norm_f32 a = make(ck, false, 2 + ck_rand(ck, 140), 1 + ck_rand(ck, 5), &want);
    CK_CALL(ck, ((wn_norm_f32_rows_fn *)k->fn)(&a));
    compare(ck, &a, want, a.k * a.n);
}

static void check_softmax(struct ck *ck, const struct ck_kernel *k)
{
    struct wn_softmax_f32 a = { .k = 1 + ck_rand(ck, 90), .n = 1 + ck_rand(ck, 4) }, ref;
    const size_t n = a.k * a.n;
    float *x = floats(ck, n, ck_rand(ck, 2) ? 1.0f : 60.0f, 0), *mask = NULL;
    if (ck_rand(ck, 2)) {
        a.mask = mask = floats(ck, a.k, 1.0f, 0);
        for (size_t i = 0; i < a.k; i++)
            mask[i] = ck_rand(ck, 3) || !i ? 0.0f : ck_rand(ck, 2) ? -INFINITY : -3.4028235e38f;
    }
    ck_shape(ck, "k=%zu n=%zu%s", a.k, a.n, mask ? " mask" : "");
    a.x = x;
    a.y = ck_rand(ck, 2) ? ck_buf(ck, n * sizeof *x) : x;
    ref = a;
    ref.y = ck_buf(ck, n * sizeof *x);
    wn_softmax_f32_1__scalar(&ref);
    CK_CALL(ck, ((wn_softmax_f32_fn *)k->fn)(&a));
    ck_near(ck, ref.y, a.y, NULL, n);
}

static void bench_cols(struct ck *ck, const struct ck_kernel *k)
{
    struct wn_norm_f32 a = { .k = 768, .n = 128, .x_stride = 144, .y_stride = 144, .eps = 1e-5f };
    a.x = floats(ck, a.k * a.x_stride, 1, 0);
    a.y = ck_buf(ck, a.k * a.y_stride * sizeof(float));
    a.gamma = a.beta = floats(ck, a.k, 1, 1);
    ck_shape(ck, "768 features, 128 tokens (elements)");
    CK_BENCH(ck, 768.0 * 128, ((wn_norm_f32_cols_fn *)k->fn)(&a));
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_norm_f32_cols_##NR##__##isa, isa, check_cols, bench_cols)                                             \
    CK_KERNEL(wn_norm_f32_rows_##NR##__##isa, isa, check_rows, NULL)                                                   \
    CK_KERNEL(wn_softmax_f32_##NR##__##isa, isa, check_softmax, NULL)
#include "engine/kernels/norm_f32/norm_f32.def"
#undef KERNEL
    CK_KERNEL(wn_norm_f32_cols_run, scalar, check_cols, NULL) /* as dispatched */
    CK_KERNEL(wn_norm_f32_rows_run, scalar, check_rows, NULL) CK_KERNEL(wn_softmax_f32_run, scalar, check_softmax, NULL)
};
CK_FAMILY(kernels)
