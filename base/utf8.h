/* utf8.h: is this UTF-8?  Source: RFC 3629 (no overlong forms, no surrogates, nothing past U+10FFFF). */
#ifndef WN_UTF8_H
#define WN_UTF8_H

#include "base/base.h"

/** Bytes (1 to 4) of the character at `s`, of which `n` >= 1 bytes are there; 0 when it is not UTF-8. */
static inline size_t wn_utf8_len(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return 1;
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
        (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return len;
}

/** Where the first broken or missing character begins; SIZE_MAX: all is UTF-8 (NUL included). */
static inline size_t wn_utf8_fault(const char *s, size_t n)
{
    for (size_t i = 0, len; i < n; i += len)
        if (!(len = wn_utf8_len(s + i, n - i)))
            return i;
    return SIZE_MAX;
}

static inline bool wn_utf8_valid(const char *s, size_t n)
{
    return wn_utf8_fault(s, n) == SIZE_MAX;
}

#endif
