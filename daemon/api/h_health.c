/* h_health.c: grpc.health.v1: Check, List and Watch. Service "": the server; a model's name: that model.
 *
 * Source: grpc/grpc doc/health-checking.md. Watch looks four times a second and tells changes; on the way down it says
 * NOT_SERVING, and the stream ends when the listeners close. It ends with PERMISSION_DENIED when the caller's token is
 * for the model no more. */
#include <string.h>
#include "daemon/api/pb.h"
#include "daemon/api/rpc.h"
#include "daemon/api/rpc_stream.h"

typedef Grpc__Health__V1__HealthCheckRequest check_request;
typedef Grpc__Health__V1__HealthCheckResponse check_response;
enum status { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

/** Not a model's name: the server. */
static bool is_server(const char *service)
{
    return !*service || strcmp(service, "inference.GRPCInferenceService") == 0;
}

/** A model's health is told to whoever may use it; to others there is no such model. */
static enum status status_of(const struct wn_req *req, const char *service)
{
    struct wn_api *api = req->api;
    if (is_server(service))
        return wn_api_is_ready(api) ? SERVING : NOT_SERVING;
    if (!wn_req_may_use(req, service))
        return SERVICE_UNKNOWN;
    struct winnow_err err = { 0 };
    struct wn_gen *gen = NULL;
    struct wn_index_entry *e = NULL;
    size_t n = 0;
    enum winnow_status s = wn_serve_acquire(api->serve, service, NULL, &gen, &err);
    wn_gen_unref(gen);
    if (s != WINNOW_E_NOT_FOUND)
        return s == WINNOW_OK && wn_api_is_ready(api) ? SERVING : NOT_SERVING;
    bool known = wn_serve_index(api->serve, service, &e, &n, NULL) == WINNOW_OK && n > 0; /* unloaded */
    wn_index_free(e, n);
    return known ? NOT_SERVING : SERVICE_UNKNOWN;
}

void wn_rpc_health_check(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    check_request *m = wn_rpc_read(req, &grpc__health__v1__health_check_request__descriptor);
    if (!m)
        return;
    enum status status = status_of(req, m->service);
    if (status == SERVICE_UNKNOWN) {
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "unknown service or model '%.100s'", m->service);
        return;
    }
    check_response r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    r.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    wn_rpc_reply(req, &r.base);
}

/* ---- List ---- */
/** One entry of map<string, HealthCheckResponse>. */
static void put_entry(struct wn_buf *to, const char *name, enum status status)
{
    wn_pb_put_head(to, 1, wn_pb_bytes_size(1, strlen(name)) + wn_pb_bytes_size(2, 2));
    wn_pb_put_bytes(to, 1, name, strlen(name));
    wn_pb_put_bytes(to, 2, (char[]){ 1 << 3, (char)status }, 2);
}

void wn_rpc_health_list(struct wn_req *req)
{
    struct winnow_err err = { 0 };
    struct wn_index_entry *e;
    size_t n;
    if (wn_serve_index(req->api->serve, NULL, &e, &n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    struct wn_buf b = { 0 };
    if (wn_buf_room(&b, 5))
        b.n = 5;
    put_entry(&b, "", status_of(req, ""));
    put_entry(&b, "inference.GRPCInferenceService", status_of(req, ""));
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || strcmp(e[i].name, e[i - 1].name) != 0) && wn_req_may_use(req, e[i].name)) /* by name, version */
            put_entry(&b, e[i].name, status_of(req, e[i].name));
    wn_index_free(e, n);
    wn_reply_rpc(req, &b);
}

/* ---- Watch ---- */
struct watch {
    const char *service;
    enum status told;
    bool mine; /* a model that the caller could use when we last looked */
};

static bool taken_away(struct wn_req *req, struct watch *w)
{
    struct winnow_err err = { 0 };
    if (!w->mine || wn_req_check_model(req, w->service, &err) == WINNOW_OK)
        return false;
    wn_rpc_stream_end(req, wn_status_grpc(err.status), err.msg);
    return true;
}

static void look(struct wn_req *req)
{
    struct watch *w = wn_rpc_stream_own(req);
    if (!w || taken_away(req, w))
        return;
    enum status now = status_of(req, w->service);
    w->mine = !is_server(w->service) && wn_req_may_use(req, w->service);
    if (now == w->told)
        return;
    struct wn_buf b = { 0 };
    w->told = now;
    wn_buf_add(&b, (char[]){ 0, 0, 0, 0, 0, 1 << 3, (char)now }, 7);
    wn_rpc_stream_send(req, &b);
}

static void start_watch(struct wn_req *msg)
{
    WN_CLEANUP(wn_rpc_freep)
    check_request *m = wn_rpc_read(msg, &grpc__health__v1__health_check_request__descriptor);
    if (!m)
        return;
    struct wn_req *req = msg->parent;
    struct watch *w = wn_arena_calloc(&req->arena, 1, sizeof *w);
    if (!w || !(w->service = wn_arena_strndup(&req->arena, m->service, strlen(m->service)))) {
        wn_reply_fail(msg, WINNOW_E_NOMEM, "request");
        return;
    }
    wn_rpc_stream_set_own(req, w);
    wn_rpc_message_done(msg);
    look(req);
}

void wn_rpc_health_watch(struct wn_req *req)
{
    static const struct wn_rpc_stream_ops ops = {
        .message = start_watch, .tick = look, .max_messages = 1, .lasts = true
    };
    wn_rpc_stream_open(req, &ops);
}
