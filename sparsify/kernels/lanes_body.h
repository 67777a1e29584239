/* lanes_body.h: the kernels of lanes.h, included once per instruction set, which defines before:
 *   vf               one vector of VL floats; NV vectors make a pixel of 16 lanes
 *   V_LOAD V_STORE V_SET V_ADD V_SUB V_MUL V_FMA(a,b,c) = a*b+c   V_MAX V_MIN V_RNE
 *   V_GT(a,b) V_LE(a,b) -> vm,  V_AND(m, x), V_MAND(m, m)   V_SUM(x) -> float
 *   TILE             pixels whose sums are kept in registers at once (TILE * NV + 2 registers)
 *   KERNELS          name of the table */
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

/* ---- sums over kept weights ---- */

INLINE void tile(const int P, const size_t xs, const float *x, const float *val, const int32_t *off, uint32_t n,
                 float bias, const float *add, float *y, size_t ys)
{
    vf acc[TILE][NV];
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int j = 0; j < NV; j++) acc[p][j] =
        add ? V_ADD(V_LOAD(add + (size_t)p * ys + j * VL), V_SET(bias)) : V_SET(bias);
    for (uint32_t k = 0; k < n; k++) {
        const vf w = V_SET(val[k]);
        const float *xk = x + off[k];
        UNROLL for (int p = 0; p < P; p++) UNROLL for (int j = 0; j < NV; j++) acc[p][j] =
            V_FMA(w, V_LOAD(xk + (size_t)p * xs + j * VL), acc[p][j]);
    }
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int j = 0; j < NV; j++)
        V_STORE(y + (size_t)p * ys + j * VL, acc[p][j]);
}

typedef void tile_fn(size_t xs, const float *x, const float *val, const int32_t *off, uint32_t n, float bias,
                     const float *add, float *y, size_t ys);
#define TILES(P)                                                                                                       \
    static void tile_##P##_1(size_t xs, const float *x, const float *val, const int32_t *off, uint32_t n, float bias,  \
                             const float *add, float *y, size_t ys)                                                    \
    {                                                                                                                  \
        (void)xs;                                                                                                      \
        tile(P, 16, x, val, off, n, bias, add, y, ys);                                                                 \
    }                                                                                                                  \
    static void tile_##P##_2(size_t xs, const float *x, const float *val, const int32_t *off, uint32_t n, float bias,  \
                             const float *add, float *y, size_t ys)                                                    \
    {                                                                                                                  \
        (void)xs;                                                                                                      \
        tile(P, 32, x, val, off, n, bias, add, y, ys);                                                                 \
    }                                                                                                                  \
    static void tile_##P##_n(size_t xs, const float *x, const float *val, const int32_t *off, uint32_t n, float bias,  \
                             const float *add, float *y, size_t ys)                                                    \
    {                                                                                                                  \
        tile(P, xs, x, val, off, n, bias, add, y, ys);                                                                 \
    }
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)
TILES(7)
static tile_fn *const tiles[3][8] = {
    { NULL, tile_1_1, tile_2_1, tile_3_1, tile_4_1, tile_5_1, tile_6_1, tile_7_1 },
    { NULL, tile_1_2, tile_2_2, tile_3_2, tile_4_2, tile_5_2, tile_6_2, tile_7_2 },
    { NULL, tile_1_n, tile_2_n, tile_3_n, tile_4_n, tile_5_n, tile_6_n, tile_7_n },
};

/** All output channels of a few pixels before the next pixels: they read the same input, which stays in the first
 * cache. */
static void sum(const struct wn_lanes_sum *s, const float *x, const float *add, float *y)
{
    tile_fn *const *by_p = tiles[s->x_px == 16 ? 0 : s->x_px == 32 ? 1 : 2];
    int parts = (s->w + TILE - 1) / TILE;
    for (int row = 0; row < s->h; row++)
        for (int t = 0, px = 0; t < parts; t++) {
            int p = (s->w - px + parts - t - 1) / (parts - t);
            const float *xp = x + (size_t)row * s->x_row + (size_t)px * s->x_px;
            size_t at = (size_t)row * s->y_row + (size_t)px * s->y_px;
            for (uint32_t r = 0; r < s->rows; r++, at += s->y_plane) {
                uint32_t k = s->start[r];
                by_p[p](s->x_px, xp, s->val + k, s->off + k, s->start[r + 1] - k, s->bias ? s->bias[r] : 0.0f,
                        add ? add + at : NULL, y + at, s->y_px);
            }
            px += p;
        }
}

/* ---- products at kept weights ---- */

/** G kept weights of one output row at once: they share the loads of dy. */
INLINE void dot_group(const int G, const struct wn_lanes_sum *s, int row0, int row1, const float *x, const float *dy,
                      const int32_t *off, float *dw)
{
    vf acc[8];
    const float *xg[8];
    UNROLL for (int g = 0; g < G; g++)
    {
        acc[g] = V_SET(0.0f);
        xg[g] = x + off[g];
    }
    for (int row = row0; row < row1; row++) {
        size_t at = (size_t)row * s->x_row;
        const float *d = dy + (size_t)row * s->y_row;
        for (int px = 0; px < s->w; px++, at += s->x_px, d += s->y_px)
            UNROLL for (int j = 0; j < NV; j++)
            {
                const vf dv = V_LOAD(d + j * VL);
                UNROLL for (int g = 0; g < G; g++) acc[g] = V_FMA(dv, V_LOAD(xg[g] + at + j * VL), acc[g]);
            }
    }
    UNROLL for (int g = 0; g < G; g++) dw[g] += V_SUM(acc[g]);
}

static void dot_any(uint32_t n, const struct wn_lanes_sum *s, int row0, int row1, const float *x, const float *dy,
                    const int32_t *off, float *dw)
{
    switch (n) {
    case 8:
        dot_group(8, s, row0, row1, x, dy, off, dw);
        break;
    case 7:
        dot_group(7, s, row0, row1, x, dy, off, dw);
        break;
    case 6:
        dot_group(6, s, row0, row1, x, dy, off, dw);
        break;
    case 5:
        dot_group(5, s, row0, row1, x, dy, off, dw);
        break;
    case 4:
        dot_group(4, s, row0, row1, x, dy, off, dw);
        break;
    case 3:
        dot_group(3, s, row0, row1, x, dy, off, dw);
        break;
    case 2:
        dot_group(2, s, row0, row1, x, dy, off, dw);
        break;
    default:
        dot_group(1, s, row0, row1, x, dy, off, dw);
        break;
    }
}

static void dot_rows(const struct wn_lanes_sum *s, int row0, int row1, uint32_t from, uint32_t to, const float *x,
                     const float *dy, float *dw)
{
    for (uint32_t r = from; r < to; r++) {
        const float *d = dy + (size_t)r * s->y_plane;
        uint32_t k = s->start[r], end = s->start[r + 1];
        for (uint32_t parts = (end - k + 7) / 8; parts > 0; parts--) { /* groups of about equal size */
            uint32_t n = (end - k + parts - 1) / parts;
            dot_any(n, s, row0, row1, x, d, s->off + k, dw + k);
            k += n;
        }
    }
}

static void dot(const struct wn_lanes_sum *s, uint32_t from, uint32_t to, const float *x, const float *dy, float *dw)
{
    for (int row = 0; row < s->h; row += s->chunk)
        dot_rows(s, row, row + s->chunk < s->h ? row + s->chunk : s->h, from, to, x, dy, dw);
}

/* ---- batch norm, one channel ---- */

#define EACH_ROW(g, b, c, row)                                                                                         \
    for (int b = 0; b < (g)->nb; b++)                                                                                  \
        for (int row = 0; row < (g)->h; row++)

static double channel_sum(const struct wn_lanes_geom *g, int c, const float *x)
{
    double total = 0;
    for (int b = 0; b < g->nb; b++) {
        vf s[NV];
        UNROLL for (int j = 0; j < NV; j++) s[j] = V_SET(0.0f);
        for (int row = 0; row < g->h; row++) {
            const float *p = x + wn_lanes_at(g, b, c, row, 0);
            for (int px = 0; px < g->w; px++, p += 16)
                UNROLL for (int j = 0; j < NV; j++) s[j] = V_ADD(s[j], V_LOAD(p + j * VL));
        }
        float part = 0;
        UNROLL for (int j = 0; j < NV; j++) part += V_SUM(s[j]);
        total += (double)part;
    }
    return total;
}

/** Sum of (x - mean)^2. */
static double channel_squares(const struct wn_lanes_geom *g, int c, float mean, const float *x)
{
    double total = 0;
    const vf m = V_SET(mean);
    for (int b = 0; b < g->nb; b++) {
        vf s[NV];
        UNROLL for (int j = 0; j < NV; j++) s[j] = V_SET(0.0f);
        for (int row = 0; row < g->h; row++) {
            const float *p = x + wn_lanes_at(g, b, c, row, 0);
            for (int px = 0; px < g->w; px++, p += 16)
                UNROLL for (int j = 0; j < NV; j++)
                {
                    vf d = V_SUB(V_LOAD(p + j * VL), m);
                    s[j] = V_FMA(d, d, s[j]);
                }
        }
        float part = 0;
        UNROLL for (int j = 0; j < NV; j++) part += V_SUM(s[j]);
        total += (double)part;
    }
    return total;
}

static void bn_forward(const struct wn_lanes_geom *g, int c, struct wn_lanes_bn *bn, const float *x, float *y)
{
    if (bn->batch) {
        double n = (double)g->nb * g->h * g->w * WN_LANES;
        bn->mean = (float)(channel_sum(g, c, x) / n);
        bn->var = (float)(channel_squares(g, c, bn->mean, x) / n);
        bn->inv = 1.0f / sqrtf(bn->var + bn->eps);
    }
    float slope = bn->inv * bn->scale;
    const vf a = V_SET(slope), t = V_SET(bn->shift - bn->mean * slope);
    const vf floor_ = V_SET(bn->relu ? 0.0f : -INFINITY);
    EACH_ROW(g, b, c, row)
    {
        size_t at = wn_lanes_at(g, b, c, row, 0);
        for (int i = 0; i < g->w * 16; i += VL)
            V_STORE(y + at + i, V_MAX(V_FMA(V_LOAD(x + at + i), a, t), floor_));
    }
}

static void bn_backward(const struct wn_lanes_geom *g, int c, struct wn_lanes_bn *bn, const float *x, const float *dy,
                        float *dx)
{
    float slope = bn->inv * bn->scale;
    const vf a = V_SET(slope), t = V_SET(bn->shift - bn->mean * slope), m = V_SET(bn->mean);
    const vf floor_ = V_SET(bn->relu ? 0.0f : -INFINITY);
    double sum_d = 0, sum_dx = 0;
    for (int b = 0; b < g->nb; b++) {
        vf sd[NV], sx[NV];
        UNROLL for (int j = 0; j < NV; j++) sd[j] = sx[j] = V_SET(0.0f);
        for (int row = 0; row < g->h; row++) {
            size_t at = wn_lanes_at(g, b, c, row, 0);
            for (int px = 0; px < g->w; px++, at += 16)
                UNROLL for (int j = 0; j < NV; j++)
                {
                    vf xv = V_LOAD(x + at + j * VL);
                    vf d = V_AND(V_GT(V_FMA(xv, a, t), floor_), V_LOAD(dy + at + j * VL));
                    sd[j] = V_ADD(sd[j], d);
                    sx[j] = V_FMA(d, V_SUB(xv, m), sx[j]);
                }
        }
        float pd = 0, pxs = 0;
        UNROLL for (int j = 0; j < NV; j++)
        {
            pd += V_SUM(sd[j]);
            pxs += V_SUM(sx[j]);
        }
        sum_d += (double)pd;
        sum_dx += (double)pxs;
    }
    bn->dshift = (float)sum_d;
    bn->dscale = (float)(sum_dx * (double)bn->inv);
    if (!dx)
        return;
    double n = (double)g->nb * g->h * g->w * WN_LANES;
    float k1 = bn->batch ? (float)(sum_d / n) : 0.0f;
    float k2 = bn->batch ? (float)(sum_dx * (double)bn->inv * (double)bn->inv / n) : 0.0f;
    /* dx = slope * (d - k1 - (x - mean) * k2) */
    const vf v2 = V_SET(-k2 * slope), v1 = V_SET(-k1 * slope);
    EACH_ROW(g, b, c, row)
    {
        size_t at = wn_lanes_at(g, b, c, row, 0);
        for (int i = 0; i < g->w * 16; i += VL) {
            vf xv = V_LOAD(x + at + i);
            vf d = V_AND(V_GT(V_FMA(xv, a, t), floor_), V_LOAD(dy + at + i));
            V_STORE(dx + at + i, V_FMA(d, a, V_FMA(V_SUB(xv, m), v2, v1)));
        }
    }
}

/* ---- flat ---- */

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += VL)
        V_STORE(y + i, V_ADD(V_LOAD(a + i), V_LOAD(b + i)));
}

static void add_relu(float *y, const float *a, const float *b, size_t n)
{
    const vf z = V_SET(0.0f);
    for (size_t i = 0; i < n; i += VL)
        V_STORE(y + i, V_MAX(V_ADD(V_LOAD(a + i), V_LOAD(b + i)), z));
}

static void clamp(float *y, const float *x, float lo, float hi, size_t n)
{
    const vf l = V_SET(lo), h = V_SET(hi);
    for (size_t i = 0; i < n; i += VL)
        V_STORE(y + i, V_MIN(V_MAX(V_LOAD(x + i), l), h));
}

static void clamp_back(float *dx, const float *dy, const float *y, float lo, float hi, size_t n)
{
    const vf l = V_SET(lo), h = V_SET(hi);
    for (size_t i = 0; i < n; i += VL) {
        vf v = V_LOAD(y + i);
        V_STORE(dx + i, V_AND(V_MAND(V_GT(v, l), V_GT(h, v)), V_LOAD(dy + i)));
    }
}

static void fq(float *y, const float *x, const struct wn_lanes_fq *q, size_t n)
{
    const vf s = V_SET(q->scale), inv = V_SET(q->inv), l = V_SET(q->lo), h = V_SET(q->hi);
    for (size_t i = 0; i < n; i += VL)
        V_STORE(y + i, V_MUL(V_MIN(V_MAX(V_RNE(V_MUL(V_LOAD(x + i), inv)), l), h), s));
}

static void fq_back(float *dx, const float *dy, const float *x, const struct wn_lanes_fq *q, size_t n)
{
    const vf inv = V_SET(q->inv), l = V_SET(q->lo), h = V_SET(q->hi);
    for (size_t i = 0; i < n; i += VL) {
        vf r = V_RNE(V_MUL(V_LOAD(x + i), inv));
        V_STORE(dx + i, V_AND(V_MAND(V_LE(l, r), V_LE(r, h)), V_LOAD(dy + i)));
    }
}

static void range(const float *x, size_t n, float *lo, float *hi)
{
    vf l = V_SET(*lo), h = V_SET(*hi);
    size_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf v = V_LOADU(x + i);
        l = V_MIN(v, l);
        h = V_MAX(v, h);
    }
    float tmp[VL];
    V_STOREU(tmp, l);
    for (int j = 0; j < VL; j++)
        *lo = fminf(*lo, tmp[j]);
    V_STOREU(tmp, h);
    for (int j = 0; j < VL; j++)
        *hi = fmaxf(*hi, tmp[j]);
    for (; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

static void sgd(float *w, float *v, const float *g, const uint8_t *keep, size_t n, float lr, float mu, float wd,
                bool nesterov)
{
    size_t i = 0;
    if (!keep) {
        const vf vwd = V_SET(wd), vmu = V_SET(mu), vlr = V_SET(-lr);
        for (; i + VL <= n; i += VL) {
            vf wi = V_LOADU(w + i), d = V_FMA(vwd, wi, V_LOADU(g + i)), vi = V_FMA(vmu, V_LOADU(v + i), d);
            V_STOREU(v + i, vi);
            V_STOREU(w + i, V_FMA(vlr, nesterov ? V_FMA(vmu, vi, d) : vi, wi));
        }
    }
    for (; i < n; i++) {
        if (keep && !keep[i]) {
            w[i] = v[i] = 0.0f;
            continue;
        }
        float d = S_FMA(wd, w[i], g[i]);
        v[i] = S_FMA(mu, v[i], d);
        w[i] = S_FMA(-lr, nesterov ? S_FMA(mu, v[i], d) : v[i], w[i]);
    }
}

const struct wn_lanes_kernels KERNELS = {
    .sum = sum,
    .dot = dot,
    .channel_sum = channel_sum,
    .bn_forward = bn_forward,
    .bn_backward = bn_backward,
    .add = add,
    .add_relu = add_relu,
    .clamp = clamp,
    .clamp_back = clamp_back,
    .fq = fq,
    .fq_back = fq_back,
    .range = range,
    .sgd = sgd,
};
