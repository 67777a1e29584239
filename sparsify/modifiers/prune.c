/* prune.c: gradual magnitude pruning, and masks that are kept (sparse transfer). Source: Zhu and Gupta, To prune, or
 * not to prune (2017); SparseML. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"
#include "sparsify/recipe/curve.h"

/* ---- parameters ---- */

struct prune {
    struct wn_mod_common common;
    double init_sparsity, update_frequency, exponent;
    const struct wn_yaml_node *init_node, *final_node, *mask_node;
    const char *inter_func, *score_type;
    struct wn_names params;
    bool global_sparsity, leave_enabled;
    /* from the nodes */
    bool init_from_param;
    enum wn_mask_type mask;
    enum wn_curve curve;
    size_t n_targets; /* sparsities with the names they are for */
    double *target;
    struct wn_names *names;
};

static void gmp_defaults(void *params)
{
    *(struct prune *)params = (struct prune){ .init_sparsity = 0.05,
                                              .update_frequency = 0.5,
                                              .exponent = 3,
                                              .inter_func = "cubic",
                                              .score_type = "magnitude",
                                              .leave_enabled = true };
}

static enum winnow_status check_share(struct wn_mod_read *read, const struct wn_yaml_node *node, double v)
{
    if (v >= 0 && v < 1)
        return WINNOW_OK;
    return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "a sparsity lies in 0 … 1 (1 excluded), not %g",
                        v);
}

/* final_sparsity: a number for `params`, or a map from numbers to lists of names. */
static enum winnow_status read_targets(struct wn_mod_read *read, const struct wn_yaml_node *node, struct prune *p)
{
    const struct wn_yaml_node *f = p->final_node;
    if (!f)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "final_sparsity is missing");
    p->n_targets = f->kind == WN_YAML_MAP ? f->n : 1;
    p->target = wn_arena_calloc(read->arena, p->n_targets + 1, sizeof *p->target);
    p->names = wn_arena_calloc(read->arena, p->n_targets + 1, sizeof *p->names);
    if (!p->target || !p->names)
        return wn_fail(read->err, WINNOW_E_NOMEM, "recipe");
    if (f->kind != WN_YAML_MAP) {
        WN_TRY(wn_mod_number(read, f, &p->target[0]));
        p->names[0] = p->params;
        if (!p->params.n)
            return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "params (or targets) is missing");
        return check_share(read, f, p->target[0]);
    }
    for (size_t i = 0; i < f->n; i++) {
        char *end;
        p->target[i] = strtod(f->key[i]->text, &end);
        if (*end || end == f->key[i]->text)
            return wn_yaml_fail(read->doc, f->key[i], read->err, WINNOW_E_MALFORMED,
                                "final_sparsity maps numbers to lists of names, '%.40s' is no number", f->key[i]->text);
        WN_TRY(check_share(read, f->key[i], p->target[i]));
        size_t n = f->item[i]->kind == WN_YAML_SEQ ? f->item[i]->n : 0;
        p->names[i].at = wn_arena_calloc(read->arena, n + 1, sizeof *p->names[i].at);
        if (!n || !p->names[i].at)
            return wn_yaml_fail(read->doc, f->item[i], read->err, WINNOW_E_MALFORMED, "a list of names is wanted");
        for (size_t k = 0; k < n; k++)
            p->names[i].at[p->names[i].n++] = f->item[i]->item[k]->text;
    }
    return WINNOW_OK;
}

/* A name, or a list of two numbers: output channels, input channels. */
static enum winnow_status read_mask(struct wn_mod_read *read, struct prune *p)
{
    const struct wn_yaml_node *m = p->mask_node;
    if (!m)
        return WINNOW_OK;
    bool pair =
        m->kind == WN_YAML_SEQ && m->n == 2 && m->item[0]->kind == WN_YAML_INT && m->item[1]->kind == WN_YAML_INT;
    bool known = pair ? wn_mask_type_of_shape(m->item[0]->as.i, m->item[1]->as.i, &p->mask)
                      : m->kind != WN_YAML_SEQ && m->kind != WN_YAML_MAP && wn_mask_type_of(m->text, &p->mask);
    if (!known)
        return wn_yaml_fail(
            read->doc, m, read->err, WINNOW_E_UNSUPPORTED,
            "masks are unstructured, block4 or [1, 4] (input channels), [4, 1] or [2, 1] (output channels)");
    return WINNOW_OK;
}

static enum winnow_status gmp_check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    struct prune *p = params;
    WN_TRY(read_targets(read, node, p));
    WN_TRY(read_mask(read, p));
    if (p->init_node && strcmp(p->init_node->text, "__FROM_PARAM__") == 0)
        p->init_from_param = true;
    else if (p->init_node)
        WN_TRY(wn_mod_number(read, p->init_node, &p->init_sparsity));
    WN_TRY(check_share(read, p->init_node ? p->init_node : node, p->init_sparsity));
    if (!wn_curve_of(p->inter_func, &p->curve) || p->curve >= WN_CURVE_COSINE)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED,
                            "inter_func is linear, cubic, inverse_cubic or polynomial_decay, not '%.40s'",
                            p->inter_func);
    if (strcmp(p->score_type, "magnitude") && strcmp(p->score_type, "MagnitudePruning"))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED, "score_type is magnitude, not '%.40s'",
                            p->score_type);
    if (!p->common.has_end)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "a pruning modifier needs an end_epoch");
    if (!(p->update_frequency > 0) && p->update_frequency != -1)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "update_frequency is above 0 epochs, or -1 for every step");
    return WINNOW_OK;
}

static double progress(const struct wn_mod_common *c, double t)
{
    return c->end > c->start ? (t - c->start) / (c->end - c->start) : 1;
}

static double gmp_sparsity_at(const void *params, double t)
{
    const struct prune *p = params;
    if (t < p->common.start)
        return NAN;
    return wn_curve_at(p->curve, p->init_sparsity, p->target[0], progress(&p->common, t), p->exponent);
}

/* ---- the modifier ---- */

struct gmp_state { /* in checkpoints */
    double last_t; /* of the last update; below 0: none yet */
    int finished, released;
};

struct group {
    double target, init;
    char **name; /* parameters, by name: pointers change when the graph does */
    size_t n;
};

struct gmp {
    struct wn_modifier mod;
    struct wn_mod_common common;
    double init, update, exponent;
    bool together, leave_enabled, from_param;
    enum wn_mask_type mask;
    enum wn_curve curve;
    struct group *group;
    size_t n_groups;
    struct gmp_state state;
};

static enum winnow_status params_of(struct wn_trainer *tr, const struct group *g, struct wn_param **ret,
                                    struct winnow_err *err)
{
    for (size_t i = 0; i < g->n; i++) {
        ret[i] = wn_trainer_find_param(tr, g->name[i]);
        if (!ret[i])
            return wn_fail(err, WINNOW_E_NOT_FOUND, "parameter '%s' is gone", g->name[i]);
    }
    return WINNOW_OK;
}

static void free_masks(uint8_t **mask, size_t n)
{
    for (size_t i = 0; mask && i < n; i++)
        free(mask[i]);
    free(mask);
}

static enum winnow_status update_group(struct gmp *m, struct wn_trainer *tr, struct group *g, double sparsity,
                                       struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_param **p = calloc(g->n + 1, sizeof *p);
    uint8_t **mask = calloc(g->n + 1, sizeof *mask);
    enum winnow_status status = p && mask ? params_of(tr, g, p, err) : wn_fail(err, WINNOW_E_NOMEM, "masks");
    for (size_t i = 0; i < g->n && status == WINNOW_OK; i++)
        if (!(mask[i] = malloc(p[i]->n + 1)))
            status = wn_fail(err, WINNOW_E_NOMEM, "mask of '%s'", p[i]->name);
    if (status == WINNOW_OK)
        status = wn_mask_choose(p, g->n, sparsity, m->together, m->mask, mask, err);
    for (size_t i = 0; i < g->n && status == WINNOW_OK; i++)
        status = wn_trainer_set_mask(tr, p[i], mask[i], err);
    free_masks(mask, g->n);
    return status;
}

/* Share of zeros a group has now. */
static double zeros(struct wn_trainer *tr, const struct group *g)
{
    double n = 0, zero = 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct wn_param *p = wn_trainer_find_param(tr, g->name[i]);
        for (size_t k = 0; p && k < p->n; k++)
            zero += p->w[k] == 0;
        n += p ? (double)p->n : 0;
    }
    return n > 0 ? zero / n : 0;
}

static bool due(const struct gmp *m, double t)
{
    if (t < m->common.start || m->state.finished)
        return false;
    return m->state.last_t < 0 || m->update < 0 || t >= m->common.end || t >= m->state.last_t + m->update - 1e-9;
}

/* leave_enabled: false: the masks go when the modifier has ended, the zeros may grow back. */
static enum winnow_status release(struct gmp *m, struct wn_trainer *tr, struct winnow_err *err)
{
    for (size_t i = 0; i < m->n_groups; i++)
        for (size_t k = 0; k < m->group[i].n; k++) {
            struct wn_param *p = wn_trainer_find_param(tr, m->group[i].name[k]);
            if (p)
                WN_TRY(wn_trainer_set_mask(tr, p, NULL, err));
        }
    m->state.released = 1;
    return WINNOW_OK;
}

static enum winnow_status gmp_step(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                   struct winnow_err *err)
{
    struct gmp *m = (struct gmp *)mod;
    if (m->state.finished && !m->leave_enabled && !m->state.released)
        return release(m, tr, err);
    if (!due(m, now->t))
        return WINNOW_OK;
    double x = progress(&m->common, now->t);
    for (size_t i = 0; i < m->n_groups; i++) {
        struct group *g = &m->group[i];
        double from = m->from_param ? g->init : m->init;
        double s = x >= 1 ? g->target : wn_curve_at(m->curve, from, g->target, x, m->exponent);
        WN_TRY(update_group(m, tr, g, s, err));
    }
    m->state.last_t = now->t;
    m->state.finished = now->t >= m->common.end;
    return WINNOW_OK;
}

static enum winnow_status gmp_start(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                    struct winnow_err *err)
{
    struct gmp *m = (struct gmp *)mod;
    for (size_t i = 0; i < m->n_groups && m->from_param && now->step == 0; i++)
        m->group[i].init = zeros(tr, &m->group[i]);
    return WINNOW_OK;
}

/* Masks stay (leave_enabled), or go when the modifier ends; training that stops earlier than end_epoch still gets its
 * final sparsity. */
static enum winnow_status gmp_end(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                  struct winnow_err *err)
{
    struct gmp *m = (struct gmp *)mod;
    if (!m->state.finished && now->t >= m->common.start)
        for (size_t i = 0; i < m->n_groups; i++)
            WN_TRY(update_group(m, tr, &m->group[i], m->group[i].target, err));
    m->state.finished = 1;
    return WINNOW_OK;
}

static void gmp_free(struct wn_modifier *mod)
{
    struct gmp *m = (struct gmp *)mod;
    for (size_t i = 0; i < m->n_groups; i++) {
        for (size_t k = 0; k < m->group[i].n; k++)
            free(m->group[i].name[k]);
        free(m->group[i].name);
    }
    free(m->group);
    free(m);
}

static const struct wn_modifier_ops gmp_ops = {
    .name = "GMPruningModifier", .on_start = gmp_start, .before_step = gmp_step, .on_end = gmp_end, .free = gmp_free
};

static enum winnow_status make_group(struct wn_trainer *tr, const struct wn_names *names, const char *modifier,
                                     struct group *g, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_param **p = NULL;
    size_t n;
    WN_TRY(wn_select(tr, names, modifier, &p, &n, err));
    g->name = calloc(n + 1, sizeof *g->name);
    for (size_t i = 0; g->name && i < n; i++) {
        if (!p[i]->can_prune)
            continue; /* __ALL__ includes biases and batch norm */
        if (!(g->name[g->n] = wn_strdup(p[i]->name)))
            return wn_fail(err, WINNOW_E_NOMEM, "modifier");
        g->n++;
    }
    if (!g->n)
        return wn_fail(err, g->name ? WINNOW_E_NOT_FOUND : WINNOW_E_NOMEM,
                       "%sModifier: '%s' names nothing that can be pruned", modifier, names->at[0]);
    return WINNOW_OK;
}

static enum winnow_status gmp_add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    const struct prune *p = params;
    struct gmp *m = calloc(1, sizeof *m);
    if (!m || !(m->group = calloc(p->n_targets + 1, sizeof *m->group))) {
        free(m);
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    }
    m->mod.ops = &gmp_ops;
    m->mod.state = &m->state;
    m->mod.state_bytes = sizeof m->state;
    m->common = p->common;
    m->init = p->init_sparsity;
    m->from_param = p->init_from_param;
    m->update = p->update_frequency;
    m->exponent = p->exponent;
    m->together = p->global_sparsity;
    m->leave_enabled = p->leave_enabled;
    m->mask = p->mask;
    m->curve = p->curve;
    m->state.last_t = -1;
    for (m->n_groups = 0; m->n_groups < p->n_targets; m->n_groups++) {
        struct group *g = &m->group[m->n_groups];
        g->target = p->target[m->n_groups];
        enum winnow_status status = make_group(tr, &p->names[m->n_groups], "GMPruning", g, err);
        if (status != WINNOW_OK) {
            m->n_groups++;
            gmp_free(&m->mod);
            return status;
        }
    }
    return wn_trainer_add_modifier(tr, &m->mod, err);
}

static const struct wn_field gmp_fields[] = {
    WN_MOD_TIME_FIELDS(struct prune),
    { "init_sparsity", WN_FIELD_NODE, offsetof(struct prune, init_node) },
    { "final_sparsity", WN_FIELD_NODE, offsetof(struct prune, final_node) },
    { "update_frequency", WN_FIELD_NUM, offsetof(struct prune, update_frequency) },
    { "update", WN_FIELD_NUM, offsetof(struct prune, update_frequency) },
    { "params", WN_FIELD_NAMES, offsetof(struct prune, params) },
    { "targets", WN_FIELD_NAMES, offsetof(struct prune, params) },
    { "leave_enabled", WN_FIELD_BOOL, offsetof(struct prune, leave_enabled) },
    { "inter_func", WN_FIELD_STR, offsetof(struct prune, inter_func) },
    { "update_scheduler", WN_FIELD_STR, offsetof(struct prune, inter_func) },
    { "exponent", WN_FIELD_NUM, offsetof(struct prune, exponent) },
    { "mask_type", WN_FIELD_NODE, offsetof(struct prune, mask_node) },
    { "mask_structure", WN_FIELD_NODE, offsetof(struct prune, mask_node) },
    { "global_sparsity", WN_FIELD_BOOL, offsetof(struct prune, global_sparsity) },
    { "apply_globally", WN_FIELD_BOOL, offsetof(struct prune, global_sparsity) },
    { "score_type", WN_FIELD_STR, offsetof(struct prune, score_type) },
    { "log_types", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_GMPruning = { .name = "GMPruning",
                                              .bytes = sizeof(struct prune),
                                              .fields = gmp_fields,
                                              .n_fields = WN_COUNT(gmp_fields),
                                              .defaults = gmp_defaults,
                                              .check = gmp_check,
                                              .add = gmp_add,
                                              .sparsity_at = gmp_sparsity_at };

/* ---- ConstantPruning: the zeros that are there stay ---- */

struct constant {
    struct wn_modifier mod;
    struct wn_mod_common common;
    struct group group;
    int done; /* in checkpoints */
};

static void constant_defaults(void *params)
{
    *(struct prune *)params = (struct prune){ .leave_enabled = true };
}

static enum winnow_status constant_check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    if (!((const struct prune *)params)->params.n)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "params (or targets) is missing");
    return WINNOW_OK;
}

static enum winnow_status constant_step(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                        struct winnow_err *err)
{
    struct constant *m = (struct constant *)mod;
    if (m->done || now->t < m->common.start)
        return WINNOW_OK;
    for (size_t i = 0; i < m->group.n; i++) {
        struct wn_param *p = wn_trainer_find_param(tr, m->group.name[i]);
        if (!p)
            return wn_fail(err, WINNOW_E_NOT_FOUND, "parameter '%s' is gone", m->group.name[i]);
        WN_CLEANUP(wn_freep) uint8_t *mask = malloc(p->n + 1);
        if (!mask)
            return wn_fail(err, WINNOW_E_NOMEM, "mask of '%s'", p->name);
        for (size_t k = 0; k < p->n; k++)
            mask[k] = p->w[k] != 0;
        WN_TRY(wn_trainer_set_mask(tr, p, mask, err));
    }
    m->done = 1;
    return WINNOW_OK;
}

static void constant_free(struct wn_modifier *mod)
{
    struct constant *m = (struct constant *)mod;
    for (size_t i = 0; i < m->group.n; i++)
        free(m->group.name[i]);
    free(m->group.name);
    free(m);
}

static const struct wn_modifier_ops constant_ops = { .name = "ConstantPruningModifier",
                                                     .before_step = constant_step,
                                                     .free = constant_free };

static enum winnow_status constant_add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    const struct prune *p = params;
    struct constant *m = calloc(1, sizeof *m);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    m->mod.ops = &constant_ops;
    m->mod.state = &m->done;
    m->mod.state_bytes = sizeof m->done;
    m->common = p->common;
    enum winnow_status status = make_group(tr, &p->params, "ConstantPruning", &m->group, err);
    if (status != WINNOW_OK) {
        constant_free(&m->mod);
        return status;
    }
    return wn_trainer_add_modifier(tr, &m->mod, err);
}

static const struct wn_field constant_fields[] = {
    WN_MOD_TIME_FIELDS(struct prune),
    { "params", WN_FIELD_NAMES, offsetof(struct prune, params) },
    { "targets", WN_FIELD_NAMES, offsetof(struct prune, params) },
    { "update_frequency", WN_FIELD_NONE, 0 },
    { "log_types", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_ConstantPruning = { .name = "ConstantPruning",
                                                    .bytes = sizeof(struct prune),
                                                    .fields = constant_fields,
                                                    .n_fields = WN_COUNT(constant_fields),
                                                    .defaults = constant_defaults,
                                                    .check = constant_check,
                                                    .add = constant_add };
