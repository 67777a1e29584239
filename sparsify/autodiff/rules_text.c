/* rules_text.c: layer norm, GELU, tables of embeddings. Layer norm and GELU run plain and in lanes. */
#include "sparsify/autodiff/rules_impl.h"

/* ---- layer norm: y = (x - mean) / sqrt(var + eps) * scale + shift over the last axis
 *      dx = (d - mean(d) - xhat * mean(d * xhat)) / sqrt(var + eps), d = dy * scale ---- */

struct norm {
    float *mean, *inv; /* [rows]; in lanes: [block][pixel][16] */
    float *zeros;      /* [n] where the file has no shift */
    size_t rows, n;
};

static void norm_release(struct wn_net_op *op)
{
    struct norm *st = op->state;
    if (!st)
        return;
    free(st->mean);
    free(st->inv);
    free(st->zeros);
    free(st);
    op->state = NULL;
}

static enum winnow_status norm_prepare(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    const struct wn_net_val *y = wn_op_out(net, op);
    struct norm *st = op->state = calloc(1, sizeof *st);
    if (st) {
        st->rows = (size_t)wn_val_rows(y);
        st->n = (size_t)y->dim[y->rank - 1];
        st->mean = malloc((st->rows + 1) * sizeof(float));
        st->inv = malloc((st->rows + 1) * sizeof(float));
        st->zeros = calloc(st->n + 1, sizeof(float));
    }
    if (!st || !st->mean || !st->inv || !st->zeros)
        return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", op->name);
    return WINNOW_OK;
}

struct norm_job {
    struct wn_net *net;
    const struct wn_net_op *op;
    const struct wn_net_val *x;
    float *y, *dx;
};

/** First float of group g of 16 rows, and floats from one feature to the next. */
static size_t group_at(const struct wn_lanes_geom *g, size_t group)
{
    return wn_lanes_at(g, (int)(group / (size_t)g->w), 0, 0, (int)(group % (size_t)g->w));
}

static void norm_part(void *arg, unsigned i, unsigned n)
{
    const struct norm_job *j = arg;
    const struct norm *st = j->op->state;
    const struct wn_rows_kernels *k = j->net->rows;
    const float *scale = j->op->param[0]->w, *shift = j->op->param[1] ? j->op->param[1]->w : st->zeros;
    bool lanes = j->x->layout == WN_LAYOUT_LANES;
    size_t from, to, step = j->x->geom.plane * WN_LANES;
    wn_team_share(lanes ? st->rows / WN_LANES : st->rows, i, n, &from, &to);
    if (!lanes && j->y)
        k->norm(j->y + from * st->n, st->mean + from, st->inv + from, j->x->data + from * st->n, scale, shift,
                to - from, st->n, j->op->u.eps);
    else if (!lanes)
        k->norm_back(j->dx + from * st->n, j->op->dy + from * st->n, j->x->data + from * st->n, st->mean + from,
                     st->inv + from, scale, to - from, st->n);
    for (size_t g = from; lanes && g < to; g++) {
        size_t at = group_at(&j->x->geom, g), row = g * WN_LANES;
        if (j->y)
            k->lanes_norm(j->y + at, st->mean + row, st->inv + row, j->x->data + at, step, scale, shift, st->n,
                          j->op->u.eps);
        else
            k->lanes_norm_back(j->dx + at, j->op->dy + at, j->x->data + at, step, st->mean + row, st->inv + row, scale,
                               st->n);
    }
}

static void norm_params_part(void *arg, unsigned i, unsigned n)
{
    const struct norm_job *j = arg;
    const struct norm *st = j->op->state;
    float *dscale = j->op->param[0]->g, *dshift = j->op->param[1] ? j->op->param[1]->g : st->zeros;
    size_t from, to, step = j->x->geom.plane * WN_LANES;
    wn_team_share(st->n, i, n, &from, &to);
    if (j->x->layout != WN_LAYOUT_LANES) {
        j->net->rows->norm_params(dscale, dshift, j->op->dy, j->x->data, st->mean, st->inv, st->rows, st->n, from, to);
        return;
    }
    for (size_t c = from; c < to; c++) {
        dscale[c] = dshift[c] = 0;
        for (size_t g = 0; g < st->rows / WN_LANES; g++) {
            size_t at = group_at(&j->x->geom, g) + c * step;
            j->net->rows->lanes_norm_params(dscale + c, dshift + c, j->op->dy + at, j->x->data + at,
                                            st->mean + g * WN_LANES, st->inv + g * WN_LANES);
        }
    }
}

static enum winnow_status norm_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *y = wn_op_out(net, op);
    struct norm_job j = { net, op, wn_op_in(net, op, 0), y->data, NULL };
    wn_team_run(net->threads, y->floats / 16384 + 1, norm_part, &j);
    return WINNOW_OK;
}

static enum winnow_status norm_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    struct norm *st = op->state;
    struct norm_job j = { net, op, wn_op_in(net, op, 0), NULL, op->dx[0] };
    size_t parts = wn_op_out(net, op)->floats / 16384 + 1;
    if (j.dx)
        wn_team_run(net->threads, parts, norm_part, &j);
    if (wn_param_on(op->param[0]) || wn_param_on(op->param[1])) {
        wn_team_run(net->threads, parts, norm_params_part, &j);
        memset(st->zeros, 0, st->n * sizeof(float)); /* where there is no shift, its gradient went there */
    }
    return WINNOW_OK;
}

static double norm_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return 3 * wn_cost_flat(net, op, side);
}

const struct wn_rule wn_rule_norm = {
    .name = "LayerNormalization",
    .cost = norm_cost,
    .saves = wn_saves_x,
    .prepare = norm_prepare,
    .release = norm_release,
    .forward = norm_forward,
    .backward = norm_backward,
};

/* ---- GELU ---- */

static void gelu_flat(const struct wn_flat *f, size_t from, size_t n)
{
    f->net->rows->gelu(f->y + from, f->a + from, n, f->op->u.by_tanh);
}

static void gelu_back_flat(const struct wn_flat *f, size_t from, size_t n)
{
    f->net->rows->gelu_back(f->y + from, f->a + from, f->b + from, n, f->op->u.by_tanh);
}

static enum winnow_status gelu_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    struct wn_flat f = { net, op, wn_op_in(net, op, 0)->data, NULL, wn_op_out(net, op)->data };
    wn_net_flat(net, wn_op_out(net, op)->floats, gelu_flat, &f);
    return WINNOW_OK;
}

static enum winnow_status gelu_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    (void)err;
    const struct wn_net_val *x = wn_op_in(net, op, 0);
    struct wn_flat f = { net, op, op->dy, x->data, op->dx[0] };
    if (op->dx[0])
        wn_net_flat(net, x->floats, gelu_back_flat, &f);
    return WINNOW_OK;
}

static double gelu_cost(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    return 4 * wn_cost_flat(net, op, side);
}

const struct wn_rule wn_rule_gelu = {
    .name = "Gelu",
    .cost = gelu_cost,
    .saves = wn_saves_x,
    .forward = gelu_forward,
    .backward = gelu_backward,
};

/* ---- rows of a table: the gradient is kept for the rows that a step touched (wn_param.row) ---- */

static bool plain_only(const struct wn_net *net, const struct wn_net_op *op)
{
    (void)net;
    (void)op;
    return false;
}

static int64_t id_at(const struct wn_tensor *ids, size_t i)
{
    return ids->dtype == WINNOW_I64 ? ((const int64_t *)ids->data)[i] : ((const int32_t *)ids->data)[i];
}

static enum winnow_status embed_forward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    const struct wn_net_val *y = wn_op_out(net, op);
    const struct wn_param *p = op->param[0];
    size_t n = (size_t)wn_val_rows(y), f = (size_t)p->dim[1];
    float scale = 0;
    if (op->quant && net->simulate)
        wn_quant_weights(p->w, 1, p->n, WN_TABLE_MAX, NULL, &scale);
    for (size_t i = 0; i < n; i++) {
        int64_t id = id_at(op->u.ids, i);
        id += id < 0 ? p->dim[0] : 0;
        if (id < 0 || id >= p->dim[0])
            return wn_fail(err, WINNOW_E_MALFORMED, "row %lld of a table of %lld", (long long)id, (long long)p->dim[0]);
        memcpy(y->data + i * f, p->w + (size_t)id * f, f * sizeof(float));
    }
    for (size_t i = 0; scale > 0 && i < n * f; i++)
        y->data[i] = rintf(y->data[i] / scale) * scale; /* gradients pass straight through */
    return WINNOW_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/** The rows that `ids` names, each once, in order, into p->row. */
static bool touch(struct wn_param *p, const struct wn_tensor *ids, size_t n)
{
    size_t out = 0;
    uint32_t *row = malloc((n + 1) * sizeof *row);
    if (!row)
        return false;
    for (size_t i = 0; i < n; i++) {
        int64_t id = id_at(ids, i);
        row[i] = (uint32_t)(id < 0 ? id + p->dim[0] : id);
    }
    qsort(row, n, sizeof *row, by_number);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || row[i] != row[i - 1])
            row[out++] = row[i];
    memcpy(p->row, row, out * sizeof *row); /* room for every row of the table */
    p->n_rows = out;
    free(row);
    return true;
}

static enum winnow_status embed_backward(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err)
{
    struct wn_param *p = op->param[0];
    size_t n = (size_t)wn_val_rows(wn_op_out(net, op)), f = (size_t)p->dim[1];
    for (size_t i = 0; i < p->n_rows; i++)
        memset(p->g + p->row[i] * f, 0, f * sizeof(float));
    if (!touch(p, op->u.ids, n))
        return wn_fail(err, WINNOW_E_NOMEM, "gradient of a table");
    for (size_t i = 0; i < n; i++) {
        int64_t id = id_at(op->u.ids, i);
        float *g = p->g + (size_t)(id < 0 ? id + p->dim[0] : id) * f;
        const float *d = op->dy + i * f;
        for (size_t k = 0; k < f; k++)
            g[k] += d[k];
    }
    return WINNOW_OK;
}

const struct wn_rule wn_rule_embed = {
    .name = "Embed",
    .any_layout = plain_only,
    .cost = wn_cost_flat,
    .saves = wn_saves_none,
    .forward = embed_forward,
    .backward = embed_backward,
};
