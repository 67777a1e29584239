/* progress.c: what the worker says of a job: progress.jsonl as it grows, result.json at the end.
 *
 * DESIGN  The worker handled hostile data, so its files are read as hostile: no links, bounded lines and counts, known
 *         keys of known types only. How far the file was read is committed with the events made of it, so each line
 *         becomes an event once, also across restarts. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"

#define PIECE       ((size_t)64 << 10) /* read per look; a longer line is skipped */
#define MAX_STEPS   100                /* step events per job, about */
#define MAX_MESSAGE 300

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void keep_numbers(struct wn_ft *ft, const json_t *o)
{
    static const char *const key[] = { "epoch",      "epochs", "step",     "steps", "loss",
                                       "label_loss", "lr",     "sparsity", "eta_s", "accuracy" };
    for (size_t i = 0; i < WN_COUNT(key); i++) {
        json_t *v = json_object_get(o, key[i]);
        if (json_is_number(v))
            json_object_set(ft->live, key[i], v);
    }
}

static void on_step(struct wn_jobs *jobs, struct wn_ft *ft, const json_t *o)
{
    int64_t step = json_integer_value(json_object_get(o, "step")),
            steps = json_integer_value(json_object_get(o, "steps"));
    int64_t every = WN_MAX(steps / MAX_STEPS, 1);
    if (step <= 0 || (ft->shown_step >= 0 && step / every == ft->shown_step / every && step != steps))
        return;
    ft->shown_step = step;
    if (!json_object_get(o, "label_loss")) /* the teacher's part of the training is over */
        json_object_del(ft->live, "label_loss");
    const json_t *labels = json_object_get(o, "label_loss");
    double loss = json_number_value(json_object_get(o, "loss"));
    if (json_is_number(labels))
        wn_ft_note(jobs, ft->row.id, "info", "metrics", ft->live,
                   "Step %" PRId64 "/%" PRId64 ": training loss=%.4f with the teacher's, %.4f by the labels alone",
                   step, steps, loss, json_number_value(labels));
    else
        wn_ft_note(jobs, ft->row.id, "info", "metrics", ft->live, "Step %" PRId64 "/%" PRId64 ": training loss=%.4f",
                   step, steps, loss);
}

static void on_line(struct wn_jobs *jobs, struct wn_ft *ft, const char *line, size_t n)
{
    json_t *o = json_loadb(line, n, 0, NULL);
    const char *event = text_of(o, "event");
    if (!json_is_object(o) || !event) {
        json_decref(o);
        return;
    }
    const char *phase = text_of(o, "phase");
    if (phase && (strcmp(phase, "ingest") == 0 || strcmp(phase, "train") == 0 || strcmp(phase, "export") == 0))
        json_object_set(ft->live, "phase", json_object_get(o, "phase"));
    keep_numbers(ft, o);
    if (strcmp(event, "waits") == 0)
        snprintf(ft->waits, sizeof ft->waits, "%s", text_of(o, "for") ? text_of(o, "for") : "");
    else if (strcmp(event, "phase") == 0 && phase) {
        ft->row.status = strcmp(phase, "ingest") == 0 ? WN_JOB_VALIDATING : WN_JOB_RUNNING;
        wn_ft_note(jobs, ft->row.id, "info", "state", NULL, "Phase: %.20s", phase);
    } else if (strcmp(event, "step") == 0) {
        on_step(jobs, ft, o);
    } else if (strcmp(event, "eval") == 0) {
        wn_ft_note(jobs, ft->row.id, "info", "metrics", ft->live,
                   "After epoch %g: accuracy=%.4f on rows held back from training",
                   json_number_value(json_object_get(o, "epoch")), json_number_value(json_object_get(o, "accuracy")));
    } else if (strcmp(event, "message") == 0 && text_of(o, "text")) {
        const char *level = text_of(o, "level");
        wn_ft_note(jobs, ft->row.id, level && strcmp(level, "warning") == 0 ? "warn" : "info", "message", NULL, "%.*s",
                   MAX_MESSAGE, text_of(o, "text"));
    }
    json_decref(o);
}

/* Whole lines of buf; returns how many bytes they are. */
static size_t on_lines(struct wn_jobs *jobs, struct wn_ft *ft, const char *buf, size_t n)
{
    size_t at = 0;
    for (const char *nl; (nl = memchr(buf + at, '\n', n - at)) != NULL; at = (size_t)(nl - buf) + 1)
        on_line(jobs, ft, buf + at, (size_t)(nl - buf) - at);
    return at == 0 && n == PIECE ? n : at;
}

/* One piece of news; false: none. */
static bool read_news(struct wn_jobs *jobs, struct wn_ft *ft, int fd, char *buf)
{
    struct stat st;
    struct winnow_err err;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    if (st.st_size < ft->row.progress_at) /* started afresh */
        ft->row.progress_at = 0;
    ssize_t n = pread(fd, buf, PIECE, ft->row.progress_at);
    if (n <= 0)
        return false;
    ft->grown_ns = wn_now_ns();
    if (!memchr(buf, '\n', (size_t)n) && (size_t)n < PIECE)
        return false;
    int64_t was = ft->row.progress_at;
    enum winnow_status status = wn_db_begin(jobs->db, &err);
    if (status == WINNOW_OK) {
        ft->row.progress_at += (int64_t)on_lines(jobs, ft, buf, (size_t)n);
        status = wn_db_job_save(jobs->db, &ft->row, &err);
        if (status == WINNOW_OK)
            status = wn_db_commit(jobs->db, &err);
        else
            wn_db_rollback(jobs->db);
    }
    if (status == WINNOW_OK)
        return true;
    wn_error("job_progress_failed", "job=%s error=%s", ft->row.id, err.msg);
    ft->row.progress_at = was;
    ft->again_ns = wn_now_ns() + UINT64_C(2000000000);
    return false;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Whether a worker holds work/lock. */
static bool held(const char *path)
{
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void take_ingest(struct wn_jobs *jobs, struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "data/ingest.json");
    json_t *o = path ? wn_json_file(path, NULL) : NULL;
    if (o)
        json_object_set(ft->row.doc, "ingest", o);
    json_decref(o);
}

/* The worker knows an upload by its digest; who sent it knows its name. The message to show, or NULL: as it is. */
static char *with_names(struct wn_jobs *jobs, const struct wn_ft *ft, const char *message)
{
    const char *const id[] = { ft->row.training_file, ft->row.validation_file };
    char *text = NULL;
    for (size_t i = 0; i < WN_COUNT(id); i++) {
        struct wn_file_row row;
        if (!*id[i] || wn_db_file_get(jobs->db, id[i], &row, NULL) != WINNOW_OK)
            continue;
        const char *from = text ? text : message, *at = strstr(from, row.sha256);
        char *named = at && row.sha256[0]
                          ? wn_asprintf("%.*s%s%s", (int)(at - from), from, row.filename, at + strlen(row.sha256))
                          : NULL;
        if (named) {
            free(text);
            text = named;
        }
    }
    return text;
}

static void on_result(struct wn_jobs *jobs, struct wn_ft *ft, json_t *o)
{
    const char *status = text_of(o, "status");
    json_t *error = json_object_get(o, "error"), *metrics = json_object_get(o, "metrics");
    take_ingest(jobs, ft);
    if (json_is_object(metrics))
        json_object_set(ft->row.doc, "metrics", metrics);
    if (status && strcmp(status, "succeeded") == 0) {
        ft->row.status = WN_JOB_RUNNING;
        wn_ft_note(jobs, ft->row.id, "info", "state", metrics, "Trained and exported; the gate is next");
        wn_ft_enter(jobs, ft, WN_STAGE_GATE);
    } else if (status && strcmp(status, "cancelled") == 0) {
        wn_ft_end(jobs, ft, WN_JOB_CANCELLED, NULL, NULL, NULL);
    } else {
        const char *code = text_of(error, "code"), *message = text_of(error, "message");
        WN_CLEANUP(wn_freep) char *named = message ? with_names(jobs, ft, message) : NULL;
        if (named)
            message = named;
        wn_ft_end(jobs, ft, WN_JOB_FAILED, code ? code : "internal", message ? message : "the worker gave no reason",
                  code && strcmp(code, "bad_data") == 0     ? "training_file"
                  : code && strcmp(code, "bad_recipe") == 0 ? "recipe"
                                                            : NULL);
    }
}

static void look_for_result(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct winnow_err err;
    struct stat st;
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "work/result.json");
    if (!path || lstat(path, &st) < 0)
        return;
    json_t *o = wn_json_file(path, &err);
    if (o)
        on_result(jobs, ft, o);
    else if (err.status == WINNOW_E_MALFORMED || S_ISLNK(st.st_mode))
        wn_ft_end(jobs, ft, WN_JOB_FAILED, "internal", err.msg, NULL);
    json_decref(o);
}

/* Somebody removed the job's folder; not: the state folder is away. */
static bool is_lost(const struct wn_jobs *jobs, const struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "job.json");
    return path && access(path, F_OK) < 0 && errno == ENOENT && is_folder(jobs->dir);
}

void wn_ft_progress(struct wn_jobs *jobs, struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *work = wn_ft_path(jobs, ft->row.id, "work");
    WN_CLEANUP(wn_freep) char *lock = wn_ft_path(jobs, ft->row.id, "work/lock");
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "work/progress.jsonl");
    WN_CLEANUP(wn_freep) char *buf = malloc(PIECE);
    if (is_lost(jobs, ft)) {
        wn_ft_end(jobs, ft, WN_JOB_FAILED, "lost", "the job's folder is gone", NULL);
        return;
    }
    if (!work || !lock || !path || !buf || !is_folder(work))
        return;
    bool taken = held(lock);
    if (taken && !ft->taken) {
        ft->grown_ns = wn_now_ns();
        if (!json_object_get(ft->row.doc, "started_at"))
            json_object_set_new(ft->row.doc, "started_at", json_integer(wn_wall_ms() / 1000));
    }
    ft->taken = taken;
    if (!taken)
        ft->waits[0] = '\0';
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    for (int i = 0; i < 16 && fd >= 0 && read_news(jobs, ft, fd, buf); i++)
        ;
    look_for_result(jobs, ft);
}
