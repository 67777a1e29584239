/* lower_move.c: Transpose, Slice and Concat of plain tensors with elements of 4 bytes, and where their results lie.
 *
 * DESIGN  What moves only is moved as little as may be:
 *         A Transpose of planes (behind a view, as detectors' heads have it) reads the planes, and computes the function that
 *         alone reads its result while that lies in L1; a layer that can writes what the Transpose would (wn_home_beside()).
 *         The input of a Concat along the outermost axes that alone reads it is written where it will lie (wn_home_find()).
 *         A Concat that puts a part of x back where a Slice took it from is made in x's place: of the box coordinates that a
 *         detector decodes, 4 of 85 numbers are written, not 85 three times. */
#include <string.h>
#include "engine/plan/elt.h"
#include "engine/plan/home.h"
#include "engine/plan/planes.h"
#include "engine/plan/strided.h"

#define HOLDERS 64u /* in each other, that are followed: a long chain of views is not walked anew by each */

/* ---- steps ---- */

struct box {
    struct wn_strided s;
    struct wn_loc x, y;
    size_t x_base; /* bytes */
};

struct move_arg {
    unsigned n;
    struct box *box;
};

static void run_boxes(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    for (unsigned i = 0; i < a->n; i++) {
        const struct box *b = &a->box[i];
        const char *x = (const char *)wn_at(exec, b->x) + b->x_base;
        wn_strided_run(&b->s, (const uint32_t *)(const void *)x, wn_at(exec, b->y), part, n_parts);
    }
}

static enum winnow_status add_step(struct wn_lower *lo, const struct wn_node *node, const char *kernel,
                                   const struct move_arg *a)
{
    if (!wn_lower_step(lo, node, kernel, run_boxes, a))
        return WINNOW_E_NOMEM;
    for (unsigned i = 0; i < a->n; i++) {
        wn_lower_touch(lo, a->box[i].x);
        wn_lower_touch(lo, a->box[i].y);
    }
    return WINNOW_OK;
}

static struct move_arg *boxes(struct wn_lower *lo, const struct wn_node *node, unsigned n)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !(a->box = wn_arena_calloc(&lo->plan->arena, n, sizeof *a->box))) {
        wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
        return NULL;
    }
    a->n = n;
    return a;
}

/* Distances of a contiguous tensor. */
static void contiguous(const struct wn_type *t, int64_t *stride)
{
    int64_t n = 1;
    for (int a = t->rank; a-- > 0; n *= t->dim[a])
        stride[a] = n;
}

/* Elements of 4 bytes, and some. */
static bool is_movable(const struct wn_lower *lo, wn_vid v)
{
    return winnow_dtype_size(wn_lower_type(lo, v)->dtype) == 4 && wn_lower_bytes(lo, v) > 0;
}

/* The node that alone reads v, once; NULL: none, several, or v is a result. */
static struct wn_node *only_reader(const struct wn_lower *lo, wn_vid v)
{
    if (lo->output[v] || lo->user_at[v + 1] - lo->user_at[v] != 1)
        return NULL;
    return &lo->plan->g.nodes.at[lo->user[lo->user_at[v]]];
}

/* ---- where values lie ---- */

/* The axis of a Concat of plain tensors of 4 bytes; -1: it is another node. */
static int concat_axis(const struct wn_lower *lo, const struct wn_node *node)
{
    if (lo->reference || !wn_node_is(node, "Concat") || !is_movable(lo, node->out[0]))
        return -1;
    const int64_t axis = wn_node_int(node, "axis", 0);
    return (int)(axis < 0 ? axis + wn_lower_type(lo, node->out[0])->rank : axis);
}

static const struct wn_node *maker_of(const struct wn_lower *lo, wn_vid v)
{
    const wn_nid producer = lo->plan->g.values.at[v].producer;
    return producer == WN_NONE ? NULL : &lo->plan->g.nodes.at[producer];
}

/* The same of one whose result is sure to be plain: no picture, or one of inputs that come as plain tensors. */
static int plain_concat_axis(const struct wn_lower *lo, const struct wn_node *node)
{
    struct wn_conv_geom geom;
    const int axis = concat_axis(lo, node);
    if (axis < 0 || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME)
        return axis;
    for (unsigned i = 0; i < node->n_in; i++) {
        const struct wn_node *maker = maker_of(lo, node->in[i]);
        if (maker && !wn_node_is_view(maker) && !wn_node_is(maker, "Transpose") && !wn_node_is(maker, "Slice"))
            return -1;
    }
    return axis;
}

/* Extents along the axis of the inputs before i. */
static int64_t before(const struct wn_lower *lo, const struct wn_node *concat, unsigned i, int axis)
{
    int64_t n = 0;
    for (unsigned k = 0; k < i; k++)
        n += wn_lower_type(lo, concat->in[k])->dim[axis];
    return n;
}

/* Where a Slice begins and its steps; false: not known, or not a Slice of elements of 4 bytes. */
static bool slice_of(const struct wn_lower *lo, const struct wn_node *node, int64_t *from, int64_t *step)
{
    const struct wn_tensor *param[4] = { NULL };
    if (lo->reference || !wn_node_is(node, "Slice") || !is_movable(lo, node->out[0]))
        return false;
    for (unsigned i = 1; i < node->n_in && i < 5; i++)
        if (node->in[i] != WN_NONE && !(param[i - 1] = lo->plan->g.values.at[node->in[i]].constant))
            return false;
    return wn_slice_of(node, wn_lower_type(lo, node->in[0]), param, from, step);
}

/* What input i of the Concat was taken from, where that has the result's shape, the input lies in both at the same
 * place, and nobody else reads it; else WN_NONE. */
static wn_vid put_back(const struct wn_lower *lo, const struct wn_node *concat, unsigned i, int axis)
{
    const struct wn_node *slice = maker_of(lo, concat->in[i]);
    int64_t from[WINNOW_MAX_RANK], step[WINNOW_MAX_RANK];
    if (!slice || only_reader(lo, concat->in[i]) != concat || !slice_of(lo, slice, from, step))
        return WN_NONE;
    const struct wn_type *x = wn_lower_type(lo, slice->in[0]), *y = wn_lower_type(lo, concat->out[0]);
    if (x->dtype != y->dtype || x->rank != y->rank || memcmp(x->dim, y->dim, (size_t)x->rank * sizeof x->dim[0]) != 0)
        return WN_NONE;
    for (int a = 0; a < x->rank; a++)
        if (step[a] != 1 || from[a] != (a == axis ? before(lo, concat, i, axis) : 0))
            return WN_NONE;
    return slice->in[0];
}

/* More readers than a Concat takes do not all go into it; and what many read is not asked about by each of them. */
static bool read_by_many(const struct wn_lower *lo, wn_vid v)
{
    return lo->user_at[v + 1] - lo->user_at[v] > WN_OP_MAX_IN;
}

/* The value in whose place a Concat is made: the first whose parts it puts back; whoever else reads it is a Slice that
 * comes before. WN_NONE: there is none. */
static wn_vid remade_of(const struct wn_lower *lo, const struct wn_node *concat)
{
    const int axis = plain_concat_axis(lo, concat);
    wn_vid x = WN_NONE;
    for (unsigned i = 0; axis >= 0 && i < concat->n_in && x == WN_NONE; i++)
        x = put_back(lo, concat, i, axis);
    if (x == WN_NONE || lo->output[x] || lo->plan->g.values.at[x].constant || read_by_many(lo, x))
        return WN_NONE;
    for (uint32_t k = lo->user_at[x]; k < lo->user_at[x + 1]; k++) {
        const struct wn_node *user = &lo->plan->g.nodes.at[lo->user[k]];
        if (!wn_node_is(user, "Slice") || user->in[0] != x || user > concat)
            return WN_NONE;
    }
    return x;
}

/* The Concat that is made in x's place; NULL: none. */
static const struct wn_node *remade_by(const struct wn_lower *lo, wn_vid x)
{
    for (uint32_t k = lo->user_at[x]; k < lo->user_at[x + 1] && !read_by_many(lo, x); k++) {
        const struct wn_node *slice = &lo->plan->g.nodes.at[lo->user[k]];
        const struct wn_node *concat = wn_node_is(slice, "Slice") ? only_reader(lo, slice->out[0]) : NULL;
        if (concat && remade_of(lo, concat) == x)
            return concat;
    }
    return NULL;
}

/* The Concat along outermost axes that alone reads v: *ret_at, bytes from its result's first element. */
static const struct wn_node *joined_by(const struct wn_lower *lo, wn_vid v, size_t *ret_at)
{
    const struct wn_node *concat = only_reader(lo, v);
    const int axis = concat ? plain_concat_axis(lo, concat) : -1;
    if (axis < 0 || remade_of(lo, concat) != WN_NONE) /* what is there is read until the Concat comes */
        return NULL;
    const struct wn_type *y = wn_lower_type(lo, concat->out[0]);
    int64_t inner = 4;
    for (int a = 0; a < y->rank; a++) {
        if (a < axis && y->dim[a] != 1)
            return NULL;
        inner *= a > axis ? y->dim[a] : 1;
    }
    for (unsigned i = 0; i < concat->n_in; i++)
        if (concat->in[i] == v)
            *ret_at = (size_t)(before(lo, concat, i, axis) * inner);
    return concat;
}

/* The value that holds v, and where: the same under another shape, what is made in its place, or what it is a part of.
 * WN_NONE: there is none. */
static wn_vid holder_of(const struct wn_lower *lo, wn_vid v, size_t *ret_at)
{
    const struct wn_node *user = only_reader(lo, v);
    *ret_at = 0;
    if (user && wn_node_is_view(user) && user->in[0] == v)
        return user->out[0];
    if ((user = remade_by(lo, v)) || (user = joined_by(lo, v, ret_at)))
        return user->out[0];
    return WN_NONE;
}

enum winnow_status wn_home_find(struct wn_lower *lo, wn_vid v, bool *ret_found, struct wn_loc *ret)
{
    wn_vid home = v;
    size_t at = 0, more;
    *ret_found = false;
    if (lo->reference || !is_movable(lo, v))
        return WINNOW_OK;
    for (unsigned n = 0; n < HOLDERS; n++) {
        const wn_vid next = holder_of(lo, home, &more);
        if (next == WN_NONE)
            break;
        home = next;
        at += more;
        if (lo->plan->place[home].form[WN_FORM_PLAIN].kind != WN_LOC_NONE)
            break;
    }
    if (home == v)
        return WINNOW_OK;
    *ret = lo->plan->place[home].form[WN_FORM_PLAIN];
    if (ret->kind == WN_LOC_NONE)
        WN_TRY(wn_lower_new_plain(lo, home, ret));
    ret->offset += at;
    *ret_found = true;
    return WINNOW_OK;
}

/* ---- Concat ---- */

/* v as a plain tensor, of a constant as well. */
static enum winnow_status plain(struct wn_lower *lo, wn_vid v, struct wn_loc *ret)
{
    const struct wn_tensor *c = lo->plan->g.values.at[v].constant;
    if (!c)
        return wn_lower_plain(lo, v, ret);
    *ret = (struct wn_loc){ .kind = WN_LOC_CONST };
    return wn_facts_pin(lo->model->facts, c, &ret->ptr, lo->err);
}

static bool same_place(struct wn_loc a, struct wn_loc b)
{
    return a.kind == b.kind && a.index == b.index && a.offset == b.offset && a.ptr == b.ptr;
}

/* Inputs that lie there already are left out. */
enum winnow_status wn_lower_concat_plain(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    const int axis = concat_axis(lo, node);
    *done = axis >= 0;
    if (axis < 0)
        return WINNOW_OK;
    const struct wn_type *y = wn_lower_type(lo, node->out[0]);
    struct wn_loc to = lo->plan->place[node->out[0]].form[WN_FORM_PLAIN];
    struct move_arg *a = boxes(lo, node, node->n_in);
    int64_t stride[WINNOW_MAX_RANK];
    if (!a)
        return WINNOW_E_NOMEM;
    if (to.kind == WN_LOC_NONE)
        WN_TRY(wn_lower_new_plain(lo, node->out[0], &to));
    contiguous(y, stride);
    a->n = 0;
    for (unsigned i = 0; i < node->n_in; i++) {
        struct box *b = &a->box[a->n];
        *b = (struct box){ .s = { .rank = (unsigned)y->rank }, .y = to };
        b->y.offset += (size_t)(before(lo, node, i, axis) * stride[axis]) * 4;
        WN_TRY(plain(lo, node->in[i], &b->x));
        if (!wn_lower_bytes(lo, node->in[i]) || same_place(b->x, b->y))
            continue;
        memcpy(b->s.dim, wn_lower_type(lo, node->in[i])->dim, sizeof b->s.dim);
        contiguous(wn_lower_type(lo, node->in[i]), b->s.x);
        memcpy(b->s.y, stride, sizeof stride);
        wn_strided_make(&b->s);
        a->n++;
    }
    return a->n ? add_step(lo, node, "concat", a) : WINNOW_OK;
}

/* ---- Slice ---- */

/* Does the Concat put back what the Slice took, where it took it? */
static bool is_put_back(const struct wn_lower *lo, const struct wn_node *concat, const struct wn_node *slice)
{
    const int axis = concat_axis(lo, concat);
    for (unsigned i = 0; i < concat->n_in; i++)
        if (concat->in[i] == slice->out[0] && put_back(lo, concat, i, axis) == slice->in[0])
            return true;
    return false;
}

enum winnow_status wn_lower_slice(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    int64_t from[WINNOW_MAX_RANK], step[WINNOW_MAX_RANK], stride[WINNOW_MAX_RANK];
    *done = false;
    if (!slice_of(lo, node, from, step))
        return WINNOW_OK;
    const struct wn_type *x = wn_lower_type(lo, node->in[0]), *y = wn_lower_type(lo, node->out[0]);
    const struct wn_node *concat = remade_by(lo, node->in[0]);
    struct wn_loc at;
    WN_TRY(plain(lo, node->in[0], &at));
    contiguous(x, stride);
    int64_t first = 0;
    for (int a = 0; a < x->rank; a++)
        first += from[a] * stride[a];
    *done = true;
    if (concat && is_put_back(lo, concat, node)) {
        struct wn_loc there = lo->plan->place[concat->out[0]].form[WN_FORM_PLAIN];
        if (there.kind == WN_LOC_NONE)
            WN_TRY(wn_lower_new_plain(lo, concat->out[0], &there));
        if (same_place(at, there)) { /* the Concat alone would read it, and has it */
            at.offset += (size_t)first * 4;
            lo->plan->place[node->out[0]].form[WN_FORM_PLAIN] = at;
            return WINNOW_OK;
        }
    }
    struct move_arg *a = boxes(lo, node, 1);
    if (!a)
        return WINNOW_E_NOMEM;
    struct box *b = a->box;
    b->x = at;
    b->x.offset += (size_t)first * 4;
    b->s.rank = (unsigned)y->rank;
    for (int i = 0; i < x->rank; i++) {
        b->s.dim[i] = y->dim[i];
        b->s.x[i] = stride[i] * step[i];
    }
    contiguous(y, b->s.y);
    wn_strided_make(&b->s);
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &b->y));
    return add_step(lo, node, "slice", a);
}

/* ---- Transpose ---- */

/* A view that is read as planes: the last two extents are theirs. */
static bool suits_planes(const struct wn_type *x, const struct wn_type *view)
{
    int64_t d[4];
    wn_nchw(x, d);
    return d[0] == 1 && view->rank >= 3 && view->rank <= WINNOW_MAX_RANK && view->dim[view->rank - 1] == d[3] &&
           view->dim[view->rank - 2] == d[2];
}

bool wn_home_view_waits(const struct wn_lower *lo, const struct wn_node *node)
{
    const wn_vid x = node->in[0], y = node->out[0];
    const struct wn_place *p = &lo->plan->place[x];
    const struct wn_node *reader = only_reader(lo, y);
    const struct wn_type *t = wn_lower_type(lo, x);
    return !lo->reference && (t->rank == 3 || t->rank == 4) && p->form[WN_FORM_F32].kind == WN_LOC_BUF &&
           p->form[WN_FORM_PLAIN].kind == WN_LOC_NONE && reader && wn_node_is(reader, "Transpose") &&
           is_movable(lo, y) && suits_planes(t, wn_lower_type(lo, y));
}

/* Where the elements of v are, and their distances. */
static enum winnow_status source(struct wn_lower *lo, wn_vid v, struct box *b, int64_t *stride)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    const struct wn_place *p = &lo->plan->place[v];
    contiguous(t, stride);
    if (p->form[WN_FORM_PLAIN].kind != WN_LOC_NONE || !p->view_of)
        return plain(lo, v, &b->x);
    struct wn_planes planes;
    WN_TRY(wn_planes_get(lo, p->view_of - 1, WN_FORM_F32, &planes));
    b->x = planes.loc;
    b->x_base = planes.base;
    stride[t->rank - 2] = planes.layout.plane.pitch;
    int64_t n = (int64_t)(planes.plane_bytes / 4);
    for (int a = t->rank - 2; a-- > 0; n *= t->dim[a])
        stride[a] = n;
    return WINNOW_OK;
}

/* The function that alone reads y becomes part of this step; *y is its result then. */
static bool take_function(struct wn_lower *lo, wn_vid *y, enum wn_elt_f32_unary *op, struct wn_elt_f32 *args)
{
    struct wn_node *next = wn_lower_type(lo, *y)->dtype == WINNOW_F32 ? only_reader(lo, *y) : NULL;
    if (!next || next->n_in != 1 || next->n_out != 1 || *next->domain || !wn_elt_unary_of(lo, next, op, args))
        return false;
    *y = next->out[0];
    next->dead = true; /* lowered */
    return true;
}

enum winnow_status wn_lower_transpose(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_node_is(node, "Transpose") || !is_movable(lo, node->out[0]))
        return WINNOW_OK;
    const struct wn_type *y = wn_lower_type(lo, node->out[0]);
    struct move_arg *a = boxes(lo, node, 1);
    if (!a)
        return WINNOW_E_NOMEM;
    struct box *b = a->box;
    int64_t stride[WINNOW_MAX_RANK];
    size_t n;
    const int64_t *perm = wn_node_ints(node, "perm", &n);
    WN_TRY(source(lo, node->in[0], b, stride));
    b->s.rank = (unsigned)y->rank;
    for (int i = 0; i < y->rank; i++) {
        b->s.dim[i] = y->dim[i];
        b->s.x[i] = stride[perm ? perm[i] : y->rank - 1 - i];
    }
    contiguous(y, b->s.y);
    wn_strided_make(&b->s);
    wn_vid out = node->out[0];
    b->s.unary = take_function(lo, &out, &b->s.op, &b->s.args);
    WN_TRY(wn_lower_new_plain(lo, out, &b->y));
    WN_TRY(add_step(lo, node, b->s.unary ? "transpose_eltwise" : "transpose", a));
    *done = true;
    return WINNOW_OK;
}

/* ---- a layer that writes what a Transpose would ---- */

#define FEW ((int64_t)16) /* channels side by side that are hardly worth it */

enum winnow_status wn_home_beside(struct wn_lower *lo, wn_vid y, bool *ret_found, struct wn_beside *ret)
{
    const struct wn_type *picture = wn_lower_type(lo, y), *t = picture;
    struct wn_node *view = only_reader(lo, y), *turn = view;
    int64_t d[4], stride[WINNOW_MAX_RANK], to[WINNOW_MAX_RANK];
    *ret_found = false;
    if (lo->reference || picture->dtype != WINNOW_F32 || !view)
        return WINNOW_OK;
    if (wn_node_is_view(view) && view->in[0] == y) {
        t = wn_lower_type(lo, view->out[0]);
        turn = only_reader(lo, view->out[0]);
    }
    if (!turn || !wn_node_is(turn, "Transpose") || !is_movable(lo, turn->out[0]) || !suits_planes(picture, t))
        return WINNOW_OK;
    size_t n;
    const int64_t *perm = wn_node_ints(turn, "perm", &n);
    contiguous(wn_lower_type(lo, turn->out[0]), to);
    for (int i = 0; i < t->rank; i++)
        stride[perm ? perm[i] : t->rank - 1 - i] = to[i];
    if (stride[t->rank - 3] != 1 || t->dim[t->rank - 3] < FEW || wn_lower_bytes(lo, y) / 4 > INT32_MAX)
        return WINNOW_OK;
    wn_nchw(picture, d);
    *ret = (struct wn_beside){ .px = (size_t)stride[t->rank - 1], .line = (size_t)stride[t->rank - 2] };
    if (!(ret->at = wn_arena_calloc(&lo->plan->arena, (size_t)d[1], sizeof *ret->at)))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (int64_t c = 0; c < d[1]; c++)
        for (int64_t a = t->rank - 2, rest = c; a-- > 0; rest /= t->dim[a])
            ret->at[c] += (int32_t)(rest % t->dim[a] * stride[a]);
    wn_vid out = turn->out[0];
    ret->unary = take_function(lo, &out, &ret->op, &ret->args);
    view->dead = turn->dead = true; /* lowered */
    *ret_found = true;
    return wn_lower_new_plain(lo, out, &ret->loc);
}
