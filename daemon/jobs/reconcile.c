/* reconcile.c: database and disk brought together at the start, and old things taken away while running.
 *
 *   STATE/files/upload-ID.part     an upload that did not end: removed
 *   STATE/files/SHA256             without a row: an orphan, removed; with a database that was made afresh: taken in
 *   row without its bytes          removed, with an error in the log
 *   STATE/jobs/.new-ID             with a row of stage NEW: renamed, the job goes on; else removed
 *   STATE/jobs/.gone-ID            a removal that did not end: removed
 *   STATE/jobs/ID without a row    taken in; it goes on where its files say
 *   active row without its folder  failed, code "lost" */
#include "daemon/jobs/internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/tree.h"

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return path && lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- uploads ---- */

/* Name and id of an upload from the jobs that use it: all that is left of them when the database is gone. */
static void name_from_jobs(struct wn_jobs *jobs, struct wn_file_row *row)
{
    static const char *const key[] = { "data", "validation" }, *const id_key[] = { "training_file", "validation_file" };
    WN_CLEANUP(close_dir) DIR *d = opendir(jobs->dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (!wn_id_valid(e->d_name, "ftjob-"))
            continue;
        WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, e->d_name, "job.json");
        WN_CLEANUP(wn_freep) char *more = wn_ft_path(jobs, e->d_name, "request.json");
        json_t *o = path ? wn_json_file(path, NULL) : NULL, *request = more ? wn_json_file(more, NULL) : NULL;
        for (size_t i = 0; i < WN_COUNT(key) && o; i++) {
            const json_t *f = json_object_get(o, key[i]);
            const char *digest = json_string_value(json_object_get(f, "digest"));
            const char *name = json_string_value(json_object_get(f, "name"));
            const char *id = json_string_value(json_object_get(request, id_key[i]));
            if (!digest || strncmp(digest, "sha256:", 7) != 0 || strcmp(digest + 7, row->sha256) != 0)
                continue;
            if (name)
                snprintf(row->filename, sizeof row->filename, "%s", name);
            if (id && wn_id_valid(id, "file-"))
                snprintf(row->id, sizeof row->id, "%.*s", (int)sizeof row->id - 1, id);
        }
        json_decref(o);
        json_decref(request);
    }
}

static enum winnow_status take_file_in(struct wn_jobs *jobs, const char *sha256, const struct stat *st,
                                       struct winnow_err *err)
{
    struct wn_file_row row = { .bytes = st->st_size, .created_s = st->st_mtim.tv_sec };
    wn_new_id("file-", row.id);
    snprintf(row.sha256, sizeof row.sha256, "%.*s", (int)sizeof row.sha256 - 1, sha256);
    snprintf(row.purpose, sizeof row.purpose, "fine-tune");
    snprintf(row.filename, sizeof row.filename, "%.12s", sha256);
    name_from_jobs(jobs, &row);
    wn_notice("file_taken_in", "file=%s name=%s sha256=%s", row.id, row.filename, sha256);
    return wn_db_file_add(jobs->db, &row, err);
}

static enum winnow_status one_file(struct wn_jobs *jobs, const char *name, bool fresh, struct winnow_err *err)
{
    struct stat st;
    int64_t uses;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", jobs->files, name);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "file '%s'", name);
    bool ours = strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return WINNOW_OK; /* nothing of ours: let it be */
    if (ours) {
        WN_TRY(wn_db_file_uses(jobs->db, name, &uses, err));
        if (uses)
            return WINNOW_OK;
        if (fresh)
            return take_file_in(jobs, name, &st, err);
    } else if (strncmp(name, "upload-", 7) != 0) {
        return WINNOW_OK;
    }
    atomic_fetch_add(&jobs->count.orphans, 1);
    wn_notice("orphan_removed", "path=%s", path);
    if (unlink(path) < 0)
        wn_warning("orphan_left", "path=%s error=%s", path, strerror(errno));
    return WINNOW_OK;
}

static enum winnow_status files_on_disk(struct wn_jobs *jobs, bool fresh, struct winnow_err *err)
{
    WN_CLEANUP(close_dir) DIR *d = opendir(jobs->files);
    if (!d)
        return wn_fail_errno(err, errno, "folder '%s'", jobs->files);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            WN_TRY(one_file(jobs, e->d_name, fresh, err));
    return WINNOW_OK;
}

#define BATCH 500

/* Rows whose bytes are gone. */
static enum winnow_status files_in_rows(struct wn_jobs *jobs, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_file_row *rows = calloc(BATCH, sizeof *rows);
    char after[WN_ID_ROOM] = "";
    if (!rows)
        return wn_fail(err, WINNOW_E_NOMEM, "list of files");
    for (size_t n = BATCH; n == BATCH;) {
        WN_TRY(wn_db_file_list(jobs->db, NULL, after[0] ? after : NULL, true, BATCH, rows, &n, err));
        if (n)
            memcpy(after, rows[n - 1].id, sizeof after);
        for (size_t i = 0; i < n; i++) {
            struct stat st;
            WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", jobs->files, rows[i].sha256);
            if (!path || (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == rows[i].bytes))
                continue;
            wn_error("file_lost", "file=%s name=%s path=%s", rows[i].id, rows[i].filename, path);
            if (i == n - 1 && i > 0) /* the next look starts behind a row that is there */
                memcpy(after, rows[i - 1].id, sizeof after);
            WN_TRY(wn_db_file_delete(jobs->db, rows[i].id, err));
        }
    }
    return WINNOW_OK;
}

/* ---- jobs ---- */
static void remove_folder(const char *path)
{
    struct winnow_err err;
    if (wn_tree_remove(path, &err) == WINNOW_OK)
        wn_notice("orphan_removed", "path=%s", path);
    else
        wn_warning("orphan_left", "path=%s error=%s", path, err.msg);
}

static enum winnow_status staging(struct wn_jobs *jobs, const char *name, struct winnow_err *err)
{
    struct wn_job_row row = { 0 };
    const char *id = name + strlen(".new-");
    WN_CLEANUP(wn_freep) char *from = wn_ft_path(jobs, name, "");
    WN_CLEANUP(wn_freep) char *to = wn_ft_path(jobs, id, "");
    if (!from || !to)
        return wn_fail(err, WINNOW_E_NOMEM, "job '%s'", id);
    bool wanted = wn_id_valid(id, "ftjob-") && wn_db_job_get(jobs->db, id, &row, NULL) == WINNOW_OK &&
                  row.stage == WN_STAGE_NEW && !is_folder(to);
    wn_job_row_done(&row);
    if (!wanted) {
        atomic_fetch_add(&jobs->count.orphans, 1);
        remove_folder(from);
        return WINNOW_OK;
    }
    if (rename(from, to) < 0)
        return wn_fail_errno(err, errno, "job '%s'", id);
    return wn_dir_sync(jobs->dir, err);
}

static void copy_text(char *to, size_t room, const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(to, room, "%s", s ? s : "");
}

/* What a job without a row says of itself, and where it stands. */
static bool row_from_folder(struct wn_jobs *jobs, const char *id, const json_t *o, struct wn_job_row *row)
{
    static const char *const kept[] = { "base", "seed", "optim_level", "min_accuracy", "recipe", "new_labels" };
    static const char *const asked[] = { "metadata", "suffix" };
    WN_CLEANUP(wn_freep) char *more = wn_ft_path(jobs, id, "request.json");
    json_t *request = more ? wn_json_file(more, NULL) : NULL;
    *row = (struct wn_job_row){ .stage = WN_STAGE_WORK, .status = WN_JOB_QUEUED, .doc = json_object() };
    snprintf(row->id, sizeof row->id, "%.*s", (int)sizeof row->id - 1, id);
    copy_text(row->model, sizeof row->model, o, "model");
    copy_text(row->target, sizeof row->target, o, "target");
    copy_text(row->training_file, sizeof row->training_file, request, "training_file");
    copy_text(row->validation_file, sizeof row->validation_file, request, "validation_file");
    row->created_s = json_integer_value(json_object_get(request, "created_at"));
    for (size_t i = 0; i < WN_COUNT(asked) && row->doc; i++)
        if (json_object_get(request, asked[i]))
            json_object_set(row->doc, asked[i], json_object_get(request, asked[i]));
    json_decref(request);
    for (size_t i = 0; i < WN_COUNT(kept) && row->doc; i++)
        if (json_object_get(o, kept[i]))
            json_object_set(row->doc, kept[i], json_object_get(o, kept[i]));
    if (!row->doc || !row->model[0] || !row->target[0] || strchr(row->target, '/') || row->target[0] == '.')
        return false;
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, id, "gate.json");
    json_t *gate = path ? wn_json_file(path, NULL) : NULL;
    const char *verdict = json_string_value(json_object_get(gate, "verdict"));
    if (gate)
        json_object_set(row->doc, "gate", gate);
    row->version = wn_find_published(jobs, row->target, id);
    if (row->version) { /* the registry says whether it is live; if so, the look at waiting ones finds it */
        row->stage = WN_STAGE_DONE;
        row->status = WN_JOB_SUCCEEDED;
        row->promotion = WN_PROMOTION_WAITING;
    } else if (verdict && strcmp(verdict, "refuse") == 0) {
        row->stage = WN_STAGE_DONE;
        row->status = WN_JOB_FAILED;
        row->promotion = WN_PROMOTION_REFUSED;
        json_object_set_new(
            row->doc, "error",
            json_pack("{s:s,s:O?,s:n}", "code", "gate_refused", "message", json_object_get(gate, "reason"), "param"));
    }
    row->finished_s = row->stage == WN_STAGE_DONE ? wn_wall_ms() / 1000 : 0;
    json_decref(gate);
    return true;
}

static enum winnow_status take_job_in(struct wn_jobs *jobs, const char *id, struct winnow_err *err)
{
    struct wn_job_row row = { 0 };
    enum winnow_status status = wn_db_job_get(jobs->db, id, &row, err);
    wn_job_row_done(&row);
    if (status != WINNOW_E_NOT_FOUND)
        return status;
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, id, "job.json");
    json_t *o = path ? wn_json_file(path, err) : NULL;
    status = WINNOW_OK;
    if (o && row_from_folder(jobs, id, o, &row)) {
        wn_notice("job_taken_in", "job=%s target=%s status=%s", id, row.target, wn_job_status_name(row.status));
        status = wn_db_job_save(jobs->db, &row, err);
    } else {
        wn_warning("job_unreadable", "job=%s", id);
    }
    wn_job_row_done(&row);
    json_decref(o);
    return status;
}

static enum winnow_status jobs_on_disk(struct wn_jobs *jobs, struct winnow_err *err)
{
    WN_CLEANUP(close_dir) DIR *d = opendir(jobs->dir);
    if (!d)
        return wn_fail_errno(err, errno, "folder '%s'", jobs->dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, e->d_name, "");
        if (strncmp(e->d_name, ".new-", 5) == 0)
            WN_TRY(staging(jobs, e->d_name, err));
        else if (strncmp(e->d_name, ".gone-", 6) == 0 && path)
            remove_folder(path);
        else if (wn_id_valid(e->d_name, "ftjob-") && is_folder(path))
            WN_TRY(take_job_in(jobs, e->d_name, err));
    }
    return WINNOW_OK;
}

/* Active rows become jobs in memory; called newest first. */
static bool activate(void *arg, struct wn_job_row *row)
{
    struct wn_jobs *jobs = arg;
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, row->id, "job.json");
    bool there = path && access(path, F_OK) == 0;
    struct wn_ft *ft = wn_ft_add(jobs, row);
    if (!ft)
        return false;
    if (!there)
        json_object_set_new(ft->row.doc, "lost", json_true());
    return true;
}

/* wn_db_job_each() must not be written under: what is lost is ended afterwards. */
static void settle_active(struct wn_jobs *jobs)
{
    struct wn_ft *list = NULL;
    while (jobs->active) { /* turned round: oldest first */
        struct wn_ft *ft = jobs->active;
        jobs->active = ft->next;
        ft->next = list;
        list = ft;
    }
    jobs->active = list;
    for (struct wn_ft *ft = list; ft; ft = ft->next) {
        if (json_object_get(ft->row.doc, "lost"))
            wn_ft_end(jobs, ft, WN_JOB_FAILED, "lost", "the job's folder is gone", NULL);
        else
            wn_ft_note(jobs, ft->row.id, "info", "message", NULL, "Goes on after a restart of the server");
    }
}

enum winnow_status wn_jobs_reconcile(struct wn_jobs *jobs, bool fresh, struct winnow_err *err)
{
    int64_t n, bytes;
    WN_TRY(wn_db_begin(jobs->db, err));
    enum winnow_status status = files_on_disk(jobs, fresh, err);
    if (status == WINNOW_OK)
        status = files_in_rows(jobs, err);
    if (status == WINNOW_OK)
        status = jobs_on_disk(jobs, err);
    if (status == WINNOW_OK && fresh)
        status = wn_db_settle(jobs->db, err);
    if (status != WINNOW_OK) {
        wn_db_rollback(jobs->db);
        return status;
    }
    WN_TRY(wn_db_commit(jobs->db, err));
    WN_TRY(wn_db_file_totals(jobs->db, &n, &bytes, err));
    atomic_store(&jobs->count.files, n);
    atomic_store(&jobs->count.file_bytes, bytes);
    WN_TRY(wn_db_job_each(jobs->db, WN_JOBS_ACTIVE, NULL, SIZE_MAX, activate, jobs, err));
    settle_active(jobs);
    return WINNOW_OK;
}

/* ---- retention ---- */
static void sweep_files(struct wn_jobs *jobs, int64_t before_s)
{
    struct wn_file_row rows[32];
    struct winnow_err err;
    char user[WN_ID_ROOM];
    size_t n = 0;
    if (wn_db_file_list(jobs->db, NULL, NULL, true, WN_COUNT(rows), rows, &n, &err) != WINNOW_OK)
        return;
    for (size_t i = 0; i < n && rows[i].created_s < before_s; i++)
        if (!wn_file_pinned(jobs, rows[i].id) && wn_db_file_user(jobs->db, rows[i].id, user, &err) == WINNOW_OK &&
            !user[0] && wn_file_remove(jobs, rows[i].id, &err) != WINNOW_OK)
            wn_warning("file_left", "file=%s error=%s", rows[i].id, err.msg);
}

struct old_jobs {
    int64_t before_s;
    char id[32][WN_ID_ROOM];
    size_t n;
};

static bool collect_old(void *arg, struct wn_job_row *row)
{
    struct old_jobs *old = arg;
    if (row->stage == WN_STAGE_DONE && row->finished_s < old->before_s && !json_object_get(row->doc, "removed"))
        memcpy(old->id[old->n++], row->id, WN_ID_ROOM);
    return old->n < WN_COUNT(old->id);
}

/* The folder goes, the row stays: what a version was made from can still be told. */
static void remove_job(struct wn_jobs *jobs, const char *id)
{
    struct wn_job_row row = { 0 };
    struct winnow_err err;
    WN_CLEANUP(wn_freep) char *from = wn_ft_path(jobs, id, "");
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/.gone-%s", jobs->dir, id);
    if (!from || !to || wn_db_job_get(jobs->db, id, &row, &err) != WINNOW_OK)
        return;
    json_object_set_new(row.doc, "removed", json_true());
    if (wn_db_job_save(jobs->db, &row, &err) == WINNOW_OK && rename(from, to) == 0) {
        wn_info("job_removed", "job=%s", id);
        remove_folder(to);
    }
    wn_job_row_done(&row);
}

void wn_jobs_sweep(struct wn_jobs *jobs)
{
    struct wn_jobs_settings s;
    struct winnow_err err;
    int64_t now_s = wn_wall_ms() / 1000;
    wn_jobs_settings_get(jobs, &s);
    if (s.files_keep_us)
        sweep_files(jobs, now_s - (int64_t)(s.files_keep_us / 1000000));
    if (!s.jobs_keep_us)
        return;
    struct old_jobs old = { .before_s = now_s - (int64_t)(s.jobs_keep_us / 1000000) };
    if (wn_db_job_each(jobs->db, WN_JOBS_ALL, NULL, SIZE_MAX, collect_old, &old, &err) != WINNOW_OK)
        return;
    for (size_t i = 0; i < old.n; i++)
        remove_job(jobs, old.id[i]);
}
