/* avx512vnni.c: the stem on q8_gemm's VNNI kernel. */
#include "engine/kernels/q8_stem/q8_stem.h"

void wn_q8_stem_8x48__avx512vnni(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args,
                                 size_t row0, size_t row1)
{
    wn_q8_stem_tiles(mat, off, args, row0, row1, wn_q8_gemm_8x48__avx512vnni, wn_q8_colsum__avx512vnni);
}
