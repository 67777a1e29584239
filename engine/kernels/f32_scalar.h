/* f32_scalar.h: what the scalar f32 references share. */
#ifndef WN_F32_SCALAR_H
#define WN_F32_SCALAR_H

/** clamp; NaN passes through. */
static inline float wn_f32_clamp(float x, float lo, float hi)
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

#endif
