/* q8_stem.c: the first convolution, from planes. */
#include "engine/kernels/q8_stem/q8_stem.h"
#include <string.h>
#include "tests/checkkern/ck_q8.h"

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    wn_q8_stem_fn *fn = (wn_q8_stem_fn *)kernel->fn;
    size_t rows = 1 + ck_rand(ck, 30), n = WN_COLS * (1 + ck_rand(ck, 11)), k = 1 + ck_rand(ck, 160);
    size_t row0 = 4 * ck_rand(ck, (rows + 3) / 4), span = 4 * (1 + ck_rand(ck, 8)), row1 = WN_MIN(rows, row0 + span);
    bool extremes = ck_extremes(ck);
    struct ckq_out out = ckq_out(ck, rows, n);
    ck_shape(ck, "rows=%zu (%zu..%zu) n=%zu k=%zu extremes=%d out=%d", rows, row0, row1, n, k, extremes, (int)out.form);

    int8_t *w = ck_buf(ck, rows * k);
    ck_fill_s8(ck, w, rows * k, 1, extremes);
    ck_freeze(ck, w);
    size_t x_bytes = 64 + k + n;
    uint8_t *x = ck_buf(ck, x_bytes);
    ck_fill_u8(ck, x, x_bytes, extremes);
    ck_freeze(ck, x);
    int32_t *tap_off = ck_buf(ck, k * sizeof *tap_off);
    for (size_t i = 0; i < k; i++)
        tap_off[i] = (int32_t)ck_rand(ck, k + 64) - 64;
    struct wn_q8_args a = ckq_args(ck, rows, n, out);
    a.x = x + 64;
    a.colsum = NULL;

    struct wn_q8_stem plain, mat;
    if (wn_q8_stem_pack(WN_Q8_GEMM_PLAIN, w, rows, k, 255, ck_arena(ck), &plain, NULL) != WINNOW_OK ||
        wn_q8_stem_pack(wn_q8_gemm_stream_of(kernel->isa), w, rows, k, 255, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off_plain = ck_buf(ck, plain.noffs * sizeof *off_plain), *off = ck_buf(ck, mat.noffs * sizeof *off);
    wn_q8_stem_link(&plain, tap_off, off_plain);
    wn_q8_stem_link(&mat, tap_off, off);
    CKQ_COMPARE(ck, a, out, wn_q8_stem_1x1__scalar(&plain, off_plain, &a, row0, row1), fn(&mat, off, &a, row0, row1));
}

/* 7x7 / 2 of 3 channels, 112 x 112 out: four phases of 115 x 115 a channel. */
static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    enum { PITCH = 115, PHASE = 16384, K = 147 };
    wn_q8_stem_fn *fn = (wn_q8_stem_fn *)kernel->fn;
    struct ckq_layer l = { .rows = 64, .channels = K, .taps = 1, .edge = 113 };
    int32_t tap_off[K], *koff;
    struct wn_q8_args a = ckq_layer_args(ck, &l, &koff);
    for (int i = 0; i < K; i++) {
        int c = i / 49, y = i / 7 % 7, x = i % 7;
        tap_off[i] = (c * 4 + y % 2 * 2 + x % 2) * PHASE + y / 2 * PITCH + x / 2;
    }
    struct wn_q8_stem mat;
    if (wn_q8_stem_pack(wn_q8_gemm_stream_of(kernel->isa), ckq_layer_weights(ck, &l, 1, 1, true), l.rows, K, 255,
                        ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    int32_t *off = ckq_layer_off(ck, mat.noffs);
    wn_q8_stem_link(&mat, tap_off, off);
    ck_shape(ck, "64x3 7x7/2 n=%zu", a.n);
    CK_BENCH(ck, 64.0 * K * (double)a.n, fn(&mat, off, &a, 0, l.rows));
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, stream, MR, NR) CK_KERNEL(wn_q8_stem_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_stem/q8_stem.def"
#undef KERNEL
};
CK_FAMILY(kernels)
