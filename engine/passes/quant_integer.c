/* quant_integer.c: integer products whose scales are known become the QDQ spelling of the same layer, which the passes
 * behind this one take from there. The pattern, as SparseML's exporter writes it for DeepSparse:
 *
 *     ConvInteger | MatMulInteger (x, W) -> Add(int32 bias) -> Cast to f32 -> Mul(scale)
 *
 * with constant W, zero points, bias and scale. The scale is that of x times that of W, and nobody says which: all of
 * it goes to W, and x counts in units. The bias, times the scale, is one in f32; that is rounded back to what it was
 * when the layer is made (quant_layers.c). A f32 bias behind it would not survive that: such products, and those whose
 * scales are known only at run time, are left to quant_dynamic.c. */
#include <stdlib.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

#define BIAS_MAX (1 << 22) /* integer biases of more do not come back from f32 */

struct product {
    struct wn_node node; /* a copy */
    bool conv;
    int spatial; /* axes behind the channels: 0 for MatMulInteger */
    int64_t O;
    wn_vid y;               /* what the layer is to make */
    struct wn_node *end[4]; /* nodes that it stands for, without the product's own */
    unsigned n_end;
    const struct wn_tensor *scale; /* NULL: 1 */
    const struct wn_tensor *bias;  /* i32 or NULL */
};

/* A constant number, omitted, or (of W) one for each output channel. */
static bool constant_zp(const struct wn_graph *g, const struct wn_node *node, unsigned i, int64_t O)
{
    const struct wn_tensor *t = wn_const_in(g, node, i);
    return wn_in(node, i) == WN_NONE || (t && (wn_tensor_count(t) == 1 || (t->rank == 1 && t->dim[0] == O)));
}

/* The constant operand of a binary node, if it is a number or has one for each channel. */
static const struct wn_tensor *operand(struct wn_graph *g, const struct product *p, const struct wn_node *node,
                                       enum winnow_dtype dtype)
{
    const wn_vid other = wn_other_in(node, p->y);
    struct wn_tensor flat;
    return other != WN_NONE && wn_per_channel(g, other, dtype, p->O, p->spatial, &flat) ? wn_const_of(g, other) : NULL;
}

/* Take in the node behind p->y, if it is an op_type with such a constant. */
static const struct wn_tensor *take(struct wn_graph *g, struct product *p, const char *op_type, enum winnow_dtype dtype)
{
    struct wn_node *next = wn_graph_only_user(g, p->y);
    const struct wn_tensor *t = next && wn_node_is(next, op_type) ? operand(g, p, next, dtype) : NULL;
    if (!t)
        return NULL;
    p->end[p->n_end++] = next;
    p->y = next->out[0];
    return t;
}

static bool bias_comes_back(const struct wn_tensor *b)
{
    for (int64_t i = 0; i < wn_tensor_count(b); i++)
        if (abs(((const int32_t *)b->data)[i] / 2) > BIAS_MAX / 2)
            return false;
    return true;
}

static bool match(struct wn_graph *g, struct product *p)
{
    const struct wn_tensor *w = wn_const_in(g, &p->node, 1);
    if (!w || wn_const_in(g, &p->node, 0) || (w->dtype != WINNOW_U8 && w->dtype != WINNOW_I8) ||
        (p->conv ? w->rank < 3 || w->rank > 4 : w->rank != 2))
        return false;
    p->spatial = p->conv ? (int)w->rank - 2 : 0;
    p->O = w->dim[p->conv ? 0 : 1];
    p->y = p->node.out[0];
    if (!constant_zp(g, &p->node, 2, 1) || !constant_zp(g, &p->node, 3, p->O))
        return false;
    p->bias = take(g, p, "Add", WINNOW_I32);
    struct wn_node *cast = wn_graph_only_user(g, p->y);
    if (!cast || !wn_node_is(cast, "Cast") || wn_node_int(cast, "to", 0) != WINNOW_F32 ||
        (p->bias && !bias_comes_back(p->bias)))
        return false;
    p->end[p->n_end++] = cast;
    p->y = cast->out[0];
    const struct wn_node *next = wn_graph_only_user(g, p->y);
    p->scale = take(g, p, "Mul", WINNOW_F32);
    if (!p->scale && next && wn_node_is(next, "Mul")) /* by what is not constant */
        return false;
    next = wn_graph_only_user(g, p->y);
    return p->bias || !next || !wn_node_is(next, "Add") || !operand(g, p, next, WINNOW_F32);
}

static float scale_of(const struct product *p, int64_t o)
{
    return !p->scale ? 1 : ((const float *)p->scale->data)[wn_tensor_count(p->scale) == 1 ? 0 : o];
}

/* [O] f32. */
static wn_vid make_bias(struct wn_graph *g, const struct product *p)
{
    const int32_t *from = p->bias->data;
    const bool one = wn_tensor_count(p->bias) == 1;
    wn_vid b = wn_graph_add_const(g, NULL, WINNOW_F32, 1, &p->O, NULL);
    float *to = b == WN_NONE ? NULL : g->values.at[b].constant->data;
    for (int64_t o = 0; to && o < p->O; o++)
        to[o] = (float)((double)from[one ? 0 : o] * scale_of(p, o));
    return b;
}

/* Input i_zp of the product, in the shape of a scale of n. WN_NONE where it is omitted; *ok false: no memory. */
static wn_vid make_zp(struct wn_graph *g, const struct product *p, unsigned i_zp, int64_t n, bool *ok)
{
    if (wn_in(&p->node, i_zp) == WN_NONE)
        return WN_NONE;
    const struct wn_tensor *from = wn_const_in(g, &p->node, i_zp);
    const uint8_t *zp = from->data;
    const bool one = wn_tensor_count(from) == 1;
    wn_vid v = wn_graph_add_const(g, NULL, from->dtype, n > 1, &n, NULL);
    *ok = v != WN_NONE;
    for (int64_t o = 0; *ok && o < n; o++)
        ((uint8_t *)g->values.at[v].constant->data)[o] = zp[one ? 0 : o];
    return v;
}

/* A DequantizeLinear of value v; its zero point is the product's input i_zp. axis < 0: of one scale. */
static wn_vid dequantized(struct wn_graph *g, const struct product *p, wn_vid v, wn_vid scale, unsigned i_zp,
                          int64_t axis)
{
    bool ok = scale != WN_NONE;
    const wn_vid zp = ok ? make_zp(g, p, i_zp, wn_tensor_count(g->values.at[scale].constant), &ok) : WN_NONE;
    const wn_vid in[] = { v, scale, zp }, y = ok ? wn_like(g, v, WINNOW_F32) : WN_NONE;
    struct wn_node *node = y == WN_NONE ? NULL
                                        : wn_std_add(g, "DequantizeLinear", 13, p->node.name, in,
                                                     zp == WN_NONE ? 2 : 3, y);
    if (!node || (axis >= 0 && !wn_node_set_int(g, node, "axis", axis)))
        return WN_NONE;
    return y;
}

static wn_vid make_scale(struct wn_graph *g, const struct product *p)
{
    const int64_t n = p->scale ? wn_tensor_count(p->scale) : 1,
                  zps = wn_in(&p->node, 3) == WN_NONE ? 1 : wn_tensor_count(wn_const_in(g, &p->node, 3));
    const int64_t count = WN_MAX(n, zps);
    wn_vid s = wn_graph_add_const(g, NULL, WINNOW_F32, count > 1, &count, NULL);
    for (int64_t o = 0; s != WN_NONE && o < count; o++)
        ((float *)g->values.at[s].constant->data)[o] = scale_of(p, o);
    return s;
}

static enum winnow_status put(struct wn_graph *g, struct product *p, struct winnow_err *err)
{
    static const float one = 1;
    const wn_vid unit = wn_graph_add_const(g, NULL, WINNOW_F32, 0, NULL, &one), scale = make_scale(g, p);
    const bool channels = scale != WN_NONE && g->values.at[scale].constant->rank > 0;
    wn_vid bias = p->bias ? make_bias(g, p) : WN_NONE, sum = p->y;
    for (unsigned i = 0; i < p->n_end; i++)
        wn_graph_kill(g, p->end[i]);
    wn_graph_kill(g, wn_graph_producer(g, p->node.out[0]));
    wn_vid in[] = { dequantized(g, p, p->node.in[0], unit, 2, -1),
                    dequantized(g, p, p->node.in[1], scale, 3, channels ? !p->conv : -1), bias };
    if (in[0] == WN_NONE || in[1] == WN_NONE || (p->bias && bias == WN_NONE))
        return WN_OOM(err, &p->node);
    if (p->bias && !p->conv && (sum = wn_like(g, p->y, WINNOW_F32)) == WN_NONE)
        return WN_OOM(err, &p->node);
    struct wn_node *layer =
        wn_std_add(g, p->conv ? "Conv" : "MatMul", 13, p->node.name, in, p->conv && p->bias ? 3 : 2, sum);
    if (!layer)
        return WN_OOM(err, &p->node);
    layer->attr = p->node.attr;
    layer->n_attr = p->node.n_attr;
    const wn_vid add[] = { sum, bias };
    return sum == p->y || wn_std_add(g, "Add", 13, p->node.name, add, 2, p->y) ? WINNOW_OK : WN_OOM(err, &p->node);
}

enum winnow_status wn_pass_quant_integer(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct product p = { .node = g->nodes.at[i], .conv = wn_node_is(&g->nodes.at[i], "ConvInteger") };
        if ((p.conv || wn_node_is(&p.node, "MatMulInteger")) && match(g, &p))
            WN_TRY(put(g, &p, err));
    }
    return WINNOW_OK;
}
