/* internal.h: what the files of daemon/api share, and nobody else sees. */
#ifndef WN_API_INTERNAL_H
#define WN_API_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include "daemon/api/api.h"
#include "daemon/api/auth.h"

/** Requests that wait for a worker; more are answered 429. */
#define WN_API_MAX_WORK 256u
/** What metadata and configuration call models that winnow runs. */
#define WN_API_PLATFORM "winnow_onnx"

struct wn_api_metrics {
    wn_metrics_fn *write;
    void *arg;
};

struct wn_api {
    struct wn_serve *serve;
    struct wn_jobs *jobs;
    struct wn_net *_Atomic net;
    struct wn_handler handler;
    struct wn_auth auth;
    atomic_bool ready, loopback_only, log_access;
    atomic_size_t max_body;
    _Atomic uint64_t timeout_us;
    atomic_uint log_level; /* enum wn_log_level */
    atomic_uint inflight;
    struct wn_coding_budget inflated; /* decoded bodies, all together */
    atomic_ullong answered[6];        /* by first digit of the status: answered[2] are the 2xx; [0]: client gone */
    uint64_t start_s;
    _Atomic int64_t certificate_end_s; /* 0: none */
    struct wn_api_metrics metrics[4];
    unsigned n_metrics;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t more;
    struct wn_req *work, **work_end;
    unsigned n_work;
    bool stop;
    pthread_t worker[4];
    unsigned n_workers;
};

/** Compressed bytes that a loop decodes, and plain bytes that it encodes, by itself: a millisecond or two at most. */
#define WN_INLINE_DECODE ((size_t)2 << 10)
#define WN_INLINE_ENCODE ((size_t)64 << 10)
/** Smaller bodies are not worth encoding. */
#define WN_ENCODE_MIN ((size_t)256)
/* ---- messages of streams; rpc_stream.c ---- */
/** A request for one message of a stream: on its exchange, with an arena of its own, held once by the caller. NULL: out
 *  of memory. */
struct wn_req *wn_req_child(struct wn_req *parent, wn_handle_fn *handle);
/** Call `fn` with the request alive until it returns. */
void wn_req_call(struct wn_req *req, wn_handle_fn *fn);
/** Decode the body where it is compressed, then call the handler. */
void wn_req_take_body(struct wn_req *req);
/** What wn_reply_rpc() and errors become for a message of a stream. */
void wn_rpc_message_answer(struct wn_req *msg, struct wn_buf *frame, enum wn_coding coding);
void wn_rpc_message_fail(struct wn_req *msg, int code, const char *text);
/** No room for this message now: call `again` when something else of its stream was answered. False: nothing is under
 *  way that would be. */
WINNOW_MUST_USE bool wn_rpc_message_wait(struct wn_req *msg, wn_handle_fn *again);
/** Write the head into the 5 bytes of room of a frame, and take it. */
struct wn_bytes wn_rpc_frame(struct wn_buf *frame, enum wn_coding coding);

/** Count an answer (499: the client left). */
void wn_api_count(struct wn_api *api, int status);
/** 415: a Content-Encoding that we lack, with those we have. */
void wn_reply_bad_coding(struct wn_req *req, const struct wn_header *coding);
/** 405 with an Allow header. */
void wn_reply_not_allowed(struct wn_req *req, const char *allow);
/** wn_reply_buf() with more headers (at most 4). */
void wn_reply_buf_with(struct wn_req *req, int status, const char *content_type, const struct wn_header *more,
                       size_t n_more, struct wn_buf *body);
/** An RPC's error with a code of its own. */
void wn_reply_rpc_error(struct wn_req *req, int code, const char *text);
/** Replace the body of an RPC by the message in it, and find its coding; false: the request has been answered. */
bool wn_rpc_unframe(struct wn_req *req);
/** When the request must be answered (wn_now_ns() time), from its headers, `timeout_us` of its parameters (0: none) and
 *  the default. */
WINNOW_MUST_USE enum winnow_status wn_req_deadline(struct wn_req *req, uint64_t timeout_us, uint64_t *ret_ns,
                                                   struct winnow_err *err);

#endif
