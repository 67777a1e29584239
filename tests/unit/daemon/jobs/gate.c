/* gate.c: which figures promote, wait and refuse; reports that make no sense. */
#include "daemon/jobs/gate.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct wn_gate_rules usual = { .margin = -1.0, .max_cpu_ratio = 1.2, .min_rows = 100 };

/* Figures of `rows` rows; lower95 in points. */
static struct wn_gate_figures of(int64_t rows, int64_t base, int64_t own, double lower95, double cpu)
{
    return (struct wn_gate_figures){ .have = true,
                                     .paired = true,
                                     .rows = rows,
                                     .base_correct = base,
                                     .correct = own,
                                     .diff = rows ? (double)(own - base) / (double)rows : 0,
                                     .lower95 = lower95 / 100,
                                     .base_cpu_us = 100,
                                     .cpu_us = 100 * cpu,
                                     .majority = 0.25 };
}

Test(gate, table)
{
    const struct wn_gate_figures none = { 0 };
    const struct {
        struct wn_gate_figures anchor, eval;
        bool eval_rows_decide;
        enum wn_verdict want;
        const char *says;
    } row[] = {
        { of(1000, 900, 905, 0.1, 1), of(300, 250, 260, 1, 1), false, WN_VERDICT_PROMOTE, "+0.50 points" },
        { of(1000, 900, 898, -0.9, 1), of(300, 250, 250, -2, 1), false, WN_VERDICT_PROMOTE, "-0.90" },
        { of(1000, 900, 898, -1.0, 1), of(300, 250, 260, 1, 1), false, WN_VERDICT_REFUSE, "anchor rows" },
        { of(1000, 900, 500, -42, 1), of(300, 250, 260, 1, 1), false, WN_VERDICT_REFUSE, "-40.00 points" },
        { of(1000, 900, 905, 0.1, 1), of(300, 250, 249, -2, 1), false, WN_VERDICT_REFUSE, "new rows" },
        { of(1000, 900, 905, 0.1, 1.3), of(300, 250, 260, 1, 1.3), false, WN_VERDICT_REFUSE, "1.30 times" },
        { of(1000, 900, 905, 0.1, 1.2), of(300, 250, 260, 1, 1.2), false, WN_VERDICT_PROMOTE, "CPU time 1.20" },
        { of(99, 90, 95, 1, 1), of(300, 250, 260, 1, 1), false, WN_VERDICT_WAIT, "99 anchor rows" },
        { of(1000, 900, 905, 0.1, 1), of(99, 80, 85, 1, 1), false, WN_VERDICT_WAIT, "99 new rows" },
        { of(0, 0, 0, 0, 1), of(300, 250, 260, 1, 1), false, WN_VERDICT_WAIT, "0 anchor rows" },
        { none, of(300, 250, 260, 1, 1), false, WN_VERDICT_WAIT, "no anchor rows" },
        { none, of(300, 250, 260, 1, 1), true, WN_VERDICT_PROMOTE, "new rows" },
        { none, of(300, 250, 200, -20, 1), true, WN_VERDICT_REFUSE, "new rows" },
        { none, of(300, 250, 200, -20, 1), false, WN_VERDICT_REFUSE, "new rows" }, /* waiting would be no kindness */
        { none, of(50, 40, 45, 1, 1), true, WN_VERDICT_WAIT, "50 new rows" },
        { none, of(300, 250, 260, 1, 2), true, WN_VERDICT_REFUSE, "2.00 times" },
    };
    for (size_t i = 0; i < WN_COUNT(row); i++) {
        char why[WN_GATE_REASON];
        struct wn_gate_rules rules = usual;
        rules.eval_rows_decide = row[i].eval_rows_decide;
        enum wn_verdict got = wn_gate_decide(&rules, &row[i].anchor, &row[i].eval, why);
        cr_expect_eq(got, row[i].want, "row %zu: %s: %s", i, wn_verdict_name(got), why);
        cr_expect(strstr(why, row[i].says), "row %zu: '%s' is not in '%s'", i, row[i].says, why);
    }
}

Test(gate, new_names)
{
    const struct {
        int64_t rows, correct;
        double min_accuracy;
        enum wn_verdict want;
        const char *says;
    } row[] = {
        { 300, 240, 0, WN_VERDICT_PROMOTE, "80.00 %" },      { 300, 75, 0, WN_VERDICT_REFUSE, "commonest" },
        { 300, 240, 0.8, WN_VERDICT_PROMOTE, "80.00 %" },    { 300, 239, 0.8, WN_VERDICT_REFUSE, "min_accuracy" },
        { 99, 90, 0, WN_VERDICT_WAIT, "gate.min_rows 100" }, { 99, 10, 0, WN_VERDICT_REFUSE, "commonest" },
        { 0, 0, 0, WN_VERDICT_WAIT, "0 new rows" },
    };
    for (size_t i = 0; i < WN_COUNT(row); i++) {
        char why[WN_GATE_REASON];
        struct wn_gate_rules rules = usual;
        struct wn_gate_figures none = { 0 }, e = of(row[i].rows, 0, row[i].correct, 0, 1);
        rules.new_name = true;
        rules.min_accuracy = row[i].min_accuracy;
        cr_expect_eq(wn_gate_decide(&rules, &none, &e, why), row[i].want, "row %zu: %s", i, why);
        cr_expect(strstr(why, row[i].says), "row %zu: %s", i, why);
    }
}

static enum winnow_status read(const char *text, bool paired, struct wn_gate_figures *ret)
{
    struct winnow_err err;
    json_t *o = json_loads(text, 0, NULL);
    cr_assert(o);
    enum winnow_status status = wn_gate_figures_read(o, paired, ret, &err);
    json_decref(o);
    return status;
}

Test(gate, reports)
{
    struct wn_gate_figures f;
    cr_assert_eq(read("{\"rows\":10,\"majority\":0.5,\"models\":[{\"correct\":5,\"cpu_us_per_row\":2},{\"correct\":6,"
                      "\"cpu_us_per_row\":1}],\"paired\":{\"diff\":0.1,\"lower95\":-0.2}}",
                      true, &f),
                 WINNOW_OK);
    cr_assert(f.rows == 10 && f.base_correct == 5 && f.correct == 6 && f.base_cpu_us == 2 && f.cpu_us == 1);
    static const char *const bad[] = {
        "{}",
        "{\"rows\":10,\"majority\":0.5,\"models\":[]}",
        "{\"rows\":10,\"majority\":0.5,\"models\":[{\"correct\":5,\"cpu_us_per_row\":2}]}",
        "{\"rows\":-1,\"majority\":0.5,\"models\":[{\"correct\":5,\"cpu_us_per_row\":2},{\"correct\":6,\"cpu_us_per_"
        "row\":1}]}",
        "{\"rows\":10,\"majority\":0.5,\"models\":[{\"correct\":5,\"cpu_us_per_row\":2},{\"correct\":11,\"cpu_us_per_"
        "row\":1}],"
        "\"paired\":{\"diff\":0.1,\"lower95\":-0.2}}",
        "{\"rows\":10,\"majority\":0.5,\"models\":[{\"correct\":5,\"cpu_us_per_row\":2},{\"correct\":6,\"cpu_us_per_"
        "row\":1}],"
        "\"paired\":{\"diff\":\"x\"}}",
    };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_assert_eq(read(bad[i], true, &f), WINNOW_E_MALFORMED, "%zu", i);
    cr_assert_eq(read(bad[2], false, &f), WINNOW_OK);
}
