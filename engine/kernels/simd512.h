/* simd512.h: the 512-bit operations that avx512vnni.c files are written in.
 *
 * DESIGN  A thin layer with two backends, so that every AVX-512 kernel runs on every development machine:
 *           native            AVX-512 F/BW/VL/DQ/VNNI intrinsics, one instruction each unless a comment says otherwise;
 *           -DWN_SIMDE        (test build only) SIMDe where it has the operation, plain C loops where it lacks it.
 *         Both give the same bits, float reductions excepted (their order of summation differs).
 *         v512f is 16 floats; v512i is 64 bytes whose element type is in the operation's name: i8 u8 i16 i32.
 *         "lanes" are the four 128-bit quarters that unpack, pack and shuffle work within.
 *         Memory needs no alignment. */
#ifndef WN_SIMD512_H
#define WN_SIMD512_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef WN_SIMDE
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx2.h>
#include <simde/x86/fma.h>
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop
#define WN_V512(op) simde_mm512_##op
typedef simde__m512 v512f;
typedef simde__m512i v512i;
#else
#include <immintrin.h>
#define WN_V512(op) _mm512_##op
typedef __m512 v512f;
typedef __m512i v512i;
#endif

#define V512_INLINE static inline __attribute__((always_inline))
/* name(args) = intrinsic(args), by arity */
#define V512_OP1(ret, name, op, a)                                                                                     \
    V512_INLINE ret name(a x)                                                                                          \
    {                                                                                                                  \
        return WN_V512(op)(x);                                                                                         \
    }
#define V512_OP2(ret, name, op, a, b)                                                                                  \
    V512_INLINE ret name(a x, b y)                                                                                     \
    {                                                                                                                  \
        return WN_V512(op)(x, y);                                                                                      \
    }

/* ---- float ---- */
V512_OP1(v512f, v512f_load, loadu_ps, const void *)
V512_OP1(v512f, v512f_set1, set1_ps, float)
V512_OP2(v512f, v512f_add, add_ps, v512f, v512f)
V512_OP2(v512f, v512f_sub, sub_ps, v512f, v512f)
V512_OP2(v512f, v512f_mul, mul_ps, v512f, v512f)
V512_OP2(v512f, v512f_div, div_ps, v512f, v512f)
V512_OP1(v512f, v512f_sqrt, sqrt_ps, v512f)
/* min and max return their second operand when one is NaN: put the constant first and NaN passes through */
V512_OP2(v512f, v512f_min, min_ps, v512f, v512f)
V512_OP2(v512f, v512f_max, max_ps, v512f, v512f)
V512_OP1(v512i, v512f_as_i, castps_si512, v512f)
V512_OP1(v512f, v512i_as_f, castsi512_ps, v512i)
V512_INLINE v512f v512f_zero(void)
{
    return WN_V512(setzero_ps)();
}
V512_INLINE void v512f_store(void *p, v512f x)
{
    WN_V512(storeu_ps)(p, x);
}
/** a * b + c, rounded once. */
V512_INLINE v512f v512f_fma(v512f a, v512f b, v512f c)
{
    return WN_V512(fmadd_ps)(a, b, c);
}

/* ---- integers: moves ---- */
V512_OP1(v512i, v512i_load, loadu_si512, const void *)
V512_OP1(v512i, v512i_set1_i32, set1_epi32, int32_t)
V512_OP1(v512i, v512i_set1_i16, set1_epi16, int16_t)
V512_OP1(v512i, v512i_set1_i8, set1_epi8, int8_t)
V512_INLINE v512i v512i_zero(void)
{
    return WN_V512(setzero_si512)();
}
V512_INLINE void v512i_store(void *p, v512i x)
{
    WN_V512(storeu_si512)(p, x);
}
/** Four stored bytes of weights or offsets in every dword. */
V512_INLINE v512i v512i_bcast32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return WN_V512(set1_epi32)(v);
}

/* ---- integers: arithmetic and logic ---- */
V512_OP2(v512i, v512i_add_i32, add_epi32, v512i, v512i)
V512_OP2(v512i, v512i_sub_i32, sub_epi32, v512i, v512i)
V512_OP2(v512i, v512i_mullo_i32, mullo_epi32, v512i, v512i)
V512_OP2(v512i, v512i_add_i16, add_epi16, v512i, v512i)
V512_OP2(v512i, v512i_adds_i16, adds_epi16, v512i, v512i)
V512_OP2(v512i, v512i_adds_u8, adds_epu8, v512i, v512i)
V512_OP2(v512i, v512i_min_i32, min_epi32, v512i, v512i)
V512_OP2(v512i, v512i_max_i32, max_epi32, v512i, v512i)
V512_OP2(v512i, v512i_min_i16, min_epi16, v512i, v512i)
V512_OP2(v512i, v512i_max_i16, max_epi16, v512i, v512i)
V512_OP2(v512i, v512i_min_u8, min_epu8, v512i, v512i)
V512_OP2(v512i, v512i_max_u8, max_epu8, v512i, v512i)
V512_OP2(v512i, v512i_and, and_si512, v512i, v512i)
V512_OP2(v512i, v512i_or, or_si512, v512i, v512i)
V512_OP2(v512i, v512i_xor, xor_si512, v512i, v512i)
/** ~x & y */
V512_OP2(v512i, v512i_andnot, andnot_si512, v512i, v512i)
/** i16 products added in pairs: 32 i16 -> 16 i32. */
V512_OP2(v512i, v512i_madd_i16, madd_epi16, v512i, v512i)
/** u8 * s8 products added in pairs, saturating: 64 -> 32 i16; x holds the u8. */
V512_OP2(v512i, v512i_maddubs, maddubs_epi16, v512i, v512i)
#define v512i_slli_i32(x, n) WN_V512(slli_epi32)(x, n)
#define v512i_srli_i32(x, n) WN_V512(srli_epi32)(x, n)

/* ---- integers: interleave, pack, permute ---- */
V512_OP2(v512i, v512i_unpacklo_i8, unpacklo_epi8, v512i, v512i)
V512_OP2(v512i, v512i_unpackhi_i8, unpackhi_epi8, v512i, v512i)
V512_OP2(v512i, v512i_unpacklo_i16, unpacklo_epi16, v512i, v512i)
V512_OP2(v512i, v512i_unpackhi_i16, unpackhi_epi16, v512i, v512i)
V512_OP2(v512i, v512i_unpacklo_i32, unpacklo_epi32, v512i, v512i)
V512_OP2(v512i, v512i_unpackhi_i32, unpackhi_epi32, v512i, v512i)
V512_OP2(v512i, v512i_unpacklo_i64, unpacklo_epi64, v512i, v512i)
V512_OP2(v512i, v512i_unpackhi_i64, unpackhi_epi64, v512i, v512i)
/** Saturating narrowing within lanes: x's half, then y's. */
V512_OP2(v512i, v512i_packs_i32, packs_epi32, v512i, v512i)
V512_OP2(v512i, v512i_packs_i16, packs_epi16, v512i, v512i)
V512_OP2(v512i, v512i_packus_i16, packus_epi16, v512i, v512i)
/** pshufb: bytes within each lane by the low bits of idx; idx < 0 gives 0. */
V512_OP2(v512i, v512i_shuffle_i8, shuffle_epi8, v512i, v512i)
/** Lane i of v[j] becomes lane j of v[i]. */
V512_INLINE void v512i_transpose_lanes(v512i v[4])
{
    v512i a = WN_V512(shuffle_i32x4)(v[0], v[1], 0x44), b = WN_V512(shuffle_i32x4)(v[0], v[1], 0xee);
    v512i c = WN_V512(shuffle_i32x4)(v[2], v[3], 0x44), d = WN_V512(shuffle_i32x4)(v[2], v[3], 0xee);
    v[0] = WN_V512(shuffle_i32x4)(a, c, 0x88);
    v[1] = WN_V512(shuffle_i32x4)(a, c, 0xdd);
    v[2] = WN_V512(shuffle_i32x4)(b, d, 0x88);
    v[3] = WN_V512(shuffle_i32x4)(b, d, 0xdd);
}
/** dwords across all lanes by idx. */
V512_INLINE v512i v512i_permute_i32(v512i x, v512i idx)
{
    return WN_V512(permutexvar_epi32)(idx, x);
}

#ifndef WN_SIMDE
/** acc + four u8 * s8 products per dword; exact. Pinned: gcc 12 copies the accumulators around the intrinsic. */
V512_INLINE v512i v512i_dpbusd(v512i acc, v512i u8, v512i s8)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u8), "v"(s8));
    return acc;
}
/** A load for several uses: an instruction of its own, where the compiler would repeat it as their memory operand. */
V512_INLINE v512i v512i_load_once(const void *p)
{
    v512i x = v512i_load(p);
    __asm__("" : "+v"(x));
    return x;
}
/* The first 32 bytes alone: half the work where 512 bits are two of 256. What the others hold is nobody's matter. */
#define V512_LOW2(name, op)                                                                                            \
    V512_INLINE v512i name(v512i x, v512i y)                                                                           \
    {                                                                                                                  \
        return _mm512_castsi256_si512(_mm256_##op(_mm512_castsi512_si256(x), _mm512_castsi512_si256(y)));              \
    }
V512_LOW2(v512i_low_unpacklo_i8, unpacklo_epi8)
V512_LOW2(v512i_low_unpackhi_i8, unpackhi_epi8)
V512_LOW2(v512i_low_unpacklo_i16, unpacklo_epi16)
V512_LOW2(v512i_low_unpackhi_i16, unpackhi_epi16)
#undef V512_LOW2
V512_INLINE v512i v512i_low_load_once(const void *p)
{
    v512i x = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)p));
    __asm__("" : "+v"(x));
    return x;
}
V512_INLINE v512i v512i_low_dpbusd(v512i acc, v512i u8, v512i s8)
{
    __asm__("vpdpbusd %t2, %t1, %t0" : "+v"(acc) : "v"(u8), "v"(s8));
    return acc;
}
V512_OP1(v512f, v512i_to_f32, cvtepi32_ps, v512i)
/** To int32 by the current rounding (nearest even); out of range and NaN give INT32_MIN. */
V512_OP1(v512i, v512f_to_i32, cvtps_epi32, v512f)
/** To a whole number, half to even. */
V512_INLINE v512f v512f_round(v512f x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/** x * 2^n for integral n in [-126, 127]. */
V512_OP2(v512f, v512f_scale2, scalef_ps, v512f, v512f)
#define v512i_srai_i32(x, n) WN_V512(srai_epi32)(x, n)
#define v512i_srai_i16(x, n) WN_V512(srai_epi16)(x, n)
V512_OP1(float, v512f_sum, reduce_add_ps, v512f)
V512_OP1(int32_t, v512i_sum_i32, reduce_add_epi32, v512i)
/** 16 bytes widened to dwords. */
V512_INLINE v512i v512i_load_u8_i32(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
/** The low byte of every dword, 16 bytes (values must fit: vpmovdb truncates). */
V512_INLINE void v512i_store_i32_u8(void *p, v512i x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
}
/** First n <= 16 dwords, the others 0 and untouched in memory. */
V512_INLINE v512f v512f_load_part(const void *p, unsigned n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
V512_INLINE void v512f_store_part(void *p, v512f x, unsigned n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}
/** Lanes from .. to - 1 <= 15, the first of them at p; nothing around them is touched. */
V512_INLINE void v512f_store_lanes(float *p, v512f x, unsigned from, unsigned to)
{
    float *lane_0 = (float *)((uintptr_t)p - from * sizeof *p);
    _mm512_mask_storeu_ps(lane_0, (__mmask16)((1u << to) - (1u << from)), x);
}
/** The first n <= 16 dwords of x, the others of y. */
V512_INLINE v512f v512f_merge_first(v512f x, v512f y, unsigned n)
{
    return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), y, x);
}
/** First n <= 64 bytes. */
V512_INLINE v512i v512i_load_part(const void *p, unsigned n)
{
    return _mm512_maskz_loadu_epi8(n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1, p);
}
V512_INLINE void v512i_store_part(void *p, v512i x, unsigned n)
{
    _mm512_mask_storeu_epi8(p, n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1, x);
}
/** p[idx[i]] for 16 dword indices. */
V512_INLINE v512f v512f_gather(const float *p, v512i idx)
{
    return _mm512_i32gather_ps(idx, p, 4);
}
/** ~0 in the dwords where x > y. */
V512_INLINE v512i v512f_gt(v512f x, v512f y)
{
    return _mm512_movm_epi32(_mm512_cmp_ps_mask(x, y, _CMP_GT_OQ));
}
/** ~0 in the dwords that are NaN. */
V512_INLINE v512i v512f_nan(v512f x)
{
    return _mm512_movm_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
}
/** Is x > y in any dword? */
V512_INLINE bool v512i_any_gt_i32(v512i x, v512i y)
{
    return _mm512_cmpgt_epi32_mask(x, y) != 0;
}
/** The lesser of |x| and |y|, and the greater; where one is NaN, the other's. */
V512_INLINE v512f v512f_min_abs(v512f x, v512f y)
{
    return _mm512_range_ps(x, y, 0xa);
}
V512_INLINE v512f v512f_max_abs(v512f x, v512f y)
{
    return _mm512_range_ps(x, y, 0xb);
}
/** Entries of a table of 32 floats (two vectors) by the low five bits of idx. */
V512_INLINE v512f v512f_lookup32(const v512f table[2], v512i idx)
{
    return _mm512_permutex2var_ps(table[0], idx, table[1]);
}
/** p[0], p[2], … p[30]; reads p[31] too. */
V512_INLINE v512f v512f_load_even(const float *p)
{
    const __m512i idx = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(_mm512_loadu_ps(p), idx, _mm512_loadu_ps(p + 16));
}
#else
union v512_bits {
    v512f f;
    v512i i;
    float f32[16];
    int32_t i32[16];
    int16_t i16[32];
    uint8_t u8[64];
};
V512_INLINE v512i v512i_dpbusd(v512i acc, v512i u8, v512i s8)
{
    return simde_mm512_dpbusd_epi32(acc, u8, s8);
}
V512_INLINE v512i v512i_load_once(const void *p)
{
    return v512i_load(p);
}
#define v512i_low_unpacklo_i8  v512i_unpacklo_i8
#define v512i_low_unpackhi_i8  v512i_unpackhi_i8
#define v512i_low_unpacklo_i16 v512i_unpacklo_i16
#define v512i_low_unpackhi_i16 v512i_unpackhi_i16
#define v512i_low_load_once    v512i_load
#define v512i_low_dpbusd       v512i_dpbusd
V512_INLINE v512f v512i_to_f32(v512i x)
{
    union v512_bits b = { .i = x }, r = { .f = v512f_zero() };
    for (unsigned k = 0; k < 16; k++)
        r.f32[k] = (float)b.i32[k];
    return r.f;
}
V512_INLINE v512f v512f_round(v512f x)
{
    union v512_bits b = { .f = x };
    for (unsigned k = 0; k < 16; k++)
        b.f32[k] = __builtin_rintf(b.f32[k]);
    return b.f;
}
V512_INLINE v512i v512f_to_i32(v512f x)
{
    union v512_bits b = { .f = x }, r = { .f = v512f_zero() };
    for (unsigned k = 0; k < 16; k++)
        r.i32[k] =
            b.f32[k] >= -2147483648.0f && b.f32[k] < 2147483648.0f ? (int32_t)__builtin_rintf(b.f32[k]) : INT32_MIN;
    return r.i;
}
V512_INLINE v512f v512f_scale2(v512f x, v512f n)
{
    union v512_bits b = { .f = x }, e = { .f = n };
    for (unsigned k = 0; k < 16; k++)
        b.f32[k] = __builtin_ldexpf(b.f32[k], (int)e.f32[k]);
    return b.f;
}
V512_INLINE v512i v512i_srai_i32(v512i x, unsigned n)
{
    union v512_bits b = { .i = x };
    for (unsigned k = 0; k < 16; k++)
        b.i32[k] >>= n;
    return b.i;
}
V512_INLINE v512i v512i_srai_i16(v512i x, unsigned n)
{
    union v512_bits b = { .i = x };
    for (unsigned k = 0; k < 32; k++)
        b.i16[k] = (int16_t)(b.i16[k] >> n);
    return b.i;
}
V512_INLINE float v512f_sum(v512f x)
{
    union v512_bits b = { .f = x };
    for (unsigned half = 8; half; half /= 2)
        for (unsigned k = 0; k < half; k++)
            b.f32[k] += b.f32[k + half];
    return b.f32[0];
}
V512_INLINE int32_t v512i_sum_i32(v512i x)
{
    union v512_bits b = { .i = x };
    uint32_t s = 0;
    for (unsigned k = 0; k < 16; k++)
        s += (uint32_t)b.i32[k];
    return (int32_t)s;
}
V512_INLINE v512i v512i_load_u8_i32(const void *p)
{
    union v512_bits r = { .i = v512i_zero() };
    for (unsigned k = 0; k < 16; k++)
        r.i32[k] = ((const uint8_t *)p)[k];
    return r.i;
}
V512_INLINE void v512i_store_i32_u8(void *p, v512i x)
{
    union v512_bits b = { .i = x };
    for (unsigned k = 0; k < 16; k++)
        ((uint8_t *)p)[k] = (uint8_t)b.i32[k];
}
V512_INLINE v512f v512f_load_part(const void *p, unsigned n)
{
    union v512_bits r = { .i = v512i_zero() };
    memcpy(&r, p, n * sizeof(float));
    return r.f;
}
V512_INLINE void v512f_store_part(void *p, v512f x, unsigned n)
{
    union v512_bits b = { .f = x };
    memcpy(p, &b, n * sizeof(float));
}
V512_INLINE void v512f_store_lanes(float *p, v512f x, unsigned from, unsigned to)
{
    union v512_bits b = { .f = x };
    memcpy(p, b.f32 + from, (to - from) * sizeof(float));
}
V512_INLINE v512f v512f_merge_first(v512f x, v512f y, unsigned n)
{
    union v512_bits a = { .f = x }, b = { .f = y };
    memcpy(&b, &a, n * sizeof(float));
    return b.f;
}
V512_INLINE v512i v512i_load_part(const void *p, unsigned n)
{
    union v512_bits r = { .i = v512i_zero() };
    memcpy(&r, p, n);
    return r.i;
}
V512_INLINE void v512i_store_part(void *p, v512i x, unsigned n)
{
    union v512_bits b = { .i = x };
    memcpy(p, &b, n);
}
V512_INLINE v512f v512f_gather(const float *p, v512i idx)
{
    union v512_bits b = { .i = idx }, r = { .i = idx };
    for (unsigned k = 0; k < 16; k++)
        r.f32[k] = p[b.i32[k]];
    return r.f;
}
V512_INLINE v512i v512f_gt(v512f x, v512f y)
{
    union v512_bits a = { .f = x }, b = { .f = y };
    for (unsigned k = 0; k < 16; k++)
        a.i32[k] = a.f32[k] > b.f32[k] ? -1 : 0;
    return a.i;
}
V512_INLINE v512i v512f_nan(v512f x)
{
    union v512_bits a = { .f = x };
    for (unsigned k = 0; k < 16; k++)
        a.i32[k] = a.f32[k] != a.f32[k] ? -1 : 0;
    return a.i;
}
V512_INLINE bool v512i_any_gt_i32(v512i x, v512i y)
{
    union v512_bits a = { .i = x }, b = { .i = y };
    bool any = false;
    for (unsigned k = 0; k < 16; k++)
        any |= a.i32[k] > b.i32[k];
    return any;
}
V512_INLINE v512f v512f_min_abs(v512f x, v512f y)
{
    union v512_bits a = { .f = x }, b = { .f = y };
    for (unsigned k = 0; k < 16; k++)
        a.f32[k] = __builtin_fminf(__builtin_fabsf(a.f32[k]), __builtin_fabsf(b.f32[k]));
    return a.f;
}
V512_INLINE v512f v512f_max_abs(v512f x, v512f y)
{
    union v512_bits a = { .f = x }, b = { .f = y };
    for (unsigned k = 0; k < 16; k++)
        a.f32[k] = __builtin_fmaxf(__builtin_fabsf(a.f32[k]), __builtin_fabsf(b.f32[k]));
    return a.f;
}
V512_INLINE v512f v512f_lookup32(const v512f table[2], v512i idx)
{
    union v512_bits b = { .i = idx }, t[2] = { { .f = table[0] }, { .f = table[1] } };
    for (unsigned k = 0; k < 16; k++)
        b.f32[k] = t[b.i32[k] >> 4 & 1].f32[b.i32[k] & 15];
    return b.f;
}
V512_INLINE v512f v512f_load_even(const float *p)
{
    union v512_bits r = { .i = v512i_zero() };
    for (unsigned k = 0; k < 16; k++)
        r.f32[k] = p[2 * k];
    return r.f;
}
#endif

/** Where m is ~0, x; where it is 0, y. */
V512_INLINE v512i v512i_select(v512i m, v512i x, v512i y)
{
#ifndef WN_SIMDE
    return _mm512_ternarylogic_epi32(m, x, y, 0xca);
#else
    return v512i_or(v512i_and(m, x), v512i_andnot(m, y));
#endif
}
/** x with the dwords cleared where m is 0 (a column mask). */
V512_INLINE v512f v512f_keep(v512i m, v512f x)
{
    return v512i_as_f(v512i_and(m, v512f_as_i(x)));
}
/** One 16-byte table in every lane, for v512i_shuffle_i8. */
V512_INLINE v512i v512i_lanes16(const int8_t table[16])
{
    int8_t all[64];
    for (unsigned k = 0; k < 4; k++)
        memcpy(all + 16 * k, table, 16);
    return v512i_load(all);
}

#undef V512_OP1
#undef V512_OP2
#endif
