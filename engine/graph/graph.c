/* graph.c: making graphs, values, nodes and attributes; looking at nodes. */
#include "engine/graph/graph.h"
#include "engine/graph/graph_uses.h"

#include <string.h>

/* ---- life ---- */

void wn_graph_init(struct wn_graph *g, struct wn_arena *arena)
{
    *g = (struct wn_graph){ .arena = arena, .name = "", .producer = "" };
}

void wn_graph_done(struct wn_graph *g)
{
    wn_graph_uses_drop(g);
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned a = 0; a < g->nodes.at[i].n_attr; a++)
            if (g->nodes.at[i].attr[a].kind == WN_ATTR_GRAPH && g->nodes.at[i].attr[a].g)
                wn_graph_done(g->nodes.at[i].attr[a].g);
    wn_vec_done(&g->values);
    wn_vec_done(&g->nodes);
    wn_vec_done(&g->inputs);
    wn_vec_done(&g->outputs);
    wn_vec_done(&g->opsets);
    wn_vec_done(&g->meta);
    wn_vec_done(&g->external);
}

/* ---- copy ---- */

static char *dup_str(struct wn_arena *arena, const char *s)
{
    return wn_arena_strndup(arena, s, strlen(s));
}

static bool dup_winnow_str(struct wn_arena *arena, struct winnow_str *s)
{
    return (s->p = wn_arena_strndup(arena, s->p, s->n)) != NULL;
}

static bool copy_attr(struct wn_arena *arena, struct wn_attr *a)
{
    a->name = dup_str(arena, a->name);
    if (a->kind == WN_ATTR_STRING && !dup_winnow_str(arena, &a->s))
        return false;
    if (a->ints)
        a->ints = wn_arena_memdup(arena, a->ints, a->n * sizeof *a->ints);
    if (a->floats)
        a->floats = wn_arena_memdup(arena, a->floats, a->n * sizeof *a->floats);
    if (a->strs) {
        struct winnow_str *strs = wn_arena_memdup(arena, a->strs, a->n * sizeof *strs);
        for (size_t i = 0; strs && i < a->n; i++)
            if (!dup_winnow_str(arena, &strs[i]))
                return false;
        a->strs = strs;
        if (!strs)
            return false;
    }
    return a->name && (a->kind != WN_ATTR_INTS || a->ints || !a->n) &&
           (a->kind != WN_ATTR_FLOATS || a->floats || !a->n);
}

static bool copy_graph(struct wn_graph *to, struct wn_arena *arena, const struct wn_graph *from);

static bool copy_node(struct wn_graph *to, struct wn_node *node)
{
    struct wn_arena *arena = to->arena;
    node->name = dup_str(arena, node->name);
    node->domain = dup_str(arena, node->domain);
    node->op_type = dup_str(arena, node->op_type);
    node->in = wn_arena_memdup(arena, node->in, node->n_in * sizeof *node->in);
    node->out = wn_arena_memdup(arena, node->out, node->n_out * sizeof *node->out);
    const struct wn_attr *old = node->attr;
    unsigned n_attr = node->n_attr;
    node->n_attr = 0; /* counts the finished ones, for wn_graph_done() after a failure */
    node->attr = wn_arena_calloc(arena, n_attr, sizeof *node->attr);
    if (!node->name || !node->domain || !node->op_type || !node->in || !node->out || !node->attr)
        return false;
    for (unsigned i = 0; i < n_attr; i++) {
        struct wn_attr *a = &node->attr[i];
        *a = old[i];
        if (!copy_attr(arena, a))
            return false;
        if (a->kind == WN_ATTR_GRAPH) {
            a->g = wn_arena_alloc(arena, sizeof *a->g);
            if (!a->g || !copy_graph(a->g, arena, old[i].g))
                return false;
            a->g->outer = to;
        }
        node->n_attr = i + 1;
    }
    return true;
}

#define COPY_VEC(to, from)                                                                                             \
    (wn_vec_reserve((to), (from)->n) &&                                                                                \
     ((from)->n ? memcpy((to)->at, (from)->at, (from)->n * sizeof *(from)->at) : (void *)1) &&                         \
     ((to)->n = (from)->n, 1))

/* Own copies of the texts that the copied vectors still share. */
static bool copy_texts(struct wn_graph *g)
{
    bool ok = true;
    for (size_t i = 0; ok && i < g->values.n; i++) {
        struct wn_value *v = &g->values.at[i];
        ok = (v->name = dup_str(g->arena, v->name)) != NULL;
        for (unsigned d = 0; ok && d < WINNOW_MAX_RANK; d++)
            ok = !v->dim_name[d] || (v->dim_name[d] = dup_str(g->arena, v->dim_name[d]));
    }
    for (size_t i = 0; ok && i < g->opsets.n; i++)
        ok = (g->opsets.at[i].domain = dup_str(g->arena, g->opsets.at[i].domain)) != NULL;
    for (size_t i = 0; ok && i < g->meta.n; i++)
        ok = (g->meta.at[i].key = dup_str(g->arena, g->meta.at[i].key)) &&
             (g->meta.at[i].value = dup_str(g->arena, g->meta.at[i].value));
    return ok;
}

/* On failure `to` is empty. */
static bool copy_graph(struct wn_graph *to, struct wn_arena *arena, const struct wn_graph *from)
{
    wn_graph_init(to, arena);
    to->ir_version = from->ir_version;
    to->outer = from->outer;
    to->name = dup_str(arena, from->name);
    to->producer = dup_str(arena, from->producer);
    bool ok = to->name && to->producer && COPY_VEC(&to->values, &from->values) &&
              COPY_VEC(&to->inputs, &from->inputs) && COPY_VEC(&to->outputs, &from->outputs) &&
              COPY_VEC(&to->opsets, &from->opsets) && COPY_VEC(&to->meta, &from->meta) &&
              wn_vec_reserve(&to->nodes, from->nodes.n) && copy_texts(to);
    for (size_t i = 0; ok && i < from->nodes.n; i++) {
        to->nodes.at[i] = from->nodes.at[i];
        to->nodes.n = i + 1;
        ok = copy_node(to, &to->nodes.at[i]);
    }
    if (!ok)
        wn_graph_done(to);
    return ok;
}

enum winnow_status wn_graph_copy(struct wn_graph *to, struct wn_arena *arena, const struct wn_graph *from,
                                 struct winnow_err *err)
{
    if (!copy_graph(to, arena, from))
        return wn_fail(err, WINNOW_E_NOMEM, "copy of a graph with %zu nodes", from->nodes.n);
    return WINNOW_OK;
}

/* ---- adding ---- */

wn_vid wn_graph_add_value(struct wn_graph *g, const char *name, enum winnow_dtype dtype, int rank, const int64_t *dim)
{
    if (g->values.n >= WN_NONE)
        return WN_NONE;
    wn_vid v = (wn_vid)g->values.n;
    struct wn_value value = { .type = { .dtype = dtype, .rank = rank }, .producer = WN_NONE };
    unsigned depth = 0; /* told in made-up names: they are unique along a chain of graphs */
    for (const struct wn_graph *o = g->outer; o; o = o->outer)
        depth++;
    value.name = name    ? dup_str(g->arena, name)
                 : depth ? wn_arena_printf(g->arena, "wn_value_%u_%u", depth, v)
                         : wn_arena_printf(g->arena, "wn_value_%u", v);
    for (int i = 0; i < rank; i++)
        value.type.dim[i] = dim[i];
    return value.name && wn_vec_push(&g->values, value) ? v : WN_NONE;
}

wn_vid wn_graph_add_const(struct wn_graph *g, const char *name, enum winnow_dtype dtype, unsigned rank,
                          const int64_t *dim, const void *data)
{
    struct wn_tensor *t = wn_arena_alloc(g->arena, sizeof *t);
    if (!t || rank > WINNOW_MAX_RANK)
        return WN_NONE;
    t->dtype = dtype;
    t->rank = rank;
    for (unsigned i = 0; i < rank; i++)
        t->dim[i] = dim[i];
    if (!wn_shape_bytes(t->dim, rank, winnow_dtype_size(dtype), &t->bytes))
        return WN_NONE;
    t->data = data ? wn_arena_memdup(g->arena, data, t->bytes) : wn_arena_alloc(g->arena, t->bytes);
    if (!t->data)
        return WN_NONE;
    wn_vid v = wn_graph_add_value(g, name, dtype, (int)rank, t->dim);
    if (v != WN_NONE)
        g->values.at[v].constant = t;
    return v;
}

/* A copy of n ids that is not NULL when n = 0. */
static wn_vid *dup_ids(struct wn_arena *arena, const wn_vid *ids, unsigned n)
{
    return wn_arena_memdup(arena, ids, n * sizeof *ids);
}

static int opset_of(const struct wn_graph *g, const char *domain)
{
    for (; g; g = g->outer)
        for (size_t i = 0; i < g->opsets.n; i++)
            if (strcmp(g->opsets.at[i].domain, domain) == 0)
                return g->opsets.at[i].version;
    return 1;
}

struct wn_node *wn_graph_add_node(struct wn_graph *g, const char *domain, const char *op_type, const char *name,
                                  const wn_vid *in, unsigned n_in, const wn_vid *out, unsigned n_out)
{
    if (g->nodes.n >= WN_NONE)
        return NULL;
    wn_nid id = (wn_nid)g->nodes.n;
    struct wn_node node = {
        .domain = dup_str(g->arena, domain),
        .op_type = dup_str(g->arena, op_type),
        .name = name ? dup_str(g->arena, name) : wn_arena_printf(g->arena, "%s_%u", op_type, id),
        .opset = opset_of(g, domain),
        .n_in = n_in,
        .n_out = n_out,
        .in = dup_ids(g->arena, in, n_in),
        .out = dup_ids(g->arena, out, n_out),
    };
    if (!node.domain || !node.op_type || !node.name || !node.in || !node.out || !wn_vec_push(&g->nodes, node))
        return NULL;
    for (unsigned i = 0; i < n_out; i++)
        if (out[i] != WN_NONE)
            g->values.at[out[i]].producer = id;
    wn_graph_uses_node(g, id, true);
    return &g->nodes.at[id];
}

/* ---- attributes ---- */

static struct wn_attr *find_attr(const struct wn_node *node, const char *name)
{
    for (unsigned i = 0; i < node->n_attr; i++)
        if (strcmp(node->attr[i].name, name) == 0)
            return &node->attr[i];
    return NULL;
}

/* Put `attr` (its name not yet copied) into the node. */
static bool set_attr(struct wn_graph *g, struct wn_node *node, struct wn_attr attr)
{
    struct wn_attr *old = find_attr(node, attr.name);
    if (old) {
        attr.name = old->name;
        *old = attr;
        return true;
    }
    attr.name = dup_str(g->arena, attr.name);
    struct wn_attr *grown = wn_arena_calloc(g->arena, node->n_attr + 1u, sizeof *grown);
    if (!attr.name || !grown)
        return false;
    if (node->n_attr)
        memcpy(grown, node->attr, node->n_attr * sizeof *grown);
    grown[node->n_attr++] = attr;
    node->attr = grown;
    return true;
}

bool wn_node_set_int(struct wn_graph *g, struct wn_node *node, const char *name, int64_t v)
{
    return set_attr(g, node, (struct wn_attr){ .name = name, .kind = WN_ATTR_INT, .i = v });
}

bool wn_node_set_float(struct wn_graph *g, struct wn_node *node, const char *name, float v)
{
    return set_attr(g, node, (struct wn_attr){ .name = name, .kind = WN_ATTR_FLOAT, .f = v });
}

bool wn_node_set_ints(struct wn_graph *g, struct wn_node *node, const char *name, const int64_t *v, size_t n)
{
    const int64_t *ints = wn_arena_memdup(g->arena, v, n * sizeof *v);
    return ints && set_attr(g, node, (struct wn_attr){ .name = name, .kind = WN_ATTR_INTS, .n = n, .ints = ints });
}

bool wn_node_set_str(struct wn_graph *g, struct wn_node *node, const char *name, const char *v)
{
    struct winnow_str s = { dup_str(g->arena, v), strlen(v) };
    return s.p && set_attr(g, node, (struct wn_attr){ .name = name, .kind = WN_ATTR_STRING, .s = s });
}

const struct wn_attr *wn_node_attr(const struct wn_node *node, const char *name)
{
    return find_attr(node, name);
}

int64_t wn_node_int(const struct wn_node *node, const char *name, int64_t def)
{
    const struct wn_attr *a = find_attr(node, name);
    return a && a->kind == WN_ATTR_INT ? a->i : def;
}

float wn_node_float(const struct wn_node *node, const char *name, float def)
{
    const struct wn_attr *a = find_attr(node, name);
    return a && a->kind == WN_ATTR_FLOAT ? a->f : def;
}

const int64_t *wn_node_ints(const struct wn_node *node, const char *name, size_t *n)
{
    const struct wn_attr *a = find_attr(node, name);
    bool ok = a && a->kind == WN_ATTR_INTS;
    *n = ok ? a->n : 0;
    return ok ? a->ints : NULL;
}

bool wn_node_str_is(const struct wn_node *node, const char *name, const char *def, const char *want)
{
    const struct wn_attr *a = find_attr(node, name);
    if (!a)
        return def && strcmp(def, want) == 0;
    size_t n = strlen(want);
    return a->kind == WN_ATTR_STRING && a->s.n == n && memcmp(a->s.p, want, n) == 0;
}

bool wn_node_is(const struct wn_node *node, const char *op_type)
{
    return wn_node_is_in(node, "", op_type);
}

bool wn_node_is_view(const struct wn_node *node)
{
    static const char *const views[] = { "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout" };
    for (size_t i = 0; i < WN_COUNT(views); i++)
        if (wn_node_is(node, views[i]))
            return node->n_out == 1 || node->out[1] == WN_NONE;
    return false;
}

bool wn_node_is_in(const struct wn_node *node, const char *domain, const char *op_type)
{
    return node && !node->dead && strcmp(node->op_type, op_type) == 0 && strcmp(node->domain, domain) == 0;
}
