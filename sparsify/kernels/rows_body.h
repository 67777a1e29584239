/* rows_body.h: the kernels of rows.h in the compilers' generic vectors, included once per instruction set, which
 * defines VL (floats a vector: 4, 8 or 16), KERNELS (name of the table) and NAME before. */
#include "sparsify/kernels/rows.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES  16
#define NV     (LANES / VL)

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

INLINE vf load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}
/** The first n < VL floats; the rest is `fill`. */
INLINE vf load_part(const float *p, size_t n, float fill)
{
    float t[VL];
    for (size_t i = 0; i < VL; i++)
        t[i] = fill;
    memcpy(t, p, n * sizeof *p);
    return load(t);
}
INLINE void store_part(float *p, vf v, size_t n)
{
    float t[VL];
    store(t, v);
    memcpy(p, t, n * sizeof *p);
}
INLINE vf set(float x)
{
    return (vf){ 0 } + x;
}
INLINE vf select(vi mask, vf a, vf b)
{
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
INLINE vf vmax(vf a, vf b)
{
    return select(a > b, a, b);
}
INLINE vf vmin(vf a, vf b)
{
    return select(a < b, a, b);
}
/** In an order that VL alone decides. */
INLINE float vsum(vf v)
{
    float t[VL];
    store(t, v);
    for (int n = VL / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            t[i] += t[i + n];
    return t[0];
}

/** exp, relative error below 2e-7; 0 below about -87. */
INLINE vf vexp(vf x)
{
    vi tiny = x < set(-87.3f);
    x = vmax(vmin(x, set(88.0f)), set(-87.3f));
    vf k = x * 1.44269504f + 12582912.0f; /* rounds to the nearest integer */
    vi e = (vi)k;
    k = k - 12582912.0f;
    vf r = x - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vf scale = (vf)((e - 0x4b400000 + 127) << 23);
    return select(tiny, set(0.0f), p * scale);
}

/* ---- GELU ---- */

/** Phi(x) by erf; *ret_density: the normal density at x. */
INLINE vf phi(vf x, vf *ret_density)
{
    vf a = (vf)((vi)x & 0x7fffffff) * 0.70710678f; /* |x| / sqrt(2) */
    vf t = 1.0f / (a * 0.3275911f + 1.0f), e = vexp(-a * a);
    vf p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf half = p * t * e * 0.5f; /* 1 - Phi(|x|) */
    *ret_density = e * 0.39894228f;
    return select(x > set(0.0f), 1.0f - half, half);
}

/** The same by tanh; *ret_density: the derivative of what is returned. */
INLINE vf phi_tanh(vf x, vf *ret_density)
{
    vf u = x * (x * x * 0.044715f + 1.0f) * 0.79788456f;
    vf s = 1.0f / (vexp(u * -2.0f) + 1.0f); /* (1 + tanh u) / 2 */
    *ret_density = s * (1.0f - s) * 2.0f * 0.79788456f * (x * x * (3.0f * 0.044715f) + 1.0f);
    return s;
}

INLINE vf gelu_at(vf x, bool by_tanh)
{
    vf d;
    return x * (by_tanh ? phi_tanh(x, &d) : phi(x, &d));
}

INLINE vf gelu_slope(vf x, bool by_tanh)
{
    vf d, p = by_tanh ? phi_tanh(x, &d) : phi(x, &d);
    return p + x * d;
}

static void gelu(float *y, const float *x, size_t n, bool by_tanh)
{
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        store(y + i, gelu_at(load(x + i), by_tanh));
    if (i < n)
        store_part(y + i, gelu_at(load_part(x + i, n - i, 0), by_tanh), n - i);
}

static void gelu_back(float *dx, const float *dy, const float *x, size_t n, bool by_tanh)
{
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        store(dx + i, load(dy + i) * gelu_slope(load(x + i), by_tanh));
    if (i < n)
        store_part(dx + i, load_part(dy + i, n - i, 0) * gelu_slope(load_part(x + i, n - i, 0), by_tanh), n - i);
}

/* ---- softmax ---- */

static void softmax_row(float *y, const float *x, size_t n)
{
    float top = x[0];
    for (size_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    vf sum = set(0);
    size_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf e = vexp(load(x + i) - top);
        store(y + i, e);
        sum += e;
    }
    float total = vsum(sum);
    if (i < n) {
        store_part(y + i, vexp(load_part(x + i, n - i, top) - top), n - i);
        for (size_t k = i; k < n; k++)
            total += y[k];
    }
    float inv = 1.0f / total;
    for (i = 0; i + VL <= n; i += VL)
        store(y + i, load(y + i) * inv);
    for (; i < n; i++)
        y[i] *= inv;
}

static void softmax(float *y, const float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        softmax_row(y + r * n, x + r * n, n);
}

static void softmax_back(float *dx, const float *dy, const float *y, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, dx += n, dy += n, y += n) {
        vf sum = set(0);
        size_t i = 0;
        for (; i + VL <= n; i += VL)
            sum += load(dy + i) * load(y + i);
        float dot = vsum(sum);
        for (; i < n; i++)
            dot += dy[i] * y[i];
        for (i = 0; i + VL <= n; i += VL)
            store(dx + i, load(y + i) * (load(dy + i) - dot));
        for (; i < n; i++)
            dx[i] = y[i] * (dy[i] - dot);
    }
}

/* ---- layer norm, plain rows ---- */

INLINE float row_sum(const float *x, size_t n)
{
    vf s = set(0);
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        s += load(x + i);
    float sum = vsum(s);
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

INLINE float row_square(const float *x, float mean, size_t n)
{
    vf s = set(0);
    size_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf d = load(x + i) - mean;
        s += d * d;
    }
    float sum = vsum(s);
    for (; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

static void norm(float *y, float *mean, float *inv, const float *x, const float *scale, const float *shift, size_t rows,
                 size_t n, float eps)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        float m = row_sum(x, n) / (float)n, k = 1.0f / sqrtf(row_square(x, m, n) / (float)n + eps);
        size_t i = 0;
        mean[r] = m;
        inv[r] = k;
        for (; i + VL <= n; i += VL)
            store(y + i, (load(x + i) - m) * k * load(scale + i) + load(shift + i));
        for (; i < n; i++)
            y[i] = (x[i] - m) * k * scale[i] + shift[i];
    }
}

static void norm_back(float *dx, const float *dy, const float *x, const float *mean, const float *inv,
                      const float *scale, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, x += n, dx += n, dy += n) {
        float m = mean[r], k = inv[r];
        vf s1 = set(0), s2 = set(0);
        size_t i = 0;
        for (; i + VL <= n; i += VL) {
            vf d = load(dy + i) * load(scale + i);
            s1 += d;
            s2 += d * ((load(x + i) - m) * k);
        }
        float a = vsum(s1), b = vsum(s2);
        for (; i < n; i++) {
            a += dy[i] * scale[i];
            b += dy[i] * scale[i] * ((x[i] - m) * k);
        }
        a /= (float)n;
        b /= (float)n;
        for (i = 0; i + VL <= n; i += VL)
            store(dx + i, (load(dy + i) * load(scale + i) - a - (load(x + i) - m) * k * b) * k);
        for (; i < n; i++)
            dx[i] = (dy[i] * scale[i] - a - (x[i] - m) * k * b) * k;
    }
}

static void norm_params(float *dscale, float *dshift, const float *dy, const float *x, const float *mean,
                        const float *inv, size_t rows, size_t n, size_t from, size_t to)
{
    size_t c = from;
    for (; c + VL <= to; c += VL) {
        vf s = set(0), b = set(0);
        for (size_t r = 0; r < rows; r++) {
            vf d = load(dy + r * n + c);
            b += d;
            s += d * ((load(x + r * n + c) - mean[r]) * inv[r]);
        }
        store(dscale + c, s);
        store(dshift + c, b);
    }
    for (; c < to; c++) {
        float s = 0, b = 0;
        for (size_t r = 0; r < rows; r++) {
            b += dy[r * n + c];
            s += dy[r * n + c] * ((x[r * n + c] - mean[r]) * inv[r]);
        }
        dscale[c] = s;
        dshift[c] = b;
    }
}

/* ---- layer norm, 16 rows in lanes ---- */

static void lanes_norm(float *y, float *mean, float *inv, const float *x, size_t step, const float *scale,
                       const float *shift, size_t n, float eps)
{
    for (int j = 0; j < NV; j++) {
        const float *xj = x + j * VL;
        float *yj = y + j * VL;
        vf sum = set(0), sq = set(0), k;
        for (size_t c = 0; c < n; c++)
            sum += load(xj + c * step);
        vf m = sum / (float)n;
        for (size_t c = 0; c < n; c++) {
            vf d = load(xj + c * step) - m;
            sq += d * d;
        }
        float t[VL];
        store(t, sq / (float)n + eps);
        for (int l = 0; l < VL; l++)
            t[l] = 1.0f / sqrtf(t[l]);
        k = load(t);
        store(mean + j * VL, m);
        store(inv + j * VL, k);
        for (size_t c = 0; c < n; c++)
            store(yj + c * step, (load(xj + c * step) - m) * k * scale[c] + shift[c]);
    }
}

static void lanes_norm_back(float *dx, const float *dy, const float *x, size_t step, const float *mean,
                            const float *inv, const float *scale, size_t n)
{
    for (int j = 0; j < NV; j++) {
        const float *xj = x + j * VL, *dj = dy + j * VL;
        vf m = load(mean + j * VL), k = load(inv + j * VL), a = set(0), b = set(0);
        for (size_t c = 0; c < n; c++) {
            vf d = load(dj + c * step) * scale[c];
            a += d;
            b += d * ((load(xj + c * step) - m) * k);
        }
        a /= (float)n;
        b /= (float)n;
        for (size_t c = 0; c < n; c++)
            store(dx + j * VL + c * step, (load(dj + c * step) * scale[c] - a - (load(xj + c * step) - m) * k * b) * k);
    }
}

static void lanes_norm_params(float *dscale, float *dshift, const float *dy, const float *x, const float *mean,
                              const float *inv)
{
    vf s = set(0), b = set(0);
    for (int j = 0; j < NV; j++) {
        vf d = load(dy + j * VL);
        b += d;
        s += d * ((load(x + j * VL) - load(mean + j * VL)) * load(inv + j * VL));
    }
    *dscale += vsum(s);
    *dshift += vsum(b);
}

/* ---- layouts ---- */

static void to_lanes(float *y, size_t step, const float *x, size_t row, size_t n)
{
    for (size_t c = 0; c < n; c += LANES) /* a cache line of every row at a time */
        for (size_t l = 0; l < LANES; l++)
            for (size_t i = c; i < WN_MIN(n, c + LANES); i++)
                y[i * step + l] = x[l * row + i];
}

static void from_lanes(float *y, size_t row, const float *x, size_t step, size_t n)
{
    for (size_t c = 0; c < n; c += LANES) /* a cache line of every row at a time */
        for (size_t l = 0; l < LANES; l++)
            for (size_t i = c; i < WN_MIN(n, c + LANES); i++)
                y[l * row + i] = x[i * step + l];
}

/* ---- AdamW ---- */

INLINE void adamw_one(float *w, float *m, float *v, float g, const struct wn_adamw *a)
{
    float mi = *m + (1.0f - a->beta1) * (g - *m), vi_ = *v + (1.0f - a->beta2) * (g * g - *v);
    *m = mi;
    *v = vi_;
    *w -= a->lr * (mi * a->fix1 / (sqrtf(vi_ * a->fix2) + a->eps) + a->decay * *w);
}

static void adamw(float *w, float *m, float *v, const float *g, const uint8_t *keep, size_t n, const struct wn_adamw *a)
{
    const struct wn_adamw p = *a;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++)
            adamw_one(w + i + l, m + i + l, v + i + l, g[i + (size_t)l], &p);
        for (int l = 0; keep && l < LANES; l++) {
            float k = keep[i + (size_t)l] ? 1.0f : 0.0f;
            w[i + (size_t)l] *= k;
            m[i + (size_t)l] *= k;
            v[i + (size_t)l] *= k;
        }
    }
    for (; i < n; i++) {
        if (keep && !keep[i])
            w[i] = m[i] = v[i] = 0.0f;
        else
            adamw_one(w + i, m + i, v + i, g[i], &p);
    }
}

const struct wn_rows_kernels KERNELS = {
    .name = NAME,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .softmax = softmax,
    .softmax_back = softmax_back,
    .norm = norm,
    .norm_back = norm_back,
    .norm_params = norm_params,
    .lanes_norm = lanes_norm,
    .lanes_norm_back = lanes_norm_back,
    .lanes_norm_params = lanes_norm_params,
    .to_lanes = to_lanes,
    .from_lanes = from_lanes,
    .adamw = adamw,
};
