/* build.h: ONNX files made by hand, byte by byte, so that tests can also make wrong ones. */
#ifndef WN_TEST_BUILD_H
#define WN_TEST_BUILD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/onnx.h"

/** Bytes of a message under construction. */
struct pb {
    uint8_t *p;
    size_t n, cap;
};

static inline void pb_raw(struct pb *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2 + 64;
        b->p = realloc(b->p, b->cap);
        if (!b->p)
            abort();
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void pb_varint(struct pb *b, uint64_t v)
{
    uint8_t byte;
    for (; v >= 0x80; v >>= 7) {
        byte = (uint8_t)(v | 0x80);
        pb_raw(b, &byte, 1);
    }
    byte = (uint8_t)v;
    pb_raw(b, &byte, 1);
}

static inline void pb_int(struct pb *b, unsigned field, int64_t v)
{
    pb_varint(b, (uint64_t)field << 3);
    pb_varint(b, (uint64_t)v);
}

static inline void pb_bytes(struct pb *b, unsigned field, const void *p, size_t n)
{
    pb_varint(b, (uint64_t)field << 3 | 2);
    pb_varint(b, n);
    pb_raw(b, p, n);
}

static inline void pb_str(struct pb *b, unsigned field, const char *s)
{
    pb_bytes(b, field, s, strlen(s));
}

static inline void pb_float(struct pb *b, unsigned field, float v)
{
    pb_varint(b, (uint64_t)field << 3 | 5);
    pb_raw(b, &v, 4);
}

/** Append `sub` as a field and release it. */
static inline void pb_msg(struct pb *b, unsigned field, struct pb sub)
{
    pb_bytes(b, field, sub.p, sub.n);
    free(sub.p);
}

/* Field numbers of the specification. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_META = 14,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INIT = 5,
    GRAPH_DOC = 10,
    GRAPH_IN = 11,
    GRAPH_OUT = 12,
    GRAPH_INFO = 13,
    GRAPH_SPARSE = 15,
    NODE_IN = 1,
    NODE_OUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTR = 5,
    NODE_DOMAIN = 7,
    ATTR_NAME = 1,
    ATTR_F = 2,
    ATTR_I = 3,
    ATTR_S = 4,
    ATTR_T = 5,
    ATTR_G = 6,
    ATTR_FLOATS = 7,
    ATTR_INTS = 8,
    ATTR_STRINGS = 9,
    ATTR_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT32S = 5,
    TENSOR_STRINGS = 6,
    TENSOR_INT64S = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_DOUBLES = 10,
    TENSOR_UINT64S = 11,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14
};

/** ValueInfoProto of a tensor; a dim of -1 is written as dim_param "N". */
static inline struct pb pb_info(const char *name, int elem, int rank, const int64_t *dim)
{
    struct pb info = { 0 }, type = { 0 }, tensor = { 0 }, shape = { 0 };
    for (int i = 0; i < rank; i++) {
        struct pb d = { 0 };
        if (dim[i] >= 0)
            pb_int(&d, 1, dim[i]);
        else
            pb_str(&d, 2, "N");
        pb_msg(&shape, 1, d);
    }
    pb_int(&tensor, 1, elem);
    pb_msg(&tensor, 2, shape);
    pb_msg(&type, 1, tensor);
    pb_str(&info, 1, name);
    pb_msg(&info, 2, type);
    return info;
}

/** NodeProto; `in` and `out` are lists separated by commas, "" stands for an omitted one, NULL for no list. */
static inline struct pb pb_node(const char *op, const char *name, const char *in, const char *out)
{
    struct pb node = { 0 };
    const char *list[2] = { in, out };
    for (unsigned k = 0; k < 2; k++)
        for (const char *s = list[k]; s;) {
            const char *comma = strchr(s, ',');
            pb_bytes(&node, k ? NODE_OUT : NODE_IN, s, comma ? (size_t)(comma - s) : strlen(s));
            s = comma ? comma + 1 : NULL;
        }
    if (name)
        pb_str(&node, NODE_NAME, name);
    pb_str(&node, NODE_OP, op);
    return node;
}

/** TensorProto without data. */
static inline struct pb pb_tensor(const char *name, int type, unsigned rank, const int64_t *dim)
{
    struct pb t = { 0 };
    for (unsigned i = 0; i < rank; i++)
        pb_int(&t, TENSOR_DIMS, dim[i]);
    pb_int(&t, TENSOR_TYPE, type);
    if (name)
        pb_str(&t, TENSOR_NAME, name);
    return t;
}

/** AttributeProto of one integer. */
static inline struct pb pb_attr_int(const char *name, int64_t v)
{
    struct pb a = { 0 };
    pb_str(&a, ATTR_NAME, name);
    pb_int(&a, ATTR_I, v);
    pb_int(&a, ATTR_TYPE, 2);
    return a;
}

/** AttributeProto of a graph. */
static inline struct pb pb_attr_graph(const char *name, struct pb graph)
{
    struct pb a = { 0 };
    pb_str(&a, ATTR_NAME, name);
    pb_msg(&a, ATTR_G, graph);
    pb_int(&a, ATTR_TYPE, 5);
    return a;
}

/** ModelProto of IR version 8, operator set 17. */
static inline struct pb pb_model(struct pb graph)
{
    struct pb m = { 0 }, set = { 0 };
    pb_int(&m, MODEL_IR, 8);
    pb_str(&m, MODEL_PRODUCER, "test");
    pb_int(&set, 2, 17);
    pb_msg(&m, MODEL_GRAPH, graph);
    pb_msg(&m, MODEL_OPSET, set);
    return m;
}

static const int64_t pb_n2[] = { -1, 2 };

/** y = Relu(x * w + b): the small model that mutations start from. x, y (N, 2) f32, w (2, 2), b (2). */
static inline struct pb pb_small_graph(void)
{
    struct pb g = { 0 };
    static const float w[] = { 1, 2, 3, 4 };
    static const int64_t d22[] = { 2, 2 };
    pb_str(&g, GRAPH_NAME, "small");
    pb_msg(&g, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    pb_msg(&g, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    struct pb tw = pb_tensor("w", 1, 2, d22), tb = pb_tensor("b", 1, 1, d22);
    pb_bytes(&tw, TENSOR_RAW, w, sizeof w);
    pb_bytes(&tb, TENSOR_FLOATS, w, 8);
    pb_msg(&g, GRAPH_INIT, tw);
    pb_msg(&g, GRAPH_INIT, tb);
    pb_msg(&g, GRAPH_NODE, pb_node("MatMul", "mm", "x,w", "p"));
    pb_msg(&g, GRAPH_NODE, pb_node("Add", "add", "p,b", "q"));
    pb_msg(&g, GRAPH_NODE, pb_node("Relu", NULL, "q", "y"));
    return g;
}

/** y = If(c) { x + k } else { Abs(x) }: branches that take x and k from outside; k is a constant. x, y (2) f32. */
static inline struct pb pb_if_graph(void)
{
    static const int64_t d2[] = { 2 };
    static const float k[] = { 10, 20 };
    struct pb g = { 0 }, yes = { 0 }, no = { 0 };
    pb_str(&yes, GRAPH_NAME, "yes");
    pb_msg(&yes, GRAPH_NODE, pb_node("Add", "sum", "x,k", "r"));
    pb_msg(&yes, GRAPH_OUT, pb_info("r", 1, 1, d2));
    pb_str(&no, GRAPH_NAME, "no");
    pb_msg(&no, GRAPH_NODE, pb_node("Abs", "abs", "x2", "r"));
    pb_msg(&no, GRAPH_OUT, pb_info("r", 1, 1, d2));
    struct pb node = pb_node("If", "choose", "c", "y"), tk = pb_tensor("k", 1, 1, d2);
    pb_msg(&node, NODE_ATTR, pb_attr_graph("then_branch", yes));
    pb_msg(&node, NODE_ATTR, pb_attr_graph("else_branch", no));
    pb_bytes(&tk, TENSOR_RAW, k, sizeof k);
    pb_str(&g, GRAPH_NAME, "if");
    pb_msg(&g, GRAPH_IN, pb_info("c", 9, 0, NULL));
    pb_msg(&g, GRAPH_IN, pb_info("x", 1, 1, d2));
    pb_msg(&g, GRAPH_OUT, pb_info("y", 1, 1, d2));
    pb_msg(&g, GRAPH_INIT, tk);
    pb_msg(&g, GRAPH_NODE, node); /* before the node that makes x2, which only a branch uses */
    pb_msg(&g, GRAPH_NODE, pb_node("Neg", "neg", "x", "x2"));
    return g;
}

/** Value of this name, or WN_NONE. */
static inline wn_vid find_value(const struct wn_graph *g, const char *name)
{
    for (size_t v = 0; v < g->values.n; v++)
        if (strcmp(g->values.at[v].name, name) == 0)
            return (wn_vid)v;
    return WN_NONE;
}

/** Live node of this name, or NULL. */
static inline struct wn_node *find_node(const struct wn_graph *g, const char *name)
{
    for (size_t n = 0; n < g->nodes.n; n++)
        if (!g->nodes.at[n].dead && strcmp(g->nodes.at[n].name, name) == 0)
            return &g->nodes.at[n];
    return NULL;
}

#endif
