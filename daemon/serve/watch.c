/* watch.c: notices changes in the repositories.
 *
 * DESIGN  inotify on each root and each model's folder tells at once what comes by rename (IN_MOVED_TO: it is whole);
 *         everything else, and file systems that tell nothing, is found by a look every models.poll, or sooner while
 *         something is settling. Files inside a version's folder are not watched: programs that copy (rsync) rename
 *         each file into place, so a rename there says nothing about the others.
 *
 * LOCKS   none of its own; the watches belong to the watcher's thread. */
#include "daemon/serve/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "base/log.h"

struct watch {
    int wd;
    char *name; /* of a model; NULL: a root */
};
struct wn_watches {
    WN_VEC(struct watch) w;
};

#define MASK (IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR)

static void watch_add(struct wn_serve *serve, const char *path, const char *name)
{
    if (serve->inotify < 0)
        return;
    int wd = inotify_add_watch(serve->inotify, path, MASK);
    if (wd < 0)
        return; /* not there, or no more watches: polling finds it */
    for (size_t i = 0; i < serve->watches->w.n; i++)
        if (serve->watches->w.at[i].wd == wd)
            return;
    struct watch w = { wd, name ? wn_strdup(name) : NULL };
    if ((name && !w.name) || !wn_vec_push(&serve->watches->w, w))
        free(w.name);
}

static void watch_remove(struct wn_serve *serve, int wd)
{
    for (size_t i = 0; i < serve->watches->w.n; i++)
        if (serve->watches->w.at[i].wd == wd) {
            free(serve->watches->w.at[i].name);
            serve->watches->w.at[i] = serve->watches->w.at[--serve->watches->w.n];
            return;
        }
}

static void look_at(struct wn_serve *serve, const char *name)
{
    struct wn_served *m;
    struct winnow_err err;
    if (wn_repo_scan_model(serve, name, false, &m, &err) != WINNOW_OK) {
        wn_warning("repository_scan_failed", "model=%s error=%s", name, err.msg);
        return;
    }
    for (unsigned r = 0; r < serve->repo.n_roots; r++) {
        WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", serve->repo.root[r], name);
        if (folder)
            watch_add(serve, folder, name);
    }
    if (m && wn_loader_wanted(serve, m))
        wn_loader_sync(serve, name, false);
}

static void look_at_all(struct wn_serve *serve)
{
    char **names;
    size_t n;
    struct winnow_err err;
    for (unsigned r = 0; r < serve->repo.n_roots; r++)
        watch_add(serve, serve->repo.root[r], NULL);
    if (wn_repo_list(serve, &names, &n, &err) != WINNOW_OK) {
        wn_warning("repository_scan_failed", "error=%s", err.msg);
        return;
    }
    for (size_t i = 0; i < n && !atomic_load(&serve->watch_stop); i++)
        look_at(serve, names[i]);
    wn_repo_names_free(names, n);
    wn_strays_refresh(serve, false);
}

/* Something came by rename: look at once, and take it as it stands. */
static void moved_in(struct wn_serve *serve, const char *model, int64_t version)
{
    struct wn_served *m;
    if (!wn_model_name_valid(model) || wn_repo_scan_model(serve, model, false, &m, NULL) != WINNOW_OK || !m)
        return;
    wn_repo_moved_in(serve, model, version);
    look_at(serve, model);
}

/* Returns whether a full look is due. */
static bool on_event(struct wn_serve *serve, const struct inotify_event *e)
{
    if (e->mask & IN_IGNORED) {
        watch_remove(serve, e->wd);
        return false;
    }
    if (e->mask & IN_Q_OVERFLOW)
        return true;
    const struct watch *w = NULL;
    for (size_t i = 0; i < serve->watches->w.n && !w; i++)
        if (serve->watches->w.at[i].wd == e->wd)
            w = &serve->watches->w.at[i];
    if (!w || !e->len || e->name[0] == '.')
        return false;
    if (!(e->mask & IN_MOVED_TO))
        return true;
    char model[WN_NAME_MAX + 1];
    snprintf(model, sizeof model, "%s", w->name ? w->name : e->name);
    if (w->name && !wn_version_parse(e->name))
        return true; /* labels.txt or the like */
    moved_in(serve, model, w->name ? wn_version_parse(e->name) : 0);
    return false;
}

static bool read_events(struct wn_serve *serve)
{
    _Alignas(struct inotify_event) char buf[16384];
    bool full = false;
    for (;;) {
        ssize_t n = read(serve->inotify, buf, sizeof buf);
        if (n <= 0)
            return full;
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *e = (const void *)p;
            full |= on_event(serve, e);
            p += sizeof *e + e->len;
        }
    }
}

static void *watch(void *arg)
{
    struct wn_serve *serve = arg;
    look_at_all(serve);
    while (!atomic_load(&serve->watch_stop)) {
        pthread_mutex_lock(&serve->cat);
        uint64_t poll_us = serve->repo.poll_us, settle_us = serve->repo.settle_us;
        pthread_mutex_unlock(&serve->cat);
        uint64_t wait_us = wn_repo_unsettled(serve) ? WN_MIN(poll_us, settle_us / 4 + 10000) : poll_us;
        struct pollfd fds[2] = { { .fd = serve->wake, .events = POLLIN }, { .fd = serve->inotify, .events = POLLIN } };
        int n = poll(fds, 2, (int)WN_MIN(wait_us / 1000 + 1, (uint64_t)3600000));
        bool full = n == 0;
        if (n > 0 && (fds[0].revents & POLLIN)) {
            uint64_t count;
            full |= read(serve->wake, &count, sizeof count) == sizeof count;
        }
        if (n > 0 && (fds[1].revents & POLLIN))
            full |= read_events(serve);
        if (full && !atomic_load(&serve->watch_stop))
            look_at_all(serve);
    }
    return NULL;
}

enum winnow_status wn_watch_start(struct wn_serve *serve, struct winnow_err *err)
{
    serve->watches = calloc(1, sizeof *serve->watches);
    serve->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    serve->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (!serve->watches || serve->wake < 0)
        return wn_fail_errno(err, serve->watches ? errno : ENOMEM, "watching the repositories");
    if (serve->inotify < 0)
        wn_warning("inotify_missing", "error=%s", strerror(errno));
    int rc = wn_thread_start(&serve->watcher, "watcher", watch, serve);
    if (rc)
        return wn_fail_errno(err, rc, "starting the watcher");
    serve->watching = true;
    return WINNOW_OK;
}

void wn_watch_poke(struct wn_serve *serve)
{
    uint64_t one = 1;
    while (write(serve->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void wn_watch_stop(struct wn_serve *serve)
{
    if (serve->watching) {
        atomic_store(&serve->watch_stop, true);
        wn_watch_poke(serve);
        pthread_join(serve->watcher, NULL);
        serve->watching = false;
    }
    wn_closep(&serve->wake);
    wn_closep(&serve->inotify);
    for (size_t i = 0; serve->watches && i < serve->watches->w.n; i++)
        free(serve->watches->w.at[i].name);
    if (serve->watches)
        wn_vec_done(&serve->watches->w);
    free(WN_TAKE(serve->watches));
}
