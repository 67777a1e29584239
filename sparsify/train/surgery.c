/* surgery.c: changes to the graph between steps. Each writes the present weights into the graph's constants, edits the
 * graph, and reads it anew; parameters that keep their name and size keep masks, momentum and flags. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/kernels/rng.h"
#include "sparsify/train/train_impl.h"

static enum winnow_status log_surgery(struct wn_trainer *tr, enum wn_surgery_kind kind, uint32_t arg,
                                      struct winnow_err *err)
{
    struct wn_surgery s = { kind, arg };
    return wn_vec_push(&tr->surgery, s) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "trainer");
}

static float *data_of(struct wn_graph *g, wn_vid v)
{
    return g->values.at[v].constant->data; /* our copy */
}

static bool append_input(struct wn_graph *g, struct wn_node *n, wn_vid v)
{
    wn_vid *in = wn_arena_calloc(g->arena, n->n_in + 1, sizeof *in);
    if (!in)
        return false;
    memcpy(in, n->in, n->n_in * sizeof *in);
    in[n->n_in++] = v;
    n->in = in;
    return true;
}

/* ---- folding batch norm ---- */

/** The convolution whose only user is this batch norm, or NULL. */
static struct wn_node *conv_before(struct wn_graph *g, const struct wn_node *bn)
{
    struct wn_node *c = wn_graph_producer(g, bn->in[0]);
    return c && wn_node_is(c, "Conv") && wn_graph_n_uses(g, bn->in[0]) == 1 ? c : NULL;
}

/** w' = w * scale / sqrt(var + eps)   b' = shift + (b - mean) * scale / sqrt(var + eps) */
static bool fold_one(struct wn_trainer *tr, struct wn_node *conv, struct wn_node *bn)
{
    struct wn_graph *g = &tr->graph;
    const struct wn_tensor *w = g->values.at[conv->in[1]].constant;
    size_t o = (size_t)w->dim[0], per = (size_t)wn_tensor_count(w) / o;
    if (conv->n_in < 3 || conv->in[2] == WN_NONE) {
        const char *layer = conv->name;
        for (size_t i = 0; i < tr->param.n; i++)
            if (tr->param.at[i]->vid == conv->in[1])
                layer = tr->param.at[i]->pub.layer;
        char *name = wn_arena_printf(g->arena, "%s.bias", layer);
        wn_vid b = name ? wn_graph_add_const(g, name, WINNOW_F32, 1, w->dim, NULL) : WN_NONE;
        if (b == WN_NONE)
            return false;
        if (conv->n_in >= 3)
            conv->in[2] = b;
        else if (!append_input(g, conv, b))
            return false;
    }
    float *wd = data_of(g, conv->in[1]), *bd = data_of(g, conv->in[2]), eps = wn_node_float(bn, "epsilon", 1e-5f);
    const float *scale = data_of(g, bn->in[1]), *shift = data_of(g, bn->in[2]);
    const float *mean = data_of(g, bn->in[3]), *var = data_of(g, bn->in[4]);
    for (size_t c = 0; c < o; c++) {
        float k = scale[c] / sqrtf(var[c] + eps);
        for (size_t i = 0; i < per; i++)
            wd[c * per + i] *= k;
        bd[c] = shift[c] + (bd[c] - mean[c]) * k;
    }
    wn_graph_replace_uses(g, bn->out[0], conv->out[0]);
    wn_graph_kill(g, bn);
    return true;
}

static enum winnow_status fold(struct wn_trainer *tr, struct winnow_err *err)
{
    struct wn_graph *g = &tr->graph;
    wn_trainer_sync(tr);
    for (size_t i = 0; i < tr->param.n; i++) { /* momentum of what changes its scale starts again */
        struct wn_tparam *p = tr->param.at[i];
        for (size_t k = 0; k < g->nodes.n; k++) {
            struct wn_node *bn = &g->nodes.at[k];
            struct wn_node *conv = !bn->dead && wn_node_is(bn, "BatchNormalization") ? conv_before(g, bn) : NULL;
            if (conv && (p->vid == conv->in[1] || (conv->n_in > 2 && p->vid == conv->in[2])))
                memset(p->pub.v, 0, p->pub.n * sizeof(float));
        }
    }
    for (size_t k = 0; k < g->nodes.n; k++) {
        struct wn_node *bn = &g->nodes.at[k];
        struct wn_node *conv = !bn->dead && wn_node_is(bn, "BatchNormalization") ? conv_before(g, bn) : NULL;
        if (conv && !fold_one(tr, conv, bn))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", bn->name);
    }
    WN_TRY(wn_graph_sort(g, err));
    return wn_trainer_rebuild(tr, err);
}

enum winnow_status wn_trainer_fold_bn(struct wn_trainer *tr, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(log_surgery(tr, WN_SURGERY_FOLD_BN, 0, err));
    return fold(tr, err);
}

/* ---- measuring ---- */

/** Sums over the samples of one convolution's output, before its bias. */
struct stats {
    const char *node;
    size_t c;
    double n, *sum, *squares;
};
struct probe {
    struct stats *at;
    size_t n;
};

static void probe_conv(void *arg, struct wn_net *net, const struct wn_net_op *op)
{
    struct probe *pr = arg;
    if (op->rule != &wn_rule_conv)
        return;
    const struct wn_net_val *y = wn_op_out(net, op);
    for (size_t i = 0; i < pr->n; i++) {
        struct stats *s = &pr->at[i];
        if (strcmp(s->node, op->name) != 0)
            continue;
        for (size_t c = 0; c < s->c; c++) {
            double b = op->param[1] ? (double)op->param[1]->w[c] : 0.0;
            for (int64_t n = 0; n < y->dim[0]; n++)
                for (int64_t h = 0; h < y->dim[2]; h++)
                    for (int64_t w = 0; w < y->dim[3]; w++) {
                        double v = (double)y->data[wn_val_at(y, n, (int64_t)c, h, w)] - b;
                        s->sum[c] += v;
                        s->squares[c] += v * v;
                    }
        }
        s->n += (double)(y->dim[0] * y->dim[2] * y->dim[3]);
    }
}

static enum winnow_status need_data(const struct wn_trainer *tr, struct winnow_err *err)
{
    return tr->data ? WINNOW_OK : wn_fail(err, WINNOW_E_CONFLICT, "measuring needs data, none is bound");
}

static enum winnow_status measure(struct wn_trainer *tr, struct probe *pr, unsigned batches, struct winnow_err *err)
{
    WN_TRY(need_data(tr, err));
    WN_TRY(wn_trainer_ready(tr, err));
    for (unsigned b = 0; b < batches; b++) {
        wn_trainer_mode_eval(tr);
        WN_TRY(wn_trainer_load(tr, WN_EPOCH_MEASURE, b, err));
        WN_TRY(wn_net_forward_probe(&tr->net, probe_conv, pr, err));
    }
    return WINNOW_OK;
}

/* ---- inserting batch norm ---- */

/** Weight (and bias) of the layer that makes the scores; NULL where something other than activations, pools and shapes
 * lies behind it. */
static struct wn_tparam *classifier(struct wn_trainer *tr, struct wn_tparam **ret_bias)
{
    const struct wn_net_list *l = &tr->net.logical;
    for (int v = l->output; l->val.at[v].maker >= 0; v = l->op.at[l->val.at[v].maker].in[0]) {
        const struct wn_net_op *op = &l->op.at[l->val.at[v].maker];
        if (op->rule == &wn_rule_conv || op->rule == &wn_rule_linear) {
            *ret_bias = op->param[1] ? wn_tparam(op->param[1]) : NULL;
            return wn_tparam(op->param[0]);
        }
        if (op->rule == &wn_rule_add || op->rule == &wn_rule_concat || op->rule == &wn_rule_bn)
            break;
    }
    return NULL;
}

/** A convolution without batch norm that wants one; the one that makes the scores (`head`: its weight) does not. */
static bool bare(struct wn_graph *g, const struct wn_node *n, wn_vid head)
{
    if (n->dead || !wn_node_is(n, "Conv") || !g->values.at[n->in[1]].constant || n->in[1] == head)
        return false;
    struct wn_node *user = wn_graph_only_user(g, n->out[0]);
    return !(user && wn_node_is(user, "BatchNormalization"));
}

/** Put scale * (x - mean) / sqrt(var + eps) + shift behind conv, its bias left out; s NULL: values do not matter. */
static bool insert_one(struct wn_trainer *tr, size_t conv_at, const struct stats *s)
{
    struct wn_graph *g = &tr->graph;
    const float eps = 1e-5f;
    struct wn_node *conv = &g->nodes.at[conv_at];
    int64_t c = g->values.at[conv->in[1]].constant->dim[0];
    const char *layer = conv->name;
    for (size_t i = 0; i < tr->param.n; i++)
        if (tr->param.at[i]->vid == conv->in[1])
            layer = tr->param.at[i]->pub.layer;
    static const char *const names[4] = { "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var" };
    wn_vid in[5], out = conv->out[0];
    for (unsigned i = 0; i < 4; i++) {
        char *name = wn_arena_printf(g->arena, "%s.%s", layer, names[i]);
        if (!name || (in[i + 1] = wn_graph_add_const(g, name, WINNOW_F32, 1, &c, NULL)) == WN_NONE)
            return false;
    }
    const float *b = conv->n_in > 2 && conv->in[2] != WN_NONE ? data_of(g, conv->in[2]) : NULL;
    for (int64_t k = 0; k < c; k++) {
        double mean = s && s->n > 0 ? s->sum[k] / s->n : 0,
               var = s && s->n > 0 ? s->squares[k] / s->n - mean * mean : 1;
        var = var > 0 ? var : 0;
        data_of(g, in[1])[k] = (float)sqrt(var + (double)eps);
        data_of(g, in[2])[k] = (float)mean + (b ? b[k] : 0.0f);
        data_of(g, in[3])[k] = (float)mean;
        data_of(g, in[4])[k] = (float)var;
    }
    struct wn_value *ov = &g->values.at[out];
    char *raw_name = wn_arena_printf(g->arena, "%s.conv", ov->name);
    wn_vid raw = raw_name ? wn_graph_add_value(g, raw_name, ov->type.dtype, ov->type.rank, ov->type.dim) : WN_NONE;
    char *bn_name = wn_arena_printf(g->arena, "%s.bn", conv->name);
    if (raw == WN_NONE || !bn_name)
        return false;
    conv->out[0] = raw;
    g->values.at[raw].producer = (wn_nid)conv_at;
    if (conv->n_in > 2)
        conv->n_in = 2;
    in[0] = raw;
    struct wn_node *bn = wn_graph_add_node(g, "", "BatchNormalization", bn_name, in, 5, &out, 1);
    if (bn)
        bn->opset = g->nodes.at[conv_at].opset;
    return bn && wn_node_set_float(g, bn, "epsilon", eps);
}

static void probe_done(struct probe *pr)
{
    for (size_t i = 0; i < pr->n; i++) {
        free(pr->at[i].sum);
        free(pr->at[i].squares);
    }
    free(pr->at);
}

static enum winnow_status insert(struct wn_trainer *tr, unsigned batches, struct winnow_err *err)
{
    struct wn_graph *g = &tr->graph;
    struct wn_tparam *bias, *last = classifier(tr, &bias);
    wn_vid head = last ? last->vid : WN_NONE;
    WN_CLEANUP(probe_done) struct probe pr = { calloc(g->nodes.n + 1, sizeof *pr.at), 0 };
    if (!pr.at)
        return wn_fail(err, WINNOW_E_NOMEM, "batch norm");
    for (size_t i = 0; i < g->nodes.n; i++) {
        if (!bare(g, &g->nodes.at[i], head))
            continue;
        size_t c = (size_t)g->values.at[g->nodes.at[i].in[1]].constant->dim[0];
        struct stats *s = &pr.at[pr.n++];
        *s = (struct stats){ g->nodes.at[i].name, c, 0, calloc(c, sizeof(double)), calloc(c, sizeof(double)) };
        if (!s->sum || !s->squares)
            return wn_fail(err, WINNOW_E_NOMEM, "batch norm");
    }
    if (batches)
        WN_TRY(measure(tr, &pr, batches, err));
    wn_trainer_sync(tr);
    size_t n_nodes = g->nodes.n;
    for (size_t i = 0, k = 0; i < n_nodes; i++)
        if (bare(g, &g->nodes.at[i], head) && !insert_one(tr, i, batches ? &pr.at[k++] : NULL))
            return wn_fail(err, WINNOW_E_NOMEM, "batch norm");
    WN_TRY(wn_graph_sort(g, err));
    return wn_trainer_rebuild(tr, err);
}

enum winnow_status wn_trainer_insert_bn(struct wn_trainer *tr, unsigned batches, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(need_data(tr, err));
    WN_TRY(insert(tr, WN_MAX(batches, 1u), err));
    return log_surgery(tr, WN_SURGERY_INSERT_BN, 0, err);
}

enum winnow_status wn_trainer_reestimate_bn(struct wn_trainer *tr, unsigned batches, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(need_data(tr, err));
    WN_TRY(wn_trainer_ready(tr, err));
    for (unsigned b = 0; b < batches; b++) {
        wn_trainer_mode_eval(tr);
        tr->net.bn_batch = true;
        tr->net.bn_share = 1.0f / (float)(b + 1);
        WN_TRY(wn_trainer_load(tr, WN_EPOCH_MEASURE, b, err));
        WN_TRY(wn_net_forward(&tr->net, err));
    }
    return WINNOW_OK;
}

/* ---- a new head ---- */

/** Give the constant of p `classes` outputs: rows of its first axis (or, transposed, its last). */
static struct wn_tensor *resize(struct wn_graph *g, const struct wn_tparam *p, unsigned classes)
{
    struct wn_value *v = &g->values.at[p->vid];
    struct wn_tensor *t = wn_arena_memdup(g->arena, v->constant, sizeof *t);
    if (!t)
        return NULL;
    /* a bias may be spelled (O), (1, O) or (O, 1, 1): the axis of O is the one that has its extent */
    unsigned axis = p->rows_last ? t->rank - 1 : 0;
    for (unsigned i = 0; p->pub.kind == WN_PARAM_BIAS && i < t->rank; i++)
        if (t->dim[i] == p->pub.dim[0])
            axis = i;
    t->bytes = t->bytes / (size_t)t->dim[axis] * classes;
    t->dim[axis] = classes;
    t->data = wn_arena_alloc(g->arena, t->bytes);
    if (!t->data)
        return NULL;
    v->constant = t;
    v->type.dim[axis] = classes;
    return t;
}

/** Shapes behind the head that name the old number of classes. */
static bool fix_shapes(struct wn_graph *g, int64_t before, int64_t classes)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *n = &g->nodes.at[i];
        const struct wn_tensor *t =
            !n->dead && wn_node_is(n, "Reshape") && n->n_in > 1 ? g->values.at[n->in[1]].constant : NULL;
        if (!t || t->dtype != WINNOW_I64 || wn_tensor_count(t) < 2 || ((int64_t *)t->data)[1] != before)
            continue;
        wn_vid copy = wn_graph_add_const(g, NULL, t->dtype, t->rank, t->dim, t->data);
        if (copy == WN_NONE)
            return false;
        ((int64_t *)g->values.at[copy].constant->data)[1] = classes;
        n->in[1] = copy;
    }
    for (size_t i = 0; i < g->values.n; i++) /* inferred again by whoever needs them */
        if (g->values.at[i].producer != WN_NONE)
            g->values.at[i].type.rank = -1;
    return true;
}

static enum winnow_status replace_head(struct wn_trainer *tr, unsigned classes, struct winnow_err *err)
{
    struct wn_graph *g = &tr->graph;
    struct wn_tparam *bias = NULL, *w = classifier(tr, &bias);
    if (!w)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "the model has no last layer that could be given %u classes",
                       classes);
    if (classes < 2 || classes > 1000000)
        return wn_fail(err, WINNOW_E_MALFORMED, "a classifier of %u classes", classes);
    int64_t before = w->pub.dim[0], in = (int64_t)(w->pub.n / (size_t)before);
    wn_trainer_sync(tr);
    struct wn_tensor *t = resize(g, w, classes);
    if (!t || (bias && !resize(g, bias, classes)) || !fix_shapes(g, before, classes))
        return wn_fail(err, WINNOW_E_NOMEM, "classifier");
    float bound = 1.0f / sqrtf((float)in), *wd = t->data;
    for (int64_t k = 0; k < wn_tensor_count(t); k++)
        wd[k] =
            (2.0f * wn_rng_unit(wn_rng(tr->opts.seed, 0x68656164 /* "head" */, classes, (uint64_t)k)) - 1.0f) * bound;
    for (size_t i = 0; i < g->outputs.n; i++) {
        struct wn_type *ty = &g->values.at[g->outputs.at[i]].type;
        ty->rank = 2;
        ty->dim[0] = -1;
        ty->dim[1] = classes;
        if (tr->net.logical.val.at[tr->net.logical.output].rank == 4) {
            ty->rank = 4;
            ty->dim[2] = ty->dim[3] = 1;
        }
    }
    w->pub.mask = NULL;
    return wn_trainer_rebuild(tr, err);
}

enum winnow_status wn_trainer_replace_head(struct wn_trainer *tr, unsigned classes, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(replace_head(tr, classes, err));
    return log_surgery(tr, WN_SURGERY_HEAD, classes, err);
}

enum winnow_status wn_trainer_repeat(struct wn_trainer *tr, const struct wn_surgery *s, struct winnow_err *err)
{
    switch (s->kind) {
    case WN_SURGERY_HEAD:
        return wn_trainer_replace_head(tr, s->arg, err);
    case WN_SURGERY_FOLD_BN:
        return wn_trainer_fold_bn(tr, err);
    case WN_SURGERY_INSERT_BN:
        WN_TRY(insert(tr, 0, err));
        return log_surgery(tr, WN_SURGERY_INSERT_BN, 0, err);
    case WN_SURGERY_QUANT: { /* its folding stands in the log by itself */
        struct wn_quant_opts q = tr->quant_opts;
        return wn_trainer_quant_enable(tr, &q, err);
    }
    default:
        return wn_fail(err, WINNOW_E_MALFORMED, "unknown change %u to the graph", s->kind);
    }
}
