/* Random small nets: the optimised plan answers what the reference run answers, on every instruction set, with one and
 * three threads, for a row alone and in a batch. f32 up to rounding; quantized graphs bit for bit. */
#include <stdio.h>
#include "engine/kernels/eltwise/f32.h"
#include "engine/kernels/attn_f32/attn_f32.h"
#include "engine/kernels/f32_conv/f32_conv.h"
#include "engine/kernels/f32_dw/f32_dw.h"
#include "engine/kernels/norm_f32/norm_f32.h"
#include "engine/kernels/f32_gemm/f32_gemm.h"
#include "engine/kernels/f32_gemv/f32_gemv.h"
#include "engine/kernels/f32_spmm/f32_spmm.h"
#include "engine/kernels/pool/f32.h"
#include "engine/plan/choice.h"
#include "engine/plan/model.h"
#include "tests/unit/engine/plan/net.h"

void net_force(enum wn_isa isa)
{
    wn_cpu_force(isa);
    wn_attn_f32_init();
    wn_elt_f32_init();
    wn_f32_conv_init();
    wn_f32_dw_init();
    wn_f32_gemm_init();
    wn_f32_gemv_init();
    wn_f32_spmm_init();
    wn_norm_f32_init();
    wn_pool_f32_init();
}

enum mode { F32, QDQ, QLINEAR, MODES };
#define ROWS 3

/* A value that layers may read. QDQ: `v` is dequantized; QLINEAR: `v` is u8 or i8. */
struct map {
    wn_vid v;
    int64_t c, h, w;
    float scale;
    int zp;
};

struct maker {
    struct net n;
    enum mode mode;
    bool one_d, i8, asym; /* 1-D pictures; i8 activations; u8 weights with zero points */
    bool fixed;           /* the batch is part of the shape: planned as it is, not row by row */
    struct map maps[24];
    int n_maps;
    char log[2048];
};

static void note(struct maker *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct maker *m, const char *fmt, ...)
{
    size_t used = strlen(m->log);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->log + used, sizeof m->log - used, fmt, ap);
    va_end(ap);
}

static int64_t pick(struct maker *m, int64_t lo, int64_t hi)
{
    return net_pick(&m->n, lo, hi);
}

static bool chance(struct maker *m, int percent)
{
    return pick(m, 0, 99) < percent;
}

/* ---- quantization ---- */

/* Powers of two in QDQ nets: the float arithmetic between Q and DQ is then exact, and the answers must be equal. */
static float act_scale(struct maker *m)
{
    return m->mode == QDQ ? ldexpf(1, (int)pick(m, -5, -3)) : 0.03f + 0.08f * net_unit(&m->n);
}

static int act_zp(struct maker *m)
{
    return (int)(m->i8 ? pick(m, -20, 20) : pick(m, 100, 150));
}

static wn_vid zp_const(struct maker *m, int zp)
{
    return m->i8 ? net_i8(&m->n, zp) : net_u8(&m->n, zp);
}

static struct map with_scale(struct maker *m, struct map x)
{
    x.scale = act_scale(m);
    x.zp = act_zp(m);
    return x;
}

/* QuantizeLinear; in QDQ nets with the DequantizeLinear behind it. */
static struct map quantize(struct maker *m, struct map x)
{
    if (m->mode == F32)
        return x;
    x = with_scale(m, x);
    wn_vid s = net_f32(&m->n, x.scale), z = zp_const(m, x.zp);
    x.v = net_op(&m->n, "QuantizeLinear", NET_IN(x.v, s, z));
    if (m->mode == QDQ)
        x.v = net_op(&m->n, "DequantizeLinear", NET_IN(x.v, s, z));
    return x;
}

/* ---- weights ---- */

static bool is_zero(const void *w, enum winnow_dtype dtype, int64_t at, int zero)
{
    return dtype == WINNOW_F32 ? ((const float *)w)[at] == 0 : ((const uint8_t *)w)[at] == (uint8_t)zero;
}

/* Zeros one by one, in 1x4 blocks, or in blocks of two or four output channels. */
static void thin_out(struct maker *m, int64_t o, int64_t i, int64_t taps, void *w, enum winnow_dtype dtype, int zero)
{
    static const int densities[] = { 100, 100, 100, 30, 8, 3, 0 };
    static const int shapes[][2] = { { 1, 1 }, { 1, 4 }, { 2, 1 }, { 4, 1 } };
    int density = densities[pick(m, 0, 6)];
    const int *block = shapes[pick(m, 0, 3)];
    for (int64_t a = 0; a < o; a++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t b = 0, keep = 1; b < i; b++) {
                int64_t at = (a * i + b) * taps + t;
                if (a % block[0])
                    keep = !is_zero(w, dtype, (a / block[0] * block[0] * i + b) * taps + t, zero);
                else if (b % block[1] == 0)
                    keep = chance(m, density);
                if (keep)
                    continue;
                if (dtype == WINNOW_F32)
                    ((float *)w)[at] = 0;
                else
                    ((uint8_t *)w)[at] = (uint8_t)zero;
            }
}

static wn_vid weights_f32(struct maker *m, unsigned rank, const int64_t *dim, int64_t taps)
{
    int64_t k = dim[1] * taps;
    wn_vid w = net_normals(&m->n, rank, dim, 1.5f / sqrtf((float)k));
    thin_out(m, dim[0], dim[1], taps, net_data(&m->n, w), WINNOW_F32, 0);
    return w;
}

struct weights {
    wn_vid w, scale, zp;
    float scales[64];
    bool per_channel;
};

static struct weights weights_q8(struct maker *m, unsigned rank, const int64_t *dim, int64_t taps)
{
    struct net *n = &m->n;
    struct weights r = { .per_channel = !m->asym || chance(m, 30) };
    enum winnow_dtype dtype = m->asym ? WINNOW_U8 : WINNOW_I8;
    int64_t O = dim[0], per = dim[1] * taps, ns = r.per_channel ? O : 1;
    int zp = m->asym ? (int)pick(m, 90, 160) : 0;
    r.w = net_const(n, dtype, rank, dim, NULL);
    for (int64_t i = 0; i < O * per; i++)
        ((uint8_t *)net_data(n, r.w))[i] = (uint8_t)(int)(m->asym ? fminf(255, fmaxf(0, zp + 60 * net_normal(n)))
                                                                  : fminf(127, fmaxf(-127, 60 * net_normal(n))));
    thin_out(m, O, dim[1], taps, net_data(n, r.w), dtype, zp);
    float about = 1.5f / 60 / sqrtf((float)per);
    r.scale = net_const(n, WINNOW_F32, r.per_channel ? 1 : 0, &ns, NULL);
    r.zp = net_const(n, dtype, r.per_channel ? 1 : 0, &ns, NULL);
    for (int64_t o = 0; o < ns; o++) {
        float s =
            m->mode == QDQ ? ldexpf(1, (int)lrintf(log2f(about)) + (int)pick(m, -1, 0)) : about * (0.5f + net_unit(n));
        ((float *)net_data(n, r.scale))[o] = r.scales[o] = s;
        ((uint8_t *)net_data(n, r.zp))[o] = (uint8_t)(zp ? zp + (r.per_channel ? pick(m, -3, 3) : 0) : 0);
    }
    for (int64_t o = ns; o < O; o++)
        r.scales[o] = r.scales[0];
    return r;
}

static wn_vid bias_i32(struct maker *m, int64_t O)
{
    wn_vid b = net_const(&m->n, WINNOW_I32, 1, &O, NULL);
    for (int64_t o = 0; o < O; o++)
        ((int32_t *)net_data(&m->n, b))[o] = (int32_t)pick(m, -2000, 2000);
    return b;
}

/* ---- layers ---- */

static struct map any_map(struct maker *m)
{
    return m->maps[pick(m, m->n_maps > 4 ? m->n_maps - 4 : 0, m->n_maps - 1)];
}

/* Extents of the newest value; false when the operator cannot take its input. */
static bool measure(struct maker *m, struct map *y)
{
    const struct wn_type *t = net_type(&m->n, y->v);
    y->c = t->dim[1];
    y->h = m->one_d ? 1 : t->dim[2];
    y->w = t->dim[t->rank - 1];
    return true;
}

static void spatial(struct maker *m, const char *name, int64_t h, int64_t w)
{
    if (m->one_d)
        net_ints(&m->n, name, &w, 1);
    else
        net_ints(&m->n, name, NET_DIMS(h, w), 2);
}

struct geom {
    int64_t kh, kw, sh, sw, dh, dw, pad[4]; /* t l b r */
    const char *auto_pad;
};

static struct geom pick_geom(struct maker *m, const struct map *x, bool dilate)
{
    struct geom g = { .kh = m->one_d ? 1 : pick(m, 1, 4), .kw = pick(m, 1, 5) };
    if (chance(m, 35))
        g.kh = g.kw = m->one_d ? 1 : 1;
    g.sh = m->one_d || chance(m, 60) ? 1 : pick(m, 1, 3);
    g.sw = chance(m, 60) ? 1 : pick(m, 1, 3);
    if (chance(m, 50) && !m->one_d)
        g.sw = g.sh;
    g.dh = dilate && !m->one_d && chance(m, 20) ? 2 : 1;
    g.dw = dilate && chance(m, 20) ? pick(m, 2, 3) : 1;
    if (chance(m, 25))
        g.auto_pad = chance(m, 50) ? "SAME_UPPER" : "SAME_LOWER";
    for (int i = 0; i < 4 && !g.auto_pad; i++)
        g.pad[i] = m->one_d && i % 2 == 0 ? 0 : pick(m, 0, (i % 2 ? g.kw : g.kh) - 1);
    /* the kernel must fit */
    while (!g.auto_pad && x->h + g.pad[0] + g.pad[2] < (g.kh - 1) * g.dh + 1)
        g.pad[2]++;
    while (!g.auto_pad && x->w + g.pad[1] + g.pad[3] < (g.kw - 1) * g.dw + 1)
        g.pad[3]++;
    return g;
}

static void set_geom(struct maker *m, const struct geom *g)
{
    spatial(m, "kernel_shape", g->kh, g->kw);
    spatial(m, "strides", g->sh, g->sw);
    if (g->dh > 1 || g->dw > 1)
        spatial(m, "dilations", g->dh, g->dw);
    if (g->auto_pad)
        wn_node_set_str(&m->n.g, net_node(&m->n), "auto_pad", g->auto_pad);
    else if (m->one_d)
        net_ints(&m->n, "pads", NET_DIMS(g->pad[1], g->pad[3]), 2);
    else
        net_ints(&m->n, "pads", g->pad, 4);
    note(m, "%ldx%ld s%ld,%ld d%ld,%ld p%ld,%ld,%ld,%ld%s ", g->kh, g->kw, g->sh, g->sw, g->dh, g->dw, g->pad[0],
         g->pad[1], g->pad[2], g->pad[3], g->auto_pad ? g->auto_pad : "");
}

/* One that rounds: for f32 nets. */
static wn_vid smooth(struct maker *m, wn_vid v)
{
    static const char *const ops[] = { "Sigmoid", "Tanh", "HardSwish" };
    struct net *n = &m->n;
    note(m, "smooth ");
    if (chance(m, 50))
        return net_op(n, "Mul", NET_IN(v, net_op(n, "Sigmoid", NET_IN(v)))); /* Swish */
    return net_op(n, ops[pick(m, 0, 2)], NET_IN(v));
}

static wn_vid activation(struct maker *m, wn_vid v)
{
    switch (pick(m, 0, 6)) {
    case 5:
        if (m->mode == F32)
            return smooth(m, v);
        /* fallthrough */
    case 6: /* exact in powers of two */
        note(m, "leaky ");
        v = net_op(&m->n, "LeakyRelu", NET_IN(v));
        wn_node_set_float(&m->n.g, net_node(&m->n), "alpha", 0.25f);
        return v;
    case 0:
    case 1:
        note(m, "relu ");
        return net_op(&m->n, "Relu", NET_IN(v));
    case 2:
        note(m, "clip ");
        return net_op(&m->n, "Clip", NET_IN(v, net_f32(&m->n, chance(m, 50) ? 0 : -1), net_f32(&m->n, 1.5f)));
    default:
        return v;
    }
}

static wn_vid batch_norm(struct maker *m, wn_vid v, int64_t c)
{
    struct net *n = &m->n;
    wn_vid gamma = net_normals(n, 1, &c, 0.3f), beta = net_normals(n, 1, &c, 0.3f), mean = net_normals(n, 1, &c, 0.3f),
           var = net_const(n, WINNOW_F32, 1, &c, NULL);
    for (int64_t i = 0; i < c; i++) {
        ((float *)net_data(n, gamma))[i] += 1;
        ((float *)net_data(n, var))[i] = 0.5f + net_unit(n);
    }
    note(m, "bn ");
    return net_op(n, "BatchNormalization", NET_IN(v, gamma, beta, mean, var));
}

static wn_vid conv_f32(struct maker *m, const struct map *x, const struct geom *g, unsigned rank, const int64_t *dim,
                       int64_t groups)
{
    wn_vid in[3] = { x->v, weights_f32(m, rank, dim, g->kh * g->kw) };
    unsigned n_in = 2;
    if (chance(m, 60))
        in[n_in++] = net_normals(&m->n, 1, dim, 0.5f);
    wn_vid y = net_op(&m->n, "Conv", in, n_in);
    set_geom(m, g);
    net_int(&m->n, "group", groups);
    return chance(m, 25) ? batch_norm(m, y, dim[0]) : y;
}

static wn_vid conv_qdq(struct maker *m, const struct map *x, const struct geom *g, unsigned rank, const int64_t *dim,
                       int64_t groups)
{
    struct net *n = &m->n;
    struct weights q = weights_q8(m, rank, dim, g->kh * g->kw);
    wn_vid in[3] = { x->v, net_op(n, "DequantizeLinear", NET_IN(q.w, q.scale, q.zp)) };
    unsigned n_in = 2;
    net_int(n, "axis", 0);
    if (chance(m, 60)) { /* i32 in units of x_scale * w_scale, per channel */
        wn_vid s = net_const(n, WINNOW_F32, 1, dim, NULL), b = bias_i32(m, dim[0]);
        for (int64_t o = 0; o < dim[0]; o++)
            ((float *)net_data(n, s))[o] = x->scale * q.scales[o];
        in[n_in++] = net_op(n, "DequantizeLinear", NET_IN(b, s));
        net_int(n, "axis", 0);
    }
    wn_vid y = net_op(n, "Conv", in, n_in);
    set_geom(m, g);
    net_int(n, "group", groups);
    return y;
}

static struct map conv_qlinear(struct maker *m, const struct map *x, const struct geom *g, unsigned rank,
                               const int64_t *dim, int64_t groups)
{
    struct net *n = &m->n;
    struct weights q = weights_q8(m, rank, dim, g->kh * g->kw);
    struct map y = with_scale(m, *x);
    wn_vid in[9] = { x->v, net_f32(n, x->scale), zp_const(m, x->zp), q.w, q.scale,
                     q.zp, net_f32(n, y.scale),  zp_const(m, y.zp) };
    unsigned n_in = 8;
    if (chance(m, 60))
        in[n_in++] = bias_i32(m, dim[0]);
    y.v = net_op(n, "QLinearConv", in, n_in);
    set_geom(m, g);
    net_int(n, "group", groups);
    return y;
}

static struct map conv(struct maker *m)
{
    struct map x = any_map(m), y = x;
    struct geom g = pick_geom(m, &x, true);
    int64_t groups = 1, O = pick(m, 1, chance(m, 30) ? 40 : 12);
    if (chance(m, 25)) {
        groups = x.c;
        O = x.c * (chance(m, 30) && x.c <= 8 ? 2 : 1);
    } else if (x.c % 2 == 0 && chance(m, 20)) {
        groups = 2;
        O = 2 * pick(m, 1, 8);
    }
    note(m, "conv[%ld,%ld,%ld]->%ld g%ld ", x.c, x.h, x.w, O, groups);
    int64_t dim2[] = { O, x.c / groups, g.kh, g.kw }, dim1[] = { O, x.c / groups, g.kw };
    const int64_t *dim = m->one_d ? dim1 : dim2;
    unsigned rank = m->one_d ? 3 : 4;
    if (m->mode == QLINEAR) {
        y = conv_qlinear(m, &x, &g, rank, dim, groups);
        measure(m, &y);
        return y;
    }
    y.v = m->mode == F32 ? conv_f32(m, &x, &g, rank, dim, groups) : conv_qdq(m, &x, &g, rank, dim, groups);
    measure(m, &y);
    for (int i = 0; i < m->n_maps && chance(m, 40); i++)
        if (m->maps[i].c == y.c && m->maps[i].h == y.h && m->maps[i].w == y.w) {
            y.v = net_op(&m->n, "Add", NET_IN(y.v, m->maps[i].v));
            note(m, "residual ");
            break;
        }
    y.v = activation(m, y.v);
    return quantize(m, y);
}

static struct map pool(struct maker *m)
{
    struct map x = any_map(m), y = x;
    bool max = m->mode != F32 || chance(m, 50);
    struct geom g = pick_geom(m, &x, max);
    if (m->mode == QDQ && chance(m, 40)) { /* averages of 4 are exact */
        max = false;
        g = (struct geom){ .kh = m->one_d ? 1 : 2, .kw = m->one_d ? 4 : 2, .sh = 1, .sw = 1, .dh = 1, .dw = 1 };
        if (x.h < g.kh || x.w < g.kw)
            max = true;
    }
    for (int i = 0; i < 4; i++) /* ONNX: pads smaller than the kernel */
        g.pad[i] = g.pad[i] < (i % 2 ? g.kw : g.kh) ? g.pad[i] : 0;
    if (x.h + g.pad[0] + g.pad[2] < (g.kh - 1) * g.dh + 1 || x.w + g.pad[1] + g.pad[3] < (g.kw - 1) * g.dw + 1)
        return x;
    note(m, "%s[%ld,%ld,%ld] ", max ? "max" : "avg", x.c, x.h, x.w);
    y.v = net_op(&m->n, max ? "MaxPool" : "AveragePool", NET_IN(x.v));
    set_geom(m, &g);
    if (!g.auto_pad && chance(m, 40)) {
        note(m, "ceil ");
        net_int(&m->n, "ceil_mode", 1);
    }
    if (!max && m->mode == F32 && chance(m, 40))
        net_int(&m->n, "count_include_pad", 1);
    measure(m, &y);
    return m->mode == QDQ && !max ? quantize(m, y) : y;
}

static struct map binary(struct maker *m)
{
    struct map x = any_map(m), y = x, b = { .v = WN_NONE };
    for (int i = 0; i < m->n_maps; i++)
        if (m->maps[i].c == x.c && m->maps[i].h == x.h && m->maps[i].w == x.w)
            b = m->maps[i];
    note(m, "add ");
    if (m->mode == QLINEAR) {
        struct net *n = &m->n;
        y = with_scale(m, x);
        y.v = net_op(n, "com.microsoft:QLinearAdd",
                     NET_IN(x.v, net_f32(n, x.scale), zp_const(m, x.zp), b.v, net_f32(n, b.scale), zp_const(m, b.zp),
                            net_f32(n, y.scale), zp_const(m, y.zp)));
        return y;
    }
    y.v = net_op(&m->n, m->mode == F32 && chance(m, 40) ? "Mul" : "Add", NET_IN(x.v, b.v));
    y.v = activation(m, y.v);
    return quantize(m, y);
}

static struct map concat(struct maker *m)
{
    struct map x = any_map(m), y = x, b = x;
    for (int i = m->n_maps; i-- > 0;)
        if (m->maps[i].h == x.h && m->maps[i].w == x.w && m->maps[i].v != x.v)
            b = m->maps[i];
    if (x.c + b.c > 64)
        return x;
    note(m, "concat[%ld,%ld] ", x.c, b.c);
    if (m->mode == QLINEAR) {
        struct net *n = &m->n;
        y = with_scale(m, x);
        y.v = net_op(n, "com.microsoft:QLinearConcat",
                     NET_IN(net_f32(n, y.scale), zp_const(m, y.zp), x.v, net_f32(n, x.scale), zp_const(m, x.zp), b.v,
                            net_f32(n, b.scale), zp_const(m, b.zp)));
    } else {
        y.v = net_op(&m->n, "Concat", NET_IN(x.v, b.v));
    }
    net_int(&m->n, "axis", 1);
    y.c = x.c + b.c;
    return m->mode == QDQ ? quantize(m, y) : y;
}

static struct map unary(struct maker *m)
{
    static const char *const ops[] = { "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "HardSigmoid", "Relu" };
    struct map x = any_map(m), y = x;
    const char *op = ops[pick(m, 0, 5)];
    struct net *n = &m->n;
    note(m, "%s ", op);
    if (m->mode == QLINEAR) {
        y = with_scale(m, x);
        y.v = net_op(n, chance(m, 50) ? "com.microsoft:QLinearSigmoid" : "com.microsoft:QLinearLeakyRelu",
                     NET_IN(x.v, net_f32(n, x.scale), zp_const(m, x.zp), net_f32(n, y.scale), zp_const(m, y.zp)));
        return y;
    }
    y.v = net_op(n, op, NET_IN(x.v));
    return quantize(m, y);
}

/* With a number for each channel: constants, or what squeeze-and-excitation makes of the map itself. */
static struct map by_channel(struct maker *m)
{
    static const char *const ops[] = { "Mul", "Add", "Sub" };
    struct map x = any_map(m), y = x;
    struct net *n = &m->n;
    wn_vid b;
    if (m->mode != F32)
        return x;
    note(m, "by channel[%ld,%ld,%ld] ", x.c, x.h, x.w);
    if (chance(m, 50)) {
        b = net_normals(n, m->one_d ? 2 : 3, NET_DIMS(x.c, 1, 1), 0.5f);
    } else if (chance(m, 50)) {
        b = net_op(n, "Sigmoid", NET_IN(net_op(n, "GlobalAveragePool", NET_IN(x.v))));
    } else {
        b = net_op(n, "ReduceMean", NET_IN(x.v));
        net_ints(n, "axes", NET_DIMS(-1, 2), m->one_d ? 1 : 2);
    }
    y.v = chance(m, 50) ? net_op(n, ops[pick(m, 0, 2)], NET_IN(x.v, b)) : net_op(n, ops[pick(m, 0, 2)], NET_IN(b, x.v));
    return y;
}

/* ConvTranspose of any stride, with more padding and taps than that needs, or fewer. */
static struct map conv_transpose(struct maker *m)
{
    struct map x = any_map(m), y = x;
    struct net *n = &m->n;
    const int64_t groups = x.c % 2 == 0 && chance(m, 30) ? 2 : 1, per = pick(m, 1, 5),
                  kh = m->one_d ? 1 : pick(m, 1, 4), kw = pick(m, 1, 5), sh = m->one_d ? 1 : pick(m, 1, 3),
                  sw = pick(m, 1, 3);
    int64_t pad[4], more[2] = { pick(m, 0, sh - 1), pick(m, 0, sw - 1) };
    for (int i = 0; i < 4; i++)
        pad[i] = m->one_d && i % 2 == 0 ? 0 : pick(m, 0, (i % 2 ? kw : kh) - 1);
    const int64_t oh = (x.h - 1) * sh + kh - pad[0] - pad[2] + more[0],
                  ow = (x.w - 1) * sw + kw - pad[1] - pad[3] + more[1];
    if (m->mode == QLINEAR || oh < 1 || ow < 1 || oh * ow > 900)
        return x;
    note(m, "transposed[%ld,%ld,%ld]->%ld g%ld %ldx%ld s%ld,%ld p%ld,%ld,%ld,%ld +%ld,%ld ", x.c, x.h, x.w,
         per * groups, groups, kh, kw, sh, sw, pad[0], pad[1], pad[2], pad[3], more[0], more[1]);
    const int64_t dim2[] = { x.c, per, kh, kw }, dim1[] = { x.c, per, kw }, O = per * groups;
    wn_vid w = net_normals(n, m->one_d ? 3 : 4, m->one_d ? dim1 : dim2, 0.3f);
    float *f = net_data(n, w);
    for (int64_t i = 0; i < x.c * per * kh * kw; i++) /* exact where the net must be */
        f[i] = m->mode == F32 ? f[i] : ldexpf(rintf(f[i] * 16), -4);
    y.v = net_op(n, "ConvTranspose", NET_IN(x.v, w));
    spatial(m, "kernel_shape", kh, kw);
    spatial(m, "strides", sh, sw);
    spatial(m, "output_padding", more[0], more[1]);
    if (m->one_d)
        net_ints(n, "pads", NET_DIMS(pad[1], pad[3]), 2);
    else
        net_ints(n, "pads", pad, 4);
    net_int(n, "group", groups);
    if (m->mode == F32 && chance(m, 50))
        y.v = net_op(n, "Add", NET_IN(y.v, net_normals(n, m->one_d ? 2 : 3, NET_DIMS(O, 1, 1), 0.3f)));
    measure(m, &y);
    y.v = activation(m, y.v);
    return quantize(m, y);
}

/* To the nearest neighbour, larger or smaller. */
static struct map resize(struct maker *m)
{
    static const char *const roundings[] = { "floor", "ceil", "round_prefer_floor", "round_prefer_ceil" };
    static const char *const coords[] = { "asymmetric", "half_pixel", "align_corners" };
    static const float factors[] = { 2, 2, 1, 0.5f, 1.5f, 3 };
    struct map x = any_map(m), y = x;
    struct net *n = &m->n;
    const float fh = m->one_d ? 1 : factors[pick(m, 0, 5)], fw = factors[pick(m, 0, 5)];
    if ((float)x.h * fh < 1 || (float)x.w * fw < 1 || (float)(x.h * x.w) * fh * fw > 700)
        return x;
    const int64_t count = m->one_d ? 3 : 4;
    wn_vid scales = net_const(n, WINNOW_F32, 1, &count, NULL);
    float *f = net_data(n, scales);
    f[0] = f[1] = f[2] = 1;
    if (!m->one_d)
        f[2] = fh;
    f[count - 1] = fw;
    note(m, "resize[%ld,%ld,%ld] %g,%g ", x.c, x.h, x.w, (double)fh, (double)fw);
    y.v = net_op(n, "Resize", NET_IN(x.v, WN_NONE, scales));
    wn_node_set_str(&n->g, net_node(n), "nearest_mode", roundings[pick(m, 0, 3)]);
    wn_node_set_str(&n->g, net_node(n), "coordinate_transformation_mode", coords[pick(m, 0, 2)]);
    measure(m, &y);
    return y;
}

/* GlobalAveragePool and a linear layer, or the map itself. */
static wn_vid ending(struct maker *m, struct map x)
{
    struct net *n = &m->n;
    if (chance(m, 40))
        return x.v;
    int64_t O = pick(m, 1, 20);
    struct map y = x;
    if (m->mode == QLINEAR) {
        y = with_scale(m, x);
        y.v = net_op(n, "com.microsoft:QLinearGlobalAveragePool",
                     NET_IN(x.v, net_f32(n, x.scale), zp_const(m, x.zp), net_f32(n, y.scale), zp_const(m, y.zp)));
        wn_vid flat = net_op(n, "Flatten", NET_IN(y.v));
        struct weights q = weights_q8(m, 2, NET_DIMS(O, x.c), 1);
        int64_t dim[] = { x.c, O };
        wn_vid w = net_const(n, m->asym ? WINNOW_U8 : WINNOW_I8, 2, dim, NULL);
        for (int64_t o = 0; o < O; o++)
            for (int64_t k = 0; k < x.c; k++)
                ((uint8_t *)net_data(n, w))[k * O + o] = ((uint8_t *)net_data(n, q.w))[o * x.c + k];
        note(m, "qlinearmatmul");
        return net_op(
            n, "QLinearMatMul",
            NET_IN(flat, net_f32(n, y.scale), zp_const(m, y.zp), w, q.scale, q.zp, net_f32(n, 0.1f), zp_const(m, 3)));
    }
    note(m, "gemm");
    if (m->mode == F32) {
        wn_vid flat = net_op(n, "Flatten", NET_IN(net_op(n, "GlobalAveragePool", NET_IN(x.v))));
        wn_vid w = net_normals(n, 2, NET_DIMS(x.c, O), 0.3f), b = net_normals(n, 1, &O, 0.3f);
        return activation(m, net_op(n, "Gemm", NET_IN(flat, w, b)));
    }
    wn_vid flat = net_op(n, "Flatten", NET_IN(x.v));
    int64_t k = x.c * x.h * x.w;
    struct weights q = weights_q8(m, 2, NET_DIMS(O, k), 1);
    wn_vid w = net_op(n, "DequantizeLinear", NET_IN(q.w, q.scale, q.zp));
    net_int(n, "axis", 0);
    wn_vid out = net_op(n, "Gemm", NET_IN(flat, w));
    net_int(n, "transB", 1);
    return chance(m, 50) ? quantize(m, (struct map){ .v = out }).v : out;
}

static void make(struct maker *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    net_init(&m->n, seed);
    m->mode = (enum mode)(seed % MODES);
    m->one_d = chance(m, 20);
    m->i8 = chance(m, 40);
    m->asym = chance(m, 40);
    struct map x = { .c = pick(m, 1, 9), .h = m->one_d ? 1 : pick(m, 1, 19), .w = pick(m, 1, 37) };
    m->fixed = seed / MODES % 4 == 3;
    int64_t rows = m->fixed ? ROWS : -1, d2[] = { rows, x.c, x.h, x.w }, d1[] = { rows, x.c, x.w };
    x.v = net_input(&m->n, "x", WINNOW_F32, m->one_d ? 3 : 4, m->one_d ? d1 : d2);
    note(m, "mode %d%s%s%s x[%ld,%ld,%ld] ", m->mode, m->one_d ? " 1d" : "", m->i8 ? " i8" : "", m->asym ? " asym" : "",
         x.c, x.h, x.w);
    m->maps[m->n_maps++] = quantize(m, x);
    for (int64_t i = 0, steps = pick(m, 1, 8); i < steps; i++) {
        static struct map (*const kinds[])(struct maker *) = { conv,   conv,  conv,   conv,           pool,      binary,
                                                               concat, unary, resize, conv_transpose, by_channel };
        struct map y = kinds[pick(m, 0, 10)](m);
        note(m, "; ");
        m->maps[m->n_maps++] = y;
    }
    struct map last = m->maps[m->n_maps - 1];
    net_output(&m->n, ending(m, last));
}

/* ---- comparing ---- */

static struct winnow_tensor input_of(struct maker *m, int64_t rows, float *data)
{
    struct wn_type *t = &m->n.g.values.at[m->n.g.inputs.at[0]].type;
    int64_t dim[4] = { rows, t->dim[1], t->dim[2], t->rank == 4 ? t->dim[3] : 1 };
    return net_tensor(WINNOW_F32, (unsigned)t->rank, dim, data);
}

/* 32-bit sums in another order: relative to the largest element. Quantized nets: equal. */
static double allowed(const struct maker *m)
{
    return m->mode == F32 ? 1e-5 : 0;
}

/* In some nets one family wherever it can: small nets are hardly ever its choice. */
static void force_some(struct maker *m, winnow_model *model, uint64_t seed)
{
    static const enum wn_family families[2][3] = {
        { WN_FAMILY_f32_conv, WN_FAMILY_f32_conv, WN_FAMILY_f32_spmm_4x1 },
        { WN_FAMILY_q8_conv, WN_FAMILY_q8_conv, WN_FAMILY_q8_gemm },
    };
    const uint64_t which = seed / MODES % 6;
    if (which < WN_COUNT(families[0])) {
        const enum wn_family family = families[m->mode != F32][which];
        note(m, " (%s wherever it can)", wn_family_name(family));
        wn_choosing_set(model->tuned, WN_CHOOSE_FORCED, family);
    }
}

static void check_net(uint64_t seed)
{
    struct maker m;
    make(&m, seed);
    winnow_model *ref = net_load(&m.n, true);
    size_t per = 1;
    for (unsigned d = 1; d < winnow_model_input(ref, 0)->rank; d++)
        per *= (size_t)winnow_model_input(ref, 0)->shape[d];
    float *data = malloc(ROWS * per * sizeof *data);
    for (size_t i = 0; i < ROWS * per; i++)
        data[i] = net_normal(&m.n) * 1.5f;
    struct winnow_tensor x = input_of(&m, ROWS, data);
    struct net_answer want = net_run(ref, 1, &x, 1);
    for (int isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&m.n, false);
        force_some(&m, model, seed);
        cr_expect_eq(winnow_model_rows_independent(model, NULL), !m.fixed, "seed %lu: rows", seed);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct net_answer got = net_run(model, threads, &x, 1);
            double d = net_difference(&got.t, &want.t);
            cr_expect_leq(d, allowed(&m), "seed %lu, %s, %u threads: difference %g\n  %s", seed, wn_isa_name(isa),
                          threads, d, m.log);
            size_t row_bytes = got.t.bytes / ROWS;
            for (int r = 0; r < ROWS && !m.fixed; r++) {
                struct winnow_tensor one = input_of(&m, 1, data + (size_t)r * per);
                struct net_answer alone = net_run(model, threads, &one, 1);
                struct winnow_tensor row = got.t;
                row.shape[0] = 1;
                row.bytes = row_bytes;
                row.data = (char *)got.t.data + (size_t)r * row_bytes;
                d = net_difference(&alone.t, &row);
                cr_expect_eq(d, 0, "seed %lu, %s, %u threads: row %d alone differs by %g\n  %s", seed, wn_isa_name(isa),
                             threads, r, d, m.log);
                free(alone.t.data);
            }
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    free(data);
    winnow_model_unref(ref);
    net_done(&m.n);
}

static void check_mode(enum mode mode)
{
    net_check_seeds(mode, MODES, check_net);
}

Test(plan_random, f32_nets_equal_their_reference, .timeout = 300)
{
    check_mode(F32);
}

Test(plan_random, qdq_nets_equal_their_reference_bit_for_bit, .timeout = 300)
{
    check_mode(QDQ);
}

Test(plan_random, qlinear_nets_equal_their_reference_bit_for_bit, .timeout = 300)
{
    check_mode(QLINEAR);
}
