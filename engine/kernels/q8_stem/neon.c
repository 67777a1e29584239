/* neon.c: the stem on q8_gemm's signed dot products. */
#define NAME wn_q8_stem_4x16__neon
#define GEMM wn_q8_gemm_4x16__neon
#include "engine/kernels/q8_stem/neon.inc"
