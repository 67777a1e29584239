/* facts.h: what is found out about a model's weights once, however many shapes it is planned for: how many of them are
 * zero, in which pattern, and the hash of their content. Counting and hashing read every weight, which for a language
 * model costs more than a run does. */
#ifndef WN_FACTS_H
#define WN_FACTS_H

#include "engine/graph/graph.h"
#include "engine/plan/cost.h"

/** A hash of 128 bits. */
struct wn_hash {
    uint64_t low, high;
};

/** Facts of the constants of one graph; any thread may ask. */
struct wn_facts;

/** Of the constants that `g` has now: they must neither move nor change from here on. NULL: no memory. */
struct wn_facts *wn_facts_new(const struct wn_graph *g);
void wn_facts_free(struct wn_facts *facts); /* NULL is fine */

/** wn_sparsity_of() of the matrices w (O, I, taps), f32 or s8. A tensor that is not the graph's own (made for one plan)
 *  is counted anew each time. */
struct wn_sparsity wn_facts_sparsity(struct wn_facts *facts, const struct wn_tensor *w, size_t O, size_t I, size_t taps);

/** XXH3 of element type, shape and bytes. */
struct wn_hash wn_facts_hash(struct wn_facts *facts, const struct wn_tensor *w);

#endif
