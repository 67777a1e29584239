/* avx2.c: 1x4 blocks without VNNI: one row by up to 64 columns at a time, chains of S blocks summed in 16 bits.
 *
 * For each vector of 8 columns a chain is S loads, S vpmaddubsw, S - 1 vpaddw, one vpmaddwd and one vpaddd. gcc spills
 * accumulators when it schedules that itself, so one vector's part is one asm block: 8 accumulators, S weights, the
 * ones and two temporaries fit the sixteen registers. A finished row becomes 16-bit words at once; every fourth row the
 * words of four become quads. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx2.h"

#define BLOCK(load, w, t) "vmovdqu " load ", " t "\n\tvpmaddubsw " w ", " t ", " t "\n\t"
#define VEC(p, v)         (*(const __m256i_u *)((p) + 32 * (v)))

/* acc += chain of s blocks at p[0..s-1] with weights w[0..s-1]; s is a constant. */
WN_Q8_INLINE __m256i chain(__m256i acc, const uint8_t *const p[4], const __m256i w[4], __m256i ones, unsigned v,
                           unsigned s)
{
    __m256i t, u;
    if (s == 1)
        __asm__(BLOCK("%2", "%3", "%1") "vpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t)
                : "m"(VEC(p[0], v)), "x"(w[0]), "x"(ones));
    else if (s == 2)
        __asm__(BLOCK("%3", "%5", "%1") BLOCK("%4", "%6", "%2") "vpaddw %2, %1, %1\n\t"
                                                                "vpmaddwd %7, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "x"(w[0]), "x"(w[1]), "x"(ones));
    else if (s == 3)
        __asm__(BLOCK("%3", "%6", "%1") BLOCK("%4", "%7", "%2") "vpaddw %2, %1, %1\n\t" BLOCK(
                    "%5", "%8", "%2") "vpaddw %2, %1, %1\n\t"
                                      "vpmaddwd %9, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "m"(VEC(p[2], v)), "x"(w[0]), "x"(w[1]), "x"(w[2]), "x"(ones));
    else
        __asm__(BLOCK("%3", "%7", "%1") BLOCK("%4", "%8", "%2") "vpaddw %2, %1, %1\n\t" BLOCK(
                    "%5", "%9", "%2") "vpaddw %2, %1, %1\n\t" BLOCK("%6", "%10",
                                                                    "%2") "vpaddw %2, %1, %1\n\t"
                                                                          "vpmaddwd %11, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "m"(VEC(p[2], v)), "m"(VEC(p[3], v)), "x"(w[0]), "x"(w[1]),
                  "x"(w[2]), "x"(w[3]), "x"(ones));
    return acc;
}

#define NAME wn_q8_spmm_b4_1x64__avx2
#include "engine/kernels/q8_spmm_b4/avx2.inc"
