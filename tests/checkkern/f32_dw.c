/* f32_dw.c: checks and times the kernels of engine/kernels/f32_dw, as a convolution with a diagonal weight matrix. */
#include "engine/kernels/f32_dw/f32_dw.h"
#include "tests/checkkern/f32.h"

#include <math.h>
#include <string.h>

/* The problem p with its dense weights replaced by dw's, so that the dense answer is dw's answer. */
static void check(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_dw_fn *fn = (wn_f32_dw_fn *)k->fn;
    struct ck_f32 p = { 0 };
    const size_t channels = 1 + ck_rand(ck, 6), mult = 1 + ck_rand(ck, 3);
    p.taps = (size_t[]){ 1, 3, 9, 25, 49 }[ck_rand(ck, 5)];
    p.rows = channels * mult;
    p.k = channels * p.taps;
    p.n = WN_COLS * (1 + ck_rand(ck, 20));
    ck_f32_make(ck, &p, CK_F32_DEPTHWISE, false);
    struct wn_f32_dw dw = { .taps = p.taps, .mult = mult };
    float *w = ck_buf(ck, p.rows * p.taps * sizeof *w);
    for (size_t o = 0; o < p.rows; o++)
        memcpy(w + o * p.taps, p.w + o * p.k + o / mult * p.taps, p.taps * sizeof *w);
    dw.w = w;
    ck_freeze(ck, w);
    const size_t cut = ck_rand(ck, p.rows + 1);
    CK_CALL(ck, fn(&dw, p.koff, p.x_stride, &p.args, 0, cut));
    CK_CALL(ck, fn(&dw, p.koff, p.x_stride, &p.args, cut, p.rows));
    ck_f32_check(ck, &p);
}

/* ---- stride 2 ---- */

struct strided {
    struct wn_f32_dw dw;
    struct wn_f32_dw2 s;
    int32_t *koff;
    size_t rows, x_stride /* bytes */;
    struct wn_f32_args args;
    float *want, *got, *size;
};

/* A plane of kh x kw taps around oh x ow outputs at stride sh x 2, without padding: `before` floats lead to output 0.
 */
static void make2(struct ck *ck, struct strided *p, int32_t k, int32_t sh, bool fixed)
{
    const size_t gap = fixed ? 1 : ck_rand(ck, 4), before = fixed ? 0 : ck_rand(ck, 40);
    const size_t pitch = (size_t)(2 * (p->s.ow - 1) + k) + gap, height = (size_t)(sh * (p->s.oh - 1) + k);
    ck_shape(ck, "rows=%zu mult=%zu %dx%d/%dx2 ->%dx%d", p->rows, p->dw.mult, k, k, sh, p->s.oh, p->s.ow);
    p->dw.taps = (size_t)(k * k);
    p->s.x_down = (size_t)sh * pitch;
    p->s.y_pitch = (size_t)p->s.ow + gap;
    p->s.y_cols = wn_round_up((size_t)(p->s.oh - 1) * p->s.y_pitch + (size_t)p->s.ow, WN_COLS);
    p->koff = ck_buf(ck, p->dw.taps * sizeof *p->koff);
    for (int32_t t = 0; t < k * k; t++)
        p->koff[t] = ((int32_t)(t / k * (int32_t)pitch) + t % k - (int32_t)before) * 4;
    p->x_stride = (height * pitch + gap) * sizeof(float);
    const size_t channels = (p->rows + p->dw.mult - 1) / p->dw.mult;
    const size_t x_n = (channels - 1) * p->x_stride / sizeof(float) + (height - 1) * pitch + pitch - gap;
    float *x = ck_buf(ck, x_n * sizeof *x), *w = ck_buf(ck, p->rows * p->dw.taps * sizeof *w);
    ck_fill_f32(ck, x, x_n);
    ck_fill_f32(ck, w, p->rows * p->dw.taps);
    ck_freeze(ck, x);
    ck_freeze(ck, w);
    p->dw.w = w;
    p->args = (struct wn_f32_args){ .x = x + before, .y_stride = p->s.y_cols + WN_COLS, .lo = 0, .hi = 6 };
    const size_t y_bytes = p->rows * p->args.y_stride * sizeof(float);
    p->want = ck_buf(ck, y_bytes);
    p->got = p->args.y = ck_buf(ck, y_bytes);
    p->size = wn_arena_calloc(ck_arena(ck), 1, y_bytes);
}

static void answer2(struct strided *p, size_t o, int32_t oy, int32_t ox)
{
    const struct wn_f32_args *a = &p->args;
    const size_t at = o * a->y_stride + (size_t)oy * p->s.y_pitch + (size_t)ox;
    double acc = (a->bias ? (double)a->bias[o] : 0) + (a->r ? (double)a->r[at] : 0), size = fabs(acc);
    const char *x = (const char *)a->x + o / p->dw.mult * p->x_stride + (size_t)oy * p->s.x_down * sizeof(float);
    for (size_t t = 0; t < p->dw.taps; t++) {
        const double term =
            (double)p->dw.w[o * p->dw.taps + t] * (double)((const float *)(const void *)(x + p->koff[t]))[2 * ox];
        acc += term;
        size += fabs(term);
    }
    acc = acc < (double)a->lo ? (double)a->lo : acc;
    p->want[at] = (float)(acc > (double)a->hi ? (double)a->hi : acc);
    p->size[at] = (float)size;
}

static void check2(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_dw2_fn *fn = (wn_f32_dw2_fn *)k->fn;
    struct strided p = { .rows = 1 + ck_rand(ck, 7), .dw.mult = 1 + ck_rand(ck, 3) };
    p.s.oh = 1 + (int32_t)ck_rand(ck, 11);
    p.s.ow = 1 + (int32_t)ck_rand(ck, 40);
    make2(ck, &p, 1 + 2 * (int32_t)ck_rand(ck, 3), 1 + (int32_t)ck_rand(ck, 3), false);
    const size_t y_n = p.rows * p.args.y_stride;
    if (ck_rand(ck, 2)) {
        float *r = ck_rand(ck, 2) ? ck_buf(ck, y_n * sizeof *r) : p.got;
        ck_fill_f32(ck, r, y_n);
        p.args.r = r;
        if (r == p.got)
            memcpy(p.want, r, y_n * sizeof *r);
    }
    float *bias = ck_buf(ck, p.rows * sizeof *bias);
    ck_fill_f32(ck, bias, p.rows);
    p.args.bias = ck_rand(ck, 2) ? bias : NULL;
    p.args.mask = ck_rand(ck, 2) ? ck_mask(ck, p.s.y_cols) : NULL;
    for (size_t o = 0; o < p.rows; o++)
        for (int32_t oy = 0; oy < p.s.oh; oy++) {
            for (int32_t ox = 0; ox < p.s.ow; ox++)
                answer2(&p, o, oy, ox);
            if (p.args.mask)
                wn_f32_gap(p.want + o * p.args.y_stride + (size_t)oy * p.s.y_pitch, oy, p.s.oh, p.s.ow, p.s.y_pitch,
                           p.s.y_cols);
        }
    const size_t cut = ck_rand(ck, p.rows + 1);
    CK_CALL(ck, fn(&p.dw, &p.s, p.koff, p.x_stride, &p.args, 0, cut));
    CK_CALL(ck, fn(&p.dw, &p.s, p.koff, p.x_stride, &p.args, cut, p.rows));
    ck_near(ck, p.want, p.got, p.size, y_n);
}

static void bench2(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_dw2_fn *fn = (wn_f32_dw2_fn *)k->fn;
    static const int32_t shapes[][2] = { { 96, 56 }, { 576, 7 } };
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        struct strided p = { .rows = (size_t)shapes[i][0], .dw.mult = 1 };
        p.s.oh = p.s.ow = shapes[i][1];
        make2(ck, &p, 3, 2, true);
        CK_BENCH(ck, (double)p.rows * 9 * p.s.oh * p.s.ow, fn(&p.dw, &p.s, p.koff, p.x_stride, &p.args, 0, p.rows));
    }
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    static const struct ck_f32 shapes[] = { { .rows = 96, .k = 864, .taps = 9, .n = 3200 },
                                            { .rows = 384, .k = 3456, .taps = 9, .n = 208 } };
    wn_f32_dw_fn *fn = (wn_f32_dw_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        struct ck_f32 p = shapes[i];
        ck_f32_make(ck, &p, CK_F32_DEPTHWISE, true);
        const struct wn_f32_dw dw = { .w = p.w, .taps = p.taps, .mult = 1 };
        CK_BENCH(ck, (double)p.rows * (double)(p.taps * p.n), fn(&dw, p.koff, p.x_stride, &p.args, 0, p.rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NR)                                                                                            \
    CK_KERNEL(wn_f32_dw_##MR##x##NR##__##isa, isa, check, bench)                                                       \
    CK_KERNEL(wn_f32_dw2_##MR##x##NR##__##isa, isa, check2, bench2)
#include "engine/kernels/f32_dw/f32_dw.def"
#undef KERNEL
    CK_KERNEL(wn_f32_dw_run, scalar, check, NULL)   /* as dispatched */
    CK_KERNEL(wn_f32_dw2_run, scalar, check2, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
