/* neon.c: 4 keys or features by 16 queries. The dot product of unsigned bytes takes queries, keys, weights and values as
 * they are; sums make up for zero points at the end. Not timed (CONTRIBUTING.md, check-neon). */
#include <arm_neon.h>
#include "engine/kernels/f32_math.h"

#define NAME    wn_attn_q8_4x16__neon
#define NV      2
#define KR      4
#define CENTRED 0
#define OFFSET  0
#define CELL    4

typedef int32x4x2_t vi;
#define VI_OP2(name, op)                                                                                               \
    WN_INLINE vi name(vi x, vi y)                                                                                      \
    {                                                                                                                  \
        return (vi){ { op(x.val[0], y.val[0]), op(x.val[1], y.val[1]) } };                                             \
    }
VI_OP2(vi_add, vaddq_s32)
VI_OP2(vi_mul, vmulq_s32)
VI_OP2(vi_min, vminq_s32)
VI_OP2(vi_max, vmaxq_s32)
VI_OP2(vi_or, vorrq_s32)

WN_INLINE vi vi_load(const int32_t *p)
{
    return (vi){ { vld1q_s32(p), vld1q_s32(p + 4) } };
}

WN_INLINE void vi_store(int32_t *p, vi x)
{
    vst1q_s32(p, x.val[0]);
    vst1q_s32(p + 4, x.val[1]);
}

WN_INLINE vi vi_set1(int32_t x)
{
    return (vi){ { vdupq_n_s32(x), vdupq_n_s32(x) } };
}

WN_INLINE vi vi_zero(void)
{
    return vi_set1(0);
}

WN_INLINE vi vi_shl(vi x, unsigned n)
{
    const int32x4_t by = vdupq_n_s32((int32_t)n);
    return (vi){ { vshlq_s32(x.val[0], by), vshlq_s32(x.val[1], by) } };
}

WN_INLINE vf vi_to_f(vi x)
{
    return (vf){ { vcvtq_f32_s32(x.val[0]), vcvtq_f32_s32(x.val[1]) } };
}

/* Half to even. */
WN_INLINE vi vf_to_i(vf x)
{
    return (vi){ { vcvtnq_s32_f32(x.val[0]), vcvtnq_s32_f32(x.val[1]) } };
}

WN_INLINE vf vi_as_f(vi x)
{
    return (vf){ { vreinterpretq_f32_s32(x.val[0]), vreinterpretq_f32_s32(x.val[1]) } };
}

WN_INLINE int32_t vi_sum(vi x)
{
    return vaddvq_s32(vaddq_s32(x.val[0], x.val[1]));
}

struct quad {
    uint8x16_t lo, hi;
};

/* Four bytes of a key or value for all lanes. */
WN_INLINE struct quad spread(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    const uint8x16_t all = vreinterpretq_u8_u32(vdupq_n_u32(v));
    return (struct quad){ all, all };
}

WN_INLINE struct quad quad_load(const uint8_t *p)
{
    return (struct quad){ vld1q_u8(p), vld1q_u8(p + 16) };
}

WN_INLINE int32x4_t dot_half(int32x4_t acc, uint8x16_t x, uint8x16_t w)
{
    return vreinterpretq_s32_u32(vdotq_u32(vreinterpretq_u32_s32(acc), x, w));
}

WN_INLINE vi dot(vi acc, struct quad x, struct quad w)
{
    return (vi){ { dot_half(acc.val[0], x.lo, w.lo), dot_half(acc.val[1], x.hi, w.hi) } };
}

/* Quads of queries. */
WN_INLINE void keep_queries(uint8_t *to, const uint8_t *q)
{
    vst1q_u8(to, vld1q_u8(q));
    vst1q_u8(to + 16, vld1q_u8(q + 16));
}

/* i + zp, cut to bytes, as quads. */
WN_INLINE vi quads(const vi i[4], int32_t zp)
{
    vi b = vi_zero();
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++)
        b = vi_or(b, vi_shl(vi_min(vi_max(vi_add(i[k], vi_set1(zp)), vi_zero()), vi_set1(255)), 8 * k));
    return b;
}

/* Weights of four keys, rounded, to be 0 .. 255 with the zero point. */
WN_INLINE void keep_weights(uint8_t *to, const vi i[4], int32_t zp)
{
    const vi all = quads(i, zp);
    vst1q_u8(to, vreinterpretq_u8_s32(all.val[0]));
    vst1q_u8(to + 16, vreinterpretq_u8_s32(all.val[1]));
}

/* Four features of `width` queries. */
WN_INLINE void put_quads(void *y, const vi i[4], int32_t zp, unsigned width)
{
    int32_t all[VL];
    vi_store(all, quads(i, zp));
    memcpy(y, all, width * sizeof *all);
}

/* n features. */
WN_INLINE void put_planes(uint8_t *y, size_t stride, size_t n, const vi i[4], int32_t zp, unsigned width)
{
    uint8_t all[VL][4];
    vi_store((int32_t *)(void *)all, quads(i, zp));
    for (size_t f = 0; f < n; f++, y += stride)
        for (unsigned c = 0; c < width; c++)
            y[c] = all[c][f];
}

#include "engine/kernels/attn_q8/kernel.inc"
