/* run.c: `winnow run MODEL -i x.npz -o y.npz`. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/npz.h"
#include "cli/cli.h"

struct args {
    const char *model, *in, *out, *cache;
    unsigned threads;
    bool reference;
};

static const struct argp_option options[] = {
    { "input", 'i', "FILE.npz", 0, "arrays by input name (one array serves a single input)", 0 },
    { "output", 'o', "FILE.npz", 0, "where the outputs go; without it a summary is printed", 0 },
    { "threads", 'n', "N", 0, "threads, 0: all CPUs (default: 1)", 0 },
    { NULL, 't', NULL, OPTION_ALIAS | OPTION_HIDDEN, NULL, 0 },
    { "cache", 'k', "FOLDER", 0, "keep the compiled model there, and load it from there the next time", 0 },
    { "reference", 'r', NULL, 0, "run plain-C reference operators instead of the kernels", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'i':
        a->in = arg;
        return 0;
    case 'o':
        a->out = arg;
        return 0;
    case 'n':
    case 't': /* as it was once */
        a->threads = (unsigned)wn_cli_whole("--threads", arg, 0, WN_CLI_MAX_THREADS, state);
        return 0;
    case 'k':
        a->cache = arg;
        return 0;
    case 'r':
        a->reference = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->model)
            argp_usage(state);
        a->model = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->model || !a->in)
            argp_error(state, "MODEL and --input are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum wn_npy_type npy_type(enum winnow_dtype dtype)
{
    static const enum wn_npy_type map[] = {
        [WINNOW_F32] = WN_NPY_F4, [WINNOW_U8] = WN_NPY_U1,  [WINNOW_I8] = WN_NPY_I1,  [WINNOW_U16] = WN_NPY_U2,
        [WINNOW_I16] = WN_NPY_I2, [WINNOW_I32] = WN_NPY_I4, [WINNOW_I64] = WN_NPY_I8, [WINNOW_BOOL] = WN_NPY_B1,
        [WINNOW_F16] = WN_NPY_F2, [WINNOW_F64] = WN_NPY_F8, [WINNOW_U32] = WN_NPY_U4, [WINNOW_U64] = WN_NPY_U8,
    };
    return (size_t)dtype < WN_COUNT(map) ? map[dtype] : WN_NPY_NONE;
}

static enum winnow_status write_outputs(const winnow_model *model, const struct winnow_tensor *y, const char *path,
                                        struct winnow_err *err)
{
    struct wn_npz_writer *w;
    WN_TRY(wn_npz_writer_new(path, &w, err));
    enum winnow_status status = WINNOW_OK;
    for (unsigned i = 0; i < winnow_model_n_outputs(model) && status == WINNOW_OK; i++) {
        struct wn_npy a = { .type = npy_type(y[i].dtype), .rank = y[i].rank, .data = y[i].data, .bytes = y[i].bytes };
        memcpy(a.shape, y[i].shape, sizeof a.shape);
        const char *name = winnow_model_output(model, i)->name;
        status = a.type == WN_NPY_NONE ? wn_fail(err, WINNOW_E_UNSUPPORTED, "output '%s' is %s, which .npy cannot hold",
                                                 name, winnow_dtype_name(y[i].dtype))
                                       : wn_npz_writer_add(w, name, &a, err);
    }
    if (status == WINNOW_OK)
        status = wn_npz_writer_finish(w, err);
    wn_npz_writer_free(w);
    return status;
}

static void print_outputs(const winnow_model *model, const struct winnow_tensor *y)
{
    char shape[96];
    for (unsigned i = 0; i < winnow_model_n_outputs(model); i++) {
        printf("%s %s %s", winnow_model_output(model, i)->name, winnow_dtype_name(y[i].dtype),
               wn_cli_shape(y[i].shape, y[i].rank, shape, sizeof shape));
        for (size_t k = 0; k < 8 && y[i].dtype == WINNOW_F32 && k < y[i].bytes / 4; k++)
            printf(" %.6g", (double)((const float *)y[i].data)[k]);
        printf("%s\n", y[i].bytes > 32 ? " …" : "");
    }
}

static const char doc[] = "Run a model once.\v" WN_CLI_EXAMPLES(
    "  winnow run mine.onnx -i x.npz                 a summary of the outputs\n"
    "  winnow run models/mine -i x.npz -o y.npz      the highest version there\n");

int wn_cli_run(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "MODEL", doc, NULL, NULL, NULL };
    struct args a = { .threads = 1 };
    struct winnow_err err;
    struct wn_cli_model m = { 0 };
    struct wn_cli_inputs in = { 0 };
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct winnow_load_opts opts = { .reference = a.reference, .cache = a.cache };
    enum winnow_status status = wn_cli_open(a.model, a.threads, &opts, &m, &err);
    if (status == WINNOW_OK)
        status = wn_cli_inputs_read(m.model, a.in, &in, &err);
    struct winnow_tensor *y = calloc(status == WINNOW_OK ? winnow_model_n_outputs(m.model) + 1 : 1, sizeof *y);
    if (status == WINNOW_OK && y)
        status = wn_cli_run_once(&m, &in, y, &err);
    if (status == WINNOW_OK && y && a.out)
        status = write_outputs(m.model, y, a.out, &err);
    else if (status == WINNOW_OK && y)
        print_outputs(m.model, y);
    free(y);
    wn_cli_inputs_done(&in);
    wn_cli_close(&m);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
