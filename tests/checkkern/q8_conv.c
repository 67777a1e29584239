/* q8_conv.c: checks and times the kernels of engine/kernels/q8_conv. The sums are computed here from the dense weights
 * and a padding of zero points, so that the scalar kernel and the packing are checked as well. */
#include "engine/kernels/q8_conv/q8_conv.h"
#include <string.h>
#include "tests/checkkern/ck_conv.h"
#include "tests/checkkern/ck_q8.h"
#include "winnow/winnow.h"

struct problem {
    struct wn_conv_shape s;
    size_t rows, channels;
    int8_t *w; /* (rows, channels, kh, kw) */
    int32_t x_zp, *outside;
    struct wn_q8_conv mat;
    struct wn_conv_window win;
    struct ckq_out out;
    struct wn_q8_args args;
};

static bool pack(struct ck *ck, struct problem *p)
{
    const size_t taps = (size_t)(p->s.kh * p->s.kw);
    if (wn_q8_conv_pack(ck_arena(ck), p->w, p->rows, p->channels, taps, &p->mat, NULL) != WINNOW_OK ||
        !wn_conv_window_make(ck_arena(ck), &p->s, &p->win)) {
        ck_fail(ck, "packing failed");
        return false;
    }
    if (p->x_zp || ck_rand(ck, 2)) {
        p->outside = wn_arena_calloc(ck_arena(ck), taps * p->mat.lanes, sizeof *p->outside);
        wn_q8_conv_outside(&p->mat, p->x_zp, p->outside);
    }
    return true;
}

/* Floats channel beside channel, in runs of some. */
static void beside(struct ck *ck, struct problem *p)
{
    const size_t run = 1 + ck_rand(ck, p->rows), gap = ck_rand(ck, 3), side = (size_t)(p->s.oh * p->s.ow);
    int32_t *at = wn_arena_calloc(ck_arena(ck), p->rows, sizeof *at);
    p->s.y_px = run + gap;
    p->s.y_pitch = (size_t)p->s.ow * p->s.y_px;
    for (size_t o = 0; o < p->rows; o++)
        at[o] = (int32_t)(o / run * side * p->s.y_px + o % run);
    p->s.y_at = at;
    p->out = (struct ckq_out){ WN_OUT_F32, 0, (p->rows + run - 1) / run * side * p->s.y_px * sizeof(float) };
    p->args.out = WN_OUT_F32;
    p->args.r = NULL;
    p->args.mask = NULL;
}

/* Sums are as large as their weights allow; gaps of x hold anything. */
static bool draw(struct ck *ck, struct problem *p)
{
    p->rows = 1 + ck_rand(ck, 80);
    ck_conv_draw(ck, &p->s, 12);
    ck_conv_lay(ck, &p->s, ck_rand(ck, 4), p->rows);
    p->channels = 4 * p->s.channels - ck_rand(ck, 4);
    const bool extremes = ck_extremes(ck);
    const size_t w_n = p->rows * p->channels * (size_t)(p->s.kh * p->s.kw), x_n = 4 * p->s.channels * p->s.x_stride;
    p->w = ck_buf(ck, w_n);
    ck_fill_s8(ck, p->w, w_n, 1, extremes);
    uint8_t *x = ck_buf(ck, x_n);
    ck_fill_u8(ck, x, x_n, extremes);
    ck_freeze(ck, x);
    p->x_zp = ck_rand(ck, 2) ? (int32_t)ck_rand(ck, 256) : 0;
    p->out = ckq_out(ck, p->rows, p->s.y_cols);
    p->args = ckq_args(ck, p->rows, p->s.y_cols, p->out);
    p->args.x = x;
    p->args.w_zp = NULL;
    p->args.colsum = NULL;
    if (ck_rand(ck, 4) == 0)
        beside(ck, p);
    return pack(ck, p);
}

static uint32_t sum(const struct problem *p, size_t o, int32_t oy, int32_t ox)
{
    const struct wn_conv_shape *s = &p->s;
    const int8_t *w = p->w + o * p->channels * (size_t)(s->kh * s->kw);
    uint32_t acc = (uint32_t)p->args.bias[o];
    for (size_t i = 0; i < p->channels; i++)
        for (int32_t k = 0; k < s->kh * s->kw; k++) {
            const int32_t y = oy * s->stride_h - s->pad_t + k / s->kw * s->dil_h;
            const int32_t x = ox * s->stride_w - s->pad_l + k % s->kw * s->dil_w;
            const bool in = y >= 0 && y < s->h && x >= 0 && x < s->w;
            const size_t at = in ? i / 4 * s->x_stride + (size_t)y * s->x_pitch + (size_t)x : 0;
            acc += (uint32_t)(*w++ * (in ? p->args.x[4 * at + i % 4] : p->x_zp));
        }
    return acc;
}

static void answer(const struct problem *p, const struct wn_q8_args *args)
{
    const struct wn_conv_shape *s = &p->s;
    for (int32_t oy = 0; oy < s->oh; oy++) {
        struct wn_q8_args a = wn_q8_args_cols(args, (size_t)oy * s->y_pitch, (size_t)s->ow);
        a.mask = NULL;
        for (size_t o = 0; o < p->rows; o++)
            for (int32_t ox = 0; ox < s->ow; ox++) {
                if (s->y_at) { /* the one element, as of a plane of its own */
                    a.y = (float *)args->y + (size_t)oy * s->y_pitch + (size_t)ox * s->y_px + s->y_at[o];
                    a.y_stride = 0;
                }
                wn_q8_put(&a, o, s->y_at ? 0 : (size_t)ox, sum(p, o, oy, ox));
            }
        wn_q8_put_pad_rows(&a, p->rows);
        if (args->mask)
            wn_q8_conv_gap(s, args, oy, 0, p->rows);
    }
}

/* In blocks, as threads do. */
static void run(struct ck *ck, wn_q8_conv_fn *fn, const struct problem *p, const struct wn_q8_args *args)
{
    const int32_t row = (int32_t)ck_rand(ck, (size_t)p->s.oh + 1);
    const size_t cut = ck_rand(ck, p->rows / WN_CONV_ROWS + 1) * WN_CONV_ROWS;
    fn(&p->mat, &p->win, p->outside, args, 0, row, 0, p->rows);
    fn(&p->mat, &p->win, p->outside, args, row, p->s.oh, 0, cut);
    fn(&p->mat, &p->win, p->outside, args, row, p->s.oh, cut, p->rows);
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    struct problem p = { .rows = 0 };
    if (draw(ck, &p))
        CKQ_COMPARE(ck, p.args, p.out, answer(&p, &p.args), run(ck, (wn_q8_conv_fn *)k->fn, &p, &p.args));
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    wn_q8_conv_fn *fn = (wn_q8_conv_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(ck_conv_layers); i++) {
        const struct ck_conv_layer *l = &ck_conv_layers[i];
        const size_t quads = (l->channels + 3) / 4, taps = (size_t)(l->k * l->k);
        if (k->isa == WN_ISA_scalar && i)
            return;
        struct problem p = { .rows = l->rows, .channels = l->channels, .s = ck_conv_shape_of(l, quads) };
        ck_conv_lay(ck, &p.s, 1, p.rows);
        uint8_t *x = wn_arena_calloc(ck_arena(ck), quads * p.s.x_stride, 4);
        uint8_t *y = wn_arena_calloc(ck_arena(ck), (p.rows + 3) / 4 * p.s.y_cols, 4);
        int32_t *bias = wn_arena_calloc(ck_arena(ck), p.rows, sizeof *bias);
        float *mul = wn_arena_calloc(ck_arena(ck), p.rows, sizeof *mul);
        p.w = wn_arena_calloc(ck_arena(ck), p.rows * p.channels, taps);
        if (!x || !y || !bias || !mul || !p.w || !pack(ck, &p))
            return;
        p.args = (struct wn_q8_args){
            .x = x, .y = y, .y_stride = 4 * p.s.y_cols, .out = WN_OUT_QUAD, .bias = bias, .mul = mul, .q_hi = 255
        };
        const double macs = (double)p.rows * (double)(p.channels * taps) * p.s.oh * p.s.ow;
        CK_BENCH(ck, macs, fn(&p.mat, &p.win, p.outside, &p.args, 0, p.s.oh, 0, p.rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NP, NR) CK_KERNEL(wn_q8_conv_##NP##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_conv/q8_conv.def"
#undef KERNEL
    CK_KERNEL(wn_q8_conv_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
