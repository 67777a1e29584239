/* pack.c: s8 weights into the streams of q8_spmm_b4.h.
 *
 * DESIGN  Without VNNI, vpmaddubsw multiplies unsigned by signed bytes, sums two products in 16 bits and saturates. With
 *   the activations unsigned, two weights of one sign past 128 would need a step each, and of what pruning leaves half
 *   do: twice the blocks were executed. So the weights are the unsigned side (their absolute values), the activations
 *   take their signs, and the two products fit always.
 *   Two blocks of a row may be summed in 16 bits before widening where the absolute weights of each lane sum to at most
 *   255. A row's blocks may come in any order, so they are paired: heaviest first, each with the open one that it fills
 *   best. A group of four rows takes chains of one or two, whichever costs less. Within a row the chains run in order
 *   of their first block, so that memory is walked forwards.
 *   Considered: other row orders. They gain nothing and would cost the fused four-row epilogue. Chains of three and four:
 *   their masks and weights leave no registers for 64 columns. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

#include <stdlib.h>
#include <string.h>
#include "base/vec.h"

#define OPEN_CHAINS 48u /* looked at for each block: keeps packing linear in the row */

#define BUDGET 255u /* times -128 .. 127 */

/* Quarter cycles of one chain of S over 64 columns: four and seven operations for each vector on four pipes, loads beside. */
static const unsigned chain_cost[WN_Q8_SPMM_B4_MAX_S + 1] = { 0, 36, 62 };

struct block {
    uint32_t kq;
    int8_t w[4];
    unsigned used[2]; /* [lane] of the budget */
    unsigned weight;  /* the larger */
};

struct chain {
    uint32_t first; /* lowest quad */
    unsigned used[2], n;
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
    for (unsigned i = 0; i < 4; i++)
        b.used[i / 2] += (unsigned)abs(w[i]);
    b.weight = WN_MAX(b.used[0], b.used[1]);
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

/* The row's blocks that are not zero, and what their sum lacks: weights that are not negative meet x - 128, the others
 * 127 - x. */
static bool collect(struct row *row, const int8_t *q, size_t quads, size_t *blocks, int32_t *shift)
{
    row->blocks.n = 0;
    for (size_t kq = 0; kq < quads; kq++) {
        const int8_t *w = q + 4 * kq;
        if (!(w[0] | w[1] | w[2] | w[3]))
            continue;
        ++*blocks;
        for (unsigned i = 0; i < 4; i++)
            *shift += w[i] * (w[i] < 0 ? 127 : 128);
        if (!wn_vec_push(&row->blocks, measure((uint32_t)kq, w)))
            return false;
    }
    if (row->blocks.n)
        qsort(row->blocks.at, row->blocks.n, sizeof *row->blocks.at, heaviest_first);
    return true;
}

/* What remains of the chain's tightest budget after b, or -1 when b does not fit. */
static int room(const struct chain *c, const struct block *b)
{
    const unsigned most = WN_MAX(c->used[0] + b->used[0], c->used[1] + b->used[1]);
    return most <= BUDGET ? (int)(BUDGET - most) : -1;
}

static void add_block(struct chain *c, struct block *b)
{
    for (unsigned i = 0; i < 2; i++)
        c->used[i] += b->used[i];
    c->first = WN_MIN(c->first, b->kq);
    c->block[c->n++] = b;
}

/* Best-fit decreasing into chains of at most s; false when out of memory. */
static bool make_chains(struct row *row, unsigned s)
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
            int left = room(&at[j], b);
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

/* A block's absolute weights and their mask. */
static bool put_signed(struct out *out, const int8_t w[4], uint32_t kq)
{
    int8_t size[4];
    uint8_t mask[4];
    for (unsigned i = 0; i < 4; i++) {
        size[i] = (int8_t)(uint8_t)abs(w[i]);
        mask[i] = w[i] < 0 ? 0x7f : 0x80;
    }
    int32_t m;
    memcpy(&m, mask, 4);
    return put_step(out, size, kq) && wn_vec_push(&out->w, m);
}

static bool put_chains(struct out *out, const struct row *row, unsigned s)
{
    static const int8_t nothing[4];
    for (size_t i = 0; i < row->chains[s].n; i++) {
        const struct chain *c = &row->chains[s].at[i];
        for (unsigned j = 0; j < s; j++)
            if (!put_signed(out, j < c->n ? c->block[j]->w : nothing, c->block[WN_MIN(j, c->n - 1)]->kq))
                return false;
    }
    return true;
}

static bool pack_chain_group(const int8_t *q, size_t nrows, size_t quads, struct row rows[4],
                             struct wn_q8_spmm_b4_group *group, struct out *out, size_t *blocks, int32_t *shift)
{
    size_t cost[WN_Q8_SPMM_B4_MAX_S + 1] = { 0 };
    for (size_t r = 0; r < nrows; r++) {
        if (!collect(&rows[r], q + 4 * r * quads, quads, blocks, &shift[r]))
            return false;
        for (unsigned s = 1; s <= WN_Q8_SPMM_B4_MAX_S; s++) {
            if (!make_chains(&rows[r], s))
                return false;
            cost[s] += chain_cost[s] * rows[r].chains[s].n;
        }
    }
    group->at = (uint32_t)out->idx.n;
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

static bool pack_groups(const int8_t *q, struct row rows[4], struct out *out, struct wn_arena *arena,
                        struct wn_q8_spmm_b4 *mat)
{
    const bool chains = mat->stream == WN_Q8_SPMM_B4_CHAIN;
    size_t groups = (mat->rows + 3) / 4;
    struct wn_q8_spmm_b4_group *group = wn_arena_calloc(arena, groups, sizeof *group);
    int32_t *shift = chains ? wn_arena_calloc(arena, mat->rows, sizeof *shift) : NULL;
    if (!group || (chains && !shift))
        return false;
    for (size_t g = 0; g < groups; g++) {
        const int8_t *qg = q + 16 * g * mat->quads;
        size_t nrows = WN_MIN(mat->rows - 4 * g, 4u);
        bool ok = chains ? pack_chain_group(qg, nrows, mat->quads, rows, &group[g], out, &mat->blocks, &shift[4 * g])
                         : pack_quad_group(qg, nrows, mat->quads, &group[g], out, &mat->blocks);
        if (!ok)
            return false;
    }
    mat->group = group;
    mat->shift = shift;
    mat->steps = out->idx.n;
    mat->noffs = mat->steps + WN_Q8_SPMM_B4_AHEAD;
    mat->w = wn_arena_memdup(arena, out->w.at, out->w.n * sizeof *out->w.at);
    mat->idx = wn_arena_memdup(arena, out->idx.at, out->idx.n * sizeof *out->idx.at);
    mat->bytes = groups * sizeof *group + 4 * (out->w.n + out->idx.n + (chains ? mat->rows : 0));
    return mat->w && mat->idx;
}

static bool pack_stream(const int8_t *q, struct wn_arena *arena, struct wn_q8_spmm_b4 *mat)
{
    struct row rows[4] = { 0 };
    struct out out = { 0 };
    bool ok = pack_groups(q, rows, &out, arena, mat);
    for (unsigned r = 0; r < 4; r++)
        row_done(&rows[r]);
    wn_vec_done(&out.w);
    wn_vec_done(&out.idx);
    return ok;
}

enum winnow_status wn_q8_spmm_b4_pack(enum wn_q8_spmm_b4_stream stream, const int8_t *w, size_t rows, size_t channels,
                                      size_t taps, struct wn_arena *arena, struct wn_q8_spmm_b4 *ret_mat,
                                      struct winnow_err *err)
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
            ok = pack_stream(q, arena, &mat);
        }
    }
    if (!ok)
        return wn_fail(err, WINNOW_E_NOMEM, "packing a sparse int8 matrix of %zu rows by %zu weights", rows, k);
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_spmm_b4_link(const struct wn_q8_spmm_b4 *mat, const int32_t *koff, int32_t *off)
{
    const size_t n = mat->idx ? mat->steps : mat->noffs;
    for (size_t i = 0; i < n; i++)
        off[i] = koff[mat->idx ? mat->idx[i] : i];
    for (size_t i = n; i < mat->noffs; i++)
        off[i] = 0;
}
