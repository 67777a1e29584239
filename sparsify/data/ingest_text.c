/* ingest_text.c: rows of text: which files of an upload are texts, CSV, and what every row must have.
 *
 * DESIGN  A row that cannot be used is rejected by its line and reason and reading goes on; what makes the rest of a
 * file doubtful (a quote that is never closed, columns that are not there) ends the job, since rows would be lost
 *         without a word. A label plays the part that a folder's name plays for pictures (struct wn_ingest_dir). */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/utf8.h"
#include "sparsify/data/csv.h"
#include "sparsify/data/idx.h"
#include "sparsify/data/ingest_impl.h"

#define MAX_FILE   ((size_t)1 << 30)
#define MAX_RATIO  100
#define MAX_TEXT   ((size_t)256 << 10) /* bytes of a row's text, and of its pair */
#define MAX_LABEL  200
#define MAX_LABELS 20000u /* names.h's cap comes later and says so better; this bounds memory */
#define MAX_FILES  20     /* whose columns are told */

/* ---- one row ---- */

static struct wn_text_view trimmed(struct wn_text_view v)
{
    while (v.n && isspace((unsigned char)v.at[0])) {
        v.at++;
        v.n--;
    }
    while (v.n && isspace((unsigned char)v.at[v.n - 1]))
        v.n--;
    return v;
}

/* Why a text cannot be one; NULL: it can. `to` has room for the words. */
static const char *text_fault(struct wn_text_view v, const char *what, size_t max, char to[100])
{
    size_t at;
    if (!v.at)
        snprintf(to, 100, "no %s", what);
    else if (!trimmed(v).n)
        snprintf(to, 100, "the %s is empty", what);
    else if (v.n > max)
        snprintf(to, 100, "the %s has %zu bytes; %zu are allowed", what, v.n, max);
    else if (memchr(v.at, 0, v.n))
        snprintf(to, 100, "the %s holds a NUL character", what);
    else if ((at = wn_utf8_fault(v.at, v.n)) != SIZE_MAX)
        snprintf(to, 100, "the %s is not UTF-8 at its byte %zu", what, at + 1);
    else
        return NULL;
    return to;
}

/* The "folder" of a label of one part. */
static enum winnow_status label_dir(struct wn_ingest *in, enum wn_part part, struct wn_text_view label, uint32_t *ret)
{
    char path[MAX_LABEL + 32];
    int n = snprintf(path, sizeof path, "\002text/%d/", (int)part);
    memcpy(path + n, label.at, label.n);
    if (in->dir.n >= MAX_LABELS)
        return wn_fail(in->err, WINNOW_E_TOO_LARGE, "more than %u labels: is that the column of labels?", MAX_LABELS);
    WN_TRY(wn_ingest_dir_of(in, path, (size_t)n + label.n, ret));
    struct wn_ingest_dir *d = in->dir.at[*ret];
    if (!d->settled) {
        d->label = d->path + n;
        d->part = part;
        d->number = d->settled = true;
    }
    return WINNOW_OK;
}

static enum winnow_status digest_of(const struct wn_ingest_text *t, struct wn_sha256 *ret, struct winnow_err *err)
{
    const uint64_t head[2] = { t->text.n, t->pair.n };
    struct wn_hasher *h = wn_hasher_new();
    bool ok = h && wn_hasher_add(h, head, sizeof head) && wn_hasher_add(h, t->text.at, t->text.n) &&
              (!t->pair.at || wn_hasher_add(h, t->pair.at, t->pair.n)) && wn_hasher_finish(h, ret);
    wn_hasher_free(h);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "digest of a text");
}

enum winnow_status wn_ingest_text_row(struct wn_ingest *in, const struct wn_ingest_text *t)
{
    char why[100];
    struct wn_text_view label = t->label.at ? trimmed(t->label) : t->label;
    const char *fault = text_fault(t->text, "text", MAX_TEXT, why);
    if (!fault && in->pairs)
        fault = text_fault(t->pair, "text_pair", MAX_TEXT, why);
    if (!fault)
        fault = text_fault(label, "label", MAX_LABEL, why);
    if (!fault && memchr(label.at, '\n', label.n))
        fault = "the label has more than one line";
    if (fault)
        return wn_ingest_reject_line(in, t->file, t->line, fault);
    struct wn_ingest_row row = { .at = in->spool_bytes, .order = (uint32_t)in->row.n };
    WN_TRY(label_dir(in, t->part, label, &row.dir));
    WN_TRY(digest_of(t, &row.digest, in->err));
    WN_TRY(wn_ingest_spool(in, t->text.at, t->text.n));
    if (in->pairs)
        WN_TRY(wn_ingest_spool(in, t->pair.at, t->pair.n));
    row.first = (uint32_t)t->text.n;
    row.bytes = (uint32_t)(t->text.n + (in->pairs ? t->pair.n : 0));
    return wn_ingest_add_row(in, &row);
}

enum winnow_status wn_ingest_columns(struct wn_ingest *in, const char *file, const char *const *name,
                                     const struct wn_columns_at *at)
{
    if (at->pair >= 0 && !in->o->pair_name)
        return wn_fail(in->err, WINNOW_E_UNSUPPORTED, "%.80s: column '%.40s': the model takes no pairs of texts", file,
                       name[at->pair]);
    if (in->row.n && in->pairs != (at->pair >= 0))
        return wn_fail(in->err, WINNOW_E_MALFORMED, "%.80s has %s, files before it have %s", file,
                       at->pair >= 0 ? "pairs of texts" : "single texts", in->pairs ? "pairs" : "single ones");
    in->pairs = at->pair >= 0;
    if (json_array_size(in->columns) >= MAX_FILES)
        return WINNOW_OK;
    json_t *texts = json_array();
    for (unsigned i = 0; i < at->n_text; i++)
        json_array_append_new(texts, json_string(name[at->text[i]]));
    json_t *o = json_pack("{s:s, s:o, s:s?, s:s, s:b}", "file", file, "text", texts, "text_pair",
                          at->pair >= 0 ? name[at->pair] : NULL, "label", name[at->label], "guessed", at->guessed);
    return json_array_append_new(in->columns, o) == 0 ? WINNOW_OK : wn_fail(in->err, WINNOW_E_NOMEM, "columns");
}

/* ---- CSV ---- */

struct csv_file {
    struct wn_ingest *in;
    const char *name;
    enum wn_part part;
    bool header; /* was read */
    unsigned n;  /* columns */
    struct wn_columns_at at;
    WN_VEC(char) joined;
};

static enum winnow_status read_header(struct csv_file *f, const struct wn_csv_record *r)
{
    struct wn_ingest *in = f->in;
    WN_CLEANUP(wn_freep) const char **name = calloc(r->n + 1u, sizeof *name);
    if (!name)
        return wn_fail(in->err, WINNOW_E_NOMEM, "columns");
    if (r->fault)
        return wn_fail(in->err, WINNOW_E_MALFORMED, "%.80s:%llu: the header: %s", f->name, (unsigned long long)r->line,
                       r->fault);
    for (unsigned i = 0; i < r->n; i++) {
        struct wn_text_view v = trimmed((struct wn_text_view){ r->field[i].at, r->field[i].n });
        if (wn_utf8_fault(v.at, v.n) != SIZE_MAX || memchr(v.at, 0, v.n))
            return wn_fail(in->err, WINNOW_E_MALFORMED, "%.80s:1: column %u: its name is not UTF-8", f->name, i + 1);
        if (!(name[i] = wn_arena_strndup(&in->arena, v.at, v.n)))
            return wn_fail(in->err, WINNOW_E_NOMEM, "columns");
    }
    enum winnow_status status = wn_columns_settle(&in->o->columns, name, r->n, &f->at, in->err);
    if (status != WINNOW_OK)
        return wn_fail_at(in->err, status, "%.80s:%llu", f->name, (unsigned long long)r->line);
    f->header = true;
    f->n = r->n;
    return wn_ingest_columns(in, f->name, name, &f->at);
}

/* The text: one column, or several joined. */
static enum winnow_status text_of(struct csv_file *f, const struct wn_csv_record *r, struct wn_text_view *ret)
{
    const struct wn_csv_field *first = &r->field[f->at.text[0]];
    const char *join = f->in->o->columns.join ? f->in->o->columns.join : ". ";
    *ret = (struct wn_text_view){ first->at, first->n };
    f->joined.n = 0;
    for (unsigned i = 0; i < f->at.n_text && f->at.n_text > 1; i++) {
        const struct wn_csv_field *c = &r->field[f->at.text[i]];
        size_t gap = i ? strlen(join) : 0;
        if (!wn_vec_reserve(&f->joined, f->joined.n + gap + c->n + 1))
            return wn_fail(f->in->err, WINNOW_E_NOMEM, "a text");
        memcpy(f->joined.at + f->joined.n, join, gap);
        if (c->n)
            memcpy(f->joined.at + f->joined.n + gap, c->at, c->n);
        f->joined.n += gap + c->n;
        *ret = (struct wn_text_view){ f->joined.at, f->joined.n };
    }
    return WINNOW_OK;
}

static enum winnow_status on_record(void *arg, const struct wn_csv_record *r)
{
    struct csv_file *f = arg;
    char why[80];
    if (!f->header)
        return read_header(f, r);
    if (r->fault)
        return wn_ingest_reject_line(f->in, f->name, r->line, r->fault);
    if (r->n != f->n) {
        snprintf(why, sizeof why, "%u fields, the header has %u", r->n, f->n);
        return wn_ingest_reject_line(f->in, f->name, r->line, why);
    }
    struct wn_ingest_text t = { .file = f->name, .line = r->line, .part = f->part };
    WN_TRY(text_of(f, r, &t.text));
    if (f->at.pair >= 0)
        t.pair = (struct wn_text_view){ r->field[f->at.pair].at, r->field[f->at.pair].n };
    t.label = (struct wn_text_view){ r->field[f->at.label].at, r->field[f->at.label].n };
    return wn_ingest_text_row(f->in, &t);
}

static void csv_freep(struct wn_csv **csv)
{
    wn_csv_free(*csv);
}

static enum winnow_status read_csv(struct wn_ingest *in, const char *name, enum wn_part part, const char *bytes,
                                   size_t n)
{
    WN_CLEANUP(csv_freep) struct wn_csv *csv = NULL;
    struct csv_file f = { .in = in, .name = name, .part = part };
    WN_TRY(wn_csv_new(wn_csv_guess_separator(bytes, n), NULL, on_record, &f, &csv, in->err));
    enum winnow_status status = wn_csv_feed(csv, bytes, n, in->err);
    if (status == WINNOW_OK) {
        status = wn_csv_finish(csv, in->err);
        if (status == WINNOW_E_MALFORMED)
            wn_fail_at(in->err, status, "%.80s", name);
    }
    wn_vec_done(&f.joined);
    WN_TRY(status);
    return f.header ? WINNOW_OK : wn_fail(in->err, WINNOW_E_MALFORMED, "%.80s: an empty file", name);
}

/* ---- files ---- */

static bool ends_with(const char *name, size_t n, const char *ending)
{
    size_t e = strlen(ending);
    return n >= e && strncasecmp(name + n - e, ending, e) == 0;
}

/* Length of a name without ".gz". */
static size_t stem(const char *name)
{
    size_t n = strlen(name);
    return ends_with(name, n, ".gz") ? n - 3 : n;
}

enum form { FORM_NONE, FORM_CSV, FORM_JSONL };

static enum form form_of(const char *name)
{
    size_t n = stem(name);
    if (ends_with(name, n, ".csv") || ends_with(name, n, ".tsv"))
        return FORM_CSV;
    return ends_with(name, n, ".jsonl") || ends_with(name, n, ".ndjson") ? FORM_JSONL : FORM_NONE;
}

/* "train.csv", "data/val-00000.jsonl", "test/part1.csv": the first word of the file's name, else its folder's. */
static enum wn_part part_of(const char *name)
{
    const char *slash = strrchr(name, '/'), *leaf = slash ? slash + 1 : name;
    enum wn_part part = wn_data_part_word(leaf, strcspn(leaf, "-_. "));
    if (part != WN_PART_ANY || !slash)
        return part;
    const char *folder = slash;
    while (folder > name && folder[-1] != '/')
        folder--;
    return wn_data_part_word(folder, (size_t)(slash - folder));
}

static enum winnow_status read_text(struct wn_ingest *in, const char *name, const char *bytes, size_t n)
{
    const unsigned char *b = (const unsigned char *)bytes;
    enum form form = form_of(name);
    if (n >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
        return wn_fail(in->err, WINNOW_E_UNSUPPORTED, "%.80s: UTF-16; save it as UTF-8", name);
    if (n >= 3 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf) {
        bytes += 3;
        n -= 3;
    }
    if (form == FORM_NONE) {
        size_t i = 0;
        while (i < n && isspace((unsigned char)bytes[i]))
            i++;
        if (i < n && bytes[i] == '[')
            return wn_fail(in->err, WINNOW_E_UNSUPPORTED, "%.80s: a JSON array; send one object per line (JSONL)",
                           name);
        form = i < n && bytes[i] == '{' ? FORM_JSONL : FORM_CSV;
    }
    return form == FORM_JSONL ? wn_ingest_jsonl(in, name, part_of(name), bytes, n)
                              : read_csv(in, name, part_of(name), bytes, n);
}

static enum winnow_status unpack_and_read(struct wn_ingest *in, const char *name, const void *bytes, size_t n)
{
    WN_CLEANUP(wn_freep) void *out = NULL;
    size_t out_n = 0, max = WN_MIN(MAX_RATIO * n + ((size_t)1 << 20), MAX_FILE);
    WN_TRY(wn_gunzip(bytes, n, name, max, &out, &out_n, in->err));
    return read_text(in, name, out, out_n);
}

static bool is_gzip(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    return n >= 2 && b[0] == 0x1f && b[1] == 0x8b;
}

/* ---- archives ---- */

static bool wants(void *arg, const char *name)
{
    return form_of(name) != FORM_NONE ? !wn_data_hidden(name) : !wn_data_ignorable(name);
}

static enum winnow_status on_file(void *arg, const char *name, const void *bytes, size_t n, struct winnow_err *err)
{
    struct wn_ingest *in = arg;
    const char *own = wn_arena_strndup(&in->arena, name, strlen(name));
    if (!own)
        return wn_fail(in->err, WINNOW_E_NOMEM, "'%.80s'", name);
    if (form_of(name) == FORM_NONE)
        return wn_ingest_reject(in, own, "neither CSV nor JSONL");
    return is_gzip(bytes, n) ? unpack_and_read(in, own, bytes, n) : read_text(in, own, bytes, n);
}

static enum winnow_status on_refused(void *arg, const char *name, const char *reason, struct winnow_err *err)
{
    return wn_data_ignorable(name) && form_of(name) == FORM_NONE ? WINNOW_OK : wn_ingest_reject(arg, name, reason);
}

/* Names say what is for evaluation only where something is left to train on. */
static void settle_parts(struct wn_ingest *in)
{
    bool other = false;
    for (size_t i = 0; i < in->dir.n; i++)
        other |= !in->dir.at[i]->validation && in->dir.at[i]->part != WN_PART_EVAL;
    for (size_t i = 0; i < in->dir.n && !other; i++)
        if (!in->dir.at[i]->validation)
            in->dir.at[i]->part = WN_PART_ANY;
}

/* ---- the upload ---- */

static bool is_tar(const unsigned char *head, size_t n)
{
    return n >= 262 && memcmp(head + 257, "ustar", 5) == 0;
}

/* Whether this is an archive, by its first bytes, those in gzip included. */
static enum winnow_status is_archive(const char *path, bool *ret, struct winnow_err *err)
{
    unsigned char head[4096], inner[512];
    struct stat st;
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "the data '%s'", path);
    *ret = S_ISDIR(st.st_mode);
    if (*ret)
        return WINNOW_OK;
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0)
        return wn_fail_errno(err, errno, "the data '%s'", path);
    *ret = (n >= 4 && memcmp(head, "PK\3\4", 4) == 0) || is_tar(head, (size_t)n);
    if (is_gzip(head, (size_t)n))
        *ret = is_tar(inner, wn_gunzip_head(head, (size_t)n, inner, sizeof inner));
    return WINNOW_OK;
}

enum winnow_status wn_ingest_texts(struct wn_ingest *in, const char *path, const char *name)
{
    const struct wn_source_sink sink = { wants, on_file, on_refused, in };
    const char *slash = strrchr(path, '/');
    bool archive = false;
    if (!name)
        name = slash && slash[1] ? slash + 1 : path;
    WN_TRY(is_archive(path, &archive, in->err));
    if (archive) {
        WN_TRY(wn_source_walk(path, &in->o->source, &sink, in->err));
    } else {
        WN_CLEANUP(wn_freep) void *bytes = NULL;
        size_t n = 0;
        WN_TRY(wn_file_read(path, MAX_FILE, &bytes, &n, in->err));
        WN_TRY(is_gzip(bytes, n) ? unpack_and_read(in, name, bytes, n) : read_text(in, name, bytes, n));
    }
    settle_parts(in);
    return WINNOW_OK;
}
