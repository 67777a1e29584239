/* f32_gemv.c: checks and times the kernels of engine/kernels/f32_gemv. */
#include "engine/kernels/f32_gemv/f32_gemv.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

static void *filled(struct ck *ck, size_t n)
{
    float *p = ck_buf(ck, n * sizeof *p);
    ck_fill_f32(ck, p, n);
    return p;
}

/* Returns the weights (rows, k). */
static const float *make(struct ck *ck, struct wn_f32_gemm *mat, struct wn_f32_gemv_args *a, size_t rows, size_t k)
{
    ck_shape(ck, "rows=%zu k=%zu m=%zu", rows, k, a->m);
    const float *w = filled(ck, rows * k);
    if (wn_f32_gemm_pack(ck_arena(ck), w, rows, k, mat, NULL) != WINNOW_OK)
        ck_fail(ck, "packing failed");
    a->x = filled(ck, a->m * a->x_stride);
    a->bias = filled(ck, rows);
    a->y = ck_buf(ck, a->m * a->y_stride * sizeof *a->y);
    a->lo = -INFINITY;
    a->hi = INFINITY;
    return w;
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_gemv_fn *fn = (wn_f32_gemv_fn *)k->fn;
    const size_t rows = 1 + ck_rand(ck, 40), cut = ck_rand(ck, rows + 1) / WN_F32_GEMV_MR * WN_F32_GEMV_MR;
    const size_t depth = ck_rand(ck, ck_rand(ck, 8) ? 200 : 3000);
    struct wn_f32_gemm mat = { 0 };
    struct wn_f32_gemv_args a = { .m = 1 + ck_rand(ck, 16) };
    a.x_stride = depth + ck_rand(ck, 3);
    a.y_stride = rows + ck_rand(ck, 3);
    const float *w = make(ck, &mat, &a, rows, depth);
    const size_t y_n = a.m * a.y_stride;
    float *want = ck_buf(ck, y_n * sizeof *want), *size = ck_buf(ck, y_n * sizeof *size);
    if (ck_rand(ck, 2))
        a.bias = NULL;
    if (ck_rand(ck, 2))
        a.lo = 0;
    if (ck_rand(ck, 2))
        a.hi = 1;
    if (ck_rand(ck, 2)) {
        a.r = filled(ck, y_n);
        if (ck_rand(ck, 2)) {
            memcpy(a.y, a.r, y_n * sizeof *a.y);
            a.r = a.y;
        }
    }
    memcpy(want, a.y, y_n * sizeof *want);
    for (size_t m = 0; m < a.m; m++)
        for (size_t o = 0; o < rows; o++) {
            const size_t at = m * a.y_stride + o;
            double acc = (a.bias ? (double)a.bias[o] : 0) + (a.r ? (double)a.r[at] : 0), sum = fabs(acc);
            for (size_t i = 0; i < depth; i++) {
                double term = (double)w[o * depth + i] * (double)a.x[m * a.x_stride + i];
                acc += term;
                sum += fabs(term);
            }
            want[at] = (float)fmin(fmax(acc, (double)a.lo), (double)a.hi);
            size[at] = (float)sum;
        }
    CK_CALL(ck, fn(&mat, &a, 0, cut));
    CK_CALL(ck, fn(&mat, &a, cut, rows));
    for (size_t m = 0; m < a.m; m++) {
        const size_t at = m * a.y_stride;
        ck_near(ck, want + at, a.y + at, size + at, rows);
        ck_same(ck, want + at + rows, a.y + at + rows, (a.y_stride - rows) * sizeof *want);
    }
}

#define KERNEL(isa, MR, NK) [WN_ISA_##isa] = wn_f32_gemv_##MR##x##NK##__##isa,
#define COLS(isa, MR, NR)
static wn_f32_gemv_fn *const of_one[WN_ISA_COUNT] = {
#include "engine/kernels/f32_gemv/f32_gemv.def"
};

/* Columns hold the very bits that the same instruction set's kernel gives each of them as a row alone. */
static void check_cols(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_gemv_cols_fn *fn = (wn_f32_gemv_cols_fn *)k->fn;
    const size_t rows = 1 + ck_rand(ck, 40), cut = ck_rand(ck, rows + 1) / WN_F32_GEMV_MR * WN_F32_GEMV_MR;
    const size_t depth = ck_rand(ck, ck_rand(ck, 8) ? 200 : 3000), n = WN_COLS * (1 + ck_rand(ck, 3));
    struct wn_f32_gemm mat = { 0 };
    struct wn_f32_gemv_args a = { .m = 1, .x_stride = depth, .y_stride = rows };
    make(ck, &mat, &a, rows, depth);
    struct wn_f32_args c = { .x = filled(ck, (depth + 1) * n), .n = n, .y_stride = n + ck_rand(ck, 3) };
    c.y = filled(ck, rows * c.y_stride);
    float *want = ck_buf(ck, rows * sizeof *want), *x = ck_buf(ck, (depth + 1) * sizeof *x);
    float *r = filled(ck, rows * c.y_stride);
    int32_t *koff = ck_buf(ck, (depth + 1) * sizeof *koff);
    if (ck_rand(ck, 2))
        a.bias = NULL;
    if (ck_rand(ck, 2))
        a.lo = -0.5f;
    if (ck_rand(ck, 2))
        a.hi = 0.5f;
    c.bias = a.bias;
    c.r = ck_rand(ck, 2) ? r : NULL;
    c.lo = a.lo;
    c.hi = a.hi;
    for (size_t i = 0; i < depth; i++)
        koff[i] = (int32_t)(i * n * sizeof(float));
    CK_CALL(ck, fn(&mat, koff, &c, 0, cut));
    CK_CALL(ck, fn(&mat, koff, &c, cut, rows));
    for (size_t col = 0; col < n; col++) {
        for (size_t i = 0; i < depth; i++)
            x[i] = c.x[i * n + col];
        for (size_t o = 0; o < rows; o++)
            want[o] = r[o * c.y_stride + col];
        a.x = x;
        a.y = want;
        a.r = c.r ? want : NULL;
        of_one[k->isa](&mat, &a, 0, rows);
        for (size_t o = 0; o < rows; o++)
            ck_same(ck, want + o, c.y + o * c.y_stride + col, sizeof *want);
    }
}

static void bench_cols(struct ck *ck, const struct ck_kernel *k)
{
    static const size_t shapes[][2] = { { 1024, 1024 }, { 256, 64 } };
    wn_f32_gemv_cols_fn *fn = (wn_f32_gemv_cols_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        const size_t rows = shapes[i][0], depth = shapes[i][1], n = WN_COLS;
        struct wn_f32_gemm mat = { 0 };
        struct wn_f32_gemv_args a = { .m = n, .x_stride = depth, .y_stride = rows };
        make(ck, &mat, &a, rows, depth);
        const struct wn_f32_args c = {
            .x = a.x, .n = n, .y = a.y, .y_stride = n, .bias = a.bias, .lo = -INFINITY, .hi = INFINITY
        };
        int32_t *koff = ck_buf(ck, depth * sizeof *koff);
        for (size_t j = 0; j < depth; j++)
            koff[j] = (int32_t)(j * n * sizeof(float));
        CK_BENCH(ck, (double)rows * (double)depth * (double)n, fn(&mat, koff, &c, 0, rows));
    }
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    static const size_t shapes[][3] = { { 1000, 2048, 1 }, { 128, 128, 1 }, { 1000, 512, 4 }, { 768, 768, 8 } };
    wn_f32_gemv_fn *fn = (wn_f32_gemv_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        const size_t rows = shapes[i][0];
        const size_t depth = shapes[i][1];
        struct wn_f32_gemm mat = { 0 };
        struct wn_f32_gemv_args a = { .m = shapes[i][2], .x_stride = depth, .y_stride = rows };
        make(ck, &mat, &a, rows, depth);
        CK_BENCH(ck, (double)rows * (double)depth * (double)a.m, fn(&mat, &a, 0, rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NK) CK_KERNEL(wn_f32_gemv_##MR##x##NK##__##isa, isa, check, bench)
#define COLS(isa, MR, NR) CK_KERNEL(wn_f32_gemv_cols_##MR##x##NR##__##isa, isa, check_cols, bench_cols)
#include "engine/kernels/f32_gemv/f32_gemv.def"
    CK_KERNEL(wn_f32_gemv_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
