/* widen.c: f16 and bf16 models run in f32: constants are widened once, inputs by a Cast behind them, outputs narrowed
 * by a Cast before them. Results then differ from f16 arithmetic by its rounding only. */
#include <string.h>
#include "engine/passes/impl.h"

static bool narrow(enum winnow_dtype t)
{
    return t == WINNOW_F16 || t == WINNOW_BF16;
}

static struct wn_node *add_cast(struct wn_graph *g, wn_vid from, wn_vid to, enum winnow_dtype dtype)
{
    struct wn_node *cast = wn_graph_add_node(g, "", "Cast", g->values.at[from].name, &from, 1, &to, 1);
    if (!cast)
        return NULL;
    cast->opset = 13;
    cast->op = wn_ops_find("", "Cast", 13);
    return wn_node_set_int(g, cast, "to", dtype) ? cast : NULL;
}

static enum winnow_status widen_constant(struct wn_graph *g, wn_vid v, struct winnow_err *err)
{
    const struct wn_tensor *t = g->values.at[v].constant;
    struct wn_node cast = { .name = g->values.at[v].name,
                            .op_type = "Cast",
                            .domain = "",
                            .opset = 13,
                            .n_in = 1,
                            .n_out = 1,
                            .op = wn_ops_find("", "Cast", 13) };
    struct wn_attr to = { .name = "to", .kind = WN_ATTR_INT, .i = WINNOW_F32 };
    wn_vid id = v;
    cast.in = cast.out = &id;
    cast.attr = &to;
    cast.n_attr = 1;
    struct wn_tensor *wide = wn_arena_calloc(g->arena, 1, sizeof *wide);
    if (!wide)
        return WN_OOM(err, &cast);
    struct wn_arena tmp;
    wn_arena_init(&tmp, 0);
    enum winnow_status status = wn_ops_run_node(&cast, &t, wide, g->arena, &tmp, err);
    wn_arena_done(&tmp);
    WN_TRY(status);
    g->values.at[v].constant = wide;
    g->values.at[v].type.dtype = WINNOW_F32;
    wn_graph_give_back_tensor(g, t);
    return WINNOW_OK;
}

static wn_vid twin(struct wn_graph *g, wn_vid v, enum winnow_dtype dtype)
{
    struct wn_type t = g->values.at[v].type;
    return wn_graph_add_value(g, NULL, dtype, t.rank, t.dim);
}

static enum winnow_status widen_input(struct wn_graph *g, wn_vid v, struct winnow_err *err)
{
    wn_vid wide = twin(g, v, WINNOW_F32);
    if (wide == WN_NONE)
        return wn_fail(err, WINNOW_E_NOMEM, "input '%s'", g->values.at[v].name);
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned k = 0; k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] == v)
                g->nodes.at[i].in[k] = wide;
    return add_cast(g, v, wide, WINNOW_F32) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "input cast");
}

/* The old value becomes f32 inside; a new one with the output's name carries the narrow result. */
static enum winnow_status narrow_output(struct wn_graph *g, size_t i, struct winnow_err *err)
{
    wn_vid v = g->outputs.at[i];
    enum winnow_dtype dtype = g->values.at[v].type.dtype;
    wn_vid out = twin(g, v, dtype);
    if (out == WN_NONE || !add_cast(g, v, out, dtype))
        return wn_fail(err, WINNOW_E_NOMEM, "output '%s'", g->values.at[v].name);
    const char *name = g->values.at[v].name;
    g->values.at[v].name = g->values.at[out].name;
    g->values.at[out].name = name;
    g->outputs.at[i] = out;
    return WINNOW_OK;
}

/* A Cast in the file that made f16 now makes f32. */
static void widen_casts(struct wn_graph *g, size_t n_nodes)
{
    for (size_t i = 0; i < n_nodes; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (!node->dead && wn_node_is(node, "Cast") && narrow((enum winnow_dtype)wn_node_int(node, "to", 0)))
            wn_node_set_int(g, node, "to", WINNOW_F32);
    }
}

/* Bodies of loops keep their types, and BitCast asks for a width: such models run as they are. */
static bool types_are_fixed(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        for (unsigned a = 0; a < node->n_attr; a++)
            if (node->attr[a].kind == WN_ATTR_GRAPH)
                return true;
        if (wn_node_is(node, "BitCast"))
            return true;
    }
    return false;
}

enum winnow_status wn_pass_widen(struct wn_graph *g, struct winnow_err *err)
{
    bool any = false;
    for (size_t i = 0; i < g->values.n && !any; i++)
        any = narrow(g->values.at[i].type.dtype);
    if (!any || types_are_fixed(g))
        return WINNOW_OK;
    size_t n_values = g->values.n, n_nodes = g->nodes.n;
    widen_casts(g, n_nodes);
    for (size_t i = 0; i < g->inputs.n; i++)
        if (narrow(g->values.at[g->inputs.at[i]].type.dtype))
            WN_TRY(widen_input(g, g->inputs.at[i], err));
    for (size_t i = 0; i < g->outputs.n; i++)
        if (narrow(g->values.at[g->outputs.at[i]].type.dtype) && g->values.at[g->outputs.at[i]].producer != WN_NONE)
            WN_TRY(narrow_output(g, i, err));
    for (size_t i = 0; i < n_values; i++) {
        struct wn_value *v = &g->values.at[i];
        if (!narrow(v->type.dtype))
            continue;
        if (v->constant)
            WN_TRY(widen_constant(g, (wn_vid)i, err));
        else if (v->producer != WN_NONE)
            v->type.dtype = WINNOW_F32;
    }
    return WINNOW_OK;
}
