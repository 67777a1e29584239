/* loss.c: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss over axis 1 (onnx/defs/math/defs.cc). Sums are kept in
 * f64. */
#include <math.h>
#include <string.h>
#include "engine/ops/impl.h"

enum how { MEAN, SUM, NONE };

static enum winnow_status reduction_of(const struct wn_node *node, enum how *ret, struct winnow_err *err)
{
    static const char *const names[] = { "mean", "sum", "none" };
    for (unsigned i = 0; i < WN_COUNT(names); i++)
        if (wn_node_str_is(node, "reduction", "mean", names[i])) {
            *ret = (enum how)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute reduction");
}

/* Scores [N, C, d...], labels [N, d...], weights [C]. */
static enum winnow_status infer_loss(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *label = &in->in[1];
    enum how how = MEAN;
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    WN_TRY(wn_want_rank(in, 2, 1, 1, err));
    WN_TRY(reduction_of(in->node, &how, err));
    in->out[0].dtype = x->dtype;
    if (x->rank >= 0 && in->n_in > 2 && in->given[2] && in->in[2].rank == 1)
        WN_TRY(wn_dim_same(x->dim[1], in->in[2].dim[0], "classes and weights", &same, err));
    if (x->rank >= 0 && label->rank >= 0) {
        if (label->rank != x->rank - 1)
            return wn_bad(err, "labels have rank %d, must have %d", label->rank, x->rank - 1);
        for (int a = 0; a < label->rank; a++)
            WN_TRY(wn_dim_same(label->dim[a], x->dim[a ? a + 1 : 0], "scores and labels", &same, err));
    }
    if (how != NONE) {
        in->out[0].rank = 0;
        return WINNOW_OK;
    }
    if (x->rank < 0)
        return WINNOW_OK;
    in->out[0].rank = x->rank - 1;
    in->out[0].dim[0] = x->dim[0];
    for (int a = 2; a < x->rank; a++)
        in->out[0].dim[a - 1] = x->dim[a];
    return WINNOW_OK;
}

enum winnow_status wn_infer_nll_loss(struct wn_infer *in, struct winnow_err *err)
{
    return infer_loss(in, err);
}

enum winnow_status wn_infer_sce_loss(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(infer_loss(in, err));
    if (in->n_out > 1)
        in->out[1] = in->in[0];
    return WINNOW_OK;
}

struct loss {
    const struct wn_tensor *x, *label, *weight;
    int64_t n, classes, inner; /* scores [n][classes][inner] */
    bool ignore;
    int64_t ignored;
    double *log_prob; /* [n][classes][inner], or NULL: x holds them */
};

static void loss_init(struct loss *l, const struct wn_run *run)
{
    *l = (struct loss){ .x = run->in[0], .label = run->in[1], .inner = 1 };
    l->weight = run->n_in > 2 ? run->in[2] : NULL;
    l->n = l->x->dim[0];
    l->classes = l->x->dim[1];
    for (unsigned a = 2; a < l->x->rank; a++)
        l->inner *= l->x->dim[a];
    l->ignore = wn_node_attr(run->node, "ignore_index") != NULL;
    l->ignored = wn_node_int(run->node, "ignore_index", 0);
}

/* One place's loss, and the weight of its class. */
static enum winnow_status one(const struct loss *l, int64_t n, int64_t d, double *loss, double *weight,
                              struct winnow_err *err)
{
    int64_t c = wn_scalar_int(l->label, n * l->inner + d);
    *loss = *weight = 0;
    if (l->ignore && c == l->ignored)
        return WINNOW_OK;
    if (c < 0 || c >= l->classes)
        return wn_bad(err, "label %lld of %lld classes", (long long)c, (long long)l->classes);
    int64_t at = (n * l->classes + c) * l->inner + d;
    *weight = l->weight ? wn_scalar(l->weight, c) : 1;
    *loss = -*weight * (l->log_prob ? l->log_prob[at] : wn_scalar(l->x, at));
    return WINNOW_OK;
}

static void put(struct wn_tensor *y, int64_t at, double v)
{
    wn_store(y->dtype, y->data, at, 1, WN_CLS_F64, &v);
}

static enum winnow_status run_loss(const struct loss *l, struct wn_run *run, struct winnow_err *err)
{
    enum how how = MEAN;
    double sum = 0, weights = 0;
    WN_TRY(reduction_of(run->node, &how, err));
    for (int64_t n = 0; n < l->n; n++)
        for (int64_t d = 0; d < l->inner; d++) {
            double loss, weight;
            WN_TRY(one(l, n, d, &loss, &weight, err));
            if (how == NONE)
                put(&run->out[0], n * l->inner + d, loss);
            sum += loss;
            weights += weight;
        }
    if (how != NONE)
        put(&run->out[0], 0, how == MEAN ? sum / weights : sum);
    return WINNOW_OK;
}

enum winnow_status wn_run_nll_loss(struct wn_run *run, struct winnow_err *err)
{
    struct loss l;
    loss_init(&l, run);
    return run_loss(&l, run, err);
}

static void log_softmax(struct loss *l)
{
    for (int64_t n = 0; n < l->n; n++)
        for (int64_t d = 0; d < l->inner; d++) {
            double *p = l->log_prob + n * l->classes * l->inner + d, largest = -INFINITY, sum = 0;
            for (int64_t c = 0; c < l->classes; c++) {
                p[c * l->inner] = wn_scalar(l->x, n * l->classes * l->inner + c * l->inner + d);
                largest = fmax(largest, p[c * l->inner]);
            }
            for (int64_t c = 0; c < l->classes; c++)
                sum += exp(p[c * l->inner] - largest);
            for (int64_t c = 0; c < l->classes; c++)
                p[c * l->inner] -= largest + log(sum);
        }
}

enum winnow_status wn_run_sce_loss(struct wn_run *run, struct winnow_err *err)
{
    struct loss l;
    loss_init(&l, run);
    int64_t count = wn_tensor_count(l.x);
    if (!(l.log_prob = wn_arena_calloc(run->tmp, (size_t)count, sizeof *l.log_prob)))
        return wn_nomem(err);
    log_softmax(&l);
    for (int64_t i = 0; run->n_out > 1 && i < count; i++)
        put(&run->out[1], i, l.log_prob[i]);
    return run_loss(&l, run, err);
}
