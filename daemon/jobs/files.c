/* files.c: what was uploaded: listed, looked at, read back, deleted. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

#define MAX_LIST 1000
#define PIECE    ((size_t)128 << 10)

bool wn_file_find(struct wn_call *call, const char *id, struct wn_file_row *ret)
{
    const char *only = wn_req_sees_only(call->req);
    if (wn_db_file_get(call->jobs->db, id, ret, &call->err) != WINNOW_OK)
        return false;
    if (!only || (*only && strcmp(only, ret->owner) == 0))
        return true;
    wn_fail(&call->err, WINNOW_E_NOT_FOUND, "No such File object: %.80s", id);
    return false;
}

static void list(struct wn_call *call)
{
    struct wn_file_filter filter = { call->purpose, wn_req_sees_only(call->req) };
    size_t limit, n = 0;
    WN_CLEANUP(wn_freep) struct wn_file_row *rows = NULL;
    if (wn_call_limit(call, MAX_LIST, MAX_LIST, &limit) && !(rows = calloc(limit + 1, sizeof *rows)))
        wn_fail(&call->err, WINNOW_E_NOMEM, "list of files");
    if (rows && wn_db_file_list(call->jobs->db, &filter, call->after, call->order && strcmp(call->order, "asc") == 0,
                                limit + 1, rows, &n, &call->err) == WINNOW_OK) {
        bool more = n > limit;
        n = WN_MIN(n, limit);
        json_t *data = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(data, wn_file_json(&rows[i]));
        call->out = json_pack("{s:s,s:o,s:b,s:s?,s:s?}", "object", "list", "data", data, "has_more", more, "first_id",
                              n ? rows[0].id : NULL, "last_id", n ? rows[n - 1].id : NULL);
    }
    wn_call_done(call);
}

void wn_get_files(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), list);
}

static void get(struct wn_call *call)
{
    struct wn_file_row row;
    if (wn_file_find(call, call->req->param[0], &row))
        call->out = wn_file_json(&row);
    wn_call_done(call);
}

void wn_get_file(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), get);
}

/* ---- deleting ---- */
bool wn_file_pinned(const struct wn_jobs *jobs, const char *id)
{
    for (size_t i = 0; i < jobs->pins.n; i++)
        if (strcmp(jobs->pins.at[i].id, id) == 0)
            return true;
    return false;
}

enum winnow_status wn_file_remove(struct wn_jobs *jobs, const char *id, struct winnow_err *err)
{
    struct wn_file_row row;
    int64_t uses;
    WN_TRY(wn_db_file_get(jobs->db, id, &row, err));
    WN_TRY(wn_db_file_delete(jobs->db, id, err));
    WN_TRY(wn_db_file_uses(jobs->db, row.sha256, &uses, err));
    atomic_fetch_sub(&jobs->count.files, 1);
    atomic_fetch_sub(&jobs->count.file_bytes, (long long)row.bytes);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", jobs->files, row.sha256);
    if (!uses && path && unlink(path) < 0 && errno != ENOENT)
        return wn_fail_errno(err, errno, "removing '%s'", path); /* an orphan now: removed at the next start */
    wn_info("file_deleted", "file=%s name=%s", row.id, row.filename);
    return WINNOW_OK;
}

static void delete (struct wn_call *call)
{
    const char *id = call->req->param[0];
    char user[WN_ID_ROOM];
    struct wn_file_row row;
    if (wn_file_find(call, id, &row) && wn_db_file_user(call->jobs->db, id, user, &call->err) == WINNOW_OK) {
        if (user[0] || wn_file_pinned(call->jobs, id)) {
            call->code = "file_in_use";
            wn_fail(&call->err, WINNOW_E_CONFLICT, "file %.60s is in use by job %s: cancel it first", id,
                    user[0] ? user : "that is being made");
        } else if (wn_file_remove(call->jobs, id, &call->err) == WINNOW_OK) {
            call->out = json_pack("{s:s,s:s,s:b}", "id", id, "object", "file", "deleted", 1);
        }
    }
    wn_call_done(call);
}

void wn_delete_file(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct wn_call), delete);
}

/* ---- content ---- */

/* A file on its way out: read by the disk thread in pieces, each sent when the peer took most of what was sent. */
struct download {
    struct wn_call call; /* first: freed with the request */
    struct wn_task task;
    int fd;
    bool reading, started, ended;
    char *piece;
    ssize_t n;
};

static void read_piece(struct wn_task *task);

static void next_piece(struct wn_req *req)
{
    struct download *d = req->state;
    if (!req->x || d->reading || d->ended || wn_exchange_queued(req->x) > WN_QUEUE_HIGH)
        return;
    d->reading = true;
    d->task.run = read_piece;
    wn_req_hold(req);
    if (!wn_tasks_add(&d->call.jobs->disk, &d->task)) {
        d->n = -1;
        wn_req_post(req, next_piece); /* ends the hold; `reading` stays: nothing more comes */
        wn_exchange_abort(req->x);
    }
}

static void send_piece(struct wn_req *req)
{
    struct download *d = req->state;
    d->reading = false;
    if (!req->x) {
        free(WN_TAKE(d->piece));
        return;
    }
    if (d->n > 0) {
        wn_exchange_write(req->x, (struct wn_bytes){ d->piece, (size_t)d->n, free, d->piece });
        d->piece = NULL;
        next_piece(req);
        return;
    }
    free(WN_TAKE(d->piece));
    d->ended = true;
    if (d->n == 0)
        wn_exchange_finish(req->x, NULL, 0);
    else
        wn_exchange_abort(req->x);
}

static void read_piece(struct wn_task *task)
{
    struct download *d = WN_CONTAINER_OF(task, struct download, task);
    d->piece = malloc(PIECE);
    do
        d->n = d->piece ? read(d->fd, d->piece, PIECE) : -1;
    while (d->n < 0 && d->piece && errno == EINTR);
    wn_req_post(d->call.req, send_piece);
}

static void begin(struct wn_req *req)
{
    struct download *d = req->state;
    if (!req->x)
        return;
    if (d->call.err.status != WINNOW_OK) {
        wn_reply_v1_error(req, &d->call.err, NULL, NULL);
        return;
    }
    struct wn_header h = { "content-type", 12, "application/octet-stream", 24 };
    req->on_drain = next_piece;
    wn_exchange_start(req->x, 200, &h, 1);
    next_piece(req);
}

static void download_free(struct wn_call *call)
{
    struct download *d = WN_CONTAINER_OF(call, struct download, call);
    if (d->fd >= 0)
        close(d->fd);
    free(d->piece);
}

static void find(struct wn_call *call)
{
    struct download *d = WN_CONTAINER_OF(call, struct download, call);
    struct wn_file_row row;
    d->fd = -1;
    call->done = download_free;
    if (wn_file_find(call, call->req->param[0], &row)) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", call->jobs->files, row.sha256);
        d->fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
        if (d->fd < 0)
            wn_fail_errno(&call->err, path ? errno : ENOMEM, "upload '%s'", row.id);
    }
    wn_req_post(call->req, begin);
}

void wn_get_content(struct wn_req *req)
{
    wn_call_start(req, sizeof(struct download), find);
}
