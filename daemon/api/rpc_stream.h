/* rpc_stream.h: RPCs with more than one message: frames in, one request per message, answers in order.
 *
 *   bytes -> frames -> a request of its own per message (req->parent is the stream's) -> ops->message
 *         -> wn_reply_rpc() or an error -> answers leave in the order of the messages
 *
 * FLOW   A message is taken while fewer than WN_RPC_IN_FLIGHT are under way, they hold less than server.max_body, and
 * the peer takes what it is sent; what comes beyond stays in HTTP/2's window (1 MiB), which is not opened meanwhile.
 *        A message that finds the model's queue full waits while others of its stream are under way: a stream is slowed
 *        down, not refused, by what it sends itself.
 * END    When the client has ended its side and everything is answered; with an error that ops->fail does not make a
 *        message of; at grpc-timeout; when the server is on its way down and nothing is under way; when the token that
 *        opened it is revoked, has expired or lacks the scope (looked at four times a second: what is under way is
 * dropped). All on the loop. */
#ifndef WN_API_RPC_STREAM_H
#define WN_API_RPC_STREAM_H

#include "daemon/api/internal.h"

enum { WN_RPC_IN_FLIGHT = 32 };

struct wn_rpc_stream_ops {
    /** A message came: `msg` is a request with its body and an arena of its own. Reply once, now or later, or call
     *  wn_rpc_message_done(). */
    wn_handle_fn *message;
    /** Make a message (5 bytes of room, then the payload) of an error. NULL, or false: the error ends the stream. */
    bool (*fail)(struct wn_req *msg, int code, const char *text, struct wn_buf *frame);
    /** Called four times a second while the stream is open; may be NULL. */
    wn_handle_fn *tick;
    unsigned max_messages; /* the client may send; 0: any number */
    bool lasts;            /* goes on when the client has ended its side and everything is answered */
};

/** Serve this request as a stream. `ops` is static. Takes req->state, on_gone and on_drain. */
void wn_rpc_stream_open(struct wn_req *req, const struct wn_rpc_stream_ops *ops);
/** Send a message of the server's own accord; `frame` has 5 bytes of room in front and is taken. */
void wn_rpc_stream_send(struct wn_req *req, struct wn_buf *frame);
/** End the stream with this status; what is under way is dropped. */
void wn_rpc_stream_end(struct wn_req *req, int code, const char *text);
/** A pointer of the stream's owner, NULL at first; memory of the stream's arena. */
void *wn_rpc_stream_own(struct wn_req *req);
void wn_rpc_stream_set_own(struct wn_req *req, void *own);
/** The message needs no answer of its own. */
void wn_rpc_message_done(struct wn_req *msg);

#endif
