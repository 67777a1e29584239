/* avx2.c: 6 pixels x 16 output channels: 12 sums, two vectors of weights, one input. 4 x 24 was measured and is slower.
 */
#define NAME wn_f32_conv_6x16__avx2
#define NP   6
#include "engine/kernels/f32_conv/kernel.inc"
