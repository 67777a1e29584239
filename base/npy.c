/* npy.c: reads and writes .npy. The header is a Python dict literal; only the three keys NumPy writes are accepted. */
#include "base/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

static const struct {
    char name[4];
    unsigned char size;
} types[] = {
    [WN_NPY_NONE] = { "?", 0 }, [WN_NPY_B1] = { "b1", 1 }, [WN_NPY_F2] = { "f2", 2 }, [WN_NPY_F4] = { "f4", 4 },
    [WN_NPY_F8] = { "f8", 8 },  [WN_NPY_I1] = { "i1", 1 }, [WN_NPY_I2] = { "i2", 2 }, [WN_NPY_I4] = { "i4", 4 },
    [WN_NPY_I8] = { "i8", 8 },  [WN_NPY_U1] = { "u1", 1 }, [WN_NPY_U2] = { "u2", 2 }, [WN_NPY_U4] = { "u4", 4 },
    [WN_NPY_U8] = { "u8", 8 },
};

size_t wn_npy_type_size(enum wn_npy_type type)
{
    return (unsigned)type < WN_COUNT(types) ? types[type].size : 0;
}

const char *wn_npy_type_name(enum wn_npy_type type)
{
    return types[(unsigned)type < WN_COUNT(types) ? type : WN_NPY_NONE].name;
}

size_t wn_npy_count(const struct wn_npy *a)
{
    size_t size = wn_npy_type_size(a->type);
    return size ? a->bytes / size : 0;
}

/* ---- the header's dict ---- */
struct cursor {
    const char *p, *end;
    const char *name;
    struct winnow_err *err;
};

static enum winnow_status bad(const struct cursor *c, const char *what)
{
    return wn_fail(c->err, WINNOW_E_MALFORMED, "npy '%s': %s", c->name, what);
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t'))
        c->p++;
}

/* Take `ch` after spaces. */
static bool take(struct cursor *c, char ch)
{
    skip_space(c);
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

/* A quoted string without escapes. */
static bool take_string(struct cursor *c, const char **ret, size_t *ret_n)
{
    skip_space(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return false;
    char quote = *c->p++;
    const char *start = c->p;
    while (c->p < c->end && *c->p != quote && *c->p != '\\')
        c->p++;
    if (c->p == c->end || *c->p != quote)
        return false;
    *ret = start;
    *ret_n = (size_t)(c->p++ - start);
    return true;
}

static enum winnow_status take_descr(struct cursor *c, struct wn_npy *ret)
{
    const char *s;
    size_t n;
    if (!take_string(c, &s, &n)) {
        skip_space(c);
        if (c->p < c->end && *c->p == '[')
            return wn_fail(c->err, WINNOW_E_UNSUPPORTED, "npy '%s': structured types are not supported", c->name);
        return bad(c, "descr is not a string");
    }
    if (n >= 2 && (s[0] == 'O' || s[1] == 'O'))
        return wn_fail(c->err, WINNOW_E_UNSUPPORTED, "npy '%s': object arrays (pickles) are refused", c->name);
    for (unsigned t = WN_NPY_B1; t < WN_COUNT(types); t++)
        if (n == 3 && memcmp(s + 1, types[t].name, 2) == 0 && (s[0] == '<' || (types[t].size == 1 && s[0] == '|'))) {
            ret->type = (enum wn_npy_type)t;
            return WINNOW_OK;
        }
    return wn_fail(c->err, WINNOW_E_UNSUPPORTED, "npy '%s': element type '%.*s' is not supported", c->name,
                   (int)WN_MIN(n, (size_t)32), s);
}

static enum winnow_status take_extent(struct cursor *c, struct wn_npy *ret)
{
    int64_t v = 0;
    unsigned digits = 0;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, digits++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *c->p - '0', &v))
            return wn_fail(c->err, WINNOW_E_TOO_LARGE, "npy '%s': shape overflows", c->name);
    if (!digits)
        return bad(c, "shape holds something that is not a size");
    if (ret->rank == WN_NPY_MAX_RANK)
        return wn_fail(c->err, WINNOW_E_UNSUPPORTED, "npy '%s': more than %d dimensions", c->name, WN_NPY_MAX_RANK);
    ret->shape[ret->rank++] = v;
    return WINNOW_OK;
}

static enum winnow_status take_shape(struct cursor *c, struct wn_npy *ret)
{
    if (!take(c, '('))
        return bad(c, "shape is not a tuple");
    bool comma = true;
    while (!take(c, ')')) {
        if (!comma)
            return bad(c, "shape is not a tuple");
        skip_space(c);
        WN_TRY(take_extent(c, ret));
        comma = take(c, ',');
    }
    if (ret->rank == 1 && !comma)
        return bad(c, "shape is not a tuple");
    return WINNOW_OK;
}

static enum winnow_status take_order(struct cursor *c)
{
    if (take_word(c, "True"))
        return wn_fail(c->err, WINNOW_E_UNSUPPORTED, "npy '%s': Fortran order is not supported", c->name);
    return take_word(c, "False") ? WINNOW_OK : bad(c, "fortran_order is neither True nor False");
}

static enum winnow_status parse_dict(struct cursor *c, struct wn_npy *ret)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4, ALL = 7 };
    unsigned seen = 0;
    if (!take(c, '{'))
        return bad(c, "header is not a dict");
    for (bool comma = true; !take(c, '}'); comma = take(c, ',')) {
        const char *key;
        size_t n;
        if (!comma || !take_string(c, &key, &n) || !take(c, ':'))
            return bad(c, "header is not a dict");
        unsigned bit = n == 5 && memcmp(key, "descr", 5) == 0             ? DESCR
                       : n == 13 && memcmp(key, "fortran_order", 13) == 0 ? ORDER
                       : n == 5 && memcmp(key, "shape", 5) == 0           ? SHAPE
                                                                          : 0;
        if (!bit || (seen & bit))
            return bad(c, "header has an unknown or repeated key");
        seen |= bit;
        WN_TRY(bit == DESCR ? take_descr(c, ret) : bit == ORDER ? take_order(c) : take_shape(c, ret));
    }
    skip_space(c);
    if (c->p != c->end)
        return bad(c, "header goes on behind its dict");
    return seen == ALL ? WINNOW_OK : bad(c, "header lacks descr, fortran_order or shape");
}

enum winnow_status wn_npy_parse_header(const void *bytes, size_t n, const char *name, struct wn_npy *ret,
                                       size_t *ret_header, struct winnow_err *err)
{
    const unsigned char *p = bytes;
    struct cursor c = { .name = name, .err = err };
    if (n < 10 || memcmp(p, "\x93NUMPY", 6) != 0)
        return bad(&c, "not an npy array");
    if (p[6] < 1 || p[6] > 3 || p[7] != 0)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "npy '%s': format version %u.%u is not supported", name, p[6], p[7]);
    size_t start = p[6] == 1 ? 10 : 12;
    if (n < start)
        return bad(&c, "header is cut off");
    size_t len = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1)
        len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (len > WN_NPY_MAX_HEADER)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "npy '%s': header of %zu bytes", name, len);
    if (len > n - start)
        return bad(&c, "header is cut off");
    c.p = (const char *)p + start;
    c.end = c.p + len;
    struct wn_npy a = { 0 };
    WN_TRY(parse_dict(&c, &a));
    if (!wn_shape_bytes(a.shape, a.rank, wn_npy_type_size(a.type), &a.bytes))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "npy '%s': shape overflows", name);
    *ret = a;
    *ret_header = start + len;
    return WINNOW_OK;
}

bool wn_npy_bools_valid(const struct wn_npy *a)
{
    const unsigned char *p = a->data;
    unsigned char all = 0;
    for (size_t i = 0; a->type == WN_NPY_B1 && i < a->bytes; i++)
        all |= p[i];
    return all <= 1;
}

enum winnow_status wn_npy_parse(const void *bytes, size_t n, const char *name, struct wn_npy *ret,
                                struct winnow_err *err)
{
    struct wn_npy a;
    size_t header;
    WN_TRY(wn_npy_parse_header(bytes, n, name, &a, &header, err));
    if (n - header != a.bytes)
        return wn_fail(err, WINNOW_E_MALFORMED, "npy '%s': %zu bytes of data where the shape needs %zu", name,
                       n - header, a.bytes);
    WN_CLEANUP(wn_freep) void *data = malloc(WN_MAX(a.bytes, (size_t)1));
    if (!data)
        return wn_fail(err, WINNOW_E_NOMEM, "npy '%s'", name);
    if (a.bytes)
        memcpy(data, (const char *)bytes + header, a.bytes);
    a.data = data;
    if (!wn_npy_bools_valid(&a))
        return wn_fail(err, WINNOW_E_MALFORMED, "npy '%s': a boolean that is neither 0 nor 1", name);
    (void)WN_TAKE(data);
    *ret = a;
    return WINNOW_OK;
}

enum winnow_status wn_npy_read(const char *path, size_t max, struct wn_npy *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    WN_TRY(wn_file_read(path, max, &bytes, &n, err));
    return wn_npy_parse(bytes, n, path, ret, err);
}

/* ---- writing ---- */
size_t wn_npy_format_header(const struct wn_npy *a, char ret[WN_NPY_HEADER_ROOM])
{
    char dict[WN_NPY_HEADER_ROOM];
    size_t room = sizeof dict, size = wn_npy_type_size(a->type);
    size_t n = (size_t)snprintf(dict, room, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                                size > 1 ? '<' : '|', wn_npy_type_name(a->type));
    for (unsigned i = 0; i < a->rank; i++)
        n += (size_t)snprintf(dict + n, room - n, "%s%lld%s", i ? ", " : "", (long long)a->shape[i],
                              a->rank == 1 ? "," : "");
    n += (size_t)snprintf(dict + n, room - n, "), }");
    size_t total = wn_round_up(10 + n + 1, 64), len = total - 10; /* at most 54 + 8 * 21 + 5 + 63 bytes */
    memcpy(ret, "\x93NUMPY\x01\x00", 8);
    ret[8] = (char)(len & 255);
    ret[9] = (char)(len >> 8);
    memcpy(ret + 10, dict, n);
    memset(ret + 10 + n, ' ', len - n - 1);
    ret[total - 1] = '\n';
    return total;
}

enum winnow_status wn_npy_write(const char *path, const struct wn_npy *a, struct winnow_err *err)
{
    char header[WN_NPY_HEADER_ROOM];
    size_t n = wn_npy_format_header(a, header), total;
    WN_CLEANUP(wn_freep) char *all = wn_add_size(n, a->bytes, &total) ? malloc(total) : NULL;
    if (!all)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    memcpy(all, header, n);
    if (a->bytes)
        memcpy(all + n, a->data, a->bytes);
    return wn_file_write_durable(path, all, total, err);
}

void wn_npy_done(struct wn_npy *a)
{
    free(a->data);
    *a = (struct wn_npy){ 0 };
}
