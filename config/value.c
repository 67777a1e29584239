/* value.c: numbers with units, host:port. Exact: decimal fractions are scaled as integers, never through a double. */
#include "config/value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    { "B", 1 },
    { "KiB", UINT64_C(1) << 10 },
    { "MiB", UINT64_C(1) << 20 },
    { "GiB", UINT64_C(1) << 30 },
    { "TiB", UINT64_C(1) << 40 },
    { "PiB", UINT64_C(1) << 50 },
    { "kB", 1000 },
    { "MB", 1000000 },
    { "GB", 1000000000 },
    { "TB", UINT64_C(1000000000000) },
    { "PB", UINT64_C(1000000000000000) },
};
static const struct unit time_units[] = {
    { "us", 1 },
    { "ms", 1000 },
    { "s", 1000000 },
    { "m", 60000000 },
    { "h", UINT64_C(3600000000) },
    { "d", UINT64_C(86400000000) },
};

static bool say(const char **ret_why, const char *why)
{
    *ret_why = why;
    return false;
}

/* digits [. digits] * factor, exactly; false when it overflows or leaves a fraction. */
static bool scale(const char *whole, size_t whole_n, const char *part, size_t part_n, uint64_t factor, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < whole_n; i++)
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(whole[i] - '0'), &v))
            return false;
    if (__builtin_mul_overflow(v, factor, &v))
        return false;
    uint64_t digits = 0, power = 1;
    while (part_n && part[part_n - 1] == '0')
        part_n--;
    if (part_n > 9)
        return false;
    for (size_t i = 0; i < part_n; i++) {
        digits = digits * 10 + (uint64_t)(part[i] - '0');
        power *= 10;
    }
    /* digits / power of a unit, without overflow: factor = q * power + r */
    uint64_t q = factor / power, r = factor % power, rest = digits * r;
    return rest % power == 0 && !__builtin_add_overflow(v, digits * q + rest / power, ret);
}

static bool parse_quantity(const char *text, const struct unit *units, size_t n_units, bool bare, const char *needs,
                           uint64_t *ret, const char **ret_why)
{
    size_t whole = strspn(text, "0123456789"), part = 0;
    const char *p = text + whole;
    if (*p == '.') {
        part = strspn(p + 1, "0123456789");
        p += 1 + part;
    }
    if (!whole || whole > 20 || (p[-1] == '.'))
        return say(ret_why, "it must start with a number");
    const char *unit = p + (*p == ' ');
    uint64_t factor = 0;
    for (size_t i = 0; i < n_units; i++)
        if (strcmp(unit, units[i].name) == 0)
            factor = units[i].factor;
    if (!*p && (bare || strspn(text, "0.") == strlen(text)))
        factor = 1;
    if (!factor)
        return say(ret_why, needs);
    if (!scale(text, whole, text + whole + 1, part, factor, ret))
        return say(ret_why, "too large, or not a whole number of its smallest unit");
    return true;
}

bool wn_value_size(const char *text, uint64_t *ret_bytes, const char **ret_why)
{
    return parse_quantity(text, size_units, WN_COUNT(size_units), true, "its unit must be one of B KiB MiB GiB TiB PiB",
                          ret_bytes, ret_why);
}

bool wn_value_duration(const char *text, uint64_t *ret_us, const char **ret_why)
{
    return parse_quantity(text, time_units, WN_COUNT(time_units), false, "it needs a unit, one of us ms s m h d",
                          ret_us, ret_why);
}

/* Host part: between brackets, or up to the last colon. */
static bool split_address(const char *text, char host[256], const char **ret_port)
{
    const char *colon = strrchr(text, ':'), *start = text, *end = colon;
    if (!colon)
        return false;
    if (*text == '[') {
        start = text + 1;
        end = strchr(text, ']');
        if (!end || end + 1 != colon)
            return false;
    } else if (memchr(text, ':', (size_t)(colon - text))) {
        return false; /* an IPv6 address without brackets */
    }
    if (end == start || end - start > 255)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *ret_port = colon + 1;
    return true;
}

bool wn_value_address(const char *text, const char **ret_why)
{
    char host[256];
    const char *port;
    struct in6_addr in6;
    if (!split_address(text, host, &port))
        return say(ret_why, "it must read HOST:PORT or [IPV6]:PORT");
    if (*text == '[' && inet_pton(AF_INET6, host, &in6) != 1)
        return say(ret_why, "no IPv6 address between the brackets");
    if (strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") != strlen(host))
        return say(ret_why, "the host has a character that no host name has");
    size_t digits = strspn(port, "0123456789");
    if (!digits || port[digits] || digits > 5 || atoi(port) > 65535)
        return say(ret_why, "the port must be a number from 0 to 65535");
    return true;
}

bool wn_value_is_loopback(const char *address)
{
    char host[256];
    const char *port;
    struct in_addr in;
    struct in6_addr in6;
    if (!split_address(address, host, &port))
        return false;
    if (inet_pton(AF_INET, host, &in) == 1)
        return ntohl(in.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &in6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&in6);
    return strcmp(host, "localhost") == 0;
}

int wn_value_format_size(uint64_t bytes, char *buf, size_t room)
{
    unsigned best = 0;
    for (unsigned i = 0; bytes && i <= 5; i++)
        if (bytes % size_units[i].factor == 0)
            best = i;
    if (best == 0)
        return snprintf(buf, room, "%" PRIu64, bytes);
    return snprintf(buf, room, "%" PRIu64 "%s", bytes / size_units[best].factor, size_units[best].name);
}

int wn_value_format_duration(uint64_t us, char *buf, size_t room)
{
    unsigned best = 0;
    for (unsigned i = 0; i < WN_COUNT(time_units); i++)
        if (us % time_units[i].factor == 0)
            best = i;
    if (us == 0)
        return snprintf(buf, room, "0");
    return snprintf(buf, room, "%" PRIu64 "%s", us / time_units[best].factor, time_units[best].name);
}
