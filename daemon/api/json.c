/* json.c: see json.h. Numbers in and out: json_num.c. */
#include "daemon/api/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/utf8.h"

void wn_json_init(struct wn_json *j, const char *text, size_t n, unsigned max_depth, struct winnow_err *err)
{
    *j = (struct wn_json){ text, text, text + n, max_depth, err };
}

bool wn_json_fail(struct wn_json *j, const char *fmt, ...)
{
    char what[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wn_fail(j->err, WINNOW_E_MALFORMED, "JSON at byte %zu: %s", (size_t)(j->p - j->start), what);
    return false;
}

char wn_json_peek(struct wn_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\t' || *j->p == '\r'))
        j->p++;
    return j->p < j->end ? *j->p : '\0';
}

bool wn_json_take(struct wn_json *j, char c)
{
    if (wn_json_peek(j) != c || j->p == j->end)
        return false;
    j->p++;
    return true;
}

bool wn_json_end(struct wn_json *j)
{
    wn_json_peek(j);
    return j->p == j->end || wn_json_fail(j, "more text behind the value");
}

/* ---- strings ---- */
static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i], l = (char)(c | 0x20);
        int d = c >= '0' && c <= '9' ? c - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static size_t put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/** One escape behind its backslash; `to` has room for 4 bytes. Returns how many were written, 0 on failure. */
static size_t escape(struct wn_json *j, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (j->p == j->end)
        return wn_json_fail(j, "string without an end");
    const char *at = *j->p ? strchr(from, *j->p) : NULL;
    if (at) {
        *to = into[at - from];
        j->p++;
        return 1;
    }
    int c = *j->p == 'u' && j->end - j->p >= 5 ? hex4(j->p + 1) : -1;
    if (c < 0)
        return wn_json_fail(j, "unknown escape in a string");
    j->p += 5;
    if (c >= 0xd800 && c < 0xdc00) {
        int low = j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u' ? hex4(j->p + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return wn_json_fail(j, "half of a surrogate pair in a string");
        j->p += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return wn_json_fail(j, "half of a surrogate pair in a string");
    }
    return put_utf8(to, (unsigned)c);
}

/** Plain characters up to a quote, a backslash or the end. */
static bool plain(struct wn_json *j)
{
    while (j->p < j->end && *j->p != '"' && *j->p != '\\') {
        unsigned char c = (unsigned char)*j->p;
        size_t len = c < 0x80 ? 1 : wn_utf8_len(j->p, (size_t)(j->end - j->p));
        if (c < 0x20)
            return wn_json_fail(j, "control character in a string");
        if (!len)
            return wn_json_fail(j, "string is not UTF-8");
        j->p += len;
    }
    return j->p < j->end || wn_json_fail(j, "string without an end");
}

bool wn_json_string(struct wn_json *j, struct wn_arena *arena, struct winnow_str *ret)
{
    if (!wn_json_take(j, '"'))
        return wn_json_fail(j, "a string was expected");
    const char *from = j->p;
    if (!plain(j))
        return false;
    if (*j->p == '"') {
        *ret = (struct winnow_str){ from, (size_t)(j->p++ - from) };
        return true;
    }
    /* With escapes: find the end first, so that the copy needs one allocation; it only gets shorter. */
    const char *q = j->p;
    while (q < j->end && *q != '"')
        q += *q == '\\' && j->end - q > 1 ? 2 : 1;
    char *out = arena ? wn_arena_alloc(arena, (size_t)(q - from) + 4) : NULL;
    if (arena && !out) {
        wn_fail(j->err, WINNOW_E_NOMEM, "request");
        return false;
    }
    size_t n = 0;
    j->p = from;
    for (;;) {
        const char *part = j->p;
        if (!plain(j))
            return false;
        if (out)
            memcpy(out + n, part, (size_t)(j->p - part));
        n += (size_t)(j->p - part);
        if (*j->p++ == '"')
            break;
        char c[4];
        size_t len = escape(j, c);
        if (!len)
            return false;
        if (out)
            memcpy(out + n, c, len);
        n += len;
    }
    *ret = (struct winnow_str){ out, n };
    return true;
}

/* ---- words ---- */
static bool word(struct wn_json *j, const char *w)
{
    size_t n = strlen(w);
    wn_json_peek(j);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, w, n) != 0)
        return false;
    j->p += n;
    return true;
}

bool wn_json_bool(struct wn_json *j, bool *ret)
{
    if (word(j, "true"))
        *ret = true;
    else if (word(j, "false"))
        *ret = false;
    else
        return wn_json_fail(j, "true or false was expected");
    return true;
}

bool wn_json_null(struct wn_json *j)
{
    return word(j, "null");
}

/* ---- structure ---- */
bool wn_json_next_item(struct wn_json *j, bool first, bool *ok)
{
    *ok = true;
    if (wn_json_take(j, ']'))
        return false;
    if (!first) {
        *ok = wn_json_take(j, ',') || wn_json_fail(j, "',' or ']' was expected");
        if (*ok && wn_json_peek(j) == ']')
            *ok = wn_json_fail(j, "a value was expected behind ','");
    }
    return *ok;
}

bool wn_json_next_key(struct wn_json *j, bool first, struct wn_arena *arena, struct winnow_str *key, bool *ok)
{
    *ok = true;
    if (first && wn_json_take(j, '}'))
        return false;
    if (!first) {
        if (wn_json_take(j, '}'))
            return false;
        *ok = wn_json_take(j, ',') || wn_json_fail(j, "',' or '}' was expected");
    }
    *ok = *ok && wn_json_string(j, arena, key) && (wn_json_take(j, ':') || wn_json_fail(j, "':' was expected"));
    return *ok;
}

/** One bit per open bracket: 1 = object. */
struct nest {
    uint64_t kind[(1024 + 63) / 64];
    unsigned depth;
};

static bool scalar(struct wn_json *j)
{
    struct winnow_str s;
    bool b;
    switch (wn_json_peek(j)) {
    case '"':
        return wn_json_string(j, NULL, &s);
    case 't':
    case 'f':
        return wn_json_bool(j, &b);
    case 'n':
        return wn_json_null(j) || wn_json_fail(j, "unknown word");
    default:
        return wn_json_skip_number(j);
    }
}

bool wn_json_skip(struct wn_json *j)
{
    struct nest nest = { .depth = 0 };
    struct winnow_str key;
    bool ok, first = true;
    for (;;) {
        /* at a value */
        char c = wn_json_peek(j);
        if (c == '{' || c == '[') {
            if (nest.depth == WN_MIN(j->max_depth, 1024u))
                return wn_json_fail(j, "JSON nesting depth exceeds maximum allowed limit (%u)", j->max_depth);
            uint64_t bit = (uint64_t)1 << (nest.depth & 63), *at = &nest.kind[nest.depth / 64];
            *at = c == '{' ? *at | bit : *at & ~bit;
            nest.depth++;
            j->p++;
            first = true;
        } else if (!scalar(j)) {
            return false;
        } else {
            first = false;
        }
        /* behind a value, or at the start of a container: go up as far as containers end */
        for (;;) {
            if (!nest.depth)
                return true;
            bool object = nest.kind[(nest.depth - 1) / 64] >> ((nest.depth - 1) & 63) & 1;
            if (object ? wn_json_next_key(j, first, NULL, &key, &ok) : wn_json_next_item(j, first, &ok))
                break;
            if (!ok)
                return false;
            nest.depth--;
            first = false;
        }
    }
}

/* ---- tensors ---- */
static bool element(struct wn_json *j, enum winnow_dtype dtype, void *to, struct wn_arena *arena)
{
    int64_t i;
    uint64_t u;
    bool b;
#define INT(T, lo, hi)                                                                                                 \
    if (!wn_json_i64(j, lo, hi, &i))                                                                                   \
        return false;                                                                                                  \
    *(T *)to = (T)i;                                                                                                   \
    return true
    switch (dtype) {
    case WINNOW_F32:
        return wn_json_f32(j, to);
    case WINNOW_F64:
        return wn_json_f64(j, to);
    case WINNOW_U8:
        INT(uint8_t, 0, UINT8_MAX);
    case WINNOW_I8:
        INT(int8_t, INT8_MIN, INT8_MAX);
    case WINNOW_U16:
        INT(uint16_t, 0, UINT16_MAX);
    case WINNOW_I16:
        INT(int16_t, INT16_MIN, INT16_MAX);
    case WINNOW_U32:
        INT(uint32_t, 0, UINT32_MAX);
    case WINNOW_I32:
        INT(int32_t, INT32_MIN, INT32_MAX);
    case WINNOW_I64:
        INT(int64_t, INT64_MIN, INT64_MAX);
    case WINNOW_U64:
        if (!wn_json_u64(j, UINT64_MAX, &u))
            return false;
        *(uint64_t *)to = u;
        return true;
    case WINNOW_BOOL:
        if (!wn_json_bool(j, &b))
            return false;
        *(uint8_t *)to = b;
        return true;
    case WINNOW_STRING:
        return wn_json_string(j, arena, to);
    default:
        return wn_json_fail(j, "this datatype has no JSON form, send it as binary data");
    }
#undef INT
}

struct fill {
    struct wn_json *j;
    enum winnow_dtype dtype;
    unsigned rank;
    const int64_t *shape;
    size_t size, done, count;
    char *to;
    struct wn_arena *arena;
};

/** Elements of one array; `want` of them. */
static bool fill_flat(struct fill *f, size_t want)
{
    bool ok, first = true;
    size_t n = 0;
    for (; wn_json_next_item(f->j, first, &ok); first = false, n++) {
        if (n == want)
            return wn_json_fail(f->j, "more than the %zu elements that the shape says", want);
        if (!element(f->j, f->dtype, f->to + f->done * f->size, f->arena))
            return false;
        f->done++;
    }
    if (ok && n < want)
        return wn_json_fail(f->j, "%zu elements, but the shape says %zu", n, want);
    return ok;
}

/** An array of level `d`, its bracket taken; depth of the recursion is the rank, at most WINNOW_MAX_RANK. */
static bool fill_nested(struct fill *f, unsigned d)
{
    if (d + 1 == f->rank)
        return fill_flat(f, (size_t)f->shape[d]);
    bool ok, first = true;
    int64_t n = 0;
    for (; wn_json_next_item(f->j, first, &ok); first = false, n++) {
        if (n == f->shape[d])
            return wn_json_fail(f->j, "more than %lld entries in dimension %u", (long long)f->shape[d], d);
        if (!wn_json_take(f->j, '['))
            return wn_json_fail(f->j, "an array of dimension %u was expected", d + 1);
        if (!fill_nested(f, d + 1))
            return false;
    }
    if (ok && n < f->shape[d])
        return wn_json_fail(f->j, "%lld entries in dimension %u, but the shape says %lld", (long long)n, d,
                            (long long)f->shape[d]);
    return ok;
}

bool wn_json_tensor(struct wn_json *j, enum winnow_dtype dtype, unsigned rank, const int64_t *shape, size_t count,
                    void *to, struct wn_arena *arena)
{
    struct fill f = { j, dtype, rank, shape, winnow_dtype_size(dtype), 0, count, to, arena };
    if (!wn_json_take(j, '['))
        return wn_json_fail(j, "\"data\" is not an array");
    if (rank > 1 && wn_json_peek(j) == '[')
        return fill_nested(&f, 0);
    return fill_flat(&f, count);
}
