/* api.c: a request's life: from an exchange's head to a handler, over other threads and back, to its end.
 *
 * LIFE   A request holds itself while its exchange is open, while one of our functions is on the stack, and once for
 *        every thing that other threads do for it. It is freed on its loop when the last of these ends.
 * LOCKS  api->lock guards the queue of the workers; it is a leaf. Settings that handlers read are atomics. */
#include "daemon/api/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/cpus.h"
#include "base/log.h"
#include "daemon/api/text.h"

#define REQ_MAGIC 0x77a9140du
/** Arena of one request; a body's own tensors are bounded by the body's size beside it. */
#define REQ_ARENA ((size_t)1 << 30)

/* ---- life ---- */
static void req_unhold(struct wn_req *req)
{
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    if (--req->holds)
        return;
    struct wn_req *parent = req->parent;
    if (req->free_state)
        req->free_state(req->state);
    wn_auth_forget(req);
    atomic_fetch_sub(&req->api->inflight, 1);
    wn_arena_done(&req->arena);
    free(req->orphan);
    wn_inflated_done(&req->inflated, &req->api->inflated);
    wn_inflated_done(&req->came, &req->api->inflated);
    req->magic = 0;
    free(req);
    if (parent)
        req_unhold(parent);
}

static struct wn_req *req_new(struct wn_api *api, struct wn_exchange *x)
{
    struct wn_req *req = calloc(1, sizeof *req);
    if (!req)
        return NULL;
    req->magic = REQ_MAGIC;
    req->api = api;
    req->x = x;
    req->loop = wn_exchange_loop(x);
    req->start_ns = wn_exchange_start_ns(x);
    req->holds = 1;
    wn_arena_init(&req->arena, REQ_ARENA);
    wn_exchange_set_data(x, req);
    atomic_fetch_add(&api->inflight, 1);
    return req;
}

struct wn_req *wn_req_child(struct wn_req *parent, wn_handle_fn *handle)
{
    struct wn_req *req = calloc(1, sizeof *req);
    if (!req)
        return NULL;
    req->magic = REQ_MAGIC;
    req->api = parent->api;
    req->x = parent->x;
    req->loop = parent->loop;
    req->route = parent->route;
    req->start_ns = wn_now_ns();
    req->deadline_ns = parent->deadline_ns;
    req->rpc = true;
    req->holds = 1;
    req->handle = handle;
    req->parent = parent;
    req->auth = parent->auth;
    req->tokens = wn_tokens_ref(parent->tokens);
    req->token = parent->token;
    parent->holds++;
    wn_arena_init(&req->arena, REQ_ARENA);
    atomic_fetch_add(&req->api->inflight, 1);
    return req;
}

void wn_req_call(struct wn_req *req, wn_handle_fn *fn)
{
    req->holds++;
    fn(req);
    req_unhold(req);
}

/* ---- the exchange's callbacks ---- */
static bool is_grpc(const struct wn_exchange *x)
{
    const struct wn_header *type = wn_exchange_header(x, "content-type");
    return type && type->value_len >= 16 && strncasecmp(type->value, "application/grpc", 16) == 0 &&
           (type->value_len == 16 || type->value[16] == '+' || type->value[16] == ';');
}

/** A page of another site may make a browser send requests here. Browsers say so by Origin: only the server's own pages
 *  may do more than look, and (against names that are made to resolve to us) only under an address or localhost. */
static bool origin_allowed(struct wn_req *req)
{
    const char *origin = wn_req_header(req, "origin"), *host = wn_req_header(req, ":authority");
    if (!origin || req->route->scope == WN_SCOPE_none)
        return true;
    if (!host)
        host = wn_req_header(req, "host");
    const char *at = strstr(origin, "://");
    if (!at || !host || strcasecmp(at + 3, host) != 0)
        return false;
    return !atomic_load(&req->api->loopback_only) || strncasecmp(host, "localhost", 9) == 0 || *host == '[' ||
           strspn(host, "0123456789.:") == strlen(host);
}

static void start_rpc(struct wn_req *req)
{
    struct wn_exchange *x = req->x;
    struct winnow_err err;
    const char *allow;
    if (strcmp(wn_exchange_protocol(x), "HTTP/2") != 0) {
        wn_reply_http_error(req, 415, "gRPC needs HTTP/2");
    } else if (wn_route_match(wn_exchange_method(x), wn_exchange_path(x), true, &req->arena, &req->route, req->param,
                              &allow, &err) != WINNOW_OK) {
        req->rpc = true;
        wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "unknown service or method %.150s", wn_exchange_path(x));
    } else {
        req->rpc = true;
        if (!origin_allowed(req))
            wn_reply_fail(req, WINNOW_E_DENIED, "a page of another site may not do this");
        else if (!wn_auth_admit(req))
            return;
        else if (req->route->stream)
            req->route->handle(req);
        else
            wn_exchange_collect(x, atomic_load(&req->api->max_body) + 5);
    }
}

static void start_http(struct wn_req *req)
{
    struct wn_exchange *x = req->x;
    struct winnow_err err;
    const char *allow = NULL;
    enum winnow_status s = wn_route_match(wn_exchange_method(x), wn_exchange_path(x), false, &req->arena, &req->route,
                                          req->param, &allow, &err);
    if (s == WINNOW_E_CONFLICT) {
        wn_reply_not_allowed(req, allow);
        return;
    }
    if (s != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    if (!origin_allowed(req)) {
        wn_reply_fail(req, WINNOW_E_DENIED, "a page of another site may not do this");
        return;
    }
    if (!wn_auth_admit(req))
        return;
    const struct wn_header *coding = wn_exchange_header(x, "content-encoding");
    if (coding && (req->route->body == WN_BODY_SMALL || req->route->body == WN_BODY_INFER))
        req->coding = wn_coding_named(coding->value, coding->value_len);
    if (req->coding == WN_CODING_UNKNOWN) {
        wn_reply_bad_coding(req, coding);
        return;
    }
    switch (req->route->body) {
    case WN_BODY_NONE:
    case WN_BODY_STREAM:
        req->route->handle(req);
        break;
    case WN_BODY_SMALL:
        wn_exchange_collect(x, WN_SMALL_BODY);
        break;
    case WN_BODY_INFER:
        wn_exchange_collect(x, atomic_load(&req->api->max_body));
        break;
    }
}

static void on_head(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = req_new(arg, x);
    if (!req) {
        wn_exchange_reply(x, 503, NULL, 0, (struct wn_bytes){ 0 });
        return;
    }
    wn_req_call(req, is_grpc(x) ? start_rpc : start_http);
}

/* ---- compressed bodies ---- */
static size_t decoded_max(const struct wn_req *req)
{
    return !req->rpc && req->route->body == WN_BODY_SMALL ? WN_SMALL_BODY : atomic_load(&req->api->max_body);
}

/** On a worker, or on the loop. What went wrong is kept in the request's arena. */
static void decode(struct wn_req *req)
{
    struct winnow_err err = { 0 };
    if (wn_coding_inflate(req->coding, req->body, req->body_n, decoded_max(req), &req->api->inflated, &req->inflated,
                          &err) == WINNOW_OK)
        return;
    req->state = wn_arena_memdup(&req->arena, &err, sizeof err);
}

static void decoded(struct wn_req *req)
{
    struct winnow_err *err = WN_TAKE(req->state);
    size_t n;
    if (!req->x)
        return;
    if (err && req->rpc && err->status == WINNOW_E_MALFORMED)
        wn_reply_rpc_error(req, 13, err->msg);
    else if (err)
        wn_reply_err(req, err);
    else if (!req->inflated.cap)
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
    else {
        if (req->parent)
            wn_inflated_done(&req->came, &req->api->inflated);
        else
            free(wn_exchange_take_body(req->x, &n));
        req->body = req->inflated.at;
        req->body_n = req->inflated.n;
        req->handle(req);
    }
}

void wn_req_take_body(struct wn_req *req)
{
    if (req->coding == WN_CODING_IDENTITY) {
        req->handle(req);
    } else if (req->body_n <= WN_INLINE_DECODE) {
        decode(req);
        decoded(req);
    } else if (!wn_req_work(req, decode, decoded)) {
        wn_reply_fail(req, WINNOW_E_OVERLOAD, "too many requests wait for a decoder, retry later");
    }
}

static void on_end(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = wn_exchange_data(x);
    if (!req || !req->route)
        return;
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    req->body = wn_exchange_body(x, &req->body_n);
    if (req->rpc && !wn_rpc_unframe(req))
        return;
    req->handle = req->route->handle;
    wn_req_call(req, wn_req_take_body);
}

static void log_access(struct wn_req *req, int status)
{
    struct wn_exchange *x = req->x;
    wn_api_count(req->api, status);
    if (!atomic_load(&req->api->log_access) && !wn_log_area("access"))
        return;
    wn_info("request",
            "peer=%s token=%s protocol=%s tls=%s method=%s path=%s status=%d bytes=%llu us=%llu generation=%s",
            wn_exchange_peer(x), req->token ? req->token->id : "-", wn_exchange_protocol(x),
            wn_exchange_tls(x) ? wn_exchange_tls(x) : "-", wn_exchange_method(x), wn_exchange_path(x), status,
            (unsigned long long)wn_exchange_sent(x), (unsigned long long)((wn_now_ns() - req->start_ns) / 1000),
            req->made.generation);
}

static void on_done(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = wn_exchange_data(x);
    if (!req)
        return;
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    log_access(req, wn_exchange_status(x));
    req->x = NULL;
    wn_exchange_set_data(x, NULL);
    req_unhold(req);
}

static void on_gone(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = wn_exchange_data(x);
    if (!req)
        return;
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    log_access(req, 499);
    req->x = NULL;
    req->gone = true;
    if (req->holds > 1 && req->body) { /* somebody still reads it; as long as the client was there, net counted it */
        size_t n;
        req->orphan = wn_exchange_take_body(x, &n);
    }
    wn_exchange_set_data(x, NULL);
    if (req->on_gone)
        req->on_gone(req);
    req_unhold(req);
}

static void on_drain(struct wn_exchange *x, void *arg)
{
    struct wn_req *req = wn_exchange_data(x);
    if (req && req->on_drain)
        wn_req_call(req, req->on_drain);
}

/* ---- other threads ---- */
void wn_req_hold(struct wn_req *req)
{
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    req->holds++;
}

void wn_req_drop(struct wn_req *req)
{
    req_unhold(req);
}

static void run_posted(struct wn_loop *loop, struct wn_msg *msg)
{
    struct wn_req *req = WN_CONTAINER_OF(msg, struct wn_req, msg);
    WN_CHECK_MAGIC(req, REQ_MAGIC);
    req->then(req);
    req_unhold(req);
}

void wn_req_post(struct wn_req *req, wn_handle_fn *then)
{
    req->then = then;
    req->msg.run = run_posted;
    wn_loop_post(req->loop, &req->msg);
}

bool wn_req_work(struct wn_req *req, void (*work)(struct wn_req *req), wn_handle_fn *then)
{
    struct wn_api *api = req->api;
    req->work = work;
    req->then = then;
    req->next_work = NULL;
    pthread_mutex_lock(&api->lock);
    bool room = api->n_work < WN_API_MAX_WORK && !api->stop;
    if (room) {
        req->holds++;
        api->n_work++;
        *api->work_end = req;
        api->work_end = &req->next_work;
        pthread_cond_signal(&api->more);
    }
    pthread_mutex_unlock(&api->lock);
    return room;
}

static void *worker(void *arg)
{
    struct wn_api *api = arg;
    pthread_mutex_lock(&api->lock);
    for (;;) {
        while (!api->work && !api->stop)
            pthread_cond_wait(&api->more, &api->lock);
        struct wn_req *req = api->work;
        if (!req)
            break;
        api->work = req->next_work;
        if (!api->work)
            api->work_end = &api->work;
        api->n_work--;
        pthread_mutex_unlock(&api->lock);
        req->work(req);
        wn_req_post(req, req->then);
        pthread_mutex_lock(&api->lock);
    }
    pthread_mutex_unlock(&api->lock);
    return NULL;
}

/* ---- the api ---- */
enum winnow_status wn_api_new(const struct wn_config *cfg, struct wn_serve *serve, struct wn_api **ret_api,
                              struct winnow_err *err)
{
    struct wn_api *api = calloc(1, sizeof *api);
    if (!api)
        return wn_fail(err, WINNOW_E_NOMEM, "api");
    api->serve = serve;
    api->handler = (struct wn_handler){ on_head, on_end, on_gone, on_done, on_drain, api };
    api->work_end = &api->work;
    api->start_s = (uint64_t)time(NULL);
    pthread_mutex_init(&api->lock, NULL);
    pthread_mutex_init(&api->auth.lock, NULL);
    pthread_cond_init(&api->more, NULL);
    wn_api_reconfigure(api, cfg);
    atomic_store(&api->loopback_only, cfg->server.auth == WN_AUTH_LOOPBACK);
    const unsigned cpus = wn_cpus();
    unsigned want = cpus >= 8 ? 4 : cpus >= 4 ? 2 : 1;
    for (; api->n_workers < want; api->n_workers++) {
        int e = pthread_create(&api->worker[api->n_workers], NULL, worker, api);
        if (e) {
            wn_api_free(api);
            return wn_fail_errno(err, e, "api worker");
        }
    }
    *ret_api = api;
    return WINNOW_OK;
}

void wn_api_stop_work(struct wn_api *api)
{
    pthread_mutex_lock(&api->lock);
    api->stop = true;
    pthread_cond_broadcast(&api->more);
    pthread_mutex_unlock(&api->lock);
    for (; api->n_workers; api->n_workers--)
        pthread_join(api->worker[api->n_workers - 1], NULL);
}

void wn_api_free(struct wn_api *api)
{
    if (!api)
        return;
    wn_api_stop_work(api);
    pthread_cond_destroy(&api->more);
    pthread_mutex_destroy(&api->lock);
    pthread_mutex_destroy(&api->auth.lock);
    wn_tokens_unref(api->auth.tokens);
    free(api);
}

void wn_api_reconfigure(struct wn_api *api, const struct wn_config *cfg)
{
    atomic_store(&api->max_body, (size_t)cfg->server.max_body);
    atomic_store(&api->inflated.max, (size_t)cfg->server.max_buffered);
    atomic_store(&api->timeout_us, cfg->batch.timeout);
    atomic_store(&api->log_access, cfg->log.access);
    atomic_store(&api->log_level, WN_LOG_ERROR + (unsigned)cfg->log.level);
}

const struct wn_handler *wn_api_handler(struct wn_api *api)
{
    return &api->handler;
}

void wn_api_set_net(struct wn_api *api, struct wn_net *net)
{
    atomic_store(&api->net, net);
}

void wn_api_set_certificate_end(struct wn_api *api, int64_t end_s)
{
    atomic_store(&api->certificate_end_s, end_s);
}

void wn_api_set_ready(struct wn_api *api, bool ready)
{
    atomic_store(&api->ready, ready);
}

bool wn_api_is_ready(const struct wn_api *api)
{
    return atomic_load(&api->ready) && wn_serve_ready(api->serve);
}

unsigned wn_api_inflight(const struct wn_api *api)
{
    return atomic_load(&api->inflight);
}

struct wn_serve *wn_api_serve(const struct wn_api *api)
{
    return api->serve;
}

struct wn_jobs *wn_api_jobs(const struct wn_api *api)
{
    return api->jobs;
}

void wn_api_set_jobs(struct wn_api *api, struct wn_jobs *jobs)
{
    api->jobs = jobs;
}

void wn_api_add_metrics(struct wn_api *api, wn_metrics_fn *write, void *arg)
{
    if (api->n_metrics < WN_COUNT(api->metrics))
        api->metrics[api->n_metrics++] = (struct wn_api_metrics){ write, arg };
}
