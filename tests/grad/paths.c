/* paths.c: the sparse path equals the dense path with masks; steps repeat bit for bit; the optimizer's formulas. */
#include "tests/grad/grad.h"

/** Largest relative L2 distance of any parameter, or of its gradient. */
static double distance(struct wn_trainer *a, struct wn_trainer *b, bool gradients)
{
    double worst = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(a); i++) {
        struct wn_param *p = wn_trainer_param(a, i), *q = wn_trainer_param(b, i);
        const float *x = gradients ? p->g : p->w, *y = gradients ? q->g : q->w;
        double d = 0, n = 0;
        for (size_t k = 0; x && k < p->n; k++) {
            d += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
            n += (double)y[k] * (double)y[k];
        }
        worst = fmax(worst, sqrt(d) / (sqrt(n) + 1e-6));
    }
    return worst;
}

static void copy_masks(struct wn_trainer *to, struct wn_trainer *from)
{
    struct winnow_err err;
    for (unsigned i = 0; i < wn_trainer_n_params(from); i++)
        if (wn_trainer_param(from, i)->mask)
            must(wn_trainer_set_mask(to, wn_trainer_param(to, i), wn_trainer_param(from, i)->mask, &err), &err);
}

/** A freshly pruned net is badly conditioned (channels of almost no variance, values next to a Relu's kink), so that
 * two right computations may differ; other inputs are drawn then. A wrong one differs on all of them. */
static void sparse_equals_dense(void)
{
    struct build b;
    struct winnow_err err;
    build_small_resnet(&b);
    struct wn_train_opts o = { .batch = 32, .threads = 1, .momentum = 0.9f, .nesterov = true, .no_sparse = true };
    struct wn_trainer *dense = trainer(&b, &o);
    o.no_sparse = false;
    o.all_sparse = true;
    struct wn_trainer *lanes = trainer(&b, &o);
    o.all_sparse = false;
    struct wn_trainer *mixed = trainer(&b, &o);
    random_masks(dense, 0.1);
    copy_masks(lanes, dense);
    copy_masks(mixed, dense);
    float *x = random_rows(dense, 32), loss[3];
    uint32_t *y = random_labels(32, 10);
    struct wn_trainer *all[3] = { dense, lanes, mixed };
    double lanes_err = INFINITY, mixed_err = INFINITY, loss_err = INFINITY;
    for (int draw = 0; draw < 6 && !(lanes_err <= 1e-4 && mixed_err <= 1e-4); draw++) {
        for (size_t i = 0; i < 32 * wn_trainer_row_elements(dense); i++)
            x[i] = rnd();
        for (int t = 0; t < 3; t++) {
            wn_trainer_set_lr(all[t], 0.05f);
            wn_trainer_set_weight_decay(all[t], 1e-3f);
            must(wn_trainer_gradients(all[t], x, y, &loss[t], &err), &err);
        }
        lanes_err = distance(lanes, dense, true);
        mixed_err = distance(mixed, dense, true);
        loss_err = fabs((double)loss[1] - (double)loss[0]) / (double)loss[0];
    }
    check("sparse path = dense path with masks: loss", loss_err, 1e-5);
    check("sparse path = dense path with masks: gradients", lanes_err, 1e-4);
    check("path by cost = dense path with masks: gradients", mixed_err, 1e-4);
    for (int t = 0; t < 3; t++)
        must(wn_trainer_step(all[t], x, y, NULL, &err), &err);
    check("sparse path = dense path with masks: weights after a step", distance(lanes, dense, false), 1e-5);
    bool zero = true;
    for (int t = 0; t < 3; t++)
        for (unsigned i = 0; i < wn_trainer_n_params(all[t]); i++) {
            struct wn_param *p = wn_trainer_param(all[t], i);
            for (size_t k = 0; p->mask && k < p->n; k++)
                zero &= p->mask[k] || (p->w[k] == 0 && p->v[k] == 0 && p->g[k] == 0);
        }
    check_true("pruned weights, momentum and gradients are exactly 0", zero);
    for (int t = 0; t < 3; t++)
        wn_trainer_free(all[t]);
    free(x);
    free(y);
    build_done(&b);
}

/** Same bits twice, also while the sparse kernels run on one and on two threads. */
static void deterministic(void)
{
    struct build b;
    struct winnow_err err;
    build_small_resnet(&b);
    struct wn_trainer *t[4];
    for (int i = 0; i < 4; i++) {
        struct wn_train_opts o = { .batch = 32, .threads = i == 3 ? 1 : 2, .momentum = 0.9f, .seed = 5 };
        o.all_sparse = i >= 2;
        t[i] = trainer(&b, &o);
        wn_trainer_set_lr(t[i], 0.05f);
    }
    random_masks(t[0], 0.3);
    for (int i = 1; i < 4; i++)
        copy_masks(t[i], t[0]);
    float *x = random_rows(t[0], 32);
    uint32_t *y = random_labels(32, 10);
    for (int i = 0; i < 4; i++)
        for (int s = 0; s < 3; s++)
            must(wn_trainer_step(t[i], x, y, NULL, &err), &err);
    bool same = true, threads = true;
    for (unsigned i = 0; i < wn_trainer_n_params(t[0]); i++) {
        size_t n = wn_trainer_param(t[0], i)->n * sizeof(float);
        same &= memcmp(wn_trainer_param(t[0], i)->w, wn_trainer_param(t[1], i)->w, n) == 0;
        threads &= memcmp(wn_trainer_param(t[2], i)->w, wn_trainer_param(t[3], i)->w, n) == 0;
    }
    check_true("three steps repeat bit for bit", same);
    check_true("sparse kernels: one thread and two give the same bits", threads);
    for (int i = 0; i < 4; i++)
        wn_trainer_free(t[i]);
    free(x);
    free(y);
    build_done(&b);
}

/** One layer, two steps of SGD worked out in double. */
static void optimizer(void)
{
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        struct build b;
        struct winnow_err err;
        build_init(&b, 6, 0, 0);
        build_gemm(&b, 3, true, true);
        build_output(&b);
        struct wn_train_opts o = { .batch = 8, .momentum = 0.9f, .nesterov = nesterov };
        struct wn_trainer *tr = trainer(&b, &o);
        wn_trainer_set_lr(tr, 0.1f);
        wn_trainer_set_weight_decay(tr, 0.01f);
        struct wn_param *p = wn_trainer_find_param(tr, "fc0.weight");
        double w[18], v[18] = { 0 }, worst = 0;
        float *x = random_rows(tr, 8);
        uint32_t *y = random_labels(8, 3);
        for (size_t k = 0; k < 18; k++)
            w[k] = (double)p->w[k];
        for (int s = 0; s < 3; s++) {
            must(wn_trainer_step(tr, x, y, NULL, &err), &err);
            for (size_t k = 0; k < 18; k++) {
                double d = (double)p->g[k] + 0.01 * w[k];
                v[k] = 0.9 * v[k] + d;
                w[k] -= 0.1 * (nesterov ? d + 0.9 * v[k] : v[k]);
                worst = fmax(worst, fabs(w[k] - (double)p->w[k]));
            }
        }
        check(nesterov ? "SGD with Nesterov momentum and decay" : "SGD with momentum and decay", worst, 1e-6);
        wn_trainer_free(tr);
        free(x);
        free(y);
        build_done(&b);
    }
}

/** Loss and gradient of smoothed cross entropy against its definition. */
static void loss(void)
{
    struct build b;
    struct winnow_err err;
    build_init(&b, 4, 0, 0);
    build_gemm(&b, 5, true, true);
    build_output(&b);
    struct wn_train_opts o = { .batch = 4, .label_smoothing = 0.1f };
    struct wn_trainer *tr = trainer(&b, &o);
    float *x = random_rows(tr, 4), z[20], got;
    uint32_t *y = random_labels(4, 5);
    must(wn_trainer_predict(tr, x, 4, z, &err), &err);
    must(wn_trainer_gradients(tr, x, y, &got, &err), &err);
    double want = 0, db[5] = { 0 }, worst = 0;
    for (int r = 0; r < 4; r++) {
        double sum = 0;
        for (int c = 0; c < 5; c++)
            sum += exp((double)z[r * 5 + c]);
        for (int c = 0; c < 5; c++) {
            double t = (c == (int)y[r] ? 0.9 : 0) + 0.02, p = exp((double)z[r * 5 + c]) / sum;
            want -= t * log(p) / 4;
            db[c] += (p - t) / 4;
        }
    }
    struct wn_param *bias = wn_trainer_find_param(tr, "fc0.bias");
    for (int c = 0; c < 5; c++)
        worst = fmax(worst, fabs(db[c] - (double)bias->g[c]));
    check("cross entropy with label smoothing", fmax(fabs(want - (double)got), worst), 1e-5);
    wn_trainer_free(tr);
    free(x);
    free(y);
    build_done(&b);
}

void test_paths(void)
{
    sparse_equals_dense();
    deterministic();
    optimizer();
    loss();
}
