/* rpc.c: see rpc.h. */
#include "daemon/api/rpc.h"

#include <string.h>
#include "daemon/api/internal.h"
#include "daemon/api/pb.h"

enum { MAX_DEPTH = 8, MAX_FIELDS = 512 };

/* The first string with a NUL, which protobuf-c would let end there; NULL: none. */
static const char *cut_string(const ProtobufCMessageDescriptor *d, struct wn_pb pb, unsigned depth)
{
    struct wn_pb_field f;
    const char *found = NULL;
    while (!found && wn_pb_next(&pb, &f)) {
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(d, f.number);
        if (!field || f.wire != WN_PB_BYTES || !f.n)
            continue;
        if (field->type == PROTOBUF_C_TYPE_STRING && memchr(f.p, '\0', f.n))
            found = field->name;
        else if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth)
            found = cut_string(field->descriptor, wn_pb_sub(&f), depth - 1);
    }
    return found;
}

void *wn_rpc_read(struct wn_req *req, const ProtobufCMessageDescriptor *descriptor)
{
    if (req->body_n > WN_SMALL_BODY || !wn_pb_is_small(req->body, req->body_n, MAX_DEPTH, MAX_FIELDS)) {
        wn_reply_fail(req, WINNOW_E_TOO_LARGE, "%s has more than %d fields, %d levels or 1 MiB", descriptor->name,
                      MAX_FIELDS, MAX_DEPTH);
        return NULL;
    }
    const char *cut = cut_string(descriptor, wn_pb_init(req->body, req->body_n), MAX_DEPTH);
    if (cut) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "%s: a NUL within the text", cut);
        return NULL;
    }
    void *m = protobuf_c_message_unpack(descriptor, NULL, req->body_n, req->body);
    if (!m)
        wn_reply_rpc_error(req, 13, "the message could not be decoded");
    return m;
}

void wn_rpc_freep(void *pp)
{
    ProtobufCMessage **m = pp;
    if (*m)
        protobuf_c_message_free_unpacked(*m, NULL);
    *m = NULL;
}

void wn_rpc_reply(struct wn_req *req, const ProtobufCMessage *m)
{
    struct wn_buf b = { 0 };
    size_t n = protobuf_c_message_get_packed_size(m);
    char *to = wn_buf_room(&b, 5 + n);
    if (to) {
        protobuf_c_message_pack(m, (uint8_t *)to + 5);
        b.n = 5 + n;
    }
    wn_reply_rpc(req, &b);
}
