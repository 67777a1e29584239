/* worker.h: the parts of winnow-worker: one job in sandboxed children, a folder of jobs, and the commands.
 *
 * PROCESSES  The supervisor (single-threaded) holds work/lock and never touches an upload. Each phase is a child that
 *            enters its sandbox first; how it went comes back by a pipe and its exit status. A child dies with its
 *            supervisor, and the lock with both. */
#ifndef WN_WORKER_H
#define WN_WORKER_H

#include <signal.h>
#include "sparsify/worker/job.h"
#include "sparsify/worker/progress.h"

/** Exit status of the program. */
enum wn_exit { WN_EXIT_OK = 0, WN_EXIT_FAILED = 1, WN_EXIT_INVALID = 2, WN_EXIT_BUSY = 3 };

struct wn_worker_opts {
    uint64_t memory_bytes; /* address space of a training child */
    uint64_t cpu_s;        /* of a training child */
    unsigned tries;        /* starts of one job, each from its last checkpoint, before it fails; 1 or more */
    unsigned hang_s;       /* a child whose progress stands still for so long is killed */
    bool idle;             /* SCHED_IDLE */
};

/** How a phase ended, as its child tells. */
enum wn_end {
    WN_END_DONE,
    WN_END_LEFT,      /* stopped by a signal or `pause`: to be resumed */
    WN_END_CANCELLED, /* `cancel` is there */
    WN_END_FAILED,    /* for good: code and message */
    WN_END_BROKE,     /* crash, hang, no memory, no space: another try may do */
};

/** Fits a pipe's atomic write. */
struct wn_report {
    enum wn_end end;
    char code[32]; /* "bad_data" */
    char msg[240];
};

/** Set by SIGTERM and SIGINT; children look at every step. */
extern volatile sig_atomic_t wn_worker_stop;

/** Fill a report; returns it. */
struct wn_report wn_report_fail(enum wn_end end, const char *code, const char *msg);
/** A failure's report: E_NOMEM, E_NO_SPACE and E_IO may be tried again under codes of their own, all else is `code`. */
struct wn_report wn_report_of(enum winnow_status status, const char *code, const struct winnow_err *err);

/** Phases; run in the child. They enter their sandbox themselves. */
struct wn_report wn_ingest_phase(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts);
struct wn_report wn_train_phase(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts);

/** work/result.json of a job that did not succeed. */
WINNOW_MUST_USE enum winnow_status wn_result_write(const char *dir, const struct wn_report *report,
                                                   struct winnow_err *err);

/** One job to its end, or until it is stopped, paused or found busy. */
enum wn_ran { WN_RAN_ENDED, WN_RAN_LEFT, WN_RAN_BUSY, WN_RAN_ERROR };
enum wn_ran wn_supervise(const char *dir, const struct wn_worker_opts *opts, struct winnow_err *err);

/** `watch DIR`. Returns the exit status. */
int wn_watch(const char *dir, bool once, const struct wn_worker_opts *opts);
/** `check JOBDIR`. */
int wn_check(const char *dir);
/** `recipe FILE`. `model`, `json` may be NULL; `rows` 0: not given. */
int wn_recipe_command(const char *file, const char *model, size_t rows, const char *json);

#endif
