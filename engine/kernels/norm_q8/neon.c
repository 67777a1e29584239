/* neon.c: 16 bytes per step. */
#include "engine/kernels/norm_q8/norm_q8.h"

#include "engine/kernels/q8_bytes_neon.h"

#define STEP       16
#define SHIFT      0
#define NAME(kind) wn_##kind##_16__neon

typedef uint8x16_t bytes;
typedef uint32x4_t ints;
typedef float32x4_t floats;

typedef struct wn_q8_neon out_t;
#define out_begin wn_q8_neon_begin

WN_Q8_INLINE bytes load(const uint8_t *p, size_t n)
{
    return wn_q8_load16(p, n);
}

WN_Q8_INLINE void store(uint8_t *p, bytes v, size_t n)
{
    wn_q8_store16(p, v, n);
}

WN_Q8_INLINE bytes zeros(void)
{
    return vdupq_n_u8(0);
}

WN_Q8_INLINE ints zero_ints(void)
{
    return vdupq_n_u32(0);
}

WN_Q8_INLINE bytes live(bytes x, size_t n)
{
    return vandq_u8(x, vreinterpretq_u8_u32(vdupq_n_u32(0xffffffffu >> (32 - 8 * n))));
}

WN_Q8_INLINE void add_quads(bytes x, ints *sum, ints *squares)
{
    *sum = vdotq_u32(*sum, x, vdupq_n_u8(1));
    *squares = vdotq_u32(*squares, x, x);
}

WN_Q8_INLINE void interleave(const bytes x[4], bytes y[4])
{
    const uint16x8_t lo01 = vreinterpretq_u16_u8(vzip1q_u8(x[0], x[1])),
                     hi01 = vreinterpretq_u16_u8(vzip2q_u8(x[0], x[1]));
    const uint16x8_t lo23 = vreinterpretq_u16_u8(vzip1q_u8(x[2], x[3])),
                     hi23 = vreinterpretq_u16_u8(vzip2q_u8(x[2], x[3]));
    y[0] = vreinterpretq_u8_u16(vzip1q_u16(lo01, lo23));
    y[1] = vreinterpretq_u8_u16(vzip2q_u16(lo01, lo23));
    y[2] = vreinterpretq_u8_u16(vzip1q_u16(hi01, hi23));
    y[3] = vreinterpretq_u8_u16(vzip2q_u16(hi01, hi23));
}

WN_Q8_INLINE void put_ints(int32_t *p, ints v)
{
    vst1q_s32(p, vreinterpretq_s32_u32(v));
}

WN_Q8_INLINE floats get_floats(const float *p)
{
    return vld1q_f32(p);
}

WN_Q8_INLINE floats splat(float x)
{
    return vdupq_n_f32(x);
}

WN_Q8_INLINE floats pattern(const float *p)
{
    return vld1q_f32(p);
}

WN_Q8_INLINE bytes finish(const out_t *o, bytes x, const floats *mean, const floats *inv, const floats *g,
                          const floats *b)
{
    int32x4_t d[4];
    float32x4_t f[4];
    wn_q8_neon_widen(x, d);
    WN_UNROLL
    for (size_t v = 0; v < 4; v++) {
        f[v] = vmulq_f32(vsubq_f32(vcvtq_f32_s32(d[v]), mean[v]), inv[v]);
        f[v] = vaddq_f32(vmulq_f32(f[v], g[v]), b[v]);
    }
    return wn_q8_neon_bytes(o, f);
}
#define normed(o, x, mean, inv, g, b) finish(o, x, (mean)->v, (inv)->v, (g)->v, (b)->v)

#include "engine/kernels/norm_q8/kernel.inc"
