/* h_reflection.c: gRPC server reflection, v1 and v1alpha (the same numbers), from the descriptors that protoc wrote.
 *
 * Source: grpc/grpc doc/server-reflection.md. A file is answered with all that it imports, so a client needs to ask
 * once. There are no extensions in our files. */
#include <stdio.h>
#include <string.h>
#include "daemon/api/descriptors.h"
#include "daemon/api/pb.h"
#include "daemon/api/rpc_stream.h"
#include "base/utf8.h"

/** Field numbers: reflection_v1.proto. */
enum {
    ASK_HOST = 1,
    ASK_FILE = 3,
    ASK_SYMBOL = 4,
    ASK_EXTENSION = 5,
    ASK_EXTENSIONS_OF = 6,
    ASK_SERVICES = 7,
    SAY_HOST = 1,
    SAY_ASKED = 2,
    SAY_FILES = 4,
    SAY_EXTENSIONS = 5,
    SAY_SERVICES = 6,
    SAY_ERROR = 7,
};
enum { NOT_FOUND = 5, INVALID_ARGUMENT = 3 };

static void put_error(struct wn_buf *to, int code, const char *what, const struct wn_pb_field *f)
{
    char text[200];
    bool clean = f && f->n && wn_utf8_valid((const char *)f->p, f->n);
    int n = snprintf(text, sizeof text, "%s%s%.*s%s", what, clean ? " '" : "",
                     clean ? (int)WN_MIN(f->n, (size_t)100) : 0, clean ? (const char *)f->p : "", clean ? "'" : "");
    size_t len = WN_MIN((size_t)n, sizeof text - 1);
    while (len && !wn_utf8_valid(text, len)) /* cut inside a character */
        len--;
    wn_pb_put_head(to, SAY_ERROR,
                   wn_pb_varint_size(1 << 3) + wn_pb_varint_size((uint64_t)code) + wn_pb_bytes_size(2, len));
    wn_pb_put_varint(to, 1 << 3 | WN_PB_VARINT);
    wn_pb_put_varint(to, (uint64_t)code);
    wn_pb_put_bytes(to, 2, text, len);
}

static void put_file(size_t i, void *arg)
{
    struct wn_proto_file f;
    if (wn_proto_file_at(i, &f))
        wn_pb_put_bytes(arg, 1, f.p, f.n);
}

static void put_files(struct wn_buf *to, size_t i)
{
    struct wn_buf files = { 0 };
    wn_proto_with_imports(i, put_file, &files);
    wn_pb_put_bytes(to, SAY_FILES, files.at, files.n);
    to->failed |= files.failed;
    wn_buf_done(&files);
}

static void put_service(const char *name, void *arg)
{
    wn_pb_put_head(arg, 1, wn_pb_bytes_size(1, strlen(name)));
    wn_pb_put_bytes(arg, 1, name, strlen(name));
}

static void put_services(struct wn_buf *to)
{
    struct wn_buf list = { 0 };
    wn_proto_services(put_service, &list);
    wn_pb_put_bytes(to, SAY_SERVICES, list.at, list.n);
    to->failed |= list.failed;
    wn_buf_done(&list);
}

static void put_answer(struct wn_buf *to, const struct wn_pb_field *ask)
{
    const char *name = (const char *)ask->p;
    size_t i;
    switch (ask->number) {
    case ASK_FILE:
        if (wn_proto_file_named(name, ask->n, &i))
            put_files(to, i);
        else
            put_error(to, NOT_FOUND, "there is no file", ask);
        break;
    case ASK_SYMBOL:
        if (wn_proto_file_of_symbol(name, ask->n, &i))
            put_files(to, i);
        else
            put_error(to, NOT_FOUND, "there is no symbol", ask);
        break;
    case ASK_EXTENSION:
        put_error(to, NOT_FOUND, "there are no extensions", NULL);
        break;
    case ASK_EXTENSIONS_OF:
        if (wn_proto_is_message(name, ask->n)) {
            wn_pb_put_head(to, SAY_EXTENSIONS, wn_pb_bytes_size(1, ask->n));
            wn_pb_put_bytes(to, 1, name, ask->n);
        } else {
            put_error(to, NOT_FOUND, "there is no message", ask);
        }
        break;
    case ASK_SERVICES:
        put_services(to);
        break;
    default:
        put_error(to, INVALID_ARGUMENT, "the request asks for nothing that is known", NULL);
    }
}

static void answer(struct wn_req *msg)
{
    struct wn_pb pb = wn_pb_init(msg->body, msg->body_n);
    struct wn_pb_field f, host = { 0 }, ask = { 0 };
    while (wn_pb_next(&pb, &f)) {
        if (f.wire != WN_PB_BYTES)
            continue;
        if (f.number == ASK_HOST)
            host = f;
        else if (f.number >= ASK_FILE && f.number <= ASK_SERVICES)
            ask = f; /* the last of a oneof counts */
    }
    bool text = ask.number == ASK_EXTENSION || !ask.n || wn_utf8_valid((const char *)ask.p, ask.n);
    if (pb.broken || !text || msg->body_n > WN_SMALL_BODY) {
        wn_reply_rpc_error(msg, msg->body_n > WN_SMALL_BODY ? 8 : 13, "the message could not be decoded");
        return;
    }
    struct wn_buf b = { 0 };
    if (wn_buf_room(&b, 5))
        b.n = 5;
    if (host.n && wn_utf8_valid((const char *)host.p, host.n))
        wn_pb_put_bytes(&b, SAY_HOST, host.p, host.n);
    wn_pb_put_bytes(&b, SAY_ASKED, msg->body, msg->body_n);
    put_answer(&b, &ask);
    wn_reply_rpc(msg, &b);
}

void wn_rpc_reflection(struct wn_req *req)
{
    static const struct wn_rpc_stream_ops ops = { .message = answer };
    wn_rpc_stream_open(req, &ops);
}
