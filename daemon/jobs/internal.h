/* internal.h: what the files of daemon/jobs share, and nobody else sees. */
#ifndef WN_JOBS_INTERNAL_H
#define WN_JOBS_INTERNAL_H

#include <jansson.h>
#include <stdatomic.h>
#include "base/vec.h"
#include "daemon/api/api.h"
#include "daemon/jobs/db.h"
#include "daemon/jobs/jobs.h"
#include "daemon/jobs/regression.h"
#include "daemon/jobs/tasks.h"

/** The settings that jobs look at; copied out under a lock. */
struct wn_jobs_settings {
    uint64_t max_file, max_bytes, files_keep_us, memory, hang_us, jobs_keep_us, gate_timeout_us;
    int64_t max_files, max_queued, tries, threads, min_rows, max_anchor_rows;
    double margin, max_cpu_ratio;
    bool enabled, eval_rows_decide;
    bool watch_enabled;
    uint64_t watch_window_us;
    struct wn_regression_rules regression;
};

/** A job that is not done, in memory. On the jobs thread; the gate thread reads `row` and `cancel` while `busy`. */
struct wn_ft {
    struct wn_ft *next;
    struct wn_job_row row;
    json_t *live; /* newest figures of progress.jsonl */
    bool busy;    /* the gate thread or the registry works for it */
    atomic_bool cancel;
    uint64_t grown_ns; /* when progress.jsonl grew last */
    uint64_t again_ns; /* a failed step is not tried before */
    unsigned hangs, failures;
    int64_t shown_step; /* of the last step event */
    bool taken;         /* a worker holds work/lock */
    char waits[12];     /* what its process waits for, as the worker says; "": nothing */
    bool unsaved;       /* the database could not be written: nothing goes on before it is */
};

struct wn_jobs_counters {
    atomic_ullong uploads, upload_bytes, uploads_failed, created, refused_at_check, succeeded, failed, cancelled,
        promoted, gate_refused, waiting, evaluations, worker_starts, hangs, orphans;
    atomic_llong files, file_bytes; /* kept now */
    atomic_int uploads_now;
    atomic_int active[WN_STAGE_DONE];
    atomic_ullong watch_back[WN_REGRESSION_DRIFT + 1]; /* rollbacks, by enum wn_regression */
    atomic_int watched_now;
};

struct wn_jobs {
    unsigned magic;
#define WN_JOBS_MAGIC 0x1d0b5a7eu
    struct wn_serve *serve;
    char *state, *files, *dir, *anchors; /* absolute */
    char *worker, *evaluator;            /* paths of programs; NULL: not found */
    bool start_worker;
    struct wn_config_list repositories; /* copied */
    struct wn_arena arena;

    pthread_mutex_t lock; /* leaf: settings */
    struct wn_jobs_settings settings;
    pthread_mutex_t anchor_lock; /* held while an anchor is replaced or merged; a leaf but for files */

    struct wn_tasks main, disk, chores, gate;
    atomic_bool draining, stopping;
    atomic_bool worker_gone; /* on the way down: it has ended, or there was none */
    struct wn_jobs_counters count;

    /* on the jobs thread */
    struct wn_db *db;
    struct wn_ft *active;
    struct wn_watched *watched;
    WN_VEC(struct wn_pinned { char id[WN_ID_ROOM]; }) pins; /* files of jobs being made */
    unsigned being_made;
    bool looked;       /* for waiting jobs whose version was made live before the start */
    pid_t worker_pid;  /* 0: none */
    bool others_watch; /* the folder of jobs is watched by a process that is not ours */
    uint64_t worker_start_ns, worker_again_ns, worker_backoff_us, sweep_ns, worker_term_ns;
};

void wn_jobs_settings_get(struct wn_jobs *jobs, struct wn_jobs_settings *ret);
int64_t wn_wall_ms(void);
/** prefix + 24 random hex digits. */
void wn_new_id(const char *prefix, char ret[WN_ID_ROOM]);
/** "PREFIX" followed by hex digits only: a name that is safe in a path. */
bool wn_id_valid(const char *id, const char *prefix);

/* ---- requests (call.c) ---- */

/** One request on its way over the jobs thread. Freed with the request. */
struct wn_call {
    struct wn_task task;
    struct wn_jobs *jobs;
    struct wn_req *req; /* held */
    void (*work)(struct wn_call *call);
    void (*done)(struct wn_call *call);          /* frees what the call owns; may be NULL */
    const char *limit, *after, *order, *purpose; /* of the query, which only the loop may read; NULL: not there */
    json_t *in, *out;
    struct winnow_err err; /* status is not OK: the answer */
    const char *param;     /* the key at fault, static, or in `in` */
    const char *code;      /* OpenAI's error code, static */
};
/** Read the SMALL body (if the route has one), hold the request, run `work` on the jobs thread. `size`: of a struct
 * that starts with struct wn_call. */
void wn_call_start(struct wn_req *req, size_t size, void (*work)(struct wn_call *call));
/** `limit` of the query, 1 … max; false: the call has its error. */
WINNOW_MUST_USE bool wn_call_limit(struct wn_call *call, size_t fallback, size_t max, size_t *ret);
/** Answer `out` or `err`. Any thread; the call may be gone afterwards. */
void wn_call_done(struct wn_call *call);
/** A job is its caller's to see when both its models are; to others there is no such job. */
bool wn_call_may_see(const struct wn_call *call, const struct wn_job_row *row);
/** The room's state, or NULL: answered 503. With `taking`: also while draining. */
struct wn_jobs *wn_req_jobs(struct wn_req *req, bool taking);

/* ---- JSON (shape.c) ---- */
json_t *wn_file_json(const struct wn_file_row *row);
/** `ft` (may be NULL): adds live figures, and what it waits for as far as the caller may know. */
json_t *wn_job_json(const struct wn_call *call, const struct wn_job_row *row, const struct wn_ft *ft);
/** A JSON file written by others: regular, no link, at most 4 MiB, an object; NULL: why is in err. */
json_t *wn_json_file(const char *path, struct winnow_err *err);
/** Write durably. */
WINNOW_MUST_USE enum winnow_status wn_json_write(const char *path, const json_t *o, struct winnow_err *err);

/* ---- on the jobs thread (jobs.c) ---- */
struct wn_ft *wn_ft_find(struct wn_jobs *jobs, const char *id);
struct wn_ft *wn_ft_add(struct wn_jobs *jobs, struct wn_job_row *row); /* takes row; NULL: out of memory */
/** Enter a stage durably, with an event (type "state"). Falls back to memory alone when the disk is full: the stage is
 *  worked out again after a restart. */
void wn_ft_enter(struct wn_jobs *jobs, struct wn_ft *ft, enum wn_stage stage);
/** End a job: status, error (may be NULL: none). */
void wn_ft_end(struct wn_jobs *jobs, struct wn_ft *ft, enum wn_job_status status, const char *code, const char *message,
               const char *param);
/** Note something in the job's own trail, and in the log. */
__attribute__((format(printf, 6, 7))) void wn_ft_note(struct wn_jobs *jobs, const char *id, const char *level,
                                                      const char *type, const json_t *data, const char *fmt, ...);
/** Path in a job's folder; malloc'ed. */
char *wn_ft_path(const struct wn_jobs *jobs, const char *id, const char *name);
/** The upload `id`, as far as the caller may see it; false: call->err. On the jobs thread. */
bool wn_file_find(struct wn_call *call, const char *id, struct wn_file_row *ret);
bool wn_file_pinned(const struct wn_jobs *jobs, const char *id);

/* progress.c */
void wn_ft_progress(struct wn_jobs *jobs, struct wn_ft *ft);
/* supervisor.c */
int wn_supervise(struct wn_jobs *jobs); /* milliseconds until it wants to look again */
void wn_supervisor_stop(struct wn_jobs *jobs);
void wn_ft_check_hang(struct wn_jobs *jobs, struct wn_ft *ft, const struct wn_jobs_settings *s);
/** Jobs that are not done, each noted with where it goes on after a restart. Threads and worker have ended. */
unsigned wn_note_unfinished(struct wn_jobs *jobs);
/* waits.c */
/** What a job waits for: a new {reason, message, job}; NULL: nothing, or not known. On the jobs thread. */
json_t *wn_ft_waits(const struct wn_call *call, const struct wn_ft *ft);
/* promotion.c */
void wn_ft_advance(struct wn_jobs *jobs, struct wn_ft *ft);
/** The registry made a version live: it may be one that waited. Any thread. */
void wn_jobs_on_live(struct wn_jobs *jobs, const char *model, int64_t version, uint64_t generation);
/** Waiting jobs whose version is live already (after a restart). */
void wn_jobs_look_waiting(struct wn_jobs *jobs);
/* watch.c */
/** The registry made a version live; `back`: by a rollback. Any thread. */
void wn_watch_on_live(struct wn_jobs *jobs, const char *model, int64_t version, bool back);
/** What is live at the start. On the jobs thread. */
void wn_watch_begin(struct wn_jobs *jobs);
/** Look at what is watched; milliseconds until it wants to look again. On the jobs thread. */
int wn_watch_tick(struct wn_jobs *jobs, const struct wn_jobs_settings *s);
void wn_watch_free(struct wn_jobs *jobs);
/* reconcile.c */
WINNOW_MUST_USE enum winnow_status wn_jobs_reconcile(struct wn_jobs *jobs, bool fresh, struct winnow_err *err);
void wn_jobs_sweep(struct wn_jobs *jobs);
/** Remove an upload: its row, and its bytes when no other row names them. */
WINNOW_MUST_USE enum winnow_status wn_file_remove(struct wn_jobs *jobs, const char *id, struct winnow_err *err);

/* ---- folders of models (base.c) ---- */
/** Copy the folder of a generation's version (with the files that weights lie in, and labels.txt, pipeline.yaml,
 * vocab.txt beside it) to the new folder `to`, durably; the copy of the model must have the generation's digest.
 *  @return E_CONFLICT: it changed meanwhile */
WINNOW_MUST_USE enum winnow_status wn_base_copy(const struct wn_gen *gen, const char *to, struct winnow_err *err);
/** Version under STATE/models/TARGET whose lineage.json names this job; 0: none. */
int64_t wn_find_published(const struct wn_jobs *jobs, const char *target, const char *job);

/* ---- anchors (anchor.c); gate or chores thread ---- */
/** STATE/anchors/NAME/anchor.npz, copied in from the model's folder on first use; *ret NULL: there is none. malloc'ed.
 */
WINNOW_MUST_USE enum winnow_status wn_anchor_find(struct wn_jobs *jobs, const char *name, char **ret,
                                                  struct winnow_err *err);
/** `rows` without those whose ids are in the rows of `trained` into the new file `to`; `ret_left_out`: how many. */
WINNOW_MUST_USE enum winnow_status wn_anchor_filter(const char *rows, const char *trained, const char *to,
                                                    size_t *ret_left_out, struct winnow_err *err);
/** Add the rows of the file `rows` to the anchor of `name`, or make it of them. Rows that are there already (by id) are
 * not added again; over `max` rows, the newest of those that the largest class had leave first. */
WINNOW_MUST_USE enum winnow_status wn_anchor_merge(struct wn_jobs *jobs, const char *name, const char *rows, size_t max,
                                                   size_t *ret_rows, struct winnow_err *err);
/** Take the file `part` over as the anchor of `name`; its labels must be those of `pipeline` (NULL: any). */
WINNOW_MUST_USE enum winnow_status wn_anchor_set(struct wn_jobs *jobs, const char *name, const char *part,
                                                 const struct wn_pipeline *pipeline, size_t *ret_rows,
                                                 struct winnow_err *err);

#endif
