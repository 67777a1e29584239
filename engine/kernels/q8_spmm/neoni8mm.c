/* neoni8mm.c: sparse int8 by mixed dot products. */
#define NAME_1 wn_q8_spmm_1x64__neoni8mm
#define NAME_2 wn_q8_spmm_2x32__neoni8mm
#define NAME_4 wn_q8_spmm_4x16__neoni8mm
#include "engine/kernels/q8_spmm/neon.inc"
