/* benchmark.c: `winnow benchmark MODEL`: latency one request after another (sync), or throughput with several streams
 * side by side (async). */
#include <argp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/vec.h"
#include "cli/cli.h"

struct args {
    struct wn_model_args common;
    int64_t batch;
    unsigned streams;
    double seconds;
    bool async, reference;
};

static const struct argp_option options[] = {
    { "batch", 'b', "N", 0, "rows per request (default 1)", 0 },
    { "scenario", 's', "sync|async", 0, "one request after another, or streams side by side (default sync)", 0 },
    { "time", 't', "SECONDS", 0, "how long (default 10)", 0 },
    { "streams", 'm', "N", 0, "async: requests side by side (default: as many as threads)", 0 },
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

/* One stream: its own pool, scratch and times. */
struct stream {
    pthread_t thread;
    struct wn_cli_model *m; /* the shared model */
    const struct wn_cli_inputs *in;
    winnow_pool *pool;
    winnow_scratch *scratch;
    WN_VEC(uint64_t) ns;
    uint64_t until;
    enum winnow_status status;
    struct winnow_err err;
};

static enum winnow_status run_stream(struct stream *s)
{
    unsigned n_out = winnow_model_n_outputs(s->m->model);
    WN_CLEANUP(wn_freep) struct winnow_tensor *y = calloc(n_out + 1, sizeof *y);
    if (!y)
        return wn_fail(&s->err, WINNOW_E_NOMEM, "outputs");
    uint64_t start;
    do {
        start = wn_now_ns();
        memset(y, 0, n_out * sizeof *y);
        WN_TRY(winnow_run(s->m->model, s->scratch, s->in->t, s->in->n, y, n_out, &s->err));
        if (!wn_vec_push(&s->ns, wn_now_ns() - start))
            return wn_fail(&s->err, WINNOW_E_NOMEM, "times");
    } while (wn_now_ns() < s->until);
    return WINNOW_OK;
}

static void *stream_main(void *arg)
{
    struct stream *s = arg;
    s->status = run_stream(s);
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct figures {
    double mean_ms, best_ms, p50_ms, p90_ms, p99_ms, rows_per_s;
    size_t runs;
};

static struct figures figures_of(struct stream *s, unsigned n, double seconds, int64_t batch)
{
    WN_VEC(uint64_t) all = { 0 };
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < s[i].ns.n; k++) {
            sum += (double)s[i].ns.at[k];
            wn_vec_push(&all, s[i].ns.at[k]);
        }
    struct figures f = { .runs = all.n };
    if (all.n) {
        qsort(all.at, all.n, sizeof *all.at, by_time);
        f.best_ms = (double)all.at[0] / 1e6;
        f.mean_ms = sum / (double)all.n / 1e6;
        f.p50_ms = (double)all.at[all.n / 2] / 1e6;
        f.p90_ms = (double)all.at[all.n * 9 / 10] / 1e6;
        f.p99_ms = (double)all.at[all.n * 99 / 100] / 1e6;
        f.rows_per_s = (double)all.n * (double)batch / seconds;
    }
    wn_vec_done(&all);
    return f;
}

static enum winnow_status start(const struct args *a, struct wn_cli_model *m, const struct wn_cli_inputs *in,
                                struct stream *s, unsigned n, unsigned threads, struct winnow_err *err)
{
    for (unsigned i = 0; i < n; i++) {
        s[i].m = m;
        s[i].in = in;
        WN_TRY(winnow_pool_new(WN_MAX(threads / n, 1u), &s[i].pool, err));
        WN_TRY(winnow_scratch_new(m->model, s[i].pool, &s[i].scratch, err));
        WN_TRY(winnow_scratch_reserve(s[i].scratch, in->t, in->n, err));
        s[i].until = 0; /* one run to warm up */
        enum winnow_status status = run_stream(&s[i]);
        if (status != WINNOW_OK) {
            *err = s[i].err;
            return status;
        }
        s[i].ns.n = 0;
    }
    return WINNOW_OK;
}

static enum winnow_status measure(const struct args *a, struct wn_cli_model *m, const struct wn_cli_inputs *in,
                                  struct figures *ret, unsigned *ret_streams, struct winnow_err *err)
{
    unsigned threads = winnow_pool_threads(m->pool), n = a->async ? (a->streams ? a->streams : threads) : 1;
    struct stream *s = calloc(n, sizeof *s);
    if (!s)
        return wn_fail(err, WINNOW_E_NOMEM, "streams");
    enum winnow_status status = start(a, m, in, s, n, threads, err);
    uint64_t begin = wn_now_ns();
    unsigned started = 0;
    for (; started < n && status == WINNOW_OK; started++) {
        s[started].until = begin + (uint64_t)(a->seconds * 1e9);
        int e = pthread_create(&s[started].thread, NULL, stream_main, &s[started]);
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
    if (status == WINNOW_OK)
        *ret = figures_of(s, n, (double)(wn_now_ns() - begin) / 1e9, a->batch);
    *ret_streams = n;
    for (unsigned i = 0; i < n; i++) {
        winnow_scratch_free(s[i].scratch);
        winnow_pool_free(s[i].pool);
        wn_vec_done(&s[i].ns);
    }
    free(s);
    return status;
}

static enum winnow_status report(const struct args *a, const struct wn_cli_model *m, const struct figures *f,
                                 unsigned streams, struct winnow_err *err)
{
    if (!a->common.json || strcmp(a->common.json, "-")) {
        printf("model    %s\ncpu      %s, kernels %s\n", a->common.model[0], winnow_cpu_name(), winnow_cpu_isa());
        printf("load     %.1f ms, weights %.1f MiB\n", m->load_ms,
               (double)winnow_model_weight_bytes(m->model) / (1 << 20));
        printf("set-up   batch %lld, %u threads, %u stream%s, %zu runs\n", (long long)a->batch,
               winnow_pool_threads(m->pool), streams, streams == 1 ? "" : "s", f->runs);
        printf("latency  best %.3f  median %.3f  mean %.3f  p90 %.3f  p99 %.3f ms\n", f->best_ms, f->p50_ms, f->mean_ms,
               f->p90_ms, f->p99_ms);
        printf("rate     %.1f rows/s\n", f->rows_per_s);
    }
    if (!a->common.json)
        return WINNOW_OK;
    return wn_cli_write_json(a->common.json,
                             json_pack("{s:s,s:s,s:s,s:f,s:I,s:I,s:i,s:i,s:b,s:I,s:f,s:f,s:f,s:f,s:f,s:f}", "model",
                                       a->common.model[0], "cpu", winnow_cpu_name(), "isa", winnow_cpu_isa(), "load_ms",
                                       m->load_ms, "weight_bytes", (json_int_t)winnow_model_weight_bytes(m->model),
                                       "batch", (json_int_t)a->batch, "threads", (int)winnow_pool_threads(m->pool),
                                       "streams", (int)streams, "async", a->async, "runs", (json_int_t)f->runs,
                                       "best_ms", f->best_ms, "p50_ms", f->p50_ms, "mean_ms", f->mean_ms, "p90_ms",
                                       f->p90_ms, "p99_ms", f->p99_ms, "rows_per_s", f->rows_per_s),
                             err);
}

static const char doc[] = "Measure a model on made-up inputs.\v" WN_CLI_EXAMPLES(
    "  winnow benchmark mine.onnx                     latency, one request after another\n"
    "  winnow benchmark mine.onnx -s async -b 8       throughput of batches side by side\n");

int wn_cli_benchmark(int argc, char **argv)
{
    static const struct argp_child common[] = { { &wn_model_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "MODEL", doc, common, NULL, NULL };
    struct args a = { .common = { .max_models = 1 }, .batch = 1, .seconds = 10 };
    struct winnow_err err;
    struct wn_cli_model m = { 0 };
    struct wn_cli_inputs in = { 0 };
    struct figures f = { 0 };
    unsigned streams = 0;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct winnow_load_opts opts = { .reference = a.reference, .cache = a.common.cache };
    enum winnow_status status = wn_cli_open(a.common.model[0], a.common.threads, &opts, &m, &err);
    if (status == WINNOW_OK)
        status = wn_cli_inputs_random(m.model, a.batch, a.common.shape, a.common.n_shapes, 1, &in, &err);
    if (status == WINNOW_OK)
        status = wn_cli_tune(&m, &in, a.common.tune, &err);
    if (status == WINNOW_OK)
        status = measure(&a, &m, &in, &f, &streams, &err);
    if (status == WINNOW_OK)
        status = report(&a, &m, &f, streams, &err);
    wn_cli_inputs_done(&in);
    wn_cli_close(&m);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
