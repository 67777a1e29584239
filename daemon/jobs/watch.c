/* watch.c: a version that a job made and that went live is watched for watch.window: error rate, CPU time per row and
 * the classes answered against the window of the version before it. A regression rolls back.
 *
 * DESIGN  Only versions made here are watched: what a person puts into a repository is his decision, and may answer as
 *         differently as he likes. The version before is judged by its last half to whole window: its record less the
 *         older of two marks, which are moved on every half window. Nothing of this is on the disk: counters begin at
 *         zero with the process, so a restart ends the watch.
 * THREAD  jobs, except on_live and rolled_back, which post. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "daemon/jobs/internal.h"
#include "daemon/jobs/regression.h"

#define LOOK_NS     UINT64_C(1000000000)
#define MAX_WATCHED 4096 /* models; later ones are not watched */

struct wn_watched {
    struct wn_watched *next;
    char model[160];
    int64_t version;                /* live */
    struct wn_serve_record mark[2]; /* of it; the older first */
    uint64_t mark_ns;
    /* of a watch under way */
    bool on, going_back;
    int64_t version_before;
    struct wn_serve_record before, start;
    uint64_t since_ns, look_ns;
    char job[WN_ID_ROOM];
};

static struct wn_watched *find(struct wn_jobs *jobs, const char *model)
{
    size_t n = 0;
    for (struct wn_watched *w = jobs->watched; w; w = w->next, n++)
        if (strcmp(w->model, model) == 0)
            return w;
    struct wn_watched *w = n < MAX_WATCHED ? calloc(1, sizeof *w) : NULL;
    if (!w)
        return NULL;
    snprintf(w->model, sizeof w->model, "%s", model);
    w->next = jobs->watched;
    jobs->watched = w;
    return w;
}

static void set_marks(struct wn_jobs *jobs, struct wn_watched *w)
{
    wn_serve_record(jobs->serve, w->model, w->version, &w->mark[1]);
    w->mark[0] = w->mark[1];
    w->mark_ns = wn_now_ns();
}

static void end_watch(struct wn_jobs *jobs, struct wn_watched *w)
{
    if (w->on)
        atomic_fetch_sub(&jobs->count.watched_now, 1);
    w->on = w->going_back = false;
}

/* ---- the job's own trail ---- */

struct search {
    const struct wn_watched *w;
    char id[WN_ID_ROOM];
};

static bool made_it(void *arg, struct wn_job_row *row)
{
    struct search *s = arg;
    if (row->version != s->w->version || strcmp(row->target, s->w->model) != 0)
        return true;
    memcpy(s->id, row->id, sizeof s->id);
    return false;
}

static bool find_job(struct wn_jobs *jobs, struct wn_watched *w)
{
    struct search s = { .w = w };
    struct winnow_err err;
    if (wn_db_job_each(jobs->db, WN_JOBS_ALL, NULL, SIZE_MAX, made_it, &s, &err) != WINNOW_OK)
        wn_error("watch_job", "model=%s error=%s", w->model, err.msg);
    memcpy(w->job, s.id, sizeof w->job);
    return *w->job;
}

static json_t *figures_json(const char *verdict, const struct wn_regression_figures *f)
{
    return json_pack("{s:s,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f}", "verdict", verdict, "requests_before",
                     (json_int_t)f->requests_before, "requests", (json_int_t)f->requests, "errors_before",
                     f->errors_before, "errors", f->errors, "cpu_us_before", f->us_before, "cpu_us", f->us, "drift",
                     f->drift, "drift_by_chance", f->chance);
}

/* What came of the watch, into the job's row; `back`: it is not promoted any more. */
static void keep_verdict(struct wn_jobs *jobs, const struct wn_watched *w, json_t *figures, bool back)
{
    struct wn_ft *ft = wn_ft_find(jobs, w->job);
    struct wn_job_row found = { 0 }, *row = ft ? &ft->row : &found;
    struct winnow_err err;
    if (!ft && wn_db_job_get(jobs->db, w->job, &found, &err) != WINNOW_OK) {
        wn_error("watch_job", "job=%s error=%s", w->job, err.msg);
        return;
    }
    json_object_set(row->doc, "watch", figures);
    if (back)
        row->promotion = WN_PROMOTION_ROLLED_BACK;
    if (wn_db_job_save(jobs->db, row, &err) != WINNOW_OK)
        wn_error("watch_job", "job=%s error=%s", w->job, err.msg);
    wn_job_row_done(&found);
}

/* ---- going back ---- */

struct back {
    struct wn_task task;
    struct wn_jobs *jobs;
    char model[160], reason[WN_REGRESSION_REASON];
    int64_t version;
    enum wn_regression verdict;
    struct wn_regression_figures figures;
    enum winnow_status status;
    struct winnow_err err;
};

static void went_back(struct wn_task *task)
{
    struct back *b = WN_CONTAINER_OF(task, struct back, task);
    struct wn_watched *w = find(b->jobs, b->model);
    const char *why = wn_regression_name(b->verdict);
    if (w && w->going_back) {
        bool back = b->status == WINNOW_OK;
        json_t *figures = figures_json(why, &b->figures);
        if (back) {
            atomic_fetch_add(&b->jobs->count.watch_back[b->verdict], 1);
            wn_warning("watch_rolled_back", "model=%s version=%" PRId64 " to=%" PRId64 " job=%s verdict=%s reason=%s",
                       w->model, b->version, w->version_before, w->job, why, b->reason);
            wn_ft_note(b->jobs, w->job, "warn", "watch", figures, "Rolled back to version %" PRId64 ": %s",
                       w->version_before, b->reason);
        } else {
            wn_ft_note(b->jobs, w->job, "error", "watch", figures,
                       "Does worse than before (%s), and cannot go back: %s", b->reason, b->err.msg);
        }
        keep_verdict(b->jobs, w, figures, back);
        json_decref(figures);
        end_watch(b->jobs, w);
    }
    free(b);
}

/* On a loader thread. */
static void rolled_back(void *arg, enum winnow_status status, const struct winnow_err *err)
{
    struct back *b = arg;
    b->status = status;
    if (err && status != WINNOW_OK)
        b->err = *err;
    if (!wn_tasks_add(&b->jobs->main, &b->task))
        free(b);
}

static bool still_live(struct wn_jobs *jobs, const struct wn_watched *w)
{
    struct wn_gen *gen = NULL;
    bool live =
        wn_serve_acquire(jobs->serve, w->model, NULL, &gen, NULL) == WINNOW_OK && wn_gen_version(gen) == w->version;
    wn_gen_unref(gen);
    return live;
}

static void go_back(struct wn_jobs *jobs, struct wn_watched *w, enum wn_regression verdict,
                    const struct wn_regression_figures *f, const char *reason)
{
    struct back *b = still_live(jobs, w) ? calloc(1, sizeof *b) : NULL;
    if (!b)
        return; /* looked at again in a second, or another version's news is on its way */
    *b = (struct back){ .task.run = went_back, .jobs = jobs, .version = w->version, .verdict = verdict, .figures = *f };
    memcpy(b->model, w->model, sizeof b->model);
    snprintf(b->reason, sizeof b->reason, "%s", reason);
    w->going_back = true;
    wn_serve_rollback(jobs->serve, w->model, "watch", rolled_back, b);
}

/* ---- looking ---- */

static void look(struct wn_jobs *jobs, struct wn_watched *w, const struct wn_jobs_settings *s, uint64_t now)
{
    struct wn_serve_record after;
    struct wn_regression_figures f;
    char reason[WN_REGRESSION_REASON];
    w->look_ns = now;
    wn_serve_record(jobs->serve, w->model, w->version, &after);
    wn_serve_record_less(&after, &w->start);
    enum wn_regression verdict = wn_regression_decide(&s->regression, &w->before, &after, &f, reason);
    if (verdict != WN_REGRESSION_NONE) {
        go_back(jobs, w, verdict, &f, reason);
    } else if (now - w->since_ns > s->watch_window_us * 1000) {
        json_t *figures = figures_json("none", &f);
        wn_ft_note(jobs, w->job, "info", "watch", figures, "Watched as version %" PRId64 ", which stays: %s",
                   w->version, reason);
        keep_verdict(jobs, w, figures, false);
        json_decref(figures);
        end_watch(jobs, w);
    }
}

int wn_watch_tick(struct wn_jobs *jobs, const struct wn_jobs_settings *s)
{
    uint64_t now = wn_now_ns();
    int wait = INT32_MAX;
    for (struct wn_watched *w = jobs->watched; w; w = w->next) {
        if (now - w->mark_ns > s->watch_window_us * 500) {
            w->mark[0] = w->mark[1];
            wn_serve_record(jobs->serve, w->model, w->version, &w->mark[1]);
            w->mark_ns = now;
        }
        if (w->on && !s->watch_enabled)
            end_watch(jobs, w);
        if (!w->on || w->going_back)
            continue;
        if (now - w->look_ns >= LOOK_NS)
            look(jobs, w, s, now);
        wait = (int)(LOOK_NS / 1000000);
    }
    return wait;
}

/* ---- news of the registry ---- */

struct news {
    struct wn_task task;
    struct wn_jobs *jobs;
    char model[160];
    int64_t version;
    bool back; /* by a rollback: known, and not watched again */
};

static void start_watch(struct wn_jobs *jobs, struct wn_watched *w, int64_t before,
                        const struct wn_serve_record *record)
{
    w->on = true;
    w->going_back = false;
    w->version_before = before;
    w->before = *record;
    w->start = w->mark[1];
    w->since_ns = w->look_ns = wn_now_ns();
    atomic_fetch_add(&jobs->count.watched_now, 1);
    wn_notice("watch_begins", "model=%s version=%" PRId64 " before=%" PRId64 " job=%s requests_before=%" PRIu64,
              w->model, w->version, before, w->job, record->success + record->failure);
}

static void take_news(struct wn_task *task)
{
    struct news *n = WN_CONTAINER_OF(task, struct news, task);
    struct wn_jobs *jobs = n->jobs;
    struct wn_watched *w = find(jobs, n->model);
    struct wn_jobs_settings s;
    wn_jobs_settings_get(jobs, &s);
    if (w && w->version != n->version && !(w->going_back && n->back)) {
        int64_t before = w->version;
        struct wn_serve_record record;
        wn_serve_record(jobs->serve, w->model, before, &record);
        wn_serve_record_less(&record, &w->mark[0]);
        if (w->on)
            wn_ft_note(jobs, w->job, "info", "watch", NULL,
                       "No longer watched: version %" PRId64 " went live in its place", n->version);
        end_watch(jobs, w);
        w->version = n->version;
        set_marks(jobs, w);
        if (before && !n->back && s.watch_enabled && find_job(jobs, w))
            start_watch(jobs, w, before, &record);
    } else if (w && w->going_back && n->back) { /* ours: went_back() tells the rest */
        w->version = n->version;
        set_marks(jobs, w);
    }
    free(n);
}

void wn_watch_on_live(struct wn_jobs *jobs, const char *model, int64_t version, bool back)
{
    struct news *n = calloc(1, sizeof *n);
    if (!n)
        return;
    *n = (struct news){ .task.run = take_news, .jobs = jobs, .version = version, .back = back };
    snprintf(n->model, sizeof n->model, "%s", model);
    if (!wn_tasks_add(&jobs->main, &n->task))
        free(n);
}

void wn_watch_begin(struct wn_jobs *jobs)
{
    struct wn_index_entry *e = NULL;
    size_t n = 0;
    struct winnow_err err;
    if (wn_serve_index(jobs->serve, NULL, &e, &n, &err) != WINNOW_OK) {
        wn_error("watch", "error=%s", err.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct wn_watched *w = e[i].live ? find(jobs, e[i].name) : NULL;
        if (w && !w->version) {
            w->version = e[i].version;
            set_marks(jobs, w);
        }
    }
    wn_index_free(e, n);
}

void wn_watch_free(struct wn_jobs *jobs)
{
    while (jobs->watched) {
        struct wn_watched *w = jobs->watched;
        jobs->watched = w->next;
        free(w);
    }
}
