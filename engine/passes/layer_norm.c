/* layer_norm.c: layer normalization in the words of its exporters -> the operator LayerNormalization, over the last
 * axis:
 *
 *     d = x - ReduceMean(x)      v = ReduceMean(d ^ 2 or d * d) + eps       d may be subtracted once or twice
 *     n = d / Sqrt(v)  |  d * Reciprocal(Sqrt(v))  |  d * (1 / Sqrt(v))  |  d * v ^ -0.5
 *     y = n (* gamma) (+ beta)                                              PyTorch before opset 17
 *     m = 1 / Sqrt(v) * gamma      y = x * m + (beta - mean * m)            Keras, TensorFlow
 *
 * gamma and beta are constant vectors; a missing gamma becomes ones. */
#include "engine/passes/match.h"

struct norm {
    struct wn_graph *g;
    struct wn_readers readers;
    wn_vid x, d; /* d: the difference that the variance is made of */
    int64_t k;
    double eps;
    wn_vid gamma, beta, y;
};

static void norm_done(struct norm *m)
{
    wn_readers_done(&m->readers);
}

/* What v is the mean of over the last axis, or WN_NONE. */
static wn_vid mean_of(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *node = wn_made_by(g, v, "ReduceMean");
    return node && wn_reduces_last(g, node) ? node->in[0] : WN_NONE;
}

/* v = x - mean(x): x; else WN_NONE. */
static wn_vid centred(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *sub = wn_made_by(g, v, "Sub");
    return sub && sub->in[0] != WN_NONE && mean_of(g, sub->in[1]) == sub->in[0] ? sub->in[0] : WN_NONE;
}

static wn_vid square_root_of(struct wn_graph *g, wn_vid v)
{
    const struct wn_node *pow = wn_made_by(g, v, "Pow"), *mul = wn_made_by(g, v, "Mul");
    if (pow && wn_number_is(g, pow->in[1], 2))
        return pow->in[0];
    return mul && mul->in[0] == mul->in[1] ? mul->in[0] : WN_NONE;
}

/* v = mean((x - mean(x))^2) + eps. */
static bool variance(struct norm *m, wn_vid v)
{
    struct wn_graph *g = m->g;
    const struct wn_node *add = wn_made_by(g, v, "Add");
    if (!add || (!wn_number(g, add->in[1], &m->eps) && !wn_number(g, add->in[0], &m->eps)))
        return false;
    wn_vid sq = mean_of(g, wn_const_of(g, add->in[1]) ? add->in[0] : add->in[1]);
    m->d = sq == WN_NONE ? WN_NONE : square_root_of(g, sq);
    m->x = m->d == WN_NONE ? WN_NONE : centred(g, m->d);
    return m->x != WN_NONE && m->eps >= 0 && g->values.at[m->x].type.dtype == WINNOW_F32 &&
           (m->k = wn_last_dim(g, m->x)) > 0;
}

/* The live readers of v with this op_type, from *at on; NULL at the end. */
static struct wn_node *next_reader(struct norm *m, wn_vid v, const char *op_type, size_t *at)
{
    size_t n;
    const wn_nid *ids = wn_readers_of(&m->readers, v, &n);
    while (*at < n) {
        struct wn_node *node = &m->g->nodes.at[ids[(*at)++]];
        if (wn_node_is(node, op_type))
            return node;
    }
    return NULL;
}

/* The difference of the same x, whichever of two equal subtractions made it. */
static bool is_difference(struct norm *m, wn_vid v)
{
    return v == m->d || (v != WN_NONE && centred(m->g, v) == m->x);
}

/* What follows n: (* gamma) (+ beta). */
static void affine(struct norm *m, wn_vid n)
{
    struct wn_node *mul = wn_graph_only_user(m->g, n);
    m->y = n;
    if (mul && wn_node_is(mul, "Mul") && wn_vector_of(m->g, wn_other_in(mul, n), m->k)) {
        m->gamma = wn_other_in(mul, n);
        m->y = mul->out[0];
    }
    struct wn_node *add = wn_graph_only_user(m->g, m->y);
    if (add && wn_node_is(add, "Add") && wn_vector_of(m->g, wn_other_in(add, m->y), m->k)) {
        m->beta = wn_other_in(add, m->y);
        m->y = add->out[0];
    }
}

/* y = x * scale + (beta - mean * scale), scale = inv * gamma. */
static bool scaled_form(struct norm *m, wn_vid scale)
{
    size_t at = 0;
    struct wn_node *mul;
    wn_vid product = WN_NONE, y = WN_NONE;
    while ((mul = next_reader(m, scale, "Mul", &at))) {
        wn_vid other = wn_other_in(mul, scale);
        if (other == m->x)
            product = mul->out[0];
        else if (is_difference(m, other)) { /* (x - mean) * scale */
            m->y = mul->out[0];
            return true;
        }
    }
    struct wn_node *add = product == WN_NONE ? NULL : wn_graph_only_user(m->g, product);
    const struct wn_node *sub =
        add && wn_node_is(add, "Add") ? wn_made_by(m->g, wn_other_in(add, product), "Sub") : NULL;
    const struct wn_node *shift = sub ? wn_made_by(m->g, sub->in[1], "Mul") : NULL;
    wn_vid mean = shift ? wn_other_in(shift, scale) : WN_NONE;
    if (!shift || mean == WN_NONE || mean_of(m->g, mean) != m->x || !wn_vector_of(m->g, sub->in[0], m->k))
        return false;
    m->beta = sub->in[0];
    y = add->out[0];
    m->y = y;
    return true;
}

/* What is done with 1 / deviation. */
static bool times_inverse(struct norm *m, wn_vid inv)
{
    size_t at = 0;
    struct wn_node *mul;
    while ((mul = next_reader(m, inv, "Mul", &at))) {
        wn_vid other = wn_other_in(mul, inv);
        if (is_difference(m, other)) {
            affine(m, mul->out[0]);
            return true;
        }
        if (other != WN_NONE && wn_vector_of(m->g, other, m->k)) {
            m->gamma = other;
            if (!scaled_form(m, mul->out[0]))
                return false;
            struct wn_node *add = m->beta == WN_NONE ? wn_graph_only_user(m->g, m->y) : NULL;
            if (add && wn_node_is(add, "Add") && wn_vector_of(m->g, wn_other_in(add, m->y), m->k)) {
                m->beta = wn_other_in(add, m->y);
                m->y = add->out[0];
            }
            return true;
        }
    }
    return false;
}

static bool over_deviation(struct norm *m, wn_vid std)
{
    size_t at = 0;
    struct wn_node *div, *rec = next_reader(m, std, "Reciprocal", &at);
    if (rec)
        return times_inverse(m, rec->out[0]);
    at = 0;
    while ((div = next_reader(m, std, "Div", &at))) {
        if (div->in[1] != std)
            continue;
        if (is_difference(m, div->in[0])) {
            affine(m, div->out[0]);
            return true;
        }
        if (wn_number_is(m->g, div->in[0], 1))
            return times_inverse(m, div->out[0]);
    }
    return false;
}

static bool match(struct norm *m, const struct wn_node *root)
{
    m->gamma = m->beta = WN_NONE;
    bool sqrt = wn_node_is(root, "Sqrt") || (wn_node_is(root, "Pow") && wn_number_is(m->g, root->in[1], 0.5));
    bool inverse = wn_node_is(root, "Pow") && wn_number_is(m->g, root->in[1], -0.5);
    if ((!sqrt && !inverse) || !variance(m, root->in[0]))
        return false;
    return sqrt ? over_deviation(m, root->out[0]) : times_inverse(m, root->out[0]);
}

/* A constant vector as LayerNormalization wants it, of rank 1; NULL data: ones. */
static wn_vid vector(struct norm *m, wn_vid v)
{
    const struct wn_tensor *t = wn_const_of(m->g, v);
    if (t && t->rank == 1)
        return v;
    wn_vid c = wn_graph_add_const(m->g, NULL, WINNOW_F32, 1, &m->k, t ? t->data : NULL);
    for (int64_t i = 0; c != WN_NONE && !t && i < m->k; i++)
        ((float *)m->g->values.at[c].constant->data)[i] = 1;
    return c;
}

enum winnow_status wn_pass_layer_norm(struct wn_graph *g, struct winnow_err *err)
{
    WN_CLEANUP(norm_done) struct norm m = { .g = g };
    if (!wn_readers_make(g, &m.readers))
        return wn_fail(err, WINNOW_E_NOMEM, "a graph of %zu nodes", g->nodes.n);
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        if (g->nodes.at[i].dead || !match(&m, &g->nodes.at[i]))
            continue;
        struct wn_node *last = wn_graph_producer(g, m.y);
        const char *name = last->name;
        wn_vid in[3] = { m.x, vector(&m, m.gamma), m.beta == WN_NONE ? WN_NONE : vector(&m, m.beta) };
        if (in[1] == WN_NONE || (m.beta != WN_NONE && in[2] == WN_NONE))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
        wn_graph_kill(g, last);
        struct wn_node *node = wn_std_add(g, "LayerNormalization", 17, name, in, m.beta == WN_NONE ? 2 : 3, m.y);
        if (!node || !wn_node_set_int(g, node, "axis", -1) || !wn_node_set_float(g, node, "epsilon", (float)m.eps))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    }
    return WINNOW_OK;
}
