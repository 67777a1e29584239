/* neon.c: by signed dot products. */
#define NAME wn_q8_gemv_4x64__neon
#include "engine/kernels/q8_gemv/neon.inc"
