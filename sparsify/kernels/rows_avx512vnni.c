/* rows_avx512vnni.c: rows_body.h, 16 floats a vector. */
#define VL      16
#define KERNELS wn_rows_kernels__avx512vnni
#define NAME    "avx512vnni"
#include "sparsify/kernels/rows_body.h"
