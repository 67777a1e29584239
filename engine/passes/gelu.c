/* gelu.c: GELU in the words of its exporters -> the operator Gelu.
 *
 *     x / 2 * (1 + Erf(x / sqrt 2))        x / 2 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
 *
 * The three factors come in any order and grouping, halves and roots as Mul or Div; the argument of Tanh in any way of
 * writing a polynomial. So both are read as what they are: a product and a polynomial in some value x, and every value
 * that the argument is made of is tried as x. */
#include <math.h>
#include "engine/passes/match.h"

#define MAX_DEPTH 8
#define MAX_STEPS 2000 /* values looked at for one Erf or Tanh; real ones need some dozens */

struct poly {
    double c[4]; /* of 1, x, x^2, x^3 */
};

struct search {
    struct wn_graph *g;
    wn_vid u, s; /* the argument; 1 + erf or tanh of it */
    bool erf;
    int steps;   /* left */
    wn_vid x, y; /* found */
};

static bool times(const struct poly *a, const struct poly *b, struct poly *ret)
{
    *ret = (struct poly){ { 0 } };
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            double p = a->c[i] * b->c[j];
            if (p != 0 && i + j > 3)
                return false;
            if (i + j < 4)
                ret->c[i + j] += p;
        }
    return true;
}

/* v as a polynomial in x of degree 3 at most. */
static bool polynomial(struct search *s, wn_vid v, wn_vid x, int depth, struct poly *ret)
{
    struct poly a, b;
    double n;
    struct wn_graph *g = s->g;
    *ret = (struct poly){ { 0 } };
    if (v == x) {
        ret->c[1] = 1;
        return true;
    }
    if (wn_number(g, v, &ret->c[0]))
        return true;
    const struct wn_node *node = wn_graph_producer(g, v);
    if (!node || depth == 0 || --s->steps < 0 || node->n_in != 2 || *node->domain)
        return false;
    if (wn_node_is(node, "Pow")) {
        if (!wn_number(g, node->in[1], &n) || (n != 2 && n != 3) || !polynomial(s, node->in[0], x, depth - 1, &a) ||
            !times(&a, &a, &b))
            return false;
        *ret = b;
        return n == 2 || times(&a, &b, ret);
    }
    bool mul = wn_node_is(node, "Mul"), add = wn_node_is(node, "Add"), div = wn_node_is(node, "Div");
    if ((!mul && !add && !div) || !polynomial(s, node->in[0], x, depth - 1, &a) ||
        !polynomial(s, node->in[1], x, depth - 1, &b))
        return false;
    if (mul)
        return times(&a, &b, ret);
    for (int i = 0; i < 4; i++) {
        if (div && (i ? b.c[i] != 0 : b.c[0] == 0))
            return false;
        ret->c[i] = div ? a.c[i] / b.c[0] : a.c[i] + b.c[i];
    }
    return true;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 2e-3 * fabs(b); /* some write 0.7978 */
}

/* v = *c * x^*nx * s^*ns */
static bool product(struct wn_graph *g, wn_vid v, wn_vid x, wn_vid s, int depth, double *c, int *nx, int *ns)
{
    double n;
    wn_vid rest;
    if (v == x || v == s) {
        *nx += v == x;
        *ns += v == s;
        return true;
    }
    const struct wn_node *node = wn_graph_producer(g, v);
    if (!node || depth == 0)
        return false;
    if (wn_scaled_by(g, node, &rest, &n)) {
        *c *= n;
        return product(g, rest, x, s, depth - 1, c, nx, ns);
    }
    return wn_node_is(node, "Mul") && product(g, node->in[0], x, s, depth - 1, c, nx, ns) &&
           product(g, node->in[1], x, s, depth - 1, c, nx, ns);
}

static bool argument(struct search *s, wn_vid x)
{
    struct poly p;
    if (!polynomial(s, s->u, x, MAX_DEPTH, &p) || p.c[0] != 0 || p.c[2] != 0)
        return false;
    return s->erf ? near(p.c[1], M_SQRT1_2) && p.c[3] == 0
                  : near(p.c[1], sqrt(M_2_PI)) && near(p.c[3], 0.044715 * p.c[1]);
}

/* The end of the product that `s` (1 + erf or tanh) is a factor of, if it is GELU of x; WN_NONE otherwise. */
static wn_vid end_of(struct wn_graph *g, wn_vid x, wn_vid s)
{
    wn_vid v = s;
    for (int i = 0; i < 3; i++) {
        const struct wn_node *node = wn_graph_only_user(g, v);
        if (!node || (!wn_node_is(node, "Mul") && !wn_node_is(node, "Div")))
            return WN_NONE;
        v = node->out[0];
        double c = 1;
        int nx = 0, ns = 0;
        if (product(g, v, x, s, MAX_DEPTH, &c, &nx, &ns) && near(c, 0.5) && nx == 1 && ns == 1)
            return v;
    }
    return WN_NONE;
}

/* Try every value that u is made of as x: it is what the whole argument is a polynomial in. */
static bool search(struct search *s, wn_vid at, int depth)
{
    if (at == WN_NONE || wn_const_of(s->g, at) || --s->steps < 0)
        return false;
    if (argument(s, at) && (s->y = end_of(s->g, at, s->s)) != WN_NONE) {
        s->x = at;
        return true;
    }
    const struct wn_node *node = wn_graph_producer(s->g, at);
    if (!node || depth == 0 ||
        !(wn_node_is(node, "Mul") || wn_node_is(node, "Div") || wn_node_is(node, "Add") || wn_node_is(node, "Pow")))
        return false;
    return search(s, node->in[0], depth - 1) || search(s, node->in[1], depth - 1);
}

static bool match(struct search *s, const struct wn_node *node)
{
    s->erf = wn_node_is(node, "Erf");
    if (!s->erf && !wn_node_is(node, "Tanh"))
        return false;
    const struct wn_node *add = wn_graph_only_user(s->g, node->out[0]);
    if (!add || !wn_node_is(add, "Add") || !wn_number_is(s->g, wn_other_in(add, node->out[0]), 1))
        return false;
    s->u = node->in[0];
    s->s = add->out[0];
    s->steps = MAX_STEPS;
    return search(s, s->u, 6) && s->g->values.at[s->x].type.dtype == WINNOW_F32;
}

enum winnow_status wn_pass_gelu(struct wn_graph *g, struct winnow_err *err)
{
    struct search s = { .g = g };
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        if (g->nodes.at[i].dead || !match(&s, &g->nodes.at[i]))
            continue;
        struct wn_node *last = wn_graph_producer(g, s.y);
        const char *name = last->name;
        wn_graph_kill(g, last);
        struct wn_node *node = wn_std_add(g, "Gelu", 20, name, &s.x, 1, s.y);
        if (!node || !wn_node_set_str(g, node, "approximate", s.erf ? "none" : "tanh"))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    }
    return WINNOW_OK;
}
