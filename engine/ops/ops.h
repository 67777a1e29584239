/* ops.h: the table of operators: for each, what shapes it makes and a plain-C reference run.
 *
 * One file per operator family; ops.def lists them all. The reference run is the oracle of every kernel, the means of
 * constant folding, and what a plan uses where no kernel family fits. */
#ifndef WN_OPS_H
#define WN_OPS_H

#include "engine/graph/graph.h"

/** Shape inference of one node. Also called with concrete shapes when a plan is made. */
struct wn_infer {
    const struct wn_node *node;
    unsigned n_in, n_out;
    struct wn_type in[64];             /* dtype WINNOW_UNDEFINED and rank -1 where unknown or omitted */
    const struct wn_tensor *value[64]; /* the input's data where it is constant, else NULL */
    bool given[64];                    /* false: the input is omitted */
    unsigned loops;                    /* around it */
    struct wn_type *out;               /* [n_out], preset to unknown */
};
#define WN_OP_MAX_IN 64

/** Run of one node on plain tensors. */
struct wn_run {
    const struct wn_node *node;
    unsigned n_in, n_out;
    const struct wn_tensor **in; /* NULL where omitted */
    struct wn_tensor *out;    /* [n_out]: dtype, rank, dim and bytes as inferred from the concrete inputs, data given;
                                 data NULL where inference could not know the shape: use wn_run_alloc() */
    struct wn_arena *tmp;     /* scratch memory of this call; also what wn_run_alloc() takes from */
    struct wn_budget *budget; /* what loops may still spend (budget.h); set by wn_ops_run_node() */
};

/** Which axis of the outputs carries the batch, given which axis of the inputs does (see passes/rows.h). */
struct wn_rows {
    const struct wn_node *node;
    unsigned n_in;
    const struct wn_infer *infer; /* after inference: types and constants; a batch axis has extent -1 */
    const int *in_axis;           /* [n_in]: the batch axis, WN_ROWS_NONE: the input does not depend on the batch, or
                                     WN_ROWS_MIXED: it depends on all rows (rules answer MIXED to that, but not where such
                                     an input only gives a shape or dtype that infer->out confirms: Reshape, CastLike) */
    int out_axis;                 /* set by the rule, for all outputs: an axis, WN_ROWS_NONE, or WN_ROWS_MIXED */
};
#define WN_ROWS_NONE  (-1)
#define WN_ROWS_MIXED (-2) /* rows depend on each other, or the rule cannot tell */

struct wn_op {
    const char *domain, *type;
    int since; /* first opset of this entry; the newest entry not above the file's opset is taken */
    unsigned min_in, max_in, min_out, max_out;
    /** Fill infer->out. E_MALFORMED for attributes or shapes the specification forbids, E_UNSUPPORTED for what we lack.
     */
    enum winnow_status (*infer)(struct wn_infer *infer, struct winnow_err *err);
    /** Compute. Shapes were checked by infer. */
    enum winnow_status (*run)(struct wn_run *run, struct winnow_err *err);
    /** Batch-axis rule; NULL = WN_ROWS_MIXED as soon as any input carries a batch. */
    void (*rows)(struct wn_rows *rows);
};

/** Entry for (domain, type) at this opset, or NULL. */
const struct wn_op *wn_ops_find(const char *domain, const char *type, int opset);
/** i-th entry of the table, or NULL past the end; for listings and tests. */
const struct wn_op *wn_ops_at(size_t i);
/** Set node->op everywhere, also in sub-graphs.
 *  @return E_UNSUPPORTED naming node, domain, operator and opset of the first one we lack; E_MALFORMED for a wrong
 *          number of inputs or outputs */
enum winnow_status wn_ops_resolve(struct wn_graph *g, struct winnow_err *err);
/** Infer all types in order, filling g->values[].type; a contradiction with a declared output type is an error. */
enum winnow_status wn_ops_infer_graph(struct wn_graph *g, struct winnow_err *err);
/** Prepare `infer` for a node of g (types and constants of its inputs; `out` must hold n_out types). */
void wn_ops_infer_prepare(const struct wn_graph *g, const struct wn_node *node, struct wn_infer *infer,
                          struct wn_type *out);
/** Infer one prepared node: the operator's rule, then checks of its results that hold for every operator (extents,
 *  sizes that overflow). Errors name the node. */
enum winnow_status wn_ops_infer_node(struct wn_infer *infer, struct winnow_err *err);
/** Run one node by its reference. Infers the concrete output shapes first; output data is taken from `out_arena`.
 *  `in` may hold NULL for omitted inputs; out [n_out] is filled. Errors name the node. */
enum winnow_status wn_ops_run_node(const struct wn_node *node, const struct wn_tensor **in, struct wn_tensor *out,
                                   struct wn_arena *out_arena, struct wn_arena *tmp, struct winnow_err *err);
/** About how long the reference of an inferred node takes, in steps of a nanosecond or two: bytes read and written, and
 *  products. UINT64_MAX: cannot be told. From shapes alone, so the same on every machine. */
uint64_t wn_ops_work(const struct wn_infer *infer);
/** True for an operator whose work is in proportion to what it reads and writes. */
bool wn_ops_work_is_linear(const struct wn_node *node);
/** For run functions: give output i this shape (dtype is set) and data from run->tmp, for data-dependent shapes. */
enum winnow_status wn_run_alloc(struct wn_run *run, unsigned i, enum winnow_dtype dtype, unsigned rank,
                                const int64_t *dim, struct winnow_err *err);

/** Where a Resize or Upsample to the nearest neighbour takes the elements along `axis` from: ret_map[n_out] positions of the
 *  input x; n_out: the output's extent. in[n_in]: the constants among the node's inputs (in[0] is not looked at), NULL where
 *  one is omitted. False: another mode, an unknown extent, or positions outside of the input. */
bool wn_resize_map(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *const *in, unsigned n_in,
                   int axis, int64_t n_out, int32_t *ret_map);

/** Where a Slice of x, whose shape is known, begins and its steps, [rank] each. param [4]: starts, ends, axes, steps, NULL
 *  where one is omitted or an attribute. False: they do not suit x. */
bool wn_slice_of(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *const *param, int64_t *from,
                 int64_t *step);

#endif
