/* rules_join.c: operators of several inputs. */
#include "sparsify/autodiff/rules_impl.h"

/* ---- y = a + b (+ …), max(0, ·) behind it where the graph has a Relu ---- */

static unsigned add_saves(const struct wn_net_op *op)
{
    return op->u.relu ? WN_SAVES_Y : 0;
}

static unsigned add_dx(const struct wn_net_op *op)
{
    return op->u.relu ? WN_SHARED_DX : WN_ALIAS_DX;
}

static void add_flat(const struct wn_flat *f, size_t from, size_t n)
{
    (f->op->u.relu ? f->net->kern->add_relu : f->net->kern->add)(f->y + from, f->a + from, f->b + from, n);
}

static void sum_flat(const struct wn_flat *f, size_t from, size_t n)
{
    f->net->kern->add(f->y + from, f->a + from, f->b + from, n);
}

static void relu_back_flat(const struct wn_flat *f, size_t from, size_t n)
{
    f->net->kern->clamp_back(f->y + from, f->a + from, f->b + from, 0.0f, INFINITY, n);
}

static enum winnow_status add_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    const float *sum = wn_op_in(net, op, 0)->data;
    for (unsigned i = 1; i < op->n_in; i++) {
        struct wn_flat f = { net, op, sum, wn_op_in(net, op, i)->data, y->data };
        wn_net_flat(net, y->floats, i + 1 == op->n_in ? add_flat : sum_flat, &f);
        sum = y->data;
    }
    return WINNOW_OK;
}

static enum winnow_status add_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    float *dx = NULL;
    for (unsigned i = 0; i < op->n_in; i++)
        dx = dx ? dx : op->dx[i];
    if (op->u.relu && dx) {
        struct wn_flat f = { net, op, op->dy, wn_op_out(net, op)->data, dx };
        wn_net_flat(net, wn_op_out(net, op)->floats, relu_back_flat, &f);
    }
    return WINNOW_OK;
}

const struct wn_rule wn_rule_add = {
    .name = "Add",
    .cost = wn_cost_flat,
    .saves = add_saves,
    .dx = add_dx,
    .forward = add_forward,
    .backward = add_backward,
};

/* ---- concat along channels ---- */

/** Copy channels of `part` to or from channels c0 … of `whole`. */
static void channels(const struct wn_net_val *part, float *p, const struct wn_net_val *whole, float *q, int64_t c0,
                     bool into_whole)
{
    int64_t N = part->dim[0], C = part->dim[1], H = wn_val_h(part), W = wn_val_w(part);
    bool runs = part->layout != WN_LAYOUT_C8 || (C % 8 == 0 && c0 % 8 == 0);
    int64_t step = part->layout == WN_LAYOUT_LANES ? (part->rank == 2 ? WN_LANES * part->geom.w : WN_LANES) : 1;
    for (int64_t n = 0; n < N; n += step) {
        if (runs) { /* all channels of a sample, or of a block of samples, follow each other */
            size_t floats = part->layout == WN_LAYOUT_LANES ? part->geom.block * WN_LANES : (size_t)(C * H * W);
            size_t lead = part->layout == WN_LAYOUT_LANES ? part->geom.origin * WN_LANES : 0;
            float *a = p + wn_val_at(part, n, 0, 0, 0) - lead, *b = q + wn_val_at(whole, n, c0, 0, 0) - lead;
            memcpy(into_whole ? b : a, into_whole ? a : b, floats * sizeof(float));
            continue;
        }
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < H * W; i++) {
                float *a = p + wn_val_at(part, n, c, 0, 0) + i * 8, *b = q + wn_val_at(whole, n, c0 + c, 0, 0) + i * 8;
                *(into_whole ? b : a) = *(into_whole ? a : b);
            }
        for (int64_t c = C; !into_whole && c % 8; c++)
            for (int64_t i = 0; i < H * W; i++)
                p[wn_val_at(part, n, c, 0, 0) + (size_t)(i * 8)] = 0.0f;
    }
}

static enum winnow_status concat_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    int64_t c0 = 0;
    if (y->layout == WN_LAYOUT_C8 && y->dim[1] % 8)
        memset(y->data, 0, y->floats * sizeof(float));
    for (unsigned i = 0; i < op->n_in; i++) {
        const struct wn_net_val *x = wn_op_in(net, op, i);
        channels(x, x->data, y, y->data, c0, true);
        c0 += x->dim[1];
    }
    return WINNOW_OK;
}

static enum winnow_status concat_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    union {
        const float *c;
        float *v;
    } dy = { .c = op->dy };
    int64_t c0 = 0;
    for (unsigned i = 0; i < op->n_in; i++) {
        const struct wn_net_val *x = wn_op_in(net, op, i);
        if (op->dx[i])
            channels(x, op->dx[i], y, dy.v, c0, false);
        c0 += x->dim[1];
    }
    return WINNOW_OK;
}

const struct wn_rule wn_rule_concat = {
    .name = "Concat",
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = concat_forward,
    .backward = concat_backward,
};
