/* avx2vnni.c: 1x4 blocks with VNNI on 256 bits: of the quad stream a chain is one block. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx2.h"
#include "engine/kernels/vnni256.h"

#define DWORDS        1
#define SHIFT(mat, o) 0

struct weights {
    __m256i w;
};

WN_Q8_INLINE struct weights weights_at(const int32_t *w)
{
    return (struct weights){ _mm256_set1_epi32(w[0]) };
}

WN_Q8_INLINE __m256i chain(__m256i acc, const uint8_t *const *p, const struct weights *w, __m256i ones, unsigned v,
                           unsigned s)
{
    WN_UNROLL
    for (unsigned i = 0; i < s; i++)
        acc = wn_vnni256_dpbusd(acc, _mm256_loadu_si256((const __m256i *)(p[i] + 32 * v)), w[i].w);
    return acc;
}

#define NAME wn_q8_spmm_b4_1x64__avx2vnni
#include "engine/kernels/q8_spmm_b4/avx2.inc"
