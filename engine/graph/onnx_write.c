/* onnx_write.c: from a graph to the bytes of an ONNX file.
 *
 * DESIGN  The messages are built in an arena of their own, pointing at the graph's strings and at its constants' data
 *         (raw_data is not copied), and packed by protobuf-c straight into the result. Names must be unique in a file:
 *         inputs and outputs of the model keep theirs, a later value of a name already given away gets another.
 *         A file beside the model's is not built in memory either: it is the list of its tensors' data. */
#include "engine/graph/onnx.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/small.h"
#include "base/file.h"
#include "base/strmap.h"
#include "engine/graph/onnx_scan.h"

#define OLDEST_IR    4 /* since then initializers need not be inputs */
#define NEWEST_IR    10
#define MAX_BYTES    ((size_t)INT32_MAX) /* protobuf's own limit for a message */
#define MIN_BESIDE   1024u               /* bytes of a tensor that goes into the file beside the model's */
#define ALIGN_BESIDE 4096u /* where it begins there: ONNX recommends pages, for readers that map the file */

struct writer {
    struct wn_arena arena;
    const struct wn_graph *top;
    const char *beside;           /* name of the file beside the model's; NULL: all tensors are in the model's */
    uint64_t at;                  /* bytes in it so far */
    WN_VEC(struct wn_piece) data; /* that they are made of */
};

/* Names of one graph's values in the file, and those of the graphs around it. */
struct names {
    const struct wn_graph *g;
    const char **of;       /* [values] */
    struct wn_strmap used; /* names in the file */
    struct wn_strmap file; /* name in the graph → name in the file */
    const struct names *outer;
};

static void names_done(struct names *n)
{
    wn_strmap_done(&n->used);
    wn_strmap_done(&n->file);
}

static enum winnow_status no_memory(struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_NOMEM, "writing the graph");
}

#define NEW(w, type)      wn_arena_alloc(&(w)->arena, sizeof(type))
#define NEW_N(w, type, n) ((type *)wn_arena_calloc(&(w)->arena, (n), sizeof(type)))

/* ---- names ---- */

static bool name_used(const struct names *names, const char *name)
{
    for (; names; names = names->outer)
        if (wn_strmap_get(&names->used, name, strlen(name)))
            return true;
    return false;
}

/* Give value v a name of its own. */
static bool give_name(struct writer *w, struct names *names, wn_vid v)
{
    if (names->of[v])
        return true;
    const char *own = names->g->values.at[v].name, *name = own;
    for (unsigned k = 1; !*name || name_used(names, name); k++)
        if (!(name = wn_arena_printf(&w->arena, "%s_%u_%u", own, v, k)))
            return false;
    names->of[v] = name;
    return wn_strmap_set(&names->used, name, strlen(name), w) &&
           (wn_strmap_get(&names->file, own, strlen(own)) ||
            wn_strmap_set(&names->file, own, strlen(own), (void *)(uintptr_t)name));
}

/* The name by which the graphs around call what the outer value v stands for. */
static const char *outer_name(const struct names *names, wn_vid v)
{
    const char *name = names->g->values.at[v].name;
    for (const struct names *n = names->outer; n; n = n->outer) {
        const char *found = wn_strmap_get(&n->file, name, strlen(name));
        if (found)
            return found;
    }
    return NULL;
}

static enum winnow_status name_values(struct writer *w, struct names *names, struct winnow_err *err)
{
    const struct wn_graph *g = names->g;
    names->of = NEW_N(w, const char *, g->values.n + 1);
    bool ok = names->of != NULL;
    for (size_t v = 0; ok && v < g->values.n; v++)
        if (g->values.at[v].outer)
            names->of[v] = outer_name(names, (wn_vid)v);
    for (size_t i = 0; ok && i < g->inputs.n; i++)
        ok = give_name(w, names, g->inputs.at[i]);
    for (size_t i = 0; ok && i < g->outputs.n; i++)
        ok = g->values.at[g->outputs.at[i]].outer || give_name(w, names, g->outputs.at[i]);
    for (size_t n = 0; ok && n < g->nodes.n; n++) {
        const struct wn_node *node = &g->nodes.at[n];
        for (unsigned i = 0; ok && !node->dead && i < node->n_in; i++)
            ok = node->in[i] == WN_NONE || g->values.at[node->in[i]].outer || give_name(w, names, node->in[i]);
        for (unsigned i = 0; ok && !node->dead && i < node->n_out; i++)
            ok = node->out[i] == WN_NONE || give_name(w, names, node->out[i]);
    }
    /* What only sub-graphs use: constants of this graph. */
    for (size_t v = 0; ok && v < g->values.n; v++)
        ok = !g->values.at[v].constant || g->values.at[v].outer || give_name(w, names, (wn_vid)v);
    return ok ? WINNOW_OK : no_memory(err);
}

/* ---- tensors and types ---- */

/* Several elements to a byte, the first in the lowest bits. */
static enum winnow_status pack(struct writer *w, const struct wn_tensor *t, Onnx__TensorProto *to,
                               struct winnow_err *err)
{
    unsigned bits = wn_small_bits(t->dtype), per = 8 / bits;
    const uint8_t *from = t->data;
    size_t n = t->bytes / per + (t->bytes % per != 0);
    uint8_t *packed = wn_arena_alloc(&w->arena, n);
    if (!packed)
        return no_memory(err);
    for (size_t i = 0; i < t->bytes; i++)
        packed[i / per] |= (uint8_t)((from[i] & ((1u << bits) - 1)) << (i % per * bits));
    to->raw_data = (ProtobufCBinaryData){ n, packed };
    return WINNOW_OK;
}

static enum winnow_status put_tensor(struct writer *w, const struct wn_tensor *t, const char *name,
                                     Onnx__TensorProto *to, struct winnow_err *err)
{
    onnx__tensor_proto__init(to);
    to->name = (char *)(uintptr_t)name;
    to->has_data_type = true;
    to->data_type = (int32_t)t->dtype;
    to->n_dims = t->rank;
    to->dims = (int64_t *)(uintptr_t)t->dim;
    if (t->dtype != WINNOW_STRING) {
        to->has_raw_data = true;
        to->raw_data = (ProtobufCBinaryData){ t->bytes, t->data };
        if (wn_small_is(t->dtype) && wn_small_bits(t->dtype) < 8)
            return pack(w, t, to, err);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "writing ONNX files on a big-endian machine");
#endif
        return WINNOW_OK;
    }
    const struct winnow_str *str = t->data;
    to->n_string_data = (size_t)wn_tensor_count(t);
    to->string_data = NEW_N(w, ProtobufCBinaryData, to->n_string_data);
    if (!to->string_data)
        return no_memory(err);
    for (size_t i = 0; i < to->n_string_data; i++)
        to->string_data[i] = (ProtobufCBinaryData){ str[i].n, (uint8_t *)(uintptr_t)str[i].p };
    return WINNOW_OK;
}

static bool put_entry(struct writer *w, Onnx__TensorProto *to, const char *key, const char *value)
{
    Onnx__StringStringEntryProto *entry = value ? NEW(w, *entry) : NULL;
    if (!entry)
        return false;
    onnx__string_string_entry_proto__init(entry);
    entry->key = (char *)(uintptr_t)key;
    entry->value = (char *)(uintptr_t)value;
    to->external_data[to->n_external_data++] = entry;
    return true;
}

/* Moves a large tensor's data into the file beside the model's, where there is one. */
static enum winnow_status put_beside(struct writer *w, Onnx__TensorProto *to, struct winnow_err *err)
{
    static const unsigned char gap[ALIGN_BESIDE];
    size_t n = to->raw_data.len, skip = (size_t)(-w->at % ALIGN_BESIDE);
    if (!w->beside || !to->has_raw_data || n < MIN_BESIDE)
        return WINNOW_OK;
    if (!wn_vec_push(&w->data, (struct wn_piece){ gap, skip }) ||
        !wn_vec_push(&w->data, (struct wn_piece){ to->raw_data.data, n }))
        return no_memory(err);
    w->at += skip;
    to->has_data_location = true;
    to->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    to->external_data = NEW_N(w, Onnx__StringStringEntryProto *, 3);
    if (!to->external_data || !put_entry(w, to, "location", w->beside) ||
        !put_entry(w, to, "offset", wn_arena_printf(&w->arena, "%llu", (unsigned long long)w->at)) ||
        !put_entry(w, to, "length", wn_arena_printf(&w->arena, "%zu", n)))
        return no_memory(err);
    w->at += n;
    to->has_raw_data = false;
    return WINNOW_OK;
}

static Onnx__TensorShapeProto *make_shape(struct writer *w, const struct wn_value *v)
{
    Onnx__TensorShapeProto *shape = NEW(w, *shape);
    size_t n = (size_t)v->type.rank;
    Onnx__TensorShapeProto__Dimension *dim = NEW_N(w, Onnx__TensorShapeProto__Dimension, n);
    Onnx__TensorShapeProto__Dimension **list = NEW_N(w, Onnx__TensorShapeProto__Dimension *, n);
    if (!shape || !dim || !list)
        return NULL;
    onnx__tensor_shape_proto__init(shape);
    for (size_t i = 0; i < n; i++) {
        onnx__tensor_shape_proto__dimension__init(&dim[i]);
        list[i] = &dim[i];
        if (v->type.dim[i] >= 0) {
            dim[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            dim[i].dim_value = v->type.dim[i];
        } else if (v->dim_name[i]) {
            dim[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            dim[i].dim_param = (char *)(uintptr_t)v->dim_name[i];
        }
    }
    shape->n_dim = n;
    shape->dim = list;
    return shape;
}

static bool put_value_info(struct writer *w, const struct wn_value *v, const char *name, Onnx__ValueInfoProto *to)
{
    onnx__value_info_proto__init(to);
    to->name = (char *)(uintptr_t)name;
    if (v->type.dtype == WINNOW_UNDEFINED)
        return true;
    Onnx__TypeProto *type = NEW(w, *type);
    Onnx__TypeProto__Tensor *tensor = NEW(w, *tensor);
    if (!type || !tensor)
        return false;
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    tensor->has_elem_type = true;
    tensor->elem_type = (int32_t)v->type.dtype;
    if (v->type.rank >= 0 && !(tensor->shape = make_shape(w, v)))
        return false;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    to->type = type;
    return true;
}

static enum winnow_status put_infos(struct writer *w, const struct names *names, const wn_vid *ids, size_t n,
                                    Onnx__ValueInfoProto ***ret, struct winnow_err *err)
{
    Onnx__ValueInfoProto *info = NEW_N(w, Onnx__ValueInfoProto, n), **list = NEW_N(w, Onnx__ValueInfoProto *, n);
    for (size_t i = 0; info && list && i < n; i++) {
        list[i] = &info[i];
        if (!put_value_info(w, &names->g->values.at[ids[i]], names->of[ids[i]], &info[i]))
            return no_memory(err);
    }
    *ret = list;
    return info && list ? WINNOW_OK : no_memory(err);
}

/* ---- attributes and nodes ---- */

static enum winnow_status put_graph(struct writer *w, const struct wn_graph *g, const struct names *outer,
                                    Onnx__GraphProto **ret, struct winnow_err *err);

static enum winnow_status put_attr(struct writer *w, const struct names *names, const struct wn_attr *a,
                                   Onnx__AttributeProto *to, struct winnow_err *err)
{
    onnx__attribute_proto__init(to);
    to->name = (char *)(uintptr_t)a->name;
    to->has_type = true;
    switch (a->kind) {
    case WN_ATTR_INT:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        to->has_i = true;
        to->i = a->i;
        return WINNOW_OK;
    case WN_ATTR_FLOAT:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        to->has_f = true;
        to->f = a->f;
        return WINNOW_OK;
    case WN_ATTR_STRING:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        to->has_s = true;
        to->s = (ProtobufCBinaryData){ a->s.n, (uint8_t *)(uintptr_t)a->s.p };
        return WINNOW_OK;
    case WN_ATTR_TENSOR:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
        to->t = NEW(w, *to->t);
        return to->t ? put_tensor(w, a->t, NULL, to->t, err) : no_memory(err);
    case WN_ATTR_INTS:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        to->n_ints = a->n;
        to->ints = (int64_t *)(uintptr_t)a->ints;
        return WINNOW_OK;
    case WN_ATTR_FLOATS:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
        to->n_floats = a->n;
        to->floats = (float *)(uintptr_t)a->floats;
        return WINNOW_OK;
    case WN_ATTR_STRINGS:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS;
        to->n_strings = a->n;
        to->strings = NEW_N(w, ProtobufCBinaryData, a->n);
        for (size_t i = 0; to->strings && i < a->n; i++)
            to->strings[i] = (ProtobufCBinaryData){ a->strs[i].n, (uint8_t *)(uintptr_t)a->strs[i].p };
        return to->strings ? WINNOW_OK : no_memory(err);
    case WN_ATTR_GRAPH:
        to->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
        return put_graph(w, a->g, names, &to->g, err);
    }
    return wn_fail(err, WINNOW_E_INTERNAL, "attribute '%.*s' of unknown kind", WN_CLIP(a->name));
}

static enum winnow_status put_names(struct writer *w, const struct names *names, const wn_vid *ids, unsigned n,
                                    char ***ret, struct winnow_err *err)
{
    char **list = NEW_N(w, char *, n);
    if (!list)
        return no_memory(err);
    for (unsigned i = 0; i < n; i++) {
        const char *name = ids[i] == WN_NONE ? "" : names->of[ids[i]];
        if (!name)
            return wn_fail(err, WINNOW_E_INTERNAL, "value '%.*s' stands for nothing in the graphs around",
                           WN_CLIP(names->g->values.at[ids[i]].name));
        list[i] = (char *)(uintptr_t)name;
    }
    *ret = list;
    return WINNOW_OK;
}

static enum winnow_status put_node(struct writer *w, const struct names *names, const struct wn_node *node,
                                   Onnx__NodeProto *to, struct winnow_err *err)
{
    if (strcmp(node->domain, "wn") == 0)
        return wn_fail(err, WINNOW_E_INTERNAL, "it is a fused operator of our own");
    onnx__node_proto__init(to);
    to->name = (char *)(uintptr_t)node->name;
    to->op_type = (char *)(uintptr_t)node->op_type;
    to->domain = *node->domain ? (char *)(uintptr_t)node->domain : NULL;
    to->n_input = node->n_in;
    to->n_output = node->n_out;
    to->n_attribute = node->n_attr;
    WN_TRY(put_names(w, names, node->in, node->n_in, &to->input, err));
    WN_TRY(put_names(w, names, node->out, node->n_out, &to->output, err));
    Onnx__AttributeProto *attr = NEW_N(w, Onnx__AttributeProto, node->n_attr);
    to->attribute = NEW_N(w, Onnx__AttributeProto *, node->n_attr);
    if (!attr || !to->attribute)
        return no_memory(err);
    for (unsigned i = 0; i < node->n_attr; i++) {
        to->attribute[i] = &attr[i];
        WN_TRY(put_attr(w, names, &node->attr[i], &attr[i], err));
    }
    return WINNOW_OK;
}

static enum winnow_status put_nodes(struct writer *w, const struct names *names, Onnx__GraphProto *to,
                                    struct winnow_err *err)
{
    const struct wn_graph *g = names->g;
    Onnx__NodeProto *nodes = NEW_N(w, Onnx__NodeProto, g->nodes.n);
    to->node = NEW_N(w, Onnx__NodeProto *, g->nodes.n);
    if (!nodes || !to->node)
        return no_memory(err);
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        if (node->dead)
            continue;
        enum winnow_status status = put_node(w, names, node, &nodes[to->n_node], err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "node '%.*s' (%.*s)", WN_CLIP(node->name), WN_CLIP(node->op_type));
        to->node[to->n_node] = &nodes[to->n_node];
        to->n_node++;
    }
    return WINNOW_OK;
}

/* ---- graphs ---- */

/* Mark the constants that the file needs: of inputs of nodes and outputs, and those that sub-graphs take. */
static void mark_used(const struct wn_graph *g, const struct wn_strmap *by_name, unsigned char *used)
{
    for (size_t n = 0; n < g->nodes.n; n++) {
        const struct wn_node *node = &g->nodes.at[n];
        for (unsigned i = 0; !node->dead && i < node->n_in; i++)
            if (node->in[i] != WN_NONE)
                used[node->in[i]] = 1;
        for (unsigned a = 0; !node->dead && a < node->n_attr; a++) {
            const struct wn_graph *sub = node->attr[a].kind == WN_ATTR_GRAPH ? node->attr[a].g : NULL;
            for (size_t v = 0; sub && v < sub->values.n; v++) {
                const char *name = sub->values.at[v].name;
                void *at = sub->values.at[v].outer ? wn_strmap_get(by_name, name, strlen(name)) : NULL;
                if (at)
                    used[(uintptr_t)at - 1] = 1;
            }
        }
    }
    for (size_t i = 0; i < g->outputs.n; i++)
        used[g->outputs.at[i]] = 1;
}

static enum winnow_status put_initializers(struct writer *w, const struct names *names, Onnx__GraphProto *to,
                                           struct winnow_err *err)
{
    const struct wn_graph *g = names->g;
    struct wn_strmap by_name __attribute__((cleanup(wn_strmap_done))) = { 0 };
    size_t n = 0;
    for (size_t v = 0; v < g->values.n; v++) {
        const struct wn_value *value = &g->values.at[v];
        if (!value->constant || value->outer)
            continue;
        n++;
        if (!wn_strmap_set(&by_name, value->name, strlen(value->name), (void *)(uintptr_t)(v + 1)))
            return no_memory(err);
    }
    unsigned char *used = NEW_N(w, unsigned char, g->values.n);
    Onnx__TensorProto *tensors = NEW_N(w, Onnx__TensorProto, n);
    to->initializer = NEW_N(w, Onnx__TensorProto *, n);
    if (!used || !tensors || !to->initializer)
        return no_memory(err);
    mark_used(g, &by_name, used);
    for (size_t v = 0; v < g->values.n; v++) {
        const struct wn_value *value = &g->values.at[v];
        /* A constant that a node still makes (folding may keep both) is written as the node. */
        if (!value->constant || value->outer || !used[v] || value->producer != WN_NONE)
            continue;
        to->initializer[to->n_initializer] = &tensors[to->n_initializer];
        WN_TRY(put_tensor(w, value->constant, names->of[v], &tensors[to->n_initializer], err));
        WN_TRY(put_beside(w, &tensors[to->n_initializer], err));
        to->n_initializer++;
    }
    return WINNOW_OK;
}

static enum winnow_status put_graph(struct writer *w, const struct wn_graph *g, const struct names *outer,
                                    Onnx__GraphProto **ret, struct winnow_err *err)
{
    WN_CLEANUP(names_done) struct names names = { .g = g, .outer = outer };
    WN_TRY(name_values(w, &names, err));
    Onnx__GraphProto *to = NEW(w, *to);
    if (!to)
        return no_memory(err);
    onnx__graph_proto__init(to);
    to->name = (char *)(uintptr_t)(*g->name ? g->name : "graph"); /* a name is demanded */
    to->n_input = g->inputs.n;
    to->n_output = g->outputs.n;
    WN_TRY(put_infos(w, &names, g->inputs.at, g->inputs.n, &to->input, err));
    WN_TRY(put_infos(w, &names, g->outputs.at, g->outputs.n, &to->output, err));
    WN_TRY(put_initializers(w, &names, to, err));
    WN_TRY(put_nodes(w, &names, to, err));
    *ret = to;
    return WINNOW_OK;
}

static enum winnow_status put_model(struct writer *w, Onnx__ModelProto *to, struct winnow_err *err)
{
    const struct wn_graph *g = w->top;
    onnx__model_proto__init(to);
    to->has_ir_version = true;
    to->ir_version = WN_MIN(WN_MAX(g->ir_version, OLDEST_IR), NEWEST_IR);
    to->producer_name = (char *)(uintptr_t)(*g->producer ? g->producer : "winnow");
    to->n_opset_import = g->opsets.n;
    to->n_metadata_props = g->meta.n;
    Onnx__OperatorSetIdProto *set = NEW_N(w, Onnx__OperatorSetIdProto, g->opsets.n);
    to->opset_import = NEW_N(w, Onnx__OperatorSetIdProto *, g->opsets.n);
    Onnx__StringStringEntryProto *meta = NEW_N(w, Onnx__StringStringEntryProto, g->meta.n);
    to->metadata_props = NEW_N(w, Onnx__StringStringEntryProto *, g->meta.n);
    if (!set || !to->opset_import || !meta || !to->metadata_props)
        return no_memory(err);
    for (size_t i = 0; i < g->opsets.n; i++) {
        onnx__operator_set_id_proto__init(&set[i]);
        set[i].domain = (char *)(uintptr_t)g->opsets.at[i].domain;
        set[i].has_version = true;
        set[i].version = g->opsets.at[i].version;
        to->opset_import[i] = &set[i];
    }
    for (size_t i = 0; i < g->meta.n; i++) {
        onnx__string_string_entry_proto__init(&meta[i]);
        meta[i].key = (char *)(uintptr_t)g->meta.at[i].key;
        meta[i].value = (char *)(uintptr_t)g->meta.at[i].value;
        to->metadata_props[i] = &meta[i];
    }
    return put_graph(w, g, NULL, &to->graph, err);
}

static void writer_done(struct writer *w)
{
    wn_arena_done(&w->arena);
    wn_vec_done(&w->data);
}

/* The serialized model. */
static enum winnow_status pack_model(const Onnx__ModelProto *model, void **ret_bytes, size_t *ret_n,
                                     struct winnow_err *err)
{
    size_t n = onnx__model_proto__get_packed_size(model);
    if (n > MAX_BYTES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu bytes are more than an ONNX file can hold", n);
    void *bytes = malloc(n ? n : 1);
    if (!bytes)
        return wn_fail(err, WINNOW_E_NOMEM, "an ONNX file of %zu bytes", n);
    onnx__model_proto__pack(model, bytes);
    *ret_bytes = bytes;
    *ret_n = n;
    return WINNOW_OK;
}

enum winnow_status wn_onnx_write(const struct wn_graph *g, void **ret_bytes, size_t *ret_n, struct winnow_err *err)
{
    WN_CLEANUP(writer_done) struct writer w = { .top = g };
    Onnx__ModelProto model;
    WN_TRY(put_model(&w, &model, err));
    return pack_model(&model, ret_bytes, ret_n, err);
}

static enum winnow_status write_two(const struct wn_graph *g, const char *path, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_CLEANUP(wn_freep) char *beside = wn_asprintf("%s.data", path);
    size_t n;
    if (!beside)
        return no_memory(err);
    const char *slash = strrchr(beside, '/');
    WN_CLEANUP(writer_done) struct writer w = { .top = g, .beside = slash ? slash + 1 : beside };
    Onnx__ModelProto model;
    WN_TRY(put_model(&w, &model, err));
    WN_TRY(pack_model(&model, &bytes, &n, err));
    if (w.data.n)
        WN_TRY(wn_file_write_pieces(beside, w.data.at, w.data.n, err));
    return wn_file_write_durable(path, bytes, n, err);
}

enum winnow_status wn_onnx_write_file(const struct wn_graph *g, const char *path, bool beside, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    if (!beside) {
        WN_CLEANUP(writer_done) struct writer w = { .top = g };
        Onnx__ModelProto model;
        WN_TRY(put_model(&w, &model, err));
        beside = onnx__model_proto__get_packed_size(&model) > MAX_BYTES;
        if (!beside)
            WN_TRY(pack_model(&model, &bytes, &n, err));
    }
    return beside ? write_two(g, path, err) : wn_file_write_durable(path, bytes, n, err);
}
