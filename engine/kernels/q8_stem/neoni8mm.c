/* neoni8mm.c: the stem on q8_gemm's mixed dot products. */
#define NAME wn_q8_stem_4x16__neoni8mm
#define GEMM wn_q8_gemm_4x16__neoni8mm
#include "engine/kernels/q8_stem/neon.inc"
