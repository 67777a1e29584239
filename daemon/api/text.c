/* text.c: see text.h. */
#include "daemon/api/text.h"

#include <string.h>
#include <strings.h>
#include "base/digest.h"
#include "daemon/serve/serve.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool wn_percent_decode(char *s, size_t n, bool form, size_t *ret_n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '%') {
            if (n - i < 3 || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
                return false;
            s[to++] = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else {
            s[to++] = form && s[i] == '+' ? ' ' : s[i];
        }
    }
    s[to] = '\0';
    *ret_n = to;
    return true;
}

char *wn_grpc_message(struct wn_arena *arena, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = strlen(text), to = 0;
    char *out = wn_arena_alloc(arena, 3 * n + 1);
    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c > 0x7e || c == '%' || (c == ' ' && (i == 0 || i + 1 == n))) {
            out[to++] = '%';
            out[to++] = digits[c >> 4];
            out[to++] = digits[c & 15];
        } else {
            out[to++] = (char)c;
        }
    }
    out[to] = '\0';
    return out;
}

bool wn_text_u64(const char *s, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return false;
    *ret = v;
    return n > 0;
}

bool wn_grpc_timeout(const char *text, size_t n, uint64_t *ret_us)
{
    uint64_t v;
    if (n < 2 || n > 9 || !wn_text_u64(text, n - 1, &v))
        return false;
    switch (text[n - 1]) { /* 8 digits of hours are 3.6e17 us: no overflow */
    case 'H':
        *ret_us = v * 3600000000u;
        return true;
    case 'M':
        *ret_us = v * 60000000u;
        return true;
    case 'S':
        *ret_us = v * 1000000u;
        return true;
    case 'm':
        *ret_us = v * 1000u;
        return true;
    case 'u':
        *ret_us = v;
        return true;
    case 'n':
        *ret_us = (v + 999) / 1000;
        return true;
    default:
        return false;
    }
}

static enum winnow_status pin_part(const char *s, size_t n, struct wn_arena *arena, struct wn_pin *pin,
                                   struct winnow_err *err)
{
    const char *eq = memchr(s, '=', n);
    size_t key = eq ? (size_t)(eq - s) : n, left = eq ? n - key - 1 : 0;
    uint64_t v = 0;
    struct wn_sha256 d;
    if ((key == 10 && memcmp(s, "generation", 10) == 0 && pin->generation) ||
        (key == 7 && memcmp(s, "version", 7) == 0 && pin->version) ||
        (key == 6 && memcmp(s, "digest", 6) == 0 && pin->digest))
        return wn_fail(err, WINNOW_E_MALFORMED, "winnow-pin: '%.*s' is given twice", (int)key, s);
    if (key == 10 && memcmp(s, "generation", 10) == 0 && wn_text_u64(eq + 1, left, &v) && v) {
        pin->generation = v;
        return WINNOW_OK;
    }
    if (key == 7 && memcmp(s, "version", 7) == 0 && wn_text_u64(eq + 1, left, &v) && v && v <= INT64_MAX) {
        pin->version = (int64_t)v;
        return WINNOW_OK;
    }
    if (key == 6 && memcmp(s, "digest", 6) == 0) {
        char *text = wn_arena_strndup(arena, eq + 1, left), *out = wn_arena_alloc(arena, WN_DIGEST_TEXT);
        if (!text || !out)
            return wn_fail(err, WINNOW_E_NOMEM, "pin");
        if (wn_digest_parse(text, &d)) {
            pin->digest = wn_digest_text(&d, out);
            return WINNOW_OK;
        }
    }
    return wn_fail(err, WINNOW_E_MALFORMED, "winnow-pin: '%.*s' is not generation=N, version=N or digest=sha256:…",
                   (int)WN_MIN(n, (size_t)90), s);
}

enum winnow_status wn_pin_parse(const char *s, size_t n, struct wn_arena *arena, struct wn_pin *ret,
                                struct winnow_err *err)
{
    size_t i = 0;
    while (i < n) {
        size_t from = i;
        while (i < n && s[i] != ',' && s[i] != ';')
            i++;
        size_t to = i++;
        while (from < to && s[from] == ' ')
            from++;
        while (to > from && s[to - 1] == ' ')
            to--;
        if (from < to)
            WN_TRY(pin_part(s + from, to - from, arena, ret, err));
    }
    return WINNOW_OK;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool wn_base64_decode(const char *s, size_t n, struct wn_arena *arena, struct winnow_str *ret)
{
    if (n % 4 == 0 && n && s[n - 1] == '=') {
        n--;
        n -= s[n - 1] == '=';
    }
    if (n % 4 == 1)
        return false;
    char *out = wn_arena_alloc(arena, n / 4 * 3 + 3);
    if (!out)
        return false;
    size_t to = 0;
    uint32_t acc = 0;
    for (size_t i = 0; i < n; i++) {
        int v = sextet(s[i]);
        if (v < 0)
            return false;
        acc = acc << 6 | (uint32_t)v;
        if (i % 4)
            out[to++] = (char)(acc >> (6 - 2 * (i % 4)));
    }
    *ret = (struct winnow_str){ out, to };
    return true;
}

/* One "name=value" at *p, the value without its quotes; *p then stands at ';' or the end. */
static bool take_parameter(const char **p, const char *end, struct winnow_str *name, struct winnow_str *value)
{
    const char *s = *p, *from = s;
    while (s < end && !strchr("=; \t\"", *s))
        s++;
    *name = (struct winnow_str){ from, (size_t)(s - from) };
    if (!name->n || s == end || *s++ != '=')
        return false;
    bool quoted = s < end && *s == '"';
    s += quoted;
    for (from = s; s < end && (quoted ? *s != '"' : !strchr("; \t\"", *s)); s++)
        if (quoted && *s == '\\' && s + 1 < end)
            s++;
    *value = (struct winnow_str){ from, (size_t)(s - from) };
    if (quoted ? s++ == end : !value->n)
        return false;
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    *p = s;
    return s == end || *s == ';';
}

bool wn_type_charset(const char *type, size_t n, struct winnow_str *ret)
{
    const char *end = type + n, *p = memchr(type, ';', n);
    *ret = (struct winnow_str){ 0 };
    while (p && p < end) {
        struct winnow_str name, value;
        while (p < end && (*p == ';' || *p == ' ' || *p == '\t'))
            p++;
        if (p == end)
            break;
        if (!take_parameter(&p, end, &name, &value))
            return false;
        if (name.n != 7 || strncasecmp(name.p, "charset", 7) != 0)
            continue;
        if (ret->p || !value.n)
            return false;
        *ret = value;
    }
    return true;
}

static const struct {
    char name[8];
    enum winnow_dtype dtype;
} dtypes[] = {
    { "FP32", WINNOW_F32 },   { "INT64", WINNOW_I64 },    { "INT32", WINNOW_I32 }, { "UINT8", WINNOW_U8 },
    { "INT8", WINNOW_I8 },    { "BYTES", WINNOW_STRING }, { "BOOL", WINNOW_BOOL }, { "FP16", WINNOW_F16 },
    { "BF16", WINNOW_BF16 },  { "FP64", WINNOW_F64 },     { "INT16", WINNOW_I16 }, { "UINT16", WINNOW_U16 },
    { "UINT32", WINNOW_U32 }, { "UINT64", WINNOW_U64 },
};

const char *wn_oip_name(enum winnow_dtype dtype)
{
    for (size_t i = 0; i < WN_COUNT(dtypes); i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return "UNKNOWN";
}

enum winnow_dtype wn_oip_dtype(const char *name, size_t n)
{
    for (size_t i = 0; i < WN_COUNT(dtypes); i++)
        if (strlen(dtypes[i].name) == n && memcmp(dtypes[i].name, name, n) == 0)
            return dtypes[i].dtype;
    return WINNOW_UNDEFINED;
}
