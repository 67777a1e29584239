/* h1.c: HTTP/1.1 on llhttp.
 *
 * DESIGN  A head is handed to llhttp only when all of it is in the input buffer and has passed a byte-level scan; so
 * its headers are contiguous, and what smuggling needs (bare LF or CR, folded lines, control bytes, odd request lines)
 * never reaches a parser. llhttp 8.1 by itself accepts obs-fold (CVE-2024-27982), HTTP/0.9 and "identity, chunked".
 * Trailers pass the same scan and are dropped. One exchange at a time: what a client pipelines stays in the input
 * buffer, and above a small amount in the kernel, until the response has left. CLOSING A response that leaves part of
 * its request unread ends the connection: our side is shut down, then input is discarded for a moment, so that the peer
 * reads the answer rather than a reset. */
#include "daemon/net/internal.h"

#include <event2/buffer.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum h1_state {
    H1_HEAD,     /* waiting for, or in the middle of, a request head */
    H1_BODY,     /* head dispatched, body bytes expected */
    H1_TRAILERS, /* last chunk seen */
    H1_WAIT,     /* request complete; its response is not */
    H1_CLOSING,  /* nothing more is read; what is queued leaves, then the connection goes */
};

enum {
    LINE_MAX_BYTES = 8192,   /* request line, and what the syntax adds to headers */
    TRAILERS_MAX = 8192,     /* bytes */
    CHUNK_EXT_MAX = 4096,    /* bytes of chunk extensions per request */
    WINDOW = 256 * 1024,     /* bytes a sink may hold before we stop reading */
    PIPELINE_MAX = 16384,    /* bytes read ahead while a response is due */
    DISCARD_MAX = 64 * 1024, /* rest of a body that is cheaper to read than to reconnect for */
    EMPTY_LINES_MAX = 4,     /* before a request line */
};

struct wn_h1 {
    llhttp_t parser;
    enum h1_state state;
    struct wn_exchange *x; /* NULL in H1_HEAD; maybe in H1_CLOSING */
    uint64_t n_requests;
    /* the scan of a head */
    size_t scanned, line_start;
    unsigned empty_lines;
    /* the head being parsed: spans of the input buffer */
    const char *url, *name, *value;
    size_t url_n, name_n, value_n;
    bool nomem;
    /* the request */
    size_t ext_bytes;
    bool expects;    /* 100-continue is due */
    bool keep_alive; /* as asked for */
    bool http10;
    bool last_chunk;
    /* the response */
    bool close;  /* after this response */
    bool linger; /* closing with unread input */
    bool chunked;
    int64_t length; /* promised, or -1 */
};

/* ---- the scan ---- */
enum scan { SCAN_MORE, SCAN_DONE, SCAN_BAD };

/* Look at p[scanned..n) for the empty line that ends a head, refusing what no head may hold. `scanned` is left behind
 * the empty line. */
static enum scan scan_head(struct wn_h1 *h1, const char *p, size_t n)
{
    for (size_t i = h1->scanned; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bool after_cr = i > h1->line_start && p[i - 1] == '\r';
        if (after_cr != (c == '\n'))
            return SCAN_BAD; /* bare CR or bare LF */
        if (c == '\n') {
            bool empty = i == h1->line_start + 1;
            h1->line_start = i + 1;
            h1->scanned = i + 1;
            if (empty)
                return SCAN_DONE;
        } else if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) {
            return SCAN_BAD;
        } else if (i == h1->line_start && (c == ' ' || c == '\t')) {
            return SCAN_BAD; /* folded line */
        }
    }
    h1->scanned = n;
    return SCAN_MORE;
}

static void scan_reset(struct wn_h1 *h1)
{
    h1->scanned = h1->line_start = 0;
}

/* METHOD SP TARGET SP HTTP/1.x, single spaces. Returns 0 or the status to refuse with. */
static int check_request_line(const char *p, size_t n)
{
    const char *end = memchr(p, '\r', n);
    const char *sp1 = memchr(p, ' ', (size_t)(end - p));
    const char *sp2 = sp1 ? memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1)) : NULL;
    if (!sp2 || sp1 == p || sp2 == sp1 + 1)
        return 400;
    if (end - sp2 - 1 != 8 || memcmp(sp2 + 1, "HTTP/", 5) != 0)
        return 400;
    if (memcmp(sp2 + 6, "1.1", 3) != 0 && memcmp(sp2 + 6, "1.0", 3) != 0)
        return 505;
    return 0;
}

/* ---- llhttp's callbacks ---- */
static void extend(const char **at, size_t *n, const char *p, size_t more)
{
    if (!*at)
        *at = p;
    *n += more;
}

static int on_url(llhttp_t *parser, const char *p, size_t n)
{
    struct wn_h1 *h1 = parser->data;
    extend(&h1->url, &h1->url_n, p, n);
    return 0;
}

static int on_name(llhttp_t *parser, const char *p, size_t n)
{
    struct wn_h1 *h1 = parser->data;
    if (h1->state == H1_HEAD)
        extend(&h1->name, &h1->name_n, p, n);
    return 0;
}

static int on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct wn_h1 *h1 = parser->data;
    if (h1->state == H1_HEAD)
        extend(&h1->value, &h1->value_n, p, n);
    return 0;
}

static int on_value_complete(llhttp_t *parser)
{
    struct wn_h1 *h1 = parser->data;
    if (h1->state != H1_HEAD)
        return 0; /* trailers */
    while (h1->value_n && (h1->value[h1->value_n - 1] == ' ' || h1->value[h1->value_n - 1] == '\t'))
        h1->value_n--;
    if (!wn_exchange_add_header(h1->x, h1->name ? h1->name : "", h1->name_n, h1->value ? h1->value : "", h1->value_n))
        h1->nomem = true;
    h1->name = h1->value = NULL;
    h1->name_n = h1->value_n = 0;
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    parser->upgrade = 0; /* Upgrade is ignored: the request is served as HTTP/1.1 */
    return 0;
}

static int on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct wn_h1 *h1 = parser->data;
    wn_exchange_feed(h1->x, p, n); /* what the sink keeps is in x->unconsumed */
    return 0;
}

static int on_chunk_header(llhttp_t *parser)
{
    struct wn_h1 *h1 = parser->data;
    if (parser->content_length)
        return 0;
    h1->last_chunk = true;
    return HPE_PAUSED;
}

static int on_chunk_extension(llhttp_t *parser, const char *p, size_t n)
{
    struct wn_h1 *h1 = parser->data;
    h1->ext_bytes += n;
    return h1->ext_bytes > CHUNK_EXT_MAX ? HPE_USER : 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct wn_h1 *h1 = parser->data;
    h1->x->req_ended = true; /* told to the handler after llhttp_execute() returns */
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_message_complete = on_message_complete,
};

/* ---- closing ---- */
/* Refuse what cannot become an exchange: answer and close. */
static void refuse(struct wn_conn *conn, int status, const char *text)
{
    struct wn_h1 *h1 = conn->h1;
    if (h1->x) {
        wn_exchange_end(h1->x, false);
        h1->x = NULL;
    }
    wn_count(&conn->loop->counters.errors, 1);
    wn_conn_blame(conn, text);
    char body[128], head[256];
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}", text);
    int m = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\ndate: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                     "connection: close\r\n\r\n",
                     status, wn_status_reason(status), wn_loop_date(conn->loop), n);
    wn_conn_send(conn, head, (size_t)m);
    wn_conn_send(conn, body, (size_t)n);
    h1->state = H1_CLOSING;
    h1->linger = true;
}

/* ---- requests ---- */
/* Rules about headers that llhttp does not know; 0 or the status to refuse with. */
static int check_headers(struct wn_exchange *x, struct wn_h1 *h1)
{
    unsigned hosts = 0, lengths = 0, encodings = 0;
    for (size_t i = 0; i < x->header.n; i++) {
        const struct wn_header *h = &x->header.at[i];
        if (!h->name_len)
            return 400; /* llhttp lets ": value" pass */
        if (strcmp(h->name, "host") == 0) {
            hosts++;
            if (!wn_host_valid(h->value))
                return 400;
        } else if (strcmp(h->name, ":authority") == 0) { /* set_target()'s */
            if (!wn_host_valid(h->value))
                return 400;
        } else if (strcmp(h->name, "content-length") == 0) {
            lengths++;
        } else if (strcmp(h->name, "transfer-encoding") == 0) {
            encodings++;
            if (strcasecmp(h->value, "chunked") != 0)
                return 400;
        } else if (strcmp(h->name, "expect") == 0) {
            if (strcasecmp(h->value, "100-continue") != 0)
                return 417;
            h1->expects = !h1->http10;
        }
    }
    if (hosts > 1 || (hosts == 0 && !h1->http10) || lengths > 1 || encodings > 1)
        return 400;
    if (encodings && (lengths || h1->http10))
        return 400;
    return 0;
}

/* Origin form stays, absolute form loses its scheme; its authority counts instead of Host, as a header of HTTP/2's
 * name. 0 or a status.  Source: RFC 9112, 3.2.2. */
static int set_target(struct wn_h1 *h1)
{
    const char *url = h1->url ? h1->url : "";
    size_t n = h1->url_n;
    size_t scheme = n > 7 && strncasecmp(url, "http://", 7) == 0    ? 7
                    : n > 8 && strncasecmp(url, "https://", 8) == 0 ? 8
                                                                    : 0;
    if (scheme) {
        const char *end = url + n, *p = url + scheme;
        while (p < end && *p != '/' && *p != '?')
            p++;
        if (p == url + scheme)
            return 400;
        if (!wn_exchange_add_header(h1->x, ":authority", 10, url + scheme, (size_t)(p - url) - scheme))
            return 503;
        n = (size_t)(end - p);
        url = n ? p : "/";
        n = n ? n : 1;
    }
    const char *method = llhttp_method_name((llhttp_method_t)h1->parser.method);
    return wn_exchange_set_target(h1->x, method, strlen(method), url, n) ? 0 : 503;
}

/* llhttp over one complete head, then our own rules; 0 or the status to refuse with. */
static int parse_head(struct wn_h1 *h1, const char *p, size_t n)
{
    int status = check_request_line(p, n);
    if (status)
        return status;
    llhttp_init(&h1->parser, HTTP_REQUEST, &settings);
    h1->parser.data = h1;
    h1->url = h1->name = h1->value = NULL;
    h1->url_n = h1->name_n = h1->value_n = h1->ext_bytes = 0;
    h1->nomem = h1->expects = h1->last_chunk = h1->chunked = false;
    llhttp_errno_t rc = llhttp_execute(&h1->parser, p, n);
    if (rc != HPE_OK && !(rc == HPE_PAUSED && h1->x->req_ended))
        return 400;
    h1->http10 = h1->parser.http_minor == 0;
    h1->keep_alive = llhttp_should_keep_alive(&h1->parser);
    if ((status = set_target(h1)) || h1->nomem)
        return status ? status : 503;
    if ((status = wn_exchange_head(h1->x)) || (status = check_headers(h1->x, h1)))
        return status;
    return h1->parser.method == HTTP_CONNECT ? 405 : 0;
}

/* Does the request line end in a version of HTTP, whichever? */
static bool names_http(const char *p, size_t n)
{
    const char *end = memchr(p, '\r', n), *word = end ? end : p + n;
    while (word > p && word[-1] != ' ' && word[-1] != '\t')
        word--;
    return (end ? end : p + n) - word >= 5 && strncasecmp(word, "HTTP/", 5) == 0;
}

/* Drop the empty line that a scan found before a request line. */
static bool skip_empty_line(struct wn_h1 *h1, struct evbuffer *in)
{
    evbuffer_drain(in, 2);
    scan_reset(h1);
    return ++h1->empty_lines <= EMPTY_LINES_MAX;
}

static const char *refusal_text(int status)
{
    return status == 431   ? "request head too large"
           : status == 503 ? "out of memory"
           : status == 505 ? "HTTP version not supported"
           : status == 417 ? "unknown expectation"
           : status == 405 ? "method not allowed"
                           : "malformed request";
}

/* Start an exchange from the `n` bytes of head at the front of the input. */
static void begin_request(struct wn_conn *conn, const char *p, size_t n)
{
    struct wn_h1 *h1 = conn->h1;
    if (!h1->n_requests && !names_http(p, n)) { /* another protocol's first line: it could not read an answer */
        wn_count(&conn->loop->counters.errors, 1);
        wn_conn_blame(conn, "does not speak HTTP");
        wn_conn_kill(conn);
        return;
    }
    h1->x = wn_exchange_new(conn, ++h1->n_requests);
    if (!h1->x) {
        refuse(conn, 503, refusal_text(503));
        return;
    }
    int status = parse_head(h1, p, n);
    evbuffer_drain(wn_conn_in(conn), n);
    scan_reset(h1);
    h1->empty_lines = 0;
    if (status) {
        refuse(conn, status, refusal_text(status));
        return;
    }
    h1->length = -1;
    h1->state = h1->x->req_ended ? H1_WAIT : H1_BODY;
    wn_exchange_dispatch(h1->x);
    if (h1->x->req_ended)
        wn_exchange_request_end(h1->x);
}

/* Each take_ function returns true when it changed something, so that the turn goes on. */
static bool take_head(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    struct evbuffer *in = wn_conn_in(conn);
    const struct wn_net_opts *o = &conn->loop->opts;
    size_t limit = o->max_header_bytes + LINE_MAX_BYTES, n = WN_MIN(evbuffer_get_length(in), limit);
    if (n == h1->scanned && n < limit)
        return false;
    if (!h1->scanned) {
        conn->since_ns = wn_now_ns(); /* first byte of a head: its time runs */
        wn_conn_wake_by(conn, conn->since_ns + o->header_timeout_us * 1000);
    }
    const char *p = (const char *)evbuffer_pullup(in, (ev_ssize_t)n);
    if (!p) {
        wn_conn_kill(conn);
        return false;
    }
    switch (scan_head(h1, p, n)) {
    case SCAN_MORE:
        if (n >= limit)
            refuse(conn, 431, refusal_text(431));
        return n >= limit;
    case SCAN_DONE:
        if (h1->scanned > 2)
            begin_request(conn, p, h1->scanned);
        else if (!skip_empty_line(h1, in))
            refuse(conn, 400, refusal_text(400));
        return true;
    case SCAN_BAD:
        break;
    }
    refuse(conn, 400, refusal_text(400));
    return true;
}

/* The body broke its framing: the request never was complete. */
static void bad_body(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    wn_count(&conn->loop->counters.errors, 1);
    wn_conn_blame(conn, "malformed request body");
    h1->close = true;
    if (h1->x->response == WN_RESPONSE_NONE)
        wn_exchange_refuse(h1->x, 400, "malformed request body");
    else
        wn_conn_kill(conn);
}

static bool may_read_body(const struct wn_h1 *h1)
{
    return h1->x->unconsumed < WINDOW || h1->x->response == WN_RESPONSE_FINISHED;
}

/* Run llhttp over `n` bytes of input; false when it found a fault. Sets *used. */
static bool execute(struct wn_h1 *h1, const char *p, size_t n, size_t *used)
{
    llhttp_errno_t rc = llhttp_execute(&h1->parser, p, n);
    *used = n;
    if (rc == HPE_OK)
        return true;
    if (rc != HPE_PAUSED)
        return false;
    *used = (size_t)(llhttp_get_error_pos(&h1->parser) - p);
    llhttp_resume(&h1->parser);
    return true;
}

static bool take_body(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    struct evbuffer *in = wn_conn_in(conn);
    struct evbuffer_iovec piece;
    if (!may_read_body(h1) || evbuffer_peek(in, -1, NULL, &piece, 1) < 1 || !piece.iov_len)
        return false;
    h1->expects = false;
    size_t used;
    bool ok = execute(h1, piece.iov_base, WN_MIN(piece.iov_len, (size_t)WINDOW), &used);
    evbuffer_drain(in, used);
    if (!ok) {
        bad_body(conn);
    } else if (h1->x->req_ended) {
        if (h1->state == H1_BODY)
            h1->state = H1_WAIT;
        wn_exchange_request_end(h1->x);
    } else if (h1->last_chunk && h1->state == H1_BODY) {
        h1->state = H1_TRAILERS;
        scan_reset(h1);
    }
    return true;
}

static bool take_trailers(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    struct evbuffer *in = wn_conn_in(conn);
    size_t n = WN_MIN(evbuffer_get_length(in), (size_t)TRAILERS_MAX);
    if (n == h1->scanned && n < TRAILERS_MAX)
        return false;
    const char *p = (const char *)evbuffer_pullup(in, (ev_ssize_t)n);
    enum scan scan = p ? scan_head(h1, p, n) : SCAN_BAD;
    if (scan == SCAN_MORE && n < TRAILERS_MAX)
        return false;
    size_t used, len = h1->scanned;
    if (scan != SCAN_DONE || !execute(h1, p, len, &used) || !h1->x->req_ended) {
        bad_body(conn);
        return true;
    }
    evbuffer_drain(in, len);
    scan_reset(h1);
    if (h1->state == H1_TRAILERS)
        h1->state = H1_WAIT;
    wn_exchange_request_end(h1->x);
    return true;
}

/* The response is complete and has left: on to the next request. */
static bool next_request(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    if (h1->x->response != WN_RESPONSE_FINISHED || wn_conn_out(conn))
        return false;
    if (h1->close) {
        h1->state = H1_CLOSING;
        return true;
    }
    wn_exchange_end(h1->x, true);
    h1->x = NULL;
    h1->state = H1_HEAD;
    conn->since_ns = wn_now_ns();
    wn_conn_wake_by(conn, conn->since_ns + conn->loop->opts.idle_timeout_us * 1000);
    return true;
}

static void take_closing(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    evbuffer_drain(wn_conn_in(conn), evbuffer_get_length(wn_conn_in(conn)));
    if (wn_conn_out(conn))
        return;
    if (h1->x) {
        wn_exchange_end(h1->x, true);
        h1->x = NULL;
    }
    if (h1->linger)
        wn_conn_linger(conn);
    else
        wn_conn_finish(conn);
}

static void drained(struct wn_conn *conn)
{
    struct wn_exchange *x = conn->h1->x;
    if (!x || !x->above_high || wn_conn_out(conn) > WN_OUT_LOW)
        return;
    x->above_high = false;
    const struct wn_handler *h = &conn->loop->net->handler;
    if (x->response == WN_RESPONSE_OPEN && !x->detached && h->on_drain)
        h->on_drain(x, h->arg);
}

static bool wants_input(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    switch (h1->state) {
    case H1_BODY:
        return may_read_body(h1);
    case H1_WAIT:
        return evbuffer_get_length(wn_conn_in(conn)) < PIPELINE_MAX;
    default:
        return true;
    }
}

static struct wn_h1 *h1_of(struct wn_conn *conn)
{
    if (!conn->h1) {
        conn->h1 = calloc(1, sizeof *conn->h1);
        if (!conn->h1)
            wn_conn_kill(conn);
    }
    return conn->h1;
}

static void h1_turn(struct wn_conn *conn)
{
    struct wn_h1 *h1 = h1_of(conn);
    bool more = h1 != NULL;
    while (more && !conn->dead && !conn->linger_until) {
        drained(conn);
        switch (h1->state) {
        case H1_HEAD:
            more = take_head(conn);
            break;
        case H1_BODY:
            more = take_body(conn);
            break;
        case H1_TRAILERS:
            more = take_trailers(conn);
            break;
        case H1_WAIT:
            more = next_request(conn);
            break;
        case H1_CLOSING:
            take_closing(conn);
            more = false;
            break;
        }
    }
    if (!conn->dead && !conn->linger_until)
        wn_conn_reading(conn, wants_input(conn));
}

/* ---- responses ---- */
/* Will the rest of the request be read, so that the connection can go on? */
static bool rest_is_cheap(struct wn_exchange *x, struct wn_h1 *h1)
{
    if (x->req_ended)
        return true;
    if (h1->expects || x->content_length < 0)
        return false;
    return (uint64_t)x->content_length - x->body_seen <= DISCARD_MAX;
}

static char *put(char *to, const char *s, size_t n)
{
    memcpy(to, s, n);
    return to + n;
}

static char *put_headers(char *to, const struct wn_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (wn_header_is_ours(&headers[i]))
            continue;
        to = put(to, headers[i].name, headers[i].name_len);
        to = put(to, ": ", 2);
        to += wn_header_clean(to, headers[i].value, headers[i].value_len);
        to = put(to, "\r\n", 2);
    }
    return to;
}

static size_t headers_size(const struct wn_header *headers, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += headers[i].name_len + headers[i].value_len + 4;
    return size;
}

static void h1_start(struct wn_exchange *x, const struct wn_header *headers, size_t n, int64_t length)
{
    struct wn_conn *conn = x->conn;
    struct wn_h1 *h1 = conn->h1;
    struct wn_loop *loop = conn->loop;
    h1->length = length;
    h1->chunked = length < 0 && !h1->http10 && !x->bodyless;
    h1->close = h1->close || !h1->keep_alive || loop->draining || !rest_is_cheap(x, h1) ||
                (length < 0 && h1->http10 && !x->bodyless);
    loop->text.n = 0;
    if (!wn_vec_reserve(&loop->text, headers_size(headers, n) + 320)) {
        wn_conn_kill(conn);
        return;
    }
    char *p = loop->text.at;
    p += sprintf(p, "HTTP/1.1 %d %s\r\ndate: %s\r\n", x->status, wn_status_reason(x->status), wn_loop_date(loop));
    if (length >= 0 && x->status != 204 && x->status != 304)
        p += sprintf(p, "content-length: %lld\r\n", (long long)length);
    else if (h1->chunked)
        p += sprintf(p, "transfer-encoding: chunked\r\n");
    if (h1->close)
        p += sprintf(p, "connection: close\r\n");
    else if (h1->http10)
        p += sprintf(p, "connection: keep-alive\r\n");
    p = put_headers(p, headers, n);
    p = put(p, "\r\n", 2);
    wn_conn_send(conn, loop->text.at, (size_t)(p - loop->text.at));
}

static void h1_write(struct wn_exchange *x, struct wn_bytes bytes)
{
    struct wn_conn *conn = x->conn;
    char size[24];
    x->sent += bytes.n;
    bool chunked = conn->h1->chunked;
    if (chunked)
        wn_conn_send(conn, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", bytes.n));
    wn_conn_send_bytes(conn, bytes);
    if (chunked)
        wn_conn_send(conn, "\r\n", 2);
}

static bool trailers_wanted(const struct wn_exchange *x)
{
    const struct wn_header *te = wn_exchange_header(x, "te");
    return te && strcasestr(te->value, "trailers");
}

static void h1_finish(struct wn_exchange *x, const struct wn_header *trailers, size_t n)
{
    struct wn_conn *conn = x->conn;
    struct wn_h1 *h1 = conn->h1;
    struct wn_loop *loop = conn->loop;
    if (h1->chunked) {
        n = trailers_wanted(x) ? n : 0;
        loop->text.n = 0;
        if (!wn_vec_reserve(&loop->text, headers_size(trailers, n) + 8)) {
            wn_conn_kill(conn);
            return;
        }
        char *p = put(loop->text.at, "0\r\n", 3);
        p = put_headers(p, trailers, n);
        p = put(p, "\r\n", 2);
        wn_conn_send(conn, loop->text.at, (size_t)(p - loop->text.at));
    } else if (!x->bodyless && h1->length >= 0 && (uint64_t)h1->length != x->sent) {
        wn_conn_kill(conn); /* fewer or more bytes than promised: the framing is lost */
        return;
    }
    if (h1->close) {
        h1->state = H1_CLOSING;
        h1->linger = !x->req_ended;
    }
}

static void h1_abort(struct wn_exchange *x)
{
    wn_conn_kill(x->conn);
}

static void h1_consumed(struct wn_exchange *x, size_t n)
{
    /* the next turn looks at x->unconsumed */
}

static void h1_go_on(struct wn_exchange *x)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct wn_conn *conn = x->conn;
    if (conn->h1->expects && !evbuffer_get_length(wn_conn_in(conn)))
        wn_conn_send(conn, text, sizeof text - 1);
    conn->h1->expects = false;
}

static size_t h1_queued(const struct wn_exchange *x)
{
    return wn_conn_out(x->conn);
}

/* ---- the connection ---- */
/* Half-closed: a client that still waits for a response it did not get is treated as gone. */
static void h1_eof(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    bool leaving =
        h1 && wn_conn_out(conn) && (h1->state == H1_CLOSING || (h1->x && h1->x->response == WN_RESPONSE_FINISHED));
    if (!leaving) {
        wn_conn_kill(conn);
        return;
    }
    if (h1->state != H1_CLOSING) {
        h1->state = H1_CLOSING;
        h1->linger = false;
    }
}

static uint64_t h1_check(struct wn_conn *conn, uint64_t now)
{
    struct wn_h1 *h1 = conn->h1;
    const struct wn_net_opts *o = &conn->loop->opts;
    if (!h1 || h1->state != H1_HEAD)
        return WN_NEVER;
    bool begun = h1->scanned || !h1->n_requests;
    uint64_t end = conn->since_ns + (begun ? o->header_timeout_us : o->idle_timeout_us) * 1000;
    if (now < end)
        return end;
    if (h1->scanned) {
        wn_count(&conn->loop->counters.limits, 1);
        refuse(conn, 408, "request head not complete in time");
    } else {
        wn_conn_finish(conn);
    }
    return WN_NEVER;
}

static void h1_drain(struct wn_conn *conn)
{
    struct wn_h1 *h1 = conn->h1;
    if (!h1 || (h1->state == H1_HEAD && !evbuffer_get_length(wn_conn_in(conn))))
        wn_conn_finish(conn);
    else
        h1->close = true; /* after the response that is due, even if its head did not say so */
}

static void h1_done(struct wn_conn *conn)
{
    free(conn->h1);
    conn->h1 = NULL;
}

const struct wn_proto wn_h1_proto = {
    .name = "HTTP/1.1",
    .turn = h1_turn,
    .eof = h1_eof,
    .check = h1_check,
    .drain = h1_drain,
    .done = h1_done,
    .start = h1_start,
    .write = h1_write,
    .finish = h1_finish,
    .abort = h1_abort,
    .consumed = h1_consumed,
    .go_on = h1_go_on,
    .queued = h1_queued,
};
