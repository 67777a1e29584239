/* home.h: where values that are only moved lie. Part of lowering. */
#ifndef WN_HOME_H
#define WN_HOME_H

#include "engine/plan/lower.h"

/** The place where plain value v will be needed, in the result of a Concat that alone reads it, which has room for it
 *  then; false: nowhere but where v itself is. For wn_lower_new_plain(). */
enum winnow_status wn_home_find(struct wn_lower *lo, wn_vid v, bool *ret_found, struct wn_loc *ret);
/** May the view that `node` is of planes wait until somebody wants it plain? */
bool wn_home_view_waits(const struct wn_lower *lo, const struct wn_node *node);

#endif
