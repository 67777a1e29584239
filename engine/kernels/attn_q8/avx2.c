/* avx2.c: 6 keys, or 4 features, by 16 queries. */
#include <immintrin.h>
#include <string.h>
#include "engine/kernels/f32_math.h"

#define NAME    wn_attn_q8_6x16__avx2
#define NV      2
#define KR      6
#define CENTRED 1
#define CELL    8 /* words */

typedef __m256i vi;
#define vi_load      wn_vi_load
#define vi_store     wn_vi_store
#define vi_set1      _mm256_set1_epi32
#define vi_zero      _mm256_setzero_si256
#define vi_add       _mm256_add_epi32
#define vi_sub       _mm256_sub_epi32
#define vi_mul       _mm256_mullo_epi32
#define vi_min       _mm256_min_epi32
#define vi_max       _mm256_max_epi32
#define vi_or        _mm256_or_si256
#define vi_shl(x, n) _mm256_slli_epi32(x, n)
#define vi_to_f      _mm256_cvtepi32_ps
#define vf_to_i      _mm256_cvtps_epi32
#define vi_as_f      _mm256_castsi256_ps

WN_INLINE vi wn_vi_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

WN_INLINE void wn_vi_store(void *p, vi x)
{
    _mm256_storeu_si256((__m256i *)p, x);
}

WN_INLINE vi cut(vi i, int32_t zp)
{
    return vi_min(vi_max(vi_add(i, vi_set1(zp)), vi_zero()), vi_set1(255));
}

/* Four features of `width` queries. */
WN_INLINE void put_quads(void *y, const vi i[4], int32_t zp, unsigned width)
{
    vi b = vi_zero();
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++)
        b = vi_or(b, vi_shl(cut(i[k], zp), 8 * (int)k));
    if (width == VL)
        wn_vi_store(y, b);
    else
        vf_store_part(y, vi_as_f(b), width);
}

/* n features. */
WN_INLINE void put_planes(uint8_t *y, size_t stride, size_t n, const vi i[4], int32_t zp, unsigned width)
{
    WN_UNROLL
    for (unsigned f = 0; f < 4; f++, y += stride) {
        const vi w = _mm256_packs_epi32(cut(i[f], zp), vi_zero()), b = _mm256_packus_epi16(w, w);
        const int32_t low = _mm256_cvtsi256_si32(b), high = _mm256_extract_epi32(b, 4);
        const uint64_t all = (uint32_t)low | (uint64_t)(uint32_t)high << 32;
        if (f >= n)
            break;
        if (width == VL)
            memcpy(y, &all, 8);
        else
            memcpy(y, &all, width);
    }
}

#include "engine/kernels/attn_q8/kernel.inc"
