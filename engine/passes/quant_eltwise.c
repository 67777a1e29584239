/* quant_eltwise.c: what stands between a dequantization and a quantization and is no layer: residual additions, average
 * pools, and any chain of elementwise functions, which becomes a table of 256 values. */
#include <math.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

/* ---- chains of elementwise functions ---- */

static bool one_value(const struct wn_tensor *t)
{
    return t && t->dtype == WINNOW_F32 && wn_tensor_count(t) == 1;
}

/* A f32 function of one element: which input varies, or -1. */
static int elementwise(const struct wn_graph *g, const struct wn_node *node)
{
    static const char *const unary[] = { "Relu",     "Clip",     "Sigmoid",   "HardSigmoid", "HardSwish",
                                         "Swish",    "Tanh",     "LeakyRelu", "Elu",         "Selu",
                                         "Softplus", "Softsign", "Erf",       "Gelu",        "Mish",
                                         "Exp",      "Abs",      "Neg",       "Sqrt",        "ThresholdedRelu",
                                         "Celu" };
    static const char *const binary[] = { "Add", "Sub", "Mul", "Div", "Min", "Max", "Pow" };
    for (size_t i = 0; i < WN_COUNT(unary); i++)
        if (wn_node_is(node, unary[i]))
            return 0;
    for (size_t i = 0; i < WN_COUNT(binary); i++)
        if (wn_node_is(node, binary[i]) && node->n_in == 2) {
            if (one_value(wn_const_in(g, node, 1)))
                return 0;
            if (one_value(wn_const_in(g, node, 0)))
                return 1;
        }
    return -1;
}

#define MAX_CHAIN 16

/* From a Quantize upwards to a Dequantize through functions that nobody else looks at. Returns their number (0: none).
 */
static unsigned chain_above(struct wn_graph *g, const struct wn_node *quant, struct wn_node **chain,
                            struct wn_node **ret_deq)
{
    wn_vid v = quant->in[0];
    for (unsigned n = 0; n < MAX_CHAIN; n++) {
        struct wn_node *node = wn_graph_producer(g, v);
        if (wn_fused_is(node, "Dequantize")) {
            *ret_deq = node;
            return n;
        }
        int in = node && !node->dead ? elementwise(g, node) : -1;
        if (in < 0 || wn_graph_n_uses(g, v) != 1)
            return 0;
        chain[n] = node;
        v = node->in[in];
    }
    return 0;
}

static enum winnow_status run_chain(struct wn_graph *g, struct wn_node **chain, unsigned n, float *x, void *tmp_arena,
                                    struct winnow_err *err)
{
    struct wn_arena *arena = tmp_arena;
    for (unsigned k = n; k-- > 0;) {
        const struct wn_node *node = chain[k];
        const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
        struct wn_tensor data = { .dtype = WINNOW_F32, .rank = 1, .dim = { 256 }, .bytes = 1024, .data = x }, out;
        for (unsigned i = 0; i < node->n_in; i++)
            in[i] = wn_const_of(g, node->in[i]);
        in[elementwise(g, node)] = &data;
        WN_TRY(wn_ops_run_node(node, in, &out, arena, arena, err));
        if (out.dtype != WINNOW_F32 || out.bytes != 1024)
            return wn_fail(err, WINNOW_E_INTERNAL, "node '%s' is not elementwise", node->name);
        memcpy(x, out.data, 1024);
    }
    return WINNOW_OK;
}

static uint8_t quantize_one(float x, const struct wn_fused_qelt *q)
{
    float f = x / q->a_mul;
    f = f < 65536.0f ? f : 65536.0f;
    f = f > -65536.0f ? f : -65536.0f;
    int32_t i = (int32_t)rintf(f) + q->y_zp;
    return (uint8_t)(i < 0 ? 0 : i > 255 ? 255 : i);
}

static enum winnow_status to_table(struct wn_graph *g, struct wn_node quant, struct wn_node *at, struct winnow_err *err)
{
    struct wn_node *chain[MAX_CHAIN], *deq;
    unsigned n = chain_above(g, &quant, chain, &deq);
    if (!n)
        return WINNOW_OK;
    const struct wn_fused_qelt *d = deq->fused;
    float x[256];
    for (int i = 0; i < 256; i++)
        x[i] = (float)(i - d->a_zp) * d->a_mul;
    struct wn_arena tmp;
    wn_arena_init(&tmp, 0);
    enum winnow_status status = run_chain(g, chain, n, x, &tmp, err);
    wn_arena_done(&tmp);
    WN_TRY(status);
    uint8_t *t = wn_arena_alloc(g->arena, 256);
    struct wn_fused_qelt f = {
        .table = t, .a_zp = d->a_zp, .y_zp = ((const struct wn_fused_qelt *)quant.fused)->y_zp, .q_hi = 255
    };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    if (!t || !fused)
        return WN_OOM(err, &quant);
    for (int i = 0; i < 256; i++)
        t[i] = quantize_one(x[i], quant.fused);
    wn_vid in = deq->in[0];
    wn_graph_kill(g, at);
    return wn_fused_add(g, "Requantize", chain[0]->name, &in, 1, quant.out[0], fused) ? WINNOW_OK : WN_OOM(err, &quant);
}

/* ---- additions and pools ---- */

static const struct wn_fused_qelt *dequantized(struct wn_graph *g, wn_vid v, wn_vid *ret_q)
{
    struct wn_node *deq = wn_graph_producer(g, v);
    if (!wn_fused_is(deq, "Dequantize"))
        return NULL;
    *ret_q = deq->in[0];
    return deq->fused;
}

/* q_lo and q_hi of the clamp (if any) and the Quantize after `y`; the nodes are killed. NULL when there is none. */
static const struct wn_fused_qelt *take_quantize(struct wn_graph *g, wn_vid *y, struct wn_fused_qelt *f)
{
    struct wn_node *next = wn_graph_only_user(g, *y), *clamp = NULL;
    float lo = -INFINITY, hi = INFINITY;
    if (next && wn_clamp_of(g, next, &lo, &hi)) {
        clamp = next;
        next = wn_graph_only_user(g, clamp->out[0]);
    }
    if (!wn_fused_is(next, "Quantize"))
        return NULL;
    const struct wn_fused_qelt *q = next->fused;
    f->y_zp = q->y_zp;
    f->q_lo = isinf(lo) ? 0 : quantize_one(lo, q);
    f->q_hi = isinf(hi) ? 255 : quantize_one(hi, q);
    *y = next->out[0];
    wn_graph_kill(g, next);
    if (clamp)
        wn_graph_kill(g, clamp);
    return q;
}

static enum winnow_status add(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct winnow_err *err)
{
    wn_vid in[2], y = node.out[0];
    const struct wn_fused_qelt *a = dequantized(g, node.in[0], &in[0]), *b = dequantized(g, node.in[1], &in[1]);
    if (!a || !b || !wn_same_shape(g, node.in[0], node.in[1]))
        return WINNOW_OK;
    struct wn_fused_qelt f = { .a_zp = a->a_zp, .b_zp = b->a_zp };
    const struct wn_fused_qelt *q = take_quantize(g, &y, &f);
    if (!q)
        return WINNOW_OK;
    f.a_mul = (float)((double)a->a_mul / q->a_mul);
    f.b_mul = (float)((double)b->a_mul / q->a_mul);
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    return fused && wn_fused_add(g, "QAdd", node.name, in, 2, y, fused) ? WINNOW_OK : WN_OOM(err, &node);
}

static enum winnow_status pool(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct winnow_err *err)
{
    bool global = wn_node_is(&node, "GlobalAveragePool");
    wn_vid in, y = node.out[0];
    const struct wn_fused_qelt *a = dequantized(g, node.in[0], &in);
    const struct wn_type *t = &g->values.at[node.in[0]].type;
    struct wn_fused_qelt f = { .a_zp = a ? a->a_zp : 0,
                               .count_include_pad = wn_node_int(&node, "count_include_pad", 0) != 0 };
    if (!a || t->rank < 3 || t->rank > 4 || wn_node_int(&node, "ceil_mode", 0))
        return WINNOW_OK;
    if (!global && wn_conv_geom_of(&node, (unsigned)t->rank - 2, NULL, &f.geom, NULL) != WINNOW_OK)
        return WINNOW_OK;
    const struct wn_fused_qelt *q = take_quantize(g, &y, &f);
    if (!q)
        return WINNOW_OK;
    f.a_mul = (float)((double)a->a_mul / q->a_mul);
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    return fused && wn_fused_add(g, global ? "QGlobalAveragePool" : "QAveragePool", node.name, &in, 1, y, fused)
               ? WINNOW_OK
               : WN_OOM(err, &node);
}

enum winnow_status wn_pass_quant_eltwise(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (wn_node_is(node, "Add"))
            WN_TRY(add(g, *node, node, err));
        else if (wn_node_is(node, "GlobalAveragePool") || wn_node_is(node, "AveragePool"))
            WN_TRY(pool(g, *node, node, err));
        else if (wn_fused_is(node, "Quantize"))
            WN_TRY(to_table(g, *node, node, err));
    }
    return WINNOW_OK;
}
