/* avx512vnni.c: the four rows of a block share each 64 bytes of x. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

#include "engine/kernels/simd512.h"

void wn_q8_gemv_4x64__avx512vnni(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1)
{
    const int8_t *w = mat->w + row0 / 4 * mat->stride;
    for (size_t o = row0; o < row1; o += 4) {
        v512i s[4];
        WN_UNROLL
        for (size_t r = 0; r < 4; r++)
            s[r] = v512i_zero();
        for (size_t k = 0; k < mat->k; k += 64, w += 256) {
            v512i x = v512i_load(args->x + k);
            WN_UNROLL
            for (size_t r = 0; r < 4; r++)
                s[r] = v512i_dpbusd(s[r], x, v512i_load(w + 64 * r));
        }
        WN_UNROLL
        for (size_t r = 0; r < 4; r++)
            if (o + r < row1)
                wn_q8_put(args, o + r, 0, (uint32_t)v512i_sum_i32(s[r]) + (uint32_t)args->bias[o + r]);
    }
}
