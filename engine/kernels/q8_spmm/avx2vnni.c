/* avx2vnni.c: quad stream on 256 bits: 32 columns of four planes are interleaved by bytes, then by words, which leaves
 * them in avx2.c's step order, and four weights meet them in one multiply. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include "engine/kernels/q8_spmm/avx2.h"
#include "engine/kernels/vnni256.h"

WN_Q8_INLINE void row_sums(const struct job *j, size_t o, unsigned nv, __m256i *acc)
{
    const struct wn_q8_spmm_row *row = &j->mat->row[o];
    const uint32_t *w = j->mat->w + row->at;
    const int32_t *off = j->off + 4 * (size_t)row->at;
    WN_UNROLL
    for (unsigned i = 0; i < 4 * nv; i++)
        acc[i] = _mm256_set1_epi32(j->e.a->bias[o]);
    for (unsigned i = row->steps[0]; i; i--, w++, off += 4) {
        const __m256i b = _mm256_set1_epi32((int)*w);
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++) {
            const uint8_t *x = j->x + 32 * v;
            __m256i p0 = _mm256_loadu_si256((const __m256i *)(x + off[0]));
            __m256i p1 = _mm256_loadu_si256((const __m256i *)(x + off[1]));
            __m256i p2 = _mm256_loadu_si256((const __m256i *)(x + off[2]));
            __m256i p3 = _mm256_loadu_si256((const __m256i *)(x + off[3]));
            __m256i lo01 = _mm256_unpacklo_epi8(p0, p1), hi01 = _mm256_unpackhi_epi8(p0, p1);
            __m256i lo23 = _mm256_unpacklo_epi8(p2, p3), hi23 = _mm256_unpackhi_epi8(p2, p3);
            __m256i *a = acc + 4 * v;
            a[0] = wn_vnni256_dpbusd(a[0], _mm256_unpacklo_epi16(lo01, lo23), b);
            a[1] = wn_vnni256_dpbusd(a[1], _mm256_unpackhi_epi16(lo01, lo23), b);
            a[2] = wn_vnni256_dpbusd(a[2], _mm256_unpacklo_epi16(hi01, hi23), b);
            a[3] = wn_vnni256_dpbusd(a[3], _mm256_unpackhi_epi16(hi01, hi23), b);
        }
    }
}

#define NAME   wn_q8_spmm_1x64__avx2vnni
#define STREAM WN_Q8_SPMM_QUAD
#include "engine/kernels/q8_spmm/avx2.inc"
