/* jobdir.h: making a job directory (docs/job-directory.md) and reading what the worker leaves in it. */
#ifndef WN_CLI_JOBDIR_H
#define WN_CLI_JOBDIR_H

#include <jansson.h>
#include "base/base.h"

/** What a job is made from. */
struct wn_jobdir_spec {
    const char *model;             /* the .onnx file or its folder */
    const char *data;              /* file or folder */
    const char *validation;        /* NULL: a share of the data */
    const char *recipe;            /* file; NULL: made from `level` */
    const char *teacher;           /* file: whom a recipe's distillation asks; NULL: the base */
    double level;                  /* 0 … 1 */
    int64_t seed, threads, epochs; /* epochs 0: as the level has it */
    double eval_share;
    bool new_labels;
    json_t *columns;  /* job.json's "columns"; NULL: none */
    json_t *training; /* job.json's "training" as given; NULL: none */
};

/** Fill the existing, empty folder `dir`: base/, job.json, recipe.yaml, work/. */
WINNOW_MUST_USE enum winnow_status wn_jobdir_make(const char *dir, const struct wn_jobdir_spec *spec,
                                                  struct winnow_err *err);

/** Copy model.onnx and master.onnx, with the files that their weights lie in, and a pipeline's files from `from` to
 * `to`, as far as they are there, each durably; those of an earlier result in `to` go. Without a model.onnx in `from`:
 * E_NOT_FOUND. */
WINNOW_MUST_USE enum winnow_status wn_jobdir_replace_model(const char *from, const char *to, struct winnow_err *err);

/** Read a JSON object of at most 16 MiB. */
WINNOW_MUST_USE enum winnow_status wn_jobdir_read_json(const char *path, json_t **ret, struct winnow_err *err);

/** Reads work/progress.jsonl as it grows. Zero-initialise with fd -1. */
struct wn_jobdir_tail {
    int fd;
    char line[8192];
    size_t n;
    bool skipping; /* within a line that is too long */
};
/** The next whole line as an object (a new reference), or NULL when there is none yet. */
json_t *wn_jobdir_tail_next(struct wn_jobdir_tail *t, const char *dir);
void wn_jobdir_tail_done(struct wn_jobdir_tail *t);

#endif
