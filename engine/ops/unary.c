/* unary.c: y = f(x), element by element.  Source: ONNX Operators.md; formulas beside each line.
 *
 * Each operator is one line: its f32/f64 expression of x (and of its parameters a, b), and where integers make sense,
 * one for i64 and one for u64. tgmath.h picks expf() or exp() by type. NaN passes through comparisons unchanged. */
#include "engine/ops/impl.h"

#include <math.h>
#include <tgmath.h>

struct par {
    double a, b;
};
struct fns {
    void (*f32)(const struct par *, const float *, float *, size_t);
    void (*f64)(const struct par *, const double *, double *, size_t);
    void (*i64)(const struct par *, const int64_t *, int64_t *, size_t);
    void (*u64)(const struct par *, const uint64_t *, uint64_t *, size_t);
};

static enum winnow_status run_unary(struct wn_run *run, const struct fns *fns, const struct par *par)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    enum wn_cls cls = wn_cls_of(x->dtype);
    union wn_chunk in, out;
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i += WN_CHUNK) {
        size_t m = (size_t)WN_MIN(n - i, WN_CHUNK);
        const void *p = wn_load(x->dtype, x->data, i, 1, m, cls, &in);
        if (cls == WN_CLS_F32)
            fns->f32(par, p, out.f32, m);
        else if (cls == WN_CLS_F64)
            fns->f64(par, p, out.f64, m);
        else if (cls == WN_CLS_I64)
            fns->i64(par, p, out.i64, m);
        else
            fns->u64(par, p, out.u64, m);
        wn_store(y->dtype, y->data, i, m, cls, &out);
    }
    return WINNOW_OK;
}

/* ---- functions ---- */
#define LOOP(NAME, T, EXPR)                                                                                            \
    static void NAME(const struct par *par, const T *restrict xs, T *restrict ys, size_t n)                            \
    {                                                                                                                  \
        const T a = (T)par->a, b = (T)par->b;                                                                          \
        (void)a, (void)b;                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const T x = xs[i];                                                                                         \
            ys[i] = EXPR;                                                                                              \
        }                                                                                                              \
    }
#define FLOAT(NAME, A, DEF_A, B, DEF_B, EXPR)                                                                          \
    LOOP(NAME##_f32, float, EXPR)                                                                                      \
    LOOP(NAME##_f64, double, EXPR)                                                                                     \
    enum winnow_status wn_run_##NAME(struct wn_run *run, struct winnow_err *err)                                       \
    {                                                                                                                  \
        static const struct fns fns = { NAME##_f32, NAME##_f64, NULL, NULL };                                          \
        struct par par = { wn_node_float(run->node, A, DEF_A), wn_node_float(run->node, B, DEF_B) };                   \
        return run_unary(run, &fns, &par);                                                                             \
    }
#define NUMBER(NAME, EXPR, I_EXPR, U_EXPR)                                                                             \
    LOOP(NAME##_f32, float, EXPR)                                                                                      \
    LOOP(NAME##_f64, double, EXPR)                                                                                     \
    LOOP(NAME##_i64, int64_t, I_EXPR)                                                                                  \
    LOOP(NAME##_u64, uint64_t, U_EXPR)                                                                                 \
    enum winnow_status wn_run_##NAME(struct wn_run *run, struct winnow_err *err)                                       \
    {                                                                                                                  \
        static const struct fns fns = { NAME##_f32, NAME##_f64, NAME##_i64, NAME##_u64 };                              \
        static const struct par par = { 0, 0 };                                                                        \
        return run_unary(run, &fns, &par);                                                                             \
    }
#define FLOAT0(NAME, EXPR) FLOAT(NAME, "", 0, "", 0, EXPR)
#define SIGMOID(v)         (1 / (1 + exp(-(v))))
#define SOFTPLUS(v)        ((v) > 0 ? (v) + log1p(exp(-(v))) : log1p(exp(v)))

NUMBER(relu, x < 0 ? 0 : x, x < 0 ? 0 : x, x)
NUMBER(abs, fabs(x), x < 0 ? (int64_t)(0 - (uint64_t)x) : x, x)
NUMBER(neg, -x, (int64_t)(0 - (uint64_t)x), 0 - x)
NUMBER(sign, x > 0 ? 1 : x < 0 ? -1 : x, (x > 0) - (x < 0), x > 0)
NUMBER(not, x == 0, x == 0, x == 0)
NUMBER(bitwise_not, x, ~x, ~x)
FLOAT(leaky_relu, "alpha", 0.01f, "", 0, x < 0 ? a * x : x)
FLOAT(thresholded_relu, "alpha", 1, "", 0, x > a ? x : 0)
FLOAT(elu, "alpha", 1, "", 0, x < 0 ? a * expm1(x) : x)
FLOAT(celu, "alpha", 1, "", 0, x < 0 ? a * expm1(x / a) : x)
FLOAT(selu, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f, b *(x < 0 ? a * expm1(x) : x))
FLOAT(hard_sigmoid, "alpha", 0.2f, "beta", 0.5f, fmax(0.f, fmin(1.f, a *x + b)))
FLOAT(shrink, "bias", 0, "lambd", 0.5f, x<-b ? x + a : x> b ? x - a : 0)
FLOAT(swish, "alpha", 1, "", 0, x *SIGMOID(a *x))
FLOAT0(hard_swish, x *fmax(0.f, fmin(1.f, x / 6 + 0.5f)))
FLOAT0(sigmoid, SIGMOID(x))
FLOAT0(softplus, SOFTPLUS(x))
FLOAT0(softsign, x / (1 + fabs(x)))
FLOAT0(mish, x *tanh(SOFTPLUS(x)))
FLOAT0(exp, exp(x))
FLOAT0(log, log(x))
FLOAT0(sqrt, sqrt(x))
FLOAT0(reciprocal, 1 / x)
FLOAT0(floor, floor(x))
FLOAT0(ceil, ceil(x))
FLOAT0(round, rint(x))
FLOAT0(erf, erf(x))
FLOAT0(sin, sin(x))
FLOAT0(cos, cos(x))
FLOAT0(tan, tan(x))
FLOAT0(asin, asin(x))
FLOAT0(acos, acos(x))
FLOAT0(atan, atan(x))
FLOAT0(sinh, sinh(x))
FLOAT0(cosh, cosh(x))
FLOAT0(tanh, tanh(x))
FLOAT0(asinh, asinh(x))
FLOAT0(acosh, acosh(x))
FLOAT0(atanh, atanh(x))
FLOAT0(isnan, x != x)

/* ---- functions with a mode ---- */
LOOP(gelu_erf_f32, float, 0.5f * x * (1 + erf(x * (float)M_SQRT1_2)))
LOOP(gelu_erf_f64, double, 0.5 * x * (1 + erf(x * M_SQRT1_2)))
LOOP(gelu_tanh_f32, float, 0.5f * x * (1 + tanh(0.79788456f * (x + 0.044715f * x * x * x))))
LOOP(gelu_tanh_f64, double, 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))))
LOOP(isinf_f32, float, (a != 0 && x == -INFINITY) || (b != 0 && x == INFINITY))
LOOP(isinf_f64, double, (a != 0 && x == -(double)INFINITY) || (b != 0 && x == (double)INFINITY))

enum winnow_status wn_run_gelu(struct wn_run *run, struct winnow_err *err)
{
    static const struct fns by_erf = { gelu_erf_f32, gelu_erf_f64, NULL, NULL };
    static const struct fns by_tanh = { gelu_tanh_f32, gelu_tanh_f64, NULL, NULL };
    static const struct par par = { 0, 0 };
    return run_unary(run, wn_node_str_is(run->node, "approximate", "none", "tanh") ? &by_tanh : &by_erf, &par);
}

enum winnow_status wn_run_is_inf(struct wn_run *run, struct winnow_err *err)
{
    static const struct fns fns = { isinf_f32, isinf_f64, NULL, NULL };
    struct par par = { (double)wn_node_int(run->node, "detect_negative", 1),
                       (double)wn_node_int(run->node, "detect_positive", 1) };
    return run_unary(run, &fns, &par);
}

/* ---- Clip: bounds are attributes up to opset 10, inputs after ---- */
#define CLIP(NAME, T)                                                                                                  \
    static void NAME(const T *lo, const T *hi, const T *x, T *y, size_t n)                                             \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T v = lo && x[i] < *lo ? *lo : x[i];                                                                       \
            y[i] = hi && v > *hi ? *hi : v;                                                                            \
        }                                                                                                              \
    }
CLIP(clip_f32, float)
CLIP(clip_f64, double)
CLIP(clip_i64, int64_t)
CLIP(clip_u64, uint64_t)

static const void *clip_bound(struct wn_run *run, unsigned i, const char *attr, enum wn_cls cls, union wn_chunk *buf)
{
    if (i < run->n_in && run->in[i])
        return wn_load(run->in[i]->dtype, run->in[i]->data, 0, 0, 1, cls, buf);
    if (run->node->opset >= 11 || !wn_node_attr(run->node, attr))
        return NULL;
    float f = wn_node_float(run->node, attr, 0);
    return wn_load(WINNOW_F32, &f, 0, 0, 1, cls, buf);
}

enum winnow_status wn_run_clip(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    enum wn_cls cls = wn_cls_of(x->dtype);
    union wn_chunk lo_buf, hi_buf, in, out;
    const void *lo = clip_bound(run, 1, "min", cls, &lo_buf), *hi = clip_bound(run, 2, "max", cls, &hi_buf);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i += WN_CHUNK) {
        size_t m = (size_t)WN_MIN(n - i, WN_CHUNK);
        const void *p = wn_load(x->dtype, x->data, i, 1, m, cls, &in);
        if (cls == WN_CLS_F32)
            clip_f32(lo, hi, p, out.f32, m);
        else if (cls == WN_CLS_F64)
            clip_f64(lo, hi, p, out.f64, m);
        else if (cls == WN_CLS_I64)
            clip_i64(lo, hi, p, out.i64, m);
        else
            clip_u64(lo, hi, p, out.u64, m);
        wn_store(y->dtype, y->data, i, m, cls, &out);
    }
    return WINNOW_OK;
}

/* ---- shape rules ---- */
static enum winnow_status infer_same(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, mask, err));
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

enum winnow_status wn_infer_unary_float(struct wn_infer *in, struct winnow_err *err)
{
    return infer_same(in, WN_FLOATS, err);
}

enum winnow_status wn_infer_unary_number(struct wn_infer *in, struct winnow_err *err)
{
    return infer_same(in, WN_NUMBERS, err);
}

enum winnow_status wn_infer_unary_int(struct wn_infer *in, struct winnow_err *err)
{
    return infer_same(in, WN_INTS, err);
}

enum winnow_status wn_infer_unary_bool(struct wn_infer *in, struct winnow_err *err)
{
    return infer_same(in, WN_D(BOOL), err);
}

enum winnow_status wn_infer_float_to_bool(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(infer_same(in, WN_FLOATS, err));
    in->out[0].dtype = WINNOW_BOOL;
    return WINNOW_OK;
}

enum winnow_status wn_infer_clip(struct wn_infer *in, struct winnow_err *err)
{
    for (unsigned i = 1; i < in->n_in; i++) {
        WN_TRY(wn_want_same(in, 0, i, err));
        if (in->value[i] && wn_tensor_count(in->value[i]) != 1)
            return wn_bad(err, "bound %u has %lld elements, must be a scalar", i,
                          (long long)wn_tensor_count(in->value[i]));
    }
    return infer_same(in, WN_NUMBERS, err);
}
