/* q8_spmm_b4.c: the int8 product of 1x4 blocks: every row and column tail, every epilogue part. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"
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
    static const double densities[] = { 0, 0.02, 0.1, 0.3, 1 };
    wn_q8_spmm_b4_fn *fn = (wn_q8_spmm_b4_fn *)kernel->fn;
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

    struct wn_q8_spmm_b4 plain, mat;
    if (wn_q8_spmm_b4_pack(WN_Q8_SPMM_B4_PLAIN, w, rows, channels, taps, 255, ck_arena(ck), &plain, NULL) !=
            WINNOW_OK ||
        wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(kernel->isa), w, rows, channels, taps, seven ? 127 : 255,
                           ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_spmm_b4_link(&plain, koff, off_plain);
    wn_q8_spmm_b4_link(&mat, koff, off);
    CKQ_COMPARE(ck, a, out, wn_q8_spmm_b4_1x1__scalar(&plain, off_plain, &a, row0, row1),
                fn(&mat, off, &a, row0, row1));
}

static void bench_one(struct ck *ck, const struct ck_kernel *kernel, const struct ckq_layer *l, double density)
{
    wn_q8_spmm_b4_fn *fn = (wn_q8_spmm_b4_fn *)kernel->fn;
    int8_t *w = ckq_layer_weights(ck, l, 4, density, false);
    int32_t *koff;
    struct wn_q8_args a = ckq_layer_args(ck, l, &koff);
    struct wn_q8_spmm_b4 mat;
    uint64_t t0 = wn_thread_cpu_ns();
    if (wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(kernel->isa), w, l->rows, l->channels, l->taps, 255, ck_arena(ck),
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
