/* pack.c: a stem's weights are a q8_gemm's, with the taps as input channels. */
#include "engine/kernels/q8_stem/q8_stem.h"

enum winnow_status wn_q8_stem_pack(enum wn_q8_gemm_stream stream, const int8_t *w, size_t rows, size_t k,
                                   unsigned x_max, struct wn_arena *arena, struct wn_q8_stem *ret_mat,
                                   struct winnow_err *err)
{
    if (k == 0 || k > WN_Q8_STEM_MAX_K)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "first convolution of %zu taps; 1 to %u are supported", k,
                       WN_Q8_STEM_MAX_K);
    struct wn_q8_stem mat = { .k = k };
    WN_TRY(wn_q8_gemm_pack(stream, w, rows, k, 1, x_max, arena, &mat.gemm, err));
    mat.noffs = k + mat.gemm.noffs;
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_stem_link(const struct wn_q8_stem *mat, const int32_t *tap_off, int32_t *off)
{
    int32_t koff[WN_Q8_STEM_MAX_K / 4];
    for (size_t kq = 0; kq < mat->gemm.quads; kq++)
        koff[kq] = (int32_t)(kq * 4 * WN_Q8_STEM_TILE);
    memcpy(off, tap_off, mat->k * sizeof *off);
    wn_q8_gemm_link(&mat->gemm, koff, off + mat->k);
}
