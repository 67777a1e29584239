/* curve.c: schedules. */
#include "sparsify/recipe/curve.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    enum wn_curve curve;
} names[] = {
    { "linear", WN_CURVE_LINEAR },
    { "cubic", WN_CURVE_CUBIC },
    { "inverse_cubic", WN_CURVE_INVERSE_CUBIC },
    { "polynomial_decay", WN_CURVE_POLYNOMIAL },
    { "cosine", WN_CURVE_COSINE },
    { "cyclic_linear", WN_CURVE_CYCLIC_LINEAR },
};

bool wn_curve_of(const char *name, enum wn_curve *ret)
{
    for (size_t i = 0; i < WN_COUNT(names); i++)
        if (strcmp(names[i].name, name) == 0) {
            *ret = names[i].curve;
            return true;
        }
    return false;
}

double wn_curve_at(enum wn_curve curve, double from, double to, double x, double exponent)
{
    x = x < 0 ? 0 : x > 1 ? 1 : x;
    double y = x;
    switch (curve) {
    case WN_CURVE_CUBIC:
        y = 1 - pow(1 - x, 3);
        break;
    case WN_CURVE_INVERSE_CUBIC:
        y = 1 - pow(1 - x, 1.0 / 3);
        break;
    case WN_CURVE_POLYNOMIAL:
        y = 1 - pow(1 - x, exponent);
        break;
    case WN_CURVE_COSINE:
        y = (1 - cos(M_PI * x)) / 2;
        break;
    case WN_CURVE_LINEAR:
    case WN_CURVE_CYCLIC_LINEAR:
        break;
    }
    return from + (to - from) * y;
}
