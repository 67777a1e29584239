/* sparsify.c: `winnow sparsify`: a job without a server: make its folder, run winnow-worker on it, take what it made,
 * and score base and result by the engine that serves. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/tree.h"
#include "cli/cli.h"
#include "cli/jobdir.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/worker.h"

#define POLL_MS 200

struct args {
    struct wn_jobdir_spec spec;
    const char *out, *json;
    bool keep, level, force;
    int64_t memory; /* MiB; 0: the worker's default */
};

enum {
    KEY_LEVEL = 256,
    KEY_SEED,
    KEY_THREADS,
    KEY_EPOCHS,
    KEY_NEW_LABELS,
    KEY_KEEP,
    KEY_VALIDATION,
    KEY_SHARE,
    KEY_TRAINING,
    KEY_TEACHER,
    KEY_COLUMNS,
    KEY_FORCE,
    KEY_MEMORY
};

static const struct argp_option options[] = {
    { "model", 'm', "BASE", 0, "a .onnx file, or a folder with model.onnx, pipeline.yaml and what it names (needed)",
      0 },
    { "data", 'd', "DATA", 0, "a zip, tar or folder of CLASS/picture, IDX files, CSV or JSONL (needed)", 0 },
    { "output", 'o', "OUTDIR", 0, "folder for the result (needed)", 0 },
    { "recipe", 'r', "FILE", 0, "what to do, step by step; or:", 0 },
    { "level", KEY_LEVEL, "0.7", 0, "0 … 1: fine-tune only … as small as can be", 0 },
    { "epochs", KEY_EPOCHS, "N", 0, "passes over the data, with --level", 0 },
    { "validation", KEY_VALIDATION, "DATA", 0, "rows to judge by (default: a share of the data)", 0 },
    { "eval-share", KEY_SHARE, "0.1", 0, "that share", 0 },
    { "seed", KEY_SEED, "N", 0, "the same seed, data and threads give the same weights (default 1)", 0 },
    { "threads", KEY_THREADS, "N", 0, "threads that train (default 1)", 0 },
    { "memory", KEY_MEMORY, "MIB", 0,
      "address space that training may use (default 6144): about ten times the f32 weights", 0 },
    { "teacher", KEY_TEACHER, "FILE", 0, "a .onnx file that a recipe's distillation learns from (default: the base)",
      0 },
    { "training", KEY_TRAINING, "KEY=VALUE", 0, "how steps are made: batch=128, flip=true, … (docs/job-directory.md)",
      0 },
    { "columns", KEY_COLUMNS, "KEY=NAME", 0,
      "texts: which columns to take: text=title,body, label=topic, text_pair=…, join=\". \" (default: guessed)", 0 },
    { "new-labels", KEY_NEW_LABELS, NULL, 0, "the data has labels of its own: the last layer is made anew", 0 },
    { "force", KEY_FORCE, NULL, 0, "write into an OUTDIR that holds something; an earlier result there is replaced",
      0 },
    { "keep", KEY_KEEP, NULL, 0, "keep the job's folder, OUTDIR/job", 0 },
    { "json", 'j', "FILE", 0, "write result and scores as JSON (-: standard output)", 0 },
    { 0 }
};

static error_t at_end(struct args *a, struct argp_state *state)
{
    if (!a->spec.model || !a->spec.data || !a->out)
        argp_error(state, "--model, --data and --output are needed");
    if ((a->spec.recipe != NULL) == a->level)
        argp_error(state, a->level ? "give one of --recipe and --level, not both" : "--recipe or --level is needed");
    if (a->spec.recipe && a->spec.epochs)
        argp_error(state, "--epochs goes with --level; a recipe says its own");
    return 0;
}

/* KEY=VALUE into job.json's "training"; the worker knows the keys. */
static void add_training(struct args *a, const char *arg, struct argp_state *state)
{
    const char *eq = strchr(arg, '=');
    if (!eq || eq == arg || !eq[1])
        argp_error(state, "--training wants KEY=VALUE, not '%s'", arg);
    json_t *value = json_loads(eq + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (!value && !(value = json_string(eq + 1))) /* a word */
        argp_error(state, "--training %s: the value is not text", arg);
    if (!a->spec.training)
        a->spec.training = json_object();
    if (json_object_setn_new(a->spec.training, arg, (size_t)(eq - arg), value) != 0)
        argp_error(state, "--training %s: the key is not text", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'm':
        a->spec.model = arg;
        return 0;
    case 'd':
        a->spec.data = arg;
        return 0;
    case 'o':
        a->out = arg;
        return 0;
    case 'r':
        a->spec.recipe = arg;
        return 0;
    case 'j':
        a->json = arg;
        return 0;
    case KEY_LEVEL:
        a->spec.level = wn_cli_real("--level", arg, 0, 1, state);
        a->level = true;
        return 0;
    case KEY_SHARE:
        a->spec.eval_share = wn_cli_real("--eval-share", arg, 0, 1, state);
        return 0;
    case KEY_SEED:
        a->spec.seed = wn_cli_whole("--seed", arg, 0, INT64_MAX, state);
        return 0;
    case KEY_THREADS:
        a->spec.threads = wn_cli_whole("--threads", arg, 1, WN_CLI_MAX_THREADS, state);
        return 0;
    case KEY_MEMORY:
        a->memory = wn_cli_whole("--memory", arg, 256, 1 << 24, state);
        return 0;
    case KEY_EPOCHS:
        a->spec.epochs = wn_cli_whole("--epochs", arg, 1, 100000, state);
        return 0;
    case KEY_VALIDATION:
        a->spec.validation = arg;
        return 0;
    case KEY_TEACHER:
        a->spec.teacher = arg;
        return 0;
    case KEY_TRAINING:
        add_training(a, arg, state);
        return 0;
    case KEY_COLUMNS:
        if (!a->spec.columns)
            a->spec.columns = json_object();
        wn_cli_add_column(a->spec.columns, arg, state);
        return 0;
    case KEY_NEW_LABELS:
        a->spec.new_labels = true;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case KEY_KEEP:
        a->keep = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_usage(state);
        return 0;
    case ARGP_KEY_END:
        return at_end(a, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the worker ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    interrupted = signal;
}

static void show(struct wn_progress *p, struct wn_jobdir_tail *tail, const char *dir)
{
    for (json_t *event; (event = wn_jobdir_tail_next(tail, dir)) != NULL; json_decref(event))
        wn_progress_event(p, event);
}

/* Run the worker to its end (memory in MiB; 0: its default), showing its progress in place of its log; an interrupt is
 * passed on to it once. */
static enum winnow_status run_worker(const char *dir, int64_t memory, bool quiet, struct winnow_err *err)
{
    char mib[24];
    char *argv[] = { NULL, (char *)"run", (char *)dir, (char *)"--quiet", (char *)(memory ? "--memory" : NULL),
                     mib,  NULL };
    struct wn_progress p;
    struct wn_jobdir_tail tail = { .fd = -1 };
    pid_t pid, got;
    int how = 0;
    snprintf(mib, sizeof mib, "%" PRId64, memory);
    WN_TRY(wn_worker_start(argv, &pid, err));
    sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
    sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
    wn_progress_init(&p, quiet);
    bool told = false;
    while ((got = waitpid(pid, &how, WNOHANG)) == 0) {
        show(&p, &tail, dir);
        if (interrupted && !told)
            told = kill(pid, SIGTERM) == 0;
        nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
    }
    show(&p, &tail, dir);
    wn_progress_done(&p);
    wn_jobdir_tail_done(&tail);
    if (got < 0)
        return wn_fail_errno(err, errno, "waiting for winnow-worker");
    if (WIFSIGNALED(how))
        return wn_fail(err, WINNOW_E_INTERNAL, "winnow-worker died: %s", strsignal(WTERMSIG(how)));
    if (interrupted)
        return wn_fail(err, WINNOW_E_CANCELLED, "interrupted");
    return WINNOW_OK;
}

/* What result.json says; an error of the job becomes ours. */
static enum winnow_status read_result(const char *dir, json_t **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/result.json", dir);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    WN_TRY(wn_jobdir_read_json(path, ret, err));
    if (strcmp(wn_json_str(*ret, "status"), "succeeded") == 0)
        return WINNOW_OK;
    const json_t *error = json_object_get(*ret, "error");
    return wn_fail(err, WINNOW_E_MALFORMED, "%s: %s", wn_json_str(error, "code"), wn_json_str(error, "message"));
}

/* ---- scores ---- */

/* Both models (the result alone where the labels are new) on the rows that ingest set aside. */
static enum winnow_status evaluate(const struct args *a, const char *dir, json_t **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *rows = wn_asprintf("%s/data/eval/rows.npz", dir);
    WN_CLEANUP(wn_freep) char *scores = wn_asprintf("%s/scores.json", dir);
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base", dir);
    if (!rows || !scores || !base)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    struct wn_evaluate_args what = { .model = { a->spec.new_labels ? a->out : base,
                                                a->spec.new_labels ? NULL : a->out },
                                     .rows = rows,
                                     .json = scores,
                                     .quiet = true };
    WN_TRY(wn_cli_evaluate_models(&what, err));
    return wn_jobdir_read_json(scores, ret, err);
}

static void print_scores(const json_t *scores, bool two)
{
    const json_t *models = json_object_get(scores, "models"), *first = json_array_get(models, 0);
    const json_t *last = json_array_get(models, two ? 1 : 0);
    printf("%-24s %14s %14s\n", "", two ? "before" : "", "after");
#define ROW(name, fmt, key, by)                                                                                        \
    do {                                                                                                               \
        printf("%-24s ", name);                                                                                        \
        if (two)                                                                                                       \
            printf(fmt " ", (by)*wn_json_num(first, key, 0));                                                          \
        else                                                                                                           \
            printf("%14s ", "");                                                                                       \
        printf(fmt "\n", (by)*wn_json_num(last, key, 0));                                                              \
    } while (0)
    ROW("accuracy, %", "%14.2f", "accuracy", 100.0);
    ROW("file, bytes", "%14.0f", "bytes", 1.0);
    ROW("CPU per row, us", "%14.1f", "cpu_us_per_row", 1.0);
#undef ROW
}

/* The difference, once: as a warning where it is a loss. Whoever asked gets the model all the same. */
static void tell_difference(const json_t *scores, bool quiet)
{
    const json_t *paired = json_object_get(scores, "paired");
    double diff = 100 * wn_json_num(paired, "diff", 0), least = 100 * wn_json_num(paired, "lower95", 0);
    double rows = wn_json_num(scores, "rows", 0);
    fflush(stdout); /* the table comes first */
    if (diff < 0)
        fprintf(stderr,
                "warning: the result is less accurate than the base: %+.2f points on %.0f rows set aside, at worst "
                "%+.2f with 95 %% confidence\n",
                diff, rows, least);
    else if (!quiet)
        printf("difference %+.2f points on %.0f rows set aside, at least %+.2f with 95 %% confidence\n", diff, rows,
               least);
}

static enum winnow_status work(const struct args *a, const char *dir, struct winnow_err *err)
{
    bool quiet = a->json && strcmp(a->json, "-") == 0;
    json_t *result = NULL, *scores = NULL;
    WN_CLEANUP(wn_freep) char *candidate = wn_asprintf("%s/work/candidate", dir);
    if (!candidate)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    WN_TRY(wn_jobdir_make(dir, &a->spec, err));
    WN_TRY(run_worker(dir, a->memory, quiet, err));
    enum winnow_status status = read_result(dir, &result, err);
    if (status == WINNOW_OK)
        status = wn_jobdir_replace_model(candidate, a->out, err);
    if (status == WINNOW_OK)
        status = evaluate(a, dir, &scores, err);
    if (status == WINNOW_OK && !quiet)
        print_scores(scores, !a->spec.new_labels);
    if (status == WINNOW_OK && !a->spec.new_labels)
        tell_difference(scores, quiet);
    if (status == WINNOW_OK && !quiet)
        printf("the result is in %s\n", a->out);
    if (status == WINNOW_OK && a->json)
        status = wn_cli_write_json(a->json, json_pack("{s:O,s:O}", "result", result, "scores", scores), err);
    json_decref(result);
    json_decref(scores);
    return status;
}

/* A folder that holds something is somebody's: an earlier result, or a mistake. */
static enum winnow_status check_out(const struct args *a, struct winnow_err *err)
{
    DIR *d = a->force ? NULL : opendir(a->out);
    const char *name = NULL;
    char first[256] = "";
    for (struct dirent *e; d && !name && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            snprintf(first, sizeof first, "%s", e->d_name);
            name = first;
        }
    if (d)
        closedir(d);
    return name ? wn_fail(err, WINNOW_E_CONFLICT,
                          "--output %s: there is something in that folder ('%s'); --force writes there all the same",
                          a->out, name)
                : WINNOW_OK;
}

/* Where the job's folder is made: OUTDIR/job, in place of an earlier one that was kept. */
static enum winnow_status make_folders(const struct args *a, const char *dir, struct winnow_err *err)
{
    WN_TRY(check_out(a, err));
    WN_TRY(wn_tree_make(a->out, err));
    if (a->force)
        WN_TRY(wn_tree_remove(dir, err));
    return mkdir(dir, 0777) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "%s", dir);
}

static const char doc[] = "Prune, quantize and fine-tune a model on labelled data, here.\v" WN_CLI_EXAMPLES(
    "  winnow sparsify -m models/mine -d letters.zip --level 0.7 -o out\n"
    "  winnow sparsify -m base.onnx -d news.csv -r recipe.yaml -o out\n");

int wn_cli_sparsify(int argc, char **argv)
{
    static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
    struct args a = { .spec = { .seed = 1, .threads = 1, .eval_share = 0.1 } };
    struct winnow_err err;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/job", a.out);
    bool was_there = access(a.out, F_OK) == 0;
    enum winnow_status status = dir ? make_folders(&a, dir, &err) : wn_fail(&err, WINNOW_E_NOMEM, "%s", a.out);
    bool made = status == WINNOW_OK;
    if (made)
        status = work(&a, dir, &err);
    if (made && !a.keep && status == WINNOW_OK)
        status = wn_tree_remove(dir, &err);
    else if (made && !a.keep) {
        struct winnow_err ignored;
        if (wn_tree_remove(dir, &ignored) != WINNOW_OK)
            fprintf(stderr, "%s: %s\n", argv[0], ignored.msg);
    }
    json_decref(a.spec.training);
    json_decref(a.spec.columns);
    if (status == WINNOW_OK)
        return WN_EXIT_OK;
    if (!was_there)
        rmdir(a.out); /* as it was before; it stays when there is something in it */
    return wn_cli_fail(argv[0], &err);
}
