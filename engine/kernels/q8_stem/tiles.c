/* tiles.c: gather the taps of 64 columns into quads, then multiply. */
#include "engine/kernels/q8_stem/q8_stem.h"

void wn_q8_stem_tiles(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                      size_t row1, wn_q8_stem_gather_fn *gather, wn_q8_gemm_fn *gemm, wn_q8_colsum_fn *colsum)
{
    _Alignas(64) uint8_t quads[WN_Q8_STEM_MAX_K * WN_Q8_STEM_TILE + WN_OVERREAD];
    int32_t sums[WN_Q8_STEM_TILE], koff[WN_Q8_STEM_MAX_K / 4];
    for (size_t kq = 0; args->w_zp && kq < mat->gemm.quads; kq++)
        koff[kq] = (int32_t)(kq * 4 * WN_Q8_STEM_TILE);
    for (size_t c = 0; c < args->n; c += WN_Q8_STEM_TILE) {
        size_t n = WN_MIN(args->n - c, WN_Q8_STEM_TILE);
        struct wn_q8_args tile = wn_q8_args_cols(args, c, n);
        gather(mat, off, args->x + c, n, quads);
        tile.x = quads;
        tile.colsum = sums;
        if (args->w_zp)
            colsum(quads, koff, mat->k, 1, n, sums);
        gemm(&mat->gemm, off + mat->k, &tile, row0, row1);
    }
}
