/* surgery.c: changes to the graph leave the function as promised; names; export and import round trips. */
#include "tests/grad/grad.h"

static double difference(struct wn_trainer *a, struct wn_trainer *b, const float *x, size_t n)
{
    struct winnow_err err;
    size_t k = wn_trainer_n_classes(a);
    float *p = malloc(n * k * sizeof *p), *q = malloc(n * k * sizeof *q);
    must(wn_trainer_predict(a, x, n, p, &err), &err);
    must(wn_trainer_predict(b, x, n, q, &err), &err);
    double worst = 0, size = 1e-9;
    for (size_t i = 0; i < n * k; i++) {
        worst = fmax(worst, fabs((double)p[i] - (double)q[i]));
        size = fmax(size, fabs((double)p[i]));
    }
    free(p);
    free(q);
    return worst / size;
}

static void batch_norm(void)
{
    struct build b;
    struct winnow_err err;
    build_small_resnet(&b);
    struct wn_train_opts o = { .batch = 16 };
    struct wn_trainer *a = trainer(&b, &o), *t = trainer(&b, &o);
    float *x = random_rows(a, 48);
    uint32_t *y = random_labels(48, 10);
    struct wn_train_data data = { .n = 48, .row = x, .label = y };
    unsigned n_bn = wn_trainer_n_bn(a);
    must(wn_trainer_bind_data(t, &data, &err), &err);
    check_true("measuring without data is a conflict", wn_trainer_reestimate_bn(a, 1, &err) == WINNOW_E_CONFLICT);
    random_masks(t, 0.5);
    struct wn_param *p = wn_trainer_find_param(t, "conv3.weight"), *q = wn_trainer_find_param(a, "conv3.weight");
    for (unsigned i = 0; i < wn_trainer_n_params(t); i++)
        memcpy(wn_trainer_param(a, i)->w, wn_trainer_param(t, i)->w, wn_trainer_param(t, i)->n * sizeof(float));
    check_true("parameters are found by the initializer's name", p && q && strcmp(p->layer, "conv3") == 0);
    size_t kept = p->kept;
    must(wn_trainer_fold_bn(t, &err), &err);
    check("folding batch norm leaves the function", difference(a, t, x, 48), 1e-5);
    p = wn_trainer_find_param(t, "conv3.weight");
    check_true("  none is left, masks are kept", wn_trainer_n_bn(t) == 0 && p && p->mask && p->kept == kept);
    check_true("  the bias is named after its layer", wn_trainer_find_param(t, "conv3.bias") != NULL);
    must(wn_trainer_insert_bn(t, 3, &err), &err);
    check("inserting batch norm leaves the function", difference(a, t, x, 48), 1e-5);
    check_true("  one per convolution", wn_trainer_n_bn(t) == n_bn);
    /* running statistics that are wrong are put right by re-estimation */
    struct wn_param *var = wn_trainer_find_param(t, "conv0.bn.running_var");
    for (size_t k = 0; var && k < var->n; k++)
        var->w[k] *= 50;
    check_true("  wrong statistics show", difference(a, t, x, 48) > 1e-2);
    must(wn_trainer_reestimate_bn(t, 3, &err), &err);
    check("  re-estimation repairs them", difference(a, t, x, 48), 5e-2);
    wn_trainer_free(a);
    wn_trainer_free(t);
    free(x);
    free(y);
    build_done(&b);
}

static void round_trip(void)
{
    struct build b;
    struct winnow_err err;
    build_init(&b, 9, 0, 0);
    build_matmul(&b, 12, true);
    build_relu(&b);
    build_gemm(&b, 7, false, true);
    build_output(&b);
    struct wn_train_opts o = { .batch = 16, .momentum = 0.9f };
    struct wn_trainer *t = trainer(&b, &o), *u = NULL;
    random_masks(t, 0.5);
    wn_trainer_set_lr(t, 0.1f);
    float *x = random_rows(t, 16);
    uint32_t *y = random_labels(16, 7);
    for (int i = 0; i < 3; i++)
        must(wn_trainer_step(t, x, y, NULL, &err), &err);
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    must(wn_trainer_export_graph(t, &arena, &g, &err), &err);
    must(wn_trainer_new(&g, &o, &u, &err), &err);
    check("export, import: same function, transposed weights too", difference(t, u, x, 16), 1e-6);
    check_true("names from node paths",
               wn_trainer_find_param(t, "net.MatMul_0.weight") && wn_trainer_find_param(t, "net.MatMul_0.bias"));
    must(wn_trainer_replace_head(t, 4, &err), &err);
    check_true("a new head has the new number of classes", wn_trainer_n_classes(t) == 4);
    y[0] = y[1] = 3;
    for (int i = 0; i < 16; i++)
        y[i] %= 4;
    must(wn_trainer_step(t, x, y, NULL, &err), &err);
    wn_graph_done(&g);
    must(wn_trainer_export_graph(t, &arena, &g, &err), &err);
    check_true("  and the exported output its shape", g.values.at[g.outputs.at[0]].type.dim[1] == 4);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    wn_trainer_free(t);
    wn_trainer_free(u);
    free(x);
    free(y);
    build_done(&b);
}

/** A net whose scores are the pooled output of a convolution. */
static void conv_head(void)
{
    struct build b;
    struct winnow_err err;
    build_init(&b, 2, 8, 8);
    build_conv(&b, (struct conv){ .o = 6, .k = 3, .pad = 1, .bias = true });
    build_relu(&b);
    build_conv(&b, (struct conv){ .o = 5, .k = 1, .bias = true });
    build_gap(&b);
    build_output(&b);
    struct wn_train_opts o = { .batch = 16 };
    struct wn_trainer *t = trainer(&b, &o);
    float *x = random_rows(t, 16);
    uint32_t *y = random_labels(16, 3);
    struct wn_train_data data = { .n = 16, .row = x, .label = y };
    must(wn_trainer_bind_data(t, &data, &err), &err);
    must(wn_trainer_insert_bn(t, 1, &err), &err);
    check_true("no batch norm on the scores", wn_trainer_n_bn(t) == 1);
    must(wn_trainer_replace_head(t, 3, &err), &err);
    must(wn_trainer_step(t, x, y, NULL, &err), &err);
    check_true("a convolution as head is replaced", wn_trainer_n_classes(t) == 3);
    wn_trainer_free(t);
    free(x);
    free(y);
    build_done(&b);
}

static void names(void)
{
    static const struct {
        const char *node, *want;
    } cases[] = {
        { "/encoder/layer.0/query/MatMul", "encoder.layer.0.query.weight" },
        { "/layer1/layer1.0/conv1/MatMul", "layer1.0.conv1.weight" },
        { "MatMul_7", "MatMul_7.weight" },
        { "/fc/MatMul", "fc.weight" },
    };
    bool all = true;
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct build b;
        build_init(&b, 4, 0, 0);
        build_matmul(&b, 3, false);
        b.g.nodes.at[0].name = cases[i].node;
        build_output(&b);
        struct wn_trainer *t = trainer(&b, NULL);
        if (!wn_trainer_find_param(t, cases[i].want)) {
            printf("     '%s' gave '%s'\n", cases[i].node, wn_trainer_param(t, 0)->name);
            all = false;
        }
        wn_trainer_free(t);
        build_done(&b);
    }
    check_true("layer names from node paths", all);
}

static void refusals(void)
{
    struct build b;
    struct winnow_err err;
    struct wn_trainer *t = NULL;
    build_init(&b, 4, 0, 0);
    build_node(&b, "Erfc", NULL, 0);
    build_gemm(&b, 3, true, true);
    build_output(&b);
    check_true("an operator without a gradient rule is named",
               wn_trainer_new(&b.g, NULL, &t, &err) == WINNOW_E_UNSUPPORTED && strstr(err.msg, "Erfc"));
    build_done(&b);
    build_init(&b, 4, 0, 0);
    int64_t one = 1;
    wn_vid x = b.at;
    b.at = build_const(&b, "c", 1, &one, 1);
    build_node(&b, "Clip", &x, 1);
    build_output(&b);
    check_true("a constant clipped by an activation is refused",
               wn_trainer_new(&b.g, NULL, &t, &err) == WINNOW_E_UNSUPPORTED);
    build_done(&b);
    build_small_resnet(&b);
    struct wn_train_opts o = { .max_memory_bytes = 1 << 20 };
    must(wn_trainer_new(&b.g, &o, &t, &err), &err);
    struct wn_train_cost cost;
    check_true("a plan over the memory limit is refused", wn_trainer_cost(t, &cost, &err) == WINNOW_E_TOO_LARGE);
    wn_trainer_free(t);
    build_done(&b);
}

void test_surgery(void)
{
    batch_norm();
    round_trip();
    conv_head();
    names();
    refusals();
}
