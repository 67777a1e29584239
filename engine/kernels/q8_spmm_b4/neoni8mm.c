/* neoni8mm.c: 1x4 blocks by mixed dot products. */
#define NAME wn_q8_spmm_b4_1x64__neoni8mm
#include "engine/kernels/q8_spmm_b4/neon.inc"
