/* rules_shape.c: operators that move elements and compute nothing. */
#include "sparsify/autodiff/rules_impl.h"

static enum wn_layout plain_in(const struct wn_net *net, const struct wn_net_op *op, unsigned i)
{
    (void)net;
    (void)op;
    (void)i;
    return WN_LAYOUT_PLAIN;
}

/* ---- (N, C, H, W) to (N, C * H * W), and any reshape that keeps the batch ---- */

static bool flatten_any(const struct wn_net *net, const struct wn_net_op *op)
{
    const struct wn_net_val *x = &net->logical.val.at[op->in[0]], *y = &net->logical.val.at[op->out];
    return x->rank == 4 && y->rank == 2;
}

/** Lanes: `back` copies from y to x. */
static void flatten_lanes(const struct wn_net_val *x, float *xd, const struct wn_net_val *y, float *yd, bool back)
{
    int64_t C = x->dim[1], H = x->dim[2], W = x->dim[3];
    for (int64_t n = 0; n < x->dim[0]; n += WN_LANES)
        for (int64_t c = 0; c < C; c++)
            for (int64_t h = 0; h < H; h++)
                for (int64_t w = 0; w < W; w++) {
                    float *a = xd + wn_val_at(x, n, c, h, w), *b = yd + wn_val_at(y, n, (c * H + h) * W + w, 0, 0);
                    memcpy(back ? a : b, back ? b : a, WN_LANES * sizeof(float));
                }
}

static enum winnow_status flatten_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    if (op->side == WN_SIDE_LANES)
        flatten_lanes(x, x->data, y, y->data, false);
    else
        memcpy(y->data, x->data, (size_t)wn_val_count(x) * sizeof(float));
    return WINNOW_OK;
}

static enum winnow_status flatten_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    union {
        const float *c;
        float *v;
    } dy = { .c = op->dy };
    if (!op->dx[0])
        return WINNOW_OK;
    if (op->side == WN_SIDE_LANES)
        flatten_lanes(x, op->dx[0], y, dy.v, true);
    else
        memcpy(op->dx[0], op->dy, (size_t)wn_val_count(x) * sizeof(float));
    return WINNOW_OK;
}

const struct wn_rule wn_rule_flatten = {
    .name = "Flatten",
    .any_layout = flatten_any,
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .dense_in = plain_in,
    .forward = flatten_forward,
    .backward = flatten_backward,
};

/* ---- a window of the input: zeros around it, or every s-th pixel of a part of it ---- */

/** For every element of y: the element of x it takes, or none. `back`: x += y (x zeroed before), else y = x or 0. */
static void window_copy(const struct wn_window_args *a, const struct wn_net_val *x, float *xd,
                        const struct wn_net_val *y, float *yd, bool back)
{
    int64_t step = x->layout == WN_LAYOUT_LANES ? WN_LANES : 1;
    size_t run = (size_t)step * sizeof(float);
    for (int64_t n = 0; n < y->dim[0]; n += step)
        for (int64_t c = 0; c < y->dim[1]; c++)
            for (int64_t h = 0; h < y->dim[2]; h++)
                for (int64_t w = 0; w < y->dim[3]; w++) {
                    int64_t xc = c - a->c0, xh = h * a->sh + a->h0, xw = w * a->sw + a->w0;
                    bool in = xc >= 0 && xc < x->dim[1] && xh >= 0 && xh < x->dim[2] && xw >= 0 && xw < x->dim[3];
                    float *q = yd + wn_val_at(y, n, c, h, w), *p = in ? xd + wn_val_at(x, n, xc, xh, xw) : NULL;
                    if (back && in)
                        memcpy(p, q, run); /* every x is taken at most once */
                    else if (!back && in)
                        memcpy(q, p, run);
                    else if (!back)
                        memset(q, 0, run);
                }
}

/** Zero the elements of a buffer (not its halo: that stays zero). */
static void clear(const struct wn_net_val *v, float *d)
{
    memset(d, 0, v->floats * sizeof(float));
}

static enum winnow_status window_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    if (y->layout == WN_LAYOUT_C8)
        clear(y, y->data);
    window_copy(&op->u.window, x, x->data, y, y->data, false);
    return WINNOW_OK;
}

static enum winnow_status window_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    union {
        const float *c;
        float *v;
    } dy = { .c = op->dy };
    if (!op->dx[0])
        return WINNOW_OK;
    clear(x, op->dx[0]);
    window_copy(&op->u.window, x, op->dx[0], y, dy.v, true);
    return WINNOW_OK;
}

static double window_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return wn_cost_flat(net, op, side) * (side == WN_SIDE_LANES ? 1 : 8);
}

const struct wn_rule wn_rule_window = {
    .name = "Window",
    .cost = window_cost,
    .saves = wn_saves_none,
    .forward = window_forward,
    .backward = window_backward,
};

/* ---- where layouts meet ---- */

static enum winnow_status convert_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    wn_val_convert(net, x, x->data, y, y->data);
    return WINNOW_OK;
}

static enum winnow_status convert_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    if (op->dx[0])
        wn_val_convert(net, wn_op_out(net, op), op->dy, wn_op_in(net, op, 0), op->dx[0]);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_convert = {
    .name = "Convert",
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = convert_forward,
    .backward = convert_backward,
};

const struct wn_rule *wn_rule_table(size_t i)
{
    static const struct wn_rule *const table[] = {
#define RULE(id) &wn_rule_##id,
#include "sparsify/autodiff/rules.def"
#undef RULE
    };
    return i < WN_COUNT(table) ? table[i] : NULL;
}
