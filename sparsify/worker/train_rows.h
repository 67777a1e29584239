/* train_rows.h: data/train/rows.npz as pictures of the model's size in memory, a part of them kept for validation. */
#ifndef WN_TRAIN_ROWS_H
#define WN_TRAIN_ROWS_H

#include "sparsify/train/train.h"
#include "sparsify/worker/job.h"
#include "sparsify/worker/origin.h"

struct wn_train_rows {
    size_t n_train, n_val;
    uint8_t *px;     /* (n_train + n_val, h, w, c): rows to train on, then validation rows */
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

/** Rows [from, from + n) as the trainer takes them, without augmentation. Borrows everything. */
struct wn_train_data wn_train_rows_part(const struct wn_train_rows *rows, const struct wn_origin *o, size_t from,
                                        size_t n);

#endif
