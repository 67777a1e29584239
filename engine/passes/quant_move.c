/* quant_move.c: dequantizations and flips move down through operators that only move or choose elements, until they
 * meet a quantization or another flip, and both disappear. Quantizations move up through those that reorder elements,
 * to the layer whose epilogue then takes them in. */
#include <math.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

/* y = op(x) picks or reorders elements of input 0: it commutes with any increasing function of the elements. */
static bool moves_elements(const struct wn_node *node)
{
    static const char *const types[] = { "MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose" };
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (wn_node_is(node, types[i]))
            return node->n_out == 1;
    return (wn_node_is(node, "Resize") || wn_node_is(node, "Upsample")) &&
           wn_node_str_is(node, "mode", "nearest", "nearest") &&
           !wn_node_str_is(node, "coordinate_transformation_mode", "half_pixel", "tf_crop_and_resize");
}

/* y has the elements of input 0, each once. */
static bool reorders_elements(const struct wn_node *node)
{
    return moves_elements(node) && !wn_node_is(node, "MaxPool") && !wn_node_is(node, "Resize") &&
           !wn_node_is(node, "Upsample");
}

/* op(f(x)) -> f(op(x)), f = Dequantize or Flip. */
static enum winnow_status sink(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct wn_node f,
                               struct winnow_err *err)
{
    wn_vid moved = wn_like(g, node.out[0], g->values.at[f.in[0]].type.dtype), y = node.out[0];
    if (moved == WN_NONE)
        return WN_OOM(err, &node);
    wn_graph_kill(g, at);
    wn_vid in[WN_OP_MAX_IN];
    memcpy(in, node.in, node.n_in * sizeof *in);
    in[0] = f.in[0];
    struct wn_node *made = wn_graph_add_node(g, node.domain, node.op_type, node.name, in, node.n_in, &moved, 1);
    if (!made)
        return WN_OOM(err, &node);
    made->attr = node.attr;
    made->n_attr = node.n_attr;
    made->opset = node.opset;
    made->op = node.op;
    return wn_fused_add(g, f.op_type, f.name, &moved, 1, y, f.fused) ? WINNOW_OK : WN_OOM(err, &node);
}

static uint8_t quantize_one(float x, const struct wn_fused_qelt *q)
{
    float f = x / q->a_mul;
    f = f < 65536.0f ? f : 65536.0f;
    f = f > -65536.0f ? f : -65536.0f;
    int32_t i = (int32_t)rintf(f) + q->y_zp;
    return (uint8_t)(i < q->q_lo ? q->q_lo : i > q->q_hi ? q->q_hi : i);
}

/* Quantize(Dequantize(x)): nothing, or a table. */
static enum winnow_status meet(struct wn_graph *g, struct wn_node quant, struct wn_node *at, struct wn_node deq,
                               struct winnow_err *err)
{
    const struct wn_fused_qelt *q = quant.fused, *d = deq.fused;
    wn_vid x = deq.in[0], y = quant.out[0];
    uint8_t *t = wn_arena_alloc(g->arena, 256);
    if (!t)
        return WN_OOM(err, &quant);
    bool same = true;
    for (int i = 0; i < 256; i++) {
        t[i] = quantize_one((float)(i - d->a_zp) * d->a_mul, q);
        same = same && t[i] == i;
    }
    wn_graph_kill(g, at);
    if (same && g->values.at[x].producer != WN_NONE) {
        wn_graph_replace_uses(g, y, x);
        return WINNOW_OK;
    }
    struct wn_fused_qelt f = { .table = t, .a_zp = d->a_zp, .y_zp = q->y_zp, .q_hi = 255 };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    return fused && wn_fused_add(g, "Requantize", quant.name, &x, 1, y, fused) ? WINNOW_OK : WN_OOM(err, &quant);
}

/* Quantize(Concat(Dequantize(x), …)) -> Concat(Quantize(Dequantize(x)), …): each input is requantized by its table. */
static enum winnow_status spread(struct wn_graph *g, struct wn_node quant, struct wn_node *at, struct wn_node cat,
                                 struct winnow_err *err)
{
    wn_vid in[WN_OP_MAX_IN];
    wn_graph_kill(g, at); /* before nodes are added, which moves them */
    for (unsigned i = 0; i < cat.n_in; i++) {
        in[i] = wn_like(g, cat.in[i], WINNOW_U8);
        if (in[i] == WN_NONE || !wn_fused_add(g, "Quantize", quant.name, &cat.in[i], 1, in[i], quant.fused))
            return WN_OOM(err, &quant);
    }
    struct wn_node *made = wn_graph_add_node(g, cat.domain, cat.op_type, cat.name, in, cat.n_in, &quant.out[0], 1);
    if (!made)
        return WN_OOM(err, &cat);
    made->attr = cat.attr;
    made->n_attr = cat.n_attr;
    made->opset = cat.opset;
    made->op = cat.op;
    return WINNOW_OK;
}

/* Quantize(op(x)) -> op(Quantize(x)): op reorders elements, or scales what a layer made (the scale joins the
 * quantization's). `x` is op's input 0. */
static enum winnow_status lift(struct wn_graph *g, struct wn_node quant, struct wn_node *at, struct wn_node op,
                               wn_vid x, double factor, struct winnow_err *err)
{
    const bool scales = !reorders_elements(&op);
    struct wn_fused_qelt f = *(const struct wn_fused_qelt *)quant.fused;
    f.a_mul = (float)((double)f.a_mul / factor);
    const void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_vid y = quant.out[0], q = scales ? y : wn_like(g, x, WINNOW_U8);
    wn_graph_kill(g, at);
    wn_graph_kill(g, wn_graph_producer(g, op.out[0]));
    if (!fused || q == WN_NONE || !wn_fused_add(g, "Quantize", quant.name, &x, 1, q, fused))
        return WN_OOM(err, &quant);
    if (scales)
        return WINNOW_OK;
    wn_vid in[WN_OP_MAX_IN];
    memcpy(in, op.in, op.n_in * sizeof *in);
    in[0] = q;
    struct wn_node *made = wn_graph_add_node(g, op.domain, op.op_type, op.name, in, op.n_in, &y, 1);
    if (!made)
        return WN_OOM(err, &op);
    made->attr = op.attr;
    made->n_attr = op.n_attr;
    made->opset = op.opset;
    made->op = op.op;
    return WINNOW_OK;
}

/* v is a product, perhaps with a bias, reordered and scaled: a quantization behind it can become part of it. */
static bool made_by_product(struct wn_graph *g, wn_vid v)
{
    for (int i = 0; i < 16; i++) {
        const struct wn_node *node = wn_graph_producer(g, v);
        wn_vid x;
        double factor;
        if (!node || wn_graph_n_uses(g, v) != 1)
            return false;
        if (wn_node_is(node, "MatMul") || wn_node_is(node, "Gemm"))
            return true;
        if (reorders_elements(node))
            x = node->in[0];
        else if (wn_node_is(node, "Add"))
            x = wn_const_in(g, node, 0) ? node->in[1] : node->in[0];
        else if (!wn_scaled_by(g, node, &x, &factor))
            return false;
        v = x;
    }
    return false;
}

/* v is what attention in f32 gives, perhaps reordered: attention.c takes its Transpose in, which a quantization between
 * them would hide. */
static bool made_by_attention(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *node = wn_graph_producer(g, v);
    for (int i = 0; i < 16 && node && reorders_elements(node); i++)
        node = wn_graph_producer(g, node->in[0]);
    return node && wn_node_is(node, "MatMul") && !wn_const_in(g, node, 0) && !wn_const_in(g, node, 1) &&
           !wn_fused_is(wn_graph_producer(g, node->in[0]), "Dequantize");
}

/* `quant` can move up past `from`, which nobody else reads: past what reorders elements nearly always (they are fewer
 * bytes then), past a factor only where a layer will take it in. */
static bool may_lift(struct wn_graph *g, const struct wn_node *quant, const struct wn_node *from, wn_vid *ret_x,
                     double *ret_factor)
{
    *ret_x = from->n_in ? from->in[0] : WN_NONE;
    *ret_factor = 1;
    if (wn_graph_n_uses(g, quant->in[0]) != 1)
        return false;
    if (reorders_elements(from))
        return !made_by_attention(g, from->in[0]);
    return wn_scaled_by(g, from, ret_x, ret_factor) && *ret_factor > 0 && isfinite(*ret_factor) &&
           wn_same_shape(g, *ret_x, from->out[0]) && made_by_product(g, quant->in[0]);
}

static bool all_dequantized(struct wn_graph *g, const struct wn_node *cat)
{
    for (unsigned i = 0; i < cat->n_in; i++)
        if (!wn_fused_is(wn_graph_producer(g, cat->in[i]), "Dequantize"))
            return false;
    return cat->n_in <= WN_OP_MAX_IN;
}

static enum winnow_status move(struct wn_graph *g, size_t i, bool *moved, struct winnow_err *err)
{
    struct wn_node *node = &g->nodes.at[i];
    if (node->dead || !node->n_in || node->in[0] == WN_NONE)
        return WINNOW_OK;
    struct wn_node *from = wn_graph_producer(g, node->in[0]);
    if (!from)
        return WINNOW_OK;
    *moved = true;
    wn_vid x;
    double factor;
    if (moves_elements(node) && (wn_fused_is(from, "Dequantize") || wn_fused_is(from, "Flip")))
        return sink(g, *node, node, *from, err);
    if (wn_fused_is(node, "Quantize") && wn_fused_is(from, "Dequantize"))
        return meet(g, *node, node, *from, err);
    if (wn_fused_is(node, "Quantize") && wn_node_is(from, "Concat") && wn_graph_n_uses(g, node->in[0]) == 1 &&
        all_dequantized(g, from))
        return spread(g, *node, node, *from, err);
    if (wn_fused_is(node, "Quantize") && may_lift(g, node, from, &x, &factor))
        return lift(g, *node, node, *from, x, factor, err);
    if (wn_fused_is(node, "Flip") && wn_fused_is(from, "Flip") && g->values.at[from->in[0]].producer != WN_NONE) {
        wn_vid y = node->out[0];
        x = from->in[0];
        wn_graph_kill(g, node);
        wn_graph_replace_uses(g, y, x);
        return WINNOW_OK;
    }
    *moved = false;
    return WINNOW_OK;
}

enum winnow_status wn_pass_quant_move(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0; i < g->nodes.n; i++) { /* also over the nodes made on the way: each move shortens a path */
        bool moved;
        WN_TRY(move(g, i, &moved, err));
    }
    return WINNOW_OK;
}
