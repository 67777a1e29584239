/* avx2.c: 1x4 blocks without VNNI: one row by up to 64 columns at a time, chains of S blocks summed in 16 bits.
 *
 * For each vector of 8 columns a chain is S loads that take the weights' signs, S vpmaddubsw, S - 1 vpaddw, one vpmaddwd and
 * one vpaddd. gcc spills accumulators when it schedules that itself, so one vector's part is one asm block: 8 accumulators,
 * S weights and masks, the ones and two temporaries fit the sixteen registers. A finished row becomes 16-bit words at once;
 * every fourth row the words of four become quads. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx2.h"

#define DWORDS        2
#define SHIFT(mat, o) (mat)->shift[o]

struct weights {
    __m256i size, mask;
};

WN_Q8_INLINE struct weights weights_at(const int32_t *w)
{
    return (struct weights){ _mm256_set1_epi32(w[0]), _mm256_set1_epi32(w[1]) };
}

#define VEC(p, v) (*(const __m256i_u *)((p) + 32 * (v)))

/* acc += chain of s blocks at p[0..s-1] with weights w[0..s-1]; s is a constant. */
WN_Q8_INLINE __m256i chain(__m256i acc, const uint8_t *const *p, const struct weights *w, __m256i ones, unsigned v,
                           unsigned s)
{
    __m256i t, u;
    if (s == 1)
        __asm__("vpxor %2, %4, %1\n\t"
                "vpmaddubsw %1, %3, %1\n\t"
                "vpmaddwd %5, %1, %1\n\t"
                "vpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t)
                : "m"(VEC(p[0], v)), "x"(w[0].size), "x"(w[0].mask), "x"(ones));
    else
        __asm__("vpxor %3, %6, %1\n\t"
                "vpxor %4, %8, %2\n\t"
                "vpmaddubsw %1, %5, %1\n\t"
                "vpmaddubsw %2, %7, %2\n\t"
                "vpaddw %2, %1, %1\n\t"
                "vpmaddwd %9, %1, %1\n\t"
                "vpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "x"(w[0].size), "x"(w[0].mask), "x"(w[1].size),
                  "x"(w[1].mask), "x"(ones));
    return acc;
}

#define NAME wn_q8_spmm_b4_1x64__avx2
#include "engine/kernels/q8_spmm_b4/avx2.inc"
