/* onnx_read.c: from the unpacked skeleton of an ONNX file to a graph.
 *
 * DESIGN  Every name of a graph is entered into a keyed hash map first (initializers, inputs, node outputs), then the
 *         nodes' inputs are looked up, in the graph and then in those around it; so the order of nodes in the file does
 *         not matter and everything is linear. A name found further out becomes an outer value (graph.h) in each graph
 *         between. A sub-graph's value that has the name of one further out is given another: names are then unique
 *         along any chain of graphs, and passes need not think of hiding. */
#include "engine/graph/external.h"
#include "engine/graph/onnx_scan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/strmap.h"

#define MAX_ATTRS  64u         /* per node; the largest operator has about 15 */
#define MAX_OPSETS 128u        /* imports per file */
#define POOL       (16u << 10) /* names and small arrays are cut from pieces of this size */

struct reader {
    struct wn_onnx_source from;
    struct wn_external external;
    const Onnx__ModelProto *model;
    struct wn_arena *arena;
    struct wn_graph *top;
    size_t dense_budget; /* bytes left for dense forms of sparse tensors */
    size_t value_budget; /* bytes left for values: three bytes of file may ask for one in each of many graphs */
    unsigned char *pool;
    size_t pool_left;
};

/* A graph being read, and the graphs around it. */
struct scope {
    struct wn_graph *g;
    struct wn_strmap map; /* name in the file → index of the value + 1 */
    struct scope *outer;
};

static void scope_done(struct scope *s)
{
    wn_strmap_done(&s->map);
}

static const char *text(const char *s)
{
    return s ? s : "";
}

static enum winnow_status no_memory(struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_NOMEM, "reading the graph");
}

/* ---- memory ---- */

/* n bytes aligned to 8; the arena alone would spend 64 on every name. */
static void *take(struct reader *r, size_t n)
{
    if (n > POOL / 4)
        return wn_arena_alloc(r->arena, n);
    n = wn_round_up(n, 8);
    if (n > r->pool_left) {
        r->pool = wn_arena_alloc(r->arena, POOL);
        r->pool_left = r->pool ? POOL : 0;
        if (!r->pool)
            return NULL;
    }
    void *p = r->pool;
    r->pool += n;
    r->pool_left -= n;
    return p;
}

static void *take_copy(struct reader *r, const void *from, size_t n)
{
    void *p = take(r, n);
    if (p && n)
        memcpy(p, from, n);
    return p;
}

static char *take_text(struct reader *r, const char *s)
{
    return take_copy(r, text(s), strlen(text(s)) + 1);
}

/* ---- values ---- */

static wn_vid lookup(const struct scope *s, const char *name)
{
    return (wn_vid)((uintptr_t)wn_strmap_get(&s->map, name, strlen(name)) - 1u);
}

static bool named_further_out(const struct scope *s, const char *name)
{
    for (s = s->outer; s; s = s->outer)
        if (lookup(s, name) != WN_NONE)
            return true;
    return false;
}

/* A new value in the graph and its map; E_MALFORMED when the name is taken. */
static enum winnow_status define(struct reader *r, struct scope *s, const char *name, const char *what, wn_vid *ret,
                                 struct winnow_err *err)
{
    if (lookup(s, name) != WN_NONE)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s '%.*s': the name is defined twice", what, WN_CLIP(name));
    if (s->g->values.n >= WN_NONE)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "too many values");
    struct wn_value v = { .type.rank = -1, .producer = WN_NONE };
    const char *key = take_text(r, name);
    v.name = key;
    if (key && named_further_out(s, name)) {
        unsigned depth = 0;
        for (const struct scope *o = s->outer; o; o = o->outer)
            depth++;
        v.name = wn_arena_printf(r->arena, "%s/inner_%u_%zu", key, depth, s->g->values.n);
    }
    *ret = (wn_vid)s->g->values.n;
    if (!key || !v.name || !wn_vec_push(&s->g->values, v) ||
        !wn_strmap_set(&s->map, key, strlen(key), (void *)(uintptr_t)(*ret + (size_t)1)))
        return no_memory(err);
    return WINNOW_OK;
}

/* Memory of a value beside its name: itself, and its place in a map that is at least 3/8 full. */
#define VALUE_COST (sizeof(struct wn_value) + 86)

static enum winnow_status charge_values(struct reader *r, size_t n, struct winnow_err *err)
{
    if (n > r->value_budget / VALUE_COST)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "too many values: they need more than the %zu bytes left",
                       r->value_budget);
    r->value_budget -= n * VALUE_COST;
    return WINNOW_OK;
}

/* The value `name` as seen from this graph; WN_NONE when no graph has it. */
static enum winnow_status resolve(struct reader *r, struct scope *s, const char *name, wn_vid *ret,
                                  struct winnow_err *err)
{
    *ret = lookup(s, name);
    if (*ret != WN_NONE || !s->outer)
        return WINNOW_OK;
    wn_vid out;
    WN_TRY(resolve(r, s->outer, name, &out, err));
    if (out == WN_NONE)
        return WINNOW_OK;
    WN_TRY(charge_values(r, 1, err));
    struct wn_value v = s->outer->g->values.at[out];
    v.producer = WN_NONE;
    v.outer = true;
    memset(v.dim_name, 0, sizeof v.dim_name);
    *ret = (wn_vid)s->g->values.n;
    const char *key = take_text(r, name);
    if (!key || !wn_vec_push(&s->g->values, v) ||
        !wn_strmap_set(&s->map, key, strlen(key), (void *)(uintptr_t)(*ret + (size_t)1)))
        return no_memory(err);
    return WINNOW_OK;
}

static void set_constant(struct wn_value *v, const struct wn_tensor *t)
{
    v->constant = t;
    v->type = (struct wn_type){ .dtype = t->dtype, .rank = (int)t->rank };
    memcpy(v->type.dim, t->dim, sizeof v->type.dim);
}

static enum winnow_status read_initializers(struct reader *r, struct scope *s, const Onnx__GraphProto *proto,
                                            struct winnow_err *err)
{
    wn_vid v;
    for (size_t i = 0; i < proto->n_initializer; i++) {
        const Onnx__TensorProto *tp = proto->initializer[i];
        if (!*text(tp->name))
            return wn_fail(err, WINNOW_E_MALFORMED, "initializer %zu has no name", i);
        WN_TRY(define(r, s, tp->name, "initializer", &v, err));
        const struct wn_tensor *t;
        WN_TRY(wn_onnx_tensor(&r->from, tp, "initializer", r->arena, &t, err));
        set_constant(&s->g->values.at[v], t);
    }
    for (size_t i = 0; i < proto->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *sp = proto->sparse_initializer[i];
        if (!sp->values || !*text(sp->values->name))
            return wn_fail(err, WINNOW_E_MALFORMED, "sparse initializer %zu has no name", i);
        WN_TRY(define(r, s, sp->values->name, "sparse initializer", &v, err));
        const struct wn_tensor *t;
        WN_TRY(wn_onnx_sparse_tensor(&r->from, sp, "initializer", &r->dense_budget, r->arena, &t, err));
        set_constant(&s->g->values.at[v], t);
    }
    return WINNOW_OK;
}

/* ---- types ---- */

static const char *kind_of(const Onnx__TypeProto *type)
{
    switch (type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
        return "a sequence";
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
        return "a map";
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
        return "an optional";
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
        return "a sparse tensor";
    default:
        return "of unknown kind";
    }
}

static enum winnow_status read_dim(struct reader *r, const Onnx__TensorShapeProto__Dimension *dim, int64_t *ret,
                                   const char **ret_name, struct winnow_err *err)
{
    *ret = -1;
    *ret_name = NULL;
    if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
        if (dim->dim_value < -1) /* -1 is no extent either, but a common way to say "dynamic" */
            return wn_fail(err, WINNOW_E_MALFORMED, "negative extent %lld", (long long)dim->dim_value);
        *ret = dim->dim_value;
    } else if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && *text(dim->dim_param)) {
        if (!(*ret_name = take_text(r, dim->dim_param)))
            return no_memory(err);
    }
    return WINNOW_OK;
}

/* Take a declared type. Where `strict` (inputs and outputs of the model) what we cannot hold is an error, elsewhere the
 * declaration is left out. */
static enum winnow_status read_type(struct reader *r, const Onnx__ValueInfoProto *info, bool strict, bool named_dims,
                                    struct wn_value *v, struct winnow_err *err)
{
    const Onnx__TypeProto *type = info->type;
    if (!type || type->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET)
        return WINNOW_OK;
    if (type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        return strict ? wn_fail(err, WINNOW_E_UNSUPPORTED, "it is %s, not a tensor", kind_of(type)) : WINNOW_OK;
    const Onnx__TypeProto__Tensor *tensor = type->tensor_type;
    int32_t elem = tensor->elem_type;
    if (elem < 0 || (elem && !winnow_dtype_size((enum winnow_dtype)elem)))
        return strict ? wn_fail(err, WINNOW_E_UNSUPPORTED, "element type %d is not supported", elem) : WINNOW_OK;
    if (v->constant)
        return WINNOW_OK; /* known better */
    v->type.dtype = (enum winnow_dtype)elem;
    if (!tensor->shape)
        return WINNOW_OK;
    if (tensor->shape->n_dim > WINNOW_MAX_RANK)
        return strict ? wn_fail(err, WINNOW_E_UNSUPPORTED, "rank %zu, the most supported is %d", tensor->shape->n_dim,
                                WINNOW_MAX_RANK)
                      : WINNOW_OK;
    v->type.rank = (int)tensor->shape->n_dim;
    for (size_t i = 0; i < tensor->shape->n_dim; i++) {
        const char *name;
        WN_TRY(read_dim(r, tensor->shape->dim[i], &v->type.dim[i], &name, err));
        v->dim_name[i] = named_dims ? name : NULL;
    }
    return WINNOW_OK;
}

static enum winnow_status read_inputs(struct reader *r, struct scope *s, const Onnx__GraphProto *proto,
                                      struct winnow_err *err)
{
    for (size_t i = 0; i < proto->n_input; i++) {
        const Onnx__ValueInfoProto *info = proto->input[i];
        if (!*text(info->name))
            return wn_fail(err, WINNOW_E_MALFORMED, "input %zu has no name", i);
        wn_vid v = lookup(s, info->name);
        if (v != WN_NONE && s->g->values.at[v].constant)
            continue; /* an initializer listed again: before IR version 4 all are */
        WN_TRY(define(r, s, info->name, "input", &v, err));
        enum winnow_status status = read_type(r, info, !s->outer, true, &s->g->values.at[v], err);
        if (status == WINNOW_OK && !s->outer && s->g->values.at[v].type.dtype == WINNOW_UNDEFINED)
            status = wn_fail(err, WINNOW_E_MALFORMED, "it has no element type");
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "input '%.*s'", WN_CLIP(info->name));
        if (!wn_vec_push(&s->g->inputs, v))
            return no_memory(err);
    }
    return WINNOW_OK;
}

static enum winnow_status read_value_infos(struct reader *r, struct scope *s, const Onnx__GraphProto *proto,
                                           struct winnow_err *err)
{
    for (size_t i = 0; i < proto->n_value_info; i++) {
        const Onnx__ValueInfoProto *info = proto->value_info[i];
        wn_vid v = lookup(s, text(info->name));
        if (v == WN_NONE || s->g->values.at[v].type.dtype != WINNOW_UNDEFINED)
            continue;
        enum winnow_status status = read_type(r, info, false, false, &s->g->values.at[v], err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "value '%.*s'", WN_CLIP(text(info->name)));
    }
    return WINNOW_OK;
}

static enum winnow_status read_outputs(struct reader *r, struct scope *s, const Onnx__GraphProto *proto,
                                       struct winnow_err *err)
{
    for (size_t i = 0; i < proto->n_output; i++) {
        const Onnx__ValueInfoProto *info = proto->output[i];
        wn_vid v;
        WN_TRY(resolve(r, s, text(info->name), &v, err));
        if (v == WN_NONE)
            return wn_fail(err, WINNOW_E_MALFORMED, "nothing makes the graph's output '%.*s'",
                           WN_CLIP(text(info->name)));
        struct wn_value *value = &s->g->values.at[v];
        bool is_input = !value->constant && value->producer == WN_NONE;
        enum winnow_status status = WINNOW_OK;
        if (!is_input)
            status = read_type(r, info, !s->outer, true, value, err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "output '%.*s'", WN_CLIP(text(info->name)));
        if (!wn_vec_push(&s->g->outputs, v))
            return no_memory(err);
    }
    if (!proto->n_output)
        return wn_fail(err, WINNOW_E_MALFORMED, "the graph has no outputs");
    WN_CLEANUP(wn_freep) unsigned char *seen = calloc(s->g->values.n, 1);
    if (!seen)
        return no_memory(err);
    for (size_t i = 0; !s->outer && i < s->g->outputs.n; i++)
        if (seen[s->g->outputs.at[i]]++)
            return wn_fail(err, WINNOW_E_MALFORMED, "output '%.*s' is listed twice",
                           WN_CLIP(s->g->values.at[s->g->outputs.at[i]].name));
    return WINNOW_OK;
}

/* ---- attributes ---- */

static enum winnow_status read_graph(struct reader *r, const Onnx__GraphProto *proto, struct wn_graph *g,
                                     struct scope *outer, struct winnow_err *err);

static bool take_str(struct reader *r, const ProtobufCBinaryData *from, struct winnow_str *to)
{
    char *p = take(r, from->len + 1);
    if (p && from->len)
        memcpy(p, from->data, from->len);
    *to = (struct winnow_str){ p, from->len };
    return p != NULL;
}

/* The kind as said; files of IR version 1 do not say it. */
static Onnx__AttributeProto__AttributeType type_of(const Onnx__AttributeProto *p)
{
    if (p->has_type && p->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED)
        return p->type;
    return p->has_f           ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT
           : p->has_i         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
           : p->has_s         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING
           : p->t             ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR
           : p->g             ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH
           : p->n_floats      ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS
           : p->n_ints        ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
           : p->n_strings     ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS
           : p->sparse_tensor ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR
                              : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED;
}

static enum winnow_status read_list_attr(struct reader *r, const Onnx__AttributeProto *p, struct wn_attr *a,
                                         struct winnow_err *err)
{
    if (a->kind == WN_ATTR_INTS) {
        a->n = p->n_ints;
        a->ints = take_copy(r, p->ints, p->n_ints * sizeof *p->ints);
        return a->ints ? WINNOW_OK : no_memory(err);
    }
    if (a->kind == WN_ATTR_FLOATS) {
        a->n = p->n_floats;
        a->floats = take_copy(r, p->floats, p->n_floats * sizeof *p->floats);
        return a->floats ? WINNOW_OK : no_memory(err);
    }
    struct winnow_str *strs = take(r, p->n_strings * sizeof *strs);
    if (!strs)
        return no_memory(err);
    for (size_t i = 0; i < p->n_strings; i++)
        if (!take_str(r, &p->strings[i], &strs[i]))
            return no_memory(err);
    a->n = p->n_strings;
    a->strs = strs;
    return WINNOW_OK;
}

static enum winnow_status read_graph_attr(struct reader *r, struct scope *s, const Onnx__AttributeProto *p,
                                          struct wn_attr *a, struct winnow_err *err)
{
    if (!p->g)
        return wn_fail(err, WINNOW_E_MALFORMED, "the graph is missing");
    struct wn_graph *sub = wn_arena_alloc(r->arena, sizeof *sub);
    if (!sub)
        return no_memory(err);
    WN_TRY(read_graph(r, p->g, sub, s, err));
    a->g = sub;
    return WINNOW_OK;
}

static enum winnow_status read_attr(struct reader *r, struct scope *s, const Onnx__AttributeProto *p, struct wn_attr *a,
                                    struct winnow_err *err)
{
    if (!*text(p->name))
        return wn_fail(err, WINNOW_E_MALFORMED, "it has no name");
    if (*text(p->ref_attr_name))
        return wn_fail(err, WINNOW_E_MALFORMED, "a reference to an attribute outside of a function");
    if (!(a->name = take_text(r, p->name)))
        return no_memory(err);
    switch (type_of(p)) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
        a->kind = WN_ATTR_FLOAT;
        a->f = p->f;
        return WINNOW_OK;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
        a->kind = WN_ATTR_INT;
        a->i = p->i;
        return WINNOW_OK;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        a->kind = WN_ATTR_STRING;
        return take_str(r, &p->s, &a->s) ? WINNOW_OK : no_memory(err);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        a->kind = WN_ATTR_TENSOR;
        return p->t ? wn_onnx_tensor(&r->from, p->t, "tensor", r->arena, &a->t, err)
                    : wn_fail(err, WINNOW_E_MALFORMED, "the tensor is missing");
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR: /* Constant's sparse_value: the same, dense */
        a->kind = WN_ATTR_TENSOR;
        if (strcmp(a->name, "sparse_value") == 0)
            a->name = "value";
        return p->sparse_tensor
                   ? wn_onnx_sparse_tensor(&r->from, p->sparse_tensor, "tensor", &r->dense_budget, r->arena, &a->t, err)
                   : wn_fail(err, WINNOW_E_MALFORMED, "the tensor is missing");
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        a->kind = WN_ATTR_FLOATS;
        return read_list_attr(r, p, a, err);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        a->kind = WN_ATTR_INTS;
        return read_list_attr(r, p, a, err);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS:
        a->kind = WN_ATTR_STRINGS;
        return read_list_attr(r, p, a, err);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH:
        a->kind = WN_ATTR_GRAPH;
        return read_graph_attr(r, s, p, a, err);
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED: /* of no type and without content: an empty list */
        a->kind = WN_ATTR_INTS;
        return read_list_attr(r, p, a, err);
    default:
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "attributes of kind %d are not supported", (int)p->type);
    }
}

/* ---- nodes ---- */

static enum winnow_status find_opset(const struct reader *r, const char *domain, int *ret, struct winnow_err *err)
{
    const struct wn_graph *top = r->top;
    *ret = 1;
    for (size_t i = 0; i < top->opsets.n; i++)
        if (strcmp(top->opsets.at[i].domain, domain) == 0) {
            *ret = top->opsets.at[i].version;
            return WINNOW_OK;
        }
    if (!*domain)
        return wn_fail(err, WINNOW_E_MALFORMED, "the file does not say its version of the ONNX operators");
    return WINNOW_OK;
}

static const char *domain_of(const char *domain)
{
    return strcmp(text(domain), "ai.onnx") == 0 ? "" : text(domain);
}

/* First look at a node: what it is, and its outputs. */
static enum winnow_status read_head(struct reader *r, struct scope *s, const Onnx__NodeProto *p, wn_nid id,
                                    struct wn_node *node, struct winnow_err *err)
{
    if (!*text(p->op_type))
        return wn_fail(err, WINNOW_E_MALFORMED, "it has no operator type");
    if (*text(p->overload))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "overloaded functions are not supported");
    node->op_type = take_text(r, p->op_type);
    node->domain = take_text(r, domain_of(p->domain));
    node->in = take(r, p->n_input * sizeof *node->in);
    node->out = take(r, p->n_output * sizeof *node->out);
    if (!node->op_type || !node->domain || !node->in || !node->out)
        return no_memory(err);
    WN_TRY(find_opset(r, node->domain, &node->opset, err));
    for (size_t i = 0; i < p->n_output; i++) {
        node->out[i] = WN_NONE;
        if (!*text(p->output[i]))
            continue;
        WN_TRY(define(r, s, p->output[i], "output", &node->out[i], err));
        s->g->values.at[node->out[i]].producer = id;
    }
    node->n_out = (unsigned)p->n_output;
    return WINNOW_OK;
}

/* Second look, when all values of the graph are known: inputs and attributes. */
static enum winnow_status read_rest(struct reader *r, struct scope *s, const Onnx__NodeProto *p, struct wn_node *node,
                                    struct winnow_err *err)
{
    for (size_t i = 0; i < p->n_input; i++) {
        node->in[i] = WN_NONE;
        if (!*text(p->input[i]))
            continue;
        WN_TRY(resolve(r, s, p->input[i], &node->in[i], err));
        if (node->in[i] == WN_NONE)
            return wn_fail(err, WINNOW_E_MALFORMED, "nothing makes its input '%.*s'", WN_CLIP(p->input[i]));
    }
    node->n_in = (unsigned)p->n_input;
    if (p->n_attribute > MAX_ATTRS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu attributes, at most %u are allowed", p->n_attribute, MAX_ATTRS);
    if (p->n_attribute && !(node->attr = take(r, p->n_attribute * sizeof *node->attr)))
        return no_memory(err);
    for (size_t i = 0; i < p->n_attribute; i++) {
        const char *name = text(p->attribute[i]->name);
        if (wn_node_attr(node, name))
            return wn_fail(err, WINNOW_E_MALFORMED, "attribute '%.*s' occurs twice", WN_CLIP(name));
        node->attr[i] = (struct wn_attr){ 0 };
        enum winnow_status status = read_attr(r, s, p->attribute[i], &node->attr[i], err);
        if (status != WINNOW_OK)
            return err && strlen(err->msg) > sizeof err->msg / 2
                       ? status
                       : wn_fail_at(err, status, "attribute '%.*s'", WN_CLIP(name));
        node->n_attr = (unsigned)i + 1;
    }
    return WINNOW_OK;
}

/* Names as in the file; a node without one is called by its type and place. */
static enum winnow_status name_nodes(struct reader *r, struct wn_graph *g, const Onnx__GraphProto *proto,
                                     struct winnow_err *err)
{
    struct wn_strmap taken __attribute__((cleanup(wn_strmap_done))) = { 0 };
    for (size_t i = 0; i < proto->n_node; i++) {
        const char *name = text(proto->node[i]->name);
        if (*name && (!(g->nodes.at[i].name = take_text(r, name)) ||
                      !wn_strmap_set(&taken, g->nodes.at[i].name, strlen(name), g)))
            return no_memory(err);
    }
    for (size_t i = 0; i < proto->n_node; i++) {
        if (*text(proto->node[i]->name))
            continue;
        WN_CLEANUP(wn_freep) char *name = wn_asprintf("%s_%zu", text(proto->node[i]->op_type), i);
        for (unsigned k = 1; name && wn_strmap_get(&taken, name, strlen(name)); k++) {
            free(name);
            name = wn_asprintf("%s_%zu_%u", text(proto->node[i]->op_type), i, k);
        }
        if (!name || !(g->nodes.at[i].name = take_text(r, name)))
            return no_memory(err);
    }
    return WINNOW_OK;
}

static enum winnow_status at_node(struct winnow_err *err, enum winnow_status status, const struct wn_node *node,
                                  const Onnx__NodeProto *p)
{
    if (err && strlen(err->msg) > sizeof err->msg / 2)
        return status; /* deep inside graphs: the reason shall not be pushed out by where it is */
    return wn_fail_at(err, status, "node '%.*s' (%.*s)", WN_CLIP(node->name), WN_CLIP(text(p->op_type)));
}

static enum winnow_status read_nodes(struct reader *r, struct scope *s, const Onnx__GraphProto *proto,
                                     struct winnow_err *err)
{
    struct wn_graph *g = s->g;
    if (proto->n_node >= WN_NONE || !wn_vec_reserve(&g->nodes, proto->n_node + 1))
        return no_memory(err);
    memset(g->nodes.at, 0, (proto->n_node + 1) * sizeof *g->nodes.at);
    g->nodes.n = proto->n_node;
    WN_TRY(name_nodes(r, g, proto, err));
    for (size_t i = 0; i < proto->n_node; i++) {
        enum winnow_status status = read_head(r, s, proto->node[i], (wn_nid)i, &g->nodes.at[i], err);
        if (status != WINNOW_OK)
            return at_node(err, status, &g->nodes.at[i], proto->node[i]);
    }
    WN_TRY(read_value_infos(r, s, proto, err));
    WN_TRY(read_outputs(r, s, proto, err));
    for (size_t i = 0; i < proto->n_node; i++) {
        enum winnow_status status = read_rest(r, s, proto->node[i], &g->nodes.at[i], err);
        if (status != WINNOW_OK)
            return at_node(err, status, &g->nodes.at[i], proto->node[i]);
    }
    return WINNOW_OK;
}

/* ---- graphs ---- */

static enum winnow_status fill_graph(struct reader *r, const Onnx__GraphProto *proto, struct scope *s,
                                     struct winnow_err *err)
{
    if (!(s->g->name = take_text(r, proto->name)))
        return no_memory(err);
    size_t n_values = proto->n_initializer + proto->n_sparse_initializer + proto->n_input;
    for (size_t i = 0; i < proto->n_node; i++)
        n_values += proto->node[i]->n_output;
    WN_TRY(charge_values(r, n_values, err));
    if (!wn_vec_reserve(&s->g->values, n_values) || !wn_strmap_reserve(&s->map, n_values))
        return no_memory(err);
    WN_TRY(read_initializers(r, s, proto, err));
    WN_TRY(read_inputs(r, s, proto, err));
    return read_nodes(r, s, proto, err);
}

static enum winnow_status read_graph(struct reader *r, const Onnx__GraphProto *proto, struct wn_graph *g,
                                     struct scope *outer, struct winnow_err *err)
{
    WN_CLEANUP(scope_done) struct scope s = { .g = g, .outer = outer };
    if (outer) {
        wn_graph_init(g, r->arena);
        g->outer = outer->g;
        g->ir_version = outer->g->ir_version;
    }
    enum winnow_status status = fill_graph(r, proto, &s, err);
    if (status != WINNOW_OK)
        wn_graph_done(g);
    return status;
}

static enum winnow_status read_header(struct reader *r, struct winnow_err *err)
{
    const Onnx__ModelProto *m = r->model;
    struct wn_graph *g = r->top;
    bool has_default = false;
    if (!m->graph)
        return wn_fail(err, WINNOW_E_MALFORMED, "not an ONNX model: it has no graph");
    if (m->n_opset_import > MAX_OPSETS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu operator sets, at most %u are allowed", m->n_opset_import,
                       MAX_OPSETS);
    g->ir_version = m->ir_version;
    g->producer = take_text(r, m->producer_name);
    if (!g->producer)
        return no_memory(err);
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *id = m->opset_import[i];
        struct wn_opset set = { take_text(r, domain_of(id->domain)), (int)id->version };
        if (id->version < 0 || id->version > INT_MAX)
            return wn_fail(err, WINNOW_E_MALFORMED, "operator set '%.*s': version %lld", WN_CLIP(text(id->domain)),
                           (long long)id->version);
        if (!set.domain || !wn_vec_push(&g->opsets, set))
            return no_memory(err);
        has_default |= !*set.domain;
    }
    /* Before IR version 3 files did not say it. */
    if (!has_default && g->ir_version < 3 && !wn_vec_push(&g->opsets, (struct wn_opset){ "", 1 }))
        return no_memory(err);
    for (size_t i = 0; i < m->n_metadata_props; i++) {
        struct wn_meta meta = { take_text(r, m->metadata_props[i]->key), take_text(r, m->metadata_props[i]->value) };
        if (!meta.key || !meta.value || !wn_vec_push(&g->meta, meta))
            return no_memory(err);
    }
    return WINNOW_OK;
}

static void reader_done(struct reader *r)
{
    wn_external_done(&r->external);
}

enum winnow_status wn_onnx_read(const void *bytes, size_t n, const struct wn_onnx_limits *limits,
                                struct wn_arena *arena, struct wn_graph *g, struct winnow_err *err)
{
    struct wn_onnx_limits lim = wn_onnx_limits_or_default(limits);
    WN_CLEANUP(wn_onnx_skeleton_done) struct wn_onnx_skeleton skeleton = { 0 };
    WN_TRY(wn_onnx_unpack(bytes, n, &lim, &skeleton, err));
    WN_CLEANUP(reader_done)
    struct reader r = { .from = { .bytes = bytes, .consume = lim.consume },
                        .model = skeleton.model,
                        .arena = arena,
                        .top = g,
                        .dense_budget = lim.max_skeleton,
                        .value_budget = lim.max_skeleton };
    wn_graph_init(g, arena);
    wn_external_init(&r.external, lim.folder, lim.max_external, g);
    r.from.external = &r.external;
    enum winnow_status status = read_header(&r, err);
    if (status != WINNOW_OK) {
        wn_graph_done(g);
        return status;
    }
    WN_TRY(read_graph(&r, skeleton.model->graph, g, NULL, err));
    status = wn_graph_sort(g, err);
    if (status != WINNOW_OK)
        wn_graph_done(g);
    return status;
}

enum winnow_status wn_onnx_read_file(const char *path, const struct wn_onnx_limits *limits, struct wn_arena *arena,
                                     struct wn_graph *g, struct winnow_err *err)
{
    struct wn_onnx_limits lim = wn_onnx_limits_or_default(limits);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    WN_CLEANUP(wn_freep) char *folder = wn_file_folder(path);
    if (!folder)
        return no_memory(err);
    if (!lim.folder)
        lim.folder = folder;
    lim.consume = true;
    WN_TRY(wn_file_read(path, lim.max_file_bytes, &bytes, &n, err));
    enum winnow_status status = wn_onnx_read(bytes, n, &lim, arena, g, err);
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "'%.*s'", WN_CLIP(path));
}
