/* f32_dw.c: checks and times the kernels of engine/kernels/f32_dw, as a convolution with a diagonal weight matrix. */
#include "engine/kernels/f32_dw/f32_dw.h"
#include "tests/checkkern/f32.h"

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
#define KERNEL(isa, MR, NR) CK_KERNEL(wn_f32_dw_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/f32_dw/f32_dw.def"
#undef KERNEL
    CK_KERNEL(wn_f32_dw_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
