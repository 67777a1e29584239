/* executor.c: threads that run batches.
 *
 * DESIGN  The CPUs for inference are split into streams; each is an executor thread with a pool of its own, so that
 *         batches run side by side without touching each other. A scratch belongs to one generation and stream
 *         (gen->scratch): only that executor uses it, without a lock, and it dies with the generation. A batch of
 * several jobs is gathered into one contiguous input per tensor, run once, and its rows are copied into memory of each
 *         job's own. Should a merged batch fail, its jobs run again one by one: nobody fails for another's sake.
 * LOCKS   batch, to take a batch and to close it; runs, copies and callbacks are outside. */
#include "daemon/serve/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cpus.h"
#include "base/log.h"

#define GATHER_KEEP ((size_t)32 << 20) /* a larger gathering buffer is not kept between batches */

struct wn_stream {
    struct wn_serve *serve;
    unsigned index;
    winnow_pool *pool;
    pthread_t thread;
    bool started;
    struct wn_job **job; /* [WN_BATCH_CAP] */
    bool *dropped;
    void *gather;
    size_t gather_cap;
    uint32_t *length; /* [length_cap] of the rows of a batch of texts */
    size_t length_cap;
};

winnow_pool *wn_executor_pool(const struct wn_serve *serve, unsigned stream)
{
    return serve->stream[stream].pool;
}

/* ---- gathering and scattering ---- */

/* Lay the jobs' rows one after another, per input. `in` is filled. */
static enum winnow_status gather(struct wn_stream *st, struct wn_job **job, unsigned n, struct winnow_tensor *in,
                                 struct winnow_err *err)
{
    const struct wn_gen *gen = job[0]->gen;
    size_t total = 0, at = 0;
    for (unsigned i = 0; i < gen->n_in; i++) {
        in[i] = job[0]->inputs[i];
        in[i].bytes = 0;
        in[i].shape[0] = 0;
        for (unsigned k = 0; k < n; k++) {
            in[i].bytes += job[k]->inputs[i].bytes; /* bounded by batch.queue_bytes, which these fitted into */
            in[i].shape[0] += job[k]->rows;
        }
        total += wn_round_up(in[i].bytes, 64);
    }
    if (total > st->gather_cap) {
        free(st->gather);
        st->gather_cap = 0;
        st->gather = aligned_alloc(64, wn_round_up(total, 4096));
        if (!st->gather)
            return wn_fail(err, WINNOW_E_NOMEM, "a batch of %u requests, %zu bytes", n, total);
        st->gather_cap = wn_round_up(total, 4096);
    }
    for (unsigned i = 0; i < gen->n_in; i++) {
        char *to = (char *)st->gather + at;
        in[i].data = to;
        for (unsigned k = 0; k < n; k++) {
            if (job[k]->inputs[i].bytes)
                memcpy(to, job[k]->inputs[i].data, job[k]->inputs[i].bytes);
            to += job[k]->inputs[i].bytes;
        }
        at += wn_round_up(in[i].bytes, 64);
    }
    return WINNOW_OK;
}

/* Lengths of a batch's rows where every job has them, NULL: rows are as long as they are. */
static enum winnow_status lengths(struct wn_stream *st, struct wn_job **job, unsigned n, const uint32_t **ret,
                                  struct winnow_err *err)
{
    size_t rows = 0, at = 0;
    *ret = NULL;
    for (unsigned k = 0; k < n; rows += (size_t)job[k++]->rows)
        if (!job[k]->length)
            return WINNOW_OK;
    if (n == 1) {
        *ret = job[0]->length;
        return WINNOW_OK;
    }
    if (rows > st->length_cap) {
        free(st->length);
        st->length_cap = 0;
        st->length = calloc(rows, sizeof *st->length);
        if (!st->length)
            return wn_fail(err, WINNOW_E_NOMEM, "a batch of %zu rows", rows);
        st->length_cap = rows;
    }
    for (unsigned k = 0; k < n; at += (size_t)job[k++]->rows)
        memcpy(st->length + at, job[k]->length, (size_t)job[k]->rows * sizeof *st->length);
    *ret = st->length;
    return WINNOW_OK;
}

static size_t string_bytes(const struct winnow_str *s, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += s[i].n;
    return total;
}

/* Rows [row, row + rows) of a batch of `all` as the job's own outputs: one allocation holding the tensors, their data
 * and, behind string tensors, the strings. all = 0: everything (a model whose rows are not independent). */
static enum winnow_status scatter(struct wn_job *job, const struct winnow_tensor *out, unsigned n_out, int64_t row,
                                  int64_t rows, int64_t all, struct winnow_err *err)
{
    size_t total = wn_round_up((n_out + 1) * sizeof *job->outputs, 64);
    for (unsigned i = 0; i < n_out; i++) {
        size_t per = all > 0 ? out[i].bytes / (size_t)all : 0, bytes = all ? per * (size_t)rows : out[i].bytes;
        const char *from = (const char *)out[i].data + per * (size_t)row;
        total += wn_round_up(bytes, 64);
        if (out[i].dtype == WINNOW_STRING)
            total += string_bytes((const void *)from, bytes / sizeof(struct winnow_str));
    }
    char *mem = aligned_alloc(64, wn_round_up(total, 64));
    if (!mem)
        return wn_fail(err, WINNOW_E_NOMEM, "outputs of %zu bytes", total);
    job->outputs = (void *)mem;
    mem += wn_round_up((n_out + 1) * sizeof *job->outputs, 64);
    for (unsigned i = 0; i < n_out; i++) { /* numbers first, so that they stay aligned */
        size_t per = all > 0 ? out[i].bytes / (size_t)all : 0, bytes = all ? per * (size_t)rows : out[i].bytes;
        struct winnow_tensor *t = &job->outputs[i];
        *t = out[i];
        t->data = mem;
        t->bytes = bytes;
        if (all)
            t->shape[0] = rows;
        if (bytes)
            memcpy(mem, (const char *)out[i].data + per * (size_t)row, bytes);
        mem += wn_round_up(bytes, 64);
    }
    for (unsigned i = 0; i < n_out; i++) {
        struct winnow_str *s = job->outputs[i].data;
        if (out[i].dtype != WINNOW_STRING)
            continue;
        for (size_t k = 0; k < job->outputs[i].bytes / sizeof *s; k++) {
            if (s[k].n)
                memcpy(mem, s[k].p, s[k].n);
            s[k].p = mem;
            mem += s[k].n;
        }
    }
    return WINNOW_OK;
}

/* ---- batches ---- */

static enum winnow_status run_batch(struct wn_stream *st, struct wn_gen *gen, struct wn_job **job, unsigned n,
                                    struct winnow_tensor *in, struct winnow_tensor *out, struct winnow_err *err)
{
    const struct winnow_tensor *inputs = job[0]->inputs;
    if (n > 1) {
        WN_TRY(gather(st, job, n, in, err));
        inputs = in;
    }
    const uint32_t *length;
    uint64_t until_ns = 0; /* the last of them still waits for an answer */
    winnow_scratch *scratch = gen->scratch[st->index];
    WN_TRY(lengths(st, job, n, &length, err));
    for (unsigned k = 0; k < n; k++)
        until_ns = WN_MAX(until_ns, job[k]->deadline_ns);
    winnow_scratch_limit(scratch, atomic_load_explicit(&st->serve->loop_ns, memory_order_relaxed), until_ns);
    memset(out, 0, gen->n_out * sizeof *out);
    return length ? winnow_run_ragged(gen->model, scratch, inputs, gen->n_in, length, out, gen->n_out, err)
                  : winnow_run(gen->model, scratch, inputs, gen->n_in, out, gen->n_out, err);
}

/* Close the batch: from here on a cancel comes too late. */
static void close_batch(struct wn_stream *st, struct wn_gen *gen, struct wn_job **job, unsigned n, uint64_t rows,
                        uint64_t ns, bool learn)
{
    struct wn_serve *serve = st->serve;
    pthread_mutex_lock(&serve->batch);
    for (unsigned k = 0; k < n; k++) {
        st->dropped[k] = job[k]->state == WN_JOB_DROPPED;
        job[k]->state = WN_JOB_ENDED;
    }
    if (learn)
        wn_batch_learn(gen, rows, ns);
    pthread_mutex_unlock(&serve->batch);
}

static void finish(struct wn_stream *st, struct wn_gen *gen, struct wn_job **job, unsigned n, enum winnow_status status,
                   const struct winnow_tensor *out, int64_t rows, const struct winnow_err *err)
{
    uint64_t now = wn_now_ns();
    for (unsigned k = 0, row = 0; k < n; k++) {
        struct wn_job *j = job[k];
        unsigned first = row;
        row += gen->merge ? (unsigned)j->rows : 0;
        if (st->dropped[k]) {
            wn_job_end(j, WINNOW_E_CANCELLED, "cancelled while it ran");
        } else if (status != WINNOW_OK) {
            j->err = *err;
            wn_job_end(j, status, NULL);
        } else if (now >= j->deadline_ns) {
            wn_job_end(j, WINNOW_E_DEADLINE, "Request timeout expired: the deadline passed while it ran");
        } else {
            enum winnow_status s = gen->merge && rows > 0 ? scatter(j, out, gen->n_out, first, j->rows, rows, &j->err)
                                                          : scatter(j, out, gen->n_out, 0, 0, 0, &j->err);
            wn_job_end(j, s, NULL);
        }
    }
}

static void serve_batch(struct wn_stream *st, struct wn_job **job, unsigned n, struct winnow_tensor *in,
                        struct winnow_tensor *out)
{
    struct wn_gen *gen = job[0]->gen; /* the caller holds a reference */
    struct winnow_err err = { 0 };
    int64_t rows = 0;
    for (unsigned k = 0; k < n; k++)
        rows += job[k]->rows;
    uint64_t start = wn_now_ns(), cpu = wn_thread_cpu_ns();
    enum winnow_status status = run_batch(st, gen, job, n, in, out, &err);
    uint64_t ns = wn_now_ns() - start;
    WN_COUNT_ADD(gen->counters->batches, 1);
    WN_COUNT_ADD(gen->counters->compute_ns, ns);
    if (status != WINNOW_OK && status != WINNOW_E_DEADLINE && n > 1) {
        for (unsigned k = 0; k < n; k++)
            serve_batch(st, &job[k], 1, in, out);
        return;
    }
    if (status == WINNOW_OK) {
        wn_counters_batch(gen->counters, (uint64_t)WN_MAX(rows, (int64_t)1), ns);
        wn_record_batch(gen->counters, wn_thread_cpu_ns() - cpu, rows);
        wn_record_classes(gen, out);
    }
    close_batch(st, gen, job, n, (uint64_t)rows, ns, status == WINNOW_OK);
    finish(st, gen, job, n, status, out, rows, &err);
    if (st->gather_cap > GATHER_KEEP) {
        free(WN_TAKE(st->gather));
        st->gather_cap = 0;
    }
}

static void take_and_serve(struct wn_stream *st, unsigned n)
{
    struct wn_gen *gen = wn_gen_ref(st->job[0]->gen);
    size_t count = gen->n_in + gen->n_out + 1u;
    struct winnow_tensor *t = calloc(count, sizeof *t);
    if (t) {
        serve_batch(st, st->job, n, t, t + gen->n_in);
    } else {
        struct winnow_err err;
        wn_fail(&err, WINNOW_E_NOMEM, "a batch of %u requests", n);
        close_batch(st, gen, st->job, n, 0, 0, false);
        finish(st, gen, st->job, n, WINNOW_E_NOMEM, NULL, 0, &err);
    }
    free(t);
    wn_gen_unref(gen);
}

static void *execute(void *arg)
{
    struct wn_stream *st = arg;
    struct wn_serve *serve = st->serve;
    pthread_mutex_lock(&serve->batch);
    for (;;) {
        uint64_t wake;
        unsigned n = serve->ready ? wn_batch_take(serve, wn_now_ns(), st->job, &wake) : (wake = 0, 0);
        if (n) {
            serve->running++;
            pthread_mutex_unlock(&serve->batch);
            take_and_serve(st, n);
            pthread_mutex_lock(&serve->batch);
            serve->running--;
            if (!serve->running && !serve->queued)
                pthread_cond_broadcast(&serve->idle_cond);
            continue;
        }
        if (serve->stop_executors)
            break;
        serve->idle++;
        if (wake)
            wn_cond_wait_until(&serve->work, &serve->batch, wake);
        else
            pthread_cond_wait(&serve->work, &serve->batch);
        serve->idle--;
    }
    pthread_mutex_unlock(&serve->batch);
    return NULL;
}

/* ---- lifecycle ---- */

/* How many streams for so many threads: the engine's barriers cost more than they give beyond four threads on the small
 * steps of sparse models, so streams of up to four. */
static unsigned choose_streams(unsigned threads)
{
    return (threads + 3) / 4;
}

enum winnow_status wn_executor_start(struct wn_serve *serve, int64_t threads, int64_t streams, struct winnow_err *err)
{
    const unsigned cpus = wn_cpus(), n = threads ? (unsigned)threads : cpus;
    unsigned n_streams = streams ? (unsigned)WN_MIN(streams, (int64_t)n) : choose_streams(n);
    serve->stream = calloc(n_streams, sizeof *serve->stream);
    if (!serve->stream)
        return wn_fail(err, WINNOW_E_NOMEM, "executors");
    serve->n_streams = n_streams;
    serve->stream_threads = n / n_streams;
    if (n > cpus) /* they would wait for each other at every step */
        wn_warning("engine", "threads=%u streams=%u cpus=%u warning=%s", n, n_streams, cpus,
                   "more threads than the CPUs this process may use");
    else
        wn_info("engine", "threads=%u streams=%u cpus=%u", n, n_streams, cpus);
    for (unsigned i = 0; i < n_streams; i++) {
        struct wn_stream *st = &serve->stream[i];
        st->serve = serve;
        st->index = i;
        st->job = calloc(WN_BATCH_CAP, sizeof *st->job);
        st->dropped = calloc(WN_BATCH_CAP, sizeof *st->dropped);
        if (!st->job || !st->dropped)
            return wn_fail(err, WINNOW_E_NOMEM, "executors");
        WN_TRY(winnow_pool_new(n / n_streams + (i < n % n_streams), &st->pool, err));
    }
    for (unsigned i = 0; i < n_streams; i++) {
        char name[24];
        snprintf(name, sizeof name, "executor%u", i);
        int rc = wn_thread_start(&serve->stream[i].thread, name, execute, &serve->stream[i]);
        if (rc)
            return wn_fail_errno(err, rc, "starting executor %u", i);
        serve->stream[i].started = true;
    }
    return WINNOW_OK;
}

void wn_executor_stop(struct wn_serve *serve)
{
    pthread_mutex_lock(&serve->batch);
    serve->stop_executors = true;
    pthread_cond_broadcast(&serve->work);
    pthread_mutex_unlock(&serve->batch);
    for (unsigned i = 0; i < serve->n_streams; i++) {
        struct wn_stream *st = &serve->stream[i];
        if (st->started)
            pthread_join(st->thread, NULL);
        st->started = false;
        free(st->job);
        free(st->dropped);
        free(st->gather);
        free(st->length);
        st->job = NULL;
        st->dropped = NULL;
        st->gather = NULL;
        st->length = NULL;
    }
}
