/* neoni8mm.c: by mixed dot products. */
#define NAME wn_q8_gemv_4x64__neoni8mm
#include "engine/kernels/q8_gemv/neon.inc"
