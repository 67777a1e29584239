/* neon.c: one channel x 64, 32 or 16 columns. */
#define NAME  wn_f32_dw_1x64__neon
#define NAME2 wn_f32_dw2_1x64__neon
#include "engine/kernels/f32_dw/kernel.inc"
