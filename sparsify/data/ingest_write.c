/* ingest_write.c: from spooled rows to files: label names, duplicates, the split, rows.npz twice, ingest.json. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/yaml.h"
#include "pipeline/rows.h"
#include "sparsify/data/ingest_impl.h"
#include "sparsify/data/split.h"

#define MIN_ROWS       20 /* of all classes */
#define MIN_CLASS_ROWS 5
#define MAX_SHARE      0.95 /* of one class */
#define MIN_EVAL       100
#define MAX_LABEL      200 /* bytes */
#define MAX_LABELS     10000

#define BAD(in, ...) wn_fail((in)->err, WINNOW_E_MALFORMED, __VA_ARGS__)

/* ---- labels ---- */

static enum winnow_status settle_dirs(struct wn_ingest *in, bool validation)
{
    WN_CLEANUP(wn_freep) const char **path = calloc(in->dir.n + 1, sizeof *path);
    WN_CLEANUP(wn_freep) size_t *at = calloc(in->dir.n + 1, sizeof *at), *label = calloc(in->dir.n + 1, sizeof *label);
    WN_CLEANUP(wn_freep) enum wn_part *part = calloc(in->dir.n + 1, sizeof *part);
    if (!path || !at || !label || !part)
        return wn_fail(in->err, WINNOW_E_NOMEM, "folders");
    size_t n = 0;
    for (size_t i = 0; i < in->dir.n; i++)
        if (!in->dir.at[i]->settled && in->dir.at[i]->validation == validation) {
            path[n] = in->dir.at[i]->path;
            at[n++] = i;
        }
    wn_data_settle_dirs(path, n, label, part);
    for (size_t k = 0; k < n; k++) {
        struct wn_ingest_dir *d = in->dir.at[at[k]];
        d->label = label[k] == SIZE_MAX ? NULL : d->path + label[k];
        d->part = part[k];
        d->settled = true;
    }
    return WINNOW_OK;
}

/* "0" … "999999999", as numbers are written. */
static bool number(const char *s, unsigned *ret)
{
    size_t n = strspn(s, "0123456789");
    if (!n || n > 9 || s[n] || (n > 1 && *s == '0'))
        return false;
    *ret = (unsigned)strtoul(s, NULL, 10);
    return true;
}

static int by_label(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    unsigned i, k;
    if (number(x, &i) && number(y, &k))
        return i < k ? -1 : i > k;
    return strcmp(x, y);
}

static enum winnow_status labels_from_data(struct wn_ingest *in)
{
    const char **at = calloc(in->dir.n + 1, sizeof *at);
    if (!at)
        return wn_fail(in->err, WINNOW_E_NOMEM, "labels");
    in->labels.at = at;
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < in->dir.n; i++)
        if (in->dir.at[i]->label)
            at[n++] = in->dir.at[i]->label;
    qsort(at, n, sizeof *at, by_label);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(at[kept - 1], at[i]) != 0)
            at[kept++] = at[i];
    in->labels.n = (unsigned)kept;
    if (kept > MAX_LABELS)
        return BAD(in, "%zu labels: at most %d can be told apart", kept, MAX_LABELS);
    for (size_t i = 0; i < kept; i++)
        if (strlen(at[i]) > MAX_LABEL)
            return BAD(in, "label '%.40s…' is longer than %d bytes", at[i], MAX_LABEL);
    return WINNOW_OK;
}

/* The model's names; or numbers, where it has none. */
static enum winnow_status labels_from_model(struct wn_ingest *in)
{
    unsigned n = in->o->n_labels ? in->o->n_labels : in->o->n_classes;
    in->labels.at = calloc((size_t)n + 1, sizeof *in->labels.at);
    bool ok = in->labels.at;
    for (unsigned i = 0; ok && i < n; i++) {
        in->labels.at[i] = in->o->n_labels ? in->o->labels[i] : wn_arena_printf(&in->arena, "%u", i);
        ok = in->labels.at[i];
    }
    in->labels.n = n;
    return ok ? WINNOW_OK : wn_fail(in->err, WINNOW_E_NOMEM, "labels");
}

static enum winnow_status unknown_label(struct wn_ingest *in, const char *label)
{
    char some[100] = "";
    for (unsigned i = 0; i < in->labels.n; i++) {
        size_t used = strlen(some);
        if (used > 60) {
            snprintf(some + used, sizeof some - used, ", …");
            break;
        }
        snprintf(some + used, sizeof some - used, "%s%.30s", i ? ", " : "", in->labels.at[i]);
    }
    const char *near = wn_near_name(label, in->labels.at, in->labels.n);
    if (near)
        return BAD(in, "label '%.40s' is not one of the model's (%s), did you mean '%.40s'?", label, some, near);
    return BAD(in,
               "label '%.40s' is not one of the model's (%s); data with labels of its own wants new_labels "
               "(--new-labels)",
               label, some);
}

static enum winnow_status class_of_dirs(struct wn_ingest *in)
{
    struct wn_strmap map = { 0 };
    enum winnow_status status = WINNOW_OK;
    bool numbered = false; /* the model has names that are numbers */
    unsigned k;
    for (unsigned i = 0; i < in->labels.n && status == WINNOW_OK; i++) {
        numbered |= number(in->labels.at[i], &k);
        if (!wn_strmap_set(&map, in->labels.at[i], strlen(in->labels.at[i]), (void *)(uintptr_t)(i + 1)))
            status = wn_fail(in->err, WINNOW_E_NOMEM, "labels");
    }
    for (size_t i = 0; i < in->dir.n && status == WINNOW_OK; i++) {
        struct wn_ingest_dir *d = in->dir.at[i];
        void *at = d->label ? wn_strmap_get(&map, d->label, strlen(d->label)) : NULL;
        if (at)
            d->class = (uint32_t)((uintptr_t)at - 1);
        else if (d->number && !numbered && number(d->label, &k) && k < in->labels.n)
            d->class = k; /* an IDX number is the position of a name */
        else
            status = unknown_label(in, d->label ? d->label : "");
    }
    wn_strmap_done(&map);
    return status;
}

/* ---- rows ---- */

static bool for_eval(const struct wn_ingest *in, const struct wn_ingest_row *r)
{
    const struct wn_ingest_dir *d = in->dir.at[r->dir];
    return d->validation || (!in->o->validation && d->part == WN_PART_EVAL);
}

static int by_digest(const void *a, const void *b)
{
    const struct wn_ingest_row *x = a, *y = b;
    int c = memcmp(x->digest.b, y->digest.b, sizeof x->digest.b);
    if (c)
        return c;
    if (x->eval != y->eval)
        return x->eval ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Canonical order: by content. Of rows with the same content the first stays, one for evaluation before others, so that
 * no row is trained on and evaluated with. */
static void drop_duplicates(struct wn_ingest *in)
{
    for (size_t i = 0; i < in->row.n; i++)
        in->row.at[i].eval = for_eval(in, &in->row.at[i]);
    qsort(in->row.at, in->row.n, sizeof *in->row.at, by_digest);
    size_t kept = 0;
    for (size_t i = 0; i < in->row.n; i++) {
        if (kept && wn_digest_equal(&in->row.at[kept - 1].digest, &in->row.at[i].digest))
            in->duplicates++;
        else
            in->row.at[kept++] = in->row.at[i];
    }
    in->row.n = kept;
}

static enum winnow_status check_classes(struct wn_ingest *in)
{
    WN_CLEANUP(wn_freep) size_t *n = calloc((size_t)in->labels.n + 1, sizeof *n);
    if (!n)
        return wn_fail(in->err, WINNOW_E_NOMEM, "labels");
    for (size_t i = 0; i < in->row.n; i++)
        n[in->dir.at[in->row.at[i].dir]->class]++;
    unsigned classes = 0, most = 0;
    for (unsigned c = 0; c < in->labels.n; c++) {
        classes += n[c] > 0;
        most = n[c] > n[most] ? c : most;
    }
    if (classes < 2)
        return BAD(in, "all rows have the label '%.80s': at least two labels are needed", in->labels.at[most]);
    if (in->row.n < MIN_ROWS)
        return BAD(in, "%zu rows: at least %d are needed", in->row.n, MIN_ROWS);
    if ((double)n[most] > MAX_SHARE * (double)in->row.n)
        return BAD(in, "%zu of %zu rows have the label '%.80s': no label may have more than %.0f %%", n[most],
                   in->row.n, in->labels.at[most], MAX_SHARE * 100);
    for (unsigned c = 0; c < in->labels.n; c++)
        if (n[c] && n[c] < MIN_CLASS_ROWS)
            return BAD(in, "label '%.80s' has %zu rows: at least %d are needed", in->labels.at[c], n[c],
                       MIN_CLASS_ROWS);
    return WINNOW_OK;
}

static enum winnow_status split_rows(struct wn_ingest *in)
{
    size_t n = in->row.n, given = 0;
    WN_CLEANUP(wn_freep) uint64_t *key = calloc(n + 1, sizeof *key);
    WN_CLEANUP(wn_freep) uint32_t *label = calloc(n + 1, sizeof *label);
    WN_CLEANUP(wn_freep) uint8_t *eval = calloc(n + 1, 1);
    if (!key || !label || !eval)
        return wn_fail(in->err, WINNOW_E_NOMEM, "split");
    for (size_t i = 0; i < n; i++) {
        given += in->row.at[i].eval;
        key[i] = wn_ingest_key(&in->row.at[i].digest);
        label[i] = in->dir.at[in->row.at[i].dir]->class;
    }
    if (given == n)
        return BAD(in, "all rows are for evaluation, none is left to train on: IDX files called t10k… or "
                       "…test… are only judged by");
    if (given)
        return WINNOW_OK;
    WN_TRY(wn_split(key, label, n, in->labels.n, wn_split_size(n, in->o->eval_share, MIN_EVAL), in->o->seed, eval,
                    in->err));
    for (size_t i = 0; i < n; i++)
        in->row.at[i].eval = eval[i];
    return WINNOW_OK;
}

enum winnow_status wn_ingest_settle(struct wn_ingest *in)
{
    WN_TRY(settle_dirs(in, false));
    WN_TRY(settle_dirs(in, true));
    WN_TRY(in->o->new_labels ? labels_from_data(in) : labels_from_model(in));
    WN_TRY(class_of_dirs(in));
    drop_duplicates(in);
    WN_TRY(check_classes(in));
    return split_rows(in);
}

/* ---- files ---- */

static enum winnow_status read_row(struct wn_ingest *in, const struct wn_ingest_row *r, uint8_t *to)
{
    for (size_t done = 0; done < r->bytes;) {
        ssize_t n = pread(in->spool, to + done, r->bytes - done, (off_t)(r->at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return wn_fail_errno(in->err, n < 0 ? errno : EIO, "spool of rows");
        done += (size_t)n;
    }
    return WINNOW_OK;
}

static enum winnow_status add_row(struct wn_ingest *in, const struct wn_ingest_row *r, struct wn_rows_writer *w,
                                  uint8_t *buf, struct wn_hasher *h)
{
    const int64_t label = in->dir.at[r->dir]->class, id = (int64_t)wn_ingest_key(&r->digest), n = r->bytes;
    const struct wn_rows_item item[2] = { { buf, r->first }, { buf + r->first, r->bytes - r->first } };
    WN_TRY(read_row(in, r, buf));
    if (!wn_hasher_add(h, &label, sizeof label) || !wn_hasher_add(h, &id, sizeof id) ||
        !wn_hasher_add(h, &n, sizeof n) || !wn_hasher_add(h, buf, r->bytes))
        return wn_fail(in->err, WINNOW_E_NOMEM, "digest of the rows");
    return wn_rows_writer_add(w, item, label, id, in->err);
}

static void writer_freep(struct wn_rows_writer **w)
{
    wn_rows_writer_free(*w);
}

static enum winnow_status write_part(struct wn_ingest *in, bool eval, struct wn_hasher *h, size_t *ret_n)
{
    const struct wn_rows_input input[2] = { { .name = in->o->input_name, .bytes = true },
                                            { .name = in->o->pair_name, .bytes = true } };
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/rows.npz", in->o->out_dir, eval ? "eval" : "train");
    uint32_t largest = 1;
    for (size_t i = 0; i < in->row.n; i++)
        largest = WN_MAX(largest, in->row.at[i].bytes);
    WN_CLEANUP(wn_freep) uint8_t *buf = malloc(largest);
    if (!path || !buf)
        return wn_fail(in->err, WINNOW_E_NOMEM, "rows");
    WN_CLEANUP(writer_freep) struct wn_rows_writer *w = NULL;
    WN_TRY(wn_rows_writer_new(path, input, in->pairs ? 2 : 1, in->o->task, in->labels.at, in->labels.n, &w, in->err));
    for (size_t i = 0; i < in->row.n; i++)
        if (in->row.at[i].eval == eval)
            WN_TRY(add_row(in, &in->row.at[i], w, buf, h));
    *ret_n = wn_rows_writer_count(w);
    return wn_rows_writer_finish(w, in->err);
}

static void hasher_freep(struct wn_hasher **h)
{
    wn_hasher_free(*h);
}

static void json_freep(json_t **j)
{
    json_decref(*j);
}

static enum winnow_status write_summary(struct wn_ingest *in, const struct wn_ingest_result *r,
                                        const struct wn_sha256 *digest)
{
    char text[WN_DIGEST_TEXT];
    WN_CLEANUP(json_freep) json_t *labels = json_array();
    for (unsigned i = 0; labels && i < in->labels.n; i++)
        if (json_array_append_new(labels, json_string(in->labels.at[i])) != 0)
            return wn_fail(in->err, WINNOW_E_NOMEM, "ingest.json");
    WN_CLEANUP(json_freep)
    json_t *o =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:O, s:b, s:s, s:O}", "format", 1, "rows", (json_int_t)r->rows,
                  "train", (json_int_t)r->train, "eval", (json_int_t)r->eval, "rejected", (json_int_t)r->rejected,
                  "duplicates", (json_int_t)r->duplicates, "labels", labels, "new_labels", in->o->new_labels, "digest",
                  wn_digest_text(digest, text), "rejects", in->rejects);
    if (o && json_array_size(in->columns))
        json_object_set(o, "columns", in->columns);
    WN_CLEANUP(wn_freep) char *bytes = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/ingest.json", in->o->out_dir);
    if (!bytes || !path)
        return wn_fail(in->err, WINNOW_E_NOMEM, "ingest.json");
    return wn_file_write_durable(path, bytes, strlen(bytes), in->err);
}

/* What was taken from where, for people. */
static void describe_columns(const struct wn_ingest *in, struct wn_ingest_result *r)
{
    json_t *first = json_array_get(in->columns, 0), *texts = json_object_get(first, "text");
    const char *label = json_string_value(json_object_get(first, "label"));
    const char *pair = json_string_value(json_object_get(first, "text_pair"));
    char all[80] = "";
    for (size_t i = 0; i < json_array_size(texts); i++) {
        size_t used = strlen(all);
        const char *text = json_string_value(json_array_get(texts, i));
        snprintf(all + used, sizeof all - used, "%s'%.24s'", i ? " and " : "", text ? text : "");
    }
    if (label)
        snprintf(r->columns, sizeof r->columns, "text from %s%s%.24s%s, label from '%.24s'%s", all,
                 pair ? ", its pair from '" : "", pair ? pair : "", pair ? "'" : "", label,
                 json_is_true(json_object_get(first, "guessed")) ? " (guessed)" : "");
}

enum winnow_status wn_ingest_write(struct wn_ingest *in, struct wn_ingest_result *ret)
{
    struct wn_ingest_result r = { .rejected = in->rejected, .duplicates = in->duplicates };
    struct wn_sha256 digest;
    WN_CLEANUP(hasher_freep) struct wn_hasher *h = wn_hasher_new();
    if (!h)
        return wn_fail(in->err, WINNOW_E_NOMEM, "digest of the rows");
    WN_TRY(write_part(in, false, h, &r.train));
    WN_TRY(write_part(in, true, h, &r.eval));
    if (!wn_hasher_finish(h, &digest))
        return wn_fail(in->err, WINNOW_E_NOMEM, "digest of the rows");
    r.rows = r.train + r.eval;
    describe_columns(in, &r);
    WN_TRY(write_summary(in, &r, &digest));
    *ret = r;
    return WINNOW_OK;
}
