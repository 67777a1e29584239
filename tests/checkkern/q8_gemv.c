/* q8_gemv.c: the dense int8 matrix times one vector. */
#include "engine/kernels/q8_gemv/q8_gemv.h"
#include <string.h>
#include "tests/checkkern/ck_q8.h"

static void check(struct ck *ck, const struct ck_kernel *kernel)
{
    wn_q8_gemv_fn *fn = (wn_q8_gemv_fn *)kernel->fn;
    size_t rows = 1 + ck_rand(ck, 40), k = 1 + ck_rand(ck, ck_rand(ck, 8) ? 300 : 5000);
    size_t row0 = ck_rand(ck, rows) / WN_Q8_GEMV_MR * WN_Q8_GEMV_MR, row1 = row0 + 1 + ck_rand(ck, rows - row0);
    bool extremes = ck_extremes(ck);
    struct ckq_out out = { .form = ck_rand(ck, 2) ? WN_OUT_PLANE : WN_OUT_F32 };
    out.stride = out.form == WN_OUT_F32 ? 4 : 1;
    out.bytes = rows * out.stride;
    ck_shape(ck, "rows=%zu (%zu..%zu) k=%zu extremes=%d out=%d", rows, row0, row1, k, extremes, (int)out.form);

    int8_t *w = ck_buf(ck, rows * k);
    uint8_t *x = ck_buf(ck, k);
    ck_fill_s8(ck, w, rows * k, 1, extremes);
    ck_fill_u8(ck, x, k, extremes);
    ck_freeze(ck, w);
    ck_freeze(ck, x);
    struct wn_q8_args a = ckq_args(ck, rows, 1, out);
    int32_t sum = wn_q8_gemv_sum(x, k);
    a.x = x;
    a.mask = NULL;
    a.colsum = a.w_zp ? &sum : NULL;
    struct wn_q8_gemv mat;
    if (wn_q8_gemv_pack(w, rows, k, ck_arena(ck), &mat, NULL) != WINNOW_OK) {
        ck_fail(ck, "packing failed");
        return;
    }
    CKQ_COMPARE(ck, a, out, wn_q8_gemv_1x1__scalar(&mat, &a, row0, row1), fn(&mat, &a, row0, row1));
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    static const size_t shapes[][2] = { { 1000, 2048 }, { 768, 768 }, { 3072, 768 } };
    wn_q8_gemv_fn *fn = (wn_q8_gemv_fn *)kernel->fn;
    for (size_t i = 0; i < WN_COUNT(shapes); i++) {
        struct ckq_layer l = { .rows = shapes[i][0], .channels = shapes[i][1], .taps = 1, .edge = 0 };
        int32_t *koff;
        struct wn_q8_args a = ckq_layer_args(ck, &l, &koff);
        struct wn_q8_gemv mat;
        if (wn_q8_gemv_pack(ckq_layer_weights(ck, &l, 1, 1, false), l.rows, l.channels, ck_arena(ck), &mat, NULL) !=
            WINNOW_OK) {
            ck_fail(ck, "packing failed");
            return;
        }
        a.n = 1;
        a.out = WN_OUT_PLANE;
        a.y_stride = 1;
        ck_shape(ck, "%zux%zu", l.rows, l.channels);
        CK_BENCH(ck, (double)l.rows * (double)l.channels, fn(&mat, &a, 0, l.rows));
    }
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, MR, NR) CK_KERNEL(wn_q8_gemv_##MR##x##NR##__##isa, isa, check, bench)
#include "engine/kernels/q8_gemv/q8_gemv.def"
#undef KERNEL
};
CK_FAMILY(kernels)
