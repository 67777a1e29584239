/* evaluate.c: `winnow evaluate MODEL [MODEL2] ROWS.npz`: accuracy of one or two models on labelled rows, by the engine
 * that serves. This is what the gate runs, in a process of its own: it only decodes rows, runs models and counts.
 * Two models take turns block by block, so that a busy machine slows both alike; CPU time is the thread's own. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "pipeline/rows.h"

#define BLOCK 16 /* rows at a time */

struct args {
    const char *path[3], *json;
    unsigned n;
};

static const struct argp_option options[] = {
    { "json", 'j', "FILE", 0, "write the figures as JSON (-: standard output)", 0 }, { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'j':
        a->json = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n == 3)
            argp_usage(state);
        a->path[a->n++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n < 2)
            argp_error(state, "a MODEL and ROWS.npz are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* One model and what it got right. */
struct contestant {
    struct wn_cli_model m;
    unsigned output; /* the scores */
    char *right;     /* [rows] 0 or 1 */
    size_t correct;
    int raw[WN_PIPE_MAX_RAW];            /* inputs of the rows that are the pipeline's items; -1: none */
    unsigned tensor[WN_ROWS_MAX_INPUTS]; /* else: input of the rows per input of the model */
    struct wn_arena arena;               /* of one block */
    uint64_t cpu_ns;                     /* of the model alone, without decoding */
    double loss;                         /* sum of -log softmax of the label */
};

static bool same_labels(const struct wn_pipeline *p, const struct wn_rows *rows)
{
    if (wn_pipeline_n_labels(p) != wn_rows_n_labels(rows))
        return false;
    for (unsigned i = 0; i < wn_rows_n_labels(rows); i++)
        if (strcmp(wn_pipeline_label(p, i), wn_rows_label_name(rows, i)))
            return false;
    return true;
}

/* Which input of the rows becomes which: raw items for the pipeline, else tensors of the model's names (a single one
 * needs none). */
static enum winnow_status match_inputs(const char *path, const struct wn_rows *rows, struct contestant *c,
                                       struct winnow_err *err)
{
    const char *raw;
    c->raw[0] = c->m.pipeline ? wn_rows_find_input(rows, wn_pipeline_raw(c->m.pipeline, 0)) : -1;
    if (c->raw[0] < 0 && wn_rows_n_inputs(rows) == 1 && wn_rows_input(rows, 0)->bytes)
        c->raw[0] = 0;
    c->raw[1] = -1;
    if (c->raw[0] >= 0 && !c->m.pipeline)
        return wn_fail(err, WINNOW_E_MALFORMED, "the rows hold raw items, and %s has no pipeline.yaml", path);
    if (c->raw[0] >= 0) {
        raw = wn_pipeline_raw(c->m.pipeline, 1);
        c->raw[1] = raw ? wn_rows_find_input(rows, raw) : -1;
        return WINNOW_OK;
    }
    for (unsigned i = 0; i < winnow_model_n_inputs(c->m.model); i++) {
        const struct winnow_io *io = winnow_model_input(c->m.model, i);
        int at = wn_rows_find_input(rows, io->name);
        if (at < 0 && winnow_model_n_inputs(c->m.model) == 1 && wn_rows_n_inputs(rows) == 1)
            at = 0;
        if (at < 0 || wn_rows_input(rows, (unsigned)at)->bytes)
            return wn_fail(err, WINNOW_E_MALFORMED, "the rows have no tensor '%s', which %s wants", io->name, path);
        c->tensor[i] = (unsigned)at;
    }
    return WINNOW_OK;
}

static enum winnow_status open_contestant(const char *path, const struct wn_rows *rows, struct contestant *c,
                                          struct winnow_err *err)
{
    WN_TRY(wn_cli_open(path, 1, NULL, &c->m, err));
    if (winnow_model_n_inputs(c->m.model) > WN_ROWS_MAX_INPUTS)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s has %u inputs, rows have at most %d", path,
                       winnow_model_n_inputs(c->m.model), WN_ROWS_MAX_INPUTS);
    if (c->m.pipeline && !wn_pipeline_scores(c->m.pipeline))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s makes embeddings, which have no accuracy", path);
    if (c->m.pipeline && wn_rows_n_labels(rows) && wn_pipeline_n_labels(c->m.pipeline) &&
        !same_labels(c->m.pipeline, rows))
        return wn_fail(err, WINNOW_E_MALFORMED, "the label names of %s are not those of the rows", path);
    WN_TRY(match_inputs(path, rows, c, err));
    c->output = c->m.pipeline ? wn_pipeline_model_output(c->m.pipeline) : 0;
    c->right = calloc(wn_rows_count(rows) + 1, 1);
    return c->right ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", path);
}

/* Raw items of rows [from, to) through the pipeline. */
static enum winnow_status encode(struct contestant *c, const struct wn_rows *rows, size_t from, size_t to,
                                 struct winnow_tensor *ret, struct winnow_err *err)
{
    struct wn_pipe_item item[WN_PIPE_MAX_RAW][BLOCK];
    struct wn_pipe_items items = { .n = to - from };
    struct wn_pipe_batch batch;
    for (unsigned k = 0; k < WN_PIPE_MAX_RAW && c->raw[k] >= 0; k++) {
        items.at[k] = item[k];
        for (size_t i = from; i < to; i++)
            item[k][i - from].at = wn_rows_item(rows, (unsigned)c->raw[k], i, &item[k][i - from].n);
    }
    enum winnow_status status = wn_pipeline_encode_rows(c->m.pipeline, &items, NULL, &c->arena, &batch, err);
    if (status != WINNOW_OK && batch.bad_row != SIZE_MAX)
        return wn_fail_at(err, status, "row %zu", from + batch.bad_row);
    WN_TRY(status);
    for (unsigned i = 0; i < batch.n_t; i++) {
        const struct wn_pipe_tensor *t = &batch.t[i];
        struct winnow_tensor *x = &ret[t->model_input];
        *x = (struct winnow_tensor){ .dtype = t->dtype, .rank = t->rank, .data = t->data, .bytes = t->bytes };
        memcpy(x->shape, t->shape, t->rank * sizeof t->shape[0]);
    }
    return WINNOW_OK;
}

/* Rows [from, to) as one tensor per input of the model; data in the contestant's arena. */
static enum winnow_status make_inputs(struct contestant *c, const struct wn_rows *rows, size_t from, size_t to,
                                      struct winnow_tensor *ret, struct winnow_err *err)
{
    if (c->raw[0] >= 0)
        return encode(c, rows, from, to, ret, err);
    for (unsigned k = 0; k < winnow_model_n_inputs(c->m.model); k++) {
        const struct wn_rows_input *in = wn_rows_input(rows, c->tensor[k]);
        struct winnow_tensor *t = &ret[k];
        *t = (struct winnow_tensor){ .dtype = winnow_model_input(c->m.model, k)->dtype, .rank = in->rank + 1 };
        t->shape[0] = (int64_t)(to - from);
        memcpy(t->shape + 1, in->shape, in->rank * sizeof t->shape[0]);
        t->bytes = (to - from) * in->row_bytes;
        if (t->rank > WINNOW_MAX_RANK || !(t->data = wn_arena_alloc(&c->arena, t->bytes)))
            return wn_fail(err, WINNOW_E_NOMEM, "rows");
        for (size_t i = from; i < to; i++) {
            size_t n;
            const void *item = wn_rows_item(rows, c->tensor[k], i, &n);
            memcpy((char *)t->data + (i - from) * in->row_bytes, item, n);
        }
    }
    return WINNOW_OK;
}

static double label_loss(const float *s, size_t n, int64_t label)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)s[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)s[i] - max);
    return log(sum) + max - (double)s[label];
}

static enum winnow_status score(struct contestant *c, const struct wn_rows *rows, size_t from, size_t to,
                                struct winnow_err *err)
{
    struct winnow_tensor x[WN_ROWS_MAX_INPUTS] = { 0 }, y[64] = { 0 };
    unsigned n_in = winnow_model_n_inputs(c->m.model), n_out = winnow_model_n_outputs(c->m.model);
    if (n_out > WN_COUNT(y))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%u outputs", n_out);
    wn_arena_reset(&c->arena);
    WN_TRY(make_inputs(c, rows, from, to, x, err));
    uint64_t start = wn_thread_cpu_ns();
    WN_TRY(winnow_run(c->m.model, c->m.scratch, x, n_in, y, n_out, err));
    c->cpu_ns += wn_thread_cpu_ns() - start;
    const struct winnow_tensor *s = &y[c->output];
    size_t classes = s->bytes / 4 / (to - from);
    if (s->dtype != WINNOW_F32 || !classes)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "output '%s' is no f32 scores",
                       winnow_model_output(c->m.model, c->output)->name);
    for (size_t i = from; i < to; i++) {
        const float *row = (const float *)s->data + (i - from) * classes;
        int64_t label = wn_rows_label(rows, i), best = 0;
        if (label < 0 || (size_t)label >= classes)
            return wn_fail(err, WINNOW_E_MALFORMED, "row %zu has label %lld, the model knows %zu classes", i,
                           (long long)label, classes);
        for (size_t k = 1; k < classes; k++)
            if (row[k] > row[best])
                best = (int64_t)k;
        c->right[i] = best == label;
        c->correct += best == label;
        c->loss += label_loss(row, classes, label);
    }
    return WINNOW_OK;
}

static enum winnow_status score_all(struct contestant *c, unsigned n, const struct wn_rows *rows,
                                    struct winnow_err *err)
{
    size_t count = wn_rows_count(rows);
    for (unsigned i = 0; i < n && count; i++) { /* warm up: plans, caches */
        size_t first = WN_MIN(count, (size_t)BLOCK);
        WN_TRY(score(&c[i], rows, 0, first, err));
        c[i].correct = 0;
        c[i].cpu_ns = 0;
        c[i].loss = 0;
    }
    for (size_t from = 0, turn = 0; from < count; from += BLOCK, turn++)
        for (unsigned i = 0; i < n; i++)
            WN_TRY(score(&c[(i + turn) % n], rows, from, WN_MIN(from + BLOCK, count), err));
    return WINNOW_OK;
}

/* Paired difference in accuracy (second minus first) with its one-sided 95 % lower bound: Wald on the discordant pairs,
 * half an observation added to each cell (Agresti and Min, 2005). */
struct paired {
    size_t both, only_first, only_second, neither;
    double diff, lower95;
};

static struct paired pair(const struct contestant *a, const struct contestant *b, size_t n)
{
    struct paired p = { 0 };
    for (size_t i = 0; i < n; i++) {
        p.both += a->right[i] && b->right[i];
        p.only_first += a->right[i] && !b->right[i];
        p.only_second += !a->right[i] && b->right[i];
        p.neither += !a->right[i] && !b->right[i];
    }
    double N = (double)n + 2, bc = (double)(p.only_first + p.only_second) + 1;
    double d = (double)p.only_second - (double)p.only_first;
    p.diff = n ? d / (double)n : 0;
    p.lower95 = d / N - 1.6448536 * sqrt(bc - d * d / N) / N;
    return p;
}

static json_t *contestant_json(const struct contestant *c, size_t rows)
{
    double n = rows ? (double)rows : 1;
    return json_pack("{s:s,s:I,s:f,s:f,s:f,s:I,s:I}", "path", c->m.path, "correct", (json_int_t)c->correct, "accuracy",
                     (double)c->correct / n, "loss", c->loss / n, "cpu_us_per_row", (double)c->cpu_ns / 1e3 / n,
                     "bytes", (json_int_t)c->m.file_bytes, "weight_bytes",
                     (json_int_t)winnow_model_weight_bytes(c->m.model));
}

/* What a model that always answers the commonest label would get. */
static double majority(const struct wn_rows *rows)
{
    size_t n = wn_rows_count(rows), best = 0;
    WN_CLEANUP(wn_freep) size_t *count = calloc(65536, sizeof *count);
    for (size_t i = 0; count && i < n; i++) {
        int64_t label = wn_rows_label(rows, i);
        if (label < 0 || label >= 65536)
            continue;
        count[label]++;
        best = WN_MAX(best, count[label]);
    }
    return n ? (double)best / (double)n : 0;
}

static enum winnow_status report(const struct wn_evaluate_args *a, const struct contestant *c, unsigned n,
                                 const struct wn_rows *rows, struct winnow_err *err)
{
    size_t count = wn_rows_count(rows);
    struct paired p = { 0 };
    if (n == 2)
        p = pair(&c[0], &c[1], count);
    if (!a->quiet) {
        for (unsigned i = 0; i < n; i++)
            printf("%-32s %6.2f %%  (%zu of %zu)  loss %.4f  %8.1f us of CPU per row  %zu bytes\n", c[i].m.path,
                   count ? 100.0 * (double)c[i].correct / (double)count : 0.0, c[i].correct, count,
                   count ? c[i].loss / (double)count : 0.0, count ? (double)c[i].cpu_ns / 1e3 / (double)count : 0.0,
                   c[i].m.file_bytes);
        if (n == 2)
            printf("difference %+.2f points, at least %+.2f with 95 %% confidence (%zu only the first, %zu only the "
                   "second right)\n",
                   100 * p.diff, 100 * p.lower95, p.only_first, p.only_second);
    }
    if (!a->json)
        return WINNOW_OK;
    json_t *models = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(models, contestant_json(&c[i], count));
    json_t *json = json_pack("{s:I,s:f,s:o}", "rows", (json_int_t)count, "majority", majority(rows), "models", models);
    if (n == 2)
        json_object_set_new(json, "paired",
                            json_pack("{s:I,s:I,s:I,s:I,s:f,s:f}", "both", (json_int_t)p.both, "only_first",
                                      (json_int_t)p.only_first, "only_second", (json_int_t)p.only_second, "neither",
                                      (json_int_t)p.neither, "diff", p.diff, "lower95", p.lower95));
    return wn_cli_write_json(a->json, json, err);
}

enum winnow_status wn_cli_evaluate_models(const struct wn_evaluate_args *what, struct winnow_err *err)
{
    struct wn_rows *rows = NULL;
    struct contestant c[2] = { 0 };
    unsigned n = what->model[1] ? 2 : 1;
    enum winnow_status status = wn_rows_open(what->rows, 0, &rows, err);
    for (unsigned i = 0; i < n && status == WINNOW_OK; i++)
        status = open_contestant(what->model[i], rows, &c[i], err);
    if (status == WINNOW_OK)
        status = score_all(c, n, rows, err);
    if (status == WINNOW_OK)
        status = report(what, c, n, rows, err);
    for (unsigned i = 0; i < n; i++) {
        free(c[i].right);
        wn_arena_done(&c[i].arena);
        wn_cli_close(&c[i].m);
    }
    wn_rows_free(rows);
    return status;
}

static const char doc[] = "Score models on labelled rows with the serving engine.\v" WN_CLI_EXAMPLES(
    "  winnow evaluate models/mine/1 rows.npz\n"
    "  winnow evaluate base.onnx small.onnx rows.npz  both, and their paired difference\n");

int wn_cli_evaluate(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "MODEL [MODEL2] ROWS.npz", doc, NULL, NULL, NULL };
    struct args a = { 0 };
    struct winnow_err err;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct wn_evaluate_args what = { .model = { a.path[0], a.n == 3 ? a.path[1] : NULL },
                                     .rows = a.path[a.n - 1],
                                     .json = a.json,
                                     .quiet = a.json && strcmp(a.json, "-") == 0 };
    return wn_cli_evaluate_models(&what, &err) == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
