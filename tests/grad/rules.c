/* rules.c: every gradient rule by finite differences, on the dense side and on the lanes side.
 *
 * A net is built around the operator, its loss differentiated, and the slope along each parameter's own gradient, and
 * along a random direction, compared with central differences. A convolution in front makes the operator's own dx part
 * of what is checked. The loss is a float: the best of a few step widths counts. A step that crosses a kink (Relu, max)
 * proves nothing: other inputs are drawn then, a few times; a wrong rule fails on all of them. */
#include "tests/grad/grad.h"

enum { BATCH = 16 };

static double loss_at(struct wn_trainer *tr, struct wn_param *p, const float *w0, const double *dir, double eps,
                      const float *x, const uint32_t *y)
{
    struct winnow_err err;
    float loss;
    for (size_t k = 0; k < p->n; k++)
        p->w[k] = (float)((double)w0[k] + eps * dir[k]);
    must(wn_trainer_gradients(tr, x, y, &loss, &err), &err);
    return (double)loss;
}

/** Relative error of the slope along dir (unit length) against g · dir; scale: |g|. */
static double slope_error(struct wn_trainer *tr, struct wn_param *p, const double *dir, const float *x,
                          const uint32_t *y, const double *g)
{
    static const double steps[] = { 0.05, 0.02, 0.007, 0.002, 0.0007 };
    double want = 0, norm = 0, best = INFINITY;
    float *w0 = malloc(p->n * sizeof *w0);
    memcpy(w0, p->w, p->n * sizeof *w0);
    for (size_t k = 0; k < p->n; k++) {
        want += g[k] * dir[k];
        norm += g[k] * g[k];
    }
    for (size_t i = 0; i < WN_COUNT(steps); i++) {
        double hi = loss_at(tr, p, w0, dir, steps[i], x, y), lo = loss_at(tr, p, w0, dir, -steps[i], x, y);
        best = fmin(best, fabs((hi - lo) / (2 * steps[i]) - want) / (sqrt(norm) + 1e-3));
    }
    memcpy(p->w, w0, p->n * sizeof *w0);
    free(w0);
    return best;
}

double worst_slope_at(struct wn_trainer *tr, const float *x, const uint32_t *y)
{
    struct winnow_err err;
    float worst_loss;
    double worst = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        if (!p->g || !p->trainable)
            continue;
        must(wn_trainer_gradients(tr, x, y, &worst_loss, &err), &err);
        double *g = malloc(p->n * sizeof *g), *dir = malloc(p->n * sizeof *dir), norm = 0, rnorm = 0;
        for (size_t k = 0; k < p->n; k++) {
            g[k] = (double)p->g[k];
            norm += g[k] * g[k];
        }
        for (size_t k = 0; k < p->n; k++)
            dir[k] = norm > 0 ? g[k] / sqrt(norm) : 0;
        worst = fmax(worst, slope_error(tr, p, dir, x, y, g));
        for (size_t k = 0; k < p->n; k++) {
            dir[k] = p->mask && !p->mask[k] ? 0 : (double)rnd();
            rnorm += dir[k] * dir[k];
        }
        for (size_t k = 0; k < p->n; k++)
            dir[k] /= sqrt(rnorm) + 1e-30;
        worst = fmax(worst, slope_error(tr, p, dir, x, y, g));
        free(g);
        free(dir);
    }
    return worst;
}

static double worst_slope(struct wn_trainer *tr, unsigned batch, float shift)
{
    float *x = random_rows(tr, batch);
    for (size_t i = 0; i < batch * wn_trainer_row_elements(tr); i++)
        x[i] += shift;
    uint32_t *y = random_labels(batch, wn_trainer_n_classes(tr));
    double worst = worst_slope_at(tr, x, y);
    free(x);
    free(y);
    return worst;
}

static void both_sides(const char *name, struct build *b, double limit)
{
    char line[96];
    for (int side = 0; side < 3; side++) {
        struct wn_train_opts o = { .batch = side ? BATCH : 5, .threads = side == 2 ? 2 : 1, .seed = 3 };
        o.no_sparse = side == 0;
        o.all_sparse = side != 0;
        struct wn_trainer *tr = trainer(b, &o);
        if (side == 2)
            random_masks(tr, 0.5);
        snprintf(line, sizeof line, "%s, %s", name, side == 0 ? "dense" : side == 1 ? "lanes" : "lanes, half pruned");
        double err = INFINITY;
        for (int draw = 0; draw < 6 && !(err <= limit); draw++)
            err = fmin(err, worst_slope(tr, o.batch, 0.1f));
        check(line, err, limit);
        wn_trainer_free(tr);
    }
    build_done(b);
}

static void start(struct build *b, int64_t c, int64_t h, int64_t w, int64_t channels)
{
    build_init(b, c, h, w);
    build_conv(b, (struct conv){ .o = channels, .k = 3, .pad = 1, .bias = true });
}

static void finish(const char *name, struct build *b)
{
    build_flatten(b);
    build_gemm(b, 4, true, true);
    build_output(b);
    both_sides(name, b, 2e-3);
}

static void test_conv(void)
{
    static const struct conv cases[] = {
        { 5, 3, 1, 1, 1, 1, true },  { 7, 3, 2, 1, 1, 1, false }, { 9, 1, 1, 0, 1, 1, true },
        { 6, 1, 2, 0, 1, 1, false }, { 5, 5, 1, 2, 1, 1, true },  { 4, 5, 2, 2, 1, 1, false },
        { 8, 3, 1, 1, 2, 1, true },  { 6, 3, 1, 1, 6, 1, false }, { 6, 5, 1, 2, 6, 1, false },
        { 5, 3, 1, 2, 1, 2, false }, { 4, 2, 2, 0, 1, 1, true },  { 5, 3, 3, 0, 1, 1, false },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct build b;
        char name[64];
        const struct conv *c = &cases[i];
        start(&b, 3, 7, 9, 6);
        build_conv(&b, *c);
        snprintf(name, sizeof name, "Conv %lldx%lld s%lld p%lld g%lld d%lld", (long long)c->k, (long long)c->k,
                 (long long)c->stride, (long long)c->pad, (long long)c->group, (long long)c->dilation);
        finish(name, &b);
    }
}

static void test_norm(void)
{
    struct build b;
    for (int relu = 0; relu < 2; relu++) {
        start(&b, 2, 6, 5, 5);
        build_bn(&b);
        if (relu)
            build_relu(&b);
        build_conv(&b, (struct conv){ .o = 3, .k = 3, .pad = 1 });
        finish(relu ? "BatchNormalization + Relu" : "BatchNormalization", &b);
    }
}

static void test_activations(void)
{
    static const char *const types[] = { "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish" };
    struct build b;
    for (size_t i = 0; i < WN_COUNT(types); i++) {
        start(&b, 2, 5, 5, 3);
        build_node(&b, types[i], NULL, 0);
        finish(types[i], &b);
    }
    for (int lo = 0; lo < 2; lo++) {
        start(&b, 2, 5, 5, 3);
        int64_t one = 1;
        wn_vid bounds[2] = { build_const(&b, NULL, 1, &one, 0), build_const(&b, NULL, 1, &one, 0) };
        *(float *)b.g.values.at[bounds[0]].constant->data = lo ? 0.1f : 0.0f;
        *(float *)b.g.values.at[bounds[1]].constant->data = 0.7f;
        build_node(&b, "Clip", bounds, 2);
        finish(lo ? "Clip without 0" : "Clip", &b);
    }
}

static void test_joins(void)
{
    struct build b;
    for (int relu = 0; relu < 2; relu++) {
        start(&b, 2, 5, 6, 5);
        wn_vid x = b.at;
        build_conv(&b, (struct conv){ .o = 5, .k = 3, .pad = 1 });
        build_add(&b, x);
        if (relu)
            build_relu(&b);
        wn_vid y = b.at; /* several users, so that contributions add up */
        build_conv(&b, (struct conv){ .o = 5, .k = 1 });
        build_add(&b, y);
        build_add(&b, x);
        finish(relu ? "Add + Relu, fan-out" : "Add, fan-out", &b);
    }
    for (int c = 5; c <= 8; c += 3) {
        start(&b, 2, 4, 4, c);
        wn_vid x = b.at;
        build_conv(&b, (struct conv){ .o = 8, .k = 1 });
        wn_node_set_int(&b.g, build_node(&b, "Concat", &x, 1), "axis", 1);
        b.c = 8 + c;
        build_conv(&b, (struct conv){ .o = 3, .k = 1 });
        finish(c == 8 ? "Concat of 8 + 8 channels" : "Concat of 8 + 5 channels", &b);
    }
}

static void test_pools(void)
{
    static const struct {
        const char *type, *name;
        int64_t k, s, p;
        bool ceil, include;
    } cases[] = {
        { "MaxPool", "MaxPool 2x2 s2", 2, 2, 0, false, false },
        { "MaxPool", "MaxPool 3x3 s2 p1", 3, 2, 1, false, false },
        { "MaxPool", "MaxPool 3x3 s2 ceil", 3, 2, 0, true, false },
        { "AveragePool", "AveragePool 2x2 s2", 2, 2, 0, false, false },
        { "AveragePool", "AveragePool 3x3 s1 p1", 3, 1, 1, false, false },
        { "AveragePool", "AveragePool 3x3 s1 p1, pads count", 3, 1, 1, false, true },
    };
    struct build b;
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        start(&b, 2, 8, 6, 5);
        struct wn_node *n = build_node(&b, cases[i].type, NULL, 0);
        int64_t k[2] = { cases[i].k, cases[i].k }, s[2] = { cases[i].s, cases[i].s }, p = cases[i].p;
        int64_t pads[4] = { p, p, p, p };
        wn_node_set_ints(&b.g, n, "kernel_shape", k, 2);
        wn_node_set_ints(&b.g, n, "strides", s, 2);
        wn_node_set_ints(&b.g, n, "pads", pads, 4);
        wn_node_set_int(&b.g, n, "ceil_mode", cases[i].ceil);
        wn_node_set_int(&b.g, n, "count_include_pad", cases[i].include);
        int64_t up = cases[i].ceil ? cases[i].s - 1 : 0;
        b.h = (b.h + 2 * p - k[0] + up) / s[0] + 1;
        b.w = (b.w + 2 * p - k[0] + up) / s[0] + 1;
        build_conv(&b, (struct conv){ .o = 3, .k = 1 });
        finish(cases[i].name, &b);
    }
    start(&b, 2, 5, 4, 6);
    build_gap(&b);
    build_gemm(&b, 4, true, true);
    build_output(&b);
    both_sides("GlobalAveragePool", &b, 2e-3);
    start(&b, 2, 5, 4, 6);
    build_node(&b, "GlobalMaxPool", NULL, 0);
    b.h = b.w = 1;
    finish("GlobalMaxPool", &b);
}

static void test_shapes(void)
{
    struct build b;
    start(&b, 2, 6, 8, 5);
    int64_t starts[2] = { 0, 1 }, ends[2] = { 6, 8 }, axes[2] = { 2, 3 }, steps[2] = { 2, 3 };
    wn_vid more[4] = { build_ints(&b, 2, starts), build_ints(&b, 2, ends), build_ints(&b, 2, axes),
                       build_ints(&b, 2, steps) };
    build_node(&b, "Slice", more, 4);
    b.h = 3;
    b.w = 3;
    int64_t pads[8] = { 0, 2, 1, 0, 0, 1, 1, 2 };
    wn_vid p = build_ints(&b, 8, pads);
    build_node(&b, "Pad", &p, 1);
    b.c += 3;
    b.h += 2;
    b.w += 2;
    build_conv(&b, (struct conv){ .o = 3, .k = 1 });
    finish("Slice with steps, Pad of channels", &b);
    start(&b, 2, 4, 4, 3);
    int64_t shape[2] = { -1, 48 };
    wn_vid s = build_ints(&b, 2, shape);
    build_node(&b, "Reshape", &s, 1);
    b.c = 48;
    b.h = 0;
    build_gemm(&b, 4, true, true);
    build_output(&b);
    both_sides("Reshape", &b, 2e-3);
}

static void test_linear(void)
{
    struct build b;
    for (int i = 0; i < 3; i++) {
        build_init(&b, 11, 0, 0);
        build_gemm(&b, 13, i != 1, i != 2);
        build_node(&b, "Tanh", NULL, 0);
        if (i == 2)
            build_matmul(&b, 9, true);
        else
            build_matmul(&b, 9, false);
        build_relu(&b);
        build_gemm(&b, 4, true, true);
        build_output(&b);
        both_sides(i == 0 ? "Gemm transB" : i == 1 ? "Gemm, MatMul" : "Gemm without bias, MatMul + Add", &b, 2e-3);
    }
}

static void test_dropout(void)
{
    struct build b;
    build_init(&b, 20, 0, 0);
    build_gemm(&b, 33, true, true);
    wn_node_set_float(&b.g, build_node(&b, "Dropout", NULL, 0), "ratio", 0.4f);
    build_gemm(&b, 4, true, true);
    build_output(&b);
    both_sides("Dropout (same key)", &b, 2e-3);
}

/** Frozen layers: no gradient, no movement; what lies behind them still learns. */
static void test_frozen(void)
{
    struct build b;
    struct winnow_err err;
    start(&b, 2, 5, 5, 4);
    build_bn(&b);
    build_relu(&b);
    build_conv(&b, (struct conv){ .o = 4, .k = 3, .pad = 1 });
    build_flatten(&b);
    build_gemm(&b, 3, true, true);
    build_output(&b);
    for (int lanes = 0; lanes < 2; lanes++) {
        struct wn_train_opts o = { .batch = 16, .no_sparse = !lanes, .all_sparse = lanes };
        struct wn_trainer *tr = trainer(&b, &o);
        wn_trainer_set_lr(tr, 0.1f);
        wn_trainer_freeze_bn_stats(tr, NULL, true);
        double before = 0, after = 0;
        struct wn_param *last = wn_trainer_param(tr, wn_trainer_n_params(tr) - 2);
        for (unsigned i = 0; i < 6; i++) { /* conv, bias, bn */
            wn_trainer_set_trainable(tr, wn_trainer_param(tr, i), false);
            for (size_t k = 0; k < wn_trainer_param(tr, i)->n; k++)
                before += (double)wn_trainer_param(tr, i)->w[k] * (double)(k + 1);
        }
        double w = (double)last->w[0];
        check(lanes ? "frozen prefix and statistics, lanes" : "frozen prefix and statistics, dense",
              worst_slope(tr, 16, 0.0f), 2e-3);
        float *x = random_rows(tr, 16);
        uint32_t *y = random_labels(16, 3);
        must(wn_trainer_step(tr, x, y, NULL, &err), &err);
        for (unsigned i = 0; i < 6; i++)
            for (size_t k = 0; k < wn_trainer_param(tr, i)->n; k++)
                after += (double)wn_trainer_param(tr, i)->w[k] * (double)(k + 1);
        check_true("  what is frozen stands still, the rest moves", before == after && w != (double)last->w[0]);
        free(x);
        free(y);
        wn_trainer_free(tr);
    }
    build_done(&b);
}

/** Batch norm that learns behind a convolution that does not: its dx is not wanted. */
static void test_half_frozen(void)
{
    struct build b;
    start(&b, 2, 5, 5, 4);
    build_bn(&b);
    build_relu(&b);
    build_flatten(&b);
    build_gemm(&b, 3, true, true);
    build_output(&b);
    for (int lanes = 0; lanes < 2; lanes++) {
        struct wn_train_opts o = { .batch = 16, .no_sparse = !lanes, .all_sparse = lanes };
        struct wn_trainer *tr = trainer(&b, &o);
        for (unsigned i = 0; i < 2; i++)
            wn_trainer_set_trainable(tr, wn_trainer_param(tr, i), false);
        double err = INFINITY;
        for (int draw = 0; draw < 6 && !(err <= 2e-3); draw++)
            err = fmin(err, worst_slope(tr, 16, 0.0f));
        check(lanes ? "frozen convolution, learning batch norm, lanes"
                    : "frozen convolution, learning batch norm, dense",
              err, 2e-3);
        wn_trainer_free(tr);
    }
    build_done(&b);
}

void test_rules(void)
{
    test_conv();
    test_norm();
    test_activations();
    test_joins();
    test_pools();
    test_shapes();
    test_linear();
    test_dropout();
    test_frozen();
    test_half_frozen();
}
