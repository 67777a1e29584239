/* shape.c: uploads and jobs as JSON: OpenAI's objects with keys of ours beside theirs. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"

#define MAX_JSON ((size_t)4 << 20)

json_t *wn_file_json(const struct wn_file_row *row)
{
    return json_pack("{s:s,s:s,s:I,s:I,s:s,s:s,s:s,s:n,s:s}", "id", row->id, "object", "file", "bytes",
                     (json_int_t)row->bytes, "created_at", (json_int_t)row->created_s, "filename", row->filename,
                     "purpose", row->purpose, "status", "processed", "status_details", "sha256", row->sha256);
}

/* What a job is doing, for people. */
static const char *phase(const struct wn_job_row *row, const struct wn_ft *ft)
{
    switch (row->stage) {
    case WN_STAGE_NEW:
        return "queued";
    case WN_STAGE_WORK: {
        const char *p = ft ? json_string_value(json_object_get(ft->live, "phase")) : NULL;
        return p ? p : "queued";
    }
    case WN_STAGE_GATE:
        return "gate";
    case WN_STAGE_PUBLISH:
        return "publish";
    case WN_STAGE_PROMOTE:
        return "promote";
    case WN_STAGE_ANCHOR:
        return "anchor";
    case WN_STAGE_DONE:
        break;
    }
    return "done";
}

static void set_or_null(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value ? value : json_null());
}

static void add_result(json_t *o, const struct wn_job_row *row)
{
    char name[200];
    bool made = row->version > 0;
    snprintf(name, sizeof name, "%s@%lld", row->target, (long long)row->version);
    set_or_null(o, "fine_tuned_model", made && row->status == WN_JOB_SUCCEEDED ? json_string(name) : NULL);
    set_or_null(o, "version", made ? json_integer(row->version) : NULL);
    set_or_null(o, "finished_at", row->finished_s ? json_integer(row->finished_s) : NULL);
    json_object_set_new(o, "promotion", json_string(wn_promotion_name(row->promotion)));
}

static void add_progress(json_t *o, const struct wn_ft *ft)
{
    static const char *const key[] = { "epoch",      "epochs", "step",     "steps",   "loss",
                                       "label_loss", "lr",     "sparsity", "accuracy" };
    for (size_t i = 0; i < WN_COUNT(key); i++) {
        json_t *v = ft ? json_object_get(ft->live, key[i]) : NULL;
        if (v)
            json_object_set(o, key[i], v);
    }
    json_t *eta = ft ? json_object_get(ft->live, "eta_s") : NULL;
    set_or_null(o, "eta", json_incref(eta));
    set_or_null(o, "estimated_finish",
                json_is_number(eta) ? json_integer(wn_wall_ms() / 1000 + (json_int_t)json_number_value(eta)) : NULL);
}

json_t *wn_job_json(const struct wn_call *call, const struct wn_job_row *row, const struct wn_ft *ft)
{
    json_t *n_epochs = json_object_get(row->doc, "n_epochs");
    json_t *o = json_pack("{s:s,s:s,s:I,s:s,s:s,s:s,s:s,s:[],s:[],s:n,s:s,s:{s:O}}", "id", row->id, "object",
                          "fine_tuning.job", "created_at", (json_int_t)row->created_s, "model", row->model, "target",
                          row->target, "status", wn_job_status_name(row->status), "organization_id", "winnow",
                          "result_files", "integrations", "trained_tokens", "training_file", row->training_file,
                          "hyperparameters", "n_epochs", n_epochs ? n_epochs : json_null());
    if (!o)
        return NULL;
    if (!n_epochs)
        json_object_set_new(json_object_get(o, "hyperparameters"), "n_epochs", json_string("auto"));
    set_or_null(o, "validation_file", row->validation_file[0] ? json_string(row->validation_file) : NULL);
    json_object_set_new(o, "method",
                        json_pack("{s:s,s:{s:O}}", "type", "supervised", "supervised", "hyperparameters",
                                  json_object_get(o, "hyperparameters")));
    json_object_set_new(o, "phase", json_string(phase(row, ft)));
    set_or_null(o, "waiting_for", ft ? wn_ft_waits(call, ft) : NULL);
    static const char *const copied[] = { "error",       "seed",       "metadata",   "suffix",
                                          "optim_level", "recipe",     "metrics",    "gate",
                                          "digest",      "base",       "generation", "min_accuracy",
                                          "ingest",      "started_at", "new_labels", "watch" };
    for (size_t i = 0; i < WN_COUNT(copied); i++)
        set_or_null(o, copied[i], json_incref(json_object_get(row->doc, copied[i])));
    add_result(o, row);
    add_progress(o, ft);
    return o;
}

json_t *wn_json_file(const char *path, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        wn_fail_errno(err, errno, "opening '%s'", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > MAX_JSON) {
        wn_fail(err, WINNOW_E_MALFORMED, "'%s' is no JSON file of at most 4 MiB", path);
        return NULL;
    }
    size_t want = (size_t)st.st_size, n = 0;
    WN_CLEANUP(wn_freep) char *text = malloc(want + 1);
    for (ssize_t got = 1; text && n < want && got > 0; n += got > 0 ? (size_t)got : 0)
        got = read(fd, text + n, want - n);
    json_error_t e;
    json_t *o = text ? json_loadb(text, n, JSON_REJECT_DUPLICATES, &e) : NULL;
    if (o && json_is_object(o))
        return o;
    if (!o && text)
        wn_fail(err, WINNOW_E_MALFORMED, "'%s' line %d: %s", path, e.line, e.text);
    else
        wn_fail(err, text ? WINNOW_E_MALFORMED : WINNOW_E_NOMEM, "'%s' holds no JSON object", path);
    json_decref(o);
    return NULL;
}

enum winnow_status wn_json_write(const char *path, const json_t *o, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    if (!text)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    return wn_file_write_durable(path, text, strlen(text), err);
}
