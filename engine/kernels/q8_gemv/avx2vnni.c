/* avx2vnni.c: the four rows of a block share each 32 bytes of x. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

#include "engine/kernels/vnni256.h"

/* The sum of eight dwords; wraps. */
static uint32_t total(__m256i s)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

void wn_q8_gemv_4x32__avx2vnni(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1)
{
    const int8_t *w = mat->w + row0 / 4 * mat->stride;
    for (size_t o = row0; o < row1; o += 4) {
        __m256i s[4][2]; /* of either half of the 64 bytes */
        WN_UNROLL
        for (size_t r = 0; r < 4; r++)
            s[r][0] = s[r][1] = _mm256_setzero_si256();
        for (size_t k = 0; k < mat->k; k += 64, w += 256) {
            WN_UNROLL
            for (size_t h = 0; h < 2; h++) {
                __m256i x = _mm256_loadu_si256((const __m256i *)(args->x + k + 32 * h));
                WN_UNROLL
                for (size_t r = 0; r < 4; r++)
                    s[r][h] = wn_vnni256_dpbusd(s[r][h], x, _mm256_loadu_si256((const __m256i *)(w + 64 * r + 32 * h)));
            }
        }
        WN_UNROLL
        for (size_t r = 0; r < 4; r++)
            if (o + r < row1)
                wn_q8_put(args, o + r, 0, total(_mm256_add_epi32(s[r][0], s[r][1])) + (uint32_t)args->bias[o + r]);
    }
}
