/* q8_epilogue_avx2.h: q8_epilogue.h, 16 columns at a time. Include from avx2.c files only.
 *
 * A row's two accumulator vectors (columns c..c+7, c+8..c+15) become one vector of 16 words by wn_q8_avx2_words(), in
 * "packs order": columns 0-3, 8-11 | 4-7, 12-15. Four rows of words become quads, one row becomes plane bytes.
 *
 *     struct wn_q8_avx2 e = wn_q8_avx2_begin(args);          (a local: the constants then live in registers)
 *     quad:  w[i] = wn_q8_avx2_words(&e, o + i, c, a0, a1) for four rows; wn_q8_avx2_put_quad(&e, o, nrows, c, w0..w3)
 *     plane: wn_q8_avx2_put_plane(&e, o, c, wn_q8_avx2_words(&e, o, c, a0, a1))
 *     f32:   wn_q8_avx2_put_f32(&e, o, c, a0, a1) */
#ifndef WN_Q8_EPILOGUE_AVX2_H
#define WN_Q8_EPILOGUE_AVX2_H

#include <immintrin.h>
#include "engine/kernels/q8_epilogue.h"

struct wn_q8_avx2 {
    const struct wn_q8_args *a;
    const int32_t *w_zp;
    const uint8_t *r;
    const uint32_t *mask;
    uint8_t *y;
    size_t y_stride;
    enum wn_q8_out out;
    __m256 r_mul, s_mul, s_lo, s_hi, cut, lo, hi;
    __m256i r_zp, y_zp /* words */, q_lo, q_hi, pad /* bytes */;
};

WN_Q8_INLINE struct wn_q8_avx2 wn_q8_avx2_begin(const struct wn_q8_args *a)
{
    return (struct wn_q8_avx2){ .a = a,
                                .w_zp = a->w_zp,
                                .r = a->r,
                                .mask = a->mask,
                                .y = a->y,
                                .y_stride = a->y_stride,
                                .out = a->out,
                                .r_mul = _mm256_set1_ps(a->r_mul),
                                .s_mul = _mm256_set1_ps(a->s_mul),
                                .s_lo = _mm256_set1_ps(a->s_lo),
                                .s_hi = _mm256_set1_ps(a->s_hi),
                                .cut = _mm256_set1_ps(WN_Q8_CUT),
                                .lo = _mm256_set1_ps(a->lo),
                                .hi = _mm256_set1_ps(a->hi),
                                .r_zp = _mm256_set1_epi32(a->r_zp),
                                .y_zp = _mm256_set1_epi16((short)a->y_zp),
                                .q_lo = _mm256_set1_epi8((char)a->q_lo),
                                .q_hi = _mm256_set1_epi8((char)a->q_hi),
                                .pad = _mm256_set1_epi8((char)a->y_zp) };
}

/** rne as wn_q8_rne(): below -2^31 the conversion itself gives the lowest integer, which packs then saturates. */
WN_Q8_INLINE __m256i wn_q8_avx2_rne(const struct wn_q8_avx2 *e, __m256 f)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(f, e->cut));
}

/** (float)(acc - w_zp * colsum) * mul of row o, columns c..c+7. */
WN_Q8_INLINE __m256 wn_q8_avx2_scale(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i acc)
{
    if (e->w_zp)
        acc = _mm256_sub_epi32(acc, _mm256_mullo_epi32(_mm256_set1_epi32(e->w_zp[o]),
                                                       _mm256_loadu_si256((const __m256i *)(e->a->colsum + c))));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_set1_ps(e->a->mul[o]));
}

/** `f` rounded as the layer's own tensor, plus residual bytes r (as dwords): one number in units of y's scale. */
WN_Q8_INLINE __m256 wn_q8_avx2_sum(const struct wn_q8_avx2 *e, __m256 f, __m256i r)
{
    f = _mm256_max_ps(_mm256_min_ps(f, e->s_hi), e->s_lo); /* in this order a NaN becomes s_hi */
    f = _mm256_round_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_add_ps(_mm256_mul_ps(f, e->s_mul),
                         _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(r, e->r_zp)), e->r_mul));
}

/** The residual of row o, columns c..c+7, as dwords: quad form picks byte o % 4 of each dword. */
WN_Q8_INLINE __m256i wn_q8_avx2_residual(const struct wn_q8_avx2 *e, size_t o, size_t c, bool quad)
{
    if (quad) {
        const int none = (int)0x80808000;
        const __m256i pick =
            _mm256_setr_epi32(none, none + 4, none + 8, none + 12, none, none + 4, none + 8, none + 12);
        const __m256i r = _mm256_loadu_si256((const __m256i *)(e->r + o / 4 * e->y_stride + 4 * c));
        return _mm256_shuffle_epi8(r, _mm256_add_epi32(pick, _mm256_set1_epi32((int)(o & 3))));
    }
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(e->r + o * e->y_stride + c)));
}

/** Two scaled vectors: rounded, with the zero point, as words in packs order. */
WN_Q8_INLINE __m256i wn_q8_avx2_round_words(const struct wn_q8_avx2 *e, __m256 f0, __m256 f1)
{
    return _mm256_adds_epi16(_mm256_packs_epi32(wn_q8_avx2_rne(e, f0), wn_q8_avx2_rne(e, f1)), e->y_zp);
}

/** wn_q8_avx2_words() for the common case, without branches: quad form, no weight zero points, a residual or not. */
WN_Q8_INLINE __m256i wn_q8_avx2_quad_words(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i a0, __m256i a1,
                                           bool residual)
{
    __m256 mul = _mm256_set1_ps(e->a->mul[o]);
    __m256 f0 = _mm256_mul_ps(_mm256_cvtepi32_ps(a0), mul), f1 = _mm256_mul_ps(_mm256_cvtepi32_ps(a1), mul);
    if (residual) {
        f0 = wn_q8_avx2_sum(e, f0, wn_q8_avx2_residual(e, o, c, true));
        f1 = wn_q8_avx2_sum(e, f1, wn_q8_avx2_residual(e, o, c + 8, true));
    }
    return wn_q8_avx2_round_words(e, f0, f1);
}

/** Row o, columns c..c+15: rounded, with the zero point, as words in packs order. */
WN_Q8_INLINE __m256i wn_q8_avx2_words(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i a0, __m256i a1)
{
    __m256 f0 = wn_q8_avx2_scale(e, o, c, a0), f1 = wn_q8_avx2_scale(e, o, c + 8, a1);
    if (e->r) {
        bool quad = e->out == WN_OUT_QUAD;
        f0 = wn_q8_avx2_sum(e, f0, wn_q8_avx2_residual(e, o, c, quad));
        f1 = wn_q8_avx2_sum(e, f1, wn_q8_avx2_residual(e, o, c + 8, quad));
    }
    return wn_q8_avx2_round_words(e, f0, f1);
}

WN_Q8_INLINE __m256i wn_q8_avx2_clamp(const struct wn_q8_avx2 *e, __m256i bytes)
{
    return _mm256_min_epu8(_mm256_max_epu8(bytes, e->q_lo), e->q_hi);
}

/** Eight finished quads of columns c..c+7; `live` has ~0 in the bytes of real rows. */
WN_Q8_INLINE void wn_q8_avx2_store_quads(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i q, __m256i live)
{
    if (e->mask)
        live = _mm256_and_si256(live, _mm256_loadu_si256((const __m256i *)(e->mask + c)));
    q = _mm256_blendv_epi8(e->pad, q, live);
    _mm256_storeu_si256((__m256i *)(e->y + o / 4 * e->y_stride + 4 * c), q);
}

/** Eight finished quads of columns c..c+7. Rows from `nrows` (1..4) of the group on are padding. */
WN_Q8_INLINE void wn_q8_avx2_store_group(const struct wn_q8_avx2 *e, size_t o, size_t nrows, size_t c, __m256i q)
{
    if (nrows < 4)
        q = _mm256_blendv_epi8(e->pad, q, _mm256_set1_epi32((int)(0xffffffffu >> (32 - 8 * nrows))));
    if (e->mask)
        q = _mm256_blendv_epi8(e->pad, q, _mm256_loadu_si256((const __m256i *)(e->mask + c)));
    _mm256_storeu_si256((__m256i *)(e->y + o / 4 * e->y_stride + 4 * c), q);
}

/** Rows o..o+3 (o a multiple of 4), columns c..c+15 of the quad form. Rows from `nrows` (1..4) on are padding. */
WN_Q8_INLINE void wn_q8_avx2_put_quad(const struct wn_q8_avx2 *e, size_t o, size_t nrows, size_t c, __m256i w0,
                                      __m256i w1, __m256i w2, __m256i w3)
{
    const __m256i transpose = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5,
                                               9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m256 t01 = _mm256_castsi256_ps(wn_q8_avx2_clamp(e, _mm256_packus_epi16(w0, w1)));
    __m256 t23 = _mm256_castsi256_ps(wn_q8_avx2_clamp(e, _mm256_packus_epi16(w2, w3)));
    __m256i q0 = _mm256_castps_si256(_mm256_shuffle_ps(t01, t23, 0x88));
    __m256i q1 = _mm256_castps_si256(_mm256_shuffle_ps(t01, t23, 0xdd));
    wn_q8_avx2_store_group(e, o, nrows, c, _mm256_shuffle_epi8(q0, transpose));
    wn_q8_avx2_store_group(e, o, nrows, c + 8, _mm256_shuffle_epi8(q1, transpose));
}

/** Row o, columns c..c+15 of the plane form. */
WN_Q8_INLINE void wn_q8_avx2_put_plane(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i w)
{
    __m256i b = wn_q8_avx2_clamp(e, _mm256_packus_epi16(w, w)); /* dwords: 0-3, 8-11, .. | 4-7, 12-15, .. */
    __m128i y = _mm_unpacklo_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    if (e->mask) {
        __m256i m = _mm256_packs_epi32(_mm256_loadu_si256((const __m256i *)(e->mask + c)),
                                       _mm256_loadu_si256((const __m256i *)(e->mask + c + 8)));
        m = _mm256_packs_epi16(m, m);
        __m128i live = _mm_unpacklo_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
        y = _mm_blendv_epi8(_mm256_castsi256_si128(e->pad), y, live);
    }
    _mm_storeu_si128((__m128i *)(e->y + o * e->y_stride + c), y);
}

/** Row o, columns c..c+7 of the f32 form. */
WN_Q8_INLINE void wn_q8_avx2_put_f32x8(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i acc)
{
    size_t at = o * e->y_stride + 4 * c;
    __m256 f = wn_q8_avx2_scale(e, o, c, acc);
    if (e->r)
        f = _mm256_add_ps(f, _mm256_loadu_ps((const float *)(e->r + at)));
    f = _mm256_min_ps(e->hi, _mm256_max_ps(e->lo, f)); /* in this order a NaN stays */
    if (e->mask)
        f = _mm256_and_ps(f, _mm256_loadu_ps((const float *)(e->mask + c)));
    _mm256_storeu_ps((float *)(e->y + at), f);
}

/** Row o, columns c..c+15 of the f32 form. */
WN_Q8_INLINE void wn_q8_avx2_put_f32(const struct wn_q8_avx2 *e, size_t o, size_t c, __m256i a0, __m256i a1)
{
    wn_q8_avx2_put_f32x8(e, o, c, a0);
    wn_q8_avx2_put_f32x8(e, o, c + 8, a1);
}

/** Rows o..o+nrows-1 (o a multiple of 4, nrows 1..4), columns c..c+15, from sums: finished in any form. */
WN_Q8_INLINE void wn_q8_avx2_put_rows(const struct wn_q8_avx2 *e, size_t o, size_t nrows, size_t c,
                                      const __m256i s[4][2])
{
    if (e->out == WN_OUT_QUAD && !e->w_zp && nrows == 4) {
        bool residual = e->r;
        wn_q8_avx2_put_quad(e, o, 4, c, wn_q8_avx2_quad_words(e, o, c, s[0][0], s[0][1], residual),
                            wn_q8_avx2_quad_words(e, o + 1, c, s[1][0], s[1][1], residual),
                            wn_q8_avx2_quad_words(e, o + 2, c, s[2][0], s[2][1], residual),
                            wn_q8_avx2_quad_words(e, o + 3, c, s[3][0], s[3][1], residual));
        return;
    }
    if (e->out == WN_OUT_F32) {
        wn_q8_avx2_put_f32(e, o, c, s[0][0], s[0][1]);
        if (nrows > 1)
            wn_q8_avx2_put_f32(e, o + 1, c, s[1][0], s[1][1]);
        if (nrows > 2)
            wn_q8_avx2_put_f32(e, o + 2, c, s[2][0], s[2][1]);
        if (nrows > 3)
            wn_q8_avx2_put_f32(e, o + 3, c, s[3][0], s[3][1]);
        return;
    }
    __m256i p0, p1, p2, p3;
    p1 = p2 = p3 = _mm256_setzero_si256();
    p0 = wn_q8_avx2_words(e, o, c, s[0][0], s[0][1]);
    if (nrows > 1)
        p1 = wn_q8_avx2_words(e, o + 1, c, s[1][0], s[1][1]);
    if (nrows > 2)
        p2 = wn_q8_avx2_words(e, o + 2, c, s[2][0], s[2][1]);
    if (nrows > 3)
        p3 = wn_q8_avx2_words(e, o + 3, c, s[3][0], s[3][1]);
    if (e->out == WN_OUT_QUAD) {
        wn_q8_avx2_put_quad(e, o, nrows, c, p0, p1, p2, p3);
        return;
    }
    wn_q8_avx2_put_plane(e, o, c, p0);
    if (nrows > 1)
        wn_q8_avx2_put_plane(e, o + 1, c, p1);
    if (nrows > 2)
        wn_q8_avx2_put_plane(e, o + 2, c, p2);
    if (nrows > 3)
        wn_q8_avx2_put_plane(e, o + 3, c, p3);
}

#endif
