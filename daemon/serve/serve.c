/* serve.c: the registry's life: start, new settings, end; and who is told of events.
 *
 * THREADS  watcher (watch.c) looks at folders · loaders (loader.c) run one task per model at a time, each load in a
 *          thread of low priority (generation.c) · executors (executor.c) run batches, each with a pool · deadlines
 *          (deadline.c) ends jobs whose time has come · reaper (registry.c) frees generations.
 * LOCKS    internal.h. listen is a leaf: listeners are copied and called without it. */
#include "daemon/serve/internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"

/* ---- threads and clocks ---- */

struct start {
    void *(*fn)(void *);
    void *arg;
    char name[16];
};

static void *trampoline(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    pthread_setname_np(pthread_self(), s.name);
    return s.fn(s.arg);
}

int wn_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
    struct start *s = calloc(1, sizeof *s);
    if (!s)
        return ENOMEM;
    s->fn = fn;
    s->arg = arg;
    memcpy(s->name, name, WN_MIN(strlen(name), sizeof s->name - 1));
    int rc = pthread_create(ret, NULL, trampoline, s);
    if (rc)
        free(s);
    return rc;
}

void wn_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void wn_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t at_ns)
{
    struct timespec ts = { .tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u) };
    pthread_cond_timedwait(cond, lock, &ts);
}

/* ---- events ---- */

void wn_serve_listen(struct wn_serve *serve, wn_serve_event_fn *fn, void *arg)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    pthread_mutex_lock(&serve->listen);
    bool full = serve->n_listeners == WN_MAX_LISTENERS;
    if (!full) {
        serve->listener[serve->n_listeners].fn = fn;
        serve->listener[serve->n_listeners++].arg = arg;
    }
    pthread_mutex_unlock(&serve->listen);
    if (full)
        wn_error("too_many_listeners", "limit=%d", WN_MAX_LISTENERS);
}

void wn_serve_emit(struct wn_serve *serve, const char *event, const char *model, int64_t version, uint64_t generation,
                   const char *detail)
{
    for (unsigned i = 0;; i++) {
        pthread_mutex_lock(&serve->listen);
        wn_serve_event_fn *fn = i < serve->n_listeners ? serve->listener[i].fn : NULL;
        void *arg = fn ? serve->listener[i].arg : NULL;
        pthread_mutex_unlock(&serve->listen);
        if (!fn)
            break;
        fn(arg, event, model, version, generation, detail);
    }
}

/* Each `folder`/ in text goes; the folder itself becomes its last name. */
static void hide_folder(char *text, const char *folder, size_t n)
{
    while (n && folder[n - 1] == '/')
        n--;
    if (n < 2 || folder[0] != '/')
        return;
    size_t base = n;
    while (folder[base - 1] != '/')
        base--;
    for (char *at = text; (at = strchr(at, '/')) != NULL; at += *at != '\0') {
        if (strncmp(at, folder, n) != 0 || isalnum((unsigned char)at[n]) || (at[n] && strchr("._-", at[n])))
            continue;
        size_t cut = at[n] == '/' ? n + strspn(at + n, "/") : base;
        memmove(at, at + cut, strlen(at + cut) + 1);
    }
}

void wn_serve_hide_folders(const struct wn_serve *serve, char *text)
{
    const struct wn_repo_settings *r = &serve->repo; /* the roots stay as they are */
    for (unsigned i = 0; i < r->n_roots; i++)
        hide_folder(text, r->root[i], strlen(r->root[i]));
    hide_folder(text, r->root[0], strlen(r->root[0]) - strlen("/models"));
}

bool wn_serve_ready(struct wn_serve *serve)
{
    return atomic_load_explicit(&serve->initial_left, memory_order_acquire) == 0;
}

/* ---- settings ---- */

static void apply(struct wn_serve *serve, const struct wn_config *cfg)
{
    pthread_mutex_lock(&serve->cat);
    serve->repo.poll_us = cfg->models.poll;
    serve->repo.settle_us = cfg->models.settle;
    serve->repo.max_file = cfg->models.max_file;
    serve->repo.max_memory = cfg->models.max_memory;
    serve->repo.max_cache = cfg->models.cache;
    serve->repo.loop_us = cfg->models.loop_time;
    serve->repo.keep_versions = cfg->models.keep_versions;
    pthread_mutex_unlock(&serve->cat);
    pthread_mutex_lock(&serve->batch);
    serve->bs.max_wait_ns = cfg->batch.max_wait * 1000;
    serve->bs.timeout_ns = cfg->batch.timeout * 1000;
    serve->bs.max_requests = (uint64_t)cfg->batch.queue_requests;
    serve->bs.max_rows = (uint64_t)cfg->batch.queue_rows;
    serve->bs.max_bytes = cfg->batch.queue_bytes;
    serve->bs.max_batch = cfg->batch.max_batch;
    pthread_mutex_unlock(&serve->batch);
    atomic_store(&serve->max_batch, cfg->batch.max_batch);
    atomic_store(&serve->loop_ns, cfg->engine.loop_time * 1000);
}

void wn_serve_reconfigure(struct wn_serve *serve, const struct wn_config *cfg)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    apply(serve, cfg);
    wn_watch_poke(serve);
}

static enum winnow_status take_roots(struct wn_serve *serve, const struct wn_config *cfg, struct winnow_err *err)
{
    struct wn_repo_settings *r = &serve->repo;
    r->root[r->n_roots++] = wn_asprintf("%s/models", cfg->models.state);
    r->cache = wn_asprintf("%s/cache", cfg->models.state);
    if (!r->cache)
        return wn_fail(err, WINNOW_E_NOMEM, "folder of compiled models");
    for (size_t i = 0; i < cfg->models.repositories.n && r->n_roots < WN_MAX_ROOTS; i++)
        r->root[r->n_roots++] = wn_strdup(cfg->models.repositories.at[i]);
    for (unsigned i = 0; i < r->n_roots; i++)
        if (!r->root[i])
            return wn_fail(err, WINNOW_E_NOMEM, "list of repositories");
    if (mkdir(cfg->models.state, 0777) != 0 && errno != EEXIST)
        wn_warning("state_folder_missing", "path=%s error=%s", cfg->models.state, strerror(errno));
    else if (mkdir(r->root[0], 0777) != 0 && errno != EEXIST)
        wn_warning("state_folder_missing", "path=%s error=%s", r->root[0], strerror(errno));
    for (unsigned i = 1; i < r->n_roots; i++) {
        struct stat st;
        if (stat(r->root[i], &st) != 0 || !S_ISDIR(st.st_mode))
            wn_warning("repository_missing", "path=%s", r->root[i]);
    }
    return WINNOW_OK;
}

/* ---- life ---- */

/* Every model found now is loaded in the background; what is found later does not count for readiness. */
static enum winnow_status first_scan(struct wn_serve *serve, struct winnow_err *err)
{
    char **names;
    size_t n, kept = 0;
    WN_TRY(wn_repo_list(serve, &names, &n, err));
    enum winnow_status status = WINNOW_OK;
    for (size_t i = 0; i < n && status == WINNOW_OK; i++) {
        struct wn_served *m;
        status = wn_repo_scan_model(serve, names[i], true, &m, err);
        if (status != WINNOW_OK || !m || !wn_loader_wanted(serve, m))
            free(names[i]);
        else
            names[kept++] = names[i];
        names[i] = i < kept ? names[i] : NULL;
    }
    atomic_store(&serve->initial_left, status == WINNOW_OK ? kept : 0);
    for (size_t i = 0; i < kept && status == WINNOW_OK; i++)
        wn_loader_sync(serve, names[i], true);
    wn_repo_names_free(names, n);
    return status;
}

static enum winnow_status start(struct wn_serve *serve, const struct wn_config *cfg, struct winnow_err *err)
{
    if (!(serve->reaper = wn_reaper_new()))
        return wn_fail(err, WINNOW_E_NOMEM, "starting the reaper");
    WN_TRY(take_roots(serve, cfg, err));
    apply(serve, cfg);
    WN_TRY(wn_executor_start(serve, cfg->engine.threads, cfg->engine.streams, err));
    WN_TRY(wn_deadline_start(serve, err));
    WN_TRY(first_scan(serve, err));
    wn_strays_refresh(serve, true);
    WN_TRY(wn_loader_start(serve, (unsigned)cfg->models.load_threads, err));
    return wn_watch_start(serve, err);
}

enum winnow_status wn_serve_new(const struct wn_config *cfg, struct wn_serve **ret_serve, struct winnow_err *err)
{
    struct wn_serve *serve = calloc(1, sizeof *serve);
    if (!serve)
        return wn_fail(err, WINNOW_E_NOMEM, "registry of models");
    serve->magic = WN_SERVE_MAGIC;
    serve->wake = serve->inotify = -1;
    pthread_mutex_t *lock[] = { &serve->reg, &serve->cat, &serve->add, &serve->tasks, &serve->batch, &serve->listen };
    for (size_t i = 0; i < WN_COUNT(lock); i++)
        pthread_mutex_init(lock[i], NULL);
    pthread_cond_t *cond[] = { &serve->tasks_cond, &serve->work, &serve->timer_cond, &serve->idle_cond };
    for (size_t i = 0; i < WN_COUNT(cond); i++)
        wn_cond_init(cond[i]);
    enum winnow_status status = start(serve, cfg, err);
    if (status != WINNOW_OK) {
        wn_serve_free(serve, 0);
        return status;
    }
    *ret_serve = serve;
    return WINNOW_OK;
}

/* No new jobs; those in flight may finish until the grace is over, then the queued ones fail. */
static void drain(struct wn_serve *serve, uint64_t grace_us)
{
    uint64_t until = wn_now_ns() + WN_MIN(grace_us, (uint64_t)86400 * 1000000u) * 1000u;
    pthread_mutex_lock(&serve->batch);
    serve->stopping = true;
    pthread_cond_broadcast(&serve->work);
    while ((serve->queued || serve->running) && wn_now_ns() < until)
        wn_cond_wait_until(&serve->idle_cond, &serve->batch, WN_MIN(until, wn_now_ns() + 50000000u));
    pthread_mutex_unlock(&serve->batch);
    wn_batch_fail_queued(serve);
}

static void free_catalogue(struct wn_serve *serve)
{
    wn_reg_done(serve);
    for (size_t i = 0; serve->table && i < serve->table->n; i++) {
        struct wn_served *m = serve->table->at[i];
        for (size_t k = 0; k < m->counters.n; k++)
            free(m->counters.at[k]);
        wn_vec_done(&m->counters);
    }
}

void wn_serve_free(struct wn_serve *serve, uint64_t grace_us)
{
    if (!serve)
        return;
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    wn_watch_stop(serve);
    drain(serve, grace_us);
    wn_loader_stop(serve);
    wn_executor_stop(serve);
    wn_deadline_stop(serve);
    free_catalogue(serve);
    wn_reaper_stop(serve->reaper);
    for (unsigned i = 0; i < serve->n_streams; i++)
        winnow_pool_free(wn_executor_pool(serve, i));
    free(serve->stream);
    for (size_t i = 0; serve->table && i < serve->table->n; i++)
        free(serve->table->at[i]);
    free(serve->table);
    wn_strays_free(serve->strays, serve->n_strays);
    for (unsigned i = 0; i < serve->repo.n_roots; i++)
        free(serve->repo.root[i]);
    free(serve->repo.cache);
    serve->magic = 0;
    free(serve);
}
