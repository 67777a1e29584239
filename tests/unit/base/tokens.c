/* tokens.c: the file of tokens: what is read, what is refused with its line, whom a secret belongs to. */
#include "base/tokens.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define A "wnt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define B "wnt_BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-_"

static struct wn_tokens *read_or_die(const char *text)
{
    struct wn_tokens *t = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_tokens_parse(text, strlen(text), "t", &t, &err), WINNOW_OK, "%s", err.msg);
    return t;
}

static char *line(const char *id, const char *secret, const char *scopes, const char *models, const char *expires)
{
    char *s = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_token_line(id, secret, scopes, models, expires, &s, &err), WINNOW_OK, "%s", err.msg);
    return s;
}

Test(tokens, a_line_is_read_back)
{
    char *a = line("ci", A, "infer,upload", "mine-*,x", "2027-01-31"), *b = line("ops", B, "admin", NULL, NULL);
    char text[2000];
    snprintf(text, sizeof text, "# a comment\n\n  %s\t%s\r\n%s # tail", a, "", b);
    text[strcspn(text, "\r")] = '\n';
    struct wn_tokens *t = read_or_die(text);
    cr_assert_eq(wn_tokens_count(t), 2);
    const struct wn_token *ci = wn_tokens_find(t, A, WN_TOKEN_LEN), *ops = wn_tokens_find(t, B, WN_TOKEN_LEN);
    cr_assert(ci && ops);
    cr_expect_str_eq(ci->id, "ci");
    cr_expect_eq(ci->scopes, 1u << WN_SCOPE_infer | 1u << WN_SCOPE_upload);
    cr_expect_eq(ci->expires_s, 1801353600);
    cr_expect(!wn_token_expired(ci, 1801353599) && wn_token_expired(ci, 1801353600));
    cr_expect(wn_token_may_use(ci, "mine-1") && wn_token_may_use(ci, "mine-") && wn_token_may_use(ci, "x"));
    cr_expect(!wn_token_may_use(ci, "mine") && !wn_token_may_use(ci, "xx") && !wn_token_may_use(ci, ""));
    cr_expect(wn_token_may_use(ops, "anything") && !ops->expires_s);
    cr_expect_eq(wn_tokens_again(t, ci), ci);
    wn_tokens_unref(t);
    free(a);
    free(b);
}

Test(tokens, only_the_whole_secret_is_found)
{
    char *a = line("a", A, "infer", NULL, NULL);
    struct wn_tokens *t = read_or_die(a);
    static const char *const bad[] = {
        "",
        "wnt_",
        B,
        "wnt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        (A "A"),
        "WNT_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "wnt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA ",
    };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_null(wn_tokens_find(t, bad[i], strlen(bad[i])), "%s", bad[i]);
    wn_tokens_unref(t);
    struct wn_tokens *none = read_or_die("");
    cr_expect_null(wn_tokens_find(none, A, WN_TOKEN_LEN));
    wn_tokens_unref(none);
    free(a);
}

Test(tokens, patterns)
{
    static const struct {
        const char *pattern, *model;
        bool want;
    } cases[] = {
        { "*", "", true },         { "*", "abc", true },         { "a*c", "abc", true },      { "a*c", "ac", true },
        { "a*c", "abcd", false },  { "*b*", "abc", true },       { "*b*", "ac", false },      { "a**c", "abbc", true },
        { "*aab", "aaaab", true }, { "*a*b*c", "xaybzc", true }, { "*a*b*c", "xazc", false }, { "abc", "abc", true },
        { "abc", "ABC", false },   { "a.c", "abc", false },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        char *l = line("a", A, "infer", cases[i].pattern, NULL);
        struct wn_tokens *t = read_or_die(l);
        cr_expect_eq(wn_token_may_use(wn_tokens_at(t, 0), cases[i].model), cases[i].want, "%s %s", cases[i].pattern,
                     cases[i].model);
        wn_tokens_unref(t);
        free(l);
    }
}

Test(tokens, every_fault_has_its_line)
{
#define HASH "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "\na\n", "t:2: token 'a': expected sha256" },
        { "a " HASH "\n", "t:1: token 'a' has no scopes" },
        { "a " A " infer\n", "not the token itself" },
        { "a sha256:0123 infer\n", "expected sha256: and 64" },
        { "a " HASH " infer,\n", "'' is no scope" },
        { "a " HASH " root\n", "'root' is no scope" },
        { "a " HASH " none\n", "'none' is no scope" },
        { "a " HASH " infer models=\n", "'models='" },
        { "a " HASH " infer models=a,,b\n", "'' is no name" },
        { "a " HASH " infer models=a/b\n", "'a/b' is no name" },
        { "a " HASH " infer models=a models=b\n", "'models=b'" },
        { "a " HASH " infer expires=soon\n", "expires: 'soon'" },
        { "a " HASH " infer expires=2027-13-01\n", "expires: '2027-13-01'" },
        { "a " HASH " infer expires=2027-01-31T25:00:00Z\n", "expires:" },
        { "a " HASH " infer expires=2027-01-31T12:00:00\n", "expires:" },
        { "a " HASH " infer extra\n", "'extra': expected" },
        { "a/b " HASH " infer\n", "'a/b' is no id" },
        { "a " HASH " infer\na " HASH " infer\n", "t:2: there is a token 'a' already" },
        { "a " HASH " infer\nb " HASH " infer\n", "t:2: token 'b' has the hash of token 'a'" },
        { "a\x80 " HASH " infer\n", "t:1: a byte" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_tokens *t = NULL;
        struct winnow_err err = { 0 };
        cr_expect_neq(wn_tokens_parse(cases[i].text, strlen(cases[i].text), "t", &t, &err), WINNOW_OK, "%s",
                      cases[i].text);
        cr_expect(strncmp(err.msg, "t:", 2) == 0 && strstr(err.msg, cases[i].want), "%s: %s", cases[i].text, err.msg);
    }
}

Test(tokens, too_many_are_refused)
{
    size_t cap = (WN_TOKENS_MAX + 2) * 100, at = 0;
    char *text = malloc(cap);
    for (unsigned i = 0; i <= WN_TOKENS_MAX; i++)
        at += (size_t)snprintf(text + at, cap - at, "t%u sha256:%064x infer\n", i, i);
    struct wn_tokens *t = NULL;
    struct winnow_err err = { 0 };
    cr_expect_eq(wn_tokens_parse(text, at, "t", &t, &err), WINNOW_E_TOO_LARGE);
    cr_expect(strstr(err.msg, "t:4097: "), "%s", err.msg);
    free(text);
}

Test(tokens, made_ones_are_random_and_of_the_form)
{
    char a[WN_TOKEN_LEN + 1], b[WN_TOKEN_LEN + 1];
    struct winnow_err err = { 0 };
    unsigned seen[256] = { 0 }, kinds = 0;
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(wn_token_new(a, &err), WINNOW_OK);
        cr_assert_eq(wn_token_new(b, &err), WINNOW_OK);
        cr_expect(strlen(a) == WN_TOKEN_LEN && strcmp(a, b) != 0);
        for (const char *p = a + 4; *p; p++)
            seen[(unsigned char)*p]++;
        char *l = line("a", a, "infer", NULL, NULL);
        struct wn_tokens *t = read_or_die(l);
        cr_expect_not_null(wn_tokens_find(t, a, strlen(a)));
        cr_expect_null(wn_tokens_find(t, b, strlen(b)));
        wn_tokens_unref(t);
        free(l);
    }
    for (int i = 0; i < 256; i++)
        kinds += seen[i] > 0;
    cr_expect_eq(kinds, 64);
}

Test(tokens, blank_is_not_a_comment)
{
    static const struct {
        const char *text;
        bool blank;
    } is[] = { { "", true }, { "\n \t\r\n", true }, { "#", false }, { " # none\n", false } };
    for (size_t i = 0; i < WN_COUNT(is); i++) {
        struct wn_tokens *t = read_or_die(is[i].text);
        cr_expect(wn_tokens_count(t) == 0 && wn_tokens_blank(t) == is[i].blank, "'%s'", is[i].text);
        wn_tokens_unref(t);
    }
}

Test(tokens, first_time_is_once_for_each)
{
    char text[300];
    snprintf(text, sizeof text, "a sha256:%064x infer\nb sha256:%064x infer\n", 1, 2);
    struct wn_tokens *t = read_or_die(text);
    for (size_t i = 0; i < 2; i++) {
        cr_expect(wn_tokens_first_time(t, wn_tokens_at(t, i)));
        cr_expect_not(wn_tokens_first_time(t, wn_tokens_at(t, i)));
    }
    wn_tokens_unref(t);
}
