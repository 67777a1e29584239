/* rules_conv.c: convolution and linear layers. Dense by oneDNN, or over the kept weights by the lanes kernels.
 *
 *   y = x * w + b        dx = dy * w^T        dw = x^T * dy  (kept positions)        db = sum of dy
 * Fake-quantized weights pass gradients straight through: their scale is max|w| / max, so no weight is out of range. */
#include "sparsify/autodiff/rules_impl.h"

/* ns per multiply-accumulate of all three passes (of a kept one, on the lanes side), measured by train_bench --costs on
 * one Zen 3 core, medians over layers of 24 … 256 channels: a convolution goes sparse from about 57 % zeros, a linear
 * layer from about 70 %, with what its neighbours do tipping the scales. */
#define COST_CONV_DENSE   0.085
#define COST_CONV_THIN    0.200 /* fewer than 8 input channels per group */
#define COST_CONV_LANES   0.200
#define COST_LINEAR_DENSE 0.085
#define COST_LINEAR_LANES 0.290

struct weighted {
    struct wn_lanes_conv *lanes;
    struct wn_dense_conv *dense;
    float *wq, *scale; /* fake-quantized weights */
};

static double kept_share(const struct wn_param *w)
{
    return w->n ? (double)w->kept / (double)w->n : 1.0;
}

static void weighted_release(struct wn_net_op *op)
{
    struct weighted *st = op->state;
    if (!st)
        return;
    wn_lanes_conv_free(st->lanes);
    wn_dense_conv_free(st->dense);
    free(st->wq);
    free(st->scale);
    free(st);
    op->state = NULL;
}

static enum winnow_status weighted_prepare(struct wn_net_op *op, struct winnow_err *err)
{
    struct weighted *st = op->state = calloc(1, sizeof *st);
    if (st && op->quant) {
        st->wq = malloc(op->param[0]->n * sizeof(float));
        st->scale = malloc((size_t)op->param[0]->dim[0] * sizeof(float));
    }
    if (!st || (op->quant && (!st->wq || !st->scale)))
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", op->name);
    return WINNOW_OK;
}

/** The weights this pass computes with. */
static const float *effective(struct wn_net *net, struct wn_net_op *op)
{
    struct weighted *st = op->state;
    struct wn_param *w = op->param[0];
    if (!op->quant || !net->simulate)
        return w->w;
    wn_quant_weights(w->w, (size_t)w->dim[0], w->n / (size_t)w->dim[0], net->weight_max, st->wq, st->scale);
    return st->wq;
}
/** The same, in a backward pass: as the forward pass left them. */
static const float *effective_again(struct wn_net *net, struct wn_net_op *op)
{
    return op->quant && net->simulate ? ((struct weighted *)op->state)->wq : op->param[0]->w;
}

static void mask_gradient(struct wn_param *w)
{
    if (w->mask)
        for (size_t k = 0; k < w->n; k++)
            if (!w->mask[k])
                w->g[k] = 0.0f;
}

static unsigned saves(const struct wn_net_op *op)
{
    return wn_param_on(op->param[0]) || wn_param_on(op->param[1]) ? WN_SAVES_X : 0;
}

static unsigned dx_kind(const struct wn_net_op *op)
{
    return op->side == WN_SIDE_LANES ? WN_ADDS_DX : 0;
}

/* ---- convolution ---- */

static double conv_macs(const struct wn_net *net, const struct wn_net_op *op)
{
    const struct wn_net_val *y = &net->logical.val.at[op->out];
    return (double)(y->dim[0] * wn_val_h(y) * wn_val_w(y)) * (double)op->param[0]->n;
}

static double conv_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    double macs = conv_macs(net, op);
    if (side == WN_SIDE_LANES)
        return macs * kept_share(op->param[0]) * COST_CONV_LANES;
    const struct wn_net_val *x = &net->logical.val.at[op->in[0]];
    return macs * (x->dim[1] / op->u.conv.groups < 8 ? COST_CONV_THIN : COST_CONV_DENSE);
}

static enum wn_layout conv_dense_in(const struct wn_net *net, const struct wn_net_op *op, unsigned i)
{
    (void)i;
    return net->logical.val.at[op->in[0]].dim[1] <= 4 ? WN_LAYOUT_PLAIN : WN_LAYOUT_C8;
}

static enum winnow_status conv_prepare(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    WN_TRY(weighted_prepare(op, err));
    struct weighted *st = op->state;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    const struct wn_conv_args *a = &op->u.conv;
    enum winnow_status s;
    if (op->side == WN_SIDE_LANES) {
        struct wn_lanes_conv_shape sh = { (int)y->dim[1], (int)x->dim[1], a->groups, a->kh, a->kw,   a->sh,  a->sw,
                                          a->ph,          a->pw,          a->dh,     a->dw, x->geom, y->geom };
        s = wn_lanes_conv_new(&sh, op->param[0]->mask, &st->lanes, err);
    } else {
        struct wn_dense_conv_shape sh = {
            .n = (int)x->dim[0],
            .ic = (int)x->dim[1],
            .ih = (int)x->dim[2],
            .iw = (int)x->dim[3],
            .oc = (int)y->dim[1],
            .oh = (int)y->dim[2],
            .ow = (int)y->dim[3],
            .groups = a->groups,
            .kh = a->kh,
            .kw = a->kw,
            .sh = a->sh,
            .sw = a->sw,
            .ph = a->ph,
            .pw = a->pw,
            .ph_end = a->ph_end,
            .pw_end = a->pw_end,
            .dh = a->dh,
            .dw = a->dw,
            .x_plain = x->layout == WN_LAYOUT_PLAIN,
            .bias = op->param[1] != NULL,
            .back_data = op->back && x->needs_grad,
            .back_weights = op->back && saves(op),
        };
        s = wn_dense_conv_new(net->dense, &sh, &st->dense, err);
    }
    return s == WINNOW_OK ? s : wn_fail_at(err, s, "node '%s'", op->name);
}

static enum winnow_status conv_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct weighted *st = op->state;
    const float *w = effective(net, op), *b = op->param[1] ? op->param[1]->w : NULL;
    if (st->dense)
        return wn_dense_conv_forward(st->dense, wn_op_in(net, op, 0)->data, w, b, wn_op_out(net, op)->data, err);
    wn_lanes_conv_forward(st->lanes, net->threads, wn_op_in(net, op, 0)->data, w, b, wn_op_out(net, op)->data);
    return WINNOW_OK;
}

static enum winnow_status conv_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct weighted *st = op->state;
    const float *x = wn_op_in(net, op, 0)->data;
    struct wn_param *w = op->param[0], *b = op->param[1];
    if (st->lanes) {
        if (saves(op))
            wn_lanes_conv_back_weights(st->lanes, net->threads, x, op->dy, w->g, b ? b->g : NULL);
        if (op->dx[0])
            wn_lanes_conv_back_data(st->lanes, net->threads, op->dy, op->add[0], op->dx[0]);
        return WINNOW_OK;
    }
    if (saves(op)) {
        WN_TRY(wn_dense_conv_back_weights(st->dense, x, op->dy, w->g, b ? b->g : NULL, err));
        mask_gradient(w);
    }
    return op->dx[0] ? wn_dense_conv_back_data(st->dense, op->dy, effective_again(net, op), op->dx[0], err) : WINNOW_OK;
}

const struct wn_rule wn_rule_conv = {
    .name = "Conv",
    .cost = conv_cost,
    .saves = saves,
    .dx = dx_kind,
    .dense_in = conv_dense_in,
    .prepare = conv_prepare,
    .release = weighted_release,
    .forward = conv_forward,
    .backward = conv_backward,
};

/* ---- linear: x (…, I), w (O, I) ---- */

static bool linear_any(const struct wn_net *net, const struct wn_net_op *op)
{
    return !net->pictures || net->logical.val.at[op->in[0]].rank == 2;
}

static double linear_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    const struct wn_net_val *y = &net->logical.val.at[op->out];
    double macs = (double)(wn_val_count(y) / op->param[0]->dim[0]) * (double)op->param[0]->n;
    return side == WN_SIDE_LANES ? macs * kept_share(op->param[0]) * COST_LINEAR_LANES : macs * COST_LINEAR_DENSE;
}

static enum winnow_status linear_prepare(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    WN_TRY(weighted_prepare(op, err));
    if (op->side == WN_SIDE_DENSE)
        return WINNOW_OK;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    int o = (int)op->param[0]->dim[0], in = (int)op->param[0]->dim[1];
    struct wn_lanes_conv_shape sh = { o, in, 1, 1, 1, 1, 1, 0, 0, 1, 1, x->geom, y->geom };
    enum winnow_status s = wn_lanes_conv_new(&sh, op->param[0]->mask, &((struct weighted *)op->state)->lanes, err);
    return s == WINNOW_OK ? s : wn_fail_at(err, s, "node '%s'", op->name);
}

static enum winnow_status linear_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct weighted *st = op->state;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    const float *w = effective(net, op), *b = op->param[1] ? op->param[1]->w : NULL;
    if (st->lanes) {
        wn_lanes_conv_forward(st->lanes, net->threads, x->data, w, b, y->data);
        return WINNOW_OK;
    }
    int64_t out = op->param[0]->dim[0], in = op->param[0]->dim[1], rows = wn_val_count(x) / in;
    for (int64_t r = 0; b && r < rows; r++)
        memcpy(y->data + r * out, b, (size_t)out * sizeof(float));
    return wn_dense_gemm(false, true, rows, out, in, x->data, w, b ? 1.0f : 0.0f, y->data, err);
}

static enum winnow_status linear_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct weighted *st = op->state;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    struct wn_param *w = op->param[0], *b = op->param[1];
    if (st->lanes)
        return conv_backward(net, op, err);
    int64_t out = w->dim[0], in = w->dim[1], rows = wn_val_count(x) / in;
    if (saves(op)) {
        WN_TRY(wn_dense_gemm(true, false, out, in, rows, op->dy, x->data, 0.0f, w->g, err));
        mask_gradient(w);
        if (b)
            memset(b->g, 0, (size_t)out * sizeof(float));
        for (int64_t r = 0; b && r < rows; r++)
            for (int64_t o = 0; o < out; o++)
                b->g[o] += op->dy[r * out + o];
    }
    return op->dx[0]
               ? wn_dense_gemm(false, false, rows, in, out, op->dy, effective_again(net, op), 0.0f, op->dx[0], err)
               : WINNOW_OK;
}

const struct wn_rule wn_rule_linear = {
    .name = "Linear",
    .any_layout = linear_any,
    .cost = linear_cost,
    .saves = saves,
    .dx = dx_kind,
    .prepare = linear_prepare,
    .release = weighted_release,
    .forward = linear_forward,
    .backward = linear_backward,
};
