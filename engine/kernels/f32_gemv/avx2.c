/* avx2.c: six outputs x 4 inputs. */
#define NAME wn_f32_gemv_6x4__avx2
#include "engine/kernels/f32_gemv/kernel.inc"
