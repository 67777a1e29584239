/* plans.h: the plans of a model that were used last. Texts come in every length, and a plan is made for one: making it
 * costs as much as running it, so a model keeps some. */
#ifndef WN_PLANS_H
#define WN_PLANS_H

#include "engine/plan/plan.h"

/** What is kept, whichever is reached first; what scratches hold counts as well and lives on when it falls out. */
#define WN_PLANS_MAX   64u
#define WN_PLANS_BYTES ((size_t)64 << 20)

/** Any thread may ask; plans are made outside the lock. */
struct wn_plans;

struct wn_plans *wn_plans_new(void);        /* NULL: no memory */
void wn_plans_free(struct wn_plans *plans); /* NULL is fine */

/** A reference to the plan of `model` for these input types (wn_plan_new()), made if it is not there; the one that was
 *  not asked for the longest gives way.
 *  @return as wn_plan_new() */
enum winnow_status wn_plans_get(struct wn_plans *plans, struct winnow_model *model, const struct wn_type *inputs,
                                struct wn_plan **ret_plan, struct winnow_err *err);

/** Forget all of them; scratches keep those that they use. */
void wn_plans_clear(struct wn_plans *plans);
/** Bytes of the plans kept. */
size_t wn_plans_bytes(struct wn_plans *plans);

#endif
