/* h_config.c: a model's configuration in Triton's form, over REST and gRPC: one message, sent as it is or as JSON.
 *
 * It says what holds: tensors from the ONNX file, batching from config.pbtxt and the settings. */
#include <string.h>
#include "daemon/api/internal.h"
#include "daemon/api/pbjson.h"
#include "daemon/api/rpc.h"

/** protobuf-c's strings are not const; it only reads these. */
#define TEXT(s) ((char *)(uintptr_t)(s))

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

/** Name and dims of a tensor; ModelInput and ModelOutput differ in field numbers only. */
static bool fill_io(struct wn_arena *arena, const struct winnow_io *io, bool batched, char **name,
                    Inference__DataType *type, size_t *n_dims, int64_t **dims)
{
    unsigned skip = batched && io->rank;
    *name = wn_arena_strndup(arena, io->name, strlen(io->name));
    *dims = wn_arena_memdup(arena, io->shape + skip, (io->rank - skip) * sizeof *io->shape);
    *n_dims = io->rank - skip;
    *type = type_of(io->dtype);
    return *name && *dims;
}

static bool fill_inputs(struct wn_arena *arena, const winnow_model *model, bool batched, Inference__ModelConfig *c)
{
    c->n_input = winnow_model_n_inputs(model);
    c->input = wn_arena_calloc(arena, c->n_input, sizeof *c->input);
    for (size_t i = 0; c->input && i < c->n_input; i++) {
        Inference__ModelInput *t = c->input[i] = wn_arena_alloc(arena, sizeof *t);
        if (!t)
            return false;
        inference__model_input__init(t);
        if (!fill_io(arena, winnow_model_input(model, (unsigned)i), batched, &t->name, &t->data_type, &t->n_dims,
                     &t->dims))
            return false;
    }
    return c->input != NULL;
}

static bool fill_outputs(struct wn_arena *arena, const struct wn_gen *gen, bool batched, Inference__ModelConfig *c)
{
    const winnow_model *model = wn_gen_model(gen);
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    c->n_output = winnow_model_n_outputs(model);
    c->output = wn_arena_calloc(arena, c->n_output, sizeof *c->output);
    for (size_t i = 0; c->output && i < c->n_output; i++) {
        Inference__ModelOutput *t = c->output[i] = wn_arena_alloc(arena, sizeof *t);
        if (!t)
            return false;
        inference__model_output__init(t);
        if (!fill_io(arena, winnow_model_output(model, (unsigned)i), batched, &t->name, &t->data_type, &t->n_dims,
                     &t->dims))
            return false;
        const char *file = wn_gen_label_file(gen, (unsigned)i);
        if (file)
            t->label_filename = wn_arena_strndup(arena, file, strlen(file));
        else if (p && wn_pipeline_n_labels(p) && i == wn_pipeline_model_output(p))
            t->label_filename = TEXT("labels.txt");
        if (!t->label_filename)
            return false;
    }
    return c->output != NULL;
}

static bool fill_batching(struct wn_arena *arena, const struct wn_gen_batching *b, Inference__ModelConfig *c)
{
    Inference__ModelDynamicBatching *d = wn_arena_alloc(arena, sizeof *d);
    Inference__ModelQueuePolicy *q = wn_arena_alloc(arena, sizeof *q);
    if (!d || !q)
        return false;
    inference__model_dynamic_batching__init(d);
    inference__model_queue_policy__init(q);
    d->max_queue_delay_microseconds = b->max_wait_us;
    d->default_queue_policy = q;
    q->default_timeout_microseconds = b->timeout_us;
    q->allow_timeout_override = 1;
    q->max_queue_size = (uint32_t)WN_MIN(b->max_requests, (uint64_t)UINT32_MAX);
    c->scheduling_choice_case = INFERENCE__MODEL_CONFIG__SCHEDULING_CHOICE_DYNAMIC_BATCHING;
    c->dynamic_batching = d;
    return true;
}

/** One live version, on the CPU, one answer per request. */
static bool fill_rest(struct wn_arena *arena, const struct wn_gen_batching *b, Inference__ModelConfig *c)
{
    Inference__ModelInstanceGroup *g = wn_arena_alloc(arena, sizeof *g);
    Inference__ModelVersionPolicy *v = wn_arena_alloc(arena, sizeof *v);
    Inference__ModelVersionPolicy__Latest *latest = wn_arena_alloc(arena, sizeof *latest);
    Inference__ModelTransactionPolicy *t = wn_arena_alloc(arena, sizeof *t);
    c->instance_group = wn_arena_calloc(arena, 1, sizeof *c->instance_group);
    if (!g || !v || !latest || !t || !c->instance_group)
        return false;
    inference__model_instance_group__init(g);
    inference__model_version_policy__init(v);
    inference__model_version_policy__latest__init(latest);
    inference__model_transaction_policy__init(t);
    g->name = c->name;
    g->kind = INFERENCE__MODEL_INSTANCE_GROUP__KIND__KIND_CPU;
    g->count = (int32_t)b->streams;
    c->instance_group[c->n_instance_group++] = g;
    latest->num_versions = 1;
    v->policy_choice_case = INFERENCE__MODEL_VERSION_POLICY__POLICY_CHOICE_LATEST;
    v->latest = latest;
    c->version_policy = v;
    c->model_transaction_policy = t;
    return true;
}

static bool fill_config(struct wn_arena *arena, const struct wn_gen *gen, Inference__ModelConfig *c)
{
    struct wn_gen_batching b;
    const char *name = wn_gen_model_name(gen);
    inference__model_config__init(c);
    wn_gen_batching(gen, &b);
    c->name = wn_arena_strndup(arena, name, strlen(name));
    c->platform = TEXT(WN_API_PLATFORM);
    c->backend = TEXT("winnow");
    c->default_model_filename = TEXT("model.onnx");
    c->max_batch_size = max_batch(gen);
    bool batched = c->max_batch_size > 0;
    return c->name && fill_inputs(arena, wn_gen_model(gen), batched, c) && fill_outputs(arena, gen, batched, c) &&
           fill_rest(arena, &b, c) && (!batched || fill_batching(arena, &b, c));
}

void wn_get_config(struct wn_req *req)
{
    struct wn_gen *gen = wn_req_acquire(req, req->param[0], req->param[1]);
    Inference__ModelConfig c;
    if (!gen)
        return;
    wn_reply_json(req, 200, fill_config(&req->arena, gen, &c) ? wn_pb_json(&c.base) : NULL);
    wn_gen_unref(gen);
}

void wn_rpc_model_config(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelConfigRequest *m = wn_rpc_read(req, &inference__model_config_request__descriptor);
    struct wn_gen *gen = m ? wn_req_acquire(req, m->name, m->version) : NULL;
    if (!gen)
        return;
    Inference__ModelConfigResponse r = INFERENCE__MODEL_CONFIG_RESPONSE__INIT;
    Inference__ModelConfig c;
    r.config = &c;
    if (fill_config(&req->arena, gen, &c))
        wn_rpc_reply(req, &r.base);
    else
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    wn_gen_unref(gen);
}
