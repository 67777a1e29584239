/* rules_move.c: operators that move elements of plain tensors of any rank and compute nothing. */
#include "sparsify/autodiff/rules_impl.h"

static bool plain_only(const struct wn_net *net, const struct wn_net_op *op)
{
    (void)net;
    (void)op;
    return false;
}

static enum winnow_status nothing(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)net;
    (void)op;
    (void)err;
    return WINNOW_OK;
}

/* ---- another shape for the same elements: no step at all ---- */

static unsigned alias(const struct wn_net_op *op)
{
    (void)op;
    return WN_ALIAS_DX;
}

static double no_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    (void)net;
    (void)op;
    (void)side;
    return 0;
}

const struct wn_rule wn_rule_reshape = {
    .name = "Reshape",
    .view = true,
    .any_layout = plain_only,
    .cost = no_cost,
    .saves = wn_saves_none,
    .dx = alias,
    .forward = nothing,
    .backward = nothing,
};

/* ---- Transpose ---- */

struct perm {
    unsigned rank;
    int64_t dim[WINNOW_MAX_RANK + 1], step[WINNOW_MAX_RANK + 1]; /* of the output; step in the input */
    int64_t run;                                                 /* elements that stay together */
    const float *x;
    float *y;
    bool back; /* y is read, x written */
};

/** Last axes that keep their place are one run. */
static void perm_init(struct perm *p, const struct wn_net_val *x, const struct wn_net_val *y, const int *perm)
{
    int64_t step[WINNOW_MAX_RANK], s = 1;
    *p = (struct perm){ .rank = y->rank, .run = 1 };
    for (unsigned i = x->rank; i-- > 0;) {
        step[i] = s;
        s *= x->dim[i];
    }
    while (p->rank > 0 && perm[p->rank - 1] == (int)p->rank - 1)
        p->run *= y->dim[--p->rank];
    for (unsigned i = 0; i < p->rank; i++) {
        p->dim[i] = y->dim[i];
        p->step[i] = step[perm[i]];
    }
}

static void perm_copy(const struct perm *p, const float *from, float *to, bool back)
{
    int64_t pos[WINNOW_MAX_RANK + 1] = { 0 }, n = p->rank ? p->dim[p->rank - 1] : 1;
    int64_t step = p->rank ? p->step[p->rank - 1] : 0;
    size_t at = 0, out = 0, bytes = (size_t)p->run * sizeof(float);
    for (;;) {
        for (int64_t i = 0; i < n; i++, out += (size_t)p->run) {
            size_t in = at + (size_t)(i * step);
            if (p->run == 1)
                to[back ? in : out] = from[back ? out : in];
            else
                memcpy(to + (back ? in : out), from + (back ? out : in), bytes);
        }
        int d = (int)p->rank - 2;
        for (; d >= 0; d--) {
            at += (size_t)p->step[d];
            if (++pos[d] < p->dim[d])
                break;
            at -= (size_t)(p->step[d] * p->dim[d]);
            pos[d] = 0;
        }
        if (d < 0)
            return;
    }
}

static enum winnow_status perm_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0), *y = wn_op_out(net, op);
    struct perm p;
    perm_init(&p, x, y, op->u.perm);
    perm_copy(&p, x->data, y->data, false);
    return WINNOW_OK;
}

static enum winnow_status perm_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    struct perm p;
    perm_init(&p, wn_op_in(net, op, 0), wn_op_out(net, op), op->u.perm);
    if (op->dx[0])
        perm_copy(&p, op->dy, op->dx[0], true);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_perm = {
    .name = "Transpose",
    .any_layout = plain_only,
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = perm_forward,
    .backward = perm_backward,
};

/* ---- x at chosen places along an axis ---- */

static void around(const struct wn_net_val *v, int axis, int64_t *ret_before, size_t *ret_behind)
{
    *ret_before = 1;
    *ret_behind = 1;
    for (int i = 0; i < (int)v->rank; i++)
        if (i < axis)
            *ret_before *= v->dim[i];
        else if (i > axis)
            *ret_behind *= (size_t)v->dim[i];
}

static enum winnow_status take_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    const struct wn_take_args *a = &op->u.take;
    const float *from = x->data;
    float *to = wn_op_out(net, op)->data;
    int64_t before, whole = x->dim[a->axis];
    size_t behind;
    around(x, a->axis, &before, &behind);
    for (int64_t b = 0; b < before; b++, from += (size_t)whole * behind)
        for (int64_t i = 0; i < a->n; i++, to += behind)
            memcpy(to, from + (size_t)a->index[i] * behind, behind * sizeof(float));
    return WINNOW_OK;
}

static enum winnow_status take_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    const struct wn_take_args *a = &op->u.take;
    const float *from = op->dy;
    float *to = op->dx[0];
    int64_t before, whole = x->dim[a->axis];
    size_t behind;
    if (!to)
        return WINNOW_OK;
    around(x, a->axis, &before, &behind);
    memset(to, 0, (size_t)wn_val_count(x) * sizeof(float));
    for (int64_t b = 0; b < before; b++, to += (size_t)whole * behind)
        for (int64_t i = 0; i < a->n; i++, from += behind)
            for (size_t k = 0; k < behind; k++)
                to[(size_t)a->index[i] * behind + k] += from[k];
    return WINNOW_OK;
}

const struct wn_rule wn_rule_take = {
    .name = "Take",
    .any_layout = plain_only,
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = take_forward,
    .backward = take_backward,
};

/* ---- Concat along any axis ---- */

/** Copy every input into the output, or (back) its share of the gradient out. */
static void join(struct wn_net *net, struct wn_net_op *op, bool back)
{
    const struct wn_net_val *y = wn_op_out(net, op);
    size_t behind, at = 0;
    int64_t before;
    around(y, op->u.axis, &before, &behind);
    size_t whole = (size_t)y->dim[op->u.axis] * behind;
    for (unsigned i = 0; i < op->n_in; i++) {
        const struct wn_net_val *x = wn_op_in(net, op, i);
        size_t part = (size_t)x->dim[op->u.axis] * behind;
        for (size_t b = 0; b < (size_t)before; b++)
            if (!back)
                memcpy(y->data + b * whole + at, x->data + b * part, part * sizeof(float));
            else if (op->dx[i])
                memcpy(op->dx[i] + b * part, op->dy + b * whole + at, part * sizeof(float));
        at += part;
    }
}

static enum winnow_status join_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    join(net, op, false);
    return WINNOW_OK;
}

static enum winnow_status join_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    join(net, op, true);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_join = {
    .name = "Join",
    .any_layout = plain_only,
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = join_forward,
    .backward = join_backward,
};
