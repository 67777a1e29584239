/* q8_dot_neon.h: sums of four u8 * s8 products per dword, exact, for any weights and activations. Include from neon.c
 * and neoni8mm.c files only.
 *
 * I8MM has the mixed product (usdot). Without it activations are taken as x - 128, which is x ^ 0x80 read as signed,
 * for the signed product (sdot), and 128 times the sum of the weights is still owed: wn_q8_owe() sums the weights that
 * were used, wn_q8_owed() pays. All sums wrap. */
#ifndef WN_Q8_DOT_NEON_H
#define WN_Q8_DOT_NEON_H

#include <arm_neon.h>
#include "engine/kernels/q8_epilogue.h"

#ifdef __ARM_FEATURE_MATMUL_INT8
typedef uint8x16_t wn_q8_acts;

WN_Q8_INLINE wn_q8_acts wn_q8_acts_of(uint8x16_t x)
{
    return x;
}
/** acc + products of the same dwords. */
WN_Q8_INLINE int32x4_t wn_q8_dot(int32x4_t acc, wn_q8_acts x, int8x16_t w)
{
    return vusdotq_s32(acc, x, w);
}
/** acc + products of every dword of x with dword `lane` (a literal) of w. */
#define wn_q8_dot_lane(acc, x, w, lane) vusdotq_laneq_s32(acc, x, w, lane)
WN_Q8_INLINE int32x4_t wn_q8_owe(int32x4_t owed, int8x16_t w)
{
    return owed;
}
/** acc with what is owed for the weights summed in `owed`. */
WN_Q8_INLINE int32x4_t wn_q8_owed(int32x4_t acc, int32x4_t owed)
{
    return acc;
}
#else
typedef int8x16_t wn_q8_acts;

WN_Q8_INLINE wn_q8_acts wn_q8_acts_of(uint8x16_t x)
{
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80)));
}
WN_Q8_INLINE int32x4_t wn_q8_dot(int32x4_t acc, wn_q8_acts x, int8x16_t w)
{
    return vdotq_s32(acc, x, w);
}
#define wn_q8_dot_lane(acc, x, w, lane) vdotq_laneq_s32(acc, x, w, lane)
WN_Q8_INLINE int32x4_t wn_q8_owe(int32x4_t owed, int8x16_t w)
{
    return vdotq_s32(owed, w, vdupq_n_s8(1));
}
WN_Q8_INLINE int32x4_t wn_q8_owed(int32x4_t acc, int32x4_t owed)
{
    return vaddq_s32(acc, vshlq_n_s32(owed, 7));
}
#endif

/** Sixteen activations from p. */
WN_Q8_INLINE wn_q8_acts wn_q8_acts_load(const uint8_t *p)
{
    return wn_q8_acts_of(vld1q_u8(p));
}

/** The same four stored weights in every dword. */
WN_Q8_INLINE int8x16_t wn_q8_weights_dup(const void *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return vreinterpretq_s8_s32(vdupq_n_s32(w));
}

/** Sixteen bytes of each of p[0..3] side by side: q[i] holds those of bytes 4 i .. 4 i + 3. */
WN_Q8_INLINE void wn_q8_interleave(const uint8x16_t p[4], uint8x16_t q[4])
{
    uint16x8_t lo01 = vreinterpretq_u16_u8(vzip1q_u8(p[0], p[1])), hi01 = vreinterpretq_u16_u8(vzip2q_u8(p[0], p[1]));
    uint16x8_t lo23 = vreinterpretq_u16_u8(vzip1q_u8(p[2], p[3])), hi23 = vreinterpretq_u16_u8(vzip2q_u8(p[2], p[3]));
    q[0] = vreinterpretq_u8_u16(vzip1q_u16(lo01, lo23));
    q[1] = vreinterpretq_u8_u16(vzip2q_u16(lo01, lo23));
    q[2] = vreinterpretq_u8_u16(vzip1q_u16(hi01, hi23));
    q[3] = vreinterpretq_u8_u16(vzip2q_u16(hi01, hi23));
}

#endif
