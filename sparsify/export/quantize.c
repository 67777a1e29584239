/* quantize.c: QuantizeLinear and DequantizeLinear into an exported graph. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/strmap.h"
#include "sparsify/export/export.h"

#define OPSET 13

struct exporter {
    struct wn_trainer *tr;
    struct wn_graph *g;
    struct winnow_err *err;
    struct wn_strmap values;      /* name -> wn_vid + 1 */
    struct wn_quant_point *point; /* [values of g]; scale 0 = none */
    bool *layer;                  /* [nodes at the start] reads quantized values */
    size_t n_nodes;
    size_t n_values; /* at the start: those made here have no points */
};

#define OOM(e, what) wn_fail((e)->err, WINNOW_E_NOMEM, "exporting '%s'", what)

static wn_vid scalar(struct exporter *e, const char *name, enum winnow_dtype dtype, const void *v)
{
    return wn_graph_add_const(e->g, name, dtype, 0, NULL, v);
}

/* ---- activations ---- */

static enum winnow_status find_points(struct exporter *e)
{
    for (size_t i = 0; i < e->n_values; i++) {
        const char *name = e->g->values.at[i].name;
        if (!wn_strmap_set(&e->values, name, strlen(name), (void *)(uintptr_t)(i + 1)))
            return OOM(e, name);
    }
    for (unsigned i = 0; i < wn_trainer_n_quant_points(e->tr); i++) {
        struct wn_quant_point p;
        wn_trainer_quant_point(e->tr, i, &p);
        uintptr_t id = (uintptr_t)wn_strmap_get(&e->values, p.value, strlen(p.value));
        if (!id)
            return wn_fail(e->err, WINNOW_E_INTERNAL, "quantized value '%s' is not in the exported graph", p.value);
        e->point[id - 1] = p;
    }
    return WINNOW_OK;
}

/* x -> Q -> DQ, and every user of x reads the pair's end. */
static enum winnow_status add_pair(struct exporter *e, wn_vid x)
{
    struct wn_graph *g = e->g;
    struct wn_quant_point p = e->point[x];
    struct wn_type t = g->values.at[x].type;
    const char *name = g->values.at[x].name;
    wn_vid s = scalar(e, wn_arena_printf(g->arena, "%s_scale", name), WINNOW_F32, &p.scale);
    wn_vid z = scalar(e, wn_arena_printf(g->arena, "%s_zero_point", name), WINNOW_U8, &p.zero);
    wn_vid q = wn_graph_add_value(g, wn_arena_printf(g->arena, "%s_quantized", name), WINNOW_U8, t.rank, t.dim);
    wn_vid d = wn_graph_add_value(g, wn_arena_printf(g->arena, "%s_dequantized", name), WINNOW_F32, t.rank, t.dim);
    if (s == WN_NONE || z == WN_NONE || q == WN_NONE || d == WN_NONE)
        return OOM(e, name);
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned k = 0; k < g->nodes.at[i].n_in; k++)
            if (!g->nodes.at[i].dead && g->nodes.at[i].in[k] == x &&
                (!p.layers_only || (i < e->n_nodes && e->layer[i])))
                g->nodes.at[i].in[k] = d;
    wn_vid qin[] = { x, s, z }, din[] = { q, s, z };
    if (!wn_graph_add_node(g, "", "QuantizeLinear", wn_arena_printf(g->arena, "%s_quantize", name), qin, 3, &q, 1) ||
        !wn_graph_add_node(g, "", "DequantizeLinear", wn_arena_printf(g->arena, "%s_dequantize", name), din, 3, &d, 1))
        return OOM(e, name);
    return WINNOW_OK;
}

/* Quantization point behind value v, through operators that only move or choose elements; NULL when there is none. */
static const struct wn_quant_point *point_of(struct exporter *e, wn_vid v)
{
    static const char *const passes[] = { "MaxPool",   "Reshape",   "Flatten", "Squeeze",
                                          "Unsqueeze", "Transpose", "Identity" };
    for (int hops = 0; hops < 64 && v < e->n_values; hops++) {
        if (e->point[v].scale > 0)
            return &e->point[v];
        struct wn_node *from = wn_graph_producer(e->g, v);
        bool moves = false;
        for (size_t i = 0; i < WN_COUNT(passes) && from; i++)
            moves = moves || wn_node_is(from, passes[i]);
        if (!moves)
            return NULL;
        v = from->in[0];
    }
    return NULL;
}

/* ---- weights ---- */

static struct wn_param *weight_of(struct exporter *e, const struct wn_node *node)
{
    for (unsigned i = 0; i < wn_trainer_n_params(e->tr); i++) {
        struct wn_param *p = wn_trainer_param(e->tr, i);
        if (p->kind == WN_PARAM_WEIGHT && strcmp(p->node, node->name) == 0)
            return p;
    }
    return NULL;
}

/* Axis of the output channels in the file's tensor. */
static int channel_axis(const struct wn_node *node)
{
    if (wn_node_is(node, "MatMul"))
        return 1;
    return wn_node_is(node, "Gemm") && !wn_node_int(node, "transB", 0) ? 1 : 0;
}

/* s8 values in the file's orientation; `scale` [O]. */
static enum winnow_status quantize_weights(struct exporter *e, const struct wn_tensor *w, int axis, const float *scale,
                                           int8_t *out, const char *name)
{
    int64_t O = w->dim[axis], count = wn_tensor_count(w), per = O ? count / O : 0;
    const float *x = w->data;
    for (int64_t i = 0; i < count; i++) {
        int64_t o = axis == 0 ? i / per : i % O;
        float q = rintf(x[i] / scale[o]);
        out[i] = (int8_t)(q < -127 ? -127 : q > 127 ? 127 : q);
        if (x[i] == 0 && out[i] != 0)
            return wn_fail(e->err, WINNOW_E_INTERNAL, "a pruned weight of '%s' would not be zero", name);
    }
    return WINNOW_OK;
}

/* DequantizeLinear(const, scale) -> a new value; the zero point is left to its default of zero of the same type. */
static wn_vid dequantized(struct exporter *e, const char *name, wn_vid q, wn_vid scale, wn_vid zero, int axis,
                          const struct wn_tensor *like)
{
    struct wn_graph *g = e->g;
    wn_vid d = wn_graph_add_value(g, wn_arena_printf(g->arena, "%s_dequantized", name), WINNOW_F32, (int)like->rank,
                                  like->dim);
    wn_vid in[] = { q, scale, zero };
    struct wn_node *node = d == WN_NONE
                               ? NULL
                               : wn_graph_add_node(g, "", "DequantizeLinear",
                                                   wn_arena_printf(g->arena, "%s_dequantize", name), in, 3, &d, 1);
    return node && wn_node_set_int(g, node, "axis", axis) ? d : WN_NONE;
}

static enum winnow_status quantize_bias(struct exporter *e, size_t at, const struct wn_quant_point *x,
                                        const float *w_scale)
{
    struct wn_graph *g = e->g;
    wn_vid b = g->nodes.at[at].n_in > 2 ? g->nodes.at[at].in[2] : WN_NONE;
    const struct wn_tensor *t = b == WN_NONE ? NULL : g->values.at[b].constant;
    if (!t || !x || t->rank != 1 || t->dtype != WINNOW_F32)
        return WINNOW_OK;
    const char *name = g->values.at[b].name;
    wn_vid q = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_quantized", name), WINNOW_I32, 1, t->dim, NULL);
    wn_vid s = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_scale", name), WINNOW_F32, 1, t->dim, NULL);
    wn_vid z = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_zero_point", name), WINNOW_I32, 1, t->dim, NULL);
    if (q == WN_NONE || s == WN_NONE || z == WN_NONE)
        return OOM(e, name);
    for (int64_t o = 0; o < t->dim[0]; o++) {
        double unit = (double)x->scale * w_scale[o], v = rint(((const float *)t->data)[o] / unit);
        if (!(fabs(v) < 1073741824.0))
            return WINNOW_OK; /* left in f32: the scale is too small for it */
        ((float *)g->values.at[s].constant->data)[o] = (float)unit;
        ((int32_t *)g->values.at[q].constant->data)[o] = (int32_t)v;
    }
    wn_vid d = dequantized(e, name, q, s, z, 0, t);
    if (d == WN_NONE)
        return OOM(e, name);
    g->nodes.at[at].in[2] = d;
    return WINNOW_OK;
}

static enum winnow_status quantize_layer(struct exporter *e, size_t at)
{
    struct wn_graph *g = e->g;
    const struct wn_node *node = &g->nodes.at[at];
    struct wn_param *p = weight_of(e, node);
    const struct wn_tensor *w = p ? g->values.at[node->in[1]].constant : NULL;
    if (!w || w->rank < 2)
        return WINNOW_OK;
    int axis = channel_axis(node);
    int64_t O = w->dim[axis];
    const char *name = g->values.at[node->in[1]].name;
    WN_CLEANUP(wn_freep) float *scale = calloc((size_t)O + 1, sizeof *scale);
    if (!scale)
        return OOM(e, name);
    if (!wn_trainer_weight_scales(e->tr, p, scale))
        return WINNOW_OK; /* this layer stays f32 */
    e->layer[at] = true;
    wn_vid q = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_quantized", name), WINNOW_I8, w->rank, w->dim, NULL);
    wn_vid s = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_scale", name), WINNOW_F32, 1, &O, scale);
    wn_vid z = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_zero_point", name), WINNOW_I8, 1, &O, NULL);
    if (q == WN_NONE || s == WN_NONE || z == WN_NONE)
        return OOM(e, name);
    WN_TRY(quantize_weights(e, w, axis, scale, g->values.at[q].constant->data, name));
    const struct wn_quant_point *x = point_of(e, g->nodes.at[at].in[0]);
    wn_vid d = dequantized(e, name, q, s, z, axis, w);
    if (d == WN_NONE)
        return OOM(e, name);
    g->nodes.at[at].in[1] = d;
    return quantize_bias(e, at, x, scale);
}

/* Gather of a table → Gather of the s8 table → DequantizeLinear. */
static enum winnow_status quantize_table(struct exporter *e, size_t at)
{
    struct wn_graph *g = e->g;
    struct wn_param *p = weight_of(e, &g->nodes.at[at]);
    const struct wn_tensor *w = p ? g->values.at[g->nodes.at[at].in[0]].constant : NULL;
    float scale;
    if (!w || w->rank != 2 || !wn_trainer_table_scale(e->tr, p, &scale))
        return WINNOW_OK;
    const char *name = g->values.at[g->nodes.at[at].in[0]].name;
    int8_t zero = 0;
    wn_vid out = g->nodes.at[at].out[0];
    const struct wn_type t = g->values.at[out].type;
    wn_vid q = wn_graph_add_const(g, wn_arena_printf(g->arena, "%s_quantized", name), WINNOW_I8, w->rank, w->dim, NULL);
    wn_vid s = scalar(e, wn_arena_printf(g->arena, "%s_scale", name), WINNOW_F32, &scale);
    wn_vid z = scalar(e, wn_arena_printf(g->arena, "%s_zero_point", name), WINNOW_I8, &zero);
    wn_vid rows = wn_graph_add_value(g, wn_arena_printf(g->arena, "%s_rows", name), WINNOW_I8, t.rank, t.dim);
    if (q == WN_NONE || s == WN_NONE || z == WN_NONE || rows == WN_NONE)
        return OOM(e, name);
    int8_t *to = g->values.at[q].constant->data;
    for (int64_t i = 0; i < wn_tensor_count(w); i++)
        to[i] = (int8_t)rintf(((const float *)w->data)[i] / scale);
    g->nodes.at[at].in[0] = q;
    g->nodes.at[at].out[0] = rows;
    g->values.at[rows].producer = (wn_nid)at;
    wn_vid in[] = { rows, s, z };
    return wn_graph_add_node(g, "", "DequantizeLinear", wn_arena_printf(g->arena, "%s_dequantize", name), in, 3, &out,
                             1)
               ? WINNOW_OK
               : OOM(e, name);
}

static enum winnow_status quantize_node(struct exporter *e, size_t at)
{
    const struct wn_node *node = &e->g->nodes.at[at];
    if (node->dead)
        return WINNOW_OK;
    if (wn_node_is(node, "Gather") && node->n_in == 2)
        return quantize_table(e, at);
    if (!wn_node_is(node, "Conv") && !wn_node_is(node, "Gemm") && !wn_node_is(node, "MatMul"))
        return WINNOW_OK;
    if (wn_node_is(node, "MatMul") && !weight_of(e, node) && wn_trainer_quant_products(e->tr))
        e->layer[at] = true;
    return quantize_layer(e, at);
}

/* ---- opset 13 ---- */

static enum winnow_status clip_to_inputs(struct exporter *e, size_t at)
{
    struct wn_node *node = &e->g->nodes.at[at];
    float lo = wn_node_float(node, "min", -INFINITY), hi = wn_node_float(node, "max", INFINITY);
    wn_vid in[3] = { node->in[0], isinf(lo) ? WN_NONE : scalar(e, NULL, WINNOW_F32, &lo),
                     isinf(hi) ? WN_NONE : scalar(e, NULL, WINNOW_F32, &hi) };
    node = &e->g->nodes.at[at];
    node->in = wn_arena_memdup(e->g->arena, in, sizeof in);
    node->n_in = isinf(hi) ? (isinf(lo) ? 1 : 2) : 3;
    node->n_attr = 0;
    return node->in ? WINNOW_OK : OOM(e, node->name);
}

/* Integers of attribute `name` as the second input; other attributes stay. */
static enum winnow_status ints_to_input(struct exporter *e, size_t at, const char *name)
{
    size_t n;
    const int64_t *axes = wn_node_ints(&e->g->nodes.at[at], name, &n);
    if (!axes)
        return WINNOW_OK;
    int64_t dim = (int64_t)n;
    wn_vid in[2] = { e->g->nodes.at[at].in[0], wn_graph_add_const(e->g, NULL, WINNOW_I64, 1, &dim, axes) };
    struct wn_node *node = &e->g->nodes.at[at];
    node->in = wn_arena_memdup(e->g->arena, in, sizeof in);
    node->n_in = 2;
    unsigned kept = 0;
    for (unsigned i = 0; i < node->n_attr; i++)
        if (strcmp(node->attr[i].name, name) != 0)
            node->attr[kept++] = node->attr[i];
    node->n_attr = kept;
    return node->in && in[1] != WN_NONE ? WINNOW_OK : OOM(e, node->name);
}

/* Before opset 13 Softmax flattens what lies behind its axis; along the last axis both mean the same. */
static enum winnow_status raise_softmax(struct exporter *e, size_t at)
{
    struct wn_node *node = &e->g->nodes.at[at];
    int rank = e->g->values.at[node->in[0]].type.rank;
    int64_t axis = wn_node_int(node, "axis", 1);
    if (axis != -1 && (rank < 0 || axis != rank - 1))
        return wn_fail(e->err, WINNOW_E_UNSUPPORTED, "node '%s': %s along axis %lld cannot be raised to opset %d",
                       node->name, node->op_type, (long long)axis, OPSET);
    return wn_node_set_int(e->g, node, "axis", -1) ? WINNOW_OK : OOM(e, node->name);
}

static enum winnow_status raise_node(struct exporter *e, size_t at)
{
    static const char *const changed[] = { "Upsample", "Resize", "TopK" };
    const struct wn_node *node = &e->g->nodes.at[at];
    if (wn_node_is(node, "Softmax") || wn_node_is(node, "LogSoftmax"))
        return raise_softmax(e, at);
    if (wn_node_is(node, "Split"))
        return ints_to_input(e, at, "split");
    if (wn_node_is(node, "ReduceSum"))
        return ints_to_input(e, at, "axes");
    bool by_input = (wn_node_is(node, "Slice") && node->opset < 10) || (wn_node_is(node, "Pad") && node->opset < 11);
    if (wn_node_is(node, "Clip") && node->opset < 11)
        return clip_to_inputs(e, at);
    if ((wn_node_is(node, "Squeeze") || wn_node_is(node, "Unsqueeze")) && node->opset < 13)
        return ints_to_input(e, at, "axes");
    for (size_t i = 0; i < WN_COUNT(changed); i++)
        by_input = by_input || wn_node_is(node, changed[i]);
    if (by_input)
        return wn_fail(e->err, WINNOW_E_UNSUPPORTED, "node '%s': %s of opset %d cannot be raised to opset %d",
                       node->name, node->op_type, node->opset, OPSET);
    return WINNOW_OK;
}

static enum winnow_status raise_opset(struct exporter *e)
{
    struct wn_opset *ai = NULL;
    for (size_t i = 0; i < e->g->opsets.n; i++)
        if (*e->g->opsets.at[i].domain == '\0')
            ai = &e->g->opsets.at[i];
    if (!ai || ai->version >= OPSET)
        return WINNOW_OK;
    for (size_t i = 0, n = e->g->nodes.n; i < n; i++)
        if (!e->g->nodes.at[i].dead && !*e->g->nodes.at[i].domain) {
            WN_TRY(raise_node(e, i));
            e->g->nodes.at[i].opset = OPSET;
        }
    ai->version = OPSET;
    e->g->ir_version = WN_MAX(e->g->ir_version, (int64_t)7);
    return WINNOW_OK;
}

enum winnow_status wn_export_quantize(struct wn_trainer *tr, struct wn_graph *g, struct winnow_err *err)
{
    struct exporter e = { .tr = tr, .g = g, .err = err, .n_values = g->values.n };
    e.point = calloc(g->values.n + 1, sizeof *e.point);
    e.layer = calloc(g->nodes.n + 1, sizeof *e.layer);
    enum winnow_status status = e.point && e.layer ? raise_opset(&e) : wn_fail(err, WINNOW_E_NOMEM, "export");
    if (status == WINNOW_OK) {
        e.n_nodes = g->nodes.n;
        status = find_points(&e);
        for (size_t i = 0; i < e.n_nodes && status == WINNOW_OK; i++)
            status = quantize_node(&e, i);
        for (size_t v = 0; v < e.n_values && status == WINNOW_OK; v++)
            if (e.point[v].scale > 0)
                status = add_pair(&e, (wn_vid)v);
    }
    wn_strmap_done(&e.values);
    free(e.point);
    free(e.layer);
    return status == WINNOW_OK ? wn_graph_sort(g, err) : status;
}
