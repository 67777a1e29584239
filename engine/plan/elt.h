/* elt.h: which f32 elementwise kernel a node is. Part of lowering. */
#ifndef WN_PLAN_ELT_H
#define WN_PLAN_ELT_H

#include "engine/kernels/eltwise/f32.h"
#include "engine/plan/lower.h"

/** A function of one f32 value, and its constants (no pointers); false: the node is something else. */
bool wn_elt_unary_of(const struct wn_lower *lo, const struct wn_node *node, enum wn_elt_f32_unary *ret_op,
                     struct wn_elt_f32 *ret_args);

#endif
