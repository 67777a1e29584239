/* pack.c: dense int8 weights -> the streams of q8_spmm.h.
 *
 * PAIR   is bin packing: the fewer half-chains a row needs, the fewer flushes and padding it executes. Non-zeros may go
 *        in any order, so a half-chain is filled greedily with the largest magnitude that still fits its sign's budget.
 *        Positives and negatives have budgets of their own, which is why +100 and -100 share a half-chain while +100
 *        and +29 do not. Magnitudes are at most 128: one list each and a bitmap of the lists that are not empty make a
 *        row of any length linear, dense ones included.
 *        Which chain length pays depends on the weights; each row takes the cheapest of 1..WN_Q8_SPMM_MAX_S by what
 *        the steps cost (measured, see step_cost).
 * QUAD   sums in 32 bits: any order will do; positions ascend, so that memory is walked forwards. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/vec.h"
#include "engine/kernels/q8_epilogue.h"

#define MAG_MAX    128u /* of an int8 */
#define ITEMS_MAX  (2 * WN_Q8_SPMM_MAX_S)
#define NONE       UINT32_MAX
#define STREAM_MAX (1u << 30)

/* Tenths of a cycle for 64 columns on Zen 3; the last is the mispredicted end of one more kind of loop. */
static const unsigned step_cost[WN_Q8_SPMM_MAX_S] = { 117, 198, 273 };
#define LOOP_COST 30u

struct chain {
    uint32_t k[ITEMS_MAX];
    int8_t w[ITEMS_MAX];
    uint8_t n;
};

/* The non-zeros of a row that are not in a chain yet, by sign and magnitude. */
struct bins {
    uint32_t head[2][MAG_MAX + 1];
    uint64_t full[2][MAG_MAX / 64 + 1]; /* bit m: head[.][m] is not NONE */
    uint32_t *next;                     /* [k] */
};

struct packer {
    struct bins bins;
    struct chain *chain; /* [k + 1] of the row at hand; the one after the last is empty */
    size_t nchains;
    WN_VEC(uint32_t) w;
    WN_VEC(uint32_t) idx;
};

static void packer_done(struct packer *p)
{
    free(p->bins.next);
    free(p->chain);
    wn_vec_done(&p->w);
    wn_vec_done(&p->idx);
}

/* ---- pair: chains ---- */
static size_t bins_fill(struct bins *b, const int8_t *w, size_t k)
{
    memset(b->head, 0xff, sizeof b->head);
    memset(b->full, 0, sizeof b->full);
    size_t nnz = 0;
    for (size_t i = k; i-- > 0;) {
        if (!w[i])
            continue;
        unsigned neg = w[i] < 0, mag = (unsigned)abs(w[i]);
        b->next[i] = b->head[neg][mag];
        b->head[neg][mag] = (uint32_t)i;
        b->full[neg][mag / 64] |= (uint64_t)1 << mag % 64;
        nnz++;
    }
    return nnz;
}

/* The largest magnitude of that sign in the bins, at most `limit`; 0 when there is none. */
static unsigned bins_largest(const struct bins *b, unsigned neg, unsigned limit)
{
    for (int word = (int)(limit / 64); word >= 0; word--) {
        uint64_t bits = b->full[neg][word];
        if (word == (int)(limit / 64) && limit % 64 != 63)
            bits &= ((uint64_t)2 << limit % 64) - 1;
        if (bits)
            return (unsigned)(word * 64 + 63 - __builtin_clzll(bits));
    }
    return 0;
}

static uint32_t bins_take(struct bins *b, unsigned neg, unsigned mag)
{
    uint32_t k = b->head[neg][mag];
    b->head[neg][mag] = b->next[k];
    if (b->next[k] == NONE)
        b->full[neg][mag / 64] &= ~((uint64_t)1 << mag % 64);
    return k;
}

/* Put the non-zeros of a row into chains of at most 2 * s. */
static void make_chains(struct packer *p, const int8_t *w, size_t k, unsigned s)
{
    size_t left = bins_fill(&p->bins, w, k);
    for (p->nchains = 0; left; p->nchains++) {
        struct chain *c = &p->chain[p->nchains];
        unsigned room[2] = { WN_Q8_SPMM_BUDGET, WN_Q8_SPMM_BUDGET };
        for (c->n = 0; c->n < 2 * s; c->n++) {
            unsigned mag[2] = { bins_largest(&p->bins, 0, room[0]), bins_largest(&p->bins, 1, room[1]) };
            unsigned neg = mag[1] > mag[0];
            if (!mag[neg])
                break;
            uint32_t at = bins_take(&p->bins, neg, mag[neg]);
            c->k[c->n] = at;
            c->w[c->n] = w[at];
            room[neg] -= mag[neg];
            left--;
        }
        assert(c->n > 0); /* an empty chain has room for any weight */
    }
    p->chain[p->nchains].n = 0;
}

static unsigned chain_class(const struct chain *c)
{
    return (c->n + 1u) / 2;
}

/* Steps of every kind: chains by falling class, two to a step, whose kind is the class of the longer one. */
static void count_steps(const struct packer *p, struct wn_q8_spmm_row *row)
{
    size_t n[WN_Q8_SPMM_MAX_S + 1] = { 0 }, odd = 0;
    for (size_t i = 0; i < p->nchains; i++)
        n[chain_class(&p->chain[i])]++;
    for (unsigned s = WN_Q8_SPMM_MAX_S; s >= 1; s--) {
        size_t here = n[s] - (odd && n[s] ? 1 : 0);
        odd = odd && !n[s] ? 1 : here % 2;
        row->steps[s - 1] = (uint16_t)((here + 1) / 2);
    }
}

static unsigned row_cost(const struct wn_q8_spmm_row *row)
{
    unsigned cost = 0;
    for (unsigned i = 0; i < WN_Q8_SPMM_MAX_S; i++)
        cost += row->steps[i] * step_cost[i] + (row->steps[i] ? LOOP_COST : 0);
    return cost;
}

/* ---- pair: the stream ---- */
static bool put_half(struct packer *p, const struct chain *c, unsigned s, uint32_t spare_k)
{
    for (unsigned i = 0; i < s; i++) {
        uint8_t w[2] = { 0, 0 };
        for (unsigned j = 0; j < 2; j++) {
            unsigned at = 2 * i + j;
            if (at < c->n)
                w[j] = (uint8_t)c->w[at];
            if (!wn_vec_push(&p->idx, c->n ? c->k[WN_MIN(at, c->n - 1u)] : spare_k))
                return false;
        }
        uint32_t pair = w[0] | (uint32_t)w[1] << 8;
        if (!wn_vec_push(&p->w, pair | pair << 16))
            return false;
    }
    return true;
}

static const struct chain *next_chain(const struct packer *p, unsigned *cls, size_t *at)
{
    for (; *cls >= 1; (*cls)--, *at = 0)
        while (*at < p->nchains) {
            const struct chain *c = &p->chain[(*at)++];
            if (chain_class(c) == *cls)
                return c;
        }
    return &p->chain[p->nchains];
}

static bool put_pair_row(struct packer *p, const int8_t *w, size_t k, struct wn_q8_spmm_row *row)
{
    unsigned best = 1, best_cost = UINT32_MAX;
    for (unsigned s = 1; s <= WN_Q8_SPMM_MAX_S; s++) {
        make_chains(p, w, k, s);
        count_steps(p, row);
        unsigned cost = row_cost(row);
        if (cost < best_cost) {
            best = s;
            best_cost = cost;
        }
    }
    if (best != WN_Q8_SPMM_MAX_S)
        make_chains(p, w, k, best);
    count_steps(p, row);
    row->at = (uint32_t)p->w.n;
    unsigned cls = WN_Q8_SPMM_MAX_S;
    size_t at = 0;
    for (unsigned s = WN_Q8_SPMM_MAX_S; s >= 1; s--)
        for (unsigned i = 0; i < row->steps[s - 1]; i++) {
            const struct chain *x = next_chain(p, &cls, &at), *y = next_chain(p, &cls, &at);
            if (!put_half(p, x, s, 0) || !put_half(p, y, s, x->k[0]))
                return false;
        }
    return true;
}

/* ---- quad ---- */
/* One block of nrows rows, of which fewer than mat->block may be left. */
static bool put_quad_block(struct packer *p, const struct wn_q8_spmm *mat, const int8_t *w, size_t nrows,
                           struct wn_q8_spmm_row *row)
{
    uint32_t quad[WN_Q8_SPMM_MAX_BLOCK] = { 0 }, last = 0;
    unsigned have = 0;
    *row = (struct wn_q8_spmm_row){ .at = (uint32_t)(p->w.n / mat->block) };
    for (size_t i = 0; i <= mat->k; i++) {
        bool end = i == mat->k;
        uint32_t at[WN_Q8_SPMM_MAX_BLOCK] = { 0 }, any = 0;
        for (size_t r = 0; !end && r < nrows; r++)
            any |= at[r] = (uint8_t)w[r * mat->k + i];
        if (any) {
            for (unsigned r = 0; r < mat->block; r++)
                quad[r] |= at[r] << 8 * have;
            have++;
            last = (uint32_t)i;
            if (!wn_vec_push(&p->idx, last))
                return false;
        }
        if (have < 4 && !(end && have))
            continue;
        for (; have < 4; have++)
            if (!wn_vec_push(&p->idx, last))
                return false;
        for (unsigned r = 0; r < mat->block; r++)
            if (!wn_vec_push(&p->w, quad[r]))
                return false;
        row->steps[0]++;
        memset(quad, 0, sizeof quad);
        have = 0;
    }
    return true;
}

/* ---- all streams ---- */
static enum winnow_status no_memory(struct winnow_err *err, size_t rows, size_t k)
{
    return wn_fail(err, WINNOW_E_NOMEM, "packing %zu x %zu sparse int8 weights", rows, k);
}

static enum winnow_status pack_plain(const int8_t *w, struct wn_arena *arena, struct wn_q8_spmm *mat,
                                     struct winnow_err *err)
{
    uint32_t *idx = wn_arena_calloc(arena, mat->k, sizeof *idx);
    mat->dense = wn_arena_memdup(arena, w, mat->rows * mat->k);
    if (!idx || !mat->dense)
        return no_memory(err, mat->rows, mat->k);
    for (size_t i = 0; i < mat->k; i++)
        idx[i] = (uint32_t)i;
    mat->idx = idx;
    mat->noffs = mat->k;
    return WINNOW_OK;
}

static enum winnow_status pack_stream(const int8_t *w, struct wn_arena *arena, struct wn_q8_spmm *mat,
                                      struct winnow_err *err)
{
    WN_CLEANUP(packer_done) struct packer p = { 0 };
    size_t blocks = (mat->rows + mat->block - 1) / mat->block;
    struct wn_q8_spmm_row *row = wn_arena_calloc(arena, blocks, sizeof *row);
    p.bins.next = calloc(mat->k + 1, sizeof *p.bins.next);
    p.chain = calloc(mat->k + 1, sizeof *p.chain);
    if (!row || !p.bins.next || !p.chain)
        return no_memory(err, mat->rows, mat->k);
    for (size_t b = 0, o = 0; b < blocks; b++, o += mat->block) {
        size_t nrows = WN_MIN(mat->rows - o, mat->block);
        bool ok = mat->stream == WN_Q8_SPMM_PAIR ? put_pair_row(&p, w + o * mat->k, mat->k, &row[b])
                                                 : put_quad_block(&p, mat, w + o * mat->k, nrows, &row[b]);
        if (!ok)
            return no_memory(err, mat->rows, mat->k);
        if (p.w.n > STREAM_MAX)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu x %zu int8 weights: more than %u packed dwords", mat->rows,
                           mat->k, STREAM_MAX);
    }
    const uint32_t last = p.idx.n ? p.idx.at[p.idx.n - 1] : 0;
    for (unsigned i = 0; i < WN_Q8_SPMM_AHEAD && p.w.n; i++)
        if (!wn_vec_push(&p.idx, last))
            return no_memory(err, mat->rows, mat->k);
    mat->row = row;
    mat->noffs = p.idx.n;
    mat->w = wn_arena_memdup(arena, p.w.n ? p.w.at : (const uint32_t[]){ 0 }, p.w.n * sizeof *p.w.at);
    mat->idx = wn_arena_memdup(arena, p.idx.n ? p.idx.at : (const uint32_t[]){ 0 }, p.idx.n * sizeof *p.idx.at);
    return mat->w && mat->idx ? WINNOW_OK : no_memory(err, mat->rows, mat->k);
}

enum winnow_status wn_q8_spmm_pack(enum wn_q8_spmm_stream stream, unsigned block, const int8_t *w, size_t rows,
                                   size_t k, struct wn_arena *arena, struct wn_q8_spmm *ret_mat, struct winnow_err *err)
{
    size_t size;
    assert(wn_q8_spmm_takes(stream, block));
    if (k > WN_Q8_MAX_K || !wn_mul_size(rows, k, &size))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu x %zu sparse int8 weights: at most %u inputs", rows, k,
                       WN_Q8_MAX_K);
    struct wn_q8_spmm mat = { .stream = stream, .block = block, .rows = rows, .k = k };
    for (size_t i = 0; i < size; i++)
        mat.nnz += w[i] != 0;
    WN_TRY((stream == WN_Q8_SPMM_PLAIN ? pack_plain : pack_stream)(w, arena, &mat, err));
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_spmm_link(const struct wn_q8_spmm *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->noffs; i++)
        off[i] = koff[mat->idx[i]];
}
