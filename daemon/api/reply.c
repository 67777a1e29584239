/* reply.c: responses: JSON, text, errors, gRPC frames; and what requests say in headers and query. */
#include "daemon/api/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "daemon/api/text.h"

static const struct {
    enum winnow_status status;
    int http, grpc;
} wire[] = {
#define WIRE(name, http, grpc) { WINNOW_##name, http, grpc },
#include "daemon/api/status_wire.def"
#undef WIRE
};

int wn_status_http(enum winnow_status status)
{
    for (size_t i = 0; i < WN_COUNT(wire); i++)
        if (wire[i].status == status)
            return wire[i].http;
    return 500;
}

int wn_status_grpc(enum winnow_status status)
{
    for (size_t i = 0; i < WN_COUNT(wire); i++)
        if (wire[i].status == status)
            return wire[i].grpc;
    return 2;
}

void wn_api_count(struct wn_api *api, int status)
{
    unsigned i = status == 499 ? 0 : (unsigned)status / 100;
    atomic_fetch_add_explicit(&api->answered[i < WN_COUNT(api->answered) ? i : 5], 1, memory_order_relaxed);
}

static struct wn_header header(const char *name, const char *value)
{
    return (struct wn_header){ name, strlen(name), value, strlen(value) };
}

/** Which generation answered; up to three headers. */
static size_t made_headers(const struct wn_req *req, struct wn_header h[3])
{
    if (!req->made.generation[0])
        return 0;
    h[0] = header("winnow-version", req->made.version);
    h[1] = header("winnow-generation", req->made.generation);
    h[2] = header("winnow-digest", req->made.digest);
    return 3;
}

static void free_bytes(void *arg)
{
    free(arg);
}

static struct wn_bytes take(struct wn_buf *b)
{
    struct wn_bytes bytes = { b->at, b->n, b->at ? free_bytes : NULL, b->at };
    *b = (struct wn_buf){ 0 };
    return bytes;
}

static void send_head(struct wn_req *req, int status, const char *content_type, const struct wn_header *more,
                      size_t n_more, struct wn_bytes body)
{
    struct wn_header h[10];
    size_t n = 0;
    if (content_type)
        h[n++] = header("content-type", content_type);
    for (size_t i = 0; i < n_more && n < 7; i++)
        h[n++] = more[i];
    n += made_headers(req, h + n);
    wn_exchange_reply(req->x, status, h, n, body);
}

/* ---- encoded replies ---- */
/** A reply on its way over a worker; or, on the stack, one that the loop encodes. */
struct wn_late {
    int status; /* 0: an RPC's message, with 5 bytes in front of it */
    const char *content_type;
    struct wn_header more[4];
    size_t n_more;
    struct wn_buf body;
    enum wn_coding coding; /* IDENTITY: it did not become smaller */
};

/** Triton encodes answers of inference only, and its http.aio client asks for gzip everywhere but reads it there only:
 * so the other routes of its protocol are never encoded. */
static bool may_encode(const struct wn_req *req)
{
    return req->route && (req->route->body == WN_BODY_INFER || strncmp(req->route->pattern, "/v2", 3) != 0);
}

/** The coding a body of `n` bytes goes out in. */
static enum wn_coding wanted_coding(struct wn_req *req, size_t n)
{
    const struct wn_header *h =
        n < WN_ENCODE_MIN || !may_encode(req) ? NULL : wn_exchange_header(req->x, "accept-encoding");
    return h ? wn_coding_wanted(h->value, h->value_len) : WN_CODING_IDENTITY;
}

static void encode(struct wn_req *req)
{
    struct wn_late *l = req->late;
    if (l->coding != WN_CODING_IDENTITY && !wn_coding_deflate(l->coding, &l->body, l->status ? 0 : 5))
        l->coding = WN_CODING_IDENTITY;
}

static void send_rpc(struct wn_req *req, struct wn_late *l);

static void send_late(struct wn_req *req)
{
    struct wn_late *l = req->late;
    if (!req->x) {
        wn_buf_done(&l->body);
        return;
    }
    if (!l->status) {
        send_rpc(req, l);
        return;
    }
    if (l->coding != WN_CODING_IDENTITY) {
        l->more[l->n_more++] = header("content-encoding", wn_coding_name(l->coding));
        l->more[l->n_more++] = header("vary", "accept-encoding");
    }
    send_head(req, l->status, l->content_type, l->more, l->n_more, take(&l->body));
}

/** Encode and send, on a worker where it takes longer. */
static void send_encoded(struct wn_req *req, struct wn_late *l)
{
    req->late = l;
    if (l->coding != WN_CODING_IDENTITY && l->body.n > WN_INLINE_ENCODE) {
        req->late = wn_arena_memdup(&req->arena, l, sizeof *l);
        if (req->late && wn_req_work(req, encode, send_late))
            return;
        req->late = l;
        l->coding = WN_CODING_IDENTITY; /* too busy to encode */
    }
    encode(req);
    send_late(req);
    req->late = NULL;
}

void wn_reply_buf_with(struct wn_req *req, int status, const char *content_type, const struct wn_header *more,
                       size_t n_more, struct wn_buf *body)
{
    if (!req->x || body->failed) {
        bool failed = body->failed;
        wn_buf_done(body);
        if (req->x && failed)
            wn_reply_fail(req, WINNOW_E_NOMEM, "response");
        return;
    }
    struct wn_late l = { .status = status, .content_type = content_type, .coding = wanted_coding(req, body->n) };
    for (; l.n_more < n_more && l.n_more < 2; l.n_more++)
        l.more[l.n_more] = more[l.n_more];
    l.body = *body;
    *body = (struct wn_buf){ 0 };
    send_encoded(req, &l);
}

void wn_reply_buf(struct wn_req *req, int status, const char *content_type, struct wn_buf *body)
{
    wn_reply_buf_with(req, status, content_type, NULL, 0, body);
}

void wn_reply_text(struct wn_req *req, int status, const char *content_type, const char *text)
{
    if (req->x)
        send_head(req, status, content_type, NULL, 0, (struct wn_bytes){ .p = text, .n = strlen(text) });
}

void wn_reply_json(struct wn_req *req, int status, json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS) | JSON_ENCODE_ANY) : NULL;
    json_decref(body);
    struct wn_buf b = { .at = text, .n = text ? strlen(text) : 0, .failed = !text };
    wn_reply_buf(req, status, "application/json", &b);
}

/* ---- errors ---- */
static void http_error(struct wn_req *req, int status, const char *text, const struct wn_header *more, size_t n_more)
{
    if (!req->x)
        return;
    struct wn_buf b = { 0 };
    wn_buf_text(&b, "{\"error\":");
    wn_buf_json_string(&b, text, strlen(text));
    wn_buf_text(&b, "}");
    if (b.failed) { /* saying "out of memory" needs none */
        wn_buf_done(&b);
        send_head(req, 503, "application/json", NULL, 0,
                  (struct wn_bytes){ .p = "{\"error\":\"out of memory\"}", .n = 25 });
        return;
    }
    send_head(req, status, "application/json", more, n_more, take(&b));
}

void wn_reply_http_error(struct wn_req *req, int status, const char *text)
{
    http_error(req, status, text, NULL, 0);
}

void wn_reply_bad_coding(struct wn_req *req, const struct wn_header *coding)
{
    struct wn_header h = header("accept-encoding", WN_CODINGS_HTTP);
    char text[120];
    snprintf(text, sizeof text, "content-encoding '%.*s' is not offered: gzip, deflate or none",
             (int)WN_MIN(coding->value_len, (size_t)40), coding->value);
    http_error(req, 415, text, &h, 1);
}

void wn_reply_not_allowed(struct wn_req *req, const char *allow)
{
    struct wn_header h = header("allow", allow);
    http_error(req, 405, "Method Not Allowed", &h, 1);
}

/** Trailers-only: everything in one HEADERS frame. */
void wn_reply_rpc_error(struct wn_req *req, int code, const char *text)
{
    if (!req->x)
        return;
    if (req->parent) {
        wn_rpc_message_fail(req, code, text);
        return;
    }
    char number[12];
    snprintf(number, sizeof number, "%d", code);
    const char *message = wn_grpc_message(&req->arena, text);
    struct wn_header h[] = { header("grpc-status", number), header("grpc-message", message ? message : ""),
                             header("grpc-accept-encoding", WN_CODINGS_GRPC) };
    send_head(req, 200, "application/grpc", h, 3, (struct wn_bytes){ 0 });
}

const char *wn_req_error_text(const struct wn_req *req, const struct winnow_err *err, char *shown)
{
    const char *text = err->msg[0] ? err->msg : winnow_status_text(err->status);
    snprintf(shown, sizeof err->msg, "%s", text);
    if (req->api && req->api->serve)
        wn_serve_hide_folders(req->api->serve, shown);
    if (err->status == WINNOW_E_INTERNAL || err->status == WINNOW_E_IO || strcmp(shown, text) != 0)
        wn_warning("request_failed", "status=%s error=%s", winnow_status_name(err->status), text);
    return shown;
}

void wn_reply_err(struct wn_req *req, const struct winnow_err *err)
{
    char shown[sizeof err->msg];
    const char *text = wn_req_error_text(req, err, shown);
    if (req->rpc) {
        wn_reply_rpc_error(req, wn_status_grpc(err->status), text);
        return;
    }
    bool retry =
        err->status == WINNOW_E_OVERLOAD || err->status == WINNOW_E_UNAVAILABLE || err->status == WINNOW_E_NOMEM;
    struct wn_header h = header("retry-after", "1");
    http_error(req, wn_status_http(err->status), text, &h, retry);
}

void wn_reply_fail(struct wn_req *req, enum winnow_status status, const char *fmt, ...)
{
    struct winnow_err err = { .status = status };
    va_list args;
    va_start(args, fmt);
    vsnprintf(err.msg, sizeof err.msg, fmt, args);
    va_end(args);
    wn_reply_err(req, &err);
}

/* ---- gRPC ---- */
struct wn_bytes wn_rpc_frame(struct wn_buf *frame, enum wn_coding coding)
{
    uint32_t n = (uint32_t)(frame->n - 5);
    unsigned char head[5] = { coding != WN_CODING_IDENTITY, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                              (unsigned char)(n >> 8), (unsigned char)n };
    memcpy(frame->at, head, 5);
    return take(frame);
}

static void send_rpc(struct wn_req *req, struct wn_late *l)
{
    if (req->parent) {
        wn_rpc_message_answer(req, &l->body, l->coding);
        return;
    }
    struct wn_header h[6] = { header("content-type", "application/grpc"),
                              header("grpc-accept-encoding", WN_CODINGS_GRPC) };
    size_t n_h = 2 + made_headers(req, h + 2);
    if (l->coding != WN_CODING_IDENTITY)
        h[n_h++] = header("grpc-encoding", wn_coding_name(l->coding));
    struct wn_header ok = header("grpc-status", "0");
    wn_exchange_start(req->x, 200, h, n_h);
    if (req->x)
        wn_exchange_write(req->x, wn_rpc_frame(&l->body, l->coding));
    else
        wn_buf_done(&l->body);
    if (req->x)
        wn_exchange_finish(req->x, &ok, 1);
}

void wn_reply_rpc(struct wn_req *req, struct wn_buf *b)
{
    if (!req->x || b->failed || b->n < 5 || b->n - 5 > UINT32_MAX) {
        bool failed = b->failed || b->n < 5, large = !failed && b->n - 5 > UINT32_MAX;
        wn_buf_done(b);
        if (failed)
            wn_reply_fail(req, WINNOW_E_NOMEM, "response");
        else if (large)
            wn_reply_fail(req, WINNOW_E_TOO_LARGE, "the response is longer than a gRPC message can be");
        return;
    }
    struct wn_late l = { .body = *b };
    const struct wn_header *listed = wn_exchange_header(req->x, "grpc-accept-encoding");
    if (req->coding != WN_CODING_IDENTITY && listed && l.body.n >= 5 + WN_ENCODE_MIN &&
        wn_coding_listed(listed->value, listed->value_len, req->coding))
        l.coding = req->coding;
    *b = (struct wn_buf){ 0 };
    send_encoded(req, &l);
}

static void frame_error(struct wn_req *req, int code, const char *text)
{
    wn_reply_rpc_error(req, code, text);
}

bool wn_rpc_unframe(struct wn_req *req)
{
    const unsigned char *p = req->body;
    const struct wn_header *coding = wn_exchange_header(req->x, "grpc-encoding");
    if (req->body_n < 5) {
        frame_error(req, 13, req->body_n ? "the message's frame is cut short" : "the request has no message");
        return false;
    }
    enum wn_coding c = coding && p[0] == 1 ? wn_coding_named(coding->value, coding->value_len) : WN_CODING_IDENTITY;
    if (c == WN_CODING_UNKNOWN) {
        frame_error(req, 12, "the message's grpc-encoding is not offered; grpc-accept-encoding: " WN_CODINGS_GRPC);
        return false;
    }
    if (p[0] > 1 || (p[0] == 1 && c == WN_CODING_IDENTITY)) {
        frame_error(req, 13,
                    p[0] == 1 ? "the message is marked as compressed, but grpc-encoding names nothing"
                              : "the message's compression flag is neither 0 nor 1");
        return false;
    }
    size_t n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (n > atomic_load(&req->api->max_body)) {
        frame_error(req, 8, "the message is longer than server.max_body");
        return false;
    }
    if (n != req->body_n - 5) {
        frame_error(req, 13,
                    n < req->body_n - 5 ? "more than one message for a unary method"
                                        : "the message is shorter than its frame says");
        return false;
    }
    req->body = p + 5;
    req->body_n = n;
    req->coding = c;
    return true;
}

/* ---- what a request says ---- */
const char *wn_req_header(struct wn_req *req, const char *name)
{
    const struct wn_header *h = req->x ? wn_exchange_header(req->x, name) : NULL;
    return h ? wn_arena_strndup(&req->arena, h->value, h->value_len) : NULL;
}

enum winnow_status wn_req_query(struct wn_req *req, const char *key, const char **ret, struct winnow_err *err)
{
    const char *p = req->x ? wn_exchange_query(req->x) : "";
    size_t want = strlen(key), n;
    *ret = NULL;
    while (*p) {
        size_t len = strcspn(p, "&");
        if (len >= want && memcmp(p, key, want) == 0 && (len == want || p[want] == '=')) {
            size_t skip = WN_MIN(want + 1, len);
            char *v = wn_arena_strndup(&req->arena, p + skip, len - skip);
            if (!v)
                return wn_fail(err, WINNOW_E_NOMEM, "query");
            if (!wn_percent_decode(v, len - skip, true, &n) || memchr(v, 0, n))
                return wn_fail(err, WINNOW_E_MALFORMED, "%s: the query's value is badly percent-encoded, or has a NUL",
                               key);
            *ret = v;
            return WINNOW_OK;
        }
        p += len + (p[len] == '&');
    }
    return WINNOW_OK;
}

json_t *wn_req_json(struct wn_req *req)
{
    json_error_t e;
    json_t *v = req->body_n ? json_loadb(req->body, req->body_n, JSON_REJECT_DUPLICATES, &e) : json_object();
    if (!v && req->body_n)
        wn_reply_fail(req, WINNOW_E_MALFORMED, "body is not JSON: line %d: %s", e.line, e.text);
    else if (!v)
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
    else if (!json_is_object(v))
        wn_reply_fail(req, WINNOW_E_MALFORMED, "body is not a JSON object");
    else
        return v;
    json_decref(v);
    return NULL;
}

enum winnow_status wn_req_deadline(struct wn_req *req, uint64_t timeout_us, uint64_t *ret_ns, struct winnow_err *err)
{
    uint64_t us = timeout_us ? timeout_us : UINT64_MAX, v;
    const struct wn_header *h =
        req->parent ? NULL : wn_exchange_header(req->x, "grpc-timeout"); /* that is the stream's */
    if (h && !wn_grpc_timeout(h->value, h->value_len, &v))
        return wn_fail(err, WINNOW_E_MALFORMED, "grpc-timeout: '%.*s' is not 1 to 8 digits and one of H M S m u n",
                       (int)WN_MIN(h->value_len, (size_t)40), h->value);
    if (h)
        us = WN_MIN(us, v);
    h = wn_exchange_header(req->x, "winnow-timeout-ms");
    if (h && !wn_text_u64(h->value, h->value_len, &v))
        return wn_fail(err, WINNOW_E_MALFORMED, "winnow-timeout-ms: '%.*s' is not a whole number of milliseconds",
                       (int)WN_MIN(h->value_len, (size_t)40), h->value);
    if (h && v < UINT64_MAX / 1000)
        us = WN_MIN(us, v * 1000);
    if (us == UINT64_MAX)
        us = atomic_load(&req->api->timeout_us);
    us = WN_MIN(us, (uint64_t)86400000000u * 365);
    *ret_ns = req->start_ns + us * 1000;
    if (req->deadline_ns)
        *ret_ns = WN_MIN(*ret_ns, req->deadline_ns);
    return WINNOW_OK;
}

void wn_req_made(struct wn_req *req, const struct wn_gen *gen)
{
    snprintf(req->made.version, sizeof req->made.version, "%lld", (long long)wn_gen_version(gen));
    snprintf(req->made.generation, sizeof req->made.generation, "%llu", (unsigned long long)wn_gen_number(gen));
    snprintf(req->made.digest, sizeof req->made.digest, "%s", wn_gen_digest(gen));
}

enum winnow_status wn_req_find(struct wn_req *req, const char *model, const char *version, struct wn_gen **ret,
                               struct winnow_err *err)
{
    struct wn_pin pin = { 0 };
    uint64_t v;
    const struct wn_header *h = wn_exchange_header(req->x, "winnow-pin");
    WN_TRY(wn_req_check_model(req, model, err));
    if (h)
        WN_TRY(wn_pin_parse(h->value, h->value_len, &req->arena, &pin, err));
    if (version && *version) {
        if (!wn_text_u64(version, strlen(version), &v) || !v || v > INT64_MAX)
            return wn_fail(err, WINNOW_E_MALFORMED, "model version '%.60s' is not a number from 1", version);
        if (pin.version && pin.version != (int64_t)v)
            return wn_fail(err, WINNOW_E_PRECONDITION, "winnow-pin wants version %lld, the request version %llu",
                           (long long)pin.version, (unsigned long long)v);
        pin.version = (int64_t)v;
    }
    WN_TRY(wn_serve_acquire(req->api->serve, model, &pin, ret, err));
    wn_req_made(req, *ret);
    return WINNOW_OK;
}

struct wn_gen *wn_req_acquire(struct wn_req *req, const char *model, const char *version)
{
    struct winnow_err err = { 0 };
    struct wn_gen *gen;
    if (wn_req_find(req, model, version, &gen, &err) == WINNOW_OK)
        return gen;
    wn_reply_err(req, &err);
    return NULL;
}
