/* trainable.c: freezing and thawing parameters. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

struct trainable {
    struct wn_mod_common common;
    struct wn_names params;
    bool trainable, strict;
};

struct state { /* in checkpoints */
    int begun, ended;
};

struct mod {
    struct wn_modifier mod;
    struct wn_mod_common common;
    bool trainable;
    char **name;
    bool *before; /* as it was */
    size_t n;
    struct state state;
};

static void defaults(void *params)
{
    *(struct trainable *)params = (struct trainable){ .strict = true };
}

static enum winnow_status check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    if (!((const struct trainable *)params)->params.n)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "params (or targets) is missing");
    return WINNOW_OK;
}

static void set_all(struct mod *m, struct wn_trainer *tr, bool restore)
{
    for (size_t i = 0; i < m->n; i++) {
        struct wn_param *p = wn_trainer_find_param(tr, m->name[i]);
        if (!p)
            continue; /* folded into its neighbour meanwhile */
        if (!restore)
            m->before[i] = p->trainable;
        wn_trainer_set_trainable(tr, p, restore ? m->before[i] : m->trainable);
        if (p->cls == WN_LAYER_BN && p->kind == WN_PARAM_SCALE)
            wn_trainer_freeze_bn_stats(tr, p->layer, restore ? !m->before[i] : !m->trainable);
    }
}

static enum winnow_status before_step(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                      struct winnow_err *err)
{
    struct mod *m = (struct mod *)mod;
    if (!m->state.begun && now->t >= m->common.start) {
        set_all(m, tr, false);
        m->state.begun = 1;
    }
    if (m->state.begun && !m->state.ended && m->common.has_end && now->t >= m->common.end) {
        set_all(m, tr, true);
        m->state.ended = 1;
    }
    return WINNOW_OK;
}

/* After a resume the trainer does not know what was frozen. */
static enum winnow_status on_start(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                   struct winnow_err *err)
{
    struct mod *m = (struct mod *)mod;
    if (m->state.begun && !m->state.ended)
        set_all(m, tr, false);
    return WINNOW_OK;
}

static void mod_free(struct wn_modifier *mod)
{
    struct mod *m = (struct mod *)mod;
    for (size_t i = 0; i < m->n; i++)
        free(m->name[i]);
    free(m->name);
    free(m->before);
    free(m);
}

static const struct wn_modifier_ops ops = {
    .name = "TrainableParamsModifier", .on_start = on_start, .before_step = before_step, .free = mod_free
};

static enum winnow_status fill(struct mod *m, const struct trainable *p, struct wn_trainer *tr, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_param **hit = NULL;
    size_t n;
    WN_TRY(wn_select(tr, &p->params, "TrainableParams", &hit, &n, err));
    m->name = calloc(n + 1, sizeof *m->name);
    m->before = calloc(n + 1, sizeof *m->before);
    if (!m->name || !m->before)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    for (; m->n < n; m->n++)
        if (!(m->name[m->n] = wn_strdup(hit[m->n]->name)))
            return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    return WINNOW_OK;
}

static enum winnow_status add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    const struct trainable *p = params;
    struct mod *m = calloc(1, sizeof *m);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    m->mod = (struct wn_modifier){ &ops, &m->state, sizeof m->state };
    m->common = p->common;
    m->trainable = p->trainable;
    enum winnow_status status = fill(m, p, tr, err);
    if (status != WINNOW_OK) {
        mod_free(&m->mod);
        return status;
    }
    return wn_trainer_add_modifier(tr, &m->mod, err);
}

static const struct wn_field fields[] = {
    WN_MOD_TIME_FIELDS(struct trainable),
    { "params", WN_FIELD_NAMES, offsetof(struct trainable, params) },
    { "targets", WN_FIELD_NAMES, offsetof(struct trainable, params) },
    { "trainable", WN_FIELD_BOOL, offsetof(struct trainable, trainable) },
    { "params_strict", WN_FIELD_BOOL, offsetof(struct trainable, strict) },
};
const struct wn_mod_kind wn_mod_TrainableParams = { .name = "TrainableParams",
                                                    .bytes = sizeof(struct trainable),
                                                    .fields = fields,
                                                    .n_fields = WN_COUNT(fields),
                                                    .defaults = defaults,
                                                    .check = check,
                                                    .add = add };
