/* graph_capture.c: what a sub-graph takes from the graphs around it becomes an input of its own.
 *
 * DESIGN  If, Loop and Scan may name any value of the graphs around their bodies. Such a value is appended to the
 * node's inputs, and to the inputs of each of its sub-graphs, in the same order: a sub-graph is then a function of its
 *         inputs, and passes, plans and the order of nodes need to know nothing else about it. Constants stay where
 *         they are used. The innermost graphs come first: what they take from further out, the graph between takes. */
#include "engine/graph/graph.h"
#include "engine/graph/onnx_scan.h"

#include <stdlib.h>
#include <string.h>
#include "base/strmap.h"

#define MAX_CAPTURED 64u /* values by one node; more than an operator may have as inputs (ops.h) */

struct capture {
    struct wn_graph *g;
    struct wn_strmap by_name; /* values of g: index + 1; filled when the first node with sub-graphs is met */
    bool named;
    wn_vid taken[MAX_CAPTURED];
    unsigned n;
};

static void capture_done(struct capture *c)
{
    wn_strmap_done(&c->by_name);
}

static bool name_values(struct capture *c)
{
    for (size_t v = 0; !c->named && v < c->g->values.n; v++) {
        const char *name = c->g->values.at[v].name;
        if (!wn_strmap_set(&c->by_name, name, strlen(name), (void *)(uintptr_t)(v + 1)))
            return false;
    }
    c->named = true;
    return true;
}

/* Add the values of c->g that `sub` takes to the list. Constants lose their tie to the graph around. */
static enum winnow_status list_taken(struct capture *c, struct wn_graph *sub, struct winnow_err *err)
{
    for (size_t i = 0; i < sub->values.n; i++) {
        struct wn_value *value = &sub->values.at[i];
        if (value->outer && value->constant)
            value->outer = false;
        if (!value->outer)
            continue;
        wn_vid v = (wn_vid)((uintptr_t)wn_strmap_get(&c->by_name, value->name, strlen(value->name)) - 1u);
        if (v == WN_NONE)
            return wn_fail(err, WINNOW_E_MALFORMED, "nothing makes '%.*s'", WN_CLIP(value->name));
        unsigned k = 0;
        while (k < c->n && c->taken[k] != v)
            k++;
        if (k == MAX_CAPTURED)
            return wn_fail(err, WINNOW_E_UNSUPPORTED, "its sub-graphs take more than %u values from around them",
                           MAX_CAPTURED);
        if (k == c->n)
            c->taken[c->n++] = v;
    }
    return WINNOW_OK;
}

/* Every value of the list becomes an input of `sub`, in order, whether it uses it or not. */
static bool make_inputs(const struct capture *c, struct wn_graph *sub)
{
    wn_vid inner[MAX_CAPTURED];
    for (unsigned k = 0; k < c->n; k++)
        inner[k] = WN_NONE;
    for (size_t i = 0; i < sub->values.n; i++)
        for (unsigned k = 0; sub->values.at[i].outer && k < c->n; k++)
            if (strcmp(sub->values.at[i].name, c->g->values.at[c->taken[k]].name) == 0) {
                inner[k] = (wn_vid)i;
                sub->values.at[i].outer = false;
            }
    for (unsigned k = 0; k < c->n; k++) {
        if (inner[k] == WN_NONE)
            inner[k] = wn_graph_add_value(sub, NULL, WINNOW_UNDEFINED, -1, NULL);
        if (inner[k] == WN_NONE || !wn_vec_push(&sub->inputs, inner[k]))
            return false;
    }
    return true;
}

static bool append_inputs(const struct capture *c, struct wn_node *node)
{
    wn_vid *in = wn_arena_calloc(c->g->arena, (size_t)node->n_in + c->n, sizeof *in);
    if (!in)
        return false;
    memcpy(in, node->in, node->n_in * sizeof *in);
    memcpy(in + node->n_in, c->taken, c->n * sizeof *in);
    node->in = in;
    node->n_in += c->n;
    return wn_node_set_int(c->g, node, WN_CAPTURED_ATTR, c->n);
}

static enum winnow_status capture_node(struct capture *c, struct wn_node *node, struct winnow_err *err)
{
    c->n = 0;
    for (unsigned a = 0; a < node->n_attr; a++)
        if (node->attr[a].kind == WN_ATTR_GRAPH) {
            WN_TRY(wn_graph_capture(node->attr[a].g, err));
            if (!name_values(c))
                return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
            enum winnow_status status = list_taken(c, node->attr[a].g, err);
            if (status != WINNOW_OK)
                return wn_fail_at(err, status, "node '%.*s' (%.*s)", WN_CLIP(node->name), WN_CLIP(node->op_type));
        }
    bool ok = true;
    for (unsigned a = 0; a < node->n_attr && c->n; a++)
        ok = ok && (node->attr[a].kind != WN_ATTR_GRAPH || make_inputs(c, node->attr[a].g));
    return ok && (!c->n || append_inputs(c, node)) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
}

enum winnow_status wn_graph_capture(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(capture_done) struct capture c = { .g = g };
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!g->nodes.at[i].dead)
            WN_TRY(capture_node(&c, &g->nodes.at[i], err));
    return WINNOW_OK;
}
