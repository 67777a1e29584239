/* encoder_bench.c: time of a training step of an encoder, dense and sparse, AdamW, process CPU time. Run by hand:
 *   encoder_bench MODEL.onnx [batch] [length] [threads] [steps]          a line per sparsity, taken in turn
 *   encoder_bench --profile MODEL.onnx SPARSITY [batch] [length]         time by operator kind, side and direction */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "engine/graph/onnx.h"
#include "sparsify/kernels/rng.h"
#include "sparsify/train/train_impl.h"

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void ok(enum winnow_status s, const struct winnow_err *err)
{
    if (s == WINNOW_OK)
        return;
    fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

/** Full rows of random ids (below 1000), masks of ones, types of zeros. */
struct rows {
    struct wn_train_tokens t;
    struct wn_train_data d;
    const char *name[WN_TRAIN_MAX_INPUTS];
    const int64_t *id[WN_TRAIN_MAX_INPUTS];
    int64_t pad[WN_TRAIN_MAX_INPUTS];
};

static void rows_init(struct rows *r, const struct wn_graph *g, unsigned batch, unsigned length)
{
    size_t *start = calloc(batch + 1u, sizeof *start), n = (size_t)batch * length;
    uint32_t *label = calloc(batch, sizeof *label);
    memset(r, 0, sizeof *r);
    for (unsigned i = 0; i < batch; i++) {
        start[i + 1] = (size_t)(i + 1) * length;
        label[i] = i % 2;
    }
    for (size_t k = 0; k < g->inputs.n; k++) {
        int64_t *v = calloc(n, sizeof *v);
        r->name[k] = g->values.at[g->inputs.at[k]].name;
        for (size_t i = 0; i < n; i++)
            v[i] = strstr(r->name[k], "mask")   ? 1
                   : strstr(r->name[k], "type") ? 0
                                                : (int64_t)wn_rng_below(wn_rng(1, k, i, 0), 1000);
        r->id[k] = v;
    }
    r->t = (struct wn_train_tokens){ (unsigned)g->inputs.n, r->name, r->id, r->pad, start, 0 };
    r->d = (struct wn_train_data){ .n = batch, .label = label, .tokens = &r->t };
}

static struct wn_trainer *make(const struct wn_graph *g, const struct rows *r, unsigned batch, unsigned threads,
                               double sparsity, bool no_sparse)
{
    struct winnow_err err;
    struct wn_trainer *tr = NULL;
    struct wn_train_opts o = { .batch = batch, .threads = threads, .optimizer = WN_OPT_ADAMW, .no_sparse = no_sparse };
    ok(wn_trainer_new(g, &o, &tr, &err), &err);
    wn_trainer_set_lr(tr, 1e-5f);
    for (unsigned i = 0; i < wn_trainer_n_params(tr) && sparsity > 0; i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        if (!p->prunable)
            continue;
        uint8_t *m = malloc(p->n);
        for (size_t k = 0; k < p->n; k++)
            m[k] = (double)wn_rng_unit(wn_rng(2, i, k, 0)) >= sparsity;
        ok(wn_trainer_set_mask(tr, p, m, &err), &err);
        free(m);
    }
    ok(wn_trainer_bind_data(tr, &r->d, &err), &err);
    return tr;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void steps(const struct wn_graph *g, unsigned batch, unsigned length, unsigned threads, unsigned n)
{
    static const struct {
        const char *name;
        double sparsity;
        bool no_sparse;
    } kinds[] = { { "dense", 0, true },
                  { "dense kernels, 90 % masked", 0.9, true },
                  { "sparse 80 %", 0.8, false },
                  { "sparse 90 %", 0.9, false },
                  { "sparse 95 %", 0.95, false } };
    struct winnow_err err;
    struct wn_trainer *tr[WN_COUNT(kinds)];
    double *ms[WN_COUNT(kinds)], dense = 0;
    struct rows r;
    rows_init(&r, g, batch, length);
    for (size_t k = 0; k < WN_COUNT(kinds); k++) {
        tr[k] = make(g, &r, batch, threads, kinds[k].sparsity, kinds[k].no_sparse);
        ms[k] = calloc(n, sizeof *ms[k]);
        ok(wn_trainer_step(tr[k], NULL, NULL, NULL, &err), &err);
    }
    for (unsigned s = 0; s < n; s++)
        for (size_t k = 0; k < WN_COUNT(kinds); k++) {
            double t = cpu_ms();
            ok(wn_trainer_step(tr[k], NULL, NULL, NULL, &err), &err);
            ms[k][s] = cpu_ms() - t;
        }
    printf("batch %u, %u tokens, %u threads, %u steps, CPU ms per step\n", batch, length, threads, n);
    for (size_t k = 0; k < WN_COUNT(kinds); k++) {
        struct wn_train_cost c;
        ok(wn_trainer_cost(tr[k], &c, &err), &err);
        qsort(ms[k], n, sizeof *ms[k], by_value);
        dense = k == 0 ? ms[k][0] : dense;
        printf("  %-28s best %7.2f  median %7.2f  x%.2f  predicted %6.1f  %u of %u layers sparse  %zu MiB\n",
               kinds[k].name, ms[k][0], ms[k][n / 2], dense / ms[k][0], c.step_ms, c.n_sparse, c.n_layers,
               c.plan_bytes >> 20);
        free(ms[k]);
        wn_trainer_free(tr[k]);
    }
}

/** Sum a step's time into the line of its kind. */
struct line {
    const char *rule;
    enum wn_side side;
    enum wn_net_step_kind kind;
    double ms;
    unsigned n;
};

static void profile(const struct wn_graph *g, double sparsity, unsigned batch, unsigned length)
{
    struct winnow_err err;
    struct line line[128] = { 0 };
    size_t n_lines = 0, right;
    struct rows r;
    rows_init(&r, g, batch, length);
    struct wn_trainer *tr = make(g, &r, batch, 1, sparsity, false);
    ok(wn_trainer_gradients(tr, NULL, NULL, NULL, &err), &err); /* inputs and plan are there */
    struct wn_net *net = &tr->net;
    for (int rep = 0; rep < 3; rep++)
        for (size_t i = 0; i < net->step.n; i++) {
            const struct wn_net_step *st = &net->step.at[i];
            struct wn_net_op *op = st->op >= 0 ? &net->plan.op.at[st->op] : NULL;
            if (i == net->n_forward)
                wn_cross_entropy(wn_net_output(net), tr->label, batch, wn_trainer_n_classes(tr), 0, net->dlogits,
                                 &right);
            double t = cpu_ms();
            if (!op)
                net->kern->add(st->y, st->a, st->b, wn_round_up(st->n, 16));
            else if (st->kind == WN_STEP_FORWARD)
                ok(op->rule->forward(net, op, &err), &err);
            else
                ok(op->rule->backward(net, op, &err), &err);
            t = cpu_ms() - t;
            const char *rule = op ? op->rule->name : "Sum of gradients";
            enum wn_side side = op ? op->side : WN_SIDE_DENSE;
            size_t at = 0;
            while (at < n_lines && (line[at].rule != rule || line[at].side != side || line[at].kind != st->kind))
                at++;
            n_lines = WN_MAX(n_lines, at + 1);
            line[at].rule = rule;
            line[at].side = side;
            line[at].kind = st->kind;
            line[at].ms += t / 3;
            line[at].n += rep == 0;
        }
    double total = 0;
    for (size_t i = 0; i < n_lines; i++) {
        printf("  %-20s %-6s %-8s %4u x %8.3f ms\n", line[i].rule, line[i].side == WN_SIDE_LANES ? "lanes" : "dense",
               line[i].kind == WN_STEP_FORWARD ? "forward" : "backward", line[i].n, line[i].ms);
        total += line[i].ms;
    }
    double t = cpu_ms();
    wn_trainer_optimize(tr);
    printf("  optimizer %.2f ms, steps %.2f ms\n", cpu_ms() - t, total);
    wn_trainer_free(tr);
}

int main(int argc, char **argv)
{
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    struct winnow_err err;
    bool prof = argc > 1 && strcmp(argv[1], "--profile") == 0;
    const char *file = argc > 1 + prof ? argv[1 + prof] : NULL;
    if (!file || (prof && argc < 4)) {
        fprintf(stderr, "usage: encoder_bench [--profile] MODEL.onnx …\n");
        return 2;
    }
    ok(wn_onnx_read_file(file, NULL, &arena, &g, &err), &err);
    unsigned v[4] = { 16, 64, 1, 7 };
    for (int i = 0; i < 4 && 2 + 2 * prof + i < argc; i++)
        v[i] = (unsigned)atoi(argv[2 + 2 * prof + i]);
    if (prof)
        profile(&g, atof(argv[3]), v[0], v[1]);
    else
        steps(&g, v[0], v[1], v[2], v[3]);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    return 0;
}
