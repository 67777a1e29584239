/* select.c: operators that write to or choose by data: ScatterElements, ScatterND, TopK, NonZero, Compress,
 * ReverseSequence.  Source: ONNX Operators.md. Indices out of range are E_MALFORMED. */
#include "engine/ops/impl.h"

#include <stdlib.h>
#include <string.h>

enum reduction { REPLACE, ADD, MUL, MIN, MAX };

static enum winnow_status reduction_of(const struct wn_node *node, enum reduction *ret, struct winnow_err *err)
{
    static const char *const names[] = { "none", "add", "mul", "min", "max" };
    *ret = REPLACE;
    for (int i = 0; i < 5; i++)
        if (wn_node_str_is(node, "reduction", "none", names[i])) {
            *ret = (enum reduction)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute reduction is none of none, add, mul, min, max");
}

/* y[at] = y[at] (reduction) u[from] */
static void put(struct wn_tensor *y, int64_t at, const struct wn_tensor *u, int64_t from, enum reduction how)
{
    size_t elem = winnow_dtype_size(y->dtype);
    if (how == REPLACE) {
        memcpy((char *)y->data + (size_t)at * elem, (const char *)u->data + (size_t)from * elem, elem);
    } else if (wn_dtype_is_float(y->dtype)) {
        double a = wn_scalar(y, at), b = wn_scalar(u, from);
        double v = how == ADD ? a + b : how == MUL ? a * b : how == MIN ? (b < a ? b : a) : (b > a ? b : a);
        wn_store(y->dtype, y->data, at, 1, WN_CLS_F64, &v);
    } else {
        int64_t a = wn_scalar_int(y, at), b = wn_scalar_int(u, from);
        bool less = y->dtype == WINNOW_U64 ? (uint64_t)b < (uint64_t)a : b < a;
        uint64_t v = how == ADD   ? (uint64_t)a + (uint64_t)b
                     : how == MUL ? (uint64_t)a * (uint64_t)b
                                  : (uint64_t)((how == MIN) == less ? b : a);
        wn_store(y->dtype, y->data, at, 1, WN_CLS_U64, &v);
    }
}

static enum winnow_status index_in(int64_t i, int64_t n, int64_t *ret, struct winnow_err *err)
{
    *ret = 0;
    if (i < -n || i >= n)
        return wn_bad(err, "index %lld is out of range for an extent of %lld", (long long)i, (long long)n);
    *ret = i < 0 ? i + n : i;
    return WINNOW_OK;
}

static enum winnow_status infer_scatter(struct wn_infer *in, struct winnow_err *err)
{
    enum reduction how;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(reduction_of(in->node, &how, err));
    if (how != REPLACE)
        WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    in->out[0] = in->in[0];
    if (!in->out[0].dtype)
        in->out[0].dtype = in->in[2].dtype;
    return WINNOW_OK;
}

/* ---- ScatterElements ---- */
enum winnow_status wn_infer_scatter_elements(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *idx = &in->in[1], *u = &in->in[2];
    int axis;
    int64_t same;
    WN_TRY(infer_scatter(in, err));
    if (x->rank < 0 || idx->rank < 0 || u->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    if (idx->rank != x->rank || u->rank != x->rank)
        return wn_bad(err, "data, indices and updates have ranks %d, %d, %d", x->rank, idx->rank, u->rank);
    for (int a = 0; a < x->rank; a++) {
        WN_TRY(wn_dim_same(idx->dim[a], u->dim[a], "indices and updates", &same, err));
        if (a != axis && x->dim[a] >= 0 && same > x->dim[a])
            return wn_bad(err, "updates' extent %lld of axis %d exceeds data's %lld", (long long)same, a,
                          (long long)x->dim[a]);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_scatter_elements(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *it = run->in[1];
    int axis;
    enum reduction how;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)y->rank, "axis", &axis, err));
    WN_TRY(reduction_of(run->node, &how, err));
    memcpy(y->data, run->in[0]->data, y->bytes);
    int64_t own[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    wn_strides(y->rank, y->dim, own);
    for (int64_t i = 0, n = wn_tensor_count(it); i < n; i++, wn_next_index(it->rank, it->dim, idx)) {
        int64_t at = 0, k;
        WN_TRY(index_in(wn_scalar_int(it, i), y->dim[axis], &k, err));
        for (unsigned a = 0; a < y->rank; a++)
            at += (a == (unsigned)axis ? k : idx[a]) * own[a];
        put(y, at, run->in[2], i, how);
    }
    return WINNOW_OK;
}

/* ---- ScatterND ---- */
enum winnow_status wn_infer_scatter_nd(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *idx = &in->in[1], *u = &in->in[2];
    int64_t same;
    WN_TRY(infer_scatter(in, err));
    WN_TRY(wn_want_rank(in, 0, 1, WINNOW_MAX_RANK, err));
    WN_TRY(wn_want_rank(in, 1, 1, WINNOW_MAX_RANK, err));
    if (x->rank < 0 || idx->rank < 0 || u->rank < 0 || idx->dim[idx->rank - 1] < 0)
        return WINNOW_OK;
    int64_t k = idx->dim[idx->rank - 1];
    if (k > x->rank)
        return wn_bad(err, "indices of %lld axes into rank %d", (long long)k, x->rank);
    if (u->rank != idx->rank - 1 + x->rank - (int)k)
        return wn_bad(err, "updates have rank %d, must have %d", u->rank, idx->rank - 1 + x->rank - (int)k);
    for (int a = 0; a < u->rank; a++)
        WN_TRY(wn_dim_same(u->dim[a], a < idx->rank - 1 ? idx->dim[a] : x->dim[a - (idx->rank - 1) + k],
                           "updates' extents", &same, err));
    return WINNOW_OK;
}

enum winnow_status wn_run_scatter_nd(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *it = run->in[1];
    enum reduction how;
    WN_TRY(reduction_of(run->node, &how, err));
    memcpy(y->data, run->in[0]->data, y->bytes);
    int64_t own[WINNOW_MAX_RANK], k = it->dim[it->rank - 1], tuples = 1, block = 1;
    wn_strides(y->rank, y->dim, own);
    for (unsigned a = 0; a + 1 < it->rank; a++)
        tuples *= it->dim[a];
    for (unsigned a = (unsigned)k; a < y->rank; a++)
        block *= y->dim[a];
    for (int64_t t = 0; t < tuples; t++) {
        int64_t at = 0;
        for (int64_t a = 0; a < k; a++) {
            int64_t i;
            WN_TRY(index_in(wn_scalar_int(it, t * k + a), y->dim[a], &i, err));
            at += i * own[a];
        }
        for (int64_t i = 0; i < block; i++)
            put(y, at + i, run->in[2], t * block + i, how);
    }
    return WINNOW_OK;
}

/* Rows are only written by their own updates when all three carry the batch along an axis other than `axis`. */
void wn_rows_scatter_elements(struct wn_rows *r)
{
    int axis;
    if (!wn_rows_trivial(r) && r->infer->in[0].rank >= 0 && r->in_axis[0] >= 0 && r->in_axis[0] == r->in_axis[1] &&
        r->in_axis[1] == r->in_axis[2] &&
        wn_axis(wn_node_int(r->node, "axis", 0), r->infer->in[0].rank, "axis", &axis, NULL) == WINNOW_OK &&
        axis != r->in_axis[0])
        r->out_axis = r->in_axis[0];
}

/* ---- TopK ---- */
static enum winnow_status top_k_count(const struct wn_infer *in, int64_t *ret, struct winnow_err *err)
{
    *ret = -1;
    if (in->node->opset < 10) {
        *ret = wn_node_int(in->node, "k", -1);
        if (*ret < 1)
            return wn_bad(err, "attribute k: %lld", (long long)*ret);
    } else if (in->value[1]) {
        if (wn_tensor_count(in->value[1]) != 1)
            return wn_bad(err, "K has %lld elements, must have 1", (long long)wn_tensor_count(in->value[1]));
        *ret = wn_scalar_int(in->value[1], 0);
        if (*ret < 0)
            return wn_bad(err, "K is %lld", (long long)*ret);
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_top_k(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int axis;
    int64_t k;
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(top_k_count(in, &k, err));
    in->out[0] = *x;
    if (x->rank >= 0) {
        WN_TRY(wn_axis(wn_node_int(in->node, "axis", -1), x->rank, "axis", &axis, err));
        if (k >= 0 && x->dim[axis] >= 0 && k > x->dim[axis])
            return wn_bad(err, "K is %lld for an extent of %lld", (long long)k, (long long)x->dim[axis]);
        in->out[0].dim[axis] = k;
    }
    if (in->n_out > 1) {
        in->out[1] = in->out[0];
        in->out[1].dtype = WINNOW_I64;
    }
    return WINNOW_OK;
}

/* Order of one row: by value, then by index. A key keeps the order of the dtype: as f64, or as i64 for integers. */
struct entry {
    double f;
    int64_t i, at;
};

static int by_largest(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->f != b->f)
        return a->f > b->f ? -1 : a->f < b->f ? 1 : (a->f != a->f) - (b->f != b->f) < 0 ? 1 : -1;
    if (a->i != b->i)
        return a->i > b->i ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int by_smallest(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->f != b->f)
        return a->f < b->f ? -1 : a->f > b->f ? 1 : (a->f != a->f) - (b->f != b->f) < 0 ? -1 : 1;
    if (a->i != b->i)
        return a->i < b->i ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

enum winnow_status wn_run_top_k(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", -1), (int)x->rank, "axis", &axis, err));
    bool largest = run->node->opset < 11 || wn_node_int(run->node, "largest", 1) != 0;
    bool real = wn_dtype_is_float(x->dtype);
    int64_t n = x->dim[axis], k = y->dim[axis], inner = 1, outer = 1;
    size_t elem = winnow_dtype_size(x->dtype);
    for (int a = 0; a < axis; a++)
        outer *= x->dim[a];
    for (unsigned a = (unsigned)axis + 1; a < x->rank; a++)
        inner *= x->dim[a];
    struct entry *e = wn_arena_calloc(run->tmp, (size_t)n, sizeof *e);
    if (!e)
        return wn_nomem(err);
    for (int64_t r = 0; r < outer * inner; r++) {
        int64_t from = r / inner * n * inner + r % inner, to = r / inner * k * inner + r % inner;
        for (int64_t i = 0; i < n; i++) {
            int64_t v = real ? 0 : wn_scalar_int(x, from + i * inner);
            e[i] = (struct entry){ real ? wn_scalar(x, from + i * inner) : 0,
                                   x->dtype == WINNOW_U64 ? v ^ INT64_MIN : v, i };
        }
        qsort(e, (size_t)n, sizeof *e, largest ? by_largest : by_smallest);
        for (int64_t i = 0; i < k; i++) {
            if (y->data)
                memcpy((char *)y->data + (size_t)(to + i * inner) * elem,
                       (const char *)x->data + (size_t)(from + e[i].at * inner) * elem, elem);
            if (run->n_out > 1 && run->out[1].data)
                ((int64_t *)run->out[1].data)[to + i * inner] = e[i].at;
        }
    }
    return WINNOW_OK;
}

/* ---- NonZero, Compress: how much comes out depends on the data ---- */
enum winnow_status wn_infer_non_zero(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_NUMBERS | WN_D(BOOL), err));
    wn_type_set_rank(&in->out[0], 2);
    in->out[0].dtype = WINNOW_I64;
    in->out[0].dim[0] = in->in[0].rank < 0 ? -1 : WN_MAX(in->in[0].rank, 1);
    return WINNOW_OK;
}

enum winnow_status wn_run_non_zero(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int64_t total = wn_tensor_count(x), n = 0, rank = WN_MAX(x->rank, 1), idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < total; i++)
        n += wn_scalar(x, i) != 0;
    WN_TRY(wn_run_alloc(run, 0, WINNOW_I64, 2, (const int64_t[]){ rank, n }, err));
    int64_t *y = run->out[0].data, at = 0;
    for (int64_t i = 0; i < total; i++, wn_next_index(x->rank, x->dim, idx)) {
        if (wn_scalar(x, i) == 0)
            continue;
        for (unsigned a = 0; a < rank; a++)
            y[a * n + at] = idx[a];
        at++;
    }
    return WINNOW_OK;
}

/* Entries of `axis` (or of the flattened input) whose condition is true; a short condition is false past its end. */
enum winnow_status wn_infer_compress(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int axis = 0;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_D(BOOL), err));
    WN_TRY(wn_want_rank(in, 1, 1, 1, err));
    WN_TRY(wn_want_rank(in, 0, 1, WINNOW_MAX_RANK, err));
    in->out[0].dtype = x->dtype;
    if (!wn_node_attr(in->node, "axis")) {
        wn_type_set_rank(&in->out[0], 1);
        return WINNOW_OK;
    }
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    in->out[0] = *x;
    in->out[0].dim[axis] = -1;
    return WINNOW_OK;
}

enum winnow_status wn_run_compress(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *cond = run->in[1];
    bool flat = !wn_node_attr(run->node, "axis");
    int axis = 0;
    if (!flat)
        WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
    int64_t dim[WINNOW_MAX_RANK], n = flat ? wn_tensor_count(x) : x->dim[axis], outer = 1, kept = 0;
    int64_t known = WN_MIN(n, cond->dim[0]);
    size_t block = winnow_dtype_size(x->dtype);
    for (unsigned a = 0; !flat && a < x->rank; a++) {
        outer *= a < (unsigned)axis ? x->dim[a] : 1;
        block *= a > (unsigned)axis ? (size_t)x->dim[a] : 1;
    }
    for (int64_t i = 0; i < known; i++)
        kept += ((const uint8_t *)cond->data)[i] != 0;
    memcpy(dim, x->dim, sizeof dim);
    dim[axis] = kept;
    WN_TRY(wn_run_alloc(run, 0, x->dtype, flat ? 1 : x->rank, dim, err));
    char *to = run->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < known; i++)
            if (((const uint8_t *)cond->data)[i]) {
                memcpy(to, (const char *)x->data + (size_t)(o * n + i) * block, block);
                to += block;
            }
    return WINNOW_OK;
}

/* ---- ReverseSequence: the first len[b] entries of every sequence, back to front ---- */
enum winnow_status wn_infer_reverse_sequence(struct wn_infer *in, struct winnow_err *err)
{
    int64_t b = wn_node_int(in->node, "batch_axis", 1), t = wn_node_int(in->node, "time_axis", 0), same;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    WN_TRY(wn_want_rank(in, 1, 1, 1, err));
    if ((b != 0 && b != 1) || t != 1 - b)
        return wn_bad(err, "batch_axis %lld and time_axis %lld must be 0 and 1", (long long)b, (long long)t);
    in->out[0] = in->in[0];
    if (in->in[0].rank < 0 || in->in[1].rank < 0)
        return WINNOW_OK;
    return wn_dim_same(in->in[0].dim[b], in->in[1].dim[0], "sequences and lengths", &same, err);
}

enum winnow_status wn_run_reverse_sequence(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int64_t b = wn_node_int(run->node, "batch_axis", 1), steps = x->dim[1 - b], n = x->dim[0] * x->dim[1];
    size_t block = winnow_dtype_size(x->dtype);
    for (unsigned a = 2; a < x->rank; a++)
        block *= (size_t)x->dim[a];
    for (int64_t i = 0; i < n; i++) {
        int64_t seq = b == 0 ? i / x->dim[1] : i % x->dim[1], t = b == 0 ? i % x->dim[1] : i / x->dim[1];
        int64_t len = wn_scalar_int(run->in[1], seq);
        if (len < 0 || len > steps)
            return wn_bad(err, "length %lld of a sequence of %lld", (long long)len, (long long)steps);
        int64_t from = t < len ? len - 1 - t : t, at = b == 0 ? seq * x->dim[1] + from : from * x->dim[1] + seq;
        memcpy((char *)run->out[0].data + (size_t)i * block, (const char *)x->data + (size_t)at * block, block);
    }
    return WINNOW_OK;
}
