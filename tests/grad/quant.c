/* quant.c: fake-quantizers: values, straight-through gradients, scales, zeros that stay zeros. */
#include "sparsify/autodiff/net.h"
#include "tests/grad/grad.h"

static void scales(void)
{
    struct wn_observer ob = { "x", 0, -1.0f, 3.0f, true };
    float s, w[6] = { 0.5f, -1.0f, 0.25f, 0, 0, 0 }, q[6], sc[2];
    int z;
    wn_observer_scale(&ob, &s, &z);
    check_true("scale and zero point of [-1, 3]", fabsf(s - 4.0f / 255) < 1e-7f && z == 64);
    ob.lo = 1.0f; /* 0 is always inside */
    wn_observer_scale(&ob, &s, &z);
    check_true("scale and zero point of [1, 3]", fabsf(s - 3.0f / 255) < 1e-7f && z == 0);
    wn_quant_weights(w, 2, 3, 64, q, sc);
    check_true("weights per channel; empty channels have scale 1",
               sc[0] == 1.0f / 64 && sc[1] == 1.0f && q[0] == 0.5f && q[1] == -1.0f && q[3] == 0);
}

enum { N = 16, I = 7, H = 6, C = 3 };

static double fq(double x, float s, int z)
{
    double r = rint(x * (double)(1.0f / s));
    return fmin(fmax(r, -z), 255 - z) * (double)s;
}

/** x -> Gemm -> Relu -> Gemm, quantized, worked out in double. */
static void straight_through(bool lanes)
{
    struct build b;
    struct winnow_err err;
    build_init(&b, I, 0, 0);
    build_gemm(&b, H, true, true);
    build_relu(&b);
    build_gemm(&b, C, true, true);
    build_output(&b);
    struct wn_train_opts o = { .batch = N, .no_sparse = !lanes, .all_sparse = lanes };
    struct wn_trainer *tr = trainer(&b, &o);
    struct wn_quant_opts qo = { .weight_max = 127 };
    must(wn_trainer_quant_enable(tr, &qo, &err), &err);
    float *x = random_rows(tr, N);
    uint32_t *y = random_labels(N, C);
    struct wn_train_data data = { .n = N, .row = x, .label = y };
    must(wn_trainer_bind_data(tr, &data, &err), &err);
    must(wn_trainer_quant_calibrate(tr, 1, &err), &err);
    wn_trainer_quant_observe(tr, false);
    for (size_t i = 0; i < N * I; i++) /* now some activations, and inputs, fall outside the observed ranges */
        x[i] *= 1.6f;
    must(wn_trainer_gradients(tr, x, y, NULL, &err), &err);
    struct wn_param *w1 = wn_trainer_param(tr, 0), *b1 = wn_trainer_param(tr, 1), *w2 = wn_trainer_param(tr, 2),
                    *b2 = wn_trainer_param(tr, 3);
    struct wn_quant_point qx, qh;
    check_true("two quantization points: input and hidden, not the scores", wn_trainer_n_quant_points(tr) == 2);
    wn_trainer_quant_point(tr, 0, &qx);
    wn_trainer_quant_point(tr, 1, &qh);
    float w1q[H * I], w2q[C * H], s1[H], s2[C];
    wn_quant_weights(w1->w, H, I, 127, w1q, s1);
    wn_quant_weights(w2->w, C, H, 127, w2q, s2);
    double dw1[H * I] = { 0 }, dw2[C * H] = { 0 }, db1[H] = { 0 }, worst = 0;
    int outside = 0;
    for (int n = 0; n < N; n++) {
        double xq[I], h[H], hq[H], zc[C], sum = 0;
        for (int i = 0; i < I; i++)
            xq[i] = fq((double)x[n * I + i], qx.scale, qx.zero);
        for (int k = 0; k < H; k++) {
            h[k] = (double)b1->w[k];
            for (int i = 0; i < I; i++)
                h[k] += xq[i] * (double)w1q[k * I + i];
            h[k] = fmax(h[k], 0);
            hq[k] = fq(h[k], qh.scale, qh.zero);
        }
        for (int c = 0; c < C; c++) {
            zc[c] = (double)b2->w[c];
            for (int k = 0; k < H; k++)
                zc[c] += hq[k] * (double)w2q[c * H + k];
            sum += exp(zc[c]);
        }
        for (int c = 0; c < C; c++)
            zc[c] = (exp(zc[c]) / sum - (c == (int)y[n])) / N;
        for (int k = 0; k < H; k++) {
            double d = 0;
            for (int c = 0; c < C; c++) {
                d += zc[c] * (double)w2q[c * H + k];
                dw2[c * H + k] += zc[c] * hq[k];
            }
            bool in = rint(h[k] * (double)(1.0f / qh.scale)) <= 255 - qh.zero;
            outside += !in;
            d = in && h[k] > 0 ? d : 0;
            db1[k] += d;
            for (int i = 0; i < I; i++)
                dw1[k * I + i] += d * xq[i];
        }
    }
    for (int k = 0; k < H * I; k++)
        worst = fmax(worst, fabs(dw1[k] - (double)w1->g[k]));
    for (int k = 0; k < C * H; k++)
        worst = fmax(worst, fabs(dw2[k] - (double)w2->g[k]));
    for (int k = 0; k < H; k++)
        worst = fmax(worst, fabs(db1[k] - (double)b1->g[k]));
    check(lanes ? "straight-through gradients, lanes" : "straight-through gradients, dense", worst, 1e-5);
    check_true("  some activations were out of range", outside > 0);
    wn_trainer_free(tr);
    free(x);
    free(y);
    build_done(&b);
}

static void whole_net(void)
{
    struct build b;
    struct winnow_err err;
    build_small_resnet(&b);
    struct wn_train_opts o = { .batch = 32, .momentum = 0.9f };
    struct wn_trainer *tr = trainer(&b, &o);
    random_masks(tr, 0.2);
    float *x = random_rows(tr, 64), before[64 * 10], after[64 * 10];
    uint32_t *y = random_labels(64, 10);
    struct wn_train_data data = { .n = 64, .row = x, .label = y };
    must(wn_trainer_bind_data(tr, &data, &err), &err);
    must(wn_trainer_predict(tr, x, 64, before, &err), &err);
    must(wn_trainer_quant_enable(tr, NULL, &err), &err);
    must(wn_trainer_quant_calibrate(tr, 2, &err), &err);
    wn_trainer_quant_simulate(tr, false);
    must(wn_trainer_predict(tr, x, 64, after, &err), &err);
    double worst = 0, coarse = 0, size = 0;
    for (size_t i = 0; i < 640; i++) {
        worst = fmax(worst, fabs((double)before[i] - (double)after[i]));
        size = fmax(size, fabs((double)before[i]));
    }
    check("quantization on, not simulated: batch norm folded, same scores", worst / size, 1e-4);
    wn_trainer_quant_simulate(tr, true);
    must(wn_trainer_predict(tr, x, 64, after, &err), &err);
    for (size_t i = 0; i < 640; i++)
        coarse = fmax(coarse, fabs((double)before[i] - (double)after[i]));
    check("  simulated: scores differ by rounding only", coarse / size, 0.2);
    check_true("  but they do differ", coarse / size > 1e-4);
    /* input, stem, three blocks with two convolutions and a sum each, two short-cuts, pooled features */
    check_true("  quantization points of a residual net", wn_trainer_n_quant_points(tr) == 1 + 1 + 3 * 3 + 2 + 1);
    wn_trainer_set_lr(tr, 0.005f);
    for (int s = 0; s < 3; s++)
        must(wn_trainer_step(tr, x, y, NULL, &err), &err);
    bool zero = true, named = true;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        for (size_t k = 0; p->mask && k < p->n; k++)
            zero &= p->mask[k] || p->w[k] == 0;
    }
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    must(wn_trainer_export_graph(tr, &arena, &g, &err), &err);
    for (unsigned i = 0; i < wn_trainer_n_quant_points(tr); i++) {
        struct wn_quant_point q;
        wn_trainer_quant_point(tr, i, &q);
        bool found = false;
        for (size_t v = 0; v < g.values.n; v++)
            found |= strcmp(g.values.at[v].name, q.value) == 0;
        named &= found && q.scale > 0;
    }
    check_true("  masks hold through folding and training", zero);
    check_true("  every point is a value of the exported graph", named);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    wn_trainer_free(tr);
    free(x);
    free(y);
    build_done(&b);
}

void test_quant(void)
{
    scales();
    straight_through(false);
    straight_through(true);
    whole_net();
}
