/* norm_q8.c: normalization of bytes, both forms and rows, odd lengths, in place; tokens without any deviation. */
#include "engine/kernels/norm_q8/norm_q8.h"
#include <string.h>
#include "tests/checkkern/checkkern.h"

static float *floats(struct ck *ck, size_t k, float scale, float shift)
{
    const size_t n = (k + WN_NORM_Q8_PAD - 1) / WN_NORM_Q8_PAD * WN_NORM_Q8_PAD;
    float *x = ck_buf(ck, n * sizeof *x);
    ck_fill_f32(ck, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * scale + shift;
    ck_freeze(ck, x);
    return x;
}

static struct wn_norm_q8 make(struct ck *ck, bool rows, size_t *ret_bytes)
{
    struct wn_norm_q8 a = { .k = 1 + ck_rand(ck, ck_rand(ck, 8) ? 200 : 3000), .n = 1 + ck_rand(ck, rows ? 5 : 150) };
    a.form = !rows && ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE;
    const bool quad = a.form == WN_OUT_QUAD;
    a.x_stride = a.y_stride = quad ? 4 * (a.n + ck_rand(ck, 9)) : a.n + ck_rand(ck, 40);
    const size_t bytes = rows ? a.n * a.k : (quad ? (a.k + 3) / 4 : a.k) * a.x_stride;
    uint8_t *x = ck_buf(ck, bytes);
    ck_fill_u8(ck, x, bytes, ck_extremes(ck));
    if (ck_rand(ck, 4) == 0)
        memset(x, (int)ck_rand(ck, 256), bytes);
    if (ck_rand(ck, 4) == 0)
        for (size_t i = 0; i < bytes; i++)
            x[i] = (uint8_t)(120 + x[i] % 3);
    ck_freeze(ck, x);
    a.x = x;
    a.gamma = floats(ck, a.k, 10.0f, 30.0f);
    a.beta = floats(ck, a.k, 20.0f, 0);
    a.eps = ck_rand(ck, 3) ? 1e-3 * (double)(a.k * a.k) : ck_rand(ck, 2) ? 0 : 1e9;
    a.y_zp = (int32_t)ck_rand(ck, 256);
    ck_shape(ck, "k=%zu n=%zu form=%d%s", a.k, a.n, (int)a.form, rows ? " rows" : "");
    *ret_bytes = bytes;
    return a;
}

/* Lanes of the last quad past k are nobody's. */
static void forget(const struct wn_norm_q8 *a, uint8_t *y)
{
    for (size_t t = 0; a->form == WN_OUT_QUAD && a->k % 4 && t < a->n; t++)
        memset(y + a->k / 4 * a->y_stride + 4 * t + a->k % 4, 0, 4 - a->k % 4);
}

static void compare(struct ck *ck, bool rows, wn_norm_q8_fn *ref, wn_norm_q8_fn *fn)
{
    size_t bytes;
    struct wn_norm_q8 a = make(ck, rows, &bytes);
    const bool in_place = ck_rand(ck, 2);
    uint8_t *want = ck_buf(ck, bytes), *got = ck_buf(ck, bytes);
    if (in_place) {
        memcpy(want, a.x, bytes);
        memcpy(got, a.x, bytes);
    }
    a.y = want;
    ref(&a);
    a.y = got;
    a.x = in_place ? got : a.x;
    CK_CALL(ck, fn(&a));
    forget(&a, want);
    forget(&a, got);
    ck_same(ck, want, got, bytes);
}

static void check_cols(struct ck *ck, const struct ck_kernel *k)
{
    compare(ck, false, wn_norm_q8_cols_1__scalar, (wn_norm_q8_fn *)k->fn);
}

static void check_rows(struct ck *ck, const struct ck_kernel *k)
{
    compare(ck, true, wn_norm_q8_rows_1__scalar, (wn_norm_q8_fn *)k->fn);
}

static void time_it(struct ck *ck, const struct ck_kernel *k, enum wn_q8_out form, bool rows)
{
    const bool quad = form == WN_OUT_QUAD;
    struct wn_norm_q8 a = { .k = 768, .n = rows ? 8 : 128, .form = form, .eps = 100, .y_zp = 128 };
    a.x_stride = a.y_stride = quad ? 576 : 192;
    const size_t bytes = 768 * 192;
    uint8_t *x = ck_buf(ck, bytes);
    ck_fill_u8(ck, x, bytes, false);
    a.x = x;
    a.y = ck_buf(ck, bytes);
    a.gamma = floats(ck, a.k, 10, 30);
    a.beta = floats(ck, a.k, 10, 0);
    ck_shape(ck, "768 features, %zu tokens, %s", a.n, rows ? "rows" : quad ? "quads" : "planes");
    CK_BENCH(ck, 768.0 * (double)a.n, ((wn_norm_q8_fn *)k->fn)(&a));
}

static void bench_cols(struct ck *ck, const struct ck_kernel *k)
{
    time_it(ck, k, WN_OUT_QUAD, false);
    time_it(ck, k, WN_OUT_PLANE, false);
}

static void bench_rows(struct ck *ck, const struct ck_kernel *k)
{
    time_it(ck, k, WN_OUT_PLANE, true);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_norm_q8_cols_##NR##__##isa, isa, check_cols, bench_cols)                                              \
    CK_KERNEL(wn_norm_q8_rows_##NR##__##isa, isa, check_rows, bench_rows)
#include "engine/kernels/norm_q8/norm_q8.def"
#undef KERNEL
};
CK_FAMILY(kernels)
