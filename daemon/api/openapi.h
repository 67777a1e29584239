/* openapi.h: the document at /openapi.json: OpenAPI 3.1 of every route, written from routes.def and openapi.def. */
#ifndef WN_API_OPENAPI_H
#define WN_API_OPENAPI_H

#include <jansson.h>
#include <stddef.h>

/** One line of openapi.def. */
struct wn_operation {
    const char *method, *path, *query, *takes, *gives;
};
/** All of them; `ret_n` of them. */
const struct wn_operation *wn_operations(size_t *ret_n);
/** The document: a new reference, NULL when out of memory. Any thread. */
json_t *wn_openapi(void);

/** daemon/api/openapi_components.json as it was when this was built. */
extern const unsigned char wn_openapi_components[];
extern const size_t wn_openapi_components_n;

#endif
