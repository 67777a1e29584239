/* table.c: the table of operators, and what is done with it for a node and for a graph.
 *
 * DESIGN  ops.def is sorted by nothing; lookups build an index on first use: a linear scan over ~200 lines per node of
 * a graph with 10^5 nodes would take longer than the rest of loading it. */
#include "engine/ops/eager.h"
#include "engine/ops/impl.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct wn_op ops[] = {
#define OP(domain, type, since, min_in, max_in, min_out, max_out, infer, run, rows)                                    \
    { domain, type, since, min_in, max_in, min_out, max_out, wn_infer_##infer, wn_run_##run, wn_rows_##rows },
#include "engine/ops/ops.def"
#undef OP
};

/* ---- finding ---- */

static const struct wn_op *by_name[WN_COUNT(ops)]; /* by type, domain, newest first */
static pthread_once_t sorted = PTHREAD_ONCE_INIT;

static int cmp_name(const struct wn_op *a, const char *domain, const char *type)
{
    int c = strcmp(a->type, type);
    return c ? c : strcmp(a->domain, domain);
}

static int cmp_ops(const void *pa, const void *pb)
{
    const struct wn_op *a = *(const struct wn_op *const *)pa, *b = *(const struct wn_op *const *)pb;
    int c = cmp_name(a, b->domain, b->type);
    return c ? c : b->since - a->since;
}

static void sort_ops(void)
{
    for (size_t i = 0; i < WN_COUNT(ops); i++)
        by_name[i] = &ops[i];
    qsort(by_name, WN_COUNT(ops), sizeof by_name[0], cmp_ops);
}

const struct wn_op *wn_ops_find(const char *domain, const char *type, int opset)
{
    pthread_once(&sorted, sort_ops);
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    size_t lo = 0, hi = WN_COUNT(ops);
    while (lo < hi) { /* first entry not below (type, domain) */
        size_t mid = (lo + hi) / 2;
        if (cmp_name(by_name[mid], domain, type) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < WN_COUNT(ops) && cmp_name(by_name[lo], domain, type) == 0; lo++)
        if (by_name[lo]->since <= opset)
            return by_name[lo];
    return NULL;
}

const struct wn_op *wn_ops_at(size_t i)
{
    return i < WN_COUNT(ops) ? &ops[i] : NULL;
}

static enum winnow_status resolve_node(struct wn_node *node, struct winnow_err *err)
{
    node->op = wn_ops_find(node->domain, node->op_type, node->opset);
    if (!node->op)
        return wn_lack(err, "node '%s': operator %s%s%s (opset %d) is not supported", node->name,
                       *node->domain ? node->domain : "", *node->domain ? "." : "", node->op_type, node->opset);
    unsigned n_in = node->n_in, n_out = node->n_out; /* omitted ones at the end do not count */
    while (n_in && node->in[n_in - 1] == WN_NONE)
        n_in--;
    while (n_out && node->out[n_out - 1] == WN_NONE)
        n_out--;
    if (n_in < node->op->min_in || n_in > node->op->max_in || node->n_in > WN_OP_MAX_IN)
        return wn_bad(err, "node '%s': %s (opset %d) takes %u to %u inputs, not %u", node->name, node->op_type,
                      node->opset, node->op->min_in, WN_MIN(node->op->max_in, WN_OP_MAX_IN), n_in);
    if (n_out < node->op->min_out || n_out > node->op->max_out)
        return wn_bad(err, "node '%s': %s (opset %d) makes %u to %u outputs, not %u", node->name, node->op_type,
                      node->opset, node->op->min_out, node->op->max_out, n_out);
    for (unsigned i = 0; i < node->op->min_in; i++)
        if (node->in[i] == WN_NONE)
            return wn_bad(err, "node '%s': input %u of %s may not be omitted", node->name, i, node->op_type);
    for (unsigned i = 0; i < node->n_attr; i++)
        if (node->attr[i].kind == WN_ATTR_GRAPH && node->attr[i].g)
            WN_TRY(wn_ops_resolve(node->attr[i].g, err));
    return WINNOW_OK;
}

/* A first output that is omitted gets a value that nobody reads: passes look at every node's first output. */
static enum winnow_status name_first_output(struct wn_graph *g, wn_nid id, struct winnow_err *err)
{
    struct wn_node *node = &g->nodes.at[id];
    if (!node->n_out || node->out[0] != WN_NONE)
        return WINNOW_OK;
    wn_vid v = wn_graph_add_value(g, NULL, WINNOW_UNDEFINED, -1, NULL);
    if (v == WN_NONE)
        return wn_nomem(err);
    node->out[0] = v;
    g->values.at[v].producer = id;
    return WINNOW_OK;
}

enum winnow_status wn_ops_resolve(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!g->nodes.at[i].dead && strcmp(g->nodes.at[i].domain, "wn")) {
            WN_TRY(resolve_node(&g->nodes.at[i], err));
            WN_TRY(name_first_output(g, (wn_nid)i, err));
        }
    return WINNOW_OK;
}

/* ---- inference ---- */

static const struct wn_type unknown = { .dtype = WINNOW_UNDEFINED, .rank = -1 };

void wn_ops_infer_prepare(const struct wn_graph *g, const struct wn_node *node, struct wn_infer *infer,
                          struct wn_type *out)
{
    infer->node = node;
    infer->n_in = WN_MIN(node->n_in, WN_OP_MAX_IN);
    infer->n_out = node->n_out;
    infer->out = out;
    infer->loops = 0;
    for (unsigned i = 0; i < infer->n_in; i++) {
        wn_vid v = node->in[i];
        infer->given[i] = v != WN_NONE;
        infer->in[i] = v != WN_NONE ? g->values.at[v].type : unknown;
        infer->value[i] = v != WN_NONE ? g->values.at[v].constant : NULL;
        if (infer->value[i])
            infer->in[i] = wn_type_of(infer->value[i]);
    }
    for (unsigned i = 0; i < infer->n_out; i++)
        out[i] = unknown;
}

static enum winnow_status at_node(const struct wn_node *node, enum winnow_status status, struct winnow_err *err)
{
    return wn_fail_at(err, status, "node '%s' (%s)", node->name, node->op_type);
}

/* What every rule would have to check of its results. */
static enum winnow_status check_out(const struct wn_type *t, unsigned i, struct winnow_err *err)
{
    if (t->rank > WINNOW_MAX_RANK)
        return wn_lack(err, "output %u has rank %d, at most %d is supported", i, t->rank, WINNOW_MAX_RANK);
    int64_t known[WINNOW_MAX_RANK];
    unsigned n = 0;
    for (int a = 0; a < t->rank; a++) {
        if (t->dim[a] < -1)
            return wn_bad(err, "output %u: extent %lld of axis %d is negative", i, (long long)t->dim[a], a);
        if (t->dim[a] == 0)
            return WINNOW_OK;
        if (t->dim[a] > 0)
            known[n++] = t->dim[a];
    }
    size_t bytes;
    if (!wn_shape_bytes(known, n, t->dtype ? winnow_dtype_size(t->dtype) : 1, &bytes))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "output %u: its size overflows", i);
    return WINNOW_OK;
}

enum winnow_status wn_ops_infer_node(struct wn_infer *infer, struct winnow_err *err)
{
    const struct wn_node *node = infer->node;
    enum winnow_status status = node->op->infer(infer, err);
    for (unsigned i = 0; status == WINNOW_OK && i < infer->n_out; i++)
        status = check_out(&infer->out[i], i, err);
    return status == WINNOW_OK ? status : at_node(node, status, err);
}

/* Join what was inferred with what the file declares. Inferred facts win over unknown ones; a declared extent is not
 * taken over where inference leaves it open: stale annotations are common, and a dynamic batch must stay dynamic. */
static enum winnow_status merge_type(struct wn_value *v, const struct wn_type *t, struct winnow_err *err)
{
    struct wn_type *old = &v->type;
    if (t->dtype && old->dtype && t->dtype != old->dtype)
        return wn_bad(err, "output '%s' is declared %s but is %s", v->name, winnow_dtype_name(old->dtype),
                      winnow_dtype_name(t->dtype));
    if (t->dtype)
        old->dtype = t->dtype;
    if (t->rank < 0)
        return WINNOW_OK;
    if (old->rank >= 0 && old->rank != t->rank)
        return wn_bad(err, "output '%s' is declared with rank %d but has rank %d", v->name, old->rank, t->rank);
    for (int i = 0; i < t->rank; i++)
        if (old->rank >= 0 && old->dim[i] >= 0 && t->dim[i] >= 0 && old->dim[i] != t->dim[i])
            return wn_bad(err, "output '%s' is declared with extent %lld in axis %d but has %lld", v->name,
                          (long long)old->dim[i], i, (long long)t->dim[i]);
    old->rank = t->rank;
    memcpy(old->dim, t->dim, sizeof old->dim);
    return WINNOW_OK;
}

static enum winnow_status infer_one(struct wn_graph *g, const struct wn_node *node, struct wn_infer *infer,
                                    struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_type *out = calloc(node->n_out ? node->n_out : 1, sizeof *out);
    if (!out)
        return wn_nomem(err);
    wn_ops_infer_prepare(g, node, infer, out);
    WN_TRY(wn_ops_infer_node(infer, err));
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE)
            continue;
        enum winnow_status status = merge_type(&g->values.at[node->out[i]], &out[i], err);
        if (status != WINNOW_OK)
            return at_node(node, status, err);
    }
    return WINNOW_OK;
}

enum winnow_status wn_ops_infer_graph(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_infer *infer = calloc(1, sizeof *infer);
    if (!infer)
        return wn_nomem(err);
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!g->nodes.at[i].dead && g->nodes.at[i].op)
            WN_TRY(infer_one(g, &g->nodes.at[i], infer, err));
    return WINNOW_OK;
}

/* ---- running ---- */

static bool type_is_concrete(const struct wn_type *t)
{
    if (t->dtype == WINNOW_UNDEFINED || t->rank < 0)
        return false;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0)
            return false;
    return true;
}

static enum winnow_status alloc_tensor(struct wn_tensor *t, struct wn_arena *arena, struct winnow_err *err)
{
    if (!wn_shape_bytes(t->dim, t->rank, winnow_dtype_size(t->dtype), &t->bytes))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "a tensor's size overflows");
    t->data = wn_arena_alloc(arena, t->bytes);
    return t->data ? WINNOW_OK : wn_nomem(err);
}

enum winnow_status wn_run_alloc(struct wn_run *run, unsigned i, enum winnow_dtype dtype, unsigned rank,
                                const int64_t *dim, struct winnow_err *err)
{
    struct wn_tensor *t = &run->out[i];
    t->dtype = dtype;
    t->rank = rank;
    for (unsigned a = 0; a < rank; a++)
        t->dim[a] = dim[a];
    return alloc_tensor(t, run->tmp, err);
}

/* Operators whose output's shape depends on their inputs' data: they call wn_run_alloc(). */
static bool is_data_dependent(const struct wn_op *op)
{
    static enum winnow_status (*const runs[])(struct wn_run *, struct winnow_err *) = {
        wn_run_non_zero, wn_run_compress, wn_run_if,           wn_run_loop,          wn_run_scan,
        wn_run_unique,   wn_run_nms,      wn_run_string_split, wn_run_string_concat, wn_run_string_normalizer,
    };
    for (size_t i = 0; i < WN_COUNT(runs); i++)
        if (op->run == runs[i])
            return true;
    return false;
}

static enum winnow_status run_inferred(struct wn_run *run, const struct wn_type *type, struct wn_arena *out_arena,
                                       struct winnow_err *err)
{
    for (unsigned i = 0; i < run->n_out; i++) {
        struct wn_tensor *t = &run->out[i];
        *t = (struct wn_tensor){ .dtype = type[i].dtype };
        if (!type_is_concrete(&type[i])) { /* what is known stays, for loops that never run */
            t->rank = (unsigned)WN_MAX(type[i].rank, 0);
            for (unsigned a = 0; a < t->rank; a++)
                t->dim[a] = WN_MAX(type[i].dim[a], 0);
            if (!is_data_dependent(run->node->op))
                return wn_lack(err, "output %u: its type does not follow from the inputs", i);
            continue;
        }
        t->rank = (unsigned)type[i].rank;
        memcpy(t->dim, type[i].dim, t->rank * sizeof t->dim[0]);
        /* an omitted output is computed too, into tmp: run functions need not ask which ones are wanted */
        WN_TRY(alloc_tensor(t, run->node->out[i] == WN_NONE ? run->tmp : out_arena, err));
    }
    WN_CLEANUP(wn_freep) bool *late = calloc(run->n_out ? run->n_out : 1, sizeof *late);
    if (!late)
        return wn_nomem(err);
    for (unsigned i = 0; i < run->n_out; i++)
        late[i] = !run->out[i].data;
    WN_TRY(run->node->op->run(run, err));
    for (unsigned i = 0; i < run->n_out; i++) /* data-dependent shapes were put into tmp */
        if (late[i] && run->out[i].data && run->tmp != out_arena) {
            struct wn_tensor made = run->out[i];
            WN_TRY(wn_tensor_dup(&run->out[i], &made, out_arena, err));
        }
    return WINNOW_OK;
}

enum winnow_status wn_ops_run_node(const struct wn_node *node, const struct wn_tensor **in, struct wn_tensor *out,
                                   struct wn_arena *out_arena, struct wn_arena *tmp, struct winnow_err *err)
{
    struct wn_allowance all;
    struct wn_budget budget;
    wn_allowance_init(&all, 0, 0);
    wn_budget_init(&budget, &all);
    return wn_ops_run_within(node, in, out, out_arena, tmp, &budget, err);
}

enum winnow_status wn_ops_run_within(const struct wn_node *node, const struct wn_tensor **in, struct wn_tensor *out,
                                     struct wn_arena *out_arena, struct wn_arena *tmp, struct wn_budget *budget,
                                     struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_infer *infer = calloc(1, sizeof *infer);
    WN_CLEANUP(wn_freep) struct wn_type *type = calloc(node->n_out ? node->n_out : 1, sizeof *type);
    if (!infer || !type)
        return wn_nomem(err);
    infer->node = node;
    infer->n_in = WN_MIN(node->n_in, WN_OP_MAX_IN);
    infer->n_out = node->n_out;
    infer->out = type;
    for (unsigned i = 0; i < infer->n_in; i++) {
        infer->given[i] = in[i] != NULL;
        infer->in[i] = in[i] ? wn_type_of(in[i]) : unknown;
        infer->value[i] = in[i];
    }
    for (unsigned i = 0; i < node->n_out; i++)
        type[i] = unknown;
    WN_TRY(wn_ops_infer_node(infer, err));
    struct wn_run run = {
        .node = node, .n_in = infer->n_in, .n_out = node->n_out, .in = in, .out = out, .tmp = tmp, .budget = budget
    };
    enum winnow_status status = run_inferred(&run, type, out_arena, err);
    return status == WINNOW_OK ? status : at_node(node, status, err);
}
