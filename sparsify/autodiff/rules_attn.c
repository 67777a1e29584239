/* rules_attn.c: what attention is made of: products of two activations, batched, and softmax. Plain tensors. */
#include "sparsify/autodiff/rules_impl.h"

static bool plain_only(const struct wn_net *net, const struct wn_net_op *op)
{
    (void)net;
    (void)op;
    return false;
}

/* ---- y (…, M, N) = a (…, M, K) b (…, K, N), leading axes broadcast
 *      da = dy b^T    db = a^T dy, summed over the axes that broadcast ---- */

#define COST_GEMM 0.085 /* ns per multiply-accumulate of all three passes */

struct bmm {
    int64_t m, n, k, count;
    const struct wn_net_val *a, *b, *y;
};

static struct bmm bmm_of(struct wn_net *net, const struct wn_net_op *op)
{
    struct bmm p = { .a = wn_op_in(net, op, 0), .b = wn_op_in(net, op, 1), .y = wn_op_out(net, op) };
    p.m = p.y->dim[p.y->rank - 2];
    p.n = p.y->dim[p.y->rank - 1];
    p.k = p.a->dim[p.a->rank - 1];
    p.count = wn_val_count(p.y) / (p.m * p.n);
    return p;
}

/** Which matrix of v belongs to matrix i of y. */
static int64_t matrix_of(const struct wn_net_val *v, const struct wn_net_val *y, int64_t i)
{
    int64_t at = 0, step = 1;
    for (unsigned d = 2; d < y->rank; d++) { /* from the innermost leading axis */
        int64_t size = y->dim[y->rank - 1 - d], pos = i % size, own = d < v->rank ? v->dim[v->rank - 1 - d] : 1;
        at += own == 1 ? 0 : pos * step;
        step *= own;
        i /= size;
    }
    return at;
}

static enum winnow_status bmm_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct bmm p = bmm_of(net, op);
    for (int64_t i = 0; i < p.count; i++)
        WN_TRY(wn_dense_gemm(false, false, p.m, p.n, p.k, p.a->data + matrix_of(p.a, p.y, i) * p.m * p.k,
                             p.b->data + matrix_of(p.b, p.y, i) * p.k * p.n, 0.0f, p.y->data + i * p.m * p.n, err));
    return WINNOW_OK;
}

static enum winnow_status bmm_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct bmm p = bmm_of(net, op);
    float *da = op->dx[0], *db = op->dx[1];
    if (da)
        memset(da, 0, (size_t)wn_val_count(p.a) * sizeof(float));
    if (db)
        memset(db, 0, (size_t)wn_val_count(p.b) * sizeof(float));
    for (int64_t i = 0; i < p.count; i++) {
        int64_t at_a = matrix_of(p.a, p.y, i) * p.m * p.k, at_b = matrix_of(p.b, p.y, i) * p.k * p.n;
        const float *dy = op->dy + i * p.m * p.n;
        if (da)
            WN_TRY(wn_dense_gemm(false, true, p.m, p.k, p.n, dy, p.b->data + at_b, 1.0f, da + at_a, err));
        if (db)
            WN_TRY(wn_dense_gemm(true, false, p.k, p.n, p.m, p.a->data + at_a, dy, 1.0f, db + at_b, err));
    }
    return WINNOW_OK;
}

static double bmm_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    (void)side;
    const struct wn_net_val *a = &net->logical.val.at[op->in[0]];
    return COST_GEMM * (double)wn_val_count(&net->logical.val.at[op->out]) * (double)a->dim[a->rank - 1];
}

const struct wn_rule wn_rule_bmm = {
    .name = "MatMul",
    .any_layout = plain_only,
    .cost = bmm_cost,
    .saves = wn_saves_x,
    .forward = bmm_forward,
    .backward = bmm_backward,
};

/* ---- softmax along the last axis ---- */

struct softmax_job {
    const struct wn_rows_kernels *k;
    const float *x, *dy;
    float *y;
    size_t rows, n;
};

static void softmax_part(void *arg, unsigned i, unsigned n)
{
    const struct softmax_job *j = arg;
    size_t from, to;
    wn_team_share(j->rows, i, n, &from, &to);
    size_t at = from * j->n;
    if (j->dy)
        j->k->softmax_back(j->y + at, j->dy + at, j->x + at, to - from, j->n);
    else
        j->k->softmax(j->y + at, j->x + at, to - from, j->n);
}

static void softmax_run(struct wn_net *net, const struct wn_net_val *v, const float *x, const float *dy, float *y)
{
    size_t n = (size_t)v->dim[v->rank - 1], total = (size_t)wn_val_count(v);
    struct softmax_job j = { net->rows, x, dy, y, total / n, n };
    wn_team_run(net->threads, total / 16384 + 1, softmax_part, &j);
}

static enum winnow_status softmax_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    softmax_run(net, y, wn_op_in(net, op, 0)->data, NULL, y->data);
    return WINNOW_OK;
}

static enum winnow_status softmax_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    if (op->dx[0])
        softmax_run(net, y, y->data, op->dy, op->dx[0]);
    return WINNOW_OK;
}

const struct wn_rule wn_rule_softmax = {
    .name = "Softmax",
    .any_layout = plain_only,
    .cost = wn_cost_flat,
    .saves = wn_saves_y,
    .forward = softmax_forward,
    .backward = softmax_backward,
};
