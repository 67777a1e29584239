/* avx512vnni.c: 14 pixels x 32 output channels: 28 sums, two vectors of weights, one input. */
#define WN_F32_VEC512
#define NAME wn_f32_conv_14x32__avx512vnni
#define NP   14
#include "engine/kernels/f32_conv/kernel.inc"
