/* q8_gemm.c: the dense int8 product and column sums: every row and column tail, every epilogue part. */
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include <math.h>
#include <string.h>
#include "tests/checkkern/ck_q8.h"

/* Quads of (channels, taps) at odd places around column 0; x has 64 bytes in front of it. */
static int32_t *make_koff(struct ck *ck, size_t channels, size_t taps, size_t plane)
{
    size_t quads = wn_q8_quads(channels, taps);
    int32_t *koff = ck_buf(ck, quads * sizeof *koff), tap_off[9];
    for (size_t t = 0; t < taps; t++)
        tap_off[t] = 4 * ((int32_t)ck_rand(ck, 9) - 4);
    wn_q8_quads_koff(channels, taps, (int32_t)(4 * plane), tap_off, koff);
    ck_freeze(ck, koff);
    return koff;
}

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    static const double densities[] = { 0, 0.3, 1, 1, 1 };
    wn_q8_gemm_fn *fn = (wn_q8_gemm_fn *)kernel->fn;
    size_t rows = 1 + ck_rand(ck, 30), n = WN_COLS * (1 + ck_rand(ck, 11));
    size_t channels = 1 + ck_rand(ck, 70), taps = ck_rand(ck, 2) ? 1 : 1 + ck_rand(ck, 9);
    size_t k = channels * taps, plane = wn_round_up(n + 8, 16);
    double density = ck_pick(ck, densities, WN_COUNT(densities));
    bool extremes = ck_extremes(ck), trained = ck_rand(ck, 2), seven = ck_rand(ck, 4) == 0;
    struct ckq_out out = ckq_out(ck, rows, n);
    size_t row0 = 4 * ck_rand(ck, (rows + 3) / 4), span = 4 * (1 + ck_rand(ck, 8)), row1 = WN_MIN(rows, row0 + span);
    ck_shape(ck, "rows=%zu (%zu..%zu) n=%zu channels=%zu taps=%zu density=%g extremes=%d trained=%d seven=%d out=%d",
             rows, row0, row1, n, channels, taps, density, extremes, trained, seven, (int)out.form);

    int8_t *w = ck_buf(ck, rows * k);
    if (trained && !extremes)
        ckq_weights(ck, w, rows, channels, taps, 4, density, ck_rand(ck, 2));
    else
        ck_fill_s8(ck, w, rows * k, density, extremes);
    ck_freeze(ck, w);
    size_t x_bytes = 64 + 4 * ((channels + 3) / 4 * plane);
    uint8_t *x = ck_buf(ck, x_bytes);
    ck_fill_u8(ck, x, x_bytes, extremes);
    for (size_t i = 0; seven && i < x_bytes; i++)
        x[i] /= 2;
    ck_freeze(ck, x);
    const int32_t *koff = make_koff(ck, channels, taps, plane);
    struct wn_q8_args a = ckq_args(ck, rows, n, out);
    a.x = x + 64;

    struct wn_q8_gemm plain, mat;
    if (wn_q8_gemm_pack(WN_Q8_GEMM_PLAIN, w, rows, channels, taps, 255, ck_arena(ck), &plain, NULL) != WINNOW_OK ||
        wn_q8_gemm_pack(wn_q8_gemm_stream_of(kernel->isa), w, rows, channels, taps, seven ? 127 : 255, ck_arena(ck),
                        &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_gemm_link(&plain, koff, off_plain);
    wn_q8_gemm_link(&mat, koff, off);
    CKQ_COMPARE(ck, a, out, wn_q8_gemm_1x1__scalar(&plain, off_plain, &a, row0, row1), fn(&mat, off, &a, row0, row1));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    wn_q8_gemm_fn *fn = (wn_q8_gemm_fn *)kernel->fn;
    for (size_t i = 0; i < ckq_nlayers; i++)
        for (int normal = 0; normal < 2; normal++) {
            if ((kernel->isa != WN_ISA_avx2 && normal) || (kernel->isa == WN_ISA_scalar && i))
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
    const int32_t *koff = make_koff(ck, channels, taps, plane);
    int32_t *want = ck_buf(ck, n * sizeof *want), *got = ck_buf(ck, n * sizeof *got);
    wn_q8_colsum__scalar(x + 64, koff, channels, taps, n, want);
    CK_CALL(ck, fn(x + 64, koff, channels, taps, n, got));
    ck_same_i32(ck, want, got, n);
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_gemm_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_gemm/q8_gemm.def"
#undef KERNEL
    CK_KERNEL(wn_q8_colsum__scalar, scalar, check_colsum, NULL) CK_KERNEL(wn_q8_colsum__avx2, avx2, check_colsum, NULL)
        CK_KERNEL(wn_q8_colsum__avx512vnni, avx512vnni, check_colsum, NULL)
};
CK_FAMILY(kernels)
