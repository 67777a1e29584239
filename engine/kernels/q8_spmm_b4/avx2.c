/* avx2.c: 1x4 blocks without VNNI: one row by up to 64 columns at a time, chains of S blocks summed in 16 bits.
 *
 * For each vector of 8 columns a chain is S loads, S vpmaddubsw, S - 1 vpaddw, one vpmaddwd and one vpaddd. gcc spills
 * accumulators when it schedules that itself, so one vector's part is one asm block: 8 accumulators, S weights, the
 * ones and two temporaries fit the sixteen registers. A finished row becomes 16-bit words at once; every fourth row the
 * words of four become quads. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx2.h"

#define MAX_V    8u     /* vectors of 8 columns: 64 columns */
#define L1_BYTES 28672u /* of activations in a tile; twice that where rows read few of them */

/* One tile of columns at work: words of the group's rows, packs order, for the quad form. */
struct tile {
    const struct wn_q8_avx2 *e;
    const uint8_t *x; /* of the tile's first column */
    size_t c;
    bool quad, quad_residual; /* the two common epilogues */
    __m256i words[4][MAX_V / 2];
};

#define BLOCK(load, w, t) "vmovdqu " load ", " t "\n\tvpmaddubsw " w ", " t ", " t "\n\t"
#define VEC(p, v)         (*(const __m256i_u *)((p) + 32 * (v)))

/* acc += chain of s blocks at p[0..s-1] with weights w[0..s-1]; s is a constant. */
WN_Q8_INLINE __m256i chain(__m256i acc, const uint8_t *const p[4], const __m256i w[4], __m256i ones, unsigned v,
                           unsigned s)
{
    __m256i t, u;
    if (s == 1)
        __asm__(BLOCK("%2", "%3", "%1") "vpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t)
                : "m"(VEC(p[0], v)), "x"(w[0]), "x"(ones));
    else if (s == 2)
        __asm__(BLOCK("%3", "%5", "%1") BLOCK("%4", "%6", "%2") "vpaddw %2, %1, %1\n\t"
                                                                "vpmaddwd %7, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "x"(w[0]), "x"(w[1]), "x"(ones));
    else if (s == 3)
        __asm__(BLOCK("%3", "%6", "%1") BLOCK("%4", "%7", "%2") "vpaddw %2, %1, %1\n\t" BLOCK(
                    "%5", "%8", "%2") "vpaddw %2, %1, %1\n\t"
                                      "vpmaddwd %9, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "m"(VEC(p[2], v)), "x"(w[0]), "x"(w[1]), "x"(w[2]), "x"(ones));
    else
        __asm__(BLOCK("%3", "%7", "%1") BLOCK("%4", "%8", "%2") "vpaddw %2, %1, %1\n\t" BLOCK(
                    "%5", "%9", "%2") "vpaddw %2, %1, %1\n\t" BLOCK("%6", "%10",
                                                                    "%2") "vpaddw %2, %1, %1\n\t"
                                                                          "vpmaddwd %11, %1, %1\n\tvpaddd %1, %0, %0"
                : "+x"(acc), "=&x"(t), "=&x"(u)
                : "m"(VEC(p[0], v)), "m"(VEC(p[1], v)), "m"(VEC(p[2], v)), "m"(VEC(p[3], v)), "x"(w[0]), "x"(w[1]),
                  "x"(w[2]), "x"(w[3]), "x"(ones));
    return acc;
}

/* Finish row o for the quad form without weight zero points; V and residual are constants after inlining. */
WN_Q8_INLINE void quad_row(struct tile *t, size_t o, const __m256i acc[MAX_V], unsigned V, bool residual)
{
    const struct wn_q8_avx2 e = *t->e; /* a copy: storing words cannot change it */
    __m256i *words = t->words[o % 4];
    WN_UNROLL
    for (unsigned v = 0; v < V; v += 2)
        words[v / 2] = wn_q8_avx2_quad_words(&e, o, t->c + 8 * v, acc[v], acc[v + 1], residual);
}

/* Finish row o whatever the epilogue. */
WN_Q8_INLINE void any_row(struct tile *t, size_t o, const __m256i acc[MAX_V], unsigned V)
{
    WN_UNROLL
    for (unsigned v = 0; v < V; v += 2) { /* unrolled so that acc stays in registers */
        size_t c = t->c + 8 * v;
        if (t->e->out == WN_OUT_F32) {
            wn_q8_avx2_put_f32(t->e, o, c, acc[v], acc[v + 1]);
            continue;
        }
        __m256i words = wn_q8_avx2_words(t->e, o, c, acc[v], acc[v + 1]);
        if (t->e->out == WN_OUT_QUAD)
            t->words[o % 4][v / 2] = words;
        else
            wn_q8_avx2_put_plane(t->e, o, c, words);
    }
}

/* acc += the row's chains of S blocks; V and S are constants after inlining. */
WN_Q8_INLINE void sum(__m256i acc[MAX_V], const uint8_t *x, const int32_t *w, const int32_t *off, uint32_t chains,
                      unsigned V, unsigned S)
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (const int32_t *end = w + (size_t)chains * S; w != end; w += S, off += S) {
        const uint8_t *p[4];
        __m256i b[4];
        WN_UNROLL
        for (unsigned s = 0; s < S; s++) {
            p[s] = x + off[s];
            b[s] = _mm256_set1_epi32(w[s]);
        }
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            acc[v] = chain(acc[v], p, b, ones, v, S);
    }
}

/* All rows over one tile of 8 * V columns; V is a constant after inlining. */
WN_Q8_INLINE void rows(const struct wn_q8_spmm_b4 *mat, const int32_t *off, struct tile *t, size_t row0, size_t row1,
                       unsigned V)
{
    for (size_t o = row0; o < row1; o += 4) {
        const struct wn_q8_spmm_b4_group *g = &mat->group[o / 4];
        size_t at = g->at, nrows = WN_MIN(mat->rows - o, 4u);
        for (size_t r = 0; r < nrows; r++) {
            __m256i acc[MAX_V];
            WN_UNROLL
            for (unsigned v = 0; v < V; v++)
                acc[v] = _mm256_set1_epi32(t->e->a->bias[o + r]);
            switch (g->s) {
            case 1:
                sum(acc, t->x, mat->w + at, off + at, g->chains[r], V, 1);
                break;
            case 2:
                sum(acc, t->x, mat->w + at, off + at, g->chains[r], V, 2);
                break;
            case 3:
                sum(acc, t->x, mat->w + at, off + at, g->chains[r], V, 3);
                break;
            default:
                sum(acc, t->x, mat->w + at, off + at, g->chains[r], V, 4);
            }
            at += (size_t)g->chains[r] * g->s;
            if (t->quad)
                quad_row(t, o + r, acc, V, false);
            else if (t->quad_residual)
                quad_row(t, o + r, acc, V, true);
            else
                any_row(t, o + r, acc, V);
        }
        if (t->e->out == WN_OUT_QUAD)
            for (unsigned v = 0; v < V / 2; v++)
                wn_q8_avx2_put_quad(t->e, o, nrows, t->c + 16 * v, t->words[0][v], t->words[1][v], t->words[2][v],
                                    t->words[3][v]);
    }
}

typedef void rows_fn(const struct wn_q8_spmm_b4 *mat, const int32_t *off, struct tile *t, size_t row0, size_t row1);
#define ROWS(V)                                                                                                        \
    static void rows_##V(const struct wn_q8_spmm_b4 *mat, const int32_t *off, struct tile *t, size_t row0,             \
                         size_t row1)                                                                                  \
    {                                                                                                                  \
        rows(mat, off, t, row0, row1, V);                                                                              \
    }
ROWS(2)
ROWS(4)
ROWS(6)
ROWS(8)
static rows_fn *const rows_fns[MAX_V / 2] = { rows_2, rows_4, rows_6, rows_8 };

/* Columns / 16 per tile: wide tiles share a row's overhead, narrow ones keep what all rows read in L1. */
static size_t tile_width(const struct wn_q8_spmm_b4 *mat)
{
    size_t wide = 256 * ((mat->channels + 3) / 4) * (mat->taps > 1 ? 3 : 1); /* taps of a row of pixels overlap */
    bool sparse = mat->blocks < mat->rows * mat->quads / 4;
    return wide <= (sparse ? 2 * L1_BYTES : L1_BYTES) ? 4 : 2;
}

void wn_q8_spmm_b4_1x64__avx2(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args,
                              size_t row0, size_t row1)
{
    struct wn_q8_avx2 e = wn_q8_avx2_begin(args);
    bool common = e.out == WN_OUT_QUAD && !e.w_zp;
    struct tile t = { .e = &e, .quad = common && !e.r, .quad_residual = common && e.r };
    size_t left = args->n / 16, most = tile_width(mat);
    while (left) { /* shared out evenly: 5 are 3 + 2 rather than 4 + 1 */
        size_t tiles = (left + most - 1) / most, nw = (left + tiles - 1) / tiles;
        t.x = args->x + 4 * t.c;
        rows_fns[nw - 1](mat, off, &t, row0, row1);
        t.c += 16 * nw;
        left -= nw;
    }
}
