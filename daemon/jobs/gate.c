/* gate.c: the verdict on a candidate: figures in, decision out. */
#include "daemon/jobs/gate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

const char *wn_verdict_name(enum wn_verdict v)
{
    static const char *const name[] = { "promote", "wait", "refuse" };
    return (unsigned)v < WN_COUNT(name) ? name[v] : "refuse";
}

/* ---- reading ---- */
static bool get_count(const json_t *o, const char *key, int64_t *ret)
{
    const json_t *v = json_object_get(o, key);
    *ret = json_integer_value(v);
    return json_is_integer(v) && *ret >= 0;
}

static bool get_real(const json_t *o, const char *key, double *ret)
{
    const json_t *v = json_object_get(o, key);
    *ret = json_number_value(v);
    return json_is_number(v) && isfinite(*ret);
}

enum winnow_status wn_gate_figures_read(const json_t *o, bool paired, struct wn_gate_figures *ret,
                                        struct winnow_err *err)
{
    struct wn_gate_figures f = { .have = true, .paired = paired };
    const json_t *models = json_object_get(o, "models"), *p = json_object_get(o, "paired");
    const json_t *last = json_array_get(models, paired ? 1 : 0);
    const char *missing = NULL;
    if (!get_count(o, "rows", &f.rows))
        missing = "rows";
    else if (!get_real(o, "majority", &f.majority))
        missing = "majority";
    else if (!get_count(last, "correct", &f.correct) || f.correct > f.rows ||
             !get_real(last, "cpu_us_per_row", &f.cpu_us))
        missing = "models";
    else if (paired && (!get_count(json_array_get(models, 0), "correct", &f.base_correct) || f.base_correct > f.rows ||
                        !get_real(json_array_get(models, 0), "cpu_us_per_row", &f.base_cpu_us)))
        missing = "models";
    else if (paired && (!get_real(p, "diff", &f.diff) || !get_real(p, "lower95", &f.lower95)))
        missing = "paired";
    if (missing)
        return wn_fail(err, WINNOW_E_MALFORMED, "the evaluator's report: '%s' is missing or makes no sense", missing);
    *ret = f;
    return WINNOW_OK;
}

/* ---- deciding ---- */
static double points(const struct wn_gate_figures *f)
{
    return f->rows ? 100.0 * (double)(f->correct - f->base_correct) / (double)f->rows : 0;
}

static double percent(int64_t part, int64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0;
}

static enum wn_verdict decide_new(const struct wn_gate_rules *r, const struct wn_gate_figures *e, char *why)
{
    double acc = percent(e->correct, e->rows);
    if (e->rows && acc <= 100 * e->majority) {
        snprintf(why, WN_GATE_REASON,
                 "accuracy %.2f %% on %" PRId64 " new rows is no better than always answering the "
                 "commonest label (%.2f %%)",
                 acc, e->rows, 100 * e->majority);
        return WN_VERDICT_REFUSE;
    }
    if (e->rows && acc < 100 * r->min_accuracy) {
        snprintf(why, WN_GATE_REASON, "accuracy %.2f %% on %" PRId64 " new rows is below min_accuracy %.2f %%", acc,
                 e->rows, 100 * r->min_accuracy);
        return WN_VERDICT_REFUSE;
    }
    if (e->rows < r->min_rows) {
        snprintf(why, WN_GATE_REASON, "%" PRId64 " new rows are fewer than gate.min_rows %" PRId64 ": a person decides",
                 e->rows, r->min_rows);
        return WN_VERDICT_WAIT;
    }
    snprintf(why, WN_GATE_REASON, "accuracy %.2f %% on %" PRId64 " new rows, the commonest label would get %.2f %%",
             acc, e->rows, 100 * e->majority);
    return WN_VERDICT_PROMOTE;
}

/* CPU per row over both sets: the anchor may be small. */
static double cpu_ratio(const struct wn_gate_figures *a, const struct wn_gate_figures *e)
{
    double base = e->base_cpu_us * (double)e->rows, own = e->cpu_us * (double)e->rows;
    if (a->have) {
        base += a->base_cpu_us * (double)a->rows;
        own += a->cpu_us * (double)a->rows;
    }
    return base > 0 ? own / base : 0;
}

enum wn_verdict wn_gate_decide(const struct wn_gate_rules *r, const struct wn_gate_figures *anchor,
                               const struct wn_gate_figures *eval, char *why)
{
    if (r->new_name)
        return decide_new(r, eval, why);
    const struct wn_gate_figures *judge = anchor->have ? anchor : eval;
    const char *rows = anchor->have ? "anchor rows" : "new rows";
    bool few = eval->rows < r->min_rows || (anchor->have && anchor->rows < r->min_rows);
    double ratio = cpu_ratio(anchor, eval);
    if (!few && !(100 * judge->lower95 > r->margin)) {
        snprintf(why, WN_GATE_REASON,
                 "on %" PRId64 " %s the candidate is right on %" PRId64 ", the live version on %" PRId64
                 ": %+.2f points, with 95 %% confidence at least %+.2f, and %+.2f is allowed",
                 judge->rows, rows, judge->correct, judge->base_correct, points(judge), 100 * judge->lower95,
                 r->margin);
        return WN_VERDICT_REFUSE;
    }
    if (!few && eval->correct < eval->base_correct) {
        snprintf(why, WN_GATE_REASON,
                 "on %" PRId64 " new rows the candidate is right on %" PRId64 ", the live version on %" PRId64
                 ": %+.2f points",
                 eval->rows, eval->correct, eval->base_correct, points(eval));
        return WN_VERDICT_REFUSE;
    }
    if (!few && ratio > r->max_cpu_ratio) {
        snprintf(why, WN_GATE_REASON,
                 "the candidate takes %.2f times the CPU time of the live version, %.2f is allowed", ratio,
                 r->max_cpu_ratio);
        return WN_VERDICT_REFUSE;
    }
    if (few) {
        snprintf(why, WN_GATE_REASON,
                 "%" PRId64 " new rows, %" PRId64 " anchor rows: fewer than gate.min_rows %" PRId64
                 ", so a person decides (%+.2f points on the new rows)",
                 eval->rows, anchor->have ? anchor->rows : 0, r->min_rows, points(eval));
        return WN_VERDICT_WAIT;
    }
    if (!anchor->have && !r->eval_rows_decide) {
        snprintf(why, WN_GATE_REASON,
                 "the model has no anchor rows, so a person decides (%+.2f points on %" PRId64
                 " new rows, CPU time %.2f)",
                 points(eval), eval->rows, ratio);
        return WN_VERDICT_WAIT;
    }
    snprintf(why, WN_GATE_REASON,
             "%+.2f points on %" PRId64 " %s, with 95 %% confidence at least %+.2f; %+.2f on %" PRId64
             " new rows; CPU time %.2f",
             points(judge), judge->rows, rows, 100 * judge->lower95, points(eval), eval->rows, ratio);
    return WN_VERDICT_PROMOTE;
}
