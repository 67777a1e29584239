/* h_embeddings.c: POST /v1/embeddings.
 *
 * LIFE    on the loop: read -> take a generation -> encode as many inputs as one job may have rows -> submit -> … an
 *         executor calls job_done() … -> on the loop: pool -> the next inputs, or the answer. What takes milliseconds
 *         (large bodies, long texts, pooling of much) is done on a worker. All inputs of a request meet the same
 *         generation. */
#include <stdlib.h>
#include <string.h>
#include "daemon/api/embeddings.h"
#include "daemon/api/infer.h"
#include "daemon/api/internal.h"

#define INLINE_BODY ((size_t)64 << 10)
#define INLINE_TEXT ((size_t)4 << 10) /* bytes tokenized on the loop */
#define INLINE_POOL ((size_t)1 << 18) /* numbers pooled, or written, on the loop */

struct embed {
    struct wn_req *req;
    struct wn_gen *gen;
    struct wn_embed in;
    size_t at, n_now; /* inputs done; inputs of the present job */
    struct wn_pipe_batch batch;
    struct wn_job job;
    float *vector; /* (n, dim); malloc'ed */
    size_t dim;
    uint64_t tokens, deadline_ns;
    bool running;
    enum winnow_status status; /* of what was done last */
    struct winnow_err err;
    const char *param, *code;
    struct wn_buf out;
};

static void free_embed(void *state)
{
    struct embed *st = state;
    wn_job_done_outputs(&st->job);
    wn_gen_unref(st->gen);
    wn_buf_done(&st->out);
    free(st->vector);
    free(st);
}

static void on_gone(struct wn_req *req)
{
    struct embed *st = req->state;
    if (st->running)
        wn_serve_cancel(req->api->serve, &st->job);
}

static void reply_error(struct embed *st, const struct winnow_err *err)
{
    wn_reply_v1_error(st->req, err, st->param, st->code);
}

/** Do `work` on a worker where it is much, else here; then `then`, on the loop. */
static void do_then(struct embed *st, bool much, void (*work)(struct wn_req *), wn_handle_fn *then)
{
    if (!much) {
        work(st->req);
        then(st->req);
        return;
    }
    struct winnow_err err = { 0 };
    if (!wn_req_work(st->req, work, then)) {
        wn_fail(&err, WINNOW_E_OVERLOAD, "too many requests wait for a worker, retry later");
        reply_error(st, &err);
    }
}

/* ---- the answer ---- */

static void write_answer(struct wn_req *req)
{
    struct embed *st = req->state;
    wn_embed_write(&st->in, st->vector, st->dim, st->tokens, &st->out);
}

static void send_answer(struct wn_req *req)
{
    struct embed *st = req->state;
    if (req->x)
        wn_reply_buf(req, 200, "application/json", &st->out);
}

/* ---- one job after another ---- */

static void next_inputs(struct embed *st);

static enum winnow_status pool_batch(struct embed *st, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    const struct winnow_tensor *t = &st->job.outputs[wn_pipeline_model_output(p)];
    size_t dim = wn_pipeline_embed_dim(p, t->rank, t->shape), bytes;
    if (t->dtype != WINNOW_F32 || !dim || (size_t)t->shape[0] != st->n_now || (st->dim && dim != st->dim))
        return wn_fail(err, WINNOW_E_INTERNAL, "model '%s' gives no FP32 vector per text", wn_gen_model_name(st->gen));
    if (!st->vector) {
        st->vector = wn_mul_size(st->in.n, dim * sizeof *st->vector, &bytes) ? malloc(bytes) : NULL;
        if (!st->vector)
            return wn_fail(err, WINNOW_E_NOMEM, "%zu embeddings", st->in.n);
        st->dim = dim;
    }
    wn_pipeline_embed(p, t->data, t->shape, st->batch.used, st->vector + st->at * dim);
    for (size_t i = 0; i < st->n_now; i++)
        st->tokens += st->batch.used[i];
    wn_job_done_outputs(&st->job);
    return WINNOW_OK;
}

static void pool(struct wn_req *req)
{
    struct embed *st = req->state;
    st->status = pool_batch(st, &st->err);
}

static void pooled(struct wn_req *req)
{
    struct embed *st = req->state;
    if (!req->x)
        return;
    if (st->status != WINNOW_OK) {
        reply_error(st, &st->err);
        return;
    }
    st->at += st->n_now;
    if (st->at < st->in.n)
        next_inputs(st);
    else
        do_then(st, st->in.n * st->dim > INLINE_POOL / 16, write_answer, send_answer);
}

/** Back on the loop from an executor. */
static void finished(struct wn_req *req)
{
    struct embed *st = req->state;
    st->running = false;
    if (!req->x)
        return;
    if (st->job.status != WINNOW_OK) {
        reply_error(st, &st->job.err);
        return;
    }
    const struct winnow_tensor *t = &st->job.outputs[wn_pipeline_model_output(wn_gen_pipeline(st->gen))];
    do_then(st, t->bytes / sizeof(float) > INLINE_POOL, pool, pooled);
}

/** On an executor or timer thread, or inside wn_serve_cancel(). */
static void job_done(struct wn_job *job)
{
    wn_req_post(WN_CONTAINER_OF(job, struct embed, job)->req, finished);
}

static enum winnow_status encode_batch(struct embed *st, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    struct wn_arena *arena = &st->req->arena;
    const struct wn_pipe_items items = { .at = { st->in.text ? st->in.text + st->at : NULL }, .n = st->n_now };
    enum winnow_status s = st->in.text ? wn_pipeline_encode_rows(p, &items, NULL, arena, &st->batch, err)
                                       : wn_pipeline_pack(p, st->in.ids + st->at, st->n_now, arena, &st->batch, err);
    if (s != WINNOW_OK && st->batch.bad_row != SIZE_MAX)
        return wn_fail_at(err, WINNOW_E_MALFORMED, "input %zu", st->at + st->batch.bad_row);
    WN_TRY(s);
    if (!st->job.inputs)
        st->job.inputs = wn_arena_calloc(arena, winnow_model_n_inputs(wn_gen_model(st->gen)), sizeof *st->job.inputs);
    if (!st->job.inputs)
        return wn_fail(err, WINNOW_E_NOMEM, "request");
    wn_infer_take_batch(&st->batch, st->job.inputs);
    st->job.length = st->batch.length;
    return WINNOW_OK;
}

static void encode(struct wn_req *req)
{
    struct embed *st = req->state;
    st->status = encode_batch(st, &st->err);
}

static void submit(struct wn_req *req)
{
    struct embed *st = req->state;
    if (!req->x)
        return;
    if (st->status != WINNOW_OK) {
        st->param = st->status == WINNOW_E_NOMEM ? NULL : "input";
        reply_error(st, &st->err);
        return;
    }
    st->job.gen = st->gen;
    st->job.done = job_done;
    st->job.rows = (int64_t)st->n_now;
    st->job.deadline_ns = st->deadline_ns;
    wn_req_hold(req);
    st->running = true;
    struct winnow_err err = { 0 };
    if (wn_serve_submit(req->api->serve, &st->job, &err) != WINNOW_OK) {
        st->running = false;
        wn_req_drop(req);
        reply_error(st, &err);
        return;
    }
    st->deadline_ns = st->job.deadline_ns; /* the next inputs have what is left */
}

/** As many inputs as one job may have. */
static void next_inputs(struct embed *st)
{
    size_t bytes = 0;
    st->n_now = WN_MIN(st->in.n - st->at, (size_t)WN_MAX(wn_gen_max_rows(st->gen), (int64_t)1));
    for (size_t i = st->at; i < st->at + st->n_now; i++)
        bytes += st->in.text ? st->in.text[i].n + 16 : st->in.ids[i].n;
    do_then(st, bytes > INLINE_TEXT, encode, submit);
}

/* ---- the request ---- */

static void read_body(struct wn_req *req)
{
    struct embed *st = req->state;
    st->status = wn_embed_read(req->body, req->body_n, &req->arena, &st->in, &st->param, &st->err);
}

/** "NAME" or "NAME@VERSION", as /v1/models/{m} takes it. */
static enum winnow_status find_model(struct embed *st, struct winnow_err *err)
{
    char *name = wn_arena_strndup(&st->req->arena, st->in.model.p, st->in.model.n);
    if (!name)
        return wn_fail(err, WINNOW_E_NOMEM, "request");
    char *at = strrchr(name, '@');
    const char *version = at && at[1] && strspn(at + 1, "0123456789") == strlen(at + 1) ? at + 1 : NULL;
    if (version)
        *at = '\0';
    enum winnow_status s = wn_req_find(st->req, name, version, &st->gen, err);
    st->param = s == WINNOW_E_NOT_FOUND ? "model" : NULL;
    st->code = s == WINNOW_E_NOT_FOUND ? "model_not_found" : NULL;
    WN_TRY(s);
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    if (p && wn_pipeline_task(p) == WN_PIPE_EMBEDDINGS)
        return WINNOW_OK;
    st->param = "model";
    return wn_fail(err, WINNOW_E_MALFORMED, "model '%s' makes no embeddings: its pipeline.yaml has another task",
                   wn_gen_model_name(st->gen));
}

static void got_body(struct wn_req *req)
{
    struct embed *st = req->state;
    struct winnow_err err = { 0 };
    if (!req->x)
        return;
    if (st->status != WINNOW_OK) {
        reply_error(st, &st->err);
        return;
    }
    enum winnow_status s = find_model(st, &err);
    if (s == WINNOW_OK)
        s = wn_req_deadline(req, 0, &st->deadline_ns, &err);
    if (s == WINNOW_OK)
        next_inputs(st);
    else
        reply_error(st, &err);
}

void wn_post_embeddings(struct wn_req *req)
{
    struct embed *st = calloc(1, sizeof *st);
    if (!st) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return;
    }
    st->req = req;
    req->state = st;
    req->free_state = free_embed;
    req->on_gone = on_gone;
    do_then(st, req->body_n > INLINE_BODY, read_body, got_body);
}
