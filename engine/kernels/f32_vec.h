/* f32_vec.h: one vector of floats under the same names for 256 and 512 bits, so that a f32 family writes its kernel
 * once (kernel.inc) and compiles it in avx2.c, in neon.c, whose vectors are pairs of 128 bits (32 registers make
 * sixteen pairs, as many as AVX2 has), and, after #define WN_F32_VEC512, in avx512vnni.c.
 *
 * Loops over registers are unrolled by WN_UNROLL and their bounds are literals after inlining: gcc 12 and clang 14 then
 * keep `vf acc[...]` in registers without spills (looked at in the disassembly of every kernel.inc). */
#ifndef WN_F32_VEC_H
#define WN_F32_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/kernels/kernels.h"

#define WN_INLINE static inline __attribute__((always_inline))

#ifdef WN_F32_VEC512
#include "engine/kernels/simd512.h"
#define VL 16 /* floats in a vector */
typedef v512f vf;
#define vf_load       v512f_load
#define vf_store      v512f_store
#define vf_set1       v512f_set1
#define vf_zero       v512f_zero
#define vf_add        v512f_add
#define vf_sub        v512f_sub
#define vf_mul        v512f_mul
#define vf_div        v512f_div
#define vf_sqrt       v512f_sqrt
#define vf_min        v512f_min
#define vf_max        v512f_max
#define vf_fma        v512f_fma
#define vf_sum        v512f_sum
#define vf_load_part  v512f_load_part
#define vf_store_part v512f_store_part
#define vf_load_even  v512f_load_even
/** t[i][j] becomes t[j][i]. */
WN_INLINE void vf_transpose(vf t[VL])
{
    v512i u[VL]; /* u[4 k + g], lane l: element 4 l + k of rows 4 g .. 4 g + 3 */
    WN_UNROLL
    for (int g = 0; g < 4; g++) {
        const v512i r0 = v512f_as_i(t[4 * g]), r1 = v512f_as_i(t[4 * g + 1]);
        const v512i r2 = v512f_as_i(t[4 * g + 2]), r3 = v512f_as_i(t[4 * g + 3]);
        const v512i a = v512i_unpacklo_i32(r0, r1), b = v512i_unpackhi_i32(r0, r1);
        const v512i c = v512i_unpacklo_i32(r2, r3), d = v512i_unpackhi_i32(r2, r3);
        u[g] = v512i_unpacklo_i64(a, c);
        u[4 + g] = v512i_unpackhi_i64(a, c);
        u[8 + g] = v512i_unpacklo_i64(b, d);
        u[12 + g] = v512i_unpackhi_i64(b, d);
    }
    WN_UNROLL
    for (int k = 0; k < 4; k++) {
        v512i_transpose_lanes(u + 4 * k);
        WN_UNROLL
        for (int l = 0; l < 4; l++)
            t[4 * l + k] = v512i_as_f(u[4 * k + l]);
    }
}
/** max in which NaN wins. */
WN_INLINE vf vf_max_nan(vf acc, vf x)
{
    return v512i_as_f(v512i_or(v512f_as_i(v512f_max(acc, x)), v512f_nan(acc)));
}
/** x with zeros where m[i] is 0. */
WN_INLINE vf vf_keep(vf x, const uint32_t *m)
{
    return v512f_keep(v512i_load(m), x);
}
/** x with the sign of s. */
WN_INLINE vf vf_copysign(vf x, vf s)
{
    v512i sign = v512i_set1_i32(INT32_MIN);
    return v512i_as_f(v512i_or(v512i_and(sign, v512f_as_i(s)), v512i_andnot(sign, v512f_as_i(x))));
}
#define vf_store_first v512f_store_part
#define vf_round       v512f_round
#define vf_scale2      v512f_scale2
/** a where x > y, else b. */
WN_INLINE vf vf_select_gt(vf x, vf y, vf a, vf b)
{
    return v512i_as_f(v512i_select(v512f_gt(x, y), v512f_as_i(a), v512f_as_i(b)));
}
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>
#define VL 8
typedef float32x4x2_t vf;
#define VF_OP2(name, expr)                                                                                             \
    WN_INLINE float32x4_t name##_half(float32x4_t x, float32x4_t y)                                                    \
    {                                                                                                                  \
        return expr;                                                                                                   \
    }                                                                                                                  \
    WN_INLINE vf name(vf x, vf y)                                                                                      \
    {                                                                                                                  \
        return (vf){ { name##_half(x.val[0], y.val[0]), name##_half(x.val[1], y.val[1]) } };                           \
    }
VF_OP2(vf_add, vaddq_f32(x, y))
VF_OP2(vf_sub, vsubq_f32(x, y))
VF_OP2(vf_mul, vmulq_f32(x, y))
VF_OP2(vf_div, vdivq_f32(x, y))
/* the second operand when one is NaN, as on x86 */
VF_OP2(vf_min, vbslq_f32(vcltq_f32(x, y), x, y))
VF_OP2(vf_max, vbslq_f32(vcgtq_f32(x, y), x, y))
/** max in which NaN wins. */
VF_OP2(vf_max_nan, vmaxq_f32(x, y))
/** x with the sign of y. */
VF_OP2(vf_copysign, vbslq_f32(vdupq_n_u32(0x80000000u), y, x))
WN_INLINE vf vf_load(const float *p)
{
    return (vf){ { vld1q_f32(p), vld1q_f32(p + 4) } };
}
WN_INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x.val[0]);
    vst1q_f32(p + 4, x.val[1]);
}
WN_INLINE vf vf_set1(float x)
{
    return (vf){ { vdupq_n_f32(x), vdupq_n_f32(x) } };
}
WN_INLINE vf vf_zero(void)
{
    return vf_set1(0.0f);
}
WN_INLINE vf vf_sqrt(vf x)
{
    return (vf){ { vsqrtq_f32(x.val[0]), vsqrtq_f32(x.val[1]) } };
}
WN_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf){ { vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]) } };
}
WN_INLINE float vf_sum(vf x)
{
    return vaddvq_f32(vaddq_f32(x.val[0], x.val[1]));
}
WN_INLINE vf vf_load_part(const float *p, unsigned n)
{
    float part[VL] = { 0 };
    memcpy(part, p, n * sizeof *p);
    return vf_load(part);
}
WN_INLINE void vf_store_part(float *p, vf x, unsigned n)
{
    float part[VL];
    vf_store(part, x);
    memcpy(p, part, n * sizeof *p);
}
/** p[0], p[2], … p[14]; reads p[15] too. */
WN_INLINE vf vf_load_even(const float *p)
{
    return (vf){ { vuzp1q_f32(vld1q_f32(p), vld1q_f32(p + 4)), vuzp1q_f32(vld1q_f32(p + 8), vld1q_f32(p + 12)) } };
}
WN_INLINE float32x4_t vf_and(float32x4_t x, uint32x4_t m)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), m));
}
WN_INLINE vf vf_keep(vf x, const uint32_t *m)
{
    return (vf){ { vf_and(x.val[0], vld1q_u32(m)), vf_and(x.val[1], vld1q_u32(m + 4)) } };
}
WN_INLINE vf vf_round(vf x)
{
    return (vf){ { vrndnq_f32(x.val[0]), vrndnq_f32(x.val[1]) } };
}
WN_INLINE float32x4_t vf_two_to(float32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
WN_INLINE vf vf_scale2(vf x, vf n)
{
    return (vf){ { vmulq_f32(x.val[0], vf_two_to(n.val[0])), vmulq_f32(x.val[1], vf_two_to(n.val[1])) } };
}
WN_INLINE vf vf_select_gt(vf x, vf y, vf a, vf b)
{
    return (vf){ { vbslq_f32(vcgtq_f32(x.val[0], y.val[0]), a.val[0], b.val[0]),
                   vbslq_f32(vcgtq_f32(x.val[1], y.val[1]), a.val[1], b.val[1]) } };
}
#undef VF_OP2
#else
#include <immintrin.h>
#define VL       8
typedef __m256 vf;
#define vf_store _mm256_storeu_ps
#define vf_load  _mm256_loadu_ps
#define vf_set1  _mm256_set1_ps
#define vf_zero  _mm256_setzero_ps
#define vf_add   _mm256_add_ps
#define vf_sub   _mm256_sub_ps
#define vf_mul   _mm256_mul_ps
#define vf_div   _mm256_div_ps
#define vf_sqrt  _mm256_sqrt_ps
#define vf_min   _mm256_min_ps
#define vf_max   _mm256_max_ps
#define vf_fma   _mm256_fmadd_ps
WN_INLINE float vf_sum(vf x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
WN_INLINE __m256i vf_part(unsigned n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
WN_INLINE vf vf_load_part(const float *p, unsigned n)
{
    return _mm256_maskload_ps(p, vf_part(n));
}
WN_INLINE void vf_store_part(float *p, vf x, unsigned n)
{
    _mm256_maskstore_ps(p, vf_part(n), x);
}
/** vf_store_part for a literal n: AVX2's masked store takes a dozen cycles on AMD's CPUs. */
WN_INLINE void vf_store_first(float *p, vf x, const unsigned n)
{
    __m128 part = _mm256_castps256_ps128(x);
    if (n >= 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(x, 1);
    }
    p += n & 4;
    if (n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, part);
        part = _mm_movehl_ps(part, part);
    }
    if (n & 1)
        _mm_store_ss(p + (n & 2), part);
}
/** p[0], p[2], … p[14]; reads p[15] too. */
WN_INLINE vf vf_load_even(const float *p)
{
    const __m256 even = _mm256_shuffle_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8), 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
}
WN_INLINE vf vf_max_nan(vf acc, vf x)
{
    return _mm256_or_ps(_mm256_max_ps(acc, x), _mm256_cmp_ps(acc, acc, _CMP_UNORD_Q));
}
WN_INLINE vf vf_keep(vf x, const uint32_t *m)
{
    return _mm256_and_ps(x, _mm256_loadu_ps((const float *)(const void *)m));
}
WN_INLINE vf vf_copysign(vf x, vf s)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_and_ps(sign, s), _mm256_andnot_ps(sign, x));
}
WN_INLINE vf vf_round(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x and the result are normal (or x NaN and n, too): the exponent may simply be added to. */
WN_INLINE vf vf_scale2(vf x, vf n)
{
    const __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), e));
}
WN_INLINE vf vf_select_gt(vf x, vf y, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_GT_OQ));
}
#endif

/** n vectors are computed before what follows, n > 1: gcc would make one chain of steps after the other, and the CPU sees
 * too few of them at a time. */
WN_INLINE void vf_settle(const int n, vf *x)
{
#if defined(__AVX2__) && !defined(WN_F32_VEC512)
    WN_UNROLL
    for (int i = 0; i < n && n > 1; i++)
        __asm__("" : "+x"(x[i]));
#endif
}

/** clamp; NaN passes through. */
WN_INLINE vf vf_clamp(vf x, vf lo, vf hi)
{
    return vf_min(hi, vf_max(lo, x));
}

#endif
