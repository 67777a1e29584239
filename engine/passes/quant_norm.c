/* quant_norm.c: LayerNormalization between a dequantization and a quantization -> QLayerNorm, from bytes to bytes
 * (fused.h). After dequantized constants are folded: quantizers that take all operators quantize gamma and beta too. */
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

struct norm {
    const struct wn_fused_qelt *x, *y; /* of Dequantize and Quantize */
    wn_vid in, out;
    const struct wn_tensor *gamma, *beta; /* [k]; beta or NULL */
    int64_t k;
    double eps;
};

static bool match(struct wn_graph *g, const struct wn_node *node, struct norm *n)
{
    if (!wn_node_is(node, "LayerNormalization") || node->n_out != 1)
        return false;
    const struct wn_node *deq = wn_graph_producer(g, node->in[0]), *quant = wn_graph_only_user(g, node->out[0]);
    const int64_t axis = wn_node_int(node, "axis", -1);
    if (!wn_fused_is(deq, "Dequantize") || !wn_fused_is(quant, "Quantize") ||
        (axis != -1 && axis != g->values.at[node->in[0]].type.rank - 1))
        return false;
    *n = (struct norm){ .x = deq->fused,
                        .y = quant->fused,
                        .in = deq->in[0],
                        .out = quant->out[0],
                        .k = wn_last_dim(g, node->in[0]),
                        .eps = (double)wn_node_float(node, "epsilon", 1e-5f) };
    n->gamma = n->k > 0 ? wn_vector_of(g, node->in[1], n->k) : NULL;
    n->beta = n->gamma && wn_in(node, 2) != WN_NONE ? wn_vector_of(g, node->in[2], n->k) : NULL;
    return n->gamma && (n->beta || wn_in(node, 2) == WN_NONE) && n->x->a_mul > 0 && n->y->a_mul > 0 && n->eps >= 0;
}

/* A constant [k] in steps of y; NULL: zeros. */
static wn_vid in_steps(struct wn_graph *g, const struct norm *n, const struct wn_tensor *t)
{
    wn_vid c = wn_graph_add_const(g, NULL, WINNOW_F32, 1, &n->k, NULL);
    for (int64_t i = 0; c != WN_NONE && i < n->k; i++)
        ((float *)g->values.at[c].constant->data)[i] =
            t ? (float)((double)((const float *)t->data)[i] / (double)n->y->a_mul) : 0.0f;
    return c;
}

static enum winnow_status put(struct wn_graph *g, struct wn_node node, struct wn_node *at, const struct norm *n,
                              struct winnow_err *err)
{
    const double k = (double)n->k, scale = (double)n->x->a_mul;
    const struct wn_fused_qnorm f = { .eps = n->eps * (k / scale) * (k / scale), .y_zp = n->y->y_zp };
    const wn_vid in[] = { n->in, in_steps(g, n, n->gamma), in_steps(g, n, n->beta) };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    if (!fused || in[1] == WN_NONE || in[2] == WN_NONE)
        return WN_OOM(err, &node);
    wn_graph_kill(g, wn_graph_only_user(g, node.out[0]));
    wn_graph_kill(g, at);
    return wn_fused_add(g, "QLayerNorm", node.name, in, 3, n->out, fused) ? WINNOW_OK : WN_OOM(err, &node);
}

enum winnow_status wn_pass_quant_norm(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        struct norm norm;
        if (!node->dead && match(g, node, &norm))
            WN_TRY(put(g, *node, node, &norm, err));
    }
    return WINNOW_OK;
}
