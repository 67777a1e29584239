/* h_infer.c: POST …/infer and ModelInfer: from a request's bytes to a job of the executors, and back.
 *
 * LIFE    on the loop: take a generation -> read and bind (on a worker where that takes milliseconds: pictures, long
 *         texts, large JSON) -> submit -> … an executor calls job_done() … -> on the loop: write the response (on a
 * worker where it is large JSON) -> reply. The request is held across each gap, and with it the body, which inputs
 * point into; a client that leaves cancels the job. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "daemon/api/infer.h"
#include "daemon/api/internal.h"
#include "daemon/api/json.h"
#include "daemon/api/text.h"

/** JSON of more bytes than this is read and written on a worker: about a millisecond. */
#define INLINE_JSON ((size_t)64 << 10)

enum form { FORM_JSON, FORM_RAW, FORM_ITEM, FORM_RPC };

struct infer {
    struct wn_req *req;
    struct wn_gen *gen;
    struct wn_infer in;
    struct wn_job job;
    enum form form;
    size_t json_n;
    enum { READING, RUNNING, WRITING } at; /* what is going on elsewhere */
    enum winnow_status status;             /* of what a worker did */
    struct winnow_err err;
    struct wn_buf out;
    size_t out_json_n;
};

static void free_infer(void *state)
{
    struct infer *st = state;
    wn_job_done_outputs(&st->job);
    wn_gen_unref(st->gen);
    wn_buf_done(&st->out);
    free(st);
}

static void on_gone(struct wn_req *req)
{
    struct infer *st = req->state;
    if (st->at == RUNNING)
        wn_serve_cancel(req->api->serve, &st->job);
}

static struct infer *new_infer(struct wn_req *req, enum form form)
{
    struct infer *st = calloc(1, sizeof *st);
    if (!st) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return NULL;
    }
    st->req = req;
    st->form = form;
    st->in.arena = &req->arena;
    st->in.binary_output = -1;
    req->state = st;
    req->free_state = free_infer;
    return st;
}

/* ---- the response ---- */
/** "embedding":[…] of a single text. */
static void embedding_json(struct wn_buf *to, const struct winnow_tensor *t)
{
    const float *v = t->data;
    char number[32];
    wn_buf_text(to, ",\"embedding\":");
    for (size_t i = 0; i < t->bytes / sizeof *v; i++) {
        wn_buf_char(to, i ? ',' : '[');
        wn_buf_add(to, number, wn_json_print_f32(number, v[i]));
    }
    wn_buf_text(to, "]");
}

static void classes_json(struct wn_buf *to, const struct winnow_str *label, const float *score, size_t n)
{
    char number[32];
    for (size_t i = 0; i < n; i++) {
        if (i == 1)
            wn_buf_text(to, ",\"others\":[");
        else if (i > 1)
            wn_buf_char(to, ',');
        wn_buf_text(to, i ? "{\"label\":" : ",\"label\":");
        wn_buf_json_string(to, label[i].p, label[i].n);
        wn_buf_text(to, ",\"probability\":");
        wn_buf_add(to, number, wn_json_print_f32(number, score[i]));
        if (i)
            wn_buf_char(to, '}');
    }
    if (n > 1)
        wn_buf_char(to, ']');
}

/** The answer to a picture or a text that was the whole body. */
static void item_json(struct infer *st, const struct wn_infer_out *out, unsigned n_out)
{
    const struct winnow_tensor *label = NULL, *score = NULL, *embedding = NULL;
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    struct wn_buf *to = &st->out;
    for (unsigned i = 0; i < n_out; i++) { /* the pipeline's own come last */
        if (!wn_pipeline_scores(p) && strcmp(out[i].name, wn_pipeline_embed_name(p)) == 0)
            embedding = &out[i].t;
        else if (strcmp(out[i].name, "label") == 0 && out[i].t.dtype == WINNOW_STRING)
            label = &out[i].t;
        else if (strcmp(out[i].name, "score") == 0)
            score = &out[i].t;
    }
    wn_buf_text(to, "{\"model_name\":");
    wn_buf_json_string(to, wn_gen_model_name(st->gen), strlen(wn_gen_model_name(st->gen)));
    wn_buf_printf(to, ",\"model_version\":\"%" PRId64 "\"", wn_gen_version(st->gen));
    if (embedding)
        embedding_json(to, embedding);
    else if (label && score)
        classes_json(to, label->data, score->data, label->bytes / sizeof(struct winnow_str));
    wn_buf_char(to, '}');
}

/** Any thread: the finished job's outputs as bytes. */
static void write_response(struct infer *st)
{
    struct wn_infer_out *out;
    unsigned n;
    st->status = wn_infer_outputs(&st->in, st->gen, st->job.outputs, &out, &n, &st->err);
    if (st->status != WINNOW_OK)
        return;
    if (st->form == FORM_RPC) {
        if (wn_buf_room(&st->out, 5))
            st->out.n = 5;
        wn_infer_write_pb(&st->in, st->gen, out, n, &st->out);
        if (st->req->parent)
            wn_stream_wrap(st->req, &st->out);
    } else if (st->form == FORM_ITEM) {
        item_json(st, out, n);
        st->out_json_n = st->out.n;
    } else {
        if (st->form == FORM_RAW)
            for (unsigned i = 0; i < n; i++)
                out[i].binary = true;
        wn_infer_write_json(&st->in, st->gen, out, n, &st->out, &st->out_json_n);
    }
}

static void write_on_worker(struct wn_req *req)
{
    write_response(req->state);
}

static void send_response(struct wn_req *req)
{
    struct infer *st = req->state;
    if (!req->x)
        return;
    if (st->status != WINNOW_OK) {
        wn_reply_err(req, &st->err);
    } else if (st->form == FORM_RPC) {
        wn_reply_rpc(req, &st->out);
    } else if (st->out_json_n != st->out.n && !st->out.failed) {
        char *n = wn_arena_printf(&req->arena, "%zu", st->out_json_n);
        struct wn_header h = { "inference-header-content-length", 31, n ? n : "0", n ? strlen(n) : 1 };
        wn_reply_buf_with(req, 200, "application/octet-stream", &h, 1, &st->out);
    } else {
        wn_reply_buf(req, 200, "application/json", &st->out);
    }
}

/** Elements that would be printed as text. */
static size_t text_elements(const struct infer *st)
{
    size_t n = 0;
    if (st->form == FORM_RPC || st->form == FORM_RAW || st->in.binary_output == 1)
        return 0;
    for (unsigned i = 0; i < winnow_model_n_outputs(wn_gen_model(st->gen)); i++)
        n += st->job.outputs[i].bytes / WN_MAX(winnow_dtype_size(st->job.outputs[i].dtype), (size_t)1);
    return n;
}

/** Back on the loop from an executor. */
static void finished(struct wn_req *req)
{
    struct infer *st = req->state;
    st->at = WRITING;
    if (!req->x)
        return;
    if (st->job.status != WINNOW_OK) {
        wn_reply_err(req, &st->job.err);
        return;
    }
    if (text_elements(st) > INLINE_JSON / 8 && wn_req_work(req, write_on_worker, send_response))
        return;
    write_response(st);
    send_response(req);
}

/** On an executor or timer thread, or inside wn_serve_cancel(). */
static void job_done(struct wn_job *job)
{
    struct infer *st = WN_CONTAINER_OF(job, struct infer, job);
    wn_req_post(st->req, finished);
}

/* ---- the request ---- */
static bool is_type(struct wn_req *req, const char *type)
{
    const struct wn_header *h = wn_exchange_header(req->x, "content-type");
    size_t n = strlen(type);
    return h && h->value_len >= n && strncasecmp(h->value, type, n) == 0;
}

/* A text is UTF-8: false, and answered, where Content-Type says that it is something else. */
static bool charset_taken(struct wn_req *req)
{
    const struct wn_header *h = wn_exchange_header(req->x, "content-type");
    struct winnow_str s;
    if (!wn_type_charset(h->value, h->value_len, &s)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "content-type: '%.*s' has a malformed parameter, or charset twice",
                      (int)WN_MIN(h->value_len, (size_t)80), h->value);
        return false;
    }
    if (!s.n || (s.n == 5 && strncasecmp(s.p, "utf-8", 5) == 0) || (s.n == 8 && strncasecmp(s.p, "us-ascii", 8) == 0))
        return true;
    char text[160];
    snprintf(text, sizeof text, "content-type: charset '%.*s': texts are taken as UTF-8 only",
             (int)WN_MIN(s.n, (size_t)40), s.p);
    wn_reply_http_error(req, 415, text);
    return false;
}

static enum winnow_status read_raw(struct infer *st, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(st->gen);
    const struct winnow_io *io = winnow_model_input(model, 0);
    if (winnow_model_n_inputs(model) != 1)
        return wn_fail(err, WINNOW_E_MALFORMED, "a raw request needs a model with one input, '%s' has %u",
                       wn_gen_model_name(st->gen), winnow_model_n_inputs(model));
    struct wn_infer_in *in = wn_infer_add_in(&st->in, err);
    if (!in)
        return err->status;
    in->name = (struct winnow_str){ io->name, strlen(io->name) };
    in->dtype = io->dtype;
    in->rank = io->rank;
    size_t known = winnow_dtype_size(io->dtype), dynamic = io->rank;
    for (unsigned i = 0; i < io->rank; i++) {
        in->shape[i] = io->shape[i];
        if (i == 0 && io->shape[i] < 0 && winnow_model_rows_independent(model, NULL)) {
            in->shape[i] = 1; /* the batch */
        } else if (io->shape[i] < 0) {
            if (dynamic != io->rank)
                return wn_fail(err, WINNOW_E_MALFORMED,
                               "a raw request needs an input with one dynamic dimension, '%s' has more", io->name);
            dynamic = i;
            continue;
        }
        if (!wn_mul_size(known, (size_t)in->shape[i], &known))
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' is too large", io->name);
    }
    if (io->dtype == WINNOW_STRING) {
        struct winnow_str *s = wn_arena_alloc(&st->req->arena, sizeof *s);
        if (!s)
            return wn_fail(err, WINNOW_E_NOMEM, "request");
        *s = (struct winnow_str){ st->req->body, st->req->body_n };
        if (dynamic < io->rank)
            in->shape[dynamic] = 1;
        in->data = s;
        in->bytes = sizeof *s;
        return WINNOW_OK;
    }
    if (dynamic < io->rank)
        in->shape[dynamic] = known ? (int64_t)(st->req->body_n / known) : 0;
    return wn_infer_take_raw(&st->in, in, st->req->body, st->req->body_n, err);
}

static enum winnow_status read_item(struct infer *st, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    struct winnow_str *s = wn_arena_alloc(&st->req->arena, sizeof *s);
    struct wn_infer_in *in = wn_infer_add_in(&st->in, err);
    if (!s || !in)
        return wn_fail(err, WINNOW_E_NOMEM, "request");
    if (!p)
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "model '%s' has no pipeline.yaml: it takes tensors, not pictures or texts",
                       wn_gen_model_name(st->gen));
    bool picture = is_type(st->req, "image/"), want = wn_pipeline_task(p) == WN_PIPE_IMAGES;
    if (picture != want)
        return wn_fail(err, WINNOW_E_MALFORMED, "model '%s' takes a %s, not a %s", wn_gen_model_name(st->gen),
                       want ? "picture" : "text", picture ? "picture" : "text");
    *s = (struct winnow_str){ st->req->body, st->req->body_n };
    *in = (struct wn_infer_in){ .name = { wn_pipeline_raw(p, 0), strlen(wn_pipeline_raw(p, 0)) },
                                .dtype = WINNOW_STRING,
                                .rank = 1,
                                .shape = { 1 },
                                .data = s,
                                .bytes = sizeof *s };
    return WINNOW_OK;
}

/* What a body is that its first bytes give away; NULL: no picture. */
static const char *picture_type(const void *body, size_t n)
{
    if (n > 4 && memcmp(body, "\x89PNG", 4) == 0)
        return "image/png";
    return n > 3 && memcmp(body, "\xff\xd8\xff", 3) == 0 ? "image/jpeg" : NULL;
}

/* A body that could not be read, and is not even meant as JSON: what to send instead. `err` stays where it may be. */
static enum winnow_status not_json(const struct infer *st, enum winnow_status status, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(st->gen);
    const char *body = st->req->body, *type = picture_type(body, st->req->body_n);
    if (type)
        return wn_fail(err, status, "this is a picture, not JSON: send it with 'Content-Type: %s'", type);
    if (is_type(st->req, "multipart/"))
        return wn_fail(err, status,
                       "a form is not read here: send the picture or text itself as the body (curl: "
                       "--data-binary @FILE), with its Content-Type");
    if (p && wn_pipeline_task(p) != WN_PIPE_IMAGES && st->req->body_n && !memchr(" \t\r\n{[", body[0], 6))
        return wn_fail(err, status,
                       "JSON at byte 0: an object was expected; a text is sent with 'Content-Type: text/plain'");
    return status;
}

/** Any thread: bytes to struct wn_infer. */
static enum winnow_status read_request(struct infer *st, struct winnow_err *err)
{
    switch (st->form) {
    case FORM_RAW:
        return read_raw(st, err);
    case FORM_ITEM:
        return read_item(st, err);
    case FORM_RPC:
        return WINNOW_OK; /* read before the generation was taken: the model's name is in it */
    case FORM_JSON:
        break;
    }
    enum winnow_status status = wn_infer_read_json(st->req->body, st->req->body_n, st->json_n, &st->in, err);
    return status == WINNOW_OK || status == WINNOW_E_NOMEM ? status : not_json(st, status, err);
}

/** Any thread: to the model's inputs. */
static enum winnow_status bind_request(struct infer *st, struct winnow_err *err)
{
    unsigned n = winnow_model_n_inputs(wn_gen_model(st->gen));
    WN_TRY(wn_infer_check_wants(&st->in, st->gen, err));
    st->job.inputs = wn_arena_calloc(&st->req->arena, n, sizeof *st->job.inputs);
    if (!st->job.inputs)
        return wn_fail(err, WINNOW_E_NOMEM, "request");
    WN_TRY(wn_infer_bind(&st->in, st->gen, st->job.inputs, &st->job.rows, err));
    st->job.length = st->in.length;
    return WINNOW_OK;
}

/** On the loop, the request read and bound. */
static void submit(struct wn_req *req)
{
    struct infer *st = req->state;
    struct winnow_err err = { 0 };
    if (!req->x)
        return;
    if (st->status != WINNOW_OK) {
        wn_reply_err(req, &st->err);
        return;
    }
    st->job.gen = st->gen;
    st->job.done = job_done;
    if (wn_req_deadline(req, st->in.timeout_us, &st->job.deadline_ns, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    wn_req_hold(req);
    st->at = RUNNING;
    if (wn_serve_submit(req->api->serve, &st->job, &err) != WINNOW_OK) {
        st->at = WRITING;
        wn_req_drop(req);
        if (err.status != WINNOW_E_OVERLOAD || !req->parent || !wn_rpc_message_wait(req, submit))
            wn_reply_err(req, &err);
    }
}

static void prepare(struct wn_req *req)
{
    struct infer *st = req->state;
    if (!st->in.n_in)
        st->status = read_request(st, &st->err);
    if (st->status == WINNOW_OK)
        st->status = bind_request(st, &st->err);
}

/** Where reading or binding takes milliseconds, a worker does it. */
static void start(struct wn_req *req)
{
    struct infer *st = req->state;
    bool slow = (st->form == FORM_JSON && st->json_n > INLINE_JSON) ||
                (st->form == FORM_RPC && wn_infer_is_slow(&st->in, st->gen));
    if (!slow && (st->form == FORM_JSON || st->form == FORM_ITEM)) {
        st->status = read_request(st, &st->err);
        slow = st->status == WINNOW_OK && wn_infer_is_slow(&st->in, st->gen);
    }
    if (slow) {
        req->on_gone = on_gone;
        if (!wn_req_work(req, prepare, submit))
            wn_reply_fail(req, WINNOW_E_OVERLOAD, "too many requests wait for a decoder, retry later");
        return;
    }
    if (st->status == WINNOW_OK)
        prepare(req);
    req->on_gone = on_gone;
    submit(req);
}

/* ---- handlers ---- */
void wn_post_infer(struct wn_req *req)
{
    const struct wn_header *h = wn_exchange_header(req->x, "inference-header-content-length");
    uint64_t json_n = req->body_n;
    if (h && (!wn_text_u64(h->value, h->value_len, &json_n) || json_n > req->body_n)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "Inference-Header-Content-Length '%.*s' is not a length within the body",
                      (int)WN_MIN(h->value_len, (size_t)30), h->value);
        return;
    }
    if (is_type(req, "text/plain") && !charset_taken(req))
        return;
    struct wn_gen *gen = wn_req_acquire(req, req->param[0], req->param[1]);
    if (!gen)
        return;
    struct infer *st = new_infer(req, h ? (json_n ? FORM_JSON : FORM_RAW)
                                      : is_type(req, "image/") || is_type(req, "text/plain") ? FORM_ITEM
                                                                                             : FORM_JSON);
    if (!st) {
        wn_gen_unref(gen);
        return;
    }
    st->gen = gen;
    st->json_n = json_n;
    if (st->form == FORM_ITEM) {
        const char *k;
        struct winnow_err err = { 0 };
        uint64_t v;
        if (wn_req_query(req, "top_k", &k, &err) != WINNOW_OK) {
            wn_reply_err(req, &err);
            return;
        }
        if (k && (!wn_text_u64(k, strlen(k), &v) || !v || v > 1000)) {
            wn_reply_fail(req, WINNOW_E_MALFORMED, "top_k is not a number from 1 to 1000");
            return;
        }
        st->in.top_k = k ? (int64_t)v : 1;
    }
    start(req);
}

void wn_rpc_model_infer(struct wn_req *req)
{
    struct infer *st = new_infer(req, FORM_RPC);
    struct winnow_err err = { 0 };
    if (!st)
        return;
    enum winnow_status s = wn_infer_read_pb(req->body, req->body_n, &st->in, &err);
    req->id = st->in.id;
    if (s != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    const char *model = wn_arena_strndup(&req->arena, st->in.model.p ? st->in.model.p : "", st->in.model.n);
    const char *version = wn_arena_strndup(&req->arena, st->in.version.p ? st->in.version.p : "", st->in.version.n);
    if (!model || !version) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return;
    }
    if (strlen(model) != st->in.model.n || strlen(version) != st->in.version.n) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "model_name or model_version holds a NUL");
        return;
    }
    st->gen = wn_req_acquire(req, model, version);
    if (st->gen)
        start(req);
}
