/* rules_nd.c: elementwise operators whose operands broadcast, and sums over axes: plain tensors of any rank.
 *
 * DESIGN  What exporters write most (layer norm, GELU, biases, residual sums) has rules of its own; these are for the
 *         rest: attention masks, position tables, scale factors, unfused chains. One walk over the output with an
 * offset per operand; axes that all operands walk alike are joined first, so that the inner run is long. A gradient of
 *         an operand that broadcasts is a sum in the order of that walk. */
#include "sparsify/autodiff/rules_impl.h"

#define MAX_OPERANDS 4

/* A walk over an output: extents, and for each operand its step along them (0 where it broadcasts). */
struct walk {
    unsigned rank, n;
    int64_t dim[WINNOW_MAX_RANK + 1], step[MAX_OPERANDS][WINNOW_MAX_RANK + 1];
};

static void walk_init(struct walk *w, unsigned rank, const int64_t *dim)
{
    *w = (struct walk){ .rank = rank };
    memcpy(w->dim, dim, rank * sizeof *dim);
}

static void walk_operand(struct walk *w, unsigned rank, const int64_t *dim)
{
    int64_t step = 1;
    for (unsigned i = 0; i < w->rank; i++) {
        int64_t d = i < rank ? dim[rank - 1 - i] : 1;
        w->step[w->n][w->rank - 1 - i] = d == 1 ? 0 : step;
        step *= d;
    }
    w->n++;
}

/** Join neighbouring axes; at least one is left. */
static void walk_join(struct walk *w)
{
    unsigned out = 0;
    for (unsigned i = 0; i < w->rank; i++) {
        bool joins = out > 0;
        for (unsigned k = 0; k < w->n && joins; k++)
            joins = w->step[k][out - 1] == w->step[k][i] * w->dim[i];
        if (w->dim[i] == 1)
            continue;
        if (joins)
            w->dim[out - 1] *= w->dim[i];
        else
            w->dim[out++] = w->dim[i];
        for (unsigned k = 0; k < w->n; k++)
            w->step[k][out - 1] = w->step[k][i];
    }
    w->rank = out;
    if (!out) {
        w->rank = 1;
        w->dim[0] = 1;
        for (unsigned k = 0; k < w->n; k++)
            w->step[k][0] = 0;
    }
}

/** Call fn(arg, offsets, inner steps, inner length, position in the output) for every inner run. */
static void walk_run(const struct walk *w,
                     void (*fn)(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out), void *arg)
{
    int64_t pos[WINNOW_MAX_RANK + 1] = { 0 }, step[MAX_OPERANDS];
    size_t at[MAX_OPERANDS] = { 0 }, out = 0, n = (size_t)w->dim[w->rank - 1];
    for (unsigned k = 0; k < w->n; k++)
        step[k] = w->step[k][w->rank - 1];
    for (;;) {
        fn(arg, at, step, n, out);
        out += n;
        int d = (int)w->rank - 2;
        for (; d >= 0; d--) {
            for (unsigned k = 0; k < w->n; k++)
                at[k] += (size_t)w->step[k][d];
            if (++pos[d] < w->dim[d])
                break;
            for (unsigned k = 0; k < w->n; k++)
                at[k] -= (size_t)(w->step[k][d] * w->dim[d]);
            pos[d] = 0;
        }
        if (d < 0)
            return;
    }
}

static bool plain_only(const struct wn_net *net, const struct wn_net_op *op)
{
    (void)net;
    (void)op;
    return false;
}

static double cost_walk(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return 4 * wn_cost_flat(net, op, side);
}

/* ---- Add, Sub, Mul, Div ---- */

struct operand {
    const float *x;
    float *d; /* gradient, or NULL */
    unsigned rank;
    const int64_t *dim;
    size_t n;
};

static struct operand value_operand(struct wn_net *net, const struct wn_net_op *op, unsigned i)
{
    const struct wn_net_val *v = wn_op_in(net, op, i);
    return (struct operand){ v->data, op->dx[i], v->rank, v->dim, (size_t)wn_val_count(v) };
}

static void operands(struct wn_net *net, struct wn_net_op *op, struct operand o[2])
{
    if (!op->param[0]) {
        o[0] = value_operand(net, op, 0);
        o[1] = value_operand(net, op, 1);
        return;
    }
    struct wn_param *p = op->param[0];
    o[op->u.bin.param_first] = value_operand(net, op, 0);
    o[!op->u.bin.param_first] =
        (struct operand){ p->w, wn_param_on(p) ? p->g : NULL, op->u.bin.rank, op->u.bin.dim, p->n };
}

struct binary_run {
    enum wn_bin_kind kind;
    const float *a, *b, *dy;
    float *y, *da, *db;
};

static void binary_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct binary_run *r = arg;
    const float *a = r->a + at[0], *b = r->b + at[1];
    float *y = r->y + out;
    size_t sa = (size_t)step[0], sb = (size_t)step[1];
    switch (r->kind) {
    case WN_BIN_ADD:
        for (size_t i = 0; i < n; i++)
            y[i] = a[i * sa] + b[i * sb];
        break;
    case WN_BIN_SUB:
        for (size_t i = 0; i < n; i++)
            y[i] = a[i * sa] - b[i * sb];
        break;
    case WN_BIN_MUL:
        for (size_t i = 0; i < n; i++)
            y[i] = a[i * sa] * b[i * sb];
        break;
    case WN_BIN_DIV:
        for (size_t i = 0; i < n; i++)
            y[i] = a[i * sa] / b[i * sb];
        break;
    }
}

static void binary_back_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct binary_run *r = arg;
    const float *a = r->a + at[0], *b = r->b + at[1], *dy = r->dy + out;
    float *da = r->da ? r->da + at[0] : NULL, *db = r->db ? r->db + at[1] : NULL;
    size_t sa = (size_t)step[0], sb = (size_t)step[1];
    for (size_t i = 0; da && i < n; i++)
        da[i * sa] += r->kind == WN_BIN_MUL ? dy[i] * b[i * sb] : r->kind == WN_BIN_DIV ? dy[i] / b[i * sb] : dy[i];
    for (size_t i = 0; db && i < n; i++)
        db[i * sb] += r->kind == WN_BIN_MUL   ? dy[i] * a[i * sa]
                      : r->kind == WN_BIN_DIV ? -dy[i] * a[i * sa] / (b[i * sb] * b[i * sb])
                      : r->kind == WN_BIN_SUB ? -dy[i]
                                              : dy[i];
}

static enum winnow_status binary(struct wn_net *net, struct wn_net_op *op, bool back)
{
    const struct wn_net_val *y = wn_op_out(net, op);
    struct operand o[2];
    struct walk w;
    operands(net, op, o);
    walk_init(&w, y->rank, y->dim);
    walk_operand(&w, o[0].rank, o[0].dim);
    walk_operand(&w, o[1].rank, o[1].dim);
    walk_join(&w);
    for (int i = 0; i < 2 && back; i++)
        if (o[i].d)
            memset(o[i].d, 0, o[i].n * sizeof(float));
    struct binary_run r = { op->u.bin.kind, o[0].x, o[1].x, op->dy, y->data, o[0].d, o[1].d };
    walk_run(&w, back ? binary_back_run : binary_run, &r);
    return WINNOW_OK;
}

static enum winnow_status binary_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return binary(net, op, false);
}

static enum winnow_status binary_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return binary(net, op, true);
}

const struct wn_rule wn_rule_binary = {
    .name = "Binary",
    .any_layout = plain_only,
    .cost = cost_walk,
    .saves = wn_saves_x,
    .forward = binary_forward,
    .backward = binary_backward,
};

/* ---- Where: the condition is numbers, 0 or not ---- */

struct where_run {
    const float *c, *a, *b, *dy;
    float *y, *da, *db;
};

static void where_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct where_run *r = arg;
    for (size_t i = 0; i < n; i++) {
        size_t ia = at[1] + i * (size_t)step[1], ib = at[2] + i * (size_t)step[2];
        r->y[out + i] = fabsf(r->c[at[0] + i * (size_t)step[0]]) > 0 ? r->a[ia] : r->b[ib];
    }
}

static void where_back_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct where_run *r = arg;
    for (size_t i = 0; i < n; i++) {
        bool yes = fabsf(r->c[at[0] + i * (size_t)step[0]]) > 0;
        float *d = yes ? r->da : r->db;
        if (d)
            d[at[yes ? 1 : 2] + i * (size_t)step[yes ? 1 : 2]] += r->dy[out + i];
    }
}

static enum winnow_status where(struct wn_net *net, struct wn_net_op *op, bool back)
{
    const struct wn_net_val *y = wn_op_out(net, op);
    struct walk w;
    walk_init(&w, y->rank, y->dim);
    for (unsigned i = 0; i < 3; i++) {
        const struct wn_net_val *x = wn_op_in(net, op, i);
        walk_operand(&w, x->rank, x->dim);
        if (back && op->dx[i])
            memset(op->dx[i], 0, (size_t)wn_val_count(x) * sizeof(float));
    }
    walk_join(&w);
    struct where_run r = { wn_op_in(net, op, 0)->data,
                           wn_op_in(net, op, 1)->data,
                           wn_op_in(net, op, 2)->data,
                           op->dy,
                           y->data,
                           op->dx[1],
                           op->dx[2] };
    walk_run(&w, back ? where_back_run : where_run, &r);
    return WINNOW_OK;
}

static enum winnow_status where_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return where(net, op, false);
}

static enum winnow_status where_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return where(net, op, true);
}

const struct wn_rule wn_rule_where = {
    .name = "Where",
    .any_layout = plain_only,
    .cost = cost_walk,
    .saves = wn_saves_x,
    .forward = where_forward,
    .backward = where_backward,
};

/* ---- Expand ---- */

struct copy_run {
    const float *x;
    float *y, *dx;
    const float *dy;
    float scale;
};

static void expand_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct copy_run *r = arg;
    for (size_t i = 0; i < n; i++)
        r->y[out + i] = r->x[at[0] + i * (size_t)step[0]];
}

static void expand_back_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct copy_run *r = arg;
    for (size_t i = 0; i < n; i++)
        r->dx[at[0] + i * (size_t)step[0]] += r->dy[out + i];
}

static enum winnow_status expand(struct wn_net *net, struct wn_net_op *op, bool back)
{
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    struct walk w;
    walk_init(&w, y->rank, y->dim);
    walk_operand(&w, x->rank, x->dim);
    walk_join(&w);
    struct copy_run r = { x->data, y->data, op->dx[0], op->dy, 1 };
    if (back && r.dx)
        memset(r.dx, 0, (size_t)wn_val_count(x) * sizeof(float));
    if (!back || r.dx)
        walk_run(&w, back ? expand_back_run : expand_run, &r);
    return WINNOW_OK;
}

static enum winnow_status expand_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return expand(net, op, false);
}

static enum winnow_status expand_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return expand(net, op, true);
}

const struct wn_rule wn_rule_expand = {
    .name = "Expand",
    .any_layout = plain_only,
    .cost = cost_walk,
    .saves = wn_saves_none,
    .forward = expand_forward,
    .backward = expand_backward,
};

/* ---- ReduceSum, ReduceMean: a walk over the input, the output broadcasts ---- */

static void reduce_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct copy_run *r = arg;
    for (size_t i = 0; i < n; i++)
        r->y[at[0] + i * (size_t)step[0]] += r->x[out + i];
}

static void reduce_back_run(void *arg, const size_t *at, const int64_t *step, size_t n, size_t out)
{
    const struct copy_run *r = arg;
    for (size_t i = 0; i < n; i++)
        r->dx[out + i] = r->dy[at[0] + i * (size_t)step[0]] * r->scale;
}

static enum winnow_status reduce(struct wn_net *net, struct wn_net_op *op, bool back)
{
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    size_t n = (size_t)wn_val_count(y);
    float scale = op->u.reduce.mean ? (float)n / (float)wn_val_count(x) : 1.0f;
    struct walk w;
    walk_init(&w, x->rank, x->dim);
    walk_operand(&w, y->rank, y->dim);
    walk_join(&w);
    struct copy_run r = { x->data, y->data, op->dx[0], op->dy, scale };
    if (back) {
        if (r.dx)
            walk_run(&w, reduce_back_run, &r);
        return WINNOW_OK;
    }
    memset(y->data, 0, n * sizeof(float));
    walk_run(&w, reduce_run, &r);
    for (size_t i = 0; op->u.reduce.mean && i < n; i++)
        y->data[i] *= scale;
    return WINNOW_OK;
}

static enum winnow_status reduce_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return reduce(net, op, false);
}

static enum winnow_status reduce_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    return reduce(net, op, true);
}

const struct wn_rule wn_rule_reduce = {
    .name = "Reduce",
    .any_layout = plain_only,
    .cost = cost_walk,
    .saves = wn_saves_none,
    .forward = reduce_forward,
    .backward = reduce_backward,
};
