/* rows.h: ROWS.npz: labelled rows, the one format of eval rows, anchors and `winnow evaluate`.
 *
 * Arrays: per pipeline input either a tensor `NAME` (N, …), or, for raw items (an encoded picture, a text), `NAME` u1
 * (all bytes, one after the other) with `NAME.offsets` i8 (N + 1, the first 0, the last the number of bytes); `label`
 * i8 (N), `row_id` i8 (N); `meta` u1: a JSON object {"version": 1, "task": "image_classification", "labels": ["cat",
 * …]}. A label is an index into the label names (any number >= 0 where there are none). Row ids tell rows apart across
 * files. */
#ifndef WN_ROWS_H
#define WN_ROWS_H

#include "base/npy.h"

#define WN_ROWS_MAX_INPUTS 16

/** Rows read from a file. Immutable; any thread. */
struct wn_rows;

/** One input of the rows. */
struct wn_rows_input {
    const char *name;
    bool bytes; /* raw items of any length; the fields below are then 0 */
    enum wn_npy_type type;
    unsigned rank; /* without the row axis */
    int64_t shape[WN_NPY_MAX_RANK - 1];
    size_t row_bytes;
};

/** Read the whole file; all arrays together may have `max_bytes` (0 = 2 GiB).
 *  @return E_NOT_FOUND, E_MALFORMED, E_UNSUPPORTED (a newer format), E_TOO_LARGE, E_NOMEM; err names file and array */
WINNOW_MUST_USE enum winnow_status wn_rows_open(const char *path, size_t max_bytes, struct wn_rows **ret,
                                                struct winnow_err *err);
/** The same from memory; `name` appears in messages. */
WINNOW_MUST_USE enum winnow_status wn_rows_parse(const void *bytes, size_t n, const char *name, size_t max_bytes,
                                                 struct wn_rows **ret, struct winnow_err *err);
/** NULL is fine. */
void wn_rows_free(struct wn_rows *rows);

size_t wn_rows_count(const struct wn_rows *rows);
unsigned wn_rows_n_inputs(const struct wn_rows *rows);
/** i below the count; lives as long as the rows. */
const struct wn_rows_input *wn_rows_input(const struct wn_rows *rows, unsigned i);
/** Index of the input called `name`, or -1. */
int wn_rows_find_input(const struct wn_rows *rows, const char *name);
/** Row `row` of input `input`: its raw bytes, or its part of the tensor (aligned for its type). */
const void *wn_rows_item(const struct wn_rows *rows, unsigned input, size_t row, size_t *ret_n);
int64_t wn_rows_label(const struct wn_rows *rows, size_t row);
int64_t wn_rows_id(const struct wn_rows *rows, size_t row);
unsigned wn_rows_n_labels(const struct wn_rows *rows);
/** NULL past the end. */
const char *wn_rows_label_name(const struct wn_rows *rows, unsigned i);
/** "" when the file does not say. */
const char *wn_rows_task(const struct wn_rows *rows);

/** Writes rows one by one. Items wait in nameless files beside `path`, so memory does not grow with them. One thread.
 */
struct wn_rows_writer;
/** @param inputs   [n_inputs] 1 … WN_ROWS_MAX_INPUTS; for tensors `row_bytes` is computed here. Copied
 *  @param labels   [n_labels] names; may be empty. Copied */
WINNOW_MUST_USE enum winnow_status wn_rows_writer_new(const char *path, const struct wn_rows_input *inputs,
                                                      unsigned n_inputs, const char *task, const char *const *labels,
                                                      unsigned n_labels, struct wn_rows_writer **ret,
                                                      struct winnow_err *err);
/** One row's part of an input. */
struct wn_rows_item {
    const void *p;
    size_t n;
};
/** Append a row: `items` [n_inputs]. E_MALFORMED when a tensor item has another size than its input or the label is
 *  outside the names; the writer is then as before. After E_IO or E_NO_SPACE it can only be freed. */
WINNOW_MUST_USE enum winnow_status wn_rows_writer_add(struct wn_rows_writer *w, const struct wn_rows_item *items,
                                                      int64_t label, int64_t row_id, struct winnow_err *err);
size_t wn_rows_writer_count(const struct wn_rows_writer *w);
/** Write the file, durably; it appears by rename. */
WINNOW_MUST_USE enum winnow_status wn_rows_writer_finish(struct wn_rows_writer *w, struct winnow_err *err);
/** NULL is fine; without finish nothing stays behind. */
void wn_rows_writer_free(struct wn_rows_writer *w);

#endif
