/* log.c: pairs, quoting, JSON lines; a value cannot forge a pair or a line. */
#include "base/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends[2];
static char got[16384];

static void setup(void)
{
    cr_assert_eq(pipe2(ends, O_NONBLOCK), 0);
    wn_log_to(ends[1]);
}

TestSuite(log, .init = setup);

static const char *read_line(void)
{
    ssize_t n = read(ends[0], got, sizeof got - 1);
    got[n < 0 ? 0 : n] = '\0';
    return got;
}

Test(log, journal_text)
{
    wn_log_configure(WN_LOG_JOURNAL, WN_LOG_INFO);
    wn_info("model_live", "model=%s version=%" PRIu64 " ratio=%.2f share=%d%% part=%.*s", "resnet", UINT64_C(3), 1.5, 7,
            2, "abc");
    cr_expect_str_eq(read_line(), "<6>model_live model=resnet version=3 ratio=1.50 share=7% part=ab\n");
    wn_error("bad", "why=%s next=%s", "two words \"q\" \\ x=1\nforged=1", "");
    cr_expect_str_eq(read_line(), "<3>bad why=\"two words \\\"q\\\" \\\\ x=1\\nforged=1\" next=\"\"\n");
    wn_notice("bytes", "s=%s t=%s", "\xff\x01\x1b[31m", "gr\xc3\xbc\xc3\x9f");
    cr_expect_str_eq(read_line(), "<5>bytes s=\"\\ufffd\\u0001\\u001b[31m\" t=\"gr\xc3\xbc\xc3\x9f\"\n");
    const char *volatile null = NULL;
    wn_info("sizes", "a=%zu b=%lld c=%x d=%5d e=%s", (size_t)9, -4LL, 255u, 7, null);
    cr_expect_str_eq(read_line(), "<6>sizes a=9 b=-4 c=ff d=\"    7\" e=(null)\n");
    wn_info("plain", "%s", "");
    cr_expect_str_eq(read_line(), "<6>plain\n");
    wn_log(WN_LOG_DEBUG, "hidden", "a=%d", 1);
    cr_expect_str_eq(read_line(), "");
}

Test(log, json_lines)
{
    wn_log_configure(WN_LOG_JSON, WN_LOG_WARNING);
    wn_info("hidden", "a=%d", 1);
    cr_expect_str_eq(read_line(), "");
    wn_warning("slow", "model=%s us=%d pad=%03d addr=127.0.0.1:%u", "a \"b\"\n", -12, 7, 8000u);
    json_t *j = json_loads(read_line(), 0, NULL);
    cr_assert_not_null(j, "%s", got);
    cr_expect_str_eq(json_string_value(json_object_get(j, "event")), "slow");
    cr_expect_str_eq(json_string_value(json_object_get(j, "level")), "warning");
    cr_expect_str_eq(json_string_value(json_object_get(j, "model")), "a \"b\"\n");
    cr_expect_eq(json_integer_value(json_object_get(j, "us")), -12);
    cr_expect_str_eq(json_string_value(json_object_get(j, "pad")), "007");
    cr_expect_str_eq(json_string_value(json_object_get(j, "addr")), "127.0.0.1:8000");
    json_decref(j);
}

Test(log, long_values_are_cut_and_json_stays_whole)
{
    char *big = malloc(20001);
    memset(big, 'x', 20000);
    big[20000] = '\0';
    wn_log_configure(WN_LOG_JSON, WN_LOG_INFO);
    wn_info("long", "a=%s b=%s c=%s", big, big, big);
    json_t *j = json_loads(read_line(), 0, NULL);
    cr_assert_not_null(j);
    cr_expect_eq(json_string_length(json_object_get(j, "a")), 4096);
    json_decref(j);
    wn_log_configure(WN_LOG_TEXT, WN_LOG_INFO);
    wn_info("long", "a=%s b=%s c=%s", big, big, big);
    read_line();
    cr_expect(strlen(got) <= 8192 && got[strlen(got) - 1] == '\n');
    free(big);
}

Test(log, debug_areas)
{
    setenv("WINNOW_DEBUG", "h2,batch", 1);
    wn_log_configure(WN_LOG_JOURNAL, WN_LOG_INFO);
    wn_debug("h2", "frame", "type=%d", 1);
    cr_expect_str_eq(read_line(), "<7>frame type=1\n");
    wn_debug("h", "frame", "type=%d", 1);
    wn_debug("net", "frame", "type=%d", 1);
    cr_expect_str_eq(read_line(), "");
}
