/* shapes.c: target shapes that exporters compute (Shape, Gather, Unsqueeze, Concat, Reshape) become constants.
 *
 * `y.view(y.size(0), -1)` reaches the file as six nodes, and no rule about rows can see through them. Here the elements
 * of small integer vectors are followed by name: a number, extent k of value v, or an unknown that is never negative.
 * In the end an extent that Reshape's own input has in the same place is a 0 ("keep"), and one other unknown is a -1
 * ("what remains"): the same shape wherever the file's own computation gives a valid one. */
#include <stdlib.h>
#include <string.h>
#include "engine/ops/impl.h"
#include "engine/passes/impl.h"

struct element {
    int64_t known; /* or -1: unknown, */
    wn_vid v;      /* extent `axis` of this value, or WN_NONE */
    int axis;
};

struct vector {
    unsigned n;
    struct element e[WINNOW_MAX_RANK];
};

struct follower {
    struct wn_graph *g;
    struct vector **vec; /* [values] NULL: not followed */
    int *axis;           /* [values] where the batch is (rows.c) */
    bool one_batch;      /* all inputs carry the same batch */
};

static void follower_done(struct follower *f)
{
    for (size_t v = 0; f->vec && v < f->g->values.n; v++)
        free(f->vec[v]);
    free(f->vec);
    free(f->axis);
}

static struct element number(int64_t n)
{
    return (struct element){ n, WN_NONE, 0 };
}

/* ---- following values ---- */

static bool of_constant(const struct wn_tensor *t, struct vector *ret)
{
    if (!t || (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32) || t->rank > 1 || wn_tensor_count(t) > WINNOW_MAX_RANK)
        return false;
    ret->n = (unsigned)wn_tensor_count(t);
    for (unsigned i = 0; i < ret->n; i++)
        ret->e[i] = number(wn_scalar_int(t, i));
    return true;
}

/* The elements of input i. */
static bool input(const struct follower *f, const struct wn_node *node, unsigned i, struct vector *ret)
{
    wn_vid v = wn_in(node, i);
    if (v == WN_NONE)
        return false;
    if (f->vec[v])
        *ret = *f->vec[v];
    return f->vec[v] || of_constant(wn_const_of(f->g, v), ret);
}

static bool of_shape(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    wn_vid x = node->in[0];
    const struct wn_type *t = &f->g->values.at[x].type;
    int64_t start = wn_node_int(node, "start", 0), end = wn_node_int(node, "end", t->rank);
    if (t->rank < 0)
        return false;
    start = WN_MAX(start < 0 ? start + t->rank : start, 0);
    end = WN_MIN(end < 0 ? end + t->rank : end, t->rank);
    for (int64_t i = start; i < end; i++)
        ret->e[ret->n++] = t->dim[i] >= 0 ? number(t->dim[i]) : (struct element){ -1, x, (int)i };
    return true;
}

static bool of_gather(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    struct vector from, at;
    if (wn_node_int(node, "axis", 0) != 0 || !input(f, node, 0, &from) || !of_constant(wn_const_in(f->g, node, 1), &at))
        return false;
    for (unsigned i = 0; i < at.n; i++) {
        int64_t k = at.e[i].known < 0 ? at.e[i].known + from.n : at.e[i].known;
        if (k < 0 || k >= from.n)
            return false;
        ret->e[ret->n++] = from.e[k];
    }
    return true;
}

static bool of_concat(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    for (unsigned i = 0; i < node->n_in; i++) {
        struct vector part;
        if (!input(f, node, i, &part) || ret->n + part.n > WINNOW_MAX_RANK)
            return false;
        memcpy(ret->e + ret->n, part.e, part.n * sizeof *part.e);
        ret->n += part.n;
    }
    return true;
}

/* One number of a constant input; `def` where it is omitted. */
static bool one(const struct follower *f, const struct wn_node *node, unsigned i, int64_t def, int64_t *ret)
{
    struct vector v;
    *ret = def;
    if (wn_in(node, i) == WN_NONE)
        return true;
    if (!of_constant(wn_const_in(f->g, node, i), &v) || v.n != 1)
        return false;
    *ret = v.e[0].known;
    return true;
}

static bool of_slice(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    struct vector from;
    int64_t start, end, axis, step;
    if (node->opset < 10 || !input(f, node, 0, &from) || !one(f, node, 1, 0, &start) || !one(f, node, 2, 0, &end) ||
        !one(f, node, 3, 0, &axis) || !one(f, node, 4, 1, &step) || axis != 0 || step != 1)
        return false;
    start = start < 0 ? start + from.n : start;
    end = end < 0 ? end + from.n : end;
    for (int64_t i = WN_MAX(start, 0); i < WN_MIN(end, (int64_t)from.n); i++)
        ret->e[ret->n++] = from.e[i];
    return true;
}

/* Sums, products and quotients of what is not negative are not negative; what they are is not followed. */
static bool of_arithmetic(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    struct vector a, b;
    if (node->n_in != 2 || !input(f, node, 0, &a) || !input(f, node, 1, &b) || a.n != 1 || b.n != 1)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if ((i ? b : a).e[0].known < 0 && wn_const_in(f->g, node, i))
            return false;
    ret->n = 1;
    ret->e[0] = (struct element){ -1, WN_NONE, 0 };
    return true;
}

static bool follow(const struct follower *f, const struct wn_node *node, struct vector *ret)
{
    static const char *const same[] = { "Unsqueeze", "Squeeze", "Identity", "Cast" };
    static const char *const arithmetic[] = { "Add", "Mul", "Div" };
    if (node->n_out != 1 || !node->n_in || node->in[0] == WN_NONE || *node->domain)
        return false;
    const struct wn_type *t = &f->g->values.at[node->out[0]].type;
    if (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32)
        return false;
    for (size_t i = 0; i < WN_COUNT(same); i++)
        if (wn_node_is(node, same[i]))
            return t->rank >= 0 && t->rank <= 1 && input(f, node, 0, ret);
    for (size_t i = 0; i < WN_COUNT(arithmetic); i++)
        if (wn_node_is(node, arithmetic[i]))
            return of_arithmetic(f, node, ret);
    return (wn_node_is(node, "Shape") && of_shape(f, node, ret)) ||
           (wn_node_is(node, "Gather") && of_gather(f, node, ret)) ||
           (wn_node_is(node, "Concat") && of_concat(f, node, ret)) ||
           (wn_node_is(node, "Slice") && of_slice(f, node, ret));
}

/* ---- Reshape ---- */

/* Extent i of x, which Reshape reads, is surely this. */
static bool keeps(const struct follower *f, wn_vid x, unsigned i, struct element e)
{
    if (e.v == WN_NONE || (int)i >= f->g->values.at[x].type.rank)
        return false;
    return (e.v == x && e.axis == (int)i) || (f->one_batch && f->axis[e.v] == e.axis && f->axis[x] == (int)i);
}

static enum winnow_status settle(struct follower *f, struct wn_node *node, struct winnow_err *err)
{
    struct vector want;
    unsigned rest = 0;
    int64_t dim[WINNOW_MAX_RANK], n;
    if (wn_node_int(node, "allowzero", 0) || wn_const_in(f->g, node, 1) || !input(f, node, 1, &want))
        return WINNOW_OK;
    for (unsigned i = 0; i < want.n; i++) {
        struct element e = want.e[i];
        bool constant = e.known >= 0;
        if (e.known == 0) /* "keep" in the file's own words, beside what we would say */
            return WINNOW_OK;
        dim[i] = constant ? e.known : keeps(f, node->in[0], i, e) ? 0 : -1;
        rest += dim[i] == -1;
    }
    if (rest > 1)
        return WINNOW_OK;
    n = want.n;
    wn_vid c = wn_graph_add_const(f->g, NULL, WINNOW_I64, 1, &n, dim);
    if (c == WN_NONE)
        return WN_OOM(err, node);
    node->in[1] = c;
    return WINNOW_OK;
}

/* What is known of the outputs now. */
static void infer_again(struct wn_graph *g, const struct wn_node *node)
{
    struct wn_infer infer;
    struct wn_type out[WN_OP_MAX_IN];
    if (node->n_in > WN_OP_MAX_IN || node->n_out > WN_OP_MAX_IN || !node->op)
        return;
    wn_ops_infer_prepare(g, node, &infer, out);
    if (wn_ops_infer_node(&infer, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE || out[i].rank < 0)
            continue;
        struct wn_type *t = &g->values.at[node->out[i]].type;
        if (t->rank < 0)
            *t = out[i];
        for (int d = 0; t->rank == out[i].rank && d < t->rank; d++)
            t->dim[d] = t->dim[d] < 0 ? out[i].dim[d] : t->dim[d];
    }
}

static bool inputs_share_batch(const struct wn_graph *g)
{
    const char *name = NULL;
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_value *v = &g->values.at[g->inputs.at[i]];
        if (v->type.rank < 1 || v->type.dim[0] >= 0)
            continue;
        if (i && (!name || !v->dim_name[0] || strcmp(name, v->dim_name[0]) != 0))
            return false;
        name = v->dim_name[0];
    }
    return true;
}

static bool any_computed(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        if (wn_node_is(&g->nodes.at[i], "Reshape") && !wn_const_in(g, &g->nodes.at[i], 1))
            return true;
    return false;
}

enum winnow_status wn_pass_shapes(struct wn_graph *g, struct winnow_err *err)
{
    if (!any_computed(g))
        return WINNOW_OK;
    size_t n_values = g->values.n; /* constants made on the way are not followed */
    WN_CLEANUP(follower_done) struct follower f = { .g = g, .one_batch = inputs_share_batch(g) };
    size_t room = n_values + g->nodes.n + 1; /* a constant for each Reshape */
    f.vec = calloc(room, sizeof *f.vec);
    f.axis = malloc(room * sizeof *f.axis);
    if (!f.vec || !f.axis)
        return wn_fail(err, WINNOW_E_NOMEM, "shapes of a graph of %zu nodes", g->nodes.n);
    for (size_t v = 0; v < room; v++)
        f.axis[v] = WN_ROWS_NONE;
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_type *t = &g->values.at[g->inputs.at[i]].type;
        if (t->rank >= 1 && t->dim[0] < 0)
            f.axis[g->inputs.at[i]] = 0;
    }
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        struct vector v = { 0 };
        if (node->dead)
            continue;
        if (wn_node_is(node, "Reshape"))
            WN_TRY(settle(&f, node, err));
        infer_again(g, node);
        int axis = wn_rows_node_axis(g, node, f.axis);
        for (unsigned k = 0; k < node->n_out; k++)
            if (node->out[k] != WN_NONE)
                f.axis[node->out[k]] = axis;
        if (follow(&f, node, &v) && (f.vec[node->out[0]] = malloc(sizeof v)))
            *f.vec[node->out[0]] = v;
    }
    return WINNOW_OK;
}
