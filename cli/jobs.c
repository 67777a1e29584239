/* jobs.c: `winnow jobs`: training jobs of a running winnowd. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/vec.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/remote.h"

#define POLL_MS    500
#define MAX_RECIPE ((size_t)1 << 20)

struct args {
    struct wn_remote_opts remote;
    const char *json, *action, *id;
    const char *model, *file, *validation, *suffix, *target, *recipe, *level, *seed, *epochs, *min_accuracy;
    json_t *columns; /* NULL: guessed */
    bool new_labels, watch;
    unsigned n;
};

enum { KEY_LEVEL = 256, KEY_SEED, KEY_EPOCHS, KEY_MIN_ACCURACY, KEY_NEW_LABELS, KEY_VALIDATION, KEY_COLUMNS };

static const struct argp_option options[] = {
    { "json", 'j', "FILE", 0, "write the server's answer as JSON (-: standard output)", 0 },
    { NULL, 0, NULL, 0, "create:", 1 },
    { "model", 'm', "NAME", 0, "the model to train (needed)", 1 },
    { "file", 'f', "ID", 0, "uploaded data (needed)", 1 },
    { "validation", KEY_VALIDATION, "ID", 0, "uploaded rows to judge by (default: a share of the data)", 1 },
    { "recipe", 'r', "FILE", 0, "a recipe on this machine; or:", 1 },
    { "level", KEY_LEVEL, "0.7", 0, "0 … 1: fine-tune only … as small as can be", 1 },
    { "epochs", KEY_EPOCHS, "N", 0, "passes over the data, without a recipe", 1 },
    { "seed", KEY_SEED, "N", 0, "the same seed and data give the same weights", 1 },
    { "columns", KEY_COLUMNS, "KEY=NAME", 0,
      "texts: which columns to take: text=title,body, label=topic, text_pair=…, join=\". \" (default: guessed)", 1 },
    { "new-labels", KEY_NEW_LABELS, NULL, 0, "the data has labels of its own: makes a new model", 1 },
    { "target", 't', "NAME", 0, "the name the result is for (default: the model's)", 1 },
    { "suffix", 'x', "TEXT", 0, "instead: MODEL-TEXT is that name", 1 },
    { "min-accuracy", KEY_MIN_ACCURACY, "0.9", 0, "refuse a result below this", 1 },
    { "watch", 'w', NULL, 0, "and watch it to its end", 1 },
    { 0 }
};

static const char doc[] = "Training jobs of a running winnowd.\v"
                          "  list                       all jobs, newest first (the default)\n"
                          "  create -m NAME -f ID       start one; prints its id\n"
                          "  show ID                    what became of it, with the numbers\n"
                          "  watch ID                   follow it to its end; 0 when it succeeded\n"
                          "  events ID                  what happened, one line each\n"
                          "  cancel ID                  stop it\n\n" WN_CLI_EXAMPLES(
                              "  winnow jobs create -m mine -f file-… --level 0.7 --watch\n"
                              "  winnow jobs show ftjob-…\n");

static error_t at_end(struct args *a, struct argp_state *state)
{
    static const char *const with_id[] = { "show", "watch", "events", "cancel" };
    if (!a->action)
        a->action = "list";
    bool create = strcmp(a->action, "create") == 0, id = false;
    for (size_t i = 0; i < WN_COUNT(with_id); i++)
        id |= strcmp(a->action, with_id[i]) == 0;
    if (!create && !id && strcmp(a->action, "list"))
        argp_error(state, "'%s' is no action", a->action);
    if (id != (a->id != NULL))
        argp_error(state, id ? "%s wants an ID" : "%s wants no ID", a->action);
    if (create && (!a->model || !a->file))
        argp_error(state, "create wants --model and --file");
    if (create && a->recipe && (a->level || a->epochs))
        argp_error(state, "--recipe says everything that --level and --epochs would");
    return 0;
}

/* Numbers stay text until the request is made. */
static void check_number(int key, const char *arg, struct argp_state *state)
{
    if (key == KEY_LEVEL)
        wn_cli_real("--level", arg, 0, 1, state);
    else if (key == KEY_MIN_ACCURACY)
        wn_cli_real("--min-accuracy", arg, 0, 1, state);
    else if (key == KEY_SEED)
        wn_cli_whole("--seed", arg, 0, INT32_MAX, state);
    else if (key == KEY_EPOCHS)
        wn_cli_whole("--epochs", arg, 1, 1000, state);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    const char **to = key == 'j'                ? &a->json
                      : key == 'm'              ? &a->model
                      : key == 'f'              ? &a->file
                      : key == 'r'              ? &a->recipe
                      : key == 'x'              ? &a->suffix
                      : key == 't'              ? &a->target
                      : key == KEY_VALIDATION   ? &a->validation
                      : key == KEY_LEVEL        ? &a->level
                      : key == KEY_SEED         ? &a->seed
                      : key == KEY_EPOCHS       ? &a->epochs
                      : key == KEY_MIN_ACCURACY ? &a->min_accuracy
                                                : NULL;
    if (to) {
        check_number(key, arg, state);
        *to = arg;
        return 0;
    }
    switch (key) {
    case KEY_COLUMNS:
        if (!a->columns)
            a->columns = json_object();
        wn_cli_add_column(a->columns, arg, state);
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->remote;
        return 0;
    case KEY_NEW_LABELS:
        a->new_labels = true;
        return 0;
    case 'w':
        a->watch = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1)
            argp_usage(state);
        *(state->arg_num ? &a->id : &a->action) = arg;
        return 0;
    case ARGP_KEY_END:
        return at_end(a, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum winnow_status call(struct wn_remote *r, const char *method, const char *fmt, const char *id, json_t **ret,
                               struct winnow_err *err)
{
    const char *const names[] = { id, NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path(fmt, names);
    return path ? wn_remote_call(r, method, path, NULL, ret, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", fmt);
}

/* ---- create ---- */

/* `text` was checked with the options. */
static void set_number(json_t *body, const char *key, const char *text, bool whole)
{
    if (text)
        json_object_set_new(body, key, whole ? json_integer(strtoll(text, NULL, 10)) : json_real(strtod(text, NULL)));
}

static void set_epochs(json_t *body, const char *text)
{
    json_t *h = text ? json_object() : NULL;
    if (!h)
        return;
    json_object_set_new(body, "hyperparameters", h);
    set_number(h, "n_epochs", text, true);
}

static enum winnow_status set_recipe(json_t *body, const char *path, struct winnow_err *err)
{
    size_t n;
    WN_CLEANUP(wn_freep) void *text = NULL;
    if (!path)
        return WINNOW_OK;
    WN_TRY(wn_file_read(path, MAX_RECIPE, &text, &n, err));
    json_t *recipe = json_stringn(text, n);
    if (!recipe)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s is not UTF-8", path);
    json_object_set_new(body, "recipe", recipe);
    return WINNOW_OK;
}

static enum winnow_status create(struct wn_remote *r, const struct args *a, json_t **ret, struct winnow_err *err)
{
    json_t *body = json_pack("{s:s,s:s,s:s*,s:s*,s:s*}", "model", a->model, "training_file", a->file, "validation_file",
                             a->validation, "suffix", a->suffix, "target", a->target);
    if (!body)
        return wn_fail(err, WINNOW_E_NOMEM, "job");
    enum winnow_status status = set_recipe(body, a->recipe, err);
    set_number(body, "optim_level", a->level, false);
    set_epochs(body, a->epochs);
    set_number(body, "seed", a->seed, true);
    set_number(body, "min_accuracy", a->min_accuracy, false);
    if (a->columns)
        json_object_set(body, "columns", a->columns);
    if (a->new_labels)
        json_object_set_new(body, "new_labels", json_true());
    if (status != WINNOW_OK) {
        json_decref(body);
        return status;
    }
    return wn_remote_call(r, "POST", "/v1/fine_tuning/jobs", body, ret, err);
}

/* ---- watch ---- */

static bool is_final(const char *status)
{
    return strcmp(status, "succeeded") == 0 || strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0;
}

static void tell(struct wn_progress *p, const json_t *event)
{
    const char *level = wn_json_str(event, "level"), *text = wn_json_str(event, "message");
    if (strcmp(wn_json_str(event, "type"), "metrics")) /* those are in the job itself too */
        wn_progress_say(p, "%s%s%s", strcmp(level, "info") ? level : "", strcmp(level, "info") ? ": " : "", text);
}

/* The job's own numbers, between events. */
static void now_at(struct wn_progress *p, const json_t *job)
{
    snprintf(p->phase, sizeof p->phase, "%s", wn_json_str(job, "phase")); /* events tell of it where no line moves */
    if (!json_is_number(json_object_get(job, "epoch")))
        return;
    json_t *step = json_pack("{s:s,s:f,s:f,s:f,s:f,s:f}", "event", "step", "epoch", wn_json_num(job, "epoch", -1),
                             "epochs", wn_json_num(job, "epochs", -1), "loss", wn_json_num(job, "loss", -1), "sparsity",
                             wn_json_num(job, "sparsity", -1), "eta_s", wn_json_num(job, "eta", -1));
    if (json_is_number(json_object_get(job, "label_loss")))
        json_object_set(step, "label_loss", json_object_get(job, "label_loss"));
    wn_progress_event(p, step);
    json_decref(step);
}

/* Events come newest first: tell the ones after `last` in order, and remember the newest. */
static enum winnow_status news(struct wn_remote *r, const char *id, struct wn_progress *p, char **last,
                               struct winnow_err *err)
{
    json_t *reply = NULL;
    const char *const names[] = { id, NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path("/v1/fine_tuning/jobs/%s/events?limit=100", names);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", id);
    WN_TRY(wn_remote_call(r, "GET", path, NULL, &reply, err));
    const json_t *list = json_object_get(reply, "data");
    size_t n = 0, all = json_array_size(list);
    while (n < all && (!*last || strcmp(wn_json_str(json_array_get(list, n), "id"), *last)))
        n++;
    if (n) {
        free(*last);
        *last = wn_strdup(wn_json_str(json_array_get(list, 0), "id"));
    }
    while (n-- > 0)
        tell(p, json_array_get(list, n));
    json_decref(reply);
    return WINNOW_OK;
}

/* What keeps the job: told when it has lasted from one look to the next. */
static void tell_waits(struct wn_progress *p, const json_t *job, char seen[200], bool *told)
{
    const char *what = wn_json_str(json_object_get(job, "waiting_for"), "message");
    bool again = strcmp(what, seen) == 0;
    if (*what && again && !*told)
        wn_progress_say(p, "waiting for %s", what);
    *told = again && (*told || *what);
    snprintf(seen, 200, "%s", what);
}

static enum winnow_status watch(struct wn_remote *r, const char *id, bool quiet, json_t **ret, struct winnow_err *err)
{
    struct wn_progress p;
    WN_CLEANUP(wn_freep) char *last = NULL;
    char waits[200] = "";
    bool told = false;
    enum winnow_status status;
    wn_progress_init(&p, quiet);
    for (;;) {
        json_t *job = NULL;
        status = call(r, "GET", "/v1/fine_tuning/jobs/%s", id, &job, err);
        if (status == WINNOW_OK)
            status = news(r, id, &p, &last, err);
        if (status == WINNOW_OK) {
            tell_waits(&p, job, waits, &told);
            now_at(&p, job);
        }
        if (status != WINNOW_OK || is_final(wn_json_str(job, "status"))) {
            *ret = job;
            break;
        }
        json_decref(job);
        nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
    }
    wn_progress_done(&p);
    return status;
}

/* ---- printing ---- */

/* "gate.eval.rows  300": objects member by member, everything else as it is. */
static void print_members(const char *prefix, const json_t *object)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v)
    {
        WN_CLEANUP(wn_freep) char *name = wn_asprintf("%s%s%s", prefix, *prefix ? "." : "", key);
        if (!name || json_is_null(v) || strcmp(key, "object") == 0 || (json_is_array(v) && !json_array_size(v)))
            continue;
        if (json_is_object(v)) {
            print_members(name, v);
            continue;
        }
        WN_CLEANUP(wn_freep) char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        printf("%-28s %s\n", name, json_is_string(v) ? json_string_value(v) : text ? text : "");
    }
}

/* What a watcher wants to know at the end. */
static void print_end(const json_t *job)
{
    const char *made = wn_json_str(job, "fine_tuned_model");
    const char *why = wn_json_str(json_object_get(job, "error"), "message");
    printf("%s %s", wn_json_str(job, "id"), wn_json_str(job, "status"));
    if (*made)
        printf(": %s, promotion %s", made, wn_json_str(job, "promotion"));
    printf("%s%s\n", *why ? ": " : "", why);
    const char *verdict = wn_json_str(json_object_get(job, "gate"), "reason");
    if (*verdict && !*why)
        printf("%s\n", verdict);
    if (strcmp(wn_json_str(job, "promotion"), "waiting") == 0)
        printf("To make it live: winnow models promote %s %.0f\n", wn_json_str(job, "target"),
               wn_json_num(job, "version", 0));
    if (strcmp(wn_json_str(job, "promotion"), "refused") == 0)
        printf("To make it live nevertheless: winnow jobs promote %s\n", wn_json_str(job, "id"));
}

static void print_time(double seconds)
{
    char when[32] = "";
    time_t t = (time_t)seconds;
    struct tm tm;
    if (localtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s", when);
}

static void print_list(const json_t *reply, bool events)
{
    const json_t *list = json_object_get(reply, "data");
    if (isatty(STDOUT_FILENO) && !events) /* what scripts read stays as it is */
        printf("%-19s  %-32s %-16s %-16s %s\n", "CREATED", "ID", "STATUS", "MODEL", "RESULT");
    for (size_t n = json_array_size(list), i = 0; i < n; i++) {
        const json_t *e = json_array_get(list, events ? n - 1 - i : i);
        print_time(wn_json_num(e, "created_at", 0));
        if (events) {
            printf("  %-7s %s\n", wn_json_str(e, "level"), wn_json_str(e, "message"));
            continue;
        }
        const char *made = wn_json_str(e, "fine_tuned_model"),
                   *why = wn_json_str(json_object_get(e, "error"), "message"),
                   *waits = wn_json_str(json_object_get(e, "waiting_for"), "message");
        printf("  %-32s %-16s %-16s %s%s\n", wn_json_str(e, "id"), wn_json_str(e, "status"), wn_json_str(e, "model"),
               *made    ? "-> "
               : *waits ? "waits for "
                        : "",
               *made    ? made
               : *waits ? waits
                        : why);
    }
}

static enum winnow_status act(struct wn_remote *r, const void *args, json_t **ret, struct winnow_err *err)
{
    const struct args *a = args;
    bool quiet = a->json && strcmp(a->json, "-") == 0;
    if (strcmp(a->action, "list") == 0)
        return wn_remote_call(r, "GET", "/v1/fine_tuning/jobs?limit=100", NULL, ret, err);
    if (strcmp(a->action, "show") == 0)
        return call(r, "GET", "/v1/fine_tuning/jobs/%s", a->id, ret, err);
    if (strcmp(a->action, "events") == 0)
        return call(r, "GET", "/v1/fine_tuning/jobs/%s/events?limit=100", a->id, ret, err);
    if (strcmp(a->action, "cancel") == 0)
        return call(r, "POST", "/v1/fine_tuning/jobs/%s/cancel", a->id, ret, err);
    if (strcmp(a->action, "watch") == 0)
        return watch(r, a->id, quiet, ret, err);
    json_t *job = NULL;
    WN_TRY(create(r, a, &job, err));
    if (!a->watch) {
        *ret = job;
        return WINNOW_OK;
    }
    if (!quiet)
        printf("%s\n", wn_json_str(job, "id"));
    enum winnow_status status = watch(r, wn_json_str(job, "id"), quiet, ret, err);
    json_decref(job);
    return status;
}

static void print(const void *args, const json_t *reply)
{
    const struct args *a = args;
    if (strcmp(a->action, "list") == 0 || strcmp(a->action, "events") == 0)
        print_list(reply, strcmp(a->action, "events") == 0);
    else if (strcmp(a->action, "create") == 0 && !a->watch)
        printf("%s\n", wn_json_str(reply, "id"));
    else if (strcmp(a->action, "cancel") == 0)
        printf("%s %s\n", wn_json_str(reply, "id"), wn_json_str(reply, "status"));
    else if (strcmp(a->action, "show") == 0)
        print_members("", reply);
    else
        print_end(reply);
}

int wn_cli_jobs(int argc, char **argv)
{
    static const struct argp_child remote[] = { { &wn_remote_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "[ACTION [ID]]", doc, remote, NULL, NULL };
    struct args a = { 0 };
    static const struct wn_remote_command command = { act, print };
    struct winnow_err err;
    json_t *reply;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum winnow_status status = wn_remote_do(&command, &a.remote, a.json, &a, &reply, &err);
    bool watched = strcmp(a.action, "watch") == 0 || a.watch;
    bool failed = status == WINNOW_OK && watched && strcmp(wn_json_str(reply, "status"), "succeeded");
    json_decref(reply);
    json_decref(a.columns);
    return status != WINNOW_OK ? wn_cli_fail(argv[0], &err) : failed ? WN_EXIT_FAILED : WN_EXIT_OK;
}
