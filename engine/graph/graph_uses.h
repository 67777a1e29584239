/* graph_uses.h: the index behind wn_graph_index(). Internal to engine/graph. */
#ifndef WN_GRAPH_USES_H
#define WN_GRAPH_USES_H

#include "engine/graph/graph.h"

struct wn_use {
    uint64_t sum; /* of the ids of the using nodes, once per use; outputs and sub-graphs add nothing */
    uint32_t n;   /* uses */
};

struct wn_uses {
    struct wn_use *at; /* [n] by value; values past n have no uses yet */
    size_t n;
    bool subgraphs; /* some node has one */
};

void wn_graph_uses_drop(struct wn_graph *g);
/** Node `id` comes, or goes. Nothing when there is no index. */
void wn_graph_uses_node(struct wn_graph *g, wn_nid id, bool add);

#endif
