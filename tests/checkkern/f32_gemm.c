/* f32_gemm.c: checks and times the kernels of engine/kernels/f32_gemm. */
#include "engine/kernels/f32_gemm/f32_gemm.h"
#include "tests/checkkern/f32.h"
#include "winnow/winnow.h"

/* Columns up to the last that the mask keeps, or, without one, up to any. */
static size_t some_live(struct ck *ck, const struct ck_f32 *p)
{
    size_t live = p->n;
    if (!p->args.mask)
        return 1 + ck_rand(ck, p->n);
    while (live && !p->args.mask[live - 1])
        live--;
    return live;
}

/* What lies behind them is not promised without a mask. */
static void forget_dead(struct ck_f32 *p)
{
    for (size_t o = 0; o < p->rows && !p->args.mask && p->args.live; o++)
        for (size_t c = p->args.live; c < p->n; c++)
            p->got[o * p->args.y_stride + c] = p->want[o * p->args.y_stride + c];
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    wn_f32_gemm_fn *fn = (wn_f32_gemm_fn *)k->fn;
    struct ck_f32 p = { 0 };
    struct wn_f32_gemm mat;
    ck_f32_make(ck, &p, 1, false);
    if (wn_f32_gemm_pack(ck_arena(ck), p.w, p.rows, p.k, &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "pack");
        return;
    }
    p.args.live = ck_rand(ck, 2) ? some_live(ck, &p) : 0;
    const size_t cut = ck_rand(ck, p.rows / WN_F32_GEMM_MR + 1) * WN_F32_GEMM_MR; /* two row blocks, as threads do */
    CK_CALL(ck, fn(&mat, p.koff, &p.args, 0, cut));
    CK_CALL(ck, fn(&mat, p.koff, &p.args, cut, p.rows));
    forget_dead(&p);
    ck_f32_check(ck, &p);
}

static void bench(struct ck *ck, const struct ck_kernel *k)
{
    static const struct ck_f32 shapes[] = {
        { .rows = 768, .k = 768, .taps = 1, .n = 128 }, { .rows = 768, .k = 3072, .taps = 1, .n = 128 },
        { .rows = 768, .k = 768, .taps = 1, .n = 16 },  { .rows = 128, .k = 1152, .taps = 9, .n = 816 },
        { .rows = 256, .k = 64, .taps = 1, .n = 3200 }, { .rows = 512, .k = 4608, .taps = 9, .n = 64 }
    };
    wn_f32_gemm_fn *fn = (wn_f32_gemm_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        struct ck_f32 p = shapes[i];
        struct wn_f32_gemm mat;
        ck_f32_make(ck, &p, 1, true);
        if (wn_f32_gemm_pack(ck_arena(ck), p.w, p.rows, p.k, &mat, NULL) != WINNOW_OK)
            return;
        CK_BENCH(ck, (double)p.rows * (double)p.k * (double)p.n, fn(&mat, p.koff, &p.args, 0, p.rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NR) CK_KERNEL(wn_f32_gemm_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/f32_gemm/f32_gemm.def"
#undef KERNEL
    CK_KERNEL(wn_f32_gemm_run, scalar, check, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
