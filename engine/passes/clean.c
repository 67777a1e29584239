/* clean.c: nodes that do nothing at inference: Identity, Dropout, Cast to the same type, Pad by zero. */
#include "engine/passes/impl.h"

static bool no_op(struct wn_graph *g, const struct wn_node *node)
{
    if (wn_node_is(node, "Identity"))
        return true;
    if (wn_node_is(node, "Dropout")) /* the mask is used, or training mode is not a constant false: leave it */
        return (node->n_out < 2 || node->out[1] == WN_NONE || wn_graph_n_uses(g, node->out[1]) == 0) &&
               (wn_in(node, 2) == WN_NONE ||
                (wn_const_in(g, node, 2) && *(const uint8_t *)wn_const_in(g, node, 2)->data == 0));
    if (wn_node_is(node, "Cast"))
        return g->values.at[node->in[0]].type.dtype == (enum winnow_dtype)wn_node_int(node, "to", 0);
    return false;
}

static bool is_input(const struct wn_graph *g, wn_vid v)
{
    return g->values.at[v].producer == WN_NONE;
}

static bool is_output(const struct wn_graph *g, wn_vid v)
{
    for (size_t i = 0; i < g->outputs.n; i++)
        if (g->outputs.at[i] == v)
            return true;
    return false;
}

enum winnow_status wn_pass_clean(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (node->dead || !no_op(g, node))
            continue;
        /* An output that is an input's or another output's twin keeps its node: each output needs a value of its own.
         */
        if (is_output(g, node->out[0]) && (is_input(g, node->in[0]) || is_output(g, node->in[0])))
            continue;
        wn_vid from = node->out[0], to = node->in[0];
        wn_graph_kill(g, node);
        wn_graph_replace_uses(g, from, to);
    }
    return WINNOW_OK;
}
