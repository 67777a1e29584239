/* f32_spmm.c: checks and times the kernels of engine/kernels/f32_spmm. */
#include "engine/kernels/f32_spmm/f32_spmm.h"
#include "tests/checkkern/f32.h"
#include "winnow/winnow.h"

static bool pack(struct ck *ck, const struct ck_f32 *p, struct wn_f32_spmm *mat, int32_t **off)
{
    if (wn_f32_spmm_pack(ck_arena(ck), p->w, p->rows, p->k, p->taps, (unsigned)p->block, mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "pack");
        return false;
    }
    *off = ck_buf(ck, (mat->stored + WN_F32_SPMM_AHEAD) * sizeof **off);
    wn_f32_spmm_link(mat, p->koff, *off);
    return true;
}

static void check(struct ck *ck, const struct ck_kernel *k, size_t block)
{
    static const double densities[] = { 0, 0.02, 0.1, 0.5, 1 };
    wn_f32_spmm_fn *fn = (wn_f32_spmm_fn *)k->fn;
    struct ck_f32 p = { .block = block };
    struct wn_f32_spmm mat;
    int32_t *off;
    ck_f32_make(ck, &p, ck_pick(ck, densities, WN_COUNT(densities)), false);
    if (!pack(ck, &p, &mat, &off))
        return;
    const size_t cut = ck_rand(ck, p.rows + 1) / block * block;
    CK_CALL(ck, fn(&mat, off, &p.args, 0, cut));
    CK_CALL(ck, fn(&mat, off, &p.args, cut, p.rows));
    ck_f32_check(ck, &p);
}

static void bench(struct ck *ck, const struct ck_kernel *k, size_t block)
{
    static const struct ck_f32 shapes[] = {
        { .rows = 768, .k = 768, .taps = 1, .n = 128 },  { .rows = 3072, .k = 768, .taps = 1, .n = 128 },
        { .rows = 768, .k = 3072, .taps = 1, .n = 128 }, { .rows = 128, .k = 1152, .taps = 9, .n = 816 },
        { .rows = 256, .k = 64, .taps = 1, .n = 3200 },  { .rows = 512, .k = 4608, .taps = 9, .n = 64 }
    };
    static const double densities[] = { 0.2, 0.1, 0.05 };
    wn_f32_spmm_fn *fn = (wn_f32_spmm_fn *)k->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++)
        for (size_t d = 0; d < WN_COUNT(densities); d++) {
            struct ck_f32 p = shapes[i];
            p.block = block;
            struct wn_f32_spmm mat;
            int32_t *off;
            ck_f32_make(ck, &p, densities[d], true);
            if (!pack(ck, &p, &mat, &off))
                return;
            CK_BENCH(ck, (double)mat.nnz * (double)p.n, fn(&mat, off, &p.args, 0, p.rows));
        }
}

#define BLOCK(R)                                                                                                       \
    static void check_##R(struct ck *ck, const struct ck_kernel *k)                                                    \
    {                                                                                                                  \
        check(ck, k, R);                                                                                               \
    }                                                                                                                  \
    static void bench_##R(struct ck *ck, const struct ck_kernel *k)                                                    \
    {                                                                                                                  \
        bench(ck, k, R);                                                                                               \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NR) CK_KERNEL(wn_f32_spmm_##MR##x##NR##__##isa, isa, check_##MR, bench_##MR)
#include "engine/kernels/f32_spmm/f32_spmm.def"
#undef KERNEL
    CK_KERNEL(wn_f32_spmm_run, scalar, check_1, NULL) /* as dispatched */
};
CK_FAMILY(kernels)
