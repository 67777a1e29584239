/* compare.c: `winnow compare A B`: the same inputs through two models (or one model and its reference operators). */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

struct args {
    struct wn_model_args common;
    const char *in;
    int64_t batch;
    unsigned seed;
    bool reference;
};

static const struct argp_option options[] = { { "input", 'i', "FILE.npz", 0, "inputs (default: made up)", 0 },
                                              { "batch", 'b', "N", 0, "rows of made-up inputs (default 4)", 0 },
                                              { "seed", 'e', "N", 0, "seed of made-up inputs (default 1)", 0 },
                                              { "reference", 'r', NULL, 0,
                                                "compare MODEL with its own plain-C reference operators", 0 },
                                              { 0 } };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'i':
        a->in = arg;
        return 0;
    case 'b':
        a->batch = wn_cli_whole("--batch", arg, 1, WN_CLI_MAX_BATCH, state);
        return 0;
    case 'e':
        a->seed = (unsigned)wn_cli_whole("--seed", arg, 0, UINT32_MAX, state);
        return 0;
    case 'r':
        a->reference = true;
        return 0;
    case ARGP_KEY_END:
        if (a->common.n_models + a->reference < 2)
            argp_error(state, "two models, or one with --reference, are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

struct difference {
    double max_abs, largest; /* of B's values */
    size_t count, rows, same_top1;
    bool comparable;
};

static double value_at(const struct winnow_tensor *t, size_t i)
{
    switch (t->dtype) {
    case WINNOW_F32:
        return (double)((const float *)t->data)[i];
    case WINNOW_F64:
        return ((const double *)t->data)[i];
    case WINNOW_U8:
    case WINNOW_BOOL:
        return ((const uint8_t *)t->data)[i];
    case WINNOW_I8:
        return ((const int8_t *)t->data)[i];
    case WINNOW_I32:
        return ((const int32_t *)t->data)[i];
    case WINNOW_I64:
        return (double)((const int64_t *)t->data)[i];
    default:
        return NAN;
    }
}

static size_t arg_max(const struct winnow_tensor *t, size_t from, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (value_at(t, from + i) > value_at(t, from + best))
            best = i;
    return best;
}

/* Values of one row of scores: the last axis after the batch that has more than one (N×C×1×1: the C); 0: there is no
 * choice to compare. A tensor of one axis is one row. */
static size_t row_of(const struct winnow_tensor *t)
{
    unsigned rank = t->rank;
    while (rank > 1 && t->shape[rank - 1] == 1)
        rank--;
    return rank > 1 || t->rank == 1 ? (size_t)t->shape[rank - 1] : 0;
}

static struct difference compare(const struct winnow_tensor *x, const struct winnow_tensor *y)
{
    struct difference d = { 0 };
    size_t elem = winnow_dtype_size(y->dtype), last = row_of(y);
    if (x->bytes / winnow_dtype_size(x->dtype) != y->bytes / elem)
        return d;
    d.comparable = true;
    d.count = y->bytes / elem;
    for (size_t i = 0; i < d.count; i++) {
        double a = value_at(x, i), b = value_at(y, i), diff = a == b || (isnan(a) && isnan(b)) ? 0 : fabs(a - b);
        if (!(diff <= d.max_abs))
            d.max_abs = diff;
        d.largest = fmax(d.largest, fabs(b));
    }
    for (size_t i = 0; last && i + last <= d.count; i += last, d.rows++)
        d.same_top1 += arg_max(x, i, last) == arg_max(y, i, last);
    return d;
}

static enum winnow_status run_both(const struct args *a, struct wn_cli_model m[2], struct winnow_tensor *y[2],
                                   struct wn_cli_inputs *in, struct winnow_err *err)
{
    for (int i = 0; i < 2; i++) {
        struct winnow_load_opts opts = { .reference = i == 1 && a->reference, .cache = a->common.cache };
        WN_TRY(wn_cli_open(a->common.model[i] ? a->common.model[i] : a->common.model[0], a->common.threads, &opts,
                           &m[i], err));
    }
    if (winnow_model_n_inputs(m[0].model) != winnow_model_n_inputs(m[1].model) ||
        winnow_model_n_outputs(m[0].model) != winnow_model_n_outputs(m[1].model))
        return wn_fail(err, WINNOW_E_MALFORMED, "the models differ in their number of inputs or outputs");
    if (a->in)
        WN_TRY(wn_cli_inputs_read(m[0].model, a->in, in, err));
    else
        WN_TRY(wn_cli_inputs_random(m[0].model, a->batch, a->common.shape, a->common.n_shapes, a->seed, in, err));
    for (int i = 0; i < 2; i++) {
        y[i] = calloc(winnow_model_n_outputs(m[i].model) + 1, sizeof **y);
        if (!y[i])
            return wn_fail(err, WINNOW_E_NOMEM, "outputs");
        WN_TRY(wn_cli_run_once(&m[i], in, y[i], err));
    }
    return WINNOW_OK;
}

static enum winnow_status report(const struct args *a, const struct wn_cli_model m[2], struct winnow_tensor *y[2],
                                 struct winnow_err *err)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < winnow_model_n_outputs(m[0].model); i++) {
        const char *name = winnow_model_output(m[0].model, i)->name;
        struct difference d = compare(&y[0][i], &y[1][i]);
        double rel = d.largest > 0 ? d.max_abs / d.largest : d.max_abs;
        if (!a->common.json || strcmp(a->common.json, "-")) {
            if (d.comparable)
                printf("%-24s %zu values, largest %.6g, difference at most %.3g (%.3g of it)", name, d.count, d.largest,
                       d.max_abs, rel);
            else
                printf("%-24s the shapes differ", name);
            if (d.rows)
                printf(", same arg-max %zu of %zu", d.same_top1, d.rows);
            putchar('\n');
        }
        json_array_append_new(list, json_pack("{s:s,s:b,s:f,s:f,s:I,s:I}", "output", name, "comparable", d.comparable,
                                              "max_abs", d.max_abs, "max_rel", rel, "rows", (json_int_t)d.rows,
                                              "same_top1", (json_int_t)d.same_top1));
    }
    if (a->common.json)
        return wn_cli_write_json(a->common.json, json_pack("{s:o}", "outputs", list), err);
    json_decref(list);
    return WINNOW_OK;
}

static const char doc[] = "Compare the outputs of two models on the same inputs.\v" WN_CLI_EXAMPLES(
    "  winnow compare base.onnx small.onnx            on made-up inputs\n"
    "  winnow compare mine.onnx --reference           our kernels beside plain C\n");

int wn_cli_compare(int argc, char **argv)
{
    static const struct argp_child common[] = { { &wn_model_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "A [B]", doc, common, NULL, NULL };
    struct args a = { .common = { .max_models = 2, .threads = 1 }, .batch = 4, .seed = 1 };
    struct winnow_err err;
    struct wn_cli_model m[2] = { 0 };
    struct winnow_tensor *y[2] = { 0 };
    struct wn_cli_inputs in = { 0 };
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum winnow_status status = run_both(&a, m, y, &in, &err);
    if (status == WINNOW_OK)
        status = report(&a, m, y, &err);
    for (int i = 0; i < 2; i++) {
        free(y[i]);
        wn_cli_close(&m[i]);
    }
    wn_cli_inputs_done(&in);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
