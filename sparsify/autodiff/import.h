/* import.h: between import.c, import_read.c, import_nd.c and import_fuse.c.
 *
 * A value of the graph is one of: a number known for this batch and length (a constant, or what follows from constants
 * and shapes); made anew in every step from the model's integer inputs, by the engine's reference operators; or
 * differentiable, a logical value. */
#ifndef WN_IMPORT_H
#define WN_IMPORT_H

#include "sparsify/autodiff/net.h"

/** What a node is to import once a chain of nodes was read as one operator. */
enum wn_role { WN_ROLE_ALONE, WN_ROLE_INSIDE, WN_ROLE_NORM, WN_ROLE_GELU };
struct wn_chain {
    enum wn_role role;
    wn_vid x;
    wn_nid scale; /* NORM: the Mul; the node itself is the Add */
    float eps;
};

struct wn_import {
    struct wn_net *net;
    struct wn_graph *g;
    const struct wn_net_maker *maker;
    int *val;                       /* [graph values] logical value, or -1 */
    const struct wn_tensor **known; /* [graph values] computed for this batch and length, or NULL */
    const struct wn_tensor **step;  /* [graph values] made in every step: its tensor, shape set; or NULL */
    int *wrap;                      /* [graph values] logical value that holds a known or a step's number; -1 */
    struct wn_chain *chain;         /* [graph nodes] */
    int64_t batch, length;
    size_t known_elements; /* made so far of what is not differentiable */
    int64_t file_batch;    /* batch axis the file was written with; -1 = dynamic */
    struct winnow_err *err;
};

#define UNSUPPORTED(...) wn_fail(im->err, WINNOW_E_UNSUPPORTED, __VA_ARGS__)
#define MALFORMED(...)   wn_fail(im->err, WINNOW_E_MALFORMED, __VA_ARGS__)
#define NOMEM()          wn_fail(im->err, WINNOW_E_NOMEM, "graph")
#define FAILED()         (im->err ? im->err->status : WINNOW_E_UNSUPPORTED)

typedef enum winnow_status wn_read_fn(struct wn_import *im, const struct wn_node *n);
/** Reader of an ONNX operator on pictures, or NULL. */
wn_read_fn *wn_import_reader(const struct wn_node *n);
/** Reader of an ONNX operator on tensors of any rank (encoders), or NULL. */
wn_read_fn *wn_import_nd_reader(const struct wn_node *n);
/** True for an operator whose first input may be the constant one. */
bool wn_import_any_order(const struct wn_node *n);
/** True for an operator that only turns scores into probabilities. */
bool wn_import_is_softmax(const struct wn_node *n);

/* import_fuse.c */
/** If a chain of nodes that means layer norm or GELU begins at node `at`, mark its nodes in im->chain. */
void wn_import_find_chain(struct wn_import *im, wn_nid at);
/** Read the last node of a chain. */
WINNOW_MUST_USE enum winnow_status wn_import_read_chain(struct wn_import *im, wn_nid at);

/* import_read.c: shared by the readers */
/** Logical value of input i; -1 where it has none. */
int wn_im_in(const struct wn_import *im, const struct wn_node *n, unsigned i);
const struct wn_net_val *wn_im_val(const struct wn_import *im, int v);
/** Input i where it is known, or NULL. */
const struct wn_tensor *wn_im_const(const struct wn_import *im, const struct wn_node *n, unsigned i);
/** Integers from a constant input; NULL when there is none. At most 16. */
const int64_t *wn_im_ints(const struct wn_import *im, const struct wn_node *n, unsigned i, size_t *count,
                          int64_t tmp[16]);
/** One number from a constant f32 input. */
bool wn_im_float(const struct wn_import *im, const struct wn_node *n, unsigned i, float *ret);
/** An operator that makes the node's first output. */
struct wn_net_op *wn_im_emit(struct wn_import *im, const struct wn_node *n, const struct wn_rule *rule, const int *ins,
                             unsigned n_in, unsigned rank, const int64_t *dim);
/** The operator that makes input i, when that has no other use than this node. */
struct wn_net_op *wn_im_sole_maker(struct wn_import *im, const struct wn_node *n, unsigned i);
/** Make n's output the output of `op`. */
enum winnow_status wn_im_absorb(struct wn_import *im, const struct wn_node *n, struct wn_net_op *op);
/** Input i as a parameter of `layer`; NULL: failed, im->err is set. */
struct wn_param *wn_im_param(struct wn_import *im, const struct wn_node *n, unsigned i, const struct wn_node *layer,
                             enum wn_layer_class cls, enum wn_param_kind kind, unsigned rank, const int64_t *dim,
                             bool rows_last);
wn_read_fn wn_im_read_matmul, wn_im_read_gemm, wn_im_read_identity, wn_im_read_clip, wn_im_read_leaky,
    wn_im_read_sigmoid, wn_im_read_tanh, wn_im_read_hardsigmoid, wn_im_read_hardswish, wn_im_read_relu,
    wn_im_read_dropout;

#endif
