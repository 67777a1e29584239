/* rows.c: reads and writes ROWS.npz.
 *
 * DESIGN  Everything about the arrays is checked once when the file is opened (offsets ascend, labels are in range, all
 * have N rows), so that the accessors only index. */
#include "pipeline/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/npz.h"
#include "base/vec.h"

#define MAX_META   ((size_t)16 << 20)
#define MAX_LABELS 1000000u
#define COPY_PIECE (256u << 10)
static const char offsets_suffix[] = ".offsets";

struct column {
    struct wn_rows_input in;
    const unsigned char *data;
    const int64_t *offsets; /* raw items only: [n + 1] */
};

struct wn_rows {
    struct wn_npz npz;
    size_t n;
    const int64_t *label, *row_id;
    unsigned n_columns;
    struct column column[WN_ROWS_MAX_INPUTS];
    json_t *meta;
    json_t *labels; /* borrowed from meta; NULL = none */
    const char *task;
};

struct reader {
    struct wn_rows *rows;
    const char *file;
    struct winnow_err *err;
};

#define BAD(r, ...) wn_fail((r)->err, WINNOW_E_MALFORMED, __VA_ARGS__)

void wn_rows_free(struct wn_rows *rows)
{
    if (!rows)
        return;
    json_decref(rows->meta);
    wn_npz_done(&rows->npz);
    free(rows);
}

static void rows_freep(struct wn_rows **rows)
{
    wn_rows_free(*rows);
}

/* ---- checking a file ---- */

/* An i8 array of one axis. */
static enum winnow_status find_i8(const struct reader *r, const char *name, const struct wn_npy **ret)
{
    const struct wn_npy *a = wn_npz_find(&r->rows->npz, name);
    if (!a)
        return BAD(r, "%s: array '%s' (int64, one number per row) is missing; winnow-evaluate(1) says what is wanted",
                   r->file, name);
    if (a->type != WN_NPY_I8 || a->rank != 1)
        return BAD(r, "%s: array '%s' must be int64 with one axis", r->file, name);
    *ret = a;
    return WINNOW_OK;
}

static enum winnow_status read_labels(const struct reader *r, json_t *labels)
{
    size_t n = json_array_size(labels);
    if (labels && !json_is_array(labels))
        return BAD(r, "%s: meta: 'labels' is not a list", r->file);
    if (n > MAX_LABELS)
        return BAD(r, "%s: meta: more than %u labels", r->file, MAX_LABELS);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(labels, i)))
            return BAD(r, "%s: meta: label %zu is not a string", r->file, i);
    r->rows->labels = labels;
    return WINNOW_OK;
}

static enum winnow_status read_meta(const struct reader *r)
{
    const struct wn_npy *a = wn_npz_find(&r->rows->npz, "meta");
    json_error_t why;
    if (!a)
        return BAD(r,
                   "%s: array 'meta' is missing: a JSON object as uint8, {\"version\": 1, \"labels\": [...]}; "
                   "winnow-evaluate(1) shows how numpy makes it",
                   r->file);
    if (a->type != WN_NPY_U1 || a->rank != 1 || a->bytes > MAX_META)
        return BAD(r, "%s: array 'meta' must be uint8 with one axis, at most %zu bytes", r->file, MAX_META);
    r->rows->meta = json_loadb(a->data, a->bytes, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(r->rows->meta))
        return BAD(r, "%s: meta: %s", r->file, r->rows->meta ? "not an object" : why.text);
    json_t *version = json_object_get(r->rows->meta, "version"), *task = json_object_get(r->rows->meta, "task");
    if (!json_is_integer(version))
        return BAD(r, "%s: meta: 'version' is missing", r->file);
    if (json_integer_value(version) != 1)
        return wn_fail(r->err, WINNOW_E_UNSUPPORTED, "%s: format version %lld; this program reads 1", r->file,
                       (long long)json_integer_value(version));
    if (task && !json_is_string(task))
        return BAD(r, "%s: meta: 'task' is not a string", r->file);
    r->rows->task = task ? json_string_value(task) : "";
    return read_labels(r, json_object_get(r->rows->meta, "labels"));
}

static enum winnow_status read_label_column(const struct reader *r)
{
    struct wn_rows *rows = r->rows;
    const struct wn_npy *label = NULL, *id = NULL;
    WN_TRY(find_i8(r, "label", &label));
    WN_TRY(find_i8(r, "row_id", &id));
    rows->n = (size_t)label->shape[0];
    if (id->shape[0] != label->shape[0])
        return BAD(r, "%s: %lld labels, but %lld row ids", r->file, (long long)label->shape[0],
                   (long long)id->shape[0]);
    rows->label = label->data;
    rows->row_id = id->data;
    size_t names = json_array_size(rows->labels);
    for (size_t i = 0; i < rows->n; i++)
        if (rows->label[i] < 0 || (names && (uint64_t)rows->label[i] >= names))
            return BAD(r, "%s: row %zu has label %lld; there are %zu names", r->file, i, (long long)rows->label[i],
                       names);
    return WINNOW_OK;
}

static enum winnow_status read_offsets(const struct reader *r, struct column *c, const struct wn_npy *data,
                                       const struct wn_npy *offsets)
{
    if (data->type != WN_NPY_U1 || data->rank != 1)
        return BAD(r, "%s: array '%s' must be uint8 with one axis", r->file, c->in.name);
    if (offsets->type != WN_NPY_I8 || offsets->rank != 1 || (size_t)offsets->shape[0] != r->rows->n + 1)
        return BAD(r, "%s: array '%s%s' must be int64 with one number more than rows", r->file, c->in.name,
                   offsets_suffix);
    const int64_t *o = offsets->data;
    for (size_t i = 0; i < r->rows->n; i++)
        if (o[i + 1] < o[i])
            return BAD(r, "%s: offsets of '%s' do not ascend at row %zu", r->file, c->in.name, i);
    if (o[0] != 0 || (uint64_t)o[r->rows->n] != data->bytes)
        return BAD(r, "%s: offsets of '%s' do not cover its %zu bytes", r->file, c->in.name, data->bytes);
    c->in.bytes = true;
    c->offsets = o;
    return WINNOW_OK;
}

static enum winnow_status read_column(const struct reader *r, const char *name, const struct wn_npy *a)
{
    char offsets_name[WN_NPZ_MAX_NAME + sizeof offsets_suffix];
    if (r->rows->n_columns == WN_ROWS_MAX_INPUTS)
        return wn_fail(r->err, WINNOW_E_TOO_LARGE, "%s: more than %d inputs", r->file, WN_ROWS_MAX_INPUTS);
    struct column *c = &r->rows->column[r->rows->n_columns++];
    c->in.name = name;
    c->data = a->data;
    snprintf(offsets_name, sizeof offsets_name, "%s%s", name, offsets_suffix);
    const struct wn_npy *offsets = wn_npz_find(&r->rows->npz, offsets_name);
    if (offsets)
        return read_offsets(r, c, a, offsets);
    if (a->rank < 1 || (size_t)a->shape[0] != r->rows->n)
        return BAD(r, "%s: array '%s' has %lld rows, 'label' has %zu", r->file, name,
                   a->rank ? (long long)a->shape[0] : -1, r->rows->n);
    c->in.type = a->type;
    c->in.rank = a->rank - 1;
    memcpy(c->in.shape, a->shape + 1, c->in.rank * sizeof *a->shape);
    c->in.row_bytes = r->rows->n ? a->bytes / r->rows->n : 0;
    return WINNOW_OK;
}

static bool is_offsets(const struct reader *r, const char *name)
{
    size_t n = strlen(name), s = sizeof offsets_suffix - 1;
    if (n <= s || strcmp(name + n - s, offsets_suffix) != 0)
        return false;
    char base[WN_NPZ_MAX_NAME + 1];
    snprintf(base, sizeof base, "%.*s", (int)(n - s), name);
    return wn_npz_find(&r->rows->npz, base) != NULL;
}

static enum winnow_status read_columns(const struct reader *r)
{
    const struct wn_npz *npz = &r->rows->npz;
    for (size_t i = 0; i < npz->n; i++) {
        const char *name = npz->array[i].name;
        if (strcmp(name, "label") == 0 || strcmp(name, "row_id") == 0 || strcmp(name, "meta") == 0 ||
            is_offsets(r, name))
            continue;
        WN_TRY(read_column(r, name, &npz->array[i].npy));
    }
    return r->rows->n_columns ? WINNOW_OK : BAD(r, "%s: no array for an input", r->file);
}

static enum winnow_status check(struct wn_rows *rows, const char *file, struct wn_rows **ret, struct winnow_err *err)
{
    struct reader r = { .rows = rows, .file = file, .err = err };
    WN_TRY(read_meta(&r));
    WN_TRY(read_label_column(&r));
    WN_TRY(read_columns(&r));
    *ret = rows;
    return WINNOW_OK;
}

enum winnow_status wn_rows_open(const char *path, size_t max_bytes, struct wn_rows **ret, struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *rows = calloc(1, sizeof *rows);
    struct wn_npz_limits limits = { .max_bytes = max_bytes };
    if (!rows)
        return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", path);
    WN_TRY(wn_npz_read(path, &limits, &rows->npz, err));
    WN_TRY(check(rows, path, ret, err));
    (void)WN_TAKE(rows);
    return WINNOW_OK;
}

enum winnow_status wn_rows_parse(const void *bytes, size_t n, const char *name, size_t max_bytes, struct wn_rows **ret,
                                 struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *rows = calloc(1, sizeof *rows);
    struct wn_npz_limits limits = { .max_bytes = max_bytes };
    if (!rows)
        return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", name);
    WN_TRY(wn_npz_parse(bytes, n, name, &limits, &rows->npz, err));
    WN_TRY(check(rows, name, ret, err));
    (void)WN_TAKE(rows);
    return WINNOW_OK;
}

/* ---- reading rows ---- */
size_t wn_rows_count(const struct wn_rows *rows)
{
    return rows->n;
}

unsigned wn_rows_n_inputs(const struct wn_rows *rows)
{
    return rows->n_columns;
}

const struct wn_rows_input *wn_rows_input(const struct wn_rows *rows, unsigned i)
{
    return &rows->column[i].in;
}

int wn_rows_find_input(const struct wn_rows *rows, const char *name)
{
    for (unsigned i = 0; i < rows->n_columns; i++)
        if (strcmp(rows->column[i].in.name, name) == 0)
            return (int)i;
    return -1;
}

const void *wn_rows_item(const struct wn_rows *rows, unsigned input, size_t row, size_t *ret_n)
{
    const struct column *c = &rows->column[input];
    if (!c->in.bytes) {
        *ret_n = c->in.row_bytes;
        return c->data + row * c->in.row_bytes;
    }
    *ret_n = (size_t)(c->offsets[row + 1] - c->offsets[row]);
    return c->data + c->offsets[row];
}

int64_t wn_rows_label(const struct wn_rows *rows, size_t row)
{
    return rows->label[row];
}

int64_t wn_rows_id(const struct wn_rows *rows, size_t row)
{
    return rows->row_id[row];
}

unsigned wn_rows_n_labels(const struct wn_rows *rows)
{
    return (unsigned)json_array_size(rows->labels);
}

const char *wn_rows_label_name(const struct wn_rows *rows, unsigned i)
{
    return json_string_value(json_array_get(rows->labels, i));
}

const char *wn_rows_task(const struct wn_rows *rows)
{
    return rows->task;
}

/* ---- writing ---- */
struct spool {
    struct wn_rows_input in;
    char *name;
    FILE *file; /* nameless */
    WN_VEC(int64_t) offsets;
    size_t bytes;
};

struct wn_rows_writer {
    char *path;
    unsigned n_spools;
    struct spool spool[WN_ROWS_MAX_INPUTS];
    json_t *meta;
    size_t n_labels;
    WN_VEC(int64_t) label;
    WN_VEC(int64_t) row_id;
    bool broken; /* a part of a row was written */
};

void wn_rows_writer_free(struct wn_rows_writer *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < w->n_spools; i++) {
        free(w->spool[i].name);
        wn_fclosep(&w->spool[i].file);
        wn_vec_done(&w->spool[i].offsets);
    }
    wn_vec_done(&w->label);
    wn_vec_done(&w->row_id);
    json_decref(w->meta);
    free(w->path);
    free(w);
}

static void writer_freep(struct wn_rows_writer **w)
{
    wn_rows_writer_free(*w);
}

/* A file beside `path` whose name is gone at once. */
static enum winnow_status open_spool(struct spool *s, const char *path, unsigned index, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *temp = wn_asprintf("%s.spool-%ld-%u", path, (long)getpid(), index);
    if (!temp)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return wn_fail_errno(err, errno, "creating '%s'", temp);
    unlink(temp);
    s->file = fdopen(fd, "w+");
    if (!s->file) {
        close(fd);
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    }
    return WINNOW_OK;
}

static enum winnow_status add_spool(struct wn_rows_writer *w, const struct wn_rows_input *in, struct winnow_err *err)
{
    struct spool *s = &w->spool[w->n_spools++];
    s->in = *in;
    s->in.name = s->name = wn_strdup(in->name);
    if (!s->name)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", w->path);
    if (in->bytes && !wn_vec_push(&s->offsets, 0))
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", w->path);
    if (!in->bytes && (in->rank >= WN_NPY_MAX_RANK || !wn_npy_type_size(in->type) ||
                       !wn_shape_bytes(in->shape, in->rank, wn_npy_type_size(in->type), &s->in.row_bytes)))
        return wn_fail(err, WINNOW_E_MALFORMED, "writing '%s': type or shape of '%s'", w->path, in->name);
    return open_spool(s, w->path, w->n_spools, err);
}

static json_t *make_meta(const char *task, const char *const *labels, unsigned n_labels)
{
    json_t *names = json_array();
    for (unsigned i = 0; names && i < n_labels; i++)
        if (json_array_append_new(names, json_string(labels[i])) < 0) { /* also: not UTF-8 */
            json_decref(names);
            return NULL;
        }
    return json_pack("{s:i, s:s, s:o}", "version", 1, "task", task, "labels", names);
}

enum winnow_status wn_rows_writer_new(const char *path, const struct wn_rows_input *inputs, unsigned n_inputs,
                                      const char *task, const char *const *labels, unsigned n_labels,
                                      struct wn_rows_writer **ret, struct winnow_err *err)
{
    if (n_inputs < 1 || n_inputs > WN_ROWS_MAX_INPUTS || n_labels > MAX_LABELS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "writing '%s': %u inputs, %u labels", path, n_inputs, n_labels);
    WN_CLEANUP(writer_freep) struct wn_rows_writer *w = calloc(1, sizeof *w);
    if (w)
        w->path = wn_strdup(path);
    if (!w || !w->path)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    w->n_labels = n_labels;
    w->meta = make_meta(task ? task : "", labels, n_labels);
    if (!w->meta)
        return wn_fail(err, WINNOW_E_MALFORMED, "writing '%s': a label is not UTF-8", path);
    for (unsigned i = 0; i < n_inputs; i++)
        WN_TRY(add_spool(w, &inputs[i], err));
    *ret = WN_TAKE(w);
    return WINNOW_OK;
}

static enum winnow_status check_row(const struct wn_rows_writer *w, const struct wn_rows_item *items, int64_t label,
                                    struct winnow_err *err)
{
    if (label < 0 || (w->n_labels && (uint64_t)label >= w->n_labels))
        return wn_fail(err, WINNOW_E_MALFORMED, "label %lld; there are %zu names", (long long)label, w->n_labels);
    for (unsigned i = 0; i < w->n_spools; i++)
        if (!w->spool[i].in.bytes && items[i].n != w->spool[i].in.row_bytes)
            return wn_fail(err, WINNOW_E_MALFORMED, "'%s' has %zu bytes per row, not %zu", w->spool[i].name,
                           w->spool[i].in.row_bytes, items[i].n);
    return WINNOW_OK;
}

enum winnow_status wn_rows_writer_add(struct wn_rows_writer *w, const struct wn_rows_item *items, int64_t label,
                                      int64_t row_id, struct winnow_err *err)
{
    if (w->broken)
        return wn_fail(err, WINNOW_E_IO, "writing '%s' has failed before", w->path);
    WN_TRY(check_row(w, items, label, err));
    w->broken = true;
    for (unsigned i = 0; i < w->n_spools; i++) {
        struct spool *s = &w->spool[i];
        if (items[i].n && fwrite(items[i].p, 1, items[i].n, s->file) != items[i].n)
            return wn_fail_errno(err, errno, "writing '%s'", w->path);
        s->bytes += items[i].n;
        if (s->in.bytes && !wn_vec_push(&s->offsets, (int64_t)s->bytes))
            return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", w->path);
    }
    if (!wn_vec_push(&w->label, label) || !wn_vec_push(&w->row_id, row_id))
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", w->path);
    w->broken = false;
    return WINNOW_OK;
}

size_t wn_rows_writer_count(const struct wn_rows_writer *w)
{
    return w->row_id.n;
}

static enum winnow_status copy_spool(struct wn_npz_writer *npz, struct spool *s, const char *path,
                                     struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *piece = malloc(COPY_PIECE);
    if (!piece)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    if (fflush(s->file) != 0 || fseeko(s->file, 0, SEEK_SET) != 0)
        return wn_fail_errno(err, errno, "writing '%s'", path);
    for (size_t left = s->bytes; left;) {
        size_t got = fread(piece, 1, WN_MIN(left, (size_t)COPY_PIECE), s->file);
        if (!got)
            return wn_fail(err, WINNOW_E_IO, "writing '%s': its temporary data is gone", path);
        WN_TRY(wn_npz_writer_data(npz, piece, got, err));
        left -= got;
    }
    return WINNOW_OK;
}

static enum winnow_status write_i8(struct wn_npz_writer *npz, const char *name, int64_t *at, size_t n,
                                   struct winnow_err *err)
{
    struct wn_npy a = { WN_NPY_I8, 1, { (int64_t)n }, at, n * sizeof *at };
    return wn_npz_writer_add(npz, name, &a, err);
}

static enum winnow_status write_column(struct wn_rows_writer *w, struct wn_npz_writer *npz, struct spool *s,
                                       struct winnow_err *err)
{
    struct wn_npy a = { .type = WN_NPY_U1, .rank = 1, .shape = { (int64_t)s->bytes }, .bytes = s->bytes };
    if (!s->in.bytes) {
        a.type = s->in.type;
        a.rank = s->in.rank + 1;
        a.shape[0] = (int64_t)w->row_id.n;
        memcpy(a.shape + 1, s->in.shape, s->in.rank * sizeof *a.shape);
    }
    WN_TRY(wn_npz_writer_begin(npz, s->name, &a, err));
    WN_TRY(copy_spool(npz, s, w->path, err));
    if (!s->in.bytes)
        return WINNOW_OK;
    char name[WN_NPZ_MAX_NAME + sizeof offsets_suffix];
    snprintf(name, sizeof name, "%s%s", s->name, offsets_suffix);
    return write_i8(npz, name, s->offsets.at, s->offsets.n, err);
}

static enum winnow_status write_all(struct wn_rows_writer *w, struct wn_npz_writer *npz, struct winnow_err *err)
{
    for (unsigned i = 0; i < w->n_spools; i++)
        WN_TRY(write_column(w, npz, &w->spool[i], err));
    WN_TRY(write_i8(npz, "label", w->label.at, w->label.n, err));
    WN_TRY(write_i8(npz, "row_id", w->row_id.at, w->row_id.n, err));
    WN_CLEANUP(wn_freep) char *meta = json_dumps(w->meta, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!meta)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", w->path);
    struct wn_npy a = { WN_NPY_U1, 1, { (int64_t)strlen(meta) }, meta, strlen(meta) };
    WN_TRY(wn_npz_writer_add(npz, "meta", &a, err));
    return wn_npz_writer_finish(npz, err);
}

enum winnow_status wn_rows_writer_finish(struct wn_rows_writer *w, struct winnow_err *err)
{
    struct wn_npz_writer *npz = NULL;
    if (w->broken)
        return wn_fail(err, WINNOW_E_IO, "writing '%s' has failed before", w->path);
    WN_TRY(wn_npz_writer_new(w->path, &npz, err));
    enum winnow_status status = write_all(w, npz, err);
    wn_npz_writer_free(npz);
    return status;
}
