/* model.h: what a winnow_model holds. Internal to engine/plan. */
#ifndef WN_MODEL_H
#define WN_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include "engine/graph/graph.h"
#include "engine/plan/plan.h"

struct wn_packs; /* packs.h */

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
    pthread_mutex_t lock; /* guards packs while plans are made */
    struct wn_packs *packs;
};

#endif
