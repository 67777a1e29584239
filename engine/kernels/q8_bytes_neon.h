/* q8_bytes_neon.h: runs of bytes, 16 at a time. Include from neon.c files only. */
#ifndef WN_Q8_BYTES_NEON_H
#define WN_Q8_BYTES_NEON_H

#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_neon.h"

/** 16 bytes from p, of which n may be read; the others are 0. */
WN_Q8_INLINE uint8x16_t wn_q8_load16(const uint8_t *p, size_t n)
{
    if (WN_LIKELY(n >= 16))
        return vld1q_u8(p);
    uint8_t part[16] = { 0 };
    memcpy(part, p, n);
    return vld1q_u8(part);
}

/** The first n of 16 bytes. */
WN_Q8_INLINE void wn_q8_store16(uint8_t *p, uint8x16_t v, size_t n)
{
    if (WN_LIKELY(n >= 16)) {
        vst1q_u8(p, v);
        return;
    }
    uint8_t part[16];
    vst1q_u8(part, v);
    memcpy(p, part, n);
}

/** A mask of 16 dwords as one of bytes. */
WN_Q8_INLINE uint8x16_t wn_q8_mask16(const uint32_t *m)
{
    uint16x8_t lo = vcombine_u16(vmovn_u32(vld1q_u32(m)), vmovn_u32(vld1q_u32(m + 4)));
    uint16x8_t hi = vcombine_u16(vmovn_u32(vld1q_u32(m + 8)), vmovn_u32(vld1q_u32(m + 12)));
    return vcombine_u8(vmovn_u16(lo), vmovn_u16(hi));
}

/** wn_q8_live() of bytes i..i+15 (i a multiple of 16) of a run of `bytes`, as a byte mask. */
WN_Q8_INLINE uint8x16_t wn_q8_keep16(enum wn_q8_out form, size_t c, size_t channels, const uint32_t *mask, size_t i,
                                     size_t bytes)
{
    if (form == WN_OUT_QUAD) {
        const size_t rows = channels - c;
        const uint8x16_t live = vreinterpretq_u8_u32(vdupq_n_u32(rows >= 4 ? ~0u : 0xffffffffu >> (32 - 8 * rows)));
        return mask ? vandq_u8(live, wn_q8_load16((const uint8_t *)(mask + i / 4), bytes - i)) : live;
    }
    if (!mask)
        return vdupq_n_u8(0xff);
    if (bytes - i >= 16)
        return wn_q8_mask16(mask + i);
    uint32_t part[16] = { 0 };
    memcpy(part, mask + i, (bytes - i) * sizeof *mask);
    return wn_q8_mask16(part);
}

#endif
