/* half.h: the two 16-bit floats, widened to and rounded from f32.  Source: IEEE 754 binary16; bfloat16 is binary32's
 * upper half. Rounding is to nearest, ties to even; NaN stays NaN. */
#ifndef WN_HALF_H
#define WN_HALF_H

#include <stdint.h>
#include <string.h>

static inline float wn_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t wn_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float wn_bf16_to_f32(uint16_t h)
{
    return wn_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t wn_f32_to_bf16(float f)
{
    uint32_t u = wn_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static inline float wn_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = h >> 10 & 0x1fu, man = h & 0x3ffu;
    if (exp == 0x1f)
        return wn_f32_from_bits(sign | 0x7f800000u | man << 13);
    if (exp)
        return wn_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; /* zero or subnormal: exact */
    return sign ? -f : f;
}

static inline uint16_t wn_f32_to_f16(float f)
{
    uint32_t u = wn_f32_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) /* rounds to 65520 or more: infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the subnormal's bits at the bottom, rounded by the FPU */
        uint32_t s = wn_f32_bits(wn_f32_from_bits(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | s);
    }
    uint32_t r = a - 0x38000000u;
    return (uint16_t)(sign | (r + 0xfffu + (r >> 13 & 1)) >> 13);
}

#endif
