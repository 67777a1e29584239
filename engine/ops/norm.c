/* norm.c: normalizations.  Source: ONNX Operators.md. Sums are taken in f64. */
#include "engine/ops/impl.h"

#include <math.h>

/* A parameter of input i must be a vector with one element per channel of x. */
static enum winnow_status want_channels(const struct wn_infer *in, unsigned i, const char *what, struct winnow_err *err)
{
    int64_t same;
    if (in->in[i].rank < 0 || in->in[0].rank < 2)
        return WINNOW_OK;
    if (in->in[i].rank != 1)
        return wn_bad(err, "%s has rank %d, must be 1", what, in->in[i].rank);
    return wn_dim_same(in->in[i].dim[0], in->in[0].dim[1], what, &same, err);
}

static int64_t inner_of(const struct wn_tensor *x, unsigned axis)
{
    int64_t n = 1;
    for (unsigned i = axis; i < x->rank; i++)
        n *= x->dim[i];
    return n;
}

static void store_f64(struct wn_tensor *y, const double *v)
{
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i += WN_CHUNK)
        wn_store(y->dtype, y->data, i, (size_t)WN_MIN(n - i, WN_CHUNK), WN_CLS_F64, v + i);
}

/* ---- BatchNormalization (inference) ---- */
enum winnow_status wn_infer_batch_norm(struct wn_infer *in, struct winnow_err *err)
{
    static const char *const names[] = { "X", "scale", "B", "mean", "var" };
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    for (unsigned i = 1; i < 5; i++)
        WN_TRY(want_channels(in, i, names[i], err));
    if (wn_node_int(in->node, "training_mode", 0) || (in->n_out > 1 && in->node->out[1] != WN_NONE))
        return wn_lack(err, "training mode");
    if (in->node->opset < 9 && !wn_node_int(in->node, "spatial", 1))
        return wn_lack(err, "attribute spatial = 0");
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

enum winnow_status wn_run_batch_norm(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    double eps = wn_node_float(run->node, "epsilon", 1e-5f);
    const double *xs = wn_as_f64(x, run->tmp);
    double *y = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(x), sizeof *y);
    if (!xs || !y)
        return wn_nomem(err);
    int64_t inner = inner_of(x, 2), planes = x->dim[0] * x->dim[1];
    for (int64_t p = 0; p < planes; p++) {
        int64_t c = p % x->dim[1];
        double mul = wn_scalar(run->in[1], c) / sqrt(wn_scalar(run->in[4], c) + eps);
        double add = wn_scalar(run->in[2], c), mean = wn_scalar(run->in[3], c);
        for (int64_t i = p * inner; i < (p + 1) * inner; i++)
            y[i] = (xs[i] - mean) * mul + add;
    }
    store_f64(&run->out[0], y);
    return WINNOW_OK;
}

/* ---- rows of `len` elements brought to mean 0 and variance 1 ---- */
struct moments {
    double mean, inv_std;
};

static struct moments moments_of(const double *x, int64_t len, double eps, bool centre)
{
    double sum = 0, sq = 0;
    for (int64_t i = 0; centre && i < len; i++)
        sum += x[i];
    double mean = len ? sum / (double)len : 0;
    for (int64_t i = 0; i < len; i++)
        sq += (x[i] - mean) * (x[i] - mean);
    return (struct moments){ mean, 1 / sqrt((len ? sq / (double)len : 0) + eps) };
}

enum winnow_status wn_infer_instance_norm(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 3, WINNOW_MAX_RANK, err));
    WN_TRY(want_channels(in, 1, "scale", err));
    WN_TRY(want_channels(in, 2, "B", err));
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

/* Groups of `per_group` channels share their moments; scale and bias are per channel. */
static enum winnow_status run_groups(struct wn_run *run, int64_t per_group, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    double eps = wn_node_float(run->node, "epsilon", 1e-5f);
    const double *xs = wn_as_f64(x, run->tmp);
    double *y = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(x), sizeof *y);
    if (!xs || !y)
        return wn_nomem(err);
    int64_t inner = inner_of(x, 2), planes = x->dim[0] * x->dim[1];
    for (int64_t p = 0; p < planes; p++) {
        int64_t c = p % x->dim[1];
        struct moments m = moments_of(xs + p / per_group * per_group * inner, per_group * inner, eps, true);
        double mul = wn_scalar(run->in[1], c) * m.inv_std, add = wn_scalar(run->in[2], c);
        for (int64_t i = p * inner; i < (p + 1) * inner; i++)
            y[i] = (xs[i] - m.mean) * mul + add;
    }
    store_f64(&run->out[0], y);
    return WINNOW_OK;
}

enum winnow_status wn_run_instance_norm(struct wn_run *run, struct winnow_err *err)
{
    return run_groups(run, 1, err);
}

/* GroupNormalization: scale and bias per channel since opset 21; per group in 18, which that version withdrew. */
enum winnow_status wn_infer_group_norm(struct wn_infer *in, struct winnow_err *err)
{
    int64_t groups = wn_node_int(in->node, "num_groups", 0);
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    if (groups < 1)
        return wn_bad(err, "attribute num_groups: %lld is out of range", (long long)groups);
    if (in->in[0].rank >= 2 && in->in[0].dim[1] >= 0 && in->in[0].dim[1] % groups)
        return wn_bad(err, "%lld channels do not divide into %lld groups", (long long)in->in[0].dim[1],
                      (long long)groups);
    WN_TRY(want_channels(in, 1, "scale", err));
    WN_TRY(want_channels(in, 2, "bias", err));
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

enum winnow_status wn_run_group_norm(struct wn_run *run, struct winnow_err *err)
{
    return run_groups(run, WN_MAX(run->in[0]->dim[1] / wn_node_int(run->node, "num_groups", 1), 1), err);
}

/* ---- LayerNormalization, RMSNormalization: over all axes from `axis` on ---- */
enum winnow_status wn_infer_layer_norm(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    in->out[0] = *x;
    int axis;
    for (unsigned i = 1; i < in->n_out; i++)
        in->out[i].dtype = wn_node_int(in->node, "stash_type", 1) == WINNOW_F32 ? WINNOW_F32 : x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", -1), x->rank, "axis", &axis, err));
    for (unsigned i = 1; i < in->n_in && i < 3; i++) { /* scale and bias broadcast to the normalized axes */
        if (!in->given[i] || in->in[i].rank < 0)
            continue;
        struct wn_type y = *x;
        WN_TRY(wn_type_broadcast(&y, &in->in[i], err));
        for (int a = 0; a < x->rank; a++)
            if (y.rank != x->rank || (x->dim[a] >= 0 && y.dim[a] >= 0 && y.dim[a] != x->dim[a]))
                return wn_bad(err, "input %u is wider than X", i);
    }
    for (unsigned i = 1; i < in->n_out; i++) {
        in->out[i].rank = x->rank;
        for (int a = 0; a < x->rank; a++)
            in->out[i].dim[a] = a < axis ? x->dim[a] : 1;
    }
    return WINNOW_OK;
}

static void put_stat(struct wn_run *run, unsigned i, int64_t at, double v)
{
    if (i < run->n_out && run->out[i].data)
        wn_store(run->out[i].dtype, run->out[i].data, at, 1, WN_CLS_F64, &v);
}

static enum winnow_status run_layer(struct wn_run *run, bool rms, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *bias = run->n_in > 2 ? run->in[2] : NULL;
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", -1), (int)x->rank, "axis", &axis, err));
    double eps = wn_node_float(run->node, "epsilon", 1e-5f);
    const double *xs = wn_as_f64(x, run->tmp), *scale = wn_as_f64(run->in[1], run->tmp);
    const double *add = bias ? wn_as_f64(bias, run->tmp) : NULL;
    int64_t n = wn_tensor_count(x), len = inner_of(x, (unsigned)axis), ss[WINNOW_MAX_RANK], sb[WINNOW_MAX_RANK] = { 0 };
    double *y = wn_arena_calloc(run->tmp, (size_t)n, sizeof *y);
    if (!xs || !scale || !y || (bias && !add))
        return wn_nomem(err);
    wn_bcast_strides(run->in[1], x->rank, x->dim, ss);
    if (bias)
        wn_bcast_strides(bias, x->rank, x->dim, sb);
    struct moments m = { 0, 1 };
    int64_t idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0; i < n; i++, wn_next_index(x->rank, x->dim, idx)) {
        if (i % len == 0) {
            m = moments_of(xs + i, len, eps, !rms);
            put_stat(run, 1, i / len, m.mean);
            put_stat(run, 2, i / len, m.inv_std);
        }
        int64_t at_s = 0, at_b = 0;
        for (unsigned a = 0; a < x->rank; a++) {
            at_s += idx[a] * ss[a];
            at_b += idx[a] * sb[a];
        }
        y[i] = (xs[i] - m.mean) * m.inv_std * scale[at_s] + (add ? add[at_b] : 0);
    }
    store_f64(&run->out[0], y);
    return WINNOW_OK;
}

enum winnow_status wn_run_layer_norm(struct wn_run *run, struct winnow_err *err)
{
    return run_layer(run, false, err);
}

enum winnow_status wn_run_rms_norm(struct wn_run *run, struct winnow_err *err)
{
    return run_layer(run, true, err);
}

void wn_rows_layer_norm(struct wn_rows *r)
{
    wn_rows_before_axis(r);
    for (unsigned i = 1; i < r->n_in && r->out_axis >= 0; i++) { /* parameters must be the same for every row */
        const struct wn_type *t = &r->infer->in[i];
        int a = r->out_axis - (r->infer->in[0].rank - t->rank);
        if (r->infer->given[i] && (t->rank < 0 || (a >= 0 && t->dim[a] != 1)))
            r->out_axis = WN_ROWS_MIXED;
    }
}

/* ---- LRN: y = x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ beta ---- */
enum winnow_status wn_infer_lrn(struct wn_infer *in, struct winnow_err *err)
{
    int64_t size = wn_node_int(in->node, "size", 0);
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    if (size < 1 || size > INT32_MAX)
        return wn_bad(err, "attribute size: %lld is out of range", (long long)size);
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

enum winnow_status wn_run_lrn(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int64_t size = wn_node_int(run->node, "size", 1), inner = inner_of(x, 2), channels = x->dim[1];
    double alpha = wn_node_float(run->node, "alpha", 1e-4f), beta = wn_node_float(run->node, "beta", 0.75f),
           bias = wn_node_float(run->node, "bias", 1);
    const double *xs = wn_as_f64(x, run->tmp);
    int64_t n = wn_tensor_count(x);
    double *y = wn_arena_calloc(run->tmp, (size_t)n, sizeof *y);
    if (!xs || !y)
        return wn_nomem(err);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = i / inner % channels, lo = WN_MAX(c - (size - 1) / 2, 0), hi = WN_MIN(c + size / 2, channels - 1);
        double sq = 0;
        for (int64_t k = lo; k <= hi; k++) {
            double v = xs[i + (k - c) * inner];
            sq += v * v;
        }
        y[i] = xs[i] / pow(bias + alpha / (double)size * sq, beta);
    }
    store_f64(&run->out[0], y);
    return WINNOW_OK;
}

/* ---- LpNormalization, MeanVarianceNormalization ---- */
enum winnow_status wn_infer_lp_norm(struct wn_infer *in, struct winnow_err *err)
{
    int64_t p = wn_node_int(in->node, "p", 2);
    int axis;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    if (p != 1 && p != 2)
        return wn_bad(err, "attribute p: %lld is neither 1 nor 2", (long long)p);
    in->out[0] = in->in[0];
    return in->in[0].rank < 0 ? WINNOW_OK
                              : wn_axis(wn_node_int(in->node, "axis", -1), in->in[0].rank, "axis", &axis, err);
}

enum winnow_status wn_run_lp_norm(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", -1), (int)x->rank, "axis", &axis, err));
    int64_t p = wn_node_int(run->node, "p", 2), len = x->dim[axis], inner = inner_of(x, (unsigned)axis + 1);
    int64_t n = wn_tensor_count(x);
    const double *xs = wn_as_f64(x, run->tmp);
    double *y = wn_arena_calloc(run->tmp, (size_t)n, sizeof *y);
    if (!xs || !y)
        return wn_nomem(err);
    for (int64_t i = 0; i < n; i++) {
        int64_t base = i / (len * inner) * len * inner + i % inner;
        double sum = 0;
        for (int64_t k = 0; k < len; k++) {
            double v = xs[base + k * inner];
            sum += p == 1 ? fabs(v) : v * v;
        }
        sum = p == 1 ? sum : sqrt(sum);
        y[i] = sum == 0 ? 0 : xs[i] / sum;
    }
    store_f64(&run->out[0], y);
    return WINNOW_OK;
}
