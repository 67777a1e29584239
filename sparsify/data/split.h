/* split.h: which rows are kept for evaluation: stratified, and settled by seed and content alone. */
#ifndef WN_SPLIT_H
#define WN_SPLIT_H

#include "base/base.h"

/** How many of `n` rows to keep for evaluation: share of n, at least `least`, at most half. */
size_t wn_split_size(size_t n, double share, size_t least);
/** Choose `want` of n rows: every class gives its share (largest remainder), and keeps at least one row for training;
 *  within a class the rows whose mixed key is lowest. The order of the rows does not matter.
 *  @param key       [n] hash of each row's content
 *  @param label     [n] below n_labels
 *  @param ret_eval  [n] 1: chosen. Fewer than `want` are chosen where classes are too small */
WINNOW_MUST_USE enum winnow_status wn_split(const uint64_t *key, const uint32_t *label, size_t n, unsigned n_labels,
                                            size_t want, uint64_t seed, uint8_t *ret_eval, struct winnow_err *err);

#endif
