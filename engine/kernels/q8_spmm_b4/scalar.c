/* scalar.c: the reference: the dense matrix, one element after the other. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

void wn_q8_spmm_b4_1x1__scalar(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args,
                               size_t row0, size_t row1)
{
    const int8_t *w = (const int8_t *)mat->w;
    for (size_t o = row0; o < row1; o++)
        for (size_t c = 0; c < args->n; c++) {
            uint32_t acc = (uint32_t)args->bias[o];
            for (size_t k = 0; k < 4 * mat->quads; k++)
                acc += (uint32_t)(w[o * 4 * mat->quads + k] * args->x[off[k / 4] + (ptrdiff_t)(4 * c + k % 4)]);
            wn_q8_put(args, o, c, acc);
        }
    if (row1 == mat->rows)
        wn_q8_put_pad_rows(args, mat->rows);
}
