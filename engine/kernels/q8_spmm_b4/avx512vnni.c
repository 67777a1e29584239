/* avx512vnni.c: 1x4 blocks with VNNI: one row by up to 8 vectors of 16 columns at a time.
 *
 * vpdpbusd accumulates exactly, so a stored block is one broadcast and a load with vpdpbusd for every vector. The
 * latency of 4 on two pipes wants 8 independent sums: narrow tiles keep several sets of them and take as many blocks at
 * once. Narrower tiles whose activations fit L1 were measured (Zen 4, 12 layers, 32 to 128 columns): wide ones are as
 * fast or up to 1.2 times faster everywhere. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx512.h"

#define MAX_V 8u /* vectors: 128 columns */

/* One tile of columns at work: finished bytes of the group's rows, for the quad form. */
struct tile {
    const struct wn_q8_v512 *e;
    const uint8_t *x; /* of the tile's first column */
    size_t c;
    v512i bytes[MAX_V / 4][4];
};

/* Finish row o, whose sums are given; V is a constant after inlining. */
WN_Q8_INLINE void put_row(struct tile *t, size_t o, const v512i *sum, unsigned V)
{
    const struct wn_q8_v512 e = *t->e; /* a copy: storing bytes cannot change it */
    if (e.out == WN_OUT_QUAD) {
        WN_UNROLL
        for (unsigned v = 0; v < V; v += 4)
            t->bytes[v / 4][o % 4] = wn_q8_v512_row_bytes(&e, o, t->c + 16 * v, sum + v, V - v < 4 ? V - v : 4);
        return;
    }
    WN_UNROLL
    for (unsigned v = 0; v < V; v++) {
        if (e.out == WN_OUT_F32)
            wn_q8_v512_put_f32(&e, o, t->c + 16 * v, sum[v]);
        else
            wn_q8_v512_put_plane(&e, o, t->c + 16 * v, wn_q8_v512_round(&e, o, t->c + 16 * v, sum[v]));
    }
}

/* Row o over the tile's V vectors with SETS sets of sums: sum and finish. V and SETS are constants after inlining. */
WN_Q8_INLINE void row(struct tile *t, size_t o, const int32_t *w, const int32_t *off, size_t steps, unsigned V,
                      unsigned SETS)
{
    const struct wn_q8_v512 *e = t->e;
    const uint8_t *x = t->x;
    v512i acc[4][MAX_V];
    WN_UNROLL
    for (unsigned s = 0; s < SETS; s++) {
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            acc[s][v] = s ? v512i_zero() : v512i_set1_i32(e->a->bias[o]);
    }
    for (; steps >= SETS; steps -= SETS, w += SETS, off += SETS) {
        WN_UNROLL
        for (unsigned s = 0; s < SETS; s++) {
            v512i b = v512i_bcast32(w + s);
            const uint8_t *p = x + off[s];
            WN_UNROLL
            for (unsigned v = 0; v < V; v++)
                acc[s][v] = v512i_dpbusd(acc[s][v], v512i_load(p + 64 * v), b);
        }
    }
    for (; steps; steps--, w++, off++) {
        v512i b = v512i_bcast32(w);
        const uint8_t *p = x + off[0];
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            acc[0][v] = v512i_dpbusd(acc[0][v], v512i_load(p + 64 * v), b);
    }
    WN_UNROLL
    for (unsigned s = 1; s < SETS; s++) {
        WN_UNROLL
        for (unsigned v = 0; v < V; v++)
            acc[0][v] = v512i_add_i32(acc[0][v], acc[s][v]);
    }
    put_row(t, o, acc[0], V);
}

typedef void row_fn(struct tile *t, size_t o, const int32_t *w, const int32_t *off, size_t steps);
#define ROW(V, SETS)                                                                                                   \
    static void row_##V(struct tile *t, size_t o, const int32_t *w, const int32_t *off, size_t steps)                  \
    {                                                                                                                  \
        row(t, o, w, off, steps, V, SETS);                                                                             \
    }
ROW(1, 4)
ROW(2, 4)
ROW(3, 2)
ROW(4, 2)
ROW(5, 2)
ROW(6, 1)
ROW(7, 1)
ROW(8, 1)
static row_fn *const row_fns[MAX_V] = { row_1, row_2, row_3, row_4, row_5, row_6, row_7, row_8 };

static void tile_rows(const struct wn_q8_spmm_b4 *mat, const int32_t *off, struct tile *t, size_t nv, size_t row0,
                      size_t row1)
{
    row_fn *fn = row_fns[nv - 1];
    for (size_t o = row0; o < row1; o += 4) {
        const struct wn_q8_spmm_b4_group *g = &mat->group[o / 4];
        size_t at = g->at, nrows = WN_MIN(mat->rows - o, 4u);
        for (size_t r = 0; r < nrows; r++) {
            fn(t, o + r, mat->w + at, off + at, g->chains[r]);
            at += g->chains[r];
        }
        for (size_t v = 0; v < nv && t->e->out == WN_OUT_QUAD; v += 4)
            wn_q8_v512_put_rows(t->e, o, nrows, t->c + 16 * v, t->bytes[v / 4], (unsigned)WN_MIN(nv - v, (size_t)4));
    }
}

void wn_q8_spmm_b4_1x128__avx512vnni(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args,
                                     size_t row0, size_t row1)
{
    struct wn_q8_v512 e = wn_q8_v512_begin(args);
    struct tile t = { .e = &e };
    size_t left = args->n / 16;
    while (left) { /* shared out evenly: 9 are 5 + 4 rather than 8 + 1 */
        size_t tiles = (left + MAX_V - 1) / MAX_V, nv = (left + tiles - 1) / tiles;
        t.x = args->x + 4 * t.c;
        tile_rows(mat, off, &t, nv, row0, row1);
        t.c += 16 * nv;
        left -= nv;
    }
}
