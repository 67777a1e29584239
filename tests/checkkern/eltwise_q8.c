/* eltwise_q8.c: sums and tables, both forms, odd lengths, in place. */
#include <math.h>
#include <string.h>
#include "engine/kernels/eltwise_q8/eltwise_q8.h"
#include "tests/checkkern/checkkern.h"

static struct wn_elt_q8 make(struct ck *ck, size_t *ret_bytes)
{
    enum wn_q8_out form = ck_rand(ck, 2) ? WN_OUT_QUAD : WN_OUT_PLANE;
    size_t channels = 1 + ck_rand(ck, 11), n = form == WN_OUT_PLANE ? 1 + ck_rand(ck, 200) : 16 * (1 + ck_rand(ck, 9));
    size_t stride = form == WN_OUT_QUAD ? 4 * (n + ck_rand(ck, 9)) : n + ck_rand(ck, 40);
    size_t planes = form == WN_OUT_QUAD ? (channels + 3) / 4 : channels, bytes = planes * stride;
    uint8_t *a = ck_buf(ck, bytes), *b = ck_buf(ck, bytes), *table = ck_buf(ck, 256);
    ck_fill_u8(ck, a, bytes, ck_extremes(ck));
    ck_fill_u8(ck, b, bytes, ck_extremes(ck));
    ck_fill_u8(ck, table, 256, false);
    ck_freeze(ck, a);
    ck_freeze(ck, b);
    ck_freeze(ck, table);
    struct wn_elt_q8 args = { .a = a,
                              .b = b,
                              .a_stride = stride,
                              .b_stride = stride,
                              .y_stride = stride,
                              .channels = channels,
                              .n = n,
                              .form = form,
                              .a_mul = 2 * ck_float(ck),
                              .b_mul = ck_rand(ck, 9) ? 2 * ck_float(ck) : 0.5f,
                              .table = table };
    if (ck_rand(ck, 4) == 0)
        args.a_mul = 0.5f; /* ties */
    if (ck_rand(ck, 16) == 0)
        args.b_mul = ck_rand(ck, 4) ? 1e9f * ck_float(ck) : NAN; /* past int32 */
    args.a_zp = (int32_t)ck_rand(ck, 256);
    args.b_zp = (int32_t)ck_rand(ck, 256);
    args.y_zp = (int32_t)ck_rand(ck, 256);
    args.q_lo = (int32_t)ck_rand(ck, 128);
    args.q_hi = 128 + (int32_t)ck_rand(ck, 128);
    args.mask = ck_rand(ck, 2) ? ck_mask(ck, n) : NULL;
    ck_shape(ck, "channels=%zu n=%zu form=%d mask=%d", channels, n, (int)form, args.mask != NULL);
    *ret_bytes = bytes;
    return args;
}

static void compare(struct ck *ck, const struct ck_kernel *kernel, wn_elt_q8_fn *ref)
{
    size_t bytes;
    struct wn_elt_q8 args = make(ck, &bytes);
    uint8_t *want = ck_buf(ck, bytes), *got = ck_buf(ck, bytes);
    size_t c0 = 4 * ck_rand(ck, (args.channels + 3) / 4);
    args.y = want;
    ref(&args, c0, args.channels);
    args.y = got;
    if (ck_rand(ck, 2)) {
        memcpy(got, args.a, bytes);
        args.a = got;
        CK_CALL(ck, ((wn_elt_q8_fn *)kernel->fn)(&args, c0, args.channels));
        size_t lanes =
            args.form == WN_OUT_QUAD ? 4 : 1; /* in place, the rest is not the preset: compare what was made */
        for (size_t c = c0; c < args.channels; c += lanes)
            ck_same(ck, want + c / lanes * args.y_stride, got + c / lanes * args.y_stride, args.n * lanes);
        return;
    }
    CK_CALL(ck, ((wn_elt_q8_fn *)kernel->fn)(&args, c0, args.channels));
    ck_same(ck, want, got, bytes);
}

static void check_add(struct ck *ck, const struct ck_kernel *kernel)
{
    compare(ck, kernel, wn_elt_q8_add_1__scalar);
}

static void check_lookup(struct ck *ck, const struct ck_kernel *kernel)
{
    compare(ck, kernel, wn_elt_q8_lookup_1__scalar);
}

static void bench(struct ck *ck, const struct ck_kernel *kernel)
{
    size_t n = 65536;
    uint8_t *a = ck_buf(ck, n), *b = ck_buf(ck, n), *y = ck_buf(ck, n), *table = ck_buf(ck, 256);
    ck_fill_u8(ck, a, n, false);
    ck_fill_u8(ck, b, n, false);
    ck_fill_u8(ck, table, 256, false);
    struct wn_elt_q8 args = { .a = a,
                              .b = b,
                              .y = y,
                              .channels = 1,
                              .n = n,
                              .form = WN_OUT_PLANE,
                              .a_mul = 0.7f,
                              .b_mul = 0.6f,
                              .a_zp = 3,
                              .b_zp = 7,
                              .y_zp = 9,
                              .q_hi = 255,
                              .table = table };
    ck_shape(ck, "%zu bytes", n);
    CK_BENCH(ck, (double)n, ((wn_elt_q8_fn *)kernel->fn)(&args, 0, 1));
}

static const struct ck_kernel kernels[] = {
#define KERNEL(isa, NR)                                                                                                \
    CK_KERNEL(wn_elt_q8_add_##NR##__##isa, isa, check_add, bench)                                                      \
    CK_KERNEL(wn_elt_q8_lookup_##NR##__##isa, isa, check_lookup, bench)
#include "engine/kernels/eltwise_q8/eltwise_q8.def"
#undef KERNEL
};
CK_FAMILY(kernels)
