/* avx2.c: four outputs x 16 inputs. */
#define NAME wn_f32_gemv_4x16__avx2
#define ROWS 2
#include "engine/kernels/f32_gemv/kernel.inc"
