/* waits.c: what a job that does not get on waits for, as far as is known here: the worker that winnowd itself started,
 * the locks of the other jobs, and what the worker says of its child. */
#include "daemon/jobs/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct waits {
    const char *reason, *job; /* static; the id of another job, or NULL */
    char message[200];
};

__attribute__((format(printf, 3, 4))) static bool say(struct waits *w, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->message, sizeof w->message, fmt, ap);
    va_end(ap);
    w->reason = reason;
    return true;
}

/* The job that a worker holds. */
static const struct wn_ft *taken(const struct wn_jobs *jobs)
{
    const struct wn_ft *ft = jobs->active;
    while (ft && !(ft->row.stage == WN_STAGE_WORK && ft->taken))
        ft = ft->next;
    return ft;
}

static bool is_paused(const struct wn_jobs *jobs, const struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(jobs, ft->row.id, "pause");
    return path && access(path, F_OK) == 0;
}

/* A job in the queue: where is the worker? */
static bool queued(const struct wn_call *call, const struct wn_ft *ft, struct waits *w)
{
    const struct wn_jobs *jobs = call->jobs;
    const struct wn_ft *other = taken(jobs);
    if (is_paused(jobs, ft))
        return say(w, "paused", "its file `pause` to be removed");
    if (other && wn_call_may_see(call, &other->row)) {
        w->job = other->row.id;
        return say(w, "worker_busy", "the worker, which is busy with job %s", other->row.id);
    }
    if (other)
        return say(w, "worker_busy", "the worker, which is busy with another job");
    if (jobs->worker_pid || jobs->others_watch)
        return say(w, "worker", "the worker, which takes it in a moment");
    if (!jobs->start_worker)
        return say(w, "no_worker", "a winnow-worker: this server starts none (jobs.worker), and none has taken it yet");
    if (!jobs->worker)
        return say(w, "no_worker", "a winnow-worker: the program that jobs.worker names was not found");
    uint64_t now = wn_now_ns(), again = jobs->worker_again_ns;
    return say(w, "worker", "the worker, which is started in %" PRIu64 " s",
               again > now ? (again - now) / 1000000000 : 0);
}

/* A job that a worker holds: does it get to run? */
static bool held_up(const struct wn_ft *ft, struct waits *w)
{
    if (strcmp(ft->waits, "cpu") == 0)
        return say(w, "cpu", "CPU time: it gets what others leave, which is next to nothing");
    if (strcmp(ft->waits, "continue") == 0)
        return say(w, "stopped", "somebody to continue its process, which a signal stopped");
    return false;
}

json_t *wn_ft_waits(const struct wn_call *call, const struct wn_ft *ft)
{
    struct waits w = { 0 };
    bool some = false;
    if (ft->row.stage == WN_STAGE_WORK && atomic_load(&call->jobs->stopping))
        some = say(&w, "server", "the server, which is on its way down, to start again");
    else if (ft->row.stage == WN_STAGE_WORK)
        some = ft->taken ? held_up(ft, &w) : queued(call, ft, &w);
    return some ? json_pack("{s:s,s:s,s:s*}", "reason", w.reason, "message", w.message, "job", w.job) : NULL;
}
