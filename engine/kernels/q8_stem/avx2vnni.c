/* avx2vnni.c: the stem on q8_gemm's AVX2-VNNI kernel. */
#define NAME wn_q8_stem_4x16__avx2vnni
#define GEMM wn_q8_gemm_4x16__avx2vnni
#include "engine/kernels/q8_stem/avx2.inc"
