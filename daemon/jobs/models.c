/* models.c: /v1/models: what serves, in OpenAI's shape; and what an anchor holds. */
#include "daemon/jobs/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/rows.h"

static json_t *model_json(const struct wn_index_entry *e, bool with_version)
{
    char id[200];
    if (with_version)
        snprintf(id, sizeof id, "%s@%lld", e->name, (long long)e->version);
    else
        snprintf(id, sizeof id, "%s", e->name);
    return json_pack("{s:s,s:s,s:I,s:s,s:I,s:s,s:b,s:I,s:s}", "id", id, "object", "model", "created",
                     (json_int_t)(e->loaded_at_ms / 1000), "owned_by", "winnow", "version", (json_int_t)e->version,
                     "digest", e->digest, "live", (int)e->live, "generation", (json_int_t)e->generation, "state",
                     wn_model_state_name(e->state));
}

void wn_get_v1_models(struct wn_req *req)
{
    struct wn_index_entry *list = NULL;
    size_t n = 0;
    struct winnow_err err;
    if (wn_serve_index(wn_api_serve(req->api), NULL, &list, &n, &err) != WINNOW_OK) {
        wn_reply_v1_error(req, &err, NULL, NULL);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++)
        if (list[i].live && wn_req_may_use(req, list[i].name))
            json_array_append_new(data, model_json(&list[i], false));
    wn_index_free(list, n);
    wn_reply_json(req, 200, json_pack("{s:s,s:o}", "object", "list", "data", data));
}

void wn_get_v1_model(struct wn_req *req)
{
    char *name = wn_arena_strndup(&req->arena, req->param[0], strlen(req->param[0]));
    char *at = name ? strrchr(name, '@') : NULL;
    long long version = at ? strtoll(at + 1, NULL, 10) : 0;
    struct wn_index_entry *list = NULL;
    size_t n = 0;
    struct winnow_err err;
    if (at)
        *at = '\0';
    json_t *out = NULL;
    enum winnow_status status =
        name ? wn_serve_index(wn_api_serve(req->api), name, &list, &n, &err) : wn_fail(&err, WINNOW_E_NOMEM, "model");
    for (size_t i = 0; i < n && status == WINNOW_OK && !out; i++)
        if (list[i].version && (at ? list[i].version == version : list[i].live))
            out = model_json(&list[i], at != NULL);
    wn_index_free(list, n);
    if (status == WINNOW_OK && !out)
        wn_fail(&err, WINNOW_E_NOT_FOUND, "The model '%.128s' does not exist", req->param[0]);
    if (out)
        wn_reply_json(req, 200, out);
    else
        wn_reply_v1_error(req, &err, "model", "model_not_found");
}

/* ---- anchors ---- */
static void count_anchor(struct wn_call *call, const char *path)
{
    struct wn_rows *rows = NULL;
    if (wn_rows_open(path, 0, &rows, &call->err) != WINNOW_OK)
        return;
    json_t *labels = json_object();
    char number[24];
    for (size_t i = 0; i < wn_rows_count(rows); i++) {
        int64_t label = wn_rows_label(rows, i);
        const char *name =
            label >= 0 && label < wn_rows_n_labels(rows) ? wn_rows_label_name(rows, (unsigned)label) : NULL;
        snprintf(number, sizeof number, "%lld", (long long)label);
        name = name ? name : number;
        json_object_set_new(labels, name, json_integer(json_integer_value(json_object_get(labels, name)) + 1));
    }
    call->out = json_pack("{s:s,s:I,s:o}", "model", call->req->param[0], "rows", (json_int_t)wn_rows_count(rows),
                          "labels", labels);
    wn_rows_free(rows);
}

static void look_at_anchor(struct wn_task *task)
{
    struct wn_call *call = WN_CONTAINER_OF(task, struct wn_call, task);
    WN_CLEANUP(wn_freep) char *path = NULL;
    if (wn_anchor_find(call->jobs, call->req->param[0], &path, &call->err) == WINNOW_OK) {
        if (path)
            count_anchor(call, path);
        else
            wn_fail(&call->err, WINNOW_E_NOT_FOUND, "model '%.128s' has no anchor rows", call->req->param[0]);
    }
    wn_call_done(call);
}

static void to_chores(struct wn_call *call)
{
    call->task.run = look_at_anchor;
    if (wn_tasks_add(&call->jobs->chores, &call->task))
        return;
    wn_fail(&call->err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    wn_call_done(call);
}

void wn_get_anchor(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), to_chores);
}
