/* home.h: where values that are only moved lie. Part of lowering. */
#ifndef WN_HOME_H
#define WN_HOME_H

#include "engine/kernels/eltwise/f32.h"
#include "engine/plan/lower.h"

/** The place where plain value v will be needed, in the result of a Concat that alone reads it, which has room for it
 *  then; false: nowhere but where v itself is. For wn_lower_new_plain(). */
enum winnow_status wn_home_find(struct wn_lower *lo, wn_vid v, bool *ret_found, struct wn_loc *ret);
/** May the view that `node` is of planes wait until somebody wants it plain? */
bool wn_home_view_waits(const struct wn_lower *lo, const struct wn_node *node);

/** Where a Transpose that alone reads a picture of f32, as it is or behind a view, puts its pixels. */
struct wn_beside {
    int32_t *at;     /* [channels] floats from channel 0 of a pixel */
    size_t px, line; /* from pixel to pixel, from line to line */
    bool unary;      /* a function that alone reads the Transpose's result is computed of it */
    enum wn_elt_f32_unary op;
    struct wn_elt_f32 args;
    struct wn_loc loc; /* of the result */
};
/** Does a layer that makes the picture y, one image, do well to write what the Transpose would? Then *ret says where,
 * and what is in between is lowered: the caller makes it all. */
enum winnow_status wn_home_beside(struct wn_lower *lo, wn_vid y, bool *ret_found, struct wn_beside *ret);

#endif
