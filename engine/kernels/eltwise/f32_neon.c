/* f32_neon.c: eight elements per step. */
#define NAME(kind) wn_elt_f32_##kind##_8__neon
#include "engine/kernels/eltwise/f32_kernel.inc"
