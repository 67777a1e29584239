/* qat.c: quantization-aware training: batch norm folded, fake-quantizers on, observers, scales. */
#include <math.h>
#include <string.h>
#include "sparsify/train/train_impl.h"

static enum winnow_status copy_opts(struct wn_trainer *tr, const struct wn_quant_opts *opts, struct winnow_err *err)
{
    struct wn_quant_opts q = opts ? *opts : (struct wn_quant_opts){ 0 };
    q.weight_max = q.weight_max ? q.weight_max : 64;
    q.observer_average = q.observer_average > 0 ? q.observer_average : 0.01f;
    if (q.weight_max < 1 || q.weight_max > 127 || q.observer_average > 1)
        return wn_fail(err, WINNOW_E_MALFORMED, "weights in -%d … %d, observer average %g", q.weight_max, q.weight_max,
                       (double)q.observer_average);
    const char **names = wn_arena_calloc(&tr->arena, q.n_ignore + 1, sizeof *names);
    for (unsigned i = 0; names && i < q.n_ignore; i++)
        if (!(names[i] = wn_arena_strndup(&tr->arena, q.ignore[i], strlen(q.ignore[i]))))
            names = NULL;
    if (!names)
        return wn_fail(err, WINNOW_E_NOMEM, "quantization");
    q.ignore = names;
    tr->quant_opts = q;
    return WINNOW_OK;
}

enum winnow_status wn_trainer_quant_enable(struct wn_trainer *tr, const struct wn_quant_opts *opts,
                                           struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (tr->quant)
        return wn_fail(err, WINNOW_E_CONFLICT, "the model is being quantized already");
    WN_TRY(copy_opts(tr, opts, err));
    tr->net.weight_max = tr->quant_opts.weight_max;
    struct wn_surgery done = { WN_SURGERY_QUANT, 0 };
    if (wn_trainer_n_bn(tr) && (!tr->surgery.n || tr->surgery.at[tr->surgery.n - 1].kind != WN_SURGERY_FOLD_BN))
        WN_TRY(wn_trainer_fold_bn(tr, err));
    tr->quant = tr->quant_observe = tr->quant_simulate = true;
    wn_trainer_sync(tr);
    WN_TRY(wn_trainer_rebuild(tr, err));
    return wn_vec_push(&tr->surgery, done) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "quantization");
}

bool wn_trainer_quant_enabled(const struct wn_trainer *tr)
{
    return tr->quant;
}

void wn_trainer_quant_observe(struct wn_trainer *tr, bool on)
{
    tr->quant_observe = on;
}

void wn_trainer_quant_simulate(struct wn_trainer *tr, bool on)
{
    tr->quant_simulate = on;
}

enum winnow_status wn_trainer_quant_calibrate(struct wn_trainer *tr, unsigned batches, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (!tr->quant || !tr->data)
        return wn_fail(err, WINNOW_E_CONFLICT, "calibration needs quantization on and data");
    WN_TRY(wn_trainer_ready(tr, err));
    for (unsigned b = 0; b < batches; b++) {
        wn_trainer_mode_eval(tr);
        tr->net.simulate = false;
        tr->net.observe = true;
        WN_TRY(wn_trainer_load(tr, WN_EPOCH_MEASURE, b, err));
        WN_TRY(wn_net_forward(&tr->net, err));
    }
    return WINNOW_OK;
}

unsigned wn_trainer_n_quant_points(const struct wn_trainer *tr)
{
    return (unsigned)tr->n_observers;
}

void wn_trainer_quant_point(const struct wn_trainer *tr, unsigned i, struct wn_quant_point *ret)
{
    const struct wn_observer *ob = &tr->observer[i];
    int zero, val = 0;
    while (tr->net.logical.val.at[val].vid != ob->vid)
        val++; /* the fake-quantizer's own value has the same, behind it in the list */
    *ret = (struct wn_quant_point){ .value = ob->value,
                                    .lo = fminf(ob->lo, 0),
                                    .hi = fmaxf(ob->hi, 0),
                                    .layers_only = !tr->net.pictures && !wn_net_all_read_quantized(&tr->net, val) };
    wn_observer_scale(ob, &ret->scale, &zero);
    ret->zero = (uint8_t)zero;
}

bool wn_trainer_weight_scales(const struct wn_trainer *tr, const struct wn_param *p, float *ret_scale)
{
    if (!tr->quant || p->kind != WN_PARAM_WEIGHT || p->cls == WN_LAYER_EMBEDDING || wn_trainer_ignores(tr, p->layer))
        return false;
    wn_quant_weights(p->w, (size_t)p->dim[0], p->n / (size_t)p->dim[0], tr->quant_opts.weight_max, NULL, ret_scale);
    return true;
}

bool wn_trainer_table_scale(const struct wn_trainer *tr, const struct wn_param *p, float *ret_scale)
{
    if (!tr->quant || !tr->quant_opts.tables || p->cls != WN_LAYER_EMBEDDING || wn_trainer_ignores(tr, p->layer))
        return false;
    wn_quant_weights(p->w, 1, p->n, WN_TABLE_MAX, NULL, ret_scale);
    return true;
}

bool wn_trainer_quant_products(const struct wn_trainer *tr)
{
    return tr->quant && tr->quant_opts.products;
}
