/* auth.c: see auth.h.  Source: RFC 6750 (bearer tokens), RFC 9110 11.6.1; grpc/grpc doc/statuscodes.md. */
#include "daemon/api/auth.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/log.h"
#include "daemon/api/internal.h"

#define REALM "Bearer realm=\"winnow\""
enum { GRPC_PERMISSION_DENIED = 7, GRPC_UNAUTHENTICATED = 16 };

static const char *const why_names[WN_N_AUTH_WHY] = { "missing", "malformed", "unknown", "expired", "scope", "model" };

static struct wn_tokens *tokens_now(struct wn_auth *auth)
{
    pthread_mutex_lock(&auth->lock);
    struct wn_tokens *t = wn_tokens_ref(auth->tokens);
    pthread_mutex_unlock(&auth->lock);
    return t;
}

void wn_api_set_tokens(struct wn_api *api, struct wn_tokens *tokens)
{
    struct wn_tokens *mine = wn_tokens_ref(tokens), *old;
    pthread_mutex_lock(&api->auth.lock);
    old = api->auth.tokens;
    api->auth.tokens = mine;
    pthread_mutex_unlock(&api->auth.lock);
    wn_tokens_unref(old);
}

/* ---- refusing ---- */
static void note(struct wn_req *req, enum wn_auth_why why)
{
    struct wn_auth *auth = &req->api->auth;
    atomic_fetch_add_explicit(&auth->refused[why], 1, memory_order_relaxed);
    unsigned long long now = wn_now_ns(), last = atomic_load(&auth->told_ns);
    if (now - last < 1000000000u || !atomic_compare_exchange_strong(&auth->told_ns, &last, now)) {
        atomic_fetch_add(&auth->untold, 1);
        return;
    }
    wn_notice("auth_refused", "why=%s peer=%s path=%s token=%s left_out=%llu", why_names[why],
              req->x ? wn_exchange_peer(req->x) : "-", req->x ? wn_exchange_path(req->x) : "-",
              req->token ? req->token->id : "-", atomic_exchange(&auth->untold, 0));
}

/* Bodies of /v1 have OpenAI's shape. */
static void write_body(struct wn_buf *to, const struct wn_req *req, int status, const char *text)
{
    bool v1 = strncmp(wn_exchange_path(req->x), "/v1/", 4) == 0;
    wn_buf_text(to, v1 ? "{\"error\":{\"message\":" : "{\"error\":");
    wn_buf_json_string(to, text, strlen(text));
    if (v1)
        wn_buf_printf(to, ",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"%s\"}",
                      status == 401 ? "invalid_api_key" : "insufficient_permissions");
    wn_buf_text(to, "}");
}

/** @param challenge  for WWW-Authenticate, behind the realm: "" or ", error=…" */
static void refuse(struct wn_req *req, enum wn_auth_why why, const char *challenge, const char *text)
{
    int status = why == WN_AUTH_SCOPE || why == WN_AUTH_MODEL ? 403 : 401;
    note(req, why);
    if (req->rpc) {
        wn_reply_rpc_error(req, status == 403 ? GRPC_PERMISSION_DENIED : GRPC_UNAUTHENTICATED, text);
        return;
    }
    if (!req->x)
        return;
    struct wn_buf b = { 0 };
    write_body(&b, req, status, text);
    const char *value = wn_arena_printf(&req->arena, REALM "%s", challenge);
    struct wn_header h = { "www-authenticate", 16, value ? value : REALM, strlen(value ? value : REALM) };
    wn_reply_buf_with(req, status, "application/json", &h, 1, &b);
}

static void refuse_scope(struct wn_req *req)
{
    const char *scope = wn_scope_name(req->route->scope);
    char challenge[80], text[160];
    snprintf(challenge, sizeof challenge, ", error=\"insufficient_scope\", scope=\"%s\"", scope);
    snprintf(text, sizeof text, "token '%s' lacks the scope %s", req->token->id, scope);
    refuse(req, WN_AUTH_SCOPE, challenge, text);
}

/* ---- judging ---- */
/* "Bearer TOKEN" in the only Authorization header. */
static bool bearer(const struct wn_req *req, const char **ret, size_t *ret_n, enum wn_auth_why *why, const char **text)
{
    const struct wn_header *h, *found = NULL;
    *why = WN_AUTH_BAD_FORM;
    for (size_t i = 0; (h = wn_exchange_header_at(req->x, i)) != NULL; i++) {
        if (h->name_len != 13 || memcmp(h->name, "authorization", 13) != 0)
            continue;
        if (found) {
            *text = "more than one authorization header";
            return false;
        }
        found = h;
    }
    if (!found) {
        *why = WN_AUTH_MISSING;
        *text = "this needs a token: send the header Authorization: Bearer TOKEN";
        return false;
    }
    const char *p = found->value, *end = p + found->value_len;
    if (found->value_len < 8 || strncasecmp(p, "Bearer ", 7) != 0) {
        *text = "the authorization header does not read Bearer TOKEN";
        return false;
    }
    for (p += 7; p < end && *p == ' ';)
        p++;
    *ret = p;
    *ret_n = (size_t)(end - p);
    return true;
}

static void keep(struct wn_req *req, struct wn_tokens *tokens, const struct wn_token *token)
{
    wn_auth_forget(req);
    req->tokens = tokens;
    req->token = token;
}

/* The path's {m}: NULL where the route has none. */
static const char *path_model(struct wn_req *req)
{
    unsigned n = 0;
    for (const char *p = strchr(req->route->pattern, '{'); p; p = strchr(p + 1, '{'), n++)
        if (strncmp(p, "{m}", 3) == 0)
            return req->param[n];
    return NULL;
}

/* Whether it is over; the log names each such token once. */
static bool expired(const struct wn_req *req, const struct wn_tokens *tokens, const struct wn_token *token)
{
    if (!wn_token_expired(token, wn_wall_ns() / 1000000000))
        return false;
    if (wn_tokens_first_time(tokens, token))
        wn_notice("token_expired", "token=%s end_s=%lld peer=%s", token->id, (long long)token->expires_s,
                  req->x ? wn_exchange_peer(req->x) : "-");
    return true;
}

/* A token of the scope that is in force; false: answered. */
static bool judge(struct wn_req *req)
{
    enum wn_scope scope = req->route->scope;
    if (!req->token) {
        refuse(req, WN_AUTH_UNKNOWN, ", error=\"invalid_token\"", "the token is not known here");
    } else if (expired(req, req->tokens, req->token)) {
        char text[120];
        snprintf(text, sizeof text, "token '%s' has expired", req->token->id);
        refuse(req, WN_AUTH_EXPIRED, ", error=\"invalid_token\", error_description=\"expired\"", text);
    } else if (!(req->token->scopes & 1u << scope)) {
        refuse_scope(req);
    } else {
        return true;
    }
    return false;
}

bool wn_auth_admit(struct wn_req *req)
{
    struct wn_tokens *tokens = tokens_now(&req->api->auth);
    enum wn_scope scope = req->route->scope;
    const char *secret = NULL, *text = NULL;
    size_t n = 0;
    enum wn_auth_why why;
    req->auth = tokens != NULL;
    if (!tokens)
        return true;
    bool there = bearer(req, &secret, &n, &why, &text);
    const struct wn_token *token = there ? wn_tokens_find(tokens, secret, n) : NULL;
    keep(req, tokens, token);
    if (scope == WN_SCOPE_none) { /* what names models still looks at the token */
        if (token && expired(req, tokens, token))
            req->token = NULL;
        return true;
    }
    if (!there) {
        refuse(req, why, why == WN_AUTH_MISSING ? "" : ", error=\"invalid_request\"", text);
        return false;
    }
    if (!judge(req))
        return false;
    const char *model = req->rpc ? NULL : path_model(req);
    if (!model || wn_req_may_use(req, model))
        return true;
    char refusal[360];
    snprintf(refusal, sizeof refusal, "token '%s' may not use model '%.128s'", token->id, model);
    refuse(req, WN_AUTH_MODEL, ", error=\"insufficient_scope\"", refusal);
    return false;
}

/* `first`, by which the request or its stream was admitted, as it is in force now: kept in `req`. 0, or a gRPC code. */
static int renew(struct wn_req *req, const struct wn_token *first, struct winnow_err *err)
{
    struct wn_tokens *tokens = tokens_now(&req->api->auth);
    const struct wn_token *token = tokens && first ? wn_tokens_again(tokens, first) : NULL;
    enum wn_scope scope = req->route->scope;
    bool good = token && !expired(req, tokens, token), able = scope == WN_SCOPE_none;
    able = able || (good && (token->scopes & 1u << scope));
    if (!tokens || (able && (good || !first))) {
        keep(req, tokens, token);
        req->auth = tokens != NULL;
        return 0;
    }
    wn_tokens_unref(tokens);
    note(req, good ? WN_AUTH_SCOPE : token ? WN_AUTH_EXPIRED : WN_AUTH_UNKNOWN);
    const char *id = first ? first->id : "";
    if (good)
        wn_fail(err, WINNOW_E_DENIED, "token '%s' lacks the scope %s", id, wn_scope_name(scope));
    else
        wn_fail(err, WINNOW_E_DENIED, "token '%s' is revoked or has expired", id);
    return good ? GRPC_PERMISSION_DENIED : GRPC_UNAUTHENTICATED;
}

int wn_req_renew(struct wn_req *req, struct winnow_err *err)
{
    return renew(req, req->token, err);
}

void wn_auth_forget(struct wn_req *req)
{
    wn_tokens_unref(req->tokens);
    req->tokens = NULL;
    req->token = NULL;
}

/* ---- models ---- */
bool wn_req_may_use(const struct wn_req *req, const char *model)
{
    const char *at = strrchr(model, '@'); /* NAME@VERSION */
    char name[256];
    if (!req->auth)
        return true;
    if (!req->token || !(req->token->scopes & ~(1u << WN_SCOPE_metrics)))
        return false;
    if (at && (size_t)(at - model) < sizeof name) {
        memcpy(name, model, (size_t)(at - model));
        name[at - model] = '\0';
        model = name;
    }
    return wn_token_may_use(req->token, model);
}

enum winnow_status wn_req_check_model(struct wn_req *req, const char *model, struct winnow_err *err)
{
    if (req->parent && renew(req, req->parent->token, err)) /* the stream may have been admitted long ago */
        return WINNOW_E_DENIED;
    if (wn_req_may_use(req, model))
        return WINNOW_OK;
    note(req, WN_AUTH_MODEL);
    return wn_fail(err, WINNOW_E_DENIED, "token '%s' may not use model '%.128s'", req->token ? req->token->id : "",
                   model);
}

bool wn_req_model_refused(struct wn_req *req, const char *model)
{
    struct winnow_err err = { 0 };
    if (wn_req_check_model(req, model, &err) == WINNOW_OK)
        return false;
    wn_reply_err(req, &err);
    return true;
}

const char *wn_req_sees_only(const struct wn_req *req)
{
    if (!req->auth || (req->token && !req->token->n_patterns))
        return NULL;
    return req->token ? req->token->id : "";
}

const char *wn_req_token_id(const struct wn_req *req)
{
    return req->token ? req->token->id : NULL;
}

/* ---- counting ---- */
void wn_auth_metrics(struct wn_buf *to, struct wn_auth *auth)
{
    struct wn_tokens *tokens = tokens_now(auth);
    if (!tokens)
        return;
    wn_buf_text(to, "# HELP winnow_auth_refused_total Requests refused for want of a token, a scope or a model.\n"
                    "# TYPE winnow_auth_refused_total counter\n");
    for (unsigned i = 0; i < WN_N_AUTH_WHY; i++)
        wn_buf_printf(to, "winnow_auth_refused_total{why=\"%s\"} %llu\n", why_names[i], atomic_load(&auth->refused[i]));
    wn_buf_printf(
        to, "# HELP winnow_auth_tokens Tokens in force.\n# TYPE winnow_auth_tokens gauge\nwinnow_auth_tokens %zu\n",
        wn_tokens_count(tokens));
    wn_tokens_unref(tokens);
}
