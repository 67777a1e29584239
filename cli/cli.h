/* cli.h: what the commands of `winnow` share. */
#ifndef WN_CLI_H
#define WN_CLI_H

#include <jansson.h>
#include "base/base.h"
#include "pipeline/pipeline.h"
#include "winnow/winnow.h"

/** Exit codes. */
enum { WN_EXIT_OK = 0, WN_EXIT_FAILED = 1, WN_EXIT_USAGE = 2 };

/** The end of every --help: WN_CLI_EXAMPLES("  winnow run …\n") after the \v of an argp's doc. */
#define WN_CLI_EXAMPLES(lines)                                                                                         \
    "Examples:\n" lines "\nExit status: 0 done, 1 failed (standard error says why), 2 wrong usage."

/** A command: main() of its own, argv[0] is its full name ("winnow run"). Returns an exit code. */
typedef int wn_cli_fn(int argc, char **argv);
wn_cli_fn wn_cli_run, wn_cli_benchmark, wn_cli_analyze, wn_cli_compare, wn_cli_evaluate;
wn_cli_fn wn_cli_models, wn_cli_files, wn_cli_jobs, wn_cli_sparsify, wn_cli_recipe, wn_cli_tokenize, wn_cli_token;

/** What `winnow evaluate` scores. */
struct wn_evaluate_args {
    const char *model[2]; /* the second may be NULL */
    const char *rows;     /* ROWS.npz */
    const char *json;     /* where the figures go; NULL: nowhere */
    bool quiet;           /* print nothing */
};
enum winnow_status wn_cli_evaluate_models(const struct wn_evaluate_args *what, struct winnow_err *err);

/** Bounds of numbers that several commands take. */
enum { WN_CLI_MAX_THREADS = 1024, WN_CLI_MAX_BATCH = 1000000, WN_CLI_MAX_SHAPES = 32 };

struct argp;
struct argp_state;
/** KEY=NAME, or text=NAME,NAME, into a job's "columns". Ends the program with usage on anything else. */
void wn_cli_add_column(json_t *columns, const char *arg, struct argp_state *state);
/** The value of an option such as "--threads": a whole number, `min` … `max`, all of `text`. Otherwise argp_error():
 *  a message that names the option, and exit WN_EXIT_USAGE. */
int64_t wn_cli_whole(const char *option, const char *text, int64_t min, int64_t max, struct argp_state *state);
/** The same for a number that need not be whole. */
double wn_cli_real(const char *option, const char *text, double min, double max, struct argp_state *state);

/** What the commands on a model and made-up inputs take: an argp child whose input is this. Set max_models and threads
 *  to their defaults before. */
struct wn_model_args {
    const char *model[2];
    unsigned n_models, max_models; /* 1 … 2 */
    unsigned threads;              /* 0: all CPUs */
    const char *json;              /* NULL: none */
    const char *cache;             /* folder of compiled models; NULL: none */
    bool tune;
    char *shape[WN_CLI_MAX_SHAPES];
    size_t n_shapes;
};
extern const struct argp wn_model_argp;

/** Print "winnow run: MESSAGE" and return WN_EXIT_FAILED. */
int wn_cli_fail(const char *command, const struct winnow_err *err);

/** Write `json` to the file `path` ("-" is standard output); takes the reference. */
enum winnow_status wn_cli_write_json(const char *path, json_t *json, struct winnow_err *err);

/** A model to run locally, with its scratch. */
struct wn_cli_model {
    const char *path;        /* as given */
    char *file;              /* the .onnx file */
    const char *asked_cache; /* folder of compiled models; NULL: none */
    const char *cache;       /* its compiled form is to be kept there when it is closed; NULL: not */
    size_t file_bytes;
    double load_ms; /* until it was loaded, runs not counted */
    winnow_model *model;
    winnow_pool *pool;
    winnow_scratch *scratch;
    struct wn_pipeline *pipeline; /* NULL without pipeline.yaml beside the file */
};
/** The folder of a model's files that the folder `path` means: itself; but the highest version in it where it is a
 *  MODEL of a repository (MODEL/VERSION/model.onnx, none of its own), which is said on standard error. malloc'ed; NULL
 *  when out of memory. */
char *wn_cli_model_folder(const char *path);
/** The folder in which versions of a repository share pipeline.yaml and what it names: the one above `folder`, where
 * that is named as a VERSION. malloc'ed; NULL where it is not. */
char *wn_cli_shared_folder(const char *folder);
/** `path` itself, or model.onnx in wn_cli_model_folder() where it is a folder. malloc'ed; NULL when out of memory. */
char *wn_cli_model_file(const char *path);
/** Load what wn_cli_model_file() makes of `path`. */
enum winnow_status wn_cli_open(const char *path, unsigned threads, const struct winnow_load_opts *opts,
                               struct wn_cli_model *ret, struct winnow_err *err);
void wn_cli_close(struct wn_cli_model *m);

/** Inputs of a run; data malloc'ed. */
struct wn_cli_inputs {
    struct winnow_tensor *t; /* [n] */
    unsigned n;
};
/** From an .npz file: arrays by input name (or the only array for the only input). */
enum winnow_status wn_cli_inputs_read(const winnow_model *model, const char *path, struct wn_cli_inputs *ret,
                                      struct winnow_err *err);
/** Made up, the same for the same seed: `batch` rows where the batch is dynamic, shapes from "name=1,3,224,224" for
 * other dynamic dimensions (`shapes`, n_shapes of them). One that names no input is E_NOT_FOUND with the inputs' names.
 */
enum winnow_status wn_cli_inputs_random(const winnow_model *model, int64_t batch, char *const *shapes, size_t n_shapes,
                                        unsigned seed, struct wn_cli_inputs *ret, struct winnow_err *err);
void wn_cli_inputs_done(struct wn_cli_inputs *in);

/** winnow_scratch_tune() where `tune`; what was found is kept with the compiled model. */
enum winnow_status wn_cli_tune(struct wn_cli_model *m, const struct wn_cli_inputs *in, bool tune,
                               struct winnow_err *err);
/** Run with outputs in the scratch's memory. outputs [n_outputs of the model]. */
enum winnow_status wn_cli_run_once(struct wn_cli_model *m, const struct wn_cli_inputs *in,
                                   struct winnow_tensor *outputs, struct winnow_err *err);

/** "[1,3,224,224]". */
const char *wn_cli_shape(const int64_t *shape, unsigned rank, char *buf, size_t room);

#endif
