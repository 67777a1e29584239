/* promotion.c: from a finished training to a live version: gate, publish, promote, anchor.
 *
 *   GATE     gate thread: take the candidate and the rows over from the worker, evaluate in fresh processes, decide
 *   PUBLISH  gate thread: the copy that was judged becomes the next version under STATE/models (not live)
 *   PROMOTE  registry: loads it beside the live one, swaps one pointer, writes the live file
 *   ANCHOR   gate thread: the job's held-back rows join the anchor
 *
 * DESIGN  The candidate is copied before it is judged, and the copy is what is published: nothing that the worker's
 *         processes still do to their folder can change what was measured. Each stage can be done twice: the gate's
 *         folder is made afresh, a published version is found again by the job named in its lineage.json, promoting the
 *         live version is nothing, rows are merged by id. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/tree.h"
#include "daemon/jobs/gate.h"
#include "daemon/jobs/proc.h"

#define MAX_CANDIDATE ((uint64_t)16 << 30) /* one file of it; as the worker may write */
#define MAX_ROWS      ((uint64_t)4 << 30)
#define MAX_FAILURES  5

/* One stage's work on the gate thread, and its result on the way back. */
struct step {
    struct wn_task task;
    struct wn_jobs *jobs;
    struct wn_ft *ft;    /* stays: it is busy */
    struct wn_gen *live; /* of the target; NULL: nothing serves under that name */
    struct wn_gate_rules rules;
    bool own_base; /* base/ of the job is what to compare with */
    char *lineage;
    struct winnow_err err;
    enum winnow_status status;
    bool interrupted;
    enum wn_verdict verdict;
    json_t *report;
    int64_t version;
    size_t anchor_rows;
    void (*back)(struct step *st);
};

static void step_free(struct step *st)
{
    wn_gen_unref(st->live);
    json_decref(st->report);
    free(st->lineage);
    free(st);
}

/* ---- back on the jobs thread ---- */
static bool worth_another_try(enum winnow_status status)
{
    return status == WINNOW_E_NOMEM || status == WINNOW_E_NO_SPACE || status == WINNOW_E_UNAVAILABLE ||
           status == WINNOW_E_OVERLOAD || status == WINNOW_E_CONFLICT || status == WINNOW_E_IO;
}

/* A stage could not be done: again after a pause, for a while (a full disk: until there is room). */
static void step_failed(struct step *st, const char *code)
{
    struct wn_ft *ft = st->ft;
    bool patient = st->status == WINNOW_E_NO_SPACE || st->status == WINNOW_E_UNAVAILABLE;
    if (worth_another_try(st->status) && (patient ? ft->failures < 1000 : ft->failures < MAX_FAILURES)) {
        if (!ft->failures++)
            wn_ft_note(st->jobs, ft->row.id, "warn", "message", NULL, "%s; tried again", st->err.msg);
        ft->again_ns = wn_now_ns() + UINT64_C(500000000) * WN_MIN(ft->failures, 20u);
        return;
    }
    ft->row.promotion = WN_PROMOTION_REFUSED;
    wn_ft_end(st->jobs, ft, WN_JOB_FAILED, code, st->err.msg, NULL);
}

static void come_back(struct wn_task *task)
{
    struct step *st = WN_CONTAINER_OF(task, struct step, task);
    struct wn_ft *ft = st->ft;
    ft->busy = false;
    if (st->interrupted && atomic_load(&st->jobs->stopping))
        ; /* done again after the restart */
    else if (atomic_load(&ft->cancel) && ft->row.stage == WN_STAGE_GATE)
        wn_ft_end(st->jobs, ft, WN_JOB_CANCELLED, NULL, NULL, NULL);
    else
        st->back(st);
    step_free(st);
}

static void send_back(struct step *st)
{
    st->task.run = come_back;
    if (!wn_tasks_add(&st->jobs->main, &st->task)) /* the registry answered after our end: the restart looks again */
        step_free(st);
}

static void start_step(struct wn_jobs *jobs, struct wn_ft *ft, struct step *st, void (*run)(struct wn_task *),
                       void (*back)(struct step *))
{
    st->jobs = jobs;
    st->ft = ft;
    st->task.run = run;
    st->back = back;
    ft->busy = true;
    if (wn_tasks_add(&jobs->gate, &st->task))
        return;
    ft->busy = false;
    step_free(st);
}

/* ---- gate: on the gate thread ---- */
static enum winnow_status take_candidate(const struct step *st, const char *gate, struct winnow_err *err)
{
    const char *name[16] = { "model.onnx", "model.onnx.data", "master.onnx", "master.onnx.data" };
    size_t n = 4;
    for (const char *const *more = wn_pipeline_files; *more && n < WN_COUNT(name); more++)
        name[n++] = *more;
    WN_CLEANUP(wn_freep) char *from = wn_ft_path(st->jobs, st->ft->row.id, "work/candidate");
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/candidate", gate);
    if (!from || !to)
        return wn_fail(err, WINNOW_E_NOMEM, "candidate");
    WN_TRY(wn_tree_make(to, err));
    for (size_t i = 0; i < n; i++) {
        WN_CLEANUP(wn_freep) char *a = wn_asprintf("%s/%s", from, name[i]);
        WN_CLEANUP(wn_freep) char *b = wn_asprintf("%s/%s", to, name[i]);
        if (!a || !b)
            return wn_fail(err, WINNOW_E_NOMEM, "candidate");
        enum winnow_status status = wn_tree_copy_file(a, b, MAX_CANDIDATE, err);
        if (status != WINNOW_OK && (status != WINNOW_E_NOT_FOUND || i == 0))
            return status == WINNOW_E_NOT_FOUND
                       ? wn_fail(err, WINNOW_E_MALFORMED, "the worker left no candidate/model.onnx")
                       : status;
    }
    return wn_dir_sync(to, err);
}

/* The evaluator's exit code does not say why it failed; a full disk is no fault of the candidate. */
static enum winnow_status room_for_figures(const char *path, struct winnow_err *err)
{
    static const char room[16384];
    enum winnow_status status = wn_file_write_durable(path, room, sizeof room, err);
    unlink(path);
    return status == WINNOW_E_NO_SPACE ? status : WINNOW_OK;
}

static enum winnow_status evaluate(struct step *st, const char *gate, char *base, char *candidate, char *rows,
                                   struct wn_gate_figures *ret, json_t **ret_json, struct winnow_err *err)
{
    struct wn_jobs_settings s;
    wn_jobs_settings_get(st->jobs, &s);
    char verb[] = "evaluate", json[] = "--json";
    WN_CLEANUP(wn_freep) char *out = wn_asprintf("%s/figures.json", gate);
    if (!out)
        return wn_fail(err, WINNOW_E_NOMEM, "gate");
    if (!st->jobs->evaluator)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "the evaluator (jobs.evaluator) was not found");
    char *one[] = { st->jobs->evaluator, verb, candidate, rows, json, out, NULL };
    char *two[] = { st->jobs->evaluator, verb, base, candidate, rows, json, out, NULL };
    struct wn_run run;
    unlink(out);
    atomic_fetch_add(&st->jobs->count.evaluations, 1);
    WN_TRY(wn_proc_run(base ? two : one, 10, s.gate_timeout_us, &st->ft->cancel, &st->jobs->stopping, &run, err));
    if (run.code == -2) {
        st->interrupted = true;
        return wn_fail(err, WINNOW_E_CANCELLED, "evaluation was interrupted");
    }
    if (run.code == -1)
        return wn_fail(err, WINNOW_E_DEADLINE, "evaluation took longer than gate.timeout");
    if (run.code != 0) {
        WN_TRY(room_for_figures(out, err));
        return wn_fail(err, run.code == 128 + SIGKILL ? WINNOW_E_NOMEM : WINNOW_E_MALFORMED,
                       "evaluation failed (%s %d): %s", run.code > 128 ? "signal" : "exit",
                       run.code > 128 ? run.code - 128 : run.code, run.said);
    }
    json_t *o = wn_json_file(out, err);
    if (!o)
        return err ? err->status : WINNOW_E_IO;
    enum winnow_status status = wn_gate_figures_read(o, base != NULL, ret, err);
    for (size_t i = 0; i < json_array_size(json_object_get(o, "models")); i++) /* our folders are nobody's business */
        json_object_del(json_array_get(json_object_get(o, "models"), i), "path");
    if (status == WINNOW_OK)
        *ret_json = o;
    else
        json_decref(o);
    return status;
}

/* Rows to judge by that the candidate has not seen; *ret NULL: there are none. */
static enum winnow_status find_anchor(struct step *st, const char *gate, char **ret, json_t *report,
                                      struct winnow_err *err)
{
    const struct wn_job_row *row = &st->ft->row;
    WN_CLEANUP(wn_freep) char *path = NULL;
    WN_CLEANUP(wn_freep) char *train = wn_ft_path(st->jobs, row->id, "data/train/rows.npz");
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/anchor.npz", gate);
    size_t left_out = 0;
    *ret = NULL;
    if (!train || !to)
        return wn_fail(err, WINNOW_E_NOMEM, "gate");
    WN_TRY(wn_anchor_find(st->jobs, row->target, &path, err));
    if (!path && strcmp(row->target, row->model) != 0) /* the same labels under another name: held to the same rows */
        WN_TRY(wn_anchor_find(st->jobs, row->model, &path, err));
    if (!path)
        return WINNOW_OK;
    WN_TRY(wn_anchor_filter(path, train, to, &left_out, err));
    json_object_set_new(report, "anchor_rows_trained_on", json_integer((json_int_t)left_out));
    *ret = WN_TAKE(to);
    return WINNOW_OK;
}

static enum winnow_status find_base(struct step *st, const char *gate, char **ret, struct winnow_err *err)
{
    *ret = NULL;
    if (st->rules.new_name)
        return WINNOW_OK;
    *ret = st->own_base ? wn_ft_path(st->jobs, st->ft->row.id, "base") : wn_asprintf("%s/base", gate);
    if (!*ret)
        return wn_fail(err, WINNOW_E_NOMEM, "gate");
    return st->own_base ? WINNOW_OK : wn_base_copy(st->live, *ret, err);
}

static enum winnow_status judge(struct step *st, const char *gate, struct winnow_err *err)
{
    struct wn_gate_figures on_anchor = { 0 }, on_eval = { 0 };
    json_t *anchor_json = NULL, *eval_json = NULL;
    char reason[WN_GATE_REASON];
    WN_CLEANUP(wn_freep) char *base = NULL;
    WN_CLEANUP(wn_freep) char *anchor = NULL;
    WN_CLEANUP(wn_freep) char *candidate = wn_asprintf("%s/candidate", gate);
    WN_CLEANUP(wn_freep) char *eval = wn_asprintf("%s/eval.npz", gate);
    WN_CLEANUP(wn_freep) char *rows = wn_ft_path(st->jobs, st->ft->row.id, "data/eval/rows.npz");
    st->report = json_object();
    if (!candidate || !eval || !rows || !st->report)
        return wn_fail(err, WINNOW_E_NOMEM, "gate");
    WN_TRY(wn_tree_copy_file(rows, eval, MAX_ROWS, err));
    WN_TRY(find_base(st, gate, &base, err));
    if (base)
        WN_TRY(find_anchor(st, gate, &anchor, st->report, err));
    if (anchor) {
        WN_TRY(evaluate(st, gate, base, candidate, anchor, &on_anchor, &anchor_json, err));
        json_object_set_new(st->report, "anchor", anchor_json);
    }
    WN_TRY(evaluate(st, gate, base, candidate, eval, &on_eval, &eval_json, err));
    json_object_set_new(st->report, "eval", eval_json);
    st->verdict = wn_gate_decide(&st->rules, &on_anchor, &on_eval, reason);
    json_object_set_new(st->report, "verdict", json_string(wn_verdict_name(st->verdict)));
    json_object_set_new(st->report, "reason", json_string(reason));
    json_object_set_new(st->report, "margin", json_real(st->rules.margin));
    json_object_set_new(st->report, "new_name", json_boolean(st->rules.new_name));
    if (st->live)
        json_object_set_new(
            st->report, "compared_with",
            json_pack("{s:I,s:s}", "version", (json_int_t)wn_gen_version(st->live), "digest", wn_gen_digest(st->live)));
    return WINNOW_OK;
}

static enum winnow_status run_gate_in(struct step *st, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *gate = wn_ft_path(st->jobs, st->ft->row.id, "gate");
    WN_CLEANUP(wn_freep) char *report = wn_ft_path(st->jobs, st->ft->row.id, "gate.json");
    WN_CLEANUP(wn_freep) char *copy = gate ? wn_asprintf("%s/base", gate) : NULL;
    if (!gate || !report || !copy)
        return wn_fail(err, WINNOW_E_NOMEM, "gate");
    WN_TRY(wn_tree_remove(gate, err));
    WN_TRY(wn_tree_make(gate, err));
    WN_TRY(take_candidate(st, gate, err));
    WN_TRY(judge(st, gate, err));
    WN_TRY(wn_tree_remove(copy, err));
    return wn_json_write(report, st->report, err);
}

static void run_gate(struct wn_task *task)
{
    struct step *st = WN_CONTAINER_OF(task, struct step, task);
    if (atomic_load(&st->jobs->stopping))
        st->interrupted = true;
    else
        st->status = run_gate_in(st, &st->err);
    send_back(st);
}

/* ---- gate: on the jobs thread ---- */
static void gate_back(struct step *st)
{
    struct wn_ft *ft = st->ft;
    if (st->status != WINNOW_OK) {
        step_failed(st, "gate_error");
        return;
    }
    const char *reason = json_string_value(json_object_get(st->report, "reason"));
    json_object_set(ft->row.doc, "gate", st->report);
    if (st->verdict == WN_VERDICT_REFUSE) {
        atomic_fetch_add(&st->jobs->count.gate_refused, 1);
        ft->row.promotion = WN_PROMOTION_REFUSED;
        wn_ft_end(st->jobs, ft, WN_JOB_FAILED, "gate_refused", reason, NULL);
        return;
    }
    wn_ft_note(st->jobs, ft->row.id, "info", "message", NULL, "Gate: %s: %s", wn_verdict_name(st->verdict), reason);
    json_object_set_new(ft->row.doc, "promote", json_boolean(st->verdict == WN_VERDICT_PROMOTE));
    wn_ft_enter(st->jobs, ft, WN_STAGE_PUBLISH);
}

static void later(struct wn_ft *ft)
{
    ft->again_ns = wn_now_ns() + UINT64_C(500000000);
}

static void start_gate(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct wn_jobs_settings s;
    struct step *st = calloc(1, sizeof *st);
    if (!st || !wn_serve_ready(jobs->serve)) {
        free(st);
        later(ft);
        return;
    }
    wn_jobs_settings_get(jobs, &s);
    const json_t *doc = ft->row.doc, *base = json_object_get(doc, "base");
    const char *digest = json_string_value(json_object_get(base, "digest"));
    bool there = wn_serve_acquire(jobs->serve, ft->row.target, NULL, &st->live, NULL) == WINNOW_OK;
    bool same_name = strcmp(ft->row.target, ft->row.model) == 0;
    st->own_base = !there || (same_name && digest && strcmp(digest, wn_gen_digest(st->live)) == 0);
    st->rules = (struct wn_gate_rules){ .margin = s.margin,
                                        .max_cpu_ratio = s.max_cpu_ratio,
                                        .min_rows = s.min_rows,
                                        .eval_rows_decide = s.eval_rows_decide,
                                        .new_name = !there && json_is_true(json_object_get(doc, "new_labels")),
                                        .min_accuracy = json_number_value(json_object_get(doc, "min_accuracy")) };
    start_step(jobs, ft, st, run_gate, gate_back);
}

/* ---- publish ---- */
static void publish_back(struct step *st)
{
    struct wn_ft *ft = st->ft;
    if (st->status != WINNOW_OK) {
        step_failed(st, "publish_failed");
        return;
    }
    ft->row.version = st->version;
    if (st->report) /* the digest */
        json_object_set(ft->row.doc, "digest", st->report);
    if (json_is_true(json_object_get(ft->row.doc, "promote"))) {
        wn_ft_note(st->jobs, ft->row.id, "info", "message", NULL, "Published as version %" PRId64, st->version);
        wn_ft_enter(st->jobs, ft, WN_STAGE_PROMOTE);
        return;
    }
    ft->row.promotion = WN_PROMOTION_WAITING;
    atomic_fetch_add(&st->jobs->count.waiting, 1);
    wn_ft_note(st->jobs, ft->row.id, "info", "message", NULL, "Waits as version %" PRId64 " for a person to promote it",
               st->version);
    wn_ft_end(st->jobs, ft, WN_JOB_SUCCEEDED, NULL, NULL, NULL);
}

static void run_publish(struct wn_task *task)
{
    struct step *st = WN_CONTAINER_OF(task, struct step, task);
    const struct wn_job_row *row = &st->ft->row;
    struct wn_sha256 sha;
    char digest[WN_DIGEST_TEXT];
    WN_CLEANUP(wn_freep) char *folder = wn_ft_path(st->jobs, row->id, "gate/candidate");
    WN_CLEANUP(wn_freep) char *model = wn_ft_path(st->jobs, row->id, "gate/candidate/model.onnx");
    st->status = WINNOW_OK;
    st->version = wn_find_published(st->jobs, row->target, row->id);
    if (!folder || !model)
        st->status = wn_fail(&st->err, WINNOW_E_NOMEM, "publish");
    else if (!st->version)
        st->status = wn_serve_add_version(st->jobs->serve, row->target, folder, st->lineage, &st->version, &st->err);
    WN_CLEANUP(wn_freep) char **beside = NULL;
    if (st->status == WINNOW_OK && winnow_external_list(model, &beside, NULL, &st->err) == WINNOW_OK &&
        wn_sha256_with(model, (const char *const *)beside, &sha, &st->err) == WINNOW_OK)
        st->report = json_string(wn_digest_text(&sha, digest));
    send_back(st);
}

static char *lineage_of(const struct wn_jobs *jobs, const struct wn_ft *ft)
{
    static const char *const key[] = { "base",    "seed", "optim_level", "n_epochs",
                                       "metrics", "gate", "ingest",      "metadata" };
    WN_CLEANUP(wn_freep) char *job = wn_ft_path(jobs, ft->row.id, "job.json");
    WN_CLEANUP(wn_freep) char *recipe = wn_ft_path(jobs, ft->row.id, "recipe.yaml");
    WN_CLEANUP(wn_freep) void *text = NULL;
    size_t n;
    json_t *from = job ? wn_json_file(job, NULL) : NULL;
    json_t *o = json_pack("{s:i,s:s,s:s,s:s,s:I}", "format", 1, "job", ft->row.id, "model", ft->row.model, "engine",
                          WN_VERSION, "made_at", (json_int_t)(wn_wall_ms() / 1000));
    for (size_t i = 0; i < WN_COUNT(key) && o; i++)
        if (json_object_get(ft->row.doc, key[i]))
            json_object_set(o, strcmp(key[i], "base") == 0 ? "parent" : key[i], json_object_get(ft->row.doc, key[i]));
    json_t *data = json_object_get(from, "data");
    if (o && data)
        json_object_set_new(
            o, "data",
            json_pack("{s:O?,s:O?}", "name", json_object_get(data, "name"), "digest", json_object_get(data, "digest")));
    if (o && recipe && wn_file_read(recipe, (size_t)1 << 20, &text, &n, NULL) == WINNOW_OK)
        json_object_set_new(o, "recipe", json_stringn(text, n));
    char *dump = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    json_decref(o);
    json_decref(from);
    return dump;
}

static void start_publish(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct step *st = calloc(1, sizeof *st);
    if (!st || !(st->lineage = lineage_of(jobs, ft))) {
        free(st);
        later(ft);
        return;
    }
    start_step(jobs, ft, st, run_publish, publish_back);
}

/* ---- promote ---- */
static void promote_back(struct step *st)
{
    struct wn_ft *ft = st->ft;
    if (st->status != WINNOW_OK) {
        step_failed(st, "promotion_failed");
        return;
    }
    uint64_t generation = 0;
    struct wn_gen *gen = NULL;
    if (wn_serve_acquire(st->jobs->serve, ft->row.target, NULL, &gen, NULL) == WINNOW_OK &&
        wn_gen_version(gen) == ft->row.version)
        generation = wn_gen_number(gen);
    wn_gen_unref(gen);
    json_object_set_new(ft->row.doc, "generation", json_integer((json_int_t)generation));
    json_object_del(ft->row.doc, "error"); /* of a refusal that a person overruled */
    ft->row.promotion = WN_PROMOTION_PROMOTED;
    atomic_fetch_add(&st->jobs->count.promoted, 1);
    wn_ft_note(st->jobs, ft->row.id, "info", "message", NULL, "Promoted as version %" PRId64 ", generation %" PRIu64,
               ft->row.version, generation);
    wn_ft_enter(st->jobs, ft, WN_STAGE_ANCHOR);
}

/* On a loader thread, or on ours when refused at once. */
static void promoted(void *arg, enum winnow_status status, const struct winnow_err *err)
{
    struct step *st = arg;
    st->status = status;
    if (err && status != WINNOW_OK)
        st->err = *err;
    if (status == WINNOW_E_UNAVAILABLE || status == WINNOW_E_CANCELLED)
        st->interrupted = true;
    send_back(st);
}

static void start_promote(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct step *st = calloc(1, sizeof *st);
    if (!st || !wn_serve_ready(jobs->serve)) {
        free(st);
        later(ft);
        return;
    }
    bool there = wn_serve_acquire(jobs->serve, ft->row.target, NULL, &st->live, NULL) == WINNOW_OK;
    st->jobs = jobs;
    st->ft = ft;
    st->back = promote_back;
    ft->busy = true;
    wn_serve_promote(jobs->serve, ft->row.target, ft->row.version, ft->row.id, there, promoted, st);
}

/* ---- anchor ---- */
static void finish(struct wn_jobs *jobs, struct wn_ft *ft)
{
    if (ft->row.finished_s && ft->row.status == WN_JOB_SUCCEEDED)
        wn_ft_enter(jobs, ft, WN_STAGE_DONE); /* it waited: its end was told long ago */
    else
        wn_ft_end(jobs, ft, WN_JOB_SUCCEEDED, NULL, NULL, NULL);
}

static void anchor_back(struct step *st)
{
    struct wn_ft *ft = st->ft;
    if (st->status != WINNOW_OK && worth_another_try(st->status) && ft->failures++ < MAX_FAILURES) {
        later(ft);
        return;
    }
    if (st->status == WINNOW_OK) {
        wn_notice("anchor_set", "model=%s rows=%zu by=%s", ft->row.target, st->anchor_rows, ft->row.id);
        wn_ft_note(st->jobs, ft->row.id, "info", "message", NULL,
                   "The anchor of %s holds %zu rows now, with those that this job set aside: later candidates are "
                   "compared on them",
                   ft->row.target, st->anchor_rows);
    } else {
        wn_ft_note(st->jobs, ft->row.id, "warn", "message", NULL, "The anchor stays as it was: %s", st->err.msg);
    }
    finish(st->jobs, ft);
}

static void run_anchor(struct wn_task *task)
{
    struct step *st = WN_CONTAINER_OF(task, struct step, task);
    struct wn_jobs_settings s;
    wn_jobs_settings_get(st->jobs, &s);
    WN_CLEANUP(wn_freep) char *rows = wn_ft_path(st->jobs, st->ft->row.id, "data/eval/rows.npz");
    st->status = rows ? wn_anchor_merge(st->jobs, st->ft->row.target, rows, (size_t)s.max_anchor_rows, &st->anchor_rows,
                                        &st->err)
                      : wn_fail(&st->err, WINNOW_E_NOMEM, "anchor");
    send_back(st);
}

static void start_anchor(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct step *st = calloc(1, sizeof *st);
    if (st)
        start_step(jobs, ft, st, run_anchor, anchor_back);
    else
        later(ft);
}

/* Before a restart: the file is all that is left of it. */
static bool cancel_asked(const struct wn_jobs *jobs, const struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "cancel");
    return path && access(path, F_OK) == 0;
}

void wn_ft_advance(struct wn_jobs *jobs, struct wn_ft *ft)
{
    switch (ft->row.stage) {
    case WN_STAGE_NEW:
        wn_ft_enter(jobs, ft, WN_STAGE_WORK);
        break;
    case WN_STAGE_GATE:
        if (atomic_load(&ft->cancel) || cancel_asked(jobs, ft))
            wn_ft_end(jobs, ft, WN_JOB_CANCELLED, NULL, NULL, NULL);
        else
            start_gate(jobs, ft);
        break;
    case WN_STAGE_PUBLISH:
        start_publish(jobs, ft);
        break;
    case WN_STAGE_PROMOTE:
        start_promote(jobs, ft);
        break;
    case WN_STAGE_ANCHOR:
        start_anchor(jobs, ft);
        break;
    case WN_STAGE_WORK:
    case WN_STAGE_DONE:
        break;
    }
}

/* ---- versions that waited ---- */
struct went_live {
    struct wn_task task;
    struct wn_jobs *jobs;
    char model[160];
    int64_t version;
    uint64_t generation;
    struct wn_job_row row; /* found; doc NULL: none */
};

static bool match(void *arg, struct wn_job_row *row)
{
    struct went_live *w = arg;
    if (row->version != w->version || strcmp(row->target, w->model) != 0)
        return true;
    w->row = *row;
    row->doc = NULL;
    return false;
}

static void look(struct wn_task *task)
{
    struct went_live *w = WN_CONTAINER_OF(task, struct went_live, task);
    struct winnow_err err;
    if (wn_db_job_each(w->jobs->db, WN_JOBS_WAITING, NULL, SIZE_MAX, match, w, &err) != WINNOW_OK)
        wn_error("jobs_waiting", "error=%s", err.msg);
    if (w->row.doc && !wn_ft_find(w->jobs, w->row.id)) {
        json_object_set_new(w->row.doc, "generation", json_integer((json_int_t)w->generation));
        w->row.promotion = WN_PROMOTION_PROMOTED;
        struct wn_ft *ft = wn_ft_add(w->jobs, &w->row);
        if (ft) {
            atomic_fetch_add(&w->jobs->count.promoted, 1);
            wn_ft_note(w->jobs, ft->row.id, "info", "message", NULL,
                       "Promoted by a person as version %" PRId64 ", generation %" PRIu64, ft->row.version,
                       w->generation);
            wn_ft_enter(w->jobs, ft, WN_STAGE_ANCHOR);
        }
    }
    wn_job_row_done(&w->row);
    free(w);
}

static bool is_live(void *arg, struct wn_job_row *row)
{
    struct wn_jobs *jobs = arg;
    struct wn_gen *gen = NULL;
    if (wn_serve_acquire(jobs->serve, row->target, NULL, &gen, NULL) == WINNOW_OK &&
        wn_gen_version(gen) == row->version)
        wn_jobs_on_live(jobs, row->target, row->version, wn_gen_number(gen));
    wn_gen_unref(gen);
    return true;
}

void wn_jobs_look_waiting(struct wn_jobs *jobs)
{
    struct winnow_err err;
    if (wn_db_job_each(jobs->db, WN_JOBS_WAITING, NULL, SIZE_MAX, is_live, jobs, &err) != WINNOW_OK)
        wn_error("jobs_waiting", "error=%s", err.msg);
}

void wn_jobs_on_live(struct wn_jobs *jobs, const char *model, int64_t version, uint64_t generation)
{
    struct went_live *w = calloc(1, sizeof *w);
    if (!w)
        return;
    w->task.run = look;
    w->jobs = jobs;
    w->version = version;
    w->generation = generation;
    snprintf(w->model, sizeof w->model, "%s", model);
    if (!wn_tasks_add(&jobs->main, &w->task))
        free(w);
}
