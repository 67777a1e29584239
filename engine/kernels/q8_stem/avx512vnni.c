/* avx512vnni.c: the stem on q8_gemm's VNNI kernel; 64 columns of four taps are gathered at once. */
#include "engine/kernels/q8_stem/q8_stem.h"

#include "engine/kernels/q8_epilogue_avx512.h"

static void gather(const struct wn_q8_stem *mat, const int32_t *tap_off, const uint8_t *x, size_t n, uint8_t *quads)
{
    for (size_t kq = 0; kq < mat->gemm.quads; kq++, quads += 4 * WN_Q8_STEM_TILE) {
        v512i p[4];
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            p[i] = 4 * kq + i < mat->k ? v512i_load(x + tap_off[4 * kq + i]) : v512i_zero();
        v512i lo01 = v512i_unpacklo_i8(p[0], p[1]), hi01 = v512i_unpackhi_i8(p[0], p[1]);
        v512i lo23 = v512i_unpacklo_i8(p[2], p[3]), hi23 = v512i_unpackhi_i8(p[2], p[3]);
        v512i q[4] = { v512i_unpacklo_i16(lo01, lo23), v512i_unpackhi_i16(lo01, lo23), v512i_unpacklo_i16(hi01, hi23),
                       v512i_unpackhi_i16(hi01, hi23) };
        v512i_transpose_lanes(q);
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            v512i_store(quads + 64 * i, q[i]);
    }
}

void wn_q8_stem_8x48__avx512vnni(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args,
                                 size_t row0, size_t row1)
{
    wn_q8_stem_tiles(mat, off, args, row0, row1, gather, wn_q8_gemm_8x48__avx512vnni, wn_q8_colsum__avx512vnni);
}
