/* scalar.c: the reference: every tap of every element. */
#include "engine/kernels/q8_stem/q8_stem.h"

void wn_q8_stem_1x1__scalar(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args,
                            size_t row0, size_t row1)
{
    const int8_t *w = (const int8_t *)mat->gemm.w;
    for (size_t c = 0; c < args->n; c++) {
        struct wn_q8_args col = wn_q8_args_cols(args, c, 1);
        int32_t colsum = 0;
        for (size_t k = 0; k < mat->k; k++)
            colsum += args->x[off[k] + (ptrdiff_t)c];
        col.colsum = &colsum;
        for (size_t o = row0; o < row1; o++) {
            uint32_t acc = (uint32_t)args->bias[o];
            for (size_t k = 0; k < mat->k; k++)
                acc += (uint32_t)(w[o * 4 * mat->gemm.quads + k] * args->x[off[k] + (ptrdiff_t)c]);
            wn_q8_put(&col, o, 0, acc);
        }
    }
    if (row1 == mat->gemm.rows)
        wn_q8_put_pad_rows(args, mat->gemm.rows);
}
