/* avx2.c: the four rows of a block share each 32 bytes of x; everything in 16-bit words, where no product sum can
 * overflow. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

#include <immintrin.h>

/* s += 16 products. */
WN_Q8_INLINE __m256i step(__m256i s, __m256i x, const int8_t *w)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(x, _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w))));
}

/* The four sums of s0..s3, one per dword. */
static __m128i sums(__m256i s0, __m256i s1, __m256i s2, __m256i s3)
{
    __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

void wn_q8_gemv_4x32__avx2(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1)
{
    const int8_t *w = mat->w + row0 / 4 * mat->stride;
    for (size_t o = row0; o < row1; o += 4) {
        __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < mat->stride / 4; k += 32) {
            __m256i lo = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(args->x + k)));
            __m256i hi = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(args->x + k + 16)));
            s0 = step(step(s0, lo, w), hi, w + 16);
            s1 = step(step(s1, lo, w + 64), hi, w + 64 + 16);
            s2 = step(step(s2, lo, w + 128), hi, w + 128 + 16);
            s3 = step(step(s3, lo, w + 192), hi, w + 192 + 16);
            w += k % 64 ? 256 - 32 : 32;
        }
        uint32_t sum[4];
        _mm_storeu_si128((__m128i *)sum, sums(s0, s1, s2, s3));
        for (size_t r = 0; r < 4 && o + r < row1; r++)
            wn_q8_put(args, o + r, 0, sum[r] + (uint32_t)args->bias[o + r]);
    }
}
