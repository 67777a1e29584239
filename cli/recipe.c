/* recipe.c: `winnow recipe check FILE`: what a recipe means, and what it will cost, before a second is spent. The
 * worker knows; this hands over to it. */
#include <argp.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/worker.h"

struct args {
    const char *word[2], *model, *rows, *json;
    unsigned n;
};

static const struct argp_option options[] = {
    { "model", 'm', "BASE", 0,
      "the model it is for (a .onnx file or its folder): names that match nothing are then found, and costs known", 0 },
    { "rows", 'r', "N", 0, "rows of training data, for the estimate", 0 },
    { "json", 'j', "FILE", 0, "write curves and estimate as JSON (-: standard output)", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'm':
        a->model = arg;
        return 0;
    case 'r':
        wn_cli_whole("--rows", arg, 1, 1000000000, state);
        a->rows = arg; /* as it is, for the worker */
        return 0;
    case 'j':
        a->json = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n == WN_COUNT(a->word))
            argp_usage(state);
        a->word[a->n++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n != 2 || strcmp(a->word[0], "check"))
            argp_error(state, "say: check FILE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char doc[] =
    "Check a recipe: its sparsity and learning-rate curves, and an estimate of time and memory.\v" WN_CLI_EXAMPLES(
        "  winnow recipe check recipe.yaml\n"
        "  winnow recipe check recipe.yaml --model base.onnx --rows 50000\n");

int wn_cli_recipe(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "check FILE", doc, NULL, NULL, NULL };
    struct args a = { 0 };
    struct winnow_err err;
    char *to[16] = { NULL, (char *)"recipe" };
    int n = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    to[n++] = (char *)a.word[1];
    WN_CLEANUP(wn_freep) char *model = a.model ? wn_cli_model_file(a.model) : NULL;
    if (a.model && !model) {
        wn_fail(&err, WINNOW_E_NOMEM, "%s", a.model);
        return wn_cli_fail(argv[0], &err);
    }
    if (model) {
        to[n++] = (char *)"--model";
        to[n++] = model;
    }
    if (a.rows) {
        to[n++] = (char *)"--rows";
        to[n++] = (char *)a.rows;
    }
    if (a.json) {
        to[n++] = (char *)"--json";
        to[n++] = (char *)a.json;
    }
    wn_worker_exec(to, &err);
    return wn_cli_fail(argv[0], &err);
}
