/* scalar.c: the reference: plain C over the dense matrix. It shares nothing with the packers of the fast streams. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue.h"

void wn_q8_spmm_1x1__scalar(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                            size_t row0, size_t row1)
{
    assert(mat->stream == WN_Q8_SPMM_PLAIN && row0 % 4 == 0 && args->n % WN_COLS == 0);
    for (size_t o = row0; o < row1; o++) {
        const int8_t *w = mat->dense + o * mat->k;
        for (size_t c = 0; c < args->n; c++) {
            uint32_t acc = (uint32_t)args->bias[o];
            for (size_t k = 0; k < mat->k; k++)
                if (w[k])
                    acc += (uint32_t)(w[k] * (int32_t)args->x[(ptrdiff_t)off[k] + (ptrdiff_t)c]);
            wn_q8_put(args, o, c, acc);
        }
    }
    if (row1 == mat->rows)
        wn_q8_put_pad_rows(args, mat->rows);
}

void wn_q8_spmm_colsum__scalar(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum)
{
    for (size_t c = 0; c < n; c++) {
        int32_t sum = 0;
        for (size_t i = 0; i < k; i++)
            sum += x[(ptrdiff_t)koff[i] + (ptrdiff_t)c];
        colsum[c] = sum;
    }
}
