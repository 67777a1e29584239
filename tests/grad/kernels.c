/* kernels.c: the lanes kernels against plain loops in double, every instruction set; adjoint identities of the dense
 * ones. */
#include "engine/kernels/kernels.h"
#include "sparsify/kernels/dense.h"
#include "sparsify/kernels/lanes.h"
#include "sparsify/kernels/team.h"
#include "tests/grad/grad.h"

struct shape {
    int i, o, h, w, k, s, p, g, d;
};

static double rel(double got, double want, double scale)
{
    return fabs(got - want) / (fabs(scale) + 1e-12);
}

/** x(n, c, h, w) of a plain array, 0 outside. */
static float px(const float *x, const struct shape *s, int n, int c, int y, int xx)
{
    return y < 0 || y >= s->h || xx < 0 || xx >= s->w
               ? 0.0f
               : x[(((size_t)n * (size_t)s->i + (size_t)c) * (size_t)s->h + (size_t)y) * (size_t)s->w + (size_t)xx];
}

/** Worst relative error of y, dx and dw of one shape against loops in double. */
static double sparse_error(const struct shape *s, double density, unsigned threads)
{
    struct winnow_err err;
    const int N = 32, oh = (s->h + 2 * s->p - (s->k - 1) * s->d - 1) / s->s + 1,
              ow = (s->w + 2 * s->p - (s->k - 1) * s->d - 1) / s->s + 1, ig = s->i / s->g, og = s->o / s->g;
    struct wn_lanes_conv_shape sh = { s->o, s->i, s->g, s->k, s->k, s->s, s->s, s->p, s->p, s->d, s->d, { 0 }, { 0 } };
    int hx = WN_MAX(wn_lanes_conv_halo_x(s->k, s->s, s->p, s->d, s->h, oh),
                    wn_lanes_conv_halo_x(s->k, s->s, s->p, s->d, s->w, ow));
    int hy = WN_MAX(wn_lanes_conv_halo_y(s->k, s->s, s->p, s->d, s->h, oh),
                    wn_lanes_conv_halo_y(s->k, s->s, s->p, s->d, s->w, ow));
    wn_lanes_geom_image(&sh.x, N, s->i, s->h, s->w, hx);
    wn_lanes_geom_image(&sh.y, N, s->o, oh, ow, hy);
    size_t nw = (size_t)(s->o * ig * s->k * s->k), nx = (size_t)(N * s->i * s->h * s->w),
           ny = (size_t)(N * s->o * oh * ow);
    size_t fx = wn_lanes_floats(&sh.x), fy = wn_lanes_floats(&sh.y);
    float *w = calloc(nw, 4), *dw = calloc(nw, 4), *b = calloc((size_t)s->o, 4), *db = calloc((size_t)s->o, 4);
    float *x = malloc(nx * 4), *dy = malloc(ny * 4);
    float *lx = aligned_alloc(64, fx * 4), *ldx = aligned_alloc(64, fx * 4), *add = aligned_alloc(64, fx * 4);
    float *ly = aligned_alloc(64, fy * 4), *ldy = aligned_alloc(64, fy * 4);
    memset(lx, 0, fx * 4);
    memset(ldx, 0, fx * 4);
    memset(add, 0, fx * 4);
    memset(ly, 0, fy * 4);
    memset(ldy, 0, fy * 4);
    uint8_t *m = calloc(nw, 1);
    for (size_t k = 0; k < nw; k++)
        if ((m[k] = (double)rnd() * 0.5 + 0.5 < density))
            w[k] = rnd();
    for (int o = 0; o < s->o; o++)
        b[o] = rnd();
    for (int n = 0; n < N; n++) {
        for (int c = 0; c < s->i * s->h * s->w; c++) {
            size_t at = wn_lanes_at(&sh.x, n / 16, c / (s->h * s->w), c / s->w % s->h, c % s->w) + (size_t)(n % 16);
            lx[at] = x[(size_t)n * (size_t)(s->i * s->h * s->w) + (size_t)c] = rnd();
            add[at] = 0.5f;
        }
        for (int c = 0; c < s->o * oh * ow; c++)
            ldy[wn_lanes_at(&sh.y, n / 16, c / (oh * ow), c / ow % oh, c % ow) + (size_t)(n % 16)] =
                dy[(size_t)n * (size_t)(s->o * oh * ow) + (size_t)c] = rnd();
    }
    struct wn_lanes_conv *cv = NULL;
    must(wn_lanes_conv_new(&sh, m, &cv, &err), &err);
    wn_lanes_conv_forward(cv, threads, lx, w, b, ly);
    wn_lanes_conv_back_data(cv, threads, ldy, add, ldx);
    wn_lanes_conv_back_weights(cv, threads, lx, ldy, dw, db);
    double worst = 0, *rx = calloc(nx, sizeof *rx), *rw = calloc(nw, sizeof *rw),
           *rb = calloc((size_t)s->o, sizeof *rb);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < s->o; o++)
            for (int y = 0; y < oh; y++)
                for (int q = 0; q < ow; q++) {
                    double acc = (double)b[o],
                           d = (double)
                               dy[(((size_t)n * (size_t)s->o + (size_t)o) * (size_t)oh + (size_t)y) * (size_t)ow +
                                  (size_t)q];
                    rb[o] += d;
                    for (int i = 0; i < ig; i++)
                        for (int t = 0; t < s->k * s->k; t++) {
                            int iy = y * s->s - s->p + t / s->k * s->d, ix = q * s->s - s->p + t % s->k * s->d;
                            int c = o / og * ig + i;
                            size_t k = (size_t)((o * ig + i) * s->k * s->k + t);
                            double v = (double)px(x, s, n, c, iy, ix);
                            acc += (double)w[k] * v;
                            rw[k] += m[k] ? d * v : 0;
                            if (iy >= 0 && iy < s->h && ix >= 0 && ix < s->w)
                                rx[(((size_t)n * (size_t)s->i + (size_t)c) * (size_t)s->h + (size_t)iy) * (size_t)s->w +
                                   (size_t)ix] += (double)w[k] * d;
                        }
                    worst = fmax(worst, rel((double)ly[wn_lanes_at(&sh.y, n / 16, o, y, q) + (size_t)(n % 16)], acc,
                                            1 + fabs(acc)));
                }
    for (int n = 0; n < N; n++)
        for (int c = 0; c < s->i * s->h * s->w; c++)
            worst =
                fmax(worst, rel((double)ldx[wn_lanes_at(&sh.x, n / 16, c / (s->h * s->w), c / s->w % s->h, c % s->w) +
                                            (size_t)(n % 16)],
                                0.5 + rx[(size_t)n * (size_t)(s->i * s->h * s->w) + (size_t)c], 4));
    for (size_t k = 0; k < nw; k++)
        worst = fmax(worst, rel((double)dw[k], rw[k], sqrt((double)N * oh * ow)));
    for (int o = 0; o < s->o; o++)
        worst = fmax(worst, rel((double)db[o], rb[o], sqrt((double)N * oh * ow)));
    for (size_t k = 0; k < fx; k++) /* the halo stays zero */
        if (add[k] == 0.0f && ldx[k] != 0.0f)
            worst = INFINITY;
    wn_lanes_conv_free(cv);
    void *all[] = { w, dw, b, db, x, dy, lx, ldx, add, ly, ldy, m, rx, rw, rb };
    for (size_t i = 0; i < WN_COUNT(all); i++)
        free(all[i]);
    return worst;
}

static void sparse_kernels(void)
{
    static const struct shape shapes[] = {
        { 3, 5, 7, 9, 3, 1, 1, 1, 1 },  { 4, 6, 8, 8, 3, 2, 1, 1, 1 }, { 5, 3, 9, 6, 5, 3, 2, 1, 1 },
        { 6, 4, 5, 14, 1, 1, 0, 1, 1 }, { 6, 9, 6, 7, 1, 2, 0, 3, 1 }, { 4, 4, 9, 9, 3, 1, 2, 4, 2 },
        { 2, 3, 11, 5, 2, 2, 0, 1, 1 }, { 7, 8, 1, 1, 1, 1, 0, 1, 1 }, { 3, 2, 6, 29, 3, 1, 1, 1, 1 },
    };
    static const double densities[] = { 1, 0.4, 0.03 };
    char line[96];
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa)) {
            left_out(wn_isa_name((enum wn_isa)isa), "sparse kernels: this CPU does not have it");
            continue;
        }
        enum wn_isa before = wn_cpu_isa();
        wn_cpu_force((enum wn_isa)isa);
        double worst = 0;
        for (size_t i = 0; i < WN_COUNT(shapes); i++)
            for (size_t d = 0; d < WN_COUNT(densities); d++)
                worst = fmax(worst, sparse_error(&shapes[i], densities[d], 1 + (i & 1)));
        snprintf(line, sizeof line, "sparse convolution, three passes, %s", wn_isa_name((enum wn_isa)isa));
        check(line, worst, 1e-5);
        wn_cpu_force(before);
    }
}

/** <A x, dy> = <x, A^T dy> = <w, dw>, dense convolutions in every layout the library falls back to. */
static void dense_adjoint(void)
{
    static const struct shape shapes[] = {
        { 3, 5, 7, 9, 3, 1, 1, 1, 1 },    { 1, 6, 8, 8, 3, 2, 1, 1, 1 },  { 9, 10, 9, 6, 5, 1, 2, 1, 1 },
        { 16, 16, 9, 9, 5, 1, 2, 16, 1 }, { 8, 16, 8, 8, 3, 1, 2, 1, 2 }, { 6, 9, 6, 7, 1, 2, 0, 3, 1 },
    };
    struct winnow_err err;
    struct wn_dense *d = NULL;
    must(wn_dense_new(&d, &err), &err);
    double worst = 0;
    for (size_t k = 0; k < WN_COUNT(shapes); k++) {
        const struct shape *s = &shapes[k];
        struct wn_dense_conv_shape sh = { .n = 4,
                                          .ic = s->i,
                                          .ih = s->h,
                                          .iw = s->w,
                                          .oc = s->o,
                                          .groups = s->g,
                                          .kh = s->k,
                                          .kw = s->k,
                                          .sh = s->s,
                                          .sw = s->s,
                                          .ph = s->p,
                                          .pw = s->p,
                                          .ph_end = s->p,
                                          .pw_end = s->p,
                                          .dh = s->d,
                                          .dw = s->d,
                                          .x_plain = s->i <= 4,
                                          .back_data = true,
                                          .back_weights = true };
        sh.oh = (s->h + 2 * s->p - (s->k - 1) * s->d - 1) / s->s + 1;
        sh.ow = (s->w + 2 * s->p - (s->k - 1) * s->d - 1) / s->s + 1;
        struct wn_dense_conv *cv = NULL;
        must(wn_dense_conv_new(d, &sh, &cv, &err), &err);
        size_t nx = sh.x_plain ? (size_t)(4 * s->i * s->h * s->w) : wn_c8_floats(4, s->i, s->h, s->w);
        size_t ny = wn_c8_floats(4, s->o, sh.oh, sh.ow), nw = (size_t)(s->o * s->i / s->g * s->k * s->k);
        float *x = aligned_alloc(64, wn_round_up(nx * 4, 64)), *dx = aligned_alloc(64, wn_round_up(nx * 4, 64));
        float *y = aligned_alloc(64, wn_round_up(ny * 4, 64)), *w = malloc(nw * 4), *dw = malloc(nw * 4);
        for (size_t i = 0; i < nx; i++) /* pad lanes hold 0 */
            x[i] = !sh.x_plain &&
                           (int)(i / 8 / (size_t)(s->h * s->w) % ((size_t)(s->i + 7) / 8)) * 8 + (int)(i % 8) >= s->i
                       ? 0
                       : rnd();
        for (size_t i = 0; i < nw; i++)
            w[i] = rnd();
        must(wn_dense_conv_forward(cv, x, w, NULL, y, &err), &err);
        must(wn_dense_conv_back_data(cv, y, w, dx, &err), &err);
        must(wn_dense_conv_back_weights(cv, x, y, dw, NULL, &err), &err);
        double a = 0, b = 0, c = 0;
        for (size_t i = 0; i < ny; i++)
            a += (double)y[i] * (double)y[i];
        for (size_t i = 0; i < nx; i++)
            b += (double)x[i] * (double)dx[i];
        for (size_t i = 0; i < nw; i++)
            c += (double)w[i] * (double)dw[i];
        worst = fmax(worst, fmax(rel(b, a, a), rel(c, a, a)));
        wn_dense_conv_free(cv);
        free(x);
        free(dx);
        free(y);
        free(w);
        free(dw);
    }
    wn_dense_free(d);
    check("dense convolution, adjoint identities, all layouts", worst, 1e-5);
}

/** Batch norm, flat kernels: every instruction set against scalar. */
static void flat_kernels(void)
{
    const struct wn_lanes_kernels *ref = &wn_lanes_kernels__scalar, *k = wn_lanes_kernels();
    struct wn_lanes_geom g;
    wn_lanes_geom_image(&g, 48, 3, 5, 6, 1);
    size_t n = wn_lanes_floats(&g);
    float *b[8];
    for (int i = 0; i < 8; i++) {
        b[i] = aligned_alloc(64, n * sizeof(float));
        for (size_t j = 0; j < n; j++)
            b[i][j] = i < 4 ? 3.0f + rnd() : 0.0f;
    }
    double worst = 0;
    for (int mode = 0; mode < 4; mode++) {
        struct wn_lanes_bn s = {
            .mean = 3, .inv = 2, .scale = 1.3f, .shift = 0.2f, .eps = 1e-5f, .batch = mode & 1, .relu = mode >> 1
        };
        struct wn_lanes_bn t = s;
        ref->bn_forward(&g, 1, &s, b[0], b[4]);
        k->bn_forward(&g, 1, &t, b[0], b[5]);
        ref->bn_backward(&g, 1, &s, b[0], b[1], b[6]);
        k->bn_backward(&g, 1, &t, b[0], b[1], b[7]);
        for (size_t j = 0; j < n; j++)
            worst =
                fmax(worst, fmax(rel((double)b[4][j], (double)b[5][j], 1), rel((double)b[6][j], (double)b[7][j], 1)));
        worst =
            fmax(worst, rel((double)s.dscale, (double)t.dscale, 1e3) + rel((double)s.dshift, (double)t.dshift, 1e3));
    }
    check("lanes batch norm against scalar", worst, 2e-5);
    struct wn_lanes_fq q = { 0.03f, 1 / 0.03f, -100, 155 };
    float lo = 0, hi = 0, lo2 = 0, hi2 = 0;
    bool same = true;
    ref->fq(b[4], b[0], &q, n);
    k->fq(b[5], b[0], &q, n);
    ref->fq_back(b[6], b[1], b[0], &q, n);
    k->fq_back(b[7], b[1], b[0], &q, n);
    same &= memcmp(b[4], b[5], n * 4) == 0 && memcmp(b[6], b[7], n * 4) == 0;
    ref->clamp_back(b[4], b[1], b[0], 2.5f, 3.5f, n);
    k->clamp_back(b[5], b[1], b[0], 2.5f, 3.5f, n);
    ref->add_relu(b[6], b[0], b[1], n);
    k->add_relu(b[7], b[0], b[1], n);
    same &= memcmp(b[4], b[5], n * 4) == 0 && memcmp(b[6], b[7], n * 4) == 0;
    ref->range(b[2], n - 5, &lo, &hi);
    k->range(b[2], n - 5, &lo2, &hi2);
    check_true("flat kernels equal scalar", same && lo == lo2 && hi == hi2);
    for (int i = 0; i < 8; i++)
        free(b[i]);
}

void test_kernels(void)
{
    wn_team_size(2);
    sparse_kernels();
    dense_adjoint();
    flat_kernels();
}
