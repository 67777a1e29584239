/* main.c: winnow-worker: reads uploads, trains, exports. Everything it knows comes from a job directory, and everything
 * it makes goes there (docs/job-directory.md); it opens no socket and no database. */
#include <argp.h>
#include <ctype.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "sparsify/worker/worker.h"

static const char doc[] = "\n"
                          "Commands:\n"
                          "  watch DIR        take jobs under DIR, one after the other, until told to stop\n"
                          "  run JOBDIR       one job, to its end\n"
                          "  check JOBDIR     validate job.json, recipe and base; 2 and FILE:LINE: reason if bad\n"
                          "  recipe FILE      curves of a recipe, and an estimate of time and memory\n";

struct args {
    const char *command, *path, *model, *json;
    size_t rows;
    bool once, priority_given;
    struct wn_worker_opts opts;
};

enum {
    OPT_ONCE = 256,
    OPT_MODEL,
    OPT_ROWS,
    OPT_JSON,
    OPT_MEMORY,
    OPT_CPU,
    OPT_HANG,
    OPT_TRIES,
    OPT_PRIORITY,
    OPT_QUIET
};

static const struct argp_option options[] = {
    { "once", OPT_ONCE, NULL, 0, "watch: end when no job waits", 0 },
    { "model", OPT_MODEL, "BASE.onnx", 0, "recipe: names are looked up in this model", 0 },
    { "rows", OPT_ROWS, "N", 0, "recipe: rows to train on, for the estimate", 0 },
    { "json", OPT_JSON, "FILE", 0, "recipe: write the curves as JSON (-: standard output)", 0 },
    { "memory", OPT_MEMORY, "MIB", 0, "memory that training may use (default 6144)", 0 },
    { "cpu", OPT_CPU, "SECONDS", 0, "CPU time that training may use (default 604800)", 0 },
    { "hang", OPT_HANG, "SECONDS", 0, "time without progress after which a job is tried again (default 600)", 0 },
    { "tries", OPT_TRIES, "N", 0, "starts of one job, each from its last checkpoint, before it fails (default 3)", 0 },
    { "quiet", OPT_QUIET, NULL, 0, "log errors only", 0 },
    { "priority", OPT_PRIORITY, "idle|normal", 0, "idle: only what nobody else wants (default for watch)", 0 },
    { 0 },
};

static unsigned long number(struct argp_state *state, const char *option, const char *arg, unsigned long min,
                            unsigned long max)
{
    char *end;
    unsigned long n = strtoul(arg, &end, 10);
    if (end == arg || *end || n < min || n > max || !isdigit((unsigned char)*arg))
        argp_error(state, "%s wants a whole number from %lu to %lu, not '%s'", option, min, max, arg);
    return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case OPT_ONCE:
        a->once = true;
        return 0;
    case OPT_MODEL:
        a->model = arg;
        return 0;
    case OPT_ROWS:
        a->rows = number(state, "--rows", arg, 1, 1000000000);
        return 0;
    case OPT_JSON:
        a->json = arg;
        return 0;
    case OPT_MEMORY:
        a->opts.memory_bytes = (uint64_t)number(state, "--memory", arg, 256, 1u << 24) << 20;
        return 0;
    case OPT_CPU:
        a->opts.cpu_s = number(state, "--cpu", arg, 1, 1u << 30);
        return 0;
    case OPT_HANG:
        a->opts.hang_s = (unsigned)number(state, "--hang", arg, 1, 86400);
        return 0;
    case OPT_TRIES:
        a->opts.tries = (unsigned)number(state, "--tries", arg, 1, 100);
        return 0;
    case OPT_QUIET:
        wn_log_configure(WN_LOG_AUTO, WN_LOG_ERROR);
        return 0;
    case OPT_PRIORITY:
        if (strcmp(arg, "idle") != 0 && strcmp(arg, "normal") != 0)
            argp_error(state, "--priority is idle or normal");
        a->opts.idle = arg[0] == 'i';
        a->priority_given = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!a->command)
            a->command = arg;
        else if (!a->path)
            a->path = arg;
        else
            argp_usage(state);
        return 0;
    case ARGP_KEY_END:
        if (!a->path)
            argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void on_stop(int sig)
{
    wn_worker_stop = 1;
}

/* Stop signals are blocked and taken where the supervisor waits, so that none is lost between a look and a sleep. */
static void take_signals(void)
{
    struct sigaction act = { .sa_handler = on_stop };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int run(const char *dir, const struct wn_worker_opts *opts)
{
    struct winnow_err err = { 0 };
    switch (wn_supervise(dir, opts, &err)) {
    case WN_RAN_BUSY:
        fprintf(stderr, "winnow-worker: %s\n", err.msg);
        return WN_EXIT_BUSY;
    case WN_RAN_ERROR:
        fprintf(stderr, "winnow-worker: %s\n", err.msg);
        return WN_EXIT_FAILED;
    default: /* result.json says how it ended; a job that was stopped waits for the next run */
        return WN_EXIT_OK;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "COMMAND PATH", doc, NULL, NULL, NULL };
    argp_program_version = "winnow-worker " WN_VERSION;
    struct args a = { .opts = { .memory_bytes = (uint64_t)6 << 30, .cpu_s = 604800, .tries = 3, .hang_s = 600 } };
    argp_err_exit_status = WN_EXIT_INVALID;
    setlocale(LC_CTYPE, "C.UTF-8"); /* names in archives are UTF-8 */
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (strcmp(a.command, "check") == 0)
        return wn_check(a.path);
    if (strcmp(a.command, "recipe") == 0)
        return wn_recipe_command(a.path, a.model, a.rows, a.json);
    take_signals();
    if (strcmp(a.command, "run") == 0)
        return run(a.path, &a.opts);
    if (strcmp(a.command, "watch") == 0) {
        a.opts.idle = a.priority_given ? a.opts.idle : true;
        return wn_watch(a.path, a.once, &a.opts);
    }
    fprintf(stderr, "winnow-worker: unknown command '%s' (watch, run, check, recipe)\n", a.command);
    return WN_EXIT_INVALID;
}
