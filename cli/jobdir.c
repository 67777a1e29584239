/* jobdir.c: a job directory of one's own, for `winnow sparsify`. */
#include "cli/jobdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "cli/cli.h"
#include "pipeline/pipeline.h"
#include "winnow/winnow.h"

#define MAX_MODEL ((size_t)2 << 30)
#define MAX_JSON  ((size_t)16 << 20)

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum winnow_status copy_file(const char *from, const char *to, struct winnow_err *err)
{
    size_t n;
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_TRY(wn_file_read(from, MAX_MODEL, &bytes, &n, err));
    return wn_file_write_durable(to, bytes, n, err);
}

/* A model with the files that its weights lie in, which keep their names. */
static enum winnow_status copy_onnx(const char *from, const char *dir, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/%s", dir, name);
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    WN_TRY(copy_file(from, to, err));
    return winnow_external_copy(from, dir, 0, err);
}

static enum winnow_status copy_named(const char *from, const char *to, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *src = wn_asprintf("%s/%s", from, name);
    WN_CLEANUP(wn_freep) char *dst = wn_asprintf("%s/%s", to, name);
    if (!src || !dst)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    enum winnow_status status = copy_file(src, dst, err);
    return status == WINNOW_E_NOT_FOUND ? WINNOW_OK : status;
}

static bool has_file(const char *dir, const char *name)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name);
    return path && access(path, F_OK) == 0;
}

static enum winnow_status copy_onnx_named(const char *from, const char *to, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *src = wn_asprintf("%s/%s", from, name);
    return src ? copy_onnx(src, to, name, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", name);
}

static enum winnow_status copy_beside(const char *from, const char *to, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *shared = wn_cli_shared_folder(from);
    if (has_file(from, "master.onnx"))
        WN_TRY(copy_onnx_named(from, to, "master.onnx", err));
    for (const char *const *name = wn_pipeline_files; *name; name++)
        WN_TRY(copy_named(shared && !has_file(from, *name) ? shared : from, to, *name, err));
    return WINNOW_OK;
}

static enum winnow_status copy_model(const char *from, const char *to, struct winnow_err *err)
{
    WN_TRY(copy_onnx_named(from, to, "model.onnx", err));
    return copy_beside(from, to, err);
}

static enum winnow_status remove_named(const char *dir, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    return unlink(path) == 0 || errno == ENOENT ? WINNOW_OK : wn_fail_errno(err, errno, "%s", path);
}

enum winnow_status wn_jobdir_replace_model(const char *from, const char *to, struct winnow_err *err)
{
    static const char *const models[] = { "model.onnx", "model.onnx.data", "master.onnx", "master.onnx.data" };
    for (size_t i = 0; i < WN_COUNT(models); i++)
        WN_TRY(remove_named(to, models[i], err));
    for (const char *const *name = wn_pipeline_files; *name; name++)
        WN_TRY(remove_named(to, *name, err));
    return copy_model(from, to, err);
}

/* The base's folder: a version of a repository whole; a single file with what lies beside it. */
static enum winnow_status copy_base(const char *model, const char *to, struct winnow_err *err)
{
    if (is_folder(model)) {
        WN_CLEANUP(wn_freep) char *folder = wn_cli_model_folder(model);
        return folder ? copy_model(folder, to, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", model);
    }
    const char *slash = strrchr(model, '/');
    WN_CLEANUP(wn_freep) char *dir = slash ? wn_asprintf("%.*s", (int)(slash - model), model) : wn_strdup(".");
    if (!dir)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", model);
    WN_TRY(copy_onnx(model, to, "model.onnx", err));
    return copy_beside(dir, to, err);
}

static enum winnow_status digest_of(const char *path, char ret[WN_DIGEST_TEXT], struct winnow_err *err)
{
    struct wn_sha256 d;
    ret[0] = 0;
    if (is_folder(path)) /* a folder has no digest of its own; the rows made from it do */
        return WINNOW_OK;
    WN_TRY(wn_sha256_file(path, &d, NULL, err));
    wn_digest_text(&d, ret);
    return WINNOW_OK;
}

static enum winnow_status digest_of_model(const char *path, char ret[WN_DIGEST_TEXT], struct winnow_err *err)
{
    struct wn_sha256 d;
    WN_CLEANUP(wn_freep) char **names = NULL;
    WN_TRY(winnow_external_list(path, &names, NULL, err));
    WN_TRY(wn_sha256_with(path, (const char *const *)names, &d, err));
    wn_digest_text(&d, ret);
    return WINNOW_OK;
}

static enum winnow_status describe_data(const char *path, json_t **ret, struct winnow_err *err)
{
    char full[PATH_MAX], digest[WN_DIGEST_TEXT];
    if (!realpath(path, full))
        return wn_fail_errno(err, errno, "%s", path);
    WN_TRY(digest_of(full, digest, err));
    const char *slash = strrchr(full, '/');
    *ret = json_pack("{s:s,s:s,s:s}", "path", full, "name", slash && slash[1] ? slash + 1 : full, "digest", digest);
    return *ret ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", path);
}

static enum winnow_status write_job(const char *dir, const struct wn_jobdir_spec *spec, struct winnow_err *err)
{
    char digest[WN_DIGEST_TEXT];
    json_t *data = NULL, *validation = NULL;
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base/model.onnx", dir);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/job.json", dir);
    if (!base || !path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    WN_TRY(digest_of_model(base, digest, err));
    WN_TRY(describe_data(spec->data, &data, err));
    if (spec->validation) {
        enum winnow_status status = describe_data(spec->validation, &validation, err);
        if (status != WINNOW_OK) {
            json_decref(data);
            return status;
        }
    }
    json_t *job =
        json_pack("{s:i,s:s,s:s,s:s,s:{s:i,s:s},s:o,s:o*,s:b,s:b,s:f,s:I,s:I,s:o,s:n}", "format", 1, "id",
                  "ftjob-local", "model", "local", "target", "local", "base", "version", 1, "digest", digest, "data",
                  data, "validation", validation, "recipe", spec->recipe != NULL, "new_labels", spec->new_labels,
                  "eval_share", spec->eval_share, "seed", (json_int_t)spec->seed, "threads", (json_int_t)spec->threads,
                  "epochs", spec->epochs ? json_integer(spec->epochs) : json_null(), "min_accuracy");
    if (job && !spec->recipe)
        json_object_set_new(job, "optim_level", json_real(spec->level));
    if (job && spec->training)
        json_object_set(job, "training", spec->training);
    if (job && spec->columns)
        json_object_set(job, "columns", spec->columns);
    WN_CLEANUP(wn_freep) char *text = job ? json_dumps(job, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(job);
    return text ? wn_file_write_durable(path, text, strlen(text), err) : wn_fail(err, WINNOW_E_NOMEM, "%s", path);
}

enum winnow_status wn_jobdir_make(const char *dir, const struct wn_jobdir_spec *spec, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base", dir);
    WN_CLEANUP(wn_freep) char *work = wn_asprintf("%s/work", dir);
    WN_CLEANUP(wn_freep) char *data = wn_asprintf("%s/data", dir);
    WN_CLEANUP(wn_freep) char *recipe = wn_asprintf("%s/recipe.yaml", dir);
    WN_CLEANUP(wn_freep) char *teacher = wn_asprintf("%s/base/teacher", dir);
    if (!base || !work || !data || !recipe || !teacher)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    if (mkdir(base, 0777) != 0 || mkdir(work, 0777) != 0 || mkdir(data, 0777) != 0)
        return wn_fail_errno(err, errno, "making folders in %s", dir);
    WN_TRY(copy_base(spec->model, base, err));
    if (spec->teacher && mkdir(teacher, 0777) != 0)
        return wn_fail_errno(err, errno, "making folders in %s", dir);
    if (spec->teacher)
        WN_TRY(copy_onnx(spec->teacher, teacher, "model.onnx", err));
    if (spec->recipe)
        WN_TRY(copy_file(spec->recipe, recipe, err));
    return write_job(dir, spec, err);
}

enum winnow_status wn_jobdir_read_json(const char *path, json_t **ret, struct winnow_err *err)
{
    size_t n;
    json_error_t bad;
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_TRY(wn_file_read(path, MAX_JSON, &bytes, &n, err));
    json_t *json = json_loadb(bytes, n, 0, &bad);
    if (!json_is_object(json)) {
        json_decref(json);
        return wn_fail(err, WINNOW_E_MALFORMED, "%s:%d: %s", path, json ? 1 : bad.line,
                       json ? "not an object" : bad.text);
    }
    *ret = json;
    return WINNOW_OK;
}

json_t *wn_jobdir_tail_next(struct wn_jobdir_tail *t, const char *dir)
{
    if (t->fd < 0) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/progress.jsonl", dir);
        t->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (t->fd < 0)
            return NULL;
    }
    for (;;) {
        char *end = memchr(t->line, '\n', t->n);
        if (end) {
            size_t len = (size_t)(end - t->line);
            json_t *event = t->skipping ? NULL : json_loadb(t->line, len, 0, NULL);
            t->n -= len + 1;
            memmove(t->line, end + 1, t->n);
            t->skipping = false;
            if (event)
                return event;
            continue; /* no JSON: the next line */
        }
        if (t->n == sizeof t->line) {
            t->skipping = true;
            t->n = 0;
        }
        ssize_t got = read(t->fd, t->line + t->n, sizeof t->line - t->n);
        if (got <= 0)
            return NULL;
        t->n += (size_t)got;
    }
}

void wn_jobdir_tail_done(struct wn_jobdir_tail *t)
{
    wn_closep(&t->fd);
    t->fd = -1;
}
