/* q8_bytes_avx2.h: runs of bytes, 32 at a time. Include from avx2.c files only.
 *
 * 32 bytes are widened within lanes to four vectors of dwords, of which packs and packus restore the order:
 *   v[i] has bytes 4 i .. 4 i + 3 | 16 + 4 i .. 16 + 4 i + 3. */
#ifndef WN_Q8_BYTES_AVX2_H
#define WN_Q8_BYTES_AVX2_H

#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_avx2.h"

/** 32 bytes from p, of which n may be read; the others are 0. */
WN_Q8_INLINE __m256i wn_q8_load32(const uint8_t *p, size_t n)
{
    if (WN_LIKELY(n >= 32))
        return _mm256_loadu_si256((const __m256i *)p);
    uint8_t part[32] = { 0 };
    memcpy(part, p, n);
    return _mm256_loadu_si256((const __m256i *)part);
}

/** The first n of 32 bytes. */
WN_Q8_INLINE void wn_q8_store32(uint8_t *p, __m256i v, size_t n)
{
    if (WN_LIKELY(n >= 32)) {
        _mm256_storeu_si256((__m256i *)p, v);
        return;
    }
    uint8_t part[32];
    _mm256_storeu_si256((__m256i *)part, v);
    memcpy(p, part, n);
}

WN_Q8_INLINE void wn_q8_widen(__m256i b, __m256i *v)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i lo = _mm256_unpacklo_epi8(b, zero), hi = _mm256_unpackhi_epi8(b, zero);
    v[0] = _mm256_unpacklo_epi16(lo, zero);
    v[1] = _mm256_unpackhi_epi16(lo, zero);
    v[2] = _mm256_unpacklo_epi16(hi, zero);
    v[3] = _mm256_unpackhi_epi16(hi, zero);
}

/** Add the zero point, clamp: bytes of 32 integers. */
WN_Q8_INLINE __m256i wn_q8_narrow_i32(const struct wn_q8_avx2 *e, const __m256i *i)
{
    __m256i lo = _mm256_packs_epi32(i[0], i[1]), hi = _mm256_packs_epi32(i[2], i[3]);
    return wn_q8_avx2_clamp(e, _mm256_packus_epi16(_mm256_adds_epi16(lo, e->y_zp), _mm256_adds_epi16(hi, e->y_zp)));
}

/** Round, add the zero point, clamp: wn_q8_byte() of 32 floats. */
WN_Q8_INLINE __m256i wn_q8_narrow(const struct wn_q8_avx2 *e, const __m256 *f)
{
    const __m256i i[4] = { wn_q8_avx2_rne(e, f[0]), wn_q8_avx2_rne(e, f[1]), wn_q8_avx2_rne(e, f[2]),
                           wn_q8_avx2_rne(e, f[3]) };
    return wn_q8_narrow_i32(e, i);
}

/** wn_q8_live() of bytes i..i+31 (i a multiple of 32) of a run of `bytes`, as a byte mask. */
WN_Q8_INLINE __m256i wn_q8_keep32(enum wn_q8_out form, size_t c, size_t channels, const uint32_t *mask, size_t i,
                                  size_t bytes)
{
    if (form == WN_OUT_QUAD) {
        size_t rows = channels - c;
        __m256i live = _mm256_set1_epi32(rows >= 4 ? -1 : (int)(0xffffffffu >> (32 - 8 * rows)));
        if (!mask)
            return live;
        return _mm256_and_si256(live, wn_q8_load32((const uint8_t *)(mask + i / 4), bytes - i));
    }
    if (!mask)
        return _mm256_set1_epi8(-1);
    if (bytes - i < 32) {
        int8_t part[32] = { 0 };
        for (size_t j = i; j < bytes; j++)
            part[j - i] = mask[j] ? -1 : 0;
        return _mm256_loadu_si256((const __m256i *)part);
    }
    __m256i m[4];
    for (unsigned j = 0; j < 4; j++)
        m[j] = _mm256_loadu2_m128i((const __m128i *)(mask + i + 4 * j + 16), (const __m128i *)(mask + i + 4 * j));
    return _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
}

/** The pad value wherever keep is 0. */
WN_Q8_INLINE __m256i wn_q8_padded(const struct wn_q8_avx2 *e, __m256i v, __m256i keep)
{
    return _mm256_blendv_epi8(e->pad, v, keep);
}

/** y[j] = x[2 j], dwords; reads up to x[2 n - 1]. */
static inline void wn_q8_every_second_dword(const uint8_t *x, size_t n, uint8_t *y)
{
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        __m256 a = _mm256_loadu_ps((const float *)(const void *)(x + 8 * j));
        __m256 b = _mm256_loadu_ps((const float *)(const void *)(x + 8 * j + 32));
        __m256i v = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
        _mm256_storeu_si256((__m256i *)(y + 4 * j), _mm256_permute4x64_epi64(v, 0xd8));
    }
    for (; j < n; j++)
        memcpy(y + 4 * j, x + 8 * j, 4);
}

/** The same of bytes. */
static inline void wn_q8_every_second_byte(const uint8_t *x, size_t n, uint8_t *y)
{
    const __m256i low = _mm256_set1_epi16(0xff);
    size_t j = 0;
    for (; j + 32 <= n; j += 32) {
        __m256i a = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + 2 * j)), low);
        __m256i b = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + 2 * j + 32)), low);
        _mm256_storeu_si256((__m256i *)(y + j), _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
    }
    for (; j < n; j++)
        y[j] = x[2 * j];
}

/** n elements of `lanes` bytes (1 or 4), `step` elements apart. Over-reads at most one element, when step is 2. */
static inline void wn_q8_every_nth(const uint8_t *x, size_t lanes, size_t step, size_t n, uint8_t *y)
{
    if (step == 1)
        memcpy(y, x, lanes * n);
    else if (step == 2)
        (lanes == 4 ? wn_q8_every_second_dword : wn_q8_every_second_byte)(x, n, y);
    else if (lanes == 4)
        for (size_t j = 0; j < n; j++)
            memcpy(y + 4 * j, x + 4 * step * j, 4);
    else
        for (size_t j = 0; j < n; j++)
            y[j] = x[step * j];
}

#endif
