/* step.c: forward, loss, backward, optimizer; the loop around them with its hooks; evaluation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sparsify/kernels/team.h"
#include "sparsify/train/train_impl.h"

void wn_trainer_mode_train(struct wn_trainer *tr)
{
    struct wn_net *net = &tr->net;
    net->training = true;
    net->bn_batch = true;
    net->bn_share = tr->opts.bn_momentum;
    net->simulate = tr->quant && tr->quant_simulate;
    net->observe = tr->quant && tr->quant_observe;
    net->observe_share = tr->quant_opts.observer_average;
    net->step_key = tr->step;
}

void wn_trainer_mode_eval(struct wn_trainer *tr)
{
    struct wn_net *net = &tr->net;
    net->training = false;
    net->bn_batch = false;
    net->bn_share = 0;
    net->simulate = tr->quant && tr->quant_simulate;
    net->observe = false;
    net->observe_share = tr->quant_opts.observer_average;
}

/* ---- one step ---- */

const float *wn_trainer_batch(struct wn_trainer *tr, unsigned *ret_rows)
{
    *ret_rows = tr->opts.batch;
    return wn_net_input(&tr->net);
}

/** Forward, loss, hooks on it, backward; the batch lies in the net's input, labels in tr->label. */
static enum winnow_status gradients(struct wn_trainer *tr, bool hooks, float *ret_loss, float *ret_label_loss,
                                    size_t *ret_right, struct winnow_err *err)
{
    wn_trainer_mode_train(tr);
    WN_TRY(wn_net_forward(&tr->net, err));
    const float *scores = wn_net_output(&tr->net);
    float loss = (float)wn_cross_entropy(scores, tr->label, tr->opts.batch, wn_trainer_n_classes(tr),
                                         tr->opts.label_smoothing, tr->net.dlogits, ret_right);
    *ret_label_loss = NAN;
    for (size_t i = 0; hooks && i < tr->modifier.n; i++) {
        struct wn_modifier *m = tr->modifier.at[i];
        if (!m->ops->after_loss)
            continue;
        float before = loss;
        WN_TRY(m->ops->after_loss(m, tr, scores, tr->net.dlogits, tr->sample, &loss, err));
        if (isnan(*ret_label_loss) && !(loss == before))
            *ret_label_loss = before;
    }
    *ret_loss = loss;
    if (!isfinite(loss))
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "step %llu: the loss is not a finite number (learning rate %g too high?)",
                       (unsigned long long)tr->step, (double)tr->lr);
    return wn_net_backward(&tr->net, err);
}

static enum winnow_status given(struct wn_trainer *tr, const float *rows, const uint32_t *label, float *ret_loss,
                                struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(wn_trainer_ready(tr, err));
    if (!rows && !tr->data)
        return wn_fail(err, WINNOW_E_CONFLICT, "no rows given, and no data bound");
    size_t n = tr->opts.batch;
    if (rows)
        memcpy(wn_net_input(&tr->net), rows, tr->opts.batch * wn_trainer_row_elements(tr) * sizeof(float));
    else
        WN_TRY(wn_trainer_load_plain(tr, tr->data, 0, &n, err));
    label = rows ? label : tr->data->label;
    for (unsigned i = 0; i < tr->opts.batch; i++) {
        tr->label[i] = label[i];
        tr->sample[i] = i;
        if (label[i] >= wn_trainer_n_classes(tr))
            return wn_fail(err, WINNOW_E_MALFORMED, "row %u has label %u", i, label[i]);
    }
    float loss = 0, label_loss;
    size_t right;
    enum winnow_status s = gradients(tr, false, &loss, &label_loss, &right, err);
    if (ret_loss)
        *ret_loss = loss;
    return s;
}

enum winnow_status wn_trainer_gradients(struct wn_trainer *tr, const float *rows, const uint32_t *label,
                                        float *ret_loss, struct winnow_err *err)
{
    return given(tr, rows, label, ret_loss, err);
}

enum winnow_status wn_trainer_step(struct wn_trainer *tr, const float *rows, const uint32_t *label, float *ret_loss,
                                   struct winnow_err *err)
{
    WN_TRY(given(tr, rows, label, ret_loss, err));
    wn_trainer_optimize(tr);
    tr->step++;
    return WINNOW_OK;
}

/* ---- the loop ---- */

typedef enum winnow_status hook_fn(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                   struct winnow_err *err);

static hook_fn *hook_at(const struct wn_modifier *m, size_t offset)
{
    hook_fn *fn;
    memcpy(&fn, (const char *)m->ops + offset, sizeof fn);
    return fn;
}
#define HOOKS(tr, which, now)                                                                                          \
    do {                                                                                                               \
        for (size_t i_ = 0; i_ < (tr)->modifier.n; i_++) {                                                             \
            struct wn_modifier *m_ = (tr)->modifier.at[i_];                                                            \
            hook_fn *fn_ = hook_at(m_, offsetof(struct wn_modifier_ops, which));                                       \
            enum winnow_status s_ = fn_ ? fn_(m_, (tr), (now), err) : WINNOW_OK;                                       \
            if (s_ != WINNOW_OK)                                                                                       \
                return wn_fail_at(err, s_, "%s", m_->ops->name);                                                       \
        }                                                                                                              \
    } while (0)

static struct wn_train_time time_at(const struct wn_trainer *tr, const struct wn_fit_opts *fit)
{
    uint64_t per = tr->data->n / tr->opts.batch;
    struct wn_train_time t = { tr->step, per, (double)tr->step / (double)per, (double)(tr->step + 1) / (double)per,
                               fit->epochs };
    return t;
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void sparsity(const struct wn_trainer *tr, struct wn_train_progress *p)
{
    double n = 0, kept = 0, macs = 0, macs_kept = 0;
    for (size_t i = 0; i < tr->param.n; i++) {
        const struct wn_param *q = &tr->param.at[i]->pub;
        if (!q->prunable)
            continue;
        n += (double)q->n;
        kept += (double)q->kept;
        macs += q->macs;
        macs_kept += q->macs * (double)q->kept / (double)q->n;
    }
    p->param_sparsity = n > 0 ? 1 - kept / n : 0;
    p->flop_sparsity = macs > 0 ? 1 - macs_kept / macs : 0;
}

static enum winnow_status one(struct wn_trainer *tr, const struct wn_fit_opts *fit, bool *ret_go_on,
                              struct winnow_err *err)
{
    struct wn_train_progress pr = { .time = time_at(tr, fit) };
    uint64_t t0 = wn_now_ns();
    double c0 = cpu_ms();
    HOOKS(tr, before_step, &pr.time);
    WN_TRY(wn_trainer_ready(tr, err));
    WN_TRY(wn_trainer_load(tr, tr->step / pr.time.steps_per_epoch, tr->step % pr.time.steps_per_epoch, err));
    size_t right = 0;
    WN_TRY(gradients(tr, true, &pr.loss, &pr.label_loss, &right, err));
    HOOKS(tr, after_backward, &pr.time);
    wn_trainer_optimize(tr);
    HOOKS(tr, after_step, &pr.time);
    tr->step++;
    pr.accuracy = (float)right / (float)tr->opts.batch;
    pr.lr = tr->lr;
    sparsity(tr, &pr);
    pr.step_ms = (double)(wn_now_ns() - t0) / 1e6;
    pr.step_cpu_ms = cpu_ms() - c0;
    *ret_go_on = !fit->on_step || fit->on_step(fit->arg, tr, &pr);
    return WINNOW_OK;
}

enum winnow_status wn_trainer_fit(struct wn_trainer *tr, const struct wn_train_data *data,
                                  const struct wn_fit_opts *fit, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (!data->label)
        return wn_fail(err, WINNOW_E_MALFORMED, "data set without labels");
    WN_TRY(wn_trainer_bind_data(tr, data, err));
    uint64_t end = (uint64_t)llround(fit->epochs * (double)(data->n / tr->opts.batch));
    struct wn_train_time now = time_at(tr, fit);
    if (!tr->started)
        HOOKS(tr, on_start, &now);
    tr->started = true;
    while (tr->step < end) {
        bool go_on = true;
        WN_TRY(one(tr, fit, &go_on, err));
        if (!go_on && tr->step < end)
            return wn_fail(err, WINNOW_E_CANCELLED, "stopped after step %llu", (unsigned long long)tr->step);
    }
    now = time_at(tr, fit);
    HOOKS(tr, on_end, &now);
    return WINNOW_OK;
}

/* ---- evaluation ---- */

enum winnow_status wn_trainer_evaluate(struct wn_trainer *tr, const struct wn_train_data *data,
                                       struct wn_train_score *ret_score, uint32_t *ret_pred, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (!data->label)
        return wn_fail(err, WINNOW_E_MALFORMED, "data set without labels");
    WN_TRY(wn_trainer_check_data(tr, data, true, err));
    WN_TRY(wn_trainer_ready(tr, err));
    size_t k = wn_trainer_n_classes(tr), right = 0;
    double loss = 0;
    for (size_t from = 0; from < data->n; from += tr->opts.batch) {
        size_t n, ok = 0;
        WN_TRY(wn_trainer_load_plain(tr, data, from, &n, err));
        wn_trainer_mode_eval(tr);
        WN_TRY(wn_net_forward(&tr->net, err));
        const float *z = wn_net_output(&tr->net);
        loss += (double)n * wn_cross_entropy(z, data->label + from, n, k, 0, NULL, &ok);
        right += ok;
        for (size_t r = 0; ret_pred && r < n; r++) {
            size_t best = 0;
            for (size_t c = 1; c < k; c++)
                best = z[r * k + c] > z[r * k + best] ? c : best;
            ret_pred[from + r] = (uint32_t)best;
        }
    }
    double n = data->n ? (double)data->n : 1;
    *ret_score = (struct wn_train_score){ data->n, (double)right / n, loss / n };
    return WINNOW_OK;
}

enum winnow_status wn_trainer_predict(struct wn_trainer *tr, const float *rows, size_t n, float *scores,
                                      struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(wn_trainer_ready(tr, err));
    size_t k = wn_trainer_n_classes(tr);
    struct wn_train_data data = { .n = n, .row = rows };
    for (size_t from = 0; from < n; from += tr->opts.batch) {
        size_t m;
        WN_TRY(wn_trainer_load_plain(tr, &data, from, &m, err));
        wn_trainer_mode_eval(tr);
        WN_TRY(wn_net_forward(&tr->net, err));
        memcpy(scores + from * k, wn_net_output(&tr->net), m * k * sizeof(float));
    }
    return WINNOW_OK;
}
