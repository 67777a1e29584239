/* neon.c: dense int8 by signed dot products; column sums. */
#define NAME wn_q8_gemm_4x16__neon
#include "engine/kernels/q8_gemm/neon.inc"

void wn_q8_colsum__neon(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n, int32_t *colsum)
{
    size_t quads = wn_q8_quads(channels, taps);
    for (size_t c = 0; c < n; c += 4) {
        uint32x4_t sum = vdupq_n_u32(0);
        for (size_t kq = 0; kq < quads; kq++) {
            uint32x4_t ones = vdupq_n_u32((uint32_t)wn_q8_quads_ones(kq, channels, taps));
            sum = vdotq_u32(sum, vld1q_u8(x + koff[kq] + (ptrdiff_t)(4 * c)), vreinterpretq_u8_u32(ones));
        }
        vst1q_s32(colsum + c, vreinterpretq_s32_u32(sum));
    }
}
