/* import_read.c: one reading per ONNX operator: checks, output shape, parameters.
 * Source: ONNX Operators (onnx/onnx docs/Operators.md), opset 7 to 21 spellings of each. */
#include <math.h>
#include <string.h>
#include "sparsify/autodiff/import.h"

/* ---- small helpers ---- */

int wn_im_in(const struct wn_import *im, const struct wn_node *n, unsigned i)
{
    return i < n->n_in && n->in[i] != WN_NONE ? im->val[n->in[i]] : -1;
}

const struct wn_net_val *wn_im_val(const struct wn_import *im, int v)
{
    return &im->net->logical.val.at[v];
}

const struct wn_tensor *wn_im_const(const struct wn_import *im, const struct wn_node *n, unsigned i)
{
    if (i >= n->n_in || n->in[i] == WN_NONE)
        return NULL;
    return im->known[n->in[i]] ? im->known[n->in[i]] : im->g->values.at[n->in[i]].constant;
}

const int64_t *wn_im_ints(const struct wn_import *im, const struct wn_node *n, unsigned i, size_t *count,
                          int64_t tmp[16])
{
    const struct wn_tensor *t = wn_im_const(im, n, i);
    int64_t c = t ? wn_tensor_count(t) : 0;
    *count = 0;
    if (!t || c > 16 || (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32))
        return NULL;
    for (int64_t k = 0; k < c; k++)
        tmp[k] = t->dtype == WINNOW_I64 ? ((const int64_t *)t->data)[k] : ((const int32_t *)t->data)[k];
    *count = (size_t)c;
    return tmp;
}

bool wn_im_float(const struct wn_import *im, const struct wn_node *n, unsigned i, float *ret)
{
    const struct wn_tensor *t = wn_im_const(im, n, i);
    if (!t || t->dtype != WINNOW_F32 || wn_tensor_count(t) != 1)
        return false;
    *ret = *(const float *)t->data;
    return true;
}

struct wn_net_op *wn_im_emit(struct wn_import *im, const struct wn_node *n, const struct wn_rule *rule, const int *ins,
                             unsigned n_in, unsigned rank, const int64_t *dim)
{
    size_t floats = 1;
    for (unsigned i = 0; i < rank; i++)
        if (dim[i] < 1 || !wn_mul_size(floats, (size_t)dim[i], &floats) || floats > INT32_MAX)
            return NULL;
    int out = wn_net_add_val(im->net, &im->net->logical, im->g->values.at[n->out[0]].name, n->out[0], rank, dim);
    if (out < 0)
        return NULL;
    im->val[n->out[0]] = out;
    return wn_net_add_op(&im->net->arena, &im->net->logical, rule, n->name, ins, n_in, out);
}

struct wn_net_op *wn_im_sole_maker(struct wn_import *im, const struct wn_node *n, unsigned i)
{
    int v = wn_im_in(im, n, i);
    if (v < 0 || wn_im_val(im, v)->maker < 0 || wn_graph_n_uses(im->g, n->in[i]) != 1)
        return NULL;
    return &im->net->logical.op.at[wn_im_val(im, v)->maker];
}

enum winnow_status wn_im_absorb(struct wn_import *im, const struct wn_node *n, struct wn_net_op *op)
{
    struct wn_net_val *v = &im->net->logical.val.at[op->out];
    v->name = im->g->values.at[n->out[0]].name;
    v->vid = n->out[0];
    im->val[n->out[0]] = op->out;
    return WINNOW_OK;
}

struct wn_param *wn_im_param(struct wn_import *im, const struct wn_node *n, unsigned i, const struct wn_node *layer,
                             enum wn_layer_class cls, enum wn_param_kind kind, unsigned rank, const int64_t *dim,
                             bool rows_last)
{
    const struct wn_tensor *t = wn_im_const(im, n, i);
    int64_t count = 1;
    for (unsigned k = 0; k < rank; k++)
        count *= dim[k];
    if (!t || im->known[n->in[i]] || t->dtype != WINNOW_F32 || wn_tensor_count(t) != count) {
        (void)wn_fail(im->err, WINNOW_E_UNSUPPORTED, "input %u is not a constant f32 tensor of the right size", i);
        return NULL;
    }
    struct wn_param *p = im->maker->param(im->maker->arg, n->in[i], layer, n, cls, kind, rank, dim, rows_last);
    if (!p)
        (void)NOMEM();
    return p;
}

/* ---- windows of convolutions and pools ---- */

struct frame {
    int64_t k[2], s[2], d[2], before[2], after[2], out[2];
};

static enum winnow_status frame(struct wn_import *im, const struct wn_node *n, const struct wn_net_val *x,
                                const int64_t *kernel, bool ceil_mode, struct frame *f)
{
    size_t ns, nd, np;
    const int64_t *s = wn_node_ints(n, "strides", &ns), *d = wn_node_ints(n, "dilations", &nd);
    const int64_t *p = wn_node_ints(n, "pads", &np);
    bool valid = wn_node_str_is(n, "auto_pad", "NOTSET", "VALID");
    bool upper = wn_node_str_is(n, "auto_pad", "NOTSET", "SAME_UPPER");
    bool lower = wn_node_str_is(n, "auto_pad", "NOTSET", "SAME_LOWER");
    if ((s && ns != 2) || (d && nd != 2) || (p && np != 4))
        return UNSUPPORTED("only windows over two axes");
    for (int i = 0; i < 2; i++) {
        int64_t size = x->dim[2 + i];
        f->k[i] = kernel[i];
        f->s[i] = s ? s[i] : 1;
        f->d[i] = d ? d[i] : 1;
        if (f->k[i] < 1 || f->k[i] > 1024 || f->s[i] < 1 || f->s[i] > 64 || f->d[i] < 1 || f->d[i] > 64)
            return UNSUPPORTED("kernel, stride or dilation out of range");
        int64_t span = (f->k[i] - 1) * f->d[i] + 1;
        f->before[i] = p && !valid ? p[i] : 0;
        f->after[i] = p && !valid ? p[2 + i] : 0;
        if (upper || lower) {
            int64_t total = WN_MAX(0, ((size + f->s[i] - 1) / f->s[i] - 1) * f->s[i] + span - size);
            f->before[i] = upper ? total / 2 : (total + 1) / 2;
            f->after[i] = total - f->before[i];
        }
        if (f->before[i] < 0 || f->after[i] < 0 || f->before[i] >= span || f->after[i] >= span)
            return UNSUPPORTED("pads that are negative or reach past the kernel");
        int64_t room = size + f->before[i] + f->after[i] - span;
        if (room < 0)
            return MALFORMED("kernel of %lld exceeds the padded input of %lld", (long long)span,
                             (long long)(room + span));
        f->out[i] = room / f->s[i] + 1;
        if (ceil_mode && room % f->s[i] && f->out[i] * f->s[i] < size + f->before[i]) {
            f->out[i]++;
            f->after[i] += f->s[i] - room % f->s[i];
        }
    }
    return WINNOW_OK;
}

static enum winnow_status need4(struct wn_import *im, int x)
{
    return x >= 0 && wn_im_val(im, x)->rank == 4 ? WINNOW_OK
                                                 : UNSUPPORTED("only pictures (N, C, H, W) can be trained here");
}

/* ---- weighted layers ---- */

static enum winnow_status read_conv(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    const struct wn_tensor *w = wn_im_const(im, n, 1);
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t group = wn_node_int(n, "group", 1);
    if (!w || w->rank != 4)
        return UNSUPPORTED("weights are not a constant of four axes");
    if (group < 1 || w->dim[0] < 1 || w->dim[0] % group || xv.dim[1] != w->dim[1] * group)
        return MALFORMED("weights for %lld channels, input has %lld", (long long)(w->dim[1] * group),
                         (long long)xv.dim[1]);
    struct frame f;
    WN_TRY(frame(im, n, &xv, &w->dim[2], false, &f));
    struct wn_param *pw = wn_im_param(im, n, 1, n, WN_LAYER_CONV, WN_PARAM_WEIGHT, 4, w->dim, false), *pb = NULL;
    if (pw && n->n_in > 2 && n->in[2] != WN_NONE) {
        pb = wn_im_param(im, n, 2, n, WN_LAYER_CONV, WN_PARAM_BIAS, 1, w->dim, false);
        if (!pb)
            return FAILED();
    }
    if (!pw)
        return FAILED();
    pw->macs = (double)pw->n * (double)(f.out[0] * f.out[1]);
    int64_t dim[4] = { xv.dim[0], w->dim[0], f.out[0], f.out[1] };
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_conv, &x, 1, 4, dim);
    if (!op)
        return NOMEM();
    op->u.conv = (struct wn_conv_args){ (int)group,      (int)f.k[0],      (int)f.k[1],      (int)f.s[0],
                                        (int)f.s[1],     (int)f.before[0], (int)f.before[1], (int)f.after[0],
                                        (int)f.after[1], (int)f.d[0],      (int)f.d[1] };
    op->param[0] = pw;
    op->param[1] = pb;
    return WINNOW_OK;
}

static enum winnow_status linear(struct wn_import *im, const struct wn_node *n, bool rows_last, bool bias)
{
    int x = wn_im_in(im, n, 0);
    const struct wn_tensor *w = wn_im_const(im, n, 1);
    if (x < 0 || !wn_im_val(im, x)->rank || !w || w->rank != 2 || w->dim[0] < 1 || w->dim[1] < 1)
        return UNSUPPORTED("only products of an activation and a constant matrix");
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t o = rows_last ? w->dim[1] : w->dim[0], i = rows_last ? w->dim[0] : w->dim[1];
    if (xv.dim[xv.rank - 1] != i)
        return MALFORMED("matrix for %lld features, input has %lld", (long long)i, (long long)xv.dim[xv.rank - 1]);
    int64_t wd[2] = { o, i };
    struct wn_param *pw = wn_im_param(im, n, 1, n, WN_LAYER_LINEAR, WN_PARAM_WEIGHT, 2, wd, rows_last), *pb = NULL;
    if (!pw || (bias && !(pb = wn_im_param(im, n, 2, n, WN_LAYER_LINEAR, WN_PARAM_BIAS, 1, &o, false))))
        return FAILED();
    int64_t rows = 1;
    for (unsigned k = 1; k + 1 < xv.rank; k++)
        rows *= xv.dim[k];
    pw->macs = (double)pw->n * (double)rows;
    int64_t dim[WINNOW_MAX_RANK];
    memcpy(dim, xv.dim, sizeof dim);
    dim[xv.rank - 1] = o;
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_linear, &x, 1, xv.rank, dim);
    if (!op)
        return NOMEM();
    op->param[0] = pw;
    op->param[1] = pb;
    return WINNOW_OK;
}

enum winnow_status wn_im_read_matmul(struct wn_import *im, const struct wn_node *n)
{
    return linear(im, n, true, false);
}

enum winnow_status wn_im_read_gemm(struct wn_import *im, const struct wn_node *n)
{
    if (wn_node_int(n, "transA", 0) || wn_node_float(n, "alpha", 1.0f) != 1.0f ||
        wn_node_float(n, "beta", 1.0f) != 1.0f)
        return UNSUPPORTED("Gemm with transA, alpha or beta");
    if (wn_im_in(im, n, 0) >= 0 && wn_im_val(im, wn_im_in(im, n, 0))->rank != 2)
        return MALFORMED("Gemm of an input that is not a matrix");
    return linear(im, n, !wn_node_int(n, "transB", 0), n->n_in > 2 && n->in[2] != WN_NONE);
}

static enum winnow_status read_bn(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    struct wn_net_val xv = *wn_im_val(im, x);
    static const enum wn_param_kind kinds[4] = { WN_PARAM_SCALE, WN_PARAM_SHIFT, WN_PARAM_MEAN, WN_PARAM_VAR };
    struct wn_param *p[4];
    for (unsigned i = 0; i < 4; i++)
        if (!(p[i] = wn_im_param(im, n, i + 1, n, WN_LAYER_BN, kinds[i], 1, &xv.dim[1], false)))
            return FAILED();
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_bn, &x, 1, 4, xv.dim);
    if (!op)
        return NOMEM();
    op->u.bn.eps = wn_node_float(n, "epsilon", 1e-5f);
    memcpy(op->param, p, sizeof p);
    return WINNOW_OK;
}

/* ---- activations ---- */

static enum winnow_status activation(struct wn_import *im, const struct wn_node *n, enum wn_act_kind kind, float a,
                                     float b)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val xv = *wn_im_val(im, x);
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_act, &x, 1, xv.rank, xv.dim);
    if (!op)
        return NOMEM();
    op->u.act = (struct wn_act_args){ kind, a, b };
    return WINNOW_OK;
}

enum winnow_status wn_im_read_relu(struct wn_import *im, const struct wn_node *n)
{
    struct wn_net_op *op = wn_im_sole_maker(im, n, 0);
    if (op && op->rule == &wn_rule_bn && !op->u.bn.relu) {
        op->u.bn.relu = true;
        return wn_im_absorb(im, n, op);
    }
    if (op && op->rule == &wn_rule_add && !op->u.relu) {
        op->u.relu = true;
        return wn_im_absorb(im, n, op);
    }
    return activation(im, n, WN_ACT_CLAMP, 0.0f, INFINITY);
}

enum winnow_status wn_im_read_clip(struct wn_import *im, const struct wn_node *n)
{
    float lo = wn_node_float(n, "min", -INFINITY), hi = wn_node_float(n, "max", INFINITY);
    if ((n->n_in > 1 && n->in[1] != WN_NONE && !wn_im_float(im, n, 1, &lo)) ||
        (n->n_in > 2 && n->in[2] != WN_NONE && !wn_im_float(im, n, 2, &hi)))
        return UNSUPPORTED("bounds that are not constant");
    return activation(im, n, WN_ACT_CLAMP, lo, hi);
}

enum winnow_status wn_im_read_leaky(struct wn_import *im, const struct wn_node *n)
{
    float slope = wn_node_float(n, "alpha", 0.01f);
    return slope > 0 ? activation(im, n, WN_ACT_LEAKY, slope, 0) : UNSUPPORTED("LeakyRelu with alpha <= 0");
}
enum winnow_status wn_im_read_sigmoid(struct wn_import *im, const struct wn_node *n)
{
    return activation(im, n, WN_ACT_SIGMOID, 0, 0);
}
enum winnow_status wn_im_read_tanh(struct wn_import *im, const struct wn_node *n)
{
    return activation(im, n, WN_ACT_TANH, 0, 0);
}
enum winnow_status wn_im_read_hardsigmoid(struct wn_import *im, const struct wn_node *n)
{
    return activation(im, n, WN_ACT_HARDSIGMOID, wn_node_float(n, "alpha", 0.2f), wn_node_float(n, "beta", 0.5f));
}
enum winnow_status wn_im_read_hardswish(struct wn_import *im, const struct wn_node *n)
{
    return activation(im, n, WN_ACT_HARDSWISH, 0, 0);
}

enum winnow_status wn_im_read_identity(struct wn_import *im, const struct wn_node *n)
{
    im->val[n->out[0]] = wn_im_in(im, n, 0);
    return WINNOW_OK;
}

enum winnow_status wn_im_read_dropout(struct wn_import *im, const struct wn_node *n)
{
    float rate = wn_node_float(n, "ratio", 0.5f);
    if (n->n_in > 1 && n->in[1] != WN_NONE && !wn_im_float(im, n, 1, &rate))
        return UNSUPPORTED("a rate that is not constant");
    if (!(rate >= 0 && rate < 1))
        return MALFORMED("rate %g", (double)rate);
    if (rate == 0)
        return wn_im_read_identity(im, n);
    int x = wn_im_in(im, n, 0);
    struct wn_net_val xv = *wn_im_val(im, x);
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_dropout, &x, 1, xv.rank, xv.dim);
    if (!op)
        return NOMEM();
    op->u.drop = rate;
    return WINNOW_OK;
}

/* ---- several inputs ---- */

/** y = layer(x) + constant: a bias that an exporter spelled as an Add. */
static enum winnow_status read_bias(struct wn_import *im, const struct wn_node *n, unsigned act, unsigned con)
{
    struct wn_net_op *op = wn_im_sole_maker(im, n, act);
    const struct wn_tensor *t = wn_im_const(im, n, con);
    bool conv = op && op->rule == &wn_rule_conv, lin = op && op->rule == &wn_rule_linear;
    if (!t || !(conv || lin) || op->param[1])
        return UNSUPPORTED("Add of a constant that is not the bias of a layer");
    int64_t c = op->param[0]->dim[0], behind = 1;
    for (unsigned i = t->rank; i-- > 0 && t->dim[i] == 1;)
        behind++;
    if (wn_tensor_count(t) != c || (c > 1 && behind != (conv ? 3 : 1)))
        return UNSUPPORTED("Add of a constant that is not one number per channel");
    const struct wn_node *layer = wn_graph_producer(im->g, n->in[act]);
    struct wn_param *p =
        wn_im_param(im, n, con, layer, conv ? WN_LAYER_CONV : WN_LAYER_LINEAR, WN_PARAM_BIAS, 1, &c, false);
    if (!p)
        return FAILED();
    op->param[1] = p;
    return wn_im_absorb(im, n, op);
}

static bool same_shape(const struct wn_net_val *a, const struct wn_net_val *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0;
}

static enum winnow_status read_add(struct wn_import *im, const struct wn_node *n)
{
    int ins[32];
    if (n->n_in < 1 || n->n_in > WN_COUNT(ins))
        return UNSUPPORTED("%u inputs", n->n_in);
    if (n->n_in == 2 && wn_im_in(im, n, 0) < 0)
        return read_bias(im, n, 1, 0);
    if (n->n_in == 2 && wn_im_in(im, n, 1) < 0)
        return read_bias(im, n, 0, 1);
    for (unsigned i = 0; i < n->n_in; i++) {
        ins[i] = wn_im_in(im, n, i);
        if (ins[i] < 0 || !same_shape(wn_im_val(im, ins[i]), wn_im_val(im, ins[0])))
            return UNSUPPORTED("a sum of different shapes");
    }
    if (n->n_in == 1)
        return wn_im_read_identity(im, n);
    struct wn_net_val v = *wn_im_val(im, ins[0]);
    return wn_im_emit(im, n, &wn_rule_add, ins, n->n_in, v.rank, v.dim) ? WINNOW_OK : NOMEM();
}

static enum winnow_status read_concat(struct wn_import *im, const struct wn_node *n)
{
    int ins[256];
    if (n->n_in < 1 || n->n_in > WN_COUNT(ins))
        return UNSUPPORTED("%u inputs", n->n_in);
    struct wn_net_val sum = { 0 };
    for (unsigned i = 0; i < n->n_in; i++) {
        ins[i] = wn_im_in(im, n, i);
        if (ins[i] < 0 || (wn_im_val(im, ins[i])->rank != 4 && wn_im_val(im, ins[i])->rank != 2))
            return UNSUPPORTED("only pictures or features can be joined");
        struct wn_net_val v = *wn_im_val(im, ins[i]);
        int64_t c = v.dim[1];
        v.dim[1] = i ? sum.dim[1] : c;
        if (i && !same_shape(&v, &sum))
            return MALFORMED("inputs of different shapes");
        sum = v;
        sum.dim[1] = i ? sum.dim[1] + c : c;
    }
    int64_t axis = wn_node_int(n, "axis", 1);
    if (axis != 1 && axis + (int64_t)sum.rank != 1)
        return UNSUPPORTED("only along channels");
    return wn_im_emit(im, n, &wn_rule_concat, ins, n->n_in, sum.rank, sum.dim) ? WINNOW_OK : NOMEM();
}

/* ---- pools ---- */

static enum winnow_status pool(struct wn_import *im, const struct wn_node *n, enum wn_pool_kind kind, bool global)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    struct wn_net_val xv = *wn_im_val(im, x);
    size_t nk;
    const int64_t *k = global ? &xv.dim[2] : wn_node_ints(n, "kernel_shape", &nk);
    bool ceil_mode = !global && wn_node_int(n, "ceil_mode", 0);
    struct frame f = { { xv.dim[2], xv.dim[3] }, { 1, 1 }, { 1, 1 }, { 0, 0 }, { 0, 0 }, { 1, 1 } };
    if (!global) {
        if (!k || nk != 2)
            return UNSUPPORTED("only windows over two axes");
        WN_TRY(frame(im, n, &xv, k, ceil_mode, &f));
        if (f.d[0] != 1 || f.d[1] != 1 || (n->n_out > 1 && n->out[1] != WN_NONE))
            return UNSUPPORTED("dilated pools, or indices as an output");
    }
    if (kind == WN_POOL_AVG && wn_node_int(n, "count_include_pad", 0))
        kind = WN_POOL_AVG_INCLUDE_PAD;
    if (kind == WN_POOL_AVG_INCLUDE_PAD && ceil_mode)
        return UNSUPPORTED("ceil_mode together with count_include_pad");
    int64_t dim[4] = { xv.dim[0], xv.dim[1], f.out[0], f.out[1] };
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_pool, &x, 1, 4, dim);
    if (!op)
        return NOMEM();
    op->u.pool =
        (struct wn_pool_args){ kind,        global,           (int)f.k[0],      (int)f.k[1],     (int)f.s[0],
                               (int)f.s[1], (int)f.before[0], (int)f.before[1], (int)f.after[0], (int)f.after[1] };
    return WINNOW_OK;
}

static enum winnow_status read_maxpool(struct wn_import *im, const struct wn_node *n)
{
    return pool(im, n, WN_POOL_MAX, false);
}
static enum winnow_status read_avgpool(struct wn_import *im, const struct wn_node *n)
{
    return pool(im, n, WN_POOL_AVG, false);
}
static enum winnow_status read_gap(struct wn_import *im, const struct wn_node *n)
{
    return pool(im, n, WN_POOL_AVG, true);
}
static enum winnow_status read_gmp(struct wn_import *im, const struct wn_node *n)
{
    return pool(im, n, WN_POOL_MAX, true);
}

/* ---- shapes ---- */

static enum winnow_status reshape_to(struct wn_import *im, const struct wn_node *n, int x, unsigned rank,
                                     const int64_t *dim)
{
    return wn_im_emit(im, n, &wn_rule_flatten, &x, 1, rank, dim) ? WINNOW_OK : NOMEM();
}

static enum winnow_status read_flatten(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t axis = wn_node_int(n, "axis", 1), dim[2] = { xv.dim[0], wn_val_count(&xv) / xv.dim[0] };
    if (axis != 1 && axis + (int64_t)xv.rank != 1)
        return UNSUPPORTED("Flatten that joins the batch axis");
    return xv.rank == 2 ? wn_im_read_identity(im, n) : reshape_to(im, n, x, 2, dim);
}

static enum winnow_status read_reshape(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t tmp[16], dim[WINNOW_MAX_RANK] = { xv.dim[0] }, row = wn_val_count(&xv) / xv.dim[0], known = 1;
    size_t count;
    const int64_t *shape = wn_im_ints(im, n, 1, &count, tmp);
    if (!shape)
        shape = wn_node_ints(n, "shape", &count);
    if (!shape || count < 2 || count > WINNOW_MAX_RANK)
        return UNSUPPORTED("a shape that is not constant");
    if (shape[0] != 0 && shape[0] != -1 && shape[0] != im->file_batch)
        return UNSUPPORTED("Reshape that changes the batch axis");
    size_t free_axis = 0;
    for (size_t i = 1; i < count; i++) {
        dim[i] = shape[i] == 0 && i < xv.rank ? xv.dim[i] : shape[i];
        if (dim[i] == -1 && !free_axis)
            free_axis = i;
        else if (dim[i] < 1 || known > INT32_MAX / dim[i])
            return MALFORMED("shape out of range");
        else
            known *= dim[i];
    }
    if (free_axis)
        dim[free_axis] = row / known;
    if (free_axis ? known * dim[free_axis] != row : known != row)
        return MALFORMED("%lld elements per row do not fit the shape", (long long)row);
    if (count == xv.rank && memcmp(dim, xv.dim, count * sizeof dim[0]) == 0)
        return wn_im_read_identity(im, n);
    return reshape_to(im, n, x, (unsigned)count, dim);
}

static enum winnow_status read_squeeze(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t tmp[16], dim[2] = { xv.dim[0], xv.dim[1] };
    size_t count;
    const int64_t *axes = wn_im_ints(im, n, 1, &count, tmp);
    if (!axes)
        axes = wn_node_ints(n, "axes", &count);
    bool two = axes && count == 2 && (axes[0] + 4) % 4 + (axes[1] + 4) % 4 == 5 && (axes[0] + 4) % 4 >= 2;
    if (!two || xv.dim[2] != 1 || xv.dim[3] != 1)
        return UNSUPPORTED("Squeeze of other axes than height and width");
    return reshape_to(im, n, x, 2, dim);
}

static enum winnow_status read_reduce_mean(struct wn_import *im, const struct wn_node *n)
{
    int64_t tmp[16];
    size_t count;
    const int64_t *axes = wn_im_ints(im, n, 1, &count, tmp);
    if (!axes)
        axes = wn_node_ints(n, "axes", &count);
    if (!axes || count != 2 || (axes[0] + 4) % 4 + (axes[1] + 4) % 4 != 5 || (axes[0] + 4) % 4 < 2)
        return UNSUPPORTED("ReduceMean over other axes than height and width");
    WN_TRY(pool(im, n, WN_POOL_AVG, true));
    if (wn_node_int(n, "keepdims", 1))
        return WINNOW_OK;
    int x = im->val[n->out[0]];
    struct wn_net_val xv = *wn_im_val(im, x);
    return reshape_to(im, n, x, 2, xv.dim);
}

static enum winnow_status window(struct wn_import *im, const struct wn_node *n, int x, struct wn_window_args a,
                                 const int64_t *dim)
{
    struct wn_net_op *op = wn_im_emit(im, n, &wn_rule_window, &x, 1, 4, dim);
    if (!op)
        return NOMEM();
    op->u.window = a;
    return WINNOW_OK;
}

static enum winnow_status read_pad(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    int64_t tmp[16], dim[4];
    size_t count;
    float value = wn_node_float(n, "value", 0.0f);
    const int64_t *p = wn_im_ints(im, n, 1, &count, tmp);
    if (!p)
        p = wn_node_ints(n, "pads", &count);
    if (n->n_in > 2 && n->in[2] != WN_NONE && !wn_im_float(im, n, 2, &value))
        return UNSUPPORTED("a value that is not constant");
    if (!wn_node_str_is(n, "mode", "constant", "constant") || value != 0.0f || !p || count != 8 ||
        (n->n_in > 3 && n->in[3] != WN_NONE))
        return UNSUPPORTED("Pad other than with a constant number of zeros");
    struct wn_net_val xv = *wn_im_val(im, x);
    for (int i = 0; i < 4; i++) {
        dim[i] = xv.dim[i] + p[i] + p[4 + i];
        if (dim[i] < 1 || p[i] < -xv.dim[i] || p[i] > 4096 || p[4 + i] > 4096)
            return MALFORMED("pads out of range");
    }
    if (p[0] || p[4])
        return UNSUPPORTED("Pad of the batch axis");
    return window(im, n, x, (struct wn_window_args){ p[1], -p[2], -p[3], 1, 1 }, dim);
}

static enum winnow_status read_slice(struct wn_import *im, const struct wn_node *n)
{
    int x = wn_im_in(im, n, 0);
    WN_TRY(need4(im, x));
    struct wn_net_val xv = *wn_im_val(im, x);
    int64_t ts[16], te[16], ta[16], tp[16], from[4] = { 0 }, step[4] = { 1, 1, 1, 1 }, dim[4];
    size_t ns, ne, na, np;
    const int64_t *s = wn_im_ints(im, n, 1, &ns, ts), *e = wn_im_ints(im, n, 2, &ne, te);
    const int64_t *a = wn_im_ints(im, n, 3, &na, ta), *p = wn_im_ints(im, n, 4, &np, tp);
    if (n->n_in == 1) {
        s = wn_node_ints(n, "starts", &ns);
        e = wn_node_ints(n, "ends", &ne);
        a = wn_node_ints(n, "axes", &na);
    }
    if (!s || !e || ns != ne || ns > 4 || (a && na != ns) || (p && np != ns))
        return UNSUPPORTED("bounds that are not constant");
    memcpy(dim, xv.dim, sizeof dim);
    for (size_t i = 0; i < ns; i++) {
        int64_t ax = a ? (a[i] < 0 ? a[i] + 4 : a[i]) : (int64_t)i;
        if (ax < 0 || ax > 3 || (p && p[i] < 1))
            return UNSUPPORTED("an axis out of range, or a step below 1");
        int64_t d = xv.dim[ax], b = s[i] < 0 ? s[i] + d : s[i], t = e[i] < 0 ? e[i] + d : e[i];
        b = WN_MIN(WN_MAX(b, 0), d);
        t = WN_MIN(WN_MAX(t, 0), d);
        step[ax] = p ? WN_MIN(p[i], d) : 1;
        from[ax] = b;
        dim[ax] = (t - b + step[ax] - 1) / step[ax];
        if (t <= b)
            return UNSUPPORTED("an empty result");
    }
    if (dim[0] != xv.dim[0] || step[1] != 1)
        return UNSUPPORTED("Slice of the batch axis, or of channels with a step");
    return window(im, n, x, (struct wn_window_args){ -from[1], from[2], from[3], step[2], step[3] }, dim);
}

/* ---- the table ---- */

static const struct {
    const char *type;
    wn_read_fn *read;
} readers[] = {
    { "Add", read_add },
    { "AveragePool", read_avgpool },
    { "BatchNormalization", read_bn },
    { "Clip", wn_im_read_clip },
    { "Concat", read_concat },
    { "Conv", read_conv },
    { "Dropout", wn_im_read_dropout },
    { "Flatten", read_flatten },
    { "Gemm", wn_im_read_gemm },
    { "GlobalAveragePool", read_gap },
    { "GlobalMaxPool", read_gmp },
    { "HardSigmoid", wn_im_read_hardsigmoid },
    { "HardSwish", wn_im_read_hardswish },
    { "Identity", wn_im_read_identity },
    { "LeakyRelu", wn_im_read_leaky },
    { "MatMul", wn_im_read_matmul },
    { "MaxPool", read_maxpool },
    { "Pad", read_pad },
    { "ReduceMean", read_reduce_mean },
    { "Relu", wn_im_read_relu },
    { "Reshape", read_reshape },
    { "Sigmoid", wn_im_read_sigmoid },
    { "Slice", read_slice },
    { "Squeeze", read_squeeze },
    { "Sum", read_add },
    { "Tanh", wn_im_read_tanh },
};

wn_read_fn *wn_import_reader(const struct wn_node *n)
{
    for (size_t i = 0; *n->domain == '\0' && i < WN_COUNT(readers); i++)
        if (strcmp(n->op_type, readers[i].type) == 0)
            return readers[i].read;
    return NULL;
}

bool wn_import_any_order(const struct wn_node *n)
{
    return strcmp(n->op_type, "Add") == 0 || strcmp(n->op_type, "Sum") == 0;
}

bool wn_import_is_softmax(const struct wn_node *n)
{
    return wn_node_is(n, "Softmax") || wn_node_is(n, "LogSoftmax");
}
