/* node.h: one node from a line of text, so that tests of operators can be tables.
 *
 *     make("Conv", 13, "f32[1,3,4,4] f32[8,3,5,5]", "kernel_shape=5,5 strides=1,1 group=1 auto_pad=SAME_UPPER")
 *
 * Inputs, separated by blanks: dtype[extents], ? for an unknown extent, dtype[*] for an unknown rank, - for an omitted
 * input, dtype[extents]{values} for a constant. Attributes: name=integer, name=1,2 (a list; "1," has one element),
 * name=1.5f, name=text. A domain goes before the operator: "com.microsoft:QGemm". */
#ifndef WN_TEST_NODE_H
#define WN_TEST_NODE_H

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/ops/impl.h"

struct node_test {
    struct wn_arena arena;
    struct wn_graph g;
    struct wn_node *node;
    struct winnow_err err;
    wn_vid out[8];
};

static inline enum winnow_dtype node_dtype(const char *s, size_t n)
{
    for (int t = 1; t < 20; t++)
        if (strlen(winnow_dtype_name((enum winnow_dtype)t)) == n &&
            !strncmp(winnow_dtype_name((enum winnow_dtype)t), s, n))
            return (enum winnow_dtype)t;
    abort();
}

static inline wn_vid node_input(struct node_test *t, const char *s)
{
    int64_t dim[WINNOW_MAX_RANK];
    int rank = 0;
    char *p = strchr(s, '[');
    if (!p)
        return WN_NONE;
    enum winnow_dtype dtype = node_dtype(s, (size_t)(p - s));
    bool unknown = p[1] == '*';
    for (p++; *p != ']'; p += *p == ',')
        dim[rank++] = *p == '?' || *p == '*' ? (p++, -1) : strtoll(p, &p, 10);
    if (p[1] != '{') {
        wn_vid v = wn_graph_add_value(&t->g, NULL, dtype, unknown ? -1 : rank, dim);
        if (!wn_vec_push(&t->g.inputs, v))
            abort();
        return v;
    }
    wn_vid v = wn_graph_add_const(&t->g, NULL, dtype, (unsigned)rank, dim, NULL);
    const struct wn_tensor *c = t->g.values.at[v].constant;
    p += 2;
    for (int64_t i = 0; *p != '}' && i < wn_tensor_count(c); i++, p += *p == ',') {
        char *end;
        double d = strtod(p, &end);
        int64_t n = strtoll(p, &p, 10);
        bool is_int = p == end;
        p = end;
        if (is_int)
            wn_store(dtype, c->data, i, 1, WN_CLS_I64, &n);
        else
            wn_store(dtype, c->data, i, 1, WN_CLS_F64, &d);
    }
    return v;
}

static inline void node_attr(struct node_test *t, char *s)
{
    char *v = strchr(s, '='), *end;
    *v++ = 0;
    bool number = isdigit((unsigned char)*v) || *v == '-';
    if (number && strchr(v, ',')) {
        int64_t list[16];
        size_t n = 0;
        for (char *p = v; *p; p += *p == ',')
            list[n++] = strtoll(p, &p, 10);
        wn_node_set_ints(&t->g, t->node, s, list, n);
    } else if (number && strchr(v, 'f')) {
        wn_node_set_float(&t->g, t->node, s, strtof(v, &end));
    } else if (number) {
        wn_node_set_int(&t->g, t->node, s, strtoll(v, &end, 10));
    } else {
        wn_node_set_str(&t->g, t->node, s, v);
    }
}

/** Make the node with n_out outputs; release with node_done(). */
static inline void node_make(struct node_test *t, const char *op, int opset, const char *inputs, const char *attrs,
                             unsigned n_out)
{
    char text[512], domain[64] = "", *save;
    wn_vid in[WN_OP_MAX_IN];
    unsigned n = 0;
    memset(t, 0, sizeof *t);
    wn_arena_init(&t->arena, (size_t)64 << 20);
    wn_graph_init(&t->g, &t->arena);
    snprintf(text, sizeof text, "%s", inputs);
    for (char *s = strtok_r(text, " ", &save); s; s = strtok_r(NULL, " ", &save))
        in[n++] = node_input(t, s);
    for (unsigned i = 0; i < n_out; i++)
        t->out[i] = wn_graph_add_value(&t->g, NULL, WINNOW_UNDEFINED, -1, NULL);
    const char *colon = strchr(op, ':');
    if (colon)
        snprintf(domain, sizeof domain, "%.*s", (int)(colon - op), op);
    t->node = wn_graph_add_node(&t->g, domain, colon ? colon + 1 : op, "it", in, n, t->out, n_out);
    t->node->opset = opset;
    snprintf(text, sizeof text, "%s", attrs);
    for (char *s = strtok_r(text, " ", &save); s; s = strtok_r(NULL, " ", &save))
        node_attr(t, s);
}

static inline void node_done(struct node_test *t)
{
    wn_graph_done(&t->g);
    wn_arena_done(&t->arena);
}

/** Resolve and infer. */
static inline enum winnow_status node_infer(struct node_test *t)
{
    enum winnow_status status = wn_ops_resolve(&t->g, &t->err);
    return status == WINNOW_OK ? wn_ops_infer_graph(&t->g, &t->err) : status;
}

/** A type as text: "f32[1,?,3]". */
static inline const char *node_type(const struct wn_type *type, char *to, size_t size)
{
    size_t at = (size_t)snprintf(to, size, "%s[", type->dtype ? winnow_dtype_name(type->dtype) : "");
    if (type->rank < 0)
        at += (size_t)snprintf(to + at, size - at, "*");
    for (int i = 0; i < type->rank; i++)
        at += type->dim[i] < 0 ? (size_t)snprintf(to + at, size - at, i ? ",?" : "?")
                               : (size_t)snprintf(to + at, size - at, i ? ",%lld" : "%lld", (long long)type->dim[i]);
    snprintf(to + at, size - at, "]");
    return to;
}

/** Run a node whose inputs are all constants; its first output as text: "1,2.5,3". */
static inline enum winnow_status node_run(struct node_test *t, struct wn_tensor *out, char *to, size_t size)
{
    const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
    *to = 0;
    enum winnow_status status = wn_ops_resolve(&t->g, &t->err);
    if (status != WINNOW_OK)
        return status;
    for (unsigned i = 0; i < t->node->n_in; i++)
        in[i] = t->node->in[i] == WN_NONE ? NULL : t->g.values.at[t->node->in[i]].constant;
    status = wn_ops_run_node(t->node, in, out, &t->arena, &t->arena, &t->err);
    if (status != WINNOW_OK)
        return status;
    size_t at = 0;
    for (int64_t i = 0; i < wn_tensor_count(&out[0]) && at < size; i++) {
        const char *comma = i ? "," : "";
        at += wn_dtype_is_float(out[0].dtype)
                  ? (size_t)snprintf(to + at, size - at, "%s%.6g", comma, wn_scalar(&out[0], i))
              : out[0].dtype == WINNOW_U64
                  ? (size_t)snprintf(to + at, size - at, "%s%llu", comma, (unsigned long long)wn_scalar_int(&out[0], i))
                  : (size_t)snprintf(to + at, size - at, "%s%lld", comma, (long long)wn_scalar_int(&out[0], i));
    }
    return WINNOW_OK;
}

#endif
