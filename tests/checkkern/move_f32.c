/* move_f32.c: checks engine/kernels/move/planes.h element by element. */
#include "engine/kernels/move/planes.h"
#include "tests/checkkern/checkkern.h"

#include <string.h>

static struct wn_plane plane(struct ck *ck, int32_t h, int32_t w)
{
    struct wn_plane p = { .h = h, .w = w, .pitch = w + (int32_t)ck_rand(ck, 4) };
    p.cols = wn_round_up((size_t)(h - 1) * (size_t)p.pitch + (size_t)w, WN_COLS);
    p.stride = wn_round_up(p.cols, 64);
    return p;
}

static void *filled(struct ck *ck, size_t n)
{
    float *p = ck_buf(ck, n * sizeof *p);
    ck_fill_f32(ck, p, n);
    ck_freeze(ck, p);
    return p;
}

static void check_nchw(struct ck *ck, const struct ck_kernel *k)
{
    const size_t channels = 1 + ck_rand(ck, 3);
    const struct wn_plane p = plane(ck, 1 + (int32_t)ck_rand(ck, 20), 1 + (int32_t)ck_rand(ck, 40));
    const size_t hw = (size_t)p.h * (size_t)p.w, plane_n = p.stride * (channels - 1) + p.cols;
    ck_shape(ck, "%zux%dx%d pitch %d", channels, p.h, p.w, p.pitch);
    float *x = filled(ck, channels * hw), *want = ck_buf(ck, plane_n * 4), *got = ck_buf(ck, plane_n * 4);
    for (size_t c = 0; c < channels; c++) {
        memset(want + c * p.stride, 0, p.cols * 4);
        for (size_t i = 0; i < hw; i++)
            want[c * p.stride + i / (size_t)p.w * (size_t)p.pitch + i % (size_t)p.w] = x[c * hw + i];
    }
    CK_CALL(ck, wn_move_nchw_to_plane_f32(x, channels, &p, got));
    ck_same(ck, want, got, plane_n * 4);
    float *back = ck_buf(ck, channels * hw * 4);
    ck_freeze(ck, got);
    CK_CALL(ck, wn_move_plane_to_nchw_f32(got, channels, &p, back));
    ck_same(ck, x, back, channels * hw * 4);
}

typedef void phases_fn(struct ck *ck, const uint8_t *src, const struct wn_plane *sp, size_t channels, uint8_t *dst,
                       const struct wn_plane *dp, size_t phase, const int8_t *slot, int32_t sh, int32_t sw);

static void check_phases(struct ck *ck, size_t elem, phases_fn *fn)
{
    const int32_t sh = 1 + (int32_t)ck_rand(ck, 3), sw = 1 + (int32_t)ck_rand(ck, 3);
    const size_t channels = 1 + ck_rand(ck, 3), phases = (size_t)(sh * sw);
    const struct wn_plane sp = plane(ck, 1 + (int32_t)ck_rand(ck, 20), 1 + (int32_t)ck_rand(ck, 150));
    struct wn_plane dp = plane(ck, (sp.h + sh - 1) / sh + (int32_t)ck_rand(ck, 2), (sp.w + sw - 1) / sw);
    const size_t phase = dp.stride; /* one phase plane; channels are `phases` of them apart */
    dp.stride *= phases;
    ck_shape(ck, "%zu bytes %zux%dx%d stride %dx%d", elem, channels, sp.h, sp.w, sh, sw);
    const size_t src_n = sp.stride * (channels - 1) + sp.cols, dst_n = dp.stride * channels - phase + dp.cols;
    uint8_t *src = ck_buf(ck, src_n * elem), *want = ck_buf(ck, dst_n * elem), *got = ck_buf(ck, dst_n * elem);
    ck_fill_u8(ck, src, src_n * elem, false);
    ck_freeze(ck, src);
    int8_t slot[9], n_slots = 0;
    bool all = ck_rand(ck, 2);
    for (size_t p = 0; p < phases; p++)
        slot[p] = all || ck_rand(ck, 2) ? n_slots++ : -1;
    for (size_t c = 0; c < channels; c++)
        for (size_t p = 0; p < phases; p++) {
            if (slot[p] < 0)
                continue;
            uint8_t *to = want + (c * dp.stride + (size_t)slot[p] * phase) * elem;
            memset(to, 0x33, dp.cols * elem);
            for (int32_t y = (int32_t)p / sw, i = 0; y < sp.h; y += sh, i++)
                for (int32_t x = (int32_t)p % sw, j = 0; x < sp.w; x += sw, j++)
                    memcpy(to + (size_t)(i * dp.pitch + j) * elem,
                           src + (c * sp.stride + (size_t)(y * sp.pitch + x)) * elem, elem);
        }
    fn(ck, src, &sp, channels, got, &dp, phase, all && ck_rand(ck, 2) ? NULL : slot, sh, sw);
    ck_same(ck, want, got, dst_n * elem);
}

static void phases_4(struct ck *ck, const uint8_t *src, const struct wn_plane *sp, size_t channels, uint8_t *dst,
                     const struct wn_plane *dp, size_t phase, const int8_t *slot, int32_t sh, int32_t sw)
{
    CK_CALL(ck, wn_move_phases_4(src, sp, channels, dst, dp, phase, slot, sh, sw, 0x33333333u));
}

static void phases_1(struct ck *ck, const uint8_t *src, const struct wn_plane *sp, size_t channels, uint8_t *dst,
                     const struct wn_plane *dp, size_t phase, const int8_t *slot, int32_t sh, int32_t sw)
{
    CK_CALL(ck, wn_move_phases_1(src, sp, channels, dst, dp, phase, slot, sh, sw, 0x33u));
}

static void check_phases_4(struct ck *ck, const struct ck_kernel *k)
{
    check_phases(ck, 4, phases_4);
}

static void check_phases_1(struct ck *ck, const struct ck_kernel *k)
{
    check_phases(ck, 1, phases_1);
}

static void check_transpose(struct ck *ck, const struct ck_kernel *k)
{
    const size_t n = 1 + ck_rand(ck, 60), depth = 1 + ck_rand(ck, 60), cols = wn_round_up(n, WN_COLS);
    const size_t x_stride = depth + ck_rand(ck, 5), y_stride = cols + WN_COLS * ck_rand(ck, 2);
    const size_t y_n = (depth - 1) * y_stride + cols, back_n = (n - 1) * x_stride + depth;
    ck_shape(ck, "n=%zu k=%zu", n, depth);
    float *x = filled(ck, n * x_stride), *want = ck_buf(ck, y_n * 4), *got = ck_buf(ck, y_n * 4);
    float *want_back = ck_buf(ck, back_n * 4), *back = ck_buf(ck, back_n * 4);
    for (size_t j = 0; j < depth; j++)
        for (size_t i = 0; i < cols; i++)
            want[j * y_stride + i] = i < n ? x[i * x_stride + j] : 0.0f;
    for (size_t i = 0; i < n; i++)
        memcpy(want_back + i * x_stride, x + i * x_stride, depth * 4);
    CK_CALL(ck, wn_move_rows_to_columns_f32(x, x_stride, n, depth, got, y_stride, cols));
    ck_same(ck, want, got, y_n * 4);
    CK_CALL(ck, wn_move_columns_to_rows_f32(got, y_stride, n, depth, back, x_stride));
    ck_same(ck, want_back, back, back_n * 4);
}

static void bench_phases(struct ck *ck, const struct ck_kernel *k)
{
    struct wn_plane sp = { .h = 56, .w = 56, .pitch = 57, .cols = 3200, .stride = 3264 };
    struct wn_plane dp = { .h = 28, .w = 28, .pitch = 29, .cols = 816, .stride = 832 * 4 };
    float *x = ck_buf(ck, sp.stride * 128 * 4), *y = ck_buf(ck, dp.stride * 128 * 4);
    ck_shape(ck, "56x56x128 stride 2 (elements)");
    CK_BENCH(ck, 56.0 * 56 * 128, wn_move_phases_4(x, &sp, 128, y, &dp, 832, NULL, 2, 2, 0));
}

static void bench_transpose(struct ck *ck, const struct ck_kernel *k)
{
    float *x = ck_buf(ck, 128 * 768 * 4), *y = ck_buf(ck, 768 * 144 * 4);
    ck_shape(ck, "128x768 (elements)");
    CK_BENCH(ck, 128.0 * 768, wn_move_rows_to_columns_f32(x, 768, 128, 768, y, 144, 128));
}

/* clang-format off */
static const struct ck_kernel kernels[] = {
    CK_KERNEL(wn_move_nchw_to_plane_f32, scalar, check_nchw, NULL)
    CK_KERNEL(wn_move_phases_4, scalar, check_phases_4, bench_phases)
    CK_KERNEL(wn_move_phases_1, scalar, check_phases_1, NULL)
    CK_KERNEL(wn_move_rows_to_columns_f32, scalar, check_transpose, bench_transpose)
};
/* clang-format on */
CK_FAMILY(kernels)
