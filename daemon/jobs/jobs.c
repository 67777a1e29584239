/* jobs.c: the jobs thread: what it owns, and how a job goes from stage to stage.
 *
 * DESIGN  One thread owns the database and decides; whatever blocks is a task of another thread that comes back with a
 *         result. A stage is entered durably before its work begins and its work can be done twice, so that a kill at
 *         any point only costs doing it again. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/log.h"
#include "base/tree.h"
#include "daemon/jobs/proc.h"

#define TICK_BUSY_MS  100
#define TICK_IDLE_MS  1000
#define SWEEP_NS      ((uint64_t)60 * 1000000000u)
#define SAVE_AGAIN_NS ((uint64_t)500000000)

int64_t wn_wall_ms(void)
{
    return wn_wall_ns() / 1000000;
}

void wn_new_id(const char *prefix, char ret[WN_ID_ROOM])
{
    uint8_t b[12];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        wn_die(__FILE__, __LINE__, "no random bytes");
    size_t n = strlen(prefix);
    memcpy(ret, prefix, n);
    for (size_t i = 0; i < sizeof b; i++)
        sprintf(ret + n + 2 * i, "%02x", b[i]);
}

bool wn_id_valid(const char *id, const char *prefix)
{
    size_t n = strlen(prefix), all = strlen(id);
    return strncmp(id, prefix, n) == 0 && all > n && all < WN_ID_ROOM && strspn(id + n, "0123456789abcdef") == all - n;
}

char *wn_ft_path(const struct wn_jobs *jobs, const char *id, const char *name)
{
    return wn_asprintf("%s/%s%s%s", jobs->dir, id, *name ? "/" : "", name);
}

/* ---- settings ---- */
void wn_jobs_reconfigure(struct wn_jobs *jobs, const struct wn_config *cfg)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->settings = (struct wn_jobs_settings){
        .max_file = cfg->files.max_file,
        .max_bytes = cfg->files.max_bytes,
        .max_files = cfg->files.max_files,
        .files_keep_us = cfg->files.keep,
        .memory = cfg->jobs.memory,
        .hang_us = cfg->jobs.hang_timeout,
        .jobs_keep_us = cfg->jobs.keep,
        .max_queued = cfg->jobs.max_queued,
        .tries = cfg->jobs.tries,
        .threads = cfg->jobs.threads,
        .enabled = cfg->jobs.enabled,
        .gate_timeout_us = cfg->gate.timeout,
        .min_rows = cfg->gate.min_rows,
        .max_anchor_rows = cfg->gate.max_anchor_rows,
        .margin = cfg->gate.margin,
        .max_cpu_ratio = cfg->gate.max_cpu_ratio,
        .eval_rows_decide = cfg->gate.without_anchor == WN_ANCHOR_EVAL_ROWS,
        .watch_enabled = cfg->watch.enabled,
        .watch_window_us = cfg->watch.window,
        .regression = { .min_requests = cfg->watch.min_requests,
                        .max_error_rate = cfg->watch.max_error_rate,
                        .max_latency_ratio = cfg->watch.max_latency_ratio,
                        .max_drift = cfg->watch.max_drift },
    };
    pthread_mutex_unlock(&jobs->lock);
}

void wn_jobs_settings_get(struct wn_jobs *jobs, struct wn_jobs_settings *ret)
{
    pthread_mutex_lock(&jobs->lock);
    *ret = jobs->settings;
    pthread_mutex_unlock(&jobs->lock);
}

/* ---- jobs in memory ---- */
struct wn_ft *wn_ft_find(struct wn_jobs *jobs, const char *id)
{
    struct wn_ft *ft = jobs->active;
    while (ft && strcmp(ft->row.id, id) != 0)
        ft = ft->next;
    return ft;
}

static void count_stage(struct wn_jobs *jobs, const struct wn_ft *ft, int by)
{
    if (ft->row.stage < WN_STAGE_DONE)
        atomic_fetch_add(&jobs->count.active[ft->row.stage], by);
}

struct wn_ft *wn_ft_add(struct wn_jobs *jobs, struct wn_job_row *row)
{
    struct wn_ft *ft = calloc(1, sizeof *ft), **end = &jobs->active;
    if (!ft || !(ft->live = json_object())) {
        free(ft);
        return NULL;
    }
    ft->row = *row;
    row->doc = NULL;
    ft->grown_ns = wn_now_ns();
    ft->shown_step = -1;
    while (*end) /* oldest first */
        end = &(*end)->next;
    *end = ft;
    count_stage(jobs, ft, 1);
    return ft;
}

static void ft_free(struct wn_ft *ft)
{
    wn_job_row_done(&ft->row);
    json_decref(ft->live);
    free(ft);
}

/* A full disk, for one: it is kept in memory and written when there is room. */
static bool save(struct wn_jobs *jobs, struct wn_ft *ft)
{
    struct winnow_err err;
    bool ok = wn_db_job_save(jobs->db, &ft->row, &err) == WINNOW_OK;
    if (!ok) {
        ft->again_ns = wn_now_ns() + SAVE_AGAIN_NS;
        if (!ft->unsaved)
            wn_error("job_save_failed", "job=%s error=%s", ft->row.id, err.msg);
    } else if (ft->unsaved) {
        wn_notice("job_saved", "job=%s", ft->row.id);
    }
    ft->unsaved = !ok;
    return ok;
}

void wn_ft_note(struct wn_jobs *jobs, const char *id, const char *level, const char *type, const json_t *data,
                const char *fmt, ...)
{
    char text[1024], shown[sizeof text];
    struct winnow_err err;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(shown, sizeof shown, "%s", text);
    wn_serve_hide_folders(jobs->serve, shown);
    if (wn_db_event_add(jobs->db, id, wn_wall_ms(), level, type, shown, data, &err) != WINNOW_OK)
        wn_error("job_event_failed", "job=%s error=%s", id, err.msg);
    if (strcmp(type, "metrics") != 0)
        wn_log(strcmp(level, "error") == 0  ? WN_LOG_ERROR
               : strcmp(level, "warn") == 0 ? WN_LOG_WARNING
                                            : WN_LOG_INFO,
               "job", "job=%s message=%s", id, text);
}

/* For tests: WINNOW_JOBS_CRASH=before:publish or after:publish ends the process there as a power cut would. */
static void crash_here(const char *when, enum wn_stage stage)
{
    static const char *const name[] = { "new", "work", "gate", "publish", "promote", "anchor", "done" };
    const char *point = getenv("WINNOW_JOBS_CRASH");
    size_t n = strlen(when);
    if (point && strncmp(point, when, n) == 0 && strcmp(point + n, name[stage]) == 0)
        kill(getpid(), SIGKILL);
}

void wn_ft_enter(struct wn_jobs *jobs, struct wn_ft *ft, enum wn_stage stage)
{
    crash_here("before:", stage);
    count_stage(jobs, ft, -1);
    ft->row.stage = stage;
    ft->failures = 0;
    ft->again_ns = 0;
    count_stage(jobs, ft, 1);
    save(jobs, ft);
    crash_here("after:", stage);
}

void wn_ft_end(struct wn_jobs *jobs, struct wn_ft *ft, enum wn_job_status status, const char *code, const char *message,
               const char *param)
{
    ft->row.status = status;
    ft->row.finished_s = wn_wall_ms() / 1000;
    if (code) {
        WN_CLEANUP(wn_freep) char *shown = message ? wn_strdup(message) : NULL;
        if (shown)
            wn_serve_hide_folders(jobs->serve, shown);
        json_object_set_new(
            ft->row.doc, "error",
            json_pack("{s:s,s:s,s:s?}", "code", code, "message", shown ? shown : "out of memory", "param", param));
    }
    const json_t *sparsity = json_object_get(json_object_get(ft->row.doc, "metrics"), "sparsity");
    switch (status) {
    case WN_JOB_SUCCEEDED:
        atomic_fetch_add(&jobs->count.succeeded, 1);
        wn_ft_note(jobs, ft->row.id, "info", "state", json_object_get(ft->row.doc, "metrics"),
                   "The job has succeeded: %s@%" PRId64 ", sparsity %.0f %%", ft->row.target, ft->row.version,
                   100 * json_number_value(sparsity));
        break;
    case WN_JOB_CANCELLED:
        atomic_fetch_add(&jobs->count.cancelled, 1);
        wn_ft_note(jobs, ft->row.id, "warn", "state", NULL, "The job was cancelled");
        break;
    default:
        atomic_fetch_add(&jobs->count.failed, 1);
        wn_ft_note(jobs, ft->row.id, "error", "state", NULL, "The job has failed: %s (%s)", message ? message : "",
                   code ? code : "");
        break;
    }
    wn_ft_enter(jobs, ft, WN_STAGE_DONE);
}

/* ---- the thread ---- */
static void forget_done(struct wn_jobs *jobs)
{
    for (struct wn_ft **at = &jobs->active; *at;) {
        struct wn_ft *ft = *at;
        if (ft->row.stage < WN_STAGE_DONE || ft->busy || ft->unsaved) {
            at = &ft->next;
            continue;
        }
        *at = ft->next;
        ft_free(ft);
    }
}

static int tick(void *arg)
{
    struct wn_jobs *jobs = arg;
    struct wn_jobs_settings s;
    wn_jobs_settings_get(jobs, &s);
    uint64_t now = wn_now_ns();
    for (struct wn_ft *ft = jobs->active; ft; ft = ft->next) {
        if (ft->busy || ft->again_ns > now || atomic_load(&jobs->stopping))
            continue;
        if (ft->unsaved && !save(jobs, ft))
            continue;
        if (ft->row.stage == WN_STAGE_WORK) {
            wn_ft_progress(jobs, ft);
            wn_ft_check_hang(jobs, ft, &s);
        }
        if (ft->row.stage != WN_STAGE_WORK)
            wn_ft_advance(jobs, ft);
    }
    forget_done(jobs);
    if (!jobs->looked && wn_serve_ready(jobs->serve)) {
        jobs->looked = true;
        wn_watch_begin(jobs);
        wn_jobs_look_waiting(jobs);
    }
    if (now - jobs->sweep_ns > SWEEP_NS) {
        jobs->sweep_ns = now;
        wn_jobs_sweep(jobs);
    }
    int wait = wn_supervise(jobs), watch = wn_watch_tick(jobs, &s);
    return WN_MIN(WN_MIN(wait, watch), jobs->active ? TICK_BUSY_MS : TICK_IDLE_MS);
}

static void on_serve_event(void *arg, const char *event, const char *model, int64_t version, uint64_t generation,
                           const char *detail)
{
    if (strcmp(event, "live") == 0 || strcmp(event, "rollback") == 0 || strcmp(event, "load") == 0)
        wn_jobs_on_live(arg, model, version, generation);
    if (strcmp(event, "live") == 0 || strcmp(event, "rollback") == 0)
        wn_watch_on_live(arg, model, version, *event == 'r');
}

/* ---- life ---- */
static enum winnow_status make_folders(struct wn_jobs *jobs, const char *state, struct winnow_err *err)
{
    WN_TRY(wn_tree_make(state, err));
    jobs->state = realpath(state, NULL);
    if (!jobs->state)
        return wn_fail_errno(err, errno, "folder '%s'", state);
    jobs->files = wn_asprintf("%s/files", jobs->state);
    jobs->dir = wn_asprintf("%s/jobs", jobs->state);
    jobs->anchors = wn_asprintf("%s/anchors", jobs->state);
    if (!jobs->files || !jobs->dir || !jobs->anchors)
        return wn_fail(err, WINNOW_E_NOMEM, "jobs");
    WN_TRY(wn_tree_make(jobs->files, err));
    WN_TRY(wn_tree_make(jobs->dir, err));
    return wn_tree_make(jobs->anchors, err);
}

static enum winnow_status copy_repositories(struct wn_jobs *jobs, const struct wn_config *cfg, struct winnow_err *err)
{
    size_t n = cfg->models.repositories.n;
    const char **at = wn_arena_calloc(&jobs->arena, n + 1, sizeof *at);
    for (size_t i = 0; at && i < n; i++) {
        const char *path = cfg->models.repositories.at[i];
        if (!(at[i] = wn_arena_strndup(&jobs->arena, path, strlen(path))))
            at = NULL;
    }
    if (!at)
        return wn_fail(err, WINNOW_E_NOMEM, "jobs");
    jobs->repositories = (struct wn_config_list){ at, n };
    return WINNOW_OK;
}

static enum winnow_status start_threads(struct wn_jobs *jobs, struct winnow_err *err)
{
    WN_TRY(wn_tasks_start(&jobs->main, "jobs", tick, jobs, err));
    WN_TRY(wn_tasks_start(&jobs->disk, "jobs-disk", NULL, NULL, err));
    WN_TRY(wn_tasks_start(&jobs->chores, "jobs-chores", NULL, NULL, err));
    return wn_tasks_start(&jobs->gate, "jobs-gate", NULL, NULL, err);
}

static enum winnow_status set_up(struct wn_jobs *jobs, const struct wn_config *cfg, struct winnow_err *err)
{
    bool fresh;
    WN_TRY(make_folders(jobs, cfg->models.state, err));
    WN_TRY(copy_repositories(jobs, cfg, err));
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/winnow.db", jobs->state);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "jobs");
    WN_TRY(wn_db_open(path, &jobs->db, &fresh, err));
    WN_TRY(wn_jobs_reconcile(jobs, fresh, err));
    jobs->start_worker = cfg->jobs.enabled && *cfg->jobs.worker;
    jobs->worker = wn_proc_find(*cfg->jobs.worker ? cfg->jobs.worker : "winnow-worker");
    jobs->evaluator = wn_proc_find(cfg->jobs.evaluator);
    if (!jobs->worker && jobs->start_worker)
        wn_warning("worker_missing", "program=%s effect=%s", cfg->jobs.worker,
                   "jobs wait until a worker watches the folder");
    if (!jobs->evaluator)
        wn_warning("evaluator_missing", "program=%s effect=%s", cfg->jobs.evaluator,
                   "nothing is promoted automatically");
    WN_TRY(start_threads(jobs, err));
    wn_serve_listen(jobs->serve, on_serve_event, jobs);
    return WINNOW_OK;
}

enum winnow_status wn_jobs_new(const struct wn_config *cfg, struct wn_serve *serve, struct wn_jobs **ret,
                               struct winnow_err *err)
{
    struct wn_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return wn_fail(err, WINNOW_E_NOMEM, "jobs");
    jobs->magic = WN_JOBS_MAGIC;
    jobs->serve = serve;
    jobs->sweep_ns = wn_now_ns();
    wn_arena_init(&jobs->arena, 0);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_mutex_init(&jobs->anchor_lock, NULL);
    wn_jobs_reconfigure(jobs, cfg);
    enum winnow_status status = set_up(jobs, cfg, err);
    if (status != WINNOW_OK) {
        (void)wn_jobs_stop(jobs);
        wn_jobs_free(jobs);
        return status;
    }
    *ret = jobs;
    return WINNOW_OK;
}

static void nothing(struct wn_task *task)
{
    free(task);
}

void wn_jobs_drain(struct wn_jobs *jobs)
{
    WN_CHECK_MAGIC(jobs, WN_JOBS_MAGIC);
    atomic_store(&jobs->draining, true);
    atomic_store(&jobs->stopping, true);
    struct wn_task *wake = calloc(1, sizeof *wake);
    if (wake) {
        wake->run = nothing;
        if (!wn_tasks_add(&jobs->main, wake))
            free(wake);
    }
}

bool wn_jobs_drained(struct wn_jobs *jobs)
{
    WN_CHECK_MAGIC(jobs, WN_JOBS_MAGIC);
    return atomic_load(&jobs->worker_gone);
}

unsigned wn_jobs_stop(struct wn_jobs *jobs)
{
    bool ran = jobs->main.started && !jobs->main.stop;
    wn_jobs_drain(jobs);
    wn_tasks_stop(&jobs->disk);
    wn_tasks_stop(&jobs->chores);
    wn_tasks_stop(&jobs->gate);
    wn_tasks_stop(&jobs->main);
    wn_supervisor_stop(jobs);
    return ran ? wn_note_unfinished(jobs) : 0;
}

void wn_jobs_free(struct wn_jobs *jobs)
{
    if (!jobs)
        return;
    WN_CHECK_MAGIC(jobs, WN_JOBS_MAGIC);
    wn_tasks_free(&jobs->disk);
    wn_tasks_free(&jobs->chores);
    wn_tasks_free(&jobs->gate);
    wn_tasks_free(&jobs->main);
    wn_watch_free(jobs);
    while (jobs->active) {
        struct wn_ft *ft = jobs->active;
        jobs->active = ft->next;
        ft_free(ft);
    }
    wn_db_close(jobs->db);
    wn_vec_done(&jobs->pins);
    pthread_mutex_destroy(&jobs->lock);
    pthread_mutex_destroy(&jobs->anchor_lock);
    free(jobs->state);
    free(jobs->files);
    free(jobs->dir);
    free(jobs->anchors);
    free(jobs->worker);
    free(jobs->evaluator);
    wn_arena_done(&jobs->arena);
    jobs->magic = 0;
    free(jobs);
}
