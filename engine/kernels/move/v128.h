/* v128.h: the 16-byte operations that planes.c and cols.c are written in, of what every x86-64 (SSE2) and every aarch64
 * has. Memory needs no alignment. */
#ifndef WN_MOVE_V128_H
#define WN_MOVE_V128_H

#include <stddef.h>
#include <stdint.h>

#define V128_INLINE static inline __attribute__((always_inline))

#ifdef __aarch64__
#include <arm_neon.h>
typedef uint8x16_t v128;

V128_INLINE v128 v128_load(const void *p)
{
    return vld1q_u8(p);
}
V128_INLINE void v128_store(void *p, v128 v)
{
    vst1q_u8(p, v);
}
V128_INLINE v128 v128_splat_1(uint8_t value)
{
    return vdupq_n_u8(value);
}
V128_INLINE v128 v128_splat_4(uint32_t value)
{
    return vreinterpretq_u8_u32(vdupq_n_u32(value));
}
/** v where keep is ~0, other where it is 0. */
V128_INLINE v128 v128_select(v128 keep, v128 v, v128 other)
{
    return vbslq_u8(keep, v, other);
}
/** Even and odd elements of the 32 bytes at src. */
V128_INLINE void v128_halves_4(const uint32_t *src, v128 *even, v128 *odd)
{
    uint32x4x2_t both = vld2q_u32(src);
    *even = vreinterpretq_u8_u32(both.val[0]);
    *odd = vreinterpretq_u8_u32(both.val[1]);
}
V128_INLINE void v128_halves_1(const uint8_t *src, v128 *even, v128 *odd)
{
    uint8x16x2_t both = vld2q_u8(src);
    *even = both.val[0];
    *odd = both.val[1];
}
/** dst[j * dst_stride + i] = src[i * src_stride + j], i, j < 4 */
V128_INLINE void v128_transpose_f32(const float *src, size_t src_stride, float *dst, size_t dst_stride)
{
    float32x4_t a = vld1q_f32(src), b = vld1q_f32(src + src_stride);
    float32x4_t c = vld1q_f32(src + 2 * src_stride), d = vld1q_f32(src + 3 * src_stride);
    float32x4x2_t ac = vzipq_f32(a, c), bd = vzipq_f32(b, d);
    float32x4x2_t lo = vzipq_f32(ac.val[0], bd.val[0]), hi = vzipq_f32(ac.val[1], bd.val[1]);
    vst1q_f32(dst, lo.val[0]);
    vst1q_f32(dst + dst_stride, lo.val[1]);
    vst1q_f32(dst + 2 * dst_stride, hi.val[0]);
    vst1q_f32(dst + 3 * dst_stride, hi.val[1]);
}
#else
#include <emmintrin.h>
#include <xmmintrin.h>
typedef __m128i v128;

V128_INLINE v128 v128_load(const void *p)
{
    return _mm_loadu_si128(p);
}
V128_INLINE void v128_store(void *p, v128 v)
{
    _mm_storeu_si128(p, v);
}
V128_INLINE v128 v128_splat_1(uint8_t value)
{
    return _mm_set1_epi8((char)value);
}
V128_INLINE v128 v128_splat_4(uint32_t value)
{
    return _mm_set1_epi32((int)value);
}
V128_INLINE v128 v128_select(v128 keep, v128 v, v128 other)
{
    return _mm_or_si128(_mm_and_si128(keep, v), _mm_andnot_si128(keep, other));
}
V128_INLINE void v128_halves_4(const uint32_t *src, v128 *even, v128 *odd)
{
    const __m128 lo = _mm_loadu_ps((const float *)(const void *)src);
    const __m128 hi = _mm_loadu_ps((const float *)(const void *)(src + 4));
    *even = _mm_castps_si128(_mm_shuffle_ps(lo, hi, 0x88));
    *odd = _mm_castps_si128(_mm_shuffle_ps(lo, hi, 0xdd));
}
V128_INLINE void v128_halves_1(const uint8_t *src, v128 *even, v128 *odd)
{
    const __m128i low = _mm_set1_epi16(0x00ff), lo = v128_load(src), hi = v128_load(src + 16);
    *even = _mm_packus_epi16(_mm_and_si128(lo, low), _mm_and_si128(hi, low));
    *odd = _mm_packus_epi16(_mm_srli_epi16(lo, 8), _mm_srli_epi16(hi, 8));
}
V128_INLINE void v128_transpose_f32(const float *src, size_t src_stride, float *dst, size_t dst_stride)
{
    __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + src_stride), c = _mm_loadu_ps(src + 2 * src_stride),
           d = _mm_loadu_ps(src + 3 * src_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(dst, a);
    _mm_storeu_ps(dst + dst_stride, b);
    _mm_storeu_ps(dst + 2 * dst_stride, c);
    _mm_storeu_ps(dst + 3 * dst_stride, d);
}
#endif

#endif
