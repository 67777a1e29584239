/* neoni8mm.c: four taps per mixed dot product. */
#define NAME wn_q8_dw_4x16__neoni8mm
#include "engine/kernels/q8_dw/neon.inc"
