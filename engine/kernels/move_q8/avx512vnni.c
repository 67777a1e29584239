/* avx512vnni.c: quantization of columns, one or four channels by 64 columns. What is no multiple of 16 columns
 * (contiguous tensors) goes through the AVX2 kernel. The division is done only for the 64 columns that hold a number beside a
 * tie (wn_move_q8_half()). */
#include "engine/kernels/q8_columns_avx512.h"

struct job {
    v512f scale, inverse;
    v512i half; /* bits of the largest distance from an integer at which the product decides; below 0: it never does */
};

/* 16 columns of channel o: rounded, without the zero point. NaN counts as 0. */
WN_Q8_INLINE v512i quotient(const struct wn_q8_columns *cols, const struct job *j, v512f x)
{
    const v512f f = v512f_div(x, j->scale);
    return wn_q8_v512_rne(&cols->e, v512i_as_f(v512i_andnot(v512f_nan(f), v512f_as_i(f))));
}

/* rne(x / scale) of nv vectors (the others become 0). */
WN_Q8_INLINE void quotients(const struct wn_q8_columns *cols, const void *job, const float *x, unsigned nv, v512i *i)
{
    const struct job *j = job;
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
            i[v] = quotient(cols, j, f[v]);
    WN_UNROLL
    for (unsigned v = nv; v < 4; v++)
        i[v] = v512i_zero();
}

void wn_move_q8_quantize_16__avx512vnni(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    if (args->n % 16) {
        wn_move_q8_quantize_32__avx2(args, c0, c1);
        return;
    }
    const float inverse = 1 / args->scale, half = wn_move_q8_half(args->scale, inverse);
    int32_t bits;
    memcpy(&bits, &half, sizeof bits);
    const struct job j = { v512f_set1(args->scale), v512f_set1(inverse),
                           v512i_set1_i32(half < 0 ? -1 : bits) };
    struct wn_q8_columns cols;
    wn_q8_columns_init(&cols, args, args->x);
    wn_q8_columns_run(&cols, quotients, &j, c0, c1);
}
