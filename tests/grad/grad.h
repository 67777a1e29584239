/* grad.h: the harness of the gradient checks: seeded, one line per check, nets built by hand. */
#ifndef WN_TEST_GRAD_H
#define WN_TEST_GRAD_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/graph.h"
#include "sparsify/train/train.h"

/** Report one check: passed when err <= limit. */
void check(const char *name, double err, double limit);
void check_true(const char *name, bool ok);
void left_out(const char *name, const char *why);

float rnd(void); /* uniform in -1 … 1, from the seed */
unsigned rnd_below(unsigned n);

/** A graph being built; its input is (N, c, h, w) or (N, c). */
struct build {
    struct wn_arena arena;
    struct wn_graph g;
    wn_vid at; /* the value built last */
    unsigned n;
    int64_t c, h, w; /* its shape; h = 0: rank 2 */
};
void build_init(struct build *b, int64_t c, int64_t h, int64_t w);
void build_done(struct build *b);
wn_vid build_const(struct build *b, const char *name, unsigned rank, const int64_t *dim, float scale);
wn_vid build_ints(struct build *b, size_t n, const int64_t *v);
/** Node `type` of b->at (and `more`, up to a WN_NONE), which becomes b->at; returns it for attributes. Shape unchanged.
 */
struct wn_node *build_node(struct build *b, const char *type, const wn_vid *more, unsigned n_more);
struct conv {
    int64_t o, k, stride, pad, group, dilation;
    bool bias;
};
void build_conv(struct build *b, struct conv cv);
void build_bn(struct build *b);
void build_relu(struct build *b);
void build_gap(struct build *b); /* GlobalAveragePool and Flatten */
void build_flatten(struct build *b);
void build_gemm(struct build *b, int64_t o, bool trans_b, bool bias);
void build_matmul(struct build *b, int64_t o, bool bias);
void build_add(struct build *b, wn_vid other);
void build_output(struct build *b);

struct wn_trainer *trainer(const struct build *b, const struct wn_train_opts *opts);
/** Random rows (batch, elements) and labels. */
float *random_rows(const struct wn_trainer *tr, unsigned batch);
uint32_t *random_labels(unsigned batch, unsigned classes);
/** Keep about `density` of every weight that may be masked. */
void random_masks(struct wn_trainer *tr, double density);
/** Worst relative error of the slopes of the loss along every parameter's gradient, and along a random direction,
 * against central differences; x NULL: the first batch of the bound data. */
double worst_slope_at(struct wn_trainer *tr, const float *x, const uint32_t *y);
void must(enum winnow_status s, const struct winnow_err *err);

/** The small residual network of the accuracy experiments: 28x28x1, 301 330 parameters. */
void build_small_resnet(struct build *b);

void test_kernels(void);
void test_rules(void);
void test_paths(void);
void test_quant(void);
void test_resume(void);
void test_surgery(void);
void test_models(void);
void test_rows(void);
void test_encoder(void);
void test_teach(void);

#endif
