/* avx512vnni.c: four outputs x 32 inputs. */
#define WN_F32_VEC512
#define NAME wn_f32_gemv_4x32__avx512vnni
#define ROWS 4
#include "engine/kernels/f32_gemv/kernel.inc"
