/* regression.c: see regression.h.
 *
 * DESIGN  Two samples of one distribution over k classes are apart too: for class i the difference of the two shares is
 *         nearly normal with variance p(1-p)(1/n+1/m), so the mean distance is half the sum of sqrt(2/pi) times the
 *         deviations. That is what chance gives, and max_drift counts from there: 77 classes and 200 requests do not
 *         look like drift. Rows of some tens of microseconds take twice that when requests are rare and caches cold:
 *         a difference below LEAST_US is not held against a version. */
#include "daemon/jobs/regression.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define LEAST_US 250.0

const char *wn_regression_name(enum wn_regression r)
{
    static const char *const name[] = { "none", "errors", "latency", "drift" };
    return name[r];
}

static double share(uint64_t part, uint64_t rest)
{
    return part + rest ? (double)part / (double)(part + rest) : 0;
}

static void drift_of(const struct wn_serve_record *a, const struct wn_serve_record *b,
                     struct wn_regression_figures *ret)
{
    const double per_deviation = 0.7978845608028654; /* sqrt(2/pi): mean of |x| of a standard normal */
    double n = 0, m = 0, apart = 0, chance = 0;
    for (unsigned i = 0; i < WN_RECORD_CLASSES; i++) {
        n += (double)a->answered[i];
        m += (double)b->answered[i];
    }
    if (n < 1 || m < 1) { /* outputs that are no classes */
        ret->drift = ret->chance = 0;
        return;
    }
    for (unsigned i = 0; i < WN_RECORD_CLASSES; i++) {
        double p = (double)a->answered[i] / n, q = (double)b->answered[i] / m;
        double both = (double)(a->answered[i] + b->answered[i]) / (n + m);
        apart += fabs(p - q);
        chance += sqrt(both * (1 - both) * (1 / n + 1 / m));
    }
    ret->drift = apart / 2;
    ret->chance = per_deviation * chance / 2;
}

enum wn_regression wn_regression_decide(const struct wn_regression_rules *rules, const struct wn_serve_record *before,
                                        const struct wn_serve_record *after, struct wn_regression_figures *ret,
                                        char *reason)
{
    struct wn_regression_figures f = { .requests_before = (int64_t)(before->success + before->failure),
                                       .requests = (int64_t)(after->success + after->failure),
                                       .errors_before = share(before->failure, before->success),
                                       .errors = share(after->failure, after->success),
                                       .us_before = -1,
                                       .us = wn_serve_record_median_us(after),
                                       .drift = -1,
                                       .chance = -1 };
    bool enough = f.requests >= rules->min_requests, comparable = enough && f.requests_before >= rules->min_requests;
    if (comparable) {
        f.us_before = wn_serve_record_median_us(before);
        drift_of(before, after, &f);
    }
    *ret = f;
    if (enough && f.errors > f.errors_before + rules->max_error_rate) {
        snprintf(reason, WN_REGRESSION_REASON,
                 "%.2f %% of %" PRId64 " requests failed, %.2f %% before (watch.max_error_rate %g)", 100 * f.errors,
                 f.requests, 100 * f.errors_before, rules->max_error_rate);
        return WN_REGRESSION_ERRORS;
    }
    if (comparable && f.us_before > 0 && f.us > f.us_before * rules->max_latency_ratio &&
        f.us > f.us_before + LEAST_US) {
        snprintf(reason, WN_REGRESSION_REASON,
                 "a row takes %.0f us of CPU time (median), %.0f us before: %.1f times (watch.max_latency_ratio %g)",
                 f.us, f.us_before, f.us / f.us_before, rules->max_latency_ratio);
        return WN_REGRESSION_LATENCY;
    }
    if (comparable && f.drift > rules->max_drift + f.chance) {
        snprintf(reason, WN_REGRESSION_REASON,
                 "the classes answered are %.2f away from those before, of which chance explains %.2f (watch.max_drift "
                 "%g)",
                 f.drift, f.chance, rules->max_drift);
        return WN_REGRESSION_DRIFT;
    }
    if (!enough)
        snprintf(reason, WN_REGRESSION_REASON, "%" PRId64 " requests are too few to conclude from (watch.min_requests)",
                 f.requests);
    else if (!comparable)
        snprintf(reason, WN_REGRESSION_REASON,
                 "%.2f %% of %" PRId64 " requests failed; too few before (%" PRId64 ") to compare more", 100 * f.errors,
                 f.requests, f.requests_before);
    else
        snprintf(reason, WN_REGRESSION_REASON,
                 "%" PRId64 " requests: %.2f %% failed (%.2f %% before), %.0f us of CPU per row (%.0f), drift %.2f "
                 "(chance %.2f)",
                 f.requests, 100 * f.errors, 100 * f.errors_before, f.us, f.us_before, f.drift, f.chance);
    return WN_REGRESSION_NONE;
}
