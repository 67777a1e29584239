/* avx512vnni.c: four outputs x 16 inputs. */
#define WN_F32_VEC512
#define NAME wn_f32_gemv_4x16__avx512vnni
#define ROWS 6
#include "engine/kernels/f32_gemv/kernel.inc"
