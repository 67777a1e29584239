/* load_h2.c: gRPC: ModelInfer calls side by side on one HTTP/2 connection without TLS. The two messages are written and
 * read by hand: a picture in, a label and its probability out. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "demo/load.h"

#define STREAMS    64 /* at the same time */
#define MAX_ANSWER 4096

/** One call. */
struct call {
    struct load_h2 *h;
    struct load_request req;
    struct call *next, *prev; /* all under way */
    uint8_t *out;             /* request, prefix included; malloc'ed */
    size_t out_n, sent;
    uint8_t in[MAX_ANSWER];
    size_t in_n;
    struct load_answer a;
    char grpc_status[8], message[120];
};

struct load_h2 {
    struct load *load;
    struct sockaddr_in to;
    struct bufferevent *bev;
    nghttp2_session *session;
    struct call *calls;
    unsigned n;
    WN_VEC(struct load_request) waiting;
    size_t first;
};

/* ---- protobuf ---- */

static size_t varint(uint8_t *to, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        to[n++] = (uint8_t)(v | 0x80);
    to[n++] = (uint8_t)v;
    return n;
}

/* Field `number` with `n` bytes; returns the bytes written. */
static size_t field(uint8_t *to, unsigned number, const void *bytes, size_t n)
{
    size_t at = varint(to, number << 3 | 2);
    at += varint(to + at, n);
    memcpy(to + at, bytes, n);
    return at + n;
}

static size_t text(uint8_t *to, unsigned number, const char *s)
{
    return field(to, number, s, strlen(s));
}

/* ModelInferRequest: one BYTES input "image" of shape [1], outputs "label" and "score". */
static bool write_request(struct call *c, const char *model, const struct load_picture *pic)
{
    uint8_t input[64], want[32], *to = c->out = malloc(pic->n + 512);
    static const uint8_t one[] = { 1 };
    if (!to)
        return false;
    size_t n = 5, in = text(input, 1, "image");
    in += text(input + in, 2, "BYTES");
    in += field(input + in, 3, one, 1); /* packed shape */
    n += text(to + n, 1, model);
    n += field(to + n, 5, input, in);
    n += field(to + n, 6, want, text(want, 1, "label"));
    n += field(to + n, 6, want, text(want, 1, "score"));
    n += varint(to + n, 7 << 3 | 2); /* raw_input_contents: length, picture */
    n += varint(to + n, pic->n + 4);
    const uint8_t len[4] = { (uint8_t)pic->n, (uint8_t)(pic->n >> 8), (uint8_t)(pic->n >> 16),
                             (uint8_t)(pic->n >> 24) };
    memcpy(to + n, len, 4);
    memcpy(to + n + 4, pic->bytes, pic->n);
    n += 4 + pic->n;
    size_t body = n - 5;
    const uint8_t prefix[5] = { 0, (uint8_t)(body >> 24), (uint8_t)(body >> 16), (uint8_t)(body >> 8), (uint8_t)body };
    memcpy(to, prefix, 5);
    c->out_n = n;
    return true;
}

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        *ret |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

/* raw_output_contents (field 6) of a ModelInferResponse: the label, then its probability. */
static bool read_response(const uint8_t *p, size_t n, struct load_answer *a)
{
    const uint8_t *end = p + n;
    unsigned raw = 0;
    while (p < end) {
        uint64_t tag, len = 0;
        if (!read_varint(&p, end, &tag) || !read_varint(&p, end, &len))
            return false;
        if ((tag & 7) == 0)
            continue;
        if ((tag & 7) != 2 || len > (size_t)(end - p))
            return false;
        if (tag >> 3 == 6 && raw == 0 && len >= 4 && len - 4 < sizeof a->label)
            snprintf(a->label, sizeof a->label, "%.*s", (int)(len - 4), (const char *)p + 4);
        if (tag >> 3 == 6 && raw == 1 && len == 4)
            memcpy(&a->p, p, 4);
        raw += tag >> 3 == 6;
        p += len;
    }
    return raw == 2;
}

/* ---- the connection ---- */

static void next_request(struct load_h2 *h);

static void end(struct call *c, const struct load_answer *a, const char *why)
{
    struct load_h2 *h = c->h;
    load_done(h->load, &c->req, a, why);
    *(c->prev ? &c->prev->next : &h->calls) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c->out);
    free(c);
    h->n--;
}

static void drop(struct load_h2 *h, const char *why)
{
    if (h->session)
        nghttp2_session_del(h->session);
    if (h->bev)
        bufferevent_free(h->bev);
    h->session = NULL;
    h->bev = NULL;
    while (h->calls)
        end(h->calls, NULL, why);
}

static void flush(struct load_h2 *h)
{
    const uint8_t *bytes;
    for (ssize_t n; h->session && (n = nghttp2_session_mem_send(h->session, &bytes)) > 0;)
        bufferevent_write(h->bev, bytes, (size_t)n);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t n, uint8_t flags, void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    char v[128];
    if (!c)
        return 0;
    snprintf(v, sizeof v, "%.*s", (int)WN_MIN(n, sizeof v - 1), (const char *)value);
#define IS(text) (name_n == sizeof text - 1 && memcmp(name, text, sizeof text - 1) == 0)
    if (IS("winnow-version"))
        c->a.version = strtoll(v, NULL, 10);
    else if (IS("winnow-generation"))
        c->a.generation = strtoull(v, NULL, 10);
    else if (IS("winnow-digest"))
        snprintf(c->a.digest, sizeof c->a.digest, "%.79s", v);
    else if (IS("grpc-status"))
        snprintf(c->grpc_status, sizeof c->grpc_status, "%.7s", v);
    else if (IS("grpc-message"))
        snprintf(c->message, sizeof c->message, "%.119s", v);
#undef IS
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t n, void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(s, stream);
    if (c && n <= sizeof c->in - c->in_n) {
        memcpy(c->in + c->in_n, bytes, n);
        c->in_n += n;
    }
    return 0;
}

static int on_close(nghttp2_session *s, int32_t stream, uint32_t code, void *arg)
{
    struct call *c = nghttp2_session_get_stream_user_data(s, stream);
    char why[160];
    if (!c)
        return 0;
    bool ok = code == 0 && strcmp(c->grpc_status, "0") == 0 && c->in_n > 5 && c->a.generation &&
              read_response(c->in + 5, c->in_n - 5, &c->a);
    if (!ok)
        snprintf(why, sizeof why, "gRPC status %s %s", *c->grpc_status ? c->grpc_status : "missing", c->message);
    end(c, ok ? &c->a : NULL, why);
    return 0;
}

static ssize_t on_body(nghttp2_session *s, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    struct call *c = source->ptr;
    size_t n = WN_MIN(room, c->out_n - c->sent);
    memcpy(to, c->out + c->sent, n);
    c->sent += n;
    if (c->sent == c->out_n)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct load_h2 *h = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t n = evbuffer_get_length(in);
    ssize_t used = n ? nghttp2_session_mem_recv(h->session, evbuffer_pullup(in, -1), n) : 0;
    if (used < 0) {
        drop(h, nghttp2_strerror((int)used));
    } else {
        evbuffer_drain(in, (size_t)used);
        flush(h);
    }
    if (h->session && !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
        drop(h, "the server closed the connection");
    next_request(h);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct load_h2 *h = arg;
    if (what & BEV_EVENT_CONNECTED)
        return;
    drop(h, "connection lost");
    next_request(h);
}

static bool connect_it(struct load_h2 *h)
{
    nghttp2_session_callbacks *cb = NULL;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return false;
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    int failed = nghttp2_session_client_new(&h->session, cb, h);
    nghttp2_session_callbacks_del(cb);
    h->bev =
        failed ? NULL : bufferevent_socket_new(load_base(h->load), -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!h->bev)
        return false;
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, NULL, 0);
    bufferevent_setcb(h->bev, on_read, NULL, on_event, h);
    bufferevent_enable(h->bev, EV_READ | EV_WRITE);
    return bufferevent_socket_connect(h->bev, (struct sockaddr *)&h->to, sizeof h->to) == 0;
}

static void start(struct load_h2 *h, const struct load_request *req)
{
#define NV(name, value)                                                                                                \
    {                                                                                                                  \
        (uint8_t *)(name), (uint8_t *)(value), sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE                 \
    }
    static const nghttp2_nv head[] = { NV(":method", "POST"),
                                       NV(":scheme", "http"),
                                       NV(":path", "/inference.GRPCInferenceService/ModelInfer"),
                                       NV(":authority", "localhost"),
                                       NV("content-type", "application/grpc"),
                                       NV("te", "trailers") };
#undef NV
    struct call *c = calloc(1, sizeof *c);
    if (!c || !write_request(c, load_model(h->load), load_picture(h->load, req->picture))) {
        free(c);
        load_done(h->load, req, NULL, "out of memory");
        return;
    }
    c->h = h;
    c->req = *req;
    c->next = h->calls;
    if (c->next)
        c->next->prev = c;
    h->calls = c;
    h->n++;
    nghttp2_data_provider body = { .source.ptr = c, .read_callback = on_body };
    if (nghttp2_submit_request(h->session, NULL, head, WN_COUNT(head), &body, c) < 0)
        end(c, NULL, "nghttp2 takes no more requests");
}

static void next_request(struct load_h2 *h)
{
    if (h->first == h->waiting.n) {
        h->first = h->waiting.n = 0;
        return;
    }
    if (!h->session && !connect_it(h))
        drop(h, "cannot connect");
    while (h->session && h->n < STREAMS && h->first < h->waiting.n)
        start(h, &h->waiting.at[h->first++]);
    flush(h);
}

struct load_h2 *load_h2_new(struct load *load, const struct sockaddr_in *to)
{
    struct load_h2 *h = calloc(1, sizeof *h);
    if (h) {
        h->load = load;
        h->to = *to;
    }
    return h;
}

void load_h2_send(struct load_h2 *h, const struct load_request *req)
{
    if (!wn_vec_push(&h->waiting, *req))
        load_done(h->load, req, NULL, "out of memory");
    next_request(h);
}

void load_h2_free(struct load_h2 *h)
{
    if (!h)
        return;
    drop(h, "not answered when the load ended");
    for (; h->first < h->waiting.n; h->first++)
        load_done(h->load, &h->waiting.at[h->first], NULL, "not sent when the load ended");
    wn_vec_done(&h->waiting);
    free(h);
}
