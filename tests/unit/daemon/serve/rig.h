/* rig.h: a registry over a temporary repository, and small models whose answers tell which version made them. */
#ifndef WN_TEST_RIG_H
#define WN_TEST_RIG_H

#include <pthread.h>
#include "daemon/serve/serve.h"

/** A folder that is removed at the end: ROOT/repo, ROOT/state. */
struct rig {
    char root[64], repo[80], state[80];
    struct wn_config cfg;
    struct wn_serve *serve;
};

/** Make the folders and the settings (one stream of one thread, short poll and settle times). */
void rig_init(struct rig *rig);
/** Start the registry and wait until it is ready. */
void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);
void rig_done(struct rig *rig);

enum rig_kind {
    RIG_ROWS,    /* y = x + add, x (N, width): rows are proved independent */
    RIG_DYNAMIC, /* the same, width dynamic */
    RIG_WHOLE,   /* y = x + add, x (2, width): nothing is merged */
    RIG_HEAVY,   /* y = x M M … + add, M M = I: takes tens of milliseconds at width 256 */
};
/** Write PATH (a model.onnx). */
void rig_model(const char *path, enum rig_kind kind, int64_t width, float add);
/** Write REPO/NAME/VERSION/model.onnx under a hidden name and rename the version's folder into place. */
void rig_put(struct rig *rig, const char *name, int version, enum rig_kind kind, int64_t width, float add);
/** Text into ROOT-relative file `path`. */
void rig_text(const struct rig *rig, const char *path, const char *text);
__attribute__((format(printf, 1, 2))) void rig_sh(const char *fmt, ...);

/** An administrative call, waited for. */
struct rig_wait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool called;
    enum winnow_status status;
    struct winnow_err err;
};
void rig_wait_init(struct rig_wait *w);
void rig_wait_cb(void *arg, enum winnow_status status, const struct winnow_err *err);
enum winnow_status rig_wait_for(struct rig_wait *w);
enum winnow_status rig_promote(struct rig *rig, const char *name, int64_t version, bool same_io,
                               struct winnow_err *err);
enum winnow_status rig_rollback(struct rig *rig, const char *name);
enum winnow_status rig_load(struct rig *rig, const char *name, struct winnow_err *err);
enum winnow_status rig_unload(struct rig *rig, const char *name);

/** A job over `rows` x `width` floats x[i] = base + i, waited for. */
struct rig_job {
    struct wn_job job;
    struct winnow_tensor in;
    struct rig_wait wait;
    float base;
};
/** Takes over the reference `gen`. */
void rig_job_init(struct rig_job *j, struct wn_gen *gen, int64_t rows, int64_t width, float base);
enum winnow_status rig_job_wait(struct rig_job *j);
/** Whether every output is its input + add; releases everything. */
bool rig_job_check(struct rig_job *j, float add);
void rig_job_done(struct rig_job *j);
/** The version that serves `name` now, or 0. */
int64_t rig_live(struct rig *rig, const char *name);
/** Wait (at most 10 s) until `version` is live. */
bool rig_await(struct rig *rig, const char *name, int64_t version);
/** Run one request; the added constant as the answer shows it, or -1. */
float rig_ask(struct rig *rig, const char *name, int64_t width);

#endif
