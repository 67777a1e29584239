/* ft_api.c: jobs as their owners see them: listed, looked at, followed, cancelled, promoted by hand. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"

/* ---- looking ---- */
bool wn_call_may_see(const struct wn_call *call, const struct wn_job_row *row)
{
    return wn_req_may_use(call->req, row->model) && wn_req_may_use(call->req, row->target);
}

static bool get_row(struct wn_call *call, struct wn_job_row *row)
{
    if (wn_db_job_get(call->jobs->db, call->req->param[0], row, &call->err) != WINNOW_OK)
        return false;
    if (wn_call_may_see(call, row))
        return true;
    wn_fail(&call->err, WINNOW_E_NOT_FOUND, "Could not find fine tune: %.80s", call->req->param[0]);
    return false;
}

/* The job that is not done, as far as the caller may see it. */
static struct wn_ft *get_active(struct wn_call *call)
{
    struct wn_ft *ft = wn_ft_find(call->jobs, call->req->param[0]);
    return ft && wn_call_may_see(call, &ft->row) ? ft : NULL;
}

static void get(struct wn_call *call)
{
    struct wn_ft *ft = get_active(call);
    struct wn_job_row row = { 0 };
    if (ft)
        call->out = wn_job_json(call, &ft->row, ft);
    else if (get_row(call, &row))
        call->out = wn_job_json(call, &row, NULL);
    wn_job_row_done(&row);
    wn_call_done(call);
}

void wn_get_ft(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), get);
}

struct listing {
    struct wn_call *call;
    json_t *data;
    size_t limit;
    bool more;
};

static bool list_one(void *arg, struct wn_job_row *row)
{
    struct listing *l = arg;
    struct wn_ft *ft = wn_ft_find(l->call->jobs, row->id);
    if (!wn_call_may_see(l->call, row))
        return true;
    l->more = json_array_size(l->data) == l->limit;
    return !l->more && json_array_append_new(l->data, wn_job_json(l->call, ft ? &ft->row : row, ft)) == 0;
}

static void list(struct wn_call *call)
{
    struct listing l = { .call = call, .data = json_array() };
    if (wn_call_limit(call, 20, 100, &l.limit) && /* list_one() ends it at the limit, past what is not the caller's */
        wn_db_job_each(call->jobs->db, WN_JOBS_ALL, call->after, SIZE_MAX, list_one, &l, &call->err) == WINNOW_OK)
        call->out = json_pack("{s:s,s:O,s:b}", "object", "list", "data", l.data, "has_more", (int)l.more);
    json_decref(l.data);
    wn_call_done(call);
}

void wn_get_fts(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), list);
}

static void checkpoints(struct wn_call *call)
{
    struct wn_job_row row = { 0 };
    if (get_row(call, &row))
        call->out = json_pack("{s:s,s:[],s:b}", "object", "list", "data", "has_more", 0);
    wn_job_row_done(&row);
    wn_call_done(call);
}

void wn_get_ft_checkpoints(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), checkpoints);
}

/* ---- events ---- */
static bool after_event(struct wn_call *call, int64_t *ret)
{
    const char *digits = call->after && strncmp(call->after, "ftevent-", 8) == 0 ? call->after + 8 : NULL;
    char *end = NULL;
    *ret = digits ? strtoll(digits, &end, 10) : 0;
    if (!call->after || (digits && *digits >= '0' && *digits <= '9' && !*end))
        return true;
    call->param = "after";
    wn_fail(&call->err, WINNOW_E_MALFORMED, "after: '%.60s' is no id of an event", call->after);
    return false;
}

static void events(struct wn_call *call)
{
    struct wn_job_row row = { 0 };
    int64_t after;
    size_t limit;
    json_t *data = NULL;
    bool ascending = call->order && strcmp(call->order, "asc") == 0;
    if (get_row(call, &row) && after_event(call, &after) && wn_call_limit(call, 20, 1000, &limit) &&
        wn_db_event_list(call->jobs->db, row.id, after, ascending, limit + 1, &data, &call->err) == WINNOW_OK) {
        bool more = json_array_size(data) > limit;
        if (more)
            json_array_remove(data, limit);
        call->out = json_pack("{s:s,s:O,s:b}", "object", "list", "data", data, "has_more", (int)more);
    }
    json_decref(data);
    wn_job_row_done(&row);
    wn_call_done(call);
}

/* Server-sent events: what is there and what comes, until the job is done. [DONE] says that it is: a stream that ends
 * for another reason is cut. */
struct stream {
    struct wn_call call; /* first: freed with the request */
    int64_t after;
    bool started, done; /* done: the job is, and there are no more events to come */
    struct wn_timer *timer;
};

#define STREAM_WAIT_US ((uint64_t)500000)
#define STREAM_PIECE   200

static void stream_free(struct wn_call *call)
{
    wn_timer_free(WN_CONTAINER_OF(call, struct stream, call)->timer);
}

static void look(struct wn_task *task)
{
    struct stream *s = WN_CONTAINER_OF(task, struct stream, call.task);
    s->call.work(&s->call);
}

static void send_events(struct wn_req *req);

static void again(struct wn_req *req)
{
    struct stream *s = req->state;
    struct winnow_err err = { 0 };
    if (wn_req_renew(req, &err)) { /* cut, not ended: the job goes on */
        wn_exchange_abort(req->x);
        return;
    }
    wn_req_hold(req);
    if (!wn_tasks_add(&s->call.jobs->main, &s->call.task)) /* on the way down */
        wn_req_post(req, send_events);
}

static void on_timer(struct wn_timer *t, void *arg)
{
    struct wn_req *req = arg;
    struct stream *s = req->state;
    s->timer = NULL;
    wn_timer_free(t);
    again(req);
}

static void stream_gone(struct wn_req *req)
{
    struct stream *s = req->state;
    wn_timer_free(WN_TAKE(s->timer));
}

static bool write_event(struct wn_req *req, const json_t *event)
{
    struct wn_buf b = { 0 };
    char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS));
    wn_buf_printf(&b, "data: %s\n\n", text ? text : "{}");
    free(text);
    if (b.failed)
        wn_buf_done(&b);
    else
        wn_exchange_write(req->x, (struct wn_bytes){ b.at, b.n, free, b.at });
    return !b.failed;
}

static void send_events(struct wn_req *req)
{
    struct stream *s = req->state;
    if (!req->x)
        return;
    if (s->call.err.status != WINNOW_OK && !s->started) {
        wn_reply_v1_error(req, &s->call.err, s->call.param, s->call.code);
        return;
    }
    if (!s->started) {
        struct wn_header h[2] = { { "content-type", 12, "text/event-stream", 17 },
                                  { "cache-control", 13, "no-store", 8 } };
        s->started = true;
        req->on_gone = stream_gone;
        wn_exchange_allow_idle(req->x);
        wn_exchange_start(req->x, 200, h, 2);
    }
    if (s->call.err.status != WINNOW_OK) { /* the job is the caller's to see no more, or cannot be read */
        wn_exchange_abort(req->x);
        return;
    }
    size_t n = json_array_size(s->call.out);
    bool lost = false;
    for (size_t i = 0; i < n && req->x && !lost; i++)
        lost = !write_event(req, json_array_get(s->call.out, i));
    json_decref(WN_TAKE(s->call.out));
    if (!req->x)
        return;
    /* on the way down: once the client has taken what there is */
    bool must_go = atomic_load(&s->call.jobs->draining) && !n && !wn_exchange_queued(req->x);
    if (s->done && n < STREAM_PIECE && !lost) {
        wn_exchange_write(req->x, (struct wn_bytes){ .p = "data: [DONE]\n\n", .n = 14 });
        wn_exchange_finish(req->x, NULL, 0);
    } else if (lost || must_go) {
        wn_exchange_abort(req->x);
    } else if (!(s->timer = wn_timer_new(req->loop, n == STREAM_PIECE ? 1000 : STREAM_WAIT_US, on_timer, req))) {
        wn_exchange_abort(req->x);
    }
}

static void find_events(struct wn_call *call)
{
    struct stream *s = WN_CONTAINER_OF(call, struct stream, call);
    struct wn_job_row row = { 0 };
    if (call->done || after_event(call, &s->after)) {
        call->done = stream_free;
        call->task.run = look;
        if (get_row(call, &row) && wn_db_event_list(call->jobs->db, row.id, s->after, true, STREAM_PIECE, &call->out,
                                                    &call->err) == WINNOW_OK) {
            const json_t *last = json_array_get(call->out, json_array_size(call->out) - 1);
            const char *id = json_string_value(json_object_get(last, "id"));
            if (id)
                s->after = strtoll(id + strlen("ftevent-"), NULL, 10);
            s->done = row.stage == WN_STAGE_DONE;
        }
    }
    wn_job_row_done(&row);
    wn_req_post(call->req, send_events);
}

void wn_get_ft_events(struct wn_req *req)
{
    const char *stream;
    struct winnow_err err = { 0 };
    if (wn_req_query(req, "stream", &stream, &err) != WINNOW_OK)
        wn_reply_v1_error(req, &err, "stream", NULL);
    else if (stream && (strcmp(stream, "true") == 0 || strcmp(stream, "1") == 0))
        wn_call_start(req, sizeof(struct stream), find_events);
    else
        wn_call_start(req, sizeof(struct wn_call), events);
}

/* ---- cancelling ---- */
static void cancel_active(struct wn_call *call, struct wn_ft *ft)
{
    WN_CLEANUP(wn_freep) char *path = wn_ft_path(call->jobs, ft->row.id, "cancel");
    if (!path) {
        wn_fail(&call->err, WINNOW_E_NOMEM, "cancel");
        return;
    }
    if (ft->row.stage > WN_STAGE_GATE) {
        call->code = "too_late";
        wn_fail(&call->err, WINNOW_E_CONFLICT, "job %s is being promoted: roll the model back instead", ft->row.id);
        return;
    }
    if (wn_file_write_durable(path, "", 0, &call->err) != WINNOW_OK)
        return;
    atomic_store(&ft->cancel, true);
    if (!ft->busy)
        wn_ft_end(call->jobs, ft, WN_JOB_CANCELLED, NULL, NULL, NULL);
    else
        ft->row.status = WN_JOB_CANCELLED; /* ends when the gate comes back */
    call->out = wn_job_json(call, &ft->row, ft);
}

static void cancel(struct wn_call *call)
{
    struct wn_ft *ft = get_active(call);
    struct wn_job_row row = { 0 };
    if (ft && ft->row.stage < WN_STAGE_DONE) {
        cancel_active(call, ft);
    } else if (ft || get_row(call, &row)) {
        const struct wn_job_row *r = ft ? &ft->row : &row;
        if (r->status == WN_JOB_CANCELLED) {
            call->out = wn_job_json(call, r, NULL);
        } else {
            call->code = "already_finished";
            wn_fail(&call->err, WINNOW_E_CONFLICT, "job %s has %s already", r->id, wn_job_status_name(r->status));
        }
    }
    wn_job_row_done(&row);
    wn_call_done(call);
}

void wn_post_ft_cancel(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), cancel);
}

/* ---- promoting by hand ---- */
static void promote(struct wn_call *call)
{
    struct wn_job_row row = { 0 };
    struct wn_ft *ft = get_active(call);
    if (ft) {
        wn_fail(&call->err, WINNOW_E_CONFLICT, "job %s is not finished", ft->row.id);
    } else if (get_row(call, &row)) {
        WN_CLEANUP(wn_freep) char *candidate = wn_ft_path(call->jobs, row.id, "gate/candidate/model.onnx");
        if (row.promotion != WN_PROMOTION_WAITING && row.promotion != WN_PROMOTION_REFUSED)
            wn_fail(&call->err, WINNOW_E_CONFLICT, "job %s has no candidate that waits or was refused", row.id);
        else if (!row.version && (!candidate || access(candidate, R_OK) < 0))
            wn_fail(&call->err, WINNOW_E_CONFLICT, "the candidate of job %s is gone", row.id);
        else if (!(ft = wn_ft_add(call->jobs, &row)))
            wn_fail(&call->err, WINNOW_E_NOMEM, "job");
    }
    if (ft && call->err.status == WINNOW_OK) {
        json_object_set_new(ft->row.doc, "promote", json_true());
        ft->row.status = WN_JOB_RUNNING;
        ft->row.finished_s = 0;
        ft->row.promotion = WN_PROMOTION_NONE;
        wn_ft_note(call->jobs, ft->row.id, "info", "message", NULL, "A person promotes the candidate");
        wn_ft_enter(call->jobs, ft, WN_STAGE_PUBLISH);
        call->out = wn_job_json(call, &ft->row, ft);
    }
    wn_job_row_done(&row);
    wn_call_done(call);
}

void wn_post_ft_promote(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), promote);
}
