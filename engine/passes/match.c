/* match.c: see match.h. */
#include "engine/passes/match.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "engine/ops/impl.h"

bool wn_readers_make(const struct wn_graph *g, struct wn_readers *ret)
{
    size_t n = g->values.n, reads = 0;
    *ret = (struct wn_readers){ .at = calloc(n + 2, sizeof *ret->at), .n_values = n };
    for (size_t i = 0; i < g->nodes.n; i++)
        reads += g->nodes.at[i].dead ? 0 : g->nodes.at[i].n_in;
    ret->node = malloc((reads + 1) * sizeof *ret->node);
    if (!ret->at || !ret->node) {
        wn_readers_done(ret);
        return false;
    }
    for (size_t i = 0; i < g->nodes.n; i++) /* at[v + 2] counts, then sums, then moves to at[v + 1] */
        for (unsigned k = 0; !g->nodes.at[i].dead && k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] != WN_NONE)
                ret->at[g->nodes.at[i].in[k] + 2]++;
    for (size_t v = 2; v < n + 2; v++)
        ret->at[v] += ret->at[v - 1];
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned k = 0; !g->nodes.at[i].dead && k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] != WN_NONE)
                ret->node[ret->at[g->nodes.at[i].in[k] + 1]++] = (wn_nid)i;
    return true;
}

void wn_readers_done(struct wn_readers *r)
{
    free(r->at);
    free(r->node);
    *r = (struct wn_readers){ 0 };
}

const wn_nid *wn_readers_of(const struct wn_readers *r, wn_vid v, size_t *ret_n)
{
    *ret_n = v < r->n_values ? r->at[v + 1] - r->at[v] : 0;
    return *ret_n ? r->node + r->at[v] : NULL;
}

bool wn_number(const struct wn_graph *g, wn_vid v, double *ret)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    if (!t || t->dtype == WINNOW_STRING || wn_cls_of(t->dtype) == WN_CLS_NONE || wn_tensor_count(t) != 1)
        return false;
    *ret = wn_scalar(t, 0);
    return true;
}

bool wn_number_is(const struct wn_graph *g, wn_vid v, double want)
{
    double x;
    return wn_number(g, v, &x) && fabs(x - want) <= 1e-3 * fabs(want);
}

bool wn_same_shape(const struct wn_graph *g, wn_vid a, wn_vid b)
{
    const struct wn_type *x = &g->values.at[a].type, *y = &g->values.at[b].type;
    return x->rank >= 0 && x->rank == y->rank && memcmp(x->dim, y->dim, (size_t)x->rank * sizeof x->dim[0]) == 0;
}

wn_vid wn_take_residual(struct wn_graph *g, wn_vid *y)
{
    struct wn_node *add = wn_graph_only_user(g, *y);
    if (!add || !wn_node_is(add, "Add") || add->in[0] == add->in[1])
        return WN_NONE;
    wn_vid other = wn_other_in(add, *y);
    if (wn_const_of(g, other) || !wn_same_shape(g, *y, other) || !wn_same_shape(g, *y, add->out[0]) ||
        g->values.at[other].type.dtype != g->values.at[*y].type.dtype)
        return WN_NONE;
    *y = add->out[0];
    wn_graph_kill(g, add);
    return other;
}

struct wn_node *wn_made_by(struct wn_graph *g, wn_vid v, const char *op_type)
{
    struct wn_node *node = v == WN_NONE ? NULL : wn_graph_producer(g, v);
    return node && wn_node_is(node, op_type) && node->n_out && node->out[0] == v ? node : NULL;
}

wn_vid wn_other_in(const struct wn_node *node, wn_vid v)
{
    if (node->n_in != 2 || (node->in[0] == v) == (node->in[1] == v))
        return WN_NONE;
    return node->in[node->in[0] == v];
}

bool wn_scaled_by(const struct wn_graph *g, const struct wn_node *node, wn_vid *ret_x, double *ret_factor)
{
    if (node->n_in != 2)
        return false;
    bool div = wn_node_is(node, "Div");
    if (!div && !wn_node_is(node, "Mul"))
        return false;
    if (wn_number(g, node->in[1], ret_factor)) {
        *ret_x = node->in[0];
        *ret_factor = div ? 1 / *ret_factor : *ret_factor;
        return !div || isfinite(*ret_factor);
    }
    *ret_x = node->in[1];
    return !div && wn_number(g, node->in[0], ret_factor);
}

bool wn_reduces_last(const struct wn_graph *g, const struct wn_node *node)
{
    int64_t axes[WINNOW_MAX_RANK];
    size_t n;
    int rank = g->values.at[node->in[0]].type.rank;
    if (wn_in(node, 1) != WN_NONE && !wn_const_in(g, node, 1))
        return false;
    return rank > 0 && wn_node_int(node, "keepdims", 1) &&
           wn_ints_or_attr(node, "axes", wn_const_in(g, node, 1), axes, WN_COUNT(axes), &n, NULL) == WINNOW_OK &&
           n == 1 && (axes[0] == -1 || axes[0] == rank - 1);
}

int64_t wn_last_dim(const struct wn_graph *g, wn_vid v)
{
    const struct wn_type *t = &g->values.at[v].type;
    return t->rank > 0 ? t->dim[t->rank - 1] : -1;
}

const struct wn_tensor *wn_vector_of(const struct wn_graph *g, wn_vid v, int64_t n)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    return t && t->dtype == WINNOW_F32 && t->rank >= 1 && t->dim[t->rank - 1] == n && wn_tensor_count(t) == n ? t
                                                                                                              : NULL;
}

struct wn_node *wn_std_add(struct wn_graph *g, const char *op_type, int opset, const char *name, const wn_vid *in,
                           unsigned n_in, wn_vid out)
{
    struct wn_node *node = wn_graph_add_node(g, "", op_type, name, in, n_in, &out, 1);
    if (node) {
        node->opset = opset;
        node->op = wn_ops_find("", op_type, opset);
    }
    return node;
}
