/* eager.c: nodes run one after the other by their references, each when its inputs are there and their shapes known.
 *
 * The bodies of If, Loop and Scan, and what a plan cannot plan because shapes depend on data (plan/late.c). Every
 * node's results have an arena of their own, which goes when the last of them was read, so memory follows liveness. */
#include "engine/ops/eager.h"

#include <stdlib.h>
#include <string.h>

/* What one node made, and how many reads of it are to come. */
struct made {
    struct wn_arena arena;
    struct wn_tensor *out;
    size_t reads;
};

struct eager {
    const struct wn_eager *e;
    const struct wn_tensor **value; /* [n_values] */
    uint32_t *maker;                /* [n_values] 1 + index of the node; 0: an input or a constant */
    struct made *made;              /* [n_nodes] */
    size_t bytes;                   /* alive */
};

static void eager_done(struct eager *x)
{
    for (size_t i = 0; x->made && i < x->e->n_nodes; i++) {
        wn_arena_done(&x->made[i].arena);
        free(x->made[i].out);
    }
    free(x->made);
    free(x->maker);
}

static enum winnow_status count_reads(struct eager *x, struct winnow_err *err)
{
    const struct wn_eager *e = x->e;
    x->made = calloc(e->n_nodes + 1, sizeof *x->made);
    x->maker = calloc(e->n_values + 1, sizeof *x->maker);
    if (!x->made || !x->maker)
        return wn_fail(err, WINNOW_E_NOMEM, "running %zu nodes", e->n_nodes);
    for (size_t i = 0; i < e->n_nodes; i++)
        for (unsigned k = 0; k < e->nodes[i].n_out && !e->nodes[i].dead; k++)
            if (e->nodes[i].out[k] != WN_NONE)
                x->maker[e->nodes[i].out[k]] = (uint32_t)i + 1;
    for (size_t i = 0; i < e->n_nodes; i++)
        for (unsigned k = 0; k < e->nodes[i].n_in && !e->nodes[i].dead; k++) {
            uint32_t m = e->nodes[i].in[k] == WN_NONE ? 0 : x->maker[e->nodes[i].in[k]];
            if (m)
                x->made[m - 1].reads++;
        }
    for (size_t i = 0; i < e->n_outputs; i++)
        if (x->maker[e->outputs[i]])
            x->made[x->maker[e->outputs[i]] - 1].reads++;
    return WINNOW_OK;
}

static void drop(struct eager *x, size_t i)
{
    x->bytes -= x->made[i].arena.total;
    wn_arena_done(&x->made[i].arena);
}

static enum winnow_status run_node(struct eager *x, size_t i, struct winnow_err *err)
{
    const struct wn_node *node = &x->e->nodes[i];
    struct made *m = &x->made[i];
    const struct wn_tensor *in[WN_OP_MAX_IN];
    size_t limit = x->e->limit;
    if (limit && x->bytes >= limit)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "node '%s': more than %zu bytes of activations", node->name, limit);
    enum winnow_status status = wn_budget_node(x->e->budget, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "node '%s' (%s)", node->name, node->op_type);
    for (unsigned k = 0; k < node->n_in; k++)
        in[k] = node->in[k] == WN_NONE ? NULL : x->value[node->in[k]];
    wn_arena_init(&m->arena, limit ? limit - x->bytes : 0);
    struct wn_arena tmp;
    wn_arena_init(&tmp, limit ? limit - x->bytes : 0);
    m->out = calloc(node->n_out + 1u, sizeof *m->out);
    status = m->out ? wn_ops_run_within(node, in, m->out, &m->arena, &tmp, x->e->budget, err)
                    : wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
    wn_arena_done(&tmp);
    WN_TRY(status);
    x->bytes += m->arena.total;
    for (unsigned k = 0; k < node->n_out; k++)
        if (node->out[k] != WN_NONE)
            x->value[node->out[k]] = &m->out[k];
    for (unsigned k = 0; k < node->n_in; k++) {
        uint32_t from = node->in[k] == WN_NONE ? 0 : x->maker[node->in[k]];
        if (from && !--x->made[from - 1].reads)
            drop(x, from - 1);
    }
    if (!m->reads)
        drop(x, i);
    return WINNOW_OK;
}

enum winnow_status wn_tensor_dup(struct wn_tensor *to, const struct wn_tensor *from, struct wn_arena *arena,
                                 struct winnow_err *err)
{
    *to = *from;
    to->data = wn_arena_memdup(arena, from->data, from->bytes);
    if (!to->data)
        return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes of a tensor", from->bytes);
    struct winnow_str *s = to->data;
    for (int64_t i = 0; from->dtype == WINNOW_STRING && i < wn_tensor_count(from); i++)
        if (!(s[i].p = wn_arena_strndup(arena, s[i].p ? s[i].p : "", s[i].n)))
            return wn_fail(err, WINNOW_E_NOMEM, "strings of a tensor");
    return WINNOW_OK;
}

enum winnow_status wn_eager_run(const struct wn_eager *e, const struct wn_tensor **value, struct wn_tensor *out,
                                struct wn_arena *out_arena, struct winnow_err *err)
{
    WN_CLEANUP(eager_done) struct eager x = { .e = e, .value = value };
    WN_TRY(count_reads(&x, err));
    for (size_t i = 0; i < e->n_nodes; i++)
        if (!e->nodes[i].dead)
            WN_TRY(run_node(&x, i, err));
    for (size_t i = 0; i < e->n_outputs; i++) {
        if (!value[e->outputs[i]] || !value[e->outputs[i]]->data)
            return wn_fail(err, WINNOW_E_INTERNAL, "output %zu was not computed", i);
        WN_TRY(wn_tensor_dup(&out[i], value[e->outputs[i]], out_arena, err));
    }
    return WINNOW_OK;
}

/* ---- sub-graphs ---- */

enum winnow_status wn_sub_run(const struct wn_graph *sub, const struct wn_tensor *const *in, size_t n_in,
                              struct wn_tensor *out, struct wn_arena *out_arena, struct wn_budget *budget,
                              struct winnow_err *err)
{
    if (n_in != sub->inputs.n)
        return wn_fail(err, WINNOW_E_MALFORMED, "its graph '%s' has %zu inputs, must have %zu", sub->name,
                       sub->inputs.n, n_in);
    WN_CLEANUP(wn_freep) const struct wn_tensor **value = calloc(sub->values.n + 1, sizeof *value);
    if (!value)
        return wn_fail(err, WINNOW_E_NOMEM, "graph '%s'", sub->name);
    for (size_t v = 0; v < sub->values.n; v++)
        value[v] = sub->values.at[v].constant;
    for (size_t i = 0; i < n_in; i++)
        value[sub->inputs.at[i]] = in[i];
    struct wn_eager e = { .nodes = sub->nodes.at,
                          .n_nodes = sub->nodes.n,
                          .n_values = sub->values.n,
                          .outputs = sub->outputs.at,
                          .n_outputs = sub->outputs.n,
                          .limit =
                              out_arena->limit ? out_arena->limit - WN_MIN(out_arena->total, out_arena->limit - 1) : 0,
                          .budget = budget };
    return wn_eager_run(&e, value, out, out_arena, err);
}

enum winnow_status wn_sub_infer(const struct wn_graph *sub, const struct wn_type *in,
                                const struct wn_tensor *const *value, size_t n_in, unsigned loops, struct wn_type *out,
                                struct winnow_err *err)
{
    static const struct wn_type unknown = { .rank = -1 };
    if (n_in != sub->inputs.n)
        return wn_fail(err, WINNOW_E_MALFORMED, "its graph '%s' has %zu inputs, must have %zu", sub->name,
                       sub->inputs.n, n_in);
    WN_CLEANUP(wn_freep) struct wn_type *type = calloc(sub->values.n + 1, sizeof *type);
    WN_CLEANUP(wn_freep) const struct wn_tensor **known = calloc(sub->values.n + 1, sizeof *known);
    WN_CLEANUP(wn_freep) struct wn_infer *infer = calloc(1, sizeof *infer);
    if (!type || !known || !infer)
        return wn_fail(err, WINNOW_E_NOMEM, "graph '%s'", sub->name);
    for (size_t v = 0; v < sub->values.n; v++) {
        type[v] = unknown;
        known[v] = sub->values.at[v].constant;
        if (known[v]) {
            type[v] = (struct wn_type){ .dtype = known[v]->dtype, .rank = (int)known[v]->rank };
            memcpy(type[v].dim, known[v]->dim, sizeof type[v].dim);
        }
    }
    for (size_t i = 0; i < n_in; i++) {
        type[sub->inputs.at[i]] = in[i];
        known[sub->inputs.at[i]] = value ? value[i] : NULL;
    }
    for (size_t i = 0; i < sub->nodes.n; i++) {
        const struct wn_node *node = &sub->nodes.at[i];
        if (node->dead || !node->op)
            continue;
        WN_CLEANUP(wn_freep) struct wn_type *made = calloc(node->n_out + 1u, sizeof *made);
        if (!made)
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", node->name);
        memset(infer, 0, sizeof *infer);
        infer->node = node;
        infer->n_in = WN_MIN(node->n_in, WN_OP_MAX_IN);
        infer->n_out = node->n_out;
        infer->out = made;
        infer->loops = loops;
        for (unsigned k = 0; k < infer->n_in; k++) {
            infer->given[k] = node->in[k] != WN_NONE;
            infer->in[k] = infer->given[k] ? type[node->in[k]] : unknown;
            infer->value[k] = infer->given[k] ? known[node->in[k]] : NULL;
        }
        for (unsigned k = 0; k < node->n_out; k++)
            made[k] = unknown;
        WN_TRY(wn_ops_infer_node(infer, err));
        for (unsigned k = 0; k < node->n_out; k++)
            if (node->out[k] != WN_NONE)
                type[node->out[k]] = made[k];
    }
    for (size_t i = 0; i < sub->outputs.n; i++)
        out[i] = type[sub->outputs.at[i]];
    return WINNOW_OK;
}
