/* rows.c: the proof that each output row depends on its own input row only (batch rows are independent, or
 * requests are not merged). Every value carries the batch on one axis, not at all, or in a way the rules cannot follow;
 * each operator's rule (ops.h) says which axis it hands on; computed shapes are followed (follow.h). */
#include "engine/passes/follow.h"
#include "engine/passes/fused.h"

static const char *say(struct wn_graph *g, const char *fmt, const char *a, const char *b)
{
    char *s = wn_arena_printf(g->arena, "%s '%s'%s", fmt, a, b);
    return s ? s : "out of memory";
}

static bool check_inputs(struct wn_graph *g, const char **why)
{
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_value *v = &g->values.at[g->inputs.at[i]];
        if (v->type.rank < 1 || v->type.dim[0] != -1) {
            *why = say(g, "input", v->name, " has no dynamic first dimension");
            return false;
        }
    }
    if (g->inputs.n == 0)
        *why = "the model has no inputs";
    return g->inputs.n > 0;
}

int wn_rows_node_axis(struct wn_graph *g, const struct wn_node *node, const int *axis)
{
    struct wn_infer infer;
    struct wn_type out[WN_OP_MAX_IN];
    int in_axis[WN_OP_MAX_IN];
    bool any = false;
    if (node->n_in > WN_OP_MAX_IN || node->n_out > WN_OP_MAX_IN)
        return WN_ROWS_MIXED;
    for (unsigned i = 0; i < node->n_in; i++) {
        in_axis[i] = node->in[i] == WN_NONE ? WN_ROWS_NONE : axis[node->in[i]];
        any = any || in_axis[i] != WN_ROWS_NONE; /* the rule decides what a mixed input means (ops.h) */
    }
    for (unsigned i = 0; i < node->n_attr; i++)
        if (node->attr[i].kind == WN_ATTR_GRAPH)
            return WN_ROWS_MIXED;
    if (!any)
        return WN_ROWS_NONE;
    if (!node->op || !node->op->rows)
        return WN_ROWS_MIXED;
    wn_ops_infer_prepare(g, node, &infer, out);
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE)
            out[i] = g->values.at[node->out[i]].type;
    struct wn_rows rows = {
        .node = node, .n_in = node->n_in, .infer = &infer, .in_axis = in_axis, .out_axis = WN_ROWS_MIXED
    };
    node->op->rows(&rows);
    return rows.out_axis;
}

static bool check_outputs(struct wn_graph *g, const int *axis, const wn_nid *mixed_at, const char **why)
{
    for (size_t i = 0; i < g->outputs.n; i++) {
        wn_vid v = g->outputs.at[i];
        if (axis[v] == 0 && g->values.at[v].type.rank >= 1 && g->values.at[v].type.dim[0] == -1)
            continue;
        *why = axis[v] == WN_ROWS_MIXED && *mixed_at != WN_NONE
                   ? say(g, "node", g->nodes.at[*mixed_at].name, " may mix rows")
                   : say(g, "output", g->values.at[v].name, " does not carry the batch as its first dimension");
        return false;
    }
    return g->outputs.n > 0;
}

bool wn_rows_independent(struct wn_graph *g, const char **why)
{
    WN_CLEANUP(wn_follow_done) struct wn_follower f = { 0 };
    const char *dummy;
    if (!why)
        why = &dummy;
    *why = "out of memory";
    if (!wn_follow_init(&f, g, 0) || !check_inputs(g, why))
        return false;
    wn_nid mixed_at = WN_NONE;
    for (wn_nid i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        if (node->dead)
            continue;
        wn_follow_node(&f, node);
        wn_vid out = node->n_out ? node->out[0] : WN_NONE; /* a shape holds the batch, and mixes nothing */
        if (out != WN_NONE && f.axis[out] == WN_ROWS_MIXED && !f.vec[out] && mixed_at == WN_NONE)
            mixed_at = i;
    }
    return check_outputs(g, f.axis, &mixed_at, why);
}

static bool is_any(const struct wn_node *node, const char *domain, const char *const *types, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (wn_node_is_in(node, domain, types[i]))
            return true;
    return false;
}

/* Kernels compute each row of this by the same instructions, wherever in a batch it lies. */
static bool is_rowwise(const struct wn_graph *g, const struct wn_node *node)
{
    static const char *const elementwise[] = { "Relu",     "LeakyRelu", "Elu",       "Sigmoid",       "HardSigmoid",
                                               "Tanh",     "Clip",      "Gelu",      "Swish",         "HardSwish",
                                               "Softplus", "Add",       "Sub",       "Mul",           "Div",
                                               "QuantizeLinear",        "DequantizeLinear" };
    static const char *const elementwise_q8[] = { "QAdd", "Quantize", "Dequantize", "Requantize" };
    static const char *const of_vectors[] = { "Softmax", "Concat" };
    static const char *const layers[] = { "Linear", "QLinear" };
    if (wn_node_is_view(node) || is_any(node, "", elementwise, WN_COUNT(elementwise)) ||
        is_any(node, "wn", elementwise_q8, WN_COUNT(elementwise_q8)))
        return true;
    return g->values.at[node->out[0]].type.rank == 2 && (is_any(node, "", of_vectors, WN_COUNT(of_vectors)) ||
                                                         is_any(node, "wn", layers, WN_COUNT(layers)));
}

/* The features of every input are known: no row has a length of its own (winnow_run_ragged()). */
static bool inputs_are_fixed(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_type *t = &g->values.at[g->inputs.at[i]].type;
        for (int d = 1; d < t->rank; d++)
            if (t->dim[d] < 0)
                return false;
    }
    return true;
}

int64_t wn_row_block(const struct wn_graph *g)
{
    bool f32 = false, q8 = false;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        if (node->dead)
            continue;
        if (!is_rowwise(g, node))
            return 1;
        f32 = f32 || wn_fused_is(node, "Linear");
        q8 = q8 || wn_fused_is(node, "QLinear");
    }
    if (!inputs_are_fixed(g))
        return 1;
    return f32 ? WN_ROW_BLOCK_F32 : q8 ? WN_ROW_BLOCK : 1;
}
