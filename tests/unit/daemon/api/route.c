/* route.c: finding a route, its parameters, 404 and 405; and the table itself. */
#include "daemon/api/api.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct wn_route *route;
static const char *param[WN_MAX_PARAMS], *allow;
static struct wn_arena arena;
static struct winnow_err err;

static enum winnow_status match(const char *method, const char *path, bool rpc)
{
    memset(param, 0, sizeof param);
    return wn_route_match(method, path, rpc, &arena, &route, param, &allow, &err);
}

Test(route, finds)
{
    cr_assert_eq(match("POST", "/v2/models/a%20b/versions/12/infer", false), WINNOW_OK, "%s", err.msg);
    cr_expect(route->handle == wn_post_infer && route->body == WN_BODY_INFER);
    cr_expect_str_eq(param[0], "a b");
    cr_expect_str_eq(param[1], "12");
    cr_assert_eq(match("GET", "/v2/", false), WINNOW_OK);
    cr_expect(route->handle == wn_get_server);
    cr_assert_eq(match("HEAD", "/v2/health/live", false), WINNOW_OK);
    cr_assert_eq(match("GET", "/", false), WINNOW_OK);
    cr_assert_eq(match("POST", "/inference.GRPCInferenceService/ModelInfer", true), WINNOW_OK);
    cr_expect(route->handle == wn_rpc_model_infer && route->rpc);
    wn_arena_done(&arena);
}

Test(route, refuses)
{
    static const char *const unknown[] = { "",
                                           "v2",
                                           "/v2//",
                                           "/v2/models",
                                           "/v2/models/",
                                           "/v2/models//ready",
                                           "/v2/models/a/versions/1x",
                                           "/v2/models/a/versions/",
                                           "/v2x",
                                           "/V2",
                                           "/v2/models/a/versions/9999999999999999999",
                                           "//v2",
                                           "/v2/models/a/b" };
    for (size_t i = 0; i < WN_COUNT(unknown); i++)
        cr_expect_eq(match("GET", unknown[i], false), WINNOW_E_NOT_FOUND, "'%s'", unknown[i]);
    static const char *const bad[] = { "/v2/models/a%2fb", "/v2/models/a%00", "/v2/models/%", "/v2/models/%g0" };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_eq(match("GET", bad[i], false), WINNOW_E_MALFORMED, "'%s'", bad[i]);
    cr_expect_eq(match("POST", "/inference.GRPCInferenceService/ModelInfer", false), WINNOW_E_NOT_FOUND);
    cr_expect_eq(match("POST", "/v2/models/a/infer", true), WINNOW_E_NOT_FOUND);
    cr_assert_eq(match("PUT", "/v2/models/a/infer", false), WINNOW_E_CONFLICT);
    cr_expect_str_eq(allow, "POST");
    wn_arena_done(&arena);
}

Test(route, table_is_sound)
{
    size_t n;
    const struct wn_route *r = wn_routes(&n);
    for (size_t i = 0; i < n; i++) {
        cr_expect(r[i].handle && r[i].text[0] && r[i].pattern[0] == '/', "line %zu", i);
        for (size_t k = 0; k < i; k++)
            cr_expect(strcmp(r[i].method, r[k].method) != 0 || strcmp(r[i].pattern, r[k].pattern) != 0, "%s %s twice",
                      r[i].method, r[i].pattern);
    }
}

Test(route, every_status_has_codes)
{
#define STATUS(name, value, text)                                                                                      \
    cr_expect(wn_status_grpc(WINNOW_##name) != 2 && wn_status_http(WINNOW_##name) >= 200, #name);
#include "winnow/status.def"
#undef STATUS
}
