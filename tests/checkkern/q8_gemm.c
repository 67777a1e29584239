/* q8_gemm.c: the dense int8 product and column sums: every row and column tail, every epilogue part. */
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include <math.h>
#include <string.h>
#include "tests/checkkern/ck_q8.h"

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    static const double densities[] = { 0, 0.3, 1, 1, 1 };
    wn_q8_gemm_fn *fn = (wn_q8_gemm_fn *)kernel->fn;
    struct ckq_product p = ckq_product(ck, densities, WN_COUNT(densities));
    struct wn_q8_gemm plain, mat;
    if (wn_q8_gemm_pack(WN_Q8_GEMM_PLAIN, p.w, p.rows, p.channels, p.taps, 255, ck_arena(ck), &plain, NULL) !=
            WINNOW_OK ||
        wn_q8_gemm_pack(wn_q8_gemm_stream_of(kernel->isa), p.w, p.rows, p.channels, p.taps, p.x_max, ck_arena(ck), &mat,
                        NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_gemm_link(&plain, p.koff, off_plain);
    wn_q8_gemm_link(&mat, p.koff, off);
    CKQ_COMPARE(ck, p.a, p.out, wn_q8_gemm_1x1__scalar(&plain, off_plain, &p.a, p.row0, p.row1),
                fn(&mat, off, &p.a, p.row0, p.row1));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    wn_q8_gemm_fn *fn = (wn_q8_gemm_fn *)kernel->fn;
    for (size_t i = 0; i < ckq_nlayers; i++)
        for (int normal = 0; normal < 2; normal++) {
            if ((wn_q8_gemm_stream_of(kernel->isa) != WN_Q8_GEMM_PAIR && normal) || (kernel->isa == WN_ISA_scalar && i))
                continue;
            const struct ckq_layer *l = &ckq_layers[i];
            size_t k = l->channels * l->taps;
            int8_t *w = ckq_layer_weights(ck, l, 1, 1, normal);
            int32_t *koff;
            struct wn_q8_args a = ckq_layer_args(ck, l, &koff);
            struct wn_q8_gemm mat;
            uint64_t t0 = wn_thread_cpu_ns();
            if (wn_q8_gemm_pack(wn_q8_gemm_stream_of(kernel->isa), w, l->rows, l->channels, l->taps, 255, ck_arena(ck),
                                &mat, NULL) != WINNOW_OK) {
                ck_fail(ck, "packing failed");
                return;
            }
            double pack_ms = (double)(wn_thread_cpu_ns() - t0) * 1e-6;
            int32_t *off = ckq_layer_off(ck, mat.noffs);
            wn_q8_gemm_link(&mat, koff, off);
            size_t lone = mat.pairs + mat.singles ? 100 * mat.singles / (2 * mat.pairs + mat.singles) : 0;
            ck_shape(ck, "%zux%zu%s n=%zu %s pack %.0f ms, %zu%% single", l->rows, l->channels,
                     l->taps > 1 ? " 3x3" : "", a.n, normal ? "normal" : "laplace", pack_ms, lone);
            CK_BENCH(ck, (double)l->rows * (double)k * (double)a.n, fn(&mat, off, &a, 0, l->rows));
        }
}

static void check_colsum(struct ck *ck, const struct ck_kernel *kernel)
{
    wn_q8_colsum_fn *fn = (wn_q8_colsum_fn *)kernel->fn;
    size_t n = WN_COLS * (1 + ck_rand(ck, 9)), channels = 1 + ck_rand(ck, ck_rand(ck, 4) ? 70 : 900);
    size_t taps = ck_rand(ck, 2) ? 1 : 1 + ck_rand(ck, 9), plane = wn_round_up(n + 8, 16);
    ck_shape(ck, "n=%zu channels=%zu taps=%zu", n, channels, taps);
    size_t x_bytes = 64 + 4 * ((channels + 3) / 4 * plane);
    uint8_t *x = ck_buf(ck, x_bytes);
    ck_fill_u8(ck, x, x_bytes, ck_extremes(ck));
    ck_freeze(ck, x);
    const int32_t *koff = ckq_koff(ck, channels, taps, plane);
    int32_t *want = ck_buf(ck, n * sizeof *want), *got = ck_buf(ck, n * sizeof *got);
    wn_q8_colsum__scalar(x + 64, koff, channels, taps, n, want);
    CK_CALL(ck, fn(x + 64, koff, channels, taps, n, got));
    ck_same_i32(ck, want, got, n);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_gemm_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_gemm/q8_gemm.def"
#undef KERNEL
#define COLSUM(isa) CK_KERNEL(wn_q8_colsum__##isa, isa, check_colsum, NULL)
#include "engine/kernels/q8_colsum.def"
#undef COLSUM
};
CK_FAMILY(kernels)
