/* cols.h: f32 values as columns: what linear layers, normalizations and attention over several tokens work on.
 *
 * A value of any rank is taken as (n, k): k features (the product of its last axes), n tokens (all axes before). In
 * form COLS feature f is a row of n floats at f * stride, so that the vector lanes of a kernel run over tokens: a
 * linear layer is f32_gemm or f32_spmm with koff[f] = f * stride, whatever the pattern of its zeros, and sums over
 * features need no horizontal step. stride is an odd multiple of 64 bytes (rows do not fight for cache sets); the
 * columns from n to round_up(n, WN_COLS) hold anything. Part of lowering. */
#ifndef WN_PLAN_COLS_H
#define WN_PLAN_COLS_H

#include "engine/plan/lower.h"

struct wn_cols {
    struct wn_loc loc; /* of feature 0, token 0 */
    size_t k, n, cols; /* features, tokens, tokens rounded up to WN_COLS */
    size_t stride;     /* floats from one feature to the next */
};

/** Value v as columns of k features (k divides its count), which it has or which a step makes from its plain form. */
enum winnow_status wn_cols_get(struct wn_lower *lo, wn_vid v, size_t k, struct wn_cols *ret);
/** A new buffer of columns for v; v has it from now on. */
enum winnow_status wn_cols_new(struct wn_lower *lo, wn_vid v, size_t k, struct wn_cols *ret);
/** v, which is in form COLS, as a plain tensor. */
enum winnow_status wn_cols_to_plain(struct wn_lower *lo, wn_vid v);
/** `out`, another shape of `in`'s elements, shares in's columns where in is in that form only; false: it does not. */
bool wn_cols_view(struct wn_lower *lo, wn_vid in, wn_vid out);
/** True when v is in form COLS with k features. */
bool wn_cols_has(const struct wn_lower *lo, wn_vid v, size_t k);
/** Extent of v's last axis; 0 for a scalar. */
size_t wn_cols_last(const struct wn_lower *lo, wn_vid v);

/** First float of feature f. */
static inline float *wn_cols_at(const struct wn_exec *exec, const struct wn_cols *c, size_t f)
{
    return (float *)wn_at(exec, c->loc) + f * c->stride;
}

#endif
