/* detours.c: what exporters write by way of shapes and indices, and says the same as one standard operator:
 *
 *   Reshape(Transpose(Reshape(x, [-1, c, d]), 0 2 1), [a, b, d, c]), x (a, b, c, d)    Transpose(x, 0 1 3 2)
 *   GatherND(m, Concat(i, j)) with i = 0 ... extent 0 and j = 0 ... extent 1 of m, each along an axis of its own
 *                                                                          Unsqueeze(m): the mask m (batch, length)
 *
 * Both come from PyTorch's newer exporter, from scaled_dot_product_attention and its mask. */
#include <string.h>
#include "engine/ops/impl.h"
#include "engine/passes/follow.h"
#include "engine/passes/match.h"

/* `node` becomes this operator of the same output. The graph's use counts are not kept while shapes are settled. */
static bool become(struct wn_graph *g, struct wn_node *node, const char *op_type, wn_vid a, wn_vid b)
{
    node->op_type = op_type;
    node->opset = 13;
    node->op = wn_ops_find("", op_type, 13);
    node->n_attr = 0;
    node->n_in = b == WN_NONE ? 1 : 2; /* both kinds of node had two inputs or more */
    node->in[0] = a;
    if (b != WN_NONE)
        node->in[1] = b;
    return node->op != NULL;
}

/* e is extent `axis` of x. */
static bool is_extent(const struct wn_graph *g, const struct wn_element *e, wn_vid x, int axis)
{
    if (e->known >= 0)
        return g->values.at[x].type.dim[axis] == e->known;
    return e->v == x && e->axis == axis;
}

/* ---- the last two axes change places ---- */

static bool swaps_last(struct wn_follower *f, const struct wn_node *node, wn_vid *ret_x)
{
    static const int after[] = { 0, 1, 3, 2 };
    struct wn_graph *g = f->g;
    struct wn_vector inner, outer;
    const struct wn_node *t = wn_made_by(g, node->in[0], "Transpose");
    const struct wn_node *first = t ? wn_made_by(g, t->in[0], "Reshape") : NULL;
    size_t n;
    const int64_t *perm = t ? wn_node_ints(t, "perm", &n) : NULL;
    if (!first || !perm || n != 3 || perm[0] != 0 || perm[1] != 2 || perm[2] != 1 ||
        g->values.at[first->in[0]].type.rank != 4 || !wn_follow_input(f, first, 1, &inner) ||
        !wn_follow_input(f, node, 1, &outer) || inner.n != 3 || outer.n != 4)
        return false;
    *ret_x = first->in[0];
    for (int i = 0; i < 4; i++)
        if (!is_extent(g, &outer.e[i], *ret_x, after[i]))
            return false;
    return is_extent(g, &inner.e[1], *ret_x, 2) && is_extent(g, &inner.e[2], *ret_x, 3);
}

/* ---- a mask looked up at all its places ---- */

/* 0, 1, … along one axis: that axis, the rank around it, and how far. */
struct places {
    int axis, rank;
    struct wn_element extent;
};

/* Unsqueeze ... of Range(0, extent, 1). */
static bool read_places(struct wn_follower *f, wn_vid v, struct places *ret)
{
    struct wn_graph *g = f->g;
    const struct wn_node *node = wn_graph_producer(g, v);
    double from, step;
    if (node && wn_node_is(node, "Range")) {
        struct wn_vector n;
        *ret = (struct places){ .rank = 1 };
        if (!wn_number(g, node->in[0], &from) || !wn_number(g, node->in[2], &step) || from != 0 || step != 1 ||
            !wn_follow_input(f, node, 1, &n) || n.n != 1)
            return false;
        ret->extent = n.e[0];
        return true;
    }
    int64_t axes[WINNOW_MAX_RANK];
    size_t n;
    if (!node || !wn_node_is(node, "Unsqueeze") || !read_places(f, node->in[0], ret) ||
        wn_ints_or_attr(node, "axes", wn_const_in(g, node, 1), axes, WN_COUNT(axes), &n, NULL) != WINNOW_OK ||
        n == SIZE_MAX || ret->rank + (int)n > WINNOW_MAX_RANK)
        return false;
    bool added[WINNOW_MAX_RANK] = { false };
    ret->rank += (int)n;
    for (size_t i = 0; i < n; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + ret->rank : axes[i];
        if (a < 0 || a >= ret->rank)
            return false;
        added[a] = true;
    }
    for (int a = 0; a <= ret->axis && a < ret->rank; a++)
        ret->axis += added[a];
    return true;
}

/* Component of an index: Unsqueeze(Expand(places, shape), -1). */
static const struct wn_node *component(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *last = wn_made_by(g, v, "Unsqueeze");
    double axis;
    if (!last || !wn_number(g, wn_in(last, 1), &axis) || axis != -1)
        return NULL;
    return wn_made_by(g, last->in[0], "Expand");
}

/* The input behind Casts; WN_NONE when it is none. */
static wn_vid input_behind(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *node;
    while ((node = wn_made_by(g, v, "Cast")))
        v = node->in[0];
    for (size_t i = 0; i < g->inputs.n; i++)
        if (g->inputs.at[i] == v)
            return v;
    return WN_NONE;
}

/* Extent e is called what extent `axis` of the input x is called. */
static bool same_name(const struct wn_graph *g, const struct wn_element *e, wn_vid x, int axis)
{
    if (is_extent(g, e, x, axis))
        return true;
    if (e->known >= 0 || e->v == WN_NONE)
        return false;
    const char *a = g->values.at[e->v].dim_name[e->axis], *b = g->values.at[x].dim_name[axis];
    return a && b && strcmp(a, b) == 0;
}

static bool whole_lookup(struct wn_follower *f, const struct wn_node *node, int64_t *axes, int64_t *ret_n)
{
    struct wn_graph *g = f->g;
    const struct wn_node *index = wn_made_by(g, node->in[1], "Concat"), *e[2];
    wn_vid x = input_behind(g, node->in[0]);
    struct places p[2];
    if (!index || index->n_in != 2 || x == WN_NONE || g->values.at[x].type.rank != 2 ||
        wn_node_int(node, "batch_dims", 0) != 0 || wn_node_int(index, "axis", 0) != -1)
        return false;
    for (int i = 0; i < 2; i++) {
        e[i] = component(g, index->in[i]);
        if (!e[i] || !read_places(f, e[i]->in[0], &p[i]) || !same_name(g, &p[i].extent, x, i))
            return false;
    }
    /* both are expanded to the shape that they have together */
    const struct wn_node *shape = wn_made_by(g, e[0]->in[1], "Shape");
    const struct wn_node *both = shape && shape->n_attr <= 1 ? wn_made_by(g, shape->in[0], "Max") : NULL;
    if (e[0]->in[1] != e[1]->in[1] || !both || both->n_in != 2 || wn_other_in(both, e[0]->in[0]) != e[1]->in[0] ||
        wn_node_int(shape, "start", 0) != 0 || p[0].rank != p[1].rank || p[0].axis >= p[1].axis)
        return false;
    *ret_n = 0;
    for (int a = 0; a < p[0].rank; a++)
        if (a != p[0].axis && a != p[1].axis)
            axes[(*ret_n)++] = a;
    return *ret_n > 0;
}

enum winnow_status wn_detour(struct wn_follower *f, struct wn_node *node, struct winnow_err *err)
{
    static const int64_t perm[] = { 0, 1, 3, 2 };
    struct wn_graph *g = f->g;
    int64_t axes[WINNOW_MAX_RANK], n;
    wn_vid x;
    if (wn_node_is(node, "Reshape") && swaps_last(f, node, &x))
        return become(g, node, "Transpose", x, WN_NONE) && wn_node_set_ints(g, node, "perm", perm, 4)
                   ? WINNOW_OK
                   : WN_OOM(err, node);
    if (wn_node_is(node, "GatherND") && whole_lookup(f, node, axes, &n)) {
        wn_vid c = wn_graph_add_const(g, NULL, WINNOW_I64, 1, &n, axes);
        return c != WN_NONE && become(g, node, "Unsqueeze", node->in[0], c) ? WINNOW_OK : WN_OOM(err, node);
    }
    return WINNOW_OK;
}
