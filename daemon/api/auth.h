/* auth.h: who may do what: bearer tokens against the scope column of routes.def, and models by a token's patterns.
 *
 * Without tokens (server.auth: loopback or none) everybody may do everything. With them a route of a scope needs a
 * token that has it: no token, an unknown or an expired one is 401 / UNAUTHENTICATED, a missing scope or another model
 * 403 / PERMISSION_DENIED. A request is judged once, when its head is there, before anything of its body is read. */
#ifndef WN_API_AUTH_H
#define WN_API_AUTH_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/tokens.h"

struct wn_req;
struct wn_buf;

/** Why requests were refused. */
enum wn_auth_why { WN_AUTH_MISSING, WN_AUTH_BAD_FORM, WN_AUTH_UNKNOWN, WN_AUTH_EXPIRED, WN_AUTH_SCOPE, WN_AUTH_MODEL };
#define WN_N_AUTH_WHY 6

/** State of the api; zero is: no tokens. */
struct wn_auth {
    pthread_mutex_t lock;     /* a leaf; of `tokens` alone */
    struct wn_tokens *tokens; /* NULL: nobody needs one */
    atomic_ullong refused[WN_N_AUTH_WHY];
    atomic_ullong told_ns, untold; /* the log names one refusal a second */
};

/** The route is known: may this request go on? Keeps its token. False: it has been answered. On the loop. */
bool wn_auth_admit(struct wn_req *req);
/** Release what a request keeps. */
void wn_auth_forget(struct wn_req *req);
/** Families for /metrics. */
void wn_auth_metrics(struct wn_buf *to, struct wn_auth *auth);

#endif
