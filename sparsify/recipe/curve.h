/* curve.h: how learning rates and sparsities move between two times.  Source: SparseML's schedules. */
#ifndef WN_CURVE_H
#define WN_CURVE_H

#include "base/base.h"

enum wn_curve {
    WN_CURVE_LINEAR,
    WN_CURVE_CUBIC,
    WN_CURVE_INVERSE_CUBIC,
    WN_CURVE_POLYNOMIAL,
    WN_CURVE_COSINE,
    WN_CURVE_CYCLIC_LINEAR
};

/** Name as recipes write it -> curve; false: unknown. */
bool wn_curve_of(const char *name, enum wn_curve *ret);
/** From `from` to `to` at x in 0 … 1:
 *    linear x   cubic 1-(1-x)^3   inverse_cubic 1-(1-x)^(1/3)   polynomial 1-(1-x)^exponent   cosine (1-cos(pi x))/2 */
double wn_curve_at(enum wn_curve curve, double from, double to, double x, double exponent);

#endif
