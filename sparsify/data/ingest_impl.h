/* ingest_impl.h: what the files of ingest share: rows waiting in a spool, and where each came from. */
#ifndef WN_INGEST_IMPL_H
#define WN_INGEST_IMPL_H

#include <jansson.h>
#include "base/arena.h"
#include "base/digest.h"
#include "base/strmap.h"
#include "base/vec.h"
#include "sparsify/data/ingest.h"
#include "sparsify/data/names.h"

#define WN_INGEST_MAX_REJECTS 100

/** Where rows came from: a folder, or one class of an IDX pair. */
struct wn_ingest_dir {
    const char *path;  /* in the arena */
    const char *label; /* NULL: none */
    enum wn_part part;
    bool number;     /* label is a class number of an IDX file */
    bool validation; /* from the validation file */
    bool settled;    /* label and part are known */
    uint32_t class;  /* index into the label names, once they are settled */
};

struct wn_ingest_row {
    struct wn_sha256 digest; /* of size, channels and pixels */
    uint64_t at;             /* in the spool */
    uint32_t bytes, dir, order;
    uint32_t first; /* bytes of them that are the first item; the rest is the second */
    bool drop, eval;
};

/** An IDX file waiting for its other half. */
struct wn_ingest_idx {
    char *name;
    void *bytes;
    size_t n;
    bool validation;
};

struct wn_ingest_labels {
    const char **at;
    unsigned n;
};

struct wn_ingest {
    const struct wn_ingest_opts *o;
    struct winnow_err *err;
    struct wn_arena arena;
    int spool; /* a nameless file: PNGs, one behind the other */
    uint64_t spool_bytes;
    bool validation; /* the file being read */
    struct wn_strmap dir_by_path;
    WN_VEC(struct wn_ingest_dir *) dir;
    WN_VEC(struct wn_ingest_row) row;
    WN_VEC(struct wn_ingest_idx) idx;
    struct wn_ingest_labels labels; /* names that the rows are written with */
    size_t rejected, duplicates, seen;
    json_t *rejects;
    json_t *columns; /* texts: what each file gave */
    bool pairs;      /* rows have a second item */
};

static inline uint64_t wn_ingest_key(const struct wn_sha256 *d)
{
    uint64_t k = 0;
    for (unsigned i = 0; i < 8; i++)
        k = k << 8 | d->b[i];
    return k >> 1; /* 63 bits */
}

/** Note an item that cannot be a row; goes on. E_NOMEM. `line`: of the file, 0 for a whole file. */
enum winnow_status wn_ingest_reject(struct wn_ingest *in, const char *item, const char *reason);
enum winnow_status wn_ingest_reject_line(struct wn_ingest *in, const char *item, uint64_t line, const char *reason);
/** Bytes to the end of the spool. */
enum winnow_status wn_ingest_spool(struct wn_ingest *in, const void *bytes, size_t n);
/** Append a row that was spooled. */
enum winnow_status wn_ingest_add_row(struct wn_ingest *in, const struct wn_ingest_row *row);

/** One row as a text file has it. Views. */
struct wn_ingest_text {
    const char *file;
    uint64_t line;
    enum wn_part part;
    struct wn_text_view {
        const char *at; /* NULL: not there */
        size_t n;
    } text, pair, label;
};
/** Check it and append it; what cannot be a row is rejected. */
enum winnow_status wn_ingest_text_row(struct wn_ingest *in, const struct wn_ingest_text *row);
/** All lines of a JSONL file. */
enum winnow_status wn_ingest_jsonl(struct wn_ingest *in, const char *name, enum wn_part part, const char *bytes,
                                   size_t n);
/** Note what a file's columns are taken for. */
enum winnow_status wn_ingest_columns(struct wn_ingest *in, const char *file, const char *const *name,
                                     const struct wn_columns_at *at);
/** Texts: read the upload (or the validation file), whatever it is. */
enum winnow_status wn_ingest_texts(struct wn_ingest *in, const char *path, const char *name);
/** The folder `path` of the file being read (label NULL: settled later by the names of all folders). */
enum winnow_status wn_ingest_dir_of(struct wn_ingest *in, const char *path, size_t path_len, uint32_t *ret);
/** Append a decoded picture. It is shrunk where it is much larger than the model needs. */
enum winnow_status wn_ingest_picture(struct wn_ingest *in, const struct wn_image *image, uint32_t dir);
/** Make rows of all IDX files: pair them, one row per picture. */
enum winnow_status wn_ingest_idx_pairs(struct wn_ingest *in);

/** Label names and the class of every folder; too few rows, one class, imbalance and unknown names are errors. */
enum winnow_status wn_ingest_settle(struct wn_ingest *in);
/** rows.npz twice and ingest.json. */
enum winnow_status wn_ingest_write(struct wn_ingest *in, struct wn_ingest_result *ret);

#endif
