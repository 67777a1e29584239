/* eval.h: arithmetic in recipes: `eval(num_epochs * 0.5)`. Numbers, variables, + - * / ^, comparisons and muParser's
 * functions; no names beyond the given ones, no side effects, bounded length. */
#ifndef WN_EVAL_H
#define WN_EVAL_H

#include "base/base.h"

#define WN_EVAL_MAX_LENGTH 1024

struct wn_eval_var {
    const char *name;
    double value;
};

/** Compute `expr` with n variables. @return E_MALFORMED: what is wrong and where; also for a result that is not finite
 */
WINNOW_MUST_USE enum winnow_status wn_eval(const char *expr, const struct wn_eval_var *vars, size_t n, double *ret,
                                           struct winnow_err *err);

#endif
