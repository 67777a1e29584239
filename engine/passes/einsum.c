/* einsum.c: an Einsum of two tensors that is a matrix product -> Transpose, MatMul, Transpose, which later passes know.
 *
 * Letters in both terms and the result are batch axes, the one in both terms alone is summed, and each term has one of
 * its own. Attention is written so: bqhd,bkhd->bhqk and bhqk,bkhd->bqhd. What has more letters stays an Einsum. */
#include "engine/ops/einsum.h"

#include <string.h>
#include "engine/passes/match.h"

/* Where the letters of one product stand. */
struct product {
    unsigned rank;            /* of each term and of the result */
    int64_t a[4], b[4], y[4]; /* perm of: term to operand of MatMul, and of its result to the Einsum's */
};

static int at(const struct wn_einsum_term *t, uint8_t label)
{
    const uint8_t *p = memchr(t->label, label, t->n);
    return p ? (int)(p - t->label) : -1;
}

/* Each letter of t once, and no ellipsis. */
static bool plain(const struct wn_einsum_term *t, unsigned rank)
{
    for (unsigned i = 0; i < t->n; i++)
        if (!t->label[i] || at(t, t->label[i]) != (int)i)
            return false;
    return t->n == rank;
}

/* The one letter of `t` that is in `has` and not in `lacks`; 0: none, or several. */
static uint8_t only(const struct wn_einsum_term *t, const struct wn_einsum_term *has,
                    const struct wn_einsum_term *lacks)
{
    uint8_t found = 0;
    for (unsigned i = 0; i < t->n; i++)
        if (at(has, t->label[i]) >= 0 && at(lacks, t->label[i]) < 0) {
            if (found)
                return 0;
            found = t->label[i];
        }
    return found;
}

static bool read_product(const struct wn_einsum *e, unsigned rank, struct product *p)
{
    const struct wn_einsum_term *a = &e->in[0], *b = &e->in[1], *y = &e->out;
    if (e->n_in != 2 || rank < 2 || rank > 4 || !plain(a, rank) || !plain(b, rank) || !plain(y, rank))
        return false;
    const uint8_t row = only(a, y, b), col = only(b, y, a), sum = only(a, b, y);
    if (!row || !col || !sum)
        return false;
    uint8_t made[4]; /* letters of MatMul's result */
    unsigned n = 0;
    for (unsigned i = 0; i < rank; i++)
        if (y->label[i] != row && y->label[i] != col) {
            if (at(a, y->label[i]) < 0 || at(b, y->label[i]) < 0)
                return false;
            p->a[n] = at(a, y->label[i]);
            p->b[n] = at(b, y->label[i]);
            made[n++] = y->label[i];
        }
    if (n + 2 != rank)
        return false;
    p->rank = rank;
    p->a[n] = at(a, row);
    p->a[n + 1] = at(a, sum);
    p->b[n] = at(b, sum);
    p->b[n + 1] = at(b, col);
    made[n] = row;
    made[n + 1] = col;
    for (unsigned i = 0; i < rank; i++)
        p->y[i] = (const uint8_t *)memchr(made, y->label[i], rank) - made;
    return true;
}

static bool moves(const int64_t *perm, unsigned rank)
{
    for (unsigned i = 0; i < rank; i++)
        if (perm[i] != (int64_t)i)
            return true;
    return false;
}

/* x transposed, with its type; x itself where nothing moves. */
static wn_vid transposed(struct wn_graph *g, const char *name, wn_vid x, const int64_t *perm, unsigned rank)
{
    const struct wn_type t = g->values.at[x].type;
    int64_t dim[4];
    if (!moves(perm, rank))
        return x;
    for (unsigned i = 0; i < rank; i++)
        dim[i] = t.dim[perm[i]];
    wn_vid y = wn_graph_add_value(g, NULL, t.dtype, (int)rank, dim);
    struct wn_node *node = y == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &x, 1, y);
    return node && wn_node_set_ints(g, node, "perm", perm, rank) ? y : WN_NONE;
}

static enum winnow_status rewrite(struct wn_graph *g, struct wn_node node, struct wn_node *old, const struct product *p,
                                  struct winnow_err *err)
{
    wn_vid y = node.out[0], made = y;
    wn_graph_kill(g, old);
    wn_vid in[] = { transposed(g, node.name, node.in[0], p->a, p->rank),
                    transposed(g, node.name, node.in[1], p->b, p->rank) };
    if (in[0] == WN_NONE || in[1] == WN_NONE)
        return WN_OOM(err, &node);
    if (moves(p->y, p->rank)) {
        const struct wn_type *t = &g->values.at[y].type;
        int64_t dim[4];
        for (unsigned i = 0; i < p->rank; i++)
            dim[p->y[i]] = t->rank == (int)p->rank ? t->dim[i] : -1;
        made = wn_graph_add_value(g, NULL, WINNOW_F32, (int)p->rank, dim);
        struct wn_node *back = made == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, node.name, &made, 1, y);
        if (!back || !wn_node_set_ints(g, back, "perm", p->y, p->rank))
            return WN_OOM(err, &node);
    }
    return wn_std_add(g, "MatMul", 13, node.name, in, 2, made) ? WINNOW_OK : WN_OOM(err, &node);
}

enum winnow_status wn_pass_einsum(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        struct wn_einsum e;
        struct product p;
        if (!wn_node_is(node, "Einsum") || node->n_in != 2 || wn_einsum_parse(node, &e, NULL) != WINNOW_OK)
            continue;
        const struct wn_type *a = &g->values.at[node->in[0]].type, *b = &g->values.at[node->in[1]].type;
        if (a->dtype == WINNOW_F32 && a->rank > 0 && a->rank == b->rank && read_product(&e, (unsigned)a->rank, &p))
            WN_TRY(rewrite(g, *node, node, &p, err));
    }
    return WINNOW_OK;
}
