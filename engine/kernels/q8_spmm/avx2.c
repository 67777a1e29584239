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
#include "engine/kernels/q8_epilogue_avx2.h"

#define TILE 64u

/* One column tile of one call. */
struct job {
    struct wn_q8_avx2 e;
    const struct wn_q8_spmm *mat;
    const int32_t *off;
    const uint8_t *x;        /* column 0 of the tile */
    const int32_t *colsum;   /* of the tile, or NULL */
    __m256i keep[TILE / 32]; /* byte masks */
};

/* Rows o..end-1 of a tile. */
struct rows {
    size_t o, end;
    uint8_t *y;       /* bytes of row o, TILE or 32 of each row */
    const uint8_t *r; /* residual bytes of row o, or NULL */
    size_t stride;    /* of y and r */
};

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

/* ---- finishing ---- */
/* Sums of 32 columns less the weight zero point's share, scaled. */
WN_Q8_INLINE void scale(const struct wn_q8_avx2 *e, size_t o, const int32_t *colsum, const __m256i *acc, __m256 *f)
{
    const __m256 mul = _mm256_set1_ps(e->a->mul[o]);
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++) {
        __m256i a = acc[i];
        if (colsum) {
            __m256i sums =
                _mm256_loadu2_m128i((const __m128i *)(colsum + 4 * i + 16), (const __m128i *)(colsum + 4 * i));
            a = _mm256_sub_epi32(a, _mm256_mullo_epi32(_mm256_set1_epi32(e->w_zp[o]), sums));
        }
        f[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(a), mul);
    }
}

/* The bytes of 32 columns of row o, v the number of the 32 in the tile. */
WN_Q8_INLINE __m256i finish(const struct job *j, size_t o, const uint8_t *res, const __m256i *acc, unsigned v)
{
    const struct wn_q8_avx2 *e = &j->e;
    __m256 f[4];
    scale(e, o, j->colsum ? j->colsum + 32 * v : NULL, acc, f);
    if (res) {
        const __m256i zero = _mm256_setzero_si256();
        __m256i r = _mm256_loadu_si256((const __m256i *)(res + 32 * v));
        __m256i lo = _mm256_unpacklo_epi8(r, zero), hi = _mm256_unpackhi_epi8(r, zero);
        f[0] = wn_q8_avx2_sum(e, f[0], _mm256_unpacklo_epi16(lo, zero));
        f[1] = wn_q8_avx2_sum(e, f[1], _mm256_unpackhi_epi16(lo, zero));
        f[2] = wn_q8_avx2_sum(e, f[2], _mm256_unpacklo_epi16(hi, zero));
        f[3] = wn_q8_avx2_sum(e, f[3], _mm256_unpackhi_epi16(hi, zero));
    }
    __m256i lo = _mm256_packs_epi32(wn_q8_avx2_rne(e, f[0]), wn_q8_avx2_rne(e, f[1]));
    __m256i hi = _mm256_packs_epi32(wn_q8_avx2_rne(e, f[2]), wn_q8_avx2_rne(e, f[3]));
    __m256i y = _mm256_packus_epi16(_mm256_adds_epi16(lo, e->y_zp), _mm256_adds_epi16(hi, e->y_zp));
    y = wn_q8_avx2_clamp(e, y);
    return e->mask ? _mm256_blendv_epi8(e->pad, y, j->keep[v]) : y;
}

/* ---- rows of nv * 32 columns as bytes, a row's sums in column order ---- */
WN_Q8_INLINE void rows_u8(const struct job *j, const struct rows *rows, unsigned nv)
{
    uint8_t *y = rows->y;
    const uint8_t *r = rows->r;
    for (size_t o = rows->o; o < rows->end; o++, y += rows->stride) {
        __m256i acc[8];
        row_sums(j, o, nv, acc);
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++)
            _mm256_storeu_si256((__m256i *)(y + 32 * v), finish(j, o, r, acc + 4 * v, v));
        r = r ? r + rows->stride : NULL;
    }
}

__attribute__((noinline)) static void rows64_u8(const struct job *j, const struct rows *rows)
{
    rows_u8(j, rows, 2);
}

__attribute__((noinline)) static void rows32_u8(const struct job *j, const struct rows *rows)
{
    rows_u8(j, rows, 1);
}

WN_Q8_INLINE void in_order(const __m256i *a, __m256i *sums)
{
    sums[0] = _mm256_permute2x128_si256(a[0], a[1], 0x20);
    sums[1] = _mm256_permute2x128_si256(a[2], a[3], 0x20);
    sums[2] = _mm256_permute2x128_si256(a[0], a[1], 0x31);
    sums[3] = _mm256_permute2x128_si256(a[2], a[3], 0x31);
}

__attribute__((noinline)) static void row64_i32(const struct job *j, size_t o, __m256i *sums)
{
    __m256i acc[8];
    row_sums(j, o, 2, acc);
    in_order(acc, sums);
    in_order(acc + 4, sums + 4);
}

__attribute__((noinline)) static void row32_i32(const struct job *j, size_t o, __m256i *sums)
{
    __m256i acc[4];
    row_sums(j, o, 1, acc);
    in_order(acc, sums);
}

/* ---- four rows of bytes <-> 16 columns of quads ---- */
WN_Q8_INLINE void bytes_to_quads(const uint8_t (*b)[TILE], uint8_t *y)
{
    __m128i r0 = _mm_load_si128((const __m128i *)b[0]), r1 = _mm_load_si128((const __m128i *)b[1]);
    __m128i r2 = _mm_load_si128((const __m128i *)b[2]), r3 = _mm_load_si128((const __m128i *)b[3]);
    __m128i lo01 = _mm_unpacklo_epi8(r0, r1), hi01 = _mm_unpackhi_epi8(r0, r1);
    __m128i lo23 = _mm_unpacklo_epi8(r2, r3), hi23 = _mm_unpackhi_epi8(r2, r3);
    _mm_storeu_si128((__m128i *)y, _mm_unpacklo_epi16(lo01, lo23));
    _mm_storeu_si128((__m128i *)(y + 16), _mm_unpackhi_epi16(lo01, lo23));
    _mm_storeu_si128((__m128i *)(y + 32), _mm_unpacklo_epi16(hi01, hi23));
    _mm_storeu_si128((__m128i *)(y + 48), _mm_unpackhi_epi16(hi01, hi23));
}

WN_Q8_INLINE void quads_to_bytes(const uint8_t *q, uint8_t (*b)[TILE])
{
    const __m128i by_row = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128 c[4];
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        c[i] = _mm_castsi128_ps(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + 16 * i)), by_row));
    _MM_TRANSPOSE4_PS(c[0], c[1], c[2], c[3]);
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        _mm_store_si128((__m128i *)b[i], _mm_castps_si128(c[i]));
}

/* ---- tiles: columns c.., of whose nv * 32 n are stored ---- */
/* Rows o.. (at most four). */
WN_Q8_INLINE void four_rows_quad(const struct job *j, size_t o, size_t end, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    uint8_t y[4][TILE] __attribute__((aligned(32))), r[4][TILE] __attribute__((aligned(32)));
    size_t at = o / 4 * a->y_stride + 4 * c, nrows = WN_MIN(end - o, (size_t)4);
    for (size_t i = 0; a->r && i < n; i += 16)
        quads_to_bytes((const uint8_t *)a->r + at + 4 * i, (uint8_t(*)[TILE])(void *)&r[0][i]);
    if (nrows < 4)
        memset(y[nrows], a->y_zp, (4 - nrows) * TILE);
    struct rows rows = { .o = o, .end = o + nrows, .y = y[0], .r = a->r ? r[0] : NULL, .stride = TILE };
    (nv == 2 ? rows64_u8 : rows32_u8)(j, &rows);
    for (size_t i = 0; i < n; i += 16)
        bytes_to_quads((const uint8_t(*)[TILE])(const void *)&y[0][i], (uint8_t *)a->y + at + 4 * i);
}

WN_Q8_INLINE void rows_plane(const struct job *j, size_t o, size_t end, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    size_t at = o * a->y_stride + c;
    uint8_t *y = (uint8_t *)a->y + at;
    struct rows rows = {
        .o = o, .end = end, .y = y, .r = a->r ? (const uint8_t *)a->r + at : NULL, .stride = a->y_stride
    };
    if (n == 32 * nv) {
        (nv == 2 ? rows64_u8 : rows32_u8)(j, &rows);
        return;
    }
    for (; rows.o < end; rows.o++, y += a->y_stride) { /* the tile is wider than what may be written */
        uint8_t part[TILE];
        struct rows row = rows;
        row.end = rows.o + 1;
        row.y = part;
        (nv == 2 ? rows64_u8 : rows32_u8)(j, &row);
        memcpy(y, part, n);
        rows.r = rows.r ? rows.r + a->y_stride : NULL;
    }
}

WN_Q8_INLINE void row_f32(const struct job *j, size_t o, size_t c, unsigned nv, size_t n)
{
    __m256i sums[TILE / 8];
    (nv == 2 ? row64_i32 : row32_i32)(j, o, sums);
    for (size_t i = 0; i < n; i += 8)
        wn_q8_avx2_put_f32x8(&j->e, o, c + i, sums[i / 8]);
}

static void tile(struct job *j, size_t row0, size_t row1, size_t c, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    unsigned nv = n > 32 ? 2 : 1;
    j->x = a->x + c;
    j->colsum = a->w_zp ? a->colsum + c : NULL;
    for (unsigned v = 0; v < nv; v++) {
        if (a->mask) {
            const uint32_t *m = a->mask + c + 32 * v;
            __m256i b[4];
            for (unsigned i = 0; i < 4; i++)
                b[i] = _mm256_loadu2_m128i((const __m128i *)(m + 4 * i + 16), (const __m128i *)(m + 4 * i));
            j->keep[v] = _mm256_packs_epi16(_mm256_packs_epi32(b[0], b[1]), _mm256_packs_epi32(b[2], b[3]));
        }
    }
    if (a->out == WN_OUT_PLANE)
        rows_plane(j, row0, row1, c, nv, n);
    else if (a->out == WN_OUT_F32)
        for (size_t o = row0; o < row1; o++)
            row_f32(j, o, c, nv, n);
    else
        for (size_t o = row0; o < row1; o += 4)
            four_rows_quad(j, o, row1, c, nv, n);
}

void wn_q8_spmm_1x64__avx2(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                           size_t row1)
{
    assert(mat->stream == WN_Q8_SPMM_PAIR && row0 % 4 == 0 && args->n % WN_COLS == 0);
    struct job j = { .e = wn_q8_avx2_begin(args), .mat = mat, .off = off };
    for (size_t c = 0; c < args->n; c += TILE)
        tile(&j, row0, row1, c, WN_MIN(args->n - c, (size_t)TILE));
}

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
