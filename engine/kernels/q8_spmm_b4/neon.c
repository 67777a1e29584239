/* neon.c: 1x4 blocks by signed dot products. */
#define NAME wn_q8_spmm_b4_1x64__neon
#include "engine/kernels/q8_spmm_b4/neon.inc"
