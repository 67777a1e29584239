/* avx2.c: pair stream: two taps per vpmaddwd on words, exact for any weight of 9 bits.
 *
 * Eight columns (32 bytes) of two taps are interleaved by bytes, then with zeros, which leaves words (tap 0, tap 1): a
 * dword of the product is one channel of one column. acc[4 h + j] has columns 8 h + j | 8 h + 4 + j in its lanes, which
 * packs and packus put in order. (vpmovzxbw would do with two instructions less, but crosses lanes: slower.) */
#include "engine/kernels/q8_dw/q8_dw.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue_avx2.h"

#define COLS WN_COLS

/* Four channels: their constants once in both lanes. */
struct group {
    size_t o, nrows; /* first channel, real ones */
    const uint8_t *x;
    const int16_t *w;
    __m256i bias;
    __m256 mul;
    __m256i live; /* bytes of real channels */
};

static struct group group_of(const struct wn_q8_dw *mat, size_t x_stride, const struct wn_q8_args *args, size_t o,
                             size_t c1)
{
    struct group g = {
        .o = o, .nrows = WN_MIN(c1 - o, (size_t)4), .x = args->x + o / 4 * x_stride, .w = mat->w16 + o * mat->noffs
    };
    int32_t bias[4] = { 0 };
    float mul[4] = { 0 };
    memcpy(bias, args->bias + o, g.nrows * sizeof *bias);
    memcpy(mul, args->mul + o, g.nrows * sizeof *mul);
    g.bias = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)bias));
    g.mul = _mm256_broadcast_ps((const __m128 *)mul);
    g.live = _mm256_set1_epi32((int)(0xffffffffu >> (32 - 8 * g.nrows)));
    return g;
}

/* A function of its own: with the epilogue inlined behind it, gcc keeps the epilogue's constants in registers and the
 * accumulators in memory. */
__attribute__((noinline)) static void sums(const struct group *g, const int32_t *off, size_t noffs, size_t c,
                                           __m256i *out)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i acc[COLS / 2];
    WN_UNROLL
    for (unsigned i = 0; i < COLS / 2; i++)
        acc[i] = g->bias;
    const uint8_t *x = g->x + 4 * c;
    for (size_t s = 0; s < noffs; s += 2) {
        const uint8_t *p = x + off[s], *q = x + off[s + 1];
        __m256i w = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(g->w + 4 * s)));
        WN_UNROLL
        for (unsigned h = 0; h < 2; h++) {
            __m256i *a = acc + 4 * h;
            __m256i xp = _mm256_loadu_si256((const __m256i *)(p + 32 * h));
            __m256i xq = _mm256_loadu_si256((const __m256i *)(q + 32 * h));
            __m256i lo = _mm256_unpacklo_epi8(xp, xq), hi = _mm256_unpackhi_epi8(xp, xq);
            a[0] = _mm256_add_epi32(a[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(lo, zero), w));
            a[1] = _mm256_add_epi32(a[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(lo, zero), w));
            a[2] = _mm256_add_epi32(a[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(hi, zero), w));
            a[3] = _mm256_add_epi32(a[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(hi, zero), w));
        }
    }
    WN_UNROLL
    for (unsigned i = 0; i < COLS / 2; i++)
        out[i] = acc[i];
}

/* Eight columns as quads, from four accumulators. */
WN_Q8_INLINE void put_quads(const struct wn_q8_avx2 *e, const struct group *g, size_t c, const __m256i *acc)
{
    __m256 f[4];
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        f[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[i]), g->mul);
    if (e->r) {
        const __m256i zero = _mm256_setzero_si256();
        __m256i r = _mm256_loadu_si256((const __m256i *)(e->r + g->o / 4 * e->y_stride + 4 * c));
        __m256i lo = _mm256_unpacklo_epi8(r, zero), hi = _mm256_unpackhi_epi8(r, zero);
        f[0] = wn_q8_avx2_sum(e, f[0], _mm256_unpacklo_epi16(lo, zero));
        f[1] = wn_q8_avx2_sum(e, f[1], _mm256_unpackhi_epi16(lo, zero));
        f[2] = wn_q8_avx2_sum(e, f[2], _mm256_unpacklo_epi16(hi, zero));
        f[3] = wn_q8_avx2_sum(e, f[3], _mm256_unpackhi_epi16(hi, zero));
    }
    __m256i lo = _mm256_packs_epi32(wn_q8_avx2_rne(e, f[0]), wn_q8_avx2_rne(e, f[1]));
    __m256i hi = _mm256_packs_epi32(wn_q8_avx2_rne(e, f[2]), wn_q8_avx2_rne(e, f[3]));
    __m256i q = _mm256_packus_epi16(_mm256_adds_epi16(lo, e->y_zp), _mm256_adds_epi16(hi, e->y_zp));
    wn_q8_avx2_store_quads(e, g->o, c, wn_q8_avx2_clamp(e, q), g->live);
}

/* Plane and f32 form: the sums by rows, then the common epilogue. */
static void put_rows(const struct wn_q8_avx2 *e, const struct group *g, size_t c, const __m256i *acc)
{
    int32_t row[4][COLS] __attribute__((aligned(32)));
    for (unsigned b = 0; b < COLS / 4; b++) {
        const __m256i *a = acc + b / 2 * 4;
        __m128 v[4];
        for (unsigned j = 0; j < 4; j++)
            v[j] = _mm_castsi128_ps(b % 2 ? _mm256_extracti128_si256(a[j], 1) : _mm256_castsi256_si128(a[j]));
        _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
        for (unsigned j = 0; j < 4; j++)
            _mm_store_si128((__m128i *)&row[j][4 * b], _mm_castps_si128(v[j]));
    }
    for (size_t i = 0; i < g->nrows; i++) {
        __m256i a0 = _mm256_load_si256((const __m256i *)&row[i][0]);
        __m256i a1 = _mm256_load_si256((const __m256i *)&row[i][8]);
        if (e->out == WN_OUT_F32)
            wn_q8_avx2_put_f32(e, g->o + i, c, a0, a1);
        else
            wn_q8_avx2_put_plane(e, g->o + i, c, wn_q8_avx2_words(e, g->o + i, c, a0, a1));
    }
}

void wn_q8_dw_4x16__avx2(const struct wn_q8_dw *mat, const int32_t *off, size_t x_stride, const struct wn_q8_args *args,
                         size_t c0, size_t c1)
{
    assert(mat->stream == WN_Q8_DW_PAIR && c0 % 4 == 0 && args->n % WN_COLS == 0 && !args->w_zp);
    struct wn_q8_avx2 e = wn_q8_avx2_begin(args);
    for (size_t o = c0; o < c1; o += 4) {
        struct group g = group_of(mat, x_stride, args, o, c1);
        for (size_t c = 0; c < args->n; c += COLS) {
            __m256i acc[COLS / 2];
            sums(&g, off, mat->noffs, c, acc);
            if (args->out != WN_OUT_QUAD) {
                put_rows(&e, &g, c, acc);
                continue;
            }
            put_quads(&e, &g, c, acc);
            put_quads(&e, &g, c + 8, acc + 4);
        }
    }
}
