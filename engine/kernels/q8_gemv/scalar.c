/* scalar.c: the reference. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

void wn_q8_gemv_1x1__scalar(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1)
{
    for (size_t o = row0; o < row1; o++) {
        uint32_t acc = (uint32_t)args->bias[o];
        for (size_t k = 0; k < mat->k; k++)
            acc += (uint32_t)(wn_q8_gemv_at(mat, o, k) * args->x[k]);
        wn_q8_put(args, o, 0, acc);
    }
}
