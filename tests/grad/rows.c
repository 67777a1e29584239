/* rows.c: the kernels of encoders against plain loops in double, every instruction set, odd sizes. */
#include "engine/kernels/kernels.h"
#include "sparsify/kernels/lanes.h"
#include "sparsify/kernels/rows.h"
#include "tests/grad/grad.h"

enum { MOST = 4096 };
static float x[MOST], dy[MOST], y[MOST], dx[MOST], a[MOST], b[MOST];

static void fill(float *p, size_t n, float size)
{
    for (size_t i = 0; i < n; i++)
        p[i] = size * rnd();
}

static double apart(double got, double want)
{
    return fabs(got - want) / (1 + fabs(want));
}

static double gelu_error(const struct wn_rows_kernels *k, bool by_tanh)
{
    double worst = 0;
    size_t n = 1 + rnd_below(300);
    fill(x, n, 6);
    fill(dy, n, 1);
    k->gelu(y, x, n, by_tanh);
    k->gelu_back(dx, dy, x, n, by_tanh);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], u = sqrt(2 / M_PI) * (v + 0.044715 * v * v * v), t = tanh(u);
        double p = by_tanh ? (1 + t) / 2 : (1 + erf(v / sqrt(2))) / 2;
        double d = by_tanh ? p + v * (1 - t * t) / 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * v * v)
                           : p + v * exp(-v * v / 2) / sqrt(2 * M_PI);
        worst = fmax(worst, fmax(apart((double)y[i], v * p), apart((double)dx[i], (double)dy[i] * d)));
    }
    return worst;
}

static double softmax_error(const struct wn_rows_kernels *k)
{
    double worst = 0;
    size_t n = 1 + rnd_below(70), rows = 1 + rnd_below(9);
    fill(x, n * rows, 20);
    fill(dy, n * rows, 1);
    for (size_t i = 0; i < n * rows; i += 7)
        x[i] -= 10000; /* masked */
    k->softmax(y, x, rows, n);
    k->softmax_back(dx, dy, y, rows, n);
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n, *dr = dy + r * n;
        double top = -INFINITY, sum = 0, dot = 0;
        for (size_t i = 0; i < n; i++)
            top = fmax(top, (double)xr[i]);
        for (size_t i = 0; i < n; i++)
            sum += exp((double)xr[i] - top);
        for (size_t i = 0; i < n; i++)
            dot += (double)dr[i] * exp((double)xr[i] - top) / sum;
        for (size_t i = 0; i < n; i++) {
            double p = exp((double)xr[i] - top) / sum;
            worst = fmax(worst, apart((double)y[r * n + i], p));
            worst = fmax(worst, apart((double)dx[r * n + i], p * ((double)dr[i] - dot)));
        }
    }
    return worst;
}

/** Layer norm of 16 rows, plain and in lanes, against each other's formula in double. */
static double norm_error(const struct wn_rows_kernels *k, bool lanes)
{
    enum { R = WN_LANES };
    const float eps = 1e-5f;
    float mean[R], inv[R], dscale[80], dshift[80], *lx = a, *ldy = b;
    size_t n = 1 + rnd_below(70), step = 3 * WN_LANES;
    float *scale = x + 3000, *shift = x + 3100;
    double worst = 0;
    fill(x, n * R, 2);
    fill(dy, n * R, 1);
    fill(scale, n, 1);
    fill(shift, n, 1);
    if (!lanes) {
        k->norm(y, mean, inv, x, scale, shift, R, n, eps);
        k->norm_back(dx, dy, x, mean, inv, scale, R, n);
        k->norm_params(dscale, dshift, dy, x, mean, inv, R, n, 0, n);
    } else {
        static float ly[MOST], ldx[MOST];
        memset(dscale, 0, sizeof dscale);
        memset(dshift, 0, sizeof dshift);
        k->to_lanes(lx, step, x, n, n);
        k->to_lanes(ldy, step, dy, n, n);
        k->lanes_norm(ly, mean, inv, lx, step, scale, shift, n, eps);
        k->lanes_norm_back(ldx, ldy, lx, step, mean, inv, scale, n);
        for (size_t c = 0; c < n; c++)
            k->lanes_norm_params(dscale + c, dshift + c, ldy + c * step, lx + c * step, mean, inv);
        k->from_lanes(y, n, ly, step, n);
        k->from_lanes(dx, n, ldx, step, n);
    }
    double ds[80] = { 0 }, db[80] = { 0 };
    for (size_t r = 0; r < R; r++) {
        const float *xr = x + r * n, *dr = dy + r * n;
        double m = 0, v = 0, s1 = 0, s2 = 0;
        for (size_t i = 0; i < n; i++)
            m += (double)xr[i] / (double)n;
        for (size_t i = 0; i < n; i++)
            v += ((double)xr[i] - m) * ((double)xr[i] - m) / (double)n;
        double q = 1 / sqrt(v + (double)eps);
        for (size_t i = 0; i < n; i++) {
            double h = ((double)xr[i] - m) * q, d = (double)dr[i] * (double)scale[i];
            s1 += d / (double)n;
            s2 += d * h / (double)n;
            ds[i] += (double)dr[i] * h;
            db[i] += (double)dr[i];
            worst = fmax(worst, apart((double)y[r * n + i], h * (double)scale[i] + (double)shift[i]));
        }
        for (size_t i = 0; i < n; i++)
            worst = fmax(worst, apart((double)dx[r * n + i],
                                      q * ((double)dr[i] * (double)scale[i] - s1 - ((double)xr[i] - m) * q * s2)) /
                                    (1 + q));
    }
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fmax(apart((double)dscale[i], ds[i]), apart((double)dshift[i], db[i])));
    return worst;
}

static double adamw_error(const struct wn_rows_kernels *k, bool masked)
{
    uint8_t keep[64];
    size_t n = 1 + rnd_below(60);
    double w[64], m[64] = { 0 }, v[64] = { 0 }, worst = 0;
    fill(x, n, 1);
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    for (size_t i = 0; i < n; i++) {
        w[i] = (double)x[i];
        keep[i] = rnd() > 0;
    }
    for (int t = 1; t <= 5; t++) {
        struct wn_adamw o = {
            0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, (float)(1 / (1 - pow(0.9, t))), (float)(1 / (1 - pow(0.999, t)))
        };
        fill(dy, n, 1);
        k->adamw(x, a, b, dy, masked ? keep : NULL, n, &o);
        for (size_t i = 0; i < n; i++) {
            double g = (double)dy[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            w[i] -= 0.01 * (m[i] / (1 - pow(0.9, t)) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8) + 0.1 * w[i]);
            if (masked && !keep[i])
                w[i] = m[i] = v[i] = 0;
        }
    }
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fmax(apart((double)x[i], w[i]), apart((double)a[i], m[i])));
    return worst;
}

void test_rows(void)
{
    enum wn_isa before = wn_cpu_isa();
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        char line[96];
        const char *name = wn_isa_name((enum wn_isa)isa);
        if (!wn_cpu_has((enum wn_isa)isa)) {
            left_out(name, "kernels of encoders: this CPU does not have it");
            continue;
        }
        wn_cpu_force((enum wn_isa)isa);
        const struct wn_rows_kernels *k = wn_rows_kernels();
        double e[5] = { 0 };
        for (int i = 0; i < 20; i++) {
            e[0] = fmax(e[0], gelu_error(k, i & 1));
            e[1] = fmax(e[1], softmax_error(k));
            e[2] = fmax(e[2], norm_error(k, false));
            e[3] = fmax(e[3], norm_error(k, true));
            e[4] = fmax(e[4], adamw_error(k, i & 1));
        }
        static const char *const what[] = { "GELU and its slope", "softmax and its gradient", "layer norm, plain",
                                            "layer norm, lanes", "AdamW, five steps" };
        static const double limit[] = { 2e-6, 1e-6, 2e-5, 2e-5, 1e-5 };
        for (int i = 0; i < 5; i++) {
            snprintf(line, sizeof line, "%s, %s", what[i], name);
            check(line, e[i], limit[i]);
        }
    }
    wn_cpu_force(before);
}
