/* rules_pool.c: max and average pools, global ones included. Dense side by oneDNN, lanes by plain loops over 16
 * samples.
 *
 * Max backward gives the gradient to the first of several equal largest elements, in row order. Pads never win and
 * count in an average only where the graph says so. */
#include "sparsify/autodiff/rules_impl.h"

static void pool_release(struct wn_net_op *op)
{
    wn_dense_pool_free(op->state);
    op->state = NULL;
}

static enum winnow_status pool_prepare(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    if (op->side == WN_SIDE_LANES)
        return WINNOW_OK;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    const struct wn_pool_args *a = &op->u.pool;
    struct wn_dense_pool_shape s = { a->kind,        (int)x->dim[0], (int)x->dim[1], (int)x->dim[2], (int)x->dim[3],
                                     (int)y->dim[2], (int)y->dim[3], a->kh,          a->kw,          a->sh,
                                     a->sw,          a->ph,          a->pw,          a->ph_end,      a->pw_end };
    struct wn_dense_pool *p = NULL;
    enum winnow_status st = wn_dense_pool_new(net->dense, &s, &p, err);
    op->state = p;
    return st == WINNOW_OK ? st : wn_fail_at(err, st, "node '%s'", op->name);
}

struct window {
    int y0, y1, x0, x1; /* input pixels, inside the image */
    float share;        /* 1 / count of an average */
};

static struct window window_at(const struct wn_pool_args *a, const struct wn_lanes_geom *g, int oy, int ox)
{
    int y0 = oy * a->sh - a->ph, x0 = ox * a->sw - a->pw;
    struct window w = { WN_MAX(y0, 0), WN_MIN(y0 + a->kh, g->h), WN_MAX(x0, 0), WN_MIN(x0 + a->kw, g->w), 0 };
    int n = a->kind == WN_POOL_AVG_INCLUDE_PAD ? a->kh * a->kw : (w.y1 - w.y0) * (w.x1 - w.x0);
    w.share = n > 0 ? 1.0f / (float)n : 0.0f;
    return w;
}

struct call {
    const struct wn_pool_args *a;
    const struct wn_lanes_geom *x, *y;
    const float *xd, *yd, *dy;
    float *out; /* y or dx */
};

static void forward_pixel(const struct call *k, int b, int c, int oy, int ox)
{
    struct window w = window_at(k->a, k->x, oy, ox);
    bool max = k->a->kind == WN_POOL_MAX;
    float acc[WN_LANES];
    for (int l = 0; l < WN_LANES; l++)
        acc[l] = max ? -INFINITY : 0.0f;
    for (int y = w.y0; y < w.y1; y++)
        for (int x = w.x0; x < w.x1; x++) {
            const float *p = k->xd + wn_lanes_at(k->x, b, c, y, x);
            if (max)
                for (int l = 0; l < WN_LANES; l++)
                    acc[l] = p[l] > acc[l] ? p[l] : acc[l];
            else
                for (int l = 0; l < WN_LANES; l++)
                    acc[l] += p[l];
        }
    float *out = k->out + wn_lanes_at(k->y, b, c, oy, ox);
    for (int l = 0; l < WN_LANES; l++)
        out[l] = max ? acc[l] : acc[l] * w.share;
}

static void backward_pixel(const struct call *k, int b, int c, int oy, int ox)
{
    struct window w = window_at(k->a, k->x, oy, ox);
    size_t at = wn_lanes_at(k->y, b, c, oy, ox);
    const float *d = k->dy + at;
    float left[WN_LANES];
    for (int l = 0; l < WN_LANES; l++)
        left[l] = k->a->kind == WN_POOL_MAX ? d[l] : d[l] * w.share;
    for (int y = w.y0; y < w.y1; y++)
        for (int x = w.x0; x < w.x1; x++) {
            size_t from = wn_lanes_at(k->x, b, c, y, x);
            float *dx = k->out + from;
            if (k->a->kind != WN_POOL_MAX) {
                for (int l = 0; l < WN_LANES; l++)
                    dx[l] += left[l];
                continue;
            }
            const float *p = k->xd + from, *m = k->yd + at;
            for (int l = 0; l < WN_LANES; l++) {
                bool won = p[l] == m[l];
                dx[l] += won ? left[l] : 0.0f;
                left[l] = won ? 0.0f : left[l];
            }
        }
}

static void each_pixel(const struct call *k, unsigned i, unsigned n, bool back)
{
    size_t from, to;
    wn_team_share((size_t)k->x->nb, i, n, &from, &to);
    for (size_t b = from; b < to; b++)
        for (int c = 0; c < k->x->c; c++) {
            for (int y = 0; back && y < k->x->h; y++)
                memset(k->out + wn_lanes_at(k->x, (int)b, c, y, 0), 0, (size_t)k->x->w * WN_LANES * sizeof(float));
            for (int oy = 0; oy < k->y->h; oy++)
                for (int ox = 0; ox < k->y->w; ox++)
                    (back ? backward_pixel : forward_pixel)(k, (int)b, c, oy, ox);
        }
}

static void forward_part(void *arg, unsigned i, unsigned n)
{
    each_pixel(arg, i, n, false);
}
static void backward_part(void *arg, unsigned i, unsigned n)
{
    each_pixel(arg, i, n, true);
}

static enum winnow_status pool_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    if (op->side == WN_SIDE_DENSE)
        return wn_dense_pool_forward(op->state, x->data, y->data, err);
    struct call k = { &op->u.pool, &x->geom, &y->geom, x->data, NULL, NULL, y->data };
    wn_team_run(net->threads, (size_t)x->geom.nb, forward_part, &k);
    return WINNOW_OK;
}

static enum winnow_status pool_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    if (!op->dx[0])
        return WINNOW_OK;
    if (op->side == WN_SIDE_DENSE)
        return wn_dense_pool_backward(op->state, op->dy, op->dx[0], err);
    struct call k = { &op->u.pool, &x->geom, &y->geom, x->data, y->data, op->dy, op->dx[0] };
    wn_team_run(net->threads, (size_t)x->geom.nb, backward_part, &k);
    return WINNOW_OK;
}

static unsigned pool_saves(const struct wn_net_op *op)
{
    return op->u.pool.kind == WN_POOL_MAX ? WN_SAVES_X | WN_SAVES_Y : 0;
}

static double pool_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return wn_cost_flat(net, op, side) * op->u.pool.kh * op->u.pool.kw;
}

const struct wn_rule wn_rule_pool = {
    .name = "Pool",
    .cost = pool_cost,
    .saves = pool_saves,
    .prepare = pool_prepare,
    .release = pool_release,
    .forward = pool_forward,
    .backward = pool_backward,
};
