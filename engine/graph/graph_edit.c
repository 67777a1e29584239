/* graph_edit.c: who uses a value, and making them use another.
 *
 * DESIGN  While passes run, an index counts each value's uses and adds up the ids of the using nodes: where all uses
 * are one node's, the sum divided by the count is that node, and one look at its inputs proves it. Without the index
 *         every question is linear in the graph. */
#include "engine/graph/graph.h"
#include "engine/graph/graph_uses.h"

#include <stdlib.h>
#include <string.h>
#include "base/strmap.h"

struct wn_node *wn_graph_producer(struct wn_graph *g, wn_vid v)
{
    if (v == WN_NONE || g->values.at[v].producer == WN_NONE)
        return NULL;
    struct wn_node *node = &g->nodes.at[g->values.at[v].producer];
    return node->dead ? NULL : node;
}

/* The value of `sub` that stands for the value `name` of the graph around it, or WN_NONE. */
static wn_vid find_outer(const struct wn_graph *sub, const char *name)
{
    for (size_t v = 0; v < sub->values.n; v++)
        if (sub->values.at[v].outer && strcmp(sub->values.at[v].name, name) == 0)
            return (wn_vid)v;
    return WN_NONE;
}

wn_vid wn_graph_outer_vid(const struct wn_graph *g, wn_vid v)
{
    const struct wn_graph *around = g->outer;
    if (!around || !g->values.at[v].outer)
        return WN_NONE;
    for (size_t i = 0; i < around->values.n; i++)
        if (strcmp(around->values.at[i].name, g->values.at[v].name) == 0)
            return (wn_vid)i;
    return WN_NONE;
}

const struct wn_value *wn_graph_outer_value(const struct wn_graph *g, wn_vid v)
{
    if (!g->values.at[v].outer)
        return NULL;
    for (; g->values.at[v].outer; g = g->outer)
        if ((v = wn_graph_outer_vid(g, v)) == WN_NONE)
            return NULL;
    return &g->values.at[v];
}

/* ---- the index ---- */

static struct wn_use *use_of(const struct wn_graph *g, wn_vid v)
{
    return v < g->uses->n ? &g->uses->at[v] : NULL;
}

void wn_graph_uses_drop(struct wn_graph *g)
{
    if (g->uses)
        free(g->uses->at);
    free(g->uses);
    g->uses = NULL;
}

/* Room for all values; the index is dropped when there is no memory. */
static bool make_room(struct wn_graph *g)
{
    struct wn_uses *u = g->uses;
    if (g->values.n <= u->n)
        return true;
    size_t want = g->values.n + g->values.n / 2 + 64;
    struct wn_use *at = realloc(u->at, want * sizeof *at);
    if (!at) {
        wn_graph_uses_drop(g);
        return false;
    }
    memset(at + u->n, 0, (want - u->n) * sizeof *at);
    u->at = at;
    u->n = want;
    return true;
}

void wn_graph_uses_node(struct wn_graph *g, wn_nid id, bool add)
{
    if (!g->uses || !make_room(g))
        return;
    const struct wn_node *node = &g->nodes.at[id];
    for (unsigned i = 0; i < node->n_in; i++) {
        if (node->in[i] == WN_NONE)
            continue;
        struct wn_use *use = &g->uses->at[node->in[i]];
        use->n += add ? 1u : -1u;
        use->sum += add ? id : -(uint64_t)id;
    }
    for (unsigned a = 0; a < node->n_attr; a++)
        g->uses->subgraphs |= node->attr[a].kind == WN_ATTR_GRAPH;
}

/* A value that a sub-graph may use has one use that is nobody's. */
static bool count_outer(struct wn_graph *g)
{
    struct wn_strmap by_name = { 0 };
    bool ok = true;
    for (size_t v = 0; v < g->values.n && ok; v++)
        ok = wn_strmap_set(&by_name, g->values.at[v].name, strlen(g->values.at[v].name), (void *)(uintptr_t)(v + 1));
    for (size_t n = 0; n < g->nodes.n && ok; n++)
        for (unsigned a = 0; !g->nodes.at[n].dead && a < g->nodes.at[n].n_attr; a++) {
            const struct wn_attr *attr = &g->nodes.at[n].attr[a];
            for (size_t v = 0; attr->kind == WN_ATTR_GRAPH && v < attr->g->values.n; v++) {
                const char *name = attr->g->values.at[v].name;
                void *found = attr->g->values.at[v].outer ? wn_strmap_get(&by_name, name, strlen(name)) : NULL;
                if (found)
                    g->uses->at[(uintptr_t)found - 1].n++;
            }
        }
    wn_strmap_done(&by_name);
    return ok;
}

void wn_graph_index(struct wn_graph *g)
{
    wn_graph_uses_drop(g);
    g->uses = calloc(1, sizeof *g->uses);
    if (!g->uses || !make_room(g))
        return;
    for (size_t n = 0; n < g->nodes.n; n++)
        if (!g->nodes.at[n].dead)
            wn_graph_uses_node(g, (wn_nid)n, true);
    for (size_t i = 0; i < g->outputs.n; i++)
        g->uses->at[g->outputs.at[i]].n++;
    if (g->uses->subgraphs && !count_outer(g))
        wn_graph_uses_drop(g);
}

static unsigned own_uses(const struct wn_node *node, wn_vid v)
{
    unsigned own = 0;
    for (unsigned i = 0; i < node->n_in; i++)
        own += node->in[i] == v;
    return own;
}

/* By the index: the node that all uses of v come from, or NULL. */
static struct wn_node *indexed_user(struct wn_graph *g, wn_vid v)
{
    const struct wn_use *use = use_of(g, v);
    if (!use || !use->n || use->sum % use->n || use->sum / use->n >= g->nodes.n)
        return NULL;
    struct wn_node *node = &g->nodes.at[use->sum / use->n];
    return !node->dead && own_uses(node, v) == use->n ? node : NULL;
}

/* ---- questions ---- */

unsigned wn_graph_n_uses(const struct wn_graph *g, wn_vid v)
{
    if (g->uses)
        return use_of(g, v) ? use_of(g, v)->n : 0;
    unsigned uses = 0;
    for (size_t n = 0; n < g->nodes.n; n++) {
        const struct wn_node *node = &g->nodes.at[n];
        if (node->dead)
            continue;
        for (unsigned i = 0; i < node->n_in; i++)
            uses += node->in[i] == v;
        for (unsigned a = 0; a < node->n_attr; a++) {
            const struct wn_graph *sub = node->attr[a].kind == WN_ATTR_GRAPH ? node->attr[a].g : NULL;
            wn_vid inner = sub ? find_outer(sub, g->values.at[v].name) : WN_NONE;
            if (inner != WN_NONE)
                uses += wn_graph_n_uses(sub, inner);
        }
    }
    for (size_t i = 0; i < g->outputs.n; i++)
        uses += g->outputs.at[i] == v;
    return uses;
}

struct wn_node *wn_graph_only_user(struct wn_graph *g, wn_vid v)
{
    struct wn_node *user = NULL;
    if (g->uses)
        return indexed_user(g, v);
    for (size_t n = 0; n < g->nodes.n; n++) {
        struct wn_node *node = &g->nodes.at[n];
        for (unsigned i = 0; !node->dead && i < node->n_in; i++)
            if (node->in[i] == v) {
                if (user && user != node)
                    return NULL;
                user = node;
            }
    }
    if (!user)
        return NULL;
    return wn_graph_n_uses(g, v) == own_uses(user, v) ? user : NULL;
}

static bool listed(const wn_vid *ids, size_t n, wn_vid v)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == v)
            return true;
    return false;
}

/* In all sub-graphs: what stands for the outer value `old_name` shall stand for `new_name`. */
static void rename_outer(struct wn_graph *g, const char *old_name, const char *new_name)
{
    for (size_t n = 0; n < g->nodes.n; n++)
        for (unsigned a = 0; !g->nodes.at[n].dead && a < g->nodes.at[n].n_attr; a++) {
            if (g->nodes.at[n].attr[a].kind != WN_ATTR_GRAPH)
                continue;
            struct wn_graph *sub = g->nodes.at[n].attr[a].g;
            wn_vid from = find_outer(sub, old_name), to = find_outer(sub, new_name);
            if (from == WN_NONE)
                continue;
            rename_outer(sub, old_name, new_name);
            if (to != WN_NONE)
                wn_graph_replace_uses(sub, from, to);
            else
                sub->values.at[from].name = new_name;
        }
}

/* What is known of `from`, an output, is kept for `to`, which takes its place. */
static void keep_declaration(struct wn_value *to, const struct wn_value *from)
{
    if (to->type.dtype == WINNOW_UNDEFINED)
        to->type.dtype = from->type.dtype;
    if (to->type.rank < 0) {
        to->type.rank = from->type.rank;
        memcpy(to->type.dim, from->type.dim, sizeof to->type.dim);
    }
    if (to->type.rank == from->type.rank)
        memcpy(to->dim_name, from->dim_name, sizeof to->dim_name);
}

static void replace_in(struct wn_graph *g, wn_nid id, wn_vid from, wn_vid to)
{
    struct wn_node *node = &g->nodes.at[id];
    if (node->dead || !own_uses(node, from))
        return;
    wn_graph_uses_node(g, id, false);
    for (unsigned i = 0; i < node->n_in; i++)
        if (node->in[i] == from)
            node->in[i] = to;
    wn_graph_uses_node(g, id, true);
}

/* True when the index knew that there is one user, or none. */
static bool replace_indexed(struct wn_graph *g, wn_vid from, wn_vid to)
{
    if (!g->uses || g->uses->subgraphs)
        return false;
    struct wn_node *user = indexed_user(g, from);
    if (user)
        replace_in(g, (wn_nid)(user - g->nodes.at), from, to);
    return user || !wn_graph_n_uses(g, from);
}

void wn_graph_replace_uses(struct wn_graph *g, wn_vid from, wn_vid to)
{
    if (from == to || replace_indexed(g, from, to))
        return;
    for (size_t n = 0; n < g->nodes.n; n++)
        replace_in(g, (wn_nid)n, from, to);
    struct wn_value *f = &g->values.at[from], *t = &g->values.at[to];
    const char *f_name = f->name, *t_name = t->name;
    bool is_output = listed(g->outputs.at, g->outputs.n, from);
    bool to_is_fixed = t->outer || listed(g->outputs.at, g->outputs.n, to) || listed(g->inputs.at, g->inputs.n, to);
    if (!is_output || (to_is_fixed && !g->outer)) {
        rename_outer(g, f_name, t_name);
        return;
    }
    for (size_t i = 0; i < g->outputs.n; i++)
        if (g->outputs.at[i] == from) {
            g->outputs.at[i] = to;
            if (g->uses && make_room(g)) {
                g->uses->at[from].n--;
                g->uses->at[to].n++;
            }
        }
    if (to_is_fixed) { /* a sub-graph's outputs are told by position, their names do not matter */
        rename_outer(g, f_name, t_name);
        return;
    }
    keep_declaration(t, f);
    char *spare = wn_arena_printf(g->arena, "%s/replaced_%u", f_name, from);
    f->name = spare ? spare : "";
    t->name = f_name;
    rename_outer(g, t_name, f_name);
}

void wn_graph_kill(struct wn_graph *g, struct wn_node *node)
{
    wn_nid id = (wn_nid)(node - g->nodes.at);
    if (!node->dead)
        wn_graph_uses_node(g, id, false);
    node->dead = true;
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE && g->values.at[node->out[i]].producer == id)
            g->values.at[node->out[i]].producer = WN_NONE;
}
