/* f32_scalar.h: what the scalar f32 references share. */
#ifndef WN_F32_SCALAR_H
#define WN_F32_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/** clamp; NaN passes through. */
static inline float wn_f32_clamp(float x, float lo, float hi)
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

/** e^x for x <= 0, at least e^-87.3 (NaN too): step by step what vf_exp_below() of f32_math.h does, bit for bit. */
static inline float wn_exp_below(float x)
{
    x = x > -87.33654f ? x : -87.33654f;
    const float n = rintf(x * 1.44269504f);
    const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
    float p = fmaf(1.9875691500e-4f, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(r * r, p, r + 1.0f);
    const int32_t bits = ((int32_t)n + 127) << 23;
    float two_n;
    memcpy(&two_n, &bits, sizeof two_n);
    return p * two_n;
}

#endif
