/* h_stream.c: ModelStreamInfer: ModelInfer, many times over one stream.
 *
 * Every message goes the way of a ModelInfer of its own (h_infer.c), so requests of one stream share batches; answers
 * leave in the order of the requests, as Triton's do for models with one answer each. An error is a message with
 * error_message and the request's id, and the stream goes on; with metadata `triton_grpc_error: true` it ends the
 * stream. A stream's answers cannot say in headers which weights made them: they say it in parameters. */
#include <string.h>
#include "daemon/api/infer.h"
#include "daemon/api/pb.h"
#include "daemon/api/rpc_stream.h"
#include "base/utf8.h"

/** Field numbers: inference.proto. */
enum {
    ERROR_MESSAGE = 1,
    INFER_RESPONSE = 2,
    RESPONSE_ID = 3,
    RESPONSE_PARAMETERS = 4,
    BOOL_PARAM = 1,
    STRING_PARAM = 3
};

static void put_entry(struct wn_buf *to, const char *key, size_t value_n)
{
    wn_pb_put_head(to, RESPONSE_PARAMETERS, wn_pb_bytes_size(1, strlen(key)) + wn_pb_bytes_size(2, value_n));
    wn_pb_put_bytes(to, 1, key, strlen(key));
    wn_pb_put_head(to, 2, value_n);
}

static void put_text(struct wn_buf *to, const char *key, const char *value)
{
    put_entry(to, key, wn_pb_bytes_size(STRING_PARAM, strlen(value)));
    wn_pb_put_bytes(to, STRING_PARAM, value, strlen(value));
}

void wn_stream_wrap(const struct wn_req *msg, struct wn_buf *frame)
{
    put_entry(frame, "triton_final_response", 2);
    wn_buf_add(frame, (char[]){ BOOL_PARAM << 3, 1 }, 2);
    put_text(frame, "winnow-version", msg->made.version);
    put_text(frame, "winnow-generation", msg->made.generation);
    put_text(frame, "winnow-digest", msg->made.digest);
    struct wn_buf head = { 0 };
    if (frame->failed)
        return;
    size_t n = frame->n - 5;
    wn_pb_put_head(&head, INFER_RESPONSE, n);
    char *room = head.failed ? NULL : wn_buf_room(frame, head.n);
    if (room) {
        memmove(frame->at + 5 + head.n, frame->at + 5, n);
        memcpy(frame->at + 5, head.at, head.n);
        frame->n += head.n;
    } else {
        frame->failed = true;
    }
    wn_buf_done(&head);
}

/** A string of protobuf must be UTF-8; what a message cites may have been cut inside a character. */
static void put_utf8(struct wn_buf *to, uint32_t number, const char *text)
{
    struct wn_buf clean = { 0 };
    for (size_t n = strlen(text), len; n; text += len, n -= len) {
        len = wn_utf8_len(text, n);
        wn_buf_add(&clean, len ? text : "?", len ? len : 1);
        len = WN_MAX(len, (size_t)1);
    }
    wn_pb_put_bytes(to, number, clean.at, clean.n);
    to->failed |= clean.failed;
    wn_buf_done(&clean);
}

static bool fail(struct wn_req *msg, int code, const char *text, struct wn_buf *frame)
{
    const struct wn_header *h = wn_exchange_header(msg->x, "triton_grpc_error");
    if (h && h->value_len == 4 && memcmp(h->value, "true", 4) == 0)
        return false;
    if (wn_buf_room(frame, 5))
        frame->n = 5;
    put_utf8(frame, ERROR_MESSAGE, text);
    wn_pb_put_head(frame, INFER_RESPONSE, msg->id.n ? wn_pb_bytes_size(RESPONSE_ID, msg->id.n) : 0);
    if (msg->id.n)
        wn_pb_put_bytes(frame, RESPONSE_ID, msg->id.p, msg->id.n);
    return true;
}

void wn_rpc_stream_infer(struct wn_req *req)
{
    static const struct wn_rpc_stream_ops ops = { .message = wn_rpc_model_infer, .fail = fail };
    wn_rpc_stream_open(req, &ops);
}
