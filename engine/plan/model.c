/* model.c: loading: file -> graph -> passes -> proof of row independence -> a first plan, which packs the weights. */
#include "engine/plan/model.h"

#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "engine/graph/onnx.h"
#include "engine/ops/ops.h"
#include "engine/passes/passes.h"
#include "engine/plan/choice.h"
#include "engine/plan/codec.h"
#include "engine/plan/packs.h"
#include "engine/plan/plans.h"

#define DEFAULT_MAX_FILE   ((size_t)2 << 30)
#define DEFAULT_MAX_MEMORY ((size_t)4 << 30)
#define FOLD_WORK          (UINT64_C(1) << 30)
#define FOLD_PASSES        16u

static const char *copy_str(struct wn_arena *arena, const char *s)
{
    return s ? wn_arena_strndup(arena, s, strlen(s)) : NULL;
}

/* The file's own declarations, kept because passes change types (f16 is widened inside). */
static enum winnow_status keep_ios(struct winnow_model *m, const wn_vid *v, size_t n, const char *what,
                                   struct winnow_io **ret, struct winnow_err *err)
{
    struct winnow_io *ios = wn_arena_calloc(&m->arena, n + 1, sizeof *ios);
    if (!ios)
        return wn_fail(err, WINNOW_E_NOMEM, "model");
    for (size_t i = 0; i < n; i++) {
        const struct wn_value *value = &m->g.values.at[v[i]];
        if (value->type.dtype == WINNOW_UNDEFINED || value->type.rank < 0)
            return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s '%s' has no element type or rank", what, value->name);
        if (value->type.dtype > WINNOW_BF16)
            return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s '%s' is %s; such types are supported inside a model only",
                           what, value->name, winnow_dtype_name(value->type.dtype));
        ios[i].name = copy_str(&m->arena, value->name);
        ios[i].dtype = value->type.dtype;
        ios[i].rank = (unsigned)value->type.rank;
        for (int d = 0; d < value->type.rank; d++) {
            ios[i].shape[d] = value->type.dim[d];
            ios[i].dim_name[d] = copy_str(&m->arena, value->dim_name[d]);
        }
    }
    *ret = ios;
    return WINNOW_OK;
}

/* Shapes to plan for at load: the declared ones with a batch of one. False when more than the batch is dynamic. */
static bool first_shapes(const struct winnow_model *m, struct wn_type *types)
{
    for (unsigned i = 0; i < m->n_inputs; i++) {
        types[i] = (struct wn_type){ .dtype = m->inputs[i].dtype, .rank = (int)m->inputs[i].rank };
        for (unsigned d = 0; d < m->inputs[i].rank; d++) {
            if (m->inputs[i].shape[d] < 0 && d > 0)
                return false;
            types[i].dim[d] = m->inputs[i].shape[d] < 0 ? 1 : m->inputs[i].shape[d];
        }
    }
    return true;
}

/* Pack the weights, and refuse now what could only be refused at the first request. */
enum winnow_status wn_model_first_plan(struct winnow_model *m, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_type *types = calloc(m->n_inputs + 1, sizeof *types);
    if (!types)
        return wn_fail(err, WINNOW_E_NOMEM, "model");
    if (!first_shapes(m, types))
        return WINNOW_OK;
    struct wn_plan *plan;
    WN_TRY(wn_plans_get(m->plans, m, types, &plan, err));
    wn_plan_unref(plan);
    return WINNOW_OK;
}

/* A second of work whatever the file, and what it takes to go over all weights several times. More is left to the run. */
static uint64_t fold_limit(const struct wn_graph *g, size_t file_bytes)
{
    uint64_t bytes = file_bytes;
    for (size_t v = 0; v < g->values.n; v++)
        bytes += g->values.at[v].constant ? g->values.at[v].constant->bytes : 0;
    return FOLD_WORK + FOLD_PASSES * bytes;
}

static enum winnow_status build(struct winnow_model *m, const void *bytes, size_t n, const char *folder,
                                struct winnow_err *err)
{
    struct wn_onnx_limits limits = { .max_file_bytes = m->opts.max_file_bytes,
                                     .folder = folder,
                                     .max_external = m->opts.max_external_bytes,
                                     .consume = m->opts.consume };
    WN_TRY(wn_onnx_read(bytes, n, &limits, &m->arena, &m->g, err));
    m->g.alone = true;
    m->g.fold_limit = fold_limit(&m->g, n);
    WN_TRY(wn_graph_capture(&m->g, err));
    WN_TRY(wn_pass_expand(&m->g, err));
    WN_TRY(wn_ops_resolve(&m->g, err));
    WN_TRY(wn_ops_infer_graph(&m->g, err));
    m->n_inputs = (unsigned)m->g.inputs.n;
    m->n_outputs = (unsigned)m->g.outputs.n;
    WN_TRY(keep_ios(m, m->g.inputs.at, m->g.inputs.n, "input", &m->inputs, err));
    WN_TRY(keep_ios(m, m->g.outputs.at, m->g.outputs.n, "output", &m->outputs, err));
    WN_TRY(wn_pass_fold(&m->g, err)); /* shapes, axes and the like that stand in Constant nodes */
    WN_TRY(wn_pass_shapes(&m->g, err));
    WN_TRY(wn_graph_sort(&m->g, err));
    for (unsigned i = 0; i < m->n_inputs; i++)
        m->inputs[i].table_rows = wn_table_rows(&m->g, m->g.inputs.at[i]);
    m->rows_independent = wn_rows_independent(&m->g, &m->why_not);
    if (!m->opts.reference)
        WN_TRY(wn_passes_run(&m->g, err));
    m->row_block = m->rows_independent && !m->opts.reference ? wn_row_block(&m->g) : 1;
    wn_graph_index(&m->g);
    for (size_t v = 0; v < m->g.values.n; v++)
        wn_graph_give_back(&m->g, (wn_vid)v);
    m->facts = wn_facts_new(&m->g);
    WN_TRY(wn_graph_sort(&m->g, err)); /* drops the index */
    m->packs = m->facts ? wn_packs_new(m->facts) : NULL;
    m->plans = wn_plans_new();
    m->room = m->arena.total;
    if (!m->packs || !m->plans)
        return wn_fail(err, WINNOW_E_NOMEM, "model");
    return wn_model_first_plan(m, err);
}

static void model_free(struct winnow_model *m)
{
    wn_plans_free(m->plans);
    wn_tuned_free(m->tuned);
    wn_packs_free(m->packs);
    wn_facts_free(m->facts);
    wn_graph_done(&m->g);
    wn_arena_done(&m->arena);
    wn_mapping_unref(m->map);
    m->magic = 0;
    free(m);
}

static void unrefp(winnow_model **m)
{
    *m = winnow_model_unref(*m);
}

struct winnow_model *wn_model_new(const struct winnow_load_opts *opts)
{
    struct winnow_model *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->magic = WN_MODEL_MAGIC;
    atomic_init(&m->refs, 1);
    if (opts)
        m->opts = *opts;
    m->opts.folder = m->opts.cache = NULL; /* the caller's */
    if (!m->opts.max_file_bytes)
        m->opts.max_file_bytes = DEFAULT_MAX_FILE;
    if (!m->opts.max_memory_bytes)
        m->opts.max_memory_bytes = DEFAULT_MAX_MEMORY;
    m->since_ns = wn_wall_file_ns();
    wn_arena_init(&m->arena, 0);
    wn_graph_init(&m->g, &m->arena);
    m->tuned = wn_tuned_new();
    if (!m->tuned) {
        free(m);
        return NULL;
    }
    return m;
}

enum winnow_status winnow_model_load_memory(const void *bytes, size_t n, const char *name,
                                            const struct winnow_load_opts *opts, winnow_model **ret_model,
                                            struct winnow_err *err)
{
    WN_CLEANUP(unrefp) struct winnow_model *m = wn_model_new(opts);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", name);
    size_t limit;
    /* weights as they are in the file, widened or dequantized, transposed, and what is folded */
    if (!wn_mul_size(n, 24, &limit) || !wn_add_size(limit, m->opts.max_memory_bytes, &limit) ||
        !wn_add_size(limit, WN_SKELETON_BYTES, &limit))
        limit = 0;
    m->arena.limit = limit;
    enum winnow_status status = build(m, bytes, n, opts ? opts->folder : NULL, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "model '%s'", name);
    *ret_model = WN_TAKE(m);
    return WINNOW_OK;
}

enum winnow_status winnow_model_load(const char *path, const struct winnow_load_opts *opts, winnow_model **ret_model,
                                     struct winnow_err *err)
{
    if (opts && opts->cache && winnow_cache_load(path, opts, ret_model, NULL) == WINNOW_OK)
        return WINNOW_OK;
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n, max = opts && opts->max_file_bytes ? opts->max_file_bytes : DEFAULT_MAX_FILE;
    struct winnow_load_opts here = opts ? *opts : (struct winnow_load_opts){ 0 };
    WN_CLEANUP(wn_freep) char *folder = wn_file_folder(path);
    if (!folder)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", path);
    here.folder = folder;
    here.consume = true;
    bool was, is;
    const struct wn_file_id before = wn_file_id_of(path, &was);
    WN_TRY(wn_file_read(path, max, &bytes, &n, err));
    const struct wn_file_id after = wn_file_id_of(path, &is);
    WN_TRY(winnow_model_load_memory(bytes, n, path, &here, ret_model, err));
    if (was && is && wn_file_id_equal(&before, &after))
        (*ret_model)->source = after;
    return WINNOW_OK;
}

winnow_model *winnow_model_ref(winnow_model *model)
{
    WN_CHECK_MAGIC(model, WN_MODEL_MAGIC);
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

winnow_model *winnow_model_unref(winnow_model *model)
{
    if (!model)
        return NULL;
    WN_CHECK_MAGIC(model, WN_MODEL_MAGIC);
    if (atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) == 1)
        model_free(model);
    return NULL;
}

unsigned winnow_model_n_inputs(const winnow_model *model)
{
    return model->n_inputs;
}

unsigned winnow_model_n_outputs(const winnow_model *model)
{
    return model->n_outputs;
}

const struct winnow_io *winnow_model_input(const winnow_model *model, unsigned i)
{
    return i < model->n_inputs ? &model->inputs[i] : NULL;
}

const struct winnow_io *winnow_model_output(const winnow_model *model, unsigned i)
{
    return i < model->n_outputs ? &model->outputs[i] : NULL;
}

const char *winnow_model_metadata(const winnow_model *model, const char *key)
{
    for (size_t i = 0; i < model->g.meta.n; i++)
        if (strcmp(model->g.meta.at[i].key, key) == 0)
            return model->g.meta.at[i].value;
    return NULL;
}

const char *winnow_model_external(const winnow_model *model, unsigned i)
{
    return i < model->g.external.n ? model->g.external.at[i] : NULL;
}

bool winnow_model_rows_independent(const winnow_model *model, const char **why)
{
    if (why && !model->rows_independent)
        *why = model->why_not ? model->why_not : "";
    return model->rows_independent;
}

size_t winnow_model_weight_bytes(const winnow_model *model)
{
    return wn_packs_bytes(model->packs) + wn_facts_bytes(model->facts);
}

const char *winnow_version(void)
{
    return WN_VERSION;
}
