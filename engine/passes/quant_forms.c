/* quant_forms.c: every quantized operator of a file becomes an operator of the one int8 form (fused.h):
 * QuantizeLinear and DequantizeLinear of activations, QLinearConv, QLinearMatMul, QGemm, QLinearAdd,
 * QLinearGlobalAveragePool.
 */
#include <math.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

/* Each rewriter leaves the node as it is (and returns OK) when something does not fit: the reference then runs it. */
typedef enum winnow_status rewrite_fn(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                      struct winnow_err *err);

static enum winnow_status quantize(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct winnow_err *err)
{
    struct wn_qparam q;
    enum winnow_dtype dtype;
    if (wn_const_of(g, node.in[0]) || g->values.at[node.in[0]].type.dtype != WINNOW_F32 ||
        !wn_qparam_of(g, &node, 1, 2, &q, &dtype))
        return WINNOW_OK;
    struct wn_fused_qelt f = { .a_mul = q.scale, .y_zp = q.zp, .q_hi = 255 };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    wn_vid y = wn_u8_result(g, node.out[0]);
    return fused && y != WN_NONE && wn_fused_add(g, "Quantize", node.name, node.in, 1, y, fused) ? WINNOW_OK
                                                                                                 : WN_OOM(err, &node);
}

static enum winnow_status dequantize(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                     struct winnow_err *err)
{
    struct wn_qparam q;
    enum winnow_dtype dtype, x = g->values.at[node.in[0]].type.dtype;
    if (wn_const_of(g, node.in[0]) || (x != WINNOW_U8 && x != WINNOW_I8) || !wn_qparam_of(g, &node, 1, 2, &q, &dtype) ||
        g->values.at[node.out[0]].type.dtype != WINNOW_F32)
        return WINNOW_OK;
    if (wn_in(&node, 2) == WN_NONE && x == WINNOW_I8)
        q.zp = 128; /* an omitted zero point is zero, in u8 terms 128 */
    struct wn_fused_qelt f = { .a_mul = q.scale, .a_zp = q.zp };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    wn_vid in = wn_as_u8(g, node.in[0]);
    return fused && in != WN_NONE && wn_fused_add(g, "Dequantize", node.name, &in, 1, node.out[0], fused)
               ? WINNOW_OK
               : WN_OOM(err, &node);
}

/* Put the finished QConv or QLinear in place of `at`. */
static enum winnow_status put_layer(struct wn_graph *g, const char *type, const struct wn_node *node,
                                    struct wn_node *at, wn_vid x, wn_vid w, wn_vid b, const struct wn_fused_q8 *f,
                                    struct winnow_err *err)
{
    wn_graph_kill(g, at);
    wn_vid in[] = { wn_as_u8(g, x), w, b }, y = wn_u8_result(g, node->out[0]);
    if (in[0] == WN_NONE || y == WN_NONE || !f || !wn_fused_add(g, type, node->name, in, b == WN_NONE ? 2 : 3, y, f))
        return WN_OOM(err, node);
    return WINNOW_OK;
}

static enum winnow_status qlinear_conv(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                       struct winnow_err *err)
{
    struct wn_qparam x, y;
    enum winnow_dtype xt, yt;
    const struct wn_tensor *w = wn_const_in(g, &node, 3), *ws = wn_const_in(g, &node, 4),
                           *wz = wn_const_in(g, &node, 5);
    const struct wn_tensor *b = wn_const_in(g, &node, 8);
    struct wn_qweight qw;
    struct wn_conv_geom geom;
    if (!w || !ws || !wz || w->rank < 3 || w->rank > 4 || !wn_qparam_of(g, &node, 1, 2, &x, &xt) ||
        !wn_qparam_of(g, &node, 6, 7, &y, &yt) || (wn_in(&node, 8) != WN_NONE && !b))
        return WINNOW_OK;
    WN_TRY(wn_conv_geom_of(&node, w->rank - 2, w->dim + 2, &geom, err));
    if (!wn_qweight_make(g, g->values.at[node.in[3]].name, w, ws, wz, false, &qw))
        return WINNOW_OK;
    struct wn_fused_q8 *f = wn_q8_params(g, &geom, x, &qw);
    if (f)
        wn_q8_to_u8(f, x, &qw, y);
    return put_layer(g, "QConv", &node, at, node.in[0], qw.w, b ? node.in[8] : WN_NONE, f, err);
}

/* Of an activation and constant weights. */
static enum winnow_status qlinear_layer(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                        struct winnow_err *err)
{
    struct wn_qparam x, y;
    enum winnow_dtype xt, yt;
    const struct wn_tensor *w = wn_const_in(g, &node, 3), *ws = wn_const_in(g, &node, 4),
                           *wz = wn_const_in(g, &node, 5);
    struct wn_qweight qw;
    if (!w || !ws || !wz || w->rank != 2 || !wn_qparam_of(g, &node, 1, 2, &x, &xt) ||
        !wn_qparam_of(g, &node, 6, 7, &y, &yt) ||
        !wn_qweight_make(g, g->values.at[node.in[3]].name, w, ws, wz, true, &qw))
        return WINNOW_OK;
    struct wn_fused_q8 *f = wn_q8_params(g, NULL, x, &qw);
    if (f)
        wn_q8_to_u8(f, x, &qw, y);
    return put_layer(g, "QLinear", &node, at, node.in[0], qw.w, WN_NONE, f, err);
}

/* Scale and zero point of `v` at inputs i and i + 1; an omitted zero point is 0, for i8 that is 128 in u8 terms. */
static bool param_of(const struct wn_graph *g, const struct wn_node *node, unsigned i, wn_vid v, struct wn_qparam *ret)
{
    enum winnow_dtype dtype, is = g->values.at[v].type.dtype;
    if ((is != WINNOW_U8 && is != WINNOW_I8) || !wn_qparam_of(g, node, i, i + 1, ret, &dtype))
        return false;
    if (wn_in(node, i + 1) == WN_NONE && is == WINNOW_I8)
        ret->zp = 128;
    return true;
}

/* A, a_scale, a_zp, B, b_scale, b_zp, C (i32), y_scale, y_zp; without y_scale the result is f32. */
static enum winnow_status qgemm(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct winnow_err *err)
{
    struct wn_qparam x, y;
    const struct wn_tensor *w = wn_const_in(g, &node, 3), *ws = wn_const_in(g, &node, 4),
                           *wz = wn_const_in(g, &node, 5), *b = wn_const_in(g, &node, 6);
    struct wn_qweight qw;
    bool trans = wn_node_int(&node, "transB", 0) != 0, to_u8 = wn_in(&node, 7) != WN_NONE;
    if (!w || !ws || w->rank != 2 || (wn_in(&node, 5) != WN_NONE && !wz) || (wn_in(&node, 6) != WN_NONE && !b) ||
        wn_node_int(&node, "transA", 0) || wn_node_float(&node, "alpha", 1) != 1.0f || wn_const_of(g, node.in[0]) ||
        !param_of(g, &node, 1, node.in[0], &x) || (to_u8 && !param_of(g, &node, 7, node.out[0], &y)))
        return WINNOW_OK;
    int64_t O = w->dim[trans ? 0 : 1];
    if ((b && (wn_tensor_count(b) != O || b->rank < 1 || b->dim[b->rank - 1] != O)) ||
        !wn_qweight_make(g, g->values.at[node.in[3]].name, w, ws, wz, !trans, &qw))
        return WINNOW_OK;
    wn_vid bias = b ? wn_graph_add_const(g, NULL, WINNOW_I32, 1, &O, b->data) : WN_NONE;
    struct wn_fused_q8 *f = wn_q8_params(g, NULL, x, &qw);
    if (b && bias == WN_NONE)
        return WN_OOM(err, &node);
    if (f && to_u8)
        wn_q8_to_u8(f, x, &qw, y);
    return put_layer(g, "QLinear", &node, at, node.in[0], qw.w, bias, f, err);
}

static enum winnow_status qlinear_add(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                      struct winnow_err *err)
{
    struct wn_qparam a, b, y;
    if (wn_const_of(g, node.in[0]) || wn_in(&node, 3) == WN_NONE || wn_const_of(g, node.in[3]) ||
        !wn_same_shape(g, node.in[0], node.in[3]) || !param_of(g, &node, 1, node.in[0], &a) ||
        !param_of(g, &node, 4, node.in[3], &b) || !param_of(g, &node, 6, node.out[0], &y))
        return WINNOW_OK;
    struct wn_fused_qelt f = { .a_mul = (float)((double)a.scale / y.scale),
                               .b_mul = (float)((double)b.scale / y.scale),
                               .a_zp = a.zp,
                               .b_zp = b.zp,
                               .y_zp = y.zp,
                               .q_hi = 255 };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    wn_vid in[] = { wn_as_u8(g, node.in[0]), wn_as_u8(g, node.in[3]) }, out = wn_u8_result(g, node.out[0]);
    return fused && in[0] != WN_NONE && in[1] != WN_NONE && out != WN_NONE &&
                   wn_fused_add(g, "QAdd", node.name, in, 2, out, fused)
               ? WINNOW_OK
               : WN_OOM(err, &node);
}

static enum winnow_status qlinear_gap(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                      struct winnow_err *err)
{
    struct wn_qparam a, y;
    if (wn_node_int(&node, "channels_last", 0) || !param_of(g, &node, 1, node.in[0], &a) ||
        !param_of(g, &node, 3, node.out[0], &y))
        return WINNOW_OK;
    struct wn_fused_qelt f = { .a_mul = (float)((double)a.scale / y.scale), .a_zp = a.zp, .y_zp = y.zp, .q_hi = 255 };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, at);
    wn_vid in = wn_as_u8(g, node.in[0]), out = wn_u8_result(g, node.out[0]);
    return fused && in != WN_NONE && out != WN_NONE &&
                   wn_fused_add(g, "QGlobalAveragePool", node.name, &in, 1, out, fused)
               ? WINNOW_OK
               : WN_OOM(err, &node);
}

/* The dequantized twin of x; WN_NONE: out of memory. */
static wn_vid to_f32(struct wn_graph *g, const char *name, wn_vid x, struct wn_qparam q)
{
    struct wn_fused_qelt f = { .a_mul = q.scale, .a_zp = q.zp };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_vid in = wn_as_u8(g, x), y = wn_like(g, x, WINNOW_F32);
    return fused && in != WN_NONE && y != WN_NONE && wn_fused_add(g, "Dequantize", name, &in, 1, y, fused) ? y
                                                                                                           : WN_NONE;
}

/* x f32 quantized into y (u8 or i8). */
static bool from_f32(struct wn_graph *g, const char *name, wn_vid x, wn_vid y, struct wn_qparam q)
{
    struct wn_fused_qelt f = { .a_mul = q.scale, .y_zp = q.zp, .q_hi = 255 };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_vid out = wn_u8_result(g, y);
    return fused && out != WN_NONE && wn_fused_add(g, "Quantize", name, &x, 1, out, fused);
}

/* A function between Dequantize and Quantize: quant_eltwise.c makes it a table. */
static enum winnow_status qlinear_unary(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                        struct winnow_err *err)
{
    struct wn_qparam x, y;
    const char *op = strcmp(node.op_type, "QLinearSigmoid") == 0 ? "Sigmoid" : "LeakyRelu";
    if (wn_const_of(g, node.in[0]) || !param_of(g, &node, 1, node.in[0], &x) || !param_of(g, &node, 3, node.out[0], &y))
        return WINNOW_OK;
    wn_graph_kill(g, at);
    wn_vid in = to_f32(g, node.name, node.in[0], x), out = wn_like(g, node.out[0], WINNOW_F32);
    struct wn_node *f =
        in == WN_NONE || out == WN_NONE ? NULL : wn_graph_add_node(g, "", op, node.name, &in, 1, &out, 1);
    if (!f)
        return WN_OOM(err, &node);
    f->opset = 16;
    f->attr = node.attr;
    f->n_attr = node.n_attr;
    f->op = wn_ops_find("", op, f->opset);
    return from_f32(g, node.name, out, node.out[0], y) ? WINNOW_OK : WN_OOM(err, &node);
}

/* Each input requantized to the output's scale (quant_move.c makes that a table, or nothing), then a plain Concat. */
static enum winnow_status qlinear_concat(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                         struct winnow_err *err)
{
    wn_vid in[WN_OP_MAX_IN];
    struct wn_qparam x[WN_OP_MAX_IN], y;
    unsigned n = 0;
    enum winnow_dtype dtype = g->values.at[node.out[0]].type.dtype;
    if (!param_of(g, &node, 0, node.out[0], &y))
        return WINNOW_OK;
    for (unsigned i = 2; i + 2 < node.n_in; i += 3, n++) {
        in[n] = node.in[i];
        if (in[n] == WN_NONE || wn_const_of(g, in[n]) || !param_of(g, &node, i + 1, in[n], &x[n]))
            return WINNOW_OK;
    }
    wn_graph_kill(g, at);
    for (unsigned i = 0; i < n; i++) {
        wn_vid f = to_f32(g, node.name, in[i], x[i]);
        in[i] = wn_like(g, in[i], dtype);
        if (f == WN_NONE || in[i] == WN_NONE || !from_f32(g, node.name, f, in[i], y))
            return WN_OOM(err, &node);
    }
    struct wn_node *cat = wn_graph_add_node(g, "", "Concat", node.name, in, n, node.out, 1);
    if (!cat)
        return WN_OOM(err, &node);
    cat->opset = 13;
    cat->attr = node.attr;
    cat->n_attr = node.n_attr;
    cat->op = wn_ops_find("", "Concat", cat->opset);
    return WINNOW_OK;
}

/* The product of two activations: attention.c makes its integer form where it is attention's. */
static enum winnow_status qlinear_product(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                          struct winnow_err *err)
{
    struct wn_qparam a, b, y;
    if (wn_const_of(g, node.in[0]) || wn_const_of(g, node.in[3]) || !param_of(g, &node, 1, node.in[0], &a) ||
        !param_of(g, &node, 4, node.in[3], &b) || !param_of(g, &node, 6, node.out[0], &y))
        return WINNOW_OK;
    wn_graph_kill(g, at);
    wn_vid in[] = { to_f32(g, node.name, node.in[0], a), to_f32(g, node.name, node.in[3], b) };
    wn_vid out = wn_like(g, node.out[0], WINNOW_F32);
    struct wn_node *product = in[0] == WN_NONE || in[1] == WN_NONE || out == WN_NONE
                                  ? NULL
                                  : wn_graph_add_node(g, "", "MatMul", node.name, in, 2, &out, 1);
    if (!product)
        return WN_OOM(err, &node);
    product->opset = 13;
    product->op = wn_ops_find("", "MatMul", product->opset);
    return from_f32(g, node.name, out, node.out[0], y) ? WINNOW_OK : WN_OOM(err, &node);
}

static enum winnow_status qlinear_matmul(struct wn_graph *g, struct wn_node node, struct wn_node *at,
                                         struct winnow_err *err)
{
    return (wn_const_of(g, node.in[3]) ? qlinear_layer : qlinear_product)(g, node, at, err);
}

static const struct {
    const char *domain, *type;
    rewrite_fn *rewrite;
} forms[] = {
    { "", "QuantizeLinear", quantize },
    { "", "DequantizeLinear", dequantize },
    { "", "QLinearConv", qlinear_conv },
    { "", "QLinearMatMul", qlinear_matmul },
    { "com.microsoft", "QGemm", qgemm },
    { "com.microsoft", "QuantizeLinear", quantize },
    { "com.microsoft", "DequantizeLinear", dequantize },
    { "com.microsoft", "QLinearAdd", qlinear_add },
    { "com.microsoft", "QLinearGlobalAveragePool", qlinear_gap },
    { "com.microsoft", "QLinearSigmoid", qlinear_unary },
    { "com.microsoft", "QLinearLeakyRelu", qlinear_unary },
    { "com.microsoft", "QLinearConcat", qlinear_concat },
};

enum winnow_status wn_pass_quant_forms(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++)
        for (size_t k = 0; k < WN_COUNT(forms); k++) {
            struct wn_node *node = &g->nodes.at[i];
            if (wn_node_is_in(node, forms[k].domain, forms[k].type)) {
                const struct wn_node old = *node;
                WN_TRY(forms[k].rewrite(g, old, node, err));
                wn_give_back_inputs(g, &old);
                break;
            }
        }
    return WINNOW_OK;
}
