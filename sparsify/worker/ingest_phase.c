/* ingest_phase.c: the child that reads an upload: it sees that file and data/, nothing else. */
#include <math.h>
#include <string.h>
#include "base/digest.h"
#include "sparsify/data/ingest.h"
#include "sparsify/worker/origin.h"
#include "sparsify/worker/sandbox.h"
#include "sparsify/worker/worker.h"

#define MEMORY     ((uint64_t)3 << 30)
#define CPU_S      3600
#define FILE_BYTES ((uint64_t)4 << 30)

static void on_progress(void *arg, size_t rows, size_t rejected)
{
    wn_progress_ingest(arg, rows, rejected);
}

/* The label names in the job's arena: the model itself is let go before the sandbox. */
static enum winnow_status take_labels(struct wn_job *job, const struct wn_origin *o, struct wn_ingest_opts *opts,
                                      struct winnow_err *err)
{
    unsigned n = wn_pipeline_n_labels(o->pipeline);
    const char **labels = wn_arena_calloc(&job->arena, n + 1u, sizeof *labels);
    bool ok = labels;
    for (unsigned i = 0; ok && i < n; i++) {
        const char *s = wn_pipeline_label(o->pipeline, i);
        labels[i] = wn_arena_strndup(&job->arena, s, strlen(s));
        ok = labels[i] != NULL;
    }
    const char *name = wn_pipeline_raw(o->pipeline, 0), *pair = wn_pipeline_raw(o->pipeline, 1);
    const char *task = wn_pipeline_task_name(o->pipeline);
    opts->labels = labels;
    opts->n_labels = n;
    opts->input_name = wn_arena_strndup(&job->arena, name, strlen(name));
    opts->task = wn_arena_strndup(&job->arena, task, strlen(task));
    opts->pair_name = pair ? wn_arena_strndup(&job->arena, pair, strlen(pair)) : NULL;
    return ok && opts->input_name && opts->task && !pair == !opts->pair_name ? WINNOW_OK
                                                                             : wn_fail(err, WINNOW_E_NOMEM, "labels");
}

static enum winnow_status prepare(struct wn_job *job, struct wn_ingest_opts *opts, struct winnow_err *err)
{
    struct wn_origin o;
    const char *base = wn_job_path(job, "base");
    if (!base)
        return wn_fail(err, WINNOW_E_NOMEM, "job");
    WN_TRY(wn_origin_open(base, &o, err));
    opts->n_classes = o.classes;
    opts->side = o.side;
    opts->text = wn_pipeline_task(o.pipeline) == WN_PIPE_TEXTS;
    enum winnow_status status = take_labels(job, &o, opts, err);
    wn_origin_done(&o);
    if (status == WINNOW_OK && !opts->new_labels && !opts->n_labels && !opts->n_classes)
        status = wn_fail(err, WINNOW_E_UNSUPPORTED, "the base says neither label names nor a number of classes");
    return status;
}

/* What was stored must be what was uploaded. */
static enum winnow_status check_digest(const struct wn_job_data *data, struct winnow_err *err)
{
    struct wn_sha256 want, got;
    if (!data->path || !data->digest || !wn_digest_parse(data->digest, &want))
        return WINNOW_OK;
    WN_TRY(wn_sha256_file(data->path, &got, NULL, err));
    return wn_digest_equal(&want, &got)
               ? WINNOW_OK
               : wn_fail(err, WINNOW_E_MALFORMED, "the file of '%.80s' has another SHA-256 than the upload had",
                         data->name ? data->name : data->path);
}

struct wn_report wn_ingest_phase(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts)
{
    struct winnow_err err = { 0 };
    char missing[64];
    struct wn_ingest_result result;
    struct wn_ingest_opts o = { .data = job->data.path,
                                .validation = job->validation.path,
                                .data_name = job->data.name,
                                .validation_name = job->validation.name,
                                .columns = job->columns,
                                .new_labels = job->new_labels,
                                .eval_share = job->eval_share,
                                .seed = job->seed,
                                .progress = on_progress,
                                .arg = pg };
    wn_progress_phase(pg, "ingest");
    enum winnow_status status = prepare(job, &o, &err);
    if (status != WINNOW_OK)
        return wn_report_of(status, "bad_model", &err);
    o.out_dir = wn_job_path(job, "data");
    const char *ro[] = { o.data, o.validation, NULL }, *rw[] = { o.out_dir, NULL };
    const struct wn_sandbox sb = { .ro = ro,
                                   .rw = rw,
                                   .idle = opts->idle,
                                   .memory_bytes = MEMORY,
                                   .cpu_s = CPU_S,
                                   .file_bytes = FILE_BYTES,
                                   .files = 64 };
    status = o.out_dir ? wn_sandbox_enter(&sb, missing, &err) : wn_fail(&err, WINNOW_E_NOMEM, "job");
    if (status != WINNOW_OK)
        return wn_report_of(status, "internal", &err);
    if (*missing)
        wn_progress_message(pg, "warning", "the sandbox of ingest lacks: %s", missing);
    status = check_digest(&job->data, &err);
    if (status == WINNOW_OK)
        status = check_digest(&job->validation, &err);
    if (status == WINNOW_OK)
        status = wn_ingest(&o, &result, &err);
    if (status != WINNOW_OK)
        return wn_report_of(status, "bad_data", &err);
    if (result.columns[0])
        wn_progress_message(pg, "info", "%s", result.columns);
    wn_progress_message(pg, "info", "%zu rows to train on, %zu set aside; %zu rejected, %zu duplicates", result.train,
                        result.eval, result.rejected, result.duplicates);
    return (struct wn_report){ .end = WN_END_DONE };
}
