/* follow.h: what shape computations yield, and where the batch is, node by node. Internal to engine/passes.
 *
 * Exporters write `x.view(x.size(0), -1)` or `mask.expand(b, 1, s, s)` as half a dozen nodes on small integer vectors.
 * Their elements are followed by name: a number, an extent of some value, or an unknown that is never negative. With
 * the rules of the operators (ops.h) this tells which axis of every value carries the batch. */
#ifndef WN_PASSES_FOLLOW_H
#define WN_PASSES_FOLLOW_H

#include "engine/passes/impl.h"

struct wn_element {
    int64_t known; /* or -1: unknown, */
    wn_vid v;      /* extent `axis` of this value, or WN_NONE: computed, */
    int axis;
    bool of_batch; /* computed from the batch's extent too */
};

struct wn_vector {
    unsigned n;
    struct wn_element e[WINNOW_MAX_RANK];
};

struct wn_follower {
    struct wn_graph *g;
    struct wn_vector **vec; /* [room] NULL: not followed */
    int *axis;              /* [room] where the batch is (ops.h) */
    size_t room;            /* values that may be asked about */
};

/** Start with the inputs: the batch is axis 0 where that is dynamic. `more` values may be added to g meanwhile.
 *  @return false when out of memory; done is due in both cases */
bool wn_follow_init(struct wn_follower *f, struct wn_graph *g, size_t more);
void wn_follow_done(struct wn_follower *f);
/** Set axis, and vec where it is a vector, of node's outputs. Nodes come in order; types are inferred. */
void wn_follow_node(struct wn_follower *f, const struct wn_node *node);
/** The elements of input i, followed or constant. */
bool wn_follow_input(const struct wn_follower *f, const struct wn_node *node, unsigned i, struct wn_vector *ret);
/** True for the number of rows in the batch itself. */
bool wn_follow_is_batch(const struct wn_follower *f, const struct wn_element *e);
/** True for what is the same whatever the batch. */
bool wn_follow_is_fixed(const struct wn_follower *f, const struct wn_element *e);

/** Write node, if it is a long way round (detours.c), as what it says. */
enum winnow_status wn_detour(struct wn_follower *f, struct wn_node *node, struct winnow_err *err);

#endif
