/* plan.c: from logical operators to two lists of steps and an arena; and running them. */
#include <stdlib.h>
#include "engine/ops/ops.h"
#include "sparsify/autodiff/plan_impl.h"

/* ---- expanding: sides, layouts, conversions ---- */

struct expand {
    struct wn_net *net;
    int (*have)[3]; /* plan value of each logical one, per layout; -1 */
};

static int plan_val(struct expand *ex, int logical, enum wn_layout layout)
{
    struct wn_net *net = ex->net;
    struct wn_net_val v = net->logical.val.at[logical];
    int at = wn_net_add_val(net, &net->plan, v.name, v.vid, v.rank, v.dim);
    if (at >= 0) {
        net->plan.val.at[at].layout = layout;
        net->plan.val.at[at].logical = logical;
        net->plan.val.at[at].fixed = v.fixed;
        net->plan.val.at[at].given = v.given;
        ex->have[logical][layout] = at;
    }
    return at;
}

/** Plan value of a logical one in this layout, converted where it is not there yet; -1 when out of memory. */
static int in_layout(struct expand *ex, int logical, enum wn_layout layout)
{
    struct wn_net *net = ex->net;
    if (ex->have[logical][layout] >= 0)
        return ex->have[logical][layout];
    int from = -1;
    for (int i = 0; i < 3 && from < 0; i++)
        from = ex->have[logical][i];
    int to = plan_val(ex, logical, layout);
    if (to < 0 || from < 0)
        return -1;
    const char *name = net->plan.val.at[to].name;
    return wn_net_add_op(&net->plan_arena, &net->plan, &wn_rule_convert, name, &from, 1, to) ? to : -1;
}

static bool expand_op(struct expand *ex, const struct wn_net_op *op, enum wn_side side)
{
    struct wn_net *net = ex->net;
    int *in = wn_arena_calloc(&net->plan_arena, op->n_in + 1, sizeof *in);
    if (!in)
        return false;
    for (unsigned i = 0; i < op->n_in; i++)
        if ((in[i] = in_layout(ex, op->in[i], wn_layout_wanted(net, op, i, side))) < 0)
            return false;
    int out = plan_val(ex, op->out, wn_layout_made(net, op, side));
    struct wn_net_op *to =
        out < 0 ? NULL : wn_net_add_op(&net->plan_arena, &net->plan, op->rule, op->name, in, op->n_in, out);
    if (!to)
        return false;
    to->u = op->u;
    memcpy(to->param, op->param, sizeof to->param);
    to->quant = op->quant;
    to->id = op->id;
    to->side = side;
    return true;
}

static bool expand(struct wn_net *net, const enum wn_side *side)
{
    struct expand ex = { net, calloc(net->logical.val.n + 1, sizeof *ex.have) };
    if (!ex.have)
        return false;
    memset(ex.have, 0xff, net->logical.val.n * sizeof *ex.have);
    bool ok = true;
    net->plan.input = -1;
    for (size_t v = 0; ok && v < net->logical.val.n; v++) /* the input, constants, what a step computes first */
        if (net->logical.val.at[v].maker < 0) {
            int at = plan_val(&ex, (int)v, WN_LAYOUT_PLAIN);
            ok = at >= 0;
            if (ok && (int)v == net->logical.input)
                net->plan.input = at;
        }
    for (size_t i = 0; ok && i < net->logical.op.n; i++)
        ok = expand_op(&ex, &net->logical.op.at[i], side[i]);
    ok = ok && (net->plan.output = in_layout(&ex, net->logical.output, WN_LAYOUT_PLAIN)) >= 0;
    free(ex.have);
    return ok;
}

/* ---- geometry ---- */

/** Halo of all lanes values of this height and width: the most any convolution reads around one of them, so that
 *  elementwise operators meet equal geometries. */
static int halo_of(const struct wn_net *net, int64_t h, int64_t w)
{
    int halo = 0;
    for (size_t i = 0; i < net->plan.op.n; i++) {
        const struct wn_net_op *op = &net->plan.op.at[i];
        if (op->rule != &wn_rule_conv || op->side != WN_SIDE_LANES)
            continue;
        const struct wn_conv_args *a = &op->u.conv;
        const struct wn_net_val *x = &net->plan.val.at[op->in[0]], *y = &net->plan.val.at[op->out];
        if (x->dim[2] == h && x->dim[3] == w) {
            halo = WN_MAX(halo, wn_lanes_conv_halo_x(a->kh, a->sh, a->ph, a->dh, x->dim[2], y->dim[2]));
            halo = WN_MAX(halo, wn_lanes_conv_halo_x(a->kw, a->sw, a->pw, a->dw, x->dim[3], y->dim[3]));
        }
        if (y->dim[2] == h && y->dim[3] == w) {
            halo = WN_MAX(halo, wn_lanes_conv_halo_y(a->kh, a->sh, a->ph, a->dh, x->dim[2], y->dim[2]));
            halo = WN_MAX(halo, wn_lanes_conv_halo_y(a->kw, a->sw, a->pw, a->dw, x->dim[3], y->dim[3]));
        }
    }
    return halo;
}

static void geometry(struct wn_net *net)
{
    for (size_t i = 0; i < net->plan.val.n; i++) {
        struct wn_net_val *v = &net->plan.val.at[i];
        if (v->layout == WN_LAYOUT_LANES && v->rank == 4 && net->pictures)
            wn_lanes_geom_image(&v->geom, v->dim[0], v->dim[1], v->dim[2], v->dim[3],
                                halo_of(net, v->dim[2], v->dim[3]));
        else if (v->layout == WN_LAYOUT_LANES)
            wn_lanes_geom_matrix(&v->geom, wn_val_rows(v), v->dim[v->rank - 1]);
        v->floats = v->layout == WN_LAYOUT_LANES ? wn_lanes_floats(&v->geom)
                    : v->layout == WN_LAYOUT_C8  ? wn_c8_floats(v->dim[0], v->dim[1], v->dim[2], v->dim[3])
                                                 : (size_t)wn_val_count(v);
    }
}

/* ---- steps and lifetimes ---- */

static int new_buf(struct wn_net *net, const struct wn_net_val *v, int step)
{
    const struct wn_lanes_geom *g = &v->geom;
    uint64_t key = 0;
    if (v->layout == WN_LAYOUT_LANES && g->halo)
        key = wn_rng((uint64_t)g->c, (uint64_t)g->h, (uint64_t)g->w, (uint64_t)g->halo) | 1;
    struct wn_net_buf b = { v->floats, 0, step, step, key };
    return wn_vec_push(&net->buf, b) ? (int)net->buf.n - 1 : -1;
}

static void touch(struct wn_net *net, int buf, int step)
{
    if (buf >= 0)
        net->buf.at[buf].last = WN_MAX(net->buf.at[buf].last, step);
}

static bool forward_steps(struct wn_net *net)
{
    for (size_t v = 0; v < net->plan.val.n; v++) {
        struct wn_net_val *val = &net->plan.val.at[v];
        if (val->maker < 0 && !val->fixed && (val->buf = new_buf(net, val, 0)) < 0)
            return false;
    }
    for (size_t i = 0; i < net->plan.op.n; i++) {
        struct wn_net_op *op = &net->plan.op.at[i];
        struct wn_net_step s = { .kind = WN_STEP_FORWARD, .op = (int)i };
        struct wn_net_val *out = &net->plan.val.at[op->out];
        out->buf = op->rule->view ? net->plan.val.at[op->in[0]].buf : new_buf(net, out, (int)i);
        if (!wn_vec_push(&net->step, s) || out->buf < 0)
            return false;
        bool grad = wn_param_on(op->param[0]) || wn_param_on(op->param[1]);
        for (unsigned k = 0; k < op->n_in; k++) {
            const struct wn_net_val *in = &net->plan.val.at[op->in[k]];
            touch(net, in->buf, (int)i);
            grad |= in->needs_grad;
        }
        out->needs_grad = grad;
    }
    net->n_forward = net->step.n;
    touch(net, net->plan.val.at[net->plan.output].buf, (int)net->n_forward);
    if (net->plan.input >= 0)
        touch(net, net->plan.val.at[net->plan.input].buf, (int)net->n_forward); /* a teacher may look at it */
    net->dlogits_buf = new_buf(net, &net->plan.val.at[net->plan.output], (int)net->n_forward);
    return net->dlogits_buf >= 0;
}

/** Add buffer `b` to what value v's gradient is so far (cur[v]). */
static bool contribute(struct wn_net *net, int *cur, int v, int b)
{
    if (cur[v] < 0) {
        cur[v] = b;
        return true;
    }
    int at = (int)net->step.n, sum = new_buf(net, &net->plan.val.at[v], at);
    struct wn_net_step s = {
        .kind = WN_STEP_SUM, .op = -1, .y_buf = sum, .a_buf = cur[v], .b_buf = b, .n = net->plan.val.at[v].floats
    };
    touch(net, cur[v], at);
    touch(net, b, at);
    cur[v] = sum;
    return sum >= 0 && wn_vec_push(&net->step, s);
}

static bool backward_op(struct wn_net *net, int i, int *cur)
{
    struct wn_net_op *op = &net->plan.op.at[i];
    if (!net->plan.val.at[op->out].needs_grad || cur[op->out] < 0)
        return true;
    int at = (int)net->step.n;
    struct wn_net_step s = { .kind = WN_STEP_BACKWARD, .op = i };
    if (!wn_vec_push(&net->step, s))
        return false;
    op->back = true;
    op->dy_buf = cur[op->out];
    touch(net, op->dy_buf, at);
    unsigned saves = op->rule->saves(op), kind = op->rule->dx ? op->rule->dx(op) : 0;
    if (saves & WN_SAVES_Y)
        touch(net, net->plan.val.at[op->out].buf, at);
    int shared = -1;
    for (unsigned k = 0; k < op->n_in; k++) {
        int v = op->in[k];
        if (saves & WN_SAVES_X)
            touch(net, net->plan.val.at[v].buf, at);
        if (!net->plan.val.at[v].needs_grad)
            continue;
        if (kind & WN_ALIAS_DX) {
            if (!contribute(net, cur, v, op->dy_buf))
                return false;
            continue;
        }
        int b = (kind & WN_SHARED_DX) && shared >= 0 ? shared : new_buf(net, &net->plan.val.at[v], at);
        if (b < 0)
            return false;
        shared = b;
        op->dx_buf[k] = b;
        if ((kind & WN_ADDS_DX) && cur[v] >= 0) {
            op->add_buf[k] = cur[v];
            touch(net, cur[v], at);
            cur[v] = b;
        } else if (!contribute(net, cur, v, b)) {
            return false;
        }
    }
    return true;
}

static bool backward_steps(struct wn_net *net)
{
    int *cur = malloc((net->plan.val.n + 1) * sizeof *cur);
    if (!cur)
        return false;
    for (size_t i = 0; i < net->plan.val.n; i++)
        cur[i] = -1;
    cur[net->plan.output] = net->dlogits_buf;
    bool ok = true;
    for (int i = (int)net->plan.op.n - 1; ok && i >= 0; i--)
        ok = backward_op(net, i, cur);
    free(cur);
    return ok;
}

/* ---- pointers ---- */

static float *at(const struct wn_net *net, int buf)
{
    return buf < 0 ? NULL : net->memory + net->buf.at[buf].offset;
}

static void resolve(struct wn_net *net)
{
    union {
        const float *c;
        float *v; /* read only */
    } fixed;
    for (size_t i = 0; i < net->plan.val.n; i++) {
        fixed.c = net->plan.val.at[i].fixed;
        net->plan.val.at[i].data = fixed.c ? fixed.v : at(net, net->plan.val.at[i].buf);
    }
    for (size_t i = 0; i < net->plan.op.n; i++) {
        struct wn_net_op *op = &net->plan.op.at[i];
        op->dy = at(net, op->dy_buf);
        for (unsigned k = 0; k < op->n_in; k++) {
            op->dx[k] = at(net, op->dx_buf[k]);
            op->add[k] = at(net, op->add_buf[k]);
        }
    }
    for (size_t i = 0; i < net->step.n; i++) {
        struct wn_net_step *s = &net->step.at[i];
        if (s->kind == WN_STEP_SUM) {
            s->y = at(net, s->y_buf);
            s->a = at(net, s->a_buf);
            s->b = at(net, s->b_buf);
        }
    }
    net->dlogits = at(net, net->dlogits_buf);
}

/* ---- the whole ---- */

/** Nets of pictures keep memory of their own: halos of zeros lie in it. */
static struct wn_net_pool *pool_of(const struct wn_net *net)
{
    return net->pictures ? NULL : net->pool;
}

void wn_net_unplan(struct wn_net *net)
{
    for (size_t i = 0; i < net->plan.op.n; i++)
        if (net->plan.op.at[i].rule->release)
            net->plan.op.at[i].rule->release(&net->plan.op.at[i]);
    wn_vec_done(&net->plan.op);
    wn_vec_done(&net->plan.val);
    wn_vec_done(&net->buf);
    wn_vec_done(&net->step);
    wn_arena_done(&net->plan_arena);
    if (!pool_of(net))
        free(net->memory);
    net->memory = NULL;
    net->planned = false;
}

/** Where the arena lies: this net's own memory, or the pool's, made larger where it is too small. */
static enum winnow_status memory(struct wn_net *net, struct winnow_err *err)
{
    struct wn_net_pool *pool = pool_of(net);
    if (pool && pool->floats >= net->memory_floats) {
        net->memory = pool->memory;
        return WINNOW_OK;
    }
    size_t bytes = wn_round_up(net->memory_floats * sizeof(float) + 64, 4096);
    if (pool)
        free(pool->memory);
    net->memory = aligned_alloc(4096, bytes);
    if (pool)
        *pool = (struct wn_net_pool){ net->memory, net->memory ? net->memory_floats : 0 };
    if (!net->memory)
        return wn_fail(err, WINNOW_E_NOMEM, "training plan: %zu MiB", bytes >> 20);
    memset(net->memory, 0, bytes);
    return WINNOW_OK;
}

/** The pool may have moved since this net was planned. */
static void find_memory(struct wn_net *net)
{
    const struct wn_net_pool *pool = pool_of(net);
    if (pool && net->memory != pool->memory) {
        net->memory = pool->memory;
        resolve(net);
    }
}

static enum winnow_status build(struct wn_net *net, struct winnow_err *err)
{
    enum wn_side *side = calloc(net->logical.op.n + 1, sizeof *side);
    bool ok = side != NULL;
    if (ok) {
        wn_plan_choose(net, side);
        ok = expand(net, side);
    }
    free(side);
    if (ok)
        geometry(net);
    if (!ok || !forward_steps(net) || !backward_steps(net) || !wn_plan_offsets(net))
        return wn_fail(err, WINNOW_E_NOMEM, "training plan");
    if (net->memory_floats > net->max_floats)
        return wn_fail(err, WINNOW_E_TOO_LARGE,
                       "a step of %lld rows needs %zu MiB, the limit is %zu MiB: use a smaller batch",
                       (long long)net->batch, net->memory_floats >> 18, net->max_floats >> 18);
    WN_TRY(memory(net, err));
    resolve(net);
    net->n_lanes_layers = 0;
    for (size_t i = 0; i < net->plan.op.n; i++) {
        struct wn_net_op *op = &net->plan.op.at[i];
        if (op->rule->prepare)
            WN_TRY(op->rule->prepare(net, op, err));
        net->n_lanes_layers += (op->rule == &wn_rule_conv || op->rule == &wn_rule_linear) && op->side == WN_SIDE_LANES;
    }
    net->planned = true;
    return WINNOW_OK;
}

enum winnow_status wn_net_plan(struct wn_net *net, struct winnow_err *err)
{
    wn_net_unplan(net);
    enum winnow_status s = build(net, err);
    if (s != WINNOW_OK)
        wn_net_unplan(net);
    return s;
}

float *wn_net_input(struct wn_net *net)
{
    return net->plan.input < 0 ? NULL : net->plan.val.at[net->plan.input].data;
}

const float *wn_net_output(struct wn_net *net)
{
    return net->plan.val.at[net->plan.output].data;
}

/** A number of any type, as f32. */
static float as_float(const struct wn_tensor *t, size_t i)
{
    switch (t->dtype) {
    case WINNOW_F32:
        return ((const float *)t->data)[i];
    case WINNOW_I64:
        return (float)((const int64_t *)t->data)[i];
    case WINNOW_I32:
        return (float)((const int32_t *)t->data)[i];
    default: /* BOOL, U8 */
        return (float)((const uint8_t *)t->data)[i];
    }
}

/** What does not depend on weights: nodes before the operators, and where operators read their results. */
static enum winnow_status first(struct wn_net *net, struct winnow_err *err)
{
    find_memory(net);
    if (!net->feed.n)
        return WINNOW_OK;
    wn_arena_reset(&net->step_arena);
    for (size_t i = 0; i < net->pre.n; i++) {
        const struct wn_net_pre *p = &net->pre.at[i];
        WN_TRY(wn_ops_run_node(p->node, p->in, p->out, &net->step_arena, &net->step_tmp, err));
        wn_arena_reset(&net->step_tmp);
    }
    for (size_t i = 0; i < net->plan.val.n; i++) {
        struct wn_net_val *v = &net->plan.val.at[i];
        size_t n = (size_t)wn_val_count(v);
        if (!v->given || v->maker >= 0)
            continue;
        if (v->given->dtype == WINNOW_F32)
            memcpy(v->data, v->given->data, n * sizeof(float));
        for (size_t k = 0; v->given->dtype != WINNOW_F32 && k < n; k++)
            v->data[k] = as_float(v->given, k);
    }
    return WINNOW_OK;
}

enum winnow_status wn_net_forward_probe(struct wn_net *net,
                                        void (*probe)(void *arg, struct wn_net *net, const struct wn_net_op *op),
                                        void *arg, struct winnow_err *err)
{
    WN_TRY(first(net, err));
    for (size_t i = 0; i < net->n_forward; i++) {
        struct wn_net_op *op = &net->plan.op.at[net->step.at[i].op];
        enum winnow_status s = op->rule->forward(net, op, err);
        if (s != WINNOW_OK)
            return wn_fail_at(err, s, "node '%s'", op->name);
        if (probe)
            probe(arg, net, op);
    }
    return WINNOW_OK;
}

enum winnow_status wn_net_forward(struct wn_net *net, struct winnow_err *err)
{
    return wn_net_forward_probe(net, NULL, NULL, err);
}

static void sum_piece(const struct wn_flat *f, size_t from, size_t n)
{
    f->net->kern->add(f->y + from, f->a + from, f->b + from, n);
}

enum winnow_status wn_net_backward(struct wn_net *net, struct winnow_err *err)
{
    for (size_t i = net->n_forward; i < net->step.n; i++) {
        const struct wn_net_step *st = &net->step.at[i];
        if (st->kind == WN_STEP_SUM) {
            struct wn_flat f = { net, NULL, st->a, st->b, st->y };
            wn_net_flat(net, st->n, sum_piece, &f);
            continue;
        }
        struct wn_net_op *op = &net->plan.op.at[st->op];
        enum winnow_status s = op->rule->backward(net, op, err);
        if (s != WINNOW_OK)
            return wn_fail_at(err, s, "gradient of node '%s'", op->name);
    }
    return WINNOW_OK;
}
