/* pack.c: dense s8 weights into the streams of q8_gemm.h.
 *
 * DESIGN  The AVX2 multiply (vpmaddubsw) sums two products in 16 bits and saturates. Two quads of weights may be summed
 *   in 16 bits as well when no sum of a part of them can leave int16, and then one widening multiply serves both. Which
 *   quads go together is free, but all four rows of a group must agree, so that they share the loads of activations: 4
 *   rows x 2 lanes x 2 signs = 16 budgets. Quads are tried from the heaviest down, against the heaviest that fit and
 *   then the lightest; a bounded number of tries keeps packing linear. Normally distributed weights scaled to 127 leave
 *   7 % without a partner at K = 3072, 15 % at 768, 22 % at 384 and 80 % at 64 (Laplace: 1, 4, 7, 40 %); those take the
 *   exact route in 16-bit words, at 0.65 of the speed. Quads pair within a chunk, so that memory is walked forwards.
 *   Considered: longer sums. Three quads per sum rarely fit sixteen budgets, and registers run out. */
#include "engine/kernels/q8_gemm/q8_gemm.h"

#include <stdlib.h>
#include <string.h>

typedef uint8_t budgets __attribute__((vector_size(16)));

struct cand {
    uint8_t used[16]; /* [row][lane][sign] of the budget */
    uint32_t kq;
    uint32_t weight; /* the largest of the sixteen */
    bool taken;
};

#define CHUNK 128u /* quads that may pair with each other */
#define TRIES 48u

static int heaviest_first(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return x->kq < y->kq ? -1 : x->kq > y->kq;
}

/* What quad kq of four rows asks of the budgets; the weight is past `budget` when it cannot even stand alone. */
static struct cand measure(const int8_t *q, size_t rows, size_t row_bytes, uint32_t kq)
{
    struct cand c = { .kq = kq };
    for (size_t r = 0; r < rows; r++)
        for (size_t lane = 0; lane < 2; lane++) {
            const int8_t *w = q + r * row_bytes + 4 * kq + 2 * lane;
            unsigned pos = 0, neg = 0;
            for (size_t j = 0; j < 2; j++)
                *(w[j] > 0 ? &pos : &neg) += (unsigned)abs(w[j]);
            c.weight = WN_MAX(c.weight, WN_MAX(pos, neg));
            c.used[4 * r + 2 * lane] = (uint8_t)WN_MIN(pos, 255u);
            c.used[4 * r + 2 * lane + 1] = (uint8_t)WN_MIN(neg, 255u);
        }
    return c;
}

static budgets load_used(const struct cand *c)
{
    budgets v;
    memcpy(&v, c->used, sizeof v);
    return v;
}

static bool fits(budgets left, const struct cand *c)
{
    union {
        budgets v;
        uint64_t half[2];
    } over = { .v = (budgets)(load_used(c) > left) };
    return !(over.half[0] | over.half[1]);
}

/* Index of a partner for cand[i] among the later, lighter ones, or 0. `last` = index of the lightest not taken. */
static size_t partner(const struct cand *cand, size_t i, size_t last, unsigned budget)
{
    budgets left = (uint8_t)budget - load_used(&cand[i]);
    size_t tries = 0;
    for (size_t j = i + 1; j <= last && tries < TRIES; j++)
        if (!cand[j].taken) {
            if (fits(left, &cand[j]))
                return j;
            tries++;
        }
    tries = 0;
    for (size_t j = last; j > i && tries < TRIES; j--)
        if (!cand[j].taken) {
            if (fits(left, &cand[j]))
                return j;
            tries++;
        }
    return 0;
}

static int32_t quad_at(const int8_t *q, size_t row_bytes, size_t r, size_t rows, uint32_t kq)
{
    int32_t v = 0;
    if (r < rows)
        memcpy(&v, q + r * row_bytes + 4 * kq, 4);
    return v;
}

static int32_t words_of(int8_t lo, int8_t hi)
{
    return (int32_t)((uint32_t)(uint16_t)(int16_t)lo | (uint32_t)(uint16_t)(int16_t)hi << 16);
}

/* Four rows being packed. */
struct group_in {
    const int8_t *q; /* first row, quad order */
    size_t rows, row_bytes;
    unsigned budget;
    struct cand *cand; /* [CHUNK] */
};

/* Pair quads kq0..kq1-1: appends to group->pairs, idx and the steps at w; those left over go to single[group->singles].
 */
static int32_t *pair_chunk(const struct group_in *in, size_t kq0, size_t kq1, struct wn_q8_gemm_group *group,
                           uint32_t *idx, uint32_t *single, int32_t *w)
{
    struct cand *cand = in->cand;
    size_t n = kq1 - kq0, last = n - 1;
    for (size_t i = 0; i < n; i++)
        cand[i] = measure(in->q, in->rows, in->row_bytes, (uint32_t)(kq0 + i));
    qsort(cand, n, sizeof *cand, heaviest_first);
    for (size_t i = 0; i < n; i++) {
        if (cand[i].taken)
            continue;
        while (last > i && cand[last].taken)
            last--;
        size_t j = cand[i].weight <= in->budget ? partner(cand, i, last, in->budget) : 0;
        if (!j) {
            single[group->singles++] = cand[i].kq;
            continue;
        }
        cand[j].taken = true;
        idx[2 * group->pairs] = cand[i].kq;
        idx[2 * group->pairs++ + 1] = cand[j].kq;
        for (size_t r = 0; r < 4; r++) {
            *w++ = quad_at(in->q, in->row_bytes, r, in->rows, cand[i].kq);
            *w++ = quad_at(in->q, in->row_bytes, r, in->rows, cand[j].kq);
        }
    }
    return w;
}

/* One group: its pairs, chunk by chunk, then its singles; returns the end of the steps. */
static int32_t *pack_group(const struct group_in *in, size_t quads, uint32_t *single, struct wn_q8_gemm_group *group,
                           uint32_t *idx, int32_t *w)
{
    for (size_t kq = 0; kq < quads; kq += CHUNK)
        w = pair_chunk(in, kq, WN_MIN(kq + CHUNK, quads), group, idx, single, w);
    memcpy(idx + 2 * group->pairs, single, group->singles * sizeof *single);
    for (size_t s = 0; s < group->singles; s++)
        for (size_t r = 0; r < 4; r++) {
            int32_t v = quad_at(in->q, in->row_bytes, r, in->rows, single[s]);
            int8_t b[4];
            memcpy(b, &v, 4);
            *w++ = words_of(b[0], b[2]);
            *w++ = words_of(b[1], b[3]);
        }
    return w;
}

static bool pack_pairs(const int8_t *q, unsigned x_max, struct wn_arena *arena, struct wn_q8_gemm *mat)
{
    size_t groups = (mat->rows + 3) / 4, quads = mat->quads;
    unsigned budget = WN_MIN(32767u / x_max, 255u);
    WN_CLEANUP(wn_freep) uint32_t *single = malloc(quads * sizeof *single);
    WN_CLEANUP(wn_freep) int32_t *w = malloc(groups * quads * 32); /* should nothing pair */
    uint32_t *idx = wn_arena_calloc(arena, groups * quads, sizeof *idx);
    struct wn_q8_gemm_group *group = wn_arena_calloc(arena, groups, sizeof *group);
    if (!single || !w || !idx || !group)
        return false;
    struct cand cand[CHUNK];
    int32_t *end = w;
    for (size_t g = 0; g < groups; g++) {
        group[g].at = (uint32_t)((end - w) / 8);
        struct group_in in = { q + 16 * g * quads, WN_MIN(mat->rows - 4 * g, 4u), 4 * quads, budget, cand };
        end = pack_group(&in, quads, single, &group[g], idx + g * quads, end);
        mat->pairs += group[g].pairs;
        mat->singles += group[g].singles;
    }
    size_t w_bytes = (size_t)(end - w) * sizeof *w;
    mat->w = wn_arena_memdup(arena, w, w_bytes);
    mat->idx = idx;
    mat->group = group;
    mat->noffs = groups * quads;
    mat->bytes = w_bytes + groups * quads * sizeof *idx + groups * sizeof *group;
    return mat->w;
}

static bool pack_quads(const int8_t *q, struct wn_arena *arena, struct wn_q8_gemm *mat)
{
    size_t groups = (mat->rows + 3) / 4, quads = mat->quads;
    mat->noffs = quads;
    mat->bytes = 16 * groups * quads;
    int32_t *w = wn_arena_alloc(arena, mat->bytes);
    if (!w)
        return false;
    mat->w = w;
    for (size_t g = 0; g < groups; g++)
        for (size_t kq = 0; kq < quads; kq++)
            for (size_t r = 0; r < 4; r++)
                *w++ = quad_at(q + 16 * g * quads, 4 * quads, r, mat->rows - 4 * g, (uint32_t)kq);
    return true;
}

enum winnow_status wn_q8_gemm_pack(enum wn_q8_gemm_stream stream, const int8_t *w, size_t rows, size_t channels,
                                   size_t taps, unsigned x_max, struct wn_arena *arena, struct wn_q8_gemm *ret_mat,
                                   struct winnow_err *err)
{
    size_t k, all;
    if (!wn_mul_size(channels, taps, &k) || k == 0 || k > WN_Q8_MAX_K || !wn_mul_size(rows, k, &all) ||
        all > INT32_MAX || rows == 0)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu x %zu weights", rows, channels, taps);
    struct wn_q8_gemm mat = { .stream = stream, .rows = rows, .quads = wn_q8_quads(channels, taps) };
    size_t q_bytes = rows * 4 * mat.quads;
    bool ok = false;
    if (stream == WN_Q8_GEMM_PLAIN) {
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
            ok = stream == WN_Q8_GEMM_PAIR ? pack_pairs(q, x_max, arena, &mat) : pack_quads(q, arena, &mat);
        }
    }
    if (!ok)
        return wn_fail(err, WINNOW_E_NOMEM, "packing an int8 matrix of %zu rows by %zu weights", rows, k);
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_gemm_link(const struct wn_q8_gemm *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->noffs; i++)
        off[i] = koff[mat->idx ? mat->idx[i] : i];
}
