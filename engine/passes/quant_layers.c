/* quant_layers.c: Conv, Gemm and MatMul between dequantizations become QConv and QLinear, and take in the activation
 * and the quantization that follow. */
#include <math.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

/* A layer as found: x dequantized, w dequantized from constants, b constant or none. */
struct layer {
    const char *type; /* of the fused operator */
    struct wn_conv_geom geom;
    wn_vid x;
    struct wn_qparam xq;
    struct wn_qweight w;
    const struct wn_tensor *b; /* f32 or i32 (with its scale), or NULL */
    const struct wn_tensor *b_scale;
};

static bool per_channel_axis_is(const struct wn_node *deq, const struct wn_tensor *scale, int64_t rank, int64_t want)
{
    int64_t axis = wn_node_int(deq, "axis", 1);
    return wn_tensor_count(scale) == 1 || (axis < 0 ? axis + rank : axis) == want;
}

/* Weights behind value v: DequantizeLinear of constants, channels along `axis`. */
static bool read_weights(struct wn_graph *g, wn_vid v, int64_t axis, bool transpose, struct wn_qweight *ret)
{
    struct wn_node *deq = wn_graph_producer(g, v);
    if (!deq || !wn_node_is(deq, "DequantizeLinear"))
        return false;
    const struct wn_tensor *w = wn_const_in(g, deq, 0), *s = wn_const_in(g, deq, 1), *z = wn_const_in(g, deq, 2);
    if (!w || !s || (wn_in(deq, 2) != WN_NONE && !z) || !per_channel_axis_is(deq, s, w->rank, axis))
        return false;
    return wn_qweight_make(g, g->values.at[deq->in[0]].name, w, s, z, transpose, ret);
}

static bool read_bias(struct wn_graph *g, wn_vid v, struct layer *layer)
{
    layer->b = layer->b_scale = NULL;
    if (v == WN_NONE)
        return true;
    layer->b = wn_const_of(g, v);
    if (layer->b)
        return layer->b->dtype == WINNOW_F32;
    struct wn_node *deq = wn_graph_producer(g, v);
    if (!deq || !wn_node_is(deq, "DequantizeLinear"))
        return false;
    layer->b = wn_const_in(g, deq, 0);
    layer->b_scale = wn_const_in(g, deq, 1);
    const struct wn_tensor *z = wn_const_in(g, deq, 2);
    for (int64_t i = 0; z && i < wn_tensor_count(z); i++)
        if (z->dtype != WINNOW_I32 || ((const int32_t *)z->data)[i] != 0)
            return false;
    return layer->b && layer->b_scale && layer->b->dtype == WINNOW_I32 && layer->b_scale->dtype == WINNOW_F32;
}

/* Bias in units of x_scale * w_scale: taken over when it is already so, else rounded (half to even). False when it does
 * not fit 31 bits, or has another length. */
static bool bias_i32(const struct layer *layer, int32_t *out)
{
    if (wn_tensor_count(layer->b) != layer->w.O)
        return false;
    for (int64_t o = 0; o < layer->w.O; o++) {
        double unit = (double)layer->xq.scale * layer->w.scale[o], v;
        if (layer->b_scale) {
            double s = ((const float *)layer->b_scale->data)[wn_tensor_count(layer->b_scale) == 1 ? 0 : o];
            int32_t q = ((const int32_t *)layer->b->data)[o];
            v = fabs(s - unit) <= 1e-6 * fabs(unit) ? q : rint(q * s / unit);
        } else {
            v = rint(((const float *)layer->b->data)[o] / unit);
        }
        if (!(fabs(v) <= 1073741823.0))
            return false;
        out[o] = (int32_t)v;
    }
    return true;
}

static bool read_input(struct wn_graph *g, wn_vid v, struct layer *layer)
{
    struct wn_node *deq = wn_graph_producer(g, v);
    if (!wn_fused_is(deq, "Dequantize"))
        return false;
    const struct wn_fused_qelt *f = deq->fused;
    layer->x = deq->in[0];
    layer->xq = (struct wn_qparam){ f->a_mul, f->a_zp };
    return true;
}

static bool read_conv(struct wn_graph *g, const struct wn_node *node, struct layer *layer)
{
    layer->type = "QConv";
    if (!read_input(g, node->in[0], layer) || !read_weights(g, node->in[1], 0, false, &layer->w) ||
        !read_bias(g, wn_in(node, 2), layer))
        return false;
    const struct wn_type *w = &g->values.at[layer->w.w].type;
    return (w->rank == 3 || w->rank == 4) &&
           wn_conv_geom_of(node, (unsigned)w->rank - 2, w->dim + 2, &layer->geom, NULL) == WINNOW_OK;
}

static bool read_gemm(struct wn_graph *g, const struct wn_node *node, struct layer *layer)
{
    bool trans_b = wn_node_int(node, "transB", 0) != 0;
    layer->type = "QLinear";
    return wn_node_int(node, "transA", 0) == 0 && wn_node_float(node, "alpha", 1) == 1.0f &&
           wn_node_float(node, "beta", 1) == 1.0f && read_input(g, node->in[0], layer) &&
           read_weights(g, node->in[1], trans_b ? 0 : 1, !trans_b, &layer->w) && read_bias(g, wn_in(node, 2), layer);
}

static bool read_matmul(struct wn_graph *g, const struct wn_node *node, struct layer *layer)
{
    layer->type = "QLinear";
    layer->b = NULL;
    return read_input(g, node->in[0], layer) && read_weights(g, node->in[1], 1, true, &layer->w) &&
           g->values.at[layer->w.w].type.rank == 2;
}

/* A following Add of a constant vector is MatMul's bias. Returns the value that then holds the result. */
static wn_vid take_bias_add(struct wn_graph *g, wn_vid y, struct layer *layer)
{
    struct wn_node *add = wn_graph_only_user(g, y);
    if (layer->b || !add || !wn_node_is(add, "Add"))
        return y;
    wn_vid other = add->in[0] == y ? add->in[1] : add->in[0];
    const struct wn_tensor *b = wn_const_of(g, other);
    if (!b || b->dtype != WINNOW_F32 || b->rank < 1 || b->dim[b->rank - 1] != layer->w.O ||
        wn_tensor_count(b) != layer->w.O)
        return y;
    layer->b = b;
    layer->b_scale = NULL;
    int32_t *probe = malloc((size_t)layer->w.O * sizeof *probe + 1);
    bool fits = probe && bias_i32(layer, probe);
    free(probe);
    if (!fits) {
        layer->b = NULL;
        return y;
    }
    wn_vid out = add->out[0];
    wn_graph_kill(g, add);
    return out;
}

/* An activation between a layer and a quantization: the layer computes both. */
static bool take_activation(struct wn_graph *g, wn_vid *y, struct wn_fused_q8 *f)
{
    float alpha = 0;
    struct wn_node *node = wn_graph_only_user(g, *y);
    const enum wn_act act = node ? wn_act_of(node, &alpha) : WN_ACT_NONE;
    struct wn_node *quant = act != WN_ACT_NONE ? wn_graph_only_user(g, node->out[0]) : NULL;
    if (!wn_fused_is(quant, "Quantize"))
        return false;
    const struct wn_fused_qelt *q = quant->fused;
    f->act = act;
    f->alpha = alpha;
    f->y_f32 = false;
    f->y_scale = q->a_mul;
    f->y_zp = q->y_zp;
    f->q_lo = q->q_lo;
    f->q_hi = q->q_hi;
    *y = quant->out[0];
    wn_graph_kill(g, node);
    wn_graph_kill(g, quant);
    return true;
}

/* A clamp that alone reads y. */
static wn_vid take_clamp(struct wn_graph *g, wn_vid y, struct wn_fused_q8 *f)
{
    struct wn_node *next = wn_graph_only_user(g, y);
    if (!next || !wn_clamp_of(g, next, &f->lo, &f->hi)) {
        f->lo = -INFINITY;
        f->hi = INFINITY;
        return y;
    }
    y = next->out[0];
    wn_graph_kill(g, next);
    return y;
}

/* Clamp and quantization that follow, while nobody else looks at the value between. */
static wn_vid take_epilogue(struct wn_graph *g, wn_vid y, struct wn_fused_q8 *f, const struct layer *layer)
{
    y = take_clamp(g, y, f);
    struct wn_node *next = wn_graph_only_user(g, y);
    if (wn_fused_is(next, "Quantize")) {
        const struct wn_fused_qelt *q = next->fused;
        wn_q8_to_u8(f, layer->xq, &layer->w, (struct wn_qparam){ q->a_mul, q->y_zp });
        y = next->out[0];
        wn_graph_kill(g, next);
    }
    return y;
}

static enum winnow_status put(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct layer *layer,
                              struct winnow_err *err)
{
    struct wn_fused_q8 *f = wn_q8_params(g, &layer->geom, layer->xq, &layer->w);
    if (!f)
        return WN_OOM(err, &node);
    wn_vid b = WN_NONE, y = node.out[0];
    wn_graph_kill(g, at);
    if (strcmp(layer->type, "QLinear") == 0)
        y = take_bias_add(g, y, layer);
    if (layer->b) {
        b = wn_graph_add_const(g, NULL, WINNOW_I32, 1, &layer->w.O, NULL);
        if (b == WN_NONE || !bias_i32(layer, g->values.at[b].constant->data))
            return WN_OOM(err, &node);
    }
    wn_vid r = strcmp(layer->type, "QConv") == 0 ? wn_take_residual(g, &y) : WN_NONE;
    if (r != WN_NONE) /* f32 is added to f32: a quantization behind it stays a step of its own */
        y = take_clamp(g, y, f);
    else if (!take_activation(g, &y, f))
        y = take_epilogue(g, y, f, layer);
    wn_vid in[] = { layer->x, layer->w.w, b, r };
    const unsigned n_in = r != WN_NONE ? 4 : b != WN_NONE ? 3 : 2;
    return wn_fused_add(g, layer->type, node.name, in, n_in, y, f) ? WINNOW_OK : WN_OOM(err, &node);
}

/* The dequantized weights v, which a layer has in its own form now. */
static void drop_weights(struct wn_graph *g, wn_vid v)
{
    struct wn_node *deq = wn_graph_producer(g, v);
    if (!deq || wn_graph_n_uses(g, v) > 0)
        return;
    wn_vid w = deq->in[0];
    wn_graph_kill(g, deq);
    wn_graph_give_back(g, w);
}

/* The bias must be expressible before anything is changed. */
static bool bias_fits(const struct layer *layer)
{
    if (!layer->b)
        return true;
    int32_t *probe = malloc((size_t)layer->w.O * sizeof *probe + 1);
    bool fits = probe && bias_i32(layer, probe);
    free(probe);
    return fits;
}

/* Somebody meant this layer to be quantized. */
static bool half_quantized(struct wn_graph *g, const struct wn_node *node)
{
    struct layer probe;
    struct wn_node *w = node->n_in > 1 && node->in[1] != WN_NONE ? wn_graph_producer(g, node->in[1]) : NULL;
    return (wn_node_is(node, "Conv") || wn_node_is(node, "Gemm") || wn_node_is(node, "MatMul")) &&
           read_input(g, node->in[0], &probe) && w && wn_node_is(w, "DequantizeLinear") && wn_const_in(g, w, 0);
}

static enum winnow_status note(struct wn_graph *g, struct wn_node *node, bool bias, struct winnow_err *err)
{
    const char *why = bias ? "stays f32: the bias does not fit 31 bits in units of x_scale * w_scale"
                           : "stays f32: weights, bias or attributes of a kind that int8 layers lack";
    return wn_node_set_str(g, node, WN_NOTE_ATTR, why) ? WINNOW_OK : WN_OOM(err, node);
}

enum winnow_status wn_pass_quant_layers(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        struct layer layer = { 0 };
        bool found = (wn_node_is(node, "Conv") && read_conv(g, node, &layer)) ||
                     (wn_node_is(node, "Gemm") && read_gemm(g, node, &layer)) ||
                     (wn_node_is(node, "MatMul") && read_matmul(g, node, &layer));
        wn_vid w = wn_in(node, 1);
        if (found && bias_fits(&layer)) {
            WN_TRY(put(g, g->nodes.at[i], &g->nodes.at[i], &layer, err));
            drop_weights(g, w);
        } else if (found || half_quantized(g, node))
            WN_TRY(note(g, node, found, err));
    }
    return WINNOW_OK;
}
