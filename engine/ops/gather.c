/* gather.c: operators whose indices are data: Gather, GatherElements, GatherND, OneHot.  Source: ONNX Operators.md.
 * An index out of range is the caller's error: E_MALFORMED with its value. */
#include "engine/ops/impl.h"

#include <string.h>

/* index in [-n, n - 1] -> [0, n - 1] */
static enum winnow_status index_in(int64_t i, int64_t n, int64_t *ret, struct winnow_err *err)
{
    *ret = 0;
    if (i < -n || i >= n)
        return wn_bad(err, "index %lld is out of range for an extent of %lld", (long long)i, (long long)n);
    *ret = i < 0 ? i + n : i;
    return WINNOW_OK;
}

/* ---- Gather ---- */
enum winnow_status wn_infer_gather(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *idx = &in->in[1];
    struct wn_type *y = &in->out[0];
    int axis;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    y->dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    if (idx->rank < 0)
        return WINNOW_OK;
    if (x->rank - 1 + idx->rank > WINNOW_MAX_RANK)
        return wn_lack(err, "output would have rank %d, at most %d is supported", x->rank - 1 + idx->rank,
                       WINNOW_MAX_RANK);
    y->rank = 0;
    for (int a = 0; a < axis; a++)
        y->dim[y->rank++] = x->dim[a];
    for (int a = 0; a < idx->rank; a++)
        y->dim[y->rank++] = idx->dim[a];
    for (int a = axis + 1; a < x->rank; a++)
        y->dim[y->rank++] = x->dim[a];
    return WINNOW_OK;
}

enum winnow_status wn_run_gather(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
    const int64_t *idx = wn_as_i64(run->in[1], run->tmp);
    if (!idx)
        return wn_nomem(err);
    int64_t n_idx = wn_tensor_count(run->in[1]), outer = 1;
    size_t block = winnow_dtype_size(x->dtype);
    for (int a = 0; a < axis; a++)
        outer *= x->dim[a];
    for (unsigned a = (unsigned)axis + 1; a < x->rank; a++)
        block *= (size_t)x->dim[a];
    char *to = run->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < n_idx; i++, to += block) {
            int64_t at;
            WN_TRY(index_in(idx[i], x->dim[axis], &at, err));
            memcpy(to, (const char *)x->data + (size_t)(o * x->dim[axis] + at) * block, block);
        }
    return WINNOW_OK;
}

void wn_rows_gather(struct wn_rows *r)
{
    const struct wn_type *x = &r->infer->in[0], *idx = &r->infer->in[1];
    int axis;
    if (wn_rows_trivial(r) || x->rank < 0 || idx->rank < 0 ||
        wn_axis(wn_node_int(r->node, "axis", 0), x->rank, "axis", &axis, NULL) != WINNOW_OK)
        return;
    if (r->in_axis[0] < 0) /* a table looked up with batched indices */
        r->out_axis = axis + r->in_axis[1];
    else if (r->in_axis[1] < 0 && r->in_axis[0] != axis)
        r->out_axis = r->in_axis[0] < axis ? r->in_axis[0] : r->in_axis[0] + idx->rank - 1;
}

/* ---- GatherElements ---- */
enum winnow_status wn_infer_gather_elements(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *idx = &in->in[1];
    int axis;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    in->out[0] = *idx;
    in->out[0].dtype = x->dtype;
    if (x->rank < 0 || idx->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    if (x->rank != idx->rank)
        return wn_bad(err, "data has rank %d and indices %d", x->rank, idx->rank);
    for (int a = 0; a < x->rank; a++)
        if (a != axis && x->dim[a] >= 0 && idx->dim[a] > x->dim[a])
            return wn_bad(err, "indices' extent %lld of axis %d exceeds data's %lld", (long long)idx->dim[a], a,
                          (long long)x->dim[a]);
    return WINNOW_OK;
}

enum winnow_status wn_run_gather_elements(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
    const int64_t *want = wn_as_i64(run->in[1], run->tmp);
    if (!want)
        return wn_nomem(err);
    int64_t own[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    size_t elem = winnow_dtype_size(x->dtype);
    wn_strides(x->rank, x->dim, own);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t at = 0, k;
        WN_TRY(index_in(want[i], x->dim[axis], &k, err));
        for (unsigned a = 0; a < x->rank; a++)
            at += (a == (unsigned)axis ? k : idx[a]) * own[a];
        memcpy((char *)y->data + (size_t)i * elem, (const char *)x->data + (size_t)at * elem, elem);
    }
    return WINNOW_OK;
}

void wn_rows_gather_elements(struct wn_rows *r)
{
    int axis;
    if (!wn_rows_trivial(r) && r->infer->in[0].rank >= 0 && r->in_axis[0] == r->in_axis[1] &&
        wn_axis(wn_node_int(r->node, "axis", 0), r->infer->in[0].rank, "axis", &axis, NULL) == WINNOW_OK &&
        axis != r->in_axis[0])
        r->out_axis = r->in_axis[0];
}

/* ---- GatherND ---- */
enum winnow_status wn_infer_gather_nd(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *idx = &in->in[1];
    struct wn_type *y = &in->out[0];
    int64_t b = wn_node_int(in->node, "batch_dims", 0), same;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 1, WINNOW_MAX_RANK, err));
    WN_TRY(wn_want_rank(in, 1, 1, WINNOW_MAX_RANK, err));
    y->dtype = x->dtype;
    if (x->rank < 0 || idx->rank < 0)
        return WINNOW_OK;
    if (b < 0 || b >= x->rank || b >= idx->rank)
        return wn_bad(err, "attribute batch_dims: %lld for ranks %d and %d", (long long)b, x->rank, idx->rank);
    for (int a = 0; a < b; a++)
        WN_TRY(wn_dim_same(x->dim[a], idx->dim[a], "batch extents", &same, err));
    int64_t k = idx->dim[idx->rank - 1];
    if (k < 0)
        return WINNOW_OK;
    if (k < 1 || k > x->rank - b)
        return wn_bad(err, "indices of %lld axes into rank %d", (long long)k, x->rank);
    if (idx->rank - 1 + x->rank - (int)(b + k) > WINNOW_MAX_RANK)
        return wn_lack(err, "output's rank exceeds %d", WINNOW_MAX_RANK);
    y->rank = 0;
    for (int a = 0; a < idx->rank - 1; a++)
        y->dim[y->rank++] = idx->dim[a];
    for (int a = (int)(b + k); a < x->rank; a++)
        y->dim[y->rank++] = x->dim[a];
    return WINNOW_OK;
}

enum winnow_status wn_run_gather_nd(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *it = run->in[1];
    int64_t b = wn_node_int(run->node, "batch_dims", 0), k = it->dim[it->rank - 1], own[WINNOW_MAX_RANK];
    int64_t batches = 1, tuples = 1;
    size_t block = winnow_dtype_size(x->dtype);
    const int64_t *idx = it->data;
    wn_strides(x->rank, x->dim, own);
    for (int64_t a = 0; a < b; a++)
        batches *= x->dim[a];
    for (unsigned a = 0; a + 1 < it->rank; a++)
        tuples *= it->dim[a];
    for (unsigned a = (unsigned)(b + k); a < x->rank; a++)
        block *= (size_t)x->dim[a];
    int64_t per_batch = batches ? tuples / batches : 0, batch_stride = b ? own[b - 1] : 0;
    for (int64_t t = 0; t < tuples; t++) {
        int64_t at = per_batch ? t / per_batch * batch_stride : 0;
        for (int64_t a = 0; a < k; a++) {
            int64_t i;
            WN_TRY(index_in(idx[t * k + a], x->dim[b + a], &i, err));
            at += i * own[b + a];
        }
        memcpy((char *)run->out[0].data + (size_t)t * block,
               (const char *)x->data + (size_t)at * winnow_dtype_size(x->dtype), block);
    }
    return WINNOW_OK;
}

void wn_rows_gather_nd(struct wn_rows *r)
{
    int64_t b = wn_node_int(r->node, "batch_dims", 0);
    const struct wn_type *idx = &r->infer->in[1];
    if (wn_rows_trivial(r))
        return;
    if (r->in_axis[0] < 0 && idx->rank > 0 && r->in_axis[1] < idx->rank - 1 && r->in_axis[1] >= b)
        r->out_axis = r->in_axis[1];
    else if (r->in_axis[0] >= 0 && r->in_axis[0] == r->in_axis[1] && r->in_axis[0] < b)
        r->out_axis = r->in_axis[0];
}

/* ---- OneHot: indices, depth, values (off, on) ---- */
enum winnow_status wn_infer_one_hot(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct wn_type *y = &in->out[0];
    int axis;
    int64_t depth = -1;
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 1, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 2, WN_ALL, err));
    y->dtype = in->in[2].dtype;
    if (in->in[2].rank >= 0 && (in->in[2].rank != 1 || (in->in[2].dim[0] >= 0 && in->in[2].dim[0] != 2)))
        return wn_bad(err, "values must have 2 elements");
    if (in->value[1]) {
        if (wn_tensor_count(in->value[1]) != 1)
            return wn_bad(err, "depth is no scalar");
        depth = wn_scalar_int(in->value[1], 0);
        if (depth < 0)
            return wn_bad(err, "depth %lld", (long long)depth);
    }
    if (x->rank < 0)
        return WINNOW_OK;
    if (x->rank + 1 > WINNOW_MAX_RANK)
        return wn_lack(err, "output would have rank %d, at most %d is supported", x->rank + 1, WINNOW_MAX_RANK);
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", -1), x->rank + 1, "axis", &axis, err));
    y->rank = x->rank + 1;
    for (int a = 0; a < y->rank; a++)
        y->dim[a] = a == axis ? depth : x->dim[a < axis ? a : a - 1];
    return WINNOW_OK;
}

enum winnow_status wn_run_one_hot(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *values = run->in[2];
    struct wn_tensor *y = &run->out[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", -1), (int)y->rank, "axis", &axis, err));
    int64_t depth = y->dim[axis], inner = 1, one = 1, zero = 0, n = wn_tensor_count(y);
    size_t elem = winnow_dtype_size(y->dtype);
    for (unsigned a = (unsigned)axis + 1; a < y->rank; a++)
        inner *= y->dim[a];
    wn_copy_nd(1, &n, y->data, &one, values->data, &zero, elem);
    for (int64_t i = 0, m = depth ? wn_tensor_count(x) : 0; i < m; i++) {
        int64_t k = wn_scalar_int(x, i);
        if (k < -depth || k >= depth) /* out of range: all off */
            continue;
        k = k < 0 ? k + depth : k;
        memcpy((char *)y->data + (size_t)(i / inner * depth * inner + k * inner + i % inner) * elem,
               (const char *)values->data + elem, elem);
    }
    return WINNOW_OK;
}

void wn_rows_one_hot(struct wn_rows *r)
{
    int axis;
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->infer->in[0].rank >= 0 &&
        wn_axis(wn_node_int(r->node, "axis", -1), r->infer->in[0].rank + 1, "axis", &axis, NULL) == WINNOW_OK)
        r->out_axis = r->in_axis[0] < axis ? r->in_axis[0] : r->in_axis[0] + 1;
}
