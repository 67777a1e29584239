/* json.c: JSON files of bounded size, count and depth, and their members by kind. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "pipeline/tok/load.h"

enum winnow_status wn_tk_fail(struct wn_tk_reader *r, enum winnow_status status, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return wn_fail(r->err, status, "%s: %s%s%s", r->file, r->where, r->where_n ? ": " : "", text);
}

size_t wn_tk_enter(struct wn_tk_reader *r, const char *fmt, ...)
{
    size_t mark = r->where_n, room = sizeof r->where - r->where_n;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(r->where + r->where_n, room, fmt, args);
    va_end(args);
    r->where_n += WN_MIN((size_t)WN_MAX(n, 0), room - 1);
    return mark;
}

void wn_tk_leave(struct wn_tk_reader *r, size_t mark)
{
    r->where_n = mark;
    r->where[mark] = '\0';
}

/* Count values and depth before jansson, which takes some 100 bytes for each, sees the text. */
static enum winnow_status scan(struct wn_tk_reader *r, const char *s, size_t n)
{
    size_t values = 0, depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"') {
            for (i++; i < n && s[i] != '"'; i++)
                i += s[i] == '\\';
            continue;
        }
        values += s[i] == ',' || s[i] == ':' || s[i] == '[' || s[i] == '{';
        depth += s[i] == '[' || s[i] == '{';
        depth -= depth && (s[i] == ']' || s[i] == '}');
        if (depth > WN_TK_MAX_DEPTH)
            return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "nested deeper than %u", WN_TK_MAX_DEPTH);
        if (values > WN_TK_MAX_VALUES)
            return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %u values", WN_TK_MAX_VALUES);
    }
    return WINNOW_OK;
}

enum winnow_status wn_tk_json_read(struct wn_tk_reader *r, json_t **ret)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0;
    json_error_t e;
    WN_TRY(wn_file_read(r->file, WN_TK_MAX_FILE, &bytes, &n, r->err));
    WN_TRY(scan(r, bytes, n));
    json_t *o = json_loadb(bytes, n, JSON_ALLOW_NUL, &e);
    if (!o)
        return wn_fail(r->err, json_error_code(&e) == json_error_out_of_memory ? WINNOW_E_NOMEM : WINNOW_E_MALFORMED,
                       "%s:%d: %s", r->file, e.line, e.text);
    if (!json_is_object(o)) {
        json_decref(o);
        return WN_TK_BAD(r, "expected an object");
    }
    *ret = o;
    return WINNOW_OK;
}

enum winnow_status wn_tk_json_keys(struct wn_tk_reader *r, const json_t *o, const char *const *names)
{
    const char *key;
    json_t *v;
    if (!json_is_object(o))
        return WN_TK_BAD(r, "expected an object");
    json_object_foreach((json_t *)o, key, v)
    {
        size_t i = 0;
        while (names[i] && strcmp(names[i], key) != 0)
            i++;
        if (!names[i])
            return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "key '%.60s' is not supported", key);
    }
    return WINNOW_OK;
}

enum winnow_status wn_tk_json_bool(struct wn_tk_reader *r, const json_t *o, const char *key, int def, bool *ret)
{
    const json_t *v = json_object_get(o, key);
    bool absent = !v || json_is_null(v);
    if (absent ? def < 0 : !json_is_boolean(v))
        return WN_TK_BAD(r, "%s: expected true or false", key);
    *ret = absent ? def : json_is_true(v);
    return WINNOW_OK;
}

enum winnow_status wn_tk_json_string(struct wn_tk_reader *r, const json_t *o, const char *key, bool required,
                                     const char **ret, size_t *ret_n)
{
    const json_t *v = json_object_get(o, key);
    bool absent = !v || json_is_null(v);
    if (absent ? required : !json_is_string(v))
        return WN_TK_BAD(r, "%s: expected a string", key);
    *ret = absent ? NULL : json_string_value(v);
    *ret_n = absent ? 0 : json_string_length(v);
    return WINNOW_OK;
}

enum winnow_status wn_tk_json_size(struct wn_tk_reader *r, const json_t *o, const char *key, size_t max, size_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (json_int_t)max < json_integer_value(v))
        return WN_TK_BAD(r, "%s: expected an integer between 0 and %zu", key, max);
    *ret = (size_t)json_integer_value(v);
    return WINNOW_OK;
}
