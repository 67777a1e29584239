/* recurrent.c: f32 RNN, GRU and LSTM with constant weights become a linear layer, which makes the products with X for
 * all steps and directions at once and is packed, chosen and tuned as any other, and a Recurrent of domain "wn", which
 * is left with what has to run step by step. */
#include <math.h>
#include <string.h>
#include "engine/passes/impl.h"

static const struct wn_tensor *f32_const(const struct wn_graph *g, wn_vid v, unsigned rank)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    return t && t->dtype == WINNOW_F32 && t->rank == rank && wn_tensor_count(t) > 0 ? t : NULL;
}

/* (dirs * rows) or (dirs, rows) constant: half `which` of B (dirs, 2 * rows). */
static wn_vid half_bias(struct wn_graph *g, const struct wn_tensor *b, size_t which, unsigned rank)
{
    const size_t dirs = (size_t)b->dim[0], rows = (size_t)b->dim[1] / 2;
    const int64_t dim[] = { rank == 1 ? (int64_t)(dirs * rows) : (int64_t)dirs, (int64_t)rows };
    wn_vid v = wn_graph_add_const(g, NULL, WINNOW_F32, rank, dim, NULL);
    float *to = v == WN_NONE ? NULL : g->values.at[v].constant->data;
    for (size_t d = 0; to && d < dirs; d++)
        memcpy(to + d * rows, (const float *)b->data + (2 * d + which) * rows, rows * sizeof *to);
    return v;
}

/* The linear layer: its output, or WN_NONE. */
static wn_vid add_linear(struct wn_graph *g, const struct wn_node *node, const struct wn_tensor *w,
                         const struct wn_tensor *b)
{
    const struct wn_fused_f32 f = { .act = WN_ACT_NONE, .lo = -INFINITY, .hi = INFINITY };
    const int64_t dim[] = { w->dim[0] * w->dim[1], w->dim[2] };
    const struct wn_type *x = &g->values.at[node->in[0]].type;
    int64_t y_dim[3] = { -1, -1, dim[0] };
    for (int a = 0; a < 2 && x->rank == 3; a++)
        y_dim[a] = x->dim[a];
    const char *name = wn_arena_printf(g->arena, "%s (X W)", node->name);
    wn_vid rows = wn_graph_add_const(g, NULL, WINNOW_F32, 2, dim, w->data), bias = b ? half_bias(g, b, 0, 1) : WN_NONE;
    wn_vid y = wn_graph_add_value(g, NULL, WINNOW_F32, 3, y_dim);
    const void *fused = wn_fused_dup(g, &f, sizeof f);
    if (!name || rows == WN_NONE || (b && bias == WN_NONE) || y == WN_NONE || !fused)
        return WN_NONE;
    const wn_vid in[] = { node->in[0], rows, bias };
    return wn_fused_add(g, "Linear", name, in, b ? 3 : 2, y, fused) ? y : WN_NONE;
}

/* `node` is a copy, with arrays that live on. */
static enum winnow_status split(struct wn_graph *g, const struct wn_node *node, const struct wn_recurrent *d,
                                const struct wn_tensor *w, const struct wn_tensor *b, struct winnow_err *err)
{
    wn_vid y = add_linear(g, node, w, b), rb = b ? half_bias(g, b, 1, 2) : WN_NONE;
    const void *fused = wn_fused_dup(g, d, sizeof *d);
    if (y == WN_NONE || (b && rb == WN_NONE) || !fused)
        return WN_OOM(err, node);
    const wn_vid in[] = { y, node->in[2], rb, wn_in(node, 4), wn_in(node, 5), wn_in(node, 6) };
    unsigned n_in = WN_COUNT(in);
    while (in[n_in - 1] == WN_NONE)
        n_in--;
    return wn_fused_add_many(g, "Recurrent", node->name, in, n_in, node->out, node->n_out, fused) ? WINNOW_OK
                                                                                                  : WN_OOM(err, node);
}

enum winnow_status wn_pass_recurrent(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        const struct wn_node node = g->nodes.at[i];
        struct wn_recurrent d;
        if (!wn_node_is(&node, "LSTM") && !wn_node_is(&node, "GRU") && !wn_node_is(&node, "RNN"))
            continue;
        const struct wn_tensor *w = f32_const(g, wn_in(&node, 1), 3), *r = f32_const(g, wn_in(&node, 2), 3),
                               *b = f32_const(g, wn_in(&node, 3), 2);
        if (!w || !r || (wn_in(&node, 3) != WN_NONE && !b) || wn_in(&node, 7) != WN_NONE ||
            g->values.at[node.in[0]].type.dtype != WINNOW_F32 || wn_recurrent_read(&node, &d, NULL) != WINNOW_OK)
            continue;
        wn_graph_kill(g, &g->nodes.at[i]);
        WN_TRY(split(g, &node, &d, w, b, err));
        wn_graph_give_back(g, node.in[1]);
    }
    return WINNOW_OK;
}
