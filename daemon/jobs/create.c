/* create.c: POST /v1/fine_tuning/jobs: from a request to a job directory that the worker may take.
 *
 *   jobs thread: read the request, find files and base, pin the files
 *   chores:      write the whole directory under its staging name, run `winnow-worker check` on it
 *   jobs thread: insert the row, rename: now it exists; answer
 *
 * A crash before the insert leaves a staging folder that the next start removes; one between insert and rename leaves a
 * row of stage NEW that the next start finishes. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cpus.h"
#include "base/file.h"
#include "base/log.h"
#include "base/tree.h"
#include "base/yaml.h"
#include "daemon/jobs/proc.h"

#define MAX_RECIPE    ((size_t)1 << 20)
#define CHECK_TIME_US ((uint64_t)10 * 1000000)
#define MAX_METADATA  16

struct create {
    struct wn_call call; /* first */
    struct wn_task task;
    struct wn_job_row row;
    struct wn_file_row train, validation, recipe_file; /* id "": none */
    const char *recipe;                                /* inline; in call.in */
    struct wn_gen *gen;
    char *staging;
    bool pinned;
};

static bool bad(struct create *c, const char *param, const char *fmt, const char *what)
{
    char text[200];
    snprintf(text, sizeof text, fmt, what);
    c->call.param = param;
    wn_fail(&c->call.err, WINNOW_E_MALFORMED, "%s: %s", param, text);
    return false;
}

static bool failed(const struct create *c)
{
    return c->call.err.status != WINNOW_OK;
}

/* ---- reading the request ---- */
static bool model_name_valid(const char *s)
{
    size_t n = strlen(s);
    return n && n <= 128 && *s != '.' &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* A string, or NULL when absent or null. */
static const char *get_string(struct create *c, const char *key, bool required)
{
    json_t *v = json_object_get(c->call.in, key);
    if (json_is_string(v) && *json_string_value(v))
        return json_string_value(v);
    if (v && !json_is_null(v))
        bad(c, key, "must be %s", "a string that is not empty");
    else if (required)
        bad(c, key, "is %s", "required");
    return NULL;
}

static void keep(struct create *c, const char *key, json_t *value)
{
    if (value)
        json_object_set(c->row.doc, key, value);
}

static void get_real(struct create *c, const char *key, double min, double max)
{
    json_t *v = json_object_get(c->call.in, key);
    if (!v || json_is_null(v))
        return;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= min && x <= max))
        bad(c, key, "must be a number %s", "from 0 to 1");
    keep(c, key, v);
}

/* n_epochs: "auto" or 1 … 1000; the other names are the recipe's business. */
static void get_hyperparameters(struct create *c, json_t *h)
{
    const char *key;
    json_t *v;
    if (!h || json_is_null(h))
        return;
    if (!json_is_object(h)) {
        bad(c, "hyperparameters", "must be %s", "an object");
        return;
    }
    json_object_foreach(h, key, v)
    {
        const char *word = json_string_value(v);
        if (json_is_null(v) || (word && strcmp(word, "auto") == 0))
            continue;
        if (strcmp(key, "n_epochs") == 0) {
            if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 1000)
                bad(c, "hyperparameters", "n_epochs must be \"auto\" or %s", "a whole number from 1 to 1000");
            keep(c, "n_epochs", v);
        } else if (strcmp(key, "batch_size") == 0 || strcmp(key, "learning_rate_multiplier") == 0) {
            bad(c, "hyperparameters", "%s: only \"auto\"; a recipe sets it", key);
        } else {
            bad(c, "hyperparameters", "no such key: '%.60s'", key);
        }
    }
}

static void get_method(struct create *c)
{
    json_t *m = json_object_get(c->call.in, "method");
    if (!m || json_is_null(m))
        return;
    const char *type = json_string_value(json_object_get(m, "type"));
    if (!type || strcmp(type, "supervised") != 0)
        bad(c, "method", "type: only %s", "\"supervised\"");
    get_hyperparameters(c, json_object_get(json_object_get(m, "supervised"), "hyperparameters"));
}

static void get_metadata(struct create *c)
{
    json_t *m = json_object_get(c->call.in, "metadata"), *v;
    const char *key;
    if (!m || json_is_null(m))
        return;
    if (!json_is_object(m) || json_object_size(m) > MAX_METADATA) {
        bad(c, "metadata", "must be an object of at most %s keys", "16");
        return;
    }
    json_object_foreach(m, key, v) if (!json_is_string(v) || strlen(key) > 64 || json_string_length(v) > 512)
        bad(c, "metadata", "%s", "names have at most 64, values (strings) at most 512 bytes");
    keep(c, "metadata", m);
}

/* Which columns of texts; the worker's check knows what may stand in it. */
static void get_columns(struct create *c)
{
    json_t *v = json_object_get(c->call.in, "columns");
    if (v && !json_is_null(v) && !json_is_object(v))
        bad(c, "columns", "must be %s", "an object with text, text_pair, label, join");
    else if (json_is_object(v))
        keep(c, "columns", v);
}

static void get_seed(struct create *c)
{
    json_t *v = json_object_get(c->call.in, "seed");
    if (v && !json_is_null(v) &&
        (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX))
        bad(c, "seed", "must be %s", "a whole number from 0 to 2147483647");
    json_object_set_new(c->row.doc, "seed", json_integer(json_is_integer(v) ? json_integer_value(v) : 1));
}

static void check_keys(struct create *c)
{
    static const char *const known[] = { "model",  "training_file", "validation_file", "hyperparameters", "method",
                                         "suffix", "seed",          "metadata",        "integrations",    "recipe_file",
                                         "recipe", "optim_level",   "min_accuracy",    "target",          "new_labels",
                                         "columns" };
    const char *key;
    json_t *v;
    json_object_foreach(c->call.in, key, v)
    {
        size_t i = 0;
        while (i < WN_COUNT(known) && strcmp(known[i], key) != 0)
            i++;
        if (i == WN_COUNT(known)) {
            c->call.param = key; /* lives in the request's JSON */
            const char *near = strcmp(key, "level") == 0 ? "optim_level" : wn_near_name(key, known, WN_COUNT(known));
            wn_fail(&c->call.err, WINNOW_E_MALFORMED, "no such key: '%.80s'%s%s%s", key, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
            return;
        }
    }
    v = json_object_get(c->call.in, "integrations");
    if (v && !json_is_null(v) && (!json_is_array(v) || json_array_size(v)))
        bad(c, "integrations", "%s", "none are supported");
}

static void get_target(struct create *c, const char *model)
{
    const char *suffix = get_string(c, "suffix", false), *target = get_string(c, "target", false);
    char name[300];
    if (suffix && target)
        bad(c, "suffix", "%s", "target names the result already");
    snprintf(name, sizeof name, "%s", target ? target : model);
    if (suffix && !target)
        snprintf(name, sizeof name, "%.128s-%.128s", model, suffix);
    if (!model_name_valid(name))
        bad(c, suffix ? "suffix" : "target", "'%.140s' is no name for a model", name);
    snprintf(c->row.target, sizeof c->row.target, "%.*s", (int)sizeof c->row.target - 1, name);
    keep(c, "suffix", json_object_get(c->call.in, "suffix"));
}

/* Whether the data's labels replace the model's: said so, or the result gets a name that nothing serves yet. */
static void get_new_labels(struct create *c)
{
    json_t *v = json_object_get(c->call.in, "new_labels");
    bool renamed = strcmp(c->row.target, c->row.model) != 0, fresh = false;
    if (v && !json_is_null(v) && !json_is_boolean(v))
        bad(c, "new_labels", "must be %s", "true or false");
    if (renamed) {
        struct wn_gen *gen = NULL;
        fresh = wn_serve_acquire(c->call.jobs->serve, c->row.target, NULL, &gen, NULL) == WINNOW_E_NOT_FOUND;
        wn_gen_unref(gen);
    }
    bool new_labels = json_is_boolean(v) ? json_is_true(v) : fresh;
    if (new_labels && !renamed)
        bad(c, "new_labels", "%s", "a new label set needs a new name: give target or suffix");
    json_object_set_new(c->row.doc, "new_labels", json_boolean(new_labels));
}

static void get_file(struct create *c, const char *param, const char *id, struct wn_file_row *ret)
{
    if (!id || failed(c))
        return;
    if (!wn_file_find(&c->call, id, ret) && c->call.err.status == WINNOW_E_NOT_FOUND) {
        c->call.param = param;
        c->call.code = "invalid_file";
        c->call.err.status = WINNOW_E_MALFORMED;
    }
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", c->call.jobs->files, ret->sha256);
    if (!failed(c) && path && access(path, F_OK) != 0 && errno == ENOENT) {
        wn_error("file_gone", "file=%s path=%s", id, path);
        c->call.param = param;
        c->call.code = "file_gone";
        wn_fail(&c->call.err, WINNOW_E_NOT_FOUND, "the contents of file %.60s ('%.100s') are gone: upload it again", id,
                ret->filename);
    }
}

static void get_recipe(struct create *c)
{
    const char *file = get_string(c, "recipe_file", false);
    c->recipe = get_string(c, "recipe", false);
    if (file && c->recipe)
        bad(c, "recipe", "%s", "recipe_file names one already");
    get_file(c, "recipe_file", file, &c->recipe_file);
    bool have = file || c->recipe;
    if (have && json_object_get(c->row.doc, "n_epochs"))
        bad(c, "hyperparameters", "n_epochs: %s", "the recipe says how long");
    if (have && json_object_get(c->row.doc, "optim_level"))
        bad(c, "optim_level", "%s", "the recipe decides already");
    if (!have && !json_object_get(c->row.doc, "optim_level"))
        json_object_set_new(c->row.doc, "optim_level", json_real(0.5));
    json_object_set_new(c->row.doc, "recipe", json_boolean(have));
}

/* A job reads one model and makes another: the caller's token must be for both. */
static void check_allowed(struct create *c)
{
    const char *refused = !wn_req_may_use(c->call.req, c->row.model)    ? c->row.model
                          : !wn_req_may_use(c->call.req, c->row.target) ? c->row.target
                                                                        : NULL;
    if (failed(c) || !refused)
        return;
    const char *id = wn_req_token_id(c->call.req);
    c->call.code = "insufficient_permissions";
    wn_fail(&c->call.err, WINNOW_E_DENIED, "token '%s' may not use model '%.128s'", id ? id : "", refused);
}

static void read_request(struct create *c)
{
    check_keys(c);
    const char *model = get_string(c, "model", true);
    const char *train = get_string(c, "training_file", true), *validation = get_string(c, "validation_file", false);
    if (model && !model_name_valid(model))
        bad(c, "model", "'%.128s' is no name of a model", model);
    if (failed(c))
        return;
    snprintf(c->row.model, sizeof c->row.model, "%s", model);
    get_target(c, model);
    check_allowed(c);
    get_hyperparameters(c, json_object_get(c->call.in, "hyperparameters"));
    get_method(c);
    get_metadata(c);
    get_seed(c);
    get_columns(c);
    get_real(c, "optim_level", 0, 1);
    get_real(c, "min_accuracy", 0, 1);
    if (failed(c))
        return;
    get_new_labels(c);
    get_recipe(c);
    get_file(c, "training_file", train, &c->train);
    get_file(c, "validation_file", validation, &c->validation);
    if (failed(c))
        return;
    memcpy(c->row.training_file, c->train.id, WN_ID_ROOM);
    memcpy(c->row.validation_file, c->validation.id, WN_ID_ROOM);
    if (wn_serve_acquire(c->call.jobs->serve, model, NULL, &c->gen, &c->call.err) == WINNOW_E_NOT_FOUND) {
        c->call.param = "model";
        c->call.code = "model_not_found";
    }
}

/* ---- the directory; chores thread ---- */
static json_t *data_json(const struct wn_jobs *jobs, const struct wn_file_row *f)
{
    char path[4200], digest[80];
    snprintf(path, sizeof path, "%s/%s", jobs->files, f->sha256);
    snprintf(digest, sizeof digest, "sha256:%s", f->sha256);
    return json_pack("{s:s,s:s,s:s}", "path", path, "name", f->filename, "digest", digest);
}

static json_t *copy_or_null(const json_t *doc, const char *key)
{
    json_t *v = json_object_get(doc, key);
    return v ? json_incref(v) : json_null();
}

static json_t *job_json(struct create *c)
{
    struct wn_jobs_settings s;
    wn_jobs_settings_get(c->call.jobs, &s);
    int64_t threads = s.threads ? s.threads : WN_MAX(wn_cpus() / 2, 1u);
    json_t *d = c->row.doc;
    json_t *o = json_pack("{s:i,s:s,s:s,s:s,s:O,s:o,s:O,s:O,s:f,s:O,s:I,s:o,s:o}", "format", 1, "id", c->row.id,
                          "model", c->row.model, "target", c->row.target, "base", json_object_get(d, "base"), "data",
                          data_json(c->call.jobs, &c->train), "recipe", json_object_get(d, "recipe"), "new_labels",
                          json_object_get(d, "new_labels"), "eval_share", 0.1, "seed", json_object_get(d, "seed"),
                          "threads", (json_int_t)threads, "epochs", copy_or_null(d, "n_epochs"), "min_accuracy",
                          copy_or_null(d, "min_accuracy"));
    if (o && c->validation.id[0])
        json_object_set_new(o, "validation", data_json(c->call.jobs, &c->validation));
    if (o && json_object_get(d, "optim_level"))
        json_object_set(o, "optim_level", json_object_get(d, "optim_level"));
    if (o && json_object_get(d, "columns"))
        json_object_set(o, "columns", json_object_get(d, "columns"));
    return o;
}

/* What only winnowd wants to know again when its database is lost. */
static json_t *request_json(struct create *c)
{
    return json_pack("{s:s,s:s,s:I,s:O?,s:O?}", "training_file", c->row.training_file, "validation_file",
                     c->row.validation_file, "created_at", (json_int_t)c->row.created_s, "metadata",
                     json_object_get(c->row.doc, "metadata"), "suffix", json_object_get(c->row.doc, "suffix"));
}

static enum winnow_status write_json(struct create *c, const char *name, json_t *o, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", c->staging, name);
    enum winnow_status status = path ? wn_json_write(path, o, err) : wn_fail(err, WINNOW_E_NOMEM, "job");
    json_decref(o);
    return status;
}

static enum winnow_status write_recipe(struct create *c, struct winnow_err *err)
{
    if (!json_is_true(json_object_get(c->row.doc, "recipe")))
        return WINNOW_OK;
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/recipe.yaml", c->staging);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = c->recipe ? strlen(c->recipe) : 0;
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "recipe");
    if (!c->recipe) {
        WN_CLEANUP(wn_freep) char *from = wn_asprintf("%s/%s", c->call.jobs->files, c->recipe_file.sha256);
        if (!from)
            return wn_fail(err, WINNOW_E_NOMEM, "recipe");
        enum winnow_status status = wn_file_read(from, MAX_RECIPE, &bytes, &n, err);
        if (status == WINNOW_E_TOO_LARGE) {
            c->call.param = "recipe_file";
            return wn_fail(err, WINNOW_E_MALFORMED, "recipe '%.100s' is longer than 1 MiB", c->recipe_file.filename);
        }
        WN_TRY(status);
    }
    return wn_file_write_durable(to, c->recipe ? (const void *)c->recipe : bytes, n, err);
}

static enum winnow_status write_directory(struct create *c, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base", c->staging);
    if (!base)
        return wn_fail(err, WINNOW_E_NOMEM, "job");
    WN_TRY(wn_tree_make(c->staging, err));
    WN_TRY(wn_base_copy(c->gen, base, err));
    WN_TRY(write_recipe(c, err));
    WN_TRY(write_json(c, "request.json", request_json(c), err));
    WN_TRY(write_json(c, "job.json", job_json(c), err));
    return wn_dir_sync(c->staging, err);
}

/* The staging folder's name says nothing to who wrote the recipe. */
static void without_prefix(char *said, const char *staging)
{
    size_t n = strlen(staging) + 1;
    for (char *at; (at = strstr(said, staging)) != NULL && strlen(at) >= n;)
        memmove(at, at + n, strlen(at + n) + 1);
}

/* job.json was written here: its lines say nothing to who sent the request. */
static const char *without_line(const char *said)
{
    static const char file[] = "job.json:";
    const char *at = strncmp(said, file, sizeof file - 1) == 0 ? said + sizeof file - 1 : said;
    size_t digits = at == said ? 0 : strspn(at, "0123456789");
    return digits && strncmp(at + digits, ": ", 2) == 0 ? at + digits + 2 : said;
}

static enum winnow_status check(struct create *c, struct winnow_err *err)
{
    struct wn_jobs *jobs = c->call.jobs;
    if (!jobs->worker) {
        wn_warning("job_unchecked", "job=%s reason=%s", c->row.id, "no worker program");
        return WINNOW_OK;
    }
    char verb[] = "check";
    char *argv[] = { jobs->worker, verb, c->staging, NULL };
    struct wn_run run;
    if (wn_proc_run(argv, 5, CHECK_TIME_US, NULL, &jobs->stopping, &run, err) != WINNOW_OK) {
        wn_error("job_unchecked", "job=%s error=%s", c->row.id, err->msg);
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "the worker program cannot be started");
    }
    if (run.code == 0)
        return WINNOW_OK;
    if (run.code == -2)
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    atomic_fetch_add(&jobs->count.refused_at_check, 1);
    without_prefix(run.said, c->staging);
    c->call.code = "invalid_job";
    c->call.param = strstr(run.said, "recipe.yaml") ? "recipe" : strstr(run.said, "columns.") ? "columns" : NULL;
    if (run.code == -1)
        return wn_fail(err, WINNOW_E_MALFORMED, "checking recipe and job took longer than 10 s");
    return wn_fail(err, run.code == 2 ? WINNOW_E_MALFORMED : WINNOW_E_INTERNAL, "%s",
                   run.said[0] ? without_line(run.said) : "the worker refuses this job");
}

/* ---- the jobs thread again ---- */
static void unpin(struct create *c)
{
    struct wn_jobs *jobs = c->call.jobs;
    const char *id[] = { c->train.id, c->validation.id, c->recipe_file.id };
    for (size_t k = 0; k < WN_COUNT(id) && c->pinned; k++)
        for (size_t i = 0; i < jobs->pins.n; i++)
            if (*id[k] && strcmp(jobs->pins.at[i].id, id[k]) == 0) {
                jobs->pins.at[i] = jobs->pins.at[--jobs->pins.n];
                break;
            }
    jobs->being_made -= c->pinned;
    c->pinned = false;
}

static bool pin(struct create *c)
{
    struct wn_jobs *jobs = c->call.jobs;
    const char *id[] = { c->train.id, c->validation.id, c->recipe_file.id };
    if (!wn_vec_reserve(&jobs->pins, jobs->pins.n + WN_COUNT(id)))
        return false;
    for (size_t k = 0; k < WN_COUNT(id); k++)
        if (*id[k])
            memcpy(jobs->pins.at[jobs->pins.n++].id, id[k], WN_ID_ROOM);
    jobs->being_made++;
    c->pinned = true;
    return true;
}

static enum winnow_status commit(struct create *c, struct winnow_err *err)
{
    struct wn_jobs *jobs = c->call.jobs;
    WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/%s", jobs->dir, c->row.id);
    if (!dir)
        return wn_fail(err, WINNOW_E_NOMEM, "job");
    c->row.stage = WN_STAGE_NEW;
    WN_TRY(wn_db_job_save(jobs->db, &c->row, err));
    if (rename(c->staging, dir) < 0) {
        int e = errno;
        (void)(wn_db_job_delete(jobs->db, c->row.id, NULL) == WINNOW_OK); /* else the next start does it */
        return wn_fail_errno(err, e, "making job '%s'", c->row.id);
    }
    free(WN_TAKE(c->staging));
    if (wn_dir_sync(jobs->dir, err) != WINNOW_OK) /* the row is durable; the next start would finish the rename */
        wn_warning("job_dir", "job=%s error=%s", c->row.id, err->msg);
    struct wn_ft *ft = wn_ft_add(jobs, &c->row);
    if (!ft)
        return wn_fail(err, WINNOW_E_NOMEM, "job");
    atomic_fetch_add(&jobs->count.created, 1);
    wn_ft_note(jobs, ft->row.id, "info", "message", NULL, "Created fine-tuning job: %s from %s@%lld, data %s",
               ft->row.target, ft->row.model, (long long)wn_gen_version(c->gen), c->train.filename);
    wn_ft_enter(jobs, ft, WN_STAGE_WORK);
    c->call.out = wn_job_json(&c->call, &ft->row, ft);
    return WINNOW_OK;
}

static void create_done(struct wn_call *call)
{
    struct create *c = WN_CONTAINER_OF(call, struct create, call);
    wn_gen_unref(c->gen);
    wn_job_row_done(&c->row);
    free(c->staging);
}

static void finish(struct wn_task *task)
{
    struct create *c = WN_CONTAINER_OF(task, struct create, task);
    struct winnow_err err;
    if (!failed(c))
        (void)(commit(c, &c->call.err) == WINNOW_OK); /* else it is answered */
    unpin(c);
    if (c->staging && wn_tree_remove(c->staging, &err) != WINNOW_OK)
        wn_warning("staging_left", "path=%s error=%s", c->staging, err.msg);
    wn_call_done(&c->call);
}

static void stage(struct wn_task *task)
{
    struct create *c = WN_CONTAINER_OF(task, struct create, task);
    if (write_directory(c, &c->call.err) == WINNOW_OK)
        (void)(check(c, &c->call.err) == WINNOW_OK); /* else it is answered */
    c->task.run = finish;
    if (!wn_tasks_add(&c->call.jobs->main, &c->task)) /* cannot be: it outlives this thread */
        wn_die(__FILE__, __LINE__, "jobs thread has ended");
}

static bool room(struct create *c)
{
    struct wn_jobs_settings s;
    wn_jobs_settings_get(c->call.jobs, &s);
    int64_t n = c->call.jobs->being_made;
    for (const struct wn_ft *ft = c->call.jobs->active; ft; ft = ft->next)
        n += ft->row.stage <= WN_STAGE_WORK;
    if (!s.enabled)
        wn_fail(&c->call.err, WINNOW_E_UNAVAILABLE, "jobs are switched off (jobs.enabled)");
    else if (atomic_load(&c->call.jobs->draining))
        wn_fail(&c->call.err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    else if (n >= s.max_queued)
        wn_fail(&c->call.err, WINNOW_E_OVERLOAD, "%lld jobs are waiting already (jobs.max_queued)", (long long)n);
    return !failed(c);
}

static void create(struct wn_call *call)
{
    struct create *c = WN_CONTAINER_OF(call, struct create, call);
    call->done = create_done;
    c->row.doc = json_object();
    c->row.created_s = wn_wall_ms() / 1000;
    wn_new_id("ftjob-", c->row.id);
    if (c->row.doc && room(c))
        read_request(c);
    c->staging = wn_asprintf("%s/.new-%s", call->jobs->dir, c->row.id);
    if (!failed(c) && (!c->staging || !c->row.doc || !pin(c)))
        wn_fail(&call->err, WINNOW_E_NOMEM, "job");
    if (!failed(c)) {
        json_object_set_new(
            c->row.doc, "base",
            json_pack("{s:I,s:s}", "version", (json_int_t)wn_gen_version(c->gen), "digest", wn_gen_digest(c->gen)));
        c->task.run = stage;
        if (wn_tasks_add(&call->jobs->chores, &c->task))
            return;
        wn_fail(&call->err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    }
    unpin(c);
    wn_call_done(call);
}

void wn_post_ft(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct create), create);
}
