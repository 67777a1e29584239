/* watch.c: a folder of jobs, one after the other, oldest first.
 *
 * Woken by inotify, and by a look of its own every few seconds for what inotify does not tell (a lock that was dropped,
 * a network file system). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/vec.h"
#include "sparsify/worker/worker.h"

#define LOOK_MS 2000

struct waiting {
    char *dir;
    struct timespec since;
};

struct queue {
    WN_VEC(struct waiting) v;
};

static void queue_done(struct queue *q)
{
    for (size_t i = 0; i < q->v.n; i++)
        free(q->v.at[i].dir);
    wn_vec_done(&q->v);
}

static bool exists(const char *dir, const char *name, struct timespec *ret_since)
{
    struct stat st;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name);
    if (!path || stat(path, &st) != 0)
        return false;
    if (ret_since)
        *ret_since = st.st_mtim;
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct waiting *x = a, *y = b;
    if (x->since.tv_sec != y->since.tv_sec)
        return x->since.tv_sec < y->since.tv_sec ? -1 : 1;
    if (x->since.tv_nsec != y->since.tv_nsec)
        return x->since.tv_nsec < y->since.tv_nsec ? -1 : 1;
    return strcmp(x->dir, y->dir);
}

/* Job directories that want work: job.json is there, result.json is not, nobody paused them. */
static bool look(const char *dir, int inotify, struct queue *q)
{
    DIR *d = opendir(dir);
    if (!d)
        return false;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        struct waiting w = { .dir = wn_asprintf("%s/%s", dir, e->d_name) };
        if (!(ok = w.dir))
            break;
        bool job = exists(w.dir, "job.json", &w.since);
        if (!exists(w.dir, "work/result.json", NULL) &&
            !(job && exists(w.dir, "pause", NULL) && !exists(w.dir, "cancel", NULL)) && job) {
            ok = wn_vec_push(&q->v, w);
            if (!ok)
                free(w.dir);
        } else {
            if (!exists(w.dir, "work/result.json", NULL)) /* job.json to come, or `pause` to go */
                inotify_add_watch(inotify, w.dir, IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR);
            free(w.dir);
        }
    }
    closedir(d);
    if (q->v.n)
        qsort(q->v.at, q->v.n, sizeof *q->v.at, by_age);
    return ok;
}

/* One round over the waiting jobs; false when it was told to stop. */
static bool round_of(const char *dir, int inotify, const struct wn_worker_opts *opts)
{
    WN_CLEANUP(queue_done) struct queue q = { 0 };
    if (!look(dir, inotify, &q))
        wn_warning("watch_look", "dir=%s reason=%s", dir, strerror(errno));
    for (size_t i = 0; i < q.v.n && !wn_worker_stop; i++) {
        struct winnow_err err = { 0 };
        wn_info("job_taken", "dir=%s", q.v.at[i].dir);
        enum wn_ran ran = wn_supervise(q.v.at[i].dir, opts, &err);
        if (ran == WN_RAN_ERROR)
            wn_error("job_error", "dir=%s reason=%s", q.v.at[i].dir, err.msg);
        else
            wn_info("job_left", "dir=%s how=%s", q.v.at[i].dir,
                    ran == WN_RAN_ENDED  ? "ended"
                    : ran == WN_RAN_LEFT ? "to_resume"
                                         : "busy");
    }
    return !wn_worker_stop;
}

static void drain(int inotify)
{
    char buf[4096];
    while (read(inotify, buf, sizeof buf) > 0)
        ;
}

/* Until something changes in the folder, a stop, or the next look. */
static void wait_for_change(int inotify)
{
    struct pollfd p = { .fd = inotify, .events = POLLIN };
    sigset_t open_set;
    sigprocmask(SIG_SETMASK, NULL, &open_set);
    sigdelset(&open_set, SIGTERM);
    sigdelset(&open_set, SIGINT);
    ppoll(&p, 1, &(struct timespec){ .tv_sec = LOOK_MS / 1000 }, &open_set);
    drain(inotify);
}

int wn_watch(const char *dir, bool once, const struct wn_worker_opts *opts)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/.watch", dir);
    WN_CLEANUP(wn_closep) int lock = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666) : -1;
    if (lock < 0) {
        wn_error("watch", "dir=%s reason=%s", dir, strerror(errno));
        return WN_EXIT_FAILED;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        wn_error("watch", "dir=%s reason=%s", dir, "another worker watches this folder");
        return WN_EXIT_BUSY;
    }
    WN_CLEANUP(wn_closep) int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (inotify < 0 || inotify_add_watch(inotify, dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0)
        wn_warning("watch_inotify", "dir=%s reason=%s", dir, strerror(errno));
    wn_info("watching", "dir=%s", dir);
    while (round_of(dir, inotify, opts) && !once)
        wait_for_change(inotify);
    return WN_EXIT_OK;
}
