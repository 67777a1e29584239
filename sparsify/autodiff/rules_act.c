/* rules_act.c: elementwise operators of one input: activations, dropout, fake-quantizers. They run flat over a buffer,
 * padding and halo included, where f(0) = 0 keeps those zeros; the others (sigmoids, Clip that excludes 0) on plain
 * tensors only. */
#include "sparsify/autodiff/rules_impl.h"

struct job {
    void (*fn)(const struct wn_flat *f, size_t from, size_t n);
    const struct wn_flat *f;
    size_t floats;
};

static void flat_part(void *arg, unsigned i, unsigned n)
{
    const struct job *job = arg;
    size_t from, to;
    wn_team_share(job->floats / 16, i, n, &from, &to);
    if (to > from)
        job->fn(job->f, from * 16, (to - from) * 16);
}

void wn_net_flat(struct wn_net *net, size_t floats, void (*fn)(const struct wn_flat *f, size_t from, size_t n),
                 const struct wn_flat *f)
{
    struct job job = { fn, f, wn_round_up(floats, 16) }; /* buffers have room */
    wn_team_run(net->threads, floats >= 65536 ? net->threads : 1, flat_part, &job);
}

/* ---- activations ---- */

static bool act_any(const struct wn_net *net, const struct wn_net_op *op)
{
    const struct wn_act_args *a = &op->u.act;
    if (!net->pictures) /* no halo, no pads */
        return true;
    switch (a->kind) {
    case WN_ACT_CLAMP:
        return a->a <= 0 && a->b >= 0;
    case WN_ACT_LEAKY:
    case WN_ACT_TANH:
    case WN_ACT_HARDSWISH:
        return true;
    default:
        return false;
    }
}

static unsigned act_saves(const struct wn_net_op *op)
{
    switch (op->u.act.kind) {
    case WN_ACT_AFFINE:
        return 0;
    case WN_ACT_HARDSWISH:
    case WN_ACT_POW:
    case WN_ACT_LOG:
    case WN_ACT_ERF:
    case WN_ACT_ABS:
        return WN_SAVES_X;
    default:
        return WN_SAVES_Y;
    }
}

static bool is_two(float e)
{
    return !(e < 2) && !(e > 2);
}

/** The functions that exporters spell layer norm and GELU with; chains are read as one operator elsewhere. */
static void function_forward(enum wn_act_kind kind, float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = kind == WN_ACT_SQRT  ? sqrtf(x[i])
               : kind == WN_ACT_EXP ? expf(x[i])
               : kind == WN_ACT_LOG ? logf(x[i])
               : kind == WN_ACT_ERF ? erff(x[i])
                                    : fabsf(x[i]);
}

/** s: y for Sqrt and Exp, else x. */
static void function_backward(enum wn_act_kind kind, float *dx, const float *d, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = d[i] * (kind == WN_ACT_SQRT  ? 0.5f / s[i]
                        : kind == WN_ACT_EXP ? s[i]
                        : kind == WN_ACT_LOG ? 1.0f / s[i]
                        : kind == WN_ACT_ERF ? 1.12837917f * expf(-s[i] * s[i])
                        : s[i] > 0           ? 1.0f
                        : s[i] < 0           ? -1.0f
                                             : 0.0f);
}

static void act_forward_flat(const struct wn_flat *f, size_t from, size_t n)
{
    const struct wn_act_args *a = &f->op->u.act;
    const float *x = f->a + from;
    float *y = f->y + from;
    switch (a->kind) {
    case WN_ACT_CLAMP:
        f->net->kern->clamp(y, x, a->a, a->b, n);
        break;
    case WN_ACT_LEAKY:
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] > 0 ? x[i] : a->a * x[i];
        break;
    case WN_ACT_SIGMOID:
        for (size_t i = 0; i < n; i++)
            y[i] = 1.0f / (1.0f + expf(-x[i]));
        break;
    case WN_ACT_TANH:
        for (size_t i = 0; i < n; i++)
            y[i] = tanhf(x[i]);
        break;
    case WN_ACT_HARDSIGMOID:
        for (size_t i = 0; i < n; i++)
            y[i] = fminf(1.0f, fmaxf(0.0f, a->a * x[i] + a->b));
        break;
    case WN_ACT_HARDSWISH:
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * fminf(1.0f, fmaxf(0.0f, x[i] / 6.0f + 0.5f));
        break;
    case WN_ACT_AFFINE:
        for (size_t i = 0; i < n; i++)
            y[i] = a->a * x[i] + a->b;
        break;
    case WN_ACT_POW:
        if (is_two(a->a))
            for (size_t i = 0; i < n; i++)
                y[i] = x[i] * x[i];
        else
            for (size_t i = 0; i < n; i++)
                y[i] = powf(x[i], a->a);
        break;
    default:
        function_forward(a->kind, y, x, n);
    }
}

static void act_backward_flat(const struct wn_flat *f, size_t from, size_t n)
{
    const struct wn_act_args *a = &f->op->u.act;
    const float *d = f->a + from, *s = f->b + from; /* s: the saved y, or x */
    float *dx = f->y + from;
    switch (a->kind) {
    case WN_ACT_CLAMP:
        f->net->kern->clamp_back(dx, d, s, a->a, a->b, n);
        break;
    case WN_ACT_LEAKY:
        for (size_t i = 0; i < n; i++)
            dx[i] = s[i] > 0 ? d[i] : a->a * d[i];
        break;
    case WN_ACT_SIGMOID:
        for (size_t i = 0; i < n; i++)
            dx[i] = d[i] * s[i] * (1.0f - s[i]);
        break;
    case WN_ACT_TANH:
        for (size_t i = 0; i < n; i++)
            dx[i] = d[i] * (1.0f - s[i] * s[i]);
        break;
    case WN_ACT_HARDSIGMOID:
        for (size_t i = 0; i < n; i++)
            dx[i] = s[i] > 0 && s[i] < 1 ? a->a * d[i] : 0.0f;
        break;
    case WN_ACT_HARDSWISH:
        for (size_t i = 0; i < n; i++)
            dx[i] = s[i] <= -3 ? 0.0f : s[i] >= 3 ? d[i] : d[i] * (s[i] / 3.0f + 0.5f);
        break;
    case WN_ACT_AFFINE:
        for (size_t i = 0; i < n; i++)
            dx[i] = a->a * d[i];
        break;
    case WN_ACT_POW:
        if (is_two(a->a))
            for (size_t i = 0; i < n; i++)
                dx[i] = 2.0f * s[i] * d[i];
        else
            for (size_t i = 0; i < n; i++)
                dx[i] = a->a * powf(s[i], a->a - 1.0f) * d[i];
        break;
    default:
        function_backward(a->kind, dx, d, s, n);
    }
}

static enum winnow_status act_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    struct wn_flat f = { net, op, wn_op_in(net, op, 0)->data, NULL, wn_op_out(net, op)->data };
    wn_net_flat(net, wn_op_out(net, op)->floats, act_forward_flat, &f);
    return WINNOW_OK;
}

static enum winnow_status act_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *saved = act_saves(op) == WN_SAVES_X ? wn_op_in(net, op, 0) : wn_op_out(net, op);
    struct wn_flat f = { net, op, op->dy, saved->data, op->dx[0] };
    if (op->dx[0])
        wn_net_flat(net, saved->floats, act_backward_flat, &f);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_act = {
    .name = "Activation",
    .any_layout = act_any,
    .cost = wn_cost_flat,
    .saves = act_saves,
    .forward = act_forward,
    .backward = act_backward,
};

/* ---- dropout: kept elements are scaled by 1 / (1 - rate); the same key in both directions ---- */

static void dropout_flat(const struct wn_flat *f, size_t from, size_t n)
{
    float rate = f->op->u.drop, scale = 1.0f / (1.0f - rate);
    for (size_t i = from; i < from + n; i++) {
        bool keep = wn_rng_unit(wn_rng(f->net->seed, f->net->step_key, f->op->id, i)) >= rate;
        f->y[i] = keep ? f->a[i] * scale : 0.0f;
    }
}

static enum winnow_status dropout_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    struct wn_flat f = { net, op, x->data, NULL, y->data };
    if (net->training)
        wn_net_flat(net, y->floats, dropout_flat, &f);
    else
        memcpy(y->data, x->data, y->floats * sizeof(float));
    return WINNOW_OK;
}

static enum winnow_status dropout_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    struct wn_flat f = { net, op, op->dy, NULL, op->dx[0] };
    if (op->dx[0])
        wn_net_flat(net, wn_op_out(net, op)->floats, dropout_flat, &f);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_dropout = {
    .name = "Dropout",
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = dropout_forward,
    .backward = dropout_backward,
};

/* ---- fake-quantizer: u8, asymmetric, per tensor; gradient straight through inside the range ---- */

static struct wn_lanes_fq fq_args(const struct wn_observer *ob)
{
    float scale;
    int zero;
    wn_observer_scale(ob, &scale, &zero);
    return (struct wn_lanes_fq){ scale, 1.0f / scale, (float)-zero, (float)(255 - zero) };
}

static void fq_forward_flat(const struct wn_flat *f, size_t from, size_t n)
{
    struct wn_lanes_fq q = fq_args(f->op->u.observer);
    f->net->kern->fq(f->y + from, f->a + from, &q, n);
}

static void fq_backward_flat(const struct wn_flat *f, size_t from, size_t n)
{
    struct wn_lanes_fq q = fq_args(f->op->u.observer);
    f->net->kern->fq_back(f->y + from, f->a + from, f->b + from, &q, n);
}

static void observe(struct wn_net *net, struct wn_observer *ob, const struct wn_net_val *x)
{
    float lo = 0, hi = 0; /* 0 is always included: the pads of a layout do not matter */
    net->kern->range(x->data, x->floats, &lo, &hi);
    if (ob->seen) {
        ob->lo += net->observe_share * (lo - ob->lo);
        ob->hi += net->observe_share * (hi - ob->hi);
    } else {
        ob->lo = lo;
        ob->hi = hi;
        ob->seen = true;
    }
}

static enum winnow_status fq_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    if (net->observe)
        observe(net, op->u.observer, x);
    struct wn_flat f = { net, op, x->data, NULL, y->data };
    if (net->simulate && op->u.observer->seen)
        wn_net_flat(net, y->floats, fq_forward_flat, &f);
    else
        memcpy(y->data, x->data, y->floats * sizeof(float));
    return WINNOW_OK;
}

static enum winnow_status fq_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    struct wn_flat f = { net, op, op->dy, x->data, op->dx[0] };
    if (!op->dx[0])
        return WINNOW_OK;
    if (net->simulate && op->u.observer->seen)
        wn_net_flat(net, x->floats, fq_backward_flat, &f);
    else
        memcpy(op->dx[0], op->dy, x->floats * sizeof(float));
    return WINNOW_OK;
}

const struct wn_rule wn_rule_fq = {
    .name = "FakeQuantize",
    .cost = wn_cost_flat,
    .saves = wn_saves_x,
    .forward = fq_forward,
    .backward = fq_backward,
};
