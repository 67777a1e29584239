/* batcher.c: queues of jobs, and when a batch closes.
 *
 * DESIGN  A generation has a queue per shape class; jobs of one queue may share a batch where the model's rows are
 *         proved independent, else each runs alone. An idle executor takes the queue whose oldest job came first,
 *         unless another one's deadline less its measured cost has come.
 *
 *         A batch closes when it is full (batch.max_batch rows), when its earliest deadline less what it costs is near,
 *         or when an executor is free: a free executor runs what is there at once, and batches form by themselves while
 *         all are busy. Waiting for companions buys something only where a stream has more threads than the queue has
 *         rows: the engine deals whole rows out over its threads, and has them share each row, which is slower, when
 *         there are fewer. Then the batch stays open while the next request is expected (moving mean of the gaps) in
 *         less than half of what a row costs more alone than in company (both measured), and never longer than
 *         batch.max_wait. Considered: waiting wherever company is cheaper. With one thread per stream and four clients
 *         in a loop it took two thirds of the throughput.
 *
 * LOCKS   batch, for all queues of all models: each operation is a few pointers. Allocations for a new shape class
 *         happen before it is taken. Callbacks run without it. */
#include "daemon/serve/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- checking ---- */

static enum winnow_status check_input(const struct winnow_io *io, const struct winnow_tensor *t, uint64_t *total,
                                      struct winnow_err *err)
{
    if (t->dtype != io->dtype)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' is %s, the model wants %s", io->name,
                       winnow_dtype_name(t->dtype), winnow_dtype_name(io->dtype));
    if (t->rank != io->rank)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has %u dimensions, the model wants %u", io->name, t->rank,
                       io->rank);
    for (unsigned d = 0; d < io->rank; d++)
        if (t->shape[d] < 0 || (io->shape[d] >= 0 && io->shape[d] != t->shape[d]))
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s': extent %u is %" PRId64 ", the model wants %" PRId64,
                           io->name, d, t->shape[d], io->shape[d]);
    size_t bytes;
    if (!wn_shape_bytes(t->shape, t->rank, winnow_dtype_size(t->dtype), &bytes) || bytes != t->bytes)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' holds %zu bytes, which is not what its shape needs",
                       io->name, t->bytes);
    *total += bytes;
    if (t->dtype == WINNOW_STRING) {
        const struct winnow_str *s = t->data;
        for (size_t i = 0; i < bytes / sizeof *s; i++)
            *total += s[i].n;
    }
    return WINNOW_OK;
}

static enum winnow_status check_job(struct wn_job *job, struct winnow_err *err)
{
    const struct wn_gen *gen = job->gen;
    job->bytes = 0;
    for (unsigned i = 0; i < gen->n_in; i++)
        WN_TRY(check_input(winnow_model_input(gen->model, i), &job->inputs[i], &job->bytes, err));
    job->rows = 1;
    if (!gen->merge)
        return WINNOW_OK;
    job->rows = job->inputs[0].shape[0];
    for (unsigned i = 1; i < gen->n_in; i++)
        if (job->inputs[i].shape[0] != job->rows)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has %" PRId64 " rows, input '%s' has %" PRId64,
                           winnow_model_input(gen->model, i)->name, job->inputs[i].shape[0],
                           winnow_model_input(gen->model, 0)->name, job->rows);
    if (job->rows > wn_gen_max_rows(gen))
        return wn_fail(err, WINNOW_E_MALFORMED, "%" PRId64 " rows in one request, at most %" PRId64 " are allowed",
                       job->rows, wn_gen_max_rows(gen));
    return WINNOW_OK;
}

/* ---- queues; under batch ---- */

/* An empty request weighs as one row, so that a batch of them ends. */
static uint64_t weight(const struct wn_job *job)
{
    return job->rows > 0 ? (uint64_t)job->rows : 1;
}

static bool same_class(const struct wn_job *a, const struct wn_job *b)
{
    const struct wn_gen *gen = a->gen;
    for (unsigned i = 0; i < gen->n_in; i++) {
        const struct winnow_tensor *x = &a->inputs[i], *y = &b->inputs[i];
        if (x->rank > 1 && memcmp(x->shape + 1, y->shape + 1, (x->rank - 1) * sizeof x->shape[0]) != 0)
            return false;
    }
    return true;
}

/* The queue this job belongs into; *spare (an empty one, or NULL) is used up when none fits. NULL: *spare was needed.
 */
static struct wn_queue *queue_for(struct wn_job *job, struct wn_queue **spare)
{
    struct wn_gen *gen = job->gen;
    if (!gen->merge || !gen->dynamic)
        return &gen->queue;
    struct wn_queue *empty = NULL;
    for (struct wn_queue *q = gen->queues; q; q = q->sibling) {
        if (!q->head)
            empty = q;
        else if (same_class(q->head, job))
            return q;
    }
    if (!empty && *spare) {
        empty = WN_TAKE(*spare);
        empty->sibling = gen->queues;
        gen->queues = empty;
    }
    return empty;
}

static void ready_add(struct wn_serve *serve, struct wn_queue *q)
{
    q->prev = NULL;
    q->next = serve->ready;
    if (q->next)
        q->next->prev = q;
    serve->ready = q;
}

static void ready_remove(struct wn_serve *serve, struct wn_queue *q)
{
    if (q->prev)
        q->prev->next = q->next;
    else
        serve->ready = q->next;
    if (q->next)
        q->next->prev = q->prev;
    q->next = q->prev = NULL;
}

static void push(struct wn_serve *serve, struct wn_queue *q, struct wn_job *job)
{
    struct wn_served *m = job->gen->model_of;
    job->queue = q;
    job->state = WN_JOB_QUEUED;
    job->next = NULL;
    job->prev = q->tail;
    if (q->tail)
        q->tail->next = job;
    else {
        q->head = job;
        q->due_ns = UINT64_MAX;
        ready_add(serve, q);
    }
    q->tail = job;
    q->n++;
    q->rows += weight(job);
    q->due_ns = WN_MIN(q->due_ns, job->deadline_ns);
    m->q_requests++;
    m->q_rows += weight(job);
    m->q_bytes += job->bytes;
    serve->queued++;
    WN_COUNT_ADD(job->gen->counters->queued, 1);
}

void wn_batch_unlink(struct wn_serve *serve, struct wn_job *job)
{
    struct wn_queue *q = job->queue;
    struct wn_served *m = job->gen->model_of;
    wn_deadline_remove(serve, job);
    if (job->prev)
        job->prev->next = job->next;
    else
        q->head = job->next;
    if (job->next)
        job->next->prev = job->prev;
    else
        q->tail = job->prev;
    job->next = job->prev = NULL;
    job->queue = NULL;
    q->n--;
    q->rows -= weight(job);
    m->q_requests--;
    m->q_rows -= weight(job);
    m->q_bytes -= job->bytes;
    serve->queued--;
    WN_COUNT_ADD(job->gen->counters->queued, (uint64_t)-1);
    if (!q->head)
        ready_remove(serve, q);
}

/* ---- submitting ---- */

static enum winnow_status admit(struct wn_serve *serve, struct wn_job *job, struct winnow_err *err)
{
    const struct wn_batch_settings *bs = &serve->bs;
    const struct wn_served *m = job->gen->model_of;
    uint64_t max_requests = job->gen->conf.max_queue > 0 ? (uint64_t)job->gen->conf.max_queue : bs->max_requests;
    if (serve->stopping)
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "the server is stopping");
    if (m->q_requests >= max_requests)
        return wn_fail(err, WINNOW_E_OVERLOAD, "model '%s': Exceeds maximum queue size (%" PRIu64 " requests)", m->name,
                       max_requests);
    if (m->q_rows && m->q_rows + weight(job) > bs->max_rows)
        return wn_fail(err, WINNOW_E_OVERLOAD, "model '%s': Exceeds maximum queue size (%" PRIu64 " rows)", m->name,
                       bs->max_rows);
    if (m->q_bytes && m->q_bytes + job->bytes > bs->max_bytes)
        return wn_fail(err, WINNOW_E_OVERLOAD, "model '%s': Exceeds maximum queue size (%" PRIu64 " bytes)", m->name,
                       bs->max_bytes);
    return WINNOW_OK;
}

static enum winnow_status enqueue(struct wn_serve *serve, struct wn_job *job, struct wn_queue **spare,
                                  struct winnow_err *err)
{
    struct wn_gen *gen = job->gen;
    WN_TRY(admit(serve, job, err));
    if (job->deadline_ns == 0)
        job->deadline_ns =
            job->queued_ns + (gen->conf.timeout_us > 0 ? (uint64_t)gen->conf.timeout_us * 1000 : serve->bs.timeout_ns);
    if (job->deadline_ns <= job->queued_ns)
        return wn_fail(err, WINNOW_E_DEADLINE, "the deadline had passed when the request came");
    struct wn_queue *q = queue_for(job, spare);
    if (!q || !wn_deadline_add(serve, job))
        return wn_fail(err, WINNOW_E_NOMEM, "queue of model '%s'", gen->name);
    push(serve, q, job);
    if (gen->last_arrival_ns && job->queued_ns > gen->last_arrival_ns)
        gen->gap += ((double)(job->queued_ns - gen->last_arrival_ns) - gen->gap) / 8;
    gen->last_arrival_ns = job->queued_ns;
    if (serve->idle)
        pthread_cond_signal(&serve->work);
    return WINNOW_OK;
}

void wn_gen_batching(const struct wn_gen *gen, struct wn_gen_batching *ret)
{
    struct wn_serve *serve = gen->serve;
    pthread_mutex_lock(&serve->batch);
    struct wn_batch_settings bs = serve->bs;
    pthread_mutex_unlock(&serve->batch);
    ret->max_wait_us = gen->conf.max_wait_us >= 0 ? (uint64_t)gen->conf.max_wait_us : bs.max_wait_ns / 1000;
    ret->timeout_us = gen->conf.timeout_us > 0 ? (uint64_t)gen->conf.timeout_us : bs.timeout_ns / 1000;
    ret->max_requests = gen->conf.max_queue > 0 ? (uint64_t)gen->conf.max_queue : bs.max_requests;
    ret->streams = serve->n_streams;
}

static void count_refusal(struct wn_counters *c, enum winnow_status status)
{
    if (status == WINNOW_E_OVERLOAD || status == WINNOW_E_UNAVAILABLE)
        WN_COUNT_ADD(c->rejected, 1);
    else if (status == WINNOW_E_DEADLINE)
        WN_COUNT_ADD(c->expired, 1);
    else
        WN_COUNT_ADD(c->failure, 1);
}

enum winnow_status wn_serve_submit(struct wn_serve *serve, struct wn_job *job, struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    WN_CHECK_MAGIC(job->gen, WN_GEN_MAGIC);
    struct wn_gen *gen = job->gen;
    job->state = WN_JOB_NEW;
    job->status = WINNOW_OK;
    job->err = (struct winnow_err){ 0 };
    job->outputs = NULL;
    job->queue = NULL;
    job->started_ns = job->finished_ns = 0;
    job->queued_ns = wn_now_ns();
    struct wn_counters *c = gen->counters; /* once queued, the job may end and drop its reference at any moment */
    enum winnow_status status = check_job(job, err);
    struct wn_queue *spare = NULL;
    if (status == WINNOW_OK) {
        if (gen->merge && gen->dynamic && (spare = calloc(1, sizeof *spare)) != NULL)
            spare->gen = gen;
        pthread_mutex_lock(&serve->batch);
        status = enqueue(serve, job, &spare, err);
        pthread_mutex_unlock(&serve->batch);
        free(spare);
    }
    if (status != WINNOW_OK)
        count_refusal(c, status);
    return status;
}

void wn_serve_cancel(struct wn_serve *serve, struct wn_job *job)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    pthread_mutex_lock(&serve->batch);
    bool queued = job->state == WN_JOB_QUEUED;
    if (queued) {
        wn_batch_unlink(serve, job);
        job->state = WN_JOB_ENDED;
    } else if (job->state == WN_JOB_RUNNING) {
        job->state = WN_JOB_DROPPED;
    }
    pthread_mutex_unlock(&serve->batch);
    if (queued)
        wn_job_end(job, WINNOW_E_CANCELLED, "cancelled while it waited");
}

void wn_batch_fail_queued(struct wn_serve *serve)
{
    pthread_mutex_lock(&serve->batch);
    while (serve->ready) {
        struct wn_job *job = serve->ready->head;
        wn_batch_unlink(serve, job);
        job->state = WN_JOB_ENDED;
        pthread_mutex_unlock(&serve->batch);
        wn_job_end(job, WINNOW_E_UNAVAILABLE, "the server is stopping");
        pthread_mutex_lock(&serve->batch);
    }
    pthread_mutex_unlock(&serve->batch);
}

/* ---- ending ---- */

/* After done() the job may be gone, and with it the last reference to its generation. */
void wn_job_end(struct wn_job *job, enum winnow_status status, const char *why)
{
    struct wn_counters *c = job->gen->counters;
    job->status = status;
    if (status != WINNOW_OK) {
        wn_job_done_outputs(job);
        if (why)
            wn_fail(&job->err, status, "%s", why);
    }
    job->finished_ns = wn_now_ns();
    if (status == WINNOW_OK) {
        WN_COUNT_ADD(c->success, 1);
        WN_COUNT_ADD(c->rows, (uint64_t)job->rows);
    } else if (status == WINNOW_E_CANCELLED) {
        WN_COUNT_ADD(c->cancelled, 1);
    } else if (status == WINNOW_E_DEADLINE) {
        WN_COUNT_ADD(c->expired, 1);
    } else if (status == WINNOW_E_UNAVAILABLE) {
        WN_COUNT_ADD(c->rejected, 1);
    } else {
        WN_COUNT_ADD(c->failure, 1);
    }
    if (job->started_ns)
        WN_COUNT_ADD(c->queue_ns, job->started_ns - job->queued_ns);
    wn_counters_latency(c, job->finished_ns - job->queued_ns);
    atomic_store_explicit(&c->last_ms, (uint64_t)wn_wall_ns() / 1000000u, memory_order_relaxed);
    job->done(job);
}

void wn_job_done_outputs(struct wn_job *job)
{
    free(job->outputs); /* one allocation: executor.c */
    job->outputs = NULL;
}

/* ---- closing batches; under batch ---- */

void wn_batch_learn(struct wn_gen *gen, uint64_t rows, uint64_t ns)
{
    double *mean = rows == 1 ? &gen->cost_one : &gen->cost_row, x = (double)ns / (double)WN_MAX(rows, 1u);
    *mean += *mean > 0 ? (x - *mean) / 8 : x;
}

static uint64_t cost_ns(const struct wn_gen *gen, uint64_t rows)
{
    double row = gen->cost_row > 0 ? gen->cost_row : gen->cost_one;
    return (uint64_t)(gen->cost_one > row * (double)rows ? gen->cost_one : row * (double)rows);
}

/* When this queue's batch closes; 0: now. */
static uint64_t closes_at(const struct wn_serve *serve, const struct wn_queue *q, uint64_t now)
{
    const struct wn_gen *gen = q->gen;
    uint64_t max_wait = gen->conf.max_wait_us >= 0 ? (uint64_t)gen->conf.max_wait_us * 1000 : serve->bs.max_wait_ns;
    if (!gen->merge || q->rows >= serve->stream_threads || serve->stopping || max_wait == 0)
        return 0;
    double gain = gen->cost_one > 0 && gen->cost_row > 0 ? gen->cost_one - gen->cost_row : 0;
    uint64_t patience = (uint64_t)(2 * gen->gap) + 1;
    if (gen->gap <= 0 || gain < 2 * gen->gap || now - gen->last_arrival_ns > patience)
        return 0; /* nobody is expected soon enough to pay for the wait */
    uint64_t cost = cost_ns(gen, q->rows);
    uint64_t at = WN_MIN(q->head->queued_ns + max_wait, gen->last_arrival_ns + patience);
    at = WN_MIN(at, q->due_ns > cost ? q->due_ns - cost : 0);
    return at <= now ? 0 : at;
}

static bool demands(const struct wn_queue *q, uint64_t now)
{
    return q->due_ns <= now + cost_ns(q->gen, q->rows);
}

static void recompute_due(struct wn_queue *q)
{
    q->due_ns = UINT64_MAX;
    for (const struct wn_job *job = q->head; job; job = job->next)
        q->due_ns = WN_MIN(q->due_ns, job->deadline_ns);
}

unsigned wn_batch_take(struct wn_serve *serve, uint64_t now, struct wn_job **ret, uint64_t *ret_wake_ns)
{
    struct wn_queue *best = NULL;
    bool best_demands = false;
    *ret_wake_ns = 0;
    for (struct wn_queue *q = serve->ready; q; q = q->next) {
        uint64_t at = closes_at(serve, q, now);
        if (at) {
            *ret_wake_ns = *ret_wake_ns ? WN_MIN(*ret_wake_ns, at) : at;
            continue;
        }
        bool d = demands(q, now);
        if (!best || d > best_demands || (d == best_demands && q->head->queued_ns < best->head->queued_ns)) {
            best = q;
            best_demands = d;
        }
    }
    if (!best)
        return 0;
    unsigned n = 0;
    uint64_t rows = 0, limit = best->gen->merge ? (uint64_t)wn_gen_max_rows(best->gen) : 1;
    while (best->head && n < WN_BATCH_CAP && (n == 0 || rows + weight(best->head) <= limit)) {
        struct wn_job *job = best->head;
        wn_batch_unlink(serve, job);
        job->state = WN_JOB_RUNNING;
        job->started_ns = now;
        rows += weight(job);
        ret[n++] = job;
    }
    recompute_due(best);
    return n;
}
