/* eager.h: running nodes whose shapes are known only when their inputs are there. */
#ifndef WN_EAGER_H
#define WN_EAGER_H

#include "engine/ops/budget.h"
#include "engine/ops/ops.h"

/** Nodes in an order in which each finds its inputs. */
struct wn_eager {
    const struct wn_node *nodes;
    size_t n_nodes, n_values;
    const wn_vid *outputs;
    size_t n_outputs;
    size_t limit; /* bytes alive at a time; 0: none */
    struct wn_budget *budget;
};

/** Run them.
 *  @param value  [n_values] inputs and constants; the rest is filled in and invalid afterwards
 *  @param out    [n_outputs] copies in out_arena
 *  @return what the operators return, E_TOO_LARGE past the limit, and as wn_budget_node() */
enum winnow_status wn_eager_run(const struct wn_eager *e, const struct wn_tensor **value, struct wn_tensor *out,
                                struct wn_arena *out_arena, struct winnow_err *err);

/** Run a sub-graph that takes nothing from outside (wn_graph_capture()); `out` [outputs] are copies in out_arena, whose
 *  limit also holds for what is alive meanwhile. */
enum winnow_status wn_sub_run(const struct wn_graph *sub, const struct wn_tensor *const *in, size_t n_in,
                              struct wn_tensor *out, struct wn_arena *out_arena, struct wn_budget *budget,
                              struct winnow_err *err);
/** Types of its outputs for inputs of these types; `value` (may be NULL, as each entry may) holds known inputs.
 *  @param loops  that it is in: infer->loops of its nodes */
enum winnow_status wn_sub_infer(const struct wn_graph *sub, const struct wn_type *in,
                                const struct wn_tensor *const *value, size_t n_in, unsigned loops, struct wn_type *out,
                                struct winnow_err *err);

/** wn_ops_run_node() inside a run whose budget is counted. */
enum winnow_status wn_ops_run_within(const struct wn_node *node, const struct wn_tensor **in, struct wn_tensor *out,
                                     struct wn_arena *out_arena, struct wn_arena *tmp, struct wn_budget *budget,
                                     struct winnow_err *err);

/** A copy whose data, also that of strings, is in `arena`. */
enum winnow_status wn_tensor_dup(struct wn_tensor *to, const struct wn_tensor *from, struct wn_arena *arena,
                                 struct winnow_err *err);

#endif
