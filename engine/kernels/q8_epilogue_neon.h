/* q8_epilogue_neon.h: q8_epilogue.h, 16 columns of a row at a time. Include from neon.c and neoni8mm.c files only.
 *
 *     struct wn_q8_neon e = wn_q8_neon_begin(args);
 *     for each row of four:  wn_q8_neon_row(&e, o, c, acc, &bytes[o % 4])       plane and f32 form are finished by that
 *     then:                  wn_q8_neon_put_quads(&e, o, nrows, c, bytes)       quad form; nothing in the others */
#ifndef WN_Q8_EPILOGUE_NEON_H
#define WN_Q8_EPILOGUE_NEON_H

#include <arm_neon.h>
#include "engine/kernels/q8_epilogue.h"

struct wn_q8_neon {
    const struct wn_q8_args *a;
    float32x4_t s_lo, s_hi, lo, hi, cut;
    int16x8_t y_zp;
    uint8x16_t q_lo, q_hi, pad;
};

WN_Q8_INLINE struct wn_q8_neon wn_q8_neon_begin(const struct wn_q8_args *a)
{
    return (struct wn_q8_neon){ .a = a,
                                .s_lo = vdupq_n_f32(a->s_lo),
                                .s_hi = vdupq_n_f32(a->s_hi),
                                .lo = vdupq_n_f32(a->lo),
                                .hi = vdupq_n_f32(a->hi),
                                .cut = vdupq_n_f32(WN_Q8_CUT),
                                .y_zp = vdupq_n_s16((int16_t)a->y_zp),
                                .q_lo = vdupq_n_u8((uint8_t)a->q_lo),
                                .q_hi = vdupq_n_u8((uint8_t)a->q_hi),
                                .pad = vdupq_n_u8((uint8_t)a->y_zp) };
}

/** The less and the greater; the second where one is NaN. */
WN_Q8_INLINE float32x4_t wn_q8_neon_min(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
WN_Q8_INLINE float32x4_t wn_q8_neon_max(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

/** Sixteen bytes as four vectors of dwords. */
WN_Q8_INLINE void wn_q8_neon_widen(uint8x16_t b, int32x4_t v[4])
{
    uint16x8_t lo = vmovl_u8(vget_low_u8(b)), hi = vmovl_high_u8(b);
    v[0] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo)));
    v[1] = vreinterpretq_s32_u32(vmovl_high_u16(lo));
    v[2] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi)));
    v[3] = vreinterpretq_s32_u32(vmovl_high_u16(hi));
}

/** The residual of row o, columns c..c+15. */
WN_Q8_INLINE uint8x16_t wn_q8_neon_residual(const struct wn_q8_args *a, size_t o, size_t c)
{
    const uint8_t *r = a->r;
    if (a->out != WN_OUT_QUAD)
        return vld1q_u8(r + o * a->y_stride + c);
    uint8x16x4_t rows = vld4q_u8(r + o / 4 * a->y_stride + 4 * c);
    return rows.val[o % 4];
}

/** f is rounded as the layer's own tensor, and the residual added: numbers in units of y's scale. */
WN_Q8_INLINE void wn_q8_neon_sum(const struct wn_q8_neon *e, size_t o, size_t c, float32x4_t f[4])
{
    const struct wn_q8_args *a = e->a;
    int32x4_t r[4];
    wn_q8_neon_widen(wn_q8_neon_residual(a, o, c), r);
    WN_UNROLL
    for (unsigned v = 0; v < 4; v++) {
        float32x4_t own = vrndnq_f32(wn_q8_neon_max(wn_q8_neon_min(f[v], e->s_hi), e->s_lo)); /* a NaN becomes s_hi */
        float32x4_t other = vcvtq_f32_s32(vsubq_s32(r[v], vdupq_n_s32(a->r_zp)));
        f[v] = vaddq_f32(vmulq_n_f32(own, a->s_mul), vmulq_n_f32(other, a->r_mul));
    }
}

/** wn_q8_byte() of 16 floats. Below -2^31 the conversion gives the lowest integer, as narrowing to words then does. */
WN_Q8_INLINE uint8x16_t wn_q8_neon_bytes(const struct wn_q8_neon *e, const float32x4_t f[4])
{
    int16x4_t w[4];
    WN_UNROLL
    for (unsigned v = 0; v < 4; v++)
        w[v] = vqmovn_s32(vcvtnq_s32_f32(wn_q8_neon_min(f[v], e->cut)));
    uint8x8_t lo = vqmovun_s16(vqaddq_s16(vcombine_s16(w[0], w[1]), e->y_zp));
    uint8x8_t hi = vqmovun_s16(vqaddq_s16(vcombine_s16(w[2], w[3]), e->y_zp));
    return vminq_u8(vmaxq_u8(vcombine_u8(lo, hi), e->q_lo), e->q_hi);
}

/** The pad value where the mask of columns c..c+15 is 0. */
WN_Q8_INLINE uint8x16_t wn_q8_neon_masked(const struct wn_q8_neon *e, size_t c, uint8x16_t b)
{
    if (!e->a->mask)
        return b;
    const uint32_t *m = e->a->mask + c;
    uint16x8_t lo = vcombine_u16(vmovn_u32(vld1q_u32(m)), vmovn_u32(vld1q_u32(m + 4)));
    uint16x8_t hi = vcombine_u16(vmovn_u32(vld1q_u32(m + 8)), vmovn_u32(vld1q_u32(m + 12)));
    return vbslq_u8(vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)), b, e->pad);
}

/** Row o, columns c..c+15 of the f32 form, from scaled sums. */
WN_Q8_INLINE void wn_q8_neon_put_f32(const struct wn_q8_neon *e, size_t o, size_t c, const float32x4_t f[4])
{
    const struct wn_q8_args *a = e->a;
    size_t at = o * a->y_stride + 4 * c;
    float *y = (float *)(void *)((char *)a->y + at);
    const float *r = a->r ? (const float *)(const void *)((const char *)a->r + at) : NULL;
    WN_UNROLL
    for (unsigned v = 0; v < 4; v++) {
        float32x4_t g = r ? vaddq_f32(f[v], vld1q_f32(r + 4 * v)) : f[v];
        g = wn_q8_neon_min(e->hi, wn_q8_neon_max(e->lo, g)); /* in this order a NaN stays */
        if (a->mask)
            g = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(g), vld1q_u32(a->mask + c + 4 * v)));
        vst1q_f32(y + 4 * v, g);
    }
}

/** Finish row o, columns c..c+15, whose sums acc include the bias. Quad form: its bytes go to *quad. */
WN_Q8_INLINE void wn_q8_neon_row(const struct wn_q8_neon *e, size_t o, size_t c, const int32x4_t acc[4],
                                 uint8x16_t *quad)
{
    const struct wn_q8_args *a = e->a;
    float32x4_t f[4];
    WN_UNROLL
    for (unsigned v = 0; v < 4; v++) {
        int32x4_t s = acc[v];
        if (a->w_zp)
            s = vmlsq_s32(s, vdupq_n_s32(a->w_zp[o]), vld1q_s32(a->colsum + c + 4 * v));
        f[v] = vmulq_n_f32(vcvtq_f32_s32(s), a->mul[o]);
    }
    if (a->out == WN_OUT_F32) {
        wn_q8_neon_put_f32(e, o, c, f);
        return;
    }
    if (a->r)
        wn_q8_neon_sum(e, o, c, f);
    uint8x16_t b = wn_q8_neon_masked(e, c, wn_q8_neon_bytes(e, f));
    if (a->out == WN_OUT_QUAD)
        *quad = b;
    else
        vst1q_u8((uint8_t *)a->y + o * a->y_stride + c, b);
}

/** Quad form: store rows o..o+3 (o a multiple of 4), columns c..c+15; those from `nrows` (1..4) on are padding. */
WN_Q8_INLINE void wn_q8_neon_put_quads(const struct wn_q8_neon *e, size_t o, size_t nrows, size_t c,
                                       const uint8x16_t bytes[4])
{
    if (e->a->out != WN_OUT_QUAD)
        return;
    uint8x16x4_t q;
    WN_UNROLL
    for (size_t r = 0; r < 4; r++)
        q.val[r] = r < nrows ? bytes[r] : e->pad;
    vst4q_u8((uint8_t *)e->a->y + o / 4 * e->a->y_stride + 4 * c, q);
}

#endif
