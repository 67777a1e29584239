/* heads.c: attention over (B h, S, d) -> over (B, h, S, d), in a graph whose shapes are concrete.
 *
 * Some exporters merge batch and heads before the products: Reshape(B, h, S, d) -> (B h, S, d), MatMul, perhaps apart
 * again for the mask, Softmax, MatMul, apart. Others have tokens first: (S, B h, d), transposed to (B h, S, d). The
 * merging Reshape is moved down, past products, factors, masks and softmax, until it meets the one that undoes it. What
 * is left is what attention.c knows. Only concrete shapes tell that a Reshape merges two axes, so this runs on a plan's
 * graph. */
#include <string.h>
#include "engine/passes/match.h"

/* A value of rank 4 that was merged to rank 3. */
struct merged {
    wn_vid v; /* (B, h, rows, columns) */
    int64_t batch, heads;
};

static const struct wn_type *type_of(const struct wn_graph *g, wn_vid v)
{
    return &g->values.at[v].type;
}

static bool is_f32(const struct wn_graph *g, wn_vid v, int rank)
{
    return type_of(g, v)->dtype == WINNOW_F32 && type_of(g, v)->rank == rank;
}

/* x (B h, r, c) is a Reshape of (B, h, r, c). */
static bool is_merged(struct wn_graph *g, wn_vid x, struct merged *ret)
{
    const struct wn_node *node = wn_made_by(g, x, "Reshape");
    if (!node || !is_f32(g, x, 3) || !is_f32(g, node->in[0], 4))
        return false;
    const int64_t *to = type_of(g, x)->dim, *from = type_of(g, node->in[0])->dim;
    *ret = (struct merged){ .v = node->in[0], .batch = from[0], .heads = from[1] };
    return from[0] * from[1] == to[0] && from[2] == to[1] && from[3] == to[2];
}

/* `v` of another shape. */
static wn_vid reshaped(struct wn_graph *g, const char *name, wn_vid v, const int64_t *dim, int64_t rank, wn_vid out)
{
    wn_vid shape = wn_graph_add_const(g, NULL, WINNOW_I64, 1, &rank, dim);
    if (out == WN_NONE)
        out = wn_graph_add_value(g, NULL, type_of(g, v)->dtype, (int)rank, dim);
    wn_vid in[] = { v, shape };
    return shape != WN_NONE && out != WN_NONE && wn_std_add(g, "Reshape", 14, name, in, 2, out) ? out : WN_NONE;
}

static wn_vid transposed(struct wn_graph *g, const char *name, wn_vid v, const int64_t perm[4], wn_vid out)
{
    int64_t dim[4];
    for (int i = 0; i < 4; i++)
        dim[i] = type_of(g, v)->dim[perm[i]];
    if (out == WN_NONE)
        out = wn_graph_add_value(g, NULL, WINNOW_F32, 4, dim);
    struct wn_node *node = out == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &v, 1, out);
    return node && wn_node_set_ints(g, node, "perm", perm, 4) ? out : WN_NONE;
}

/* Perm of a Transpose of rank 3; NULL for anything else. */
static const int64_t *perm3(const struct wn_node *node)
{
    size_t n;
    const int64_t *p = node && wn_node_is(node, "Transpose") ? wn_node_ints(node, "perm", &n) : NULL;
    return p && n == 3 ? p : NULL;
}

/* An operand of a product: merged, or tokens-first (r, n, c) transposed to (n, r, c) or (n, c, r), which is one
 * sequence of n heads; `*lacks` when memory does. */
static bool operand(struct wn_graph *g, wn_vid x, const struct merged *like, struct merged *ret, bool *lacks)
{
    if (is_merged(g, x, ret))
        return !like || (ret->batch == like->batch && ret->heads == like->heads);
    const struct wn_node *node = wn_graph_producer(g, x);
    const int64_t *p = perm3(node);
    if (!p || p[0] != 1 || !is_f32(g, x, 3) || (like && (like->batch != 1 || like->heads != type_of(g, x)->dim[0])))
        return false;
    const int64_t perm[] = { 0, p[0] + 1, p[1] + 1, p[2] + 1 }, *d = type_of(g, node->in[0])->dim;
    const int64_t dim[] = { 1, d[0], d[1], d[2] };
    const char *name = node->name;
    *ret = (struct merged){ .batch = 1, .heads = type_of(g, x)->dim[0] };
    wn_vid apart = reshaped(g, name, node->in[0], dim, 4, WN_NONE);
    ret->v = apart == WN_NONE ? WN_NONE : transposed(g, name, apart, perm, WN_NONE);
    *lacks = ret->v == WN_NONE;
    return !*lacks;
}

/* `node` on the inputs `in` of rank 4; what it made of rank 3 is a Reshape of that. */
static enum winnow_status raise(struct wn_graph *g, struct wn_node node, struct wn_node *old, const wn_vid *in,
                                const struct merged *m, struct winnow_err *err)
{
    static const int64_t turn[] = { 0, 1, 3, 2 };
    const struct wn_type t = *type_of(g, node.out[0]);
    const int64_t dim[] = { m->batch, m->heads, t.dim[1], t.dim[2] };
    wn_vid y = wn_graph_add_value(g, NULL, WINNOW_F32, 4, dim);
    wn_graph_kill(g, old);
    struct wn_node *made = y == WN_NONE ? NULL : wn_std_add(g, node.op_type, node.opset, node.name, in, node.n_in, y);
    if (!made || (wn_node_is(&node, "Softmax") && !wn_node_set_int(g, made, "axis", -1)) ||
        (perm3(&node) && !wn_node_set_ints(g, made, "perm", turn, 4)) ||
        reshaped(g, node.name, y, t.dim, 3, node.out[0]) == WN_NONE)
        return WN_OOM(err, &node);
    return WINNOW_OK;
}

/* An addend of rank 3 as it is added to (B, h, r, c): itself where all heads share it. */
static bool addend(struct wn_graph *g, const char *name, wn_vid v, const struct merged *m, wn_vid *ret)
{
    const struct wn_type *t = type_of(g, v);
    *ret = v;
    if (t->dtype != WINNOW_F32 || t->rank < 0 || t->rank > 3)
        return false;
    if (t->rank < 3 || t->dim[0] == 1)
        return true;
    const int64_t dim[] = { m->batch, m->heads, t->dim[1], t->dim[2] };
    *ret = t->dim[0] == m->batch * m->heads ? reshaped(g, name, v, dim, 4, WN_NONE) : WN_NONE;
    return *ret != WN_NONE;
}

/* Softmax, factor, or exchange of rows and columns of what was merged, or a sum with it. */
static enum winnow_status raise_function(struct wn_graph *g, size_t i, struct winnow_err *err)
{
    const struct wn_node copy = g->nodes.at[i], *node = &copy;
    struct merged m;
    wn_vid in[2] = { node->in[0], wn_in(node, 1) }, x;
    double factor;
    const int64_t *p = perm3(node), axis = wn_node_int(node, "axis", -1);
    const bool softmax = wn_node_is(node, "Softmax") && node->opset >= 13 && (axis == -1 || axis == 2);
    if (softmax || (p && p[0] == 0 && p[1] == 2)) {
        if (!is_merged(g, in[0], &m))
            return WINNOW_OK;
        in[0] = m.v;
    } else if (wn_scaled_by(g, node, &x, &factor)) {
        if (!is_merged(g, x, &m))
            return WINNOW_OK;
        in[in[0] != x] = m.v;
    } else if (wn_node_is(node, "Add")) {
        const unsigned k = is_merged(g, in[0], &m) ? 0 : 1;
        if (!is_merged(g, in[k], &m) || !addend(g, node->name, in[!k], &m, &in[!k]))
            return WINNOW_OK;
        in[k] = m.v;
    } else {
        return WINNOW_OK;
    }
    return raise(g, copy, &g->nodes.at[i], in, &m, err);
}

static enum winnow_status raise_product(struct wn_graph *g, size_t i, struct winnow_err *err)
{
    const struct wn_node node = g->nodes.at[i];
    struct merged a, b;
    bool lacks = false;
    /* tokens first in both, or merged in both: which, the merged one says */
    const bool second = !is_merged(g, node.in[0], &a) && is_merged(g, node.in[1], &b);
    bool fits = second ? operand(g, node.in[0], &b, &a, &lacks)
                       : operand(g, node.in[0], NULL, &a, &lacks) && operand(g, node.in[1], &a, &b, &lacks);
    if (lacks)
        return WN_OOM(err, &node);
    wn_vid in[] = { a.v, b.v };
    return fits ? raise(g, node, &g->nodes.at[i], in, &a, err) : WINNOW_OK;
}

/* Reshape(Reshape(x)) -> Reshape(x), or x; tokens first again: Transpose(1, 0, 2) of one sequence's heads. */
static enum winnow_status undo(struct wn_graph *g, struct wn_node *node, struct winnow_err *err)
{
    static const int64_t first[] = { 0, 2, 1, 3 };
    struct merged m;
    const struct wn_node old = *node;
    const wn_vid y = old.out[0];
    const int64_t *p = perm3(node);
    if (!is_merged(g, old.in[0], &m))
        return WINNOW_OK;
    const struct wn_type t = *type_of(g, y), x = *type_of(g, m.v);
    if (p && p[0] == 1 && p[1] == 0 && m.batch == 1) {
        wn_graph_kill(g, node);
        wn_vid v = transposed(g, old.name, m.v, first, WN_NONE);
        return v != WN_NONE && reshaped(g, old.name, v, t.dim, 3, y) != WN_NONE ? WINNOW_OK : WN_OOM(err, &old);
    }
    if (!wn_node_is(&old, "Reshape") || t.rank < 1)
        return WINNOW_OK;
    wn_graph_kill(g, node);
    if (t.rank == 4 && memcmp(t.dim, x.dim, 4 * sizeof x.dim[0]) == 0 && g->values.at[m.v].producer != WN_NONE) {
        wn_graph_replace_uses(g, y, m.v);
        return WINNOW_OK;
    }
    return reshaped(g, old.name, m.v, t.dim, t.rank, y) != WN_NONE ? WINNOW_OK : WN_OOM(err, &old);
}

static bool any_softmax(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        if (wn_node_is(&g->nodes.at[i], "Softmax") && is_f32(g, g->nodes.at[i].out[0], 3))
            return true;
    return false;
}

enum winnow_status wn_pass_heads(struct wn_graph *g, struct winnow_err *err)
{
    if (!any_softmax(g))
        return WINNOW_OK;
    wn_graph_index(g);
    for (size_t i = 0, n = g->nodes.n; i < n; i++) { /* sorted: what a node reads was moved before it */
        struct wn_node *node = &g->nodes.at[i];
        if (node->dead || *node->domain || !node->n_in || node->in[0] == WN_NONE)
            continue;
        if (wn_node_is(node, "MatMul") && is_f32(g, node->in[0], 3) && is_f32(g, node->in[1], 3))
            WN_TRY(raise_product(g, i, err));
        else if (is_f32(g, node->out[0], 3))
            WN_TRY(raise_function(g, i, err));
        node = &g->nodes.at[i];
        if (!node->dead && (wn_node_is(node, "Reshape") || wn_node_is(node, "Transpose")))
            WN_TRY(undo(g, node, err));
    }
    WN_TRY(wn_graph_sort(g, err));
    wn_graph_index(g);
    WN_TRY(wn_pass_attention(g, err));
    WN_TRY(wn_graph_sort(g, err));
    return wn_ops_infer_graph(g, err);
}
