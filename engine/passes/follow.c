/* follow.c: see follow.h. */
#include "engine/passes/follow.h"

#include <stdlib.h>
#include <string.h>
#include "engine/ops/impl.h"

void wn_follow_done(struct wn_follower *f)
{
    for (size_t v = 0; f->vec && v < f->room; v++)
        free(f->vec[v]);
    free(f->vec);
    free(f->axis);
    *f = (struct wn_follower){ 0 };
}

bool wn_follow_init(struct wn_follower *f, struct wn_graph *g, size_t more)
{
    *f = (struct wn_follower){ .g = g, .room = g->values.n + more + 1 };
    f->vec = calloc(f->room, sizeof *f->vec);
    f->axis = malloc(f->room * sizeof *f->axis);
    if (!f->vec || !f->axis)
        return false;
    for (size_t v = 0; v < f->room; v++)
        f->axis[v] = WN_ROWS_NONE;
    for (size_t i = 0; i < g->inputs.n; i++) {
        const struct wn_type *t = &g->values.at[g->inputs.at[i]].type;
        if (t->rank >= 1 && t->dim[0] < 0)
            f->axis[g->inputs.at[i]] = 0;
    }
    return true;
}

bool wn_follow_is_batch(const struct wn_follower *f, const struct wn_element *e)
{
    return e->known < 0 && e->v != WN_NONE && f->axis[e->v] >= 0 && f->axis[e->v] == e->axis;
}

bool wn_follow_is_fixed(const struct wn_follower *f, const struct wn_element *e)
{
    if (e->known >= 0)
        return true;
    return e->v == WN_NONE ? !e->of_batch : f->axis[e->v] != WN_ROWS_MIXED && f->axis[e->v] != e->axis;
}

static struct wn_element number(int64_t n)
{
    return (struct wn_element){ n, WN_NONE, 0, false };
}

/* ---- following values ---- */

static bool of_constant(const struct wn_tensor *t, struct wn_vector *ret)
{
    if (!t || (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32 && t->dtype != WINNOW_BOOL) || t->rank > 1 ||
        wn_tensor_count(t) > WINNOW_MAX_RANK)
        return false;
    ret->n = (unsigned)wn_tensor_count(t);
    for (unsigned i = 0; i < ret->n; i++)
        ret->e[i] = number(wn_scalar_int(t, i));
    return true;
}

bool wn_follow_input(const struct wn_follower *f, const struct wn_node *node, unsigned i, struct wn_vector *ret)
{
    wn_vid v = wn_in(node, i);
    if (v == WN_NONE)
        return false;
    if (f->vec[v])
        *ret = *f->vec[v];
    return f->vec[v] || of_constant(wn_const_of(f->g, v), ret);
}

static bool of_shape(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    wn_vid x = node->in[0];
    const struct wn_type *t = &f->g->values.at[x].type;
    int64_t start = wn_node_int(node, "start", 0), end = wn_node_int(node, "end", t->rank);
    if (t->rank < 0)
        return false;
    start = WN_MAX(start < 0 ? start + t->rank : start, 0);
    end = WN_MIN(end < 0 ? end + t->rank : end, t->rank);
    for (int64_t i = start; i < end; i++)
        ret->e[ret->n++] = t->dim[i] >= 0 ? number(t->dim[i]) : (struct wn_element){ -1, x, (int)i, false };
    return true;
}

static bool of_gather(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    struct wn_vector from, at;
    if (wn_node_int(node, "axis", 0) != 0 || !wn_follow_input(f, node, 0, &from) ||
        !of_constant(wn_const_in(f->g, node, 1), &at))
        return false;
    for (unsigned i = 0; i < at.n; i++) {
        int64_t k = at.e[i].known < 0 ? at.e[i].known + from.n : at.e[i].known;
        if (k < 0 || k >= from.n)
            return false;
        ret->e[ret->n++] = from.e[k];
    }
    return true;
}

static bool of_concat(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    for (unsigned i = 0; i < node->n_in; i++) {
        struct wn_vector part;
        if (!wn_follow_input(f, node, i, &part) || ret->n + part.n > WINNOW_MAX_RANK)
            return false;
        memcpy(ret->e + ret->n, part.e, part.n * sizeof *part.e);
        ret->n += part.n;
    }
    return true;
}

/* One number of a constant input; `def` where it is omitted. */
static bool one(const struct wn_follower *f, const struct wn_node *node, unsigned i, int64_t def, int64_t *ret)
{
    struct wn_vector v;
    *ret = def;
    if (wn_in(node, i) == WN_NONE)
        return true;
    if (!of_constant(wn_const_in(f->g, node, i), &v) || v.n != 1)
        return false;
    *ret = v.e[0].known;
    return true;
}

static bool of_slice(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    struct wn_vector from;
    int64_t start, end, axis, step;
    if (node->opset < 10 || !wn_follow_input(f, node, 0, &from) || !one(f, node, 1, 0, &start) ||
        !one(f, node, 2, 0, &end) || !one(f, node, 3, 0, &axis) || !one(f, node, 4, 1, &step) || axis != 0 || step != 1)
        return false;
    start = start < 0 ? start + from.n : start;
    end = end < 0 ? end + from.n : end;
    for (int64_t i = WN_MAX(start, 0); i < WN_MIN(end, (int64_t)from.n); i++)
        ret->e[ret->n++] = from.e[i];
    return true;
}

/* Sums, products and quotients of what is not negative are not negative; what they are is not followed. */
static bool of_arithmetic(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    struct wn_vector a, b;
    if (node->n_in != 2 || !wn_follow_input(f, node, 0, &a) || !wn_follow_input(f, node, 1, &b) || a.n != 1 || b.n != 1)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if ((i ? b : a).e[0].known < 0 && wn_const_in(f->g, node, i))
            return false;
    ret->n = 1;
    ret->e[0] =
        (struct wn_element){ -1, WN_NONE, 0, !wn_follow_is_fixed(f, &a.e[0]) || !wn_follow_is_fixed(f, &b.e[0]) };
    return true;
}

/* Equal with constants: an extent is never a negative number. */
static bool of_equal(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    struct wn_vector a, b;
    if (!wn_follow_input(f, node, 0, &a) || !wn_follow_input(f, node, 1, &b) || (a.n != b.n && a.n != 1 && b.n != 1))
        return false;
    for (unsigned i = 0; i < WN_MAX(a.n, b.n); i++) {
        const struct wn_element *x = &a.e[a.n == 1 ? 0 : i], *y = &b.e[b.n == 1 ? 0 : i];
        bool x_number = x->known >= 0 || wn_const_in(f->g, node, 0),
             y_number = y->known >= 0 || wn_const_in(f->g, node, 1);
        if (!(x_number && y_number) && !(x_number && x->known < 0) && !(y_number && y->known < 0))
            return false;
        ret->e[ret->n++] = number(x_number && y_number && x->known == y->known);
    }
    return true;
}

/* Where with a known condition. */
static bool of_where(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    struct wn_vector c, a, b;
    if (!wn_follow_input(f, node, 0, &c) || !wn_follow_input(f, node, 1, &a) || !wn_follow_input(f, node, 2, &b) ||
        a.n != c.n || b.n != c.n)
        return false;
    for (unsigned i = 0; i < c.n; i++) {
        unsigned from = c.e[i].known ? 1 : 2;
        struct wn_element e = from == 1 ? a.e[i] : b.e[i];
        if (c.e[i].known < 0 || (e.known < 0 && wn_const_in(f->g, node, from)))
            return false;
        ret->e[ret->n++] = e;
    }
    return true;
}

static bool follow(const struct wn_follower *f, const struct wn_node *node, struct wn_vector *ret)
{
    static const char *const same[] = { "Unsqueeze", "Squeeze", "Identity", "Cast" };
    static const char *const arithmetic[] = { "Add", "Mul", "Div" };
    if (node->n_out != 1 || !node->n_in || node->in[0] == WN_NONE || *node->domain)
        return false;
    const struct wn_type *t = &f->g->values.at[node->out[0]].type;
    if (wn_node_is(node, "Equal"))
        return of_equal(f, node, ret);
    if (t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32)
        return false;
    for (size_t i = 0; i < WN_COUNT(same); i++)
        if (wn_node_is(node, same[i]))
            return t->rank >= 0 && t->rank <= 1 && wn_follow_input(f, node, 0, ret);
    for (size_t i = 0; i < WN_COUNT(arithmetic); i++)
        if (wn_node_is(node, arithmetic[i]))
            return of_arithmetic(f, node, ret);
    return (wn_node_is(node, "Shape") && of_shape(f, node, ret)) ||
           (wn_node_is(node, "Gather") && of_gather(f, node, ret)) ||
           (wn_node_is(node, "Concat") && of_concat(f, node, ret)) ||
           (wn_node_is(node, "Slice") && of_slice(f, node, ret)) ||
           (wn_node_is(node, "Where") && of_where(f, node, ret));
}

/* ---- where the batch is ---- */

static int axis_in(const struct wn_follower *f, const struct wn_node *node, unsigned i)
{
    wn_vid v = wn_in(node, i);
    return v == WN_NONE ? WN_ROWS_NONE : f->axis[v];
}

/* Position of the one batch extent in a shape; NONE without one, MIXED when there are several or it is computed with.
 */
static int batch_in(const struct wn_follower *f, const struct wn_vector *shape)
{
    int at = WN_ROWS_NONE;
    for (unsigned i = 0; i < shape->n; i++) {
        if (wn_follow_is_fixed(f, &shape->e[i]))
            continue;
        if (at != WN_ROWS_NONE || !wn_follow_is_batch(f, &shape->e[i]))
            return WN_ROWS_MIXED;
        at = (int)i;
    }
    return at;
}

static int axis_of_expand(const struct wn_follower *f, const struct wn_node *node, const struct wn_vector *shape)
{
    const struct wn_type *x = &f->g->values.at[node->in[0]].type;
    int axis = axis_in(f, node, 0), at = batch_in(f, shape);
    if (x->rank < 0 || axis == WN_ROWS_MIXED || at == WN_ROWS_MIXED)
        return WN_ROWS_MIXED;
    int rank = WN_MAX(x->rank, (int)shape->n), lead = rank - (int)shape->n;
    int to = at < 0 ? WN_ROWS_NONE : at + lead, from = axis < 0 ? WN_ROWS_NONE : axis + rank - x->rank;
    if (from < 0) /* the same for every row, if what is repeated is one */
        return to >= 0 && to >= rank - x->rank && x->dim[to - (rank - x->rank)] != 1 ? WN_ROWS_MIXED : to;
    if (to >= 0)
        return from == to ? from : WN_ROWS_MIXED;
    return from < lead || shape->e[from - lead].known == 1 ? from : WN_ROWS_MIXED;
}

/* Slice of axes that are constant and not the batch's, whatever the bounds. */
static int axis_of_slice(const struct wn_follower *f, const struct wn_node *node)
{
    int axis = axis_in(f, node, 0), rank = f->g->values.at[node->in[0]].type.rank;
    const struct wn_tensor *axes = wn_const_in(f->g, node, 3);
    if (!axes || axis < 0 || rank < 0 || axis_in(f, node, 1) != WN_ROWS_NONE || axis_in(f, node, 2) != WN_ROWS_NONE ||
        axis_in(f, node, 4) != WN_ROWS_NONE)
        return WN_ROWS_MIXED;
    for (int64_t i = 0; i < wn_tensor_count(axes); i++) {
        int64_t a = wn_scalar_int(axes, i);
        if ((a < 0 ? a + rank : a) == axis)
            return WN_ROWS_MIXED;
    }
    return axis;
}

/* Operators whose shape is an input that was followed. False: the operator's own rule decides. */
static bool axis_by_shape(const struct wn_follower *f, const struct wn_node *node, int *ret)
{
    struct wn_vector shape;
    *ret = WN_ROWS_MIXED;
    if (wn_node_is(node, "Slice") && node->n_in >= 4 && !(wn_const_in(f->g, node, 1) && wn_const_in(f->g, node, 2))) {
        *ret = axis_of_slice(f, node);
        return axis_in(f, node, 0) >= 0;
    }
    bool constant_of = wn_node_is(node, "ConstantOfShape"), expand = wn_node_is(node, "Expand");
    bool reshape = wn_node_is(node, "Reshape");
    if ((!constant_of && !expand && !reshape) || wn_const_in(f->g, node, !constant_of) ||
        !wn_follow_input(f, node, !constant_of, &shape))
        return false;
    if (constant_of)
        *ret = batch_in(f, &shape);
    else if (expand)
        *ret = axis_of_expand(f, node, &shape);
    else if (shape.n && axis_in(f, node, 0) == 0 && batch_in(f, &shape) == 0)
        *ret = 0; /* as many rows as before, however each is cut */
    else
        return false;
    return true;
}

void wn_follow_node(struct wn_follower *f, const struct wn_node *node)
{
    struct wn_vector v = { 0 };
    int axis;
    if (follow(f, node, &v)) {
        bool fixed = true;
        for (unsigned i = 0; i < v.n; i++)
            fixed = fixed && wn_follow_is_fixed(f, &v.e[i]);
        axis = fixed ? WN_ROWS_NONE : WN_ROWS_MIXED;
        if ((f->vec[node->out[0]] = malloc(sizeof v)))
            *f->vec[node->out[0]] = v;
    } else if (!axis_by_shape(f, node, &axis)) {
        axis = wn_rows_node_axis(f->g, node, f->axis);
    }
    for (unsigned k = 0; k < node->n_out; k++)
        if (node->out[k] != WN_NONE)
            f->axis[node->out[k]] = axis;
}
