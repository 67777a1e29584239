/* fuzz_infer.c: hostile nodes through resolve, inference, batch-axis rules and a bounded reference run.
 *
 * Bytes that start like a serialized model (field 1: 0x08) are read as one. All others are a recipe: they choose an
 * operator of the table, its opset, and dtypes, shapes, constants and attributes from pools of ordinary and extreme
 * values, so that most inputs reach the operator's own checks. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/onnx.h"
#include "engine/ops/ops.h"

#define MAX_ELEMENTS 2048 /* of any tensor that is run */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the recipe ---- */
struct recipe {
    const uint8_t *p, *end;
};

static unsigned take(struct recipe *r, unsigned below)
{
    return r->p < r->end ? *r->p++ % below : 0;
}

static int64_t take_int(struct recipe *r)
{
    static const int64_t pool[] = { 0,  1,  2,  3,         4,         5,         7,         8,         -1,        -2,
                                    -3, -4, -9, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1ll << 31, 1ll << 33, 255,
                                    16, 6,  10, 100,       1ll << 62, -128,      1ll << 20, 13,        11,        9 };
    return pool[take(r, WN_COUNT(pool))];
}

static float take_float(struct recipe *r)
{
    static const float pool[] = { 0, 1, -1, 0.5f, 2, 1e-5f, 1e30f, -1e30f, 3e38f, 1e-40f, 127.5f, 255 };
    unsigned i = take(r, WN_COUNT(pool) + 3);
    return i < WN_COUNT(pool)    ? pool[i]
           : i == WN_COUNT(pool) ? __builtin_nanf("")
           : i & 1               ? __builtin_inff()
                                 : -__builtin_inff();
}

static enum winnow_dtype take_dtype(struct recipe *r)
{
    static const enum winnow_dtype pool[] = { WINNOW_F32, WINNOW_F32, WINNOW_U8,   WINNOW_I8,  WINNOW_I64,
                                              WINNOW_I32, WINNOW_F16, WINNOW_F64,  WINNOW_U64, WINNOW_I16,
                                              WINNOW_U16, WINNOW_U32, WINNOW_BOOL, WINNOW_BF16 };
    return pool[take(r, WN_COUNT(pool))];
}

static void fill(struct recipe *r, void *data, size_t n, enum winnow_dtype dtype)
{
    unsigned kind = take(r, 4);
    for (size_t i = 0; i < n; i++) {
        if (dtype == WINNOW_F32)
            ((float *)data)[i] = kind ? (float)(i % 7) - 2 : take_float(r);
        else if (dtype == WINNOW_F64)
            ((double *)data)[i] = kind ? (double)i : (double)take_float(r);
        else if (dtype == WINNOW_I64)
            ((int64_t *)data)[i] = kind == 1 ? (int64_t)i : take_int(r);
        else if (dtype == WINNOW_I32)
            ((int32_t *)data)[i] = kind == 1 ? (int32_t)i : (int32_t)take_int(r);
        else if (dtype == WINNOW_BOOL)
            ((uint8_t *)data)[i] = (uint8_t)take(r, 2);
        else
            memset((char *)data + i * winnow_dtype_size(dtype), (int)take(r, 256), winnow_dtype_size(dtype));
    }
}

static wn_vid make_value(struct recipe *r, struct wn_graph *g, enum winnow_dtype dtype)
{
    static const int64_t extents[] = { 1, 2, 3, 4, 5, 8, 0, 1 };
    int64_t dim[WINNOW_MAX_RANK];
    unsigned rank = take(r, 6), constant = take(r, 3);
    for (unsigned i = 0; i < rank; i++)
        dim[i] = extents[take(r, WN_COUNT(extents))];
    if (constant) {
        wn_vid v = wn_graph_add_const(g, NULL, dtype, rank, dim, NULL);
        const struct wn_tensor *t = v == WN_NONE ? NULL : g->values.at[v].constant;
        if (t && wn_tensor_count(t) <= MAX_ELEMENTS)
            fill(r, t->data, (size_t)wn_tensor_count(t), dtype);
        return v;
    }
    for (unsigned i = 0; i < rank; i++)
        dim[i] = take(r, 4) ? dim[i] : take(r, 2) ? -1 : take_int(r) & INT64_MAX;
    wn_vid v = wn_graph_add_value(g, NULL, take(r, 8) ? dtype : WINNOW_UNDEFINED, take(r, 16) ? (int)rank : -1, dim);
    return v != WN_NONE && wn_vec_push(&g->inputs, v) ? v : WN_NONE;
}

static void add_attributes(struct recipe *r, struct wn_graph *g, struct wn_node *node)
{
    static const char *const ints[] = { "kernel_shape", "strides", "pads", "dilations",      "axes",         "perm",
                                        "split",        "starts",  "ends", "output_padding", "output_shape", "steps" };
    static const char *const scalars[] = { "axis",
                                           "group",
                                           "keepdims",
                                           "ceil_mode",
                                           "count_include_pad",
                                           "to",
                                           "blocksize",
                                           "p",
                                           "size",
                                           "transA",
                                           "transB",
                                           "batch_dims",
                                           "k",
                                           "dtype",
                                           "exclusive",
                                           "reverse",
                                           "select_last_index",
                                           "storage_order",
                                           "num_groups",
                                           "fmod",
                                           "start",
                                           "end",
                                           "allowzero",
                                           "num_outputs",
                                           "noop_with_empty_axes",
                                           "upper",
                                           "channels_last",
                                           "largest",
                                           "sorted",
                                           "num_groups" };
    static const char *const floats[] = { "alpha", "beta", "epsilon", "bias", "lambd", "gamma", "min", "max", "value" };
    static const char *const strs[][2] = { { "auto_pad", "SAME_UPPER" },
                                           { "auto_pad", "SAME_LOWER" },
                                           { "auto_pad", "VALID" },
                                           { "mode", "reflect" },
                                           { "mode", "edge" },
                                           { "mode", "wrap" },
                                           { "mode", "CRD" },
                                           { "direction", "LEFT" },
                                           { "direction", "RIGHT" },
                                           { "mode", "linear" },
                                           { "mode", "cubic" },
                                           { "coordinate_transformation_mode", "align_corners" },
                                           { "coordinate_transformation_mode", "tf_crop_and_resize" },
                                           { "nearest_mode", "ceil" },
                                           { "reduction", "add" },
                                           { "reduction", "max" } };
    for (unsigned n = take(r, 6); n > 0; n--) {
        int64_t v[8];
        unsigned len = take(r, 8), which;
        for (unsigned i = 0; i < len; i++)
            v[i] = take(r, 4) ? take(r, 4) : take_int(r);
        switch (take(r, 4)) {
        case 0:
            which = take(r, WN_COUNT(ints));
            wn_node_set_ints(g, node, ints[which], v, len);
            break;
        case 1:
            which = take(r, WN_COUNT(scalars));
            wn_node_set_int(g, node, scalars[which], take_int(r));
            break;
        case 2:
            which = take(r, WN_COUNT(floats));
            wn_node_set_float(g, node, floats[which], take_float(r));
            break;
        default:
            which = take(r, WN_COUNT(strs));
            wn_node_set_str(g, node, strs[which][0], strs[which][1]);
        }
    }
}

static bool make_graph(struct recipe *r, struct wn_graph *g)
{
    size_t n_ops = 0;
    while (wn_ops_at(n_ops))
        n_ops++;
    size_t which = take(r, 256);
    const struct wn_op *op = wn_ops_at((which * 256 + take(r, 256)) % n_ops);
    wn_vid in[WN_OP_MAX_IN], out[4];
    unsigned n_in = op->min_in + take(r, WN_MIN(op->max_in, op->min_in + 3) - op->min_in + 1);
    unsigned n_out = op->min_out + take(r, WN_MIN(op->max_out, 4) - op->min_out + 1);
    enum winnow_dtype first = take_dtype(r);
    for (unsigned i = 0; i < n_in; i++) {
        in[i] = i >= op->min_in && !take(r, 4) ? WN_NONE : make_value(r, g, take(r, 3) ? first : take_dtype(r));
        if (in[i] == WN_NONE && i < op->min_in)
            return false;
    }
    for (unsigned i = 0; i < n_out; i++) {
        if (n_out > 1 && !take(r, 8)) {
            out[i] = WN_NONE;
            continue;
        }
        out[i] = wn_graph_add_value(g, NULL, WINNOW_UNDEFINED, -1, NULL);
        if (out[i] == WN_NONE || !wn_vec_push(&g->outputs, out[i]))
            return false;
    }
    struct wn_node *node = wn_graph_add_node(g, op->domain, op->type, "n", in, n_in, out, n_out);
    if (!node)
        return false;
    node->opset = op->since + (int)take(r, 14);
    add_attributes(r, g, node);
    return true;
}

/* ---- what must hold ---- */
static void check_type(const struct wn_type *t)
{
    if (t->rank > WINNOW_MAX_RANK)
        abort();
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < -1)
            abort();
}

static void check_rows(const struct wn_graph *g, const struct wn_node *node)
{
    struct wn_infer infer = { 0 };
    struct wn_type *out = calloc(node->n_out + 1, sizeof *out);
    int axis[WN_OP_MAX_IN];
    wn_ops_infer_prepare(g, node, &infer, out);
    if (out && wn_ops_infer_node(&infer, NULL) == WINNOW_OK)
        for (int mode = 0; mode < 8; mode++) {
            for (unsigned i = 0; i < infer.n_in; i++) {
                bool batched = infer.given[i] && infer.in[i].rank > mode % 3 && !infer.value[i] &&
                               (mode < 3 ? i == 0 : mode < 6 || i == 1);
                axis[i] = batched ? mode % 3 : WN_ROWS_NONE;
            }
            struct wn_rows rows = { node, infer.n_in, &infer, axis, WN_ROWS_NONE };
            if (infer.n_in && node->op->rows)
                node->op->rows(&rows);
            if (rows.out_axis < WN_ROWS_MIXED || (out[0].rank >= 0 && rows.out_axis >= out[0].rank))
                abort();
        }
    free(out);
}

/* A zeroed tensor of this type, open extents 2; NULL when it would be large. */
static const struct wn_tensor *make_tensor(const struct wn_type *type, struct wn_arena *arena)
{
    struct wn_tensor *t = wn_arena_calloc(arena, 1, sizeof *t);
    if (!t || type->dtype == WINNOW_STRING)
        return NULL;
    t->dtype = type->dtype ? type->dtype : WINNOW_F32;
    t->rank = type->rank < 0 ? 2 : (unsigned)type->rank;
    int64_t n = 1;
    for (unsigned i = 0; i < t->rank; i++) {
        t->dim[i] = type->rank < 0 || type->dim[i] < 0 ? 2 : type->dim[i];
        if (t->dim[i] > MAX_ELEMENTS || (n *= t->dim[i]) > MAX_ELEMENTS)
            return NULL;
    }
    t->bytes = (size_t)n * winnow_dtype_size(t->dtype);
    t->data = wn_arena_alloc(arena, t->bytes);
    return t->data ? t : NULL;
}

/* The concrete outputs are small enough to be worth computing. */
static bool is_small(const struct wn_node *node, const struct wn_tensor **in)
{
    struct wn_infer infer = { .node = node, .n_in = node->n_in, .n_out = node->n_out };
    infer.out = calloc(node->n_out + 1, sizeof *infer.out);
    bool small = infer.out != NULL;
    for (unsigned i = 0; i < node->n_in; i++) {
        infer.given[i] = in[i];
        infer.value[i] = in[i];
        infer.in[i].rank = -1;
        if (!in[i])
            continue;
        infer.in[i] = (struct wn_type){ .dtype = in[i]->dtype, .rank = (int)in[i]->rank };
        memcpy(infer.in[i].dim, in[i]->dim, sizeof in[i]->dim);
    }
    for (unsigned i = 0; small && i < node->n_out; i++)
        infer.out[i].rank = -1;
    small = small && wn_ops_infer_node(&infer, NULL) == WINNOW_OK;
    for (unsigned i = 0; small && i < node->n_out; i++) {
        int64_t n = 1;
        for (int a = 0; small && a < infer.out[i].rank; a++)
            small = infer.out[i].dim[a] <= MAX_ELEMENTS &&
                    (n *= infer.out[i].dim[a] < 0 ? 1 : infer.out[i].dim[a]) <= MAX_ELEMENTS;
    }
    free(infer.out);
    return small;
}

static void run_graph(struct wn_graph *g, struct wn_arena *arena)
{
    const struct wn_tensor **value = wn_arena_calloc(arena, g->values.n + 1, sizeof *value);
    volatile unsigned char sum = 0; /* reads every byte that a run wrote */
    (void)sum;
    if (!value)
        return;
    for (size_t v = 0; v < g->values.n; v++)
        value[v] = g->values.at[v].constant;
    for (size_t i = 0; i < g->inputs.n; i++)
        if (!(value[g->inputs.at[i]] = make_tensor(&g->values.at[g->inputs.at[i]].type, arena)))
            return;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
        struct wn_tensor *out = wn_arena_calloc(arena, node->n_out + 1, sizeof *out);
        for (unsigned k = 0; k < node->n_in; k++)
            if (node->in[k] != WN_NONE && (!(in[k] = value[node->in[k]]) || wn_tensor_count(in[k]) > MAX_ELEMENTS))
                return;
        if (!out || !is_small(node, in) || wn_ops_run_node(node, in, out, arena, arena, NULL) != WINNOW_OK)
            return;
        for (unsigned k = 0; k < node->n_out; k++) {
            if (node->out[k] == WN_NONE)
                continue;
            if (!out[k].data || out[k].bytes != (size_t)wn_tensor_count(&out[k]) * winnow_dtype_size(out[k].dtype))
                abort();
            for (size_t b = 0; b < out[k].bytes; b++)
                sum ^= ((const unsigned char *)out[k].data)[b];
            value[node->out[k]] = &out[k];
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wn_arena arena;
    struct wn_graph g;
    struct winnow_err err;
    struct wn_onnx_limits limits = { .max_skeleton = 16u << 20 };
    wn_arena_init(&arena, (size_t)32 << 20);
    bool made;
    if (size && data[0] == 8) {
        made = wn_onnx_read(data, size, &limits, &arena, &g, &err) == WINNOW_OK;
    } else {
        struct recipe r = { data, data + size };
        wn_graph_init(&g, &arena);
        made = make_graph(&r, &g);
        if (!made)
            wn_graph_done(&g);
    }
    if (made) {
        if (wn_ops_resolve(&g, &err) == WINNOW_OK && wn_ops_infer_graph(&g, &err) == WINNOW_OK) {
            for (size_t v = 0; v < g.values.n; v++)
                check_type(&g.values.at[v].type);
            for (size_t i = 0; i < g.nodes.n; i++)
                check_rows(&g, &g.nodes.at[i]);
            run_graph(&g, &arena);
        }
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return 0;
}
