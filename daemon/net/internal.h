/* internal.h: what the files of daemon/net share: loops, connections, exchanges, and what a protocol implements.
 *
 * Everything here but the mailbox, the counters and struct wn_net's atomics belongs to one loop's thread.
 *
 * TURNS  Nothing is destroyed while somebody may hold it. Callbacks and API calls only mark a connection dirty;
 *        wn_loop_settle(), at the bottom of every event callback, gives each dirty connection its turn (parse what
 * came, send what is queued, finish what is complete) and destroys the dead. So a handler may call anything. */
#ifndef WN_NET_INTERNAL_H
#define WN_NET_INTERNAL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "base/vec.h"
#include "daemon/net/net.h"

struct bufferevent;
struct evbuffer;
struct wn_h1;
struct wn_h2;

enum {
    WN_OUT_HIGH = 256 * 1024,              /* bytes in a socket's output buffer above which we stop producing */
    WN_OUT_LOW = 64 * 1024,                /* ... and below which we go on */
    WN_CONN_QUEUED_MAX = 64 * 1024 * 1024, /* response bytes waiting for one peer; past it new streams are refused */
    WN_PACE_FLOOR = 1024,                  /* bytes per second that count as progress */
    WN_COPY_MAX = 4096,                    /* smaller pieces are copied, larger ones referenced */
};
enum { WN_PEER_BUCKETS = 16384, WN_BLAMED = 64, WN_RESERVE_BYTES = 256 * 1024 };
#define WN_NEVER UINT64_MAX

/** Progress of one direction, sampled by the connection's timer: no cost per byte. */
struct wn_pace {
    uint64_t mark;     /* total at the last progress */
    uint64_t since_ns; /* when that was; 0 = not watching */
};

struct wn_counters {
    atomic_uint_fast64_t open, total, refused, xs_open, xs_total, xs_gone, errors, limits, in, out;
    atomic_uint_fast64_t tls_open, tls_12, tls_13, tls_resumed, tls_failed;
};
static inline void wn_count(atomic_uint_fast64_t *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

struct wn_listener {
    struct wn_listener *next;
    struct wn_net *net;
    int fd;
    struct event ev; /* of loop 0 */
};

struct wn_loop {
    unsigned magic;
#define WN_LOOP_MAGIC 0x6c0075a1u
    unsigned index;
    struct wn_net *net;
    struct event_base *base;
    pthread_t thread;
    bool threaded;
    bool stop;
    /* mailbox: newest first; any thread */
    _Atomic(struct wn_msg *) inbox;
    int wake_fd;
    struct event wake_ev;
    struct event tick_ev;
    atomic_uint_fast64_t turned_ns; /* last tick */
    struct wn_net_opts opts;        /* this loop's copy */
    /* connections by slot; id = serial << 20 | slot */
    struct wn_conn **slot;
    uint32_t *free_slot;
    size_t n_slots, n_free;
    uint64_t serial;
    size_t n_conns;
    struct wn_conn *dirty, **dirty_end;
    /* what new connections find, and those that are in their handshake, oldest first */
    struct wn_tls *tls;
    enum wn_tls_mode tls_mode;
    struct wn_conn *shaking, *shaking_last;
    unsigned n_shaking;
    /* drain */
    struct wn_msg drain_msg;
    bool draining, drained;
    struct event cut_ev;
    /* scratch of the thread: response heads are built here */
    WN_VEC(char) text;
    char date[32];
    int64_t date_s;
    /* what nghttp2 gets when malloc fails, see h2_mem.c */
    char *reserve;
    size_t reserve_used, reserve_pieces;
    struct wn_counters counters;
    uint64_t blamed_until_ns[WN_BLAMED]; /* by hash of the peer: the log names each once a minute */
    uint64_t unblamed;                   /* lines left out since the last one */
};

struct wn_net {
    unsigned magic;
#define WN_NET_MAGIC 0x7e1ab00bu
    struct wn_handler handler;
    unsigned n_loops;
    struct wn_loop *loops;
    atomic_size_t n_conns;  /* accepted and not yet closed, all loops */
    atomic_size_t buffered; /* collected request bytes, all loops */
    /* connections by keyed hash of the peer's address: two peers in one bucket share its limit, which is rare (as many
     * buckets as connections) and cannot be aimed at */
    atomic_uint *peers;
    uint64_t peer_secret;
    /* loop 0 */
    struct wn_listener *listeners;
    unsigned next_loop;
    int spare_fd;
    struct event retry_ev;
    bool backing_off;
    /* drain */
    atomic_bool drain_asked;
    uint64_t grace_us;
    atomic_uint drain_left; /* loops that still have connections */
    void (*drain_done)(void *arg);
    void *drain_arg;
};

/** What a protocol does for its connections. */
struct wn_proto {
    const char *name;
    /** Do all that can be done now: parse input, produce output, end exchanges, choose whether to read. */
    void (*turn)(struct wn_conn *conn);
    /** The peer closed its side; bytes it sent before were parsed. */
    void (*eof)(struct wn_conn *conn);
    /** Timeouts of the protocol's own; returns when to look again. */
    uint64_t (*check)(struct wn_conn *conn, uint64_t now);
    void (*drain)(struct wn_conn *conn);
    void (*done)(struct wn_conn *conn);
    /* responses */
    void (*start)(struct wn_exchange *x, const struct wn_header *headers, size_t n, int64_t length);
    void (*write)(struct wn_exchange *x, struct wn_bytes bytes);
    void (*finish)(struct wn_exchange *x, const struct wn_header *trailers, size_t n);
    void (*abort)(struct wn_exchange *x);
    void (*consumed)(struct wn_exchange *x, size_t n);
    void (*go_on)(struct wn_exchange *x); /* the body is wanted: 100 Continue */
    size_t (*queued)(const struct wn_exchange *x);
};
extern const struct wn_proto wn_h1_proto, wn_h2_proto;

struct wn_conn {
    unsigned magic;
#define WN_CONN_MAGIC 0x1c0224d7u
    uint64_t id;
    struct wn_loop *loop;
    struct bufferevent *bev; /* NULL: the first byte has not told TLS from clear text */
    int fd;
    const struct wn_proto *proto; /* NULL: still sniffing */
    struct event aux_ev;          /* the first byte; then: the end of a TLS peer's bytes, once they are in the input */
    struct wn_conn *shaking_prev, *shaking_next;
    bool tls, shaking;
    union {
        struct wn_h1 *h1;
        struct wn_h2 *h2;
    };
    struct wn_exchange *xs; /* open ones */
    size_t n_xs;
    struct event check_ev;
    uint64_t check_at;
    uint64_t since_ns;     /* waiting for a head (H1) or idle (H2) since */
    uint64_t linger_until; /* our side is shut down; input is discarded until then; 0 = no */
    unsigned peer_bucket;  /* in net->peers */
    uint64_t out_total;    /* bytes ever appended to the output */
    uint64_t in_total;
    struct wn_pace out_pace;
    size_t queued; /* response bytes held by exchanges (H2) */
    struct wn_conn *dirty_next;
    bool dirty, dead, reading, eof;
    char peer[64];
};

/** A piece of a response waiting in an exchange (H2). */
struct wn_chunk {
    struct wn_chunk *next;
    struct wn_bytes bytes;
    size_t at; /* first byte not sent */
    char copy[];
};

enum wn_body_mode { WN_BODY_DISCARD, WN_BODY_COLLECT, WN_BODY_STREAM };
enum wn_response_state {
    WN_RESPONSE_NONE,    /* the handler has not answered */
    WN_RESPONSE_OPEN,    /* head given, more may come */
    WN_RESPONSE_FINISHED /* everything given; maybe not sent yet */
};

struct wn_exchange {
    unsigned magic;
#define WN_EXCHANGE_MAGIC 0xe8c0ffe3u
    struct wn_conn *conn;
    uint64_t stream; /* H1: number of the request on its connection; H2: stream id */
    struct wn_exchange *prev, *next;
    /* head: strings live in text; header[] holds offsets until wn_exchange_head() turns them into pointers */
    WN_VEC(char) text;
    WN_VEC(struct wn_header) header;
    size_t head_bytes; /* names and values */
    size_t method_at, path_at, query_at;
    int64_t content_length;
    uint64_t start_ns;
    void *data;
    /* request */
    enum wn_body_mode mode;
    struct wn_body_sink sink;
    uint64_t body_max, body_seen;
    size_t unconsumed; /* given to the sink, not yet consumed */
    char *body;
    size_t body_n, body_cap; /* body_cap is counted in net->buffered */
    bool head_told;          /* on_head was called */
    bool in_head;            /* we are inside it */
    bool req_ended;
    bool allow_idle;
    bool detached;  /* the handler was told on_gone: net answers by itself */
    int refuse;     /* status to refuse with after on_head; 0 = none */
    bool grpc;      /* content-type application/grpc… */
    bool head_only; /* HEAD */
    bool too_large; /* head over a limit */
    bool bodyless;  /* the response has no body (HEAD, 204, 304) */
    /* response */
    enum wn_response_state response;
    int status;
    uint64_t sent;
    struct wn_chunk *chunk, **chunk_end;
    size_t queued;
    bool above_high, want_drain;
    bool deferred;     /* H2: the data provider waits for us */
    bool eof_sent;     /* H2: END_STREAM is out */
    uint64_t reset_ns; /* H2: when to reset a stream that was answered early; 0 = no */
    void *trailer;     /* H2: nghttp2_nv[n_trailers] and their strings, one block */
    size_t n_trailers;
    struct wn_pace recv_pace, send_pace;
};

/* ---- loop.c ---- */
WINNOW_MUST_USE enum winnow_status wn_loop_init(struct wn_loop *loop, struct wn_net *net, unsigned index,
                                                const struct wn_net_opts *opts, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_loop_start(struct wn_loop *loop, struct winnow_err *err);
/** Stop the thread, if there is one, close the connections, run what is left in the mailbox. */
void wn_loop_done(struct wn_loop *loop);
/** One pass without waiting, on the caller's thread, for loops that were not started (fuzzing). */
void wn_loop_turn(struct wn_loop *loop);
/** Give every dirty connection its turn. */
void wn_loop_settle(struct wn_loop *loop);
WINNOW_MUST_USE bool wn_loop_add_conn(struct wn_loop *loop, struct wn_conn *conn);
void wn_loop_remove_conn(struct wn_loop *loop, struct wn_conn *conn);
struct wn_conn *wn_loop_conn(struct wn_loop *loop, uint64_t id);
/** Start draining this loop; see wn_net_drain(). */
void wn_loop_drain(struct wn_loop *loop);
/** IMF-fixdate of now. */
const char *wn_loop_date(struct wn_loop *loop);

/* ---- net.c ---- */
/** Defaults in place of zeros. */
struct wn_net_opts wn_net_opts_fill(const struct wn_net_opts *opts);
void wn_net_stop_listening(struct wn_net *net); /* loop 0 */
void wn_net_loop_drained(struct wn_net *net);
/** The bucket of a peer's address in net->peers. */
unsigned wn_net_peer_bucket(const struct wn_net *net, const struct sockaddr *peer);
/** A net whose loops have no threads: the caller turns them (fuzzing). */
WINNOW_MUST_USE enum winnow_status wn_net_new_idle(const struct wn_net_opts *opts, const struct wn_handler *handler,
                                                   struct wn_net **ret_net, struct winnow_err *err);

/* ---- conn.c ---- */
/** Take over a connected socket (closed on failure too) that is counted in n_conns and in `bucket` of peers. On the
 *  loop. */
void wn_conn_adopt(struct wn_loop *loop, int fd, const struct sockaddr *peer, unsigned bucket);
/** Log, once a minute per peer, that it broke a rule or ran into a limit. */
void wn_conn_blame(struct wn_conn *conn, const char *why);
void wn_conn_dirty(struct wn_conn *conn);
/** Close at the next settle, with nothing more sent. */
void wn_conn_kill(struct wn_conn *conn);
/** The same where all was sent that there was to send: a TLS peer is told that this is the end. */
void wn_conn_finish(struct wn_conn *conn);
void wn_conn_free(struct wn_conn *conn);
void wn_conn_send(struct wn_conn *conn, const void *p, size_t n);
/** Takes `bytes` over. */
void wn_conn_send_bytes(struct wn_conn *conn, struct wn_bytes bytes);
size_t wn_conn_out(const struct wn_conn *conn);
struct evbuffer *wn_conn_in(const struct wn_conn *conn);
void wn_conn_reading(struct wn_conn *conn, bool on);
/** Shut our side down and discard input for a while, so that what we said arrives. */
void wn_conn_linger(struct wn_conn *conn);
/** Look at the deadlines not later than `at` (ns). */
void wn_conn_wake_by(struct wn_conn *conn, uint64_t at);
/** Did `total` grow fast enough? False: stalled for `timeout_us`. Lowers *next to when to look again. */
bool wn_pace_ok(struct wn_pace *pace, uint64_t total, uint64_t now, uint64_t timeout_us, uint64_t *next);

/* ---- exchange.c ---- */
struct wn_exchange *wn_exchange_new(struct wn_conn *conn, uint64_t stream);
/** Append to text, NUL-terminated; SIZE_MAX when out of memory. */
size_t wn_exchange_text(struct wn_exchange *x, const char *s, size_t n);
/** Add a header (the name is lowered); false when out of memory. Past a limit sets too_large and stores nothing. */
WINNOW_MUST_USE bool wn_exchange_add_header(struct wn_exchange *x, const char *name, size_t name_len, const char *value,
                                            size_t value_len);
/** Set method and target (path[?query]); false when out of memory. */
WINNOW_MUST_USE bool wn_exchange_set_target(struct wn_exchange *x, const char *method, size_t method_len,
                                            const char *target, size_t target_len);
/** Whether a Host, or an authority, may be one: no list, path or user in it.  Source: RFC 9110, 4.2 and 7.2. */
bool wn_host_valid(const char *host);
/** The head is complete: fix pointers, read content-length. Returns 0, or the status to refuse the request with. */
int wn_exchange_head(struct wn_exchange *x);
/** Call on_head, and refuse what it asked to have refused. */
void wn_exchange_dispatch(struct wn_exchange *x);
/** Body bytes; returns how many are consumed already. */
size_t wn_exchange_feed(struct wn_exchange *x, const void *p, size_t n);
/** The request is complete. */
void wn_exchange_request_end(struct wn_exchange *x);
/** Answer in the handler's place: on_gone, then `status` with a JSON error (gRPC: trailers only). */
void wn_exchange_refuse(struct wn_exchange *x, int status, const char *text);
/** It is over: on_done or on_gone, unlink, free. */
void wn_exchange_end(struct wn_exchange *x, bool complete);
void wn_bytes_release(struct wn_bytes bytes);
/** Copy a header value for the wire: edges trimmed, control bytes replaced. Returns its length. */
size_t wn_header_clean(char *to, const char *value, size_t n);
/** Headers that only net writes: connection, transfer-encoding, content-length, date, keep-alive, upgrade. */
bool wn_header_is_ours(const struct wn_header *h);
const char *wn_status_reason(int status);

#endif
