/* model.h: what a winnow_model holds. Internal to engine/plan. */
#ifndef WN_MODEL_H
#define WN_MODEL_H

#include <stdatomic.h>
#include "base/file.h"
#include "engine/graph/graph.h"
#include "engine/plan/plan.h"

struct wn_facts; /* facts.h */
struct wn_packs; /* packs.h */
struct wn_plans; /* plans.h */
struct wn_tuned; /* choice.h */

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
    size_t room;              /* bytes that the graph and its weights took while it was made; plans are bounded by it */
    int64_t since_ns;         /* wall clock when loading began */
    struct wn_file_id source; /* of the file it was loaded from, size 0: not known */
    struct wn_mapping *map;   /* of the compiled form it was loaded from, or NULL */
    unsigned char tag[WINNOW_TAG_BYTES]; /* that came with it */
    size_t n_tag;
    bool rows_independent;
    int64_t row_block; /* the most rows that a plan takes: 1, or WN_ROW_BLOCK (passes.h) */
    const char *why_not;
    struct wn_facts *facts; /* these three from when the passes are through */
    struct wn_packs *packs;
    struct wn_plans *plans;
    struct wn_tuned *tuned; /* from the beginning */
};

/** A model without a graph, one reference; NULL: no memory. */
struct winnow_model *wn_model_new(const struct winnow_load_opts *opts);
/** Plan for the declared shapes with a batch of one, which packs the weights, so that what could only be refused at the
 *  first request is refused now; nothing where more than the batch is dynamic. */
enum winnow_status wn_model_first_plan(struct winnow_model *m, struct winnow_err *err);

#endif
