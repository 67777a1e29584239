/* avx2.c: dense int8 without VNNI: 4 rows x 16 columns in eight accumulators, exact by how pack.c paired the quads.
 *
 * A pair step multiplies 4 rows x 8 input bytes x 16 columns with 24 multiplies (vpmaddubsw, vpmaddwd): 42 MAC/cycle at
 * two a cycle. It needs all sixteen registers, which compilers do not manage: each row's part is one asm block that
 * broadcasts its second weight twice instead of keeping it. A single step does half of that in 16-bit words.
 * A copy of the tile as one run of memory, as f32_gemm has, was measured: 3 to 10 % slower. */
#include "engine/kernels/q8_gemm/q8_gemm.h"

#include "engine/kernels/q8_epilogue_avx2.h"

#define TILE_BYTES                                                                                                     \
    20480u /* activations of one sweep over the rows, to stay in L1 beside the weights that pass through */
#define MAX_TILE 64u

/* acc0, acc1 += row of a pair: a<quad><half> activations of 8 columns, w[0], w[1] the two weight quads. */
#define PAIR_ROW(acc0, acc1, w)                                                                                        \
    do {                                                                                                               \
        __m256i t0_, t1_, t2_;                                                                                         \
        __asm__("vpbroadcastd %9, %3\n\t"                                                                              \
                "vpmaddubsw %3, %5, %2\n\t"                                                                            \
                "vpmaddubsw %3, %6, %3\n\t"                                                                            \
                "vpbroadcastd %10, %4\n\t"                                                                             \
                "vpmaddubsw %4, %7, %4\n\t"                                                                            \
                "vpaddw %4, %2, %2\n\t"                                                                                \
                "vpbroadcastd %10, %4\n\t"                                                                             \
                "vpmaddubsw %4, %8, %4\n\t"                                                                            \
                "vpaddw %4, %3, %3\n\t"                                                                                \
                "vpmaddwd %11, %2, %2\n\t"                                                                             \
                "vpaddd %2, %0, %0\n\t"                                                                                \
                "vpmaddwd %11, %3, %3\n\t"                                                                             \
                "vpaddd %3, %1, %1"                                                                                    \
                : "+x"(acc0), "+x"(acc1), "=&x"(t0_), "=&x"(t1_), "=&x"(t2_)                                           \
                : "x"(a00), "x"(a01), "x"(a10), "x"(a11), "m"((w)[0]), "m"((w)[1]), "x"(ones));                        \
    } while (0)

/* The same for one quad in words: even<half> holds (x0, x2), odd<half> (x1, x3) of each column. */
#define SINGLE_ROW(acc0, acc1, w)                                                                                      \
    do {                                                                                                               \
        __m256i t_ = _mm256_set1_epi32((w)[0]);                                                                        \
        acc0 = _mm256_add_epi32(acc0, _mm256_madd_epi16(even0, t_));                                                   \
        acc1 = _mm256_add_epi32(acc1, _mm256_madd_epi16(even1, t_));                                                   \
        t_ = _mm256_set1_epi32((w)[1]);                                                                                \
        acc0 = _mm256_add_epi32(acc0, _mm256_madd_epi16(odd0, t_));                                                    \
        acc1 = _mm256_add_epi32(acc1, _mm256_madd_epi16(odd1, t_));                                                    \
    } while (0)

/* Rows o..o+3, columns c..c+15: multiply and finish. */
static void block(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_avx2 *e, size_t o, size_t c)
{
    const struct wn_q8_gemm_group *g = &mat->group[o / 4];
    const int32_t *w = mat->w + 8 * (size_t)g->at, *bias = e->a->bias;
    const uint8_t *x = e->a->x + 4 * c;
    size_t nrows = WN_MIN(mat->rows - o, 4u);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s00, s01, s10, s11, s20, s21, s30, s31;
    off += o / 4 * mat->quads;
    s00 = s01 = _mm256_set1_epi32(bias[o]);
    s10 = s11 = _mm256_set1_epi32(nrows > 1 ? bias[o + 1] : 0);
    s20 = s21 = _mm256_set1_epi32(nrows > 2 ? bias[o + 2] : 0);
    s30 = s31 = _mm256_set1_epi32(nrows > 3 ? bias[o + 3] : 0);
    for (const int32_t *end = w + 8 * (size_t)g->pairs; w < end; w += 8, off += 2) {
        const __m256i *x0 = (const __m256i *)(x + off[0]), *x1 = (const __m256i *)(x + off[1]);
        __m256i a00 = _mm256_loadu_si256(x0), a01 = _mm256_loadu_si256(x0 + 1);
        __m256i a10 = _mm256_loadu_si256(x1), a11 = _mm256_loadu_si256(x1 + 1);
        PAIR_ROW(s00, s01, w);
        PAIR_ROW(s10, s11, w + 2);
        PAIR_ROW(s20, s21, w + 4);
        PAIR_ROW(s30, s31, w + 6);
    }
    for (const int32_t *end = w + 8 * (size_t)g->singles; w < end; w += 8, off++) {
        const __m256i *x0 = (const __m256i *)(x + off[0]), low = _mm256_set1_epi16(0xff);
        __m256i odd0 = _mm256_loadu_si256(x0), odd1 = _mm256_loadu_si256(x0 + 1);
        __m256i even0 = _mm256_and_si256(odd0, low), even1 = _mm256_and_si256(odd1, low);
        odd0 = _mm256_srli_epi16(odd0, 8);
        odd1 = _mm256_srli_epi16(odd1, 8);
        SINGLE_ROW(s00, s01, w);
        SINGLE_ROW(s10, s11, w + 2);
        SINGLE_ROW(s20, s21, w + 4);
        SINGLE_ROW(s30, s31, w + 6);
    }
    const __m256i s[4][2] = { { s00, s01 }, { s10, s11 }, { s20, s21 }, { s30, s31 } };
    wn_q8_avx2_put_rows(e, o, nrows, c, s);
}

void wn_q8_gemm_4x16__avx2(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1)
{
    struct wn_q8_avx2 e = wn_q8_avx2_begin(args);
    size_t tile = WN_MIN(WN_MAX(TILE_BYTES / (4 * mat->quads) / 16 * 16, 16u), MAX_TILE);
    for (size_t c0 = 0; c0 < args->n; c0 += tile)
        for (size_t o = row0; o < row1; o += 4)
            for (size_t c = c0; c < WN_MIN(c0 + tile, args->n); c += 16)
                block(mat, off, &e, o, c);
}

void wn_q8_colsum__avx2(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n, int32_t *colsum)
{
    enum { FLUSH = 64 }; /* 64 * 2 * 255 fits 16 bits */
    size_t quads = wn_q8_quads(channels, taps);
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t c = 0; c < n; c += 8) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t kq = 0; kq < quads; kq += FLUSH) {
            __m256i words = _mm256_setzero_si256();
            for (size_t k = kq; k < WN_MIN(kq + FLUSH, quads); k++) {
                __m256i v = _mm256_loadu_si256((const __m256i *)(x + koff[k] + (ptrdiff_t)(4 * c)));
                __m256i real = _mm256_set1_epi32(wn_q8_quads_ones(k, channels, taps));
                words = _mm256_add_epi16(words, _mm256_maddubs_epi16(v, real));
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, ones));
        }
        _mm256_storeu_si256((__m256i *)(colsum + c), sum);
    }
}
