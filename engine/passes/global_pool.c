/* global_pool.c: ReduceMean over all axes behind the channels, which stay as ones -> GlobalAveragePool. */
#include "engine/ops/impl.h"
#include "engine/passes/match.h"

/* The axes are 2 ... rank - 1. */
static bool over_spatial(const struct wn_graph *g, const struct wn_node *node)
{
    int64_t axes[WINNOW_MAX_RANK];
    size_t n;
    const int rank = g->values.at[node->in[0]].type.rank;
    unsigned seen = 0;
    if (rank < 3 || rank > 4 || !wn_node_int(node, "keepdims", 1) ||
        g->values.at[node->in[0]].type.dtype != WINNOW_F32 || (wn_in(node, 1) != WN_NONE && !wn_const_in(g, node, 1)) ||
        wn_ints_or_attr(node, "axes", wn_const_in(g, node, 1), axes, WN_COUNT(axes), &n, NULL) != WINNOW_OK)
        return false;
    for (size_t i = 0; i < n; i++) {
        const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 2 || axis >= rank)
            return false;
        seen |= 1u << axis;
    }
    return seen == (rank == 4 ? 0xcu : 0x4u);
}

enum winnow_status wn_pass_global_pool(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (!wn_node_is(node, "ReduceMean") || !over_spatial(g, node))
            continue;
        const char *name = node->name;
        const wn_vid x = node->in[0], y = node->out[0];
        wn_graph_kill(g, node);
        if (!wn_std_add(g, "GlobalAveragePool", 1, name, &x, 1, y))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    }
    return WINNOW_OK;
}
