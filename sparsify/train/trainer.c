/* trainer.c: a trainer's life: the graph copied, parameters made; settings; the graph with the present weights. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/kernels/team.h"
#include "sparsify/train/train_impl.h"

/* ---- life ---- */

static void defaults(struct wn_train_opts *o)
{
    o->batch = o->batch ? o->batch : 128;
    o->threads = o->threads ? o->threads : 1;
    o->bn_momentum = o->bn_momentum > 0 ? o->bn_momentum : 0.1f;
    o->beta1 = o->beta1 > 0 ? o->beta1 : 0.9f;
    o->beta2 = o->beta2 > 0 ? o->beta2 : 0.999f;
    o->eps = o->eps > 0 ? o->eps : 1e-8f;
    o->max_memory_bytes = o->max_memory_bytes ? o->max_memory_bytes : (size_t)4 << 30;
}

void wn_trainer_free(struct wn_trainer *tr)
{
    if (!tr)
        return;
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    for (size_t i = 0; i < tr->modifier.n; i++)
        if (tr->modifier.at[i]->ops->free)
            tr->modifier.at[i]->ops->free(tr->modifier.at[i]);
    wn_vec_done(&tr->modifier);
    wn_vec_done(&tr->surgery);
    wn_vec_done(&tr->param);
    wn_trainer_free(tr->teacher);
    wn_trainer_drop_parked(tr, false);
    wn_net_done(&tr->net);
    free(tr->pool.memory);
    for (unsigned i = 0; i < WN_TRAIN_MAX_INPUTS; i++)
        free(tr->ids[i]);
    wn_dense_free(tr->net.dense);
    wn_graph_done(&tr->graph);
    wn_arena_done(&tr->arena);
    wn_arena_done(&tr->param_arena);
    free(tr->order);
    free(tr->augment);
    free(tr->sample);
    free(tr->label);
    tr->magic = 0;
    free(tr);
}

static void trainer_freep(struct wn_trainer **p)
{
    wn_trainer_free(*p);
}

enum winnow_status wn_trainer_new(const struct wn_graph *graph, const struct wn_train_opts *opts,
                                  struct wn_trainer **ret_trainer, struct winnow_err *err)
{
    struct wn_trainer *raw = calloc(1, sizeof *raw);
    if (!raw)
        return wn_fail(err, WINNOW_E_NOMEM, "trainer");
    raw->magic = WN_TRAINER_MAGIC;
    wn_arena_init(&raw->arena, 0);
    wn_graph_init(&raw->graph, &raw->arena);
    WN_CLEANUP(trainer_freep) struct wn_trainer *tr = raw;
    if (opts)
        tr->opts = *opts;
    defaults(&tr->opts);
    if (tr->opts.batch > 65536 || tr->opts.threads > 1024)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "batch of %u, %u threads", tr->opts.batch, tr->opts.threads);
    wn_graph_done(&tr->graph);
    WN_TRY(wn_graph_copy(&tr->graph, &tr->arena, graph, err));
    WN_TRY(wn_graph_prepare(&tr->graph, err));
    tr->sample = calloc(tr->opts.batch, sizeof *tr->sample);
    tr->label = calloc(tr->opts.batch, sizeof *tr->label);
    if (!tr->sample || !tr->label)
        return wn_fail(err, WINNOW_E_NOMEM, "trainer");
    wn_team_size(tr->opts.threads);
    struct wn_net *net = &tr->net;
    WN_TRY(wn_dense_new(&net->dense, err));
    net->kern = wn_lanes_kernels();
    net->rows = wn_rows_kernels();
    net->no_fuse = tr->opts.no_fuse;
    net->pool = &tr->pool;
    net->threads = tr->opts.threads;
    net->max_floats = tr->opts.max_memory_bytes / sizeof(float);
    net->no_sparse = tr->opts.no_sparse;
    net->all_sparse = tr->opts.all_sparse;
    net->seed = tr->opts.seed;
    net->weight_max = 127;
    tr->order_epoch = WN_EPOCH_MEASURE - 1;
    WN_TRY(wn_trainer_rebuild(tr, err));
    *ret_trainer = WN_TAKE(tr);
    return WINNOW_OK;
}

/* ---- settings ---- */

enum winnow_status wn_trainer_add_modifier(struct wn_trainer *tr, struct wn_modifier *m, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (!wn_vec_push(&tr->modifier, m)) {
        if (m->ops->free)
            m->ops->free(m);
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    }
    return WINNOW_OK;
}

void wn_trainer_set_lr(struct wn_trainer *tr, float lr)
{
    tr->lr = lr;
}
float wn_trainer_lr(const struct wn_trainer *tr)
{
    return tr->lr;
}
void wn_trainer_set_weight_decay(struct wn_trainer *tr, float wd)
{
    tr->wd = wd;
}
float wn_trainer_weight_decay(const struct wn_trainer *tr)
{
    return tr->wd;
}
void wn_trainer_set_momentum(struct wn_trainer *tr, float momentum, bool nesterov)
{
    tr->opts.momentum = momentum;
    tr->opts.nesterov = nesterov;
}

size_t wn_trainer_row_elements(const struct wn_trainer *tr)
{
    if (tr->net.logical.input < 0)
        return 0;
    const struct wn_net_val *v = &tr->net.logical.val.at[tr->net.logical.input];
    return (size_t)(wn_val_count(v) / v->dim[0]);
}

unsigned wn_trainer_n_classes(const struct wn_trainer *tr)
{
    return (unsigned)tr->net.logical.val.at[tr->net.logical.output].dim[1];
}

unsigned wn_trainer_n_bn(const struct wn_trainer *tr)
{
    unsigned n = 0;
    for (size_t i = 0; i < tr->net.logical.op.n; i++)
        n += tr->net.logical.op.at[i].rule == &wn_rule_bn;
    return n;
}

enum winnow_status wn_trainer_cost(struct wn_trainer *tr, struct wn_train_cost *ret, struct winnow_err *err)
{
    WN_TRY(wn_trainer_ready(tr, err));
    struct wn_train_cost c = { .plan_bytes = tr->net.memory_floats * sizeof(float),
                               .n_sparse = tr->net.n_lanes_layers,
                               .step_ms = tr->net.predicted_ns / 1e6 };
    for (size_t i = 0; i < tr->param.n; i++) {
        const struct wn_param *p = &tr->param.at[i]->pub;
        c.param_bytes +=
            p->n * sizeof(float) * (1 + (p->g ? 1 : 0) + (p->v ? 1 : 0) + (p->v2 ? 1 : 0)) + (p->mask ? p->n : 0);
        c.macs_dense += p->macs;
        c.macs_kept += p->macs * (double)p->kept / (double)p->n;
        c.n_layers += p->kind == WN_PARAM_WEIGHT;
    }
    *ret = c;
    return WINNOW_OK;
}

/* ---- the graph with the present weights ---- */

void wn_trainer_end_steps(struct wn_trainer *tr)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    for (size_t i = 0; i < tr->param.n; i++) {
        const struct wn_param *p = &tr->param.at[i]->pub;
        float *const sums[] = { p->g, p->v, p->v2 };
        for (size_t k = 0; k < WN_COUNT(sums); k++)
            if (sums[k])
                wn_give_back(sums[k], p->n * sizeof(float));
    }
}

enum winnow_status wn_trainer_export_graph(const struct wn_trainer *tr, struct wn_arena *arena,
                                           struct wn_graph *ret_graph, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    struct wn_graph g;
    WN_TRY(wn_graph_copy(&g, arena, &tr->graph, err));
    enum winnow_status s = wn_graph_own_constants(&g, arena, err);
    if (s != WINNOW_OK) {
        wn_graph_done(&g);
        return s;
    }
    for (size_t i = 0; i < tr->param.n; i++)
        wn_tparam_store(tr->param.at[i], g.values.at[tr->param.at[i]->vid].constant->data);
    *ret_graph = g;
    return WINNOW_OK;
}
