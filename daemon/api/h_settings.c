/* h_settings.c: what Triton lets clients set and winnow only tells: tracing, logging, shared memory.
 *
 * Reading answers in Triton's shape. Changing is refused (501): settings come from winnowd.yaml. Shared memory is not
 * offered: there are no regions, none can be registered, and unregistering what is not there succeeds, as in Triton. */
#include <string.h>
#include "base/log.h"
#include "daemon/api/internal.h"
#include "daemon/api/pb.h"
#include "daemon/api/rpc.h"

/** One setting; text where nothing else is said. */
struct setting {
    const char *name, *text;
    enum { TEXT, LIST, BOOLEAN, NUMBER } kind;
    unsigned number;
};

static const struct setting trace[] = {
    { "trace_file", "", TEXT, 0 },    { "trace_level", "OFF", LIST, 0 }, { "trace_rate", "1000", TEXT, 0 },
    { "trace_count", "-1", TEXT, 0 }, { "log_frequency", "0", TEXT, 0 }, { "trace_mode", "triton", TEXT, 0 },
};

enum { N_LOGGING = 6 };
static void logging(const struct wn_api *api, struct setting ret[N_LOGGING])
{
    unsigned level = atomic_load(&api->log_level);
    const struct setting s[N_LOGGING] = {
        { "log_file", "", TEXT, 0 },
        { "log_info", NULL, BOOLEAN, level >= WN_LOG_INFO },
        { "log_warning", NULL, BOOLEAN, level >= WN_LOG_WARNING },
        { "log_error", NULL, BOOLEAN, level >= WN_LOG_ERROR },
        { "log_verbose_level", NULL, NUMBER, level >= WN_LOG_DEBUG },
        { "log_format", "ISO8601", TEXT, 0 },
    };
    memcpy(ret, s, sizeof s);
}

/* ---- REST ---- */
static json_t *settings_json(const struct setting *s, size_t n)
{
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++) {
        json_t *v = s[i].kind == BOOLEAN  ? json_boolean(s[i].number)
                    : s[i].kind == NUMBER ? json_integer(s[i].number)
                    : s[i].kind == LIST   ? json_pack("[s]", s[i].text)
                                          : json_string(s[i].text);
        json_object_set_new(object, s[i].name, v);
    }
    return object;
}

/** A body that sets something; false: answered. An empty object reads. */
static bool sets_nothing(struct wn_req *req, const char *what)
{
    json_t *body = wn_req_json(req);
    if (!body)
        return false;
    const char *key = json_object_iter_key(json_object_iter(body));
    if (key)
        wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "%s settings come from winnowd.yaml: '%.60s' cannot be set here", what,
                      key);
    json_decref(body);
    return !key;
}

/** A model's settings are the server's; the model must be there. */
static bool model_is_there(struct wn_req *req, const char *model)
{
    struct winnow_err err = { 0 };
    struct wn_index_entry *e = NULL;
    size_t n = 0;
    if (!model)
        return true;
    if (wn_req_model_refused(req, model))
        return false;
    if (wn_serve_index(req->api->serve, model, &e, &n, &err) != WINNOW_OK)
        wn_reply_err(req, &err);
    else if (!n)
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Request for unknown model: '%.100s' is not found", model);
    wn_index_free(e, n);
    return n > 0;
}

void wn_get_trace(struct wn_req *req)
{
    if (model_is_there(req, req->param[0]))
        wn_reply_json(req, 200, settings_json(trace, WN_COUNT(trace)));
}

void wn_post_trace(struct wn_req *req)
{
    if (model_is_there(req, req->param[0]) && sets_nothing(req, "trace"))
        wn_reply_json(req, 200, settings_json(trace, WN_COUNT(trace)));
}

void wn_get_logging(struct wn_req *req)
{
    struct setting s[N_LOGGING];
    logging(req->api, s);
    wn_reply_json(req, 200, settings_json(s, N_LOGGING));
}

void wn_post_logging(struct wn_req *req)
{
    if (sets_nothing(req, "log"))
        wn_get_logging(req);
}

void wn_get_shm(struct wn_req *req)
{
    if (req->param[0])
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Unable to find shared memory region: '%.100s'", req->param[0]);
    else
        wn_reply_json(req, 200, json_array());
}

void wn_post_shm_register(struct wn_req *req)
{
    wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "shared memory is not offered: send tensors in the request");
}

void wn_post_shm_unregister(struct wn_req *req)
{
    wn_reply_text(req, 200, "application/json", "");
}

void wn_post_named_repository(struct wn_req *req)
{
    wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "'repository_name' specification is not supported");
}

/* ---- gRPC ---- */
static void put_key(struct wn_buf *to, const char *key, size_t value_n)
{
    wn_pb_put_head(to, 1, wn_pb_bytes_size(1, strlen(key)) + wn_pb_bytes_size(2, value_n));
    wn_pb_put_bytes(to, 1, key, strlen(key));
    wn_pb_put_head(to, 2, value_n);
}

/** map<string, SettingValue>: repeated string value = 1; or, of logging, a oneof of bool = 1, uint32 = 2, string = 3.
 */
static void reply_settings(struct wn_req *req, const struct setting *s, size_t n, uint32_t text_number)
{
    struct wn_buf b = { 0 };
    if (wn_buf_room(&b, 5))
        b.n = 5;
    for (size_t i = 0; i < n; i++) {
        if (s[i].kind == BOOLEAN || s[i].kind == NUMBER) {
            put_key(&b, s[i].name, 1 + wn_pb_varint_size(s[i].number));
            wn_pb_put_varint(&b, (uint64_t)(s[i].kind == BOOLEAN ? 1 : 2) << 3);
            wn_pb_put_varint(&b, s[i].number);
        } else {
            put_key(&b, s[i].name, wn_pb_bytes_size(text_number, strlen(s[i].text)));
            wn_pb_put_bytes(&b, text_number, s[i].text, strlen(s[i].text));
        }
    }
    wn_reply_rpc(req, &b);
}

void wn_rpc_trace(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__TraceSettingRequest *m = wn_rpc_read(req, &inference__trace_setting_request__descriptor);
    if (!m || !model_is_there(req, *m->model_name ? m->model_name : NULL))
        return;
    if (m->n_settings)
        wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "trace settings come from winnowd.yaml: '%.60s' cannot be set here",
                      m->settings[0]->key);
    else
        reply_settings(req, trace, WN_COUNT(trace), 1);
}

void wn_rpc_logging(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__LogSettingsRequest *m = wn_rpc_read(req, &inference__log_settings_request__descriptor);
    struct setting s[N_LOGGING];
    if (!m)
        return;
    logging(req->api, s);
    if (m->n_settings)
        wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "log settings come from winnowd.yaml: '%.60s' cannot be set here",
                      m->settings[0]->key);
    else
        reply_settings(req, s, N_LOGGING, 3);
}

/** Status of both kinds: the requests have a name in field 1, the answers a map that is empty. */
void wn_rpc_shm_status(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__SystemSharedMemoryStatusRequest *m =
        wn_rpc_read(req, &inference__system_shared_memory_status_request__descriptor);
    Inference__SystemSharedMemoryStatusResponse r = INFERENCE__SYSTEM_SHARED_MEMORY_STATUS_RESPONSE__INIT;
    if (m && *m->name)
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Unable to find shared memory region: '%.100s'", m->name);
    else if (m)
        wn_rpc_reply(req, &r.base);
}

void wn_rpc_shm_register(struct wn_req *req)
{
    wn_post_shm_register(req);
}

void wn_rpc_shm_unregister(struct wn_req *req)
{
    Inference__SystemSharedMemoryUnregisterResponse r = INFERENCE__SYSTEM_SHARED_MEMORY_UNREGISTER_RESPONSE__INIT;
    wn_rpc_reply(req, &r.base);
}
