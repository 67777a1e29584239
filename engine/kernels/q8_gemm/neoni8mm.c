/* neoni8mm.c: dense int8 by mixed dot products. */
#define NAME wn_q8_gemm_4x16__neoni8mm
#include "engine/kernels/q8_gemm/neon.inc"
