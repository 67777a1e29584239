/* api.h: from exchanges to requests: routes and RPCs, replies and errors, for every handler of the daemon.
 *
 * A handler is listed in routes.def (or in daemon/jobs/routes.def, which the table includes when it is there) and gets
 * a struct wn_req: the exchange, its path parameters and, for SMALL and INFER bodies, the body. It replies at once, or
 * holds the request, lets another thread work, and replies when that thread has posted it back.
 *
 * THREADS  handlers and everything here run on the loop that owns the exchange, except wn_req_post(),
 *   wn_api_set_ready(), wn_api_inflight() and the work of wn_req_work(). */
#ifndef WN_API_H
#define WN_API_H

#include <jansson.h>
#include "base/arena.h"
#include "base/tokens.h"
#include "config/config.h"
#include "daemon/api/buf.h"
#include "daemon/api/coding.h"
#include "daemon/net/net.h"
#include "daemon/serve/serve.h"

#define WN_MAX_PARAMS 4
#define WN_SMALL_BODY ((size_t)1 << 20)

struct wn_api;
struct wn_req;
struct wn_rpc_message;
typedef void wn_handle_fn(struct wn_req *req);

enum wn_body_kind { WN_BODY_NONE, WN_BODY_SMALL, WN_BODY_INFER, WN_BODY_STREAM };

/** One line of routes.def. An RPC has method "POST" and the pattern "/SERVICE/METHOD". */
struct wn_route {
    const char *method, *pattern;
    wn_handle_fn *handle;
    enum wn_body_kind body;
    enum wn_scope scope;
    bool rpc, stream; /* stream: the handler is called at the head, see rpc_stream.h */
    const char *text;
};
/** All of them; `ret_n` of them. */
const struct wn_route *wn_routes(size_t *ret_n);

/** Match a path (percent-encoded, without query) and method.
 *  @param param      [WN_MAX_PARAMS] set to percent-decoded copies in `arena`
 *  @param ret_route  set on success only
 *  @return WINNOW_OK; E_NOT_FOUND (no such path); E_CONFLICT (the path exists, but not with this method: `ret_allow` is
 *          a list for the Allow header, in `arena`); E_MALFORMED (bad percent-encoding, or a name with a NUL or a '/'),
 *          E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_route_match(const char *method, const char *path, bool rpc,
                                                  struct wn_arena *arena, const struct wn_route **ret_route,
                                                  const char *param[WN_MAX_PARAMS], const char **ret_allow,
                                                  struct winnow_err *err);

/** Which generation made a response; written into its headers. All strings "" until a generation was taken. */
struct wn_made {
    char version[24], generation[24], digest[80];
};

/** One request. Lives until its response left (or its client) and nobody holds it any more. */
struct wn_req {
    unsigned magic;
    struct wn_api *api;
    struct wn_exchange *x; /* NULL when the response is complete or the client gone */
    struct wn_loop *loop;
    const struct wn_route *route;     /* NULL: no such path */
    struct wn_req *parent;            /* this is one message of that stream; NULL: a request of its own */
    const char *param[WN_MAX_PARAMS]; /* percent-decoded, in the order of the pattern */
    const void *body; /* collected body, decoded, as long as the request lives; for an RPC: its message */
    size_t body_n;
    uint64_t start_ns;
    struct wn_arena arena; /* released with the request */
    struct wn_made made;
    struct wn_tokens *tokens;     /* those in force when it came; a reference */
    const struct wn_token *token; /* whose it is, of `tokens`; NULL: nobody's */
    bool auth;                    /* tokens are asked for */
    bool rpc;                     /* gRPC: errors are trailers */
    bool gone;                    /* the client left */
    enum wn_coding coding;        /* of the body as it came; an RPC is answered in the same */
    uint64_t deadline_ns;         /* of the stream, 0: none */
    struct winnow_str id;         /* of an inference; errors inside a stream tell it */

    /* For handlers: their own state, told when the client leaves, released with the request. Both may be NULL. */
    void *state;
    void (*on_gone)(struct wn_req *req);
    void (*on_drain)(struct wn_req *req); /* the peer took what was queued: a response in pieces goes on */
    void (*free_state)(void *state);

    /* private to api.c */
    unsigned holds;
    wn_handle_fn *handle;
    struct wn_rpc_message *message;
    struct wn_inflated came; /* a stream's message as it came */
    void *orphan;            /* the body's memory, when the client left before the work on it was over */
    struct wn_inflated inflated;
    struct wn_late *late; /* a reply that is encoded on a worker */
    struct wn_msg msg;
    wn_handle_fn *then;
    void (*work)(struct wn_req *req);
    struct wn_req *next_work;
};

/** The table's state: worker threads for what is too long for a loop, settings, counters. */
WINNOW_MUST_USE enum winnow_status wn_api_new(const struct wn_config *cfg, struct wn_serve *serve,
                                              struct wn_api **ret_api, struct winnow_err *err);
/** Let the workers finish what is queued and join them; later work is refused. Before wn_net_free(). */
void wn_api_stop_work(struct wn_api *api);
/** Join the workers, free. No exchange may be open. NULL is fine. */
void wn_api_free(struct wn_api *api);
/** The handler for wn_net_new(); lives as long as the api. */
const struct wn_handler *wn_api_handler(struct wn_api *api);
/** The net, once it is there: /metrics tells its counters. */
void wn_api_set_net(struct wn_api *api, struct wn_net *net);
/** When the server's certificate ends, seconds since 1970, 0 without one: for /metrics. */
void wn_api_set_certificate_end(struct wn_api *api, int64_t end_s);
/** Settings after a reload; copied. */
void wn_api_reconfigure(struct wn_api *api, const struct wn_config *cfg);
/** The tokens in force from the next request on (takes a reference of its own); NULL: nobody needs one. Any thread. */
void wn_api_set_tokens(struct wn_api *api, struct wn_tokens *tokens);
/** Whether /v2/health/ready may say so (false on the way down). */
void wn_api_set_ready(struct wn_api *api, bool ready);
/** Requests that are held: running or waiting on other threads. */
unsigned wn_api_inflight(const struct wn_api *api);
/** What is served. */
struct wn_serve *wn_api_serve(const struct wn_api *api);
/** Ready: models were looked at, and the server is not on its way down. */
bool wn_api_is_ready(const struct wn_api *api);
/** The state of daemon/jobs, for its handlers; NULL until it is set. */
struct wn_jobs *wn_api_jobs(const struct wn_api *api);
void wn_api_set_jobs(struct wn_api *api, struct wn_jobs *jobs);
/** Let `write` add families to /metrics; called on loop threads, must not block. At most 4, before the net starts. */
typedef void wn_metrics_fn(struct wn_buf *to, void *arg);
void wn_api_add_metrics(struct wn_api *api, wn_metrics_fn *write, void *arg);

/* ---- replies: each completes the request; nothing happens when it is complete already or the client gone. Bodies are
 * encoded as the client's Accept-Encoding says, large ones on a worker: the request must not be posted meanwhile ----
 */

/** JSON; `body` is taken (a reference is given up) and may be NULL: out of memory, answered 503. */
void wn_reply_json(struct wn_req *req, int status, json_t *body);
/** Bytes of a buffer (taken; empty afterwards). A failed buffer is answered 503. */
void wn_reply_buf(struct wn_req *req, int status, const char *content_type, struct wn_buf *body);
/** Static or copied text. */
void wn_reply_text(struct wn_req *req, int status, const char *content_type, const char *text);
/** {"error": "..."} with the status that status_wire.def gives; for an RPC grpc-status and grpc-message. */
void wn_reply_err(struct wn_req *req, const struct winnow_err *err);
/** What a client may read of an error: without the server's folders, in `shown` ([240], may be another's err.msg but
 *  not this one's). Logs the whole when something was left out, and what is the server's fault. Returns `shown`. */
const char *wn_req_error_text(const struct wn_req *req, const struct winnow_err *err, char *shown);
/** wn_fail() and wn_reply_err() in one. */
__attribute__((format(printf, 3, 4))) void wn_reply_fail(struct wn_req *req, enum winnow_status status, const char *fmt,
                                                         ...);
/** {"error": "..."} with a status of the caller's own (HTTP only). */
void wn_reply_http_error(struct wn_req *req, int status, const char *text);
/** gRPC: one message; `b` holds 5 bytes for the frame's head and the payload behind them. Taken. */
void wn_reply_rpc(struct wn_req *req, struct wn_buf *b);
/** {"error": {"message", "type", "param", "code"}} with the HTTP status of err, as OpenAI's clients read it. */
void wn_reply_v1_error(struct wn_req *req, const struct winnow_err *err, const char *param, const char *code);
/** HTTP status and gRPC code of a status. */
int wn_status_http(enum winnow_status status);
int wn_status_grpc(enum winnow_status status);

/** The SMALL body as a JSON object: a new reference, an empty object when there is no body. On failure the request has
 *  been answered, and NULL is returned. */
json_t *wn_req_json(struct wn_req *req);
/** Value of `key` in the query, percent-decoded, in the request's arena; NULL when it is not there. NOMEM; MALFORMED:
 * its encoding is bad, or hides a NUL. */
enum winnow_status wn_req_query(struct wn_req *req, const char *key, const char **ret, struct winnow_err *err);
/** Value of a header as a string in the request's arena; NULL when it is not there. */
const char *wn_req_header(struct wn_req *req, const char *name);

/* ---- work on other threads ---- */

/** Keep the request alive until wn_req_post(). On the loop. */
void wn_req_hold(struct wn_req *req);
/** Give a hold up without wn_req_post(). On the loop. */
void wn_req_drop(struct wn_req *req);
/** Back to the loop: `then` is called there with the request, and the hold ends. The client may have gone meanwhile
 *  (req->x is NULL; replies are ignored). Any thread, once per hold. */
void wn_req_post(struct wn_req *req, wn_handle_fn *then);
/** Run `work` on a worker thread, then `then` on the loop. For things of milliseconds: decoding pictures, large JSON.
 *  @return false: too much waits already, nothing was queued */
WINNOW_MUST_USE bool wn_req_work(struct wn_req *req, void (*work)(struct wn_req *req), wn_handle_fn *then);
/** Keep which generation answers; it appears in the response's headers. */
void wn_req_made(struct wn_req *req, const struct wn_gen *gen);
/** Whether the caller may use, see and name this model (NAME or NAME@VERSION). Where nobody needs a token: always. Any
 *  thread that holds the request. */
bool wn_req_may_use(const struct wn_req *req, const char *model);
/** The same as a status: E_DENIED, with the token's id and the model's name in err. On the loop. */
WINNOW_MUST_USE enum winnow_status wn_req_check_model(struct wn_req *req, const char *model, struct winnow_err *err);
/** The same, answered: true when it has been refused. On the loop. */
WINNOW_MUST_USE bool wn_req_model_refused(struct wn_req *req, const char *model);
/** For answers that go on for long: wn_req_may_use() judges by the caller's token as it is in force now. On the loop,
 *  while no other thread has the request.
 *  @return 0; or a gRPC code, err says why: UNAUTHENTICATED (revoked, or expired), PERMISSION_DENIED (it lacks the
 * route's scope now) */
WINNOW_MUST_USE int wn_req_renew(struct wn_req *req, struct winnow_err *err);
/** For uploads, which belong to no model: NULL where the caller may see all of them (nobody needs a token, or its token
 *  is for every model); else the id of its token, and it sees what that one brought. Any thread that holds the request.
 */
const char *wn_req_sees_only(const struct wn_req *req);
/** Whose token it is; NULL: nobody's. */
const char *wn_req_token_id(const struct wn_req *req);
/** The generation a request asks for: model, version (NULL or "": the live one) and the pin in its headers. On failure
 *  the request has been answered, and NULL is returned. */
struct wn_gen *wn_req_acquire(struct wn_req *req, const char *model, const char *version);
/** The same, but the caller answers. @return what wn_serve_acquire() says; E_MALFORMED, E_PRECONDITION: version or pin
 */
WINNOW_MUST_USE enum winnow_status wn_req_find(struct wn_req *req, const char *model, const char *version,
                                               struct wn_gen **ret, struct winnow_err *err);

#define ROUTE(method, path, handler, body, scope, text) wn_handle_fn handler;
#define RPC(service, method, handler, scope, text)      wn_handle_fn handler;
#define RPC_STREAM                                      RPC
#include "daemon/api/routes.def"
#undef ROUTE
#undef RPC
#undef RPC_STREAM

#endif
