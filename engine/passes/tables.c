/* tables.c: how large the integers of an input may be: the rows of the tables that they are looked up in.
 *
 * Looked at in the graph as it is loaded, before embeddings are fused or quantized. An input reaches a table over nodes
 * that only move or convert it; what computes ids is not followed, which only leaves a bound unknown. */
#include <stdlib.h>
#include "engine/passes/passes.h"

static bool keeps_values(const struct wn_node *node)
{
    static const char *const ops[] = { "Identity",  "Cast",    "Reshape",   "Squeeze",
                                       "Unsqueeze", "Flatten", "Transpose", "Expand" };
    for (size_t i = 0; i < WN_COUNT(ops); i++)
        if (wn_node_is(node, ops[i]))
            return true;
    return false;
}

/* Extent of what a Gather picks from; 0: not known. */
static int64_t extent(const struct wn_graph *g, const struct wn_node *node)
{
    const struct wn_type *t = &g->values.at[node->in[0]].type;
    int64_t axis = wn_node_int(node, "axis", 0);
    axis += axis < 0 ? t->rank : 0;
    return axis >= 0 && axis < t->rank ? WN_MAX(t->dim[axis], (int64_t)0) : 0;
}

/* Input or output `i` of a node; WN_NONE where it is omitted. */
static wn_vid nth(const wn_vid *v, unsigned n, unsigned i)
{
    return i < n ? v[i] : WN_NONE;
}

int64_t wn_table_rows(const struct wn_graph *g, wn_vid input)
{
    WN_CLEANUP(wn_freep) bool *same = calloc(g->values.n + 1, sizeof *same);
    int64_t rows = 0;
    if (!same)
        return 0;
    same[input] = true;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        wn_vid data = nth(node->in, node->n_in, 0), ids = nth(node->in, node->n_in, 1);
        wn_vid out = nth(node->out, node->n_out, 0);
        if (data == WN_NONE || out == WN_NONE)
            continue;
        if (ids != WN_NONE && same[ids] && wn_node_is(node, "Gather")) {
            int64_t n = extent(g, node);
            rows = n && (!rows || n < rows) ? n : rows;
        } else if (same[data] && keeps_values(node)) {
            same[out] = true;
        }
    }
    return rows;
}
