/* clean.c: nodes that do nothing at inference: Identity, Dropout, Cast to the same type, Pad by zero. */
#include <stdlib.h>
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

/* Replacing the uses of an output, or where sub-graphs may use the value, looks through the graph: more of these than
 * this stay as they are, which costs nothing at run time. */
#define MAX_SLOW 1000

struct cleaner {
    struct wn_graph *g;
    wn_vid *alias;   /* [values] what to use instead */
    bool *is_output; /* [values] */
    bool subgraphs;
    unsigned slow;
};

static void cleaner_done(struct cleaner *c)
{
    free(c->alias);
    free(c->is_output);
}

static wn_vid target(struct cleaner *c, wn_vid v)
{
    while (c->alias[v] != v)
        v = c->alias[v] = c->alias[c->alias[v]];
    return v;
}

static void remove_node(struct cleaner *c, struct wn_node *node)
{
    struct wn_graph *g = c->g;
    wn_vid from = node->out[0], to = target(c, node->in[0]);
    /* An output that is an input's or another output's twin keeps its node: each output needs a value of its own. */
    if (c->is_output[from] && (g->values.at[to].producer == WN_NONE || c->is_output[to]))
        return;
    bool slow = c->is_output[from] || c->subgraphs;
    if (slow && ++c->slow > MAX_SLOW)
        return;
    wn_graph_kill(g, node);
    c->alias[from] = to;
    if (!slow)
        return;
    wn_graph_replace_uses(g, from, to);
    c->is_output[to] = c->is_output[to] || c->is_output[from];
}

static bool has_subgraphs(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned a = 0; a < g->nodes.at[i].n_attr; a++)
            if (g->nodes.at[i].attr[a].kind == WN_ATTR_GRAPH)
                return true;
    return false;
}

enum winnow_status wn_pass_clean(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(cleaner_done) struct cleaner c = { .g = g, .subgraphs = has_subgraphs(g) };
    c.alias = malloc((g->values.n + 1) * sizeof *c.alias);
    c.is_output = calloc(g->values.n + 1, sizeof *c.is_output);
    if (!c.alias || !c.is_output)
        return wn_fail(err, WINNOW_E_NOMEM, "cleaning a graph of %zu nodes", g->nodes.n);
    for (wn_vid v = 0; v < g->values.n; v++)
        c.alias[v] = v;
    for (size_t i = 0; i < g->outputs.n; i++)
        c.is_output[g->outputs.at[i]] = true;
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!g->nodes.at[i].dead && no_op(g, &g->nodes.at[i]))
            remove_node(&c, &g->nodes.at[i]);
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned k = 0; !g->nodes.at[i].dead && k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] != WN_NONE)
                g->nodes.at[i].in[k] = target(&c, g->nodes.at[i].in[k]);
    return WINNOW_OK;
}
