/* pool_f32.c: checks and times the kernels of engine/kernels/pool/f32.h. The answer is computed here from the padded
 * image, so that the scalar kernel is checked as well. */
#include "engine/kernels/pool/f32.h"
#include "tests/checkkern/checkkern.h"

#include <math.h>
#include <string.h>

/* A plane whose rows lie `gap` apart, to be used at column 0: origin 0, no margins. */
static struct wn_plane plane(int32_t h, int32_t w, int32_t gap)
{
    struct wn_plane p = { .h = h, .w = w, .pitch = w + gap };
    p.cols = wn_round_up((size_t)(h - 1) * (size_t)p.pitch + (size_t)w, WN_COLS);
    p.stride = wn_round_up(p.cols, 64);
    return p;
}

static float answer(const struct wn_pool_f32 *g, const struct wn_plane *in, const float *x, int32_t oy, int32_t ox)
{
    double sum = 0;
    float max = -INFINITY;
    int inside = 0, padded = 0;
    for (int32_t i = 0; i < g->kh; i++)
        for (int32_t j = 0; j < g->kw; j++) {
            const int32_t y = oy * g->stride_h - g->pad_t + i * g->dil_h,
                          xx = ox * g->stride_w - g->pad_l + j * g->dil_w;
            padded += y < in->h + g->pad_b && xx < in->w + g->pad_r;
            if (y < 0 || y >= in->h || xx < 0 || xx >= in->w)
                continue;
            const float v = x[y * in->pitch + xx];
            sum += (double)v;
            max = isnan(max) || isnan(v) ? NAN : fmaxf(max, v);
            inside++;
        }
    if (g->kind == WN_POOL_MAX)
        return max;
    const int count = g->count_include_pad ? padded : inside;
    return count ? (float)(sum / count) : 0.0f;
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    wn_pool_f32_fn *fn = (wn_pool_f32_fn *)k->fn;
    struct wn_pool_f32 g = { .kind = ck_rand(ck, 2) ? WN_POOL_MAX : WN_POOL_AVERAGE };
    const size_t channels = 1 + ck_rand(ck, 3);
    int32_t *const v[] = { &g.kh, &g.kw, &g.stride_h, &g.stride_w, &g.dil_h, &g.dil_w };
    static const int32_t most[] = { 4, 4, 3, 3, 2, 2 };
    for (size_t i = 0; i < WN_COUNT(v); i++)
        *v[i] = 1 + (int32_t)ck_rand(ck, (size_t)most[i]);
    g.pad_t = (int32_t)ck_rand(ck, (size_t)g.kh);
    g.pad_b = (int32_t)ck_rand(ck, (size_t)g.kh);
    g.pad_l = (int32_t)ck_rand(ck, (size_t)g.kw);
    g.pad_r = (int32_t)ck_rand(ck, (size_t)g.kw);
    g.count_include_pad = ck_rand(ck, 2);
    const int32_t need_h = (g.kh - 1) * g.dil_h + 1, need_w = (g.kw - 1) * g.dil_w + 1, ceil = (int32_t)ck_rand(ck, 2);
    const struct wn_plane in =
        plane(need_h + (int32_t)ck_rand(ck, 20), need_w + (int32_t)ck_rand(ck, 50), (int32_t)ck_rand(ck, 4));
    const struct wn_plane out =
        plane((in.h + g.pad_t + g.pad_b - need_h + ceil * (g.stride_h - 1)) / g.stride_h + 1,
              (in.w + g.pad_l + g.pad_r - need_w + ceil * (g.stride_w - 1)) / g.stride_w + 1, (int32_t)ck_rand(ck, 4));
    ck_shape(ck, "%s %dx%d/%dx%d dil %dx%d pads %d,%d,%d,%d of %dx%dx%zu to %dx%d", g.kind ? "average" : "max", g.kh,
             g.kw, g.stride_h, g.stride_w, g.dil_h, g.dil_w, g.pad_t, g.pad_l, g.pad_b, g.pad_r, in.h, in.w, channels,
             out.h, out.w);
    const size_t x_n = in.stride * (channels - 1) + (size_t)(in.h - 1) * (size_t)in.pitch + (size_t)in.w;
    const size_t y_n = out.stride * (channels - 1) + out.cols;
    float *x = ck_buf(ck, x_n * sizeof *x), *want = ck_buf(ck, y_n * sizeof *x), *got = ck_buf(ck, y_n * sizeof *x);
    ck_fill_f32(ck, x, x_n);
    if (ck_rand(ck, 8) == 0)
        x[ck_rand(ck, x_n)] = NAN;
    ck_freeze(ck, x);
    for (size_t c = 0; c < channels; c++) {
        memset(want + c * out.stride, 0, out.cols * sizeof *want);
        for (int32_t oy = 0; oy < out.h; oy++)
            for (int32_t ox = 0; ox < out.w; ox++)
                want[c * out.stride + (size_t)(oy * out.pitch + ox)] = answer(&g, &in, x + c * in.stride, oy, ox);
    }
    CK_CALL(ck, fn(&g, &in, x, &out, got, channels));
    for (size_t c = 0; c < channels; c++)
        ck_near(ck, want + c * out.stride, got + c * out.stride, NULL, out.cols);
}

static void check_mean(struct ck *ck, const struct ck_kernel *k)
{
    wn_pool_f32_mean_fn *fn = (wn_pool_f32_mean_fn *)k->fn;
    const size_t channels = 1 + ck_rand(ck, 5), y_stride = 1 + ck_rand(ck, 3);
    const struct wn_plane in =
        plane(1 + (int32_t)ck_rand(ck, 12), 1 + (int32_t)ck_rand(ck, 40), (int32_t)ck_rand(ck, 4));
    ck_shape(ck, "%dx%dx%zu", in.h, in.w, channels);
    const size_t x_n = in.stride * (channels - 1) + (size_t)(in.h - 1) * (size_t)in.pitch + (size_t)in.w;
    const size_t y_n = (channels - 1) * y_stride + 1;
    float *x = ck_buf(ck, x_n * sizeof *x), *got = ck_buf(ck, y_n * sizeof *got);
    ck_fill_f32(ck, x, x_n);
    ck_freeze(ck, x);
    CK_CALL(ck, fn(&in, x, got, y_stride, channels));
    for (size_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int32_t i = 0; i < in.h; i++)
            for (int32_t j = 0; j < in.w; j++)
                sum += (double)x[c * in.stride + (size_t)(i * in.pitch + j)];
        const float want = (float)(sum / (in.h * in.w));
        ck_near(ck, &want, got + c * y_stride, NULL, 1);
    }
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    wn_pool_f32_fn *fn = (wn_pool_f32_fn *)k->fn;
    const struct wn_pool_f32 g = {
        .kh = 3, .kw = 3, .stride_h = 2, .stride_w = 2, .dil_h = 1, .dil_w = 1, .pad_t = 1, .pad_l = 1
    };
    const struct wn_plane in = plane(112, 112, 1), out = plane(56, 56, 1);
    float *x = ck_buf(ck, in.stride * 64 * sizeof *x), *y = ck_buf(ck, out.stride * 64 * sizeof *y);
    ck_fill_f32(ck, x, in.stride * 64);
    ck_shape(ck, "max 3x3/2 112x112x64 (taps)");
    CK_BENCH(ck, 9.0 * 56 * 56 * 64, fn(&g, &in, x, &out, y, 64));
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_pool_f32_##NR##__##isa, isa, check, bench)                                                            \
    CK_KERNEL(wn_pool_f32_mean_##NR##__##isa, isa, check_mean, NULL)
#include "engine/kernels/pool/f32.def"
#undef KERNEL
    CK_KERNEL(wn_pool_f32_run, scalar, check, NULL) /* as dispatched */
    CK_KERNEL(wn_pool_f32_mean_run, scalar, check_mean, NULL)
};
CK_FAMILY(kernels)
