/* openapi.c: every route is in the document, and everything that the document points to is there. */
#include "daemon/api/openapi.h"

#include <criterion/criterion.h>
#include <string.h>
#include "daemon/api/api.h"

Test(openapi, every_route_has_its_line)
{
    size_t n, n_operations;
    const struct wn_route *r = wn_routes(&n);
    const struct wn_operation *o = wn_operations(&n_operations);
    for (size_t i = 0; i < n; i++) {
        unsigned lines = 0;
        if (r[i].rpc)
            continue;
        for (size_t k = 0; k < n_operations; k++)
            lines += strcmp(o[k].method, r[i].method) == 0 && strcmp(o[k].path, r[i].pattern) == 0;
        cr_expect_eq(lines, 1, "%s %s has %u lines in daemon/api/openapi.def, one is needed", r[i].method, r[i].pattern,
                     lines);
    }
}

Test(openapi, every_line_has_its_route)
{
    size_t n, n_operations;
    const struct wn_route *r = wn_routes(&n);
    const struct wn_operation *o = wn_operations(&n_operations);
    for (size_t k = 0; k < n_operations; k++) {
        bool found = false;
        for (size_t i = 0; i < n && !found; i++)
            found = !r[i].rpc && strcmp(o[k].method, r[i].method) == 0 && strcmp(o[k].path, r[i].pattern) == 0;
        cr_expect(found, "%s %s stands in openapi.def, but it is no route", o[k].method, o[k].path);
    }
}

/** Every "$ref" below `v` leads somewhere in `doc`. */
static void follow(json_t *doc, json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_array(v))
        json_array_foreach(v, i, item) follow(doc, item);
    json_object_foreach(v, key, item)
    {
        if (strcmp(key, "$ref") != 0) {
            follow(doc, item);
            continue;
        }
        const char *text = json_string_value(item), *slash = text ? strrchr(text, '/') : NULL;
        cr_assert(slash && strncmp(text, "#/components/", 13) == 0, "%s", text);
        char place[40] = { 0 };
        memcpy(place, text + 13, WN_MIN((size_t)(slash - text - 13), sizeof place - 1));
        cr_expect(json_object_get(json_object_get(json_object_get(doc, "components"), place), slash + 1),
                  "%s is not in openapi_components.json", text);
    }
}

Test(openapi, references_lead_somewhere)
{
    json_t *doc = wn_openapi(), *item, *op;
    const char *path, *method;
    cr_assert(doc);
    follow(doc, doc);
    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        cr_expect(!strstr(path, "{m}") && !strstr(path, "{v}"), "%s", path);
        json_object_foreach(item, method, op)
            cr_expect(json_object_get(op, "summary") && json_object_get(json_object_get(op, "responses"), "200"),
                      "%s %s", method, path);
    }
    json_decref(doc);
}
