/* scalar.c: the reference: plain C over the unpacked filters. */
#include "engine/kernels/q8_dw/q8_dw.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue.h"

void wn_q8_dw_1x1__scalar(const struct wn_q8_dw *mat, const int32_t *off, size_t x_stride,
                          const struct wn_q8_args *args, size_t c0, size_t c1)
{
    assert(mat->stream == WN_Q8_DW_PLAIN && c0 % 4 == 0 && args->n % WN_COLS == 0 && !args->w_zp);
    for (size_t o = c0; o < c1; o++) {
        const int16_t *w = mat->w16 + o * mat->taps;
        const uint8_t *x = args->x + o / 4 * x_stride + o % 4;
        for (size_t c = 0; c < args->n; c++) {
            uint32_t acc = (uint32_t)args->bias[o];
            for (size_t t = 0; t < mat->taps; t++)
                acc += (uint32_t)(w[t] * (int32_t)x[(ptrdiff_t)off[t] + (ptrdiff_t)(4 * c)]);
            wn_q8_put(args, o, c, acc);
        }
    }
    if (c1 == mat->channels)
        wn_q8_put_pad_rows(args, mat->channels);
}
