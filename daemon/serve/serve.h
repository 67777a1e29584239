/* serve.h: which models this daemon serves, and running requests on them: registry of generations, batcher, executors.
 *
 * A generation is one loaded (model, version, digest), numbered upwards over the whole process. A request takes its
 * generation when it is admitted (wn_serve_acquire) and keeps it to the end, so no response mixes two; queues belong to
 * a generation, and an old one drains on its own weights.
 *
 * THREADS  any thread may call anything here. Loads run beside traffic in threads of low priority; inference runs on
 *          executor threads. Callbacks come on loader, executor and timer threads: hand over to a loop by
 *          wn_loop_post(). wn_serve_listen() is for the start: it reaches loads that begin after it. */
#ifndef WN_SERVE_H
#define WN_SERVE_H

#include "base/digest.h"
#include "config/config.h"
#include "pipeline/pipeline.h"
#include "winnow/winnow.h"

struct wn_serve;
struct wn_gen;

/* ---- generations ---- */

/** What a client may pin; all given parts must hold. */
struct wn_pin {
    int64_t version;     /* 0: any */
    uint64_t generation; /* 0: any */
    const char *digest;  /* "sha256:…" or NULL */
};

/** Start the registry: scan the repositories and STATE/models, load every model's live version (in the background),
 *  watch for changes (inotify, and every models.poll). */
WINNOW_MUST_USE enum winnow_status wn_serve_new(const struct wn_config *cfg, struct wn_serve **ret_serve,
                                                struct winnow_err *err);
/** New settings after SIGHUP (those that may change while running); rescans. */
void wn_serve_reconfigure(struct wn_serve *serve, const struct wn_config *cfg);
/** Stop accepting requests, fail queued ones with E_UNAVAILABLE after `grace_us`, join all threads, free. NULL is fine.
 */
void wn_serve_free(struct wn_serve *serve, uint64_t grace_us);
/** True once every model found at the start is loaded or has failed to load. */
bool wn_serve_ready(struct wn_serve *serve);

/** The generation that serves `model` now (and meets `pin`, which may be NULL): a reference, give it back with
 *  wn_gen_unref().
 *  @return WINNOW_OK; E_NOT_FOUND (no such model or version); E_UNAVAILABLE (known, but loading or failed: err says
 *          why); E_PRECONDITION (what is pinned is not what is live: never bent) */
WINNOW_MUST_USE enum winnow_status wn_serve_acquire(struct wn_serve *serve, const char *model, const struct wn_pin *pin,
                                                    struct wn_gen **ret_gen, struct winnow_err *err);
struct wn_gen *wn_gen_ref(struct wn_gen *gen);
struct wn_gen *wn_gen_unref(struct wn_gen *gen); /* NULL is fine; returns NULL */

const char *wn_gen_model_name(const struct wn_gen *gen);
int64_t wn_gen_version(const struct wn_gen *gen);
uint64_t wn_gen_number(const struct wn_gen *gen);
/** "sha256:…" of model.onnx; where weights lie in files beside it, of its digest and their names and digests. */
const char *wn_gen_digest(const struct wn_gen *gen);
/** The digest of a copy of the generation's model: of the file `path` and, in its folder, those that the generation's
 *  tensors were read from.  @return as wn_sha256_with() */
WINNOW_MUST_USE enum winnow_status wn_gen_digest_of(const struct wn_gen *gen, const char *path, struct wn_sha256 *ret,
                                                    struct winnow_err *err);
winnow_model *wn_gen_model(const struct wn_gen *gen);
/** NULL for a model without pipeline.yaml. */
const struct wn_pipeline *wn_gen_pipeline(const struct wn_gen *gen);
/** Folder of this version (…/MODEL/VERSION). */
const char *wn_gen_dir(const struct wn_gen *gen);
/** Largest number of rows one request may have (batch.max_batch; 1 where requests cannot be merged and rows are fixed).
 */
int64_t wn_gen_max_rows(const struct wn_gen *gen);

/** The file of an output's labels, as config.pbtxt names it; NULL: none. And its i-th label; NULL past the end. */
const char *wn_gen_label_file(const struct wn_gen *gen, unsigned output);
const char *wn_gen_label(const struct wn_gen *gen, unsigned output, size_t i);
/** How requests wait: config.pbtxt's values, else the settings'. */
struct wn_gen_batching {
    uint64_t max_wait_us, timeout_us, max_requests;
    unsigned streams; /* batches that may run side by side */
};
void wn_gen_batching(const struct wn_gen *gen, struct wn_gen_batching *ret);

/* ---- the repository ---- */

enum wn_model_state { WN_MODEL_UNKNOWN, WN_MODEL_READY, WN_MODEL_UNAVAILABLE, WN_MODEL_LOADING, WN_MODEL_UNLOADING };
/** "UNKNOWN", "READY", … as Triton's index says. */
const char *wn_model_state_name(enum wn_model_state state);

/** How a version stands, where `state` tells Triton's clients only whether it serves. */
enum wn_standing {
    WN_STANDING_NONE,     /* the model has no version */
    WN_STANDING_LIVE,     /* unpinned requests get it */
    WN_STANDING_LOADING,  /* */
    WN_STANDING_FAILED,   /* could not be loaded: the reason says why */
    WN_STANDING_SETTLING, /* its files are still changing */
    WN_STANDING_WAITING,  /* made by a job, and newer than all that was live: somebody must promote it */
    WN_STANDING_PREVIOUS, /* was live: on the way back of a rollback */
    WN_STANDING_UNLOADED, /* the model was unloaded */
    WN_STANDING_KEPT,     /* none of these: older, or left by a rollback */
};
/** "live", "loading", …; "" for none. */
const char *wn_standing_name(enum wn_standing standing);

struct wn_index_entry {
    char *name, *reason, *digest, *live_by; /* reason, digest, live_by: "" where unknown */
    char *made_by;                          /* "job ID", or "repository" for what a person put there; "" unknown */
    int64_t version;                        /* 0: the model has no version */
    enum wn_model_state state;
    enum wn_standing standing;
    bool live;             /* the version that unpinned requests get */
    bool made_here;        /* under STATE/models */
    uint64_t generation;   /* 0: not loaded */
    uint64_t loaded_at_ms; /* wall clock; 0: not loaded */
    size_t weight_bytes;
};
/** All versions of all models (or of `model`), by name and version. Free with wn_index_free(). */
WINNOW_MUST_USE enum winnow_status wn_serve_index(struct wn_serve *serve, const char *model,
                                                  struct wn_index_entry **ret, size_t *ret_n, struct winnow_err *err);
void wn_index_free(struct wn_index_entry *entries, size_t n);

#define WN_MAX_STRAYS 100 /* told at a time */

/** Something in a repository that looks like a model and is passed over. */
struct wn_stray {
    char *model, *path; /* model: its name in the repository; path: the folder or file that is meant */
    char why[160];      /* the rule that it breaks */
    uint64_t since_ns;
    bool told;
};
/** Look for them in folders, now.
 *  @param roots  repositories, [n_roots]; those that cannot be read have none
 *  @param ret    free it with wn_strays_free() */
WINNOW_MUST_USE enum winnow_status wn_strays_look(const char *const *roots, size_t n_roots, struct wn_stray **ret,
                                                  size_t *ret_n, struct winnow_err *err);
/** Those that were told in the log at the last look; paths begin below the repository. */
WINNOW_MUST_USE enum winnow_status wn_serve_strays(struct wn_serve *serve, struct wn_stray **ret, size_t *ret_n,
                                                   struct winnow_err *err);
void wn_strays_free(struct wn_stray *list, size_t n);

/** Told of a pipeline.yaml, or of the model that it is for, that a load would refuse.
 *  @param loads  false: it is model.onnx that cannot be read
 *  @param why    names file and line of the pipeline.yaml, or of a file that it names, where there is one */
typedef void wn_pipeline_bad_fn(void *arg, const char *model, int64_t version, bool loads, const char *why);
/** Read the pipeline.yaml of every version in STATE/models and the repositories, and the files it names, as a load
 *  would; versions without one are passed over. Nothing is changed; no model is run. */
void wn_pipelines_look(const struct wn_config *cfg, wn_pipeline_bad_fn *fn, void *arg);

/** End of an administrative action, on a loader thread. */
typedef void wn_serve_done_fn(void *arg, enum winnow_status status, const struct winnow_err *err);
/** Load or reload a model's live version (rescan first). E_NOT_FOUND by `done` when the repositories have no such
 * model. A failed load leaves the old generation serving. */
void wn_serve_load(struct wn_serve *serve, const char *model, wn_serve_done_fn *done, void *arg);
/** The same with a configuration instead of config.pbtxt's (pbtxt.h), which holds until the model is unloaded: a plain
 *  load does not undo it, as in Triton. The model is loaded again even where its files are the same. */
struct wn_model_config;
void wn_serve_load_with(struct wn_serve *serve, const char *model, const struct wn_model_config *conf,
                        wn_serve_done_fn *done, void *arg);
/** Stop serving a model; its last requests finish. Unloading what is not loaded succeeds. */
void wn_serve_unload(struct wn_serve *serve, const char *model, wn_serve_done_fn *done, void *arg);
/** Make `version` live: load beside the old one, warm, publish one pointer, write STATE/models/NAME/live durably
 *  (version, digest, `by`). `require_same_io`: refuse a version whose inputs, outputs, dtypes, shapes or labels differ
 *  from the live one's (the gate's rule). Idempotent. */
void wn_serve_promote(struct wn_serve *serve, const char *model, int64_t version, const char *by, bool require_same_io,
                      wn_serve_done_fn *done, void *arg);
/** Back to the version that was live before (the live file remembers it); once more: to the one before that. The
 *  version that is left is not on the way back any more. E_CONFLICT when there is nothing to go back to. */
void wn_serve_rollback(struct wn_serve *serve, const char *model, const char *by, wn_serve_done_fn *done, void *arg);
/** Take over a finished candidate folder (model.onnx, …) as the model's next version under STATE/models/NAME/N by
 *  copy, fsync and rename; does not make it live. Blocking: not on a loop thread. `lineage_json` is written beside. */
WINNOW_MUST_USE enum winnow_status wn_serve_add_version(struct wn_serve *serve, const char *model, const char *folder,
                                                        const char *lineage_json, int64_t *ret_version,
                                                        struct winnow_err *err);

/* ---- inference ---- */

/** One request for the executors. Made by the api, freed by it after `done`. */
struct wn_job {
    struct wn_gen *gen;           /* a reference held by the job */
    struct winnow_tensor *inputs; /* [n_inputs of the model], data owned by the job */
    int64_t rows;                 /* rows of a model with independent rows; else 1 */
    const uint32_t *length; /* [rows] of axis 1, where rows are padded (winnow_run_ragged()); NULL: they are not */
    uint64_t deadline_ns;   /* wn_now_ns() time; 0: batch.timeout from wn_serve_submit() on (which sets it) */
    /** Called once on an executor or timer thread with the outcome; outputs are set on success. After it the executors
     * do not touch the job. */
    void (*done)(struct wn_job *job);
    enum winnow_status status;
    struct winnow_err err;
    struct winnow_tensor *outputs; /* [n_outputs], memory owned by the job: freed by wn_job_done_outputs() */
    uint64_t queued_ns, started_ns, finished_ns;
    /* private to the batcher */
    struct wn_job *next, *prev;
    struct wn_queue *queue;
    uint64_t bytes;
    size_t heap; /* place among the deadlines */
    int state;
};
/** Queue a job.
 *  @return WINNOW_OK: `done` will be called; else it will not: E_OVERLOAD (queue full by requests, rows or bytes),
 *          E_MALFORMED (shapes that do not fit), E_DEADLINE (already past), E_UNAVAILABLE (stopping) */
WINNOW_MUST_USE enum winnow_status wn_serve_submit(struct wn_serve *serve, struct wn_job *job, struct winnow_err *err);
/** The client is gone: a queued job ends at once with E_CANCELLED (its `done` is called before this returns); one that
 *  is running finishes and is called as usual. */
void wn_serve_cancel(struct wn_serve *serve, struct wn_job *job);
/** Free the outputs' memory. */
void wn_job_done_outputs(struct wn_job *job);

/* ---- counters ---- */

/** Sizes of batches that are told apart. */
#define WN_BATCH_SIZES 64
/** Per model and version, kept over generations. */
struct wn_serve_stats {
    char *model;
    int64_t version;
    uint64_t success, failure, rejected, cancelled, expired; /* requests */
    uint64_t rows, batches;                                  /* rows / batches = mean batch */
    uint64_t queue_ns, compute_ns, last_ms;
    uint64_t queued_now;
    struct {
        uint64_t rows, n, ns;
    } size[WN_BATCH_SIZES]; /* batches that ran, by size, smallest first */
    unsigned n_sizes;
    uint64_t latency_bucket[16]; /* requests by submit-to-done time: <= 0.1 ms x 2^i; the last is the rest */
};
WINNOW_MUST_USE enum winnow_status wn_serve_stats(struct wn_serve *serve, struct wn_serve_stats **ret, size_t *ret_n,
                                                  struct winnow_err *err);
void wn_serve_stats_free(struct wn_serve_stats *stats, size_t n);

#define WN_RECORD_TIMES   96 /* buckets of CPU time per row: the first up to 1 us, each 2^(1/4) times the one before */
#define WN_RECORD_CLASSES 64 /* classes, modulo this */

/** What a version has answered and what it cost. Counts only ever grow. */
struct wn_serve_record {
    uint64_t success, failure;            /* requests; failure: the model's own, not a client's or a full queue's */
    uint64_t cpu_us[WN_RECORD_TIMES];     /* rows by CPU time per row of their batch */
    uint64_t answered[WN_RECORD_CLASSES]; /* rows of a classifier by the class with the largest score */
};
/** False: no such model or version has run here (the record is zero). Any thread. */
bool wn_serve_record(struct wn_serve *serve, const char *model, int64_t version, struct wn_serve_record *ret);
/** What was added since `earlier`. */
void wn_serve_record_less(struct wn_serve_record *r, const struct wn_serve_record *earlier);
/** Median CPU time per row in microseconds; 0: no rows. */
double wn_serve_record_median_us(const struct wn_serve_record *r);

/** Told of every load, swap, rollback and failure: event "load", "live", "unload", "load_failed", "rollback"; for logs,
 *  metrics and jobs. Called on loader threads. */
typedef void wn_serve_event_fn(void *arg, const char *event, const char *model, int64_t version, uint64_t generation,
                               const char *detail);
void wn_serve_listen(struct wn_serve *serve, wn_serve_event_fn *fn, void *arg);

/** Make a message fit for clients: in `text` the paths under STATE and the repositories are cut to what is below them
 *  (MODEL/VERSION/model.onnx), in place. */
void wn_serve_hide_folders(const struct wn_serve *serve, char *text);

#endif
