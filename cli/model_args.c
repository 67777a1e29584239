/* model_args.c: the options that the commands on a MODEL and made-up inputs share. */
#include <argp.h>
#include "cli/cli.h"

static const struct argp_option options[] = {
    { "shape", 'S', "INPUT=1,3,224,224", 0, "shape of an input with dynamic dimensions", 0 },
    { "threads", 'n', "N", 0, "threads, 0: as many as the CPUs this process may use (default: 0 for benchmark, else 1)",
      0 },
    { "cache", 'k', "FOLDER", 0, "keep the compiled model there, and load it from there the next time", 0 },
    { "tune", 'u', NULL, 0,
      "measure every kernel that could run each layer, and take the fastest (with --cache: for good)", 0 },
    { "json", 'j', "FILE", 0, "write the figures as JSON (-: standard output)", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct wn_model_args *a = state->input;
    switch (key) {
    case 'S':
        if (a->n_shapes == WN_CLI_MAX_SHAPES)
            argp_error(state, "at most %d shapes", WN_CLI_MAX_SHAPES);
        a->shape[a->n_shapes++] = arg;
        return 0;
    case 'n':
        a->threads = (unsigned)wn_cli_whole("--threads", arg, 0, WN_CLI_MAX_THREADS, state);
        return 0;
    case 'u':
        a->tune = true;
        return 0;
    case 'k':
        a->cache = arg;
        return 0;
    case 'j':
        a->json = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n_models == a->max_models)
            argp_usage(state);
        a->model[a->n_models++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->n_models)
            argp_error(state, "which MODEL?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp wn_model_argp = { options, parse, NULL, NULL, NULL, NULL, NULL };
