/* q8_dw.c: depthwise int8: every channel tail, tap count, 9-bit weights, all output forms. */
#include <string.h>
#include "engine/kernels/q8_dw/q8_dw.h"
#include "tests/checkkern/ck_q8.h"

static void fill_s9(struct ck *ck, int16_t *w, size_t n, int most, bool extremes)
{
    for (size_t i = 0; i < n; i++) {
        int v = extremes ? most - (int)ck_rand(ck, 2) : (int)ck_rand(ck, (size_t)most + 1);
        w[i] = (int16_t)(ck_rand(ck, 2) ? v : -v);
    }
}

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    static const double ranges[] = { 127, 128, 254, 255 };
    wn_q8_dw_fn *fn = (wn_q8_dw_fn *)kernel->fn;
    size_t channels = 1 + ck_rand(ck, 19), n = WN_COLS * (1 + ck_rand(ck, 9)), taps = 1 + ck_rand(ck, 26);
    size_t groups = (channels + 3) / 4, c0 = 4 * ck_rand(ck, groups), span = 4 * (1 + ck_rand(ck, groups));
    size_t c1 = WN_MIN(channels, c0 + span), x_stride = 4 * (n + 64 + ck_rand(ck, 20));
    int most = (int)ck_pick(ck, ranges, WN_COUNT(ranges));
    bool extremes = ck_extremes(ck);
    struct ckq_out out = ckq_out(ck, channels, n);
    ck_shape(ck, "channels=%zu (%zu..%zu) n=%zu taps=%zu weights<=%d extremes=%d out=%d", channels, c0, c1, n, taps,
             most, extremes, (int)out.form);

    int16_t *w = ck_buf(ck, channels * taps * sizeof *w);
    fill_s9(ck, w, channels * taps, most, extremes);
    ck_freeze(ck, w);
    int32_t *koff = ck_buf(ck, taps * sizeof *koff);
    for (size_t t = 0; t < taps; t++)
        koff[t] = 4 * ((int32_t)ck_rand(ck, 60) - 30);
    uint8_t *x = ck_buf(ck, 128 + groups * x_stride);
    ck_fill_u8(ck, x, 128 + groups * x_stride, extremes);
    ck_freeze(ck, x);
    struct wn_q8_args a = ckq_args(ck, channels, n, out);
    a.x = x + 128;
    a.w_zp = a.colsum = NULL;
    struct wn_q8_dw plain, mat;
    if (wn_q8_dw_pack(WN_Q8_DW_PLAIN, w, channels, taps, ck_arena(ck), &plain, NULL) != WINNOW_OK ||
        wn_q8_dw_pack(wn_q8_dw_stream_of(kernel->isa), w, channels, taps, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_dw_link(&plain, koff, off_plain);
    wn_q8_dw_link(&mat, koff, off);
    CKQ_COMPARE(ck, a, out, wn_q8_dw_1x1__scalar(&plain, off_plain, x_stride, &a, c0, c1),
                fn(&mat, off, x_stride, &a, c0, c1));
}

static void bench_one(struct ck *ck, const struct ck_kernel *kernel, size_t channels, size_t edge, size_t k)
{
    wn_q8_dw_fn *fn = (wn_q8_dw_fn *)kernel->fn;
    size_t pitch = edge + k / 2, n = wn_round_up(edge * pitch, WN_COLS), taps = k * k;
    size_t margin = wn_round_up(k / 2 * (pitch + 1), 16), plane = wn_round_up(n + 2 * margin, 16) + 16;
    int16_t *w = ck_buf(ck, channels * taps * sizeof *w);
    fill_s9(ck, w, channels * taps, 127, false);
    int32_t *koff = ck_buf(ck, taps * sizeof *koff), *bias = ck_buf(ck, channels * sizeof *bias);
    float *mul = ck_buf(ck, channels * sizeof *mul);
    for (size_t t = 0; t < taps; t++)
        koff[t] = 4 * (((int32_t)(t / k) - (int32_t)(k / 2)) * (int32_t)pitch + (int32_t)(t % k) - (int32_t)(k / 2));
    for (size_t i = 0; i < channels; i++) {
        bias[i] = 0;
        mul[i] = 1e-3f;
    }
    size_t bytes = channels / 4 * plane * 4;
    uint8_t *x = ck_buf(ck, bytes), *y = ck_buf(ck, bytes);
    ck_fill_u8(ck, x, bytes, false);
    struct wn_q8_dw mat;
    if (wn_q8_dw_pack(wn_q8_dw_stream_of(kernel->isa), w, channels, taps, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_dw_link(&mat, koff, off);
    struct wn_q8_args a = { .x = x + 4 * margin,
                            .n = n,
                            .y = y,
                            .y_stride = 4 * plane,
                            .out = WN_OUT_QUAD,
                            .bias = bias,
                            .mul = mul,
                            .y_zp = 128,
                            .q_hi = 255 };
    ck_shape(ck, "%zu channels %zux%zu @%zu", channels, k, k, edge);
    CK_BENCH(ck, (double)(channels * taps * n), fn(&mat, off, 4 * plane, &a, 0, channels));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    bench_one(ck, kernel, 96, 56, 3);
    bench_one(ck, kernel, 192, 28, 3);
    bench_one(ck, kernel, 576, 14, 3);
    bench_one(ck, kernel, 240, 14, 5);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_dw_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_dw/q8_dw.def"
#undef KERNEL
};
CK_FAMILY(kernels)
