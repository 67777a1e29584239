/* avx2.c: six outputs x 4 inputs. */
#define NAME wn_f32_gemv_6x4__avx2
#define NAME_COLS wn_f32_gemv_cols_6x16__avx2
#include "engine/kernels/f32_gemv/kernel.inc"
#include "engine/kernels/f32_gemv/cols.inc"
