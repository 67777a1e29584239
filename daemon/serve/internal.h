/* internal.h: what the files of daemon/serve share. Nothing outside this folder includes it.
 *
 * LOCKS  in this order; each is held for short work in memory only, never over I/O, a load, a run, a callback or a log
 *        line.
 *        cat    the catalogue: versions on disk, their states and reasons, live files, lists of counters
 *        batch  queues, deadlines and the states of jobs
 *        reg    the leaf: the table of models and each model's live generation. Nothing is locked, allocated or logged
 *               while it is held.
 *        tasks (loader.c), reaper and listeners are leaves of their own. */
#ifndef WN_SERVE_INTERNAL_H
#define WN_SERVE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/repo_names.h"
#include "base/vec.h"
#include "daemon/serve/labels.h"
#include "daemon/serve/pbtxt.h"
#include "daemon/serve/serve.h"

#define WN_MAX_ROOTS     65
#define WN_MAX_MODELS    65536
#define WN_MAX_VERSIONS  4096
#define WN_MAX_LISTENERS 16
#define WN_BATCH_CAP     4096 /* = the largest batch.max_batch */

/* ---- the catalogue ---- */

/** One version on disk; under cat. */
struct wn_version {
    int64_t number;
    char *dir;
    unsigned root;  /* index of the root it lies in; 0 = STATE/models */
    bool made_here; /* by a job: it has lineage.json there, and is live only when a live file says so */
    bool settled;   /* nothing in it has changed for models.settle, or it came by rename */
    bool seen;      /* scratch mark of a scan */
    uint64_t sig;   /* over (name, id) of its files */
    uint64_t since_ns, missing_ns;
    uint64_t failed_sig; /* the state of its files that failed to load; 0 = none */
    uint64_t loaded_sig; /* the state of its files that the live generation was made from */
    int64_t ctime_ns;    /* the newest of its files and itself */
    struct wn_file_id id;
    struct wn_sha256 digest; /* of the state `id` of model.onnx */
    bool has_digest, loading;
    bool job_read; /* lineage.json has been looked at */
    char job[64];  /* made_here: the job's id, "" where unknown */
    char reason[240];
};

#define WN_MAX_PREV 8

/** STATE/models/NAME/live. */
struct wn_live {
    bool exists;
    int64_t version, highest; /* highest: person's version when it was written; -1 = not said */
    int64_t newest;           /* the highest number that was ever live, as far as is known */
    char digest[WN_DIGEST_TEXT];
    struct wn_prev { /* what was live before, the latest first; version 0: no more */
        int64_t version;
        char digest[WN_DIGEST_TEXT];
    } prev[WN_MAX_PREV];
    char by[WN_NAME_MAX + 1];
    int64_t mtime_ns; /* of the file */
};

/** Counters of one model and version, kept over generations; the numbers are relaxed atomics. */
struct wn_counters {
    int64_t version;
    _Atomic uint64_t success, failure, rejected, cancelled, expired, rows, batches, queue_ns, compute_ns, last_ms,
        queued;
    _Atomic uint64_t bucket[16];
    struct {
        _Atomic uint64_t rows, n, ns;
    } size[WN_BATCH_SIZES];                                                /* rows 0: free */
    _Atomic uint64_t cpu_us[WN_RECORD_TIMES], answered[WN_RECORD_CLASSES]; /* record.c */
};

/** One model name. Made when it is first seen, lives as long as the registry. */
struct wn_served {
    char name[WN_NAME_MAX + 1];
    struct wn_gen *gen; /* live; one reference; under reg */
    /* under cat */
    WN_VEC(struct wn_version *) versions; /* by number */
    WN_VEC(struct wn_counters *) counters;
    struct wn_live live;
    bool live_read; /* the file has been looked at */
    bool unloaded;  /* by an admin: no version is loaded by itself until the next load */
    bool has_conf;  /* given with a load, instead of config.pbtxt, until it is unloaded */
    struct wn_model_config conf;
    uint64_t conf_number; /* changes with them */
    /* under batch: all of its generations together */
    uint64_t q_requests, q_rows, q_bytes;
};

/** Sorted by name; replaced as a whole. */
struct wn_table {
    size_t n;
    struct wn_served *at[];
};

/* ---- generations ---- */

/** Jobs of one generation and shape class; under batch. */
struct wn_queue {
    struct wn_gen *gen;
    struct wn_job *head, *tail;
    uint64_t n, rows;
    uint64_t due_ns;              /* earliest deadline in it, or earlier */
    struct wn_queue *next, *prev; /* in serve->ready while not empty */
    struct wn_queue *sibling;     /* in gen->queues */
};

struct wn_gen {
    unsigned magic;
#define WN_GEN_MAGIC 0x9e4e7a10u
    atomic_uint refs;
    struct wn_serve *serve; /* not to be touched by unref: the registry may be gone */
    struct wn_reaper *reaper;
    struct wn_served *model_of;
    char name[WN_NAME_MAX + 1];
    int64_t version;
    uint64_t number;
    struct wn_sha256 sha, aux; /* model.onnx, with external data; pipeline, labels, configuration */
    char digest[WN_DIGEST_TEXT];
    char *dir;
    struct wn_file_id id; /* of model.onnx when it was read */
    bool made_here;
    winnow_model *model;
    struct wn_pipeline *pipeline;
    unsigned n_in, n_out;
    bool merge;                                /* rows are independent: requests may share a batch */
    bool dynamic;                              /* extents besides the batch axis may differ from request to request */
    const atomic_llong *max_batch;             /* the setting */
    struct wn_model_config conf;               /* what config.pbtxt, or who loaded it, says instead */
    uint64_t conf_number;                      /* of the model's, when it was loaded */
    struct wn_labels labels[WN_CONFIG_LABELS]; /* of conf.label */
    uint64_t loaded_at_ms;
    size_t weight_bytes, file_bytes;
    struct wn_counters *counters;
    unsigned n_streams;
    winnow_scratch **scratch; /* [n_streams] only that stream's executor uses it once the generation is published */
    /* under batch */
    struct wn_queue queue, *queues; /* the first, and all */
    double cost_one, cost_row,
        gap; /* ns, moving means: a batch of one row, a row of a larger batch, between arrivals */
    uint64_t last_arrival_ns;
    struct wn_gen *next; /* reaper's list */
};

/** Frees generations away from the threads that drop them. Outlives the registry where generations do. */
struct wn_reaper;
struct wn_reaper *wn_reaper_new(void);
/** Frees what is waiting, ends the thread and drops the registry's reference; later generations free themselves. */
void wn_reaper_stop(struct wn_reaper *reaper);
struct wn_reaper *wn_reaper_ref(struct wn_reaper *reaper);

/* ---- the registry ---- */

/** Settings in use. Numbers may change by wn_serve_reconfigure(): under cat; roots and state never change. */
struct wn_repo_settings {
    char *root[WN_MAX_ROOTS]; /* root[0] is STATE/models */
    unsigned n_roots;
    char *cache; /* STATE/cache: compiled models */
    uint64_t poll_us, settle_us, max_file, max_memory, max_cache, loop_us;
    int64_t keep_versions;
};
/** Under batch. */
struct wn_batch_settings {
    uint64_t max_wait_ns, timeout_ns, max_requests, max_rows, max_bytes;
    int64_t max_batch;
};

struct wn_stream;
struct wn_task;

struct wn_serve {
    unsigned magic;
#define WN_SERVE_MAGIC 0x5e7e0a11u
    pthread_mutex_t reg, cat, add;
    struct wn_table *table; /* under reg */
    struct wn_repo_settings repo;
    struct wn_stray *strays; /* [n_strays]; under cat; the start, then the watcher's thread replaces them */
    size_t n_strays;
    struct wn_reaper *reaper;
    _Atomic uint64_t generations;
    atomic_llong max_batch;
    _Atomic uint64_t loop_ns;   /* engine.loop_time */
    atomic_size_t initial_left; /* models of the first scan that are not settled yet */

    /* loader.c */
    pthread_mutex_t tasks;
    pthread_cond_t tasks_cond;
    struct wn_task *task_head, *task_running;
    bool tasks_stop;
    pthread_t *loader;
    unsigned n_loaders;

    /* watch.c */
    pthread_t watcher;
    bool watching;
    int inotify, wake;
    atomic_bool watch_stop;
    struct wn_watches *watches;

    /* batcher.c, deadline.c, executor.c; under batch */
    pthread_mutex_t batch;
    pthread_cond_t work, timer_cond, idle_cond;
    struct wn_batch_settings bs;
    struct wn_queue *ready; /* queues that are not empty */
    unsigned idle, running;
    uint64_t queued;
    bool stopping, stop_executors, stop_timer;
    WN_VEC(struct wn_job *) heap; /* of queued jobs by deadline */
    uint64_t timer_at;            /* when the timer thread wakes; 0 = asleep */
    pthread_t timer;
    bool timer_started;
    struct wn_stream *stream;
    unsigned n_streams, stream_threads; /* threads of the smallest stream */

    pthread_mutex_t listen;
    struct {
        wn_serve_event_fn *fn;
        void *arg;
    } listener[WN_MAX_LISTENERS];
    unsigned n_listeners;
};

/** Model of this name, or NULL; valid as long as the registry. Takes reg. */
struct wn_served *wn_reg_find(struct wn_serve *serve, const char *name);
/** The same, made when it is not there. Takes add's callers' word that nobody adds at the same time: holds cat. */
struct wn_served *wn_reg_add_locked(struct wn_serve *serve, const char *name);
/** Make `gen` (a reference is taken over; NULL: none) what requests get; returns the one before, a reference. */
struct wn_gen *wn_reg_publish(struct wn_serve *serve, struct wn_served *m, struct wn_gen *gen);
/** A reference to the live generation, or NULL. */
struct wn_gen *wn_reg_live(struct wn_serve *serve, struct wn_served *m);
void wn_reg_done(struct wn_serve *serve);
/** Free a generation now. */
void wn_gen_free(struct wn_gen *gen);

void wn_serve_emit(struct wn_serve *serve, const char *event, const char *model, int64_t version, uint64_t generation,
                   const char *detail);

/* ---- repository.c, live.c ---- */

/** Look at one model's folders in all roots and bring the catalogue up to date.
 *  @param fresh  everything found counts as settled (the first scan)
 *  @param ret_m  may be NULL; the model, or NULL when no root knows the name */
WINNOW_MUST_USE enum winnow_status wn_repo_scan_model(struct wn_serve *serve, const char *name, bool fresh,
                                                      struct wn_served **ret_m, struct winnow_err *err);
/** Names of all models: those on disk and those known. Each malloc'ed, like the array. */
WINNOW_MUST_USE enum winnow_status wn_repo_list(struct wn_serve *serve, char ***ret_names, size_t *ret_n,
                                                struct winnow_err *err);
void wn_repo_names_free(char **names, size_t n);
/** Whether something under the settle time is waiting to be looked at again. */
bool wn_repo_unsettled(struct wn_serve *serve);
/** A version (0: all of the model's) came by rename: it is settled as it stands. */
void wn_repo_moved_in(struct wn_serve *serve, const char *name, int64_t version);
/** Version of that number, or NULL; under cat. */
struct wn_version *wn_repo_version(struct wn_served *m, int64_t number);

/** Read STATE/models/NAME/live; ret->exists is false where there is none. E_MALFORMED: it is not what we write. */
WINNOW_MUST_USE enum winnow_status wn_live_read(const char *state_models, const char *name, struct wn_live *ret,
                                                struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_live_write(const char *state_models, const char *name, struct wn_live *live,
                                                 struct winnow_err *err);
/** Fill in live->prev for a change from `was` to live->version.
 *  @param old   what served until now, or NULL
 *  @param back  a rollback: what it goes back from, and all that was live since, is forgotten */
void wn_live_remember(struct wn_live *live, const struct wn_live *was, const struct wn_gen *old, bool back);
/** The highest version number that a person put there and that counts as seen when a live file is written; under cat.
 */
int64_t wn_live_highest(const struct wn_served *m);
/** Versions in the order in which they should be tried, best first, at most `cap`; under cat. */
unsigned wn_live_order(const struct wn_served *m, int64_t *ret, unsigned cap);

/* ---- strays.c ---- */
/** Look for what is misplaced, and log what is new and was there for models.settle (`fresh`: at once). */
void wn_strays_refresh(struct wn_serve *serve, bool fresh);

/* ---- version.c ---- */
/** Delete versions made here beyond models.keep_versions. Blocking. */
void wn_version_retain(struct wn_serve *serve, struct wn_served *m, int64_t spare);

/* ---- loader.c, generation.c, watch.c ---- */
/** Load one version: read, hash, compile, open the pipeline, warm up. Blocking.
 *  @return as winnow_model_load_memory(), wn_pipeline_open(); E_UNAVAILABLE: the file changed meanwhile */
WINNOW_MUST_USE enum winnow_status wn_gen_load(struct wn_serve *serve, struct wn_served *m, int64_t version,
                                               const char *dir, bool made_here, struct wn_gen **ret_gen,
                                               struct wn_file_id *ret_id, struct winnow_err *err);
/** Keep the compiled form of a generation that came from its file, in STATE/cache of at most max_bytes (0: not), so
 * that the next load is quick. A failure is logged and means nothing. Of the loader's thread. */
void wn_gen_keep(struct wn_gen *gen, size_t max_bytes);
/** Folder of the pipeline.yaml of a version that lies in `dir`: its own, else that of `model` in the first root that
 * has one; NULL: there is none. To be freed. */
char *wn_pipeline_folder(const char *dir, const char *model, char *const *root, unsigned n_roots);
/** wn_pipeline_open() for the inputs and outputs of a model. */
WINNOW_MUST_USE enum winnow_status wn_pipeline_of_model(const char *folder, const winnow_model *model,
                                                        struct wn_pipeline **ret, struct winnow_err *err);

/** Digest of the small files beside a model: pipeline, labels, configuration. */
WINNOW_MUST_USE enum winnow_status wn_gen_aux(const char *dir, struct wn_sha256 *ret, struct winnow_err *err);
/** Same inputs, outputs, dtypes, shapes and labels? E_PRECONDITION names the first difference. */
WINNOW_MUST_USE enum winnow_status wn_gen_same_io(const struct wn_gen *a, const struct wn_gen *b,
                                                  struct winnow_err *err);

WINNOW_MUST_USE enum winnow_status wn_loader_start(struct wn_serve *serve, unsigned threads, struct winnow_err *err);
void wn_loader_stop(struct wn_serve *serve);
/** Bring one model in line with the catalogue, in the background. */
void wn_loader_sync(struct wn_serve *serve, const char *name, bool initial);
/** Whether wn_loader_sync() would do something. */
bool wn_loader_wanted(struct wn_serve *serve, struct wn_served *m);

WINNOW_MUST_USE enum winnow_status wn_watch_start(struct wn_serve *serve, struct winnow_err *err);
void wn_watch_stop(struct wn_serve *serve);
void wn_watch_poke(struct wn_serve *serve);

/* ---- batcher.c, deadline.c, executor.c, stats.c ---- */

enum wn_job_state {
    WN_JOB_NEW,
    WN_JOB_QUEUED,
    WN_JOB_RUNNING,
    WN_JOB_DROPPED /* cancelled while running */,
    WN_JOB_ENDED
};

/** Take the next batch, at most WN_BATCH_CAP jobs, or 0; then `ret_wake_ns` is when to ask again (0: never). Under
 * batch. */
unsigned wn_batch_take(struct wn_serve *serve, uint64_t now, struct wn_job **ret, uint64_t *ret_wake_ns);
/** Take a queued job out of its queue; under batch. */
void wn_batch_unlink(struct wn_serve *serve, struct wn_job *job);
/** Learn what a batch of `rows` rows cost; under batch. */
void wn_batch_learn(struct wn_gen *gen, uint64_t rows, uint64_t ns);
/** Count, stamp and hand over a job; no lock is held. */
void wn_job_end(struct wn_job *job, enum winnow_status status, const char *why);
void wn_batch_fail_queued(struct wn_serve *serve);

/** Heap of deadlines; under batch. False: out of memory. */
WINNOW_MUST_USE bool wn_deadline_add(struct wn_serve *serve, struct wn_job *job);
void wn_deadline_remove(struct wn_serve *serve, struct wn_job *job);
WINNOW_MUST_USE enum winnow_status wn_deadline_start(struct wn_serve *serve, struct winnow_err *err);
void wn_deadline_stop(struct wn_serve *serve);

WINNOW_MUST_USE enum winnow_status wn_executor_start(struct wn_serve *serve, int64_t threads, int64_t streams,
                                                     struct winnow_err *err);
void wn_executor_stop(struct wn_serve *serve);
winnow_pool *wn_executor_pool(const struct wn_serve *serve, unsigned stream);

/** Counters of this version, made when they are not there; NULL when out of memory. Takes cat. */
struct wn_counters *wn_counters_of(struct wn_serve *serve, struct wn_served *m, int64_t version);
void wn_counters_latency(struct wn_counters *c, uint64_t ns);
/** A batch of `rows` ran for `ns`. Any thread. Past WN_BATCH_SIZES different sizes it is not told apart. */
void wn_counters_batch(struct wn_counters *c, uint64_t rows, uint64_t ns);

/** A batch of `rows` took `cpu_ns`. Any thread. */
void wn_record_batch(struct wn_counters *c, uint64_t cpu_ns, int64_t rows);
/** Count the classes in the outputs [n_out] of a batch, if they are scores. Any thread. */
void wn_record_classes(const struct wn_gen *gen, const struct winnow_tensor *out);

/** Thread with a name of at most 15 bytes. */
int wn_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);
/** A condition variable on the monotonic clock, and waiting until a wn_now_ns() time. */
void wn_cond_init(pthread_cond_t *cond);
void wn_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t at_ns);

#define WN_COUNT_ADD(field, n) atomic_fetch_add_explicit(&(field), (n), memory_order_relaxed)
#define WN_COUNT_GET(field)    atomic_load_explicit(&(field), memory_order_relaxed)

#endif
