/* upload.c: bodies to disk: read only as fast as the disk takes them, hashed on the way, durable before the answer.
 *
 * DESIGN  The loop copies what arrives and hands it to the disk thread; bytes are given back to flow control when they
 *         are written, so an upload holds one window of memory. The bytes lie under STATE/files/upload-ID.part until
 * the jobs thread gives them their name and their row in one breath; what is left of a crash is removed at the next
 *         start. The request is held until the last task of its upload has run.
 * THREADS `ended`, `answered` belong to the loop; everything under "disk" to the disk thread, then to the jobs thread.
 */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "daemon/jobs/multipart.h"

enum kind { UPLOAD_RAW, UPLOAD_FORM, UPLOAD_ANCHOR };

struct upload {
    enum kind kind;
    struct wn_jobs *jobs;
    struct wn_req *req; /* held */
    struct wn_gen *gen; /* UPLOAD_ANCHOR: the live version, or NULL */
    bool ended;         /* the last task is on its way */
    struct wn_task last;
    struct wn_msg failed_msg;
    bool gone;

    /* disk */
    struct wn_multipart *form;
    struct wn_hasher *hasher;
    int fd;
    char *path; /* of the .part file; NULL: there is none */
    uint64_t max_file;
    enum { FIELD_OTHER, FIELD_PURPOSE, FIELD_FILE } field;
    bool has_file, complete, told;
    size_t purpose_n;
    char purpose[32];
    struct winnow_err err; /* status is not OK: failed */
    const char *param, *code;
    struct wn_file_row row;
    json_t *out;
};

struct chunk {
    struct wn_task task;
    struct wn_msg msg;
    struct wn_xid xid;
    struct upload *up;
    size_t n;
    char bytes[];
};

/* ---- the disk thread ---- */
static enum winnow_status fail_param(struct upload *up, enum winnow_status status, const char *param, const char *text)
{
    up->param = param;
    return wn_fail(&up->err, status, "%s", text);
}

/* Names end up in logs, listings and job.json; what a terminal or a path would obey stays out. */
static bool set_filename(struct upload *up, const char *name)
{
    size_t n = strlen(name);
    if (!n || n >= sizeof up->row.filename || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f || name[i] == '/' || name[i] == '\\')
            return false;
    json_t *utf8 = json_string(name); /* NULL: not UTF-8 */
    json_decref(utf8);
    memcpy(up->row.filename, name, n + 1);
    return utf8 != NULL;
}

static bool purpose_valid(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(s);
}

static enum winnow_status open_part(struct upload *up)
{
    up->hasher = wn_hasher_new();
    up->path = wn_asprintf("%s/upload-%s.part", up->jobs->files, up->row.id);
    if (!up->hasher || !up->path)
        return wn_fail(&up->err, WINNOW_E_NOMEM, "upload");
    up->fd = open(up->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (up->fd < 0)
        return wn_fail_errno(&up->err, errno, "storing the upload");
    return WINNOW_OK;
}

static enum winnow_status write_bytes(struct upload *up, const char *p, size_t n)
{
    if (up->fd < 0)
        WN_TRY(open_part(up));
    if ((uint64_t)up->row.bytes + n > up->max_file) {
        up->code = "file_too_large";
        return wn_fail(&up->err, WINNOW_E_TOO_LARGE, "the file is longer than %llu bytes (files.max_file)",
                       (unsigned long long)up->max_file);
    }
    struct wn_jobs_settings s;
    wn_jobs_settings_get(up->jobs, &s);
    long long kept = atomic_fetch_add(&up->jobs->count.file_bytes, (long long)n) + (long long)n;
    up->row.bytes += (int64_t)n; /* given back when the upload fails */
    if (kept > 0 && (unsigned long long)kept > s.max_bytes) {
        up->code = "quota_exceeded";
        return wn_fail(&up->err, WINNOW_E_OVERLOAD,
                       "uploads together would be over %llu bytes (files.max_bytes): delete some",
                       (unsigned long long)s.max_bytes);
    }
    if (!wn_hasher_add(up->hasher, p, n))
        return wn_fail(&up->err, WINNOW_E_NOMEM, "upload");
    while (n) {
        ssize_t put = write(up->fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return wn_fail_errno(&up->err, errno == EFBIG ? ENOSPC : errno, "storing the upload");
        p += put;
        n -= (size_t)put;
    }
    return WINNOW_OK;
}

static enum winnow_status part_begin(void *arg, const struct wn_part *part, struct winnow_err *err)
{
    struct upload *up = arg;
    up->field = FIELD_OTHER;
    if (strcmp(part->name, "purpose") == 0 && !part->filename) {
        up->field = FIELD_PURPOSE;
        up->purpose_n = 0;
        return WINNOW_OK;
    }
    if (strcmp(part->name, "file") != 0)
        return WINNOW_OK;
    if (up->has_file)
        return fail_param(up, WINNOW_E_MALFORMED, "file", "one file per upload");
    if (!part->filename || !set_filename(up, part->filename))
        return fail_param(up, WINNOW_E_MALFORMED, "file", "the file needs a name of at most 255 bytes, in UTF-8");
    up->field = FIELD_FILE;
    up->has_file = true;
    return WINNOW_OK;
}

static enum winnow_status part_data(void *arg, const void *bytes, size_t n, struct winnow_err *err)
{
    struct upload *up = arg;
    if (up->field == FIELD_FILE)
        return write_bytes(up, bytes, n);
    if (up->field != FIELD_PURPOSE)
        return WINNOW_OK;
    if (n >= sizeof up->purpose - up->purpose_n)
        return fail_param(up, WINNOW_E_MALFORMED, "purpose", "purpose is too long");
    memcpy(up->purpose + up->purpose_n, bytes, n);
    up->purpose_n += n;
    up->purpose[up->purpose_n] = '\0';
    return WINNOW_OK;
}

static enum winnow_status part_end(void *arg, struct winnow_err *err)
{
    return WINNOW_OK;
}

static void drop_part(struct upload *up)
{
    if (up->fd >= 0)
        close(up->fd);
    up->fd = -1;
    if (up->path)
        unlink(up->path);
    free(up->path);
    up->path = NULL;
    atomic_fetch_sub(&up->jobs->count.file_bytes, (long long)up->row.bytes);
    up->row.bytes = 0;
}

static void on_failed(struct wn_loop *loop, struct wn_msg *msg);

/* Tell the loop once, so that the client hears of it before it has sent all. */
static void failed(struct upload *up)
{
    drop_part(up);
    if (up->told)
        return;
    up->told = true;
    up->failed_msg.run = on_failed;
    wn_loop_post(up->req->loop, &up->failed_msg);
}

static void on_written(struct wn_loop *loop, struct wn_msg *msg)
{
    struct chunk *c = WN_CONTAINER_OF(msg, struct chunk, msg);
    struct wn_exchange *x = wn_loop_find(loop, c->xid);
    if (x)
        wn_exchange_consumed(x, c->n);
    free(c);
}

static void write_chunk(struct wn_task *task)
{
    struct chunk *c = WN_CONTAINER_OF(task, struct chunk, task);
    struct upload *up = c->up;
    if (up->err.status == WINNOW_OK) {
        struct winnow_err err;
        if (up->form ? wn_multipart_feed(up->form, c->bytes, c->n, &err) != WINNOW_OK
                     : write_bytes(up, c->bytes, c->n) != WINNOW_OK) {
            if (up->err.status == WINNOW_OK) /* the parser's own */
                up->err = err;
            failed(up);
        }
    }
    c->msg.run = on_written;
    wn_loop_post(c->xid.loop, &c->msg);
}

static enum winnow_status complete(struct upload *up)
{
    if (up->form) {
        WN_TRY(wn_multipart_finish(up->form, &up->err));
        memcpy(up->row.purpose, up->purpose, sizeof up->row.purpose);
        if (!up->has_file)
            return fail_param(up, WINNOW_E_MALFORMED, "file", "the form has no part 'file'");
        if (!purpose_valid(up->row.purpose))
            return fail_param(up, WINNOW_E_MALFORMED, "purpose", "the form needs a part 'purpose', such as fine-tune");
    }
    if (up->fd < 0) /* an empty file */
        WN_TRY(open_part(up));
    struct wn_sha256 sha;
    if (!wn_hasher_finish(up->hasher, &sha))
        return wn_fail(&up->err, WINNOW_E_NOMEM, "upload");
    wn_digest_hex(&sha, up->row.sha256);
    if (fsync(up->fd) < 0 || close(up->fd) < 0) {
        int e = errno;
        up->fd = -1;
        return wn_fail_errno(&up->err, e, "storing the upload");
    }
    up->fd = -1;
    return WINNOW_OK;
}

/* ---- the end ---- */
static void answer(struct wn_req *req)
{
    struct upload *up = req->state;
    if (up->err.status == WINNOW_OK)
        wn_reply_json(req, 200, WN_TAKE(up->out));
    else
        wn_reply_v1_error(req, &up->err, up->param, up->code);
}

static void finish(struct upload *up)
{
    struct wn_jobs *jobs = up->jobs;
    if (up->err.status != WINNOW_OK) {
        if (!up->told)
            drop_part(up);
        atomic_fetch_add(&jobs->count.uploads_failed, 1);
        wn_info("upload_failed", "file=%s name=%s error=%s", up->row.id, up->row.filename, up->err.msg);
    }
    atomic_fetch_sub(&jobs->count.uploads_now, 1);
    wn_req_post(up->req, answer);
}

static enum winnow_status commit(struct upload *up)
{
    struct wn_jobs *jobs = up->jobs;
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/%s", jobs->files, up->row.sha256);
    if (!to)
        return wn_fail(&up->err, WINNOW_E_NOMEM, "upload");
    if (rename(up->path, to) < 0) /* the same content under the same name: nothing is lost */
        return wn_fail_errno(&up->err, errno, "storing the upload");
    free(up->path);
    up->path = NULL;
    WN_TRY(wn_dir_sync(jobs->files, &up->err));
    up->row.created_s = wn_wall_ms() / 1000;
    enum winnow_status status = wn_db_file_add(jobs->db, &up->row, &up->err);
    if (status != WINNOW_OK) {
        int64_t uses = 1;
        if (wn_db_file_uses(jobs->db, up->row.sha256, &uses, NULL) == WINNOW_OK && !uses)
            unlink(to);
        return status;
    }
    atomic_fetch_add(&jobs->count.files, 1);
    atomic_fetch_add(&jobs->count.uploads, 1);
    atomic_fetch_add(&jobs->count.upload_bytes, (unsigned long long)up->row.bytes);
    wn_info("file_stored", "file=%s name=%s bytes=%lld sha256=%s", up->row.id, up->row.filename,
            (long long)up->row.bytes, up->row.sha256);
    up->out = wn_file_json(&up->row);
    return WINNOW_OK;
}

static void commit_file(struct wn_task *task)
{
    struct upload *up = WN_CONTAINER_OF(task, struct upload, last);
    (void)(commit(up) == WINNOW_OK); /* else it is in up->err */
    finish(up);
}

static void commit_anchor(struct wn_task *task)
{
    struct upload *up = WN_CONTAINER_OF(task, struct upload, last);
    size_t rows = 0;
    const char *name = up->req->param[0];
    if (wn_anchor_set(up->jobs, name, up->path, up->gen ? wn_gen_pipeline(up->gen) : NULL, &rows, &up->err) ==
        WINNOW_OK) {
        wn_notice("anchor_set", "model=%s rows=%zu by=upload", name, rows);
        up->out = json_pack("{s:s,s:I}", "model", name, "rows", (json_int_t)rows);
    }
    finish(up);
}

static void run_last(struct wn_task *task)
{
    struct upload *up = WN_CONTAINER_OF(task, struct upload, last);
    if (up->gone && up->err.status == WINNOW_OK)
        wn_fail(&up->err, WINNOW_E_CANCELLED, "the client left before the end");
    if (up->err.status == WINNOW_OK && complete(up) == WINNOW_OK) {
        bool anchor = up->kind == UPLOAD_ANCHOR;
        if (anchor) /* no part of the uploads that are kept */
            atomic_fetch_sub(&up->jobs->count.file_bytes, (long long)up->row.bytes);
        up->last.run = anchor ? commit_anchor : commit_file;
        up->row.bytes = anchor ? 0 : up->row.bytes;
        if (wn_tasks_add(anchor ? &up->jobs->chores : &up->jobs->main, &up->last))
            return;
        wn_fail(&up->err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
    }
    finish(up);
}

/* ---- the loop ---- */
static void end_upload(struct upload *up)
{
    if (up->ended)
        return;
    up->ended = true;
    up->last.run = run_last;
    if (!wn_tasks_add(&up->jobs->disk, &up->last)) {
        wn_fail(&up->err, WINNOW_E_UNAVAILABLE, "the server is on its way down");
        finish(up);
    }
}

static void on_failed(struct wn_loop *loop, struct wn_msg *msg)
{
    struct upload *up = WN_CONTAINER_OF(msg, struct upload, failed_msg);
    answer(up->req);
    end_upload(up);
}

static size_t on_data(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    struct upload *up = arg;
    struct chunk *c = up->ended ? NULL : malloc(sizeof *c + n);
    if (!c) {
        if (!up->ended)
            wn_exchange_abort(x);
        return n;
    }
    *c = (struct chunk){ .task.run = write_chunk, .xid = wn_exchange_id(x), .up = up, .n = n };
    memcpy(c->bytes, bytes, n);
    if (wn_tasks_add(&up->jobs->disk, &c->task))
        return 0;
    free(c);
    return n;
}

static void on_end(struct wn_exchange *x, void *arg)
{
    end_upload(arg);
}

static void on_gone(struct wn_req *req)
{
    struct upload *up = req->state;
    if (!up->ended)
        up->gone = true; /* the disk thread reads it after the queue's lock */
    end_upload(up);
}

static void upload_free(void *state)
{
    struct upload *up = state;
    wn_hasher_free(up->hasher);
    wn_gen_unref(up->gen);
    json_decref(up->out);
    free(up->form);
    free(up->path);
    free(up);
}

static enum winnow_status room_for_one(struct wn_jobs *jobs, const struct wn_jobs_settings *s, struct upload *up)
{
    long long files = atomic_load(&jobs->count.files) + atomic_load(&jobs->count.uploads_now);
    if (files < s->max_files)
        return WINNOW_OK;
    up->code = "quota_exceeded";
    return wn_fail(&up->err, WINNOW_E_OVERLOAD, "%lld uploads are kept already (files.max_files): delete some", files);
}

static enum winnow_status prepare(struct upload *up)
{
    struct wn_req *req = up->req;
    struct wn_jobs_settings s;
    wn_jobs_settings_get(up->jobs, &s);
    up->max_file = s.max_file;
    wn_new_id("file-", up->row.id);
    const char *owner = wn_req_token_id(req);
    snprintf(up->row.owner, sizeof up->row.owner, "%s", owner ? owner : "");
    if (up->kind == UPLOAD_ANCHOR) {
        snprintf(up->row.filename, sizeof up->row.filename, "anchor.npz");
        if (wn_serve_acquire(wn_api_serve(req->api), req->param[0], NULL, &up->gen, &up->err) == WINNOW_E_NOT_FOUND)
            return WINNOW_E_NOT_FOUND;
        up->err = (struct winnow_err){ 0 };
        return WINNOW_OK;
    }
    WN_TRY(room_for_one(up->jobs, &s, up));
    if (up->kind == UPLOAD_RAW) {
        const char *purpose;
        up->param = "purpose";
        WN_TRY(wn_req_query(req, "purpose", &purpose, &up->err));
        up->param = NULL;
        snprintf(up->row.purpose, sizeof up->row.purpose, "%s", purpose ? purpose : "fine-tune");
        if (!purpose_valid(up->row.purpose) || (purpose && strlen(purpose) >= sizeof up->row.purpose))
            return fail_param(up, WINNOW_E_MALFORMED, "purpose", "purpose is a word such as fine-tune");
        if (!set_filename(up, req->param[0]))
            return fail_param(up, WINNOW_E_MALFORMED, "filename",
                              "the file needs a name of at most 255 bytes, in UTF-8");
        return WINNOW_OK;
    }
    const struct wn_header *type = wn_exchange_header(req->x, "content-type");
    struct wn_part_sink sink = { part_begin, part_data, part_end, up };
    up->form = malloc(sizeof *up->form);
    if (!up->form)
        return wn_fail(&up->err, WINNOW_E_NOMEM, "upload");
    return wn_multipart_init(up->form, type ? type->value : "", type ? type->value_len : 0, &sink, &up->err);
}

static void start(struct wn_req *req, enum kind kind)
{
    struct wn_jobs *jobs = wn_req_jobs(req, true);
    if (!jobs)
        return;
    struct upload *up = calloc(1, sizeof *up);
    if (!up) {
        wn_reply_fail(req, WINNOW_E_NOMEM, "upload");
        return;
    }
    *up = (struct upload){ .kind = kind, .jobs = jobs, .req = req, .fd = -1 };
    req->state = up;
    req->free_state = upload_free;
    if (prepare(up) != WINNOW_OK) {
        drop_part(up);
        wn_reply_v1_error(req, &up->err, up->param, up->code);
        return;
    }
    atomic_fetch_add(&jobs->count.uploads_now, 1);
    req->on_gone = on_gone;
    wn_req_hold(req);
    struct wn_body_sink sink = { on_data, on_end, up };
    /* A form's parts have heads, and fields beside the file. */
    wn_exchange_stream(req->x, &sink, up->max_file + (kind == UPLOAD_FORM ? (uint64_t)1 << 20 : 0));
}

void wn_post_file(struct wn_req *req)
{
    start(req, UPLOAD_FORM);
}

void wn_put_file(struct wn_req *req)
{
    start(req, UPLOAD_RAW);
}

void wn_put_anchor(struct wn_req *req)
{
    start(req, UPLOAD_ANCHOR);
}
