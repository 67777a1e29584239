/* f32_conv.c: checks and times the kernels of engine/kernels/f32_conv. The answer is computed here in double precision
 * from the dense weights, so that the scalar kernel and the packing are checked as well. */
#include "engine/kernels/f32_conv/f32_conv.h"
#include "tests/checkkern/ck_conv.h"
#include "winnow/winnow.h"

#include <math.h>
#include <string.h>

struct problem {
    struct wn_conv_shape s;
    size_t rows;
    float *w; /* (rows, channels, kh, kw) */
    struct wn_f32_conv mat;
    struct wn_conv_window win;
    struct wn_f32_args args;
    float *want, *got, *size;
    size_t y_n;
};

/* Gaps hold NaN in x. */
static bool make(struct ck *ck, struct problem *p, size_t gap)
{
    struct wn_conv_shape *s = &p->s;
    ck_conv_lay(ck, s, gap, p->rows);
    const size_t taps = (size_t)(s->kh * s->kw), w_n = p->rows * s->channels * taps;
    p->w = ck_buf(ck, w_n * sizeof *p->w);
    ck_fill_f32(ck, p->w, w_n);
    const size_t x_n = (s->channels - 1) * s->x_stride + (size_t)(s->h - 1) * s->x_pitch + (size_t)s->w;
    float *x = ck_buf(ck, x_n * sizeof *x);
    ck_fill_f32(ck, x, x_n);
    for (size_t i = 0; i < x_n; i++)
        if (i % s->x_stride >= (size_t)s->h * s->x_pitch || i % s->x_stride % s->x_pitch >= (size_t)s->w)
            x[i] = NAN;
    ck_freeze(ck, x);
    p->args = (struct wn_f32_args){ .x = x, .lo = 0, .hi = INFINITY };
    p->args.y_stride = p->s.y_cols + WN_COLS;
    p->y_n = p->rows * p->args.y_stride;
    p->want = ck_buf(ck, p->y_n * sizeof *p->want);
    p->got = ck_buf(ck, p->y_n * sizeof *p->got);
    p->size = wn_arena_calloc(ck_arena(ck), p->y_n, sizeof *p->size);
    p->args.y = p->got;
    float *bias = ck_buf(ck, p->rows * sizeof *bias);
    ck_fill_f32(ck, bias, p->rows);
    ck_freeze(ck, bias);
    p->args.bias = bias;
    if (!p->size || wn_f32_conv_pack(ck_arena(ck), p->w, p->rows, s->channels, taps, &p->mat, NULL) != WINNOW_OK ||
        !wn_conv_window_make(ck_arena(ck), s, &p->win)) {
        ck_fail(ck, "pack");
        return false;
    }
    return true;
}

static void answer(struct problem *p, size_t o, int32_t oy, int32_t ox)
{
    const struct wn_conv_shape *s = &p->s;
    const struct wn_f32_args *a = &p->args;
    const size_t at = o * a->y_stride + (size_t)oy * s->y_pitch + (size_t)ox;
    double acc = (a->bias ? (double)a->bias[o] : 0) + (a->r ? (double)a->r[at] : 0), size = fabs(acc);
    for (size_t i = 0; i < s->channels; i++)
        for (int32_t ky = 0; ky < s->kh; ky++)
            for (int32_t kx = 0; kx < s->kw; kx++) {
                const int32_t y = oy * s->stride_h - s->pad_t + ky * s->dil_h,
                              x = ox * s->stride_w - s->pad_l + kx * s->dil_w;
                if (y < 0 || y >= s->h || x < 0 || x >= s->w)
                    continue;
                const double term =
                    (double)p->w[((o * s->channels + i) * (size_t)s->kh + (size_t)ky) * (size_t)s->kw + (size_t)kx] *
                    (double)a->x[i * s->x_stride + (size_t)y * s->x_pitch + (size_t)x];
                acc += term;
                size += fabs(term);
            }
    acc = acc < (double)a->lo ? (double)a->lo : acc;
    p->want[at] = (float)(acc > (double)a->hi ? (double)a->hi : acc);
    p->size[at] = isnan(size) || isinf(size) ? 1.0f : (float)size;
}

static void options(struct ck *ck, struct problem *p)
{
    struct wn_f32_args *a = &p->args;
    const unsigned what = (unsigned)ck_rand(ck, 64);
    a->lo = what & 1 ? 0 : -INFINITY;
    a->hi = what & 2 ? 0.75f : INFINITY;
    a->bias = what & 4 ? a->bias : NULL;
    a->mask = what & 8 ? ck_mask(ck, p->s.y_cols) : NULL;
    if (!(what & 16))
        return;
    float *r = ck_buf(ck, p->y_n * sizeof *r);
    ck_fill_f32(ck, r, p->y_n);
    a->r = r;
    if (what & 32) { /* in place: the caller's y is the residual */
        memcpy(p->got, r, p->y_n * sizeof *r);
        memcpy(p->want, r, p->y_n * sizeof *r);
        a->r = p->got;
    }
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_conv_fn *fn = (wn_f32_conv_fn *)k->fn;
    struct problem p = { .rows = 0 };
    p.rows = 1 + ck_rand(ck, 80);
    ck_conv_draw(ck, &p.s, 12);
    if (!make(ck, &p, ck_rand(ck, 4)))
        return;
    options(ck, &p);
    for (size_t o = 0; o < p.rows; o++) {
        for (int32_t oy = 0; oy < p.s.oh; oy++) {
            for (int32_t ox = 0; ox < p.s.ow; ox++)
                answer(&p, o, oy, ox);
            if (p.args.mask)
                wn_f32_gap(p.want + o * p.args.y_stride + (size_t)oy * p.s.y_pitch, oy, p.s.oh, p.s.ow, p.s.y_pitch,
                           p.s.y_cols);
        }
    }
    const int32_t row = (int32_t)ck_rand(ck, (size_t)p.s.oh + 1); /* blocks, as threads do */
    const size_t cut = ck_rand(ck, p.rows / WN_CONV_ROWS + 1) * WN_CONV_ROWS;
    CK_CALL(ck, fn(&p.mat, &p.win, &p.args, 0, row, 0, p.rows));
    CK_CALL(ck, fn(&p.mat, &p.win, &p.args, row, p.s.oh, 0, cut));
    CK_CALL(ck, fn(&p.mat, &p.win, &p.args, row, p.s.oh, cut, p.rows));
    ck_near(ck, p.want, p.got, p.size, p.y_n);
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_conv_fn *fn = (wn_f32_conv_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(ck_conv_layers); i++) {
        const struct ck_conv_layer *l = &ck_conv_layers[i];
        struct problem p = { .rows = l->rows, .s = ck_conv_shape_of(l, l->channels) };
        if (!make(ck, &p, 1))
            return;
        const double macs = (double)p.rows * (double)p.s.channels * p.s.kh * p.s.kw * p.s.oh * p.s.ow;
        CK_BENCH(ck, macs, fn(&p.mat, &p.win, &p.args, 0, p.s.oh, 0, p.rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NP, NR) CK_KERNEL(wn_f32_conv_##NP##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/f32_conv/f32_conv.def"
#undef KERNEL
    CK_KERNEL(wn_f32_conv_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
