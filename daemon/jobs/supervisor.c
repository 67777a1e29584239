/* supervisor.c: the worker: started where nobody watches the job folder, started again when it ends, ended when it
 * hangs.
 *
 * DESIGN  Whoever watches holds the flock on STATE/jobs/.watch: a unit of its own under systemd, else a child of ours.
 *         The test for it is taking the lock for a moment; the worker takes it itself and ends when it cannot. */
#include "daemon/jobs/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "daemon/jobs/proc.h"

#define SECOND        UINT64_C(1000000000)
#define FIRST_BACKOFF ((uint64_t)200000) /* us */
#define MAX_BACKOFF   ((uint64_t)30000000)
#define GRACE_NS      (10 * SECOND) /* after SIGTERM; the worker itself gives its child 8 s */
#define MAX_ENTRIES   1000          /* looked at in a folder that the worker writes */
#define GRACE_HANG_NS (30 * SECOND)

static bool watched(const struct wn_jobs *jobs)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/.watch", jobs->dir);
    WN_CLEANUP(wn_closep) int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666) : -1;
    return fd < 0 || (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
}

/* jobs.hang_timeout in whole seconds, 1 or more. */
static uint64_t hang_s(const struct wn_jobs_settings *s)
{
    return WN_MAX((s->hang_us + 999999) / 1000000, UINT64_C(1));
}

/* A worker keeps the settings that it was started with. */
static void start(struct wn_jobs *jobs)
{
    struct wn_jobs_settings s;
    char verb[] = "watch", tries_name[] = "--tries", hang_name[] = "--hang", memory_name[] = "--memory";
    char tries[16], hang[24], memory[24];
    char *argv[] = { jobs->worker, verb, jobs->dir, tries_name, tries, hang_name, hang, memory_name, memory, NULL };
    wn_jobs_settings_get(jobs, &s);
    snprintf(tries, sizeof tries, "%" PRIu64, (uint64_t)s.tries);
    snprintf(hang, sizeof hang, "%" PRIu64, hang_s(&s));
    snprintf(memory, sizeof memory, "%" PRIu64, s.memory >> 20);
    jobs->worker_start_ns = wn_now_ns();
    jobs->worker_term_ns = 0;
    jobs->worker_pid = wn_proc_start(argv, -1, 0);
    if (jobs->worker_pid < 0) {
        wn_error("worker_start_failed", "program=%s error=%s", jobs->worker, strerror(errno));
        jobs->worker_pid = 0;
        jobs->worker_again_ns = wn_now_ns() + MAX_BACKOFF * 1000;
        return;
    }
    atomic_fetch_add(&jobs->count.worker_starts, 1);
    wn_info("worker_started", "pid=%d program=%s", (int)jobs->worker_pid, jobs->worker);
}

/* Longer and longer pauses for one that ends at once. */
static void ended(struct wn_jobs *jobs, int status)
{
    uint64_t ran = wn_now_ns() - jobs->worker_start_ns;
    if (ran > 60 * SECOND || !jobs->worker_backoff_us)
        jobs->worker_backoff_us = FIRST_BACKOFF;
    else
        jobs->worker_backoff_us = WN_MIN(jobs->worker_backoff_us * 2, MAX_BACKOFF);
    jobs->worker_again_ns = wn_now_ns() + jobs->worker_backoff_us * 1000;
    wn_log(atomic_load(&jobs->stopping) ? WN_LOG_INFO : WN_LOG_WARNING, "worker_ended",
           "pid=%d %s=%d again_us=%" PRIu64, (int)jobs->worker_pid, WIFSIGNALED(status) ? "signal" : "code",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), jobs->worker_backoff_us);
    jobs->worker_pid = 0;
}

int wn_supervise(struct wn_jobs *jobs)
{
    int status;
    uint64_t now = wn_now_ns();
    if (jobs->worker_pid && wn_proc_ended(jobs->worker_pid, &status))
        ended(jobs, status);
    if (atomic_load(&jobs->stopping)) {
        if (jobs->worker_pid && !jobs->worker_term_ns) {
            jobs->worker_term_ns = now;
            kill(jobs->worker_pid, SIGTERM); /* it passes it on; a child leaves after a checkpoint */
        } else if (jobs->worker_pid && now - jobs->worker_term_ns > GRACE_NS) {
            wn_proc_signal(jobs->worker_pid, SIGKILL);
        }
        atomic_store(&jobs->worker_gone, !jobs->worker_pid);
        return 50;
    }
    if (!jobs->worker_pid && jobs->worker && jobs->start_worker && now >= jobs->worker_again_ns) {
        jobs->others_watch = watched(jobs);
        if (!jobs->others_watch)
            start(jobs);
        else
            jobs->worker_again_ns = now + 2 * SECOND;
    }
    return jobs->worker_pid ? 500 : 250;
}

void wn_supervisor_stop(struct wn_jobs *jobs)
{
    while (wn_supervise(jobs), jobs->worker_pid)
        usleep(20000);
}

/* ---- what is left on the way down ---- */

/* Step of the newest checkpoint, -1: none. */
static int64_t checkpoint_of(const struct wn_jobs *jobs, const char *id)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, id, "work/checkpoint");
    DIR *d = path ? opendir(path) : NULL;
    int64_t newest = -1;
    struct dirent *e;
    for (unsigned i = 0; d && i < MAX_ENTRIES && (e = readdir(d)); i++) {
        char *end;
        long long step = strtoll(e->d_name, &end, 10);
        if (end != e->d_name && strcmp(end, ".wnck") == 0)
            newest = WN_MAX(newest, (int64_t)step);
    }
    if (d)
        closedir(d);
    return newest;
}

static bool has(const struct wn_jobs *jobs, const char *id, const char *name)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, id, name);
    return path && access(path, F_OK) == 0;
}

/* `others`: a worker that is not ours watches the folder. */
static void note_work(struct wn_jobs *jobs, const char *id, bool others)
{
    int64_t step = checkpoint_of(jobs, id);
    if (has(jobs, id, "work/result.json"))
        wn_ft_note(jobs, id, "info", "message", NULL, "The server stops; the gate is next when it starts again");
    else if (others)
        wn_ft_note(jobs, id, "info", "message", NULL, "The server stops; the worker, which is not its own, goes on");
    else if (step >= 0)
        wn_ft_note(jobs, id, "info", "message", NULL,
                   "The server stops; training goes on after step %" PRId64 " when it starts again", step);
    else if (has(jobs, id, "data/ingest.json"))
        wn_ft_note(jobs, id, "info", "message", NULL, "The server stops; training begins when it starts again");
    else
        wn_ft_note(jobs, id, "info", "message", NULL, "The server stops; the job begins when it starts again");
}

unsigned wn_note_unfinished(struct wn_jobs *jobs)
{
    unsigned n = 0;
    bool others = watched(jobs);
    for (const struct wn_ft *ft = jobs->active; ft; ft = ft->next) {
        if (ft->row.stage == WN_STAGE_DONE)
            continue;
        n++;
        if (ft->row.stage <= WN_STAGE_WORK)
            note_work(jobs, ft->row.id, others);
        else
            wn_ft_note(jobs, ft->row.id, "info", "message", NULL,
                       "The server stops; the job goes on where it was when it starts again");
    }
    return n;
}

/* A job whose worker is alive and says nothing. The worker itself looks for hangs of its children and tries again, so
 * it is given some time more. */
void wn_ft_check_hang(struct wn_jobs *jobs, struct wn_ft *ft, const struct wn_jobs_settings *s)
{
    uint64_t hang_ns = hang_s(s) * SECOND, silent_ns = wn_now_ns() - ft->grown_ns;
    if (ft->row.stage != WN_STAGE_WORK || !ft->taken || silent_ns < hang_ns + WN_MIN(hang_ns, GRACE_HANG_NS))
        return;
    ft->grown_ns = wn_now_ns();
    ft->hangs++;
    atomic_fetch_add(&jobs->count.hangs, 1);
    if (ft->hangs >= s->tries) {
        struct winnow_err err;
        WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "cancel");
        if (path && wn_file_write_durable(path, "", 0, &err) != WINNOW_OK)
            wn_error("job_cancel_failed", "job=%s error=%s", ft->row.id, err.msg);
        char why[120];
        snprintf(why, sizeof why, "the worker reported no progress for %" PRIu64 " s (%u %s)", silent_ns / SECOND,
                 ft->hangs, ft->hangs == 1 ? "try" : "tries");
        wn_ft_end(jobs, ft, WN_JOB_FAILED, "hang", why, NULL);
    } else {
        wn_ft_note(jobs, ft->row.id, "warn", "message", NULL, "No progress for %" PRIu64 " s%s", silent_ns / SECOND,
                   jobs->worker_pid ? ": the worker is started again from its last checkpoint" : "");
    }
    if (jobs->worker_pid)
        wn_proc_signal(jobs->worker_pid, SIGKILL);
}
