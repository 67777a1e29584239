/* benchmark.c: `winnow benchmark MODEL`: latency one request after another (sync), or throughput with several streams
 * side by side (async), of one model or of two that share them.
 *
 * DESIGN  As in winnowd, the threads are divided into streams, each with a pool of its own, and a stream runs one
 * request after another, of one model or the other: there are never more threads at work than --threads. */
#include <argp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/vec.h"
#include "cli/cli.h"

#define MAX_MODELS 2u

struct args {
    struct wn_model_args common;
    int64_t batch;
    unsigned streams;
    double seconds, warmup;
    bool async, reference;
};

static const struct argp_option options[] = {
    { "batch", 'b', "N", 0, "rows per request (default 1)", 0 },
    { "scenario", 's', "sync|async", 0, "one request after another, or streams side by side (default sync)", 0 },
    { "time", 't', "SECONDS", 0, "how long (default 10)", 0 },
    { "warmup", 'w', "SECONDS", 0, "runs before it that do not count (default 0.2, at least one of each model)", 0 },
    { "streams", 'm', "N", 0, "async: requests side by side, at most as many as threads (default: so many)", 0 },
    { "reference", 'r', NULL, 0, "plain-C reference operators instead of the kernels", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'b':
        a->batch = wn_cli_whole("--batch", arg, 1, WN_CLI_MAX_BATCH, state);
        return 0;
    case 's':
        if (strcmp(arg, "sync") && strcmp(arg, "async"))
            argp_error(state, "--scenario is sync or async, not '%s'", arg);
        a->async = strcmp(arg, "async") == 0;
        return 0;
    case 't':
        a->seconds = wn_cli_real("--time", arg, 0.001, 86400, state);
        return 0;
    case 'w':
        a->warmup = wn_cli_real("--warmup", arg, 0, 86400, state);
        return 0;
    case 'm':
        a->streams = (unsigned)wn_cli_whole("--streams", arg, 1, WN_CLI_MAX_THREADS, state);
        return 0;
    case 'r':
        a->reference = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What is measured. */
struct load {
    struct wn_cli_model m;
    struct wn_cli_inputs in;
};

/* One stream: its own pool and, for each model, a scratch and times. */
struct stream {
    pthread_t thread;
    const struct load *load; /* [n_loads] shared */
    unsigned n_loads, first; /* whose turn is first: streams begin with different models */
    winnow_pool *pool;
    winnow_scratch *scratch[MAX_MODELS];
    struct winnow_tensor *y;      /* of the model with most outputs */
    uint64_t plan_ns[MAX_MODELS]; /* until its first run could begin */
    WN_VEC(uint64_t) ns[MAX_MODELS];
    uint64_t until;
    enum winnow_status status;
    struct winnow_err err;
};

/* Runs until the time has come, but each model once. */
static enum winnow_status run_stream(struct stream *s)
{
    uint64_t start, end;
    unsigned runs = 0;
    do {
        const unsigned k = (s->first + runs++) % s->n_loads, n_out = winnow_model_n_outputs(s->load[k].m.model);
        const struct wn_cli_inputs *in = &s->load[k].in;
        memset(s->y, 0, n_out * sizeof *s->y);
        start = wn_now_ns();
        WN_TRY(winnow_run(s->load[k].m.model, s->scratch[k], in->t, in->n, s->y, n_out, &s->err));
        end = wn_now_ns();
        if (!wn_vec_push(&s->ns[k], end - start))
            return wn_fail(&s->err, WINNOW_E_NOMEM, "times");
    } while (runs < s->n_loads || end < s->until);
    return WINNOW_OK;
}

static void *stream_main(void *arg)
{
    struct stream *s = arg;
    s->status = run_stream(s);
    return NULL;
}

/* All streams side by side for so long; what they measured before is forgotten. */
static enum winnow_status run_streams(struct stream *s, unsigned n, double seconds, double *ret_seconds,
                                      struct winnow_err *err)
{
    const uint64_t begin = wn_now_ns();
    enum winnow_status status = WINNOW_OK;
    unsigned started = 0;
    for (; started < n && status == WINNOW_OK; started++) {
        struct stream *one = &s[started];
        for (unsigned k = 0; k < one->n_loads; k++)
            one->ns[k].n = 0;
        one->until = begin + (uint64_t)(seconds * 1e9);
        int e = pthread_create(&one->thread, NULL, stream_main, one);
        if (e) {
            status = wn_fail_errno(err, e, "starting a stream");
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(s[i].thread, NULL);
        if (s[i].status != WINNOW_OK && status == WINNOW_OK) {
            status = s[i].status;
            *err = s[i].err;
        }
    }
    *ret_seconds = (double)(wn_now_ns() - begin) / 1e9;
    return status;
}

/* ---- figures ---- */

struct figures {
    double first_ms; /* planning and the first run, once it was loaded */
    double mean_ms, best_ms, p50_ms, p90_ms, p95_ms, p99_ms, rows_per_s;
    size_t runs;
};

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Of model k over n streams. */
static enum winnow_status figures_of(const struct stream *s, unsigned n, unsigned k, double seconds, int64_t batch,
                                     struct figures *ret, struct winnow_err *err)
{
    size_t runs = 0, at = 0;
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        runs += s[i].ns[k].n;
    WN_CLEANUP(wn_freep) uint64_t *all = calloc(runs + 1, sizeof *all);
    if (!all)
        return wn_fail(err, WINNOW_E_NOMEM, "times");
    for (unsigned i = 0; i < n; i++)
        for (size_t r = 0; r < s[i].ns[k].n; r++)
            sum += (double)(all[at++] = s[i].ns[k].at[r]);
    qsort(all, runs, sizeof *all, by_time);
    *ret = (struct figures){ .first_ms = ret->first_ms,
                             .best_ms = (double)all[0] / 1e6,
                             .mean_ms = sum / (double)runs / 1e6, /* each ran at least once */
                             .p50_ms = (double)all[runs / 2] / 1e6,
                             .p90_ms = (double)all[runs * 9 / 10] / 1e6,
                             .p95_ms = (double)all[runs * 19 / 20] / 1e6,
                             .p99_ms = (double)all[runs * 99 / 100] / 1e6,
                             .rows_per_s = (double)runs * (double)batch / seconds,
                             .runs = runs };
    return WINNOW_OK;
}

/* ---- measuring ---- */

/* Stream i of n, with its share of the threads. */
static enum winnow_status stream_init(struct stream *s, unsigned i, unsigned n, unsigned threads,
                                      const struct load *load, unsigned n_loads, struct winnow_err *err)
{
    unsigned most = 0;
    s->load = load;
    s->n_loads = n_loads;
    s->first = i;
    WN_TRY(winnow_pool_new(threads / n + (i < threads % n), &s->pool, err));
    for (unsigned k = 0; k < n_loads; k++) {
        const uint64_t begin = wn_now_ns();
        WN_TRY(winnow_scratch_new(load[k].m.model, s->pool, &s->scratch[k], err));
        WN_TRY(winnow_scratch_reserve(s->scratch[k], load[k].in.t, load[k].in.n, err));
        s->plan_ns[k] = wn_now_ns() - begin;
        most = WN_MAX(most, winnow_model_n_outputs(load[k].m.model));
    }
    s->y = calloc(most + 1, sizeof *s->y);
    return s->y ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "outputs");
}

static void stream_done(struct stream *s)
{
    for (unsigned k = 0; k < MAX_MODELS; k++) {
        winnow_scratch_free(s->scratch[k]);
        wn_vec_done(&s->ns[k]);
    }
    winnow_pool_free(s->pool);
    free(s->y);
}

static unsigned streams_of(const struct args *a, unsigned threads)
{
    if (!a->async)
        return 1;
    if (a->streams > threads)
        fprintf(stderr, "%u streams asked for, %u taken: a stream needs a thread\n", a->streams, threads);
    return a->streams ? WN_MIN(a->streams, threads) : threads;
}

static enum winnow_status measure(const struct args *a, const struct load *load, unsigned n, struct figures *ret,
                                  struct winnow_err *err)
{
    const unsigned threads = winnow_pool_threads(load[0].m.pool), n_loads = a->common.n_models;
    double seconds;
    struct stream *s = calloc(n, sizeof *s);
    if (!s)
        return wn_fail(err, WINNOW_E_NOMEM, "streams");
    enum winnow_status status = WINNOW_OK;
    for (unsigned i = 0; i < n && status == WINNOW_OK; i++)
        status = stream_init(&s[i], i, n, threads, load, n_loads, err);
    if (status == WINNOW_OK)
        status = run_streams(s, n, a->warmup, &seconds, err);
    for (unsigned k = 0; k < n_loads && status == WINNOW_OK; k++)
        ret[k].first_ms = (double)(s[0].plan_ns[k] + s[0].ns[k].at[0]) / 1e6;
    if (status == WINNOW_OK)
        status = run_streams(s, n, a->seconds, &seconds, err);
    for (unsigned k = 0; k < n_loads && status == WINNOW_OK; k++)
        status = figures_of(s, n, k, seconds, a->batch, &ret[k], err);
    for (unsigned i = 0; i < n; i++)
        stream_done(&s[i]);
    free(s);
    return status;
}

/* ---- report ---- */

/* The most memory this process ever held, in bytes; 0: not known. What getrusage() tells begins with the parent's. */
static size_t peak_memory(void)
{
    WN_CLEANUP(wn_fclosep) FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    size_t kib = 0;
    while (f && !kib && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu kB", &kib) != 1)
            kib = 0;
    return kib << 10;
}

static json_t *load_json(const struct load *load, const struct figures *f)
{
    return json_pack("{s:s,s:f,s:f,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "model", load->m.path, "load_ms",
                     load->m.load_ms, "first_ms", f->first_ms, "weight_bytes",
                     (json_int_t)winnow_model_weight_bytes(load->m.model), "runs", (json_int_t)f->runs, "best_ms",
                     f->best_ms, "p50_ms", f->p50_ms, "mean_ms", f->mean_ms, "p90_ms", f->p90_ms, "p95_ms", f->p95_ms,
                     "p99_ms", f->p99_ms, "rows_per_s", f->rows_per_s);
}

static void print_load(const struct load *load, const struct figures *f)
{
    printf("model    %s, %zu runs\n", load->m.path, f->runs);
    printf("load     %.1f ms, first run %.1f ms, weights %.1f MiB\n", load->m.load_ms, f->first_ms,
           (double)winnow_model_weight_bytes(load->m.model) / (1 << 20));
    printf("latency  best %.3f  median %.3f  mean %.3f  p90 %.3f  p95 %.3f  p99 %.3f ms\n", f->best_ms, f->p50_ms,
           f->mean_ms, f->p90_ms, f->p95_ms, f->p99_ms);
    printf("rate     %.1f rows/s\n", f->rows_per_s);
}

static enum winnow_status report(const struct args *a, const struct load *load, unsigned streams,
                                 const struct figures *f, struct winnow_err *err)
{
    const unsigned n = a->common.n_models, threads = winnow_pool_threads(load[0].m.pool);
    const size_t peak = peak_memory();
    if (!a->common.json || strcmp(a->common.json, "-")) {
        printf("cpu      %s, kernels %s\nset-up   batch %lld, %u thread%s, %u stream%s\n", winnow_cpu_name(),
               winnow_cpu_isa(), (long long)a->batch, threads, threads == 1 ? "" : "s", streams,
               streams == 1 ? "" : "s");
        for (unsigned k = 0; k < n; k++)
            print_load(&load[k], &f[k]);
        printf("memory   %.1f MiB at most\n", (double)peak / (1 << 20));
    }
    if (!a->common.json)
        return WINNOW_OK;
    json_t *json = json_pack("{s:s,s:s,s:I,s:i,s:i,s:b,s:I}", "cpu", winnow_cpu_name(), "isa", winnow_cpu_isa(),
                             "batch", (json_int_t)a->batch, "threads", (int)threads, "streams", (int)streams, "async",
                             a->async, "peak_memory_bytes", (json_int_t)peak);
    if (n == 1)
        json_object_update_new(json, load_json(load, f));
    else
        json_object_set_new(json, "models", json_pack("[o,o]", load_json(&load[0], &f[0]), load_json(&load[1], &f[1])));
    return wn_cli_write_json(a->common.json, json, err);
}

static const char doc[] = "Measure a model, or two that take turns, on made-up inputs.\v" WN_CLI_EXAMPLES(
    "  winnow benchmark mine.onnx                     latency, one request after another\n"
    "  winnow benchmark mine.onnx -s async -b 8       throughput of batches side by side\n"
    "  winnow benchmark mine.onnx other.onnx -s async two models that share the threads\n");

static bool has_input(const winnow_model *model, const char *shape)
{
    const char *eq = strrchr(shape, '=');
    for (unsigned i = 0; eq && i < winnow_model_n_inputs(model); i++) {
        const char *name = winnow_model_input(model, i)->name;
        if (strlen(name) == (size_t)(eq - shape) && strncmp(name, shape, (size_t)(eq - shape)) == 0)
            return true;
    }
    return false;
}

/* Made-up inputs; of the shapes, those for the other model alone are left to it. */
static enum winnow_status make_inputs(const struct args *a, unsigned k, struct load *load, struct winnow_err *err)
{
    const struct wn_model_args *c = &a->common;
    char *shape[WN_CLI_MAX_SHAPES];
    size_t n = 0;
    for (size_t i = 0; i < c->n_shapes; i++)
        if (c->n_models == 1 || has_input(load[k].m.model, c->shape[i]) || !has_input(load[!k].m.model, c->shape[i]))
            shape[n++] = c->shape[i];
    WN_TRY(wn_cli_inputs_random(load[k].m.model, a->batch, shape, n, 1, &load[k].in, err));
    return wn_cli_tune(&load[k].m, &load[k].in, c->tune, err);
}

static enum winnow_status run(const struct args *a, struct load *load, struct winnow_err *err)
{
    const struct winnow_load_opts opts = { .reference = a->reference, .cache = a->common.cache };
    struct figures f[MAX_MODELS] = { 0 };
    for (unsigned k = 0; k < a->common.n_models; k++)
        WN_TRY(wn_cli_open(a->common.model[k], a->common.threads, &opts, &load[k].m, err));
    for (unsigned k = 0; k < a->common.n_models; k++)
        WN_TRY(make_inputs(a, k, load, err));
    const unsigned streams = streams_of(a, winnow_pool_threads(load[0].m.pool));
    WN_TRY(measure(a, load, streams, f, err));
    return report(a, load, streams, f, err);
}

int wn_cli_benchmark(int argc, char **argv)
{
    static const struct argp_child common[] = { { &wn_model_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "MODEL [MODEL]", doc, common, NULL, NULL };
    struct args a = { .common = { .max_models = MAX_MODELS }, .batch = 1, .seconds = 10, .warmup = 0.2 };
    struct winnow_err err;
    struct load load[MAX_MODELS] = { 0 };
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const enum winnow_status status = run(&a, load, &err);
    for (unsigned k = 0; k < MAX_MODELS; k++) {
        wn_cli_inputs_done(&load[k].in);
        wn_cli_close(&load[k].m);
    }
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
