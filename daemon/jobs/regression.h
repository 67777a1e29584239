/* regression.h: whether a promoted version does worse in service than the one before it: records in, verdict out. No
 * clock, no files. */
#ifndef WN_REGRESSION_H
#define WN_REGRESSION_H

#include "daemon/serve/serve.h"

/** Settings watch.*; zero or more each. */
struct wn_regression_rules {
    int64_t min_requests;     /* of each side, before anything is concluded from it */
    double max_error_rate;    /* share of failed requests above that of the version before */
    double max_latency_ratio; /* median CPU time per row, to that of the version before */
    double max_drift;         /* total variation distance of the classes answered, above what chance alone gives */
};

enum wn_regression { WN_REGRESSION_NONE, WN_REGRESSION_ERRORS, WN_REGRESSION_LATENCY, WN_REGRESSION_DRIFT };
/** "none", "errors", "latency", "drift". */
const char *wn_regression_name(enum wn_regression r);

/** The figures behind a verdict. A side with too few requests has no say in its figure, which is -1 then. */
struct wn_regression_figures {
    int64_t requests_before, requests;
    double errors_before, errors; /* shares */
    double us_before, us;         /* median CPU time per row */
    double drift, chance;         /* distance, and its mean if both had answered from one distribution */
};

#define WN_REGRESSION_REASON 320
/** Decide. `reason` [WN_REGRESSION_REASON] says why with the numbers, also when there is none ("200 requests: …"). */
enum wn_regression wn_regression_decide(const struct wn_regression_rules *rules, const struct wn_serve_record *before,
                                        const struct wn_serve_record *after, struct wn_regression_figures *ret,
                                        char *reason);

#endif
