/* distill.c: learning from a teacher's scores. Source: Hinton, Vinyals, Dean, Distilling the knowledge in a neural
 * network (2015); SparseML's DistillationModifier:
 *
 *   loss = (1 - hardness) * task + hardness * T^2 * mean over rows of KL(softmax(t / T) || softmax(s / T))
 *   d loss / d s = (1 - hardness) * d task + hardness * T * (softmax(s / T) - softmax(t / T)) / rows
 *
 * The teacher is the one the trainer was given (wn_trainer_set_teacher()): a job's base, or a model of its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

struct distill {
    struct wn_mod_common common;
    double hardness, temperature;
    const struct wn_yaml_node *output_keys;
};

struct mod {
    struct wn_modifier mod;
    struct distill p;
    bool active;
};

static void defaults(void *params)
{
    *(struct distill *)params = (struct distill){ .hardness = 0.5, .temperature = 2 };
}

static enum winnow_status check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    const struct distill *p = params;
    if (!(p->hardness >= 0 && p->hardness <= 1))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "hardness lies in 0 … 1, not %g",
                            p->hardness);
    if (!(p->temperature > 0))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "temperature is above 0, not %g",
                            p->temperature);
    if (p->output_keys && p->output_keys->kind == WN_YAML_SEQ && p->output_keys->n > 1)
        return wn_yaml_fail(read->doc, p->output_keys, read->err, WINNOW_E_UNSUPPORTED,
                            "distill_output_keys: one output, the scores, is distilled");
    return WINNOW_OK;
}

static enum winnow_status on_start(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                   struct winnow_err *err)
{
    (void)m;
    (void)now;
    unsigned teacher = wn_trainer_teacher_classes(tr), student = wn_trainer_n_classes(tr);
    if (!teacher)
        return wn_fail(err, WINNOW_E_MALFORMED, "there is no teacher to learn from");
    if (teacher != student)
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "the teacher scores %u classes, the model %u: a teacher with the same labels is needed", teacher,
                       student);
    return WINNOW_OK;
}

static enum winnow_status before_step(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                      struct winnow_err *err)
{
    (void)tr;
    (void)err;
    struct mod *m = (struct mod *)mod;
    m->active = now->t >= m->p.common.start && (!m->p.common.has_end || now->t < m->p.common.end);
    return WINNOW_OK;
}

/** log of the sum of exp(z / T). */
static double log_sum(const float *z, size_t k, double T)
{
    double top = -INFINITY, sum = 0;
    for (size_t c = 0; c < k; c++)
        top = fmax(top, (double)z[c] / T);
    for (size_t c = 0; c < k; c++)
        sum += exp((double)z[c] / T - top);
    return top + log(sum);
}

static enum winnow_status after_loss(struct wn_modifier *mod, struct wn_trainer *tr, const float *logits,
                                     float *dlogits, const uint32_t *sample, float *loss, struct winnow_err *err)
{
    (void)sample;
    const struct mod *m = (const struct mod *)mod;
    const float *taught;
    unsigned rows;
    size_t k = wn_trainer_n_classes(tr);
    double T = m->p.temperature, h = m->p.hardness, kl = 0;
    if (!m->active || !(h > 0))
        return WINNOW_OK;
    WN_TRY(wn_trainer_teach(tr, &taught, err));
    (void)wn_trainer_batch(tr, &rows);
    for (size_t r = 0; r < rows; r++) {
        const float *s = logits + r * k, *t = taught + r * k;
        float *d = dlogits + r * k;
        double ls = log_sum(s, k, T), lt = log_sum(t, k, T);
        for (size_t c = 0; c < k; c++) {
            double log_s = (double)s[c] / T - ls, log_t = (double)t[c] / T - lt, p = exp(log_t);
            kl += p * (log_t - log_s);
            d[c] = (float)((1 - h) * (double)d[c] + h * T * (exp(log_s) - p) / (double)rows);
        }
    }
    *loss = (float)((1 - h) * (double)*loss + h * T * T * kl / (double)rows);
    return WINNOW_OK;
}

static void mod_free(struct wn_modifier *m)
{
    free(m);
}

static const struct wn_modifier_ops ops = { .name = "DistillationModifier",
                                            .on_start = on_start,
                                            .before_step = before_step,
                                            .after_loss = after_loss,
                                            .free = mod_free };

static enum winnow_status add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    struct mod *m = calloc(1, sizeof *m);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    *m = (struct mod){ .mod.ops = &ops, .p = *(const struct distill *)params };
    m->p.output_keys = NULL; /* the recipe's text may go away */
    return wn_trainer_add_modifier(tr, &m->mod, err);
}

static const struct wn_field fields[] = {
    WN_MOD_TIME_FIELDS(struct distill),
    { "hardness", WN_FIELD_NUM, offsetof(struct distill, hardness) },
    { "temperature", WN_FIELD_NUM, offsetof(struct distill, temperature) },
    { "distill_output_keys", WN_FIELD_NODE, offsetof(struct distill, output_keys) },
    { "teacher_input_keys", WN_FIELD_NONE, 0 },
    { "update_frequency", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_Distillation = { .name = "Distillation",
                                                 .bytes = sizeof(struct distill),
                                                 .fields = fields,
                                                 .n_fields = WN_COUNT(fields),
                                                 .defaults = defaults,
                                                 .check = check,
                                                 .add = add };
