/* pool_q8.c: windows of every kind: strides, dilations, paddings wider than the image, both forms. */
#include <math.h>
#include <string.h>
#include "engine/kernels/pool_q8/pool_q8.h"
#include "tests/checkkern/checkkern.h"

static struct wn_plane image(struct ck *ck, int32_t h, int32_t w)
{
    struct wn_plane p = { .h = h, .w = w, .pitch = w + (int32_t)ck_rand(ck, 3) };
    p.cols = wn_round_up((size_t)(h - 1) * (size_t)p.pitch + (size_t)w, WN_COLS);
    return p;
}

static size_t plane_bytes(struct ck *ck, enum wn_q8_out form, size_t cols)
{
    return (form == WN_OUT_QUAD ? 4 : 1) * (cols + ck_rand(ck, 8));
}

static int32_t extent(int32_t in, int32_t pads, int32_t k, int32_t dil, int32_t stride, bool ceil_mode)
{
    int32_t room = in + pads - (k - 1) * dil - 1;
    return room < 0 ? 0 : (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
}

static void check_pool(struct ck *ck, const struct ck_kernel *kernel)
{
    struct wn_pool_q8 p = { .kind = (enum wn_pool_q8_kind)ck_rand(ck, 2),
                            .channels = 1 + ck_rand(ck, 9),
                            .form = ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE,
                            .count_include_pad = ck_rand(ck, 2) };
    int32_t *const small[] = { &p.kh, &p.kw, &p.stride_h, &p.stride_w, &p.dil_h, &p.dil_w };
    static const size_t range[] = { 4, 18, 3, 3, 2, 2 };
    for (size_t i = 0; i < WN_COUNT(small); i++)
        *small[i] = 1 + (int32_t)ck_rand(ck, range[i]);
    p.pad_t = (int32_t)ck_rand(ck, 3);
    p.pad_l = (int32_t)ck_rand(ck, 3);
    p.pad_b = (int32_t)ck_rand(ck, 3);
    p.pad_r = (int32_t)ck_rand(ck, 3);
    bool ceil_mode = ck_rand(ck, 2);
    p.in = image(ck, 1 + (int32_t)ck_rand(ck, 9), 1 + (int32_t)ck_rand(ck, 300));
    int32_t oh = extent(p.in.h, p.pad_t + p.pad_b, p.kh, p.dil_h, p.stride_h, ceil_mode);
    int32_t ow = extent(p.in.w, p.pad_l + p.pad_r, p.kw, p.dil_w, p.stride_w, ceil_mode);
    if (!oh || !ow)
        return;
    p.out = image(ck, oh, ow);
    p.mul = 0.3f + fabsf(ck_float(ck));
    p.x_zp = (int32_t)ck_rand(ck, 256);
    p.y_zp = (int32_t)ck_rand(ck, 256);
    p.q_lo = (int32_t)ck_rand(ck, 100);
    p.q_hi = 100 + (int32_t)ck_rand(ck, 156);
    p.x_stride = plane_bytes(ck, p.form, p.in.cols);
    p.y_stride = plane_bytes(ck, p.form, p.out.cols);
    size_t planes = p.form == WN_OUT_QUAD ? (p.channels + 3) / 4 : p.channels;
    uint8_t *x = ck_buf(ck, planes * p.x_stride), *want = ck_buf(ck, planes * p.y_stride);
    uint8_t *got = ck_buf(ck, planes * p.y_stride);
    ck_fill_u8(ck, x, planes * p.x_stride, ck_extremes(ck));
    ck_freeze(ck, x);
    ck_shape(ck, "kind=%d form=%d channels=%zu %dx%d -> %dx%d k=%dx%d stride=%dx%d dil=%dx%d pads=%d,%d,%d,%d",
             (int)p.kind, (int)p.form, p.channels, p.in.h, p.in.w, oh, ow, p.kh, p.kw, p.stride_h, p.stride_w, p.dil_h,
             p.dil_w, p.pad_t, p.pad_l, p.pad_b, p.pad_r);
    size_t c0 = 4 * ck_rand(ck, (p.channels + 3) / 4);
    p.x = x;
    p.y = want;
    wn_pool_q8_1__scalar(&p, c0, p.channels);
    p.y = got;
    CK_CALL(ck, ((wn_pool_q8_fn *)kernel->fn)(&p, c0, p.channels));
    ck_same(ck, want, got, planes * p.y_stride);
}

static void check_global(struct ck *ck, const struct ck_kernel *kernel)
{
    struct wn_pool_q8_global p = { .channels = 1 + ck_rand(ck, 9),
                                   .form = ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE,
                                   .y_cols = WN_COLS };
    p.in = image(ck, 1 + (int32_t)ck_rand(ck, 40), 1 + (int32_t)ck_rand(ck, 150));
    p.mul = (0.2f + fabsf(ck_float(ck))) / (float)(p.in.h * p.in.w);
    p.x_zp = (int32_t)ck_rand(ck, 256);
    p.y_zp = (int32_t)ck_rand(ck, 256);
    p.q_lo = (int32_t)ck_rand(ck, 100);
    p.q_hi = 100 + (int32_t)ck_rand(ck, 156);
    p.x_stride = plane_bytes(ck, p.form, p.in.cols);
    p.y_stride = plane_bytes(ck, p.form, p.y_cols);
    size_t planes = p.form == WN_OUT_QUAD ? (p.channels + 3) / 4 : p.channels;
    uint8_t *x = ck_buf(ck, planes * p.x_stride), *want = ck_buf(ck, planes * p.y_stride);
    uint8_t *got = ck_buf(ck, planes * p.y_stride);
    ck_fill_u8(ck, x, planes * p.x_stride, ck_extremes(ck));
    ck_freeze(ck, x);
    ck_shape(ck, "form=%d channels=%zu %dx%d", (int)p.form, p.channels, p.in.h, p.in.w);
    p.x = x;
    p.y = want;
    wn_pool_q8_global_1__scalar(&p, 0, p.channels);
    p.y = got;
    CK_CALL(ck, ((wn_pool_q8_global_fn *)kernel->fn)(&p, 0, p.channels));
    ck_same(ck, want, got, planes * p.y_stride);
}

/* ResNet-50's: 64 channels, 3 x 3 by 2, 112 -> 56. */
static void bench_pool(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t x_plane = 4 * 113 * 112, y_plane = 4 * 3200;
    uint8_t *x = ck_buf(ck, 16 * x_plane), *y = ck_buf(ck, 16 * y_plane);
    ck_fill_u8(ck, x, 16 * x_plane, false);
    struct wn_pool_q8 p = { .form = WN_OUT_QUAD,
                            .x = x,
                            .y = y,
                            .x_stride = x_plane,
                            .y_stride = y_plane,
                            .channels = 64,
                            .in = { .h = 112, .w = 112, .pitch = 113 },
                            .out = { .h = 56, .w = 56, .pitch = 57, .cols = 3200 },
                            .kh = 3,
                            .kw = 3,
                            .stride_h = 2,
                            .stride_w = 2,
                            .dil_h = 1,
                            .dil_w = 1,
                            .pad_t = 1,
                            .pad_l = 1,
                            .mul = 1,
                            .q_hi = 255 };
    for (unsigned kind = 0; kind < 2; kind++) {
        p.kind = (enum wn_pool_q8_kind)kind;
        ck_shape(ck, "%s 3x3 by 2, 64 channels @112", kind ? "average" : "max");
        CK_BENCH(ck, 64.0 * 56 * 56 * 9, ((wn_pool_q8_fn *)kernel->fn)(&p, 0, 64));
    }
}

static void bench_global(struct ck *ck, const struct ck_kernel *kernel)
{
    uint8_t *x = ck_buf(ck, 512 * 4 * 64), *y = ck_buf(ck, 512 * 64);
    ck_fill_u8(ck, x, 512 * 4 * 64, false);
    struct wn_pool_q8_global p = { .form = WN_OUT_QUAD,
                                   .x = x,
                                   .y = y,
                                   .x_stride = 4 * 64,
                                   .y_stride = 64,
                                   .channels = 2048,
                                   .in = { .h = 7, .w = 7, .pitch = 8 },
                                   .y_cols = 16,
                                   .mul = 1.0f / 49,
                                   .q_hi = 255 };
    ck_shape(ck, "2048 channels 7x7");
    CK_BENCH(ck, 2048.0 * 49, ((wn_pool_q8_global_fn *)kernel->fn)(&p, 0, 2048));
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_pool_q8_##NR##__##isa, isa, check_pool, bench_pool)                                                   \
    CK_KERNEL(wn_pool_q8_global_##NR##__##isa, isa, check_global, bench_global)
#include "engine/kernels/pool_q8/pool_q8.def"
#undef KERNEL
};
CK_FAMILY(kernels)
