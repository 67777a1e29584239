/* h_server.c: what the server and its models are and whether they are ready, over REST and gRPC. */
#include <stdlib.h>
#include <string.h>
#include "daemon/api/internal.h"
#include "daemon/api/rpc.h"
#include "daemon/api/text.h"

#define SERVER_NAME "winnow"

/** What GET /v2 promises beyond the core protocol. */
static const char *const extensions[] = { "binary_tensor_data",
                                          "classification",
                                          "parameters",
                                          "schedule_policy",
                                          "model_repository",
                                          "model_repository(unload_dependents)",
                                          "model_configuration",
                                          "statistics",
                                          "trace",
                                          "logging",
                                          "winnow_pin",
                                          "winnow_versions" };

void wn_get_root(struct wn_req *req)
{
    wn_reply_text(req, 200, "text/plain; charset=utf-8",
                  "winnow " WN_VERSION ": GET /v2, GET /metrics, POST /v2/models/NAME/infer\n");
}

void wn_get_server(struct wn_req *req)
{
    json_t *list = json_array();
    for (size_t i = 0; i < WN_COUNT(extensions); i++)
        json_array_append_new(list, json_string(extensions[i]));
    wn_reply_json(req, 200, json_pack("{s:s,s:s,s:o}", "name", SERVER_NAME, "version", WN_VERSION, "extensions", list));
}

void wn_get_live(struct wn_req *req)
{
    wn_reply_json(req, 200, json_pack("{s:b}", "live", 1));
}

void wn_get_ready(struct wn_req *req)
{
    bool ready = wn_api_is_ready(req->api);
    wn_reply_json(req, ready ? 200 : 503, json_pack("{s:b}", "ready", (int)ready));
}

void wn_get_model_ready(struct wn_req *req)
{
    struct winnow_err err = { 0 };
    struct wn_gen *gen;
    struct wn_pin pin = { .version = req->param[1] ? strtoll(req->param[1], NULL, 10) : 0 };
    enum winnow_status s = wn_serve_acquire(req->api->serve, req->param[0], &pin, &gen, &err);
    if (s == WINNOW_OK) {
        wn_req_made(req, gen);
        wn_gen_unref(gen);
    }
    if (s == WINNOW_OK || s == WINNOW_E_UNAVAILABLE || s == WINNOW_E_PRECONDITION) /* loading, or another is live */
        wn_reply_json(req, s == WINNOW_OK ? 200 : 503,
                      json_pack("{s:s,s:b}", "name", req->param[0], "ready", (int)(s == WINNOW_OK)));
    else
        wn_reply_err(req, &err);
}

/* ---- model metadata ---- */
static json_t *io_json(const struct winnow_io *io)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < io->rank; i++)
        json_array_append_new(shape, json_integer(io->shape[i]));
    return json_pack("{s:s,s:s,s:o}", "name", io->name, "datatype", wn_oip_name(io->dtype), "shape", shape);
}

/** Versions of a model that serve. */
static json_t *versions_json(struct wn_serve *serve, const char *model)
{
    struct wn_index_entry *e;
    size_t n;
    json_t *list = json_array();
    if (wn_serve_index(serve, model, &e, &n, NULL) != WINNOW_OK)
        return list;
    for (size_t i = 0; i < n; i++)
        if (e[i].state == WN_MODEL_READY && strcmp(e[i].name, model) == 0)
            json_array_append_new(list, json_sprintf("%lld", (long long)e[i].version));
    wn_index_free(e, n);
    return list;
}

/** What a pipeline adds. OIP's `properties` are strings; the tensors stay as the model has them, so that clients that
 *  make requests from the metadata (perf_analyzer) send those. */
static json_t *pipeline_json(const struct wn_pipeline *p)
{
    json_t *raw = wn_pipeline_raw(p, 1) ? json_sprintf("%s,%s", wn_pipeline_raw(p, 0), wn_pipeline_raw(p, 1))
                                        : json_string(wn_pipeline_raw(p, 0));
    return json_pack("{s:s,s:o,s:s,s:o}", "pipeline_task", wn_pipeline_task_name(p), "pipeline_input", raw,
                     "pipeline_outputs", wn_pipeline_scores(p) ? "label,score" : wn_pipeline_embed_name(p),
                     "pipeline_labels", json_sprintf("%u", wn_pipeline_n_labels(p)));
}

void wn_get_model(struct wn_req *req)
{
    struct wn_gen *gen = wn_req_acquire(req, req->param[0], req->param[1]);
    if (!gen)
        return;
    const winnow_model *model = wn_gen_model(gen);
    json_t *in = json_array(), *out = json_array();
    for (unsigned i = 0; i < winnow_model_n_inputs(model); i++)
        json_array_append_new(in, io_json(winnow_model_input(model, i)));
    for (unsigned i = 0; i < winnow_model_n_outputs(model); i++)
        json_array_append_new(out, io_json(winnow_model_output(model, i)));
    json_t *body = json_pack("{s:s,s:o,s:s,s:o,s:o}", "name", wn_gen_model_name(gen), "versions",
                             versions_json(req->api->serve, req->param[0]), "platform", WN_API_PLATFORM, "inputs", in,
                             "outputs", out);
    if (body && wn_gen_pipeline(gen))
        json_object_set_new(body, "properties", pipeline_json(wn_gen_pipeline(gen)));
    wn_reply_json(req, 200, body);
    wn_gen_unref(gen);
}

/* ---- gRPC ---- */
void wn_rpc_server_live(struct wn_req *req)
{
    Inference__ServerLiveResponse m = INFERENCE__SERVER_LIVE_RESPONSE__INIT;
    m.live = 1;
    wn_rpc_reply(req, &m.base);
}

void wn_rpc_server_ready(struct wn_req *req)
{
    Inference__ServerReadyResponse m = INFERENCE__SERVER_READY_RESPONSE__INIT;
    m.ready = wn_api_is_ready(req->api);
    wn_rpc_reply(req, &m.base);
}

void wn_rpc_server_metadata(struct wn_req *req)
{
    char *list[WN_COUNT(extensions)];
    memcpy(list, extensions, sizeof list); /* protobuf-c only reads them */
    Inference__ServerMetadataResponse m = INFERENCE__SERVER_METADATA_RESPONSE__INIT;
    m.name = (char *)(uintptr_t)SERVER_NAME;
    m.version = (char *)(uintptr_t)WN_VERSION;
    m.n_extensions = WN_COUNT(list);
    m.extensions = list;
    wn_rpc_reply(req, &m.base);
}

/** An unknown model is not ready, as in Triton: no error. */
void wn_rpc_model_ready(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelReadyRequest *m = wn_rpc_read(req, &inference__model_ready_request__descriptor);
    if (!m)
        return;
    struct winnow_err err = { 0 };
    struct wn_gen *gen;
    struct wn_pin pin = { 0 };
    uint64_t v = 0;
    if (*m->version && (!wn_text_u64(m->version, strlen(m->version), &v) || v > INT64_MAX)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "model version '%.60s' is not a number", m->version);
        return;
    }
    if (wn_req_model_refused(req, m->name))
        return;
    pin.version = (int64_t)v;
    enum winnow_status s = wn_serve_acquire(req->api->serve, m->name, &pin, &gen, &err);
    if (s == WINNOW_OK) {
        wn_req_made(req, gen);
        wn_gen_unref(gen);
    }
    Inference__ModelReadyResponse r = INFERENCE__MODEL_READY_RESPONSE__INIT;
    r.ready = s == WINNOW_OK;
    wn_rpc_reply(req, &r.base);
}

typedef Inference__ModelMetadataResponse__TensorMetadata io_pb;

static io_pb **ios_pb(struct wn_arena *arena, const winnow_model *model, bool out, size_t *ret_n)
{
    unsigned n = out ? winnow_model_n_outputs(model) : winnow_model_n_inputs(model);
    io_pb **list = wn_arena_calloc(arena, n, sizeof *list);
    for (unsigned i = 0; list && i < n; i++) {
        const struct winnow_io *io = out ? winnow_model_output(model, i) : winnow_model_input(model, i);
        io_pb *t = wn_arena_alloc(arena, sizeof *t);
        int64_t *shape = wn_arena_memdup(arena, io->shape, sizeof io->shape);
        char *name = wn_arena_strndup(arena, io->name, strlen(io->name));
        char *type = wn_arena_strndup(arena, wn_oip_name(io->dtype), 8);
        if (!t || !shape || !name || !type)
            return NULL;
        inference__model_metadata_response__tensor_metadata__init(t);
        t->name = name;
        t->datatype = type;
        t->n_shape = io->rank;
        t->shape = shape;
        list[i] = t;
    }
    *ret_n = n;
    return list;
}

void wn_rpc_model_metadata(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelMetadataRequest *m = wn_rpc_read(req, &inference__model_metadata_request__descriptor);
    if (!m)
        return;
    struct wn_gen *gen = wn_req_acquire(req, m->name, m->version);
    if (!gen)
        return;
    Inference__ModelMetadataResponse r = INFERENCE__MODEL_METADATA_RESPONSE__INIT;
    json_t *versions = versions_json(req->api->serve, m->name);
    size_t n = json_array_size(versions);
    char **list = wn_arena_calloc(&req->arena, n, sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        list[i] = (char *)(uintptr_t)json_string_value(json_array_get(versions, i));
    r.name = m->name;
    r.platform = (char *)(uintptr_t)WN_API_PLATFORM;
    r.n_versions = n;
    r.versions = list;
    r.inputs = ios_pb(&req->arena, wn_gen_model(gen), false, &r.n_inputs);
    r.outputs = ios_pb(&req->arena, wn_gen_model(gen), true, &r.n_outputs);
    if (list && r.inputs && r.outputs)
        wn_rpc_reply(req, &r.base);
    else
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    json_decref(versions);
    wn_gen_unref(gen);
}
