/* shapes.c: target shapes that exporters compute (Shape, Gather, Unsqueeze, Concat, Reshape) become constants.
 *
 * What the shape computations yield is followed by name (follow.h). In the end an extent that Reshape's own input has
 * in the same place is a 0 ("keep"), and one other unknown is a -1 ("what remains"): the same shape wherever the file's
 * own computation gives a valid one. */
#include <string.h>
#include "engine/passes/follow.h"

/* Extent i of x, which Reshape reads, is surely this. */
static bool keeps(const struct wn_follower *f, bool one_batch, wn_vid x, unsigned i, struct wn_element e)
{
    if (e.v == WN_NONE || (int)i >= f->g->values.at[x].type.rank)
        return false;
    return (e.v == x && e.axis == (int)i) || (one_batch && f->axis[e.v] == e.axis && f->axis[x] == (int)i);
}

static enum winnow_status settle(struct wn_follower *f, bool one_batch, struct wn_node *node, struct winnow_err *err)
{
    struct wn_vector want;
    unsigned rest = 0;
    int64_t dim[WINNOW_MAX_RANK], n;
    if (wn_const_in(f->g, node, 1) || !wn_follow_input(f, node, 1, &want))
        return WINNOW_OK;
    for (unsigned i = 0; i < want.n; i++) {
        struct wn_element e = want.e[i];
        bool constant = e.known >= 0;
        if (e.known == 0) /* "keep" in the file's own words, beside what we would say */
            return WINNOW_OK;
        dim[i] = constant ? e.known : keeps(f, one_batch, node->in[0], i, e) ? 0 : -1;
        rest += dim[i] == -1;
    }
    if (rest > 1)
        return WINNOW_OK;
    n = want.n;
    wn_vid c = wn_graph_add_const(f->g, NULL, WINNOW_I64, 1, &n, dim);
    if (c == WN_NONE)
        return WN_OOM(err, node);
    node->in[1] = c;
    return !wn_node_int(node, "allowzero", 0) || wn_node_set_int(f->g, node, "allowzero", 0) ? WINNOW_OK
                                                                                             : WN_OOM(err, node);
}

/* What is known of the outputs now. */
static void infer_again(struct wn_graph *g, const struct wn_node *node)
{
    struct wn_infer infer;
    struct wn_type out[WN_OP_MAX_IN];
    if (node->n_in > WN_OP_MAX_IN || node->n_out > WN_OP_MAX_IN || !node->op)
        return;
    wn_ops_infer_prepare(g, node, &infer, out);
    if (wn_ops_infer_node(&infer, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE || out[i].rank < 0)
            continue;
        struct wn_type *t = &g->values.at[node->out[i]].type;
        if (t->rank < 0)
            *t = out[i];
        for (int d = 0; t->rank == out[i].rank && d < t->rank; d++)
            t->dim[d] = t->dim[d] < 0 ? out[i].dim[d] : t->dim[d];
    }
}

static bool inputs_share_batch(const struct wn_graph *g)
{
    const char *name = NULL;
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_value *v = &g->values.at[g->inputs.at[i]];
        if (v->type.rank < 1 || v->type.dim[0] >= 0)
            continue;
        if (i && (!name || !v->dim_name[0] || strcmp(name, v->dim_name[0]) != 0))
            return false;
        name = v->dim_name[0];
    }
    return true;
}

static bool any_shape(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        if (wn_node_is(&g->nodes.at[i], "Shape"))
            return true;
    return false;
}

/* A vector of numbers only (the width of a head, taken from a shape) is a constant: what is computed from it folds. */
static enum winnow_status to_constant(struct wn_graph *g, struct wn_node *node, const struct wn_vector *v,
                                      struct winnow_err *err)
{
    const wn_vid out = node->out[0];
    const struct wn_type *t = &g->values.at[out].type;
    int64_t wide[WINNOW_MAX_RANK], n = v->n;
    int32_t narrow[WINNOW_MAX_RANK];
    for (unsigned i = 0; i < v->n; i++) {
        if (v->e[i].known < 0)
            return WINNOW_OK;
        wide[i] = v->e[i].known;
        narrow[i] = (int32_t)wide[i];
    }
    if (!v->n || wn_node_is(node, "Equal"))
        return WINNOW_OK;
    for (size_t i = 0; i < g->outputs.n; i++)
        if (g->outputs.at[i] == out)
            return WINNOW_OK;
    const unsigned rank = t->rank == 0 ? 0 : 1;
    wn_vid c = wn_graph_add_const(g, NULL, t->dtype, rank, &n, t->dtype == WINNOW_I64 ? (void *)wide : (void *)narrow);
    if (c == WN_NONE)
        return WN_OOM(err, node);
    struct wn_value *value = &g->values.at[out];
    value->constant = g->values.at[c].constant;
    value->type = (struct wn_type){ .dtype = value->constant->dtype, .rank = (int)rank, .dim = { n } };
    wn_graph_kill(g, node);
    return WINNOW_OK;
}

enum winnow_status wn_pass_shapes(struct wn_graph *g, struct winnow_err *err)
{
    if (!any_shape(g))
        return WINNOW_OK;
    const bool one_batch = inputs_share_batch(g);
    WN_CLEANUP(wn_follow_done) struct wn_follower f = { 0 };
    if (!wn_follow_init(&f, g, 3 * g->nodes.n)) /* constants for each Reshape, vector and detour */
        return wn_fail(err, WINNOW_E_NOMEM, "shapes of a graph of %zu nodes", g->nodes.n);
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (node->dead)
            continue;
        WN_TRY(wn_detour(&f, node, err));
        if (wn_node_is(node, "Reshape"))
            WN_TRY(settle(&f, one_batch, node, err));
        infer_again(g, node);
        wn_follow_node(&f, node);
        if (node->n_out == 1 && node->out[0] != WN_NONE && f.vec[node->out[0]])
            WN_TRY(to_constant(g, node, f.vec[node->out[0]], err));
    }
    return WINNOW_OK;
}
