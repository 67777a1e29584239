/* fused.c: shape rules and plain-C runs of the operators that passes make. The runs are the oracle of the int8 kernels
 * and what a plan uses where no kernel family fits. */
#include "engine/passes/fused.h"

#include <math.h>
#include <string.h>
#include "engine/ops/ops.h"
#include "engine/passes/fused_table.h"

/* ---- geometry ---- */

static int64_t int_at(const struct wn_node *node, const char *name, size_t i, size_t want, int64_t def)
{
    size_t n;
    const int64_t *v = wn_node_ints(node, name, &n);
    return n == want ? v[i] : def;
}

enum winnow_status wn_conv_geom_of(const struct wn_node *node, unsigned spatial, const int64_t *kernel,
                                   struct wn_conv_geom *ret, struct winnow_err *err)
{
    if (spatial != 1 && spatial != 2)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "node '%s' (%s): %u spatial dimensions", node->name, node->op_type,
                       spatial);
    struct wn_conv_geom g = { .kh = 1, .stride_h = 1, .dil_h = 1, .groups = wn_node_int(node, "group", 1) };
    size_t s = spatial, w = s - 1;
    g.kw = int_at(node, "kernel_shape", w, s, kernel ? kernel[w] : 1);
    g.stride_w = int_at(node, "strides", w, s, 1);
    g.dil_w = int_at(node, "dilations", w, s, 1);
    g.pad_l = int_at(node, "pads", w, 2 * s, 0);
    g.pad_r = int_at(node, "pads", s + w, 2 * s, 0);
    if (s == 2) {
        g.kh = int_at(node, "kernel_shape", 0, s, kernel ? kernel[0] : 1);
        g.stride_h = int_at(node, "strides", 0, s, 1);
        g.dil_h = int_at(node, "dilations", 0, s, 1);
        g.pad_t = int_at(node, "pads", 0, 2 * s, 0);
        g.pad_b = int_at(node, "pads", s, 2 * s, 0);
    }
    if (wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_UPPER"))
        g.auto_pad = 1;
    else if (wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_LOWER"))
        g.auto_pad = 2;
    if (!wn_node_str_is(node, "auto_pad", "NOTSET", "NOTSET"))
        g.pad_t = g.pad_l = g.pad_b = g.pad_r = 0;
    *ret = g;
    return WINNOW_OK;
}

static int64_t same_out(int64_t in, int64_t k, int64_t stride, int64_t dil, int auto_pad, int64_t *before,
                        int64_t *after)
{
    int64_t out = (in + stride - 1) / stride, total = (out - 1) * stride + (k - 1) * dil + 1 - in;
    if (total < 0)
        total = 0;
    *before = auto_pad == 1 ? total / 2 : total - total / 2;
    *after = total - *before;
    return out;
}

void wn_conv_geom_resolve(struct wn_conv_geom *geom, int64_t h, int64_t w, int64_t *ret_oh, int64_t *ret_ow)
{
    if (geom->auto_pad) {
        *ret_oh = same_out(h, geom->kh, geom->stride_h, geom->dil_h, geom->auto_pad, &geom->pad_t, &geom->pad_b);
        *ret_ow = same_out(w, geom->kw, geom->stride_w, geom->dil_w, geom->auto_pad, &geom->pad_l, &geom->pad_r);
        return;
    }
    *ret_oh = (h + geom->pad_t + geom->pad_b - (geom->kh - 1) * geom->dil_h - 1) / geom->stride_h + 1;
    *ret_ow = (w + geom->pad_l + geom->pad_r - (geom->kw - 1) * geom->dil_w - 1) / geom->stride_w + 1;
}

/* (N, C, H, W) of a rank 3 or 4 type; rank 3 is H = 1. */
static void nchw(const int64_t *dim, unsigned rank, int64_t ret[4])
{
    ret[0] = dim[0];
    ret[1] = dim[1];
    ret[2] = rank == 4 ? dim[2] : 1;
    ret[3] = dim[rank - 1];
}

/* ---- shape rules ---- */

/* All wn operators know their output's dtype from the value the pass made; infer keeps it, and finds the shape. */
static enum winnow_status infer_conv(struct wn_infer *in, const struct wn_conv_geom *fused, enum winnow_dtype dtype)
{
    const struct wn_type *x = &in->in[0], *w = &in->in[1];
    in->out[0] = (struct wn_type){ .dtype = dtype, .rank = x->rank };
    if (x->rank != 3 && x->rank != 4) {
        in->out[0].rank = -1;
        return WINNOW_OK;
    }
    int64_t d[4], oh = -1, ow = -1;
    nchw(x->dim, (unsigned)x->rank, d);
    struct wn_conv_geom geom = *fused;
    if (d[2] >= 0 && d[3] >= 0)
        wn_conv_geom_resolve(&geom, d[2], d[3], &oh, &ow);
    in->out[0].dim[0] = d[0];
    in->out[0].dim[1] = w->dim[0];
    if (x->rank == 4)
        in->out[0].dim[2] = oh;
    in->out[0].dim[x->rank - 1] = ow;
    return WINNOW_OK;
}

static enum winnow_status check_extent(const struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *y = &in->out[0];
    for (int i = 2; i < y->rank; i++)
        if (y->dim[i] == 0 || y->dim[i] < -1)
            return wn_fail(err, WINNOW_E_MALFORMED, "the kernel exceeds the padded input");
    return WINNOW_OK;
}

static enum winnow_status infer_fconv(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_f32 *f = in->node->fused;
    infer_conv(in, &f->geom, WINNOW_F32);
    return check_extent(in, err);
}

static bool y_is_float(const struct wn_fused_q8 *f)
{
    return f->y_f32;
}

static enum winnow_status infer_qconv(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_q8 *f = in->node->fused;
    infer_conv(in, &f->geom, y_is_float(f) ? WINNOW_F32 : WINNOW_U8);
    return check_extent(in, err);
}

static void infer_rows_by(struct wn_infer *in, enum winnow_dtype dtype)
{
    in->out[0] = in->in[0];
    in->out[0].dtype = dtype;
    if (in->in[0].rank > 0)
        in->out[0].dim[in->in[0].rank - 1] = in->in[1].dim[0];
}

static enum winnow_status infer_flinear(struct wn_infer *in, struct winnow_err *err)
{
    infer_rows_by(in, WINNOW_F32);
    return WINNOW_OK;
}

static enum winnow_status infer_qlinear(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_q8 *f = in->node->fused;
    infer_rows_by(in, y_is_float(f) ? WINNOW_F32 : WINNOW_U8);
    return WINNOW_OK;
}

static enum winnow_status infer_dlinear(struct wn_infer *in, struct winnow_err *err)
{
    infer_rows_by(in, WINNOW_F32);
    return WINNOW_OK;
}

/* Makes *dim, the extent of the first phase, that of the result; -1 stays. False where that is negative or overflows. */
static bool woven(int64_t *dim, int32_t by, int64_t more)
{
    int64_t n;
    if (*dim < 0)
        return true;
    if (__builtin_mul_overflow(*dim, (int64_t)by, &n) || __builtin_add_overflow(n, more, &n) || n < 0)
        return false;
    *dim = n;
    return true;
}

static enum winnow_status infer_interleave(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_interleave *f = in->node->fused;
    struct wn_type *y = &in->out[0];
    *y = in->in[0];
    y->dtype = WINNOW_F32;
    const int w = y->rank - 1;
    if (y->rank < 3)
        return WINNOW_OK;
    if ((y->rank == 4 && !woven(&y->dim[2], f->sh, f->add_h)) || !woven(&y->dim[w], f->sw, f->add_w))
        return wn_fail(err, WINNOW_E_MALFORMED, "the input is smaller than the padding, or the result too large");
    return WINNOW_OK;
}

static enum winnow_status infer_im2col(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_conv_geom *fused = in->node->fused;
    const struct wn_type *x = &in->in[0];
    struct wn_type *y = &in->out[0];
    struct wn_conv_geom geom = *fused;
    int64_t d[4], oh = -1, ow = -1, taps = geom.kh * geom.kw;
    *y = (struct wn_type){ .dtype = WINNOW_U8, .rank = -1 };
    if (x->rank != 3 && x->rank != 4)
        return WINNOW_OK;
    nchw(x->dim, (unsigned)x->rank, d);
    if (d[2] >= 0 && d[3] >= 0) {
        wn_conv_geom_resolve(&geom, d[2], d[3], &oh, &ow);
        if (oh < 1 || ow < 1)
            return wn_fail(err, WINNOW_E_MALFORMED, "the kernel exceeds the padded input");
    }
    y->rank = x->rank;
    y->dim[0] = d[0];
    y->dim[1] = oh;
    y->dim[x->rank - 2] = ow;
    if (d[1] >= 0 && __builtin_mul_overflow(d[1], taps, &y->dim[x->rank - 1]))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%lld channels of %lld taps", (long long)d[1], (long long)taps);
    if (d[1] < 0)
        y->dim[x->rank - 1] = -1;
    return WINNOW_OK;
}

static enum winnow_status infer_u8(struct wn_infer *in, struct winnow_err *err)
{
    in->out[0] = in->in[0];
    in->out[0].dtype = WINNOW_U8;
    return WINNOW_OK;
}

static enum winnow_status infer_f32(struct wn_infer *in, struct winnow_err *err)
{
    in->out[0] = in->in[0];
    in->out[0].dtype = WINNOW_F32;
    return WINNOW_OK;
}

static enum winnow_status infer_flip(struct wn_infer *in, struct winnow_err *err)
{
    in->out[0] = in->in[0];
    in->out[0].dtype = in->in[0].dtype == WINNOW_I8 ? WINNOW_U8 : WINNOW_I8;
    return WINNOW_OK;
}

static enum winnow_status infer_qgap(struct wn_infer *in, struct winnow_err *err)
{
    infer_u8(in, err);
    for (int i = 2; i < in->out[0].rank; i++)
        in->out[0].dim[i] = 1;
    return WINNOW_OK;
}

static enum winnow_status infer_qavg(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = in->node->fused;
    struct wn_type *y = &in->out[0];
    infer_u8(in, err);
    if (y->rank < 3)
        return WINNOW_OK;
    int64_t d[4], oh = -1, ow = -1;
    nchw(in->in[0].dim, (unsigned)y->rank, d);
    struct wn_conv_geom geom = f->geom;
    if (d[2] >= 0 && d[3] >= 0)
        wn_conv_geom_resolve(&geom, d[2], d[3], &oh, &ow);
    if (y->rank == 4)
        y->dim[2] = oh;
    y->dim[y->rank - 1] = ow;
    return check_extent(in, err);
}

/* ---- runs ---- */

static float clampf(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x; /* NaN passes */
}

/* rne with saturation, then the zero point and the clamp (kernels/q8_epilogue.h says the same). */
static uint8_t requant(float f, int32_t y_zp, int32_t q_lo, int32_t q_hi)
{
    f = f < 65536.0f ? f : 65536.0f; /* NaN too */
    f = f > -65536.0f ? f : -65536.0f;
    int32_t q = (int32_t)rintf(f) + y_zp;
    return (uint8_t)(q < q_lo ? q_lo : q > q_hi ? q_hi : q);
}

/* One output position of a convolution: calls `tap` for every input element under the kernel. */
struct window {
    int64_t h, w;
    struct wn_conv_geom g;
};

static bool tap_at(const struct window *win, int64_t oy, int64_t ox, int64_t ky, int64_t kx, int64_t *ret)
{
    int64_t y = oy * win->g.stride_h + ky * win->g.dil_h - win->g.pad_t;
    int64_t x = ox * win->g.stride_w + kx * win->g.dil_w - win->g.pad_l;
    *ret = y * win->w + x;
    return y >= 0 && y < win->h && x >= 0 && x < win->w;
}

static float dot_f32(const struct window *win, const float *x, const float *w, int64_t c, int64_t oy, int64_t ox)
{
    float sum = 0;
    int64_t at, taps = win->g.kh * win->g.kw;
    for (int64_t i = 0; i < c; i++)
        for (int64_t k = 0; k < taps; k++)
            if (tap_at(win, oy, ox, k / win->g.kw, k % win->g.kw, &at))
                sum += w[i * taps + k] * x[i * win->h * win->w + at];
    return sum;
}

static int32_t dot_q8(const struct window *win, const uint8_t *x, const int8_t *w, int64_t c, int64_t oy, int64_t ox,
                      int32_t x_zp, int32_t w_zp)
{
    uint32_t sum = 0; /* wraps like the hardware on absurd sizes; exact below 2^31 */
    int64_t at, taps = win->g.kh * win->g.kw;
    for (int64_t i = 0; i < c; i++)
        for (int64_t k = 0; k < taps; k++)
            if (tap_at(win, oy, ox, k / win->g.kw, k % win->g.kw, &at))
                sum += (uint32_t)((w[i * taps + k] - w_zp) * (x[i * win->h * win->w + at] - x_zp));
    return (int32_t)sum;
}

static float activate(enum wn_act act, float alpha, float v)
{
    switch (act) {
    case WN_ACT_GELU:
        return 0.5f * v * (1.0f + erff(v * 0.70710678f));
    case WN_ACT_GELU_TANH:
        return 0.5f * v * (1.0f + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
    case WN_ACT_TANH:
        return tanhf(v);
    case WN_ACT_SIGMOID:
        return 1.0f / (1.0f + expf(-v));
    case WN_ACT_SWISH:
        return v / (1.0f + expf(-v));
    case WN_ACT_HARD_SWISH:
        return v * clampf(v / 6 + 0.5f, 0, 1);
    case WN_ACT_LEAKY_RELU:
        return v < 0 ? alpha * v : v;
    default:
        return v;
    }
}

static void put_q8(const struct wn_fused_q8 *f, const struct wn_tensor *r, void *y, int64_t at, int64_t o, int32_t acc)
{
    float v = (float)acc * f->mul[o];
    if (y_is_float(f)) {
        if (r)
            v += ((const float *)r->data)[at];
        ((float *)y)[at] = clampf(v, f->lo, f->hi);
    } else {
        if (f->act != WN_ACT_NONE) {
            v = activate(f->act, f->alpha, v) / f->y_scale;
            v = v != v ? 0.0f : v;
        }
        if (r) {
            v = v < f->s_hi ? v : f->s_hi; /* NaN too */
            v = v > f->s_lo ? v : f->s_lo;
            v = rintf(v) * f->s_mul + (float)(((const uint8_t *)r->data)[at] - f->r_zp) * f->r_mul;
        }
        const uint8_t q = requant(v, f->y_zp, f->q_lo, f->q_hi);
        ((uint8_t *)y)[at] = f->table ? f->table[q] : q;
    }
}

static const struct wn_tensor *input(const struct wn_run *run, unsigned i)
{
    return i < run->n_in ? run->in[i] : NULL;
}

static void put_f32(const struct wn_fused_f32 *f, const struct wn_tensor *r, float *y, int64_t at, float v)
{
    y[at] = clampf(activate(f->act, f->alpha, r ? v + ((const float *)r->data)[at] : v), f->lo, f->hi);
}

struct conv_dims {
    int64_t x[4], y[4], cg, og; /* channels in and out of a group */
    struct window win;
};

static struct conv_dims conv_dims(const struct wn_run *run, const struct wn_conv_geom *geom)
{
    struct conv_dims d;
    nchw(run->in[0]->dim, run->in[0]->rank, d.x);
    nchw(run->out[0].dim, run->out[0].rank, d.y);
    d.cg = d.x[1] / geom->groups;
    d.og = d.y[1] / geom->groups;
    d.win = (struct window){ d.x[2], d.x[3], *geom };
    int64_t oh, ow;
    wn_conv_geom_resolve(&d.win.g, d.x[2], d.x[3], &oh, &ow);
    return d;
}

static enum winnow_status run_fconv(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_f32 *f = run->node->fused;
    struct conv_dims d = conv_dims(run, &f->geom);
    const struct wn_tensor *b = input(run, 2), *r = input(run, 3);
    int64_t taps = f->geom.kh * f->geom.kw, hw = d.y[2] * d.y[3];
    for (int64_t n = 0; n < d.y[0]; n++)
        for (int64_t o = 0; o < d.y[1]; o++) {
            const float *x = (const float *)run->in[0]->data + (n * d.x[1] + o / d.og * d.cg) * d.x[2] * d.x[3];
            const float *w = (const float *)run->in[1]->data + o * d.cg * taps;
            float bias = b ? ((const float *)b->data)[o] : 0;
            for (int64_t p = 0; p < hw; p++)
                put_f32(f, r, run->out[0].data, (n * d.y[1] + o) * hw + p,
                        bias + dot_f32(&d.win, x, w, d.cg, p / d.y[3], p % d.y[3]));
        }
    return WINNOW_OK;
}

static enum winnow_status run_qconv(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_q8 *f = run->node->fused;
    struct conv_dims d = conv_dims(run, &f->geom);
    const struct wn_tensor *b = input(run, 2), *r = input(run, 3);
    int64_t taps = f->geom.kh * f->geom.kw, hw = d.y[2] * d.y[3];
    for (int64_t n = 0; n < d.y[0]; n++)
        for (int64_t o = 0; o < d.y[1]; o++) {
            const uint8_t *x = (const uint8_t *)run->in[0]->data + (n * d.x[1] + o / d.og * d.cg) * d.x[2] * d.x[3];
            const int8_t *w = (const int8_t *)run->in[1]->data + o * d.cg * taps;
            uint32_t bias = b ? (uint32_t)((const int32_t *)b->data)[o] : 0;
            for (int64_t p = 0; p < hw; p++) {
                uint32_t acc = bias + (uint32_t)dot_q8(&d.win, x, w, d.cg, p / d.y[3], p % d.y[3], f->x_zp,
                                                       f->w_zp ? f->w_zp[o] : 0);
                put_q8(f, r, run->out[0].data, (n * d.y[1] + o) * hw + p, o, (int32_t)acc);
            }
        }
    return WINNOW_OK;
}

static enum winnow_status run_flinear(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_f32 *f = run->node->fused;
    int64_t N = run->in[1]->dim[0], K = run->in[1]->dim[1], M = K ? wn_tensor_count(run->in[0]) / K : 0;
    const struct wn_tensor *b = input(run, 2), *r = input(run, 3);
    for (int64_t m = 0; m < M; m++)
        for (int64_t o = 0; o < N; o++) {
            const float *x = (const float *)run->in[0]->data + m * K, *w = (const float *)run->in[1]->data + o * K;
            float sum = b ? ((const float *)b->data)[o] : 0;
            for (int64_t k = 0; k < K; k++)
                sum += w[k] * x[k];
            put_f32(f, r, run->out[0].data, m * N + o, sum);
        }
    return WINNOW_OK;
}

static enum winnow_status run_qlinear(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_q8 *f = run->node->fused;
    int64_t N = run->in[1]->dim[0], K = run->in[1]->dim[1], M = K ? wn_tensor_count(run->in[0]) / K : 0;
    const struct wn_tensor *b = input(run, 2), *r = input(run, 3);
    for (int64_t m = 0; m < M; m++)
        for (int64_t o = 0; o < N; o++) {
            const uint8_t *x = (const uint8_t *)run->in[0]->data + m * K;
            const int8_t *w = (const int8_t *)run->in[1]->data + o * K;
            int32_t w_zp = f->w_zp ? f->w_zp[o] : 0;
            uint32_t acc = b ? (uint32_t)((const int32_t *)b->data)[o] : 0;
            for (int64_t k = 0; k < K; k++)
                acc += (uint32_t)((w[k] - w_zp) * (x[k] - f->x_zp));
            put_q8(f, r, run->out[0].data, m * N + o, o, (int32_t)acc);
        }
    return WINNOW_OK;
}

static enum winnow_status run_dlinear(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_dyn *f = run->node->fused;
    int64_t N = run->in[1]->dim[0], K = run->in[1]->dim[1], M = K ? wn_tensor_count(run->in[0]) / K : 0;
    const struct wn_tensor *scale = input(run, 2), *zp = input(run, 3), *b = input(run, 4);
    int32_t x_zp = zp ? *(const uint8_t *)zp->data : 0;
    for (int64_t m = 0; m < M; m++)
        for (int64_t o = 0; o < N; o++) {
            const uint8_t *x = (const uint8_t *)run->in[0]->data + m * K;
            const int8_t *w = (const int8_t *)run->in[1]->data + o * K;
            int32_t w_zp = f->w_zp ? f->w_zp[o] : 0;
            uint32_t acc = 0; /* wraps, as MatMulInteger does */
            for (int64_t k = 0; k < K; k++)
                acc += (uint32_t)((w[k] - w_zp) * (x[k] - x_zp));
            float y = (float)(int32_t)acc * (scale ? *(const float *)scale->data * f->w_scale[o] : f->w_scale[o]);
            if (b)
                y += ((const float *)b->data)[o];
            ((float *)run->out[0].data)[m * N + o] = clampf(y, f->lo, f->hi);
        }
    return WINNOW_OK;
}

static enum winnow_status run_im2col(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_conv_geom *fused = run->node->fused;
    const struct wn_tensor *zp = input(run, 1);
    struct window win = { .g = *fused };
    int64_t d[4], oh, ow, at, taps = fused->kh * fused->kw;
    nchw(run->in[0]->dim, run->in[0]->rank, d);
    win.h = d[2];
    win.w = d[3];
    wn_conv_geom_resolve(&win.g, d[2], d[3], &oh, &ow);
    const uint8_t pad = zp ? *(const uint8_t *)zp->data : 0;
    uint8_t *y = run->out[0].data;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t p = 0; p < oh * ow; p++, y += d[1] * taps)
            for (int64_t k = 0; k < taps; k++) {
                bool inside = tap_at(&win, p / ow, p % ow, k / win.g.kw, k % win.g.kw, &at);
                const uint8_t *x = (const uint8_t *)run->in[0]->data + n * d[1] * d[2] * d[3] + (inside ? at : 0);
                for (int64_t c = 0; c < d[1]; c++)
                    y[c * taps + k] = inside ? x[c * d[2] * d[3]] : pad;
            }
    return WINNOW_OK;
}

static enum winnow_status run_interleave(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_interleave *f = run->node->fused;
    struct wn_tensor *y = &run->out[0];
    int64_t d[4];
    nchw(y->dim, y->rank, d);
    float *to = y->data;
    for (int64_t p = 0; p < d[0] * d[1]; p++)
        for (int64_t i = 0; i < d[2]; i++)
            for (int64_t k = 0; k < d[3]; k++) {
                const int64_t a = i % f->sh, b = k % f->sw;
                const struct wn_tensor *x = run->in[a * f->sw + b];
                int64_t e[4];
                nchw(x->dim, x->rank, e);
                const int64_t row = i / f->sh + f->skip_h[a], col = k / f->sw + f->skip_w[b];
                if (row >= e[2] || col >= e[3])
                    return wn_fail(err, WINNOW_E_MALFORMED, "phase %lld is too small", (long long)(a * f->sw + b));
                *to++ = ((const float *)x->data)[(p * e[2] + row) * e[3] + col];
            }
    return WINNOW_OK;
}

static enum winnow_status run_qadd(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    const uint8_t *a = run->in[0]->data, *b = run->in[1]->data;
    uint8_t *y = run->out[0].data;
    for (size_t i = 0; i < run->out[0].bytes; i++)
        y[i] =
            requant((float)(a[i] - f->a_zp) * f->a_mul + (float)(b[i] - f->b_zp) * f->b_mul, f->y_zp, f->q_lo, f->q_hi);
    return WINNOW_OK;
}

static enum winnow_status run_qgap(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    const struct wn_tensor *x = run->in[0];
    int64_t planes = x->dim[0] * x->dim[1], n = planes ? wn_tensor_count(x) / planes : 0;
    const uint8_t *a = x->data;
    for (int64_t p = 0; p < planes; p++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += a[p * n + i];
        ((uint8_t *)run->out[0].data)[p] =
            requant((float)(sum - n * f->a_zp) * (f->a_mul / (float)n), f->y_zp, f->q_lo, f->q_hi);
    }
    return WINNOW_OK;
}

static enum winnow_status run_qavg(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    struct wn_conv_geom one = f->geom;
    one.groups = 1;
    struct conv_dims d = conv_dims(run, &one);
    int64_t taps = one.kh * one.kw, hw = d.y[2] * d.y[3], at;
    for (int64_t p = 0; p < d.y[0] * d.y[1]; p++)
        for (int64_t i = 0; i < hw; i++) {
            const uint8_t *x = (const uint8_t *)run->in[0]->data + p * d.x[2] * d.x[3];
            int32_t sum = 0, n = 0;
            for (int64_t k = 0; k < taps; k++)
                if (tap_at(&d.win, i / d.y[3], i % d.y[3], k / one.kw, k % one.kw, &at)) {
                    sum += x[at] - f->a_zp;
                    n++;
                }
            if (f->count_include_pad)
                n = (int32_t)taps;
            ((uint8_t *)run->out[0].data)[p * hw + i] =
                requant((float)sum * (f->a_mul / (float)(n ? n : 1)), f->y_zp, f->q_lo, f->q_hi);
        }
    return WINNOW_OK;
}

static enum winnow_status run_quantize(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    const float *x = run->in[0]->data;
    for (size_t i = 0; i < run->out[0].bytes; i++)
        ((uint8_t *)run->out[0].data)[i] =
            requant(x[i] != x[i] ? 0.0f : x[i] / f->a_mul, f->y_zp, f->q_lo, f->q_hi); /* NaN counts as 0 */
    return WINNOW_OK;
}

static enum winnow_status run_dequantize(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    const uint8_t *x = run->in[0]->data;
    for (size_t i = 0; i < run->in[0]->bytes; i++)
        ((float *)run->out[0].data)[i] = (float)(x[i] - f->a_zp) * f->a_mul;
    return WINNOW_OK;
}

static enum winnow_status run_requantize(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qelt *f = run->node->fused;
    const uint8_t *x = run->in[0]->data;
    for (size_t i = 0; i < run->in[0]->bytes; i++)
        ((uint8_t *)run->out[0].data)[i] = f->table[x[i]];
    return WINNOW_OK;
}

static enum winnow_status run_flip(struct wn_run *run, struct winnow_err *err)
{
    const uint8_t *x = run->in[0]->data;
    for (size_t i = 0; i < run->in[0]->bytes; i++)
        ((uint8_t *)run->out[0].data)[i] = x[i] ^ 0x80;
    return WINNOW_OK;
}

/* ---- the table ---- */

static const struct wn_op table[] = {
    { "wn", "Conv", 1, 2, 4, 1, 1, infer_fconv, run_fconv, NULL },
    { "wn", "Linear", 1, 2, 4, 1, 1, infer_flinear, run_flinear, NULL },
    { "wn", "Attention", 1, 3, 4, 1, 1, wn_infer_attention, wn_run_attention, NULL },
    { "wn", "QAttention", 1, 3, 4, 1, 1, wn_infer_qattention, wn_run_qattention, NULL },
    { "wn", "Recurrent", 1, 2, 6, 1, 3, wn_infer_recurrent_products, wn_run_recurrent_products, NULL },
    { "wn", "QConv", 1, 2, 4, 1, 1, infer_qconv, run_qconv, NULL },
    { "wn", "QLinear", 1, 2, 4, 1, 1, infer_qlinear, run_qlinear, NULL },
    { "wn", "DLinear", 1, 2, 5, 1, 1, infer_dlinear, run_dlinear, NULL },
    { "wn", "Interleave", 1, 1, WN_INTERLEAVE_MAX, 1, 1, infer_interleave, run_interleave, NULL },
    { "wn", "Im2col", 1, 1, 2, 1, 1, infer_im2col, run_im2col, NULL },
    { "wn", "QAdd", 1, 2, 2, 1, 1, infer_u8, run_qadd, NULL },
    { "wn", "QGlobalAveragePool", 1, 1, 1, 1, 1, infer_qgap, run_qgap, NULL },
    { "wn", "QAveragePool", 1, 1, 1, 1, 1, infer_qavg, run_qavg, NULL },
    { "wn", "QLayerNorm", 1, 3, 3, 1, 1, wn_infer_qlayer_norm, wn_run_qlayer_norm, NULL },
    { "wn", "Quantize", 1, 1, 1, 1, 1, infer_u8, run_quantize, NULL },
    { "wn", "Dequantize", 1, 1, 1, 1, 1, infer_f32, run_dequantize, NULL },
    { "wn", "Requantize", 1, 1, 1, 1, 1, infer_u8, run_requantize, NULL },
    { "wn", "Flip", 1, 1, 1, 1, 1, infer_flip, run_flip, NULL },
};

const struct wn_op *wn_fused_op(const char *op_type)
{
    for (size_t i = 0; i < WN_COUNT(table); i++)
        if (strcmp(table[i].type, op_type) == 0)
            return &table[i];
    return NULL;
}

struct wn_node *wn_fused_add(struct wn_graph *g, const char *op_type, const char *name, const wn_vid *in, unsigned n_in,
                             wn_vid out, const void *fused)
{
    return wn_fused_add_many(g, op_type, name, in, n_in, &out, 1, fused);
}

struct wn_node *wn_fused_add_many(struct wn_graph *g, const char *op_type, const char *name, const wn_vid *in,
                                  unsigned n_in, const wn_vid *out, unsigned n_out, const void *fused)
{
    const struct wn_op *op = wn_fused_op(op_type);
    if (!op)
        wn_die(__FILE__, __LINE__, op_type);
    struct wn_node *node = wn_graph_add_node(g, "wn", op->type, name, in, n_in, out, n_out);
    if (node) {
        node->op = op;
        node->opset = 1;
        node->fused = fused;
    }
    return node;
}

bool wn_fused_is(const struct wn_node *node, const char *op_type)
{
    return node && !node->dead && strcmp(node->domain, "wn") == 0 && strcmp(node->op_type, op_type) == 0;
}
