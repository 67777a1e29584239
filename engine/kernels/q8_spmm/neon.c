/* neon.c: sparse int8 by signed dot products; column sums. */
#define NAME_1 wn_q8_spmm_1x64__neon
#define NAME_2 wn_q8_spmm_2x32__neon
#define NAME_4 wn_q8_spmm_4x16__neon
#include "engine/kernels/q8_spmm/neon.inc"

void wn_q8_spmm_colsum__neon(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum)
{
    enum { FLUSH = 256 }; /* 256 * 255 fits 16 bits */
    for (size_t c = 0; c < n; c += 16) {
        uint32x4_t sum[4] = { vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0) };
        for (size_t i = 0; i < k; i += FLUSH) {
            uint16x8_t lo = vdupq_n_u16(0), hi = lo;
            for (size_t j = i; j < WN_MIN(i + FLUSH, k); j++) {
                uint8x16_t b = vld1q_u8(x + koff[j] + (ptrdiff_t)c);
                lo = vaddw_u8(lo, vget_low_u8(b));
                hi = vaddw_high_u8(hi, b);
            }
            sum[0] = vaddw_u16(sum[0], vget_low_u16(lo));
            sum[1] = vaddw_high_u16(sum[1], lo);
            sum[2] = vaddw_u16(sum[2], vget_low_u16(hi));
            sum[3] = vaddw_high_u16(sum[3], hi);
        }
        for (unsigned v = 0; v < 4; v++)
            vst1q_s32(colsum + c + 4 * v, vreinterpretq_s32_u32(sum[v]));
    }
}
