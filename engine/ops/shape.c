/* shape.c: operators that keep the elements and change how they are seen (Reshape, Squeeze, ...), and those that make
 * tensors from shapes (Shape, Constant, Range, ...).  Source: ONNX Operators.md. */
#include "base/small.h"
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

/* ---- keeping the elements ---- */
enum winnow_status wn_run_copy(struct wn_run *run, struct winnow_err *err)
{
    memcpy(run->out[0].data, run->in[0]->data, run->out[0].bytes);
    return WINNOW_OK;
}

enum winnow_status wn_infer_identity(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

/* Inference: the data passes, the mask (output 1) is all true. */
enum winnow_status wn_infer_dropout(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    bool drops_nothing = in->n_in > 1 && in->value[1] && wn_scalar(in->value[1], 0) == 0;
    bool training = in->n_in > 2 && in->given[2] && (!in->value[2] || wn_scalar(in->value[2], 0) != 0);
    if (training && !drops_nothing)
        return wn_lack(err, "training mode");
    in->out[0] = in->in[0];
    if (in->n_out > 1) {
        in->out[1] = in->in[0];
        in->out[1].dtype = in->node->opset < 10 ? in->in[0].dtype : WINNOW_BOOL;
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_dropout(struct wn_run *run, struct winnow_err *err)
{
    static const int64_t one = 1;
    struct wn_tensor *mask = run->n_out > 1 && run->out[1].data ? &run->out[1] : NULL;
    for (int64_t i = 0; mask && i < wn_tensor_count(mask); i++)
        wn_store(mask->dtype, mask->data, i, 1, WN_CLS_I64, &one);
    return wn_run_copy(run, err);
}

/* ---- Cast ---- */
#define CASTABLE (WN_NUMBERS | WN_D(BOOL) | WN_SMALL)

static enum winnow_status round_of(const struct wn_node *node, enum wn_small_round *ret, struct winnow_err *err)
{
    static const char *const names[] = { "up", "down", "nearest" };
    for (unsigned i = 0; i < WN_COUNT(names); i++)
        if (wn_node_str_is(node, "round_mode", "up", names[i])) {
            *ret = (enum wn_small_round)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute round_mode");
}

enum winnow_status wn_infer_cast(struct wn_infer *in, struct winnow_err *err)
{
    int64_t to = wn_node_int(in->node, "to", 0);
    enum wn_small_round round;
    WN_TRY(wn_want(in, 0, CASTABLE, err));
    WN_TRY(round_of(in->node, &round, err));
    if (to <= 0 || to > 31 || !(CASTABLE >> to & 1))
        return wn_lack(err, "attribute to: data type %lld", (long long)to);
    in->out[0] = in->in[0];
    in->out[0].dtype = (enum winnow_dtype)to;
    return WINNOW_OK;
}

enum winnow_status wn_infer_cast_like(struct wn_infer *in, struct winnow_err *err)
{
    enum wn_small_round round;
    WN_TRY(wn_want(in, 0, CASTABLE, err));
    WN_TRY(wn_want(in, 1, CASTABLE, err));
    WN_TRY(round_of(in->node, &round, err));
    in->out[0] = in->in[0];
    in->out[0].dtype = in->in[1].dtype;
    return WINNOW_OK;
}

/* To a small float, with the attributes that say what becomes of what it cannot hold. */
static enum winnow_status cast_to_small(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    enum wn_small_round round = WN_SMALL_UP;
    bool saturate = wn_node_int(run->node, "saturate", 1) != 0;
    const float *x = wn_as_f32(run->in[0], run->tmp);
    WN_TRY(round_of(run->node, &round, err));
    if (!x)
        return wn_nomem(err);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++)
        ((uint8_t *)y->data)[i] = wn_small_from_f32(y->dtype, x[i], saturate, round);
    return WINNOW_OK;
}

enum winnow_status wn_run_cast(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    enum wn_cls cls = wn_cls_of(x->dtype);
    union wn_chunk buf;
    if (wn_small_is_float(y->dtype))
        return cast_to_small(run, err);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i += WN_CHUNK) {
        size_t m = (size_t)WN_MIN(n - i, WN_CHUNK);
        wn_store(y->dtype, y->data, i, m, cls, wn_load(x->dtype, x->data, i, 1, m, cls, &buf));
    }
    return WINNOW_OK;
}

/* ---- BitCast: the same bytes as another dtype of that width ---- */
enum winnow_status wn_infer_bit_cast(struct wn_infer *in, struct winnow_err *err)
{
    int64_t to = wn_node_int(in->node, "to", 0);
    WN_TRY(wn_want(in, 0, WN_NUMBERS | WN_D(BOOL), err));
    if (to <= 0 || to > 31 || !((WN_NUMBERS | WN_D(BOOL)) >> to & 1))
        return wn_lack(err, "attribute to: data type %lld", (long long)to);
    if (in->in[0].dtype && winnow_dtype_size(in->in[0].dtype) != winnow_dtype_size((enum winnow_dtype)to))
        return wn_bad(err, "%s and %s differ in width", winnow_dtype_name(in->in[0].dtype),
                      winnow_dtype_name((enum winnow_dtype)to));
    in->out[0] = in->in[0];
    in->out[0].dtype = (enum winnow_dtype)to;
    return WINNOW_OK;
}

/* ---- Reshape ---- */

/* Replace the 0 and -1 entries of a wanted shape. Extents that cannot be known yet come out as -1. */
static enum winnow_status resolve_shape(const struct wn_type *x, const int64_t *want, size_t n, bool allow_zero,
                                        struct wn_type *y, struct winnow_err *err)
{
    int hole = -1;
    int64_t total = -1, known = 1;
    bool unknown = false;
    y->rank = (int)n;
    for (size_t i = 0; i < n; i++) {
        int64_t d = want[i];
        if (d < -1)
            return wn_bad(err, "shape: extent %lld of axis %zu", (long long)d, i);
        if (d == 0 && !allow_zero) {
            if (x->rank >= 0 && i >= (size_t)x->rank)
                return wn_bad(err, "shape: 0 at axis %zu of an input of rank %d", i, x->rank);
            d = x->rank >= 0 ? x->dim[i] : -1;
            unknown |= d < 0;
        } else if (d == -1) {
            if (hole >= 0)
                return wn_bad(err, "shape: -1 at axes %d and %zu", hole, i);
            hole = (int)i;
        }
        y->dim[i] = d;
        if (d >= 0)
            WN_TRY(wn_dim_mul(known, d, &known, err));
    }
    if (x->rank >= 0)
        WN_TRY(wn_dim_prod(x->dim, 0, x->rank, &total, err));
    if (total < 0) { /* a dynamic extent that both sides share cancels: (N, 4, 3) with (0, -1) is (N, 12) */
        int64_t rest = 1;
        if (hole < 0 || x->rank < 0)
            return WINNOW_OK;
        for (int i = 0; i < x->rank; i++)
            if (x->dim[i] < 0 && !((size_t)i < n && want[i] == 0 && !allow_zero))
                return WINNOW_OK;
            else if (x->dim[i] >= 0)
                WN_TRY(wn_dim_mul(rest, x->dim[i], &rest, err));
        if (known > 0 && rest % known == 0)
            y->dim[hole] = rest / known;
        return WINNOW_OK;
    }
    if (hole >= 0) {
        if (known == 0 ? total != 0 : total % known != 0)
            return wn_bad(err, "%lld elements do not fill a shape of %lld with one -1", (long long)total,
                          (long long)known);
        y->dim[hole] = known == 0 ? 0 : total / known;
    } else if (!unknown && total != known) {
        return wn_bad(err, "%lld elements do not fill a shape of %lld", (long long)total, (long long)known);
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_reshape(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 1, 1, 1, err));
    in->out[0].dtype = in->in[0].dtype;
    if (!in->value[1]) {
        if (in->in[1].rank == 1 && in->in[1].dim[0] >= 0 && in->in[1].dim[0] <= WINNOW_MAX_RANK)
            wn_type_set_rank(&in->out[0], (int)in->in[1].dim[0]);
        return WINNOW_OK;
    }
    int64_t want[WINNOW_MAX_RANK];
    size_t n;
    WN_TRY(wn_ints(in->value[1], "shape", want, WINNOW_MAX_RANK, &n, err));
    bool allow_zero = in->node->opset >= 14 && wn_node_int(in->node, "allowzero", 0);
    return resolve_shape(&in->in[0], want, n, allow_zero, &in->out[0], err);
}

/* The batch, axis 0, stays axis 0 exactly when the rest of the output is as large as a row of the input. */
void wn_rows_reshape(struct wn_rows *r)
{
    const struct wn_type *x = &r->infer->in[0], *y = &r->infer->out[0];
    r->out_axis = r->in_axis[0] < 0 ? r->in_axis[0] : WN_ROWS_MIXED;
    if (r->in_axis[0] != 0 || x->rank < 1 || y->rank < 1 || y->dim[0] != x->dim[0]) {
        if (r->in_axis[0] == WN_ROWS_NONE && r->n_in > 1 && r->in_axis[1] != WN_ROWS_NONE)
            r->out_axis = WN_ROWS_MIXED;
        return;
    }
    const struct wn_tensor *shape = r->n_in > 1 ? r->infer->value[1] : NULL;
    int64_t row_x, row_y;
    if (wn_dim_prod(x->dim, 1, x->rank, &row_x, NULL) == WINNOW_OK &&
        wn_dim_prod(y->dim, 1, y->rank, &row_y, NULL) == WINNOW_OK && row_x > 0 && row_x == row_y)
        r->out_axis = 0;
    else if (shape && wn_tensor_count(shape) > 0 && wn_scalar_int(shape, 0) == 0 &&
             !wn_node_int(r->node, "allowzero", 0))
        r->out_axis = 0; /* "keep": as many elements in as many rows, however a row is cut */
}

enum winnow_status wn_infer_flatten(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t axis = wn_node_int(in->node, "axis", 1);
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    wn_type_set_rank(&in->out[0], 2);
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    if (axis < -x->rank || axis > x->rank)
        return wn_bad(err, "axis %lld is out of range for rank %d", (long long)axis, x->rank);
    int at = (int)(axis < 0 ? axis + x->rank : axis);
    WN_TRY(wn_dim_prod(x->dim, 0, at, &in->out[0].dim[0], err));
    return wn_dim_prod(x->dim, at, x->rank, &in->out[0].dim[1], err);
}

void wn_rows_flatten(struct wn_rows *r)
{
    int64_t axis = wn_node_int(r->node, "axis", 1);
    if (wn_rows_trivial(r) || r->in_axis[0] != 0 || r->infer->in[0].rank < 1)
        return;
    if (axis == 1 || axis == 1 - r->infer->in[0].rank)
        r->out_axis = 0;
}

/* ---- Squeeze, Unsqueeze: axes are an attribute up to opset 12, an input after ---- */
static enum winnow_status squeeze_mask(const struct wn_node *node, const struct wn_tensor *axes, int rank,
                                       unsigned *ret_mask, bool *ret_given, struct winnow_err *err)
{
    int64_t list[WINNOW_MAX_RANK];
    size_t n;
    *ret_mask = 0;
    WN_TRY(wn_ints_or_attr(node, "axes", axes, list, WINNOW_MAX_RANK, &n, err));
    *ret_given = n != SIZE_MAX;
    for (size_t i = 0; *ret_given && i < n; i++) {
        int a;
        WN_TRY(wn_axis(list[i], rank, "axis", &a, err));
        if (*ret_mask >> a & 1)
            return wn_bad(err, "axis %d is given twice", a);
        *ret_mask |= 1u << a;
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_squeeze(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct wn_type *y = &in->out[0];
    unsigned mask;
    bool given;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    y->dtype = x->dtype;
    if (x->rank < 0 || (in->n_in > 1 && in->given[1] && !in->value[1]))
        return WINNOW_OK;
    WN_TRY(squeeze_mask(in->node, in->n_in > 1 ? in->value[1] : NULL, x->rank, &mask, &given, err));
    int rank = 0;
    int64_t dim[WINNOW_MAX_RANK];
    for (int a = 0; a < x->rank; a++) {
        if (given && (mask >> a & 1) && x->dim[a] >= 0 && x->dim[a] != 1)
            return wn_bad(err, "extent of axis %d is %lld, only 1 can be squeezed", a, (long long)x->dim[a]);
        if (!given && x->dim[a] < 0)
            return WINNOW_OK; /* its extent decides the rank */
        if (given ? !(mask >> a & 1) : x->dim[a] != 1)
            dim[rank++] = x->dim[a];
    }
    y->rank = rank;
    memcpy(y->dim, dim, (size_t)rank * sizeof dim[0]);
    return WINNOW_OK;
}

enum winnow_status wn_infer_unsqueeze(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct wn_type *y = &in->out[0];
    const struct wn_tensor *axes = in->n_in > 1 ? in->value[1] : NULL;
    int64_t list[WINNOW_MAX_RANK];
    size_t n;
    unsigned mask;
    bool given;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    y->dtype = x->dtype;
    if (in->n_in > 1 && in->given[1] && !axes)
        return WINNOW_OK;
    WN_TRY(wn_ints_or_attr(in->node, "axes", axes, list, WINNOW_MAX_RANK, &n, err));
    if (n == SIZE_MAX)
        return wn_bad(err, "axes are missing");
    if (x->rank < 0)
        return WINNOW_OK;
    int rank = x->rank + (int)n, from = 0;
    if (rank > WINNOW_MAX_RANK)
        return wn_lack(err, "output would have rank %d, at most %d is supported", rank, WINNOW_MAX_RANK);
    WN_TRY(squeeze_mask(in->node, axes, rank, &mask, &given, err));
    y->rank = rank;
    for (int a = 0; a < rank; a++)
        y->dim[a] = mask >> a & 1 ? 1 : x->dim[from++];
    return WINNOW_OK;
}

void wn_rows_squeeze(struct wn_rows *r)
{
    const struct wn_type *x = &r->infer->in[0];
    unsigned mask;
    bool given;
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || x->rank < 0 ||
        (r->n_in > 1 && r->infer->given[1] && !r->infer->value[1]) ||
        squeeze_mask(r->node, r->n_in > 1 ? r->infer->value[1] : NULL, x->rank, &mask, &given, NULL) != WINNOW_OK)
        return;
    if (!given || (mask >> r->in_axis[0] & 1)) /* without axes a batch of one would lose its axis */
        return;
    r->out_axis = r->in_axis[0] - __builtin_popcount(mask & ((1u << r->in_axis[0]) - 1));
}

void wn_rows_unsqueeze(struct wn_rows *r)
{
    int rank = r->infer->out[0].rank, from = 0;
    unsigned mask;
    bool given;
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || rank < 0 ||
        squeeze_mask(r->node, r->n_in > 1 ? r->infer->value[1] : NULL, rank, &mask, &given, NULL) != WINNOW_OK)
        return;
    for (int a = 0; a < rank; a++)
        if (!(mask >> a & 1) && from++ == r->in_axis[0])
            r->out_axis = a;
}

/* ---- Shape, Size ---- */
static void shape_range(const struct wn_node *node, int rank, int *from, int *to)
{
    int64_t start = wn_node_int(node, "start", 0), end = wn_node_int(node, "end", rank);
    start = start < 0 ? start < -rank ? 0 : start + rank : WN_MIN(start, rank);
    end = end < 0 ? end < -rank ? 0 : end + rank : WN_MIN(end, rank);
    *from = (int)start;
    *to = (int)WN_MAX(start, end);
}

enum winnow_status wn_infer_shape(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    in->out[0].dtype = WINNOW_I64;
    wn_type_set_rank(&in->out[0], 1);
    if (in->in[0].rank < 0)
        return WINNOW_OK;
    int from, to;
    shape_range(in->node, in->in[0].rank, &from, &to);
    in->out[0].dim[0] = to - from;
    return WINNOW_OK;
}

enum winnow_status wn_run_shape(struct wn_run *run, struct winnow_err *err)
{
    int from, to;
    shape_range(run->node, (int)run->in[0]->rank, &from, &to);
    for (int i = from; i < to; i++)
        ((int64_t *)run->out[0].data)[i - from] = run->in[0]->dim[i];
    return WINNOW_OK;
}

/* The shape of a batch is no row's own, unless the batch axis is not among what is asked for. */
void wn_rows_shape(struct wn_rows *r)
{
    int from, to;
    if (wn_rows_trivial(r) || r->infer->in[0].rank < 0)
        return;
    shape_range(r->node, r->infer->in[0].rank, &from, &to);
    if (r->in_axis[0] < from || r->in_axis[0] >= to)
        r->out_axis = WN_ROWS_NONE;
}

enum winnow_status wn_infer_size(struct wn_infer *in, struct winnow_err *err)
{
    in->out[0].dtype = WINNOW_I64;
    in->out[0].rank = 0;
    return wn_want(in, 0, WN_ALL, err);
}

enum winnow_status wn_run_size(struct wn_run *run, struct winnow_err *err)
{
    *(int64_t *)run->out[0].data = wn_tensor_count(run->in[0]);
    return WINNOW_OK;
}

/* ---- Constant, ConstantOfShape, Range, EyeLike ---- */

/* The attribute that holds the value; sparse_value is not supported. */
static const struct wn_attr *constant_attr(const struct wn_node *node)
{
    static const char *const names[] = { "value",        "value_int",    "value_ints",   "value_float",
                                         "value_floats", "value_string", "value_strings" };
    for (size_t i = 0; i < WN_COUNT(names); i++) {
        const struct wn_attr *a = wn_node_attr(node, names[i]);
        if (a)
            return a;
    }
    return NULL;
}

enum winnow_status wn_infer_constant(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_attr *a = constant_attr(in->node);
    struct wn_type *y = &in->out[0];
    if (!a && wn_node_attr(in->node, "sparse_value"))
        return wn_lack(err, "attribute sparse_value");
    if (!a)
        return wn_bad(err, "no value");
    y->rank = a->kind == WN_ATTR_INTS || a->kind == WN_ATTR_FLOATS || a->kind == WN_ATTR_STRINGS;
    y->dim[0] = (int64_t)a->n;
    switch (a->kind) {
    case WN_ATTR_TENSOR:
        if (!a->t)
            return wn_bad(err, "no value");
        *y = wn_type_of(a->t);
        return WINNOW_OK;
    case WN_ATTR_INT:
    case WN_ATTR_INTS:
        y->dtype = WINNOW_I64;
        return WINNOW_OK;
    case WN_ATTR_FLOAT:
    case WN_ATTR_FLOATS:
        y->dtype = WINNOW_F32;
        return WINNOW_OK;
    case WN_ATTR_STRING:
    case WN_ATTR_STRINGS:
        y->dtype = WINNOW_STRING;
        return WINNOW_OK;
    default:
        return wn_bad(err, "attribute %s has the wrong kind", a->name);
    }
}

enum winnow_status wn_run_constant(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_attr *a = constant_attr(run->node);
    const void *from = a->kind == WN_ATTR_TENSOR   ? a->t->data
                       : a->kind == WN_ATTR_INT    ? (const void *)&a->i
                       : a->kind == WN_ATTR_FLOAT  ? (const void *)&a->f
                       : a->kind == WN_ATTR_STRING ? (const void *)&a->s
                       : a->kind == WN_ATTR_INTS   ? (const void *)a->ints
                       : a->kind == WN_ATTR_FLOATS ? (const void *)a->floats
                                                   : (const void *)a->strs;
    if (run->out[0].bytes)
        memcpy(run->out[0].data, from, run->out[0].bytes);
    return WINNOW_OK;
}

/* A shape given as an input: extents known when it is constant. */
static enum winnow_status type_from_shape(struct wn_infer *in, unsigned i, struct winnow_err *err)
{
    struct wn_type *y = &in->out[0];
    WN_TRY(wn_want(in, i, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, i, 1, 1, err));
    if (!in->value[i]) {
        if (in->in[i].rank == 1 && in->in[i].dim[0] >= 0 && in->in[i].dim[0] <= WINNOW_MAX_RANK)
            wn_type_set_rank(y, (int)in->in[i].dim[0]);
        return WINNOW_OK;
    }
    size_t n;
    WN_TRY(wn_ints(in->value[i], "shape", y->dim, WINNOW_MAX_RANK, &n, err));
    y->rank = (int)n;
    for (size_t a = 0; a < n; a++)
        if (y->dim[a] < 0)
            return wn_bad(err, "shape: extent %lld of axis %zu", (long long)y->dim[a], a);
    return WINNOW_OK;
}

enum winnow_status wn_infer_constant_of_shape(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_attr *a = wn_node_attr(in->node, "value");
    if (a && (a->kind != WN_ATTR_TENSOR || !a->t || wn_tensor_count(a->t) != 1))
        return wn_bad(err, "attribute value must be a tensor with one element");
    in->out[0].dtype = a ? a->t->dtype : WINNOW_F32;
    return type_from_shape(in, 0, err);
}

enum winnow_status wn_run_constant_of_shape(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_attr *a = wn_node_attr(run->node, "value");
    struct wn_tensor *y = &run->out[0];
    memset(y->data, 0, y->bytes);
    if (!a)
        return WINNOW_OK;
    int64_t dim = wn_tensor_count(y), one = 1, zero = 0;
    wn_copy_nd(1, &dim, y->data, &one, a->t->data, &zero, winnow_dtype_size(y->dtype));
    return WINNOW_OK;
}

/* Number of elements of a range, or E_MALFORMED. */
static enum winnow_status range_count(const struct wn_tensor *start, const struct wn_tensor *limit,
                                      const struct wn_tensor *delta, int64_t *ret, struct winnow_err *err)
{
    double a = wn_scalar(start, 0), b = wn_scalar(limit, 0), d = wn_scalar(delta, 0);
    double n = ceil((b - a) / d);
    if (d == 0 || !(fabs(a) <= 0x1p62) || !(fabs(b) <= 0x1p62) || !(n < 0x1p48))
        return wn_bad(err, "range from %g to %g by %g", a, b, d);
    *ret = n > 0 ? (int64_t)n : 0;
    return WINNOW_OK;
}

enum winnow_status wn_infer_range(struct wn_infer *in, struct winnow_err *err)
{
    wn_type_set_rank(&in->out[0], 1);
    for (unsigned i = 0; i < 3; i++) {
        WN_TRY(wn_want(in, i, WN_NUMBERS, err));
        WN_TRY(wn_want_same(in, 0, i, err));
        if (in->value[i] && wn_tensor_count(in->value[i]) != 1)
            return wn_bad(err, "input %u is no scalar", i);
        if (in->in[i].dtype)
            in->out[0].dtype = in->in[i].dtype;
    }
    if (!in->value[0] || !in->value[1] || !in->value[2])
        return WINNOW_OK;
    return range_count(in->value[0], in->value[1], in->value[2], &in->out[0].dim[0], err);
}

enum winnow_status wn_run_range(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    if (wn_dtype_is_float(y->dtype)) {
        double a = wn_scalar(run->in[0], 0), d = wn_scalar(run->in[2], 0);
        for (int64_t i = 0; i < y->dim[0]; i++) {
            double v = a + (double)i * d;
            wn_store(y->dtype, y->data, i, 1, WN_CLS_F64, &v);
        }
        return WINNOW_OK;
    }
    uint64_t v = (uint64_t)wn_scalar_int(run->in[0], 0), d = (uint64_t)wn_scalar_int(run->in[2], 0);
    for (int64_t i = 0; i < y->dim[0]; i++, v += d)
        wn_store(y->dtype, y->data, i, 1, WN_CLS_U64, &v);
    return WINNOW_OK;
}

enum winnow_status wn_infer_eye_like(struct wn_infer *in, struct winnow_err *err)
{
    bool given = wn_node_attr(in->node, "dtype") != NULL;
    int64_t to = wn_node_int(in->node, "dtype", in->in[0].dtype);
    WN_TRY(wn_want_rank(in, 0, 2, 2, err));
    if (to < given || to > 31 || (to && !((WN_NUMBERS | WN_D(BOOL)) >> to & 1)))
        return wn_lack(err, "attribute dtype: data type %lld", (long long)to);
    in->out[0] = in->in[0];
    in->out[0].dtype = (enum winnow_dtype)to;
    return WINNOW_OK;
}

enum winnow_status wn_run_eye_like(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    static const int64_t one = 1;
    int64_t k = wn_node_int(run->node, "k", 0);
    memset(y->data, 0, y->bytes);
    for (int64_t i = 0; i < y->dim[0]; i++)
        if (k < y->dim[1] - i && k >= -i)
            wn_store(y->dtype, y->data, i * y->dim[1] + i + k, 1, WN_CLS_I64, &one);
    return WINNOW_OK;
}

/* ---- Expand: multidirectional broadcast to a shape ---- */
enum winnow_status wn_infer_expand(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(type_from_shape(in, 1, err));
    if (!in->value[1]) { /* a dynamic shape of known length: only the rank is known */
        int rank = in->out[0].rank;
        if (rank >= 0 && in->in[0].rank >= 0)
            wn_type_set_rank(&in->out[0], WN_MAX(rank, in->in[0].rank));
        else
            in->out[0].rank = -1;
        in->out[0].dtype = in->in[0].dtype;
        return WINNOW_OK;
    }
    struct wn_type shape = in->out[0];
    in->out[0] = in->in[0];
    return wn_type_broadcast(&in->out[0], &shape, err);
}

enum winnow_status wn_run_expand(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    int64_t to[WINNOW_MAX_RANK], from[WINNOW_MAX_RANK];
    wn_strides(y->rank, y->dim, to);
    wn_bcast_strides(run->in[0], y->rank, y->dim, from);
    wn_copy_nd(y->rank, y->dim, y->data, to, run->in[0]->data, from, winnow_dtype_size(y->dtype));
    return WINNOW_OK;
}

void wn_rows_expand(struct wn_rows *r)
{
    const struct wn_type *x = &r->infer->in[0];
    const struct wn_tensor *shape = r->infer->value[1];
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || x->rank < 0 || !shape)
        return;
    int rank = r->infer->out[0].rank, lead = rank - (int)wn_tensor_count(shape);
    int axis = r->in_axis[0] + rank - x->rank;
    if (axis < lead || wn_scalar_int(shape, axis - lead) == 1)
        r->out_axis = axis;
}
