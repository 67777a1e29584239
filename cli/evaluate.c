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
    size_t correct, row_bytes;
    uint64_t cpu_ns; /* of the model alone, without decoding */
    double loss;     /* sum of -log softmax of the label */
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

static enum winnow_status open_contestant(const char *path, const struct wn_rows *rows, struct contestant *c,
                                          struct winnow_err *err)
{
    WN_TRY(wn_cli_open(path, 1, NULL, &c->m, err));
    if (winnow_model_n_inputs(c->m.model) != 1)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s has %u inputs, evaluation wants one", path,
                       winnow_model_n_inputs(c->m.model));
    const struct wn_rows_input *in = wn_rows_input(rows, 0);
    if (in->bytes && !c->m.pipeline)
        return wn_fail(err, WINNOW_E_MALFORMED, "the rows hold raw items, and %s has no pipeline.yaml", path);
    if (c->m.pipeline && wn_rows_n_labels(rows) && wn_pipeline_n_labels(c->m.pipeline) &&
        !same_labels(c->m.pipeline, rows))
        return wn_fail(err, WINNOW_E_MALFORMED, "the label names of %s are not those of the rows", path);
    c->output = c->m.pipeline ? wn_pipeline_model_output(c->m.pipeline) : 0;
    c->right = calloc(wn_rows_count(rows) + 1, 1);
    if (c->m.pipeline)
        wn_pipeline_row(c->m.pipeline, &c->row_bytes);
    else
        c->row_bytes = in->row_bytes;
    return c->right ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", path);
}

/* Rows [from, to) as one tensor of the model's input; data malloc'ed. */
static enum winnow_status make_input(const struct contestant *c, const struct wn_rows *rows, size_t from, size_t to,
                                     struct winnow_tensor *ret, struct winnow_err *err)
{
    const struct winnow_io *io = winnow_model_input(c->m.model, 0);
    const struct wn_rows_input *in = wn_rows_input(rows, 0);
    *ret = (struct winnow_tensor){ .dtype = io->dtype, .rank = io->rank, .bytes = (to - from) * c->row_bytes };
    memcpy(ret->shape, io->shape, sizeof ret->shape);
    ret->shape[0] = (int64_t)(to - from);
    if (c->m.pipeline)
        memcpy(ret->shape + 1, wn_pipeline_row(c->m.pipeline, NULL)->shape, (io->rank - 1) * sizeof ret->shape[0]);
    else
        memcpy(ret->shape + 1, in->shape, in->rank * sizeof ret->shape[0]);
    ret->data = malloc(ret->bytes + 1);
    if (!ret->data)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    for (size_t i = from; i < to; i++) {
        size_t n;
        const void *item = wn_rows_item(rows, 0, i, &n);
        char *row = (char *)ret->data + (i - from) * c->row_bytes;
        if (in->bytes) {
            enum winnow_status status = wn_pipeline_encode(c->m.pipeline, item, n, row, err);
            if (status != WINNOW_OK)
                return wn_fail_at(err, status, "row %zu", i);
        } else if (n != c->row_bytes) {
            return wn_fail(err, WINNOW_E_MALFORMED, "row %zu has %zu bytes, the model wants %zu", i, n, c->row_bytes);
        } else {
            memcpy(row, item, n);
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
    struct winnow_tensor x = { 0 }, y[64] = { 0 };
    unsigned n_out = winnow_model_n_outputs(c->m.model);
    if (n_out > WN_COUNT(y))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%u outputs", n_out);
    enum winnow_status status = make_input(c, rows, from, to, &x, err);
    uint64_t start = wn_thread_cpu_ns();
    if (status == WINNOW_OK)
        status = winnow_run(c->m.model, c->m.scratch, &x, 1, y, n_out, err);
    c->cpu_ns += wn_thread_cpu_ns() - start;
    free(x.data);
    WN_TRY(status);
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
        if (label >= 0 && label < 65536)
            best = WN_MAX(best, ++count[label]);
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
        wn_cli_close(&c[i].m);
    }
    wn_rows_free(rows);
    return status;
}

int wn_cli_evaluate(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, "MODEL [MODEL2] ROWS.npz", "Score models on labelled rows with the serving engine.", NULL,
        NULL,    NULL
    };
    struct args a = { 0 };
    struct winnow_err err;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct wn_evaluate_args what = { .model = { a.path[0], a.n == 3 ? a.path[1] : NULL },
                                     .rows = a.path[a.n - 1],
                                     .json = a.json,
                                     .quiet = a.json && strcmp(a.json, "-") == 0 };
    return wn_cli_evaluate_models(&what, &err) == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
