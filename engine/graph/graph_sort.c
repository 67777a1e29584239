/* graph_sort.c: topological order, and dropping what nobody uses.
 *
 * DESIGN  Depth-first from each node in its present order, producers before users: a graph that is in order stays as it
 *         is. One stack of our own, so that a chain of a million nodes costs memory, not call depth. A node with
 *         sub-graphs also depends on the values that those take from outside; they are found by name. */
#include "engine/graph/graph.h"
#include "engine/graph/graph_uses.h"
#include "engine/graph/onnx_scan.h"

#include <stdlib.h>
#include <string.h>
#include "base/strmap.h"

struct sorter {
    struct wn_graph *g;
    wn_nid *producer;     /* [values] by live nodes */
    unsigned char *known; /* [values] input, constant or outer */
    unsigned char *state; /* [nodes] 0 new, 1 on the stack, 2 done */
    size_t *extra_at;     /* [nodes + 1] into extra; NULL when no node has sub-graphs */
    WN_VEC(wn_vid) extra; /* values used inside sub-graphs */
    WN_VEC(wn_nid) order;
    WN_VEC(struct step {
        wn_nid node;
        size_t next; /* input to look at next; past the inputs: extra */
    })
    stack;
    struct wn_strmap by_name;
};

static void sorter_done(struct sorter *s)
{
    free(s->producer);
    free(s->known);
    free(s->state);
    free(s->extra_at);
    wn_vec_done(&s->extra);
    wn_vec_done(&s->order);
    wn_vec_done(&s->stack);
    wn_strmap_done(&s->by_name);
}

static enum winnow_status no_memory(const struct sorter *s, struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_NOMEM, "sorting a graph of %zu nodes", s->g->nodes.n);
}

static enum winnow_status find_producers(struct sorter *s, struct winnow_err *err)
{
    struct wn_graph *g = s->g;
    for (size_t v = 0; v < g->values.n; v++) {
        s->producer[v] = WN_NONE;
        s->known[v] = g->values.at[v].constant || g->values.at[v].outer;
    }
    for (size_t i = 0; i < g->inputs.n; i++)
        s->known[g->inputs.at[i]] = 1;
    for (size_t n = 0; n < g->nodes.n; n++) {
        const struct wn_node *node = &g->nodes.at[n];
        for (unsigned i = 0; !node->dead && i < node->n_out; i++) {
            wn_vid v = node->out[i];
            if (v == WN_NONE)
                continue;
            if (s->producer[v] != WN_NONE || g->values.at[v].outer)
                return wn_fail(err, WINNOW_E_MALFORMED, "node '%.*s': its output '%.*s' is defined twice",
                               WN_CLIP(node->name), WN_CLIP(g->values.at[v].name));
            s->producer[v] = (wn_nid)n;
        }
    }
    return WINNOW_OK;
}

/* Collect into s->extra the values of s->g that `sub`, a graph inside it, takes from it. */
static bool add_outer_uses(struct sorter *s, const struct wn_graph *sub)
{
    for (size_t v = 0; v < sub->values.n; v++) {
        if (!sub->values.at[v].outer)
            continue;
        const char *name = sub->values.at[v].name;
        void *found = wn_strmap_get(&s->by_name, name, strlen(name));
        if (found && !wn_vec_push(&s->extra, (wn_vid)((uintptr_t)found - 1)))
            return false;
    }
    return true;
}

static bool name_values(struct sorter *s)
{
    for (size_t v = 0; v < s->g->values.n; v++) {
        const char *name = s->g->values.at[v].name;
        if ((s->producer[v] != WN_NONE || s->known[v]) &&
            !wn_strmap_set(&s->by_name, name, strlen(name), (void *)(uintptr_t)(v + 1)))
            return false;
    }
    return true;
}

/* Sort the sub-graphs, and find what they need from this graph. */
static enum winnow_status look_into_subgraphs(struct sorter *s, struct winnow_err *err)
{
    struct wn_graph *g = s->g;
    bool any = false;
    for (size_t n = 0; n < g->nodes.n; n++) {
        struct wn_node *node = &g->nodes.at[n];
        for (unsigned a = 0; !node->dead && a < node->n_attr; a++)
            if (node->attr[a].kind == WN_ATTR_GRAPH) {
                enum winnow_status status = wn_graph_sort(node->attr[a].g, err);
                if (status != WINNOW_OK)
                    return wn_fail_at(err, status, "node '%.*s', %.*s", WN_CLIP(node->name),
                                      WN_CLIP(node->attr[a].name));
                any = true;
            }
    }
    if (!any)
        return WINNOW_OK;
    s->extra_at = malloc((g->nodes.n + 1) * sizeof *s->extra_at);
    if (!s->extra_at || !name_values(s))
        return no_memory(s, err);
    for (size_t n = 0; n < g->nodes.n; n++) {
        struct wn_node *node = &g->nodes.at[n];
        s->extra_at[n] = s->extra.n;
        for (unsigned a = 0; !node->dead && a < node->n_attr; a++)
            if (node->attr[a].kind == WN_ATTR_GRAPH && !add_outer_uses(s, node->attr[a].g))
                return no_memory(s, err);
    }
    s->extra_at[g->nodes.n] = s->extra.n;
    return WINNOW_OK;
}

static size_t n_deps(const struct sorter *s, wn_nid n)
{
    return s->g->nodes.at[n].n_in + (s->extra_at ? s->extra_at[n + 1] - s->extra_at[n] : 0);
}

static wn_vid dep(const struct sorter *s, wn_nid n, size_t i)
{
    const struct wn_node *node = &s->g->nodes.at[n];
    return i < node->n_in ? node->in[i] : s->extra.at[s->extra_at[n] + i - node->n_in];
}

static enum winnow_status visit(struct sorter *s, wn_nid root, struct winnow_err *err)
{
    struct wn_graph *g = s->g;
    s->state[root] = 1;
    if (!wn_vec_push(&s->stack, (struct step){ root, 0 }))
        return no_memory(s, err);
    while (s->stack.n) {
        struct step *top = &s->stack.at[s->stack.n - 1];
        wn_nid n = top->node;
        if (top->next == n_deps(s, n)) {
            s->state[n] = 2;
            s->order.at[s->order.n++] = n;
            s->stack.n--;
            continue;
        }
        wn_vid v = dep(s, n, top->next++);
        if (v == WN_NONE || s->known[v])
            continue;
        wn_nid p = s->producer[v];
        if (p == WN_NONE)
            return wn_fail(err, WINNOW_E_MALFORMED, "node '%.*s': nothing makes its input '%.*s'",
                           WN_CLIP(g->nodes.at[n].name), WN_CLIP(g->values.at[v].name));
        if (s->state[p] == 1)
            return wn_fail(err, WINNOW_E_MALFORMED, "node '%.*s': its input '%.*s' depends on its own output (cycle)",
                           WN_CLIP(g->nodes.at[n].name), WN_CLIP(g->values.at[v].name));
        if (s->state[p] == 0) {
            s->state[p] = 1;
            if (!wn_vec_push(&s->stack, (struct step){ p, 0 }))
                return no_memory(s, err);
        }
    }
    return WINNOW_OK;
}

/* Leave in s->order only nodes that an output needs. `used` [values] is zero. */
static void drop_unused(struct sorter *s, unsigned char *used)
{
    struct wn_graph *g = s->g;
    for (size_t i = 0; i < g->outputs.n; i++)
        used[g->outputs.at[i]] = 1;
    size_t keep = s->order.n;
    for (size_t k = s->order.n; k-- > 0;) {
        wn_nid n = s->order.at[k];
        bool need = false;
        for (unsigned i = 0; i < g->nodes.at[n].n_out; i++)
            need |= g->nodes.at[n].out[i] != WN_NONE && used[g->nodes.at[n].out[i]];
        if (!need)
            continue;
        for (size_t i = 0, end = n_deps(s, n); i < end; i++)
            if (dep(s, n, i) != WN_NONE)
                used[dep(s, n, i)] = 1;
        s->order.at[--keep] = n;
    }
    s->order.n -= keep;
    memmove(s->order.at, s->order.at + keep, s->order.n * sizeof *s->order.at);
}

/* Release the vectors of sub-graphs of nodes that are not in the order. `kept` [nodes] is zero. */
static void release_dropped(struct sorter *s, unsigned char *kept)
{
    struct wn_graph *g = s->g;
    for (size_t k = 0; k < s->order.n; k++)
        kept[s->order.at[k]] = 1;
    for (size_t n = 0; n < g->nodes.n; n++)
        for (unsigned a = 0; !kept[n] && a < g->nodes.at[n].n_attr; a++)
            if (g->nodes.at[n].attr[a].kind == WN_ATTR_GRAPH)
                wn_graph_done(g->nodes.at[n].attr[a].g);
}

static enum winnow_status rebuild(struct sorter *s, struct winnow_err *err)
{
    struct wn_graph *g = s->g;
    WN_CLEANUP(wn_freep) struct wn_node *nodes = malloc((s->order.n + 1) * sizeof *nodes);
    WN_CLEANUP(wn_freep) unsigned char *kept = calloc(g->nodes.n + 1, 1);
    if (!nodes || !kept)
        return no_memory(s, err);
    release_dropped(s, kept);
    for (size_t v = 0; v < g->values.n; v++)
        g->values.at[v].producer = WN_NONE;
    for (size_t k = 0; k < s->order.n; k++) {
        nodes[k] = g->nodes.at[s->order.at[k]];
        for (unsigned i = 0; i < nodes[k].n_out; i++)
            if (nodes[k].out[i] != WN_NONE)
                g->values.at[nodes[k].out[i]].producer = (wn_nid)k;
    }
    free(g->nodes.at);
    g->nodes.cap = s->order.n + 1;
    g->nodes.n = s->order.n;
    g->nodes.at = WN_TAKE(nodes);
    return WINNOW_OK;
}

enum winnow_status wn_graph_sort(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(sorter_done) struct sorter s = { .g = g };
    wn_graph_uses_drop(g);
    WN_CLEANUP(wn_freep) unsigned char *used = calloc(g->values.n + 1, 1);
    s.producer = malloc((g->values.n + 1) * sizeof *s.producer);
    s.known = malloc(g->values.n + 1);
    s.state = calloc(g->nodes.n + 1, 1);
    if (!used || !s.producer || !s.known || !s.state || !wn_vec_reserve(&s.order, g->nodes.n + 1))
        return no_memory(&s, err);
    WN_TRY(find_producers(&s, err));
    WN_TRY(look_into_subgraphs(&s, err));
    for (size_t n = 0; n < g->nodes.n; n++)
        if (!g->nodes.at[n].dead && s.state[n] == 0)
            WN_TRY(visit(&s, (wn_nid)n, err));
    for (size_t i = 0; i < g->outputs.n; i++)
        if (!s.known[g->outputs.at[i]] && s.producer[g->outputs.at[i]] == WN_NONE)
            return wn_fail(err, WINNOW_E_MALFORMED, "nothing makes the graph's output '%.*s'",
                           WN_CLIP(g->values.at[g->outputs.at[i]].name));
    drop_unused(&s, used);
    return rebuild(&s, err);
}
