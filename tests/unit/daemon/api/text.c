/* text.c: percent-encoding, timeouts, pins, base64. */
#include "daemon/api/text.h"

#include <criterion/criterion.h>
#include <string.h>
#include "daemon/serve/serve.h"

Test(text, percent)
{
    char a[] = "a%20b%2Fc+d";
    size_t n;
    cr_expect(wn_percent_decode(a, strlen(a), false, &n) && n == 7 && strcmp(a, "a b/c+d") == 0);
    char b[] = "a+b";
    cr_expect(wn_percent_decode(b, 3, true, &n) && strcmp(b, "a b") == 0);
    static const char *const bad[] = { "%", "%1", "%zz", "a%2" };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        char c[8];
        strcpy(c, bad[i]);
        cr_expect_not(wn_percent_decode(c, strlen(c), false, &n), "%s", bad[i]);
    }
}

Test(text, grpc_message_keeps_edges)
{
    struct wn_arena arena = { 0 };
    cr_expect_str_eq(wn_grpc_message(&arena, " a b% \xc3\xa9\n "), "%20a b%25 %C3%A9%0A%20");
    cr_expect_str_eq(wn_grpc_message(&arena, ""), "");
    wn_arena_done(&arena);
}

Test(text, grpc_timeout)
{
    uint64_t us;
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = { { "1H", 3600000000u }, { "2M", 120000000 },
                 { "3S", 3000000 },     { "4m", 4000 },
                 { "5u", 5 },           { "1n", 1 },
                 { "1001n", 2 },        { "99999999H", 99999999u * UINT64_C(3600000000) } };
    for (size_t i = 0; i < WN_COUNT(good); i++)
        cr_expect(wn_grpc_timeout(good[i].text, strlen(good[i].text), &us) && us == good[i].us, "%s", good[i].text);
    static const char *const bad[] = { "", "S", "1", "1s", "-1S", "123456789S", "1 S", "1.5S" };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_not(wn_grpc_timeout(bad[i], strlen(bad[i]), &us), "%s", bad[i]);
}

Test(text, pins)
{
    struct wn_arena arena = { 0 };
    struct winnow_err err;
    struct wn_pin pin = { 0 };
    const char *all =
        "generation=17, version=3;digest=sha256:00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff";
    cr_assert_eq(wn_pin_parse(all, strlen(all), &arena, &pin, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(pin.generation == 17 && pin.version == 3);
    cr_expect_str_eq(pin.digest, "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    static const char *const bad[] = { "x",
                                       "generation",
                                       "generation=",
                                       "generation=0",
                                       "version=-1",
                                       "version=1x",
                                       "digest=abc",
                                       "digest",
                                       "version=99999999999999999999",
                                       "version=1,version=1",
                                       "generation=2;version=1;generation=3",
                                       "label=stable" };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_eq(wn_pin_parse(bad[i], strlen(bad[i]), &arena, &pin, &err), WINNOW_E_MALFORMED, "%s", bad[i]);
    wn_arena_done(&arena);
}

Test(text, base64)
{
    struct wn_arena arena = { 0 };
    struct winnow_str s;
    static const char *const good[][2] = {
        { "", "" },        { "Zg==", "f" },        { "Zg", "f" },           { "Zm8=", "fo" },
        { "Zm9v", "foo" }, { "Zm9vYg==", "foob" }, { "Zm9vYmE=", "fooba" }, { "Zm9vYmFy", "foobar" }
    };
    for (size_t i = 0; i < WN_COUNT(good); i++)
        cr_expect(wn_base64_decode(good[i][0], strlen(good[i][0]), &arena, &s) && s.n == strlen(good[i][1]) &&
                      memcmp(s.p, good[i][1], s.n) == 0,
                  "%s", good[i][0]);
    static const char *const bad[] = { "Z", "Zg=", "Z===", "Zm 9v", "Zm9v=", "====", "Zm9\n", "-_-_" };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_not(wn_base64_decode(bad[i], strlen(bad[i]), &arena, &s), "%s", bad[i]);
    wn_arena_done(&arena);
}

Test(text, datatypes_both_ways)
{
    for (int d = WINNOW_F32; d <= WINNOW_BF16; d++) {
        const char *name = wn_oip_name((enum winnow_dtype)d);
        if (strcmp(name, "UNKNOWN") != 0)
            cr_expect_eq(wn_oip_dtype(name, strlen(name)), (enum winnow_dtype)d);
    }
    cr_expect_eq(wn_oip_dtype("FP3", 3), WINNOW_UNDEFINED);
    cr_expect_eq(wn_oip_dtype("fp32", 4), WINNOW_UNDEFINED);
}

Test(text, charset)
{
    static const struct {
        const char *type, *charset; /* NULL: malformed */
    } is[] = {
        { "text/plain", "" },
        { "text/plain;", "" },
        { "text/plain; charset=utf-8", "utf-8" },
        { "text/plain;CHARSET=\"UTF-8\" ; format=flowed", "UTF-8" },
        { "text/plain; x=\"a;charset=latin-1\"; charset=us-ascii", "us-ascii" },
        { "text/plain; x=\"a\\\";charset=b\"", "" },
        { "text/plain; charset=a; charset=a", NULL },
        { "text/plain; charset", NULL },
        { "text/plain; charset=", NULL },
        { "text/plain; charset=\"\"", NULL },
        { "text/plain; charset=\"utf-8", NULL },
        { "text/plain; charset=\"utf-8\\", NULL },
        { "text/plain; charset = utf-8", NULL },
        { "text/plain; charset=utf-8 latin-1", NULL },
        { "text/plain; =utf-8", NULL },
    };
    for (size_t i = 0; i < WN_COUNT(is); i++) {
        struct winnow_str s;
        bool good = wn_type_charset(is[i].type, strlen(is[i].type), &s);
        cr_expect_eq(good, is[i].charset != NULL, "%s", is[i].type);
        if (good && is[i].charset)
            cr_expect(s.n == strlen(is[i].charset) && (!s.n || memcmp(s.p, is[i].charset, s.n) == 0), "%s", is[i].type);
    }
}
