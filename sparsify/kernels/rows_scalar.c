/* rows_scalar.c: rows_body.h in vectors that every 64-bit CPU has. */
#define VL      4
#define KERNELS wn_rows_kernels__scalar
#define NAME    "scalar"
#include "sparsify/kernels/rows_body.h"
