/* avx2.c: the stem on q8_gemm's AVX2 kernel. */
#include "engine/kernels/q8_stem/q8_stem.h"

void wn_q8_stem_4x16__avx2(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1)
{
    wn_q8_stem_tiles(mat, off, args, row0, row1, wn_q8_stem_gather__sse2, wn_q8_gemm_4x16__avx2, wn_q8_colsum__avx2);
}
