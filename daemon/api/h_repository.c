/* h_repository.c: the model repository: index, load, unload, versions, promote, rollback, over REST and gRPC.
 *
 * Loading takes as long as it takes: the registry's loader threads do it, and the request waits without a thread. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "daemon/api/internal.h"
#include "daemon/api/rpc.h"
#include "daemon/serve/pbtxt.h"

/** One administrative action under way. */
struct admin {
    struct wn_req *req;
    const char *model;
    bool tell_live;     /* answer with what is live now */
    const char *anchor; /* what the promotion does to the anchor; NULL: nothing */
    enum winnow_status status;
    struct winnow_err err;
};

/* ---- index ---- */
static bool want_ready(struct wn_req *req, bool *ret)
{
    json_t *body = wn_req_json(req);
    if (!body)
        return false;
    *ret = json_is_true(json_object_get(body, "ready"));
    json_decref(body);
    return true;
}

static json_t *index_json(const struct wn_index_entry *e)
{
    json_t *v = json_pack("{s:s}", "name", e->name);
    if (!v)
        return NULL;
    if (e->version)
        json_object_set_new(v, "version", json_sprintf("%lld", (long long)e->version));
    json_object_set_new(v, "state", json_string(wn_model_state_name(e->state)));
    if (e->reason && *e->reason)
        json_object_set_new(v, "reason", json_string(e->reason));
    if (e->standing)
        json_object_set_new(v, "standing", json_string(wn_standing_name(e->standing)));
    if (*e->made_by)
        json_object_set_new(v, "made_by", json_string(e->made_by));
    return v;
}

static json_t *stray_json(const struct wn_stray *s)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "name", s->model, "state", wn_model_state_name(WN_MODEL_UNAVAILABLE),
                     "reason", s->why, "standing", "misplaced", "path", s->path);
}

void wn_post_index(struct wn_req *req)
{
    struct winnow_err err = { 0 };
    struct wn_index_entry *e;
    struct wn_stray *stray = NULL;
    size_t n, n_strays = 0;
    bool ready;
    if (!want_ready(req, &ready))
        return;
    if (wn_serve_index(req->api->serve, NULL, &e, &n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    if (!ready && wn_serve_strays(req->api->serve, &stray, &n_strays, &err) != WINNOW_OK) {
        wn_index_free(e, n);
        wn_reply_err(req, &err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if ((!ready || e[i].state == WN_MODEL_READY) && wn_req_may_use(req, e[i].name))
            json_array_append_new(list, index_json(&e[i]));
    for (size_t i = 0; i < n_strays; i++)
        if (wn_req_may_use(req, stray[i].model))
            json_array_append_new(list, stray_json(&stray[i]));
    wn_strays_free(stray, n_strays);
    wn_index_free(e, n);
    wn_reply_json(req, 200, list);
}

static json_t *version_json(const struct wn_index_entry *e)
{
    json_t *v = index_json(e);
    if (!v)
        return NULL;
    json_object_set_new(v, "live", json_boolean(e->live));
    json_object_set_new(v, "made_here", json_boolean(e->made_here));
    if (e->digest && *e->digest)
        json_object_set_new(v, "digest", json_string(e->digest));
    if (e->live && e->live_by && *e->live_by)
        json_object_set_new(v, "live_by", json_string(e->live_by));
    if (e->generation) {
        json_object_set_new(v, "generation", json_integer((json_int_t)e->generation));
        json_object_set_new(v, "loaded_at_ms", json_integer((json_int_t)e->loaded_at_ms));
        json_object_set_new(v, "weight_bytes", json_integer((json_int_t)e->weight_bytes));
    }
    return v;
}

void wn_get_versions(struct wn_req *req)
{
    struct winnow_err err = { 0 };
    struct wn_index_entry *e;
    size_t n;
    if (wn_serve_index(req->api->serve, req->param[0], &e, &n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    if (!n) {
        wn_index_free(e, n);
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Request for unknown model: '%.100s' is not found", req->param[0]);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (e[i].version)
            json_array_append_new(list, version_json(&e[i]));
    wn_index_free(e, n);
    wn_reply_json(req, 200, json_pack("{s:s,s:o}", "name", req->param[0], "versions", list));
}

/* ---- actions ---- */
static void reply_live(struct wn_req *req, const char *model, const char *anchor)
{
    struct winnow_err err = { 0 };
    struct wn_gen *gen;
    if (wn_serve_acquire(req->api->serve, model, NULL, &gen, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    wn_req_made(req, gen);
    wn_reply_json(req, 200,
                  json_pack("{s:s,s:o,s:I,s:s,s:s*}", "name", model, "version",
                            json_sprintf("%lld", (long long)wn_gen_version(gen)), "generation",
                            (json_int_t)wn_gen_number(gen), "digest", wn_gen_digest(gen), "anchor", anchor));
    wn_gen_unref(gen);
}

/** Empty messages and bodies, as Triton answers. */
static void admin_over(struct wn_req *req)
{
    struct admin *a = req->state;
    if (!req->x)
        return;
    if (a->status != WINNOW_OK) {
        wn_reply_err(req, &a->err);
    } else if (req->rpc) {
        Inference__RepositoryModelLoadResponse empty = INFERENCE__REPOSITORY_MODEL_LOAD_RESPONSE__INIT;
        wn_rpc_reply(req, &empty.base);
    } else if (a->tell_live) {
        reply_live(req, a->model, a->anchor);
    } else {
        wn_reply_text(req, 200, "application/json", "");
    }
}

/** On a loader thread. */
static void admin_done(void *arg, enum winnow_status status, const struct winnow_err *err)
{
    struct admin *a = arg;
    a->status = status;
    if (status != WINNOW_OK && err)
        a->err = *err;
    a->err.status = status;
    wn_req_post(a->req, admin_over);
}

/** The request, held until admin_done(). NULL: answered. */
static struct admin *admin_new(struct wn_req *req, const char *model, const char *what)
{
    if (wn_req_model_refused(req, model))
        return NULL;
    struct admin *a = wn_arena_alloc(&req->arena, sizeof *a);
    const char *name = wn_arena_strndup(&req->arena, model, strlen(model));
    if (!a || !name) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return NULL;
    }
    *a = (struct admin){ .req = req, .model = name };
    req->state = a;
    wn_req_hold(req);
    wn_notice("repository_request", "action=%s model=%s peer=%s token=%s", what, name, wn_exchange_peer(req->x),
              req->token ? req->token->id : "-");
    return a;
}

/** Who asks, for the live file: "api 127.0.0.1", with the token's id before the address where there is one. */
static const char *asker(struct wn_req *req)
{
    const char *peer = wn_exchange_peer(req->x), *colon = strrchr(peer, ':');
    const char *id = wn_req_token_id(req);
    const char *by = wn_arena_printf(&req->arena, "api %s%s%.*s", id ? id : "", id ? " " : "",
                                     colon ? (int)(colon - peer) : (int)strlen(peer), peer);
    return by ? by : "api";
}

/** Files in a load are not offered: an upload has its own way, with a gate behind it. */
static bool refuse_file(struct wn_req *req, const char *key)
{
    bool file = strncmp(key, "file:", 5) == 0;
    wn_reply_fail(
        req, file ? WINNOW_E_UNSUPPORTED : WINNOW_E_MALFORMED,
        file ? "a model's files come from the repository: '%.80s' is not offered" : "unknown parameter '%.80s'", key);
    return false;
}

static bool read_config(struct wn_req *req, const char *text, struct wn_model_config *ret)
{
    struct winnow_err err = { 0 };
    if (wn_model_config_parse_json(text, strlen(text), ret, &err) == WINNOW_OK)
        return true;
    wn_reply_err(req, &err);
    return false;
}

/** A load's or unload's body: unknown parameters are an error.
 *  @param conf  set to what "config" says; NULL for an unload
 *  @param ret_given  whether it was there */
static bool check_params(struct wn_req *req, struct wn_model_config *conf, bool *ret_given)
{
    json_t *body = wn_req_json(req), *v;
    const char *key;
    bool ok = body != NULL;
    if (!body)
        return false;
    json_t *params = json_object_get(body, "parameters");
    json_object_foreach(params, key, v)
    {
        if (!conf && strcmp(key, "unload_dependents") == 0)
            continue;
        if (conf && strcmp(key, "config") == 0 && json_is_string(v))
            ok = *ret_given = read_config(req, json_string_value(v), conf);
        else
            ok = refuse_file(req, key);
        if (!ok)
            break;
    }
    json_decref(body);
    return ok;
}

void wn_post_load(struct wn_req *req)
{
    struct wn_model_config conf;
    bool given = false;
    struct admin *a = check_params(req, &conf, &given) ? admin_new(req, req->param[0], "load") : NULL;
    if (a)
        wn_serve_load_with(req->api->serve, a->model, given ? &conf : NULL, admin_done, a);
}

void wn_post_unload(struct wn_req *req)
{
    bool given;
    struct admin *a = check_params(req, NULL, &given) ? admin_new(req, req->param[0], "unload") : NULL;
    if (a)
        wn_serve_unload(req->api->serve, a->model, admin_done, a);
}

/* A version that waited is its job's candidate still: promoting it takes the rows that the job set aside into the
 * anchor (daemon/jobs/promotion.c). Whoever promotes is told; NULL: no such thing. */
static const char *anchor_note(struct wn_req *req, const char *model, int64_t version)
{
    struct wn_index_entry *e = NULL;
    size_t n = 0;
    const char *note = NULL;
    if (!req->api->jobs || wn_serve_index(req->api->serve, model, &e, &n, NULL) != WINNOW_OK)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (e[i].version == version && e[i].standing == WN_STANDING_WAITING)
            note = wn_arena_printf(&req->arena,
                                   "the rows that %s set aside join the anchor of %s: later candidates are compared on "
                                   "them",
                                   e[i].made_by, model);
    wn_index_free(e, n);
    return note;
}

void wn_post_promote(struct wn_req *req)
{
    json_t *body = wn_req_json(req);
    if (!body)
        return;
    bool same_io = json_is_true(json_object_get(body, "require_same_io"));
    json_decref(body);
    const char *by = asker(req);
    int64_t version = strtoll(req->param[1], NULL, 10);
    struct admin *a = admin_new(req, req->param[0], "promote");
    if (!a)
        return;
    a->tell_live = true;
    a->anchor = anchor_note(req, a->model, version);
    wn_serve_promote(req->api->serve, a->model, version, by, same_io, admin_done, a);
}

void wn_post_rollback(struct wn_req *req)
{
    const char *by = asker(req);
    struct admin *a = admin_new(req, req->param[0], "rollback");
    if (!a)
        return;
    a->tell_live = true;
    wn_serve_rollback(req->api->serve, a->model, by, admin_done, a);
}

/* ---- gRPC ---- */
typedef Inference__RepositoryIndexResponse__ModelIndex index_pb;

static bool fill_index(struct wn_arena *arena, const struct wn_index_entry *e, index_pb *m)
{
    inference__repository_index_response__model_index__init(m);
    m->name = e->name;
    m->version = e->version ? wn_arena_printf(arena, "%lld", (long long)e->version) : (char *)(uintptr_t) "";
    m->state = (char *)(uintptr_t)wn_model_state_name(e->state);
    m->reason = e->reason ? e->reason : (char *)(uintptr_t) "";
    return m->version != NULL;
}

void wn_rpc_index(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__RepositoryIndexRequest *m = wn_rpc_read(req, &inference__repository_index_request__descriptor);
    struct winnow_err err = { 0 };
    struct wn_index_entry *e;
    size_t n;
    if (!m)
        return;
    if (wn_serve_index(req->api->serve, NULL, &e, &n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return;
    }
    Inference__RepositoryIndexResponse r = INFERENCE__REPOSITORY_INDEX_RESPONSE__INIT;
    index_pb *list = wn_arena_calloc(&req->arena, n, sizeof *list);
    r.models = wn_arena_calloc(&req->arena, n, sizeof *r.models);
    bool ok = list && r.models;
    for (size_t i = 0; ok && i < n; i++)
        if ((!m->ready || e[i].state == WN_MODEL_READY) && wn_req_may_use(req, e[i].name)) {
            ok = fill_index(&req->arena, &e[i], &list[r.n_models]);
            r.models[r.n_models] = &list[r.n_models];
            r.n_models++;
        }
    if (ok)
        wn_rpc_reply(req, &r.base);
    else
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    wn_index_free(e, n);
}

/** The model of a load or unload. KServe's messages have its name where Triton's have the repository's, which here has
 *  none. NULL: answered. */
static const char *named(struct wn_req *req, const char *repository, const char *model)
{
    if (*repository && *model)
        wn_reply_fail(req, WINNOW_E_UNSUPPORTED, "'repository_name' specification is not supported");
    return *repository && *model ? NULL : *model ? model : repository;
}

void wn_rpc_load(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__RepositoryModelLoadRequest *m = wn_rpc_read(req, &inference__repository_model_load_request__descriptor);
    if (!m)
        return;
    struct wn_model_config conf;
    bool given = false;
    const char *name = named(req, m->repository_name, m->model_name);
    for (size_t i = 0; name && i < m->n_parameters; i++) {
        const Inference__ModelRepositoryParameter *v = m->parameters[i]->value;
        bool text =
            v && v->parameter_choice_case == INFERENCE__MODEL_REPOSITORY_PARAMETER__PARAMETER_CHOICE_STRING_PARAM;
        if (!(strcmp(m->parameters[i]->key, "config") == 0 && text ? (given = read_config(req, v->string_param, &conf))
                                                                   : refuse_file(req, m->parameters[i]->key)))
            return;
    }
    struct admin *a = name ? admin_new(req, name, "load") : NULL;
    if (a)
        wn_serve_load_with(req->api->serve, a->model, given ? &conf : NULL, admin_done, a);
}

void wn_rpc_unload(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__RepositoryModelUnloadRequest *m =
        wn_rpc_read(req, &inference__repository_model_unload_request__descriptor);
    if (!m)
        return;
    const char *name = named(req, m->repository_name, m->model_name);
    struct admin *a = name ? admin_new(req, name, "unload") : NULL;
    if (a)
        wn_serve_unload(req->api->serve, a->model, admin_done, a);
}
