/* ingest.c: reads an upload item by item into a spool: PNGs, or texts (ingest_text.c).
 *
 * DESIGN  Two passes: labels, duplicates and the split need all rows, pictures do not fit in memory. So each is decoded
 *         once, encoded as PNG into a nameless file beside the result, and only its digest and place are kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pipeline/decode.h"
#include "sparsify/data/idx.h"
#include "sparsify/data/ingest_impl.h"

#define MAX_PICTURE_BYTES ((size_t)32 << 20)
#define MAX_SPOOL         ((uint64_t)2 << 30) /* what pipeline/rows.h reads */
#define MAX_DIRS          100000u

enum winnow_status wn_ingest_reject(struct wn_ingest *in, const char *item, const char *reason)
{
    return wn_ingest_reject_line(in, item, 0, reason);
}

enum winnow_status wn_ingest_reject_line(struct wn_ingest *in, const char *item, uint64_t line, const char *reason)
{
    in->rejected++;
    if (json_array_size(in->rejects) >= WN_INGEST_MAX_REJECTS)
        return WINNOW_OK;
    json_t *o = json_pack("{s:s%, s:s}", "item", item, strnlen(item, 200), "reason", reason);
    if (!o) /* a name cut within a character */
        o = json_pack("{s:s, s:s}", "item", "?", "reason", reason);
    if (o && line)
        json_object_set_new(o, "line", json_integer((json_int_t)line));
    return json_array_append_new(in->rejects, o) == 0 ? WINNOW_OK : wn_fail(in->err, WINNOW_E_NOMEM, "rejects");
}

enum winnow_status wn_ingest_dir_of(struct wn_ingest *in, const char *path, size_t path_len, uint32_t *ret)
{
    WN_CLEANUP(wn_freep) char *key = wn_asprintf("%c%.*s", in->validation ? 'v' : 'd', (int)path_len, path);
    if (!key)
        return wn_fail(in->err, WINNOW_E_NOMEM, "folders");
    void *known = wn_strmap_get(&in->dir_by_path, key, strlen(key));
    if (known) {
        *ret = (uint32_t)((uintptr_t)known - 1);
        return WINNOW_OK;
    }
    if (in->dir.n == MAX_DIRS)
        return wn_fail(in->err, WINNOW_E_TOO_LARGE, "more than %u folders", MAX_DIRS);
    struct wn_ingest_dir *d = wn_arena_alloc(&in->arena, sizeof *d);
    char *own = wn_arena_strndup(&in->arena, key, strlen(key));
    if (!d || !own || !wn_vec_push(&in->dir, d) ||
        !wn_strmap_set(&in->dir_by_path, own, strlen(own), (void *)(uintptr_t)in->dir.n))
        return wn_fail(in->err, WINNOW_E_NOMEM, "folders");
    *d = (struct wn_ingest_dir){ .path = own + 1, .validation = in->validation };
    *ret = (uint32_t)(in->dir.n - 1);
    return WINNOW_OK;
}

/* ---- one picture ---- */

enum winnow_status wn_ingest_spool(struct wn_ingest *in, const void *bytes, size_t n)
{
    if (n > MAX_SPOOL - in->spool_bytes)
        return wn_fail(in->err, WINNOW_E_TOO_LARGE, "the rows take more than 2 GiB");
    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(in->spool, (const char *)bytes + done, n - done, (off_t)(in->spool_bytes + done));
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return wn_fail_errno(in->err, w < 0 ? errno : ENOSPC, "spool of rows");
        done += (size_t)w;
    }
    in->spool_bytes += n;
    return WINNOW_OK;
}

static enum winnow_status digest_of(const struct wn_image *im, struct wn_sha256 *ret, struct winnow_err *err)
{
    const uint32_t head[3] = { im->w, im->h, im->channels };
    struct wn_hasher *h = wn_hasher_new();
    bool ok = h && wn_hasher_add(h, head, sizeof head) &&
              wn_hasher_add(h, im->px, (size_t)im->w * im->h * im->channels) && wn_hasher_finish(h, ret);
    wn_hasher_free(h);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "digest of a picture");
}

/* A photograph far larger than the model looks at is stored at twice the model's size: the shorter side of the result
 * is 2 * side. ret->px is malloc'ed; NULL when nothing is to be done. */
static enum winnow_status shrink(const struct wn_ingest *in, const struct wn_image *im, struct wn_image *ret)
{
    uint32_t shorter = WN_MIN(im->w, im->h), want = 2 * in->o->side;
    *ret = (struct wn_image){ 0 };
    if (!want || shorter <= 2 * want)
        return WINNOW_OK;
    uint32_t w = (uint32_t)((uint64_t)im->w * want / shorter), h = (uint32_t)((uint64_t)im->h * want / shorter);
    uint8_t *px = malloc((size_t)w * h * im->channels);
    if (!px)
        return wn_fail(in->err, WINNOW_E_NOMEM, "a picture");
    enum winnow_status status = wn_image_resize(im, 1, 1, w, h, px, in->err);
    if (status != WINNOW_OK)
        free(px);
    else
        *ret = (struct wn_image){ w, h, im->channels, px };
    return status;
}

enum winnow_status wn_ingest_add_row(struct wn_ingest *in, const struct wn_ingest_row *row)
{
    size_t max = in->o->max_rows ? in->o->max_rows : 1000000;
    if (in->row.n >= max)
        return wn_fail(in->err, WINNOW_E_TOO_LARGE, "more than %zu rows", max);
    if (!wn_vec_push(&in->row, *row))
        return wn_fail(in->err, WINNOW_E_NOMEM, "rows");
    if (in->o->progress && in->row.n % 64 == 0)
        in->o->progress(in->o->arg, in->row.n, in->rejected);
    return WINNOW_OK;
}

enum winnow_status wn_ingest_picture(struct wn_ingest *in, const struct wn_image *image, uint32_t dir)
{
    size_t n = 0;
    struct wn_ingest_row row = { .at = in->spool_bytes, .dir = dir, .order = (uint32_t)in->row.n };
    WN_CLEANUP(wn_image_done) struct wn_image small;
    WN_TRY(shrink(in, image, &small));
    const struct wn_image *im = small.px ? &small : image;
    WN_TRY(digest_of(im, &row.digest, in->err));
    WN_CLEANUP(wn_freep) void *png = NULL;
    WN_TRY(wn_image_encode_png(im, &png, &n, in->err));
    if (n > UINT32_MAX)
        return wn_fail(in->err, WINNOW_E_TOO_LARGE, "a picture of over 4 GiB");
    WN_TRY(wn_ingest_spool(in, png, n));
    row.bytes = row.first = (uint32_t)n;
    return wn_ingest_add_row(in, &row);
}

/* ---- items of the upload ---- */

static bool wants(void *arg, const char *name)
{
    return !wn_data_ignorable(name);
}

static enum winnow_status on_refused(void *arg, const char *name, const char *reason, struct winnow_err *err)
{
    return wn_data_ignorable(name) ? WINNOW_OK : wn_ingest_reject(arg, name, reason);
}

static enum winnow_status keep_idx(struct wn_ingest *in, const char *name, void *bytes, size_t n)
{
    struct wn_ingest_idx x = { wn_strdup(name), bytes, n, in->validation };
    if (in->idx.n == 64 || !x.name || !wn_vec_push(&in->idx, x)) {
        free(x.name);
        free(bytes);
        return in->idx.n == 64 ? wn_fail(in->err, WINNOW_E_TOO_LARGE, "more than 64 IDX files")
                               : wn_fail(in->err, WINNOW_E_NOMEM, "'%.80s'", name);
    }
    return WINNOW_OK;
}

static enum winnow_status on_gzip(struct wn_ingest *in, const char *name, const void *bytes, size_t n)
{
    void *out = NULL;
    size_t out_n = 0, max = WN_MIN((size_t)100 * n + ((size_t)1 << 20), (size_t)1 << 30);
    enum winnow_status status = wn_gunzip(bytes, n, name, max, &out, &out_n, in->err);
    if (status == WINNOW_E_MALFORMED)
        return wn_ingest_reject(in, name, "broken gzip");
    WN_TRY(status);
    if (wn_idx_looks_like(out, out_n))
        return keep_idx(in, name, out, out_n);
    free(out);
    return wn_ingest_reject(in, name, "packed within the upload, and not an IDX file");
}

static enum winnow_status on_picture(struct wn_ingest *in, const char *name, const void *bytes, size_t n)
{
    const char *slash = strrchr(name, '/');
    if (!slash)
        return wn_ingest_reject(in, name, "not in a folder that names its label");
    if (n > MAX_PICTURE_BYTES)
        return wn_ingest_reject(in, name, "a picture of more than 32 MiB");
    struct wn_image image = { 0 };
    struct winnow_err why = { 0 };
    enum winnow_status status = wn_image_decode(bytes, n, &in->o->image, &image, &why);
    if (status == WINNOW_E_NOMEM)
        return wn_fail(in->err, status, "picture '%.80s'", name);
    if (status != WINNOW_OK)
        return wn_ingest_reject(in, name, why.msg);
    uint32_t dir;
    status = wn_ingest_dir_of(in, name, (size_t)(slash - name), &dir);
    if (status == WINNOW_OK)
        status = wn_ingest_picture(in, &image, dir);
    wn_image_done(&image);
    return status;
}

static enum winnow_status on_file(void *arg, const char *name, const void *bytes, size_t n, struct winnow_err *err)
{
    struct wn_ingest *in = arg;
    const uint8_t *b = bytes;
    if (in->o->progress && in->seen++ % 64 == 0)
        in->o->progress(in->o->arg, in->row.n, in->rejected);
    if (n >= 2 && b[0] == 0x1f && b[1] == 0x8b)
        return on_gzip(in, name, bytes, n);
    if (wn_idx_looks_like(bytes, n)) {
        void *copy = malloc(n);
        if (!copy)
            return wn_fail(in->err, WINNOW_E_NOMEM, "'%.80s'", name);
        memcpy(copy, bytes, n);
        return keep_idx(in, name, copy, n);
    }
    return on_picture(in, name, bytes, n);
}

/* ---- the whole ---- */

static enum winnow_status open_spool(struct wn_ingest *in)
{
    in->spool = open(in->o->out_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (in->spool >= 0)
        return WINNOW_OK;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/spool-XXXXXX", in->o->out_dir);
    if (!path)
        return wn_fail(in->err, WINNOW_E_NOMEM, "spool");
    in->spool = mkostemp(path, O_CLOEXEC); /* file systems without nameless files */
    if (in->spool < 0)
        return wn_fail_errno(in->err, errno, "spool in '%s'", in->o->out_dir);
    unlink(path);
    return WINNOW_OK;
}

static enum winnow_status read_pictures(struct wn_ingest *in)
{
    const struct wn_source_sink sink = { wants, on_file, on_refused, in };
    WN_TRY(wn_source_walk(in->o->data, &in->o->source, &sink, in->err));
    if (in->o->validation) {
        in->validation = true;
        WN_TRY(wn_source_walk(in->o->validation, &in->o->source, &sink, in->err));
    }
    WN_TRY(wn_ingest_idx_pairs(in));
    if (!in->row.n && !in->rejected)
        return wn_fail(in->err, WINNOW_E_MALFORMED,
                       "no pictures: expected PNG or JPEG files in one folder per label, or IDX files");
    return WINNOW_OK;
}

static enum winnow_status read_texts(struct wn_ingest *in)
{
    WN_TRY(wn_ingest_texts(in, in->o->data, in->o->data_name));
    if (in->o->validation) {
        in->validation = true;
        WN_TRY(wn_ingest_texts(in, in->o->validation, in->o->validation_name));
    }
    if (!in->row.n && !in->rejected)
        return wn_fail(in->err, WINNOW_E_MALFORMED, "no rows: expected CSV with a header, or JSONL");
    return WINNOW_OK;
}

static enum winnow_status read_all(struct wn_ingest *in)
{
    WN_TRY(open_spool(in));
    WN_TRY(in->o->text ? read_texts(in) : read_pictures(in));
    size_t all = in->row.n + in->rejected;
    if (!in->row.n || in->rejected * 5 > all) {
        const char *item = "", *reason = "";
        json_int_t line = 0;
        json_t *first = json_array_get(in->rejects, 0);
        if (json_unpack(first, "{s:s, s:s, s?I}", "item", &item, "reason", &reason, "line", &line) != 0)
            reason = "";
        if (line)
            return wn_fail(in->err, WINNOW_E_MALFORMED, "%zu of %zu rows cannot be read; the first: %.60s:%lld: %.80s",
                           in->rejected, all, item, (long long)line, reason);
        return wn_fail(in->err, WINNOW_E_MALFORMED, "%zu of %zu items cannot be read; the first: '%.60s': %.80s",
                       in->rejected, all, item, reason);
    }
    return WINNOW_OK;
}

static void ingest_done(struct wn_ingest *in)
{
    for (size_t i = 0; i < in->idx.n; i++) {
        free(in->idx.at[i].name);
        free(in->idx.at[i].bytes);
    }
    wn_vec_done(&in->idx);
    wn_vec_done(&in->row);
    wn_vec_done(&in->dir);
    wn_strmap_done(&in->dir_by_path);
    json_decref(in->rejects);
    json_decref(in->columns);
    wn_closep(&in->spool);
    free(in->labels.at);
    wn_arena_done(&in->arena);
}

enum winnow_status wn_ingest(const struct wn_ingest_opts *opts, struct wn_ingest_result *ret, struct winnow_err *err)
{
    struct winnow_err local;
    WN_CLEANUP(ingest_done)
    struct wn_ingest in = {
        .o = opts, .err = err ? err : &local, .spool = -1, .rejects = json_array(), .columns = json_array()
    };
    wn_arena_init(&in.arena, (size_t)256 << 20);
    if (!in.rejects || !in.columns)
        return wn_fail(err, WINNOW_E_NOMEM, "ingest");
    WN_TRY(read_all(&in));
    WN_TRY(wn_ingest_settle(&in));
    return wn_ingest_write(&in, ret);
}
