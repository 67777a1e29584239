/* schedule.c: how long, how fast: EpochRange, SetLearningRate, LearningRateFunction, SetWeightDecay. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"
#include "sparsify/recipe/curve.h"

static bool active(const struct wn_mod_common *c, double t)
{
    return t >= c->start && (!c->has_end || t < c->end);
}

/* ---- EpochRange: wn_recipe_epochs() reads it ---- */

struct range {
    struct wn_mod_common common;
};

static void zero_range(void *params)
{
    *(struct range *)params = (struct range){ 0 };
}

static const struct wn_field range_fields[] = { WN_MOD_TIME_FIELDS(struct range) };
const struct wn_mod_kind wn_mod_EpochRange = { .name = "EpochRange",
                                               .bytes = sizeof(struct range),
                                               .fields = range_fields,
                                               .n_fields = WN_COUNT(range_fields),
                                               .defaults = zero_range };

/* ---- learning rates ---- */

struct rate {
    struct wn_mod_common common;
    double learning_rate, init_lr, final_lr, cycle_epochs;
    const char *lr_func;
    enum wn_curve curve;
    const struct wn_yaml_node *param_groups;
};

static void set_defaults(void *params)
{
    *(struct rate *)params = (struct rate){ .learning_rate = NAN };
}

static void function_defaults(void *params)
{
    *(struct rate *)params = (struct rate){ .init_lr = NAN, .final_lr = NAN, .cycle_epochs = 1, .lr_func = "linear" };
}

static enum winnow_status set_check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    const struct rate *p = params;
    if (!(p->learning_rate >= 0))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "SetLearningRateModifier needs a learning_rate of at least 0");
    return WINNOW_OK;
}

static enum winnow_status function_check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    struct rate *p = params;
    if (!(p->init_lr >= 0) || !(p->final_lr >= 0))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "LearningRateFunctionModifier needs init_lr and final_lr of at least 0");
    if (!wn_curve_of(p->lr_func, &p->curve) || p->curve == WN_CURVE_CUBIC || p->curve == WN_CURVE_INVERSE_CUBIC)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED,
                            "lr_func is linear, cosine or cyclic_linear, not '%.40s'", p->lr_func);
    if (!p->common.has_end)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "LearningRateFunctionModifier needs an end_epoch");
    if (!(p->cycle_epochs > 0))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "cycle_epochs must be above 0");
    return WINNOW_OK;
}

static double set_lr_at(const void *params, double t)
{
    const struct rate *p = params;
    return active(&p->common, t) ? p->learning_rate : NAN;
}

static double function_lr_at(const void *params, double t)
{
    const struct rate *p = params;
    double from = p->common.start, to = p->common.end;
    if (!active(&p->common, t))
        return NAN;
    if (p->curve == WN_CURVE_CYCLIC_LINEAR) {
        double cycle = floor((t - from) / p->cycle_epochs);
        from += cycle * p->cycle_epochs;
        to = from + p->cycle_epochs;
    }
    return wn_curve_at(p->curve, p->init_lr, p->final_lr, to > from ? (t - from) / (to - from) : 1, 1);
}

struct rate_mod {
    struct wn_modifier mod;
    struct rate p;
    double (*lr_at)(const void *params, double t);
};

static enum winnow_status rate_step(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                    struct winnow_err *err)
{
    const struct rate_mod *r = (const struct rate_mod *)m;
    double lr = r->lr_at(&r->p, now->t);
    if (!isnan(lr))
        wn_trainer_set_lr(tr, (float)lr);
    return WINNOW_OK;
}

static void free_mod(struct wn_modifier *m)
{
    free(m);
}

static const struct wn_modifier_ops rate_ops = { .name = "LearningRateModifier",
                                                 .before_step = rate_step,
                                                 .free = free_mod };

static enum winnow_status add_rate(const void *params, struct wn_trainer *tr, double (*lr_at)(const void *, double),
                                   struct winnow_err *err)
{
    struct rate_mod *r = calloc(1, sizeof *r);
    if (!r)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    *r = (struct rate_mod){ .mod.ops = &rate_ops, .p = *(const struct rate *)params, .lr_at = lr_at };
    r->p.lr_func = NULL; /* the recipe's text may go away */
    r->p.param_groups = NULL;
    return wn_trainer_add_modifier(tr, &r->mod, err);
}

static enum winnow_status set_add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    return add_rate(params, tr, set_lr_at, err);
}

static enum winnow_status function_add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    return add_rate(params, tr, function_lr_at, err);
}

static const struct wn_field set_fields[] = {
    WN_MOD_TIME_FIELDS(struct rate),
    { "learning_rate", WN_FIELD_NUM, offsetof(struct rate, learning_rate) },
    { "param_groups", WN_FIELD_NONE, 0 },
    { "constant_logging", WN_FIELD_NONE, 0 },
};
static const struct wn_field function_fields[] = {
    WN_MOD_TIME_FIELDS(struct rate),
    { "lr_func", WN_FIELD_STR, offsetof(struct rate, lr_func) },
    { "init_lr", WN_FIELD_NUM, offsetof(struct rate, init_lr) },
    { "final_lr", WN_FIELD_NUM, offsetof(struct rate, final_lr) },
    { "cycle_epochs", WN_FIELD_NUM, offsetof(struct rate, cycle_epochs) },
    { "param_groups", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_SetLearningRate = { .name = "SetLearningRate",
                                                    .bytes = sizeof(struct rate),
                                                    .fields = set_fields,
                                                    .n_fields = WN_COUNT(set_fields),
                                                    .defaults = set_defaults,
                                                    .check = set_check,
                                                    .add = set_add,
                                                    .lr_at = set_lr_at };
const struct wn_mod_kind wn_mod_LearningRateFunction = { .name = "LearningRateFunction",
                                                         .bytes = sizeof(struct rate),
                                                         .fields = function_fields,
                                                         .n_fields = WN_COUNT(function_fields),
                                                         .defaults = function_defaults,
                                                         .check = function_check,
                                                         .add = function_add,
                                                         .lr_at = function_lr_at };

/* ---- weight decay ---- */

struct decay {
    struct wn_mod_common common;
    double weight_decay;
};

struct decay_mod {
    struct wn_modifier mod;
    struct decay p;
};

static void decay_defaults(void *params)
{
    *(struct decay *)params = (struct decay){ .weight_decay = NAN };
}

static enum winnow_status decay_check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    if (!(((const struct decay *)params)->weight_decay >= 0))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "SetWeightDecayModifier needs a weight_decay of at least 0");
    return WINNOW_OK;
}

static enum winnow_status decay_step(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                     struct winnow_err *err)
{
    const struct decay_mod *d = (const struct decay_mod *)m;
    if (active(&d->p.common, now->t))
        wn_trainer_set_weight_decay(tr, (float)d->p.weight_decay);
    return WINNOW_OK;
}

static const struct wn_modifier_ops decay_ops = { .name = "SetWeightDecayModifier",
                                                  .before_step = decay_step,
                                                  .free = free_mod };

static enum winnow_status decay_add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    struct decay_mod *d = calloc(1, sizeof *d);
    if (!d)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    *d = (struct decay_mod){ .mod.ops = &decay_ops, .p = *(const struct decay *)params };
    return wn_trainer_add_modifier(tr, &d->mod, err);
}

static const struct wn_field decay_fields[] = {
    WN_MOD_TIME_FIELDS(struct decay),
    { "weight_decay", WN_FIELD_NUM, offsetof(struct decay, weight_decay) },
    { "param_groups", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_SetWeightDecay = { .name = "SetWeightDecay",
                                                   .bytes = sizeof(struct decay),
                                                   .fields = decay_fields,
                                                   .n_fields = WN_COUNT(decay_fields),
                                                   .defaults = decay_defaults,
                                                   .check = decay_check,
                                                   .add = decay_add };
