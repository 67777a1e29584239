/* openapi.c: see openapi.h.
 *
 * Source: OpenAPI Specification 3.1. Names of path parameters are those of the patterns, spelt out. */
#include "daemon/api/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "daemon/api/internal.h"

static const struct wn_operation operations[] = {
#define OPERATION(method, path, query, takes, gives) { #method, path, query, takes, gives },
#include "daemon/api/openapi.def"
#undef OPERATION
};

const struct wn_operation *wn_operations(size_t *ret_n)
{
    *ret_n = WN_COUNT(operations);
    return operations;
}

static const struct wn_operation *find(const struct wn_route *route)
{
    for (size_t i = 0; i < WN_COUNT(operations); i++)
        if (strcmp(operations[i].path, route->pattern) == 0 && strcmp(operations[i].method, route->method) == 0)
            return &operations[i];
    return NULL;
}

/* ---- paths ---- */
static const struct {
    const char *short_name, *name, *type;
} parameters[] = {
    { "{m}", "model", "string" }, { "{v}", "version", "integer" }, { "{f}", "file", "string" },
    { "{j}", "job", "string" },   { "{r}", "name", "string" },
};

/** "/v2/models/{m}" as "/v2/models/{model}"; the parameters go into `list`. */
static void spell(const char *pattern, char *to, size_t size, json_t *list)
{
    size_t n = 0;
    while (*pattern && n + 1 < size) {
        const char *name = NULL;
        for (size_t i = 0; i < WN_COUNT(parameters) && *pattern == '{'; i++)
            if (strncmp(pattern, parameters[i].short_name, 3) == 0) {
                name = parameters[i].name;
                json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:{s:s}}", "name", name, "in", "path", "required",
                                                      1, "schema", "type", parameters[i].type));
            }
        if (name) {
            n += (size_t)snprintf(to + n, size - n, "{%s}", name);
            pattern += 3;
        } else {
            to[n++] = *pattern++;
        }
    }
    to[WN_MIN(n, size - 1)] = '\0';
}

/* ---- bodies ---- */
static const struct {
    const char *kind, *type;
} kinds[] = {
    { "json", "application/json" }, { "form", "multipart/form-data" }, { "bytes", "application/octet-stream" },
    { "image", "image/*" },         { "text", "text/plain" },          { "events", "text/event-stream" },
};

static json_t *reference(const char *place, const char *name, size_t n)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%.*s", place, (int)n, name));
}

/** "json:InferRequest bytes" as the content object of a body. */
static json_t *content(const char *words)
{
    json_t *object = json_object();
    while (*words) {
        size_t n = strcspn(words, " "), kind = WN_MIN(strcspn(words, ":"), n);
        for (size_t i = 0; i < WN_COUNT(kinds); i++)
            if (strlen(kinds[i].kind) == kind && memcmp(kinds[i].kind, words, kind) == 0)
                json_object_set_new(
                    object, kinds[i].type,
                    kind < n ? json_pack("{s:o}", "schema", reference("schemas", words + kind + 1, n - kind - 1))
                             : json_object());
        words += n + (words[n] == ' ');
    }
    return object;
}

static json_t *responses(const struct wn_route *route, const struct wn_operation *o)
{
    bool v1 = strncmp(route->pattern, "/v1/", 4) == 0 || strstr(o->gives, "error:ErrorV1");
    json_t *good = json_pack("{s:s}", "description", "done");
    if (*o->gives)
        json_object_set_new(good, "content", content(o->gives));
    return json_pack("{s:o,s:{s:s,s:{s:{s:o}}}}", "200", good, "default", "description", "what went wrong", "content",
                     "application/json", "schema", reference("schemas", v1 ? "ErrorV1" : "Error", v1 ? 7 : 5));
}

/* ---- the document ---- */

/** get_v2_models_model_stats */
static json_t *operation_id(const struct wn_route *route, const char *path)
{
    char id[160];
    size_t n = (size_t)snprintf(id, sizeof id, "%s", route->method);
    for (; *path && n + 1 < sizeof id; path++)
        if (isalnum((unsigned char)*path))
            id[n++] = *path;
        else if (id[n - 1] != '_')
            id[n++] = '_';
    while (n && id[n - 1] == '_')
        n--;
    id[n] = '\0';
    for (size_t i = 0; i < n; i++)
        id[i] = (char)tolower((unsigned char)id[i]);
    return json_string(id);
}

static json_t *operation(const struct wn_route *route, const struct wn_operation *o, const char *path, json_t *params)
{
    for (const char *q = o->query; *q;) {
        size_t n = strcspn(q, " ");
        json_array_append_new(params, reference("parameters", q, n));
        q += n + (q[n] == ' ');
    }
    json_t *v =
        json_pack("{s:o,s:s,s:[s],s:o,s:o,s:s}", "operationId", operation_id(route, path), "summary", route->text,
                  "tags", strncmp(path, "/v1/", 4) == 0 ? "OpenAI" : "Open Inference Protocol", "parameters", params,
                  "responses", responses(route, o), "x-scope", wn_scope_name(route->scope));
    if (*o->takes)
        json_object_set_new(v, "requestBody", json_pack("{s:o}", "content", content(o->takes)));
    if (route->scope == WN_SCOPE_none)
        json_object_set_new(v, "security", json_array());
    return v;
}

static json_t *paths(void)
{
    size_t n;
    const struct wn_route *route = wn_routes(&n);
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++) {
        const struct wn_operation *o = route[i].rpc ? NULL : find(&route[i]);
        char path[160], method[16];
        size_t k = 0;
        if (!o)
            continue;
        json_t *params = json_array();
        spell(route[i].pattern, path, sizeof path, params);
        for (; route[i].method[k] && k + 1 < sizeof method; k++)
            method[k] = (char)tolower((unsigned char)route[i].method[k]);
        method[k] = '\0';
        json_t *item = json_object_get(all, path);
        if (!item) {
            item = json_object();
            json_object_set_new(all, path, item);
        }
        json_object_set_new(item, method, operation(&route[i], o, path, params));
    }
    return all;
}

json_t *wn_openapi(void)
{
    json_error_t e;
    json_t *components = json_loadb((const char *)wn_openapi_components, wn_openapi_components_n, 0, &e);
    json_object_set_new(components, "securitySchemes",
                        json_pack("{s:{s:s,s:s}}", "bearer", "type", "http", "scheme", "bearer"));
    return json_pack("{s:s,s:{s:s,s:s,s:s},s:[{s:s}],s:o,s:o,s:[{},{s:[]}]}", "openapi", "3.1.0", "info", "title",
                     "winnow", "version", WN_VERSION, "summary",
                     "inference, and training from uploaded data; gRPC has the same, see reflection", "servers", "url",
                     "/", "paths", paths(), "components", components, "security", "bearer");
}

void wn_get_openapi(struct wn_req *req)
{
    wn_reply_json(req, 200, wn_openapi());
}
