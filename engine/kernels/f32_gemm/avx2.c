/* avx2.c: 6 rows x 16 columns. On Zen 3 91 % of the FMA peak at 768x768x128, 79-88 % at the other shapes of the bench.
 */
#define NAME wn_f32_gemm_6x16__avx2
#define NV   2
#include "engine/kernels/f32_gemm/kernel.inc"
