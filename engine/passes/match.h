/* match.h: looking at a graph's neighbourhood: what passes that recognize patterns share. Internal to engine/passes. */
#ifndef WN_PASSES_MATCH_H
#define WN_PASSES_MATCH_H

#include "engine/passes/impl.h"

/** Who reads each value, as the graph was when the index was made: nodes that died since are dead, new ones missing. */
struct wn_readers {
    uint32_t *at; /* [values + 1] into node */
    wn_nid *node; /* once per input */
    size_t n_values;
};
bool wn_readers_make(const struct wn_graph *g, struct wn_readers *ret);
void wn_readers_done(struct wn_readers *r);
/** Node ids that read v; *ret_n of them. */
const wn_nid *wn_readers_of(const struct wn_readers *r, wn_vid v, size_t *ret_n);

/** The constant behind v when it has one element of any numeric type. */
bool wn_number(const struct wn_graph *g, wn_vid v, double *ret);
/** v is a constant of one element that differs from `want` by at most 1e-3 of it. */
bool wn_number_is(const struct wn_graph *g, wn_vid v, double want);
/** Both shapes are known as far as they can be, and equal. */
bool wn_same_shape(const struct wn_graph *g, wn_vid a, wn_vid b);
/** What an Add that alone reads *y adds to it, where that is no constant and of one shape and type with it: the Add is taken
 *  out and *y is its result. WN_NONE: there is none. */
wn_vid wn_take_residual(struct wn_graph *g, wn_vid *y);
/** Producer of v when it is a live node of the default domain with this op_type; else NULL. */
struct wn_node *wn_made_by(struct wn_graph *g, wn_vid v, const char *op_type);
/** The operand of a binary node that is not v; WN_NONE when neither or both are. */
wn_vid wn_other_in(const struct wn_node *node, wn_vid v);
/** For Mul by a constant number and Div by one: the other operand and the factor. False for everything else. */
bool wn_scaled_by(const struct wn_graph *g, const struct wn_node *node, wn_vid *ret_x, double *ret_factor);
/** The reductions of node are over the last axis only, which is kept. */
bool wn_reduces_last(const struct wn_graph *g, const struct wn_node *node);
/** f32 constant of n elements, all in its last axis. */
const struct wn_tensor *wn_vector_of(const struct wn_graph *g, wn_vid v, int64_t n);
/** Extent of v's last axis; -1 when unknown. */
int64_t wn_last_dim(const struct wn_graph *g, wn_vid v);
/** A new node of the default domain that makes `out`, its operator entry set. NULL when out of memory. */
struct wn_node *wn_std_add(struct wn_graph *g, const char *op_type, int opset, const char *name, const wn_vid *in,
                           unsigned n_in, wn_vid out);

#endif
