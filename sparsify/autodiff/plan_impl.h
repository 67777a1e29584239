/* plan_impl.h: between plan.c, plan_cost.c and plan_memory.c. */
#ifndef WN_PLAN_IMPL_H
#define WN_PLAN_IMPL_H

#include "sparsify/autodiff/rules_impl.h"

/** Layout in which a value of this rank leaves an operator of this side. */
static inline enum wn_layout wn_layout_usual(const struct wn_net *net, unsigned rank, enum wn_side side)
{
    return side == WN_SIDE_LANES ? WN_LAYOUT_LANES : rank == 4 && net->pictures ? WN_LAYOUT_C8 : WN_LAYOUT_PLAIN;
}
/** Layout in which input i of a logical operator is wanted. */
enum wn_layout wn_layout_wanted(const struct wn_net *net, const struct wn_net_op *op, unsigned i, enum wn_side side);
/** Layout of an operator's result. */
enum wn_layout wn_layout_made(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side);
/** Fill side[] ([logical ops]) with the cheapest choice found; sets net->predicted_ns. */
void wn_plan_choose(struct wn_net *net, enum wn_side *side);
/** Give every buffer an offset; sets net->memory_floats. False when out of memory. */
bool wn_plan_offsets(struct wn_net *net);

#endif
