/* fold.c: constant folding by the reference operators. */
#include <string.h>
#include "engine/passes/impl.h"

/* Weights of one layer fit; a ConstantOfShape that asks for gigabytes does not. */
#define FOLD_MAX_BYTES ((size_t)1 << 30)

static bool foldable(const struct wn_graph *g, const struct wn_node *node)
{
    if (node->dead || !node->op || !node->n_out || node->n_out > WN_OP_MAX_IN)
        return false;
    for (unsigned i = 0; i < node->n_attr; i++)
        if (node->attr[i].kind == WN_ATTR_GRAPH)
            return false;
    for (unsigned i = 0; i < node->n_in; i++)
        if (node->in[i] != WN_NONE && !g->values.at[node->in[i]].constant)
            return false;
    return true;
}

/* Bytes the node would make; SIZE_MAX when that is not known. *ret_work: wn_ops_work(). */
static size_t made_bytes(struct wn_graph *g, const struct wn_node *node, uint64_t *ret_work)
{
    struct wn_infer infer;
    struct wn_type out[WN_OP_MAX_IN];
    size_t total = 0, bytes;
    wn_ops_infer_prepare(g, node, &infer, out);
    if (wn_ops_infer_node(&infer, NULL) != WINNOW_OK)
        return SIZE_MAX;
    *ret_work = wn_ops_work(&infer);
    for (unsigned i = 0; i < node->n_out; i++)
        if (out[i].rank < 0 || !wn_shape_bytes(out[i].dim, (unsigned)out[i].rank, 16, &bytes) ||
            !wn_add_size(total, bytes, &total))
            return SIZE_MAX;
    return total;
}

static enum winnow_status fold_node(struct wn_graph *g, struct wn_node *node, struct winnow_err *err)
{
    const struct wn_tensor *in[WN_OP_MAX_IN];
    for (unsigned i = 0; i < node->n_in; i++)
        in[i] = wn_const_of(g, node->in[i]);
    struct wn_tensor *out = wn_arena_calloc(g->arena, node->n_out, sizeof *out);
    if (!out)
        return WN_OOM(err, node);
    const struct wn_attr *value = wn_node_is(node, "Constant") ? wn_node_attr(node, "value") : NULL;
    if (value && value->kind == WN_ATTR_TENSOR && node->n_out == 1) { /* no copy */
        out[0] = *value->t;
    } else {
        struct wn_arena tmp;
        wn_arena_init(&tmp, FOLD_MAX_BYTES);
        enum winnow_status status = wn_ops_run_node(node, in, out, g->arena, &tmp, err);
        wn_arena_done(&tmp);
        WN_TRY(status);
    }
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE)
            continue;
        struct wn_value *v = &g->values.at[node->out[i]];
        v->constant = &out[i];
        v->type = (struct wn_type){ .dtype = out[i].dtype, .rank = (int)out[i].rank };
        memcpy(v->type.dim, out[i].dim, sizeof v->type.dim);
    }
    const struct wn_node old = *node;
    wn_graph_kill(g, node);
    wn_give_back_inputs(g, &old);
    return WINNOW_OK;
}

/* Half of what the graph's memory may grow to is for constants that the file only describes. */
static bool room_for(const struct wn_graph *g, size_t bytes)
{
    const struct wn_arena *a = g->arena;
    return bytes <= FOLD_MAX_BYTES && (!a->limit || (bytes <= a->limit / 2 && a->total <= a->limit / 2 - bytes));
}

/* Whether the node may be folded: there is memory for what it makes, and its work is not too much; then it is spent. */
static bool worth_it(struct wn_graph *g, const struct wn_node *node)
{
    uint64_t work;
    if (!room_for(g, made_bytes(g, node, &work)))
        return false;
    if (g->fold_limit && work > g->fold_limit - WN_MIN(g->fold_work, g->fold_limit))
        return false;
    g->fold_work += work;
    return true;
}

static enum winnow_status fold_graph(struct wn_graph *g, bool weights_too, struct winnow_err *err)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (foldable(g, node) && (weights_too || !wn_node_is(node, "DequantizeLinear")) && worth_it(g, node))
            WN_TRY(fold_node(g, node, err));
    }
    return WINNOW_OK;
}

/* A dequantized weight stays as it is: the quantization passes read scale and zero point from it. */
enum winnow_status wn_pass_fold(struct wn_graph *g, struct winnow_err *err)
{
    return fold_graph(g, false, err);
}

enum winnow_status wn_pass_fold_weights(struct wn_graph *g, struct winnow_err *err)
{
    return fold_graph(g, true, err);
}
