/* avx2.c: the stem on q8_gemm's AVX2 kernel. */
#define NAME wn_q8_stem_4x16__avx2
#define GEMM wn_q8_gemm_4x16__avx2
#include "engine/kernels/q8_stem/avx2.inc"
