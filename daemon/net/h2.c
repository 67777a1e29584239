/* h2.c: HTTP/2 on nghttp2.
 *
 * DESIGN  Frames in go through nghttp2_session_mem_recv, frames out through mem_send into the socket's output buffer,
 * in turns only; responses are pulled by a data provider as fast as the peer's windows allow, straight from the
 *         exchange's chunks. Flow control is ours: a byte of a body is given back when its sink has consumed it.
 *         Considered: pushing DATA frames. Pulling lets nghttp2 share the connection fairly between streams.
 * FLOODS  nghttp2 limits resets, CONTINUATIONs, SETTINGS entries and ACKs waiting. It absorbs endless PING, SETTINGS,
 *         PRIORITY, WINDOW_UPDATE and empty DATA frames; those, and resets that a peer provokes us to send
 *         (CVE-2025-8671), take a token each from a bucket (1000, 100/s). At a quarter left the peer is told to calm
 *         down, at none it is cut. Real traffic earns tokens back: gRPC clients send a few PINGs and WINDOW_UPDATEs
 *         with each burst of data. */
#include "daemon/net/h2_mem.h"

#include <event2/buffer.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    STREAM_WINDOW = 1 << 20,
    CONN_WINDOW = 4 << 20,
    TOKENS = 1000, /* bucket of glitches */
    TOKENS_PER_S = 100,
    EARN_DATA_SENT = 4, /* a DATA frame of ours: its reader may update two windows and ping */
    EARN_DATA_RECEIVED = 1,
    EARN_DONE = 2,        /* a request answered: browsers send a priority with each */
    BIG_DATA = 1024,      /* bytes in a DATA frame that make it earn one more */
    HEAD_HARD_FACTOR = 4, /* header bytes over the limit by this much end the connection */
    EARLY_RESET_MS = 200, /* between an early response and the reset of its stream */
    SKIPPED = 8,
    DRAIN_RTT_MS = 1000, /* wait for the PING's answer before the final GOAWAY */
};
static const uint8_t drain_ping[8] = { 'w', 'n', 'd', 'r', 'a', 'i', 'n', '1' };

struct wn_h2 {
    nghttp2_session *session;
    uint64_t tokens_m; /* thousandths */
    uint64_t refill_ns;
    bool calmed;       /* told to calm down */
    uint64_t head_ns;  /* a header block is open since; 0 = none */
    uint64_t drain_ns; /* shutdown notice sent; 0 = no */
    bool begun;        /* a first frame came */
    bool pinged;       /* after it */
    bool goaway;       /* the final one is submitted */
    unsigned n_want_drain;
    uint32_t last_id; /* of the streams the peer opened */
    struct {
        uint32_t from, to;
    } skipped[SKIPPED]; /* ids it left out, newest over oldest: opening one now is an error */
    unsigned n_skipped;
};

static struct wn_exchange *stream_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* ---- glitches ---- */
static void earn(struct wn_h2 *h2, unsigned n)
{
    h2->tokens_m = WN_MIN(h2->tokens_m + (uint64_t)n * 1000, (uint64_t)TOKENS * 1000);
}

/* The peer did something that costs us and means nothing. False: cut the connection. */
static bool glitch(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    uint64_t now = wn_now_ns(), gained_m = (now - h2->refill_ns) / 1000000 * TOKENS_PER_S;
    if (gained_m) {
        h2->tokens_m = WN_MIN(h2->tokens_m + gained_m, (uint64_t)TOKENS * 1000);
        h2->refill_ns = now;
    }
    if (h2->tokens_m < 1000) {
        wn_count(&conn->loop->counters.limits, 1);
        wn_conn_kill(conn);
        return false;
    }
    h2->tokens_m -= 1000;
    if (h2->tokens_m < (uint64_t)TOKENS * 1000 / 4 && !h2->calmed) {
        h2->calmed = true;
        wn_conn_blame(conn, "too many control frames");
        static const uint8_t why[] = "too many control frames";
        nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h2->session),
                              NGHTTP2_ENHANCE_YOUR_CALM, why, sizeof why - 1);
        h2->goaway = true;
    }
    return true;
}

/* ---- frames in: nghttp2's callbacks ---- */
/* A stream's id must exceed those of all before it (RFC 9113, 5.1.1). nghttp2 lets HEADERS for an id below pass,
 * because it may belong to a stream that we reset; here it is known whether such a stream ever was. */
static bool id_goes_back(struct wn_h2 *h2, uint32_t id)
{
    if (id > h2->last_id) {
        if (id > h2->last_id + 2 && (id & 1)) {
            unsigned at = h2->n_skipped++ % SKIPPED;
            h2->skipped[at].from = h2->last_id + 1;
            h2->skipped[at].to = id - 1;
        }
        h2->last_id = id;
        return false;
    }
    for (unsigned i = 0; i < WN_MIN(h2->n_skipped, (unsigned)SKIPPED); i++)
        if (id >= h2->skipped[i].from && id <= h2->skipped[i].to && id % 2)
            return true;
    return false;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct wn_conn *conn = arg;
    bool cost;
    if (hd->type != NGHTTP2_CONTINUATION)
        conn->h2->head_ns = 0;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        if (id_goes_back(conn->h2, (uint32_t)hd->stream_id)) {
            wn_count(&conn->loop->counters.errors, 1);
            wn_conn_blame(conn, "stream id below an earlier one");
            nghttp2_session_terminate_session(session, NGHTTP2_PROTOCOL_ERROR);
        }
        cost = false;
        break;
    case NGHTTP2_CONTINUATION: /* nghttp2 counts these, and HEADERS */
        cost = false;
        break;
    case NGHTTP2_DATA:
        cost = (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM)) || (hd->flags & NGHTTP2_FLAG_PADDED);
        break;
    default: /* PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, GOAWAY, unknown ones */
        cost = true;
        break;
    }
    return cost && !glitch(conn) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct wn_conn *conn = arg;
    conn->h2->head_ns = wn_now_ns();
    wn_conn_wake_by(conn, conn->h2->head_ns + conn->loop->opts.header_timeout_us * 1000);
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    int32_t id = frame->hd.stream_id;
    struct wn_exchange *x = conn->queued > WN_CONN_QUEUED_MAX ? NULL : wn_exchange_new(conn, (uint64_t)id);
    if (!x) {
        wn_count(&conn->loop->counters.limits, 1);
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM)
                   ? NGHTTP2_ERR_CALLBACK_FAILURE
                   : 0;
    }
    nghttp2_session_set_stream_user_data(session, id, x);
    return 0;
}

/* Pseudo-headers: method and path come in any order; nghttp2 has checked that each is there once. */
static bool take_pseudo(struct wn_exchange *x, const uint8_t *name, size_t name_len, const uint8_t *value, size_t n)
{
    x->head_bytes += n;
    if (x->head_bytes > x->conn->loop->opts.max_header_bytes) {
        x->too_large = true;
        return true;
    }
    size_t *at = NULL;
    if (name_len == 7 && memcmp(name, ":method", 7) == 0) {
        at = &x->method_at;
        x->head_only = n == 4 && memcmp(value, "HEAD", 4) == 0;
    } else if (name_len == 5 && memcmp(name, ":path", 5) == 0) {
        at = &x->path_at;
    }
    if (at)
        *at = wn_exchange_text(x, (const char *)value, n);
    return !at || *at != SIZE_MAX;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct wn_conn *conn = arg;
    struct wn_exchange *x = stream_of(session, frame->hd.stream_id);
    if (!x)
        return 0;
    if (x->head_bytes > conn->loop->opts.max_header_bytes * HEAD_HARD_FACTOR) {
        wn_count(&conn->loop->counters.limits, 1);
        wn_conn_blame(conn, "request head not complete in time");
        nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    bool ok = true;
    if (x->head_told) /* trailers: counted, not kept */
        x->head_bytes += name_len + value_len;
    else if (name_len && name[0] == ':' && !(name_len == 10 && memcmp(name, ":authority", 10) == 0))
        ok = take_pseudo(x, name, name_len, value, value_len);
    else
        ok = wn_exchange_add_header(x, (const char *)name, name_len, (const char *)value, value_len);
    return ok ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* Cut the query off the path. */
static bool split_path(struct wn_exchange *x)
{
    if (x->method_at == SIZE_MAX || x->path_at == SIZE_MAX) {
        /* CONNECT, or a head that was too large to keep: empty strings */
        x->method_at = x->path_at = x->query_at = wn_exchange_text(x, "", 0);
        return x->path_at != SIZE_MAX;
    }
    char *path = x->text.at + x->path_at, *mark = strchr(path, '?');
    if (mark) {
        *mark = '\0';
        x->query_at = (size_t)(mark + 1 - x->text.at);
        return true;
    }
    x->query_at = wn_exchange_text(x, "", 0);
    return x->query_at != SIZE_MAX;
}

/* The port of "host:port" with its colon, "" where there is none or it is one of a scheme's own. */
static const char *odd_port(const char *host)
{
    const char *colon = strrchr(host, ':');
    bool port = colon && !strchr(colon, ']') && strcmp(colon, ":80") != 0 && strcmp(colon, ":443") != 0;
    return port && colon[1] ? colon : "";
}

static size_t host_len(const char *host)
{
    const char *colon = strrchr(host, ':');
    return colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host);
}

/* Host beside :authority must name the same; 0 or a status.  Source: RFC 9113, 8.3.1. */
static int check_host(const struct wn_exchange *x)
{
    const struct wn_header *a = wn_exchange_header(x, ":authority"), *h = wn_exchange_header(x, "host");
    if ((a && !wn_host_valid(a->value)) || (h && !wn_host_valid(h->value)))
        return 400;
    if (!a || !h)
        return 0;
    size_t n = host_len(a->value);
    bool same = n == host_len(h->value) && strncasecmp(a->value, h->value, n) == 0 &&
                strcmp(odd_port(a->value), odd_port(h->value)) == 0;
    return same ? 0 : 400;
}

static int request_head(nghttp2_session *session, struct wn_exchange *x, bool ended)
{
    if (!split_path(x))
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, (int32_t)x->stream, NGHTTP2_REFUSED_STREAM);
    int status = wn_exchange_head(x);
    if (!status)
        status = check_host(x);
    x->req_ended = ended;
    if (status) {
        wn_exchange_refuse(x, status, status == 431 ? "request head too large" : "malformed request");
        return 0;
    }
    wn_exchange_dispatch(x);
    if (ended)
        wn_exchange_request_end(x);
    return 0;
}

/* The final GOAWAY: every stream the peer opened before it heard of the shutdown is in. */
static void final_goaway(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    if (h2->goaway)
        return;
    h2->goaway = true;
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h2->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct wn_conn *conn = arg;
    struct wn_exchange *x;
    bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    conn->h2->begun = true;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        conn->h2->head_ns = 0;
        x = stream_of(session, frame->hd.stream_id);
        if (!x)
            return 0;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            return request_head(session, x, ended) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
        if (ended)
            wn_exchange_request_end(x);
        return 0;
    case NGHTTP2_DATA:
        x = ended ? stream_of(session, frame->hd.stream_id) : NULL;
        if (x)
            wn_exchange_request_end(x);
        return 0;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) && conn->h2->drain_ns &&
            memcmp(frame->ping.opaque_data, drain_ping, sizeof drain_ping) == 0)
            final_goaway(conn);
        return 0;
    default:
        return 0;
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *arg)
{
    struct wn_conn *conn = arg;
    struct wn_exchange *x = stream_of(session, stream_id);
    earn(conn->h2, EARN_DATA_RECEIVED + (n >= BIG_DATA));
    bool wanted = x && x->response != WN_RESPONSE_FINISHED;
    size_t used = x ? wn_exchange_feed(x, data, n) : n;
    if (!used)
        return 0;
    int rc = wanted ? nghttp2_session_consume(session, stream_id, used)
                    : nghttp2_session_consume_connection(session, used); /* the stream may fill its window and stop */
    return rc ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code, void *arg)
{
    struct wn_conn *conn = arg;
    wn_count(&conn->loop->counters.errors, 1);
    if (frame->hd.type == NGHTTP2_HEADERS)
        conn->h2->head_ns = 0;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *arg)
{
    struct wn_exchange *x = stream_of(session, stream_id);
    if (!x)
        return 0;
    if (x->unconsumed) /* the sink keeps these bytes, the connection's window must not */
        nghttp2_session_consume_connection(session, x->unconsumed);
    if (x->want_drain)
        x->conn->h2->n_want_drain--;
    if (x->eof_sent)
        earn(x->conn->h2, EARN_DONE);
    x->conn->h2->head_ns = 0;
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    wn_exchange_end(x, x->eof_sent);
    return 0;
}

/* ---- frames out ---- */
/* After the shutdown notice a PING: its answer says that the peer has seen both, so what it opens later is refused. */
static void goaway_sent(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    if (h2->drain_ns && !h2->pinged && nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, drain_ping) == 0)
        h2->pinged = true;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct wn_conn *conn = arg;
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        return glitch(conn) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        goaway_sent(conn);
    if (frame->hd.type == NGHTTP2_DATA && frame->hd.length)
        earn(conn->h2, EARN_DATA_SENT);
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct wn_exchange *x = stream_of(session, frame->hd.stream_id);
    if (!x)
        return 0;
    x->eof_sent = true;
    if (x->req_ended)
        return 0;
    /* Answered early: the rest of the request is not wanted. gRPC asks for a reset at once; others (curl 7.88) lose a
     * response that a reset follows on its heels, so they get a moment to read it, and no more window. */
    if (x->grpc)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    x->reset_ns = wn_now_ns() + (uint64_t)EARLY_RESET_MS * 1000000;
    wn_conn_wake_by(conn, x->reset_ns);
    return 0;
}

static ssize_t read_response(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags,
                             nghttp2_data_source *source, void *arg)
{
    struct wn_exchange *x = source->ptr;
    bool last = x->response == WN_RESPONSE_FINISHED;
    if (!x->queued && !last) {
        x->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t n = WN_MIN(length, x->queued);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n < x->queued || !last)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (x->n_trailers) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, stream_id, x->trailer, x->n_trailers) != 0)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

/* Move `n` bytes of chunks to the socket's buffer. */
static void send_chunks(struct wn_exchange *x, size_t n)
{
    x->queued -= n;
    x->conn->queued -= n;
    x->sent += n;
    while (n) {
        struct wn_chunk *c = x->chunk;
        size_t part = WN_MIN(n, c->bytes.n - c->at);
        wn_conn_send(x->conn, (const char *)c->bytes.p + c->at, part);
        c->at += part;
        n -= part;
        if (c->at < c->bytes.n)
            return;
        x->chunk = c->next;
        if (!x->chunk)
            x->chunk_end = &x->chunk;
        wn_bytes_release(c->bytes);
        free(c);
    }
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *arg)
{
    struct wn_conn *conn = arg;
    struct wn_exchange *x = source->ptr;
    wn_conn_send(conn, head, 9); /* no padding: none is ever chosen */
    send_chunks(x, n);
    if (x->above_high && x->queued <= WN_OUT_LOW) {
        x->above_high = false;
        if (!x->want_drain)
            conn->h2->n_want_drain++;
        x->want_drain = true;
    }
    return conn->dead ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* Tell handlers whose queue ran low; true when somebody was told. */
static bool tell_drained(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    if (!h2->n_want_drain)
        return false;
    const struct wn_handler *h = &conn->loop->net->handler;
    for (struct wn_exchange *x = conn->xs, *after; x; x = after) {
        after = x->next; /* handlers end nothing */
        if (!x->want_drain)
            continue;
        x->want_drain = false;
        h2->n_want_drain--;
        if (x->response == WN_RESPONSE_OPEN && !x->detached && h->on_drain)
            h->on_drain(x, h->arg);
    }
    return true;
}

static void flush(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    do {
        const uint8_t *p;
        ssize_t n = 0;
        while (!conn->dead && wn_conn_out(conn) < WN_OUT_HIGH && (n = nghttp2_session_mem_send(h2->session, &p)) > 0)
            wn_conn_send(conn, p, (size_t)n);
        if (n < 0)
            wn_conn_kill(conn);
    } while (!conn->dead && tell_drained(conn));
}

/* ---- session ---- */
static nghttp2_session_callbacks *callbacks(void)
{
    nghttp2_session_callbacks *cb;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    return cb;
}

static nghttp2_option *options(void)
{
    nghttp2_option *o;
    if (nghttp2_option_new(&o) != 0)
        return NULL;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_settings(o, 32);
    nghttp2_option_set_max_outbound_ack(o, 1000);
    nghttp2_option_set_stream_reset_rate_limit(o, 1000, 33);
    nghttp2_option_set_max_continuations(o, 8);
    return o;
}

static bool greet(struct wn_conn *conn)
{
    const struct wn_net_opts *o = &conn->loop->opts;
    uint32_t list = (uint32_t)WN_MIN(o->max_header_bytes + (size_t)32 * o->max_headers, (size_t)UINT32_MAX);
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list },
    };
    return nghttp2_submit_settings(conn->h2->session, NGHTTP2_FLAG_NONE, settings, WN_COUNT(settings)) == 0 &&
           nghttp2_session_set_local_window_size(conn->h2->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) == 0;
}

static bool open_session(struct wn_conn *conn)
{
    nghttp2_session_callbacks *cb = callbacks();
    nghttp2_option *o = options();
    nghttp2_mem mem = wn_h2_mem(conn);
    conn->h2 = calloc(1, sizeof *conn->h2);
    bool ok =
        cb && o && conn->h2 && nghttp2_session_server_new3(&conn->h2->session, cb, conn, o, &mem) == 0 && greet(conn);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(o);
    if (!ok) {
        wn_conn_kill(conn);
        return false;
    }
    conn->h2->tokens_m = (uint64_t)TOKENS * 1000;
    conn->h2->refill_ns = wn_now_ns();
    return true;
}

static void receive(struct wn_conn *conn)
{
    struct evbuffer *in = wn_conn_in(conn);
    struct evbuffer_iovec piece;
    while (!conn->dead && evbuffer_peek(in, -1, NULL, &piece, 1) > 0 && piece.iov_len) {
        ssize_t used = nghttp2_session_mem_recv(conn->h2->session, piece.iov_base, piece.iov_len);
        if (used < 0) { /* bad preface, flooded, out of memory */
            wn_count(&conn->loop->counters.errors, 1);
            wn_conn_blame(conn, nghttp2_strerror((int)used));
            wn_conn_kill(conn);
            return;
        }
        evbuffer_drain(in, (size_t)used); /* all of piece: none of our callbacks pauses */
    }
}

static void h2_turn(struct wn_conn *conn)
{
    if (!conn->h2 && !open_session(conn))
        return;
    if (conn->linger_until)
        return;
    struct wn_h2 *h2 = conn->h2;
    bool idle_before = !conn->n_xs, heard = evbuffer_get_length(wn_conn_in(conn)) > 0;
    if (wn_conn_out(conn) < WN_OUT_HIGH)
        receive(conn);
    if (!conn->dead)
        flush(conn);
    if (conn->dead)
        return;
    if (!nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session)) {
        if (!wn_conn_out(conn))
            wn_conn_linger(conn);
        return;
    }
    if (!conn->n_xs && (heard || !idle_before)) {
        conn->since_ns = wn_now_ns();
        const struct wn_net_opts *o = &conn->loop->opts;
        wn_conn_wake_by(conn, conn->since_ns + (h2->begun ? o->idle_timeout_us : o->header_timeout_us) * 1000);
    }
    wn_conn_reading(conn, wn_conn_out(conn) < WN_OUT_HIGH);
}

/* ---- responses ---- */
static nghttp2_nv nv_of(const char *name, size_t name_len, const char *value, size_t value_len)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_len, value_len, 0 };
}

/* Name-value pairs and their cleaned values in one block; `room` more pairs stay free in front. NULL: no memory. */
static nghttp2_nv *nv_block(const struct wn_header *headers, size_t n, size_t room, size_t *ret_n)
{
    size_t size = (n + room) * sizeof(nghttp2_nv);
    for (size_t i = 0; i < n; i++)
        size += headers[i].name_len + headers[i].value_len;
    nghttp2_nv *nv = malloc(size ? size : 1);
    if (!nv)
        return NULL;
    char *p = (char *)(nv + n + room);
    size_t k = room;
    for (size_t i = 0; i < n; i++) {
        const struct wn_header *h = &headers[i];
        if (wn_header_is_ours(h))
            continue;
        memcpy(p, h->name, h->name_len);
        size_t len = wn_header_clean(p + h->name_len, h->value, h->value_len);
        nv[k++] = nv_of(p, h->name_len, p + h->name_len, len);
        p += h->name_len + len;
    }
    *ret_n = k;
    return nv;
}

static void h2_abort(struct wn_exchange *x)
{
    struct wn_conn *conn = x->conn;
    uint32_t code = x->eof_sent ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL;
    if (nghttp2_submit_rst_stream(conn->h2->session, NGHTTP2_FLAG_NONE, (int32_t)x->stream, code) != 0)
        wn_conn_kill(conn);
    wn_conn_dirty(conn);
}

static void h2_start(struct wn_exchange *x, const struct wn_header *headers, size_t n, int64_t length)
{
    enum { ROOM = 3 };
    struct wn_conn *conn = x->conn;
    char status[12], size[24];
    size_t k = 0;
    nghttp2_nv *nv = nv_block(headers, n, ROOM, &k);
    if (!nv) {
        h2_abort(x);
        return;
    }
    bool say_length = length > 0 && x->status != 204 && x->status != 304;
    size_t status_n = (size_t)snprintf(status, sizeof status, "%d", x->status);
    size_t size_n = (size_t)snprintf(size, sizeof size, "%lld", (long long)length);
    const char *date = wn_loop_date(conn->loop);
    size_t from = say_length ? 0 : 1; /* pseudo-headers come first */
    nv[from] = nv_of(":status", 7, status, status_n);
    nv[from + 1] = nv_of("date", 4, date, strlen(date));
    if (say_length)
        nv[2] = nv_of("content-length", 14, size, size_n);
    nghttp2_data_provider body = { .source.ptr = x, .read_callback = read_response };
    bool has_body = !x->bodyless && length != 0;
    if (nghttp2_submit_response(conn->h2->session, (int32_t)x->stream, nv + from, k - from, has_body ? &body : NULL) !=
        0)
        h2_abort(x);
    free(nv);
}

static void resume(struct wn_exchange *x)
{
    if (!x->deferred)
        return;
    x->deferred = false;
    if (nghttp2_session_resume_data(x->conn->h2->session, (int32_t)x->stream) == NGHTTP2_ERR_NOMEM)
        wn_conn_kill(x->conn);
}

static void h2_write(struct wn_exchange *x, struct wn_bytes bytes)
{
    struct wn_conn *conn = x->conn;
    size_t copied = bytes.release ? 0 : bytes.n;
    struct wn_chunk *c = malloc(sizeof *c + copied);
    if (!c) {
        wn_bytes_release(bytes);
        h2_abort(x);
        return;
    }
    *c = (struct wn_chunk){ .bytes = bytes };
    if (copied) {
        memcpy(c->copy, bytes.p, copied);
        c->bytes.p = c->copy;
    }
    *x->chunk_end = c;
    x->chunk_end = &c->next;
    x->queued += bytes.n;
    conn->queued += bytes.n;
    wn_conn_wake_by(conn, wn_now_ns() + conn->loop->opts.write_timeout_us * 250);
    resume(x);
}

static void h2_finish(struct wn_exchange *x, const struct wn_header *trailers, size_t n)
{
    if (n && !x->bodyless) {
        x->trailer = nv_block(trailers, n, 0, &x->n_trailers);
        if (!x->trailer) {
            h2_abort(x);
            return;
        }
    }
    resume(x);
}

static void h2_consumed(struct wn_exchange *x, size_t n)
{
    if (nghttp2_session_consume(x->conn->h2->session, (int32_t)x->stream, n) != 0)
        wn_conn_kill(x->conn);
}

static void h2_go_on(struct wn_exchange *x)
{
    const struct wn_header *expect = wn_exchange_header(x, "expect");
    if (!expect || strcasecmp(expect->value, "100-continue") != 0)
        return;
    nghttp2_nv nv = nv_of(":status", 7, "100", 3);
    nghttp2_submit_headers(x->conn->h2->session, NGHTTP2_FLAG_NONE, (int32_t)x->stream, NULL, &nv, 1, NULL);
}

static size_t h2_queued(const struct wn_exchange *x)
{
    return x->queued;
}

/* ---- the connection ---- */
static void h2_eof(struct wn_conn *conn)
{
    wn_conn_kill(conn);
}

static uint64_t h2_check(struct wn_conn *conn, uint64_t now)
{
    struct wn_h2 *h2 = conn->h2;
    const struct wn_net_opts *o = &conn->loop->opts;
    uint64_t next = WN_NEVER;
    if (!h2)
        return next;
    if (h2->drain_ns && !h2->goaway) {
        uint64_t end = h2->drain_ns + (uint64_t)DRAIN_RTT_MS * 1000000;
        if (now >= end)
            final_goaway(conn);
        else
            next = WN_MIN(next, end);
    }
    if (h2->head_ns) {
        uint64_t end = h2->head_ns + o->header_timeout_us * 1000;
        if (now >= end) {
            wn_count(&conn->loop->counters.limits, 1);
            nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
        } else {
            next = WN_MIN(next, end);
        }
    }
    for (struct wn_exchange *x = conn->xs; x; x = x->next) {
        if (!x->reset_ns)
            continue;
        if (now < x->reset_ns) {
            next = WN_MIN(next, x->reset_ns);
        } else {
            x->reset_ns = 0;
            h2_abort(x);
        }
    }
    if (!conn->n_xs) {
        uint64_t end = conn->since_ns + (h2->begun ? o->idle_timeout_us : o->header_timeout_us) * 1000;
        if (now >= end)
            nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
        else
            next = WN_MIN(next, end);
    }
    return next;
}

static void h2_drain(struct wn_conn *conn)
{
    struct wn_h2 *h2 = conn->h2;
    if (!h2) {
        wn_conn_kill(conn);
        return;
    }
    if (h2->drain_ns)
        return;
    h2->drain_ns = wn_now_ns();
    nghttp2_submit_shutdown_notice(h2->session);
    wn_conn_wake_by(conn, h2->drain_ns + (uint64_t)DRAIN_RTT_MS * 1000000);
    wn_conn_dirty(conn);
}

static void h2_done(struct wn_conn *conn)
{
    if (!conn->h2)
        return;
    nghttp2_session_del(conn->h2->session);
    free(conn->h2);
    conn->h2 = NULL;
}

const struct wn_proto wn_h2_proto = {
    .name = "HTTP/2",
    .turn = h2_turn,
    .eof = h2_eof,
    .check = h2_check,
    .drain = h2_drain,
    .done = h2_done,
    .start = h2_start,
    .write = h2_write,
    .finish = h2_finish,
    .abort = h2_abort,
    .consumed = h2_consumed,
    .go_on = h2_go_on,
    .queued = h2_queued,
};
