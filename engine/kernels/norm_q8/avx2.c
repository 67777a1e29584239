/* avx2.c: 32 bytes per step. */
#include "engine/kernels/norm_q8/norm_q8.h"

#include "engine/kernels/q8_bytes_avx2.h"

#define STEP       32
#define SHIFT      0
#define NAME(kind) wn_##kind##_32__avx2

typedef __m256i bytes;
typedef __m256i ints;
typedef __m256 floats;

typedef struct wn_q8_avx2 out_t;
#define out_begin wn_q8_avx2_begin

WN_Q8_INLINE bytes load(const uint8_t *p, size_t n)
{
    return wn_q8_load32(p, n);
}

WN_Q8_INLINE void store(uint8_t *p, bytes v, size_t n)
{
    wn_q8_store32(p, v, n);
}

WN_Q8_INLINE bytes zeros(void)
{
    return _mm256_setzero_si256();
}

WN_Q8_INLINE ints zero_ints(void)
{
    return _mm256_setzero_si256();
}

WN_Q8_INLINE bytes live(bytes x, size_t n)
{
    return _mm256_and_si256(x, _mm256_set1_epi32((int32_t)(0xffffffffu >> (32 - 8 * n))));
}

WN_Q8_INLINE void add_quads(bytes x, ints *sum, ints *squares)
{
    const __m256i lo = _mm256_unpacklo_epi8(x, zeros()), hi = _mm256_unpackhi_epi8(x, zeros());
    const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi8(1)); /* at most 510 */
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    *squares = _mm256_add_epi32(*squares, _mm256_hadd_epi32(_mm256_madd_epi16(lo, lo), _mm256_madd_epi16(hi, hi)));
}

WN_Q8_INLINE void interleave(const bytes x[4], bytes y[4])
{
    const __m256i lo01 = _mm256_unpacklo_epi8(x[0], x[1]), hi01 = _mm256_unpackhi_epi8(x[0], x[1]);
    const __m256i lo23 = _mm256_unpacklo_epi8(x[2], x[3]), hi23 = _mm256_unpackhi_epi8(x[2], x[3]);
    y[0] = _mm256_unpacklo_epi16(lo01, lo23);
    y[1] = _mm256_unpackhi_epi16(lo01, lo23);
    y[2] = _mm256_unpacklo_epi16(hi01, hi23);
    y[3] = _mm256_unpackhi_epi16(hi01, hi23);
}

WN_Q8_INLINE void put_ints(int32_t *p, ints v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

WN_Q8_INLINE floats get_floats(const float *p)
{
    return _mm256_loadu_ps(p);
}

WN_Q8_INLINE floats splat(float x)
{
    return _mm256_set1_ps(x);
}

WN_Q8_INLINE floats pattern(const float *p)
{
    const __m128 four = _mm_loadu_ps(p);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(four), four, 1);
}

WN_Q8_INLINE bytes finish(const out_t *o, bytes x, const floats *mean, const floats *inv, const floats *g,
                          const floats *b)
{
    __m256i d[4];
    __m256 f[4];
    wn_q8_widen(x, d);
    WN_UNROLL
    for (size_t v = 0; v < 4; v++) {
        f[v] = _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(d[v]), mean[v]), inv[v]);
        f[v] = _mm256_add_ps(_mm256_mul_ps(f[v], g[v]), b[v]);
    }
    return wn_q8_narrow(o, f);
}
#define normed(o, x, mean, inv, g, b) finish(o, x, (mean)->v, (inv)->v, (g)->v, (b)->v)

#include "engine/kernels/norm_q8/kernel.inc"
