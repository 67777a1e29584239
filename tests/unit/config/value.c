/* value.c: sizes and durations are exact; loopback is told from other addresses. */
#include "config/value.h"

#include <criterion/criterion.h>

Test(value, quantities)
{
    const char *why;
    uint64_t v;
    cr_expect(wn_value_size("0", &v, &why) && v == 0);
    cr_expect(wn_value_size("4096", &v, &why) && v == 4096);
    cr_expect(wn_value_size("1.5KiB", &v, &why) && v == 1536);
    cr_expect(wn_value_size("0.001kB", &v, &why) && v == 1);
    cr_expect(wn_value_size("16383PiB", &v, &why) && v == UINT64_C(16383) << 50);
    cr_expect_not(wn_value_size("16384PiB", &v, &why));
    cr_expect_not(wn_value_size("1.0001kB", &v, &why));
    cr_expect_not(wn_value_size("", &v, &why));
    cr_expect_not(wn_value_size("1.KiB", &v, &why));
    cr_expect_not(wn_value_size("1e3", &v, &why));
    cr_expect(wn_value_duration("1.5ms", &v, &why) && v == 1500);
    cr_expect(wn_value_duration("7d", &v, &why) && v == UINT64_C(604800000000));
    cr_expect(wn_value_duration("0", &v, &why) && v == 0);
    cr_expect_not(wn_value_duration("7", &v, &why));
}

Test(value, formats)
{
    char buf[32];
    wn_value_format_size(UINT64_C(3) << 29, buf, sizeof buf);
    cr_expect_str_eq(buf, "1536MiB");
    wn_value_format_size(1000, buf, sizeof buf);
    cr_expect_str_eq(buf, "1000");
    wn_value_format_duration(90000000, buf, sizeof buf);
    cr_expect_str_eq(buf, "90s");
    wn_value_format_duration(0, buf, sizeof buf);
    cr_expect_str_eq(buf, "0");
}

Test(value, loopback)
{
    cr_expect(wn_value_is_loopback("127.0.0.1:1") && wn_value_is_loopback("127.9.9.9:1"));
    cr_expect(wn_value_is_loopback("[::1]:1") && wn_value_is_loopback("localhost:1"));
    cr_expect_not(wn_value_is_loopback("0.0.0.0:1"));
    cr_expect_not(wn_value_is_loopback("[::]:1"));
    cr_expect_not(wn_value_is_loopback("localhost.example.org:1"));
}
