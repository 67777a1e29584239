/* graph.h: a model as values and nodes, the form that passes change and plans are made from.
 *
 * A value is a tensor that some node makes, an input, or a constant. Values and nodes are named by index (wn_vid,
 * wn_nid): indices stay valid while the vectors grow and are never reused; a removed node is marked dead.
 * Everything a graph points at lives in its arena. One thread at a time may change a graph. */
#ifndef WN_GRAPH_H
#define WN_GRAPH_H

#include "base/arena.h"
#include "base/base.h"
#include "base/vec.h"
#include "winnow/winnow.h"

/** A dense row-major tensor. In a graph: a constant, its data in the graph's arena. */
struct wn_tensor {
    enum winnow_dtype dtype;
    unsigned rank;
    int64_t dim[WINNOW_MAX_RANK];
    size_t bytes;
    void *data; /* bytes long, 64-byte aligned; STRING: array of struct winnow_str */
};

/** Number of elements; the extents are known to be non-negative and not to overflow. */
static inline int64_t wn_tensor_count(const struct wn_tensor *t)
{
    int64_t n = 1;
    for (unsigned i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

typedef uint32_t wn_vid;
typedef uint32_t wn_nid;
#define WN_NONE UINT32_MAX /* no value (an omitted optional input or output), no node */

/** What is known about a value before data is there. */
struct wn_type {
    enum winnow_dtype dtype;      /* WINNOW_UNDEFINED = unknown */
    int rank;                     /* -1 = unknown */
    int64_t dim[WINNOW_MAX_RANK]; /* -1 = unknown or dynamic */
};

struct wn_value {
    const char *name;
    struct wn_type type;
    const char *dim_name[WINNOW_MAX_RANK]; /* dim_param of a graph input or output; NULL otherwise */
    const struct wn_tensor *constant;      /* not NULL: its data is known */
    wn_nid producer;                       /* WN_NONE for inputs and constants */
    bool outer; /* in a sub-graph: stands for the value of this name in the graph around it (no producer here; constant
                   where that one is). A name that a nested sub-graph takes from further out stands in each graph
                   between. See wn_graph_outer_value(). */
};

enum wn_attr_kind {
    WN_ATTR_INT,
    WN_ATTR_FLOAT,
    WN_ATTR_STRING,
    WN_ATTR_TENSOR,
    WN_ATTR_INTS,
    WN_ATTR_FLOATS,
    WN_ATTR_STRINGS,
    WN_ATTR_GRAPH,
};

struct wn_attr {
    const char *name;
    enum wn_attr_kind kind;
    size_t n; /* elements of ints, floats, strs */
    int64_t i;
    float f;
    struct winnow_str s;
    const struct wn_tensor *t;
    const int64_t *ints;
    const float *floats;
    const struct winnow_str *strs;
    struct wn_graph *g; /* a sub-graph (If, Loop, Scan) in the same arena */
};

struct wn_op; /* engine/ops/ops.h */

struct wn_node {
    const char *name;       /* never NULL, may be made up ("Conv_17") */
    const char *domain;     /* "" for ai.onnx, "com.microsoft", "wn" for our own fused operators */
    const char *op_type;    /* "Conv" */
    int opset;              /* version of the node's domain in this file */
    const struct wn_op *op; /* set by wn_ops_resolve(); NULL = not known to us */
    unsigned n_in, n_out, n_attr;
    wn_vid *in, *out; /* WN_NONE where omitted */
    struct wn_attr *attr;
    const void *fused; /* domain "wn": the operator's own parameters (passes/fused.h) */
    bool dead;
};

struct wn_opset {
    const char *domain;
    int version;
};

struct wn_meta {
    const char *key, *value;
};

struct wn_graph {
    struct wn_arena *arena; /* owned by whoever made the graph */
    const char *name;
    WN_VEC(struct wn_value) values;
    WN_VEC(struct wn_node) nodes; /* in topological order after wn_graph_sort(); skip the dead ones */
    WN_VEC(wn_vid) inputs;        /* without initializers, even where an old file lists them as inputs */
    WN_VEC(wn_vid) outputs;
    WN_VEC(struct wn_opset) opsets;
    WN_VEC(struct wn_meta) meta;   /* metadata_props */
    WN_VEC(const char *) external; /* files beside the model's that tensors were read from, relative to its folder */
    int64_t ir_version;
    const char *producer;
    const struct wn_graph *outer; /* the graph around a sub-graph; NULL at the top */
    uint64_t fold_work, fold_limit; /* what folding constants has cost, and may (wn_ops_work()); no limit: 0 */
    bool alone;                   /* no other graph shares its constants: what nothing uses may be given back */
    struct wn_uses *uses;         /* who uses what, between wn_graph_index() and the next sort; or NULL */
};

/** An empty graph whose contents live in `arena`. */
void wn_graph_init(struct wn_graph *g, struct wn_arena *arena);
/** Frees the vectors (not the arena), also of sub-graphs. */
void wn_graph_done(struct wn_graph *g);
/** Deep copy into `arena`; constants are shared with `from`, which must outlive the copy. */
enum winnow_status wn_graph_copy(struct wn_graph *to, struct wn_arena *arena, const struct wn_graph *from,
                                 struct winnow_err *err);

/** A new value without producer; WN_NONE when out of memory. `name` is copied; NULL makes one up. */
wn_vid wn_graph_add_value(struct wn_graph *g, const char *name, enum winnow_dtype dtype, int rank, const int64_t *dim);
/** A new constant holding a copy of `data` (NULL: zeroed, to be filled by the caller through ret->data). */
wn_vid wn_graph_add_const(struct wn_graph *g, const char *name, enum winnow_dtype dtype, unsigned rank,
                          const int64_t *dim, const void *data);
/** A new node at the end (sort afterwards where that is not its place); its outputs get it as producer. The arrays are
 *  copied. Returns NULL when out of memory; the pointer is valid until the next node is added. */
struct wn_node *wn_graph_add_node(struct wn_graph *g, const char *domain, const char *op_type, const char *name,
                                  const wn_vid *in, unsigned n_in, const wn_vid *out, unsigned n_out);
/** Add or replace an attribute; false when out of memory. The arrays are copied. */
bool wn_node_set_int(struct wn_graph *g, struct wn_node *node, const char *name, int64_t v);
bool wn_node_set_float(struct wn_graph *g, struct wn_node *node, const char *name, float v);
bool wn_node_set_ints(struct wn_graph *g, struct wn_node *node, const char *name, const int64_t *v, size_t n);
bool wn_node_set_str(struct wn_graph *g, struct wn_node *node, const char *name, const char *v);

/** Attribute by name, or NULL. */
const struct wn_attr *wn_node_attr(const struct wn_node *node, const char *name);
/** Attribute's value, or `def` when it is absent or of another kind. */
int64_t wn_node_int(const struct wn_node *node, const char *name, int64_t def);
float wn_node_float(const struct wn_node *node, const char *name, float def);
/** Integers of an attribute; NULL and *n = 0 when absent. */
const int64_t *wn_node_ints(const struct wn_node *node, const char *name, size_t *n);
/** True when a string attribute equals `want`; `def` is taken for an absent one. */
bool wn_node_str_is(const struct wn_node *node, const char *name, const char *def, const char *want);
/** True for a live node of the default domain (or of `domain`) with this op_type. */
bool wn_node_is(const struct wn_node *node, const char *op_type);
/** Reshape and the like, with one output in use: the same elements in another shape. */
bool wn_node_is_view(const struct wn_node *node);
bool wn_node_is_in(const struct wn_node *node, const char *domain, const char *op_type);

/** Producer of value `v`, or NULL. */
struct wn_node *wn_graph_producer(struct wn_graph *g, wn_vid v);
/** The value of g->outer that the outer value `v` of `g` stands for (it may be an outer one there too); WN_NONE when
 * `v` is not outer or none has its name. Linear in the values of g->outer: an executor asks once and keeps the answer.
 */
wn_vid wn_graph_outer_vid(const struct wn_graph *g, wn_vid v);
/** The value in a graph around `g` that the outer value `v` stands for; NULL when `v` is not outer or none has its
 * name. Linear in the values of those graphs. */
const struct wn_value *wn_graph_outer_value(const struct wn_graph *g, wn_vid v);
/** Count uses now and keep the counts while nodes are added, killed and replaced, so that the three functions below
 *  take constant time where a value has one user. Without it (also when memory is short) each looks through the graph.
 *  wn_graph_sort() and wn_graph_done() drop the counts; node->in must not be written directly while they are kept. */
void wn_graph_index(struct wn_graph *g);
/** Number of live uses of `v`: node inputs, plus one per graph output, plus uses inside sub-graphs. */
unsigned wn_graph_n_uses(const struct wn_graph *g, wn_vid v);
/** The only node that uses `v`, or NULL when there is none, more than one, or `v` is a graph output. */
struct wn_node *wn_graph_only_user(struct wn_graph *g, wn_vid v);
/** Make every user of `from` (also the graph's outputs) use `to` instead. A graph output keeps its name: if `from` is
 *  an output, `to` takes over its name. */
void wn_graph_replace_uses(struct wn_graph *g, wn_vid from, wn_vid to);
/** The constant `v` was perhaps read for the last time: where nothing uses it, it is none any more and its memory goes
 *  back to the system. Only where g->alone; small ones stay. Linear in the values of the graph. */
void wn_graph_give_back(struct wn_graph *g, wn_vid v);
/** The same for a tensor that is no value's constant any more. */
void wn_graph_give_back_tensor(struct wn_graph *g, const struct wn_tensor *t);
/** Mark a node dead; its outputs lose their producer. */
void wn_graph_kill(struct wn_graph *g, struct wn_node *node);
/** Kill nodes whose outputs nobody uses, drop the dead ones and put the rest in topological order (stable). Node
 *  pointers and ids change. Linear time.
 *  @return E_MALFORMED for a cycle or a value used before anything makes it, naming the node */
enum winnow_status wn_graph_sort(struct wn_graph *g, struct winnow_err *err);
/** Make every sub-graph a function of its inputs: what it takes from the graphs around it (but for constants) is
 *  appended to the node's inputs and to those of all its sub-graphs, whose number the node then has in the attribute
 *  WN_CAPTURED_ATTR. Once per graph, before passes.
 *  @return E_UNSUPPORTED for more than 64 values by one node, E_NOMEM */
enum winnow_status wn_graph_capture(struct wn_graph *g, struct winnow_err *err);
#define WN_CAPTURED_ATTR "wn_captured"

#endif
