/* reduce.c: Reduce*, ArgMax, ArgMin, CumSum.  Source: ONNX Operators.md.
 *
 * Floats are reduced in f64, integers in 64 bits with wrap-around. The axes are an attribute in older opsets and an
 * input in newer ones (ReduceSum since 13, the others since 18); no axes means all, or none with noop_with_empty_axes.
 */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

enum red { SUM, MEAN, MAX, MIN, PROD, L1, L2, LOG_SUM, LOG_SUM_EXP, SUM_SQUARE };

/* ---- which axes ---- */

/* Bit a set: axis a is reduced. */
static enum winnow_status reduced_axes(const struct wn_node *node, const struct wn_tensor *axes, int rank,
                                       unsigned *ret_mask, struct winnow_err *err)
{
    int64_t list[WINNOW_MAX_RANK];
    size_t n;
    unsigned mask = 0;
    WN_TRY(wn_ints_or_attr(node, "axes", axes, list, WINNOW_MAX_RANK, &n, err));
    if (n == SIZE_MAX || n == 0) {
        *ret_mask = wn_node_int(node, "noop_with_empty_axes", 0) ? 0 : (1u << rank) - 1;
        return WINNOW_OK;
    }
    for (size_t i = 0; i < n; i++) {
        int a;
        WN_TRY(wn_axis(list[i], rank, "axis", &a, err));
        mask |= 1u << a;
    }
    *ret_mask = mask;
    return WINNOW_OK;
}

static void reduced_type(const struct wn_type *x, unsigned mask, bool keep, struct wn_type *y)
{
    y->rank = 0;
    for (int a = 0; a < x->rank; a++) {
        if (!(mask >> a & 1))
            y->dim[y->rank++] = x->dim[a];
        else if (keep)
            y->dim[y->rank++] = 1;
    }
}

static enum winnow_status infer_reduce(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    WN_TRY(wn_want(in, 0, mask, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    in->out[0].dtype = x->dtype;
    bool keep = wn_node_int(in->node, "keepdims", 1) != 0;
    if (x->rank < 0)
        return WINNOW_OK;
    if (in->n_in > 1 && in->given[1] && !in->value[1]) {
        if (keep)
            wn_type_set_rank(&in->out[0], x->rank);
        return WINNOW_OK;
    }
    unsigned axes;
    WN_TRY(reduced_axes(in->node, in->n_in > 1 ? in->value[1] : NULL, x->rank, &axes, err));
    reduced_type(x, axes, keep, &in->out[0]);
    return WINNOW_OK;
}

enum winnow_status wn_infer_reduce(struct wn_infer *in, struct winnow_err *err)
{
    return infer_reduce(in, WN_NUMBERS, err);
}

enum winnow_status wn_infer_reduce_minmax(struct wn_infer *in, struct winnow_err *err)
{
    return infer_reduce(in, WN_NUMBERS | WN_D(BOOL), err);
}

/* ---- reducing ---- */

/* Walk x so that the elements of one output come together: kept axes outside, reduced ones inside. */
struct split {
    unsigned n_out, n_in;
    int64_t out_dim[WINNOW_MAX_RANK], out_stride[WINNOW_MAX_RANK], in_dim[WINNOW_MAX_RANK], in_stride[WINNOW_MAX_RANK];
    int64_t count; /* elements per output */
};

static void split_init(struct split *s, const struct wn_tensor *x, unsigned mask)
{
    int64_t stride[WINNOW_MAX_RANK];
    memset(s, 0, sizeof *s);
    s->count = 1;
    wn_strides(x->rank, x->dim, stride);
    for (unsigned a = 0; a < x->rank; a++) {
        if (mask >> a & 1) {
            s->in_dim[s->n_in] = x->dim[a];
            s->in_stride[s->n_in++] = stride[a];
            s->count *= x->dim[a];
        } else {
            s->out_dim[s->n_out] = x->dim[a];
            s->out_stride[s->n_out++] = stride[a];
        }
    }
}

static int64_t offset_of(unsigned n, const int64_t *idx, const int64_t *stride)
{
    int64_t at = 0;
    for (unsigned i = 0; i < n; i++)
        at += idx[i] * stride[i];
    return at;
}

static double reduce_f64(enum red op, const double *x, const struct split *s)
{
    double y = op == PROD ? 1 : op == MAX || op == LOG_SUM_EXP ? -INFINITY : op == MIN ? INFINITY : 0;
    int64_t idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < s->count; i++, wn_next_index(s->n_in, s->in_dim, idx)) {
        double v = x[offset_of(s->n_in, idx, s->in_stride)];
        switch (op) {
        case PROD:
            y *= v;
            break;
        case MAX:
        case LOG_SUM_EXP: /* first the maximum, then the sum below it */
            y = v > y || v != v ? v : y;
            break;
        case MIN:
            y = v < y || v != v ? v : y;
            break;
        case L1:
            y += fabs(v);
            break;
        case L2:
        case SUM_SQUARE:
            y += v * v;
            break;
        default:
            y += v;
        }
    }
    if (op == LOG_SUM_EXP && isfinite(y)) {
        double sum = 0, max = y;
        memset(idx, 0, sizeof idx);
        for (int64_t i = 0; i < s->count; i++, wn_next_index(s->n_in, s->in_dim, idx))
            sum += exp(x[offset_of(s->n_in, idx, s->in_stride)] - max);
        return max + log(sum);
    }
    return op == MEAN ? y / (double)s->count : op == L2 ? sqrt(y) : op == LOG_SUM ? log(y) : y;
}

/* Integers of any signedness: sums and products agree modulo 2^64, order needs `is_unsigned`. */
static uint64_t reduce_u64(enum red op, const uint64_t *x, const struct split *s, bool is_unsigned)
{
    uint64_t y = op == PROD;
    int64_t idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < s->count; i++, wn_next_index(s->n_in, s->in_dim, idx)) {
        uint64_t v = x[offset_of(s->n_in, idx, s->in_stride)];
        bool less = is_unsigned ? v < y : (int64_t)v < (int64_t)y;
        switch (op) {
        case PROD:
            y *= v;
            break;
        case MAX:
            y = i == 0 || !less ? v : y;
            break;
        case MIN:
            y = i == 0 || less ? v : y;
            break;
        case L1:
            y += !is_unsigned && (int64_t)v < 0 ? 0 - v : v;
            break;
        case L2:
        case SUM_SQUARE:
            y += v * v;
            break;
        case LOG_SUM_EXP:
        default:
            y += v;
        }
    }
    if (op == MEAN)
        return is_unsigned ? y / (uint64_t)WN_MAX(s->count, 1) : (uint64_t)((int64_t)y / WN_MAX(s->count, 1));
    return y;
}

/* The axes of `mask` lie side by side: x is (outer, n, inner). */
static bool side_by_side(const struct wn_tensor *x, unsigned mask, size_t *ret_n, size_t *ret_inner)
{
    unsigned a = x->rank;
    *ret_n = *ret_inner = 1;
    while (a > 0 && !(mask >> (a - 1) & 1))
        *ret_inner *= (size_t)x->dim[--a];
    while (a > 0 && mask >> (a - 1) & 1)
        *ret_n *= (size_t)x->dim[--a];
    return mask && !(mask & ((1u << a) - 1));
}

/* f32 sums or means of x (outer, n, inner), added in the order in which reduce_f64() adds. */
static enum winnow_status sum_f32(struct wn_run *run, size_t n, size_t inner, bool mean, struct winnow_err *err)
{
    const float *x = run->in[0]->data;
    float *y = run->out[0].data;
    const size_t outer = (size_t)wn_tensor_count(&run->out[0]) / WN_MAX(inner, (size_t)1);
    double *sum = wn_arena_calloc(run->tmp, inner + 1, sizeof *sum);
    if (!sum)
        return wn_nomem(err);
    for (size_t o = 0; o < outer; o++, y += inner) {
        memset(sum, 0, inner * sizeof *sum);
        for (size_t k = 0; k < n; k++, x += inner)
            for (size_t i = 0; i < inner; i++)
                sum[i] += (double)x[i];
        for (size_t i = 0; i < inner; i++)
            y[i] = (float)(mean ? sum[i] / (double)n : sum[i]);
    }
    return WINNOW_OK;
}

static enum winnow_status run_reduce(struct wn_run *run, enum red op, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    unsigned mask;
    WN_TRY(reduced_axes(run->node, run->n_in > 1 ? run->in[1] : NULL, (int)x->rank, &mask, err));
    size_t n_in, inner;
    if (x->dtype == WINNOW_F32 && (op == SUM || op == MEAN) && side_by_side(x, mask, &n_in, &inner))
        return sum_f32(run, n_in, inner, op == MEAN, err);
    struct split s;
    split_init(&s, x, mask);
    bool is_unsigned = x->dtype == WINNOW_U64;
    bool real = wn_dtype_is_float(x->dtype) || op == L2 || op == LOG_SUM || op == LOG_SUM_EXP;
    const void *xs = real ? (const void *)wn_as_f64(x, run->tmp) : (const void *)wn_as_i64(x, run->tmp);
    if (is_unsigned && !real)
        xs = x->data;
    if (!xs)
        return wn_nomem(err);
    int64_t idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(s.n_out, s.out_dim, idx)) {
        int64_t at = offset_of(s.n_out, idx, s.out_stride);
        if (real) {
            double v = reduce_f64(op, (const double *)xs + at, &s);
            wn_store(y->dtype, y->data, i, 1, WN_CLS_F64, &v);
        } else {
            uint64_t v = reduce_u64(op, (const uint64_t *)xs + at, &s, is_unsigned);
            wn_store(y->dtype, y->data, i, 1, WN_CLS_U64, &v);
        }
    }
    return WINNOW_OK;
}

#define REDUCE(NAME, OP)                                                                                               \
    enum winnow_status wn_run_##NAME(struct wn_run *run, struct winnow_err *err)                                       \
    {                                                                                                                  \
        return run_reduce(run, OP, err);                                                                               \
    }
REDUCE(reduce_sum, SUM)
REDUCE(reduce_mean, MEAN)
REDUCE(reduce_max, MAX)
REDUCE(reduce_min, MIN)
REDUCE(reduce_prod, PROD)
REDUCE(reduce_l1, L1)
REDUCE(reduce_l2, L2)
REDUCE(reduce_log_sum, LOG_SUM)
REDUCE(reduce_log_sum_exp, LOG_SUM_EXP)
REDUCE(reduce_sum_square, SUM_SQUARE)

/* The batch stays where it is, less the reduced axes before it. */
static int axis_after(unsigned mask, int axis, bool keep)
{
    if (mask >> axis & 1)
        return WN_ROWS_MIXED;
    int y = 0;
    for (int a = 0; a < axis; a++)
        y += keep || !(mask >> a & 1);
    return y;
}

void wn_rows_reduce(struct wn_rows *r)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || r->infer->in[0].rank < 0)
        return;
    const struct wn_tensor *axes = r->n_in > 1 ? r->infer->value[1] : NULL;
    unsigned mask;
    if (r->n_in > 1 && r->infer->given[1] && !axes)
        return;
    if (reduced_axes(r->node, axes, r->infer->in[0].rank, &mask, NULL) == WINNOW_OK)
        r->out_axis = axis_after(mask, r->in_axis[0], wn_node_int(r->node, "keepdims", 1) != 0);
}

/* ---- ArgMax, ArgMin ---- */
enum winnow_status wn_infer_arg(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int axis;
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    in->out[0].dtype = WINNOW_I64;
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    if (x->dim[axis] == 0)
        return wn_bad(err, "extent of axis %d is 0: there is no largest element", axis);
    reduced_type(x, 1u << axis, wn_node_int(in->node, "keepdims", 1) != 0, &in->out[0]);
    return WINNOW_OK;
}

/* Compare in f64, except that 64-bit integers need all their bits. */
static enum winnow_status run_arg(struct wn_run *run, bool max, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
    bool last = wn_node_int(run->node, "select_last_index", 0) != 0, wide = wn_cls_of(x->dtype) == WN_CLS_I64;
    struct split s;
    split_init(&s, x, 1u << axis);
    const double *xf = wide ? NULL : wn_as_f64(x, run->tmp);
    const int64_t *xi = wide ? wn_as_i64(x, run->tmp) : NULL;
    if (!xf && !xi)
        return wn_nomem(err);
    int64_t *y = run->out[0].data, idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0, n = wn_tensor_count(&run->out[0]); i < n; i++, wn_next_index(s.n_out, s.out_dim, idx)) {
        int64_t at = offset_of(s.n_out, idx, s.out_stride), best = 0, step = s.in_stride[0];
        for (int64_t k = 1; k < s.count; k++) {
            int64_t a = at + k * step, b = at + best * step;
            bool more = wide ? (max ? xi[a] > xi[b] : xi[a] < xi[b]) : (max ? xf[a] > xf[b] : xf[a] < xf[b]);
            bool same = wide ? xi[a] == xi[b] : xf[a] == xf[b];
            if (more || (last && same))
                best = k;
        }
        y[i] = best;
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_arg_max(struct wn_run *run, struct winnow_err *err)
{
    return run_arg(run, true, err);
}

enum winnow_status wn_run_arg_min(struct wn_run *run, struct winnow_err *err)
{
    return run_arg(run, false, err);
}

void wn_rows_arg(struct wn_rows *r)
{
    int axis;
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->infer->in[0].rank >= 0 &&
        wn_axis(wn_node_int(r->node, "axis", 0), r->infer->in[0].rank, "axis", &axis, NULL) == WINNOW_OK)
        r->out_axis = axis_after(1u << axis, r->in_axis[0], wn_node_int(r->node, "keepdims", 1) != 0);
}

/* ---- CumSum, CumProd: axis is input 1 ---- */
enum winnow_status wn_infer_cum_sum(struct wn_infer *in, struct winnow_err *err)
{
    int axis;
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    in->out[0] = in->in[0];
    if (!in->value[1])
        return WINNOW_OK;
    if (wn_tensor_count(in->value[1]) != 1)
        return wn_bad(err, "axis has %lld elements, must be a scalar", (long long)wn_tensor_count(in->value[1]));
    return in->in[0].rank < 0 ? WINNOW_OK : wn_axis(wn_scalar_int(in->value[1], 0), in->in[0].rank, "axis", &axis, err);
}

static enum winnow_status run_cum(struct wn_run *run, bool product, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int axis;
    WN_TRY(wn_axis(wn_scalar_int(run->in[1], 0), (int)x->rank, "axis", &axis, err));
    bool exclusive = wn_node_int(run->node, "exclusive", 0) != 0, reverse = wn_node_int(run->node, "reverse", 0) != 0;
    bool real = wn_dtype_is_float(x->dtype);
    struct split s;
    split_init(&s, x, 1u << axis);
    int64_t idx[WINNOW_MAX_RANK] = { 0 }, rows = s.count ? wn_tensor_count(x) / s.count : 0;
    for (int64_t r = 0; r < rows; r++, wn_next_index(s.n_out, s.out_dim, idx)) {
        int64_t base = offset_of(s.n_out, idx, s.out_stride);
        double sum_f = product;
        uint64_t sum_i = product;
        for (int64_t k = 0; k < s.count; k++) {
            int64_t at = base + (reverse ? s.count - 1 - k : k) * s.in_stride[0];
            union wn_chunk buf;
            double v = real ? *(const double *)wn_load(x->dtype, x->data, at, 0, 1, WN_CLS_F64, &buf) : 0;
            uint64_t u = real ? 0 : (uint64_t)wn_scalar_int(x, at);
            double next_f = product ? sum_f * v : sum_f + v, keep_f = exclusive ? sum_f : next_f;
            uint64_t next_i = product ? sum_i * u : sum_i + u, keep_i = exclusive ? sum_i : next_i;
            sum_f = next_f;
            sum_i = next_i;
            if (real)
                wn_store(y->dtype, y->data, at, 1, WN_CLS_F64, &keep_f);
            else
                wn_store(y->dtype, y->data, at, 1, WN_CLS_U64, &keep_i);
        }
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_cum_sum(struct wn_run *run, struct winnow_err *err)
{
    return run_cum(run, false, err);
}

enum winnow_status wn_run_cum_prod(struct wn_run *run, struct winnow_err *err)
{
    return run_cum(run, true, err);
}

void wn_rows_cum_sum(struct wn_rows *r)
{
    int axis;
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->infer->value[1] && r->infer->in[0].rank >= 0 &&
        wn_axis(wn_scalar_int(r->infer->value[1], 0), r->infer->in[0].rank, "axis", &axis, NULL) == WINNOW_OK &&
        axis != r->in_axis[0])
        r->out_axis = r->in_axis[0];
}
