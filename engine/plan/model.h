/* model.h: what a winnow_model holds. Internal to engine/plan. */
#ifndef WN_MODEL_H
#define WN_MODEL_H

#include <stdatomic.h>
#include "engine/graph/graph.h"
#include "engine/plan/plan.h"

struct wn_facts; /* facts.h */
struct wn_packs; /* packs.h */
struct wn_plans; /* plans.h */

/** What nodes, names and steps of a model may take beside its weights and activations. */
#define WN_SKELETON_BYTES ((size_t)64 << 20)

struct winnow_model {
    unsigned magic;
#define WN_MODEL_MAGIC 0x6d0de1a1u
    atomic_uint refs;
    struct wn_arena arena;
    struct wn_graph g; /* after the passes, shapes symbolic */
    unsigned n_inputs, n_outputs;
    struct winnow_io *inputs, *outputs;
    struct winnow_load_opts opts;
    bool rows_independent;
    const char *why_not;
    struct wn_facts *facts; /* these three from when the passes are through */
    struct wn_packs *packs;
    struct wn_plans *plans;
};

#endif
