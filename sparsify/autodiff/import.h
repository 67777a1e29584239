/* import.h: between import.c and import_read.c. */
#ifndef WN_IMPORT_H
#define WN_IMPORT_H

#include "sparsify/autodiff/net.h"

struct wn_import {
    struct wn_net *net;
    struct wn_graph *g;
    const struct wn_net_maker *maker;
    int *val; /* [graph values] logical value, or -1 */
    int64_t batch;
    int64_t file_batch; /* batch axis the file was written with; -1 = dynamic */
    struct winnow_err *err;
};

typedef enum winnow_status wn_read_fn(struct wn_import *im, const struct wn_node *n);
/** Reader of an ONNX operator, or NULL. */
wn_read_fn *wn_import_reader(const struct wn_node *n);
/** True for an operator whose first input may be the constant one. */
bool wn_import_any_order(const struct wn_node *n);
/** True for an operator that only turns scores into probabilities. */
bool wn_import_is_softmax(const struct wn_node *n);

#endif
