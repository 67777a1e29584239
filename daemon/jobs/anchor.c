/* anchor.c: the rows that every candidate of a name is held to.
 *
 * DESIGN  An anchor comes from a person; rows of promoted jobs are added. Rows are told apart by id, so merging twice
 * is merging once. A full anchor stays balanced: while it is over its cap, the largest class gives up the newest of the
 * rows it had: those that jobs brought take each other's place, and a person's rows stay. Rows that a candidate was
 * trained on say nothing about it: they are left out of its comparison. */
#include "daemon/jobs/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/npz.h"
#include "base/tree.h"
#include "pipeline/rows.h"

static void rows_freep(struct wn_rows **p)
{
    wn_rows_free(*p);
}
static void writer_freep(struct wn_rows_writer **p)
{
    wn_rows_writer_free(*p);
}

static bool exists(const char *path)
{
    return access(path, R_OK) == 0;
}

/* ---- where ---- */
static enum winnow_status take_in(struct wn_jobs *jobs, const char *from, const char *name, const char *path,
                                  struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", jobs->anchors, name);
    WN_CLEANUP(wn_freep) char *tmp = wn_asprintf("%s/%s/anchor.tmp", jobs->anchors, name);
    WN_CLEANUP(wn_freep) char *real = realpath(from, NULL);
    if (!folder || !tmp || !real)
        return wn_fail_errno(err, errno, "anchor '%s'", from);
    WN_TRY(wn_tree_make(folder, err));
    unlink(tmp);
    WN_TRY(wn_tree_copy_file(real, tmp, 0, err));
    struct wn_rows *rows = NULL;
    enum winnow_status status = wn_rows_open(tmp, 0, &rows, err);
    wn_rows_free(rows);
    if (status == WINNOW_OK && rename(tmp, path) < 0)
        status = wn_fail_errno(err, errno, "anchor '%s'", path);
    if (status != WINNOW_OK) {
        unlink(tmp);
        return wn_fail_at(err, status, "anchor '%s'", from);
    }
    wn_notice("anchor_set", "model=%s from=%s", name, from);
    return wn_dir_sync(folder, err);
}

static enum winnow_status find_locked(struct wn_jobs *jobs, const char *name, char **ret, struct winnow_err *err)
{
    *ret = NULL;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/anchor.npz", jobs->anchors, name);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "anchor");
    for (size_t i = 0; i < jobs->repositories.n && !exists(path); i++) {
        WN_CLEANUP(wn_freep) char *from = wn_asprintf("%s/%s/anchor.npz", jobs->repositories.at[i], name);
        if (from && exists(from))
            WN_TRY(take_in(jobs, from, name, path, err));
    }
    if (exists(path))
        *ret = WN_TAKE(path);
    return WINNOW_OK;
}

enum winnow_status wn_anchor_find(struct wn_jobs *jobs, const char *name, char **ret, struct winnow_err *err)
{
    if (strchr(name, '/') || name[0] == '.')
        return wn_fail(err, WINNOW_E_MALFORMED, "'%.128s' is no name of a model", name);
    pthread_mutex_lock(&jobs->anchor_lock);
    enum winnow_status status = find_locked(jobs, name, ret, err);
    pthread_mutex_unlock(&jobs->anchor_lock);
    return status;
}

/* ---- sets of ids ---- */
struct ids {
    int64_t *at; /* sorted */
    size_t n;
};

static void ids_done(struct ids *s)
{
    free(s->at);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool ids_has(const struct ids *s, int64_t id)
{
    return s->n && bsearch(&id, s->at, s->n, sizeof id, by_value);
}

/* Ids of the rows of a file. */
static enum winnow_status ids_of(const struct wn_rows *rows, struct ids *ret, struct winnow_err *err)
{
    size_t n = wn_rows_count(rows);
    int64_t *at = malloc((n + 1) * sizeof *at);
    if (!at)
        return wn_fail(err, WINNOW_E_NOMEM, "row ids");
    for (size_t i = 0; i < n; i++)
        at[i] = wn_rows_id(rows, i);
    qsort(at, n, sizeof *at, by_value);
    *ret = (struct ids){ at, n };
    return WINNOW_OK;
}

/* ---- writing ---- */
static enum winnow_status writer_like(const struct wn_rows *rows, const char *to, struct wn_rows_writer **ret,
                                      struct winnow_err *err)
{
    struct wn_rows_input in[WN_ROWS_MAX_INPUTS];
    unsigned n = wn_rows_n_inputs(rows), n_labels = wn_rows_n_labels(rows);
    WN_CLEANUP(wn_freep) const char **label = calloc(n_labels + 1, sizeof *label);
    if (!label)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    for (unsigned i = 0; i < n && i < WN_COUNT(in); i++)
        in[i] = *wn_rows_input(rows, i);
    for (unsigned i = 0; i < n_labels; i++)
        label[i] = wn_rows_label_name(rows, i);
    return wn_rows_writer_new(to, in, n, wn_rows_task(rows), label, n_labels, ret, err);
}

static enum winnow_status add_row(struct wn_rows_writer *w, const struct wn_rows *rows, size_t i,
                                  struct winnow_err *err)
{
    struct wn_rows_item item[WN_ROWS_MAX_INPUTS];
    for (unsigned k = 0; k < wn_rows_n_inputs(rows); k++)
        item[k].p = wn_rows_item(rows, k, i, &item[k].n);
    return wn_rows_writer_add(w, item, wn_rows_label(rows, i), wn_rows_id(rows, i), err);
}

enum winnow_status wn_anchor_filter(const char *path, const char *trained, const char *to, size_t *ret_left_out,
                                    struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *rows = NULL;
    WN_CLEANUP(rows_freep) struct wn_rows *train = NULL;
    WN_CLEANUP(writer_freep) struct wn_rows_writer *w = NULL;
    WN_CLEANUP(ids_done) struct ids seen = { 0 };
    WN_TRY(wn_rows_open(path, 0, &rows, err));
    WN_TRY(wn_rows_open(trained, 0, &train, err));
    WN_TRY(ids_of(train, &seen, err));
    WN_TRY(writer_like(rows, to, &w, err));
    *ret_left_out = 0;
    for (size_t i = 0; i < wn_rows_count(rows); i++) {
        if (ids_has(&seen, wn_rows_id(rows, i)))
            ++*ret_left_out;
        else
            WN_TRY(add_row(w, rows, i, err));
    }
    return wn_rows_writer_finish(w, err);
}

/* ---- merging ---- */
static enum winnow_status same_kind(const struct wn_rows *a, const struct wn_rows *b, struct winnow_err *err)
{
    bool same = wn_rows_n_inputs(a) == wn_rows_n_inputs(b) && wn_rows_n_labels(a) == wn_rows_n_labels(b);
    for (unsigned i = 0; same && i < wn_rows_n_inputs(a); i++) {
        const struct wn_rows_input *x = wn_rows_input(a, i), *y = wn_rows_input(b, i);
        same =
            strcmp(x->name, y->name) == 0 && x->bytes == y->bytes && x->row_bytes == y->row_bytes && x->type == y->type;
    }
    for (unsigned i = 0; same && i < wn_rows_n_labels(a); i++)
        same = strcmp(wn_rows_label_name(a, i), wn_rows_label_name(b, i)) == 0;
    return same ? WINNOW_OK
                : wn_fail(err, WINNOW_E_CONFLICT, "the anchor's inputs or labels are not those of the new rows");
}

static size_t class_of(int64_t label, size_t classes)
{
    return label >= 0 && (size_t)label < classes ? (size_t)label : 0;
}

/* Which of `n` rows to leave out so that `max` stay: n_old that are there, oldest first, then the new ones. While there
 * are too many, the largest class gives up its newest old row, and a new one only when it has no old row left. */
static bool choose(const int64_t *label, size_t n_old, size_t n, size_t max, char *ret_out)
{
    size_t classes = 1;
    for (size_t i = 0; i < n; i++)
        if (label[i] >= 0 && label[i] < 65536)
            classes = WN_MAX(classes, (size_t)label[i] + 1);
    WN_CLEANUP(wn_freep) size_t *count = calloc(classes, sizeof *count);
    WN_CLEANUP(wn_freep) size_t *next = calloc(classes, sizeof *next); /* candidates looked at */
    if (!count || !next)
        return false;
    for (size_t i = 0; i < n; i++)
        count[class_of(label[i], classes)]++;
    for (size_t left = n; left > max; left--) {
        size_t big = 0, i;
        for (size_t k = 1; k < classes; k++)
            if (count[k] > count[big])
                big = k;
        do { /* old rows from the newest on, then new rows from the last on */
            size_t turn = next[big]++;
            i = turn < n_old ? n_old - 1 - turn : n - 1 - (turn - n_old);
        } while (class_of(label[i], classes) != big);
        ret_out[i] = 1;
        count[big]--;
    }
    return true;
}

/* The rows of both, those of `more` that are new last. `old` may be NULL. */
static enum winnow_status merge(const struct wn_rows *old, const struct wn_rows *more, size_t max, const char *to,
                                size_t *ret_rows, struct winnow_err *err)
{
    WN_CLEANUP(writer_freep) struct wn_rows_writer *w = NULL;
    WN_CLEANUP(ids_done) struct ids have = { 0 };
    size_t n_old = old ? wn_rows_count(old) : 0, n = n_old, n_more = wn_rows_count(more);
    if (old)
        WN_TRY(ids_of(old, &have, err));
    WN_CLEANUP(wn_freep) size_t *from = malloc((n_more + 1) * sizeof *from);
    WN_CLEANUP(wn_freep) int64_t *label = malloc((n_old + n_more + 1) * sizeof *label);
    WN_CLEANUP(wn_freep) char *out = calloc(n_old + n_more + 1, 1);
    if (!from || !label || !out)
        return wn_fail(err, WINNOW_E_NOMEM, "anchor");
    for (size_t i = 0; i < n_old; i++)
        label[i] = wn_rows_label(old, i);
    for (size_t i = 0; i < n_more; i++)
        if (!ids_has(&have, wn_rows_id(more, i))) {
            from[n - n_old] = i;
            label[n++] = wn_rows_label(more, i);
        }
    if (!choose(label, n_old, n, max, out))
        return wn_fail(err, WINNOW_E_NOMEM, "anchor");
    WN_TRY(writer_like(more, to, &w, err));
    for (size_t i = 0; i < n; i++)
        if (!out[i])
            WN_TRY(add_row(w, i < n_old ? old : more, i < n_old ? i : from[i - n_old], err));
    *ret_rows = wn_rows_writer_count(w);
    return wn_rows_writer_finish(w, err);
}

static enum winnow_status merge_locked(struct wn_jobs *jobs, const char *name, const char *path, size_t max,
                                       size_t *ret_rows, struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *old = NULL;
    WN_CLEANUP(rows_freep) struct wn_rows *more = NULL;
    WN_CLEANUP(wn_freep) char *anchor = NULL;
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", jobs->anchors, name);
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/%s/anchor.npz", jobs->anchors, name);
    if (!folder || !to)
        return wn_fail(err, WINNOW_E_NOMEM, "anchor");
    WN_TRY(wn_rows_open(path, 0, &more, err));
    WN_TRY(find_locked(jobs, name, &anchor, err));
    if (anchor) {
        WN_TRY(wn_rows_open(anchor, 0, &old, err));
        WN_TRY(same_kind(old, more, err));
    }
    WN_TRY(wn_tree_make(folder, err));
    return merge(old, more, max, to, ret_rows, err);
}

enum winnow_status wn_anchor_merge(struct wn_jobs *jobs, const char *name, const char *rows, size_t max,
                                   size_t *ret_rows, struct winnow_err *err)
{
    pthread_mutex_lock(&jobs->anchor_lock);
    enum winnow_status status = merge_locked(jobs, name, rows, max, ret_rows, err);
    pthread_mutex_unlock(&jobs->anchor_lock);
    return status;
}

/* ---- a person's ---- */
static enum winnow_status check_labels(const struct wn_rows *rows, const struct wn_pipeline *p, struct winnow_err *err)
{
    unsigned n = p ? wn_pipeline_n_labels(p) : 0;
    if (!wn_rows_count(rows))
        return wn_fail(err, WINNOW_E_MALFORMED, "the anchor has no rows");
    if (!n)
        return WINNOW_OK;
    if (n != wn_rows_n_labels(rows))
        return wn_fail(err, WINNOW_E_MALFORMED, "the rows have %u labels, the model has %u", wn_rows_n_labels(rows), n);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(wn_pipeline_label(p, i), wn_rows_label_name(rows, i)) != 0)
            return wn_fail(err, WINNOW_E_MALFORMED, "label %u is '%.60s' in the rows and '%.60s' in the model", i,
                           wn_rows_label_name(rows, i), wn_pipeline_label(p, i));
    return WINNOW_OK;
}

enum winnow_status wn_anchor_set(struct wn_jobs *jobs, const char *name, const char *part,
                                 const struct wn_pipeline *pipeline, size_t *ret_rows, struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *rows = NULL;
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", jobs->anchors, name);
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/%s/anchor.npz", jobs->anchors, name);
    if (!folder || !to || !part)
        return wn_fail(err, WINNOW_E_NOMEM, "anchor");
    enum winnow_status status = wn_rows_open(part, 0, &rows, err);
    if (status != WINNOW_OK) {
        char text[sizeof err->msg];
        const char *at = strstr(err->msg, ".part"); /* the name of our own file says nothing */
        memcpy(text, err->msg, sizeof text);
        if (at)
            return wn_fail(err, status, "anchor%s", text + (at - err->msg) + 5);
        return status;
    }
    WN_TRY(check_labels(rows, pipeline, err));
    *ret_rows = wn_rows_count(rows);
    WN_TRY(wn_tree_make(folder, err));
    pthread_mutex_lock(&jobs->anchor_lock);
    status = rename(part, to) < 0 ? wn_fail_errno(err, errno, "anchor '%s'", to) : wn_dir_sync(folder, err);
    pthread_mutex_unlock(&jobs->anchor_lock);
    return status;
}
