/* gate.h: the verdict on a candidate: figures in, decision out. No clock, no files. */
#ifndef WN_GATE_H
#define WN_GATE_H

#include <jansson.h>
#include "base/base.h"

/** What `winnow evaluate` found on one set of rows. */
struct wn_gate_figures {
    bool have;   /* false: there is no such set */
    bool paired; /* base and candidate; else the candidate alone */
    int64_t rows, base_correct, correct;
    double diff, lower95;       /* of accuracy, candidate less base, as shares; lower95: one-sided bound */
    double base_cpu_us, cpu_us; /* per row */
    double majority;            /* share of the commonest label */
};
/** Read the evaluator's JSON.  @return E_MALFORMED: names the key */
WINNOW_MUST_USE enum winnow_status wn_gate_figures_read(const json_t *o, bool paired, struct wn_gate_figures *ret,
                                                        struct winnow_err *err);

struct wn_gate_rules {
    double margin;        /* points: lower95 must lie above */
    double max_cpu_ratio; /* candidate to base */
    int64_t min_rows;
    bool eval_rows_decide; /* without an anchor */
    bool new_name;         /* nothing to compare with: a new label set */
    double min_accuracy;   /* of a new name; 0: none */
};

enum wn_verdict { WN_VERDICT_PROMOTE, WN_VERDICT_WAIT, WN_VERDICT_REFUSE };
const char *wn_verdict_name(enum wn_verdict v);

#define WN_GATE_REASON 400
/** Decide. `anchor` may have no rows, `eval` must have been read. `reason` [WN_GATE_REASON] says
 * why, with the numbers. */
enum wn_verdict wn_gate_decide(const struct wn_gate_rules *rules, const struct wn_gate_figures *anchor,
                               const struct wn_gate_figures *eval, char *reason);

#endif
