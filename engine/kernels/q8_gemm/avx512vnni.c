/* avx512vnni.c: dense int8 with VNNI: 8 rows (or 4) x up to 3 vectors of 16 columns, weights broadcast.
 *
 * vpdpbusd accumulates exactly, so the loop is the textbook one: per quad 3 loads of activations and 8 broadcasts feed
 * 24 multiply-adds, below the two loads a cycle that 24 / 2 cycles allow. Even one vector of columns has 8 independent
 * sums, enough for a latency of 4 on two pipes. */
#include "engine/kernels/q8_gemm/q8_gemm.h"

#include "engine/kernels/q8_epilogue_avx512.h"

#define MAX_V 3u
#define AHEAD 8u /* steps ahead of which activations are fetched: planes are too far apart for the CPU to foresee */

/* G groups of four rows from row o on, V vectors of columns from c on; G and V are constants after inlining. */
WN_Q8_INLINE void block(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_v512 *e, size_t o,
                        size_t c, unsigned G, unsigned V)
{
    const int32_t *w = mat->w + o * mat->quads, *w1 = w + 4 * mat->quads;
    const uint8_t *x = e->a->x + 4 * c;
    v512i s[8][MAX_V];
    WN_UNROLL
    for (size_t r = 0; r < 4 * G; r++) {
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            s[r][v] = v512i_set1_i32(o + r < mat->rows ? e->a->bias[o + r] : 0);
    }
    for (size_t kq = 0; kq < mat->quads; kq++, w += 4, w1 += 4) {
        const uint8_t *p = x + off[kq], *ahead = x + off[WN_MIN(kq + AHEAD, mat->quads - 1)];
        v512i a[MAX_V];
        WN_UNROLL
        for (unsigned v = 0; v < V; v++) {
            a[v] = v512i_load(p + 64 * v);
            __builtin_prefetch(ahead + 64 * v);
        }
        WN_UNROLL
        for (size_t r = 0; r < 4 * G; r++) {
            v512i b = v512i_bcast32(r < 4 ? w + r : w1 + (r - 4));
            WN_UNROLL
            for (unsigned v = 0; v < V; v++)
                s[r][v] = v512i_dpbusd(s[r][v], a[v], b);
        }
    }
    WN_UNROLL
    for (unsigned g = 0; g < G; g++) {
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            wn_q8_v512_put_four(e, o + 4 * g, WN_MIN(mat->rows - o - 4 * g, 4u), c + 16 * v, s[4 * g][v],
                                s[4 * g + 1][v], s[4 * g + 2][v], s[4 * g + 3][v]);
    }
}

/* All rows over V vectors of columns. */
WN_Q8_INLINE void strip(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_v512 *e, size_t row0,
                        size_t row1, size_t c, unsigned V)
{
    size_t o = row0;
    for (; o + 4 < row1; o += 8)
        block(mat, off, e, o, c, 2, V);
    if (o < row1)
        block(mat, off, e, o, c, 1, V);
}

void wn_q8_gemm_8x48__avx512vnni(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_args *args,
                                 size_t row0, size_t row1)
{
    struct wn_q8_v512 e = wn_q8_v512_begin(args);
    size_t left = args->n / 16; /* vectors, shared out evenly: 4 are 2 + 2 rather than 3 + 1 */
    for (size_t c = 0; left;) {
        size_t v = (left + (left + MAX_V - 1) / MAX_V - 1) / ((left + MAX_V - 1) / MAX_V);
        if (v == 3)
            strip(mat, off, &e, row0, row1, c, 3);
        else if (v == 2)
            strip(mat, off, &e, row0, row1, c, 2);
        else
            strip(mat, off, &e, row0, row1, c, 1);
        c += 16 * v;
        left -= v;
    }
}

void wn_q8_colsum__avx512vnni(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n,
                              int32_t *colsum)
{
    size_t quads = wn_q8_quads(channels, taps);
    for (size_t c = 0; c < n; c += 16) {
        v512i sum = v512i_zero();
        for (size_t k = 0; k < quads; k++)
            sum = v512i_dpbusd(sum, v512i_load(x + koff[k] + (ptrdiff_t)(4 * c)),
                               v512i_set1_i32(wn_q8_quads_ones(k, channels, taps)));
        v512i_store(colsum + c, sum);
    }
}
