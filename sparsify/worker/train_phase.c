/* train_phase.c: the child that trains: it sees the base, the recipe and data/train, and writes below work/. It never
 * sees data/eval: what it reports of accuracy is for watching, the verdict is another process's.
 *
 * DESIGN  A trainer is always brought up the same way (new head, batch norm put back, modifiers), then a checkpoint, if
 *         there is one, replaces every value: so a resumed job goes on bit for bit as it would have. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/digest.h"
#include "base/file.h"
#include "engine/graph/onnx.h"
#include "sparsify/worker/fault.h"
#include "sparsify/worker/sandbox.h"
#include "sparsify/worker/train_impl.h"
#include "winnow/winnow.h"

#define FILE_BYTES    ((uint64_t)16 << 30)
#define CHECKPOINT_NS ((uint64_t)60 * 1000000000)
#define MAX_RECIPE    ((size_t)1 << 20)
#define BN_BATCHES    32u
#define TEACHER       "base/teacher/model.onnx"

/* ---- recipe and options ---- */

/* Share of zeros in the base's weights: a sparse base keeps its masks. */
static bool is_sparse(struct wn_trainer *tr)
{
    double n = 0, zero = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        const struct wn_param *p = wn_trainer_param(tr, i);
        for (size_t k = 0; p->prunable && k < p->n; k++)
            zero += !(p->w[k] < 0 || p->w[k] > 0);
        n += p->prunable ? (double)p->n : 0;
    }
    return zero > 0.3 * n;
}

static size_t n_prunable(struct wn_trainer *tr)
{
    size_t n = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++)
        n += wn_trainer_param(tr, i)->prunable ? wn_trainer_param(tr, i)->n : 0;
    return n;
}

/* Enough steps per epoch for a schedule to be followed; whole 16-row blocks, which the sparse kernels work in. */
static unsigned choose_batch(const struct wn_job *job, size_t n)
{
    unsigned batch = job->training.batch ? job->training.batch : 64;
    while (!job->training.batch && batch > 16 && n / batch < 16)
        batch /= 2;
    while (batch > 1 && n < batch)
        batch /= 2;
    return batch;
}

static enum wn_optimizer choose_optimizer(const struct wn_train_run *r)
{
    if (r->job->training.optimizer)
        return (enum wn_optimizer)(r->job->training.optimizer - 1);
    return r->origin.graph.values.at[r->origin.graph.inputs.at[0]].type.dtype == WINNOW_F32 ? WN_OPT_SGD : WN_OPT_ADAMW;
}

static enum winnow_status open_recipe(struct wn_train_run *r)
{
    if (r->job->recipe) {
        const char *path = wn_job_path(r->job, "recipe.yaml");
        if (!path)
            return wn_fail(r->err, WINNOW_E_NOMEM, "recipe");
        WN_TRY(wn_file_read(path, MAX_RECIPE, &r->recipe_text, &r->recipe_bytes, r->err));
    } else {
        bool tokens = r->opts.optimizer == WN_OPT_ADAMW;
        const struct wn_recipe_fit fit = { .rows = r->rows.n_train,
                                           .batch = r->opts.batch,
                                           .epochs = isnan(r->job->epochs) ? 0 : r->job->epochs,
                                           .base_sparse = r->base_sparse,
                                           .adamw_lr = tokens ? wn_recipe_adamw_lr(n_prunable(r->tr)) : 0,
                                           .teach = !r->job->new_labels || wn_job_has(r->job, TEACHER) };
        r->recipe_text = wn_recipe_for_level(r->job->optim_level, &fit);
        if (!r->recipe_text)
            return wn_fail(r->err, WINNOW_E_NOMEM, "recipe");
        r->recipe_bytes = strlen(r->recipe_text);
    }
    WN_TRY(wn_recipe_parse(r->recipe_text, r->recipe_bytes, "recipe.yaml", &r->recipe, r->err));
    r->epochs = wn_recipe_epochs(r->recipe);
    if (!(r->epochs > 0) || r->epochs > 100000)
        return wn_fail(r->err, WINNOW_E_MALFORMED, "recipe.yaml:1: training ends at epoch %g", r->epochs);
    return WINNOW_OK;
}

static void set_augmentation(struct wn_train_run *r)
{
    const struct wn_job_training *t = &r->job->training;
    r->train.flip = t->flip;
    r->train.crop_pad = t->crop_pad >= 0 ? (unsigned)t->crop_pad : WN_MIN(r->origin.h, r->origin.w) >= 16 ? 2 : 0;
}

/* ---- what a checkpoint is bound to ---- */

/* Of the file, and of those that its weights lie in. */
static enum winnow_status digest_model(const char *path, struct wn_sha256 *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char **names = NULL;
    WN_TRY(winnow_external_list(path, &names, NULL, err));
    return wn_sha256_with(path, (const char *const *)names, ret, err);
}

static enum winnow_status identify(struct wn_train_run *r)
{
    struct wn_sha256 d;
    const struct wn_job_training *t = &r->job->training;
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base/%s", r->job->dir, r->origin.file);
    WN_CLEANUP(wn_freep) char *teacher = wn_asprintf("%s/" TEACHER, r->job->dir);
    WN_CLEANUP(wn_freep) char *rows = wn_asprintf("%s/data/train/rows.npz", r->job->dir);
    WN_CLEANUP(wn_freep)
    char *text = wn_asprintf("%s\n%u %.9g %d %.9g %d %u %d %d %.9g", (char *)r->recipe_text, r->opts.batch, t->momentum,
                             t->nesterov, t->label_smoothing, r->train.flip, r->train.crop_pad, r->job->new_labels,
                             (int)r->opts.optimizer, t->max_grad_norm);
    if (!base || !rows || !text || !teacher)
        return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    WN_TRY(digest_model(base, &d, r->err));
    memcpy(r->ids.model, d.b, sizeof d.b);
    if (wn_job_has(r->job, TEACHER)) { /* another teacher is another base */
        WN_TRY(digest_model(teacher, &d, r->err));
        for (size_t i = 0; i < sizeof d.b; i++)
            r->ids.model[i] ^= d.b[i];
    }
    WN_TRY(wn_sha256_file(rows, &d, NULL, r->err));
    memcpy(r->ids.data, d.b, sizeof d.b);
    if (!wn_sha256(text, strlen(text), &d))
        return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    memcpy(r->ids.recipe, d.b, sizeof d.b);
    return WINNOW_OK;
}

/* ---- the trainer ---- */

static enum winnow_status new_trainer(struct wn_train_run *r)
{
    wn_trainer_free(r->tr);
    r->tr = NULL;
    WN_TRY(wn_trainer_new(&r->origin.graph, &r->opts, &r->tr, r->err));
    if (r->job->new_labels)
        WN_TRY(wn_trainer_replace_head(r->tr, r->rows.n_labels, r->err));
    if (wn_trainer_n_classes(r->tr) < r->rows.n_labels)
        return wn_fail(r->err, WINNOW_E_MALFORMED, "the base has %u classes, its labels are %u",
                       wn_trainer_n_classes(r->tr), r->rows.n_labels);
    WN_TRY(wn_trainer_bind_data(r->tr, &r->train, r->err));
    if (r->origin.has_conv && !r->origin.has_bn)
        WN_TRY(wn_trainer_insert_bn(r->tr, (unsigned)WN_MIN(r->train.n / r->opts.batch, (size_t)BN_BATCHES), r->err));
    return WINNOW_OK;
}

/* Whom a recipe's distillation asks: base/teacher/ where the job has one, else the base itself. */
static enum winnow_status set_teacher(struct wn_train_run *r)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/" TEACHER, r->job->dir);
    struct wn_arena arena;
    struct wn_graph g;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    if (!wn_job_has(r->job, TEACHER))
        return wn_trainer_set_teacher(r->tr, &r->origin.graph, r->err);
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_onnx_read_file(path, NULL, &arena, &g, r->err);
    if (status == WINNOW_OK) {
        status = wn_trainer_set_teacher(r->tr, &g, r->err);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return status;
}

/* A trainer with its modifiers, at the newest checkpoint that fits or at the start. */
static enum winnow_status bring_up(struct wn_train_run *r)
{
    if (!wn_recipe_sets_lr(r->recipe))
        wn_progress_message(r->pg, "warning", "%s", WN_RECIPE_NO_LR);
    for (unsigned tries = 0;; tries++) {
        bool found;
        if (tries) /* what a bad checkpoint has touched is not used */
            WN_TRY(new_trainer(r));
        if (wn_recipe_distils(r->recipe))
            WN_TRY(set_teacher(r));
        enum winnow_status status = wn_recipe_apply(r->recipe, r->tr, r->err);
        if (status != WINNOW_OK) {
            wn_recipe_fault("recipe.yaml", r->recipe_text, r->err);
            return status;
        }
        status = wn_train_resume(r, &found);
        if (status != WINNOW_E_PRECONDITION || tries == 3)
            return status;
    }
}

/* ---- steps ---- */

/* Kept apart: the loop, which is told to stop only, has an error of its own for that. */
static bool fail_step(struct wn_train_run *r, enum winnow_status status)
{
    if (status == WINNOW_OK)
        return true;
    r->end = WN_END_FAILED;
    r->on_step = *r->err;
    return false;
}

bool wn_train_leaves(struct wn_train_run *r)
{
    if (wn_job_has(r->job, "cancel"))
        r->end = WN_END_CANCELLED;
    else if (wn_worker_stop || wn_job_has(r->job, "pause"))
        r->end = WN_END_LEFT;
    else
        return false;
    return true;
}

static bool on_step(void *arg, struct wn_trainer *tr, const struct wn_train_progress *p)
{
    struct wn_train_run *r = arg;
    uint64_t done = p->time.step + 1;
    bool whole = done % p->time.steps_per_epoch == 0;
    bool last = done >= (uint64_t)llround(p->time.epochs * (double)p->time.steps_per_epoch);
    wn_progress_step(r->pg, p);
    bool leave = wn_train_leaves(r);
    if (r->end == WN_END_CANCELLED)
        return false;
    bool save = leave || whole || last || wn_now_ns() - r->checkpoint_ns > CHECKPOINT_NS;
    if (save && !fail_step(r, wn_train_save(r, done)))
        return false;
    if (leave)
        return false;
    if (whole) {
        struct wn_train_score score;
        if (!fail_step(r, wn_trainer_evaluate(tr, &r->val, &score, NULL, r->err)))
            return false;
        wn_progress_eval(r->pg, p->time.t_next, &score);
    }
    return true;
}

/* ---- the phase ---- */

static enum winnow_status enter(struct wn_train_run *r, const struct wn_worker_opts *opts)
{
    static const char *const names[] = { "job.json", "recipe.yaml", "base", "cancel", "pause", "data/train" };
    const char *ro[WN_COUNT(names) + 1] = { 0 }, *rw[] = { wn_job_path(r->job, "work"), NULL };
    char missing[64];
    for (size_t i = 0; i < WN_COUNT(names); i++)
        if (!(ro[i] = wn_job_path(r->job, names[i])))
            return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    const struct wn_sandbox sb = { .ro = ro,
                                   .rw = rw,
                                   .jit = true,
                                   .threads = true,
                                   .idle = opts->idle,
                                   .memory_bytes = opts->memory_bytes,
                                   .cpu_s = opts->cpu_s,
                                   .file_bytes = FILE_BYTES,
                                   .files = 64 };
    if (!rw[0])
        return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    WN_TRY(wn_sandbox_enter(&sb, missing, r->err));
    if (*missing)
        wn_progress_message(r->pg, "warning", "the sandbox of training lacks: %s", missing);
    return WINNOW_OK;
}

static enum winnow_status open_inputs(struct wn_train_run *r, const struct wn_worker_opts *opts, const char **code)
{
    struct wn_job *job = r->job;
    const char *base = wn_job_path(job, "base"), *rows = wn_job_path(job, "data/train/rows.npz");
    if (!base || !rows)
        return wn_fail(r->err, WINNOW_E_NOMEM, "job");
    *code = "internal";
    WN_TRY(enter(r, opts));
    *code = "bad_model";
    WN_TRY(wn_origin_open(base, &r->origin, r->err));
    *code = "bad_data";
    WN_TRY(wn_train_rows_open(rows, job, &r->origin, &r->rows, r->err));
    r->train = wn_train_rows_part(&r->rows, &r->origin, 0, r->rows.n_train, &r->train_tokens);
    r->val = wn_train_rows_part(&r->rows, &r->origin, r->rows.n_train, r->rows.n_val, &r->val_tokens);
    set_augmentation(r);
    r->opts = (struct wn_train_opts){ .batch = choose_batch(job, r->rows.n_train),
                                      .threads = job->threads,
                                      .seed = job->seed,
                                      .momentum = (float)job->training.momentum,
                                      .nesterov = job->training.nesterov && job->training.momentum > 0,
                                      .label_smoothing = (float)job->training.label_smoothing,
                                      .optimizer = choose_optimizer(r),
                                      .clip_norm = (float)job->training.max_grad_norm };
    if (opts->memory_bytes)
        r->opts.max_memory_bytes = opts->memory_bytes / 3 * 2;
    *code = "bad_model";
    WN_TRY(new_trainer(r));
    r->base_sparse = is_sparse(r->tr);
    *code = "bad_recipe";
    WN_TRY(open_recipe(r));
    return identify(r);
}

static enum winnow_status train(struct wn_train_run *r, const char **code)
{
    const struct wn_fit_opts fit = { .epochs = r->epochs, .on_step = on_step, .arg = r };
    wn_progress_phase(r->pg, "train");
    *code = "bad_recipe";
    WN_TRY(bring_up(r));
    *code = "training_failed";
    r->checkpoint_ns = wn_now_ns();
    enum winnow_status status = wn_trainer_fit(r->tr, &r->train, &fit, r->err);
    if (r->end == WN_END_FAILED) {
        *r->err = r->on_step;
        return r->on_step.status;
    }
    WN_TRY(status);
    if (r->end == WN_END_LEFT || r->end == WN_END_CANCELLED)
        return wn_fail(r->err, WINNOW_E_CANCELLED, "stopped after the last step");
    if (wn_trainer_n_bn(r->tr))
        WN_TRY(
            wn_trainer_reestimate_bn(r->tr, (unsigned)WN_MIN(r->train.n / r->opts.batch, (size_t)BN_BATCHES), r->err));
    wn_progress_phase(r->pg, "export");
    *code = "export_failed";
    WN_TRY(wn_train_export(r));
    *code = "internal";
    return wn_train_report(r);
}

static void run_done(struct wn_train_run *r)
{
    wn_trainer_free(r->tr);
    wn_recipe_free(r->recipe);
    free(r->recipe_text);
    wn_train_rows_done(&r->rows);
    if (r->origin.file)
        wn_origin_done(&r->origin);
}

struct wn_report wn_train_phase(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts)
{
    struct winnow_err err = { 0 };
    const char *code = "internal";
    WN_CLEANUP(run_done)
    struct wn_train_run r = { .job = job, .pg = pg, .err = &err, .started_ns = wn_now_ns(), .end = WN_END_DONE };
    enum winnow_status status = open_inputs(&r, opts, &code);
    if (status == WINNOW_OK)
        status = train(&r, &code);
    if (r.end == WN_END_LEFT || r.end == WN_END_CANCELLED)
        return wn_report_fail(r.end, "cancelled", "cancelled");
    return status == WINNOW_OK ? (struct wn_report){ .end = WN_END_DONE } : wn_report_of(status, code, &err);
}
