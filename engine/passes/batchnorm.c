/* batchnorm.c: Conv followed by BatchNormalization: w' = w * gamma / sqrt(var + eps), b' = beta + (b - mean) * the same
 * factor (in double, rounded once). */
#include <math.h>
#include <string.h>
#include "engine/passes/impl.h"

struct bn {
    const float *gamma, *beta, *mean, *var;
    double eps;
};

static const float *f32_vector(const struct wn_graph *g, const struct wn_node *node, unsigned i, int64_t n)
{
    const struct wn_tensor *t = wn_const_in(g, node, i);
    return t && t->dtype == WINNOW_F32 && wn_tensor_count(t) == n ? t->data : NULL;
}

static bool read_bn(const struct wn_graph *g, const struct wn_node *node, int64_t n, struct bn *bn)
{
    bn->gamma = f32_vector(g, node, 1, n);
    bn->beta = f32_vector(g, node, 2, n);
    bn->mean = f32_vector(g, node, 3, n);
    bn->var = f32_vector(g, node, 4, n);
    bn->eps = wn_node_float(node, "epsilon", 1e-5f);
    return bn->gamma && bn->beta && bn->mean && bn->var && wn_node_int(node, "training_mode", 0) == 0 &&
           wn_node_int(node, "spatial", 1) == 1;
}

static enum winnow_status fold_into(struct wn_graph *g, struct wn_node *conv, struct wn_node *node, const struct bn *bn,
                                    const struct wn_tensor *w, const float *b, struct winnow_err *err)
{
    int64_t O = w->dim[0], per = O ? wn_tensor_count(w) / O : 0;
    wn_vid wv = wn_graph_add_const(g, g->values.at[conv->in[1]].name, WINNOW_F32, w->rank, w->dim, NULL);
    wn_vid bv = wn_graph_add_const(g, g->values.at[node->in[2]].name, WINNOW_F32, 1, &O, NULL);
    if (wv == WN_NONE || bv == WN_NONE)
        return WN_OOM(err, node);
    float *w2 = g->values.at[wv].constant->data, *b2 = g->values.at[bv].constant->data;
    for (int64_t o = 0; o < O; o++) {
        double k = bn->gamma[o] / sqrt((double)bn->var[o] + bn->eps);
        for (int64_t i = 0; i < per; i++)
            w2[o * per + i] = (float)(((const float *)w->data)[o * per + i] * k);
        b2[o] = (float)(bn->beta[o] + ((b ? b[o] : 0.0) - bn->mean[o]) * k);
    }
    wn_vid in[] = { conv->in[0], wv, bv }, y = node->out[0];
    struct wn_node old = *conv;
    wn_graph_kill(g, conv);
    wn_graph_kill(g, node);
    struct wn_node *made = wn_graph_add_node(g, old.domain, old.op_type, old.name, in, 3, &y, 1);
    if (!made)
        return WN_OOM(err, &old);
    made->attr = old.attr;
    made->n_attr = old.n_attr;
    made->op = old.op;
    made->opset = old.opset;
    return WINNOW_OK;
}

enum winnow_status wn_pass_fold_batchnorm(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (!wn_node_is(node, "BatchNormalization"))
            continue;
        struct wn_node *conv = wn_graph_producer(g, node->in[0]);
        if (!conv || !wn_node_is(conv, "Conv") || wn_graph_n_uses(g, node->in[0]) != 1)
            continue;
        const struct wn_tensor *w = wn_const_in(g, conv, 1);
        struct bn bn;
        if (!w || w->dtype != WINNOW_F32 || !read_bn(g, node, w->dim[0], &bn))
            continue;
        const float *b = f32_vector(g, conv, 2, w->dim[0]);
        if (wn_in(conv, 2) != WN_NONE && !b)
            continue;
        const struct wn_node old = *conv;
        WN_TRY(fold_into(g, conv, node, &bn, w, b, err));
        wn_give_back_inputs(g, &old);
    }
    return WINNOW_OK;
}
