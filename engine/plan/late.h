/* late.h: the part of a plan whose shapes depend on data: run node by node when the rest is done. Internal to
 * engine/plan. */
#ifndef WN_LATE_H
#define WN_LATE_H

#include "engine/plan/lower.h"

/** Nodes that wait for data, and what they work on. In the plan's arena. */
struct wn_late {
    struct wn_node *nodes;
    size_t n_nodes, n_values;
    wn_vid *in; /* [n_in] planned values they read; constants are not among them */
    size_t n_in;
    uint32_t *out_index; /* [n_out] which outputs of the model they make */
    wn_vid *out;
    size_t n_out;
};

/** Take the nodes that make the marked values (late[v]) out of plan->g: one node of domain "wn" stands for them, with
 *  what they read as inputs and the model's outputs that they make as outputs. */
enum winnow_status wn_late_split(struct wn_plan *plan, const bool *late, struct winnow_err *err);
/** The step of that node; *done is false for any other node. */
wn_lower_fn wn_lower_late;
/** True for an output of the model whose shape is known only after a run: exec->late[i] then holds it. */
bool wn_late_makes(const struct wn_plan *plan, unsigned output);

#endif
