/* rpc.c: see rpc.h. */
#include "daemon/api/rpc.h"

#include "daemon/api/internal.h"
#include "daemon/api/pb.h"

enum { MAX_DEPTH = 8, MAX_FIELDS = 512 };

void *wn_rpc_read(struct wn_req *req, const ProtobufCMessageDescriptor *descriptor)
{
    if (req->body_n > WN_SMALL_BODY || !wn_pb_is_small(req->body, req->body_n, MAX_DEPTH, MAX_FIELDS)) {
        wn_reply_fail(req, WINNOW_E_TOO_LARGE, "%s has more than %d fields, %d levels or 1 MiB", descriptor->name,
                      MAX_FIELDS, MAX_DEPTH);
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
