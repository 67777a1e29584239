/* net.h: small models made with graph.h, written as ONNX and run by the engine, for tests of passes and plans. */
#ifndef WN_TEST_NET_H
#define WN_TEST_NET_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/onnx.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/ops.h"
#include "engine/passes/fused.h"
#include "engine/passes/passes.h"
#include "winnow/winnow.h"

struct net {
    struct wn_arena arena;
    struct wn_graph g;
    wn_nid last; /* the newest node */
    int opset;
    uint64_t seed;
    struct winnow_err err;
};

/* ---- random numbers ---- */

static inline uint64_t net_next(struct net *n)
{
    n->seed ^= n->seed << 13;
    n->seed ^= n->seed >> 7;
    n->seed ^= n->seed << 17;
    return n->seed;
}

/** A whole number of [lo, hi]. */
static inline int64_t net_pick(struct net *n, int64_t lo, int64_t hi)
{
    return lo + (int64_t)((net_next(n) >> 16) % (uint64_t)(hi - lo + 1));
}

static inline float net_unit(struct net *n)
{
    return (float)(net_next(n) >> 40) / (float)(1 << 24);
}

/** Roughly normal: mean 0, deviation 1. */
static inline float net_normal(struct net *n)
{
    float sum = 0;
    for (int i = 0; i < 6; i++)
        sum += net_unit(n);
    return (sum - 3) * 1.41421356f;
}

/* ---- building ---- */

static inline void net_init(struct net *n, uint64_t seed)
{
    *n = (struct net){ .opset = 17, .seed = seed * 0x9e3779b97f4a7c15u + 1 };
    wn_arena_init(&n->arena, (size_t)256 << 20);
    wn_graph_init(&n->g, &n->arena);
    n->g.name = "test";
    n->g.ir_version = 8;
    struct wn_opset sets[] = { { "", 17 }, { "com.microsoft", 1 } };
    for (unsigned i = 0; i < 2; i++)
        if (!wn_vec_push(&n->g.opsets, sets[i]))
            abort();
    for (int i = 0; i < 8; i++)
        net_next(n);
}

static inline void net_done(struct net *n)
{
    wn_graph_done(&n->g);
    wn_arena_done(&n->arena);
}

#define NET_DIMS(...)                                                                                                  \
    (const int64_t[])                                                                                                  \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define NET_IN(...) (const wn_vid[]){ __VA_ARGS__ }, sizeof((const wn_vid[]){ __VA_ARGS__ }) / sizeof(wn_vid)

static inline wn_vid net_input(struct net *n, const char *name, enum winnow_dtype dtype, int rank, const int64_t *dim)
{
    wn_vid v = wn_graph_add_value(&n->g, name, dtype, rank, dim);
    if (v == WN_NONE || !wn_vec_push(&n->g.inputs, v))
        abort();
    return v;
}

static inline void net_output(struct net *n, wn_vid v)
{
    if (!wn_vec_push(&n->g.outputs, v))
        abort();
}

static inline wn_vid net_const(struct net *n, enum winnow_dtype dtype, unsigned rank, const int64_t *dim,
                               const void *data)
{
    wn_vid v = wn_graph_add_const(&n->g, NULL, dtype, rank, dim, data);
    if (v == WN_NONE)
        abort();
    return v;
}

static inline wn_vid net_f32(struct net *n, float x)
{
    return net_const(n, WINNOW_F32, 0, NULL, &x);
}

static inline wn_vid net_u8(struct net *n, int x)
{
    uint8_t b = (uint8_t)x;
    return net_const(n, WINNOW_U8, 0, NULL, &b);
}

static inline wn_vid net_i8(struct net *n, int x)
{
    int8_t b = (int8_t)x;
    return net_const(n, WINNOW_I8, 0, NULL, &b);
}

static inline wn_vid net_i64s(struct net *n, const int64_t *x, int64_t count)
{
    return net_const(n, WINNOW_I64, 1, &count, x);
}

/** Data of a constant, to be filled. */
static inline void *net_data(struct net *n, wn_vid v)
{
    return n->g.values.at[v].constant->data;
}

static inline wn_vid net_normals(struct net *n, unsigned rank, const int64_t *dim, float scale)
{
    wn_vid v = net_const(n, WINNOW_F32, rank, dim, NULL);
    for (int64_t i = 0; i < wn_tensor_count(n->g.values.at[v].constant); i++)
        ((float *)net_data(n, v))[i] = net_normal(n) * scale;
    return v;
}

static inline struct wn_node *net_node(struct net *n)
{
    return &n->g.nodes.at[n->last];
}

/** A node with n_out outputs; "com.microsoft:QLinearAdd" names a domain. Returns its first output. */
static inline wn_vid net_ops(struct net *n, const char *op, const wn_vid *in, size_t n_in, unsigned n_out, wn_vid *outs)
{
    char domain[32] = "", name[64];
    const char *colon = strchr(op, ':');
    if (colon)
        snprintf(domain, sizeof domain, "%.*s", (int)(colon - op), op);
    for (unsigned i = 0; i < n_out; i++)
        if ((outs[i] = wn_graph_add_value(&n->g, NULL, WINNOW_UNDEFINED, -1, NULL)) == WN_NONE)
            abort();
    snprintf(name, sizeof name, "%s_%zu", colon ? colon + 1 : op, n->g.nodes.n);
    struct wn_node *node =
        wn_graph_add_node(&n->g, domain, colon ? colon + 1 : op, name, in, (unsigned)n_in, outs, n_out);
    if (!node)
        abort();
    node->opset = colon ? 1 : n->opset;
    n->last = (wn_nid)(node - n->g.nodes.at);
    return outs[0];
}

static inline wn_vid net_op(struct net *n, const char *op, const wn_vid *in, size_t n_in)
{
    wn_vid out;
    return net_ops(n, op, in, n_in, 1, &out);
}

static inline void net_int(struct net *n, const char *name, int64_t v)
{
    wn_node_set_int(&n->g, net_node(n), name, v);
}

static inline void net_ints(struct net *n, const char *name, const int64_t *v, size_t count)
{
    wn_node_set_ints(&n->g, net_node(n), name, v, count);
}

/** Resolve operators and infer types: what a graph that was read has gone through. */
static inline enum winnow_status net_check(struct net *n)
{
    enum winnow_status status = wn_ops_resolve(&n->g, &n->err);
    return status == WINNOW_OK ? wn_ops_infer_graph(&n->g, &n->err) : status;
}

/** Types of the newest values, while building. */
static inline const struct wn_type *net_type(struct net *n, wn_vid v)
{
    cr_assert_eq(net_check(n), WINNOW_OK, "%s", n->err.msg);
    return &n->g.values.at[v].type;
}

static inline unsigned net_count(const struct net *n, const char *domain, const char *op)
{
    unsigned count = 0;
    for (size_t i = 0; i < n->g.nodes.n; i++)
        count += wn_node_is_in(&n->g.nodes.at[i], domain, op);
    return count;
}

static inline struct wn_node *net_find(struct net *n, const char *domain, const char *op)
{
    for (size_t i = 0; i < n->g.nodes.n; i++)
        if (wn_node_is_in(&n->g.nodes.at[i], domain, op))
            return &n->g.nodes.at[i];
    return NULL;
}

/** Nodes that are alive, as "Conv,Relu". */
static inline const char *net_list(const struct net *n, char *to, size_t size)
{
    size_t at = 0;
    *to = 0;
    for (size_t i = 0; i < n->g.nodes.n && at < size; i++)
        if (!n->g.nodes.at[i].dead)
            at += (size_t)snprintf(to + at, size - at, "%s%s%s%s", at ? "," : "", n->g.nodes.at[i].domain,
                                   *n->g.nodes.at[i].domain ? "." : "", n->g.nodes.at[i].op_type);
    return to;
}

/* ---- running ---- */

/** Load what was built; the graph stays usable. */
static inline winnow_model *net_load(struct net *n, bool reference)
{
    struct winnow_load_opts opts = { .reference = reference, .max_memory_bytes = (size_t)256 << 20, .consume = true };
    winnow_model *model = NULL;
    void *bytes;
    size_t size;
    cr_assert_eq(net_check(n), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(wn_onnx_write(&n->g, &bytes, &size, &n->err), WINNOW_OK, "%s", n->err.msg);
    enum winnow_status status = winnow_model_load_memory(bytes, size, "test", &opts, &model, &n->err);
    free(bytes);
    cr_assert_eq(status, WINNOW_OK, "%s", n->err.msg);
    return model;
}

/** One run on `threads`; the first output's elements are copied out. */
struct net_answer {
    struct winnow_tensor t;
};

static inline struct net_answer net_run_on(winnow_model *model, winnow_scratch *scratch, const struct winnow_tensor *x,
                                           unsigned n_x, unsigned out)
{
    struct winnow_tensor y[8] = { 0 };
    struct winnow_err err = { 0 };
    unsigned n_y = winnow_model_n_outputs(model);
    cr_assert_leq(n_y, 8);
    cr_assert_eq(winnow_run(model, scratch, x, n_x, y, n_y, &err), WINNOW_OK, "%s", err.msg);
    struct net_answer a = { y[out] };
    a.t.data = malloc(y[out].bytes + 1);
    memcpy(a.t.data, y[out].data, y[out].bytes);
    return a;
}

static inline struct net_answer net_run(winnow_model *model, unsigned threads, const struct winnow_tensor *x,
                                        unsigned n_x)
{
    winnow_pool *pool = NULL;
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    if (threads > 1)
        cr_assert_eq(winnow_pool_new(threads, &pool, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_scratch_new(model, pool, &scratch, &err), WINNOW_OK, "%s", err.msg);
    struct net_answer a = net_run_on(model, scratch, x, n_x, 0);
    winnow_scratch_free(scratch);
    winnow_pool_free(pool);
    return a;
}

/** A tensor over `data` with these extents. */
static inline struct winnow_tensor net_tensor(enum winnow_dtype dtype, unsigned rank, const int64_t *dim, void *data)
{
    struct winnow_tensor t = { .dtype = dtype, .rank = rank, .data = data, .bytes = winnow_dtype_size(dtype) };
    for (unsigned i = 0; i < rank; i++) {
        t.shape[i] = dim[i];
        t.bytes *= (size_t)dim[i];
    }
    return t;
}

/** Largest difference, relative to the largest element of `want` (f32), or absolute (integers); INFINITY when shapes or
 *  types differ, or only one is NaN. */
static inline double net_difference(const struct winnow_tensor *got, const struct winnow_tensor *want)
{
    if (got->dtype != want->dtype || got->bytes != want->bytes || got->rank != want->rank ||
        memcmp(got->shape, want->shape, got->rank * sizeof got->shape[0]) != 0)
        return INFINITY;
    double worst = 0, largest = 1e-30;
    size_t elem = winnow_dtype_size(got->dtype);
    for (size_t i = 0; i < got->bytes / elem; i++) {
        double a, b;
        if (got->dtype == WINNOW_F32) {
            a = ((const float *)got->data)[i];
            b = ((const float *)want->data)[i];
        } else if (got->dtype == WINNOW_I8) {
            a = ((const int8_t *)got->data)[i];
            b = ((const int8_t *)want->data)[i];
        } else {
            a = ((const uint8_t *)got->data)[i];
            b = ((const uint8_t *)want->data)[i];
        }
        if (isnan(a) != isnan(b))
            return INFINITY;
        worst = fmax(worst, fabs(a - b));
        largest = fmax(largest, fabs(b));
    }
    return got->dtype == WINNOW_F32 ? worst / largest : worst;
}

/** Use `isa` from now on, also in the families that choose once. */
void net_force(enum wn_isa isa);

/** x through a Q/DQ pair of u8. */
static inline wn_vid net_pair(struct net *n, wn_vid x, float scale, int zp)
{
    wn_vid s = net_f32(n, scale), z = net_u8(n, zp), q = net_op(n, "QuantizeLinear", NET_IN(x, s, z));
    return net_op(n, "DequantizeLinear", NET_IN(q, s, z));
}

/** Quantized f32 answers that a rounding may have put on another step: at most two steps apart, one value in one_in. */
static inline void net_near_steps(const struct net_answer *got, const struct net_answer *want, float step,
                                  size_t one_in, const char *what)
{
    const size_t count = want->t.bytes / sizeof(float);
    size_t other = 0;
    for (size_t i = 0; i < count; i++) {
        const float d = fabsf(((const float *)got->t.data)[i] - ((const float *)want->t.data)[i]);
        other += d > 0;
        cr_assert_leq(d, 2.001f * step, "%s: value %zu differs by %g", what, i, d);
    }
    cr_expect_leq(other, 1 + count / one_in, "%s: %zu of %zu differ from the reference", what, other, count);
}

/** What was built answers the same bits on every instruction set here and with 1 to 3 threads, and what the file's own
 *  operators answer but for such steps. */
static inline void net_check_exact(struct net *n, const struct winnow_tensor *x, float step, size_t one_in,
                                   const char *what)
{
    winnow_model *ref = net_load(n, true);
    struct net_answer literal = net_run(ref, 1, x, 1), want = { 0 };
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(n, false);
        for (unsigned threads = 1; threads < 4; threads++) {
            struct net_answer got = net_run(model, threads, x, 1);
            if (!want.t.data) {
                net_near_steps(&got, &literal, step, one_in, what);
                want = got;
                continue;
            }
            cr_expect(!memcmp(got.t.data, want.t.data, want.t.bytes), "%s on %s, %u threads: other bytes", what,
                      wn_isa_name((enum wn_isa)isa), threads);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(literal.t.data);
    free(want.t.data);
    winnow_model_unref(ref);
}

/* ---- seeds ---- */

/** Check 60 random nets of `mode`, which is seed % modes; WINNOW_TEST_NETS=n as many, WINNOW_TEST_SEED=s those of this
 *  mode from that seed on. */
static inline void net_check_seeds(unsigned mode, unsigned modes, void (*check)(uint64_t seed))
{
    const char *from = getenv("WINNOW_TEST_SEED"), *count = getenv("WINNOW_TEST_NETS");
    uint64_t first = from ? strtoull(from, NULL, 10) : 0, n = count ? strtoull(count, NULL, 10) : 60;
    for (uint64_t i = 0; i < n; i++)
        if ((first + i) % modes == mode || !from)
            check(from ? first + i : i * modes + mode);
}

#endif
