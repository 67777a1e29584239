/* specialize.c: a copy of the model's graph for concrete input shapes. Shapes are inferred in order; a node all of
 * whose inputs have become constant (Shape, and the arithmetic on it) is run here and now and disappears. A node whose
 * shapes depend on data, and what follows from it, is left for later (late.h). */
#include "engine/ops/ops.h"
#include "engine/passes/passes.h"
#include "engine/plan/late.h"
#include "engine/plan/plan.h"

#include <string.h>

/* A shape computation may hold some values; a node making more than this at plan time is run in the plan instead. */
#define FOLD_MAX_BYTES (16u << 20)
#define FOLD_WORK      (UINT64_C(1) << 30) /* of all of them (wn_ops_work()) */

static bool concrete(const struct wn_type *t)
{
    if (t->rank < 0 || t->dtype == WINNOW_UNDEFINED)
        return false;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0)
            return false;
    return true;
}

/* Shape and Size need the input's type only. */
static bool needs_no_data(const struct wn_node *node)
{
    return wn_node_is(node, "Shape") || wn_node_is(node, "Size");
}

/* A sub-graph is run while planning only where nothing in it can take long: its shapes are not known before. */
static bool may_take_long(const struct wn_node *node)
{
    if (wn_node_is(node, "Loop") || wn_node_is(node, "Scan"))
        return true;
    for (unsigned a = 0; a < node->n_attr; a++) {
        const struct wn_graph *sub = node->attr[a].kind == WN_ATTR_GRAPH ? node->attr[a].g : NULL;
        for (size_t i = 0; sub && i < sub->nodes.n; i++)
            if (may_take_long(&sub->nodes.at[i]) ||
                (!wn_node_is(&sub->nodes.at[i], "If") && !wn_ops_work_is_linear(&sub->nodes.at[i])))
                return true;
    }
    return false;
}

static bool all_known(const struct wn_graph *g, const struct wn_node *node)
{
    if (may_take_long(node))
        return false;
    if (node->fused && strcmp(node->domain, "wn") == 0)
        return false; /* a layer's weights may be in its packs only */
    for (unsigned i = 0; i < node->n_in; i++)
        if (node->in[i] != WN_NONE && !g->values.at[node->in[i]].constant)
            return needs_no_data(node) && concrete(&g->values.at[node->in[i]].type);
    return node->n_out > 0;
}

static enum winnow_status fold(struct wn_plan *plan, struct wn_node *node, struct winnow_err *err)
{
    struct wn_graph *g = &plan->g;
    const struct wn_tensor *in[WN_OP_MAX_IN];
    struct wn_tensor typed = { 0 };
    for (unsigned i = 0; i < node->n_in; i++) {
        in[i] = node->in[i] == WN_NONE ? NULL : g->values.at[node->in[i]].constant;
        if (node->in[i] != WN_NONE && !in[i]) { /* Shape of a value without data */
            const struct wn_type *t = &g->values.at[node->in[i]].type;
            typed.dtype = t->dtype;
            typed.rank = (unsigned)t->rank;
            memcpy(typed.dim, t->dim, sizeof typed.dim);
            in[i] = &typed;
        }
    }
    struct wn_tensor *out = wn_arena_calloc(&plan->arena, node->n_out, sizeof *out);
    if (!out)
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
    struct wn_arena tmp;
    wn_arena_init(&tmp, 0);
    enum winnow_status status = wn_ops_run_node(node, in, out, &plan->arena, &tmp, err);
    wn_arena_done(&tmp);
    WN_TRY(status);
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE) {
            struct wn_value *v = &g->values.at[node->out[i]];
            v->constant = &out[i];
            v->type.dtype = out[i].dtype;
            v->type.rank = (int)out[i].rank;
            memcpy(v->type.dim, out[i].dim, sizeof out[i].dim);
        }
    node->dead = true;
    return WINNOW_OK;
}

/* A node is late where its outputs are not known before it runs, or an input of it is late. Strings that a sub-graph
 * makes need memory that a planned step does not have. */
static bool is_late(const struct wn_graph *g, const struct wn_node *node, const struct wn_type *out,
                    const bool *late_value)
{
    bool sub = false;
    for (unsigned a = 0; a < node->n_attr; a++)
        sub |= node->attr[a].kind == WN_ATTR_GRAPH;
    for (unsigned i = 0; i < node->n_in; i++)
        if (node->in[i] != WN_NONE && late_value[node->in[i]])
            return true;
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE && (!concrete(&out[i]) || (sub && out[i].dtype == WINNOW_STRING)))
            return true;
    return false;
}

static enum winnow_status check_sizes(const struct wn_node *node, const struct wn_type *out, struct winnow_err *err)
{
    size_t bytes;
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE &&
            !wn_shape_bytes(out[i].dim, (unsigned)out[i].rank, winnow_dtype_size(out[i].dtype), &bytes))
            return wn_fail(err, WINNOW_E_TOO_LARGE, "node '%s' (%s): output %u is too large", node->name, node->op_type,
                           i);
    return WINNOW_OK;
}

static size_t out_bytes(const struct wn_node *node, const struct wn_type *out)
{
    size_t total = 0, bytes;
    for (unsigned i = 0; i < node->n_out; i++) {
        if (!concrete(&out[i]) ||
            !wn_shape_bytes(out[i].dim, (unsigned)out[i].rank, winnow_dtype_size(out[i].dtype), &bytes) ||
            !wn_add_size(total, bytes, &total))
            return 0;
    }
    return total;
}

static bool room_for(const struct wn_plan *plan, size_t bytes)
{
    size_t limit = plan->arena.limit;
    return bytes <= FOLD_MAX_BYTES && (!limit || (bytes <= limit / 2 && plan->arena.total <= limit / 2 - bytes));
}

/* Whether there is time to run the node now, which is then spent. That of an If is not known, but in proportion to data
 * that is in memory. */
static bool time_for(struct wn_graph *g, const struct wn_infer *infer)
{
    const uint64_t work = wn_node_is(infer->node, "If") ? 0 : wn_ops_work(infer);
    if (work > g->fold_limit - WN_MIN(g->fold_work, g->fold_limit))
        return false;
    g->fold_work += work;
    return true;
}

/* Which nodes are late, and their outputs. */
struct lateness {
    bool *node, *value; /* [nodes], [values] */
    bool any;
};

static enum winnow_status infer_node(struct wn_plan *plan, struct wn_node *node, struct lateness *late,
                                     struct winnow_err *err)
{
    struct wn_graph *g = &plan->g;
    struct wn_infer infer;
    struct wn_type *out = wn_arena_calloc(&plan->arena, node->n_out + 1u, sizeof *out);
    if (!out)
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
    wn_ops_infer_prepare(g, node, &infer, out);
    WN_TRY(wn_ops_infer_node(&infer, err));
    if (all_known(g, node) && room_for(plan, out_bytes(node, out)) && time_for(g, &infer))
        return fold(plan, node, err);
    if (is_late(g, node, out, late->value)) {
        late->any = late->node[node - g->nodes.at] = true;
        for (unsigned i = 0; i < node->n_out; i++)
            if (node->out[i] != WN_NONE)
                late->value[node->out[i]] = true;
        return WINNOW_OK;
    }
    WN_TRY(check_sizes(node, out, err));
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE)
            g->values.at[node->out[i]].type = out[i];
    return WINNOW_OK;
}

enum winnow_status wn_plan_specialize(struct wn_plan *plan, const struct wn_graph *from, const struct wn_type *inputs,
                                      struct winnow_err *err)
{
    WN_TRY(wn_graph_copy(&plan->g, &plan->arena, from, err));
    struct wn_graph *g = &plan->g;
    g->fold_work = 0;
    g->fold_limit = FOLD_WORK;
    struct lateness late = { .node = wn_arena_calloc(&plan->arena, g->nodes.n + 1, sizeof *late.node),
                             .value = wn_arena_calloc(&plan->arena, g->values.n + 1, sizeof *late.value) };
    if (!late.node || !late.value)
        return wn_fail(err, WINNOW_E_NOMEM, "plan");
    for (size_t i = 0; i < g->values.n; i++)
        if (!g->values.at[i].constant)
            g->values.at[i].type.rank = -1;
    for (size_t i = 0; i < g->inputs.n; i++)
        g->values.at[g->inputs.at[i]].type = inputs[i];
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!g->nodes.at[i].dead)
            WN_TRY(infer_node(plan, &g->nodes.at[i], &late, err));
    WN_TRY(wn_graph_sort(g, err)); /* what fed only folded nodes goes */
    return late.any ? wn_late_split(plan, late.value, err) : wn_pass_heads(g, err);
}
