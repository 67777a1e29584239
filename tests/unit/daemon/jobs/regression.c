/* regression.c: which records of two versions are a regression, and which are too little to tell. */
#include "daemon/jobs/regression.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct wn_regression_rules usual = {
    .min_requests = 200, .max_error_rate = 0.02, .max_latency_ratio = 2, .max_drift = 0.3
};

/* `n` requests, `failed` of them lost, all of about `us` of CPU time, dealt out over the first `classes` evenly. */
static struct wn_serve_record of(uint64_t n, uint64_t failed, unsigned bucket, unsigned from, unsigned classes)
{
    struct wn_serve_record r = { .success = n - failed, .failure = failed };
    r.cpu_us[bucket] = n - failed;
    for (uint64_t i = 0; classes && i < n - failed; i++)
        r.answered[from + i % classes]++;
    return r;
}

Test(regression, table)
{
    const struct {
        struct wn_serve_record before, after;
        enum wn_regression want;
        const char *says;
    } row[] = {
        { of(1000, 0, 20, 0, 10), of(1000, 0, 20, 0, 10), WN_REGRESSION_NONE, "1000 requests: 0.00 % failed" },
        { of(1000, 0, 20, 0, 10), of(1000, 30, 20, 0, 10), WN_REGRESSION_ERRORS, "3.00 % of 1000" },
        { of(1000, 30, 20, 0, 10), of(1000, 30, 20, 0, 10), WN_REGRESSION_NONE, "3.00 % before" },
        { of(1000, 0, 20, 0, 10), of(199, 199, 20, 0, 10), WN_REGRESSION_NONE, "199 requests are too few" },
        { of(10, 0, 20, 0, 10), of(200, 200, 20, 0, 10), WN_REGRESSION_ERRORS, "100.00 % of 200" },
        { of(10, 0, 20, 0, 10), of(500, 0, 40, 20, 10), WN_REGRESSION_NONE, "too few before (10)" },
        { of(1000, 0, 40, 0, 10), of(1000, 0, 44, 0, 10), WN_REGRESSION_NONE, "CPU per row" }, /* 2.0 times */
        { of(1000, 0, 40, 0, 10), of(1000, 0, 45, 0, 10), WN_REGRESSION_LATENCY, "2.4 times" },
        { of(1000, 0, 20, 0, 10), of(1000, 0, 28, 0, 10), WN_REGRESSION_NONE, "CPU per row" }, /* 100 us more */
        { of(1000, 0, 20, 0, 10), of(1000, 0, 20, 4, 10), WN_REGRESSION_DRIFT, "0.40 away" },
        { of(1000, 0, 20, 0, 10), of(1000, 0, 20, 2, 10), WN_REGRESSION_NONE, "drift 0.20" },
        { of(1000, 0, 20, 0, 0), of(1000, 0, 20, 0, 10), WN_REGRESSION_NONE, "drift 0.00" }, /* no classes before */
    };
    for (size_t i = 0; i < WN_COUNT(row); i++) {
        struct wn_regression_figures f;
        char why[WN_REGRESSION_REASON];
        cr_expect_eq(wn_regression_decide(&usual, &row[i].before, &row[i].after, &f, why), row[i].want, "row %zu: %s",
                     i, why);
        cr_expect(strstr(why, row[i].says), "row %zu: '%s' does not say '%s'", i, why, row[i].says);
    }
}

/* Two samples of 200 from one distribution over 60 classes are further than 0.3 apart; chance explains it. */
Test(regression, chance_is_no_drift)
{
    uint64_t state = 1;
    struct wn_serve_record r[2] = { 0 };
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < 200; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            r[side].answered[(state >> 33) % 60]++;
            r[side].success++;
            r[side].cpu_us[20]++;
        }
    struct wn_regression_rules rules = usual;
    struct wn_regression_figures f;
    char why[WN_REGRESSION_REASON];
    rules.max_drift = 0.1;
    cr_expect_eq(wn_regression_decide(&rules, &r[0], &r[1], &f, why), WN_REGRESSION_NONE, "%s", why);
    cr_expect(f.drift > 0.15 && f.drift < f.chance + 0.1, "drift %g, chance %g", f.drift, f.chance);
}

Test(regression, median_and_difference)
{
    struct wn_serve_record r = of(100, 0, 40, 0, 0), was = of(40, 0, 80, 0, 0);
    cr_expect_float_eq(wn_serve_record_median_us(&r), 1116.7, 0.1); /* the middle of 2^10 … 2^10.25 */
    r.cpu_us[80] = 60;
    r.success = 160;
    wn_serve_record_less(&r, &was);
    cr_expect_eq(r.success, 120);
    cr_expect_eq(r.cpu_us[80], 20);
    cr_expect_eq(wn_serve_record_median_us(&(struct wn_serve_record){ 0 }), 0);
}
