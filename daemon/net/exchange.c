/* exchange.c: one request and its response, the same for every protocol.
 *
 * LIFE   new -> headers added -> head() -> dispatch() [on_head] -> feed()… -> request_end() [on_end]
 *        reply() or start(), write()…, finish() at any time after dispatch -> end() [on_done or on_gone].
 *        Only the protocol calls end(), and only from its turn or from nghttp2's callback: never below a handler that
 *        still holds the exchange.
 * REFUSE When net itself answers (413, 408, …) the handler hears on_gone first; from then on the exchange is detached:
 *        nobody can find it, and the rest of its life is between net and the peer. */
#include "daemon/net/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct wn_handler *handler_of(const struct wn_exchange *x)
{
    return &x->conn->loop->net->handler;
}

void wn_bytes_release(struct wn_bytes bytes)
{
    if (bytes.release)
        bytes.release(bytes.arg);
}

/* ---- building the head ---- */
struct wn_exchange *wn_exchange_new(struct wn_conn *conn, uint64_t stream)
{
    struct wn_exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->magic = WN_EXCHANGE_MAGIC;
    x->conn = conn;
    x->stream = stream;
    x->content_length = -1;
    x->method_at = x->path_at = x->query_at = SIZE_MAX;
    x->chunk_end = &x->chunk;
    x->next = conn->xs;
    if (conn->xs)
        conn->xs->prev = x;
    conn->xs = x;
    conn->n_xs++;
    wn_count(&conn->loop->counters.xs_open, 1);
    return x;
}

size_t wn_exchange_text(struct wn_exchange *x, const char *s, size_t n)
{
    if (!wn_vec_reserve(&x->text, x->text.n + n + 1))
        return SIZE_MAX;
    size_t at = x->text.n;
    if (n)
        memcpy(x->text.at + at, s, n);
    x->text.at[at + n] = '\0';
    x->text.n += n + 1;
    return at;
}

bool wn_exchange_add_header(struct wn_exchange *x, const char *name, size_t name_len, const char *value,
                            size_t value_len)
{
    const struct wn_net_opts *o = &x->conn->loop->opts;
    x->head_bytes += name_len + value_len;
    if (x->head_bytes > o->max_header_bytes || x->header.n >= o->max_headers) {
        x->too_large = true;
        return true;
    }
    size_t name_at = wn_exchange_text(x, name, name_len), value_at = wn_exchange_text(x, value, value_len);
    if (name_at == SIZE_MAX || value_at == SIZE_MAX)
        return false;
    for (size_t i = 0; i < name_len; i++)
        x->text.at[name_at + i] = (char)tolower((unsigned char)x->text.at[name_at + i]);
    /* offsets for now: text may still move */
    return wn_vec_push(&x->header, (struct wn_header){ (const char *)(uintptr_t)name_at, name_len,
                                                       (const char *)(uintptr_t)value_at, value_len });
}

bool wn_exchange_set_target(struct wn_exchange *x, const char *method, size_t method_len, const char *target,
                            size_t target_len)
{
    const char *mark = memchr(target, '?', target_len);
    size_t path_len = mark ? (size_t)(mark - target) : target_len;
    x->method_at = wn_exchange_text(x, method, method_len);
    x->path_at = wn_exchange_text(x, target, path_len);
    x->query_at = mark ? wn_exchange_text(x, mark + 1, target_len - path_len - 1) : wn_exchange_text(x, "", 0);
    x->head_only = method_len == 4 && memcmp(method, "HEAD", 4) == 0;
    return x->method_at != SIZE_MAX && x->path_at != SIZE_MAX && x->query_at != SIZE_MAX;
}

/* Decimal digits only, no sign, no list, below 2^63. */
static bool read_length(const struct wn_header *h, int64_t *ret)
{
    int64_t n = 0;
    for (size_t i = 0; i < h->value_len; i++) {
        int digit = h->value[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, digit, &n))
            return false;
    }
    *ret = n;
    return h->value_len > 0;
}

static bool named(const struct wn_header *h, const char *name)
{
    return strcmp(h->name, name) == 0;
}

/* Bytes that no request target may hold; percent-encoding stays as it came. */
static bool target_ok(const char *path, const char *query)
{
    for (const char *s = path; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || *s == '#')
            return false;
    for (const char *s = query; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || *s == '#')
            return false;
    return path[0] == '/' || strcmp(path, "*") == 0;
}

bool wn_host_valid(const char *host)
{
    return !strpbrk(host, " \t,/?#@\\");
}

int wn_exchange_head(struct wn_exchange *x)
{
    for (size_t i = 0; i < x->header.n; i++) {
        struct wn_header *h = &x->header.at[i];
        h->name = x->text.at + (uintptr_t)h->name;
        h->value = x->text.at + (uintptr_t)h->value;
    }
    x->start_ns = wn_now_ns();
    wn_count(&x->conn->loop->counters.xs_total, 1);
    if (x->too_large) {
        wn_count(&x->conn->loop->counters.limits, 1);
        return 431;
    }
    for (size_t i = 0; i < x->header.n; i++) {
        const struct wn_header *h = &x->header.at[i];
        if (named(h, "content-length") && (x->content_length >= 0 || !read_length(h, &x->content_length)))
            return 400;
    }
    const struct wn_header *type = wn_exchange_header(x, "content-type");
    x->grpc = type && strncasecmp(type->value, "application/grpc", 16) == 0;
    return target_ok(wn_exchange_path(x), wn_exchange_query(x)) ? 0 : 400;
}

void wn_exchange_dispatch(struct wn_exchange *x)
{
    const struct wn_handler *h = handler_of(x);
    x->head_told = x->in_head = true;
    if (!x->req_ended)
        wn_conn_wake_by(x->conn, wn_now_ns() + x->conn->loop->opts.body_timeout_us * 250);
    h->on_head(x, h->arg);
    x->in_head = false;
    if (x->refuse)
        wn_exchange_refuse(x, x->refuse, "request body too large");
}

/* ---- body ---- */
/* The handler is done with the body: answered, told gone, or never wanted it. */
static bool unwanted(const struct wn_exchange *x)
{
    return x->detached || x->response == WN_RESPONSE_FINISHED || x->mode == WN_BODY_DISCARD;
}

/* Make room for `n` more collected bytes; 0, or the status to refuse with. */
static int body_grow(struct wn_exchange *x, size_t n)
{
    if (n > x->body_max - x->body_n)
        return 413;
    if (x->body_n + n <= x->body_cap)
        return 0;
    struct wn_loop *loop = x->conn->loop;
    size_t want = WN_MAX(x->body_n + n, WN_MIN(x->body_cap * 2, (size_t)x->body_max));
    if (x->content_length > 0 && (uint64_t)x->content_length >= x->body_n + n)
        want = WN_MIN(want, (size_t)x->content_length);
    size_t more = want - x->body_cap;
    if (atomic_fetch_add(&loop->net->buffered, more) + more > loop->opts.max_buffered) {
        atomic_fetch_sub(&loop->net->buffered, more);
        return 503;
    }
    char *body = realloc(x->body, want);
    if (!body) {
        atomic_fetch_sub(&loop->net->buffered, more);
        return 503;
    }
    x->body = body;
    x->body_cap = want;
    return 0;
}

static void body_free(struct wn_exchange *x)
{
    atomic_fetch_sub(&x->conn->loop->net->buffered, x->body_cap);
    free(x->body);
    x->body = NULL;
    x->body_n = x->body_cap = 0;
}

static void collect(struct wn_exchange *x, const void *p, size_t n)
{
    int status = body_grow(x, n);
    if (status) {
        wn_exchange_refuse(x, status, status == 413 ? "request body too large" : "request buffers are full");
        return;
    }
    memcpy(x->body + x->body_n, p, n);
    x->body_n += n;
}

size_t wn_exchange_feed(struct wn_exchange *x, const void *p, size_t n)
{
    x->body_seen += n;
    if (!n || unwanted(x))
        return n;
    if (x->mode == WN_BODY_COLLECT) {
        collect(x, p, n);
        return n;
    }
    if (x->body_max && x->body_seen > x->body_max) {
        wn_exchange_refuse(x, 413, "request body too large");
        return n;
    }
    size_t used = x->sink.data(x, p, n, x->sink.arg);
    used = WN_MIN(used, n);
    x->unconsumed += n - used;
    return used;
}

void wn_exchange_request_end(struct wn_exchange *x)
{
    x->req_ended = true;
    if (unwanted(x))
        return;
    if (x->mode == WN_BODY_STREAM)
        x->sink.end(x, x->sink.arg);
    else if (handler_of(x)->on_end)
        handler_of(x)->on_end(x, handler_of(x)->arg);
}

/* A declared length over the limit is refused before a byte is read. */
static void want_body(struct wn_exchange *x, enum wn_body_mode mode, uint64_t max)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (x->response != WN_RESPONSE_NONE || x->detached)
        return;
    x->mode = mode;
    x->body_max = max;
    if (x->content_length > 0 && (max || mode == WN_BODY_COLLECT) && (uint64_t)x->content_length > max) {
        if (x->in_head)
            x->refuse = 413; /* the handler is below us: on_gone must wait until it returns */
        return;
    }
    if (!x->req_ended)
        x->conn->proto->go_on(x);
}

void wn_exchange_collect(struct wn_exchange *x, size_t max)
{
    want_body(x, WN_BODY_COLLECT, max);
}

void wn_exchange_stream(struct wn_exchange *x, const struct wn_body_sink *sink, uint64_t max)
{
    x->sink = *sink;
    want_body(x, WN_BODY_STREAM, max);
}

void wn_exchange_consumed(struct wn_exchange *x, size_t n)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    n = WN_MIN(n, x->unconsumed);
    x->unconsumed -= n;
    if (!n || x->conn->dead)
        return;
    x->conn->proto->consumed(x, n);
    wn_conn_dirty(x->conn);
    if (!x->unconsumed && !x->req_ended) /* it is the peer's turn again */
        wn_conn_wake_by(x->conn, wn_now_ns() + x->conn->loop->opts.body_timeout_us * 250);
}

void wn_exchange_allow_idle(struct wn_exchange *x)
{
    x->allow_idle = true;
}

bool wn_exchange_draining(const struct wn_exchange *x)
{
    return x->conn->loop->draining;
}

/* ---- response ---- */
bool wn_header_is_ours(const struct wn_header *h)
{
    static const char *const ours[] = { "content-length", "connection", "transfer-encoding",
                                        "date",           "keep-alive", "upgrade" };
    for (size_t i = 0; i < WN_COUNT(ours); i++)
        if (strlen(ours[i]) == h->name_len && memcmp(ours[i], h->name, h->name_len) == 0)
            return true;
    return false;
}

size_t wn_header_clean(char *to, const char *value, size_t n)
{
    while (n && (value[0] == ' ' || value[0] == '\t')) {
        value++;
        n--;
    }
    while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        to[i] = (c < ' ' && c != '\t') || c == 0x7f ? '?' : value[i];
    }
    return n;
}

const char *wn_status_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } list[] = { { 200, "OK" },
                 { 201, "Created" },
                 { 202, "Accepted" },
                 { 204, "No Content" },
                 { 206, "Partial Content" },
                 { 301, "Moved Permanently" },
                 { 302, "Found" },
                 { 303, "See Other" },
                 { 304, "Not Modified" },
                 { 307, "Temporary Redirect" },
                 { 308, "Permanent Redirect" },
                 { 400, "Bad Request" },
                 { 401, "Unauthorized" },
                 { 403, "Forbidden" },
                 { 404, "Not Found" },
                 { 405, "Method Not Allowed" },
                 { 406, "Not Acceptable" },
                 { 408, "Request Timeout" },
                 { 409, "Conflict" },
                 { 410, "Gone" },
                 { 411, "Length Required" },
                 { 412, "Precondition Failed" },
                 { 413, "Content Too Large" },
                 { 414, "URI Too Long" },
                 { 415, "Unsupported Media Type" },
                 { 416, "Range Not Satisfiable" },
                 { 417, "Expectation Failed" },
                 { 422, "Unprocessable Content" },
                 { 429, "Too Many Requests" },
                 { 431, "Request Header Fields Too Large" },
                 { 500, "Internal Server Error" },
                 { 501, "Not Implemented" },
                 { 503, "Service Unavailable" },
                 { 504, "Gateway Timeout" },
                 { 505, "HTTP Version Not Supported" },
                 { 507, "Insufficient Storage" } };
    for (size_t i = 0; i < WN_COUNT(list); i++)
        if (list[i].status == status)
            return list[i].reason;
    return "";
}

static void begin(struct wn_exchange *x, int status)
{
    x->status = status;
    x->bodyless = x->head_only || status == 204 || status == 304;
    x->response = WN_RESPONSE_OPEN;
    wn_conn_dirty(x->conn);
}

/* Length that the headers promise, or -1. */
static int64_t promised(const struct wn_header *headers, size_t n)
{
    int64_t length = -1;
    for (size_t i = 0; i < n; i++)
        if (headers[i].name_len == 14 && memcmp(headers[i].name, "content-length", 14) == 0 &&
            !read_length(&headers[i], &length))
            return -1;
    return length;
}

void wn_exchange_reply(struct wn_exchange *x, int status, const struct wn_header *headers, size_t n_headers,
                       struct wn_bytes body)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (x->response != WN_RESPONSE_NONE || x->conn->dead) {
        wn_bytes_release(body);
        return;
    }
    begin(x, status);
    x->conn->proto->start(x, headers, n_headers, (int64_t)body.n);
    wn_exchange_write(x, body);
    wn_exchange_finish(x, NULL, 0);
}

void wn_exchange_start(struct wn_exchange *x, int status, const struct wn_header *headers, size_t n_headers)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (x->response != WN_RESPONSE_NONE || x->conn->dead)
        return;
    begin(x, status);
    x->conn->proto->start(x, headers, n_headers, promised(headers, n_headers));
}

void wn_exchange_write(struct wn_exchange *x, struct wn_bytes bytes)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (x->response != WN_RESPONSE_OPEN || x->conn->dead || x->bodyless || !bytes.n) {
        wn_bytes_release(bytes);
        return;
    }
    x->conn->proto->write(x, bytes);
    if (wn_exchange_queued(x) > WN_QUEUE_HIGH)
        x->above_high = true;
    wn_conn_dirty(x->conn);
}

void wn_exchange_finish(struct wn_exchange *x, const struct wn_header *trailers, size_t n_trailers)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (x->response != WN_RESPONSE_OPEN || x->conn->dead)
        return;
    x->response = WN_RESPONSE_FINISHED;
    x->conn->proto->finish(x, trailers, n_trailers);
    wn_conn_dirty(x->conn);
}

void wn_exchange_abort(struct wn_exchange *x)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    if (!x->conn->dead)
        x->conn->proto->abort(x);
}

static void tell_gone(struct wn_exchange *x)
{
    if (!x->head_told || x->detached)
        return;
    x->detached = true;
    wn_count(&x->conn->loop->counters.xs_gone, 1);
    const struct wn_handler *h = handler_of(x);
    if (h->on_gone)
        h->on_gone(x, h->arg);
}

/* The codes that gRPC clients understand. */
static int grpc_status(int status)
{
    switch (status) {
    case 413:
    case 431:
    case 503:
        return 8; /* RESOURCE_EXHAUSTED */
    case 408:
        return 4; /* DEADLINE_EXCEEDED */
    default:
        return 13; /* INTERNAL */
    }
}

void wn_exchange_refuse(struct wn_exchange *x, int status, const char *text)
{
    x->refuse = 0;
    wn_count(&x->conn->loop->counters.limits, 1);
    if (x->response != WN_RESPONSE_NONE) {
        x->conn->proto->abort(x);
        return;
    }
    x->status = status; /* for the access log */
    tell_gone(x);
    x->detached = true;
    body_free(x);
    char body[160], code[8];
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}", text);
    if (x->grpc) {
        int m = snprintf(code, sizeof code, "%d", grpc_status(status));
        struct wn_header h[] = { { "content-type", 12, "application/grpc", 16 },
                                 { "grpc-status", 11, code, (size_t)m },
                                 { "grpc-message", 12, text, strlen(text) } };
        wn_exchange_reply(x, 200, h, 3, (struct wn_bytes){ 0 });
        return;
    }
    struct wn_header h[] = { { "content-type", 12, "application/json", 16 }, { "retry-after", 11, "1", 1 } };
    wn_exchange_reply(x, status, h, status == 503 ? 2 : 1, (struct wn_bytes){ .p = body, .n = (size_t)n });
}

void wn_exchange_end(struct wn_exchange *x, bool complete)
{
    WN_CHECK_MAGIC(x, WN_EXCHANGE_MAGIC);
    struct wn_conn *conn = x->conn;
    x->response = WN_RESPONSE_FINISHED; /* whatever the handler calls now does nothing */
    if (!complete)
        tell_gone(x);
    else if (x->head_told && !x->detached && handler_of(x)->on_done)
        handler_of(x)->on_done(x, handler_of(x)->arg);
    if (x->prev)
        x->prev->next = x->next;
    else
        conn->xs = x->next;
    if (x->next)
        x->next->prev = x->prev;
    conn->n_xs--;
    conn->queued -= x->queued;
    atomic_fetch_sub_explicit(&conn->loop->counters.xs_open, 1, memory_order_relaxed);
    while (x->chunk) {
        struct wn_chunk *c = x->chunk;
        x->chunk = c->next;
        wn_bytes_release(c->bytes);
        free(c);
    }
    body_free(x);
    wn_vec_done(&x->text);
    wn_vec_done(&x->header);
    free(x->trailer);
    x->magic = 0;
    free(x);
}

/* ---- looking ---- */
struct wn_xid wn_exchange_id(const struct wn_exchange *x)
{
    return (struct wn_xid){ x->conn->loop, x->conn->id, x->stream };
}

struct wn_loop *wn_exchange_loop(const struct wn_exchange *x)
{
    return x->conn->loop;
}

const char *wn_exchange_method(const struct wn_exchange *x)
{
    return x->text.at + x->method_at;
}

const char *wn_exchange_path(const struct wn_exchange *x)
{
    return x->text.at + x->path_at;
}

const char *wn_exchange_query(const struct wn_exchange *x)
{
    return x->text.at + x->query_at;
}

const struct wn_header *wn_exchange_header(const struct wn_exchange *x, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < x->header.n; i++)
        if (x->header.at[i].name_len == n && memcmp(x->header.at[i].name, name, n) == 0)
            return &x->header.at[i];
    return NULL;
}

const struct wn_header *wn_exchange_header_at(const struct wn_exchange *x, size_t i)
{
    return i < x->header.n ? &x->header.at[i] : NULL;
}

const char *wn_exchange_protocol(const struct wn_exchange *x)
{
    return x->conn->proto->name;
}

const char *wn_exchange_peer(const struct wn_exchange *x)
{
    return x->conn->peer;
}

int64_t wn_exchange_content_length(const struct wn_exchange *x)
{
    return x->content_length;
}

uint64_t wn_exchange_start_ns(const struct wn_exchange *x)
{
    return x->start_ns;
}

void *wn_exchange_data(const struct wn_exchange *x)
{
    return x->data;
}

void wn_exchange_set_data(struct wn_exchange *x, void *data)
{
    x->data = data;
}

const void *wn_exchange_body(const struct wn_exchange *x, size_t *ret_n)
{
    *ret_n = x->body_n;
    return x->body;
}

void *wn_exchange_take_body(struct wn_exchange *x, size_t *ret_n)
{
    *ret_n = x->body_n;
    void *body = WN_TAKE(x->body);
    body_free(x); /* the budget is for what net holds */
    if (!*ret_n) {
        free(body);
        return NULL;
    }
    return body;
}

size_t wn_exchange_queued(const struct wn_exchange *x)
{
    return x->conn->proto->queued(x);
}

int wn_exchange_status(const struct wn_exchange *x)
{
    return x->status;
}

uint64_t wn_exchange_sent(const struct wn_exchange *x)
{
    return x->sent;
}
