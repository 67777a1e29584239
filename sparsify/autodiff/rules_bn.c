/* rules_bn.c: batch norm over (N, H, W), with Relu behind it where the graph has one.
 *
 *   y = (x - mean) / sqrt(var + eps) * scale + shift
 * Running variance takes the unbiased estimate n / (n - 1), as PyTorch does; the normalisation the biased one. */
#include "sparsify/autodiff/rules_impl.h"

struct bn_state {
    struct wn_dense_bn *dense;
    struct wn_lanes_bn *lanes; /* [c] */
    float *mean, *var;         /* [c] of the last batch */
    float *spill;              /* where oneDNN puts a dx that nobody wants (it insists on computing it) */
};
enum { SCALE, SHIFT, MEAN, VAR };

static void bn_release(struct wn_net_op *op)
{
    struct bn_state *st = op->state;
    if (!st)
        return;
    wn_dense_bn_free(st->dense);
    free(st->lanes);
    free(st->mean);
    free(st->var);
    free(st->spill);
    free(st);
    op->state = NULL;
}

static enum winnow_status bn_prepare(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    size_t c = (size_t)x->dim[1];
    struct bn_state *st = op->state = calloc(1, sizeof *st);
    if (!st)
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", op->name);
    st->mean = calloc(c, sizeof(float));
    st->var = calloc(c, sizeof(float));
    st->lanes = calloc(c, sizeof *st->lanes);
    if (!st->mean || !st->var || !st->lanes)
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", op->name);
    if (op->side == WN_SIDE_LANES)
        return WINNOW_OK;
    enum winnow_status s = wn_dense_bn_new(net->dense, (int)x->dim[0], (int)c, (int)x->dim[2], (int)x->dim[3],
                                           op->u.bn.eps, op->u.bn.relu, &st->dense, err);
    if (s == WINNOW_OK && op->back && !x->needs_grad &&
        !(st->spill = aligned_alloc(64, wn_round_up(x->floats * sizeof(float), 64))))
        s = wn_fail(err, WINNOW_E_NOMEM, "batch norm");
    return s == WINNOW_OK ? s : wn_fail_at(err, s, "node '%s'", op->name);
}

struct call {
    struct wn_net *net;
    struct wn_net_op *op;
};

static void forward_part(void *arg, unsigned i, unsigned n)
{
    struct call *call = arg;
    struct wn_net_op *op = call->op;
    struct bn_state *st = op->state;
    const struct wn_net_val *x = wn_op_in(call->net, op, 0), *y = wn_op_out(call->net, op);
    size_t from, to;
    wn_team_share((size_t)x->geom.c, i, n, &from, &to);
    for (size_t c = from; c < to; c++) {
        struct wn_lanes_bn *b = &st->lanes[c];
        b->eps = op->u.bn.eps;
        b->relu = op->u.bn.relu;
        b->batch = call->net->bn_batch && !op->u.bn.frozen;
        b->scale = op->param[SCALE]->w[c];
        b->shift = op->param[SHIFT]->w[c];
        if (!b->batch) {
            b->mean = op->param[MEAN]->w[c];
            b->inv = 1.0f / sqrtf(op->param[VAR]->w[c] + b->eps);
        }
        call->net->kern->bn_forward(&x->geom, (int)c, b, x->data, y->data);
        st->mean[c] = b->mean;
        st->var[c] = b->var;
    }
}

static void move_running(struct wn_net *net, struct wn_net_op *op)
{
    struct bn_state *st = op->state;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    double n = (double)(x->dim[0] * wn_val_h(x) * wn_val_w(x));
    float unbias = n > 1 ? (float)(n / (n - 1)) : 1.0f, s = net->bn_share;
    for (int64_t c = 0; s > 0 && c < x->dim[1]; c++) {
        float *m = &op->param[MEAN]->w[c], *v = &op->param[VAR]->w[c];
        *m += s * (st->mean[c] - *m);
        *v += s * (st->var[c] * unbias - *v);
    }
}

static enum winnow_status bn_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct bn_state *st = op->state;
    bool batch = net->bn_batch && !op->u.bn.frozen;
    if (st->dense) {
        struct wn_param **p = op->param;
        WN_TRY(wn_dense_bn_forward(st->dense, batch, wn_op_in(net, op, 0)->data, p[SCALE]->w, p[SHIFT]->w,
                                   batch ? st->mean : p[MEAN]->w, batch ? st->var : p[VAR]->w, wn_op_out(net, op)->data,
                                   err));
    } else {
        struct call call = { net, op };
        wn_team_run(net->threads, (size_t)wn_op_in(net, op, 0)->geom.c, forward_part, &call);
    }
    if (batch)
        move_running(net, op);
    return WINNOW_OK;
}

static void backward_part(void *arg, unsigned i, unsigned n)
{
    struct call *call = arg;
    struct wn_net_op *op = call->op;
    struct bn_state *st = op->state;
    const struct wn_net_val *x = wn_op_in(call->net, op, 0);
    size_t from, to;
    wn_team_share((size_t)x->geom.c, i, n, &from, &to);
    for (size_t c = from; c < to; c++) {
        call->net->kern->bn_backward(&x->geom, (int)c, &st->lanes[c], x->data, op->dy, op->dx[0]);
        op->param[SCALE]->g[c] = st->lanes[c].dscale;
        op->param[SHIFT]->g[c] = st->lanes[c].dshift;
    }
}

static enum winnow_status bn_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct bn_state *st = op->state;
    struct wn_param **p = op->param;
    if (st->dense) {
        bool batch = net->bn_batch && !op->u.bn.frozen;
        return wn_dense_bn_backward(st->dense, wn_op_in(net, op, 0)->data, op->dy, p[SCALE]->w, p[SHIFT]->w,
                                    batch ? st->mean : p[MEAN]->w, batch ? st->var : p[VAR]->w,
                                    op->dx[0] ? op->dx[0] : st->spill, p[SCALE]->g, p[SHIFT]->g, err);
    }
    struct call call = { net, op };
    wn_team_run(net->threads, (size_t)wn_op_in(net, op, 0)->geom.c, backward_part, &call);
    return WINNOW_OK;
}

static double bn_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return 3 * wn_cost_flat(net, op, side);
}

const struct wn_rule wn_rule_bn = {
    .name = "BatchNormalization",
    .cost = bn_cost,
    .saves = wn_saves_x,
    .prepare = bn_prepare,
    .release = bn_release,
    .forward = bn_forward,
    .backward = bn_backward,
};
