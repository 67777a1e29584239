/* quant.c: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, and ONNX Runtime's QLinear* operators.
 * Sources: ONNX Operators.md; ONNX Runtime docs/ContribOperators.md (domain com.microsoft).
 *
 * Rounding is half to even; results saturate to the range of the output's dtype. */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

static float range_lo(enum winnow_dtype t)
{
    return t == WINNOW_I8 ? -128 : t == WINNOW_I16 ? -32768 : 0;
}

static float range_hi(enum winnow_dtype t)
{
    return t == WINNOW_I8 ? 127 : t == WINNOW_U8 ? 255 : t == WINNOW_I16 ? 32767 : 65535;
}

#define WN_QUANTIZED (WN_U8_I8 | WN_D(U16) | WN_D(I16))

/* ---- QuantizeLinear, DequantizeLinear: one scale, or one per entry of `axis` ---- */
struct per_axis {
    int64_t n, inner; /* element i uses parameter i / inner % n */
};

static enum winnow_status check_params(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *s = &in->in[1];
    WN_TRY(wn_want(in, 1, WN_FLOATS, err));
    if (wn_node_int(in->node, "block_size", 0) != 0)
        return wn_lack(err, "attribute block_size");
    if (in->n_in > 2 && in->given[2] && s->rank >= 0 && in->in[2].rank >= 0) {
        int64_t ns = s->rank ? s->dim[0] : 1, nz = in->in[2].rank ? in->in[2].dim[0] : 1, same;
        if (s->rank > 1 || in->in[2].rank > 1)
            return wn_bad(err, "scale has rank %d and zero point %d, must be 0 or 1", s->rank, in->in[2].rank);
        WN_TRY(wn_dim_same(ns, nz, "scale and zero point", &same, err));
    }
    if (s->rank > 1)
        return wn_bad(err, "scale has rank %d, must be 0 or 1", s->rank);
    if (s->rank != 1 || s->dim[0] == 1 || s->dim[0] < 0 || x->rank < 0)
        return WINNOW_OK;
    int axis;
    int64_t same;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 1), x->rank, "axis", &axis, err));
    return wn_dim_same(s->dim[0], x->dim[axis], "scales and the extent of axis", &same, err);
}

static enum winnow_status per_axis_of(const struct wn_run *run, struct per_axis *ret, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    *ret = (struct per_axis){ .n = 1, .inner = 1 };
    if (wn_tensor_count(run->in[1]) == 1)
        return WINNOW_OK;
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 1), (int)x->rank, "axis", &axis, err));
    ret->n = x->dim[axis];
    for (unsigned i = (unsigned)axis + 1; i < x->rank; i++)
        ret->inner *= x->dim[i];
    return WINNOW_OK;
}

enum winnow_status wn_infer_quantize(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS | WN_D(I32), err));
    WN_TRY(wn_want(in, 2, WN_QUANTIZED, err));
    WN_TRY(check_params(in, err));
    in->out[0] = in->in[0];
    int64_t declared = wn_node_int(in->node, "output_dtype", 0);
    enum winnow_dtype t = in->n_in > 2 && in->given[2]    ? in->in[2].dtype
                          : declared > 0 && declared < 32 ? (enum winnow_dtype)declared
                                                          : WINNOW_U8;
    if (t && !(WN_QUANTIZED >> t & 1))
        return wn_lack(err, "output dtype %s", winnow_dtype_name(t));
    if (declared && in->n_in > 2 && in->given[2] && t && declared != (int64_t)t)
        return wn_bad(err, "output_dtype and zero point differ");
    in->out[0].dtype = t;
    return WINNOW_OK;
}

enum winnow_status wn_run_quantize(struct wn_run *run, struct winnow_err *err)
{
    struct per_axis pa;
    WN_TRY(per_axis_of(run, &pa, err));
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *zp = run->n_in > 2 ? run->in[2] : NULL;
    const float *x = wn_as_f32(run->in[0], run->tmp), *scale = wn_as_f32(run->in[1], run->tmp);
    if (!x || !scale)
        return wn_nomem(err);
    float lo = range_lo(y->dtype), hi = range_hi(y->dtype), z = 0;
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++) {
        int64_t p = i / pa.inner % pa.n;
        if (zp && (i == 0 || (pa.n > 1 && i % pa.inner == 0)))
            z = (float)wn_scalar_int(zp, p);
        float f = x[i] / scale[p];
        float q = (isnan(f) ? 0 : wn_rne_clamp(f, lo - z, hi - z)) + z;
        wn_store(y->dtype, y->data, i, 1, WN_CLS_F32, &q);
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_dequantize(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_QUANTIZED | WN_D(I32), err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(check_params(in, err));
    in->out[0] = in->in[0];
    in->out[0].dtype = in->in[1].dtype;
    return WINNOW_OK;
}

enum winnow_status wn_run_dequantize(struct wn_run *run, struct winnow_err *err)
{
    struct per_axis pa;
    WN_TRY(per_axis_of(run, &pa, err));
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *x = run->in[0], *zp = run->n_in > 2 ? run->in[2] : NULL;
    const float *scale = wn_as_f32(run->in[1], run->tmp);
    if (!scale)
        return wn_nomem(err);
    int64_t z = 0;
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++) {
        int64_t p = i / pa.inner % pa.n;
        if (zp && (i == 0 || (pa.n > 1 && i % pa.inner == 0)))
            z = wn_scalar_int(zp, p);
        float f = (float)(wn_scalar_int(x, i) - z) * scale[p];
        wn_store(y->dtype, y->data, i, 1, WN_CLS_F32, &f);
    }
    return WINNOW_OK;
}

/* Per tensor the batch stays; per axis unless the batch is that axis. */
void wn_rows_quantize(struct wn_rows *r)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0))
        return;
    const struct wn_type *s = &r->infer->in[1], *x = &r->infer->in[0];
    int axis;
    if (s->rank == 0 || (s->rank == 1 && s->dim[0] == 1) ||
        (s->rank == 1 && x->rank > 0 &&
         wn_axis(wn_node_int(r->node, "axis", 1), x->rank, "axis", &axis, NULL) == WINNOW_OK && axis != r->in_axis[0]))
        r->out_axis = r->in_axis[0];
}

/* ---- DynamicQuantizeLinear: scale and zero point from the data ---- */
enum winnow_status wn_infer_dynamic_quantize(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_D(F32), err));
    in->out[0] = in->in[0];
    in->out[0].dtype = WINNOW_U8;
    for (unsigned i = 1; i < in->n_out; i++) {
        in->out[i].rank = 0;
        in->out[i].dtype = i == 1 ? WINNOW_F32 : WINNOW_U8;
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_dynamic_quantize(struct wn_run *run, struct winnow_err *err)
{
    const float *x = run->in[0]->data;
    float lo = 0, hi = 0; /* zero must be exact */
    int64_t n = wn_tensor_count(run->in[0]);
    for (int64_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    float scale = (hi - lo) / 255;
    if (!(scale > 0))
        scale = 1;
    float zp = wn_rne_clamp(0 - lo / scale, 0, 255);
    for (int64_t i = 0; i < n; i++) {
        float f = x[i] / scale;
        ((uint8_t *)run->out[0].data)[i] = (uint8_t)((isnan(f) ? 0 : wn_rne_clamp(f, -zp, 255 - zp)) + zp);
    }
    if (run->n_out > 1 && run->out[1].data)
        *(float *)run->out[1].data = scale;
    if (run->n_out > 2 && run->out[2].data)
        *(uint8_t *)run->out[2].data = (uint8_t)zp;
    return WINNOW_OK;
}

/* ---- com.microsoft: element-wise operators on quantized tensors ---- */

/* Scale and zero point (scalars; the zero point may be omitted) at inputs i, i + 1. */
struct q {
    float scale;
    int64_t zp;
};

/* A scale at i and a zero point behind it, which has the dtype of input `like`. */
static enum winnow_status want_q(const struct wn_infer *in, unsigned i, unsigned like, struct winnow_err *err)
{
    WN_TRY(wn_want_same(in, i + 1, like, err));
    for (unsigned k = i; k < i + 2 && k < in->n_in; k++) {
        WN_TRY(wn_want(in, k, k == i ? WN_D(F32) : WN_U8_I8, err));
        if (in->given[k] && in->in[k].rank >= 0 &&
            (in->in[k].rank > 1 || (in->in[k].rank == 1 && in->in[k].dim[0] >= 0 && in->in[k].dim[0] != 1)))
            return wn_bad(err, "input %u must be a scalar", k);
    }
    return WINNOW_OK;
}

static struct q q_at(const struct wn_run *run, unsigned i)
{
    struct q q = { (float)wn_scalar(run->in[i], 0), 0 };
    if (i + 1 < run->n_in && run->in[i + 1])
        q.zp = wn_scalar_int(run->in[i + 1], 0);
    return q;
}

static float dequant(const struct wn_tensor *x, int64_t i, struct q q)
{
    int64_t v = x->dtype == WINNOW_U8 ? ((const uint8_t *)x->data)[i] : ((const int8_t *)x->data)[i];
    return (float)(v - q.zp) * q.scale;
}

static void requant(struct wn_tensor *y, int64_t i, float f, struct q q)
{
    float z = (float)q.zp, v = f / q.scale;
    v = (isnan(v) ? 0 : wn_rne_clamp(v, range_lo(y->dtype) - z, range_hi(y->dtype) - z)) + z;
    if (y->dtype == WINNOW_U8)
        ((uint8_t *)y->data)[i] = (uint8_t)v;
    else
        ((int8_t *)y->data)[i] = (int8_t)v;
}

/* A, A_scale, A_zp, B, B_scale, B_zp, C_scale, C_zp */
enum winnow_status wn_infer_qlinear_binary(struct wn_infer *in, struct winnow_err *err)
{
    static const unsigned needed[] = { 0, 1, 3, 4, 6 }; /* zero points default to 0 */
    WN_TRY(wn_want_given(in, needed, WN_COUNT(needed), err));
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want_same(in, 0, 3, err));
    WN_TRY(want_q(in, 1, 0, err));
    WN_TRY(want_q(in, 4, 3, err));
    WN_TRY(want_q(in, 6, 0, err));
    in->out[0] = in->in[0];
    return wn_type_broadcast(&in->out[0], &in->in[3], err);
}

/* Sums and products of two quantized numbers need no dequantized middle: y = rne(a' * ma + b' * mb), a' = a - a_zp. */
static enum winnow_status run_qlinear_binary(struct wn_run *run, bool mul)
{
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *a = run->in[0], *b = run->in[3];
    struct q qa = q_at(run, 1), qb = q_at(run, 4), qy = q_at(run, 6);
    int64_t sa[WINNOW_MAX_RANK], sb[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    wn_bcast_strides(a, y->rank, y->dim, sa);
    wn_bcast_strides(b, y->rank, y->dim, sb);
    float z = (float)qy.zp, lo = range_lo(y->dtype) - z, hi = range_hi(y->dtype) - z;
    float ma = qa.scale / qy.scale, mb = qb.scale / qy.scale;
    struct q pa = { mul ? (float)((double)qa.scale * (double)qb.scale / (double)qy.scale) : ma, qa.zp },
             pb = { mul ? 1 : mb, qb.zp };
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t ia = 0, ib = 0;
        for (unsigned k = 0; k < y->rank; k++) {
            ia += idx[k] * sa[k];
            ib += idx[k] * sb[k];
        }
        float fa = dequant(a, ia, pa), fb = dequant(b, ib, pb);
        float f = wn_rne_clamp(mul ? fa * fb : fa + fb, lo, hi) + z;
        if (y->dtype == WINNOW_U8)
            ((uint8_t *)y->data)[i] = (uint8_t)f;
        else
            ((int8_t *)y->data)[i] = (int8_t)f;
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_qlinear_add(struct wn_run *run, struct winnow_err *err)
{
    return run_qlinear_binary(run, false);
}

enum winnow_status wn_run_qlinear_mul(struct wn_run *run, struct winnow_err *err)
{
    return run_qlinear_binary(run, true);
}

void wn_rows_qlinear_binary(struct wn_rows *r)
{
    const struct wn_type *a = &r->infer->in[0], *b = &r->infer->in[3];
    if (wn_rows_trivial(r) || a->rank < 0 || b->rank < 0)
        return;
    for (unsigned i = 0; i < r->n_in; i++)
        if (i != 0 && i != 3 && r->in_axis[i] >= 0)
            return;
    int rank = WN_MAX(a->rank, b->rank), da = rank - a->rank, db = rank - b->rank;
    int ya = r->in_axis[0] >= 0 ? r->in_axis[0] + da : -1, yb = r->in_axis[3] >= 0 ? r->in_axis[3] + db : -1;
    if (ya >= 0 && yb >= 0)
        r->out_axis = ya == yb ? ya : WN_ROWS_MIXED;
    else if (ya >= 0 && (ya < db || b->dim[ya - db] == 1))
        r->out_axis = ya;
    else if (yb >= 0 && (yb < da || a->dim[yb - da] == 1))
        r->out_axis = yb;
}

/* X, X_scale, X_zp, Y_scale, Y_zp */
enum winnow_status wn_infer_qlinear_unary(struct wn_infer *in, struct winnow_err *err)
{
    static const unsigned needed[] = { 0, 1, 3 };
    WN_TRY(wn_want_given(in, needed, WN_COUNT(needed), err));
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(want_q(in, 1, 0, err));
    WN_TRY(want_q(in, 3, 0, err));
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

static float sigmoid(float x, float alpha)
{
    (void)alpha;
    return 1 / (1 + expf(-x));
}

static float leaky_relu(float x, float alpha)
{
    return x < 0 ? alpha * x : x;
}

static enum winnow_status run_qlinear_unary(struct wn_run *run, float (*f)(float, float), float alpha)
{
    struct q qx = q_at(run, 1), qy = q_at(run, 3);
    for (int64_t i = 0, n = wn_tensor_count(&run->out[0]); i < n; i++)
        requant(&run->out[0], i, f(dequant(run->in[0], i, qx), alpha), qy);
    return WINNOW_OK;
}

enum winnow_status wn_run_qlinear_sigmoid(struct wn_run *run, struct winnow_err *err)
{
    return run_qlinear_unary(run, sigmoid, 0);
}

enum winnow_status wn_run_qlinear_leaky_relu(struct wn_run *run, struct winnow_err *err)
{
    return run_qlinear_unary(run, leaky_relu, wn_node_float(run->node, "alpha", 0.01f));
}

/* ---- QLinearGlobalAveragePool: mean over the spatial axes ---- */
static bool channels_last(const struct wn_node *node)
{
    return wn_node_int(node, "channels_last", 0) != 0;
}

enum winnow_status wn_infer_qlinear_global_pool(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_infer_qlinear_unary(in, err));
    WN_TRY(wn_want_rank(in, 0, 3, WINNOW_MAX_RANK, err));
    int lead = channels_last(in->node) ? 1 : 2;
    for (int i = 0; i < in->out[0].rank - 2; i++)
        in->out[0].dim[lead + i] = 1;
    return WINNOW_OK;
}

enum winnow_status wn_run_qlinear_global_pool(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    struct q qx = q_at(run, 1), qy = q_at(run, 3);
    bool last = channels_last(run->node);
    int64_t planes = wn_tensor_count(y), n = planes ? wn_tensor_count(x) / planes : 0;
    int64_t channels = x->dim[last ? x->rank - 1 : 1], step = last ? channels : 1;
    if (n == 0 && planes)
        return wn_bad(err, "nothing to pool: a spatial extent is 0");
    float z = (float)qy.zp, lo = range_lo(y->dtype) - z, hi = range_hi(y->dtype) - z;
    float mul = qx.scale / qy.scale / (float)n;
    for (int64_t p = 0; p < planes; p++) {
        int64_t base = last ? p / channels * n * channels + p % channels : p * n, sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += x->dtype == WINNOW_U8 ? ((const uint8_t *)x->data)[base + i * step]
                                         : ((const int8_t *)x->data)[base + i * step];
        float f = wn_rne_clamp((float)(sum - n * qx.zp) * mul, lo, hi) + z;
        wn_store(y->dtype, y->data, p, 1, WN_CLS_F32, &f);
    }
    return WINNOW_OK;
}

/* ---- QLinearConcat: Y_scale, Y_zp, then (X, scale, zp) for each ---- */
enum winnow_status wn_infer_qlinear_concat(struct wn_infer *in, struct winnow_err *err)
{
    if (in->n_in < 5 || (in->n_in - 2) % 3)
        return wn_bad(err, "%u inputs, must be 2 and 3 for each tensor", in->n_in);
    WN_TRY(want_q(in, 0, 1, err));
    struct wn_type *y = &in->out[0];
    *y = in->in[2];
    if (in->n_in > 1 && in->given[1])
        y->dtype = in->in[1].dtype;
    for (unsigned i = 2; i < in->n_in; i += 3) {
        const unsigned needed[] = { i, i + 1 };
        WN_TRY(wn_want_given(in, needed, 2, err));
        WN_TRY(wn_want(in, i, WN_U8_I8, err));
        WN_TRY(want_q(in, i + 1, i, err));
        if (in->in[i].rank < 0) {
            y->rank = -1;
            return WINNOW_OK;
        }
        if (in->in[i].rank != in->in[2].rank)
            return wn_bad(err, "inputs have ranks %d and %d", in->in[2].rank, in->in[i].rank);
    }
    int axis;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), y->rank, "axis", &axis, err));
    for (unsigned i = 5; i < in->n_in; i += 3)
        for (int a = 0; a < y->rank; a++) {
            if (a == axis)
                WN_TRY(wn_dim_add(y->dim[a], in->in[i].dim[a], &y->dim[a], err));
            else
                WN_TRY(wn_dim_same(y->dim[a], in->in[i].dim[a], "extents of the inputs", &y->dim[a], err));
        }
    return WINNOW_OK;
}

enum winnow_status wn_run_qlinear_concat(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)y->rank, "axis", &axis, err));
    struct q qy = q_at(run, 0);
    int64_t inner = 1, at = 0;
    for (unsigned i = (unsigned)axis + 1; i < y->rank; i++)
        inner *= y->dim[i];
    int64_t y_block = inner * y->dim[axis];
    for (unsigned i = 2; i < run->n_in; i += 3) {
        const struct wn_tensor *x = run->in[i];
        struct q qx = q_at(run, i + 1);
        bool same = qx.zp == qy.zp && qx.scale == qy.scale && x->dtype == y->dtype;
        int64_t block = inner * x->dim[axis];
        for (int64_t k = 0, n = wn_tensor_count(x); k < n; k++) {
            int64_t to = k / block * y_block + at + k % block;
            if (same)
                ((uint8_t *)y->data)[to] = ((const uint8_t *)x->data)[k];
            else
                requant(y, to, dequant(x, k, qx), qy);
        }
        at += block;
    }
    return WINNOW_OK;
}

void wn_rows_qlinear_concat(struct wn_rows *r)
{
    int axis, batch = -1;
    if (wn_rows_trivial(r) || r->infer->in[2].rank < 0 ||
        wn_axis(wn_node_int(r->node, "axis", 0), r->infer->in[2].rank, "axis", &axis, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < r->n_in; i++) {
        bool tensor = i >= 2 && (i - 2) % 3 == 0;
        if (tensor != (r->in_axis[i] >= 0) || (tensor && batch >= 0 && r->in_axis[i] != batch))
            return;
        batch = tensor ? r->in_axis[i] : batch;
    }
    if (batch != axis)
        r->out_axis = batch;
}
