/* rows_avx2.c: rows_body.h, 8 floats a vector. */
#define VL      8
#define KERNELS wn_rows_kernels__avx2
#define NAME    "avx2"
#include "sparsify/kernels/rows_body.h"
