/* route.c: the table of routes, and finding the line of it that a request means.
 *
 * DESIGN  A linear walk over some forty patterns compares a few bytes each; it costs less than a microsecond. A hash or
 *         a tree would have to know about parameters and about 405. */
#include "daemon/api/api.h"

#include <stdio.h>
#include <string.h>
#include "daemon/api/text.h"

static const struct wn_route routes[] = {
#define ROUTE(method, path, handler, body, scope, text)                                                                \
    { #method, path, handler, WN_BODY_##body, WN_SCOPE_##scope, false, false, text },
#define RPC(service, method, handler, scope, text)                                                                     \
    { "POST", "/" service "/" method, handler, WN_BODY_INFER, WN_SCOPE_##scope, true, false, text },
#define RPC_STREAM(service, method, handler, scope, text)                                                              \
    { "POST", "/" service "/" method, handler, WN_BODY_STREAM, WN_SCOPE_##scope, true, true, text },
#include "daemon/api/routes.def"
#undef ROUTE
#undef RPC
#undef RPC_STREAM
};

const struct wn_route *wn_routes(size_t *ret_n)
{
    *ret_n = WN_COUNT(routes);
    return routes;
}

static size_t segment(const char *p)
{
    return strcspn(p, "/");
}

static bool all_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    return n > 0 && n < 19;
}

/** Walk pattern and path together; where parameters start is kept in `at`, their lengths in `len`. */
static bool fits(const char *pattern, const char *path, const char *at[WN_MAX_PARAMS], size_t len[WN_MAX_PARAMS],
                 unsigned *ret_n)
{
    *ret_n = 0;
    while (*pattern == '/' && *path == '/') {
        size_t a = segment(++pattern), b = segment(++path);
        if (a >= 3 && pattern[0] == '{') {
            if (!b || *ret_n == WN_MAX_PARAMS || (pattern[1] == 'v' && a == 3 && !all_digits(path, b)))
                return false;
            at[*ret_n] = path;
            len[(*ret_n)++] = b;
        } else if (a != b || memcmp(pattern, path, a) != 0) {
            return false;
        }
        pattern += a;
        path += b;
    }
    return !*pattern && (!*path || (path[0] == '/' && !path[1]));
}

static enum winnow_status decode_params(struct wn_arena *arena, unsigned n, const char *const at[], const size_t len[],
                                        const char *param[WN_MAX_PARAMS], struct winnow_err *err)
{
    for (unsigned i = 0; i < n; i++) {
        char *to = wn_arena_strndup(arena, at[i], len[i]);
        if (!to)
            return wn_fail(err, WINNOW_E_NOMEM, "path");
        size_t got;
        if (!wn_percent_decode(to, len[i], false, &got) || memchr(to, 0, got) || memchr(to, '/', got))
            return wn_fail(err, WINNOW_E_MALFORMED, "path segment '%.*s' is not a name",
                           (int)WN_MIN(len[i], (size_t)80), at[i]);
        param[i] = to;
    }
    return WINNOW_OK;
}

enum winnow_status wn_route_match(const char *method, const char *path, bool rpc, struct wn_arena *arena,
                                  const struct wn_route **ret_route, const char *param[WN_MAX_PARAMS],
                                  const char **ret_allow, struct winnow_err *err)
{
    const char *at[WN_MAX_PARAMS], *allow = NULL;
    size_t len[WN_MAX_PARAMS];
    unsigned n;
    bool head = strcmp(method, "HEAD") == 0;
    for (size_t i = 0; i < WN_COUNT(routes); i++) {
        const struct wn_route *r = &routes[i];
        if (r->rpc != rpc || !fits(r->pattern, path, at, len, &n))
            continue;
        if (strcmp(r->method, head ? "GET" : method) == 0) {
            WN_TRY(decode_params(arena, n, at, len, param, err));
            *ret_route = r;
            return WINNOW_OK;
        }
        allow = allow ? wn_arena_printf(arena, "%s, %s", allow, r->method) : r->method;
        if (!allow)
            return wn_fail(err, WINNOW_E_NOMEM, "path");
    }
    if (!allow)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "Not Found");
    *ret_allow = allow;
    return wn_fail(err, WINNOW_E_CONFLICT, "Method Not Allowed");
}
