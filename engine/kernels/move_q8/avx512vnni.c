/* avx512vnni.c: quantization of columns, four channels by 16 columns: divide, round, pack. What is no multiple of 16
 * columns (contiguous tensors) goes through the AVX2 kernel. */
#include "engine/kernels/move_q8/move_q8.h"

#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_avx512.h"

/* 16 columns of channel o: rounded, without the zero point. NaN counts as 0. */
WN_Q8_INLINE v512i quantized(const struct wn_q8_v512 *e, const struct wn_move_q8 *a, size_t o, size_t c, v512f scale)
{
    const char *row = (const char *)a->x + o * a->x_stride;
    const v512f f = v512f_div(v512f_load(row + c * sizeof(float)), scale);
    return wn_q8_v512_rne(e, v512i_as_f(v512i_andnot(v512f_nan(f), v512f_as_i(f))));
}

void wn_move_q8_quantize_16__avx512vnni(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
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
    const struct wn_q8_v512 e = wn_q8_v512_begin(&out);
    const v512f scale = v512f_set1(args->scale);
    const size_t lanes = wn_q8_lanes(args->form);
    for (size_t o = c0; o < c1; o += lanes) {
        const size_t rows = WN_MIN(args->channels - o, (size_t)4);
        for (size_t c = 0; c < args->n; c += 16) {
            if (lanes == 1) {
                wn_q8_v512_put_plane(&e, o, c, quantized(&e, args, o, c, scale));
                continue;
            }
            v512i i[4];
            WN_UNROLL
            for (size_t k = 0; k < 4; k++)
                i[k] = k < rows ? quantized(&e, args, o + k, c, scale) : v512i_zero();
            wn_q8_v512_put_quad(&e, o, rows, c, i[0], i[1], i[2], i[3]);
        }
    }
}
