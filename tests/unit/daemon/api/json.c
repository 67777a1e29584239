/* json.c: numbers in and out against the C library, strings, structure, tensors. */
#include "daemon/api/json.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"

static struct winnow_err err;

static struct wn_json over(const char *text)
{
    struct wn_json j;
    err = (struct winnow_err){ 0 };
    wn_json_init(&j, text, strlen(text), 100, &err);
    return j;
}

static uint64_t state = 88172645463325252u;
static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void same_f32(const char *text)
{
    struct wn_json j = over(text);
    float got = 0, want = strtof(text, NULL);
    cr_assert(wn_json_f32(&j, &got) && wn_json_end(&j), "%s: %s", text, err.msg);
    cr_assert_eq(wn_f32_bits(got), wn_f32_bits(want), "%s: %a, not %a", text, got, want);
}

static void same_f64(const char *text)
{
    struct wn_json j = over(text);
    double got = 0, want = strtod(text, NULL);
    cr_assert(wn_json_f64(&j, &got), "%s: %s", text, err.msg);
    cr_assert(memcmp(&got, &want, sizeof got) == 0, "%s: %a, not %a", text, got, want);
}

Test(json, reads_floats_as_the_c_library)
{
    static const char *const fixed[] = {
        "0",
        "-0",
        "0.0",
        "1",
        "-1",
        "1e0",
        "1E+5",
        "1e-5",
        "0.1",
        "0.3",
        "3.4028234663852886e38",
        "1e-45",
        "1.4e-45",
        "7e-46",
        "1.17549435e-38",
        "16777217",
        "16777217.0000001",
        "16777216.9999999",
        "33554433",
        "33554435",
        "0.30000001192092896",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000000000123",
        "8388608.5",
        "8388609.5",
        "8388608.500000000000000000000000000001",
        "9007199254740993",
        "9007199254740993.0",
        "18446744073709551615",
        "18446744073709551616",
        "1.00000005960464477539062500",
        "1.000000059604644775390625001",
        "100000000000000000000000000000e-29",
        "0e999",
        "0.00000e-400",
    };
    for (size_t i = 0; i < WN_COUNT(fixed); i++) {
        same_f32(fixed[i]);
        same_f64(fixed[i]);
    }
    char text[64];
    for (int i = 0; i < 200000; i++) {
        float f = wn_f32_from_bits((uint32_t)rnd());
        double d;
        uint64_t u = rnd();
        memcpy(&d, &u, sizeof d);
        if (!isfinite(f) || !isfinite(d))
            continue;
        snprintf(text, sizeof text, "%.*g", (int)(rnd() % 20) + 1, f);
        if (isfinite(strtof(text, NULL)))
            same_f32(text);
        snprintf(text, sizeof text, "%.*g", (int)(rnd() % 20) + 1, d);
        if (isfinite(strtod(text, NULL)))
            same_f64(text);
        snprintf(text, sizeof text, "%llu.%llue%d", (unsigned long long)(rnd() >> (rnd() & 63)),
                 (unsigned long long)(rnd() >> (rnd() & 63)), (int)(rnd() % 40) - 25);
        same_f32(text);
        same_f64(text);
        /* exactly between two neighbours, and a little beside */
        float g = wn_f32_from_bits(0x3f000000u + (uint32_t)(rnd() % 0x08000000));
        double mid = ((double)g + (double)nextafterf(g, INFINITY)) / 2;
        snprintf(text, sizeof text, "%.40f", mid);
        same_f32(text);
        snprintf(text, sizeof text, "%.17g", mid);
        same_f32(text);
    }
}

Test(json, prints_f32_shortest)
{
    static const struct {
        float v;
        const char *text;
    } fixed[] = { { 0, "0.0" },
                  { -0.0f, "-0.0" },
                  { 1, "1.0" },
                  { 0.1f, "0.1" },
                  { -2.5f, "-2.5" },
                  { 1e-7f, "1e-07" },
                  { 123456.0f, "123456.0" },
                  { 16777216, "16777216.0" },
                  { 1e20f, "1e+20" },
                  { 0.333333343f, "0.33333334" },
                  { FLT_MAX, "3.4028235e+38" },
                  { FLT_MIN, "1.1754944e-38" },
                  { 0x1p-149f, "1e-45" },
                  { 9.8765e-5f, "0.000098765" },
                  { INFINITY, "Infinity" },
                  { -INFINITY, "-Infinity" } };
    char text[40], other[40];
    for (size_t i = 0; i < WN_COUNT(fixed); i++) {
        text[wn_json_print_f32(text, fixed[i].v)] = '\0';
        cr_expect_str_eq(text, fixed[i].text);
    }
    text[wn_json_print_f32(text, NAN)] = '\0';
    cr_expect_str_eq(text, "NaN");
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = i % 8 == 0 ? (uint32_t)(rnd() % 0x7f8) << 20 : (uint32_t)rnd();
        float f = wn_f32_from_bits(bits);
        if (!isfinite(f) || f == 0)
            continue;
        text[wn_json_print_f32(text, f)] = '\0';
        cr_assert_eq(wn_f32_bits(strtof(text, NULL)), wn_f32_bits(f), "%a printed as %s", f, text);
        /* As many digits as the first precision that reads back, and not by luck: exactly between two neighbours is
         * left to the reader's rounding, so it is not used. A power of two may do with fewer. */
        int p = 1;
        for (; p < 9; p++) {
            snprintf(other, sizeof other, "%.*e", p - 1, f);
            long double at = strtold(other, NULL), near = nextafterf(f, at > f ? INFINITY : -INFINITY);
            if (strtof(other, NULL) == f && fabsl(at - f) < fabsl(near - at))
                break;
        }
        size_t digits = 0, zeros = 0;
        for (const char *c = text; *c && *c != 'e'; c++)
            if (*c >= '0' && *c <= '9' && (digits || *c != '0')) {
                digits++;
                zeros = *c == '0' ? zeros + 1 : 0;
            }
        cr_assert_leq(digits - zeros, (size_t)p, "%a: %s has more digits than %s", f, text, other);
    }
}

Test(json, prints_f64_that_reads_back)
{
    char text[40];
    for (int i = 0; i < 50000; i++) {
        double d;
        uint64_t u = rnd();
        memcpy(&d, &u, sizeof d);
        if (!isfinite(d))
            continue;
        size_t n = wn_json_print_f64(text, d);
        cr_assert_leq(n, 32);
        text[n] = '\0';
        cr_assert_eq(strtod(text, NULL), d, "%a printed as %s", d, text);
    }
    text[wn_json_print_f64(text, 0.1)] = '\0';
    cr_expect_str_eq(text, "0.1");
}

Test(json, integers_are_checked)
{
    int64_t v;
    uint64_t u;
    struct wn_json j = over("-9223372036854775808");
    cr_expect(wn_json_i64(&j, INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
    j = over("9223372036854775808");
    cr_expect_not(wn_json_i64(&j, INT64_MIN, INT64_MAX, &v));
    j = over("18446744073709551615");
    cr_expect(wn_json_u64(&j, UINT64_MAX, &u) && u == UINT64_MAX);
    j = over("18446744073709551616");
    cr_expect_not(wn_json_u64(&j, UINT64_MAX, &u));
    j = over("-0");
    cr_expect(wn_json_u64(&j, 5, &u) && u == 0);
    j = over("1.50e2");
    cr_expect(wn_json_i64(&j, 0, 255, &v) && v == 150);
    static const char *const bad[] = { "256", "-1", "1.5", "1e3", "NaN", "\"1\"", "true",
                                       "01",  "1.", ".5",  "+1",  "1e",  "-",     "" };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        j = over(bad[i]);
        cr_expect_not(wn_json_i64(&j, 0, 255, &v), "'%s' was taken", bad[i]);
        cr_expect_eq(err.status, WINNOW_E_MALFORMED);
    }
}

Test(json, strings)
{
    struct wn_arena arena = { 0 };
    struct winnow_str s;
    struct wn_json j = over("\"a\\n\\u00e9\\ud83d\\ude00\\\"\\\\/\\u0000z\"");
    cr_assert(wn_json_string(&j, &arena, &s), "%s", err.msg);
    cr_expect_eq(s.n, 13);
    cr_expect(memcmp(s.p, "a\n\xc3\xa9\xf0\x9f\x98\x80\"\\/\0z", 13) == 0);
    j = over("\"plain\"");
    cr_expect(wn_json_string(&j, &arena, &s) && s.n == 5 && s.p == j.start + 1);
    static const char *const bad[] = {
        "\"",       "\"\\",     "\"\\u12",      "\"\\ud800\"",      "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "\"\x01\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\\x\"",     "a"
    };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        j = over(bad[i]);
        cr_expect_not(wn_json_string(&j, &arena, &s), "'%s' was taken", bad[i]);
    }
    wn_arena_done(&arena);
}

Test(json, skip_checks_what_it_passes)
{
    static const char *const good[] = { "{}",  "[]",   "[[],{}]", "{\"a\":[1,2,{\"b\":null}],\"c\":\"x\"}",
                                        "NaN", "true", " 1 " };
    static const char *const bad[] = { "{",  "[1,]",   "[1 2]", "{\"a\"}", "{\"a\":}", "{1:2}",      "[}",
                                       "{]", "[1,,2]", "nul",   "{,}",     "[,]",      "{\"a\":1,}", "" };
    for (size_t i = 0; i < WN_COUNT(good); i++) {
        struct wn_json j = over(good[i]);
        cr_expect(wn_json_skip(&j) && wn_json_end(&j), "'%s': %s", good[i], err.msg);
    }
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_json j = over(bad[i]);
        cr_expect_not(wn_json_skip(&j) && wn_json_end(&j), "'%s' was taken", bad[i]);
    }
    char deep[300];
    memset(deep, '[', 101);
    memset(deep + 101, ']', 101);
    deep[202] = '\0';
    struct wn_json j = over(deep);
    cr_expect_not(wn_json_skip(&j));
    cr_expect(strstr(err.msg, "JSON nesting depth exceeds maximum allowed limit (100)"), "%s", err.msg);
    deep[201] = '\0';
    j = over(deep + 1);
    cr_expect(wn_json_skip(&j), "%s", err.msg);
}

Test(json, tensors_nested_or_flat)
{
    int64_t shape[] = { 2, 3 };
    float f[6];
    static const char *const good[] = { "[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", " [ [1,2,3] ,[4,5,6] ] " };
    for (size_t i = 0; i < WN_COUNT(good); i++) {
        struct wn_json j = over(good[i]);
        memset(f, 0, sizeof f);
        cr_assert(wn_json_tensor(&j, WINNOW_F32, 2, shape, 6, f, NULL), "%s", err.msg);
        cr_expect(f[0] == 1 && f[5] == 6);
    }
    static const char *const bad[] = { "[1,2,3,4,5]",
                                       "[1,2,3,4,5,6,7]",
                                       "[[1,2,3],[4,5]]",
                                       "[[1,2],[3,4],[5,6]]",
                                       "[[1,2,3]]",
                                       "[[1,2,3],4,5,6]",
                                       "[1,2,3,[4,5,6]]",
                                       "[[[1,2,3],[4,5,6]]]",
                                       "[]",
                                       "[[],[]]",
                                       "7" };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_json j = over(bad[i]);
        cr_expect_not(wn_json_tensor(&j, WINNOW_F32, 2, shape, 6, f, NULL), "'%s' was taken", bad[i]);
    }
    int8_t i8[2];
    int64_t two[] = { 2 };
    struct wn_json j = over("[-128, 127]");
    cr_expect(wn_json_tensor(&j, WINNOW_I8, 1, two, 2, i8, NULL) && i8[0] == -128 && i8[1] == 127);
    j = over("[-129, 127]");
    cr_expect_not(wn_json_tensor(&j, WINNOW_I8, 1, two, 2, i8, NULL));
    j = over("[true, 1]");
    cr_expect_not(wn_json_tensor(&j, WINNOW_BOOL, 1, two, 2, i8, NULL));
    int64_t one[] = { 1 };
    j = over("[-Infinity]");
    cr_expect(wn_json_tensor(&j, WINNOW_F32, 0, one, 1, f, NULL) && isinf(f[0]) && f[0] < 0);
}
