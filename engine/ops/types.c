/* types.c: checks and arithmetic on types that every shape rule uses. */
#include "base/small.h"
#include "engine/ops/impl.h"

/* ---- dtypes ---- */

enum wn_cls wn_cls_of(enum winnow_dtype dtype)
{
    switch (dtype) {
    case WINNOW_F32:
    case WINNOW_F16:
    case WINNOW_BF16:
        return WN_CLS_F32;
    case WINNOW_F64:
        return WN_CLS_F64;
    case WINNOW_U64:
        return WN_CLS_U64;
    case WINNOW_BOOL:
    case WINNOW_U8:
    case WINNOW_I8:
    case WINNOW_U16:
    case WINNOW_I16:
    case WINNOW_U32:
    case WINNOW_I32:
    case WINNOW_I64:
        return WN_CLS_I64;
    default:
        return wn_small_is_float(dtype) ? WN_CLS_F32 : wn_small_is(dtype) ? WN_CLS_I64 : WN_CLS_NONE;
    }
}

bool wn_dtype_is_float(enum winnow_dtype dtype)
{
    return (unsigned)dtype < 32 && (WN_FLOATS >> dtype & 1);
}

/* ---- checks ---- */

enum winnow_status wn_want(const struct wn_infer *in, unsigned i, uint32_t mask, struct winnow_err *err)
{
    if (i >= in->n_in || !in->given[i] || in->in[i].dtype == WINNOW_UNDEFINED)
        return WINNOW_OK;
    if ((unsigned)in->in[i].dtype < 32 && (mask >> in->in[i].dtype & 1))
        return WINNOW_OK;
    return wn_lack(err, "input %u has dtype %s, which this operator does not take", i,
                   winnow_dtype_name(in->in[i].dtype));
}

enum winnow_status wn_want_same(const struct wn_infer *in, unsigned i, unsigned j, struct winnow_err *err)
{
    if (i >= in->n_in || j >= in->n_in || !in->given[i] || !in->given[j])
        return WINNOW_OK;
    enum winnow_dtype a = in->in[i].dtype, b = in->in[j].dtype;
    if (a == b || a == WINNOW_UNDEFINED || b == WINNOW_UNDEFINED)
        return WINNOW_OK;
    return wn_bad(err, "inputs %u (%s) and %u (%s) must have the same dtype", i, winnow_dtype_name(a), j,
                  winnow_dtype_name(b));
}

enum winnow_status wn_want_given(const struct wn_infer *in, const unsigned *list, size_t n, struct winnow_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] >= in->n_in || !in->given[list[i]])
            return wn_bad(err, "input %u may not be omitted", list[i]);
    return WINNOW_OK;
}

enum winnow_status wn_want_rank(const struct wn_infer *in, unsigned i, int lo, int hi, struct winnow_err *err)
{
    if (i >= in->n_in || !in->given[i] || in->in[i].rank < 0 || (in->in[i].rank >= lo && in->in[i].rank <= hi))
        return WINNOW_OK;
    if (lo == hi)
        return wn_bad(err, "input %u has rank %d, must be %d", i, in->in[i].rank, lo);
    return wn_bad(err, "input %u has rank %d, must be %d to %d", i, in->in[i].rank, lo, hi);
}

enum winnow_status wn_axis(int64_t axis, int rank, const char *what, int *ret_axis, struct winnow_err *err)
{
    if (axis < -(int64_t)rank || axis >= rank)
        return wn_bad(err, "%s %lld is out of range for rank %d", what, (long long)axis, rank);
    *ret_axis = (int)(axis < 0 ? axis + rank : axis);
    return WINNOW_OK;
}

enum winnow_status wn_ints(const struct wn_tensor *t, const char *what, int64_t *ret, size_t cap, size_t *ret_n,
                           struct winnow_err *err)
{
    if (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32)
        return wn_bad(err, "%s has dtype %s, must be i64", what, winnow_dtype_name(t->dtype));
    if (t->rank > 1)
        return wn_bad(err, "%s has rank %u, must be 1", what, t->rank);
    int64_t n = wn_tensor_count(t);
    if ((uint64_t)n > cap)
        return wn_bad(err, "%s has %lld elements, at most %zu make sense", what, (long long)n, cap);
    for (int64_t i = 0; i < n; i++)
        ret[i] = t->dtype == WINNOW_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
    *ret_n = (size_t)n;
    return WINNOW_OK;
}

enum winnow_status wn_ints_or_attr(const struct wn_node *node, const char *name, const struct wn_tensor *t,
                                   int64_t *ret, size_t cap, size_t *ret_n, struct winnow_err *err)
{
    *ret_n = SIZE_MAX;
    if (t)
        return wn_ints(t, name, ret, cap, ret_n, err);
    const struct wn_attr *a = wn_node_attr(node, name);
    if (!a)
        return WINNOW_OK;
    if (a->kind != WN_ATTR_INTS && a->n != 0)
        return wn_bad(err, "attribute %s is not a list of integers", name);
    if (a->n > cap)
        return wn_bad(err, "attribute %s has %zu elements, at most %zu make sense", name, a->n, cap);
    for (size_t i = 0; i < a->n; i++)
        ret[i] = a->ints[i];
    *ret_n = a->n;
    return WINNOW_OK;
}

double wn_scalar(const struct wn_tensor *t, int64_t i)
{
    union wn_chunk buf;
    if (wn_cls_of(t->dtype) == WN_CLS_NONE || i >= wn_tensor_count(t))
        return 0;
    return *(const double *)wn_load(t->dtype, t->data, i, 0, 1, WN_CLS_F64, &buf);
}

int64_t wn_scalar_int(const struct wn_tensor *t, int64_t i)
{
    union wn_chunk buf;
    if (wn_cls_of(t->dtype) == WN_CLS_NONE || i >= wn_tensor_count(t))
        return 0;
    return *(const int64_t *)wn_load(t->dtype, t->data, i, 0, 1, WN_CLS_I64, &buf);
}

/* ---- types ---- */

struct wn_type wn_type_of(const struct wn_tensor *t)
{
    struct wn_type y = { .dtype = t->dtype, .rank = (int)t->rank };
    for (unsigned i = 0; i < t->rank; i++)
        y.dim[i] = t->dim[i];
    return y;
}

void wn_type_set_rank(struct wn_type *t, int rank)
{
    t->rank = rank;
    for (int i = 0; i < rank; i++)
        t->dim[i] = -1;
}

enum winnow_status wn_dim_mul(int64_t a, int64_t b, int64_t *ret, struct winnow_err *err)
{
    if (a < 0 || b < 0)
        *ret = a == 0 || b == 0 ? 0 : -1;
    else if (__builtin_mul_overflow(a, b, ret))
        return wn_bad(err, "extent %lld x %lld overflows", (long long)a, (long long)b);
    return WINNOW_OK;
}

enum winnow_status wn_dim_add(int64_t a, int64_t b, int64_t *ret, struct winnow_err *err)
{
    if (a < 0 || b < 0)
        *ret = -1;
    else if (__builtin_add_overflow(a, b, ret))
        return wn_bad(err, "extent %lld + %lld overflows", (long long)a, (long long)b);
    return WINNOW_OK;
}

enum winnow_status wn_dim_prod(const int64_t *dim, int from, int to, int64_t *ret, struct winnow_err *err)
{
    *ret = 1;
    for (int i = from; i < to; i++)
        WN_TRY(wn_dim_mul(*ret, dim[i], ret, err));
    return WINNOW_OK;
}

enum winnow_status wn_dim_same(int64_t a, int64_t b, const char *what, int64_t *ret, struct winnow_err *err)
{
    if (a >= 0 && b >= 0 && a != b)
        return wn_bad(err, "%s: %lld and %lld do not agree", what, (long long)a, (long long)b);
    *ret = a >= 0 ? a : b;
    return WINNOW_OK;
}

enum winnow_status wn_type_broadcast(struct wn_type *a, const struct wn_type *b, struct winnow_err *err)
{
    if (a->rank < 0 || b->rank < 0) {
        a->rank = -1;
        return WINNOW_OK;
    }
    int rank = WN_MAX(a->rank, b->rank);
    int64_t dim[WINNOW_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        int ia = i - (rank - a->rank), ib = i - (rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da == 1)
            dim[i] = db;
        else if (db == 1 || da == db)
            dim[i] = da;
        else if (da < 0 || db < 0)
            dim[i] = da < 0 ? db : da;
        else
            return wn_bad(err, "extents %lld and %lld of axis %d do not broadcast", (long long)da, (long long)db, i);
    }
    a->rank = rank;
    for (int i = 0; i < rank; i++)
        a->dim[i] = dim[i];
    return WINNOW_OK;
}
