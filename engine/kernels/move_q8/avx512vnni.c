/* avx512vnni.c: quantization of columns, one or four channels by 64 columns. What is no multiple of 16 columns
 * (contiguous tensors) goes through the AVX2 kernel.
 *
 * A quotient is only needed rounded, and x times 1 / scale rounds to the same integer unless it lies beside a tie; so
 * the division is done only for the 64 columns that hold such a number: with t = x / scale and p = x * (1 / scale),
 * both in floats, |p - t| < 2^-22 |t| + 2^-148, which is at most 2^-13 where |t| <= 512; beyond that every sum with a
 * zero point leaves the bytes, whatever the rounding. */
#include "engine/kernels/move_q8/move_q8.h"

#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_avx512.h"

#define WIDE 64u /* columns of a step */
#define NEAR 0x1p-13f

struct job {
    struct wn_q8_v512 e;
    const struct wn_move_q8 *a;
    v512f scale, inverse;
    v512i half;  /* bits of the largest distance from an integer at which the product decides; below 0: it never does */
    v512i order; /* of the dwords of wn_q8_v512_pack(): columns */
};

/* 16 columns of channel o: rounded, without the zero point. NaN counts as 0. */
WN_Q8_INLINE v512i quotient(const struct job *j, v512f x)
{
    const v512f f = v512f_div(x, j->scale);
    return wn_q8_v512_rne(&j->e, v512i_as_f(v512i_andnot(v512f_nan(f), v512f_as_i(f))));
}

/* rne(x / scale) of nv vectors (the others become 0). */
WN_Q8_INLINE void quotients(const struct job *j, const float *x, unsigned nv, v512i *i)
{
    v512i far = v512i_zero(); /* the greatest distance from an integer, as bits: NaN and infinities are above all */
    v512f f[4];
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++) {
        f[v] = v512f_load(x + 16 * v);
        const v512f p = v512f_mul(f[v], j->inverse);
        i[v] = v512f_to_i32(p);
        const v512f d = v512f_sub(p, v512i_to_f32(i[v]));
        far = v512i_max_i32(far, v512i_and(v512f_as_i(d), v512i_set1_i32(INT32_MAX)));
    }
    if (WN_UNLIKELY(v512i_any_gt_i32(far, j->half)))
        for (unsigned v = 0; v < nv; v++)
            i[v] = quotient(j, f[v]);
    WN_UNROLL
    for (unsigned v = nv; v < 4; v++)
        i[v] = v512i_zero();
}

/* Columns c.. of channels o.. (one, or up to four as quads); nv vectors, a constant after inlining. */
WN_Q8_INLINE void columns(const struct job *j, size_t o, size_t c, unsigned nv)
{
    const struct wn_move_q8 *a = j->a;
    const struct wn_q8_v512 e = j->e; /* a copy: storing bytes cannot change it */
    const char *x = (const char *)a->x + o * a->x_stride + c * sizeof(float);
    v512i i[4], b[4];
    if (a->form == WN_OUT_QUAD) {
        const size_t rows = WN_MIN(a->channels - o, (size_t)4);
        WN_UNROLL
        for (size_t k = 0; k < 4; k++, x += a->x_stride) {
            b[k] = v512i_zero();
            if (k < rows) {
                quotients(j, (const float *)(const void *)x, nv, i);
                b[k] = wn_q8_v512_pack(&e, i);
            }
        }
        wn_q8_v512_put_rows(&e, o, rows, c, b, nv);
        return;
    }
    quotients(j, (const float *)(const void *)x, nv, i);
    if (nv == 4 && !e.mask) {
        v512i_store(e.y + o * e.y_stride + c, v512i_permute_i32(wn_q8_v512_pack(&e, i), j->order));
        return;
    }
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++)
        wn_q8_v512_put_plane(&e, o, c + 16 * v, i[v]);
}

void wn_move_q8_quantize_16__avx512vnni(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    static const int32_t order[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
    if (args->n % 16) {
        wn_move_q8_quantize_32__avx2(args, c0, c1);
        return;
    }
    const struct wn_q8_args out = { .y = args->y,
                                    .y_stride = args->y_stride,
                                    .out = args->form,
                                    .mask = args->mask,
                                    .y_zp = args->zp,
                                    .q_lo = args->q_lo,
                                    .q_hi = args->q_hi };
    const float inverse = 1 / args->scale, half = 0.5f - NEAR;
    int32_t bits;
    memcpy(&bits, &half, sizeof bits);
    const struct job j = { .e = wn_q8_v512_begin(&out),
                           .a = args,
                           .scale = v512f_set1(args->scale),
                           .inverse = v512f_set1(inverse),
                           .half = v512i_set1_i32(isnormal(inverse) && isnormal(args->scale) ? bits : -1),
                           .order = v512i_load(order) };
    for (size_t o = c0; o < c1; o += wn_q8_lanes(args->form)) {
        size_t c = 0;
        for (; c + WIDE <= args->n; c += WIDE)
            columns(&j, o, c, WIDE / 16);
        for (; c < args->n; c += 16)
            columns(&j, o, c, 1);
    }
}
