/* avx512vnni.c: 1x4 blocks with VNNI: four rows by up to 4 vectors of 16 columns at a time.
 *
 * vpdpbusd accumulates exactly, so a stored block is one broadcast and a load with vpdpbusd for every vector. The rows of a
 * group are summed one after the other, 4 sums each for a latency of 4 or 5 on two pipes, and finished together: quads of
 * four rows leave by packing alone. Finishing is most of the work where rows are short (64 inputs at 95 % have one block), so
 * what it may need is decided before, and each variant holds its constants in registers.
 * Measured on Cascade Lake: one row by 8 vectors, finished alone, is 1.04 (768 to 3072 inputs) to 1.2 times as slow; fetching
 * activations ahead 1.1, for L2's rate is the limit. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include "engine/kernels/q8_epilogue_avx512.h"

#define MAX_V 4u /* vectors: 64 columns */
#define AHEAD 2u /* groups ahead of the one at work, whose lines are fetched */

/* What the rows of a call need; constants after inlining. */
enum what {
    QUADS,        /* whole groups to quads; nothing but scaling, rounding and a mask, all rows tame */
    QUADS_ADDING, /* the same with a residual */
    ANYTHING,
    WHATS
};

/* Four rows of 16 columns; QUADS or QUADS_ADDING. */
WN_Q8_INLINE void put_quads(const struct wn_q8_v512 *e, size_t o, size_t c, const v512i acc[4], enum what what)
{
    const size_t at = o / 4 * e->y_stride + 4 * c;
    v512f f[4], r[4];
    WN_UNROLL
    for (size_t k = 0; k < 4; k++)
        f[k] = v512f_mul(v512i_to_f32(acc[k]), v512f_set1(e->a->mul[o + k]));
    if (what == QUADS_ADDING) {
        const v512i q = v512i_load_once(e->r + at), ones = v512i_set1_i32(WN_Q8_V512_ONES);
        WN_UNROLL
        for (size_t k = 0; k < 4; k++) {
            const v512i pick = v512i_add_i32(e->pick, v512i_set1_i32((int32_t)k));
            r[k] = v512i_as_f(v512i_or(v512i_shuffle_i8(q, pick), ones));
        }
        wn_q8_v512_sums(e, true, f, r);
    }
    wn_q8_v512_store_quads(e, o, 4, c, v512i_shuffle_i8(wn_q8_v512_bytes(e, true, f), e->transpose));
}

/* Groups of four rows, row0..row1-1, over V vectors of columns from c on; V and what are constants after inlining. */
WN_Q8_INLINE void strip(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_v512 *begun, size_t row0,
                        size_t row1, size_t c, unsigned V, enum what what)
{
    const struct wn_q8_v512 e = *begun; /* a copy: storing bytes cannot change it */
    const uint8_t *x = e.a->x + 4 * c;
    for (size_t o = row0; o < row1; o += 4) {
        const struct wn_q8_spmm_b4_group *g = &mat->group[o / 4];
        const int32_t *w = mat->w + g->at, *f = off + g->at;
        v512i acc[MAX_V][4];
        WN_UNROLL
        for (unsigned v = 0; v < V && what != ANYTHING; v++) {
            const size_t next = (o / 4 + AHEAD) * e.y_stride + 4 * (c + 16 * v);
            __builtin_prefetch(e.y + next, 1);
            if (what == QUADS_ADDING)
                __builtin_prefetch(e.r + next);
        }
        WN_UNROLL
        for (size_t r = 0; r < 4; r++) {
            const v512i bias = v512i_set1_i32(e.a->bias[WN_MIN(o + r, mat->rows - 1)]);
            WN_UNROLL
            for (unsigned v = 0; v < V; v++)
                acc[v][r] = bias;
            for (size_t n = g->chains[r]; n; n--, w++, f++) {
                const v512i b = v512i_bcast32(w);
                const uint8_t *p = x + *f;
                WN_UNROLL
                for (unsigned v = 0; v < V; v++)
                    acc[v][r] = v512i_dpbusd(acc[v][r], v512i_load(p + 64 * v), b);
            }
        }
        WN_UNROLL
        for (unsigned v = 0; v < V; v++) {
            if (what == ANYTHING)
                wn_q8_v512_put_four(&e, o, WN_MIN(mat->rows - o, (size_t)4), c + 16 * v, acc[v][0], acc[v][1],
                                    acc[v][2], acc[v][3]);
            else
                put_quads(&e, o, c + 16 * v, acc[v], what);
        }
    }
}

typedef void strip_fn(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_v512 *e, size_t row0,
                      size_t row1, size_t c);
#define STRIP(V, what)                                                                                                 \
    __attribute__((noinline)) static void strip_##V##_##what(const struct wn_q8_spmm_b4 *mat, const int32_t *off,      \
                                                             const struct wn_q8_v512 *e, size_t row0, size_t row1,     \
                                                             size_t c)                                                 \
    {                                                                                                                  \
        strip(mat, off, e, row0, row1, c, V, what);                                                                    \
    }
#define STRIPS(V) STRIP(V, QUADS) STRIP(V, QUADS_ADDING) STRIP(V, ANYTHING)
STRIPS(1) STRIPS(2) STRIPS(3) STRIPS(4)
#define NAMES(V)                                                                                                       \
    {                                                                                                                  \
        strip_##V##_QUADS, strip_##V##_QUADS_ADDING, strip_##V##_ANYTHING                                              \
    }
static strip_fn *const strips[MAX_V][WHATS] = { NAMES(1), NAMES(2), NAMES(3), NAMES(4) };

void wn_q8_spmm_b4_4x64__avx512vnni(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args,
                                    size_t row0, size_t row1)
{
    const struct wn_q8_v512 e = wn_q8_v512_begin(args);
    const bool simple = e.out == WN_OUT_QUAD && row1 % 4 == 0 && !wn_q8_v512_wild(&e, row0, row1);
    const enum what what = !simple ? ANYTHING : e.r ? QUADS_ADDING : QUADS;
    size_t left = args->n / 16;
    for (size_t c = 0; left;) { /* shared out evenly: 5 are 3 + 2 rather than 4 + 1 */
        const size_t tiles = (left + MAX_V - 1) / MAX_V, nv = (left + tiles - 1) / tiles;
        strips[nv - 1][what](mat, off, &e, row0, row1, c);
        c += 16 * nv;
        left -= nv;
    }
}
