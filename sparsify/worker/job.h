/* job.h: job.json, checked: what a job is about. docs/job-directory.md is the contract. */
#ifndef WN_JOB_H
#define WN_JOB_H

#include "base/arena.h"
#include "base/base.h"
#include "sparsify/data/columns.h"

/** An uploaded file. */
struct wn_job_data {
    const char *path, *name; /* path NULL: there is none */
    const char *digest;      /* "sha256:…" or NULL */
};

/** Options of the step loop that no recipe says. */
struct wn_job_training {
    unsigned batch;  /* 0: chosen from the number of rows */
    double momentum; /* default 0.9 */
    bool nesterov;   /* default true */
    double label_smoothing;
    int optimizer;        /* 0: AdamW for encoders, SGD for pictures; else 1 + enum wn_optimizer */
    double max_grad_norm; /* 0: gradients are not clipped */
    bool flip;            /* default false: letters and digits do not survive it */
    int crop_pad;         /* -1: chosen from the size of the pictures */
};

struct wn_job {
    struct wn_arena arena; /* every string */
    const char *dir;       /* the job directory */
    const char *id, *model, *target;
    const char *base_digest; /* or NULL */
    struct wn_job_data data, validation;
    bool recipe; /* recipe.yaml is there */
    double optim_level;
    bool new_labels;
    double eval_share;
    uint64_t seed;
    unsigned threads;
    double epochs;       /* NAN: not given */
    double min_accuracy; /* NAN: not given */
    struct wn_job_training training;
    struct wn_columns columns; /* of texts */
};

/** Parse; unknown keys and wrong values are errors "FILE:LINE: KEY: …". `dir` is copied.
 *  @param file  appears in messages
 *  @return E_MALFORMED, E_UNSUPPORTED (another format), E_NOMEM; release with wn_job_done() on success only */
WINNOW_MUST_USE enum winnow_status wn_job_parse(const void *bytes, size_t n, const char *file, const char *dir,
                                                struct wn_job *ret, struct winnow_err *err);
/** Read `dir`/job.json; also checks that recipe.yaml is there when job.json says so. */
WINNOW_MUST_USE enum winnow_status wn_job_read(const char *dir, struct wn_job *ret, struct winnow_err *err);
void wn_job_done(struct wn_job *job);

/** "`dir`/`name`" in the job's arena; NULL when out of memory. */
const char *wn_job_path(struct wn_job *job, const char *name);
/** Whether `dir`/`name` exists. */
bool wn_job_has(const struct wn_job *job, const char *name);

#endif
