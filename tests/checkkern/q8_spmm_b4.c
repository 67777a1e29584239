/* q8_spmm_b4.c: the int8 product of 1x4 blocks: every row and column tail, every epilogue part. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"
#include <math.h>
#include <string.h>
#include "tests/checkkern/ck_q8.h"

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    static const double densities[] = { 0, 0.02, 0.1, 0.3, 1 };
    wn_q8_spmm_b4_fn *fn = (wn_q8_spmm_b4_fn *)kernel->fn;
    struct ckq_product p = ckq_product(ck, densities, WN_COUNT(densities));
    struct wn_q8_spmm_b4 plain, mat;
    if (wn_q8_spmm_b4_pack(WN_Q8_SPMM_B4_PLAIN, p.w, p.rows, p.channels, p.taps, ck_arena(ck), &plain, NULL) !=
            WINNOW_OK ||
        wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(kernel->isa), p.w, p.rows, p.channels, p.taps, ck_arena(ck),
                           &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_spmm_b4_link(&plain, p.koff, off_plain);
    wn_q8_spmm_b4_link(&mat, p.koff, off);
    CKQ_COMPARE(ck, p.a, p.out, wn_q8_spmm_b4_1x1__scalar(&plain, off_plain, &p.a, p.row0, p.row1),
                fn(&mat, off, &p.a, p.row0, p.row1));
}

static void bench_one(struct ck *ck, const struct ck_kernel *kernel, const struct ckq_layer *l, double density)
{
    wn_q8_spmm_b4_fn *fn = (wn_q8_spmm_b4_fn *)kernel->fn;
    int8_t *w = ckq_layer_weights(ck, l, 4, density, false);
    int32_t *koff;
    struct wn_q8_args a = ckq_layer_args(ck, l, &koff);
    struct wn_q8_spmm_b4 mat;
    uint64_t t0 = wn_thread_cpu_ns();
    if (wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(kernel->isa), w, l->rows, l->channels, l->taps, ck_arena(ck),
                           &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    double pack_ms = (double)(wn_thread_cpu_ns() - t0) * 1e-6;
    int32_t *off = ckq_layer_off(ck, mat.noffs);
    wn_q8_spmm_b4_link(&mat, koff, off);
    ck_shape(ck, "%zux%zu%s n=%zu %g%%, x%.2f steps, pack %.0f ms", l->rows, l->channels, l->taps > 1 ? " 3x3" : "",
             a.n, 100 * (1 - density), mat.blocks ? (double)mat.steps / (double)mat.blocks : 1, pack_ms);
    size_t blocks = mat.blocks ? mat.blocks : l->rows * mat.quads;
    CK_BENCH(ck, 4.0 * (double)blocks * (double)a.n, fn(&mat, off, &a, 0, l->rows));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    static const double densities[] = { 1, 0.2, 0.1, 0.05 };
    for (size_t i = 0; i < ckq_nlayers; i++)
        for (size_t j = 0; j < WN_COUNT(densities); j++)
            if (kernel->isa != WN_ISA_scalar || (i == 0 && j == 3))
                bench_one(ck, kernel, &ckq_layers[i], densities[j]);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_spmm_b4_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.def"
#undef KERNEL
};
CK_FAMILY(kernels)
