/* csv.c: RFC 4180 in pieces of every size, lines, faults, limits. */
#include "sparsify/data/csv.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "base/vec.h"

struct seen {
    char text[2000]; /* "LINE:[a][b]" or "LINE:!why", one a line */
};

static enum winnow_status note(void *arg, const struct wn_csv_record *r)
{
    struct seen *s = arg;
    size_t n = strlen(s->text), room = sizeof s->text;
    n += (size_t)snprintf(s->text + n, room - n, "%llu:", (unsigned long long)r->line);
    if (r->fault)
        n += (size_t)snprintf(s->text + n, room - n, "!%s", r->fault);
    for (unsigned i = 0; i < r->n && !r->fault; i++)
        n += (size_t)snprintf(s->text + n, room - n, "[%.*s]", (int)r->field[i].n, r->field[i].at);
    snprintf(s->text + n, room - n, "\n");
    return WINNOW_OK;
}

/* Read in pieces of `piece` bytes. */
static enum winnow_status read(const char *text, size_t piece, const struct wn_csv_limits *limits, struct seen *s,
                               struct winnow_err *err)
{
    struct wn_csv *csv;
    memset(s, 0, sizeof *s);
    cr_assert_eq(wn_csv_new(',', limits, note, s, &csv, err), WINNOW_OK);
    enum winnow_status status = WINNOW_OK;
    for (size_t at = 0, n = strlen(text); at < n && status == WINNOW_OK; at += piece)
        status = wn_csv_feed(csv, text + at, WN_MIN(piece, n - at), err);
    if (status == WINNOW_OK)
        status = wn_csv_finish(csv, err);
    wn_csv_free(csv);
    return status;
}

Test(csv, records)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { "a,b\n1,2\n", "1:[a][b]\n2:[1][2]\n" },
        { "a,b\r\n1,2", "1:[a][b]\n2:[1][2]\n" },
        { "a\rb\r\rc", "1:[a]\n2:[b]\n4:[c]\n" },
        { ",\n\n,,\n", "1:[][]\n3:[][][]\n" },
        { "\"\"\n", "1:[]\n" },
        { "\"a,b\",\"say \"\"hi\"\"\"\n", "1:[a,b][say \"hi\"]\n" },
        { "\"two\nlines\",x\ny,z\n", "1:[two\nlines][x]\n3:[y][z]\n" },
        { "\"two\r\nlines\"\r\ny\r\n", "1:[two\r\nlines]\n3:[y]\n" },
        { "\"\"\"\"\n", "1:[\"]\n" },
        { "a\"b,c\nd\n", "1:!a quote within a field that is not in quotes\n2:[d]\n" },
        { "\"a\"b,c\nd\n", "1:!text behind a closing quote\n2:[d]\n" },
        { "\"a\" \nd\n", "1:!text behind a closing quote\n2:[d]\n" },
        { "123456789,0\nd\n", "1:!a row of too many bytes\n2:[d]\n" },
        { "\"12345\n6789\",0\nd\n", "1:!a row of too many bytes\n3:[d]\n" },
        { "1,2,3,4\nd\n", "1:!a row of too many fields\n2:[d]\n" },
    };
    static const size_t pieces[] = { 1, 2, 3, 7, 1000 };
    const struct wn_csv_limits limits = { .max_record = 9 + 6, .max_fields = 3 },
                               small = { .max_record = 9, .max_fields = 3 };
    for (size_t i = 0; i < WN_COUNT(cases); i++)
        for (size_t k = 0; k < WN_COUNT(pieces); k++) {
            struct seen s;
            struct winnow_err err = { 0 };
            bool tight = strstr(cases[i].want, "too many bytes") != NULL;
            cr_expect_eq(read(cases[i].text, pieces[k], tight ? &small : &limits, &s, &err), WINNOW_OK, "%s", err.msg);
            cr_expect_str_eq(s.text, cases[i].want, "case %zu in pieces of %zu:\n%s", i, pieces[k], s.text);
        }
}

Test(csv, an_open_quote_ends_the_file)
{
    struct seen s;
    struct winnow_err err = { 0 };
    cr_expect_eq(read("a,b\n1,2\n3,\"4\n5,6\n", 5, NULL, &s, &err), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, "line 3: a quote is opened here and never closed");
    cr_expect_str_eq(s.text, "1:[a][b]\n2:[1][2]\n");
}

Test(csv, separators)
{
    static const struct {
        const char *text;
        char want;
    } cases[] = { { "a,b;c,d\n;;;;", ',' },
                  { "a;b;c,d\n", ';' },
                  { "a\tb\n,,,", '\t' },
                  { "text\n", ',' },
                  { "\"a;b;c\",d\n", ',' } };
    for (size_t i = 0; i < WN_COUNT(cases); i++)
        cr_expect_eq(wn_csv_guess_separator(cases[i].text, strlen(cases[i].text)), cases[i].want, "%s", cases[i].text);
}
