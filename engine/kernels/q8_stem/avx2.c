/* avx2.c: the stem on q8_gemm's AVX2 kernel. */
#include "engine/kernels/q8_stem/q8_stem.h"

#include <emmintrin.h>

/* 16 columns of four taps side by side. */
static void interleave(uint8_t *dst, const uint8_t *const p[4], size_t c)
{
    __m128i t[4], lo, hi;
    for (size_t i = 0; i < 4; i++)
        t[i] = p[i] ? _mm_loadu_si128((const __m128i *)(p[i] + c)) : _mm_setzero_si128();
    __m128i *d = (__m128i *)(dst + 4 * c);
    lo = _mm_unpacklo_epi8(t[0], t[1]);
    hi = _mm_unpacklo_epi8(t[2], t[3]);
    _mm_storeu_si128(d, _mm_unpacklo_epi16(lo, hi));
    _mm_storeu_si128(d + 1, _mm_unpackhi_epi16(lo, hi));
    lo = _mm_unpackhi_epi8(t[0], t[1]);
    hi = _mm_unpackhi_epi8(t[2], t[3]);
    _mm_storeu_si128(d + 2, _mm_unpacklo_epi16(lo, hi));
    _mm_storeu_si128(d + 3, _mm_unpackhi_epi16(lo, hi));
}

static void gather(const struct wn_q8_stem *mat, const int32_t *tap_off, const uint8_t *x, size_t n, uint8_t *quads)
{
    for (size_t kq = 0; kq < mat->gemm.quads; kq++) {
        const uint8_t *p[4];
        for (size_t i = 0; i < 4; i++)
            p[i] = 4 * kq + i < mat->k ? x + tap_off[4 * kq + i] : NULL;
        for (size_t c = 0; c < n; c += 16)
            interleave(quads + kq * 4 * WN_Q8_STEM_TILE, p, c);
    }
}

void wn_q8_stem_4x16__avx2(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1)
{
    wn_q8_stem_tiles(mat, off, args, row0, row1, gather, wn_q8_gemm_4x16__avx2, wn_q8_colsum__avx2);
}
