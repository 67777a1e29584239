/* avx2.c: pair stream: two arbitrary non-zeros per vpmaddubsw.
 *
 * 32 columns of two planes are interleaved by bytes, so that one multiply-add meets (w1, w2) in every lane; a
 * half-chain sums up to three such pairs in 16 bits, which packing made safe. Interleaving the words of two half-chains
 * and adding neighbours by vpmaddwd with ones widens both at once. That leaves the 32-bit sums of 32 columns in "step
 * order" a[0] 0-3, 16-19   a[1] 4-7, 20-23   a[2] 8-11, 24-27   a[3] 12-15, 28-31 from which packs and packus restore
 * the column order without crossing lanes: a row finishes as plane bytes. Four rows of bytes become quads; a residual
 * in quad form becomes bytes first. Tiles are 64 columns wide, columns outside, rows inside: the planes of a tile stay
 * in L1 while the weights stream by. The row loops are functions of their own and their pairs are asm: they need all
 * sixteen registers, and gcc 12 spills accumulators in the intrinsics form (a quarter of the speed). */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include "engine/kernels/q8_spmm/avx2.h"

/* ---- sums ---- */
struct half {
    __m256i lo, hi;
};

WN_Q8_INLINE void pair_first(struct half *h, const uint8_t *p, const uint8_t *q, const uint32_t *w)
{
    __m256i t;
    __asm__("vmovdqu %3, %1\n\t"
            "vmovdqu %4, %2\n\t"
            "vpunpcklbw %2, %1, %0\n\t"
            "vpunpckhbw %2, %1, %1\n\t"
            "vpbroadcastd %5, %2\n\t"
            "vpmaddubsw %2, %0, %0\n\t"
            "vpmaddubsw %2, %1, %1"
            : "=&x"(h->lo), "=&x"(h->hi), "=&x"(t)
            : "m"(*(const __m256i_u *)p), "m"(*(const __m256i_u *)q), "m"(*w));
}

WN_Q8_INLINE void pair_more(struct half *h, const uint8_t *p, const uint8_t *q, const uint32_t *w)
{
    __m256i t0, t1, t2;
    __asm__("vmovdqu %5, %2\n\t"
            "vmovdqu %6, %3\n\t"
            "vpunpcklbw %3, %2, %4\n\t"
            "vpunpckhbw %3, %2, %2\n\t"
            "vpbroadcastd %7, %3\n\t"
            "vpmaddubsw %3, %4, %4\n\t"
            "vpmaddubsw %3, %2, %2\n\t"
            "vpaddw %4, %0, %0\n\t"
            "vpaddw %2, %1, %1"
            : "+x"(h->lo), "+x"(h->hi), "=&x"(t0), "=&x"(t1), "=&x"(t2)
            : "m"(*(const __m256i_u *)p), "m"(*(const __m256i_u *)q), "m"(*w));
}

/* s pairs of one half-chain over 32 columns. */
WN_Q8_INLINE struct half half_chain(const uint8_t *x, const uint32_t *w, const int32_t *off, unsigned s)
{
    struct half h;
    pair_first(&h, x + off[0], x + off[1], w);
    WN_UNROLL
    for (unsigned i = 1; i < s; i++)
        pair_more(&h, x + off[2 * i], x + off[2 * i + 1], w + i);
    return h;
}

/* Widen the words m and n of two half-chains and add them: the low half of every lane to a0, the high half to a1. */
WN_Q8_INLINE void widen(__m256i *a0, __m256i *a1, __m256i m, __m256i n, __m256i ones)
{
    __m256i t;
    __asm__("vpunpcklwd %4, %3, %2\n\t"
            "vpmaddwd %5, %2, %2\n\t"
            "vpaddd %2, %0, %0\n\t"
            "vpunpckhwd %4, %3, %2\n\t"
            "vpmaddwd %5, %2, %2\n\t"
            "vpaddd %2, %1, %1"
            : "+x"(*a0), "+x"(*a1), "=&x"(t)
            : "x"(m), "x"(n), "x"(ones));
}

/* One step of kind s over nv * 32 columns. */
WN_Q8_INLINE void step(__m256i *acc, const uint8_t *x, const uint32_t *w, const int32_t *off, unsigned s, unsigned nv)
{
    const __m256i ones = _mm256_set1_epi16(1);
    WN_UNROLL
    for (unsigned i = 0; i < 4 * s; i++) /* most tiles leave L1 */
        __builtin_prefetch(x + off[WN_Q8_SPMM_AHEAD + i]);
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++) {
        struct half m = half_chain(x + 32 * v, w, off, s), n = half_chain(x + 32 * v, w + s, off + 2 * s, s);
        widen(&acc[4 * v], &acc[4 * v + 1], m.lo, n.lo, ones);
        widen(&acc[4 * v + 2], &acc[4 * v + 3], m.hi, n.hi, ones);
    }
}

WN_Q8_INLINE void row_sums(const struct job *j, size_t o, unsigned nv, __m256i *acc)
{
    const struct wn_q8_spmm_row *row = &j->mat->row[o];
    const uint32_t *w = j->mat->w + row->at;
    const int32_t *off = j->off + 2 * (size_t)row->at;
    const uint8_t *x = j->x;
    WN_UNROLL
    for (unsigned i = 0; i < 4 * nv; i++)
        acc[i] = _mm256_set1_epi32(j->e.a->bias[o]);
    for (unsigned i = row->steps[2]; i; i--, w += 6, off += 12)
        step(acc, x, w, off, 3, nv);
    for (unsigned i = row->steps[1]; i; i--, w += 4, off += 8)
        step(acc, x, w, off, 2, nv);
    for (unsigned i = row->steps[0]; i; i--, w += 2, off += 4)
        step(acc, x, w, off, 1, nv);
}

#define NAME   wn_q8_spmm_1x64__avx2
#define STREAM WN_Q8_SPMM_PAIR
#include "engine/kernels/q8_spmm/avx2.inc"

/* 16 columns in words; a word holds 128 bytes' sum for certain (128 * 255 < 65536), then it is widened. */
void wn_q8_spmm_colsum__avx2(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum)
{
    const size_t run = 128;
    for (size_t c = 0; c < n; c += WN_COLS) {
        __m256i lo = _mm256_setzero_si256(), hi = lo;
        for (size_t i = 0; i < k; i += run) {
            __m256i words = _mm256_setzero_si256();
            for (size_t j = i; j < WN_MIN(k, i + run); j++)
                words =
                    _mm256_add_epi16(words, _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(x + c + koff[j]))));
            lo = _mm256_add_epi32(lo, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words)));
            hi = _mm256_add_epi32(hi, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1)));
        }
        _mm256_storeu_si256((__m256i *)(colsum + c), lo);
        _mm256_storeu_si256((__m256i *)(colsum + c + 8), hi);
    }
}
