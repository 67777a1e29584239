/* neon.c: four taps per signed dot product. */
#define NAME wn_q8_dw_4x16__neon
#include "engine/kernels/q8_dw/neon.inc"
