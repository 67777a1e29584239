/* coding.c: what goes in comes out, what is broken or too large is refused, and what headers say. */
#include "daemon/api/coding.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct wn_coding_budget budget = { .max = (size_t)64 << 20 };
static struct winnow_err err;

static struct wn_buf text(size_t n, size_t skip)
{
    struct wn_buf b = { 0 };
    for (size_t i = 0; i < n + skip; i++)
        wn_buf_char(&b, (char)('a' + i * i % 7));
    return b;
}

Test(coding, round_trip)
{
    static const size_t sizes[] = { 100, 4095, 4096, 4097, 100000, 3000000 };
    for (enum wn_coding c = WN_CODING_GZIP; c <= WN_CODING_DEFLATE; c++)
        for (size_t i = 0; i < WN_COUNT(sizes); i++) {
            struct wn_buf plain = text(sizes[i], 5), b = text(sizes[i], 5);
            struct wn_inflated out;
            cr_assert(wn_coding_deflate(c, &b, 5) && b.n < plain.n);
            cr_expect(memcmp(b.at, plain.at, 5) == 0, "what is skipped stays");
            cr_assert_eq(wn_coding_inflate(c, b.at + 5, b.n - 5, sizes[i], &budget, &out, &err), WINNOW_OK, "%s",
                         err.msg);
            cr_expect(out.n == sizes[i] && memcmp(out.at, plain.at + 5, out.n) == 0);
            cr_expect_eq(atomic_load(&budget.used), out.cap);
            wn_inflated_done(&out, &budget);
            cr_expect_eq(wn_coding_inflate(c, b.at + 5, b.n - 5, sizes[i] - 1, &budget, &out, &err),
                         WINNOW_E_TOO_LARGE);
            enum wn_coding other = c == WN_CODING_GZIP ? WN_CODING_DEFLATE : WN_CODING_GZIP;
            cr_expect_eq(wn_coding_inflate(other, b.at + 5, b.n - 5, sizes[i], &budget, &out, &err),
                         WINNOW_E_MALFORMED);
            for (size_t n = 0; n < b.n - 5; n += 1 + b.n / 50)
                cr_expect_eq(wn_coding_inflate(c, b.at + 5, n, sizes[i], &budget, &out, &err), WINNOW_E_MALFORMED,
                             "cut at %zu", n);
            cr_expect_eq(atomic_load(&budget.used), 0);
            wn_buf_done(&plain);
            wn_buf_done(&b);
        }
}

Test(coding, members_and_what_stands_behind)
{
    struct wn_buf b = text(1000, 0), twice = { 0 };
    struct wn_inflated out;
    cr_assert(wn_coding_deflate(WN_CODING_GZIP, &b, 0));
    wn_buf_add(&twice, b.at, b.n);
    wn_buf_add(&twice, b.at, b.n);
    cr_assert_eq(wn_coding_inflate(WN_CODING_GZIP, twice.at, twice.n, 2000, &budget, &out, &err), WINNOW_OK);
    cr_expect_eq(out.n, 2000);
    wn_inflated_done(&out, &budget);
    cr_expect_eq(wn_coding_inflate(WN_CODING_GZIP, twice.at, twice.n, 1999, &budget, &out, &err), WINNOW_E_TOO_LARGE);
    wn_buf_text(&twice, "more");
    cr_expect_eq(wn_coding_inflate(WN_CODING_GZIP, twice.at, twice.n, 4000, &budget, &out, &err), WINNOW_E_MALFORMED);
    wn_buf_done(&b);
    b = text(1000, 0);
    cr_assert(wn_coding_deflate(WN_CODING_DEFLATE, &b, 0));
    wn_buf_text(&b, "more");
    cr_expect_eq(wn_coding_inflate(WN_CODING_DEFLATE, b.at, b.n, 4000, &budget, &out, &err), WINNOW_E_MALFORMED);
    wn_buf_done(&b);
    wn_buf_done(&twice);
}

Test(coding, a_bomb_costs_its_cap)
{
    struct wn_buf b = { 0 };
    struct wn_coding_budget small = { .max = 100000 };
    struct wn_inflated out;
    char *to = wn_buf_room(&b, (size_t)8 << 20);
    cr_assert(to);
    memset(to, 0, (size_t)8 << 20);
    b.n = (size_t)8 << 20;
    cr_assert(wn_coding_deflate(WN_CODING_GZIP, &b, 0) && b.n < 50000);
    cr_expect_eq(wn_coding_inflate(WN_CODING_GZIP, b.at, b.n, 50000, &small, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_eq(wn_coding_inflate(WN_CODING_GZIP, b.at, b.n, (size_t)8 << 20, &small, &out, &err), WINNOW_E_OVERLOAD);
    cr_expect_eq(atomic_load(&small.used), 0);
    wn_buf_done(&b);
}

Test(coding, noise_stays_as_it_is)
{
    struct wn_buf b = { 0 };
    srand(7);
    for (int i = 0; i < 1000; i++)
        wn_buf_char(&b, (char)rand());
    cr_expect_not(wn_coding_deflate(WN_CODING_GZIP, &b, 0));
    cr_expect_eq(b.n, 1000);
    wn_buf_done(&b);
}

Test(coding, headers)
{
    static const struct {
        const char *accept;
        enum wn_coding want;
    } cases[] = {
        { "", WN_CODING_IDENTITY },
        { "gzip", WN_CODING_GZIP },
        { "deflate", WN_CODING_DEFLATE },
        { "gzip, deflate", WN_CODING_GZIP },
        { "deflate, gzip", WN_CODING_GZIP },
        { "gzip;q=0.5, deflate;q=0.8", WN_CODING_DEFLATE },
        { "gzip;q=0", WN_CODING_IDENTITY },
        { "br, zstd", WN_CODING_IDENTITY },
        { "br;q=1.0, GZIP;q=0.001", WN_CODING_GZIP },
        { "*", WN_CODING_GZIP },
        { "gzip;q=0, *;q=0.1", WN_CODING_DEFLATE },
        { "identity, gzip;q=0.5", WN_CODING_IDENTITY },
        { "identity;q=0.5, gzip", WN_CODING_GZIP },
        { "gzip ; q=1", WN_CODING_GZIP },
        { "gzip;q=soon", WN_CODING_IDENTITY },
        { " , ,gzip,, ", WN_CODING_GZIP },
        { ";q=1", WN_CODING_IDENTITY },
        { "gzipp", WN_CODING_IDENTITY },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++)
        cr_expect_eq(wn_coding_wanted(cases[i].accept, strlen(cases[i].accept)), cases[i].want, "'%s'",
                     cases[i].accept);
    cr_expect(wn_coding_listed("identity,deflate, gzip", 22, WN_CODING_GZIP));
    cr_expect_not(wn_coding_listed("identity", 8, WN_CODING_GZIP));
    cr_expect_eq(wn_coding_named("X-GZIP", 6), WN_CODING_GZIP);
    cr_expect_eq(wn_coding_named("br", 2), WN_CODING_UNKNOWN);
}
