/* avx512vnni.c: six outputs x 8 inputs. */
#define WN_F32_VEC512
#define NAME wn_f32_gemv_6x8__avx512vnni
#define NAME_COLS wn_f32_gemv_cols_6x16__avx512vnni
#include "engine/kernels/f32_gemv/kernel.inc"
#include "engine/kernels/f32_gemv/cols.inc"
