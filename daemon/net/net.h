/* net.h: bytes in, exchanges out: listeners, event loops, HTTP/1.1 and HTTP/2 on one port, limits, drain.
 *
 * An exchange is one request and its response, whatever the protocol: handlers never know which it was. It lives on the
 * event loop that owns its connection; every function here except wn_loop_post() and wn_net_drain() must be called on
 * that loop's thread. Other threads hold a wn_xid, post a message to the loop, and look the exchange up there: the
 * client may have gone, ids never dangle.
 *
 *   accept -> sniff -> (HTTP/1.1 | HTTP/2) -> exchange -> handler.on_head
 *                                                          -> wn_exchange_collect() or wn_exchange_stream()
 *                                                          -> on_end -> … -> wn_exchange_reply() */
#ifndef WN_NET_H
#define WN_NET_H

#include <sys/socket.h>
#include "base/base.h"

struct wn_net;      /* listeners and loops of this process */
struct wn_loop;     /* one event base and its thread */
struct wn_exchange; /* one request and its response */

/** Names an exchange from any thread. */
struct wn_xid {
    struct wn_loop *loop;
    uint64_t conn;
    uint64_t stream;
};

/** A message to a loop; embed it and use WN_CONTAINER_OF. The loop calls `run` on its thread, once. */
struct wn_msg {
    struct wn_msg *next;
    void (*run)(struct wn_loop *loop, struct wn_msg *msg);
};

struct wn_header {
    const char *name; /* lower case */
    size_t name_len;
    const char *value;
    size_t value_len;
};

/** What an application does with exchanges. Called on loop threads; must not block. */
struct wn_handler {
    /** The head is there. Must call wn_exchange_collect() or wn_exchange_stream(), or reply at once (the rest of the
     *  body is then discarded within limits). */
    void (*on_head)(struct wn_exchange *x, void *arg);
    /** The collected body is complete (see wn_exchange_body()). Not called for streamed bodies. */
    void (*on_end)(struct wn_exchange *x, void *arg);
    /** The client went away (reset, closed, timed out) before the response was complete. Cancel the work; `x` is
     *  freed after the call. Called exactly once per exchange that did not complete, if on_head was called. */
    void (*on_gone)(struct wn_exchange *x, void *arg);
    /** A complete response left (or was handed to the socket): status, bytes, duration for the access log. May be NULL.
     */
    void (*on_done)(struct wn_exchange *x, void *arg);
    /** The peer took most of what was queued, after wn_exchange_queued() had gone past WN_QUEUE_HIGH: a response in
     *  pieces goes on here. May be NULL. */
    void (*on_drain)(struct wn_exchange *x, void *arg);
    void *arg;
};

/** A response in pieces stops writing above this many queued bytes and waits for on_drain (bytes). */
#define WN_QUEUE_HIGH ((size_t)256 * 1024)

/** Receiver of a streamed body. Return value of `data`: bytes already consumed; the rest is given back to flow control
 *  later by wn_exchange_consumed(), so an upload is read only as fast as the disk takes it. */
struct wn_body_sink {
    size_t (*data)(struct wn_exchange *x, const void *bytes, size_t n, void *arg);
    void (*end)(struct wn_exchange *x, void *arg);
    void *arg;
};

/** Limits and timeouts; the config room fills it. 0 = the value named here. */
struct wn_net_opts {
    unsigned loops;                /* event loop threads; 0 = 1 per 2 CPUs, at least 1 */
    unsigned max_connections;      /* 10 000 */
    unsigned max_per_peer;         /* connections of one address (IPv6: one /64), 0 = no limit */
    unsigned max_streams;          /* per connection, 128 */
    size_t max_header_bytes;       /* 16 KiB, names + values */
    unsigned max_headers;          /* 100 */
    size_t max_buffered;           /* collected request bytes over all connections, 1 GiB */
    uint64_t header_timeout_us;    /* 10 s */
    uint64_t body_timeout_us;      /* without progress (1 KiB/s), 30 s */
    uint64_t write_timeout_us;     /* without progress (1 KiB/s), 30 s */
    uint64_t idle_timeout_us;      /* 300 s */
    uint64_t handshake_timeout_us; /* TLS, 10 s */
    unsigned max_handshakes;       /* TLS handshakes under way; past it the oldest one is cut; 1000 */
};

/** Start loops (threads); nothing is accepted yet. */
WINNOW_MUST_USE enum winnow_status wn_net_new(const struct wn_net_opts *opts, const struct wn_handler *handler,
                                              struct wn_net **ret_net, struct winnow_err *err);
/** Listen on "host:port" ("127.0.0.1:8000", "[::1]:0"); port 0 chooses one, `ret_port` tells. */
WINNOW_MUST_USE enum winnow_status wn_net_listen(struct wn_net *net, const char *address, uint16_t *ret_port,
                                                 struct winnow_err *err);
/** Listen on an inherited socket (systemd). */
WINNOW_MUST_USE enum winnow_status wn_net_listen_fd(struct wn_net *net, int fd, struct winnow_err *err);
/** Whether `address` can be listened on now: the port is bound for a moment, nothing is accepted.
 *  @return E_CONFLICT: it is in use; E_MALFORMED, E_DENIED, E_IO as wn_net_listen() */
WINNOW_MUST_USE enum winnow_status wn_net_can_listen(const char *address, struct winnow_err *err);
/** Change limits of a running net (reload). Any thread. */
void wn_net_configure(struct wn_net *net, const struct wn_net_opts *opts);

/** A server's certificate and key, ready for use. Immutable, counted: connections keep the one they began with. */
struct wn_tls;
/** Read certificate chain and key, PEM; `key` may be NULL or "": it is in the certificate's file. The files are read
 *  once.
 *  @return E_NOT_FOUND, E_DENIED, E_TOO_LARGE, E_MALFORMED (no PEM, an encrypted key, a key of another certificate),
 * E_IO, E_NOMEM; err names the file */
WINNOW_MUST_USE enum winnow_status wn_tls_new(const char *certificate, const char *key, struct wn_tls **ret_tls,
                                              struct winnow_err *err);
/** NULL is fine. Any thread. */
void wn_tls_unref(struct wn_tls *tls);
/** When the certificate ends, seconds since 1970. */
int64_t wn_tls_expires(const struct wn_tls *tls);
/** Whether a listener speaks TLS. The first byte of a connection tells TLS from clear text. */
enum wn_tls_mode {
    WN_TLS_OPTIONAL, /* both */
    WN_TLS_REQUIRED, /* clear text is told to use TLS, and closed */
    WN_TLS_OFF,
};
/** What new connections find from now on; `tls` NULL is WN_TLS_OFF. Takes a reference of its own. Any thread.
 *  @return E_NOMEM: nothing has changed */
WINNOW_MUST_USE enum winnow_status wn_net_set_tls(struct wn_net *net, struct wn_tls *tls, enum wn_tls_mode mode,
                                                  struct winnow_err *err);
/** Graceful end: stop accepting, GOAWAY (shutdown notice, then last id) / Connection: close, finish exchanges, close;
 *  what is left after `grace_us` is cut. `done` (may be NULL) is called on a loop thread when the last connection is
 *  gone. Any thread. */
void wn_net_drain(struct wn_net *net, uint64_t grace_us, void (*done)(void *arg), void *arg);
/** Stop and join the loops, close everything (on_gone for what is open). Messages still in a mailbox are run, by the
 *  caller's thread if need be; nobody may post afterwards. NULL is fine. */
void wn_net_free(struct wn_net *net);

/** Counters for /metrics and status lines; any thread. */
struct wn_net_stats {
    uint64_t connections_open, connections_total, connections_refused;
    uint64_t exchanges_open, exchanges_total, exchanges_gone;
    uint64_t protocol_errors, limits_hit, bytes_in, bytes_out;
    uint64_t tls_handshakes_open;                     /* under way */
    uint64_t tls_12, tls_13, tls_resumed, tls_failed; /* full handshakes by version; resumed; not completed */
};
void wn_net_stats(struct wn_net *net, struct wn_net_stats *ret);
/** True when every loop thread has turned in the last `within_us`; for the watchdog. Any thread. */
bool wn_net_alive(struct wn_net *net, uint64_t within_us);

/* ---- loops ---- */
/** Hand `msg` to the loop. Any thread. The loop is woken only when its mailbox was empty. */
void wn_loop_post(struct wn_loop *loop, struct wn_msg *msg);
unsigned wn_net_n_loops(const struct wn_net *net);
struct wn_loop *wn_net_loop(struct wn_net *net, unsigned i);
/** Exchange named by id, or NULL when it is gone or its response is complete already. On its loop (checked). */
struct wn_exchange *wn_loop_find(struct wn_loop *loop, struct wn_xid id);
/** A timer of this loop: runs once, exact to a millisecond; `run` may free the timer, and somebody must. NULL when out
 *  of memory. On its loop. */
struct wn_timer;
struct wn_timer *wn_timer_new(struct wn_loop *loop, uint64_t after_us, void (*run)(struct wn_timer *t, void *arg),
                              void *arg);
void wn_timer_free(struct wn_timer *t); /* NULL is fine */

/* ---- the request ---- */
struct wn_xid wn_exchange_id(const struct wn_exchange *x);
struct wn_loop *wn_exchange_loop(const struct wn_exchange *x);
const char *wn_exchange_method(const struct wn_exchange *x);
/** Path without the query, percent-encoding as received; and the query without '?', "" when there is none. */
const char *wn_exchange_path(const struct wn_exchange *x);
const char *wn_exchange_query(const struct wn_exchange *x);
/** Header by lower-case name, or NULL; the first of several. Pseudo-headers other than :authority are not here. */
const struct wn_header *wn_exchange_header(const struct wn_exchange *x, const char *name);
/** i-th header, or NULL past the end. */
const struct wn_header *wn_exchange_header_at(const struct wn_exchange *x, size_t i);
/** "HTTP/1.1", "HTTP/2". */
const char *wn_exchange_protocol(const struct wn_exchange *x);
/** "TLSv1.3", "TLSv1.2", NULL in clear text. */
const char *wn_exchange_tls(const struct wn_exchange *x);
/** "127.0.0.1:53122". */
const char *wn_exchange_peer(const struct wn_exchange *x);
/** Content-Length, or -1 when it was not given. */
int64_t wn_exchange_content_length(const struct wn_exchange *x);
/** When the head arrived, wn_now_ns(). */
uint64_t wn_exchange_start_ns(const struct wn_exchange *x);
/** A pointer of the application's, NULL at first. */
void *wn_exchange_data(const struct wn_exchange *x);
void wn_exchange_set_data(struct wn_exchange *x, void *data);

/** Collect the body in one piece of at most `max` bytes; a longer one is answered 413 (gRPC: RESOURCE_EXHAUSTED) by net
 *  and ends in on_gone. Buffered bytes over all connections are bounded (503 past that). */
void wn_exchange_collect(struct wn_exchange *x, size_t max);
/** Hand the body to `sink` as it comes. Content-Length over `max` (0 = no limit) is answered 413 at once, a longer
 *  chunked body when it gets there. */
void wn_exchange_stream(struct wn_exchange *x, const struct wn_body_sink *sink, uint64_t max);
/** Give `n` bytes back to flow control. */
void wn_exchange_consumed(struct wn_exchange *x, size_t n);
/** The collected body; valid until the exchange ends. */
const void *wn_exchange_body(const struct wn_exchange *x, size_t *ret_n);
/** The client of this stream may be silent for as long as it likes (streaming RPCs): the body timeout does not apply.
 */
void wn_exchange_allow_idle(struct wn_exchange *x);
/** The server is on its way down: what could go on for ever should end when it can. */
bool wn_exchange_draining(const struct wn_exchange *x);
/** Take the collected body's memory (malloc'ed, the caller frees); NULL when empty. */
void *wn_exchange_take_body(struct wn_exchange *x, size_t *ret_n);

/* ---- the response ---- */
/** Bytes to send; `release` (may be NULL: they are copied) is called on the loop when they are no longer needed. */
struct wn_bytes {
    const void *p;
    size_t n;
    void (*release)(void *arg);
    void *arg;
};
/** Complete response. Ignored (the bytes are released) when the exchange has a complete response already; `x` stays
 *  valid until the calling callback returns. Names lower case; content-length is added. For HEAD and 204/304 the body
 * is not sent. */
void wn_exchange_reply(struct wn_exchange *x, int status, const struct wn_header *headers, size_t n_headers,
                       struct wn_bytes body);
/** Response in pieces: head, any number of writes, then the end with trailers (HTTP/1.1: chunked; trailers are sent
 *  only where the client's TE allows them). wn_exchange_queued() tells what the peer has not taken yet. */
void wn_exchange_start(struct wn_exchange *x, int status, const struct wn_header *headers, size_t n_headers);
void wn_exchange_write(struct wn_exchange *x, struct wn_bytes bytes);
void wn_exchange_finish(struct wn_exchange *x, const struct wn_header *trailers, size_t n_trailers);
size_t wn_exchange_queued(const struct wn_exchange *x);
/** Give up a response that was started and cannot be finished: the stream is reset (HTTP/1.1: the connection closes).
 *  Ends in on_gone, later. */
void wn_exchange_abort(struct wn_exchange *x);
/** Status and body bytes sent so far; for on_done. */
int wn_exchange_status(const struct wn_exchange *x);
uint64_t wn_exchange_sent(const struct wn_exchange *x);

#endif
