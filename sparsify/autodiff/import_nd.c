/* import_nd.c: one reading per ONNX operator on tensors of any rank, as encoders use them.
 * Source: ONNX Operators (onnx/onnx docs/Operators.md), opset 7 to 23 spellings of each. */
#include <math.h>
#include <string.h>
#include "sparsify/autodiff/import.h"

/* ---- operands ---- */

/** A logical value for what is known or made in every step; -1 when out of memory or not a number. */
static int wrap(struct wn_import *im, wn_vid v)
{
    if (im->wrap[v] >= 0)
        return im->wrap[v];
    const struct wn_tensor *t = im->known[v] ? im->known[v] : im->g->values.at[v].constant;
    const struct wn_tensor *given = t ? NULL : im->step[v];
    const struct wn_tensor *shape = t ? t : given;
    if (!shape || shape->dtype == WINNOW_STRING || (t && t->dtype != WINNOW_F32 && t->dtype != WINNOW_BOOL))
        return -1;
    int at = wn_net_add_val(im->net, &im->net->logical, im->g->values.at[v].name, v, shape->rank, shape->dim);
    if (at < 0)
        return -1;
    struct wn_net_val *nv = &im->net->logical.val.at[at];
    nv->given = given;
    if (t) {
        int64_t n = wn_tensor_count(t);
        float *f = wn_arena_alloc(&im->net->arena, (size_t)(n + 1) * sizeof *f);
        for (int64_t i = 0; f && i < n; i++)
            f[i] = t->dtype == WINNOW_F32 ? ((const float *)t->data)[i] : (float)((const uint8_t *)t->data)[i];
        nv->fixed = f;
        if (!f)
            return -1;
    }
    return im->wrap[v] = at;
}

/** Input i as a logical value, whatever it is; -1: it is none. */
static int operand(struct wn_import *im, const struct wn_node *n, unsigned i)
{
    int v = wn_im_in(im, n, i);
    return v >= 0 || i >= n->n_in || n->in[i] == WN_NONE ? v : wrap(im, n->in[i]);
}

/** A value between two operators of one node. */
static struct wn_net_op *between(struct wn_import *im, const struct wn_node *n, const struct wn_rule *rule, int x,
                                 unsigned rank, const int64_t *dim, int *ret)
{
    const char *name = wn_im_val(im, x)->name;
    size_t floats = 1;
    for (unsigned i = 0; i < rank; i++)
        if (dim[i] < 1 || !wn_mul_size(floats, (size_t)dim[i], &floats) || floats > INT32_MAX)
            return NULL;
    *ret = wn_net_add_val(im->net, &im->net->logical, name, WN_NONE, rank, dim);
    return *ret < 0 ? NULL : wn_net_add_op(&im->net->arena, &im->net->logical, rule, n->name, &x, 1, *ret);
}

static enum winnow_status reshape_to(struct wn_import *im, const struct wn_node *n, int x, unsigned rank,
                                     const int64_t *dim)
{
    return wn_im_emit(im, n, &wn_rule_reshape, &x, 1, rank, dim) ? WINNOW_OK : NOMEM();
}

static bool axis_of(int64_t *axis, unsigned rank)
{
    *axis += *axis < 0 ? rank : 0;
    return *axis >= 0 && *axis < rank;
}

/** Shape of a op b by broadcasting; false where they do not fit. */
static bool broadcast(const struct wn_net_val *a, unsigned rank, const int64_t *dim, unsigned *ret_rank, int64_t *ret)
{
    *ret_rank = WN_MAX(a->rank, rank);
    for (unsigned i = 0; i < *ret_rank; i++) {
        int64_t x = i < a->rank ? a->dim[a->rank - 1 - i] : 1, y = i < rank ? dim[rank - 1 - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        ret[*ret_rank - 1 - i] = x == 1 ? y : x;
    }
    return true;
}

/* ---- elementwise, one input ---- */

static enum winnow_status elementwise(struct wn_import *im, const struct wn_node *n, enum wn_act_kind kind, float a,
                                      float b)
{
    int x = wn_im_in(im, n, 0);
    if (x < 0)
        x = wn_im_in(im, n, 1);
    struct wn_net_val xv = *wn_im_val(im, x);
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_act, &x, 1, xv.rank, xv.dim);
    if (!op)
        return NOMEM();
    op->u.act = (struct wn_act_args){ kind, a, b };
    return WINNOW_OK;
}

static enum winnow_status read_unary(struct wn_import *im, const struct wn_node *n)
{
    static const struct {
        const char *type;
        enum wn_act_kind kind;
        float a, b;
    } kinds[] = {
        { "Sqrt", WN_ACT_SQRT, 0, 0 },       { "Exp", WN_ACT_EXP, 0, 0 },           { "Log", WN_ACT_LOG, 0, 0 },
        { "Erf", WN_ACT_ERF, 0, 0 },         { "Abs", WN_ACT_ABS, 0, 0 },           { "Neg", WN_ACT_AFFINE, -1, 0 },
        { "Reciprocal", WN_ACT_POW, -1, 0 }, { "Relu", WN_ACT_CLAMP, 0, INFINITY },
    };
    for (size_t i = 0; i < WN_COUNT(kinds); i++)
        if (strcmp(n->op_type, kinds[i].type) == 0)
            return elementwise(im, n, kinds[i].kind, kinds[i].a, kinds[i].b);
    return UNSUPPORTED("%s", n->op_type);
}

static enum winnow_status read_gelu(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val xv = *wn_im_val(im, x);
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_gelu, &x, 1, xv.rank, xv.dim);
    if (!op)
        return NOMEM();
    op->u.by_tanh = wn_node_str_is(n, "approximate", "none", "tanh") || strcmp(n->op_type, "FastGelu") == 0;
    return WINNOW_OK;
}

static enum winnow_status read_cast(struct wn_import *im, const struct wn_node *n)
{
    if (wn_node_is(n, "Cast") && wn_node_int(n, "to", 1) != 1)
        return UNSUPPORTED("Cast of what is trained to another type than f32");
    return wn_im_read_identity(im, n);
}

/* ---- elementwise, two inputs ---- */

/** True for a constant that is trained: named like a parameter, or one number per feature. */
static bool is_param(const struct wn_import *im, const struct wn_node *n, unsigned i)
{
    static const char *const ends[] = { ".weight", ".bias", ".gamma", ".beta" };
    const struct wn_tensor *t = n->in[i] == WN_NONE ? NULL : im->g->values.at[n->in[i]].constant;
    if (!t || t->dtype != WINNOW_F32 || wn_tensor_count(t) < 2 || t->rank > 4)
        return false;
    const char *name = im->g->values.at[n->in[i]].name;
    size_t len = strlen(name);
    for (size_t k = 0; k < WN_COUNT(ends); k++)
        if (len > strlen(ends[k]) && strcmp(name + len - strlen(ends[k]), ends[k]) == 0)
            return true;
    return t->rank == 1;
}

/** linear(x) + constant: the bias of the layer. */
static bool take_bias(struct wn_import *im, const struct wn_node *n, unsigned act, unsigned con,
                      enum winnow_status *ret_status)
{
    struct wn_net_op *op = wn_im_sole_maker(im, n, act);
    const struct wn_tensor *t = wn_im_const(im, n, con);
    if (!op || op->rule != &wn_rule_linear || op->param[1] || t->rank < 1)
        return false;
    int64_t o = op->param[0]->dim[0];
    if (wn_tensor_count(t) != o || t->dim[t->rank - 1] != o)
        return false;
    const struct wn_node *layer = wn_graph_producer(im->g, n->in[act]);
    struct wn_param *p = wn_im_param(im, n, con, layer, WN_LAYER_LINEAR, WN_PARAM_BIAS, 1, &o, false);
    op->param[1] = p;
    *ret_status = p ? wn_im_absorb(im, n, op) : FAILED();
    return true;
}

static enum winnow_status with_param(struct wn_import *im, const struct wn_node *n, enum wn_bin_kind kind, unsigned con)
{
    int x = wn_im_in(im, n, 1 - con);
    struct wn_net_val xv = *wn_im_val(im, x);
    const struct wn_tensor *t = wn_im_const(im, n, con);
    int64_t dim[WINNOW_MAX_RANK];
    unsigned rank;
    if (!broadcast(&xv, t->rank, t->dim, &rank, dim))
        return MALFORMED("shapes that do not fit");
    struct wn_param *p = wn_im_param(im, n, con, n, WN_LAYER_OTHER,
                                     kind == WN_BIN_MUL ? WN_PARAM_SCALE : WN_PARAM_SHIFT, t->rank, t->dim, false);
    struct wn_net_op *op = p ? wn_im_emit(im, n, &wn_rule_binary, &x, 1, rank, dim) : NULL;
    if (!op)
        return p ? NOMEM() : FAILED();
    op->u.bin = (struct wn_bin_args){ .kind = kind, .param_first = con == 0, .rank = t->rank };
    memcpy(op->u.bin.dim, t->dim, t->rank * sizeof *t->dim);
    op->param[0] = p;
    return WINNOW_OK;
}

static enum winnow_status with_number(struct wn_import *im, const struct wn_node *n, enum wn_bin_kind kind, float c,
                                      bool first)
{
    switch (kind) {
    case WN_BIN_ADD:
        return elementwise(im, n, WN_ACT_AFFINE, 1, c);
    case WN_BIN_SUB:
        return first ? elementwise(im, n, WN_ACT_AFFINE, -1, c) : elementwise(im, n, WN_ACT_AFFINE, 1, -c);
    case WN_BIN_MUL:
        return elementwise(im, n, WN_ACT_AFFINE, c, 0);
    default:
        return elementwise(im, n, WN_ACT_AFFINE, 1.0f / c, 0);
    }
}

static enum winnow_status binary(struct wn_import *im, const struct wn_node *n, enum wn_bin_kind kind)
{
    for (unsigned con = 0; con < 2; con++) {
        const struct wn_tensor *t = wn_im_in(im, n, con) < 0 ? wn_im_const(im, n, con) : NULL;
        enum winnow_status s;
        float c;
        if (!t)
            continue;
        if (kind == WN_BIN_ADD && take_bias(im, n, 1 - con, con, &s))
            return s;
        if (wn_im_float(im, n, con, &c) && t->rank <= wn_im_val(im, wn_im_in(im, n, 1 - con))->rank &&
            !(kind == WN_BIN_DIV && con == 0))
            return with_number(im, n, kind, c, con == 0);
        if ((kind == WN_BIN_ADD || kind == WN_BIN_MUL) && is_param(im, n, con))
            return with_param(im, n, kind, con);
    }
    int in[2] = { operand(im, n, 0), operand(im, n, 1) };
    int64_t dim[WINNOW_MAX_RANK];
    unsigned rank;
    if (in[0] < 0 || in[1] < 0)
        return UNSUPPORTED("an operand that is not f32");
    struct wn_net_val a = *wn_im_val(im, in[0]), b = *wn_im_val(im, in[1]);
    if (!broadcast(&a, b.rank, b.dim, &rank, dim))
        return MALFORMED("shapes that do not fit");
    bool same = a.rank == b.rank && memcmp(a.dim, b.dim, a.rank * sizeof *a.dim) == 0 && !a.fixed && !b.fixed &&
                !a.given && !b.given;
    struct wn_net_op *op =
        wn_im_emit(im, n, same && kind == WN_BIN_ADD ? &wn_rule_add : &wn_rule_binary, in, 2, rank, dim);
    if (!op)
        return NOMEM();
    if (op->rule == &wn_rule_binary)
        op->u.bin.kind = kind;
    return WINNOW_OK;
}

static enum winnow_status read_add(struct wn_import *im, const struct wn_node *n)
{
    return binary(im, n, WN_BIN_ADD);
}
static enum winnow_status read_sub(struct wn_import *im, const struct wn_node *n)
{
    return binary(im, n, WN_BIN_SUB);
}
static enum winnow_status read_mul(struct wn_import *im, const struct wn_node *n)
{
    return binary(im, n, WN_BIN_MUL);
}
static enum winnow_status read_div(struct wn_import *im, const struct wn_node *n)
{
    return binary(im, n, WN_BIN_DIV);
}

static enum winnow_status read_pow(struct wn_import *im, const struct wn_node *n)
{
    float e;
    const struct wn_tensor *t = wn_im_const(im, n, 1);
    if (t && t->dtype == WINNOW_I64 && wn_tensor_count(t) == 1)
        e = (float)*(const int64_t *)t->data;
    else if (!wn_im_float(im, n, 1, &e))
        return UNSUPPORTED("Pow with an exponent that is not one constant number");
    return wn_im_in(im, n, 0) >= 0 ? elementwise(im, n, WN_ACT_POW, e, 0) : UNSUPPORTED("Pow of a constant");
}

static enum winnow_status read_where(struct wn_import *im, const struct wn_node *n)
{
    int in[3] = { operand(im, n, 0), operand(im, n, 1), operand(im, n, 2) };
    if (in[0] < 0 || in[1] < 0 || in[2] < 0 || wn_im_in(im, n, 0) >= 0)
        return UNSUPPORTED("a condition that is trained, or choices that are not f32");
    struct wn_net_val v = *wn_im_val(im, in[1]);
    int64_t dim[WINNOW_MAX_RANK];
    for (int i = 0; i < 3; i += 2) {
        struct wn_net_val o = *wn_im_val(im, in[i]);
        unsigned rank;
        if (!broadcast(&v, o.rank, o.dim, &rank, dim))
            return MALFORMED("shapes that do not fit");
        v.rank = rank;
        memcpy(v.dim, dim, sizeof dim);
    }
    return wn_im_emit(im, n, &wn_rule_where, in, 3, v.rank, v.dim) ? WINNOW_OK : NOMEM();
}

/* ---- products, softmax, sums ---- */

static enum winnow_status read_matmul(struct wn_import *im, const struct wn_node *n)
{
    const struct wn_tensor *w = n->n_in > 1 && wn_im_in(im, n, 1) < 0 ? wn_im_const(im, n, 1) : NULL;
    if (w && w->rank == 2 && !im->known[n->in[1]])
        return wn_im_read_matmul(im, n);
    int in[2] = { operand(im, n, 0), operand(im, n, 1) };
    if (in[0] < 0 || in[1] < 0)
        return UNSUPPORTED("an operand that is not f32");
    struct wn_net_val a = *wn_im_val(im, in[0]), b = *wn_im_val(im, in[1]), lead = a;
    if (a.rank < 2 || b.rank < 2)
        return UNSUPPORTED("a product of vectors");
    int64_t dim[WINNOW_MAX_RANK];
    unsigned rank;
    lead.rank = a.rank - 2;
    if (a.dim[a.rank - 1] != b.dim[b.rank - 2] || !broadcast(&lead, b.rank - 2, b.dim, &rank, dim))
        return MALFORMED("matrices that do not fit");
    dim[rank] = a.dim[a.rank - 2];
    dim[rank + 1] = b.dim[b.rank - 1];
    return wn_im_emit(im, n, &wn_rule_bmm, in, 2, rank + 2, dim) ? WINNOW_OK : NOMEM();
}

static enum winnow_status read_softmax(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t axis = wn_node_int(n, "axis", n->opset >= 13 ? -1 : 1), behind = 1;
    if (!axis_of(&axis, v.rank))
        return MALFORMED("axis out of range");
    for (unsigned i = (unsigned)axis + 1; n->opset < 13 && i < v.rank; i++)
        behind *= v.dim[i];
    if (n->opset >= 13 ? axis != (int64_t)v.rank - 1 : behind != 1 && axis != (int64_t)v.rank - 1)
        return UNSUPPORTED("Softmax along another axis than the last");
    return wn_im_emit(im, n, &wn_rule_softmax, &x, 1, v.rank, v.dim) ? WINNOW_OK : NOMEM();
}

static enum winnow_status read_reduce(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0), kept;
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t tmp[16], dim[WINNOW_MAX_RANK], short_dim[WINNOW_MAX_RANK];
    size_t count;
    unsigned bits = 0, rank = 0;
    const int64_t *axes = wn_im_ints(im, n, 1, &count, tmp);
    if (!axes)
        axes = wn_node_ints(n, "axes", &count);
    if (n->n_in > 1 && n->in[1] != WN_NONE && !axes)
        return UNSUPPORTED("axes that are not constant");
    for (size_t i = 0; axes && i < count; i++) {
        int64_t a = axes[i];
        if (!axis_of(&a, v.rank))
            return MALFORMED("axis out of range");
        bits |= 1u << a;
    }
    if (!axes || !count)
        bits = wn_node_int(n, "noop_with_empty_axes", 0) ? 0 : (1u << v.rank) - 1;
    for (unsigned i = 0; i < v.rank; i++) {
        dim[i] = bits >> i & 1 ? 1 : v.dim[i];
        if (!(bits >> i & 1))
            short_dim[rank++] = v.dim[i];
    }
    bool keep = wn_node_int(n, "keepdims", 1) != 0;
    struct wn_net_op *op = keep ? wn_im_emit(im, n, &wn_rule_reduce, &x, 1, v.rank, dim)
                                : between(im, n, &wn_rule_reduce, x, v.rank, dim, &kept);
    if (!op)
        return NOMEM();
    op->u.reduce = (struct wn_reduce_args){ bits, wn_node_is(n, "ReduceMean") };
    return keep ? WINNOW_OK : reshape_to(im, n, kept, rank, short_dim);
}

static enum winnow_status read_norm(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    int64_t axis = wn_node_int(n, "axis", -1);
    if (x < 0)
        return UNSUPPORTED("LayerNormalization of a constant");
    struct wn_net_val v = *wn_im_val(im, x);
    if (!axis_of(&axis, v.rank) || axis != (int64_t)v.rank - 1)
        return UNSUPPORTED("LayerNormalization over more than the last axis");
    int64_t f = v.dim[v.rank - 1];
    struct wn_param *scale = wn_im_param(im, n, 1, n, WN_LAYER_OTHER, WN_PARAM_SCALE, 1, &f, false), *shift = NULL;
    bool has_shift = n->n_in > 2 && n->in[2] != WN_NONE;
    if (!scale || (has_shift && !(shift = wn_im_param(im, n, 2, n, WN_LAYER_OTHER, WN_PARAM_SHIFT, 1, &f, false))))
        return FAILED();
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_norm, &x, 1, v.rank, v.dim);
    if (!op)
        return NOMEM();
    op->u.eps = wn_node_float(n, "epsilon", 1e-5f);
    op->param[0] = scale;
    op->param[1] = shift;
    return WINNOW_OK;
}

/* ---- moving elements ---- */

static enum winnow_status read_reshape(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    if (x < 0)
        return UNSUPPORTED("a shape that is trained");
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t tmp[16], dim[WINNOW_MAX_RANK], known = 1, total = wn_val_count(&v);
    size_t count, free_axis = SIZE_MAX;
    const int64_t *shape = wn_im_ints(im, n, 1, &count, tmp);
    if (!shape || count > WINNOW_MAX_RANK)
        return UNSUPPORTED("a shape that depends on the data");
    for (size_t i = 0; i < count; i++) {
        dim[i] = shape[i] == 0 && !wn_node_int(n, "allowzero", 0) ? (i < v.rank ? v.dim[i] : 0) : shape[i];
        if (dim[i] == -1 && free_axis == SIZE_MAX)
            free_axis = i;
        else if (dim[i] < 1 || known > INT32_MAX / dim[i])
            return MALFORMED("shape out of range");
        else
            known *= dim[i];
    }
    if (free_axis != SIZE_MAX)
        dim[free_axis] = total / known;
    if (free_axis != SIZE_MAX ? known * dim[free_axis] != total : known != total)
        return MALFORMED("%lld elements do not fit the shape", (long long)total);
    return reshape_to(im, n, x, (unsigned)count, dim);
}

static enum winnow_status read_flatten(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t axis = wn_node_int(n, "axis", 1), dim[2] = { 1, 1 };
    axis += axis < 0 ? v.rank : 0;
    if (axis < 0 || axis > v.rank)
        return MALFORMED("axis out of range");
    for (unsigned i = 0; i < v.rank; i++)
        dim[i >= axis] *= v.dim[i];
    return reshape_to(im, n, x, 2, dim);
}

/** Squeeze and Unsqueeze. */
static enum winnow_status read_squeeze(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val v = *wn_im_val(im, x);
    bool more = wn_node_is(n, "Unsqueeze");
    int64_t tmp[16], dim[WINNOW_MAX_RANK];
    size_t count;
    unsigned bits = 0, rank = 0, in = 0;
    const int64_t *axes = wn_im_ints(im, n, 1, &count, tmp);
    if (!axes)
        axes = wn_node_ints(n, "axes", &count);
    unsigned out_rank = more ? v.rank + (unsigned)count : v.rank;
    if ((more && !axes) || (n->n_in > 1 && !axes) || out_rank > WINNOW_MAX_RANK)
        return UNSUPPORTED("axes that are not constant");
    for (size_t i = 0; i < count; i++) {
        int64_t a = axes[i];
        if (!axis_of(&a, out_rank))
            return MALFORMED("axis out of range");
        bits |= 1u << a;
    }
    for (unsigned i = 0; more && i < out_rank; i++)
        if (!(bits >> i & 1) && in >= v.rank)
            return MALFORMED("an axis twice");
        else
            dim[rank++] = bits >> i & 1 ? 1 : v.dim[in++];
    for (unsigned i = 0; !more && i < v.rank; i++) {
        bool drop = axes ? bits >> i & 1 : v.dim[i] == 1;
        if (drop && v.dim[i] != 1)
            return MALFORMED("Squeeze of an axis of %lld", (long long)v.dim[i]);
        if (!drop)
            dim[rank++] = v.dim[i];
    }
    return reshape_to(im, n, x, rank, dim);
}

static enum winnow_status read_transpose(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val v = *wn_im_val(im, x);
    size_t count;
    const int64_t *perm = wn_node_ints(n, "perm", &count);
    int64_t dim[WINNOW_MAX_RANK];
    int p[WINNOW_MAX_RANK];
    unsigned seen = 0;
    if (perm && count != v.rank)
        return MALFORMED("perm of %zu axes", count);
    for (unsigned i = 0; i < v.rank; i++) {
        int64_t a = perm ? perm[i] : (int64_t)v.rank - 1 - i;
        if (a < 0 || a >= v.rank || seen >> a & 1)
            return MALFORMED("perm is no permutation");
        seen |= 1u << a;
        p[i] = (int)a;
        dim[i] = v.dim[a];
    }
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_perm, &x, 1, v.rank, dim);
    if (!op)
        return NOMEM();
    memcpy(op->u.perm, p, sizeof p);
    return WINNOW_OK;
}

/** x along `axis` at index[0 … count - 1] (taken over by the operator). `last`: this makes the node's output. */
static struct wn_net_op *take(struct wn_import *im, const struct wn_node *n, int x, int axis, int64_t count,
                              const int64_t *index, bool last, int *ret)
{
    struct wn_net_val v = *wn_im_val(im, x);
    v.dim[axis] = count;
    struct wn_net_op *op = last ? wn_im_emit(im, n, &wn_rule_take, &x, 1, v.rank, v.dim)
                                : between(im, n, &wn_rule_take, x, v.rank, v.dim, ret);
    if (op)
        op->u.take = (struct wn_take_args){ axis, count, index };
    return op;
}

static enum winnow_status read_slice(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    int64_t ts[16], te[16], ta[16], tp[16];
    size_t ns, ne, na, np;
    const int64_t *s = wn_im_ints(im, n, 1, &ns, ts), *e = wn_im_ints(im, n, 2, &ne, te);
    const int64_t *a = wn_im_ints(im, n, 3, &na, ta), *p = wn_im_ints(im, n, 4, &np, tp);
    if (n->n_in == 1) {
        s = wn_node_ints(n, "starts", &ns);
        e = wn_node_ints(n, "ends", &ne);
        a = wn_node_ints(n, "axes", &na);
    }
    if (x < 0 || !s || !e || ns != ne || ns < 1 || (a && na != ns) || (p && np != ns))
        return UNSUPPORTED("bounds that depend on the data");
    for (size_t i = 0; i < ns; i++) {
        struct wn_net_val v = *wn_im_val(im, x);
        int64_t ax = a ? a[i] : (int64_t)i, step = p ? p[i] : 1, count = 0;
        if (!axis_of(&ax, v.rank) || step == 0)
            return MALFORMED("axis or step out of range");
        int64_t d = v.dim[ax], from = s[i] < 0 ? s[i] + d : s[i], to = e[i] < -d ? -1 : e[i] < 0 ? e[i] + d : e[i];
        from = step > 0 ? WN_MAX(0, WN_MIN(from, d)) : WN_MAX(0, WN_MIN(from, d - 1));
        to = step > 0 ? WN_MAX(0, WN_MIN(to, d)) : WN_MAX(-1, WN_MIN(to, d));
        int64_t *index = wn_arena_alloc(&im->net->arena, (size_t)(d + 1) * sizeof *index);
        if (!index)
            return NOMEM();
        for (int64_t k = from; count < d && (step > 0 ? k < to : k > to); k += step)
            index[count++] = k;
        if (!count)
            return UNSUPPORTED("an empty result");
        if (!take(im, n, x, (int)ax, count, index, i + 1 == ns, &x))
            return NOMEM();
    }
    return WINNOW_OK;
}

static enum winnow_status read_gather(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0), taken;
    const struct wn_tensor *t = wn_im_const(im, n, 1);
    if (x < 0 || !t || (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32))
        return UNSUPPORTED("Gather of an activation at places that depend on the data");
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t axis = wn_node_int(n, "axis", 0), count = wn_tensor_count(t);
    if (!axis_of(&axis, v.rank) || count < 1 || count > INT32_MAX || v.rank - 1 + t->rank > WINNOW_MAX_RANK)
        return MALFORMED("axis out of range, or nothing gathered");
    int64_t *index = wn_arena_alloc(&im->net->arena, (size_t)count * sizeof *index), dim[WINNOW_MAX_RANK];
    if (!index)
        return NOMEM();
    for (int64_t i = 0; i < count; i++) {
        index[i] = t->dtype == WINNOW_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
        index[i] += index[i] < 0 ? v.dim[axis] : 0;
        if (index[i] < 0 || index[i] >= v.dim[axis])
            return MALFORMED("index out of range");
    }
    if (t->rank == 1)
        return take(im, n, x, (int)axis, count, index, true, &taken) ? WINNOW_OK : NOMEM();
    if (!take(im, n, x, (int)axis, count, index, false, &taken))
        return NOMEM();
    unsigned rank = 0;
    for (unsigned i = 0; i < axis; i++)
        dim[rank++] = v.dim[i];
    for (unsigned i = 0; i < t->rank; i++)
        dim[rank++] = t->dim[i];
    for (unsigned i = (unsigned)axis + 1; i < v.rank; i++)
        dim[rank++] = v.dim[i];
    return reshape_to(im, n, taken, rank, dim);
}

static enum winnow_status read_embed(struct wn_import *im, const struct wn_node *n)
{
    const struct wn_tensor *t = im->g->values.at[n->in[0]].constant, *ids = wn_im_const(im, n, 1);
    ids = ids ? ids : im->step[n->in[1]];
    if (!ids || (ids->dtype != WINNOW_I64 && ids->dtype != WINNOW_I32) || ids->rank + 1 > WINNOW_MAX_RANK)
        return UNSUPPORTED("rows of a table by what is not integers");
    int64_t dim[WINNOW_MAX_RANK];
    int none = -1;
    memcpy(dim, ids->dim, ids->rank * sizeof *dim);
    dim[ids->rank] = t->dim[1];
    struct wn_param *p = wn_im_param(im, n, 0, n, WN_LAYER_EMBEDDING, WN_PARAM_WEIGHT, 2, t->dim, false);
    struct wn_net_op *op = p ? wn_im_emit(im, n, &wn_rule_embed, &none, 0, ids->rank + 1, dim) : NULL;
    if (!op)
        return p ? NOMEM() : FAILED();
    op->u.ids = ids;
    op->param[0] = p;
    return WINNOW_OK;
}

static enum winnow_status read_gather_any(struct wn_import *im, const struct wn_node *n)
{
    return wn_im_in(im, n, 0) < 0 && wn_im_in(im, n, 1) < 0 ? read_embed(im, n) : read_gather(im, n);
}

static enum winnow_status read_split(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    if (x < 0)
        return UNSUPPORTED("sizes that are trained");
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t axis = wn_node_int(n, "axis", 0), tmp[16], from = 0;
    size_t count;
    const int64_t *size = wn_im_ints(im, n, 1, &count, tmp);
    if (!size)
        size = wn_node_ints(n, "split", &count);
    if (!axis_of(&axis, v.rank) || (size && count != n->n_out))
        return MALFORMED("axis or sizes out of range");
    int64_t each = (v.dim[axis] + n->n_out - 1) / n->n_out;
    for (unsigned i = 0; i < n->n_out; i++) {
        int64_t c = size ? size[i] : WN_MIN(each, v.dim[axis] - from);
        if (c < 1 || c > v.dim[axis] - from)
            return MALFORMED("parts of another length than the whole");
        int64_t *index = wn_arena_alloc(&im->net->arena, (size_t)c * sizeof *index);
        if (!index)
            return NOMEM();
        for (int64_t k = 0; k < c; k++)
            index[k] = from + k;
        from += c;
        if (n->out[i] == WN_NONE)
            continue;
        int part;
        if (!take(im, n, x, (int)axis, c, index, false, &part))
            return NOMEM();
        struct wn_net_val *pv = &im->net->logical.val.at[part];
        pv->name = im->g->values.at[n->out[i]].name;
        pv->vid = n->out[i];
        im->val[n->out[i]] = part;
    }
    return WINNOW_OK;
}

static enum winnow_status read_concat(struct wn_import *im, const struct wn_node *n)
{
    int in[64];
    struct wn_net_val sum = { 0 };
    int64_t axis = wn_node_int(n, "axis", 0);
    if (n->n_in < 1 || n->n_in > WN_COUNT(in))
        return UNSUPPORTED("%u inputs", n->n_in);
    for (unsigned i = 0; i < n->n_in; i++) {
        if ((in[i] = operand(im, n, i)) < 0)
            return UNSUPPORTED("an operand that is not f32");
        struct wn_net_val v = *wn_im_val(im, in[i]);
        if (!i) {
            if (!axis_of(&axis, v.rank))
                return MALFORMED("axis out of range");
            sum = v;
            continue;
        }
        for (unsigned d = 0; d < sum.rank; d++)
            if (v.rank != sum.rank || (d != axis && v.dim[d] != sum.dim[d]))
                return MALFORMED("inputs of different shapes");
        sum.dim[axis] += v.dim[axis];
    }
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_join, in, n->n_in, sum.rank, sum.dim);
    if (!op)
        return NOMEM();
    op->u.axis = (int)axis;
    return WINNOW_OK;
}

static enum winnow_status read_expand(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    int64_t tmp[16], dim[WINNOW_MAX_RANK];
    size_t count;
    unsigned rank;
    const int64_t *shape = wn_im_ints(im, n, 1, &count, tmp);
    if (x < 0 || !shape || count > WINNOW_MAX_RANK)
        return UNSUPPORTED("a shape that depends on the data");
    struct wn_net_val v = *wn_im_val(im, x);
    if (!broadcast(&v, (unsigned)count, shape, &rank, dim))
        return MALFORMED("shapes that do not fit");
    return wn_im_emit(im, n, &wn_rule_expand, &x, 1, rank, dim) ? WINNOW_OK : NOMEM();
}

/* ---- the table ---- */

static const struct {
    const char *domain, *type;
    wn_read_fn *read;
} readers[] = {
    { "", "Abs", read_unary },
    { "", "Add", read_add },
    { "", "Cast", read_cast },
    { "", "CastLike", read_cast },
    { "", "Clip", wn_im_read_clip },
    { "", "Concat", read_concat },
    { "", "Div", read_div },
    { "", "Dropout", wn_im_read_dropout },
    { "", "Erf", read_unary },
    { "", "Exp", read_unary },
    { "", "Expand", read_expand },
    { "", "Flatten", read_flatten },
    { "", "Gather", read_gather_any },
    { "", "Gelu", read_gelu },
    { "", "Gemm", wn_im_read_gemm },
    { "", "HardSigmoid", wn_im_read_hardsigmoid },
    { "", "HardSwish", wn_im_read_hardswish },
    { "", "Identity", wn_im_read_identity },
    { "", "LayerNormalization", read_norm },
    { "", "LeakyRelu", wn_im_read_leaky },
    { "", "Log", read_unary },
    { "", "MatMul", read_matmul },
    { "", "Mul", read_mul },
    { "", "Neg", read_unary },
    { "", "Pow", read_pow },
    { "", "Reciprocal", read_unary },
    { "", "ReduceMean", read_reduce },
    { "", "ReduceSum", read_reduce },
    { "", "Relu", read_unary },
    { "", "Reshape", read_reshape },
    { "", "Sigmoid", wn_im_read_sigmoid },
    { "", "Slice", read_slice },
    { "", "Softmax", read_softmax },
    { "", "Split", read_split },
    { "", "Sqrt", read_unary },
    { "", "Squeeze", read_squeeze },
    { "", "Sub", read_sub },
    { "", "Tanh", wn_im_read_tanh },
    { "", "Transpose", read_transpose },
    { "", "Unsqueeze", read_squeeze },
    { "", "Where", read_where },
    { "com.microsoft", "Gelu", read_gelu },
};

wn_read_fn *wn_import_nd_reader(const struct wn_node *n)
{
    for (size_t i = 0; i < WN_COUNT(readers); i++)
        if (strcmp(n->op_type, readers[i].type) == 0 && strcmp(n->domain, readers[i].domain) == 0)
            return readers[i].read;
    return NULL;
}
