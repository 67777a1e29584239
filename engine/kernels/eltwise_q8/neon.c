/* neon.c: 16 bytes per step. A table of 256 is four look-ups in 64 bytes each, of which the last three leave alone what
 * is not theirs. */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

#include "engine/kernels/q8_bytes_neon.h"

WN_Q8_INLINE float32x4_t scaled(int32x4_t v, int32_t zp, float mul)
{
    return vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(v, vdupq_n_s32(zp))), mul);
}

void wn_elt_q8_add_16__neon(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    const size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const struct wn_q8_args q = { .y_zp = args->y_zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    const struct wn_q8_neon e = wn_q8_neon_begin(&q);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride, *b = args->b + wn_q8_plane_of(args->form, c) * args->b_stride;
        uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride;
        for (size_t i = 0; i < bytes; i += 16) {
            int32x4_t va[4], vb[4];
            float32x4_t f[4];
            wn_q8_neon_widen(wn_q8_load16(a + i, bytes - i), va);
            wn_q8_neon_widen(wn_q8_load16(b + i, bytes - i), vb);
            WN_UNROLL
            for (unsigned k = 0; k < 4; k++)
                f[k] = vaddq_f32(scaled(va[k], args->a_zp, args->a_mul), scaled(vb[k], args->b_zp, args->b_mul));
            const uint8x16_t keep = wn_q8_keep16(args->form, c, args->channels, args->mask, i, bytes);
            wn_q8_store16(y + i, vbslq_u8(keep, wn_q8_neon_bytes(&e, f), e.pad), bytes - i);
        }
    }
}

void wn_elt_q8_lookup_16__neon(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    const size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const uint8x16_t pad = vdupq_n_u8((uint8_t)args->y_zp);
    uint8x16x4_t t[4];
    for (unsigned i = 0; i < 16; i++)
        t[i / 4].val[i % 4] = vld1q_u8(args->table + 16 * i);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride;
        uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride;
        for (size_t i = 0; i < bytes; i += 16) {
            const uint8x16_t v = wn_q8_load16(a + i, bytes - i);
            uint8x16_t r = vqtbl4q_u8(t[0], v);
            r = vqtbx4q_u8(r, t[1], vsubq_u8(v, vdupq_n_u8(64)));
            r = vqtbx4q_u8(r, t[2], vsubq_u8(v, vdupq_n_u8(128)));
            r = vqtbx4q_u8(r, t[3], vsubq_u8(v, vdupq_n_u8(192)));
            const uint8x16_t keep = wn_q8_keep16(args->form, c, args->channels, args->mask, i, bytes);
            wn_q8_store16(y + i, vbslq_u8(keep, r, pad), bytes - i);
        }
    }
}
