/* move_q8.c: every change of form and layout, all tails; quantization's ties, infinities and NaN. */
#include <math.h>
#include <string.h>
#include "engine/kernels/move/cols.h"
#include "engine/kernels/move_q8/move_q8.h"
#include "tests/checkkern/checkkern.h"

struct side {
    enum wn_q8_out form;
    size_t stride, bytes;
};

/* A buffer for channels x n in a form: planes at odd distances. */
static struct side side_of(struct ck *ck, enum wn_q8_out form, size_t channels, size_t n)
{
    size_t elem = form == WN_OUT_PLANE ? 1 : 4, planes = form == WN_OUT_QUAD ? (channels + 3) / 4 : channels;
    struct side s = { .form = form, .stride = elem * (n + ck_rand(ck, 20)) };
    s.bytes = (planes - 1) * s.stride + elem * n;
    return s;
}

static enum wn_q8_out u8_form(struct ck *ck)
{
    return ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE;
}

static void fill_side(struct ck *ck, const struct side *s, void *p, float scale)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e30f, -1e30f, 1e-40f };
    if (s->form != WN_OUT_F32) {
        ck_fill_u8(ck, p, s->bytes, ck_extremes(ck));
        return;
    }
    float *f = p;
    for (size_t i = 0; i < s->bytes / 4; i++) {
        f[i] = ck_float(ck) * 150 * scale;
        if (ck_rand(ck, 8) == 0)
            f[i] = (float)((double)((int)ck_rand(ck, 300) - 150) + 0.5) * scale; /* ties */
        else if (ck_rand(ck, 8) == 0)
            f[i] =
                nextafterf((float)((int)ck_rand(ck, 1200) - 600 + 0.5) * scale, ck_float(ck) * 1e38f); /* beside one */
        else if (ck_rand(ck, 16) == 0)
            f[i] = odd[ck_rand(ck, WN_COUNT(odd))];
    }
}

static void check_columns(struct ck *ck, const struct ck_kernel *kernel, wn_move_q8_fn *ref, enum wn_q8_out from,
                          enum wn_q8_out to)
{
    bool quads = from == WN_OUT_QUAD || to == WN_OUT_QUAD;
    size_t channels = 1 + ck_rand(ck, 10), n = quads ? 16 * (1 + ck_rand(ck, 70)) : 1 + ck_rand(ck, 1200);
    struct side in = side_of(ck, from, channels, n), out = side_of(ck, to, channels, n);
    struct wn_move_q8 args = { .x_stride = in.stride,
                               .y_stride = out.stride,
                               .channels = channels,
                               .n = n,
                               .form = from == WN_OUT_F32 ? to : from,
                               .scale = 0.02f + 0.1f * fabsf(ck_float(ck)) };
    if (ck_rand(ck, 3) == 0)
        args.scale = 0.125f;
    else if (from == WN_OUT_F32 && ck_rand(ck, 8) == 0)
        args.scale *= ck_rand(ck, 2) ? 1e-37f : 1e35f; /* one divided by it is no normal number, or hardly one */
    args.zp = (int32_t)ck_rand(ck, 256);
    args.q_lo = (int32_t)ck_rand(ck, 100);
    args.q_hi = 100 + (int32_t)ck_rand(ck, 156);
    args.mask = ck_rand(ck, 2) ? ck_mask(ck, n) : NULL;
    uint8_t *x = ck_buf(ck, in.bytes), *want = ck_buf(ck, out.bytes), *got = ck_buf(ck, out.bytes);
    fill_side(ck, &in, x, args.scale);
    ck_freeze(ck, x);
    args.x = x;
    size_t c0 = 4 * ck_rand(ck, (channels + 3) / 4);
    ck_shape(ck, "channels=%zu.. of %zu n=%zu form=%d mask=%d", c0, channels, n, (int)args.form, args.mask != NULL);
    args.y = want;
    ref(&args, c0, channels);
    args.y = got;
    CK_CALL(ck, ((wn_move_q8_fn *)kernel->fn)(&args, c0, channels));
    ck_same(ck, want, got, out.bytes);
}

static void check_quantize(struct ck *ck, const struct ck_kernel *kernel)
{
    check_columns(ck, kernel, wn_move_q8_quantize_1__scalar, WN_OUT_F32, u8_form(ck));
}

static void check_dequantize(struct ck *ck, const struct ck_kernel *kernel)
{
    check_columns(ck, kernel, wn_move_q8_dequantize_1__scalar, u8_form(ck), WN_OUT_F32);
}

static void check_to_planes(struct ck *ck, const struct ck_kernel *kernel)
{
    check_columns(ck, kernel, wn_move_q8_to_planes_1__scalar, WN_OUT_QUAD, WN_OUT_PLANE);
}

static void check_to_quads(struct ck *ck, const struct ck_kernel *kernel)
{
    check_columns(ck, kernel, wn_move_q8_to_quads_1__scalar, WN_OUT_PLANE, WN_OUT_QUAD);
}

static void check_image(struct ck *ck, const struct ck_kernel *kernel, wn_move_q8_image_fn *ref, bool import)
{
    size_t channels = 1 + ck_rand(ck, 10), h = 1 + ck_rand(ck, 9), w = 1 + ck_rand(ck, 40), pitch = w + ck_rand(ck, 3);
    size_t cols = wn_round_up((h - 1) * pitch + w, 16);
    struct side laid = side_of(ck, u8_form(ck), channels, cols);
    size_t tensor = channels * h * w, x_bytes = import ? tensor : laid.bytes, y_bytes = import ? laid.bytes : tensor;
    uint8_t *x = ck_buf(ck, x_bytes), *want = ck_buf(ck, y_bytes), *got = ck_buf(ck, y_bytes);
    ck_fill_u8(ck, x, x_bytes, false);
    ck_freeze(ck, x);
    struct wn_move_q8_image args = { .x = x,
                                     .y = want,
                                     .stride = laid.stride,
                                     .channels = channels,
                                     .h = (int32_t)h,
                                     .w = (int32_t)w,
                                     .pitch = (int32_t)pitch,
                                     .cols = cols,
                                     .form = laid.form,
                                     .zp = (int32_t)ck_rand(ck, 256) };
    size_t c0 = 4 * ck_rand(ck, (channels + 3) / 4);
    ck_shape(ck, "channels=%zu.. of %zu %zux%zu pitch=%zu form=%d", c0, channels, h, w, pitch, (int)laid.form);
    ref(&args, c0, channels);
    args.y = got;
    CK_CALL(ck, ((wn_move_q8_image_fn *)kernel->fn)(&args, c0, channels));
    ck_same(ck, want, got, y_bytes);
}

static void check_import(struct ck *ck, const struct ck_kernel *kernel)
{
    check_image(ck, kernel, wn_move_q8_import_1__scalar, true);
}

static void check_export(struct ck *ck, const struct ck_kernel *kernel)
{
    check_image(ck, kernel, wn_move_q8_export_1__scalar, false);
}

static void check_range(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t channels = 1 + ck_rand(ck, 6), n = 1 + ck_rand(ck, 100), c0 = ck_rand(ck, (uint32_t)channels);
    struct side in = side_of(ck, WN_OUT_F32, channels, n);
    float *x = ck_buf(ck, in.bytes), *want = ck_buf(ck, 8), *got = ck_buf(ck, 8);
    fill_side(ck, &in, x, 1);
    ck_freeze(ck, x);
    want[0] = got[0] = ck_rand(ck, 2) ? 0 : ck_float(ck) * 100;
    want[1] = got[1] = ck_rand(ck, 2) ? 0 : ck_float(ck) * 100;
    ck_shape(ck, "channels=%zu.. of %zu n=%zu", c0, channels, n);
    wn_move_q8_range_1__scalar(x, in.stride, n, c0, channels, want);
    CK_CALL(ck, ((wn_move_q8_range_fn *)kernel->fn)(x, in.stride, n, c0, channels, got));
    ck_same(ck, want, got, 8);
}

/* Rows of bytes to quads of columns and back, in two blocks of features. */
static void check_rows(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t n = 1 + ck_rand(ck, 40), k = 1 + ck_rand(ck, 150), quads = (k + 3) / 4, cols = wn_round_up(n, WN_COLS);
    size_t stride = 4 * cols + 64 * ck_rand(ck, 2), bytes = (quads - 1) * stride + 4 * cols;
    size_t cut = WN_MIN(4 * ck_rand(ck, (uint32_t)quads + 1), k);
    uint8_t *x = ck_buf(ck, n * k), *want = ck_buf(ck, bytes), *got = ck_buf(ck, bytes), *back = ck_buf(ck, n * k);
    ck_fill_u8(ck, x, n * k, true);
    ck_freeze(ck, x);
    ck_shape(ck, "%zu rows of %zu, cut at %zu", n, k, cut);
    for (size_t f = 0; f < 4 * quads; f++)
        for (size_t t = 0; t < cols; t++)
            want[f / 4 * stride + 4 * t + f % 4] = f < k && t < n ? x[t * k + f] : 0;
    CK_CALL(ck, wn_move_rows_to_quads_u8(x, n, k, got, stride, 0, cut));
    CK_CALL(ck, wn_move_rows_to_quads_u8(x, n, k, got, stride, cut, k));
    ck_same(ck, want, got, bytes);
    CK_CALL(ck, wn_move_quads_to_rows_u8(got, stride, back, n, k, 0, cut));
    CK_CALL(ck, wn_move_quads_to_rows_u8(got, stride, back, n, k, cut, k));
    ck_same(ck, x, back, n * k);
}

static void bench_range(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t channels = 384, n = 128;
    float *x = ck_buf(ck, channels * n * 4), range[2] = { 0, 0 };
    ck_fill_f32(ck, x, channels * n);
    ck_shape(ck, "%zu channels x %zu", channels, n);
    CK_BENCH(ck, (double)(channels * n), ((wn_move_q8_range_fn *)kernel->fn)(x, 4 * n, n, 0, channels, range));
}

/* ---- times: 64 channels of 56 x 56 ---- */
static void bench_columns(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t channels = 64, n = 3200;
    void *x = ck_buf(ck, channels * n * 4), *y = ck_buf(ck, channels * n * 4);
    ck_fill_f32(ck, x, channels * n);
    struct wn_move_q8 args = { .x = x,
                               .y = y,
                               .x_stride = 4 * n,
                               .y_stride = 4 * n,
                               .channels = channels,
                               .n = n,
                               .form = WN_OUT_QUAD,
                               .scale = 0.01f,
                               .zp = 128,
                               .q_hi = 255 };
    ck_shape(ck, "%zu channels x %zu", channels, n);
    CK_BENCH(ck, (double)(channels * n), ((wn_move_q8_fn *)kernel->fn)(&args, 0, channels));
}

static const struct ck_kernel kernels[] = { CK_KERNEL(wn_move_rows_to_quads_u8, scalar, check_rows, NULL)
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_move_q8_quantize_##NR##__##isa, isa, check_quantize, bench_columns)                                   \
    CK_KERNEL(wn_move_q8_dequantize_##NR##__##isa, isa, check_dequantize, bench_columns)                               \
    CK_KERNEL(wn_move_q8_range_##NR##__##isa, isa, check_range, bench_range)                                           \
    CK_KERNEL(wn_move_q8_to_planes_##NR##__##isa, isa, check_to_planes, bench_columns)                                 \
    CK_KERNEL(wn_move_q8_to_quads_##NR##__##isa, isa, check_to_quads, bench_columns)                                   \
    CK_KERNEL(wn_move_q8_import_##NR##__##isa, isa, check_import, NULL)                                                \
    CK_KERNEL(wn_move_q8_export_##NR##__##isa, isa, check_export, NULL)
#define QUANTIZE(isa, NR) CK_KERNEL(wn_move_q8_quantize_##NR##__##isa, isa, check_quantize, bench_columns)
#include "engine/kernels/move_q8/move_q8.def"
#undef KERNEL
#undef QUANTIZE
};
CK_FAMILY(kernels)
