/* h_stats.c: a model's configuration and statistics in Triton's form, over REST and gRPC; what perf_analyzer asks for.
 *
 * Statistics come from the registry, which keeps them over generations; requests that never ran count as failed. */
#include <inttypes.h>
#include <string.h>
#include "daemon/api/internal.h"
#include "daemon/api/rpc.h"
#include "daemon/api/text.h"

/* ---- configuration ---- */
static const struct {
    enum winnow_dtype dtype;
    Inference__DataType type;
} types[] = {
    { WINNOW_BOOL, INFERENCE__DATA_TYPE__TYPE_BOOL },     { WINNOW_U8, INFERENCE__DATA_TYPE__TYPE_UINT8 },
    { WINNOW_U16, INFERENCE__DATA_TYPE__TYPE_UINT16 },    { WINNOW_U32, INFERENCE__DATA_TYPE__TYPE_UINT32 },
    { WINNOW_U64, INFERENCE__DATA_TYPE__TYPE_UINT64 },    { WINNOW_I8, INFERENCE__DATA_TYPE__TYPE_INT8 },
    { WINNOW_I16, INFERENCE__DATA_TYPE__TYPE_INT16 },     { WINNOW_I32, INFERENCE__DATA_TYPE__TYPE_INT32 },
    { WINNOW_I64, INFERENCE__DATA_TYPE__TYPE_INT64 },     { WINNOW_F16, INFERENCE__DATA_TYPE__TYPE_FP16 },
    { WINNOW_F32, INFERENCE__DATA_TYPE__TYPE_FP32 },      { WINNOW_F64, INFERENCE__DATA_TYPE__TYPE_FP64 },
    { WINNOW_STRING, INFERENCE__DATA_TYPE__TYPE_STRING }, { WINNOW_BF16, INFERENCE__DATA_TYPE__TYPE_BF16 },
};

static Inference__DataType type_of(enum winnow_dtype dtype)
{
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (types[i].dtype == dtype)
            return types[i].type;
    return INFERENCE__DATA_TYPE__TYPE_INVALID;
}

/** 0: rows are not a batch, shapes stand as they are. Else dims leave the batch out. */
static int32_t max_batch(const struct wn_gen *gen)
{
    int64_t rows = wn_gen_max_rows(gen);
    return winnow_model_rows_independent(wn_gen_model(gen), NULL) ? (int32_t)WN_MIN(rows, (int64_t)INT32_MAX) : 0;
}

static json_t *tensors_json(const winnow_model *model, bool out, bool batched)
{
    json_t *list = json_array();
    unsigned n = out ? winnow_model_n_outputs(model) : winnow_model_n_inputs(model);
    for (unsigned i = 0; i < n; i++) {
        const struct winnow_io *io = out ? winnow_model_output(model, i) : winnow_model_input(model, i);
        json_t *dims = json_array();
        for (unsigned k = batched; k < io->rank; k++)
            json_array_append_new(dims, json_integer(io->shape[k]));
        const ProtobufCEnumValue *type =
            protobuf_c_enum_descriptor_get_value(&inference__data_type__descriptor, (int)type_of(io->dtype));
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", io->name, "data_type",
                                              type ? type->name : "TYPE_INVALID", "dims", dims));
    }
    return list;
}

void wn_get_config(struct wn_req *req)
{
    struct wn_gen *gen = wn_req_acquire(req, req->param[0], req->param[1]);
    if (!gen)
        return;
    int32_t batch = max_batch(gen);
    const winnow_model *model = wn_gen_model(gen);
    json_t *body = json_pack("{s:s,s:s,s:s,s:i,s:o,s:o}", "name", wn_gen_model_name(gen), "platform", WN_API_PLATFORM,
                             "backend", "winnow", "max_batch_size", (int)batch, "input",
                             tensors_json(model, false, batch > 0), "output", tensors_json(model, true, batch > 0));
    if (body && batch)
        json_object_set_new(body, "dynamic_batching", json_object());
    wn_reply_json(req, 200, body);
    wn_gen_unref(gen);
}

/** One tensor of ModelConfig; ModelInput and ModelOutput differ in a field number only. */
static bool fill(struct wn_arena *arena, const struct winnow_io *io, bool batched, char **name,
                 Inference__DataType *type, size_t *n_dims, int64_t **dims)
{
    unsigned skip = batched && io->rank;
    *name = wn_arena_strndup(arena, io->name, strlen(io->name));
    *dims = wn_arena_memdup(arena, io->shape + skip, (io->rank - skip) * sizeof *io->shape);
    *n_dims = io->rank - skip;
    *type = type_of(io->dtype);
    return *name && *dims;
}

static bool fill_config(struct wn_arena *arena, const struct wn_gen *gen, bool batched, Inference__ModelConfig *c)
{
    const winnow_model *model = wn_gen_model(gen);
    c->n_input = winnow_model_n_inputs(model);
    c->n_output = winnow_model_n_outputs(model);
    c->input = wn_arena_calloc(arena, c->n_input, sizeof *c->input);
    c->output = wn_arena_calloc(arena, c->n_output, sizeof *c->output);
    bool ok = c->input && c->output;
    for (size_t i = 0; ok && i < c->n_input; i++) {
        Inference__ModelInput *t = c->input[i] = wn_arena_alloc(arena, sizeof *t);
        ok = t != NULL;
        if (ok) {
            inference__model_input__init(t);
            ok = fill(arena, winnow_model_input(model, (unsigned)i), batched, &t->name, &t->data_type, &t->n_dims,
                      &t->dims);
        }
    }
    for (size_t i = 0; ok && i < c->n_output; i++) {
        Inference__ModelOutput *t = c->output[i] = wn_arena_alloc(arena, sizeof *t);
        ok = t != NULL;
        if (ok) {
            inference__model_output__init(t);
            ok = fill(arena, winnow_model_output(model, (unsigned)i), batched, &t->name, &t->data_type, &t->n_dims,
                      &t->dims);
        }
    }
    return ok;
}

void wn_rpc_model_config(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelConfigRequest *m = wn_rpc_read(req, &inference__model_config_request__descriptor);
    struct wn_gen *gen = m ? wn_req_acquire(req, m->name, m->version) : NULL;
    if (!gen)
        return;
    Inference__ModelConfigResponse r = INFERENCE__MODEL_CONFIG_RESPONSE__INIT;
    Inference__ModelConfig c = INFERENCE__MODEL_CONFIG__INIT;
    Inference__ModelDynamicBatching batching = INFERENCE__MODEL_DYNAMIC_BATCHING__INIT;
    r.config = &c;
    c.name = m->name;
    c.platform = (char *)(uintptr_t)WN_API_PLATFORM;
    c.backend = (char *)(uintptr_t) "winnow";
    c.max_batch_size = max_batch(gen);
    if (c.max_batch_size) {
        c.scheduling_choice_case = INFERENCE__MODEL_CONFIG__SCHEDULING_CHOICE_DYNAMIC_BATCHING;
        c.dynamic_batching = &batching;
    }
    if (fill_config(&req->arena, gen, c.max_batch_size > 0, &c))
        wn_rpc_reply(req, &r.base);
    else
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    wn_gen_unref(gen);
}

/* ---- statistics ---- */
/** Those of `model` and `version`; NULL, 0: of all. */
static bool wanted(const struct wn_serve_stats *s, const char *model, int64_t version)
{
    return (!model || strcmp(s->model, model) == 0) && (!version || s->version == version);
}

/** All statistics; the caller frees them. False, and answered: none are there of the model that was named. */
static bool take_stats(struct wn_req *req, const char *model, int64_t version, struct wn_serve_stats **ret,
                       size_t *ret_n)
{
    struct winnow_err err = { 0 };
    if (wn_serve_stats(req->api->serve, ret, ret_n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return false;
    }
    bool any = !model;
    for (size_t i = 0; i < *ret_n && !any; i++)
        any = wanted(&(*ret)[i], model, version);
    if (!any) {
        wn_serve_stats_free(*ret, *ret_n);
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Request for unknown model: '%.100s' is not found", model);
    }
    return any;
}

static uint64_t failed(const struct wn_serve_stats *s)
{
    return s->failure + s->rejected + s->cancelled + s->expired;
}

static json_t *duration(uint64_t count, uint64_t ns)
{
    return json_pack("{s:I,s:I}", "count", (json_int_t)count, "ns", (json_int_t)ns);
}

static json_t *stats_json(const struct wn_serve_stats *s)
{
    json_t *infer =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "success", duration(s->success, s->queue_ns + s->compute_ns),
                  "fail", duration(failed(s), 0), "queue", duration(s->success, s->queue_ns), "compute_input",
                  duration(s->success, 0), "compute_infer", duration(s->success, s->compute_ns), "compute_output",
                  duration(s->success, 0), "cache_hit", duration(0, 0), "cache_miss", duration(0, 0));
    return json_pack("{s:s,s:o,s:I,s:I,s:I,s:o,s:[],s:[]}", "name", s->model, "version",
                     json_sprintf("%" PRId64, s->version), "last_inference", (json_int_t)s->last_ms, "inference_count",
                     (json_int_t)s->rows, "execution_count", (json_int_t)s->batches, "inference_stats", infer,
                     "batch_stats", "memory_usage");
}

void wn_get_stats(struct wn_req *req)
{
    uint64_t version = 0;
    struct wn_serve_stats *s;
    size_t n;
    if (req->param[1])
        wn_text_u64(req->param[1], strlen(req->param[1]), &version);
    if (!take_stats(req, req->param[0], (int64_t)version, &s, &n))
        return;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (wanted(&s[i], req->param[0], (int64_t)version))
            json_array_append_new(list, stats_json(&s[i]));
    wn_serve_stats_free(s, n);
    wn_reply_json(req, 200, json_pack("{s:o}", "model_stats", list));
}

/** A model's statistics as a message with its parts. */
struct stats_pb {
    Inference__ModelStatistics m;
    Inference__InferStatistics infer;
    Inference__StatisticDuration d[8];
};

static bool fill_stats(struct wn_arena *arena, const struct wn_serve_stats *s, struct stats_pb *p)
{
    const uint64_t v[8][2] = { { s->success, s->queue_ns + s->compute_ns },
                               { failed(s), 0 },
                               { s->success, s->queue_ns },
                               { s->success, 0 },
                               { s->success, s->compute_ns },
                               { s->success, 0 },
                               { 0, 0 },
                               { 0, 0 } };
    inference__model_statistics__init(&p->m);
    inference__infer_statistics__init(&p->infer);
    for (unsigned i = 0; i < WN_COUNT(v); i++) {
        inference__statistic_duration__init(&p->d[i]);
        p->d[i].count = v[i][0];
        p->d[i].ns = v[i][1];
    }
    p->infer.success = &p->d[0];
    p->infer.fail = &p->d[1];
    p->infer.queue = &p->d[2];
    p->infer.compute_input = &p->d[3];
    p->infer.compute_infer = &p->d[4];
    p->infer.compute_output = &p->d[5];
    p->infer.cache_hit = &p->d[6];
    p->infer.cache_miss = &p->d[7];
    p->m.name = s->model;
    p->m.version = wn_arena_printf(arena, "%" PRId64, s->version);
    p->m.last_inference = s->last_ms;
    p->m.inference_count = s->rows;
    p->m.execution_count = s->batches;
    p->m.inference_stats = &p->infer;
    return p->m.version != NULL;
}

void wn_rpc_model_statistics(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelStatisticsRequest *m = wn_rpc_read(req, &inference__model_statistics_request__descriptor);
    uint64_t version = 0;
    struct wn_serve_stats *s;
    size_t n;
    if (!m)
        return;
    if (*m->version && (!wn_text_u64(m->version, strlen(m->version), &version) || version > INT64_MAX)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "model version '%.60s' is not a number", m->version);
        return;
    }
    const char *model = *m->name ? m->name : NULL;
    if (!take_stats(req, model, (int64_t)version, &s, &n))
        return;
    Inference__ModelStatisticsResponse r = INFERENCE__MODEL_STATISTICS_RESPONSE__INIT;
    struct stats_pb *parts = wn_arena_calloc(&req->arena, n, sizeof *parts);
    r.model_stats = wn_arena_calloc(&req->arena, n, sizeof *r.model_stats);
    bool ok = parts && r.model_stats;
    for (size_t i = 0; ok && i < n; i++)
        if (wanted(&s[i], model, (int64_t)version)) {
            ok = fill_stats(&req->arena, &s[i], &parts[r.n_model_stats]);
            r.model_stats[r.n_model_stats] = &parts[r.n_model_stats].m;
            r.n_model_stats++;
        }
    if (ok)
        wn_rpc_reply(req, &r.base);
    else
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    wn_serve_stats_free(s, n);
}
