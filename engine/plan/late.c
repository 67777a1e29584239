/* late.c: what cannot be planned, because its shape depends on data (NonZero, NonMaxSuppression, Loop, …), and all that
 * follows from it.
 *
 * DESIGN  These nodes are the end of every run: nothing that is planned can depend on them. They become one step, which
 *         runs them by their references one after the other (ops/eager.h) with memory of its own. Rejected: planning
 * the rest anew when a shape becomes known; most such nodes stand at the end of detectors, on a handful of boxes. */
#include "engine/plan/late.h"

#include <stdlib.h>
#include <string.h>
#include "engine/ops/eager.h"

#define LATE "Late"

static bool is_constant(const struct wn_plan *plan, wn_vid v)
{
    return plan->g.values.at[v].constant != NULL;
}

/* List what late nodes read of the planned part, once each, and the model's outputs that they make. */
static bool list_edges(struct wn_plan *plan, struct wn_late *l, const bool *made)
{
    const struct wn_graph *g = &plan->g;
    size_t reads = 0;
    for (size_t i = 0; i < l->n_nodes; i++)
        reads += l->nodes[i].n_in;
    bool *seen = wn_arena_calloc(&plan->arena, g->values.n + 1, sizeof *seen);
    l->in = wn_arena_calloc(&plan->arena, reads + 1, sizeof *l->in);
    l->out = wn_arena_calloc(&plan->arena, g->outputs.n + 1, sizeof *l->out);
    l->out_index = wn_arena_calloc(&plan->arena, g->outputs.n + 1, sizeof *l->out_index);
    if (!seen || !l->in || !l->out || !l->out_index)
        return false;
    for (size_t i = 0; i < l->n_nodes; i++)
        for (unsigned k = 0; k < l->nodes[i].n_in; k++) {
            wn_vid v = l->nodes[i].in[k];
            if (v == WN_NONE || made[v] || seen[v] || is_constant(plan, v))
                continue;
            seen[v] = true;
            l->in[l->n_in++] = v;
        }
    for (size_t i = 0; i < g->outputs.n; i++)
        if (made[g->outputs.at[i]]) {
            l->out_index[l->n_out] = (uint32_t)i;
            l->out[l->n_out++] = g->outputs.at[i];
        }
    return true;
}

static bool makes_late(const struct wn_node *node, const bool *late)
{
    for (unsigned k = 0; k < node->n_out; k++)
        if (node->out[k] != WN_NONE && late[node->out[k]])
            return true;
    return false;
}

enum winnow_status wn_late_split(struct wn_plan *plan, const bool *late, struct winnow_err *err)
{
    struct wn_graph *g = &plan->g;
    struct wn_late *l = wn_arena_calloc(&plan->arena, 1, sizeof *l);
    if (!l || !(l->nodes = wn_arena_calloc(&plan->arena, g->nodes.n + 1, sizeof *l->nodes)))
        return wn_fail(err, WINNOW_E_NOMEM, "plan");
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (node->dead || !makes_late(node, late))
            continue;
        l->nodes[l->n_nodes++] = *node;
        wn_graph_kill(g, node);
    }
    if (!list_edges(plan, l, late) ||
        !wn_graph_add_node(g, "wn", LATE, NULL, l->in, (unsigned)l->n_in, l->out, (unsigned)l->n_out))
        return wn_fail(err, WINNOW_E_NOMEM, "plan");
    plan->late = l;
    return WINNOW_OK;
}

bool wn_late_makes(const struct wn_plan *plan, unsigned output)
{
    for (size_t i = 0; plan->late && i < plan->late->n_out; i++)
        if (plan->late->out_index[i] == output)
            return true;
    return false;
}

/* ---- running ---- */

struct late_arg {
    const struct wn_late *late;
    struct wn_loc *loc;                /* [n_in] */
    struct wn_tensor *in;              /* [n_in] types */
    const struct wn_tensor **constant; /* [n_values] */
    size_t limit;
};

static enum winnow_status run_late_nodes(const struct late_arg *a, struct wn_exec *exec, struct winnow_err *err)
{
    const struct wn_late *l = a->late;
    WN_CLEANUP(wn_freep) const struct wn_tensor **value = malloc((l->n_values + 1) * sizeof *value);
    WN_CLEANUP(wn_freep) struct wn_tensor *in = malloc((l->n_in + 1) * sizeof *in);
    WN_CLEANUP(wn_freep) struct wn_tensor *out = calloc(l->n_out + 1, sizeof *out);
    if (!value || !in || !out)
        return wn_fail(err, WINNOW_E_NOMEM, "%zu nodes", l->n_nodes);
    memcpy(value, a->constant, l->n_values * sizeof *value);
    for (size_t i = 0; i < l->n_in; i++) {
        in[i] = a->in[i];
        in[i].data = wn_at(exec, a->loc[i]);
        value[l->in[i]] = &in[i];
    }
    struct wn_budget budget;
    wn_budget_init(&budget, exec->loops);
    struct wn_eager e = { .nodes = l->nodes,
                          .n_nodes = l->n_nodes,
                          .n_values = l->n_values,
                          .outputs = l->out,
                          .n_outputs = l->n_out,
                          .limit = a->limit,
                          .budget = &budget };
    wn_arena_done(&exec->late_mem);
    wn_arena_init(&exec->late_mem, a->limit);
    WN_TRY(wn_eager_run(&e, value, out, &exec->late_mem, err));
    for (size_t i = 0; i < l->n_out; i++)
        exec->late[l->out_index[i]] = out[i];
    return WINNOW_OK;
}

static void run_late(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    if (exec->status == WINNOW_OK)
        exec->status = run_late_nodes(step->arg, exec, &exec->err);
}

/* Constants of the late nodes are read in every run; those that a layer among them has to itself must stay. */
static enum winnow_status pin_constants(struct wn_lower *lo, const struct wn_late *l, const struct wn_tensor **constant)
{
    for (size_t i = 0; i < l->n_nodes; i++)
        for (unsigned k = 0; k < l->nodes[i].n_in; k++) {
            const wn_vid v = l->nodes[i].in[k];
            const void *data;
            if (v == WN_NONE || !constant[v])
                continue;
            WN_TRY(wn_facts_pin(lo->model->facts, constant[v], &data, lo->err));
            if (data == constant[v]->data)
                continue;
            struct wn_tensor *again = wn_arena_memdup(&lo->plan->arena, constant[v], sizeof *again);
            if (!again)
                return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
            again->data = (void *)(uintptr_t)data;
            constant[v] = again;
        }
    return WINNOW_OK;
}

enum winnow_status wn_lower_late(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_plan *plan = lo->plan;
    struct wn_late *l = plan->late;
    *done = wn_node_is_in(node, "wn", LATE);
    if (!*done)
        return WINNOW_OK;
    l->n_values = plan->g.values.n;
    struct late_arg *a = wn_arena_calloc(&plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    a->late = l;
    a->limit = lo->model->opts.max_memory_bytes;
    a->loc = wn_arena_calloc(&plan->arena, l->n_in + 1, sizeof *a->loc);
    a->in = wn_arena_calloc(&plan->arena, l->n_in + 1, sizeof *a->in);
    a->constant = wn_arena_calloc(&plan->arena, l->n_values + 1, sizeof *a->constant);
    if (!a->loc || !a->in || !a->constant)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (size_t v = 0; v < l->n_values; v++)
        a->constant[v] = plan->g.values.at[v].constant;
    WN_TRY(pin_constants(lo, l, a->constant));
    for (size_t i = 0; i < l->n_in; i++) {
        const struct wn_type *t = wn_lower_type(lo, l->in[i]);
        a->in[i] =
            (struct wn_tensor){ .dtype = t->dtype, .rank = (unsigned)t->rank, .bytes = wn_lower_bytes(lo, l->in[i]) };
        memcpy(a->in[i].dim, t->dim, sizeof a->in[i].dim);
        WN_TRY(wn_lower_plain(lo, l->in[i], &a->loc[i]));
    }
    struct wn_step *step = wn_lower_step(lo, node, "ref:late", run_late, a);
    if (!step)
        return WINNOW_E_NOMEM;
    step->serial = true;
    step->out = WN_NONE;
    for (size_t i = 0; i < l->n_in; i++)
        wn_lower_touch(lo, a->loc[i]);
    return WINNOW_OK;
}
