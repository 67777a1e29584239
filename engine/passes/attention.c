/* attention.c: MatMul, scale, mask, Softmax, MatMul and the transpositions around them -> one fused operator.
 *
 *     scores = Q' K'           Q' (B, h, Sq, d), K' (B, h, d, Sk): any chain of Transpose and scaling behind each
 *     scaled, masked           Mul or Div by a number; Add of a mask; Where(hidden, number, scores), or the other way
 *     weights = Softmax        over the last axis, perhaps with PyTorch's guard Where(IsNaN(w), 0, w)
 *     y = weights V'           V' (B, h, Sk, dv), and mostly a Transpose to (B, Sq, h, dv) behind
 *
 * The operator reads Q, K and V as (B, S, h, d), which is how the reshaped projections lie: the transpositions vanish,
 * reshapes stay and are views. Where a graph has them another way, a Transpose is put in. What computes the mask stays
 * as it is. Shapes that the file computes need not be understood here: they are known when a plan is made. */
#include <math.h>
#include "engine/passes/match.h"

#define MAX_CHAIN 16

/* A value behind transpositions and factors: `v`'s axis perm[i] is the axis i of what was looked at. */
struct view {
    wn_vid v;
    int64_t perm[4];
    double scale;
};

struct attention {
    struct wn_graph *g;
    struct view q, k, v;
    double scale;
    wn_vid mask;       /* added or, with replace, put in; WN_NONE */
    wn_vid hidden;     /* condition of a Where that hides keys; WN_NONE */
    bool hidden_keeps; /* its true elements keep the score */
    float fill;        /* what its others become */
    bool guarded;      /* NaN weights are 0 */
    wn_vid y;          /* the second product */
    struct wn_readers readers;
};

static bool is_f32(const struct wn_graph *g, wn_vid v, int rank)
{
    const struct wn_type *t = &g->values.at[v].type;
    return t->dtype == WINNOW_F32 && t->rank == rank;
}

static struct view look_through(struct wn_graph *g, wn_vid v)
{
    struct view w = { .v = v, .perm = { 0, 1, 2, 3 }, .scale = 1 };
    for (int i = 0; i < MAX_CHAIN; i++) {
        const struct wn_node *node = wn_graph_producer(g, w.v);
        wn_vid x;
        double factor;
        if (!node)
            break;
        if (wn_node_is(node, "Transpose")) {
            size_t n;
            const int64_t *p = wn_node_ints(node, "perm", &n);
            for (int k = 0; k < 4; k++)
                w.perm[k] = n == 4 ? p[w.perm[k]] : 3 - w.perm[k];
            w.v = node->in[0];
        } else if (wn_scaled_by(g, node, &x, &factor) && is_f32(g, x, 4)) {
            w.scale *= factor;
            w.v = x;
        } else {
            break;
        }
    }
    return w;
}

/* Where(c, number, x) or Where(c, x, number): x. */
static bool hides(struct attention *a, const struct wn_node *node, wn_vid *ret_x)
{
    double fill;
    if (!wn_node_is(node, "Where") || a->hidden != WN_NONE || a->mask != WN_NONE)
        return false;
    a->hidden_keeps = wn_number(a->g, node->in[2], &fill);
    if ((!a->hidden_keeps && !wn_number(a->g, node->in[1], &fill)) || fill == 0)
        return false;
    a->hidden = node->in[0];
    a->fill = (float)fill;
    *ret_x = node->in[a->hidden_keeps ? 1 : 2];
    return true;
}

/* The mask's own shape is checked when a plan is made; here it must not be what makes the scores. */
static bool adds_mask(struct attention *a, const struct wn_node *node, wn_vid *ret_x)
{
    if (!wn_node_is(node, "Add") || a->mask != WN_NONE || a->hidden != WN_NONE || a->scale != 1)
        return false;
    for (unsigned i = 0; i < 2; i++) {
        const struct wn_node *from = wn_graph_producer(a->g, node->in[i]);
        wn_vid x = node->in[i];
        double factor;
        for (int k = 0; k < 4 && from && wn_scaled_by(a->g, from, &x, &factor); k++)
            from = wn_graph_producer(a->g, x);
        const struct wn_type *t = &a->g->values.at[node->in[!i]].type;
        if (from && wn_node_is(from, "MatMul") && t->dtype == WINNOW_F32 && t->rank >= 0 && t->rank <= 4) {
            a->mask = node->in[!i];
            *ret_x = node->in[i];
            return true;
        }
    }
    return false;
}

/* From the softmax's input back to the product of queries and keys. */
static struct wn_node *find_scores(struct attention *a, wn_vid v)
{
    for (int i = 0; i < MAX_CHAIN; i++) {
        struct wn_node *node = wn_graph_producer(a->g, v);
        wn_vid x;
        double factor;
        if (!node || !is_f32(a->g, v, 4))
            return NULL;
        if (wn_node_is(node, "MatMul"))
            return node;
        if (wn_scaled_by(a->g, node, &x, &factor))
            a->scale *= factor;
        else if (!(a->scale == 1 && hides(a, node, &x)) && !adds_mask(a, node, &x))
            return NULL;
        v = x;
    }
    return NULL;
}

/* Extent of the view's axis i; -1 when unknown. */
static int64_t extent(const struct wn_graph *g, const struct view *w, int i)
{
    return g->values.at[w->v].type.dim[w->perm[i]];
}

/* All three were cut into heads by one and the same shape, whatever it is. */
static bool cut_alike(const struct attention *a)
{
    const struct wn_node *q = wn_made_by(a->g, a->q.v, "Reshape"), *k = wn_made_by(a->g, a->k.v, "Reshape"),
                         *v = wn_made_by(a->g, a->v.v, "Reshape");
    return q && k && v && q->in[1] == k->in[1] && k->in[1] == v->in[1];
}

/* Heads are the same number everywhere: a product that broadcasts them is another one. */
static bool heads_fit(const struct attention *a)
{
    int64_t h = extent(a->g, &a->q, 1), d = extent(a->g, &a->q, 3);
    return (h > 0 && extent(a->g, &a->k, 1) == h && extent(a->g, &a->v, 1) == h && d > 0 &&
            extent(a->g, &a->k, 2) == d) ||
           cut_alike(a);
}

/* The weights as the second product reads them: behind the guard, if there is one. */
static wn_vid behind_guard(struct attention *a, wn_vid weights)
{
    size_t n;
    const wn_nid *ids = wn_readers_of(&a->readers, weights, &n);
    a->guarded = false;
    if (n != 2 || wn_graph_n_uses(a->g, weights) != 2)
        return weights;
    for (size_t i = 0; i < 2; i++) {
        const struct wn_node *w = &a->g->nodes.at[ids[i]];
        double zero;
        if (!wn_node_is(w, "Where") || w->in[2] != weights || !wn_number(a->g, w->in[1], &zero) || zero != 0)
            continue;
        const struct wn_node *nan = wn_made_by(a->g, w->in[0], "IsNaN");
        if (nan && nan->in[0] == weights) {
            a->guarded = true;
            return w->out[0];
        }
    }
    return weights;
}

static bool match(struct attention *a, struct wn_node *softmax)
{
    struct wn_graph *g = a->g;
    int64_t axis = wn_node_int(softmax, "axis", softmax->opset < 13 ? 1 : -1);
    if (!is_f32(g, softmax->in[0], 4) || (axis != -1 && axis != 3))
        return false;
    wn_vid weights = behind_guard(a, softmax->out[0]);
    struct wn_node *values = wn_graph_only_user(g, weights);
    if (!values || !wn_node_is(values, "MatMul") || values->in[0] != weights || values->in[1] == weights ||
        !is_f32(g, values->in[1], 4))
        return false;
    a->mask = a->hidden = WN_NONE;
    a->scale = 1;
    a->y = values->out[0];
    struct wn_node *scores = find_scores(a, softmax->in[0]);
    if (!scores || !is_f32(g, scores->in[0], 4) || !is_f32(g, scores->in[1], 4))
        return false;
    a->q = look_through(g, scores->in[0]);
    a->k = look_through(g, scores->in[1]);
    a->v = look_through(g, values->in[1]);
    a->scale *= a->q.scale * a->k.scale;
    return heads_fit(a) && isfinite(a->scale) && a->v.scale == 1;
}

/* The view as a value (B, S, h, d): itself, or a Transpose of it. Axes: where B, S, h and d are in the product. */
static wn_vid as_bshd(struct wn_graph *g, const struct view *w, const int axes[4], const char *name)
{
    int64_t perm[4];
    bool same = true;
    for (int i = 0; i < 4; i++) {
        perm[i] = w->perm[axes[i]];
        same = same && perm[i] == i;
    }
    if (same)
        return w->v;
    wn_vid out = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    struct wn_node *node = out == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &w->v, 1, out);
    return node && wn_node_set_ints(g, node, "perm", perm, 4) ? out : WN_NONE;
}

/* The condition of a Where as a mask that takes the score's place: fill where the key is hidden, else 0. */
static wn_vid mask_of(struct attention *a, const char *name)
{
    struct wn_graph *g = a->g;
    const float zero = 0;
    wn_vid f = wn_graph_add_const(g, NULL, WINNOW_F32, 0, NULL, &a->fill);
    wn_vid z = wn_graph_add_const(g, NULL, WINNOW_F32, 0, NULL, &zero);
    wn_vid out = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    if (f == WN_NONE || z == WN_NONE || out == WN_NONE)
        return WN_NONE;
    wn_vid in[] = { a->hidden, a->hidden_keeps ? z : f, a->hidden_keeps ? f : z };
    return wn_std_add(g, "Where", 16, name, in, 3, out) ? out : WN_NONE;
}

/* What the operator's (B, S, h, d) result is called: the output of the Transpose behind the product, which dies. */
static wn_vid take_result(struct wn_graph *g, wn_vid y, const char *name, struct winnow_err *err)
{
    static const int64_t perm[] = { 0, 2, 1, 3 };
    struct wn_node *next = wn_graph_only_user(g, y);
    size_t n;
    const int64_t *p = next && wn_node_is(next, "Transpose") ? wn_node_ints(next, "perm", &n) : NULL;
    wn_graph_kill(g, wn_graph_producer(g, y));
    if (p && n == 4 && p[0] == 0 && p[1] == 2 && p[2] == 1 && p[3] == 3) {
        wn_vid out = next->out[0];
        wn_graph_kill(g, next);
        return out;
    }
    wn_vid out = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    struct wn_node *node = out == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &out, 1, y);
    return node && wn_node_set_ints(g, node, "perm", perm, 4) ? out : WN_NONE;
}

static enum winnow_status fuse(struct attention *a, const char *name, struct winnow_err *err)
{
    static const int rows[] = { 0, 2, 1, 3 }, cols[] = { 0, 3, 1, 2 }; /* of Q', V' and of K' */
    struct wn_graph *g = a->g;
    const struct wn_fused_attn f = { .scale = (float)a->scale, .replace = a->hidden != WN_NONE, .guarded = a->guarded };
    wn_vid in[4] = { as_bshd(g, &a->q, rows, name), as_bshd(g, &a->k, cols, name), as_bshd(g, &a->v, rows, name),
                     a->hidden != WN_NONE ? mask_of(a, name) : a->mask };
    bool masked = a->hidden != WN_NONE || a->mask != WN_NONE;
    wn_vid y = take_result(g, a->y, name, err);
    void *fused = wn_fused_dup(g, &f, sizeof f);
    for (unsigned i = 0; i < 3 + (unsigned)masked; i++)
        if (in[i] == WN_NONE)
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    return fused && y != WN_NONE && wn_fused_add(g, "Attention", name, in, 3 + (unsigned)masked, y, fused)
               ? WINNOW_OK
               : wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
}

static void attention_done(struct attention *a)
{
    wn_readers_done(&a->readers);
}

enum winnow_status wn_pass_attention(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(attention_done) struct attention a = { .g = g };
    if (!wn_readers_make(g, &a.readers))
        return wn_fail(err, WINNOW_E_NOMEM, "a graph of %zu nodes", g->nodes.n);
    for (size_t i = 0, n = g->nodes.n; i < n; i++)
        if (wn_node_is(&g->nodes.at[i], "Softmax") && match(&a, &g->nodes.at[i]))
            WN_TRY(fuse(&a, g->nodes.at[i].name, err));
    return WINNOW_OK;
}
