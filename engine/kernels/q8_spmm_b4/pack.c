/* pack.c: s8 weights into the streams of q8_spmm_b4.h.
 *
 * DESIGN  Without VNNI, vpmaddubsw sums two products in 16 bits and saturates. Blocks of a row may be summed in 16 bits
 *   before widening as long as no partial sum can leave int16, whatever the activations: 2 lanes x 2 signs = 4 budgets.
 *   A row's blocks may come in any order, so they are packed into chains of S: heaviest first, each into the open chain
 *   that it fills best. A group of four rows takes the S for which its chains cost least. Within a row the chains run
 *   in order of their first block, so that memory is walked forwards.
 *   Considered: other row orders. They gain nothing and would cost the fused four-row epilogue. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include <stdlib.h>
#include <string.h>
#include "base/vec.h"

#define OPEN_CHAINS 48u /* looked at for each block: keeps packing linear in the row */

/* Quarter cycles of one chain of S over 64 columns at the loops' best rates on Zen 3: 30, 36, 38, 40 MAC a cycle. */
static const unsigned chain_cost[WN_Q8_SPMM_B4_MAX_S + 1] = { 0, 34, 57, 81, 103 };

struct block {
    uint32_t kq;
    int8_t w[4];
    unsigned used[4]; /* [lane][sign] of the budget */
    unsigned weight;  /* the largest of the four */
};

struct chain {
    uint32_t first; /* lowest quad */
    unsigned used[4], n;
    struct block *block[WN_Q8_SPMM_B4_MAX_S];
};

/* One row at work. */
struct row {
    WN_VEC(struct block) blocks;
    WN_VEC(struct chain) chains[WN_Q8_SPMM_B4_MAX_S + 1]; /* for every S */
};

static void row_done(struct row *row)
{
    wn_vec_done(&row->blocks);
    for (unsigned s = 0; s <= WN_Q8_SPMM_B4_MAX_S; s++)
        wn_vec_done(&row->chains[s]);
}

static struct block measure(uint32_t kq, const int8_t w[4])
{
    struct block b = { .kq = kq };
    memcpy(b.w, w, 4);
    for (unsigned i = 0; i < 4; i++) {
        unsigned *used = &b.used[i / 2 * 2 + (w[i] < 0)];
        *used += (unsigned)abs(w[i]);
        b.weight = WN_MAX(b.weight, *used);
    }
    return b;
}

static int heaviest_first(const void *a, const void *b)
{
    const struct block *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    if (x->kq != y->kq)
        return x->kq < y->kq ? -1 : 1;
    return memcmp(x->w, y->w, 4);
}

static int first_quad_first(const void *a, const void *b)
{
    const struct chain *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The row's blocks that are not zero, each within the budget alone. */
static bool collect(struct row *row, const int8_t *q, size_t quads, unsigned budget, size_t *blocks)
{
    row->blocks.n = 0;
    for (size_t kq = 0; kq < quads; kq++) {
        const int8_t *w = q + 4 * kq;
        if (!(w[0] | w[1] | w[2] | w[3]))
            continue;
        ++*blocks;
        struct block b = measure((uint32_t)kq, w);
        if (b.weight > budget) {
            if (!wn_vec_push(&row->blocks, measure((uint32_t)kq, (const int8_t[4]){ w[0], 0, w[2], 0 })))
                return false;
            b = measure((uint32_t)kq, (const int8_t[4]){ 0, w[1], 0, w[3] });
        }
        if (!wn_vec_push(&row->blocks, b))
            return false;
    }
    if (row->blocks.n)
        qsort(row->blocks.at, row->blocks.n, sizeof *row->blocks.at, heaviest_first);
    return true;
}

/* What remains of the chain's tightest budget after b, or -1 when b does not fit. */
static int room(const struct chain *c, const struct block *b, unsigned budget)
{
    unsigned most = 0;
    for (unsigned i = 0; i < 4; i++)
        most = WN_MAX(most, c->used[i] + b->used[i]);
    return most <= budget ? (int)(budget - most) : -1;
}

static void add_block(struct chain *c, struct block *b)
{
    for (unsigned i = 0; i < 4; i++)
        c->used[i] += b->used[i];
    c->first = WN_MIN(c->first, b->kq);
    c->block[c->n++] = b;
}

/* Best-fit decreasing into chains of at most s; false when out of memory. */
static bool make_chains(struct row *row, unsigned s, unsigned budget)
{
    size_t open0 = 0; /* chains before this one are full */
    row->chains[s].n = 0;
    for (size_t i = 0; i < row->blocks.n; i++) {
        struct block *b = &row->blocks.at[i];
        struct chain *best = NULL, *at = row->chains[s].at;
        int best_room = INT32_MAX;
        size_t looked = 0;
        while (open0 < row->chains[s].n && at[open0].n == s)
            open0++;
        for (size_t j = open0; j < row->chains[s].n && looked < OPEN_CHAINS; j++) {
            if (at[j].n == s)
                continue;
            looked++;
            int left = room(&at[j], b, budget);
            if (left >= 0 && left < best_room) {
                best = &at[j];
                best_room = left;
            }
        }
        if (!best) {
            if (!wn_vec_push(&row->chains[s], (struct chain){ .first = UINT32_MAX }))
                return false;
            best = &row->chains[s].at[row->chains[s].n - 1];
            if (looked == OPEN_CHAINS)
                open0++; /* heavy ones that nothing fits are given up, oldest first */
        }
        add_block(best, b);
    }
    if (row->chains[s].n)
        qsort(row->chains[s].at, row->chains[s].n, sizeof *row->chains[s].at, first_quad_first);
    return true;
}

/* The streams under construction. */
struct out {
    WN_VEC(int32_t) w;
    WN_VEC(uint32_t) idx;
};

static bool put_step(struct out *out, const int8_t w[4], uint32_t kq)
{
    int32_t v;
    memcpy(&v, w, 4);
    return wn_vec_push(&out->w, v) && wn_vec_push(&out->idx, kq);
}

static bool put_chains(struct out *out, const struct row *row, unsigned s)
{
    static const int8_t nothing[4];
    for (size_t i = 0; i < row->chains[s].n; i++) {
        const struct chain *c = &row->chains[s].at[i];
        for (unsigned j = 0; j < s; j++)
            if (!put_step(out, j < c->n ? c->block[j]->w : nothing, c->block[WN_MIN(j, c->n - 1)]->kq))
                return false;
    }
    return true;
}

static bool pack_chain_group(const int8_t *q, size_t nrows, size_t quads, unsigned budget, struct row rows[4],
                             struct wn_q8_spmm_b4_group *group, struct out *out, size_t *blocks)
{
    size_t cost[WN_Q8_SPMM_B4_MAX_S + 1] = { 0 };
    for (size_t r = 0; r < nrows; r++) {
        if (!collect(&rows[r], q + 4 * r * quads, quads, budget, blocks))
            return false;
        for (unsigned s = 1; s <= WN_Q8_SPMM_B4_MAX_S; s++) {
            if (!make_chains(&rows[r], s, budget))
                return false;
            cost[s] += chain_cost[s] * rows[r].chains[s].n;
        }
    }
    group->at = (uint32_t)out->w.n;
    group->s = 1;
    for (unsigned s = 2; s <= WN_Q8_SPMM_B4_MAX_S; s++)
        if (cost[s] < cost[group->s])
            group->s = s;
    for (size_t r = 0; r < nrows; r++) {
        group->chains[r] = (uint32_t)rows[r].chains[group->s].n;
        if (!put_chains(out, &rows[r], group->s))
            return false;
    }
    return true;
}

static bool pack_quad_group(const int8_t *q, size_t nrows, size_t quads, struct wn_q8_spmm_b4_group *group,
                            struct out *out, size_t *blocks)
{
    group->at = (uint32_t)out->w.n;
    group->s = 1;
    for (size_t r = 0; r < nrows; r++)
        for (size_t kq = 0; kq < quads; kq++) {
            const int8_t *w = q + 4 * (r * quads + kq);
            if (!(w[0] | w[1] | w[2] | w[3]))
                continue;
            group->chains[r]++;
            ++*blocks;
            if (!put_step(out, w, (uint32_t)kq))
                return false;
        }
    return true;
}

static bool pack_groups(const int8_t *q, unsigned x_max, struct row rows[4], struct out *out, struct wn_arena *arena,
                        struct wn_q8_spmm_b4 *mat)
{
    size_t groups = (mat->rows + 3) / 4;
    struct wn_q8_spmm_b4_group *group = wn_arena_calloc(arena, groups, sizeof *group);
    if (!group)
        return false;
    for (size_t g = 0; g < groups; g++) {
        const int8_t *qg = q + 16 * g * mat->quads;
        size_t nrows = WN_MIN(mat->rows - 4 * g, 4u);
        bool ok = mat->stream == WN_Q8_SPMM_B4_CHAIN
                      ? pack_chain_group(qg, nrows, mat->quads, 32767u / x_max, rows, &group[g], out, &mat->blocks)
                      : pack_quad_group(qg, nrows, mat->quads, &group[g], out, &mat->blocks);
        if (!ok)
            return false;
    }
    mat->group = group;
    mat->steps = mat->noffs = out->w.n;
    mat->w = wn_arena_memdup(arena, out->w.at, out->w.n * sizeof *out->w.at);
    mat->idx = wn_arena_memdup(arena, out->idx.at, out->idx.n * sizeof *out->idx.at);
    mat->bytes = groups * sizeof *group + 8 * mat->steps;
    return mat->w && mat->idx;
}

static bool pack_stream(const int8_t *q, unsigned x_max, struct wn_arena *arena, struct wn_q8_spmm_b4 *mat)
{
    struct row rows[4] = { 0 };
    struct out out = { 0 };
    bool ok = pack_groups(q, x_max, rows, &out, arena, mat);
    for (unsigned r = 0; r < 4; r++)
        row_done(&rows[r]);
    wn_vec_done(&out.w);
    wn_vec_done(&out.idx);
    return ok;
}

enum winnow_status wn_q8_spmm_b4_pack(enum wn_q8_spmm_b4_stream stream, const int8_t *w, size_t rows, size_t channels,
                                      size_t taps, unsigned x_max, struct wn_arena *arena,
                                      struct wn_q8_spmm_b4 *ret_mat, struct winnow_err *err)
{
    size_t k, all;
    if (!wn_mul_size(channels, taps, &k) || k == 0 || k > WN_Q8_MAX_K || !wn_mul_size(rows, k, &all) ||
        all > INT32_MAX || rows == 0)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu x %zu weights", rows, channels, taps);
    struct wn_q8_spmm_b4 mat = {
        .stream = stream, .rows = rows, .quads = wn_q8_quads(channels, taps), .channels = channels, .taps = taps
    };
    size_t q_bytes = rows * 4 * mat.quads;
    bool ok = false;
    if (stream == WN_Q8_SPMM_B4_PLAIN) {
        int8_t *q = wn_arena_alloc(arena, q_bytes);
        if ((ok = q))
            wn_q8_quads_weights(w, rows, channels, taps, q);
        mat.w = (const int32_t *)(const void *)q;
        mat.noffs = mat.quads;
        mat.bytes = q_bytes;
    } else {
        WN_CLEANUP(wn_freep) int8_t *q = malloc(q_bytes);
        if (q) {
            wn_q8_quads_weights(w, rows, channels, taps, q);
            ok = pack_stream(q, x_max, arena, &mat);
        }
    }
    if (!ok)
        return wn_fail(err, WINNOW_E_NOMEM, "packing a sparse int8 matrix of %zu rows by %zu weights", rows, k);
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_spmm_b4_link(const struct wn_q8_spmm_b4 *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->noffs; i++)
        off[i] = koff[mat->idx ? mat->idx[i] : i];
}
