/* origin.c: the base of a job. Its files come from the model repository, but are read as carefully as an upload. */
#include "sparsify/worker/origin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "engine/graph/onnx.h"
#include "engine/passes/passes.h"

static struct wn_pipe_io pipe_io(const struct wn_graph *g, wn_vid v)
{
    const struct wn_value *value = &g->values.at[v];
    const struct wn_type *t = &value->type;
    struct wn_pipe_io io = { .name = value->name, .dtype = t->dtype, .rank = t->rank > 0 ? (unsigned)t->rank - 1 : 0 };
    for (int d = 1; d < t->rank; d++)
        io.shape[d - 1] = t->dim[d];
    return io;
}

enum winnow_status wn_origin_pipeline(const char *dir, const struct wn_graph *g, struct wn_pipeline **ret,
                                      struct winnow_err *err)
{
    size_t n_in = g->inputs.n, n_out = g->outputs.n;
    WN_CLEANUP(wn_freep) struct wn_pipe_io *io = calloc(n_in + n_out + 1, sizeof *io);
    if (!io)
        return wn_fail(err, WINNOW_E_NOMEM, "pipeline.yaml");
    for (size_t i = 0; i < n_in; i++) {
        io[i] = pipe_io(g, g->inputs.at[i]);
        io[i].table_rows = wn_table_rows(g, g->inputs.at[i]);
    }
    for (size_t i = 0; i < n_out; i++)
        io[n_in + i] = pipe_io(g, g->outputs.at[i]);
    enum winnow_status status = wn_pipeline_open(dir, io, (unsigned)n_in, io + n_in, (unsigned)n_out, ret, err);
    if (status == WINNOW_E_NOT_FOUND)
        return wn_fail(err, status, "the base has no pipeline.yaml, which says what a picture or a text becomes");
    return status;
}

/* Quantized weights cannot be trained: the rounding has no way back. */
static enum winnow_status look_at_nodes(struct wn_origin *o, struct winnow_err *err)
{
    static const char *const quantized[] = { "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                                             "QLinearConv",    "QLinearMatMul",    "ConvInteger",
                                             "MatMulInteger" };
    for (size_t i = 0; i < o->graph.nodes.n; i++) {
        const struct wn_node *n = &o->graph.nodes.at[i];
        for (size_t k = 0; k < WN_COUNT(quantized); k++)
            if (!n->dead && strcmp(n->op_type, quantized[k]) == 0)
                return wn_fail(err, WINNOW_E_UNSUPPORTED,
                               "the base is quantized (node '%.60s': %s) and has no master.onnx to train from", n->name,
                               n->op_type);
        o->has_conv |= wn_node_is(n, "Conv");
        o->has_bn |= wn_node_is(n, "BatchNormalization");
    }
    return WINNOW_OK;
}

static enum winnow_status look_at_row(struct wn_origin *o, struct winnow_err *err)
{
    const struct wn_pipe_io *row = wn_pipeline_row(o->pipeline, NULL);
    if (row->dtype != WINNOW_F32)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "the base takes u8 pictures: only f32 inputs can be trained");
    /* (C, H, W) or (H, W, C); C is 1 or 3 */
    bool nhwc = row->shape[0] != 1 && row->shape[0] != 3;
    o->c = (unsigned)row->shape[nhwc ? 2 : 0];
    o->h = (unsigned)row->shape[nhwc ? 0 : 1];
    o->w = (unsigned)row->shape[nhwc ? 1 : 2];
    o->side = WN_MAX(o->h, o->w);
    return WINNOW_OK;
}

static enum winnow_status look_at_task(struct wn_origin *o, struct winnow_err *err)
{
    if (wn_pipeline_task(o->pipeline) == WN_PIPE_EMBEDDINGS)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "the base makes embeddings: only classifiers can be trained");
    if (wn_pipeline_task(o->pipeline) == WN_PIPE_IMAGES)
        WN_TRY(look_at_row(o, err));
    const struct wn_type *t = &o->graph.values.at[o->graph.outputs.at[wn_pipeline_model_output(o->pipeline)]].type;
    int64_t classes = 1;
    for (int d = 1; d < t->rank; d++)
        classes = t->dim[d] < 0 || classes < 0 ? -1 : t->dim[d] == 1 ? classes : t->dim[d];
    o->classes = classes > 1 && classes < 1000000 ? (unsigned)classes : wn_pipeline_n_labels(o->pipeline);
    return WINNOW_OK;
}

enum winnow_status wn_origin_open(const char *dir, struct wn_origin *ret, struct winnow_err *err)
{
    struct wn_origin o = { .file = "master.onnx" };
    wn_arena_init(&o.arena, 0);
    WN_CLEANUP(wn_freep) char *master = wn_asprintf("%s/master.onnx", dir);
    WN_CLEANUP(wn_freep) char *model = wn_asprintf("%s/model.onnx", dir);
    if (!master || !model)
        return wn_fail(err, WINNOW_E_NOMEM, "base");
    bool has_master = access(master, F_OK) == 0;
    o.file = has_master ? "master.onnx" : "model.onnx";
    enum winnow_status status = wn_onnx_read_file(has_master ? master : model, NULL, &o.arena, &o.graph, err);
    if (status != WINNOW_OK) {
        wn_arena_done(&o.arena);
        return status;
    }
    status = look_at_nodes(&o, err);
    if (status == WINNOW_OK)
        status = wn_origin_pipeline(dir, &o.graph, &o.pipeline, err);
    if (status == WINNOW_OK)
        status = look_at_task(&o, err);
    if (status == WINNOW_OK)
        *ret = o;
    else
        wn_origin_done(&o);
    return status;
}

void wn_origin_done(struct wn_origin *o)
{
    wn_pipeline_free(o->pipeline);
    wn_graph_done(&o->graph);
    wn_arena_done(&o->arena);
    *o = (struct wn_origin){ 0 };
}
