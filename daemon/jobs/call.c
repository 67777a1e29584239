/* call.c: requests on their way over the jobs thread. */
#include "daemon/jobs/internal.h"

#include <stdlib.h>
#include <string.h>

struct wn_jobs *wn_req_jobs(struct wn_req *req, bool taking)
{
    struct wn_jobs *jobs = wn_api_jobs(req->api);
    struct winnow_err err;
    if (!jobs)
        wn_fail(&err, WINNOW_E_UNAVAILABLE, "uploads and jobs are not enabled");
    else if (taking && atomic_load(&jobs->draining))
        wn_fail(&err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    else
        return jobs;
    wn_reply_v1_error(req, &err, NULL, NULL);
    return NULL;
}

static void call_free(void *state)
{
    struct wn_call *call = state;
    if (call->done)
        call->done(call);
    json_decref(call->in);
    json_decref(call->out);
    free(call);
}

static void run(struct wn_task *task)
{
    struct wn_call *call = WN_CONTAINER_OF(task, struct wn_call, task);
    call->work(call);
}

static void answer(struct wn_req *req)
{
    struct wn_call *call = req->state;
    if (call->err.status != WINNOW_OK)
        wn_reply_v1_error(req, &call->err, call->param, call->code);
    else
        wn_reply_json(req, 200, WN_TAKE(call->out));
}

static bool read_query(struct wn_call *call)
{
    const struct {
        const char *key, **to;
    } keys[] = {
        { "limit", &call->limit }, { "after", &call->after }, { "order", &call->order }, { "purpose", &call->purpose }
    };
    for (size_t i = 0; i < WN_COUNT(keys); i++) {
        call->param = keys[i].key;
        if (wn_req_query(call->req, keys[i].key, keys[i].to, &call->err) != WINNOW_OK)
            return false;
    }
    call->param = NULL;
    if (call->after && !*call->after)
        call->after = NULL;
    return true;
}

void wn_call_start(struct wn_req *req, size_t size, void (*work)(struct wn_call *call))
{
    struct wn_jobs *jobs = wn_req_jobs(req, false);
    if (!jobs)
        return;
    json_t *in = NULL;
    if (req->route->body == WN_BODY_SMALL && !(in = wn_req_json(req)))
        return;
    struct wn_call *call = calloc(1, size);
    if (!call) {
        json_decref(in);
        wn_reply_fail(req, WINNOW_E_NOMEM, "request");
        return;
    }
    *call = (struct wn_call){ .task.run = run, .jobs = jobs, .req = req, .work = work, .in = in };
    req->state = call;
    req->free_state = call_free;
    if (!read_query(call)) {
        wn_reply_v1_error(req, &call->err, call->param, NULL);
        return;
    }
    wn_req_hold(req);
    if (!wn_tasks_add(&jobs->main, &call->task)) {
        wn_fail(&call->err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
        wn_call_done(call);
    }
}

bool wn_call_limit(struct wn_call *call, size_t fallback, size_t max, size_t *ret)
{
    const char *text = call->limit;
    char *end = NULL;
    unsigned long long n = text ? strtoull(text, &end, 10) : fallback;
    *ret = (size_t)WN_MIN(n, (unsigned long long)max);
    if (!text || (*text >= '0' && *text <= '9' && !*end && n))
        return true;
    call->param = "limit";
    wn_fail(&call->err, WINNOW_E_MALFORMED, "limit '%.20s' is no number from 1 to %zu", text, max);
    return false;
}

void wn_call_done(struct wn_call *call)
{
    wn_req_post(call->req, answer);
}
