/* train_rows.h: data/train/rows.npz in memory as training wants it, pictures of the model's size or token ids, a part
 * of the rows kept for validation. */
#ifndef WN_TRAIN_ROWS_H
#define WN_TRAIN_ROWS_H

#include "sparsify/train/train.h"
#include "sparsify/worker/job.h"
#include "sparsify/worker/origin.h"

struct wn_train_rows {
    size_t n_train, n_val;
    uint8_t *px; /* (n_train + n_val, h, w, c): rows to train on, then validation rows. NULL: texts */
    /* texts: what each filled input of the model holds, rows one after another without padding */
    unsigned n_fill, multiple;
    char *fill_name[WN_PIPE_MAX_FILL];
    int64_t *id[WN_PIPE_MAX_FILL];
    int64_t pad[WN_PIPE_MAX_FILL];
    size_t *start;   /* [n_train + n_val + 1] */
    uint32_t *label; /* [n_train + n_val] */
    unsigned n_labels;
    char **name; /* [n_labels] label names; empty where the rows have none */
};

/** @param path  rows.npz
 *  @param job   seed; whether labels are new
 *  @return E_MALFORMED (labels that are not the model's, too few rows), E_TOO_LARGE, … */
WINNOW_MUST_USE enum winnow_status wn_train_rows_open(const char *path, const struct wn_job *job,
                                                      const struct wn_origin *o, struct wn_train_rows *ret,
                                                      struct winnow_err *err);
void wn_train_rows_done(struct wn_train_rows *rows);

/** Rows [from, from + n) as the trainer takes them, without augmentation. Borrows everything.
 *  @param tokens  where the part's tokens are described; must live as long as the result. Unused for pictures */
struct wn_train_data wn_train_rows_part(const struct wn_train_rows *rows, const struct wn_origin *o, size_t from,
                                        size_t n, struct wn_train_tokens *tokens);
/** Tokens that rows [from, from + n) are padded to. */
size_t wn_train_rows_length(const struct wn_train_rows *rows, size_t from, size_t n);

#endif
