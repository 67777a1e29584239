/* names.h: what the name of a file in an upload says: which label, and whether the row is for evaluation. */
#ifndef WN_DATA_NAMES_H
#define WN_DATA_NAMES_H

#include "base/base.h"

enum wn_part { WN_PART_ANY, WN_PART_TRAIN, WN_PART_EVAL };

/** Files that belong to no data set: hidden ones, resource forks, desktop leftovers, texts beside the pictures. */
bool wn_data_ignorable(const char *name);
/** Hidden at any level of its path, or a resource fork. */
bool wn_data_hidden(const char *name);
/** WN_PART_EVAL for val, valid, validation, eval, test, t10k; WN_PART_TRAIN for train, training; else WN_PART_ANY.
 *  `word` [n], case ignored. */
enum wn_part wn_data_part_word(const char *word, size_t n);

/** Folders of an upload ([n] relative paths) -> label and part of the files in each. A common first folder that holds
 *  everything is taken off. When the folders at the top are train and at least one for evaluation, they say the part.
 *  @param ret_label  [n] offset of the label in dir[i]; SIZE_MAX: files there have none
 *  @param ret_part   [n] */
void wn_data_settle_dirs(const char *const *dir, size_t n, size_t *ret_label, enum wn_part *ret_part);

/** Name of an IDX file without what tells pictures from labels apart: "train-images-idx3-ubyte.gz" and
 *  "train-labels-idx1-ubyte.gz" both give "train--idx-ubyte". malloc'ed; NULL when out of memory. */
char *wn_data_idx_key(const char *name);
/** Part that an IDX file's name says: a component or first word of t10k, test, … */
enum wn_part wn_data_idx_part(const char *name);

#endif
