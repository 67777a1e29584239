/* fuse_layers.c: f32 Conv, Gemm and MatMul with constant weights become Conv and Linear of domain "wn", and take in the
 * bias, the residual addition, the activation and the clamp that follow. */
#include <math.h>
#include <string.h>
#include "engine/passes/impl.h"
#include "engine/passes/match.h"

struct layer {
    const char *type;
    wn_vid x, w, b;
    int64_t O;
    struct wn_fused_f32 f;
};

static const struct wn_tensor *f32_const(const struct wn_graph *g, wn_vid v)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    return t && t->dtype == WINNOW_F32 ? t : NULL;
}

/* (O) constant for a bias; WN_NONE in *ret when there is none. False when there is one of another kind. */
static bool read_bias(struct wn_graph *g, wn_vid v, int64_t O, wn_vid *ret)
{
    const struct wn_tensor *b = f32_const(g, v);
    *ret = v;
    if (v == WN_NONE)
        return true;
    if (!b || wn_tensor_count(b) != O || (b->rank && b->dim[b->rank - 1] != O))
        return false;
    if (b->rank != 1)
        *ret = wn_graph_add_const(g, NULL, WINNOW_F32, 1, &O, b->data);
    return *ret != WN_NONE;
}

static bool read_conv(struct wn_graph *g, const struct wn_node *node, struct layer *l)
{
    const struct wn_tensor *w = f32_const(g, wn_in(node, 1));
    if (!w || w->rank < 3 || w->rank > 4 || !read_bias(g, wn_in(node, 2), w->dim[0], &l->b))
        return false;
    l->type = "Conv";
    l->w = node->in[1];
    l->O = w->dim[0];
    return wn_conv_geom_of(node, w->rank - 2, w->dim + 2, &l->f.geom, NULL) == WINNOW_OK;
}

/* (K, N) -> a new constant (N, K). */
static wn_vid transposed(struct wn_graph *g, wn_vid v)
{
    const struct wn_tensor *w = wn_const_of(g, v);
    int64_t K = w->dim[0], N = w->dim[1], dim[] = { N, K };
    wn_vid t = wn_graph_add_const(g, g->values.at[v].name, WINNOW_F32, 2, dim, NULL);
    if (t == WN_NONE)
        return t;
    wn_transpose(wn_const_of(g, v)->data, (size_t)K, (size_t)N, sizeof(float), g->values.at[t].constant->data);
    return t;
}

static bool read_linear(struct wn_graph *g, const struct wn_node *node, bool gemm, struct layer *l)
{
    const struct wn_tensor *w = f32_const(g, wn_in(node, 1));
    bool trans_b = gemm && wn_node_int(node, "transB", 0);
    if (!w || w->rank != 2 ||
        (gemm && (wn_node_int(node, "transA", 0) || wn_node_float(node, "alpha", 1) != 1.0f ||
                  wn_node_float(node, "beta", 1) != 1.0f)))
        return false;
    l->type = "Linear";
    l->O = w->dim[trans_b ? 0 : 1];
    l->b = WN_NONE;
    if (gemm && !read_bias(g, wn_in(node, 2), l->O, &l->b))
        return false;
    l->w = trans_b ? node->in[1] : transposed(g, node->in[1]);
    return l->w != WN_NONE && g->values.at[node->in[0]].type.rank >= 1;
}

/* The bias of a MatMul, or of a convolution, added by a node of its own. */
static void take_bias(struct wn_graph *g, wn_vid *y, struct layer *l)
{
    struct wn_node *add = wn_graph_only_user(g, *y);
    if (l->b != WN_NONE || !add || !wn_node_is(add, "Add"))
        return;
    wn_vid other = add->in[0] == *y ? add->in[1] : add->in[0];
    const struct wn_tensor *b = f32_const(g, other);
    if (!b || wn_tensor_count(b) != l->O)
        return;
    bool conv = strcmp(l->type, "Conv") == 0;
    int rank = g->values.at[*y].type.rank, axis = conv ? (int)b->rank - (rank - 1) : (int)b->rank - 1;
    if (rank < 0 || axis < 0 || b->dim[axis] != l->O || (int)b->rank > rank)
        return;
    wn_vid flat = wn_graph_add_const(g, NULL, WINNOW_F32, 1, &l->O, b->data);
    if (flat == WN_NONE)
        return;
    l->b = flat;
    *y = add->out[0];
    wn_graph_kill(g, add);
}

/* The function that follows a layer. */
static void take_activation(struct wn_graph *g, wn_vid *y, struct layer *l)
{
    struct wn_node *next = wn_graph_only_user(g, *y);
    l->f.act = next ? wn_act_of(next, &l->f.alpha) : WN_ACT_NONE;
    if (l->f.act == WN_ACT_NONE)
        return;
    *y = next->out[0];
    wn_graph_kill(g, next);
}

static enum winnow_status put(struct wn_graph *g, struct wn_node node, struct wn_node *at, struct layer *l,
                              struct winnow_err *err)
{
    wn_vid y = node.out[0];
    wn_graph_kill(g, at);
    take_bias(g, &y, l);
    wn_vid r = wn_take_residual(g, &y);
    take_activation(g, &y, l);
    struct wn_node *next = wn_graph_only_user(g, y);
    if (next && wn_clamp_of(g, next, &l->f.lo, &l->f.hi)) {
        y = next->out[0];
        wn_graph_kill(g, next);
    } else {
        l->f.lo = -INFINITY;
        l->f.hi = INFINITY;
    }
    wn_vid in[] = { node.in[0], l->w, l->b, r };
    unsigned n_in = r != WN_NONE ? 4 : l->b != WN_NONE ? 3 : 2;
    const struct wn_attr *note = wn_node_attr(&node, WN_NOTE_ATTR);
    l->f.note = note ? wn_arena_strndup(g->arena, note->s.p, note->s.n) : NULL;
    void *fused = wn_fused_dup(g, &l->f, sizeof l->f);
    return fused && wn_fused_add(g, l->type, node.name, in, n_in, y, fused) ? WINNOW_OK : WN_OOM(err, &node);
}

enum winnow_status wn_pass_fuse_layers(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        struct layer l = { .b = WN_NONE };
        if (node->dead || g->values.at[node->out[0]].type.dtype != WINNOW_F32)
            continue;
        bool found = (wn_node_is(node, "Conv") && read_conv(g, node, &l)) ||
                     (wn_node_is(node, "Gemm") && read_linear(g, node, true, &l)) ||
                     (wn_node_is(node, "MatMul") && read_linear(g, node, false, &l));
        wn_vid w = wn_in(node, 1);
        if (found)
            WN_TRY(put(g, g->nodes.at[i], &g->nodes.at[i], &l, err));
        wn_graph_give_back(g, w);
    }
    return WINNOW_OK;
}
