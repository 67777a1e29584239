/* train_bench.c: time of a training step, dense and sparse, on the small residual network (28x28x1, 301 330
 * parameters). Run by hand:   train_bench [batch] [threads] [steps]     one line per sparsity, process CPU time, best
 * and median train_bench --profile SPARSITY [batch]    time by operator kind and side train_bench --costs ns per
 * multiply-accumulate, the constants of rules_conv.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sparsify/train/train_impl.h"
#include "tests/grad/grad.h"

static uint64_t state = 88172645463325252u;

float rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)(state >> 40) * 0x1p-23f - 1.0f;
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void ok(enum winnow_status s, const struct winnow_err *err)
{
    if (s != WINNOW_OK) {
        fprintf(stderr, "%s\n", err->msg);
        exit(1);
    }
}

/** What global magnitude pruning to 95 % leaves per layer (1 - sparsity), in graph order of the prunable layers. */
static const double global95[] = { 0.34, 0.33, 0.22, 0.17, 0.41, 0.05, 0.006, 0.11 };

static void mask(struct wn_trainer *tr, double sparsity)
{
    struct winnow_err err;
    size_t layer = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        if (!p->prunable)
            continue;
        double keep = sparsity < 0 ? global95[layer % WN_COUNT(global95)] : 1 - sparsity;
        uint8_t *m = malloc(p->n);
        for (size_t k = 0; k < p->n; k++)
            m[k] = (double)rnd() * 0.5 + 0.5 < keep;
        ok(wn_trainer_set_mask(tr, p, m, &err), &err);
        free(m);
        layer++;
    }
}

struct run {
    const char *name;
    double sparsity; /* 0: no masks; -1: as global pruning to 95 % leaves them */
    bool no_sparse;
    struct wn_trainer *tr;
    double *ms;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct wn_trainer *make(const struct build *b, unsigned batch, unsigned threads, bool no_sparse)
{
    struct winnow_err err;
    struct wn_trainer *tr = NULL;
    struct wn_train_opts o = {
        .batch = batch, .threads = threads, .momentum = 0.9f, .nesterov = true, .no_sparse = no_sparse
    };
    ok(wn_trainer_new(&b->g, &o, &tr, &err), &err);
    wn_trainer_set_lr(tr, 0.01f);
    wn_trainer_set_weight_decay(tr, 5e-4f);
    return tr;
}

static void steps(struct build *b, unsigned batch, unsigned threads, unsigned n)
{
    struct run runs[] = {
        { "dense", 0, true, NULL, NULL },
        { "dense kernels, masks 95 %", 0.95, true, NULL, NULL },
        { "sparse 50 %", 0.5, false, NULL, NULL },
        { "sparse 80 %", 0.8, false, NULL, NULL },
        { "sparse 90 %", 0.9, false, NULL, NULL },
        { "sparse 95 %", 0.95, false, NULL, NULL },
        { "sparse 97.5 %", 0.975, false, NULL, NULL },
        { "sparse 95 % global", -1, false, NULL, NULL },
    };
    struct winnow_err err;
    size_t row = 28 * 28;
    double plan_ms = 0;
    float *x = malloc(batch * row * sizeof *x);
    uint32_t *y = malloc(batch * sizeof *y);
    for (size_t i = 0; i < batch * row; i++)
        x[i] = rnd();
    for (unsigned i = 0; i < batch; i++)
        y[i] = i % 10;
    for (size_t r = 0; r < WN_COUNT(runs); r++) {
        runs[r].tr = make(b, batch, threads, runs[r].no_sparse);
        runs[r].ms = calloc(n, sizeof(double));
        if (runs[r].sparsity != 0)
            mask(runs[r].tr, runs[r].sparsity);
        double t = cpu_ms();
        ok(wn_trainer_ready(runs[r].tr, &err), &err);
        plan_ms = cpu_ms() - t;
        ok(wn_trainer_step(runs[r].tr, x, y, NULL, &err), &err);
    }
    for (unsigned s = 0; s < n; s++)
        for (size_t r = 0; r < WN_COUNT(runs); r++) {
            double t = cpu_ms();
            ok(wn_trainer_step(runs[r].tr, x, y, NULL, &err), &err);
            runs[r].ms[s] = cpu_ms() - t;
        }
    double dense = 0;
    printf("batch %u, %u threads, %u steps, CPU ms per step\n", batch, threads, n);
    for (size_t r = 0; r < WN_COUNT(runs); r++) {
        struct wn_train_cost c;
        ok(wn_trainer_cost(runs[r].tr, &c, &err), &err);
        qsort(runs[r].ms, n, sizeof(double), by_value);
        dense = r == 0 ? runs[r].ms[0] : dense;
        printf("  %-28s best %7.2f  median %7.2f  x%.2f  predicted %6.1f  %u of %u layers sparse  %zu MiB\n",
               runs[r].name, runs[r].ms[0], runs[r].ms[n / 2], dense / runs[r].ms[0], c.step_ms, c.n_sparse, c.n_layers,
               c.plan_bytes >> 20);
        free(runs[r].ms);
        wn_trainer_free(runs[r].tr);
    }
    printf("  a plan after new masks: %.1f ms\n", plan_ms);
    free(x);
    free(y);
}

static void profile(struct build *b, double sparsity, unsigned batch)
{
    struct winnow_err err;
    struct wn_trainer *tr = make(b, batch, 1, false);
    mask(tr, sparsity);
    struct wn_net *net = &tr->net;
    ok(wn_trainer_ready(tr, &err), &err);
    float *in = wn_net_input(net);
    for (size_t i = 0; i < batch * wn_trainer_row_elements(tr); i++)
        in[i] = rnd();
    for (unsigned i = 0; i < batch; i++)
        tr->label[i] = i % 10;
    double *best = calloc(net->step.n, sizeof *best);
    for (int rep = 0; rep < 5; rep++) {
        wn_trainer_mode_train(tr);
        size_t right;
        for (size_t i = 0; i < net->step.n; i++) {
            const struct wn_net_step *st = &net->step.at[i];
            if (i == net->n_forward)
                wn_cross_entropy(wn_net_output(net), tr->label, batch, 10, 0, net->dlogits, &right);
            double t = cpu_ms();
            if (st->kind == WN_STEP_SUM)
                net->kern->add(st->y, st->a, st->b, wn_round_up(st->n, 16));
            else if (st->kind == WN_STEP_FORWARD)
                ok(net->plan.op.at[st->op].rule->forward(net, &net->plan.op.at[st->op], &err), &err);
            else
                ok(net->plan.op.at[st->op].rule->backward(net, &net->plan.op.at[st->op], &err), &err);
            t = cpu_ms() - t;
            best[i] = rep == 0 || t < best[i] ? t : best[i];
        }
    }
    double total = 0;
    for (size_t i = 0; i < net->step.n; i++) {
        const struct wn_net_step *st = &net->step.at[i];
        const struct wn_net_op *op = st->op >= 0 ? &net->plan.op.at[st->op] : NULL;
        printf("  %-9s %-20s %-28s %-6s %7.3f ms\n",
               st->kind == WN_STEP_FORWARD    ? "forward"
               : st->kind == WN_STEP_BACKWARD ? "backward"
                                              : "sum",
               op ? op->rule->name : "", op ? op->name : "",
               !op                         ? ""
               : op->side == WN_SIDE_LANES ? "lanes"
                                           : "dense",
               best[i]);
        total += best[i];
    }
    printf("  total %.2f ms\n", total);
    free(best);
    wn_trainer_free(tr);
}

/** A net of two equal layers: the second is measured with all three passes. */
static void cost_of(const char *name, int64_t c, int64_t h, int64_t k, int64_t stride, unsigned batch, double keep)
{
    double ns[2];
    struct winnow_err err;
    for (int side = 0; side < 2; side++) {
        struct build b;
        build_init(&b, c, h, h);
        if (h) {
            build_conv(&b, (struct conv){ .o = c, .k = 1 });
            build_conv(&b, (struct conv){ .o = c, .k = k, .stride = stride, .pad = k / 2 });
            build_gap(&b);
        } else {
            build_gemm(&b, c, true, false);
            build_gemm(&b, c, true, false);
        }
        build_gemm(&b, 10, true, true);
        build_output(&b);
        struct wn_trainer *tr = NULL;
        struct wn_train_opts o = { .batch = batch, .no_sparse = side == 0, .all_sparse = side == 1 };
        ok(wn_trainer_new(&b.g, &o, &tr, &err), &err);
        struct wn_param *w = wn_trainer_param(tr, 1);
        uint8_t *m = malloc(w->n);
        for (size_t i = 0; i < w->n; i++)
            m[i] = (double)rnd() * 0.5 + 0.5 < keep;
        ok(wn_trainer_set_mask(tr, w, side ? m : NULL, &err), &err);
        ok(wn_trainer_ready(tr, &err), &err);
        struct wn_net *net = &tr->net;
        size_t at = 0, seen = 0;
        for (size_t i = 0; i < net->plan.op.n; i++)
            if ((net->plan.op.at[i].rule == &wn_rule_conv || net->plan.op.at[i].rule == &wn_rule_linear) && seen++ == 1)
                at = i;
        wn_trainer_mode_train(tr);
        double best = 1e30;
        for (int rep = 0; rep < 6; rep++) {
            double t = cpu_ms();
            ok(net->plan.op.at[at].rule->forward(net, &net->plan.op.at[at], &err), &err);
            ok(net->plan.op.at[at].rule->backward(net, &net->plan.op.at[at], &err), &err);
            t = cpu_ms() - t;
            best = t < best ? t : best;
        }
        ns[side] = best * 1e6 / (w->macs * batch * (side ? (double)w->kept / (double)w->n : 1));
        free(m);
        wn_trainer_free(tr);
        build_done(&b);
    }
    printf("  %-24s batch %4u  dense %.3f  lanes %.3f ns per MAC: sparse from %.0f %% zeros\n", name, batch, ns[0],
           ns[1], 100 * (1 - ns[0] / ns[1]));
}

static void costs(void)
{
    cost_of("conv 3x3 24 @14", 24, 14, 3, 1, 128, 0.3);
    cost_of("conv 3x3 48 @7", 48, 7, 3, 1, 128, 0.2);
    cost_of("conv 3x3 144 @4", 144, 4, 3, 1, 128, 0.1);
    cost_of("conv 3x3 16 @32", 16, 32, 3, 1, 64, 0.2);
    cost_of("conv 3x3 64 @32", 64, 32, 3, 1, 64, 0.1);
    cost_of("conv 3x3 128 @16", 128, 16, 3, 1, 64, 0.1);
    cost_of("conv 3x3 256 @8", 256, 8, 3, 1, 64, 0.1);
    cost_of("conv 1x1 64 @16", 64, 16, 1, 1, 64, 0.2);
    cost_of("conv 3x3 s2 48 @14", 48, 14, 3, 2, 128, 0.2);
    cost_of("linear 384", 384, 0, 1, 1, 1024, 0.1);
    cost_of("linear 1024", 1024, 0, 1, 1, 256, 0.1);
}

int main(int argc, char **argv)
{
    struct build b;
    if (argc > 1 && strcmp(argv[1], "--costs") == 0) {
        costs();
        return 0;
    }
    build_small_resnet(&b);
    if (argc > 1 && strcmp(argv[1], "--profile") == 0)
        profile(&b, argc > 2 ? atof(argv[2]) : 0.95, argc > 3 ? (unsigned)atoi(argv[3]) : 128);
    else
        steps(&b, argc > 1 ? (unsigned)atoi(argv[1]) : 128, argc > 2 ? (unsigned)atoi(argv[2]) : 1,
              argc > 3 ? (unsigned)atoi(argv[3]) : 7);
    build_done(&b);
    return 0;
}
