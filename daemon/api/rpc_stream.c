/* rpc_stream.c: see rpc_stream.h.
 *
 * LIFE  A message's request is in the stream's list until its answer has left or the stream is over; the list holds it.
 *       It holds the stream's request in turn, so `parent` never dangles. Its `x` is the stream's exchange until it is
 *       answered or the stream is over, then NULL: replies after that do nothing, as for any request. */
#include "daemon/api/rpc_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/api/text.h"

#define TICK_US ((uint64_t)250000)

/** One message; in its request's arena. */
struct wn_rpc_message {
    struct wn_req *req;
    struct wn_rpc_message *next;
    size_t bytes;         /* as it came */
    struct wn_buf answer; /* 5 bytes of room, then the payload; empty: none */
    enum wn_coding coding;
    wn_handle_fn *again; /* waits for room */
    bool done;
    int code; /* not 0: ends the stream */
    const char *text;
};

struct stream {
    struct wn_req *req;
    const struct wn_rpc_stream_ops *ops;
    struct wn_buf raw; /* came, not looked at; not given back to flow control */
    size_t raw_at;
    unsigned char head[5];
    size_t head_n, want;
    struct wn_inflated part; /* the message being collected */
    struct wn_rpc_message *first, **last;
    unsigned n; /* in the list */
    unsigned n_waiting;
    size_t bytes; /* of them */
    uint64_t n_messages;
    enum wn_coding coding; /* grpc-encoding of the request; UNKNOWN: one we lack */
    enum wn_coding answers;
    bool ended; /* by the client */
    bool started, over, pumping, resuming;
    struct wn_timer *tick, *deadline;
    void *own;
};

/* ---- the end ---- */
static void drop(struct stream *st)
{
    struct wn_rpc_message *m;
    for (m = st->first; m; m = m->next) {
        m->req->x = NULL;
        m->req->gone = true;
        if (!m->done && m->req->on_gone)
            m->req->on_gone(m->req);
    }
    while ((m = st->first) != NULL) {
        st->first = m->next;
        wn_buf_done(&m->answer);
        wn_req_drop(m->req); /* and with it m */
    }
    st->last = &st->first;
    st->n = st->n_waiting = 0;
    st->bytes = 0;
}

static void close_stream(struct stream *st)
{
    st->over = true;
    wn_timer_free(WN_TAKE(st->tick));
    wn_timer_free(WN_TAKE(st->deadline));
    drop(st);
}

static void free_stream(void *state)
{
    struct stream *st = state;
    wn_timer_free(st->tick);
    wn_timer_free(st->deadline);
    wn_buf_done(&st->raw);
    wn_inflated_done(&st->part, &st->req->api->inflated);
    free(st);
}

static void stream_gone(struct wn_req *req)
{
    close_stream(req->state);
}

static struct wn_header header(const char *name, const char *value)
{
    return (struct wn_header){ name, strlen(name), value, strlen(value) };
}

static void start(struct stream *st)
{
    struct wn_header h[3] = { header("content-type", "application/grpc"),
                              header("grpc-accept-encoding", WN_CODINGS_GRPC),
                              header("grpc-encoding", wn_coding_name(st->answers)) };
    if (!st->started)
        wn_exchange_start(st->req->x, 200, h, st->answers != WN_CODING_IDENTITY ? 3 : 2);
    st->started = true;
}

void wn_rpc_stream_end(struct wn_req *req, int code, const char *text)
{
    struct stream *st = req->state;
    if (st->over)
        return;
    close_stream(st);
    if (!req->x)
        return;
    if (code && !st->started) {
        wn_reply_rpc_error(req, code, text);
        return;
    }
    char number[12];
    snprintf(number, sizeof number, "%d", code);
    const char *message = code ? wn_grpc_message(&req->arena, text) : NULL;
    struct wn_header h[] = { header("grpc-status", number), header("grpc-message", message ? message : "") };
    start(st);
    if (req->x)
        wn_exchange_finish(req->x, h, message ? 2 : 1);
}

/* ---- answers ---- */
static void write_frame(struct stream *st, struct wn_buf *b, enum wn_coding coding)
{
    if (b->failed || b->n < 5 || b->n - 5 > UINT32_MAX || !st->req->x) {
        bool failed = b->failed || b->n < 5;
        wn_buf_done(b);
        if (st->req->x)
            wn_rpc_stream_end(st->req, failed ? 14 : 8, failed ? "out of memory" : "an answer of more than 4 GiB");
        return;
    }
    start(st);
    if (st->req->x)
        wn_exchange_write(st->req->x, wn_rpc_frame(b, coding));
    else
        wn_buf_done(b);
}

void wn_rpc_stream_send(struct wn_req *req, struct wn_buf *frame)
{
    struct stream *st = req->state;
    if (st->over)
        wn_buf_done(frame);
    else
        write_frame(st, frame, WN_CODING_IDENTITY);
}

static size_t pump(struct stream *st);

/** Everything is said. */
static bool complete(const struct stream *st)
{
    return st->ended && !st->n && st->raw_at == st->raw.n && !st->ops->lasts;
}

/** The client will send no more, and what it sent last is no whole message. */
static bool cut_short(const struct stream *st)
{
    return st->ended && st->raw_at == st->raw.n && st->head_n;
}

static void settle(struct stream *st)
{
    if (st->over)
        return;
    if (cut_short(st))
        wn_rpc_stream_end(st->req, 13, "the last message's frame is cut short");
    else if (st->ended && !st->n_messages && st->ops->max_messages == 1 && st->raw_at == st->raw.n)
        wn_rpc_stream_end(st->req, 13, "the request has no message");
    else if (complete(st))
        wn_rpc_stream_end(st->req, 0, NULL);
}

/** Something of this stream was answered: what waited for room tries again. */
static void resume(struct stream *st)
{
    struct wn_req *list[WN_RPC_IN_FLIGHT];
    unsigned n = 0;
    if (st->resuming || !st->n_waiting)
        return;
    st->resuming = true;
    for (struct wn_rpc_message *m = st->first; m && n < WN_RPC_IN_FLIGHT; m = m->next)
        if (m->again) {
            wn_req_hold(m->req);
            list[n++] = m->req;
        }
    for (unsigned i = 0; i < n; i++) {
        wn_handle_fn *again = WN_TAKE(list[i]->message->again);
        if (!st->over) {
            st->n_waiting--;
            again(list[i]);
        }
        wn_req_drop(list[i]);
    }
    st->resuming = false;
}

bool wn_rpc_message_wait(struct wn_req *msg, wn_handle_fn *again)
{
    struct stream *st = msg->parent->state;
    bool others = false;
    for (struct wn_rpc_message *m = st->first; m && !others; m = m->next)
        others = m->req != msg && !m->done && !m->again;
    if (!others)
        return false;
    msg->message->again = again;
    st->n_waiting++;
    return true;
}

/** Send what is answered, in order; then take more. */
static void flush(struct stream *st)
{
    struct wn_rpc_message *m;
    while (!st->over && (m = st->first) != NULL && m->done) {
        if (m->code) {
            const char *text = wn_arena_strndup(&st->req->arena, m->text, strlen(m->text));
            wn_rpc_stream_end(st->req, m->code, text ? text : "");
            return;
        }
        st->first = m->next;
        if (!st->first)
            st->last = &st->first;
        st->n--;
        st->bytes -= m->bytes;
        if (m->answer.at || m->answer.failed)
            write_frame(st, &m->answer, m->coding);
        wn_req_drop(m->req);
    }
    if (st->pumping || st->over)
        return;
    size_t used = pump(st);
    if (used && st->req->x)
        wn_exchange_consumed(st->req->x, used);
}

static void answered(struct wn_req *msg)
{
    struct wn_req *req = msg->parent;
    struct stream *st = req->state;
    msg->x = NULL;
    msg->message->done = true;
    wn_req_hold(req);
    flush(st);
    if (!st->over)
        resume(st);
    wn_req_drop(req);
}

void wn_rpc_message_answer(struct wn_req *msg, struct wn_buf *frame, enum wn_coding coding)
{
    struct wn_rpc_message *m = msg->message;
    struct stream *st = msg->parent->state;
    m->answer = *frame;
    m->coding = coding == st->answers ? coding : WN_CODING_IDENTITY;
    *frame = (struct wn_buf){ 0 };
    answered(msg);
}

void wn_rpc_message_fail(struct wn_req *msg, int code, const char *text)
{
    struct wn_rpc_message *m = msg->message;
    struct stream *st = msg->parent->state;
    if (!st->ops->fail || !st->ops->fail(msg, code, text, &m->answer)) {
        m->code = code;
        m->text = wn_arena_strndup(&msg->arena, text, strlen(text));
        if (!m->text)
            m->text = "";
    }
    answered(msg);
}

void wn_rpc_message_done(struct wn_req *msg)
{
    if (msg->x)
        answered(msg);
}

/* ---- messages ---- */
static bool accepts(const struct stream *st)
{
    return !st->over && !st->n_waiting && st->n < WN_RPC_IN_FLIGHT &&
           st->bytes < atomic_load(&st->req->api->max_body) && st->req->x &&
           wn_exchange_queued(st->req->x) <= WN_QUEUE_HIGH;
}

static void deliver(struct stream *st)
{
    struct wn_req *req = st->req, *msg = wn_req_child(req, st->ops->message);
    struct wn_rpc_message *m = msg ? wn_arena_calloc(&msg->arena, 1, sizeof *m) : NULL;
    if (!m) {
        if (msg)
            wn_req_drop(msg);
        wn_rpc_stream_end(req, 14, "out of memory");
        return;
    }
    m->req = msg;
    m->bytes = st->part.n;
    msg->message = m;
    msg->came = st->part;
    msg->body = msg->came.at ? msg->came.at : "";
    msg->body_n = msg->came.n;
    msg->coding = st->head[0] ? st->coding : WN_CODING_IDENTITY;
    st->part = (struct wn_inflated){ 0 };
    st->head_n = 0;
    *st->last = m;
    st->last = &m->next;
    st->n++;
    st->bytes += m->bytes;
    st->n_messages++;
    wn_req_call(msg, wn_req_take_body);
}

/** The head of a frame is complete; false: the stream was ended. */
static bool check_head(struct stream *st)
{
    const unsigned char *p = st->head;
    st->want = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    const char *text = NULL;
    int code = 13;
    if (p[0] > 1) {
        text = "the message's compression flag is neither 0 nor 1";
    } else if (p[0] && st->coding == WN_CODING_IDENTITY) {
        text = "the message is marked as compressed, but grpc-encoding names nothing";
    } else if (p[0] && st->coding == WN_CODING_UNKNOWN) {
        code = 12;
        text = "the message's grpc-encoding is not offered; grpc-accept-encoding: " WN_CODINGS_GRPC;
    } else if (st->want > atomic_load(&st->req->api->max_body)) {
        code = 8;
        text = "the message is longer than server.max_body";
    } else if (st->ops->max_messages && st->n_messages >= st->ops->max_messages) {
        text = "more messages than this method takes";
    }
    if (text)
        wn_rpc_stream_end(st->req, code, text);
    return !text;
}

/** Take bytes of one frame; returns how many. */
static size_t take(struct stream *st, const unsigned char *p, size_t n)
{
    struct winnow_err err;
    size_t took;
    if (st->head_n < sizeof st->head) {
        took = WN_MIN(n, sizeof st->head - st->head_n);
        memcpy(st->head + st->head_n, p, took);
        st->head_n += took;
        if (st->head_n < sizeof st->head || !check_head(st))
            return took;
    } else {
        took = WN_MIN(n, st->want - st->part.n);
        if (wn_inflated_add(&st->part, p, took, st->want, &st->req->api->inflated, &err) != WINNOW_OK) {
            wn_rpc_stream_end(st->req, wn_status_grpc(err.status), err.msg);
            return took;
        }
    }
    if (st->part.n == st->want)
        deliver(st);
    return took;
}

/** Take messages while they are welcome. Returns the bytes that were taken, for flow control. */
static size_t pump(struct stream *st)
{
    size_t used = 0;
    st->pumping = true;
    while (st->raw_at < st->raw.n && accepts(st)) {
        size_t took = take(st, (unsigned char *)st->raw.at + st->raw_at, st->raw.n - st->raw_at);
        st->raw_at += took;
        used += took;
    }
    st->pumping = false;
    if (st->raw_at > st->raw.n / 2 || st->raw_at == st->raw.n) { /* moved at most once per byte */
        if (st->raw_at < st->raw.n)
            memmove(st->raw.at, st->raw.at + st->raw_at, st->raw.n - st->raw_at);
        st->raw.n -= st->raw_at;
        st->raw_at = 0;
    }
    settle(st);
    return used;
}

/* ---- the exchange ---- */
static size_t on_data(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    struct wn_req *req = arg;
    struct stream *st = req->state;
    wn_req_hold(req);
    if (!st->over)
        wn_buf_add(&st->raw, bytes, n);
    if (st->raw.failed && !st->over)
        wn_rpc_stream_end(req, 14, "out of memory");
    size_t used = st->over ? n : pump(st), now = WN_MIN(used, n);
    if (used > now && req->x)
        wn_exchange_consumed(req->x, used - now);
    if (st->over)
        now = n;
    wn_req_drop(req);
    return now;
}

static void on_end(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = arg;
    struct stream *st = req->state;
    wn_req_hold(req);
    st->ended = true;
    settle(st);
    wn_req_drop(req);
}

static void on_drained(struct wn_req *req)
{
    flush(req->state);
}

static void on_deadline(struct wn_timer *t, void *arg)
{
    struct wn_req *req = arg;
    wn_req_hold(req);
    wn_rpc_stream_end(req, 4, "grpc-timeout has passed");
    wn_req_drop(req);
}

/** Idle, and the server wants to go. */
static bool must_go(const struct stream *st)
{
    return wn_exchange_draining(st->req->x) && !st->n && st->raw_at == st->raw.n && !st->head_n;
}

static void on_tick(struct wn_timer *t, void *arg)
{
    struct wn_req *req = arg;
    struct stream *st = req->state;
    wn_req_hold(req);
    struct winnow_err err = { 0 };
    wn_timer_free(WN_TAKE(st->tick));
    int refused = wn_req_renew(req, &err);
    if (refused)
        wn_rpc_stream_end(req, refused, err.msg);
    else if (st->ops->tick)
        st->ops->tick(req);
    if (!st->over && req->x && must_go(st))
        wn_rpc_stream_end(req, 14, "the server is on its way down");
    if (!st->over && !(st->tick = wn_timer_new(req->loop, TICK_US, on_tick, req)))
        wn_rpc_stream_end(req, 14, "out of memory");
    wn_req_drop(req);
}

/** The codings of both directions. */
static void read_codings(struct stream *st)
{
    const struct wn_header *h = wn_exchange_header(st->req->x, "grpc-encoding");
    const struct wn_header *a = wn_exchange_header(st->req->x, "grpc-accept-encoding");
    if (h)
        st->coding = wn_coding_named(h->value, h->value_len);
    if (a && st->coding != WN_CODING_UNKNOWN && wn_coding_listed(a->value, a->value_len, st->coding))
        st->answers = st->coding;
}

void wn_rpc_stream_open(struct wn_req *req, const struct wn_rpc_stream_ops *ops)
{
    const struct wn_header *h = wn_exchange_header(req->x, "grpc-timeout");
    struct wn_body_sink sink = { on_data, on_end, req };
    uint64_t us = 0;
    if (h && !wn_grpc_timeout(h->value, h->value_len, &us)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "grpc-timeout: '%.*s' is not 1 to 8 digits and one of H M S m u n",
                      (int)WN_MIN(h->value_len, (size_t)40), h->value);
        return;
    }
    struct stream *st = calloc(1, sizeof *st);
    if (!st) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return;
    }
    *st = (struct stream){ .req = req, .ops = ops, .last = &st->first };
    req->state = st;
    req->free_state = free_stream;
    req->on_gone = stream_gone;
    req->on_drain = on_drained;
    read_codings(st);
    if (h && us < UINT64_MAX / 2000)
        req->deadline_ns = req->start_ns + us * 1000;
    st->tick = wn_timer_new(req->loop, TICK_US, on_tick, req);
    st->deadline = req->deadline_ns ? wn_timer_new(req->loop, us, on_deadline, req) : NULL;
    if (!st->tick || (req->deadline_ns && !st->deadline)) {
        wn_rpc_stream_end(req, 14, "out of memory");
        return;
    }
    wn_exchange_allow_idle(req->x);
    wn_exchange_stream(req->x, &sink, 0);
}

void *wn_rpc_stream_own(struct wn_req *req)
{
    return ((struct stream *)req->state)->own;
}

void wn_rpc_stream_set_own(struct wn_req *req, void *own)
{
    ((struct stream *)req->state)->own = own;
}
