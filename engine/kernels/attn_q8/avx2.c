/* avx2.c: 4 keys or features by 16 queries. Bytes are widened to 16 bits, whose products in pairs are exact; what is
 * kept of queries and weights has its zero point taken off. */
#include <immintrin.h>
#include <string.h>
#include "engine/kernels/f32_math.h"

#define NAME    wn_attn_q8_4x16__avx2
#define NV      2
#define KR      4
#define CENTRED 1
#define OFFSET  0 /* not used */
#define CELL    8 /* bytes that a lane of a quad takes: four words */

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

/* Bytes 0 and 1 of every dword as words, and 2 and 3. */
struct quad {
    vi lo, hi;
};

WN_INLINE struct quad widened(vi x)
{
    const vi lo = _mm256_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4, -1, 5, -1,
                                   8, -1, 9, -1, 12, -1, 13, -1);
    const vi hi = _mm256_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1, 2, -1, 3, -1, 6, -1, 7,
                                   -1, 10, -1, 11, -1, 14, -1, 15, -1);
    return (struct quad){ _mm256_shuffle_epi8(x, lo), _mm256_shuffle_epi8(x, hi) };
}

/* Four bytes of a key or value for all lanes. */
WN_INLINE struct quad spread(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return widened(_mm256_set1_epi32(v));
}

WN_INLINE struct quad quad_load(const uint8_t *p)
{
    return (struct quad){ wn_vi_load(p), wn_vi_load(p + 32) };
}

WN_INLINE vi dot(vi acc, struct quad x, struct quad w)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.lo, w.lo));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x.hi, w.hi));
}

/* Quads of queries, less their zero point. */
WN_INLINE void keep_queries(uint8_t *to, const uint8_t *q, int32_t zp)
{
    const struct quad x = widened(wn_vi_load(q));
    const vi z = _mm256_set1_epi16((int16_t)zp);
    wn_vi_store(to, _mm256_sub_epi16(x.lo, z));
    wn_vi_store(to + 32, _mm256_sub_epi16(x.hi, z));
}

/* Weights of four keys, rounded: at most 255 with the zero point, which is not in them. */
WN_INLINE void keep_weights(uint8_t *to, const vi i[4], int32_t zp)
{
    const vi most = _mm256_set1_epi32(255 - zp), low = _mm256_set1_epi32(0xffff);
    for (int half = 0; half < 2; half++) {
        const vi a = vi_min(i[2 * half], most), b = vi_min(i[2 * half + 1], most);
        wn_vi_store(to + 32 * half, _mm256_or_si256(_mm256_and_si256(a, low), _mm256_slli_epi32(b, 16)));
    }
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
