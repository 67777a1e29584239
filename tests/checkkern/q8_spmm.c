/* q8_spmm.c: the int8 product of unstructured and R x 1 block sparse weights in all output forms: every row and column
 * tail, every epilogue part. */
#include <math.h>
#include <string.h>
#include "engine/kernels/q8_spmm/q8_spmm.h"
#include "tests/checkkern/ck_q8.h"

/* Geometry: k planes at odd places around column 0, as the taps of a convolution are. */
static int32_t *make_koff(struct ck *ck, size_t k, size_t plane)
{
    int32_t *koff = ck_buf(ck, k * sizeof *koff);
    for (size_t i = 0; i < k; i++)
        koff[i] = (int32_t)(i * plane + ck_rand(ck, 9)) - 4;
    ck_freeze(ck, koff);
    return koff;
}

/* Zeros in whole columns of the blocks: wherever the first row of a block has one. */
static void thin_blocks(struct ck *ck, int8_t *w, size_t rows, size_t k, unsigned block)
{
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; o % block && i < k; i++) {
            int8_t *at = &w[o * k + i];
            *at = !w[o / block * block * k + i] ? 0 : *at ? *at : (int8_t)(1 + ck_rand(ck, 127));
        }
}

static void check(struct ck *ck, const struct ck_kernel *kernel, unsigned block)
{
    static const double densities[] = { 0, 0.02, 0.05, 0.1, 0.3, 1 };
    wn_q8_spmm_fn *fn = (wn_q8_spmm_fn *)kernel->fn;
    size_t rows = 1 + ck_rand(ck, 19), n = WN_COLS * (1 + ck_rand(ck, 14)), k = 1 + ck_rand(ck, 300);
    double density = ck_pick(ck, densities, WN_COUNT(densities));
    bool extremes = ck_extremes(ck);
    size_t plane = wn_round_up(n + 8, 64), rows4 = wn_round_up(rows, 4);
    struct ckq_out out = ckq_out(ck, rows, n);
    size_t row0 = 4 * ck_rand(ck, rows4 / 4), span = 4 * (1 + ck_rand(ck, rows4 / 4));
    size_t row1 = WN_MIN(rows, row0 + span);
    bool aligned = ck_rand(ck, 2); /* with the kernel's blocks */
    ck_shape(ck, "rows=%zu (%zu..%zu) n=%zu k=%zu density=%g extremes=%d aligned=%d out=%d", rows, row0, row1, n, k,
             density, extremes, aligned, (int)out.form);

    int8_t *w = ck_buf(ck, rows * k);
    ck_fill_s8(ck, w, rows * k, density, extremes);
    if (aligned)
        thin_blocks(ck, w, rows, k, block);
    ck_freeze(ck, w);
    uint8_t *x = ck_buf(ck, 64 + (k - 1) * plane + n + 8);
    ck_fill_u8(ck, x, 64 + (k - 1) * plane + n + 8, extremes);
    ck_freeze(ck, x);
    const int32_t *koff = make_koff(ck, k, plane);
    struct wn_q8_args a = ckq_args(ck, rows, n, out);
    a.x = x + 64;

    struct wn_q8_spmm plain, mat;
    if (wn_q8_spmm_pack(WN_Q8_SPMM_PLAIN, 1, w, rows, k, ck_arena(ck), &plain, NULL) != WINNOW_OK ||
        wn_q8_spmm_pack(wn_q8_spmm_stream_of(kernel->isa), block, w, rows, k, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_spmm_link(&plain, koff, off_plain);
    wn_q8_spmm_link(&mat, koff, off);
    CKQ_COMPARE(ck, a, out, wn_q8_spmm_1x1__scalar(&plain, off_plain, &a, row0, row1), fn(&mat, off, &a, row0, row1));
}

/* Magnitude-pruned Laplace weights, the largest of a row at +-127, as a trained network's are; blocks of rows get the
 * zeros of their first row. */
static void fill_laplace(struct ck *ck, int8_t *w, size_t rows, size_t k, double density, unsigned block)
{
    float *v = ck_buf(ck, k * sizeof *v);
    for (size_t o = 0; o < rows; o++) {
        float top = 0, cut = -logf((float)density);
        for (size_t i = 0; i < k; i++) {
            v[i] = -logf(1.0f - fabsf(ck_float(ck)) * 0.999999f);
            top = fmaxf(top, v[i]);
        }
        for (size_t i = 0; i < k; i++) {
            int q = v[i] >= cut ? (int)lrintf(v[i] / top * 127) : 0;
            w[o * k + i] = (int8_t)(ck_rand(ck, 2) ? q : -q);
        }
    }
    thin_blocks(ck, w, rows, k, block);
}

static void bench_one(struct ck *ck, const struct ck_kernel *kernel, size_t rows, size_t cin, size_t taps, size_t edge,
                      double density, enum wn_q8_out out, unsigned block)
{
    wn_q8_spmm_fn *fn = (wn_q8_spmm_fn *)kernel->fn;
    size_t k = cin * taps, pitch = edge ? edge + 1 : 0, n = edge ? wn_round_up(edge * pitch, WN_COLS) : 128;
    size_t margin = edge ? 128 : 0, plane = wn_round_up(n + 2 * margin, 64);
    plane += plane / 64 % 2 ? 0 : 64; /* an odd number of lines: channels do not fall into the same sets */
    int8_t *w = ck_buf(ck, rows * k);
    fill_laplace(ck, w, rows, k, density, block);
    uint8_t *x = ck_buf(ck, cin * plane), *y = ck_buf(ck, rows * plane * 4);
    ck_fill_u8(ck, x, cin * plane, false);
    int32_t *koff = ck_buf(ck, k * sizeof *koff), *bias = ck_buf(ck, rows * sizeof *bias);
    float *mul = ck_buf(ck, rows * sizeof *mul);
    for (size_t i = 0; i < k; i++)
        koff[i] = (int32_t)(i / taps * plane) +
                  (taps == 9 ? ((int32_t)(i % 9 / 3) - 1) * (int32_t)pitch + (int32_t)(i % 3) - 1 : 0);
    for (size_t i = 0; i < rows; i++) {
        bias[i] = 0;
        mul[i] = 1e-3f;
    }
    struct wn_q8_spmm mat;
    if (wn_q8_spmm_pack(wn_q8_spmm_stream_of(kernel->isa), block, w, rows, k, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_spmm_link(&mat, koff, off);
    struct wn_q8_args a = { .x = x + margin,
                            .n = n,
                            .y = y,
                            .y_stride = out == WN_OUT_PLANE ? plane : 4 * plane,
                            .out = out,
                            .bias = bias,
                            .mul = mul,
                            .y_zp = 128,
                            .q_hi = 255,
                            .lo = -INFINITY,
                            .hi = INFINITY };
    static const char *const form[] = { "quads", "planes", "f32" };
    ck_shape(ck, "%zux%zu%s n=%zu %g%% sparse, %s", rows, k, taps > 1 ? " 3x3" : "", n, 100 * (1 - density), form[out]);
    CK_BENCH(ck, (double)mat.nnz * (double)n, fn(&mat, off, &a, 0, rows));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel, unsigned block)
{
    static const struct {
        size_t rows, cin, taps, edge;
    } shapes[] = { { 768, 768, 1, 0 },  { 3072, 768, 1, 0 },  { 768, 3072, 1, 0 }, { 256, 64, 1, 56 },
                   { 128, 512, 1, 28 }, { 256, 1024, 1, 14 }, { 64, 64, 9, 56 },   { 128, 128, 9, 28 },
                   { 256, 256, 9, 14 }, { 512, 512, 9, 7 } };
    static const double densities[] = { 1, 0.1, 0.05 };
    for (size_t i = 0; i < WN_COUNT(shapes); i++)
        for (size_t j = 0; j < WN_COUNT(densities); j++)
            if (kernel->isa != WN_ISA_scalar || i == 0)
                bench_one(ck, kernel, shapes[i].rows, shapes[i].cin, shapes[i].taps, shapes[i].edge, densities[j],
                          WN_OUT_PLANE, block);
    bench_one(ck, kernel, 768, 768, 1, 0, 0.05, WN_OUT_QUAD, block);
    bench_one(ck, kernel, 768, 768, 1, 0, 0.05, WN_OUT_F32, block);
}

#define BLOCK(R)                                                                                                       \
    static void check_##R(struct ck *ck, const struct ck_kernel *kernel)                                               \
    {                                                                                                                  \
        check(ck, kernel, R);                                                                                          \
    }                                                                                                                  \
    static void bench_##R(struct ck *ck, const struct ck_kernel *kernel)                                               \
    {                                                                                                                  \
        bench(ck, kernel, R);                                                                                          \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)

static void check_colsum(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t k = 1 + ck_rand(ck, 700), n = WN_COLS * (1 + ck_rand(ck, 4)), plane = n + 8;
    ck_shape(ck, "k=%zu n=%zu", k, n);
    uint8_t *x = ck_buf(ck, 64 + k * plane);
    ck_fill_u8(ck, x, 64 + k * plane, ck_extremes(ck));
    const int32_t *koff = make_koff(ck, k, plane);
    int32_t *want = ck_buf(ck, n * sizeof *want), *got = ck_buf(ck, n * sizeof *got);
    wn_q8_spmm_colsum__scalar(x + 64, koff, k, n, want);
    CK_CALL(ck, ((wn_q8_spmm_colsum_fn *)kernel->fn)(x + 64, koff, k, n, got));
    ck_same_i32(ck, want, got, n);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_spmm_##MR##x##NR##__##isa, isa, check_##MR, bench_##MR)
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL
#define COLSUM(isa) CK_KERNEL(wn_q8_spmm_colsum__##isa, isa, check_colsum, NULL)
#include "engine/kernels/q8_spmm/colsum.def"
#undef COLSUM
};
CK_FAMILY(kernels)
