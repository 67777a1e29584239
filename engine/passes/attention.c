/* attention.c: MatMul, scale, mask, Softmax, MatMul and the transpositions around them -> one fused operator.
 *
 *     scores = Q' K'           Q' (B, h, Sq, d), K' (B, h, d, Sk): any chain of Transpose and scaling behind each
 *     scaled, masked           Mul or Div by a number; Add of a mask; Where(hidden, number, scores), or the other way
 *     weights = Softmax        over the last axis, perhaps with PyTorch's guard Where(IsNaN(w), 0, w)
 *     y = weights V'           V' (B, h, Sk, dv), and mostly a Transpose to (B, Sq, h, dv) behind
 *
 * Where the file quantizes queries, keys, values and weights, the operator is QAttention, which computes the integer
 * products exactly; a Q/DQ pair may also stand behind the product of queries and keys, and a quantization behind the
 * result. Masks may be several: sums of masks are a mask, and so is a Where with a number so low that adding it to a
 * score gives it.
 *
 * The operator reads Q, K and V as (B, S, h, d), which is how the reshaped projections lie: the transpositions vanish,
 * reshapes stay and are views. Where a graph has them another way, a Transpose is put in. What computes the mask stays
 * as it is. Shapes that the file computes need not be understood here: they are known when a plan is made. */
#include <math.h>
#include "engine/passes/match.h"

#define MAX_CHAIN 16
#define MAX_MASKS 4
#define LOW       (-1e30) /* + a score = itself */

/* A value behind transpositions, factors and, if deq is set, a dequantization: `v`'s axis perm[i] is the axis i of what
 * was looked at. */
struct view {
    wn_vid v;
    int64_t perm[4];
    double scale;
    const struct wn_fused_qelt *deq;
};

/* Added to the scores. A condition becomes `fill` where it hides, 0 where it keeps. */
struct mask {
    wn_vid v;
    bool is_condition;
    bool keeps; /* true elements keep the score */
    float fill;
};

struct attention {
    struct wn_graph *g;
    struct view q, k, v;
    double scale; /* of the product */
    struct mask mask[MAX_MASKS];
    unsigned n_masks;
    bool replace;                        /* the one mask takes the scores' place */
    const struct wn_fused_qelt *s_quant; /* the product is quantized, */
    double s_scale;                      /* and scaled afterwards */
    const struct wn_fused_qelt *p_quant; /* the weights are quantized */
    const struct wn_fused_qelt *y_quant; /* the result is quantized */
    bool guarded;                        /* NaN weights are 0 */
    wn_vid y;                            /* the second product */
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
        } else if (!w.deq && wn_scaled_by(g, node, &x, &factor) && is_f32(g, x, 4)) {
            w.scale *= factor;
            w.v = x;
        } else if (!w.deq && wn_fused_is(node, "Dequantize")) {
            w.deq = node->fused;
            w.v = node->in[0];
        } else {
            break;
        }
    }
    return w;
}

/* A Dequantize right behind the Quantize with the same parameters, which nobody else reads: the Quantize. */
static struct wn_node *pair_of(struct wn_graph *g, const struct wn_node *deq)
{
    if (!wn_fused_is(deq, "Dequantize") || wn_graph_n_uses(g, deq->in[0]) != 1)
        return NULL;
    struct wn_node *quant = wn_graph_producer(g, deq->in[0]);
    if (!wn_fused_is(quant, "Quantize"))
        return NULL;
    const struct wn_fused_qelt *q = quant->fused, *d = deq->fused;
    return q->a_mul == d->a_mul && q->y_zp == d->a_zp && q->q_lo == 0 && q->q_hi == 255 ? quant : NULL;
}

/* Where(c, number, x) or Where(c, x, number): x. */
static bool hides(struct attention *a, const struct wn_node *node, wn_vid *ret_x)
{
    double fill;
    if (!wn_node_is(node, "Where") || a->replace || a->n_masks == MAX_MASKS)
        return false;
    struct mask m = { .v = node->in[0], .is_condition = true, .keeps = wn_number(a->g, node->in[2], &fill) };
    if ((!m.keeps && !wn_number(a->g, node->in[1], &fill)) || fill == 0 || (fill > LOW && a->n_masks))
        return false;
    m.fill = (float)fill;
    a->replace = fill > LOW;
    a->mask[a->n_masks++] = m;
    *ret_x = node->in[m.keeps ? 1 : 2];
    return true;
}

/* v is made of the product of queries and keys, by what find_scores() understands. */
static bool leads_to_scores(struct attention *a, wn_vid v, int depth)
{
    const struct wn_node *node = wn_graph_producer(a->g, v), *quant;
    wn_vid x;
    double factor;
    if (!node || depth == 0)
        return false;
    if (wn_node_is(node, "MatMul"))
        return true;
    if (wn_scaled_by(a->g, node, &x, &factor))
        return leads_to_scores(a, x, depth - 1);
    if ((quant = pair_of(a->g, node)) != NULL)
        return leads_to_scores(a, quant->in[0], depth - 1);
    if (wn_node_is(node, "Add"))
        return leads_to_scores(a, node->in[0], depth - 1) || leads_to_scores(a, node->in[1], depth - 1);
    return wn_node_is(node, "Where") &&
           (leads_to_scores(a, node->in[1], depth - 1) || leads_to_scores(a, node->in[2], depth - 1));
}

/* The mask's own shape is checked when a plan is made; here it must not be what makes the scores. */
static bool adds_mask(struct attention *a, const struct wn_node *node, wn_vid *ret_x)
{
    if (!wn_node_is(node, "Add") || a->replace || a->n_masks == MAX_MASKS)
        return false;
    for (unsigned i = 0; i < 2; i++) {
        const struct wn_type *t = &a->g->values.at[node->in[!i]].type;
        if (leads_to_scores(a, node->in[i], 8) && t->dtype == WINNOW_F32 && t->rank >= 0 && t->rank <= 4) {
            a->mask[a->n_masks++] = (struct mask){ .v = node->in[!i] };
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
        struct wn_node *node = wn_graph_producer(a->g, v), *quant;
        wn_vid x;
        double factor;
        if (!node || !is_f32(a->g, v, 4))
            return NULL;
        if (wn_node_is(node, "MatMul"))
            return node;
        if (wn_scaled_by(a->g, node, &x, &factor)) {
            a->scale *= factor;
        } else if (!a->s_quant && (quant = pair_of(a->g, node)) != NULL) {
            a->s_quant = quant->fused;
            a->s_scale = a->scale * (double)a->s_quant->a_mul;
            a->scale = 1 / (double)a->s_quant->a_mul;
            x = quant->in[0];
        } else if (a->scale != 1 || a->s_quant || !(hides(a, node, &x) || adds_mask(a, node, &x))) {
            return NULL;
        }
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
    struct wn_node *values = wn_graph_only_user(g, weights), *deq;
    a->p_quant = NULL;
    if (wn_fused_is(values, "Quantize")) {
        deq = wn_graph_only_user(g, values->out[0]);
        if (!deq || pair_of(g, deq) != values)
            return false;
        a->p_quant = values->fused;
        weights = deq->out[0];
        values = wn_graph_only_user(g, weights);
    }
    if (!values || !wn_node_is(values, "MatMul") || values->in[0] != weights || values->in[1] == weights ||
        !is_f32(g, values->in[1], 4))
        return false;
    a->n_masks = 0;
    a->replace = false;
    a->s_quant = NULL;
    a->scale = 1;
    a->y = values->out[0];
    struct wn_node *scores = find_scores(a, softmax->in[0]);
    if (!scores || !is_f32(g, scores->in[0], 4) || !is_f32(g, scores->in[1], 4))
        return false;
    a->q = look_through(g, scores->in[0]);
    a->k = look_through(g, scores->in[1]);
    a->v = look_through(g, values->in[1]);
    a->scale *= a->q.scale * a->k.scale;
    const bool integers = a->q.deq && a->k.deq && a->v.deq;
    return heads_fit(a) && isfinite(a->scale) && a->v.scale == 1 && (integers || (!a->s_quant && !a->p_quant));
}

/* All of it is in integers. Where the weights are not, it is not: then f32 is what the file asks for. */
static bool quantized(const struct attention *a)
{
    return a->p_quant != NULL;
}

/* The view as a value (B, S, h, d): itself, or a Transpose of it, dequantized unless `as_is`. Axes: where B, S, h and d
 * are in the product. */
static wn_vid as_bshd(struct wn_graph *g, const struct view *w, const int axes[4], bool as_is, const char *name)
{
    int64_t perm[4];
    bool same = true;
    wn_vid v = w->v;
    for (int i = 0; i < 4; i++) {
        perm[i] = w->perm[axes[i]];
        same = same && perm[i] == i;
    }
    if (!same) {
        wn_vid out = wn_graph_add_value(g, NULL, g->values.at[v].type.dtype, -1, NULL);
        struct wn_node *node = out == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &v, 1, out);
        if (!node || !wn_node_set_ints(g, node, "perm", perm, 4))
            return WN_NONE;
        v = out;
    }
    if (!w->deq || as_is)
        return v;
    wn_vid f = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    return f != WN_NONE && wn_fused_add(g, "Dequantize", name, &v, 1, f, w->deq) ? f : WN_NONE;
}

/* What is added to the scores, or with a condition takes their place: fill where the key is hidden, else 0. */
static wn_vid mask_of(struct wn_graph *g, const struct mask *m, const char *name)
{
    const float zero = 0;
    if (!m->is_condition)
        return m->v;
    wn_vid f = wn_graph_add_const(g, NULL, WINNOW_F32, 0, NULL, &m->fill);
    wn_vid z = wn_graph_add_const(g, NULL, WINNOW_F32, 0, NULL, &zero);
    wn_vid out = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    if (f == WN_NONE || z == WN_NONE || out == WN_NONE)
        return WN_NONE;
    wn_vid in[] = { m->v, m->keeps ? z : f, m->keeps ? f : z };
    return wn_std_add(g, "Where", 16, name, in, 3, out) ? out : WN_NONE;
}

/* The sum of all masks. */
static wn_vid masks_of(struct attention *a, const char *name)
{
    wn_vid sum = mask_of(a->g, &a->mask[0], name);
    for (unsigned i = 1; i < a->n_masks && sum != WN_NONE; i++) {
        wn_vid in[] = { sum, mask_of(a->g, &a->mask[i], name) };
        sum = wn_graph_add_value(a->g, NULL, WINNOW_F32, -1, NULL);
        if (in[1] == WN_NONE || sum == WN_NONE || !wn_std_add(a->g, "Add", 14, name, in, 2, sum))
            return WN_NONE;
    }
    return sum;
}

/* What the operator's (B, S, h, d) result is called: the output of the Transpose behind the product, which dies. */
static wn_vid take_result(struct attention *a, const char *name)
{
    static const int64_t perm[] = { 0, 2, 1, 3 };
    struct wn_graph *g = a->g;
    wn_vid y = a->y;
    struct wn_node *next = wn_graph_only_user(g, y);
    size_t n;
    wn_graph_kill(g, wn_graph_producer(g, y));
    a->y_quant = NULL;
    if (quantized(a) && wn_fused_is(next, "Quantize")) {
        a->y_quant = next->fused;
        y = next->out[0];
        wn_graph_kill(g, next);
        next = wn_graph_only_user(g, y);
    }
    const int64_t *p = next && wn_node_is(next, "Transpose") ? wn_node_ints(next, "perm", &n) : NULL;
    if (p && n == 4 && p[0] == 0 && p[1] == 2 && p[2] == 1 && p[3] == 3) {
        wn_vid out = next->out[0];
        wn_graph_kill(g, next);
        return out;
    }
    wn_vid out = wn_graph_add_value(g, NULL, a->y_quant ? WINNOW_U8 : WINNOW_F32, -1, NULL);
    struct wn_node *node = out == WN_NONE ? NULL : wn_std_add(g, "Transpose", 13, name, &out, 1, y);
    return node && wn_node_set_ints(g, node, "perm", perm, 4) ? out : WN_NONE;
}

/* The fused block of Attention, or QAttention. NULL: out of memory. */
static const void *parameters(const struct attention *a)
{
    const struct wn_fused_attn f = { .scale = (float)a->scale, .replace = a->replace, .guarded = a->guarded };
    if (!quantized(a))
        return wn_fused_dup(a->g, &f, sizeof f);
    const struct wn_fused_qelt *y = a->y_quant;
    const struct wn_fused_qattn q = {
        .mul = (float)((double)a->q.deq->a_mul * (double)a->k.deq->a_mul * a->scale),
        .s_mul = a->s_quant ? (float)a->s_scale : 0,
        .p_scale = a->p_quant->a_mul,
        .y_mul = (float)((double)a->p_quant->a_mul * (double)a->v.deq->a_mul / (y ? (double)y->a_mul : 1.0)),
        .q_zp = a->q.deq->a_zp,
        .k_zp = a->k.deq->a_zp,
        .v_zp = a->v.deq->a_zp,
        .s_zp = a->s_quant ? a->s_quant->y_zp : 0,
        .p_zp = a->p_quant->y_zp,
        .y_zp = y ? y->y_zp : 0,
        .y_f32 = !y,
        .replace = a->replace,
    };
    return wn_fused_dup(a->g, &q, sizeof q);
}

static enum winnow_status fuse(struct attention *a, const char *name, struct winnow_err *err)
{
    static const int rows[] = { 0, 2, 1, 3 }, cols[] = { 0, 3, 1, 2 }; /* of Q', V' and of K' */
    struct wn_graph *g = a->g;
    const bool as_is = quantized(a);
    const unsigned n_in = a->n_masks ? 4 : 3;
    wn_vid y = take_result(a, name);
    wn_vid in[4] = { as_bshd(g, &a->q, rows, as_is, name), as_bshd(g, &a->k, cols, as_is, name),
                     as_bshd(g, &a->v, rows, as_is, name), a->n_masks ? masks_of(a, name) : WN_NONE };
    const void *fused = parameters(a);
    for (unsigned i = 0; i < n_in; i++)
        if (in[i] == WN_NONE)
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    return fused && y != WN_NONE && wn_fused_add(g, as_is ? "QAttention" : "Attention", name, in, n_in, y, fused)
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
