/* einsum.h: the equation of an Einsum node. */
#ifndef WN_EINSUM_H
#define WN_EINSUM_H

#include "engine/ops/impl.h"

#define WN_EINSUM_MAX_IN 8

struct wn_einsum_term {
    unsigned n;
    uint8_t label[WINNOW_MAX_RANK + 2]; /* A-Z 1 .. 26, a-z 27 .. 52; 0: an ellipsis, at most one in a term */
};

struct wn_einsum {
    unsigned n_in;
    struct wn_einsum_term in[WN_EINSUM_MAX_IN], out;
};

/** The equation with its output written out. @return E_MALFORMED: no equation; it does not fit node's inputs */
enum winnow_status wn_einsum_parse(const struct wn_node *node, struct wn_einsum *ret, struct winnow_err *err);

#endif
