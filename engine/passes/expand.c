/* expand.c: operators that are a handful of others - ONNX Runtime's own (domain com.microsoft) and those of ONNX that
 * its specification defines by a function - are written as the standard operators they stand for. Every later pass,
 * the row proof and the kernels then know one spelling only.
 * Sources: ONNX Runtime docs/ContribOperators.md; ONNX Operators.md (function bodies).
 *
 * Answers stay the same up to f32 rounding; integer operators stay integer operators. */
#include "engine/passes/expand.h"

#include <string.h>
#include "engine/ops/impl.h"

/* ---- building ---- */

static struct wn_node *cur(struct wn_ex *ex)
{
    return &ex->g->nodes.at[ex->cur];
}

static void fail(struct wn_ex *ex, bool ok)
{
    ex->failed = ex->failed || !ok;
}

void wn_ex_start(struct wn_ex *ex, const char *op, int opset, const wn_vid *in, size_t n_in, wn_vid out)
{
    if (ex->failed) /* values are missing */
        return;
    const char *name = wn_arena_printf(ex->g->arena, "%s/%s", ex->node.name, op);
    if (out == WN_NONE)
        out = wn_graph_add_value(ex->g, NULL, WINNOW_UNDEFINED, -1, NULL);
    struct wn_node *node =
        name && out != WN_NONE ? wn_graph_add_node(ex->g, "", op, name, in, (unsigned)n_in, &out, 1) : NULL;
    fail(ex, node != NULL);
    if (!node)
        return;
    node->opset = opset;
    node->op = wn_ops_find("", op, opset);
    ex->cur = (wn_nid)(node - ex->g->nodes.at);
}

wn_vid wn_ex_also(struct wn_ex *ex, wn_vid out)
{
    if (out == WN_NONE)
        out = wn_graph_add_value(ex->g, NULL, WINNOW_UNDEFINED, -1, NULL);
    if (out == WN_NONE || ex->failed) {
        fail(ex, false);
        return WN_NONE;
    }
    struct wn_node *node = cur(ex);
    wn_vid *outs = wn_arena_calloc(ex->g->arena, node->n_out + 1u, sizeof *outs);
    fail(ex, outs != NULL);
    if (!outs)
        return WN_NONE;
    memcpy(outs, node->out, node->n_out * sizeof *outs);
    outs[node->n_out] = out;
    node->out = outs;
    node->n_out++;
    ex->g->values.at[out].producer = ex->cur;
    return out;
}

void wn_ex_int(struct wn_ex *ex, const char *name, int64_t v)
{
    fail(ex, !ex->failed && wn_node_set_int(ex->g, cur(ex), name, v));
}

void wn_ex_float(struct wn_ex *ex, const char *name, float v)
{
    fail(ex, !ex->failed && wn_node_set_float(ex->g, cur(ex), name, v));
}

void wn_ex_str(struct wn_ex *ex, const char *name, const char *v)
{
    fail(ex, !ex->failed && wn_node_set_str(ex->g, cur(ex), name, v));
}

void wn_ex_ints(struct wn_ex *ex, const char *name, const int64_t *v, size_t n)
{
    fail(ex, !ex->failed && wn_node_set_ints(ex->g, cur(ex), name, v, n));
}

/* What is known of the outputs now; what cannot be inferred stays open, wn_ops_infer_graph() will say why. */
static void infer(struct wn_graph *g, const struct wn_node *node)
{
    struct wn_infer in;
    struct wn_type out[WN_OP_MAX_IN];
    if (!node->op || node->n_in > WN_OP_MAX_IN || node->n_out > WN_OP_MAX_IN)
        return;
    wn_ops_infer_prepare(g, node, &in, out);
    if (wn_ops_infer_node(&in, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < node->n_out; i++) {
        struct wn_type *t = node->out[i] == WN_NONE ? NULL : &g->values.at[node->out[i]].type;
        if (t && !t->dtype)
            t->dtype = out[i].dtype;
        if (t && t->rank < 0 && out[i].rank >= 0) {
            t->rank = out[i].rank;
            memcpy(t->dim, out[i].dim, sizeof t->dim);
        }
    }
}

wn_vid wn_ex_done(struct wn_ex *ex)
{
    if (ex->failed)
        return WN_NONE;
    infer(ex->g, cur(ex));
    return cur(ex)->out[0];
}

wn_vid wn_ex_op(struct wn_ex *ex, const char *op, int opset, const wn_vid *in, size_t n_in, wn_vid out)
{
    wn_ex_start(ex, op, opset, in, n_in, out);
    return wn_ex_done(ex);
}

static wn_vid constant(struct wn_ex *ex, enum winnow_dtype dtype, unsigned rank, const int64_t *dim, const void *data)
{
    wn_vid v = ex->failed ? WN_NONE : wn_graph_add_const(ex->g, NULL, dtype, rank, dim, data);
    fail(ex, v != WN_NONE);
    return v;
}

wn_vid wn_ex_f32(struct wn_ex *ex, float v)
{
    return constant(ex, WINNOW_F32, 0, NULL, &v);
}

wn_vid wn_ex_number(struct wn_ex *ex, float v, wn_vid like)
{
    enum winnow_dtype t = wn_ex_type(ex, like)->dtype;
    if (t == WINNOW_UNDEFINED)
        return wn_ex_op(ex, "CastLike", 15, WN_EX_IN(wn_ex_f32(ex, v), like), WN_NONE);
    wn_vid c = constant(ex, t, 0, NULL, NULL);
    if (c != WN_NONE)
        wn_store(t, ex->g->values.at[c].constant->data, 0, 1, WN_CLS_F32, &v);
    return c;
}

wn_vid wn_ex_i64(struct wn_ex *ex, int64_t v)
{
    return constant(ex, WINNOW_I64, 0, NULL, &v);
}

wn_vid wn_ex_i64s(struct wn_ex *ex, const int64_t *v, int64_t n)
{
    return constant(ex, WINNOW_I64, 1, &n, v);
}

const struct wn_type *wn_ex_type(const struct wn_ex *ex, wn_vid v)
{
    static const struct wn_type unknown = { .dtype = WINNOW_UNDEFINED, .rank = -1, .dim = { -1 } };
    return v == WN_NONE ? &unknown : &ex->g->values.at[v].type;
}

/* ---- common steps ---- */

wn_vid wn_ex_reshape(struct wn_ex *ex, wn_vid x, const int64_t *shape, int64_t n, wn_vid out)
{
    return wn_ex_op(ex, "Reshape", 13, WN_EX_IN(x, wn_ex_i64s(ex, shape, n)), out);
}

wn_vid wn_ex_transpose(struct wn_ex *ex, wn_vid x, const int64_t *perm, size_t n, wn_vid out)
{
    wn_ex_start(ex, "Transpose", 13, WN_EX_IN(x), out);
    wn_ex_ints(ex, "perm", perm, n);
    return wn_ex_done(ex);
}

wn_vid wn_ex_unsqueeze(struct wn_ex *ex, wn_vid x, const int64_t *axes, int64_t n)
{
    return wn_ex_op(ex, "Unsqueeze", 13, WN_EX_IN(x, wn_ex_i64s(ex, axes, n)), WN_NONE);
}

wn_vid wn_ex_cast(struct wn_ex *ex, wn_vid x, enum winnow_dtype to, wn_vid out)
{
    wn_ex_start(ex, "Cast", 13, WN_EX_IN(x), out);
    wn_ex_int(ex, "to", to);
    return wn_ex_done(ex);
}

wn_vid wn_ex_extent(struct wn_ex *ex, wn_vid x, int64_t axis)
{
    wn_ex_start(ex, "Shape", 15, WN_EX_IN(x), WN_NONE);
    wn_ex_int(ex, "start", axis);
    if (axis != -1)
        wn_ex_int(ex, "end", axis + 1);
    return wn_ex_done(ex);
}

wn_vid wn_ex_range(struct wn_ex *ex, wn_vid n)
{
    wn_vid scalar = wn_ex_op(ex, "Squeeze", 13, WN_EX_IN(n), WN_NONE);
    return wn_ex_op(ex, "Range", 11, WN_EX_IN(wn_ex_i64(ex, 0), scalar, wn_ex_i64(ex, 1)), WN_NONE);
}

static wn_vid constant_columns(struct wn_ex *ex, const struct wn_tensor *t, int64_t from, int64_t n)
{
    int64_t dim[WINNOW_MAX_RANK], cols = t->dim[t->rank - 1], rows = cols ? wn_tensor_count(t) / cols : 0;
    size_t elem = winnow_dtype_size(t->dtype);
    memcpy(dim, t->dim, sizeof dim);
    dim[t->rank - 1] = n;
    wn_vid v = constant(ex, t->dtype, t->rank, dim, NULL);
    for (int64_t r = 0; v != WN_NONE && r < rows; r++)
        memcpy((char *)ex->g->values.at[v].constant->data + (size_t)(r * n) * elem,
               (const char *)t->data + (size_t)(r * cols + from) * elem, (size_t)n * elem);
    return v;
}

wn_vid wn_ex_columns(struct wn_ex *ex, wn_vid x, int64_t from, int64_t n)
{
    const struct wn_tensor *t = wn_const_of(ex->g, x);
    const struct wn_type *type = wn_ex_type(ex, x);
    if (x == WN_NONE || type->rank == 0 || (t && wn_tensor_count(t) == 1))
        return x;
    if (t && t->dtype != WINNOW_STRING && from + n <= t->dim[t->rank - 1])
        return constant_columns(ex, t, from, n);
    return wn_ex_op(ex, "Slice", 13,
                    WN_EX_IN(x, WN_EX_I64S(ex, from), WN_EX_I64S(ex, from + n), WN_EX_I64S(ex, -1), WN_EX_I64S(ex, 1)),
                    WN_NONE);
}

static wn_vid add_if(struct wn_ex *ex, wn_vid x, wn_vid b)
{
    return b == WN_NONE ? x : wn_ex_op(ex, "Add", 14, WN_EX_IN(x, b), WN_NONE);
}

wn_vid wn_ex_int_product(struct wn_ex *ex, wn_vid a, wn_vid a_scale, wn_vid a_zp, wn_vid b, wn_vid b_scale, wn_vid b_zp,
                         wn_vid bias, wn_vid out)
{
    wn_vid acc = wn_ex_op(ex, "MatMulInteger", 10, WN_EX_IN(a, b, a_zp, b_zp), WN_NONE);
    wn_vid f = wn_ex_cast(ex, acc, WINNOW_F32, WN_NONE);
    wn_vid scale = wn_ex_op(ex, "Mul", 14, WN_EX_IN(a_scale, b_scale), WN_NONE);
    if (bias == WN_NONE)
        return wn_ex_op(ex, "Mul", 14, WN_EX_IN(f, scale), out);
    return wn_ex_op(ex, "Add", 14, WN_EX_IN(wn_ex_op(ex, "Mul", 14, WN_EX_IN(f, scale), WN_NONE), bias), out);
}

/* ---- activations ---- */

static wn_vid gelu(struct wn_ex *ex, wn_vid x, bool tanh_form)
{
    wn_ex_start(ex, "Gelu", 20, WN_EX_IN(x), wn_ex_out(ex, 0));
    if (tanh_form)
        wn_ex_str(ex, "approximate", "tanh");
    return wn_ex_done(ex);
}

static enum winnow_status erf_gelu(struct wn_ex *ex) /* Gelu, and BiasGelu with its bias */
{
    gelu(ex, add_if(ex, wn_ex_in(ex, 0), wn_ex_in(ex, 1)), false);
    return WINNOW_OK;
}

static enum winnow_status fast_gelu(struct wn_ex *ex)
{
    gelu(ex, add_if(ex, wn_ex_in(ex, 0), wn_ex_in(ex, 1)), true);
    return WINNOW_OK;
}

static enum winnow_status quick_gelu(struct wn_ex *ex) /* x * sigmoid(alpha * x) */
{
    wn_ex_start(ex, "Swish", 24, WN_EX_IN(wn_ex_in(ex, 0)), wn_ex_out(ex, 0));
    wn_ex_float(ex, "alpha", wn_node_float(&ex->node, "alpha", 1.702f));
    wn_ex_done(ex);
    return WINNOW_OK;
}

/* ---- normalizations ---- */

/* input + skip + bias, the bias first: on the product that it belongs to, which then takes both into its epilogue. */
static wn_vid skip_sum(struct wn_ex *ex, wn_vid bias)
{
    wn_vid in[] = { wn_ex_in(ex, 0), wn_ex_in(ex, 1) };
    const struct wn_node *second = wn_graph_producer(ex->g, in[1]);
    unsigned product = second && wn_node_is(second, "MatMul") ? 1 : 0;
    in[product] = add_if(ex, in[product], bias);
    return wn_ex_op(ex, "Add", 14, WN_EX_IN(in[0], in[1]), wn_ex_out(ex, 3));
}

static enum winnow_status skip_layer_norm(struct wn_ex *ex)
{
    /* input, skip, gamma, beta, bias -> output, mean, inv_std_var, sum */
    wn_vid x = skip_sum(ex, wn_ex_in(ex, 4));
    wn_ex_start(ex, "LayerNormalization", 17, WN_EX_IN(x, wn_ex_in(ex, 2), wn_ex_in(ex, 3)), wn_ex_out(ex, 0));
    wn_ex_float(ex, "epsilon", wn_node_float(&ex->node, "epsilon", 1e-12f));
    for (unsigned i = 1; i < 3 && (wn_ex_out(ex, 1) != WN_NONE || wn_ex_out(ex, 2) != WN_NONE); i++)
        wn_ex_also(ex, wn_ex_out(ex, i));
    wn_ex_done(ex);
    return WINNOW_OK;
}

static enum winnow_status rms(struct wn_ex *ex, wn_vid x, wn_vid gamma)
{
    if (wn_ex_out(ex, 1) != WN_NONE || wn_ex_out(ex, 2) != WN_NONE)
        return wn_ex_lack(ex, "outputs of statistics");
    wn_ex_start(ex, "RMSNormalization", 23, WN_EX_IN(x, gamma), wn_ex_out(ex, 0));
    wn_ex_int(ex, "axis", wn_node_int(&ex->node, "axis", -1));
    wn_ex_float(ex, "epsilon", wn_node_float(&ex->node, "epsilon", 1e-5f));
    wn_ex_done(ex);
    return WINNOW_OK;
}

static enum winnow_status skip_rms_norm(struct wn_ex *ex) /* input, skip, gamma, bias -> output, mean, inv, sum */
{
    return rms(ex, skip_sum(ex, wn_ex_in(ex, 3)), wn_ex_in(ex, 2));
}

static enum winnow_status rms_norm(struct wn_ex *ex)
{
    return rms(ex, wn_ex_in(ex, 0), wn_ex_in(ex, 1));
}

/* (x - mean(x)) / (sqrt(mean(x^2) - mean(x)^2) + 1e-9), over `axes`: the function of ONNX. */
static enum winnow_status mean_variance(struct wn_ex *ex)
{
    static const int64_t usual[] = { 0, 2, 3 };
    size_t n;
    const int64_t *axes = wn_node_ints(&ex->node, "axes", &n);
    if (!axes) {
        axes = usual;
        n = 3;
    }
    wn_vid x = wn_ex_in(ex, 0), over = wn_ex_i64s(ex, axes, (int64_t)n);
    wn_vid mean = wn_ex_op(ex, "ReduceMean", 18, WN_EX_IN(x, over), WN_NONE);
    wn_vid mean_of_squares =
        wn_ex_op(ex, "ReduceMean", 18, WN_EX_IN(wn_ex_op(ex, "Mul", 14, WN_EX_IN(x, x), WN_NONE), over), WN_NONE);
    wn_vid square_of_mean = wn_ex_op(ex, "Mul", 14, WN_EX_IN(mean, mean), WN_NONE);
    wn_vid variance = wn_ex_op(ex, "Sub", 14, WN_EX_IN(mean_of_squares, square_of_mean), WN_NONE);
    wn_vid deviation = wn_ex_op(ex, "Sqrt", 13, WN_EX_IN(variance), WN_NONE);
    wn_vid eps = wn_ex_number(ex, 1e-9f, x);
    wn_vid centred = wn_ex_op(ex, "Sub", 14, WN_EX_IN(x, mean), WN_NONE);
    wn_ex_op(ex, "Div", 14, WN_EX_IN(centred, wn_ex_op(ex, "Add", 14, WN_EX_IN(deviation, eps), WN_NONE)),
             wn_ex_out(ex, 0));
    return WINNOW_OK;
}

/* Before opset 21 scale and bias are per group: each stands for all channels of its group. */
static enum winnow_status group_norm_18(struct wn_ex *ex)
{
    wn_vid x = wn_ex_in(ex, 0), param[2];
    int64_t groups = wn_node_int(&ex->node, "num_groups", 0);
    const struct wn_type *t = wn_ex_type(ex, x);
    if (t->rank < 2 || t->dim[1] < 1 || groups < 1 || t->dim[1] % groups)
        return wn_ex_lack(ex, "%lld groups of an unknown or unfitting number of channels", (long long)groups);
    int64_t each[] = { groups, t->dim[1] / groups }, channels = t->dim[1];
    for (unsigned i = 0; i < 2; i++) {
        wn_vid column = wn_ex_reshape(ex, wn_ex_in(ex, i + 1), (const int64_t[]){ groups, 1 }, 2, WN_NONE);
        wn_vid wide = wn_ex_op(ex, "Expand", 13, WN_EX_IN(column, wn_ex_i64s(ex, each, 2)), WN_NONE);
        param[i] = wn_ex_reshape(ex, wide, &channels, 1, WN_NONE);
    }
    wn_ex_start(ex, "GroupNormalization", 21, WN_EX_IN(x, param[0], param[1]), wn_ex_out(ex, 0));
    wn_ex_int(ex, "num_groups", groups);
    wn_ex_float(ex, "epsilon", wn_node_float(&ex->node, "epsilon", 1e-5f));
    wn_ex_done(ex);
    return WINNOW_OK;
}

/* ---- embeddings ---- */

/* The mask's ones per row, as i32: what Attention of this domain takes as key lengths. Zeros without a mask. */
static void mask_index(struct wn_ex *ex, wn_vid ids, wn_vid mask, wn_vid out)
{
    if (mask == WN_NONE) {
        wn_vid zero =
            wn_ex_op(ex, "Mul", 14, WN_EX_IN(wn_ex_cast(ex, ids, WINNOW_I64, WN_NONE), wn_ex_i64(ex, 0)), WN_NONE);
        mask = zero;
    } else {
        wn_vid one =
            wn_ex_op(ex, "Equal", 13, WN_EX_IN(wn_ex_cast(ex, mask, WINNOW_I64, WN_NONE), wn_ex_i64(ex, 1)), WN_NONE);
        mask = wn_ex_cast(ex, one, WINNOW_I64, WN_NONE);
    }
    wn_ex_start(ex, "ReduceSum", 13, WN_EX_IN(mask, WN_EX_I64S(ex, 1)), WN_NONE);
    wn_ex_int(ex, "keepdims", 0);
    wn_ex_cast(ex, wn_ex_done(ex), WINNOW_I32, out);
}

static enum winnow_status embed_layer_norm(struct wn_ex *ex)
{
    /* input_ids, segment_ids, word, position, segment, gamma, beta, mask, position_ids
     * -> output, mask_index, embedding_sum */
    wn_vid ids = wn_ex_in(ex, 0), segments = wn_ex_in(ex, 1), position_ids = wn_ex_in(ex, 8), sum = wn_ex_out(ex, 2);
    bool has_segments = segments != WN_NONE && wn_ex_in(ex, 4) != WN_NONE;
    if (wn_node_int(&ex->node, "mask_index_type", 0) > 0 && wn_ex_out(ex, 1) != WN_NONE)
        return wn_ex_lack(ex, "attribute mask_index_type above 0");
    wn_vid word = wn_ex_op(ex, "Gather", 13, WN_EX_IN(wn_ex_in(ex, 2), ids), WN_NONE), position;
    if (position_ids != WN_NONE)
        position = wn_ex_op(ex, "Gather", 13, WN_EX_IN(wn_ex_in(ex, 3), position_ids), WN_NONE);
    else
        position = wn_ex_op(ex, "Slice", 13,
                            WN_EX_IN(wn_ex_in(ex, 3), WN_EX_I64S(ex, 0), wn_ex_extent(ex, ids, 1), WN_EX_I64S(ex, 0)),
                            WN_NONE);
    wn_vid x = wn_ex_op(ex, "Add", 14, WN_EX_IN(word, position), has_segments ? WN_NONE : sum);
    if (has_segments) {
        wn_vid segment = wn_ex_op(ex, "Gather", 13, WN_EX_IN(wn_ex_in(ex, 4), segments), WN_NONE);
        x = wn_ex_op(ex, "Add", 14, WN_EX_IN(x, segment), sum);
    }
    wn_ex_start(ex, "LayerNormalization", 17, WN_EX_IN(x, wn_ex_in(ex, 5), wn_ex_in(ex, 6)), wn_ex_out(ex, 0));
    wn_ex_float(ex, "epsilon", wn_node_float(&ex->node, "epsilon", 1e-12f));
    wn_ex_done(ex);
    if (wn_ex_out(ex, 1) != WN_NONE)
        mask_index(ex, ids, wn_ex_in(ex, 7), wn_ex_out(ex, 1));
    return WINNOW_OK;
}

/* ---- products ---- */

static bool last_two_swapped(const struct wn_ex *ex, wn_vid x, int64_t perm[WINNOW_MAX_RANK], size_t *ret_rank)
{
    int rank = wn_ex_type(ex, x)->rank;
    for (int i = 0; i < rank; i++)
        perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    *ret_rank = (size_t)rank;
    return rank >= 2;
}

static enum winnow_status fused_matmul(struct wn_ex *ex) /* alpha * A' B' */
{
    static const char *const flag[] = { "transA", "transB" };
    wn_vid in[] = { wn_ex_in(ex, 0), wn_ex_in(ex, 1) };
    float alpha = wn_node_float(&ex->node, "alpha", 1);
    if (wn_node_int(&ex->node, "transBatchA", 0) || wn_node_int(&ex->node, "transBatchB", 0))
        return wn_ex_lack(ex, "attributes transBatchA, transBatchB");
    for (unsigned i = 0; i < 2; i++) {
        int64_t perm[WINNOW_MAX_RANK];
        size_t rank;
        if (!wn_node_int(&ex->node, flag[i], 0) || wn_ex_type(ex, in[i])->rank == 1) /* of a vector: nothing to do */
            continue;
        if (!last_two_swapped(ex, in[i], perm, &rank))
            return wn_ex_lack(ex, "%s of an input of unknown rank", flag[i]);
        in[i] = wn_ex_transpose(ex, in[i], perm, rank, WN_NONE);
    }
    wn_vid y = wn_ex_op(ex, "MatMul", 13, WN_EX_IN(in[0], in[1]), alpha == 1 ? wn_ex_out(ex, 0) : WN_NONE);
    if (alpha != 1) {
        wn_vid scale = wn_ex_number(ex, alpha, y);
        wn_ex_op(ex, "Mul", 14, WN_EX_IN(y, scale), wn_ex_out(ex, 0));
    }
    return WINNOW_OK;
}

/* Attribute `name` of the rewritten node, where it is there, for the one that was begun. */
static void inherit(struct wn_ex *ex, const char *name)
{
    const struct wn_attr *a = wn_node_attr(&ex->node, name);
    if (a && a->kind == WN_ATTR_INT)
        wn_ex_int(ex, name, a->i);
    else if (a && a->kind == WN_ATTR_FLOAT)
        wn_ex_float(ex, name, a->f);
    else if (a && a->kind == WN_ATTR_INTS)
        wn_ex_ints(ex, name, a->ints, a->n);
    else if (a && a->kind == WN_ATTR_STRING)
        wn_ex_str(ex, name, wn_arena_strndup(ex->g->arena, a->s.p, a->s.n));
}

/* The operator named by attribute `activation`, its parameters p [n] in the order of `takes`. */
static enum winnow_status activate(struct wn_ex *ex, wn_vid x, const float *p, size_t n, wn_vid out)
{
    static const struct {
        const char *op;
        int opset;
        const char *takes[2];
    } known[] = { { "Relu", 14, { NULL } },      { "Sigmoid", 13, { NULL } },
                  { "Tanh", 13, { NULL } },      { "LeakyRelu", 16, { "alpha" } },
                  { "Elu", 6, { "alpha" } },     { "HardSigmoid", 6, { "alpha", "beta" } },
                  { "Softplus", 1, { NULL } },   { "ThresholdedRelu", 10, { "alpha" } },
                  { "HardSwish", 14, { NULL } }, { "Clip", 6, { "min", "max" } } };
    for (size_t i = 0; i < WN_COUNT(known); i++) {
        if (!wn_node_str_is(&ex->node, "activation", "", known[i].op))
            continue;
        wn_ex_start(ex, known[i].op, known[i].opset, WN_EX_IN(x), out);
        for (size_t k = 0; k < 2 && known[i].takes[k] && k < n; k++)
            wn_ex_float(ex, known[i].takes[k], p[k]);
        wn_ex_done(ex);
        return WINNOW_OK;
    }
    return wn_ex_lack(ex, "its activation");
}

static enum winnow_status fused_gemm(struct wn_ex *ex)
{
    static const char *const param[] = { "activation_alpha", "activation_beta" };
    bool active = wn_node_attr(&ex->node, "activation") && !wn_node_str_is(&ex->node, "activation", "", "");
    float p[2];
    size_t n = 0;
    while (n < 2 && wn_node_attr(&ex->node, param[n])) {
        p[n] = wn_node_float(&ex->node, param[n], 0);
        n++;
    }
    wn_ex_start(ex, "Gemm", 13, WN_EX_IN(wn_ex_in(ex, 0), wn_ex_in(ex, 1), wn_ex_in(ex, 2)),
                active ? WN_NONE : wn_ex_out(ex, 0));
    inherit(ex, "alpha");
    inherit(ex, "beta");
    inherit(ex, "transA");
    inherit(ex, "transB");
    wn_vid y = wn_ex_done(ex);
    return active ? activate(ex, y, p, n, wn_ex_out(ex, 0)) : WINNOW_OK;
}

static enum winnow_status fused_conv(struct wn_ex *ex) /* activation(conv(X, W, B) + Z) */
{
    static const char *const same[] = { "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides" };
    const struct wn_attr *params = wn_node_attr(&ex->node, "activation_params");
    bool active = wn_node_attr(&ex->node, "activation") && !wn_node_str_is(&ex->node, "activation", "", "");
    wn_vid z = wn_ex_in(ex, 3);
    wn_ex_start(ex, "Conv", 11, WN_EX_IN(wn_ex_in(ex, 0), wn_ex_in(ex, 1), wn_ex_in(ex, 2)),
                active || z != WN_NONE ? WN_NONE : wn_ex_out(ex, 0));
    for (size_t i = 0; i < WN_COUNT(same); i++)
        inherit(ex, same[i]);
    wn_vid y = wn_ex_done(ex);
    if (z != WN_NONE)
        y = wn_ex_op(ex, "Add", 14, WN_EX_IN(y, z), active ? WN_NONE : wn_ex_out(ex, 0));
    bool floats = params && params->kind == WN_ATTR_FLOATS;
    return active ? activate(ex, y, floats ? params->floats : NULL, floats ? params->n : 0, wn_ex_out(ex, 0))
                  : WINNOW_OK;
}

static enum winnow_status scalar_input(struct wn_ex *ex, unsigned i, const char *what)
{
    wn_vid v = wn_ex_in(ex, i);
    const struct wn_type *t = v == WN_NONE ? NULL : wn_ex_type(ex, v);
    return !t || t->rank == 0 || (t->rank == 1 && t->dim[0] == 1) ? WINNOW_OK : wn_ex_lack(ex, "%s per row", what);
}

static enum winnow_status matmul_integer_to_float(struct wn_ex *ex) /* A, B, a_scale, b_scale, a_zp, b_zp, bias */
{
    WN_TRY(scalar_input(ex, 2, "a_scale"));
    wn_ex_int_product(ex, wn_ex_in(ex, 0), wn_ex_in(ex, 2), wn_ex_in(ex, 4), wn_ex_in(ex, 1), wn_ex_in(ex, 3),
                      wn_ex_in(ex, 5), wn_ex_in(ex, 6), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

static enum winnow_status dynamic_quantize_matmul(struct wn_ex *ex) /* A, B, b_scale, b_zp, bias */
{
    wn_ex_start(ex, "DynamicQuantizeLinear", 11, WN_EX_IN(wn_ex_in(ex, 0)), WN_NONE);
    wn_vid scale = wn_ex_also(ex, WN_NONE), zp = wn_ex_also(ex, WN_NONE), q = wn_ex_done(ex);
    wn_ex_int_product(ex, q, scale, zp, wn_ex_in(ex, 1), wn_ex_in(ex, 2), wn_ex_in(ex, 3), wn_ex_in(ex, 4),
                      wn_ex_out(ex, 0));
    return WINNOW_OK;
}

/* ---- an operator between DequantizeLinear and QuantizeLinear ---- */

static wn_vid dequantized(struct wn_ex *ex, unsigned x, unsigned scale)
{
    return wn_ex_op(ex, "DequantizeLinear", 13, WN_EX_IN(wn_ex_in(ex, x), wn_ex_in(ex, scale), wn_ex_in(ex, scale + 1)),
                    WN_NONE);
}

static enum winnow_status quantized(struct wn_ex *ex, wn_vid f, unsigned scale)
{
    wn_vid zp = wn_ex_in(ex, scale + 1);
    if (zp == WN_NONE) { /* the output then has the input's type */
        wn_vid zero = wn_ex_op(ex, "CastLike", 15, WN_EX_IN(wn_ex_i64(ex, 0), wn_ex_in(ex, 0)), WN_NONE);
        zp = zero;
    }
    wn_ex_op(ex, "QuantizeLinear", 13, WN_EX_IN(f, wn_ex_in(ex, scale), zp), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

static enum winnow_status qlinear_softmax(struct wn_ex *ex) /* X, X_scale, X_zp, Y_scale, Y_zp */
{
    int opset = (int)wn_node_int(&ex->node, "opset", 13);
    wn_ex_start(ex, "Softmax", opset, WN_EX_IN(dequantized(ex, 0, 1)), WN_NONE);
    wn_ex_int(ex, "axis", wn_node_int(&ex->node, "axis", -1));
    return quantized(ex, wn_ex_done(ex), 3);
}

static enum winnow_status qlinear_reduce_mean(struct wn_ex *ex)
{
    wn_ex_start(ex, "ReduceMean", 13, WN_EX_IN(dequantized(ex, 0, 1)), WN_NONE);
    inherit(ex, "axes");
    inherit(ex, "keepdims");
    return quantized(ex, wn_ex_done(ex), 3);
}

static enum winnow_status qlinear_average_pool(struct wn_ex *ex)
{
    static const char *const same[] = {
        "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"
    };
    if (wn_node_int(&ex->node, "channels_last", 0))
        return wn_ex_lack(ex, "attribute channels_last");
    wn_ex_start(ex, "AveragePool", 11, WN_EX_IN(dequantized(ex, 0, 1)), WN_NONE);
    for (size_t i = 0; i < WN_COUNT(same); i++)
        inherit(ex, same[i]);
    return quantized(ex, wn_ex_done(ex), 3);
}

static enum winnow_status qlinear_where(struct wn_ex *ex) /* condition, X, x_scale, x_zp, Y, y_scale, y_zp, z… */
{
    wn_vid x = dequantized(ex, 1, 2), y = dequantized(ex, 4, 5);
    wn_vid f = wn_ex_op(ex, "Where", 16, WN_EX_IN(wn_ex_in(ex, 0), x, y), WN_NONE);
    wn_ex_op(ex, "QuantizeLinear", 13, WN_EX_IN(f, wn_ex_in(ex, 7), wn_ex_in(ex, 8)), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

static enum winnow_status swiglu(struct wn_ex *ex)
{
    wn_ex_start(ex, "Swish", 24, WN_EX_IN(wn_ex_in(ex, 0)), WN_NONE);
    inherit(ex, "alpha");
    wn_ex_op(ex, "Mul", 14, WN_EX_IN(wn_ex_done(ex), wn_ex_in(ex, 1)), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

/* ---- the table ---- */

#define MS "com.microsoft"
static const struct expansion {
    const char *domain, *type;
    unsigned min_in, min_out;
    int until; /* first opset whose operator is ours; 0: none is */
    wn_expand_fn *expand;
} table[] = {
    { MS, "Gelu", 1, 1, 0, erf_gelu },
    { MS, "BiasGelu", 2, 1, 0, erf_gelu },
    { MS, "FastGelu", 1, 1, 0, fast_gelu },
    { MS, "QuickGelu", 1, 1, 0, quick_gelu },
    { MS, "SkipLayerNormalization", 3, 1, 0, skip_layer_norm },
    { MS, "SkipSimplifiedLayerNormalization", 3, 1, 0, skip_rms_norm },
    { MS, "SimplifiedLayerNormalization", 2, 1, 0, rms_norm },
    { "", "SimplifiedLayerNormalization", 2, 1, 0, rms_norm },
    { MS, "EmbedLayerNormalization", 7, 1, 0, embed_layer_norm },
    { "", "MeanVarianceNormalization", 1, 1, 0, mean_variance },
    { "", "GroupNormalization", 3, 1, 21, group_norm_18 },
    { MS, "FusedMatMul", 2, 1, 0, fused_matmul },
    { MS, "TransposeMatMul", 2, 1, 0, fused_matmul },
    { MS, "FusedGemm", 2, 1, 0, fused_gemm },
    { MS, "FusedConv", 2, 1, 0, fused_conv },
    { MS, "MatMulIntegerToFloat", 4, 1, 0, matmul_integer_to_float },
    { MS, "DynamicQuantizeMatMul", 3, 1, 0, dynamic_quantize_matmul },
    { MS, "QLinearSoftmax", 5, 1, 0, qlinear_softmax },
    { MS, "QLinearReduceMean", 4, 1, 0, qlinear_reduce_mean },
    { MS, "QLinearAveragePool", 4, 1, 0, qlinear_average_pool },
    { MS, "QLinearWhere", 9, 1, 0, qlinear_where },
    { MS, "Attention", 3, 1, 0, wn_expand_attention },
    { MS, "QAttention", 5, 1, 0, wn_expand_qattention },
    { MS, "MultiHeadAttention", 3, 1, 0, wn_expand_multi_head_attention },
    { "", "Attention", 3, 1, 0, wn_expand_onnx_attention },
    { "", "RotaryEmbedding", 3, 1, 0, wn_expand_rotary },
    { "", "SwiGLU", 2, 1, 0, swiglu },
};

static const struct expansion *expansion_of(const struct wn_node *node)
{
    for (size_t i = 0; i < WN_COUNT(table); i++)
        if (wn_node_is_in(node, table[i].domain, table[i].type) && (!table[i].until || node->opset < table[i].until))
            return &table[i];
    return NULL;
}

static enum winnow_status check(const struct wn_node *node, const struct expansion *e, struct winnow_err *err)
{
    for (unsigned i = 0; i < e->min_in; i++)
        if (wn_in(node, i) == WN_NONE && !(e->expand == embed_layer_norm && (i == 1 || i == 4)) &&
            !(e->expand == wn_expand_attention && i == 2))
            return wn_fail(err, WINNOW_E_MALFORMED, "node '%s': input %u of %s may not be omitted", node->name, i,
                           node->op_type);
    if (!node->n_out || node->out[0] == WN_NONE || node->n_in > WN_OP_MAX_IN || node->n_out > WN_OP_MAX_IN)
        return wn_fail(err, WINNOW_E_MALFORMED, "node '%s': %s with %u inputs and %u outputs", node->name,
                       node->op_type, node->n_in, node->n_out);
    return WINNOW_OK;
}

static enum winnow_status expand_node(struct wn_graph *g, size_t i, const struct expansion *e, struct winnow_err *err)
{
    struct wn_ex ex = { .g = g, .node = g->nodes.at[i], .err = err };
    WN_TRY(check(&ex.node, e, err));
    wn_graph_kill(g, &g->nodes.at[i]);
    WN_TRY(e->expand(&ex));
    return ex.failed ? WN_OOM(err, &ex.node) : WINNOW_OK;
}

static enum winnow_status expand_subgraphs(const struct wn_node *node, struct winnow_err *err)
{
    for (unsigned a = 0; a < node->n_attr; a++)
        if (node->attr[a].kind == WN_ATTR_GRAPH)
            WN_TRY(wn_pass_expand(node->attr[a].g, err));
    return WINNOW_OK;
}

enum winnow_status wn_pass_expand(struct wn_graph *g, struct winnow_err *err)
{
    size_t n = g->nodes.n;
    bool any = false;
    for (size_t i = 0; i < n; i++)
        if (!g->nodes.at[i].dead)
            WN_TRY(expand_subgraphs(&g->nodes.at[i], err));
    for (size_t i = 0; i < n && !any; i++)
        any = !g->nodes.at[i].dead && expansion_of(&g->nodes.at[i]);
    if (!any)
        return WINNOW_OK;
    for (size_t i = 0; i < n; i++)
        if (!g->nodes.at[i].op)
            g->nodes.at[i].op = wn_ops_find(g->nodes.at[i].domain, g->nodes.at[i].op_type, g->nodes.at[i].opset);
    WN_TRY(wn_pass_fold(g, err)); /* weights in Constant nodes */
    for (size_t i = 0; i < n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        const struct expansion *e = node->dead ? NULL : expansion_of(node);
        if (e)
            WN_TRY(expand_node(g, i, e, err));
        else if (!node->dead)
            infer(g, node);
    }
    return wn_graph_sort(g, err);
}
