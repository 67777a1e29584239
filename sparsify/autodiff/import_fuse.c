/* import_fuse.c: chains of nodes that exporters write for layer norm and GELU, read as one operator each: a tenth of
 * the memory traffic, and one gradient instead of nine. The graph itself stays as it is: what is exported has its own
 * nodes.
 *
 *   layer norm   m = ReduceMean(x)  d = x - m  v = ReduceMean(d^2)  y = d / Sqrt(v + eps) * scale + shift
 *   GELU         x * 0.5 * (1 + Erf(x / sqrt(2))), in each of three orders of the last products */
#include <math.h>
#include <string.h>
#include "sparsify/autodiff/import.h"

static wn_nid id_of(const struct wn_import *im, const struct wn_node *n)
{
    return (wn_nid)(n - im->g->nodes.at);
}

/** One constant number among a node's two inputs; *ret_other: the other input. */
static bool number(const struct wn_import *im, const struct wn_node *n, float *ret, wn_vid *ret_other)
{
    for (unsigned i = 0; n->n_in == 2 && n->n_out == 1 && i < 2; i++)
        if (n->in[i] != WN_NONE && n->in[1 - i] != WN_NONE && wn_im_float(im, n, i, ret)) {
            *ret_other = n->in[1 - i];
            return true;
        }
    return false;
}

static bool near(float a, double b)
{
    return fabs((double)a - b) < 1e-4 * fabs(b);
}

/** The only user of v, if it is of this type. */
static struct wn_node *only(struct wn_import *im, wn_vid v, const char *type)
{
    struct wn_node *u = wn_graph_only_user(im->g, v);
    return u && wn_node_is(u, type) ? u : NULL;
}

static bool over_last(const struct wn_import *im, const struct wn_node *n, unsigned rank)
{
    int64_t tmp[16];
    size_t count;
    const int64_t *axes = wn_im_ints(im, n, 1, &count, tmp);
    if (!axes)
        axes = wn_node_ints(n, "axes", &count);
    return axes && count == 1 && (axes[0] == -1 || axes[0] == (int64_t)rank - 1) && wn_node_int(n, "keepdims", 1);
}

/** A vector of constants among the inputs of n beside `v`; its place, or -1. */
static int vector_beside(const struct wn_import *im, const struct wn_node *n, wn_vid v, int64_t f)
{
    for (int i = 0; i < 2; i++) {
        const struct wn_tensor *t = n->in[1 - i] == v ? wn_im_const(im, n, (unsigned)i) : NULL;
        if (t && t->dtype == WINNOW_F32 && t->rank >= 1 && wn_tensor_count(t) == f && t->dim[t->rank - 1] == f)
            return i;
    }
    return -1;
}

/** Of the (two or three) uses of d: the square of it, and the division by the deviation. */
static bool users_of_difference(struct wn_import *im, wn_vid d, struct wn_node **ret_square, struct wn_node **ret_div)
{
    *ret_square = *ret_div = NULL;
    for (size_t i = 0; i < im->g->nodes.n; i++) {
        struct wn_node *n = &im->g->nodes.at[i];
        float two;
        wn_vid base;
        for (unsigned k = 0; k < n->n_in && !n->dead; k++) {
            if (n->in[k] != d)
                continue;
            if (wn_node_is(n, "Div") && k == 0 && !*ret_div)
                *ret_div = n;
            else if (wn_node_is(n, "Pow") && k == 0 && number(im, n, &two, &base) && near(two, 2))
                *ret_square = n;
            else if (wn_node_is(n, "Mul") && n->in[0] == d && n->in[1] == d)
                *ret_square = n;
            else
                return false;
        }
    }
    return *ret_square && *ret_div;
}

static void mark(struct wn_import *im, const struct wn_node *const *inside, size_t n)
{
    for (size_t i = 0; i < n; i++)
        im->chain[id_of(im, inside[i])].role = WN_ROLE_INSIDE;
}

static bool find_norm(struct wn_import *im, struct wn_node *mean)
{
    wn_vid x = mean->in[0], other;
    int at = wn_im_in(im, mean, 0);
    struct wn_node *square, *div;
    float eps;
    if (at < 0 || !wn_im_val(im, at)->rank || !over_last(im, mean, wn_im_val(im, at)->rank))
        return false;
    unsigned rank = wn_im_val(im, at)->rank;
    int64_t f = wn_im_val(im, at)->dim[rank - 1];
    struct wn_node *sub = only(im, mean->out[0], "Sub");
    if (!sub || sub->in[0] != x || sub->in[1] != mean->out[0] || !users_of_difference(im, sub->out[0], &square, &div))
        return false;
    struct wn_node *var = only(im, square->out[0], "ReduceMean");
    struct wn_node *add = var && over_last(im, var, rank) ? only(im, var->out[0], "Add") : NULL;
    struct wn_node *root = add && number(im, add, &eps, &other) ? only(im, add->out[0], "Sqrt") : NULL;
    struct wn_node *mul = root && only(im, root->out[0], "Div") == div && div->in[1] == root->out[0]
                              ? only(im, div->out[0], "Mul")
                              : NULL;
    int scale = mul ? vector_beside(im, mul, div->out[0], f) : -1;
    struct wn_node *end = scale >= 0 ? only(im, mul->out[0], "Add") : NULL;
    if (!end || vector_beside(im, end, mul->out[0], f) < 0)
        return false;
    const struct wn_node *inside[] = { mean, sub, square, var, add, root, div, mul };
    mark(im, inside, WN_COUNT(inside));
    im->chain[id_of(im, end)] = (struct wn_chain){ .role = WN_ROLE_NORM, .x = x, .scale = id_of(im, mul), .eps = eps };
    return true;
}

/** Is v = x * 0.5 (then *ret_node), or x itself? */
static bool half_of(struct wn_import *im, wn_vid v, wn_vid x, bool *ret_halved)
{
    float half;
    wn_vid other;
    struct wn_node *n = wn_graph_producer(im->g, v);
    *ret_halved = n && wn_node_is(n, "Mul") && number(im, n, &half, &other) && other == x && near(half, 0.5);
    return *ret_halved || v == x;
}

static bool find_gelu(struct wn_import *im, struct wn_node *first)
{
    float c;
    wn_vid x, base;
    if (!number(im, first, &c, &x) || wn_im_in(im, first, first->in[0] == x ? 0 : 1) < 0 ||
        !(wn_node_is(first, "Div") ? first->in[0] == x && near(c, sqrt(2)) : near(c, sqrt(0.5))))
        return false;
    struct wn_node *erf = only(im, first->out[0], "Erf"), *one = erf ? only(im, erf->out[0], "Add") : NULL;
    struct wn_node *mul = one && number(im, one, &c, &base) && near(c, 1) ? only(im, one->out[0], "Mul") : NULL;
    if (!mul)
        return false;
    const struct wn_node *inside[] = { first, erf, one, mul };
    struct wn_node *last = mul, *next = wn_graph_only_user(im->g, mul->out[0]);
    bool halved = false;
    if (number(im, mul, &c, &base)) { /* (1 + erf) * 0.5, then times x */
        wn_vid beside = next && wn_node_is(next, "Mul") ? next->in[next->in[0] == mul->out[0]] : WN_NONE;
        if (!near(c, 0.5) || beside != x)
            return false;
        last = next;
    } else {
        if (!half_of(im, mul->in[mul->in[0] == one->out[0]], x, &halved))
            return false;
        if (!halved) { /* x * (1 + erf), then times 0.5 */
            if (!next || !wn_node_is(next, "Mul") || !number(im, next, &c, &base) || !near(c, 0.5))
                return false;
            last = next;
        }
    }
    mark(im, inside, WN_COUNT(inside) - (last == mul));
    im->chain[id_of(im, last)] = (struct wn_chain){ .role = WN_ROLE_GELU, .x = x };
    return true;
}

void wn_import_find_chain(struct wn_import *im, wn_nid at)
{
    struct wn_node *n = &im->g->nodes.at[at];
    if (wn_node_is(n, "ReduceMean"))
        (void)find_norm(im, n);
    else if (wn_node_is(n, "Div") || wn_node_is(n, "Mul"))
        (void)find_gelu(im, n);
}

enum winnow_status wn_import_read_chain(struct wn_import *im, wn_nid at)
{
    const struct wn_node *n = &im->g->nodes.at[at];
    const struct wn_chain *c = &im->chain[at];
    int x = im->val[c->x];
    struct wn_net_val v = *wn_im_val(im, x);
    int64_t f = v.rank ? v.dim[v.rank - 1] : 1;
    struct wn_param *scale = NULL, *shift = NULL;
    if (c->role == WN_ROLE_NORM) {
        const struct wn_node *mul = &im->g->nodes.at[c->scale];
        unsigned ms = wn_im_const(im, mul, 0) ? 0 : 1, ns = wn_im_const(im, n, 0) ? 0 : 1;
        scale = wn_im_param(im, mul, ms, mul, WN_LAYER_OTHER, WN_PARAM_SCALE, 1, &f, false);
        shift = scale ? wn_im_param(im, n, ns, mul, WN_LAYER_OTHER, WN_PARAM_SHIFT, 1, &f, false) : NULL;
        if (!shift)
            return FAILED();
    }
    struct wn_net_op *op =
        wn_im_emit(im, n, c->role == WN_ROLE_NORM ? &wn_rule_norm : &wn_rule_gelu, &x, 1, v.rank, v.dim);
    if (!op)
        return NOMEM();
    if (c->role == WN_ROLE_NORM) {
        op->u.eps = c->eps;
        op->param[0] = scale;
        op->param[1] = shift;
    }
    return WINNOW_OK;
}
