/* job.c: job.json by a table of keys: an unknown key, a wrong type or a value out of range names the key and its line.
 */
#include "sparsify/worker/job.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/yaml.h"

#define MAX_JSON ((size_t)64 << 10)

struct reader {
    struct wn_job *job;
    const char *file, *text;
    struct winnow_err *err;
    const char *outer; /* "data.", "training." or "" */
    size_t from;       /* where the present object starts in the text */
};

/* Line of "key" after the start of its object: jansson keeps no positions. */
static unsigned line_of(const struct reader *r, const char *key)
{
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%.70s\"", key);
    const char *at = strstr(r->text + r->from, quoted);
    unsigned line = 1;
    for (const char *s = r->text; at && s < at; s++)
        line += *s == '\n';
    return line;
}

#define BAD(r, key, fmt, ...)                                                                                          \
    wn_fail((r)->err, WINNOW_E_MALFORMED, "%s:%u: %s%s: " fmt, (r)->file, line_of((r), (key)), (r)->outer,             \
            (key)__VA_OPT__(, ) __VA_ARGS__)

/* ---- values ---- */

static enum winnow_status want_number(const struct reader *r, const char *key, const json_t *v, double min, double max,
                                      double *ret)
{
    if (!json_is_number(v))
        return BAD(r, key, "expected a number");
    double x = json_number_value(v);
    if (!isfinite(x) || x < min || x > max)
        return BAD(r, key, "%g is not between %g and %g", x, min, max);
    *ret = x;
    return WINNOW_OK;
}

static enum winnow_status want_int(const struct reader *r, const char *key, const json_t *v, int64_t min, int64_t max,
                                   int64_t *ret)
{
    if (!json_is_integer(v))
        return BAD(r, key, "expected an integer");
    if (json_integer_value(v) < min || json_integer_value(v) > max)
        return BAD(r, key, "%lld is not between %lld and %lld", (long long)json_integer_value(v), (long long)min,
                   (long long)max);
    *ret = json_integer_value(v);
    return WINNOW_OK;
}

static enum winnow_status want_bool(const struct reader *r, const char *key, const json_t *v, bool *ret)
{
    if (!json_is_boolean(v))
        return BAD(r, key, "expected true or false");
    *ret = json_is_true(v);
    return WINNOW_OK;
}

static enum winnow_status want_string(const struct reader *r, const char *key, const json_t *v, size_t max,
                                      const char **ret)
{
    size_t n = json_is_string(v) ? json_string_length(v) : 0;
    if (!n || n > max || memchr(json_string_value(v), 0, n))
        return BAD(r, key, "expected a string of 1 to %zu characters", max);
    *ret = wn_arena_strndup(&r->job->arena, json_string_value(v), n);
    return *ret ? WINNOW_OK : wn_fail(r->err, WINNOW_E_NOMEM, "%s", r->file);
}

static enum winnow_status want_digest(const struct reader *r, const char *key, const json_t *v, const char **ret)
{
    struct wn_sha256 d;
    if (json_is_string(v) && !json_string_length(v)) /* a folder has none */
        return WINNOW_OK;
    WN_TRY(want_string(r, key, v, 100, ret));
    return wn_digest_parse(*ret, &d) ? WINNOW_OK : BAD(r, key, "'%.80s' is not a SHA-256", *ret);
}

/* ---- keys ---- */

struct key {
    const char *name;
    enum winnow_status (*read)(struct reader *r, const char *key, const json_t *v);
    bool required, nullable;
};

static enum winnow_status read_object(struct reader *r, const char *outer, const json_t *o, const struct key *keys,
                                      size_t n_keys);

static enum winnow_status key_format(struct reader *r, const char *key, const json_t *v)
{
    int64_t format = 0;
    WN_TRY(want_int(r, key, v, 1, INT32_MAX, &format));
    return format == 1 ? WINNOW_OK
                       : wn_fail(r->err, WINNOW_E_UNSUPPORTED, "%s:%u: format %lld is newer than this worker (1)",
                                 r->file, line_of(r, key), (long long)format);
}
static enum winnow_status key_id(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 200, &r->job->id);
}
static enum winnow_status key_model(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 200, &r->job->model);
}
static enum winnow_status key_target(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 200, &r->job->target);
}

static enum winnow_status base_version(struct reader *r, const char *key, const json_t *v)
{
    int64_t version;
    return want_int(r, key, v, 0, INT64_MAX, &version);
}
static enum winnow_status base_digest(struct reader *r, const char *key, const json_t *v)
{
    return want_digest(r, key, v, &r->job->base_digest);
}
static enum winnow_status key_base(struct reader *r, const char *key, const json_t *v)
{
    static const struct key keys[] = { { "version", base_version, false, true },
                                       { "digest", base_digest, false, true } };
    return read_object(r, key, v, keys, WN_COUNT(keys));
}

static enum winnow_status data_path(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 4095, &r->job->data.path);
}
static enum winnow_status data_name(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 1024, &r->job->data.name);
}
static enum winnow_status data_digest(struct reader *r, const char *key, const json_t *v)
{
    return want_digest(r, key, v, &r->job->data.digest);
}
static enum winnow_status read_data(struct reader *r, const char *key, const json_t *v)
{
    static const struct key keys[] = { { "path", data_path, true, false },
                                       { "name", data_name, false, true },
                                       { "digest", data_digest, false, true } };
    return read_object(r, key, v, keys, WN_COUNT(keys));
}
static enum winnow_status key_data(struct reader *r, const char *key, const json_t *v)
{
    return read_data(r, key, v);
}
static enum winnow_status key_validation(struct reader *r, const char *key, const json_t *v)
{
    struct wn_job_data data = r->job->data;
    r->job->data = (struct wn_job_data){ 0 };
    enum winnow_status status = read_data(r, key, v);
    r->job->validation = r->job->data;
    r->job->data = data;
    return status;
}

static enum winnow_status key_recipe(struct reader *r, const char *key, const json_t *v)
{
    return want_bool(r, key, v, &r->job->recipe);
}
static enum winnow_status key_optim_level(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0, 1, &r->job->optim_level);
}
static enum winnow_status key_new_labels(struct reader *r, const char *key, const json_t *v)
{
    return want_bool(r, key, v, &r->job->new_labels);
}
static enum winnow_status key_eval_share(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0.01, 0.5, &r->job->eval_share);
}
static enum winnow_status key_seed(struct reader *r, const char *key, const json_t *v)
{
    int64_t seed = 0;
    WN_TRY(want_int(r, key, v, 0, INT64_MAX, &seed));
    r->job->seed = (uint64_t)seed;
    return WINNOW_OK;
}
static enum winnow_status key_threads(struct reader *r, const char *key, const json_t *v)
{
    int64_t threads = 1;
    WN_TRY(want_int(r, key, v, 1, 256, &threads));
    r->job->threads = (unsigned)threads;
    return WINNOW_OK;
}
static enum winnow_status key_epochs(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0.01, 100000, &r->job->epochs);
}
static enum winnow_status key_min_accuracy(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0, 1, &r->job->min_accuracy);
}

static enum winnow_status training_batch(struct reader *r, const char *key, const json_t *v)
{
    int64_t batch = 0;
    WN_TRY(want_int(r, key, v, 2, 4096, &batch));
    r->job->training.batch = (unsigned)batch;
    return WINNOW_OK;
}
static enum winnow_status training_momentum(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0, 0.9999, &r->job->training.momentum);
}
static enum winnow_status training_nesterov(struct reader *r, const char *key, const json_t *v)
{
    return want_bool(r, key, v, &r->job->training.nesterov);
}
static enum winnow_status training_smoothing(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0, 0.9, &r->job->training.label_smoothing);
}
static enum winnow_status training_flip(struct reader *r, const char *key, const json_t *v)
{
    return want_bool(r, key, v, &r->job->training.flip);
}
static enum winnow_status training_crop(struct reader *r, const char *key, const json_t *v)
{
    int64_t pad = 0;
    WN_TRY(want_int(r, key, v, 0, 64, &pad));
    r->job->training.crop_pad = (int)pad;
    return WINNOW_OK;
}
static enum winnow_status training_optimizer(struct reader *r, const char *key, const json_t *v)
{
    static const char *const names[] = { "sgd", "adamw" }; /* as enum wn_optimizer */
    const char *name;
    WN_TRY(want_string(r, key, v, 20, &name));
    for (size_t i = 0; i < WN_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            r->job->training.optimizer = 1 + (int)i;
            return WINNOW_OK;
        }
    return BAD(r, key, "sgd or adamw, not '%.20s'", name);
}
static enum winnow_status training_norm(struct reader *r, const char *key, const json_t *v)
{
    return want_number(r, key, v, 0, 1e6, &r->job->training.max_grad_norm);
}
static enum winnow_status key_training(struct reader *r, const char *key, const json_t *v)
{
    static const struct key keys[] = {
        { "batch", training_batch, false, true },         { "momentum", training_momentum, false, true },
        { "nesterov", training_nesterov, false, true },   { "label_smoothing", training_smoothing, false, true },
        { "flip", training_flip, false, true },           { "crop_pad", training_crop, false, true },
        { "optimizer", training_optimizer, false, true }, { "max_grad_norm", training_norm, false, true },
    };
    return read_object(r, key, v, keys, WN_COUNT(keys));
}

static enum winnow_status columns_text(struct reader *r, const char *key, const json_t *v)
{
    struct wn_columns *c = &r->job->columns;
    c->n_text = 0;
    if (!json_is_array(v)) {
        c->n_text = 1;
        return want_string(r, key, v, 200, &c->text[0]);
    }
    if (!json_array_size(v) || json_array_size(v) > WN_COLUMNS_MAX_TEXT)
        return BAD(r, key, "expected a name, or a list of 1 to %d", WN_COLUMNS_MAX_TEXT);
    for (size_t i = 0; i < json_array_size(v); i++)
        WN_TRY(want_string(r, key, json_array_get(v, i), 200, &c->text[c->n_text++]));
    return WINNOW_OK;
}
static enum winnow_status columns_join(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 16, &r->job->columns.join);
}
static enum winnow_status columns_pair(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 200, &r->job->columns.pair);
}
static enum winnow_status columns_label(struct reader *r, const char *key, const json_t *v)
{
    return want_string(r, key, v, 200, &r->job->columns.label);
}
static enum winnow_status key_columns(struct reader *r, const char *key, const json_t *v)
{
    static const struct key keys[] = { { "text", columns_text, false, true },
                                       { "join", columns_join, false, true },
                                       { "text_pair", columns_pair, false, true },
                                       { "label", columns_label, false, true } };
    return read_object(r, key, v, keys, WN_COUNT(keys));
}

static const struct key job_keys[] = {
    { "format", key_format, true, false },
    { "id", key_id, true, false },
    { "model", key_model, true, false },
    { "target", key_target, false, true },
    { "base", key_base, false, true },
    { "data", key_data, true, false },
    { "validation", key_validation, false, true },
    { "recipe", key_recipe, false, true },
    { "optim_level", key_optim_level, false, true },
    { "new_labels", key_new_labels, false, true },
    { "eval_share", key_eval_share, false, true },
    { "seed", key_seed, false, true },
    { "threads", key_threads, false, true },
    { "epochs", key_epochs, false, true },
    { "min_accuracy", key_min_accuracy, false, true },
    { "training", key_training, false, true },
    { "columns", key_columns, false, true },
};

static enum winnow_status unknown_key(struct reader *r, const char *key, const struct key *keys, size_t n_keys)
{
    const char *names[WN_COUNT(job_keys)];
    for (size_t i = 0; i < n_keys; i++)
        names[i] = keys[i].name;
    const char *near = wn_near_name(key, names, n_keys);
    return near ? BAD(r, key, "unknown key, did you mean '%s'?", near) : BAD(r, key, "unknown key");
}

/* The members of an object, by its table. `outer` "" for the document. */
static enum winnow_status read_object(struct reader *r, const char *outer, const json_t *o, const struct key *keys,
                                      size_t n_keys)
{
    if (!json_is_object(o))
        return *outer ? BAD(r, outer, "expected an object")
                      : wn_fail(r->err, WINNOW_E_MALFORMED, "%s:1: expected an object", r->file);
    struct reader in = *r;
    char prefix[40] = "";
    if (*outer) {
        char quoted[80];
        snprintf(prefix, sizeof prefix, "%s.", outer);
        snprintf(quoted, sizeof quoted, "\"%.70s\"", outer);
        const char *at = strstr(r->text, quoted);
        in.from = at ? (size_t)(at - r->text) : 0;
    }
    in.outer = prefix;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        size_t i = 0;
        while (i < n_keys && strcmp(keys[i].name, key) != 0)
            i++;
        if (i == n_keys)
            return unknown_key(&in, key, keys, n_keys);
        if (!(keys[i].nullable && json_is_null(v)))
            WN_TRY(keys[i].read(&in, key, v));
    }
    for (size_t i = 0; i < n_keys; i++)
        if (keys[i].required && !json_object_get(o, keys[i].name))
            return BAD(&in, *outer ? outer : keys[i].name, "'%s' is missing", keys[i].name);
    return WINNOW_OK;
}

/* ---- the whole ---- */

static enum winnow_status check(struct reader *r)
{
    struct wn_job *job = r->job;
    if (!job->target)
        job->target = job->model;
    if (job->recipe && !isnan(job->optim_level))
        return BAD(r, "optim_level", "a job has a recipe or an optim_level, not both");
    if (job->recipe && !isnan(job->epochs))
        return BAD(r, "epochs", "the recipe says how many epochs there are");
    if (!job->recipe && isnan(job->optim_level))
        job->optim_level = 0.5;
    return WINNOW_OK;
}

enum winnow_status wn_job_parse(const void *bytes, size_t n, const char *file, const char *dir, struct wn_job *ret,
                                struct winnow_err *err)
{
    struct winnow_err local;
    struct wn_job job = { .eval_share = 0.1,
                          .seed = 1,
                          .threads = 1,
                          .epochs = NAN,
                          .min_accuracy = NAN,
                          .optim_level = NAN,
                          .training = { .momentum = 0.9, .nesterov = true, .crop_pad = -1 } };
    json_error_t why;
    if (n > MAX_JSON)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s:1: more than %zu bytes", file, MAX_JSON);
    wn_arena_init(&job.arena, (size_t)1 << 20);
    char *text = wn_arena_strndup(&job.arena, bytes, n);
    job.dir = wn_arena_strndup(&job.arena, dir, strlen(dir));
    json_t *o = text ? json_loadb(text, n, JSON_REJECT_DUPLICATES, &why) : NULL;
    struct reader r = { .job = &job, .file = file, .text = text, .err = err ? err : &local, .outer = "" };
    enum winnow_status status;
    if (!text || !job.dir)
        status = wn_fail(err, WINNOW_E_NOMEM, "%s", file);
    else if (!o)
        status = wn_fail(err, WINNOW_E_MALFORMED, "%s:%d: %s", file, why.line > 0 ? why.line : 1, why.text);
    else
        status = read_object(&r, "", o, job_keys, WN_COUNT(job_keys));
    if (status == WINNOW_OK)
        status = check(&r);
    json_decref(o);
    if (status == WINNOW_OK)
        *ret = job;
    else
        wn_arena_done(&job.arena);
    return status;
}

enum winnow_status wn_job_read(const char *dir, struct wn_job *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/job.json", dir);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0;
    struct wn_job job;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "job.json");
    WN_TRY(wn_file_read(path, MAX_JSON, &bytes, &n, err));
    WN_TRY(wn_job_parse(bytes, n, "job.json", dir, &job, err));
    if (job.recipe && !wn_job_has(&job, "recipe.yaml")) {
        wn_job_done(&job);
        return wn_fail(err, WINNOW_E_NOT_FOUND, "recipe.yaml:1: the job says that there is one, and there is none");
    }
    *ret = job;
    return WINNOW_OK;
}

void wn_job_done(struct wn_job *job)
{
    wn_arena_done(&job->arena);
}

const char *wn_job_path(struct wn_job *job, const char *name)
{
    return wn_arena_printf(&job->arena, "%s/%s", job->dir, name);
}

bool wn_job_has(const struct wn_job *job, const char *name)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", job->dir, name);
    return path && access(path, F_OK) == 0;
}
