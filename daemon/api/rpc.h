/* rpc.h: small control messages of gRPC through protobuf-c, behind a guard. */
#ifndef WN_API_RPC_H
#define WN_API_RPC_H

#include "daemon/api/api.h"
#include "daemon/api/health.pb-c.h"
#include "daemon/api/inference.pb-c.h"

/** The request's message; free with wn_rpc_freep. Depth and number of fields are bounded before protobuf-c sees it.
 *  NULL: the request has been answered. */
void *wn_rpc_read(struct wn_req *req, const ProtobufCMessageDescriptor *descriptor);
/** WN_CLEANUP helper for any message. */
void wn_rpc_freep(void *pp);
/** Reply with a message; it stays the caller's. */
void wn_rpc_reply(struct wn_req *req, const ProtobufCMessage *m);

#endif
