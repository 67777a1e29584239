/* graph_memory.c: giving back the memory of constants that passes put others in the place of. */
#include "engine/graph/graph.h"

#define WORTH_IT ((size_t)64 << 10) /* smaller ones share pages with others */

static bool overlap(const struct wn_tensor *a, const struct wn_tensor *b)
{
    return (const char *)a->data < (const char *)b->data + b->bytes &&
           (const char *)b->data < (const char *)a->data + a->bytes;
}

/* A constant of `g` or of a graph in it has bytes of t. */
static bool is_held(const struct wn_graph *g, const struct wn_tensor *t)
{
    for (size_t v = 0; v < g->values.n; v++)
        if (g->values.at[v].constant && overlap(g->values.at[v].constant, t))
            return true;
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned a = 0; a < g->nodes.at[i].n_attr; a++)
            if (g->nodes.at[i].attr[a].kind == WN_ATTR_GRAPH && is_held(g->nodes.at[i].attr[a].g, t))
                return true;
    return false;
}

void wn_graph_give_back_tensor(struct wn_graph *g, const struct wn_tensor *t)
{
    if (g->alone && t->bytes >= WORTH_IT && t->dtype != WINNOW_STRING && !is_held(g, t))
        wn_give_back(t->data, t->bytes);
}

void wn_graph_give_back(struct wn_graph *g, wn_vid v)
{
    const struct wn_tensor *t = v == WN_NONE ? NULL : g->values.at[v].constant;
    if (!g->alone || !t || t->bytes < WORTH_IT || wn_graph_n_uses(g, v) > 0)
        return;
    g->values.at[v].constant = NULL;
    wn_graph_give_back_tensor(g, t);
}
