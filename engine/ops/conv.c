/* conv.c: Conv, ConvInteger, QLinearConv, ConvTranspose, over any number of spatial axes.  Source: ONNX Operators.md.
 *
 * DESIGN  Per output pixel the window is gathered into one row (padding becomes zeros), then each output channel is a
 *         dot product with its weights, four channels at a time so that the adds of one hide behind the others'. f32 is
 *         summed in f64: this is the oracle of the kernels. Integers are exact in 64 bits and wrap to 32 at the end. */
#include "engine/ops/budget.h"
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

struct conv {
    struct wn_window win;
    int64_t n, c, m, groups; /* batch, input channels, output channels */
    int64_t in_size, out_size, taps;
};

/* ---- geometry ---- */
static enum winnow_status conv_init(struct conv *c, const struct wn_node *node, const struct wn_type *x,
                                    const struct wn_type *w, struct winnow_err *err)
{
    if (w->rank != x->rank)
        return wn_bad(err, "weights have rank %d, input has %d", w->rank, x->rank);
    if (x->rank < 3)
        return wn_bad(err, "input 0 has rank %d, must be at least 3", x->rank);
    int64_t channels;
    c->groups = wn_node_int(node, "group", 1);
    if (c->groups < 1 || c->groups > INT32_MAX)
        return wn_bad(err, "attribute group: %lld is out of range", (long long)c->groups);
    WN_TRY(wn_dim_mul(w->dim[1], c->groups, &channels, err));
    WN_TRY(wn_dim_same(x->dim[1], channels, "input channels and group x weights' axis 1", &c->c, err));
    if (w->dim[0] >= 0 && w->dim[0] % c->groups)
        return wn_bad(err, "%lld output channels do not divide into %lld groups", (long long)w->dim[0],
                      (long long)c->groups);
    c->n = x->dim[0];
    c->m = w->dim[0];
    WN_TRY(wn_window_init(&c->win, node, x, w->dim + 2, false, err));
    WN_TRY(wn_dim_prod(c->win.in, 0, c->win.nd, &c->in_size, err));
    WN_TRY(wn_dim_prod(c->win.out, 0, c->win.nd, &c->out_size, err));
    return wn_dim_prod(c->win.kernel, 0, c->win.nd, &c->taps, err);
}

/* A per-channel vector (or scalar) must have 1 or m elements. */
static enum winnow_status want_per_channel(const struct wn_infer *in, unsigned i, int64_t m, const char *what,
                                           struct winnow_err *err)
{
    if (i >= in->n_in || !in->given[i] || in->in[i].rank < 0)
        return WINNOW_OK;
    int64_t n = in->in[i].rank == 0 ? 1 : in->in[i].dim[0];
    if (in->in[i].rank > 1 || (n >= 0 && m >= 0 && n != 1 && n != m))
        return wn_bad(err, "%s must have 1 or %lld elements", what, (long long)m);
    return WINNOW_OK;
}

static enum winnow_status infer_conv(struct wn_infer *in, unsigned wi, unsigned bi, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *w = &in->in[wi];
    struct wn_type *y = &in->out[0];
    if (x->rank < 0 || w->rank < 0) {
        if (x->rank >= 3 || w->rank >= 3)
            wn_type_set_rank(y, WN_MAX(x->rank, w->rank));
        return WINNOW_OK;
    }
    struct conv c;
    WN_TRY(conv_init(&c, in->node, x, w, err));
    if (bi < in->n_in && in->given[bi] && in->in[bi].rank >= 0) {
        int64_t same;
        if (in->in[bi].rank != 1)
            return wn_bad(err, "bias has rank %d, must be 1", in->in[bi].rank);
        WN_TRY(wn_dim_same(in->in[bi].dim[0], c.m, "bias and output channels", &same, err));
    }
    wn_type_set_rank(y, x->rank);
    y->dim[0] = c.n;
    y->dim[1] = c.m;
    memcpy(y->dim + 2, c.win.out, (size_t)c.win.nd * sizeof y->dim[0]);
    return WINNOW_OK;
}

enum winnow_status wn_infer_conv(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    in->out[0].dtype = in->in[0].dtype;
    return infer_conv(in, 1, 2, err);
}

enum winnow_status wn_infer_conv_integer(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want(in, 1, WN_U8_I8, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want_same(in, 1, 3, err));
    WN_TRY(want_per_channel(in, 2, 1, "x_zero_point", err));
    WN_TRY(want_per_channel(in, 3, in->in[1].rank > 0 ? in->in[1].dim[0] : -1, "w_zero_point", err));
    in->out[0].dtype = WINNOW_I32;
    return infer_conv(in, 1, WN_OP_MAX_IN, err);
}

enum winnow_status wn_infer_qlinear_conv(struct wn_infer *in, struct winnow_err *err)
{
    static const unsigned scalars[] = { 1, 2, 6, 7 };
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want(in, 3, WN_U8_I8, err));
    WN_TRY(wn_want(in, 7, WN_U8_I8, err));
    WN_TRY(wn_want(in, 8, WN_D(I32), err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want_same(in, 3, 5, err));
    for (size_t i = 0; i < WN_COUNT(scalars); i++)
        WN_TRY(want_per_channel(in, scalars[i], 1, "a scale or zero point", err));
    int64_t m = in->in[3].rank > 0 ? in->in[3].dim[0] : -1;
    WN_TRY(want_per_channel(in, 4, m, "w_scale", err));
    WN_TRY(want_per_channel(in, 5, m, "w_zero_point", err));
    in->out[0].dtype = in->in[7].dtype;
    return infer_conv(in, 3, 8, err);
}

/* ---- gathering one window ---- */

/* For output pixel `o`: offset of every tap in a channel's plane, or -1 in the padding. */
static void tap_offsets(const struct wn_window *w, const int64_t *o, int64_t *off)
{
    int64_t k[WN_MAX_SPATIAL] = { 0 };
    unsigned nd = (unsigned)w->nd;
    int64_t *to = off;
    do {
        int64_t at = 0;
        for (unsigned i = 0; i < nd; i++) {
            int64_t p = o[i] * w->stride[i] - w->pad[i] + k[i] * w->dil[i];
            if (p < 0 || p >= w->in[i]) {
                at = -1;
                break;
            }
            at = at * w->in[i] + p;
        }
        *to++ = at;
    } while (wn_next_index(nd, w->kernel, k));
}

/* y (n, m, out) = sum of x (n, c, in) * w (m, c/groups, taps) + bias[m] (may be NULL). */
#define DEFINE_CONV(NAME, T, ACC)                                                                                      \
    static void NAME##_pixel(const struct conv *c, const T *row, const T *w, const T *bias, T *y, int64_t len)         \
    {                                                                                                                  \
        int64_t m = c->m / c->groups;                                                                                  \
        for (int64_t o = 0; o < m; o += 4) {                                                                           \
            ACC acc[4] = { 0, 0, 0, 0 };                                                                               \
            int64_t n = WN_MIN(m - o, 4);                                                                              \
            const T *w0 = w + o * len, *w1 = n > 1 ? w0 + len : w0, *w2 = n > 2 ? w1 + len : w0,                       \
                    *w3 = n > 3 ? w2 + len : w0;                                                                       \
            for (int64_t k = 0; k < len; k++) {                                                                        \
                acc[0] += (ACC)w0[k] * (ACC)row[k];                                                                    \
                acc[1] += (ACC)w1[k] * (ACC)row[k];                                                                    \
                acc[2] += (ACC)w2[k] * (ACC)row[k];                                                                    \
                acc[3] += (ACC)w3[k] * (ACC)row[k];                                                                    \
            }                                                                                                          \
            for (int64_t i = 0; i < n; i++)                                                                            \
                y[(o + i) * c->out_size] = (T)(acc[i] + (bias ? (ACC)bias[o + i] : 0));                                \
        }                                                                                                              \
    }                                                                                                                  \
    static enum winnow_status NAME##_image(const struct conv *c, const T *x, const T *w, const T *bias, T *y, T *row,  \
                                           int64_t *off, struct wn_budget *budget, struct winnow_err *err)             \
    {                                                                                                                  \
        int64_t cg = c->c / c->groups, mg = c->m / c->groups, o[WN_MAX_SPATIAL] = { 0 }, pixel = 0;                    \
        do {                                                                                                           \
            WN_TRY(wn_budget_work(budget, (uint64_t)(c->m * cg * c->taps), err));                                      \
            tap_offsets(&c->win, o, off);                                                                              \
            for (int64_t g = 0; g < c->groups; g++) {                                                                  \
                T *to = row;                                                                                           \
                for (int64_t ch = 0; ch < cg; ch++)                                                                    \
                    for (int64_t k = 0; k < c->taps; k++)                                                              \
                        *to++ = off[k] < 0 ? 0 : x[(g * cg + ch) * c->in_size + off[k]];                               \
                NAME##_pixel(c, row, w + g * mg * cg * c->taps, bias ? bias + g * mg : NULL,                           \
                             y + g * mg * c->out_size + pixel, cg * c->taps);                                          \
            }                                                                                                          \
            pixel++;                                                                                                   \
        } while (wn_next_index((unsigned)c->win.nd, c->win.out, o));                                                   \
        return WINNOW_OK;                                                                                              \
    }                                                                                                                  \
    static enum winnow_status NAME(const struct conv *c, const T *x, const T *w, const T *bias, T *y,                  \
                                   struct wn_run *run, struct winnow_err *err)                                         \
    {                                                                                                                  \
        T *row = wn_arena_calloc(run->tmp, (size_t)(c->c / c->groups * c->taps), sizeof(T));                           \
        int64_t *off = wn_arena_calloc(run->tmp, (size_t)c->taps, sizeof *off);                                        \
        if (!row || !off || !x || !w || !y)                                                                            \
            return wn_nomem(err);                                                                                      \
        for (int64_t n = 0; n < c->n && c->out_size && c->m; n++)                                                      \
            WN_TRY(NAME##_image(c, x + n * c->c * c->in_size, w, bias, y + n * c->m * c->out_size, row, off,           \
                                run->budget, err));                                                                    \
        return WINNOW_OK;                                                                                              \
    }
DEFINE_CONV(conv_f32, float, double)
DEFINE_CONV(conv_f64, double, double)
DEFINE_CONV(conv_i32, int32_t, int64_t)

/* ---- running ---- */
static enum winnow_status run_init(struct conv *c, const struct wn_run *run, unsigned wi, struct winnow_err *err)
{
    struct wn_type x = wn_type_of(run->in[0]), w = wn_type_of(run->in[wi]);
    return conv_init(c, run->node, &x, &w, err);
}

static const struct wn_tensor *input(const struct wn_run *run, unsigned i)
{
    return i < run->n_in ? run->in[i] : NULL;
}

enum winnow_status wn_run_conv(struct wn_run *run, struct winnow_err *err)
{
    struct conv c;
    WN_TRY(run_init(&c, run, 1, err));
    const struct wn_tensor *b = input(run, 2);
    if (run->in[0]->dtype == WINNOW_F64)
        return conv_f64(&c, run->in[0]->data, run->in[1]->data, b ? b->data : NULL, run->out[0].data, run, err);
    const float *bias = b ? wn_as_f32(b, run->tmp) : NULL;
    if (b && !bias)
        return wn_nomem(err);
    float *y = wn_out_f32(run, 0);
    WN_TRY(conv_f32(&c, wn_as_f32(run->in[0], run->tmp), wn_as_f32(run->in[1], run->tmp), bias, y, run, err));
    wn_put_f32(run, 0, y);
    return WINNOW_OK;
}

/* t - zp as i32; zp has one element, or one per entry of t's axis 0. */
static const int32_t *centred(const struct wn_tensor *t, const struct wn_tensor *zp, struct wn_arena *tmp)
{
    int64_t n = wn_tensor_count(t), per = t->rank && zp && wn_tensor_count(zp) > 1 ? n / WN_MAX(t->dim[0], 1) : 0;
    int32_t *y = wn_arena_calloc(tmp, (size_t)n, sizeof *y), z = zp ? (int32_t)wn_scalar_int(zp, 0) : 0;
    for (int64_t i = 0; y && i < n; i++) {
        int32_t v = t->dtype == WINNOW_U8 ? ((const uint8_t *)t->data)[i] : ((const int8_t *)t->data)[i];
        y[i] = v - (per ? (int32_t)wn_scalar_int(zp, i / per) : z);
    }
    return y;
}

enum winnow_status wn_run_conv_integer(struct wn_run *run, struct winnow_err *err)
{
    struct conv c;
    WN_TRY(run_init(&c, run, 1, err));
    return conv_i32(&c, centred(run->in[0], input(run, 2), run->tmp), centred(run->in[1], input(run, 3), run->tmp),
                    NULL, run->out[0].data, run, err);
}

enum winnow_status wn_run_qlinear_conv(struct wn_run *run, struct winnow_err *err)
{
    struct conv c;
    WN_TRY(run_init(&c, run, 3, err));
    const struct wn_tensor *b = input(run, 8), *w_scale = run->in[4];
    struct wn_tensor *y = &run->out[0];
    int32_t *acc = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(y), sizeof *acc);
    WN_TRY(conv_i32(&c, centred(run->in[0], run->in[2], run->tmp), centred(run->in[3], run->in[5], run->tmp),
                    b ? b->data : NULL, acc, run, err));
    bool per_channel = wn_tensor_count(w_scale) > 1;
    double x_scale = wn_scalar(run->in[1], 0), y_scale = wn_scalar(run->in[6], 0);
    float zp = (float)wn_scalar_int(run->in[7], 0);
    float lo = y->dtype == WINNOW_U8 ? 0 : -128, hi = y->dtype == WINNOW_U8 ? 255 : 127;
    float mul = (float)(x_scale * wn_scalar(w_scale, 0) / y_scale);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++) {
        if (per_channel && i % c.out_size == 0)
            mul = (float)(x_scale * wn_scalar(w_scale, i / c.out_size % c.m) / y_scale);
        float f = wn_rne_clamp((float)acc[i] * mul, lo - zp, hi - zp) + zp;
        if (y->dtype == WINNOW_U8)
            ((uint8_t *)y->data)[i] = (uint8_t)f;
        else
            ((int8_t *)y->data)[i] = (int8_t)f;
    }
    return WINNOW_OK;
}

/* ---- ConvTranspose ----
 * The gradient of a convolution: every input pixel scatters its weighted kernel into the output.
 *   out = stride * (in - 1) + output_padding + (kernel - 1) * dilation + 1 - pad - pad_end */
struct tconv {
    struct wn_window win; /* its `out` is the larger side */
    int64_t n, c, m, groups;
};

static enum winnow_status tconv_ints(const struct wn_node *node, const char *name, int n, int64_t lo, int64_t *ret,
                                     bool *ret_given, struct winnow_err *err)
{
    size_t have;
    const int64_t *v = wn_node_ints(node, name, &have);
    *ret_given = v && have;
    if (!*ret_given)
        return WINNOW_OK;
    if (have != (size_t)n)
        return wn_bad(err, "attribute %s has %zu elements, must have %d", name, have, n);
    for (int i = 0; i < n; i++) {
        if (v[i] < lo || v[i] > INT32_MAX)
            return wn_bad(err, "attribute %s: %lld is out of range", name, (long long)v[i]);
        ret[i] = v[i];
    }
    return WINNOW_OK;
}

static enum winnow_status tconv_axis(struct wn_window *w, int i, const struct wn_node *node, int64_t extra,
                                     const int64_t *want, struct winnow_err *err)
{
    bool same_upper = wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_UPPER");
    bool same_lower = wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_LOWER");
    if (wn_node_str_is(node, "auto_pad", "NOTSET", "VALID"))
        w->pad[i] = w->pad_end[i] = 0;
    w->out[i] = want ? want[i] : -1;
    if (w->in[i] < 0 || w->kernel[i] < 0)
        return WINNOW_OK;
    if (w->in[i] > INT32_MAX)
        return wn_bad(err, "input extent %lld is too large", (long long)w->in[i]);
    int64_t full = w->stride[i] * (w->in[i] - 1) + extra + (w->kernel[i] - 1) * w->dil[i] + 1;
    if (want || same_upper || same_lower) {
        if (!want)
            w->out[i] = w->in[i] * w->stride[i];
        int64_t total = full - w->out[i];
        if (want && total <= -WN_MAX(w->stride[i], w->dil[i])) /* a little more is filled with zeros */
            return wn_bad(err, "attribute output_shape: %lld exceeds %lld", (long long)want[i], (long long)full);
        total = WN_MAX(total, 0);
        w->pad[i] = same_upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad[i];
        return WINNOW_OK;
    }
    w->out[i] = full - w->pad[i] - w->pad_end[i];
    if (w->out[i] < 1)
        return wn_bad(err, "pads %lld + %lld leave nothing of extent %lld", (long long)w->pad[i],
                      (long long)w->pad_end[i], (long long)full);
    return WINNOW_OK;
}

static enum winnow_status tconv_init(struct tconv *t, const struct wn_node *node, const struct wn_type *x,
                                     const struct wn_type *w, struct winnow_err *err)
{
    memset(t, 0, sizeof *t);
    if (x->rank < 3 || w->rank != x->rank)
        return wn_bad(err, "input has rank %d and weights %d, must be equal and at least 3", x->rank, w->rank);
    struct wn_window *win = &t->win;
    t->groups = wn_node_int(node, "group", 1);
    if (t->groups < 1 || t->groups > INT32_MAX)
        return wn_bad(err, "attribute group: %lld is out of range", (long long)t->groups);
    t->n = x->dim[0];
    WN_TRY(wn_dim_same(x->dim[1], w->dim[0], "input channels and weights' axis 0", &t->c, err));
    if (t->c >= 0 && t->c % t->groups)
        return wn_bad(err, "%lld channels do not divide into %lld groups", (long long)t->c, (long long)t->groups);
    WN_TRY(wn_dim_mul(w->dim[1], t->groups, &t->m, err));
    int nd = win->nd = x->rank - 2;
    int64_t pads[2 * WN_MAX_SPATIAL] = { 0 }, extra[WN_MAX_SPATIAL] = { 0 }, want[WN_MAX_SPATIAL],
                     kernel[WN_MAX_SPATIAL];
    bool given, kernel_given, shape_given;
    for (int i = 0; i < nd; i++) {
        win->in[i] = x->dim[i + 2];
        win->kernel[i] = w->dim[i + 2];
        win->stride[i] = win->dil[i] = 1;
    }
    WN_TRY(tconv_ints(node, "kernel_shape", nd, 1, kernel, &kernel_given, err));
    WN_TRY(tconv_ints(node, "strides", nd, 1, win->stride, &given, err));
    WN_TRY(tconv_ints(node, "dilations", nd, 1, win->dil, &given, err));
    WN_TRY(tconv_ints(node, "pads", 2 * nd, 0, pads, &given, err));
    WN_TRY(tconv_ints(node, "output_padding", nd, 0, extra, &given, err));
    WN_TRY(tconv_ints(node, "output_shape", nd, 1, want, &shape_given, err));
    for (int i = 0; i < nd; i++) {
        win->pad[i] = pads[i];
        win->pad_end[i] = pads[i + nd];
        if (kernel_given)
            WN_TRY(wn_dim_same(kernel[i], w->dim[i + 2], "kernel_shape and the weights' extent", &win->kernel[i], err));
        if (win->kernel[i] == 0 || win->kernel[i] > INT32_MAX)
            return wn_bad(err, "kernel extent %lld is out of range", (long long)win->kernel[i]);
        if (extra[i] >= WN_MAX(win->stride[i], win->dil[i]))
            return wn_bad(err, "attribute output_padding: %lld is not below the stride", (long long)extra[i]);
        WN_TRY(tconv_axis(win, i, node, extra[i], shape_given ? want : NULL, err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_conv_transpose(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    struct wn_type *y = &in->out[0];
    y->dtype = in->in[0].dtype;
    if (in->in[0].rank < 0 || in->in[1].rank < 0)
        return WINNOW_OK;
    struct tconv t;
    WN_TRY(tconv_init(&t, in->node, &in->in[0], &in->in[1], err));
    WN_TRY(wn_want_rank(in, 2, 1, 1, err));
    if (in->n_in > 2 && in->given[2] && in->in[2].rank == 1)
        WN_TRY(wn_dim_same(in->in[2].dim[0], t.m, "bias and output channels", &t.m, err));
    wn_type_set_rank(y, in->in[0].rank);
    y->dim[0] = t.n;
    y->dim[1] = t.m;
    memcpy(y->dim + 2, t.win.out, (size_t)t.win.nd * sizeof y->dim[0]);
    return WINNOW_OK;
}

/* Offset in the output of what input pixel `p` contributes through tap `k`, or -1 when it is cut off. */
static int64_t scatter_offset(const struct wn_window *w, const int64_t *p, const int64_t *k)
{
    int64_t at = 0;
    for (int i = 0; i < w->nd; i++) {
        int64_t o = p[i] * w->stride[i] - w->pad[i] + k[i] * w->dil[i];
        if (o < 0 || o >= w->out[i])
            return -1;
        at = at * w->out[i] + o;
    }
    return at;
}

/* One input plane (channel ch of group g) into the group's output planes. */
static void scatter_plane(const struct tconv *t, const double *x, const double *w, double *y, int64_t taps,
                          int64_t out_size)
{
    int64_t mg = t->m / t->groups, p[WN_MAX_SPATIAL] = { 0 };
    unsigned nd = (unsigned)t->win.nd;
    do {
        int64_t k[WN_MAX_SPATIAL] = { 0 }, tap = 0;
        do {
            int64_t at = scatter_offset(&t->win, p, k);
            for (int64_t o = 0; at >= 0 && o < mg; o++)
                y[o * out_size + at] += *x * w[o * taps + tap];
            tap++;
        } while (wn_next_index(nd, t->win.kernel, k));
        x++;
    } while (wn_next_index(nd, t->win.in, p));
}

enum winnow_status wn_run_conv_transpose(struct wn_run *run, struct winnow_err *err)
{
    struct wn_type xt = wn_type_of(run->in[0]), wt = wn_type_of(run->in[1]);
    struct tconv t;
    WN_TRY(tconv_init(&t, run->node, &xt, &wt, err));
    struct wn_tensor *out = &run->out[0];
    const struct wn_tensor *b = input(run, 2);
    int64_t in_size, out_size, taps, n = wn_tensor_count(out);
    WN_TRY(wn_dim_prod(t.win.in, 0, t.win.nd, &in_size, err));
    WN_TRY(wn_dim_prod(t.win.out, 0, t.win.nd, &out_size, err));
    WN_TRY(wn_dim_prod(t.win.kernel, 0, t.win.nd, &taps, err));
    const double *x = wn_as_f64(run->in[0], run->tmp), *w = wn_as_f64(run->in[1], run->tmp);
    double *y = wn_arena_calloc(run->tmp, (size_t)n, sizeof *y);
    if (!x || !w || !y)
        return wn_nomem(err);
    for (int64_t i = 0; b && i < n; i++)
        y[i] = wn_scalar(b, i / out_size % t.m);
    int64_t cg = t.c / t.groups, mg = t.m / t.groups;
    for (int64_t i = 0; i < t.n * t.c && in_size && n; i++) {
        int64_t img = i / t.c, ch = i % t.c, g = ch / cg;
        WN_TRY(wn_budget_work(run->budget, (uint64_t)(in_size * taps * mg), err));
        scatter_plane(&t, x + i * in_size, w + ch * mg * taps, y + (img * t.m + g * mg) * out_size, taps, out_size);
    }
    for (int64_t i = 0; i < n; i += WN_CHUNK)
        wn_store(out->dtype, out->data, i, (size_t)WN_MIN(n - i, WN_CHUNK), WN_CLS_F64, y + i);
    return WINNOW_OK;
}
