/* train_export.c: from the trainer to work/candidate/, and the proof that the files compute what was trained.
 *
 * The serving model is loaded by the serving engine and must choose the same class as the trainer (fake-quantized where
 * quantization is on) on nearly all rows; the master must do so against the float weights. A row whose two classes the
 * file scores all but the same does not count against it: after a step or two of training a sum that rounds the other
 * way decides many rows. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/digest.h"
#include "base/file.h"
#include "engine/graph/onnx.h"
#include "sparsify/export/export.h"
#include "sparsify/worker/train_impl.h"

#define GOOD_AGREEMENT 0.995
#define MIN_AGREEMENT  0.98
#define NEAR_TIE       0.02 /* two scores this close, of the spread of all scores, are all but the same */
#define MIN_COMPARED   1000 /* rows, where there are so many */
#define BLOCK          64
#define MAX_TOKENIZER  ((size_t)64 << 20)
#define MAX_MODEL      ((size_t)2 << 30)

/* Between two pieces of work. */
static enum winnow_status go_on(struct wn_train_run *r)
{
    return wn_train_leaves(r) ? wn_fail(r->err, WINNOW_E_CANCELLED, "stopped during export") : WINNOW_OK;
}

/* ---- running an exported model ---- */

struct run {
    winnow_model *model;
    winnow_scratch *scratch;
    struct wn_arena arena; /* of one block */
};

static void run_done(struct run *run)
{
    winnow_scratch_free(run->scratch);
    winnow_model_unref(run->model);
    wn_arena_done(&run->arena);
}

static uint32_t best_of(const float *s, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = s[i] > s[best] ? i : best;
    return (uint32_t)best;
}

/* Rows [from, from + n) of `data` as the model's inputs, `rows` in all (the rest zeros); memory of `arena`. */
static enum winnow_status picture_input(const struct wn_train_run *r, const struct wn_train_data *data, size_t from,
                                        size_t n, size_t rows, struct wn_arena *arena, struct winnow_tensor *x)
{
    size_t row_bytes, per = (size_t)data->h * data->w * data->c;
    const struct wn_pipe_io *row = wn_pipeline_row(r->origin.pipeline, &row_bytes);
    *x = (struct winnow_tensor){ .dtype = WINNOW_F32, .rank = row->rank + 1, .bytes = rows * row_bytes };
    x->shape[0] = (int64_t)rows;
    memcpy(x->shape + 1, row->shape, row->rank * sizeof x->shape[0]);
    if (!(x->data = wn_arena_alloc(arena, x->bytes)))
        return wn_fail(r->err, WINNOW_E_NOMEM, "rows");
    for (size_t i = 0; i < n; i++)
        data->normalise(data->normalise_arg, data->px + (from + i) * per, (char *)x->data + i * row_bytes);
    return WINNOW_OK;
}

static enum winnow_status token_inputs(const struct wn_train_run *r, const winnow_model *model, size_t from, size_t n,
                                       size_t rows, struct wn_arena *arena, struct winnow_tensor *x)
{
    const struct wn_train_rows *t = &r->rows;
    size_t len = wn_train_rows_length(t, from, n);
    for (unsigned k = 0; k < t->n_fill; k++) {
        unsigned input = 0;
        while (input < winnow_model_n_inputs(model) &&
               strcmp(winnow_model_input(model, input)->name, t->fill_name[k]) != 0)
            input++;
        if (input == winnow_model_n_inputs(model))
            return wn_fail(r->err, WINNOW_E_INTERNAL, "the exported model has no input '%s'", t->fill_name[k]);
        const struct winnow_io *io = winnow_model_input(model, input);
        if (io->rank == 2 && io->shape[1] > 0)
            len = (size_t)io->shape[1];
        bool wide = io->dtype == WINNOW_I64;
        x[input] = (struct winnow_tensor){ .dtype = io->dtype,
                                           .rank = 2,
                                           .shape = { (int64_t)rows, (int64_t)len },
                                           .bytes = rows * len * (wide ? 8 : 4) };
        int64_t *to64 = x[input].data = wn_arena_alloc(arena, x[input].bytes);
        int32_t *to32 = x[input].data;
        if (!to64)
            return wn_fail(r->err, WINNOW_E_NOMEM, "rows");
        for (size_t i = 0; i < rows * len; i++) {
            size_t row = from + WN_MIN(i / len, n - 1), at = t->start[row] + i % len;
            int64_t v = at < t->start[row + 1] ? t->id[k][at] : t->pad[k];
            if (wide)
                to64[i] = v;
            else
                to32[i] = (int32_t)v;
        }
    }
    return WINNOW_OK;
}

/* What a file answers on rows beside what the trainer chose. */
struct answers {
    const uint32_t *want; /* the trainer's class of each row */
    float *ahead;         /* of each row: the file's best score less its score of `want`; 0: the same class */
    float lo, hi;         /* of all scores */
};

static void note_answer(struct answers *a, size_t row, const float *score, size_t classes)
{
    for (size_t c = 0; c < classes; c++) {
        if (!isfinite(score[c]))
            continue;
        a->lo = fminf(a->lo, score[c]);
        a->hi = fmaxf(a->hi, score[c]);
    }
    size_t best = best_of(score, classes);
    /* a class the file does not have, or a score that is no number, is never a tie */
    bool known = a->want[row] < classes && isfinite(score[a->want[row]]) && isfinite(score[best]);
    a->ahead[row] = best == a->want[row] ? 0 : known ? fmaxf(score[best] - score[a->want[row]], FLT_MIN) : INFINITY;
}

/* Answers of rows [from, from + n) of r->rows, of which `data` is a part that starts at `base`. */
static enum winnow_status predict_block(const struct wn_train_run *r, struct run *run, const char *name,
                                        const struct wn_train_data *data, size_t base, size_t from, size_t n,
                                        size_t rows, struct answers *a)
{
    struct winnow_tensor x[8] = { 0 }, y[8] = { 0 };
    unsigned n_in = winnow_model_n_inputs(run->model), n_out = winnow_model_n_outputs(run->model);
    unsigned out = wn_pipeline_model_output(r->origin.pipeline);
    if (n_in > WN_COUNT(x) || n_out > WN_COUNT(y) || (data->px && n_in != 1))
        return wn_fail(r->err, WINNOW_E_UNSUPPORTED, "%s has %u inputs and %u outputs", name, n_in, n_out);
    wn_arena_reset(&run->arena);
    WN_TRY(data->px ? picture_input(r, data, from, n, rows, &run->arena, x)
                    : token_inputs(r, run->model, base + from, n, rows, &run->arena, x));
    WN_TRY(winnow_run(run->model, run->scratch, x, n_in, y, n_out, r->err));
    size_t classes = y[out].bytes / sizeof(float) / rows;
    if (y[out].dtype != WINNOW_F32 || !classes)
        return wn_fail(r->err, WINNOW_E_UNSUPPORTED, "%s: scores are not f32", name);
    for (size_t i = 0; i < n; i++)
        note_answer(a, from + i, (const float *)y[out].data + i * classes, classes);
    return WINNOW_OK;
}

/* The file candidate/NAME, loaded as winnowd will. */
static enum winnow_status load(struct wn_train_run *r, const char *name, winnow_model **ret)
{
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/work/candidate", r->job->dir);
    WN_CLEANUP(wn_freep) char *path = folder ? wn_asprintf("%s/%s", folder, name) : NULL;
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s", name);
    WN_TRY(wn_file_read(path, MAX_MODEL, &bytes, &n, r->err));
    const struct winnow_load_opts opts = { .folder = folder, .consume = true };
    return winnow_model_load_memory(bytes, n, name, &opts, ret, r->err);
}

/* Answers on every row of `data`, which starts at row `base`, by candidate/NAME. */
static enum winnow_status predict(struct wn_train_run *r, const char *name, const struct wn_train_data *data,
                                  size_t base, struct answers *a)
{
    WN_CLEANUP(run_done) struct run run = { 0 };
    WN_TRY(load(r, name, &run.model));
    WN_TRY(winnow_scratch_new(run.model, NULL, &run.scratch, r->err));
    const struct winnow_io *io = winnow_model_input(run.model, 0);
    bool fixed = io->rank && io->shape[0] > 0;
    size_t block = fixed ? (size_t)io->shape[0] : BLOCK;
    for (size_t from = 0; from < data->n; from += block) {
        size_t n = WN_MIN(block, data->n - from);
        WN_TRY(go_on(r));
        WN_TRY(predict_block(r, &run, name, data, base, from, n, fixed ? block : n, a));
    }
    return WINNOW_OK;
}

/* Of n answers: how many chose another class, and how many did so by more than a near tie. */
static void count_differences(const struct answers *a, size_t n, size_t *ret_differ, size_t *ret_clearly)
{
    double near = NEAR_TIE * ((double)a->hi - (double)a->lo);
    *ret_differ = *ret_clearly = 0;
    for (size_t i = 0; i < n; i++) {
        *ret_differ += a->ahead[i] > 0;
        *ret_clearly += a->ahead[i] > 0 && !((double)a->ahead[i] <= near);
    }
}

/* Share of rows on which the file and the trainer choose the same class; too many that clearly do not are an error. A
 * single row may always differ. */
static enum winnow_status compare(struct wn_train_run *r, const char *name, double *ret_agreement)
{
    size_t all = r->rows.n_train + r->rows.n_val, rows = WN_MIN(all, WN_MAX(r->rows.n_val, (size_t)MIN_COMPARED));
    struct wn_train_tokens tokens;
    struct wn_train_data data = wn_train_rows_part(&r->rows, &r->origin, all - rows, rows, &tokens);
    struct wn_train_score score;
    WN_CLEANUP(wn_freep) uint32_t *want = calloc(rows + 1, sizeof *want);
    WN_CLEANUP(wn_freep) float *ahead = calloc(rows + 1, sizeof *ahead);
    if (!want || !ahead)
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s", name);
    struct answers answers = { .want = want, .ahead = ahead, .lo = INFINITY, .hi = -INFINITY };
    WN_TRY(go_on(r));
    WN_TRY(wn_trainer_evaluate(r->tr, &data, &score, want, r->err));
    WN_TRY(predict(r, name, &data, all - rows, &answers));
    size_t differ, clearly;
    count_differences(&answers, rows, &differ, &clearly);
    *ret_agreement = (double)(rows - differ) / (double)rows;
    r->compared = rows;
    if (differ > (size_t)fmax(1, (double)rows * (1 - GOOD_AGREEMENT)))
        wn_progress_message(
            r->pg, "warning",
            "%s chooses another class than the trained model on %zu of %zu rows, on %zu of them clearly", name, differ,
            rows, clearly);
    if (clearly > (size_t)fmax(1, (double)rows * (1 - MIN_AGREEMENT)))
        return wn_fail(r->err, WINNOW_E_INTERNAL,
                       "%s clearly chooses another class than the trained model on %zu of %zu rows", name, clearly,
                       rows);
    return WINNOW_OK;
}

/* ---- the files ---- */

static enum winnow_status write_file(struct wn_train_run *r, const char *name, const void *bytes, size_t n)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/candidate/%s", r->job->dir, name);
    return path ? wn_file_write_durable(path, bytes, n, r->err) : wn_fail(r->err, WINNOW_E_NOMEM, "%s", name);
}

/* In the form that the base has: with its weights beside it, or in one file unless that is too large. */
static enum winnow_status write_graph(struct wn_train_run *r, const char *name, const struct wn_graph *g)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/candidate/%s", r->job->dir, name);
    return path ? wn_onnx_write_file(g, path, r->origin.graph.external.n > 0, r->err)
                : wn_fail(r->err, WINNOW_E_NOMEM, "%s", name);
}

static enum winnow_status write_model(struct wn_train_run *r)
{
    struct wn_arena arena;
    struct wn_graph g;
    struct wn_sha256 d;
    char recipe[WN_DIGEST_TEXT];
    if (!wn_sha256(r->recipe_text, r->recipe_bytes, &d))
        return wn_fail(r->err, WINNOW_E_NOMEM, "recipe");
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_export_model(r->tr, wn_digest_text(&d, recipe), &arena, &g, r->err);
    if (status == WINNOW_OK) {
        status = write_graph(r, "model.onnx", &g);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return status;
}

static void trainer_freep(struct wn_trainer **tr)
{
    wn_trainer_free(*tr);
}

static enum winnow_status write_master(struct wn_train_run *r, struct wn_trainer *tr)
{
    struct wn_arena arena;
    struct wn_graph g;
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_trainer_export_graph(tr, &arena, &g, r->err);
    if (status == WINNOW_OK) {
        status = write_graph(r, "master.onnx", &g);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return status;
}

/* Batch norm was folded for quantization, or the base had none: put it back on the float weights, function unchanged,
 * so that the next job trains as this one did. */
static enum winnow_status write_master_with_bn(struct wn_train_run *r)
{
    struct wn_arena arena;
    struct wn_graph g;
    WN_CLEANUP(trainer_freep) struct wn_trainer *tr = NULL;
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_trainer_export_graph(r->tr, &arena, &g, r->err);
    if (status == WINNOW_OK) {
        status = wn_trainer_new(&g, &r->opts, &tr, r->err);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    WN_TRY(status);
    WN_TRY(wn_trainer_bind_data(tr, &r->train, r->err));
    uint64_t batches = r->train.n / r->opts.batch;
    WN_TRY(wn_trainer_insert_bn(tr, (unsigned)WN_MIN(batches, (uint64_t)32), r->err));
    return write_master(r, tr);
}

static enum winnow_status export_master(struct wn_train_run *r)
{
    WN_TRY(r->origin.has_conv && !wn_trainer_n_bn(r->tr) ? write_master_with_bn(r) : write_master(r, r->tr));
    bool quant = wn_trainer_quant_enabled(r->tr);
    if (quant)
        wn_trainer_quant_simulate(r->tr, false);
    enum winnow_status status = wn_trainer_evaluate(r->tr, &r->val, &r->score_f32, NULL, r->err);
    if (status == WINNOW_OK)
        status = compare(r, "master.onnx", &r->master_agreement);
    if (quant)
        wn_trainer_quant_simulate(r->tr, true);
    return status;
}

/* ---- labels and pipeline ---- */

static enum winnow_status write_labels(struct wn_train_run *r)
{
    size_t n = 0, used = 0;
    for (unsigned i = 0; i < r->rows.n_labels; i++)
        n += strlen(r->rows.name[i]) + 1;
    WN_CLEANUP(wn_freep) char *text = malloc(n + 1);
    if (!text)
        return wn_fail(r->err, WINNOW_E_NOMEM, "labels.txt");
    for (unsigned i = 0; i < r->rows.n_labels; i++)
        used += (size_t)sprintf(text + used, "%s\n", r->rows.name[i]);
    return write_file(r, "labels.txt", text, used);
}

/* The base's pipeline.yaml, its `labels` key pointing at labels.txt. */
static enum winnow_status write_pipeline(struct wn_train_run *r, bool labels)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/base/pipeline.yaml", r->job->dir);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0, used = 0;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
    WN_TRY(wn_file_read(path, (size_t)1 << 20, &bytes, &n, r->err));
    WN_CLEANUP(wn_freep) char *out = malloc(n + 64);
    if (!out)
        return wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
    for (const char *s = bytes, *end = s + n; s < end;) {
        const char *line_end = memchr(s, '\n', (size_t)(end - s));
        size_t len = line_end ? (size_t)(line_end - s) + 1 : (size_t)(end - s);
        if (!labels || len < 7 || strncmp(s, "labels:", 7) != 0) {
            memcpy(out + used, s, len);
            used += len;
        }
        s += len;
    }
    if (labels) {
        if (used && out[used - 1] != '\n')
            out[used++] = '\n';
        used += (size_t)sprintf(out + used, "labels: labels.txt\n");
    }
    return write_file(r, "pipeline.yaml", out, used);
}

/* The tokenizer's files as the base has them. */
static enum winnow_status write_tokenizer(struct wn_train_run *r)
{
    for (const char *const *name = wn_pipeline_files; *name; name++) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/base/%s", r->job->dir, *name);
        WN_CLEANUP(wn_freep) void *bytes = NULL;
        size_t n = 0;
        if (!path)
            return wn_fail(r->err, WINNOW_E_NOMEM, "%s", *name);
        if (strcmp(*name, "pipeline.yaml") == 0 || strcmp(*name, "labels.txt") == 0)
            continue; /* the job's own */
        enum winnow_status status = wn_file_read(path, MAX_TOKENIZER, &bytes, &n, r->err);
        if (status == WINNOW_OK)
            status = write_file(r, *name, bytes, n);
        if (status != WINNOW_OK && status != WINNOW_E_NOT_FOUND)
            return status;
    }
    return WINNOW_OK;
}

/* What was written must open for the model that was written. */
static enum winnow_status check_pipeline(struct wn_train_run *r)
{
    struct wn_arena arena;
    struct wn_graph g;
    struct wn_pipeline *p = NULL;
    WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/work/candidate", r->job->dir);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/candidate/model.onnx", r->job->dir);
    if (!dir || !path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_onnx_read_file(path, NULL, &arena, &g, r->err);
    if (status == WINNOW_OK) {
        status = wn_origin_pipeline(dir, &g, &p, r->err);
        wn_pipeline_free(p);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return status == WINNOW_OK ? status : wn_fail_at(r->err, status, "candidate");
}

enum winnow_status wn_train_export(struct wn_train_run *r)
{
    WN_TRY(go_on(r));
    wn_trainer_end_steps(r->tr);
    WN_TRY(wn_trainer_evaluate(r->tr, &r->val, &r->score, NULL, r->err));
    WN_TRY(write_model(r));
    WN_TRY(compare(r, "model.onnx", &r->agreement));
    WN_TRY(export_master(r));
    if (r->rows.n_labels)
        WN_TRY(write_labels(r));
    WN_TRY(write_pipeline(r, r->rows.n_labels > 0));
    if (wn_pipeline_task(r->origin.pipeline) == WN_PIPE_TEXTS)
        WN_TRY(write_tokenizer(r));
    return check_pipeline(r);
}
