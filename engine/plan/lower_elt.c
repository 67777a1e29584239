/* lower_elt.c: f32 elementwise functions, in the form their inputs are in: planes, columns, or plain tensors. */
#include <math.h>
#include <string.h>
#include "engine/plan/cols.h"
#include "engine/plan/elt.h"
#include "engine/plan/planes.h"

static enum winnow_status finish(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                 void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                 const void *arg, const struct wn_loc *locs, size_t n_locs, bool *done)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    if (!kernel || !wn_lower_step(lo, node, kernel, run, arg))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    for (size_t i = 0; i < n_locs; i++)
        wn_lower_touch(lo, locs[i]);
    *done = true;
    return WINNOW_OK;
}

/* ---- which kernel a node is ---- */

/* y in blocks, each of which holds n elements of an input again and again, every one of them `run` times in a row; the
 * next block holds the next n. */
struct period {
    size_t n, run, block; /* n 0: it comes in another way */
};

struct elt_arg {
    bool binary;
    enum wn_elt_f32_unary unary_op;
    enum wn_elt_f32_binary binary_op;
    struct wn_elt_f32 args; /* without pointers */
    struct wn_planes x, b, y;
    const uint32_t *mask;
    bool pad;
    struct wn_cols cx, cb, cy; /* columns */
    struct wn_loc px, pb, py;  /* plain tensors */
    size_t n;                  /* elements of y */
    struct period x_in, b_in;  /* how the inputs come again in it */
    bool by_channel, turned;   /* planes: b is a number for each channel, in pb; and the first operand */
};

static bool constant_scalar(const struct wn_lower *lo, const struct wn_node *node, unsigned i, float *ret)
{
    if (i >= node->n_in || node->in[i] == WN_NONE)
        return true;
    const struct wn_tensor *t = lo->plan->g.values.at[node->in[i]].constant;
    if (!t || t->dtype != WINNOW_F32 || wn_tensor_count(t) != 1)
        return false;
    memcpy(ret, t->data, sizeof *ret);
    return true;
}

static bool elt_binary(const struct wn_node *node, struct elt_arg *a)
{
    static const char *const names[WN_ELT_BINARY_COUNT] = { "Add", "Sub", "Mul", "Div" };
    for (unsigned i = 0; i < WN_ELT_BINARY_COUNT; i++)
        if (wn_node_is(node, names[i])) {
            a->binary = true;
            a->binary_op = (enum wn_elt_f32_binary)i;
            return node->n_in == 2;
        }
    return false;
}

/* Which elementwise kernel a node is; false: none. */
static bool elt_op(const struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a)
{
    struct wn_elt_f32 *e = &a->args;
    *e = (struct wn_elt_f32){ .lo = -INFINITY, .hi = INFINITY };
    if (wn_node_is(node, "Relu")) {
        e->lo = 0;
        a->unary_op = WN_ELT_CLAMP;
    } else if (wn_node_is(node, "Clip")) {
        a->unary_op = WN_ELT_CLAMP;
        e->lo = wn_node_float(node, "min", e->lo);
        e->hi = wn_node_float(node, "max", e->hi);
        return constant_scalar(lo, node, 1, &e->lo) && constant_scalar(lo, node, 2, &e->hi);
    } else if (wn_node_is(node, "LeakyRelu")) {
        a->unary_op = WN_ELT_LEAKY;
        e->alpha = wn_node_float(node, "alpha", 0.01f);
    } else if (wn_node_is(node, "Sigmoid")) {
        a->unary_op = WN_ELT_SIGMOID;
    } else if (wn_node_is(node, "Swish")) {
        a->unary_op = WN_ELT_SILU;
        e->alpha = wn_node_float(node, "alpha", 1);
    } else if (wn_node_is(node, "Tanh")) {
        a->unary_op = WN_ELT_TANH;
    } else if (wn_node_is(node, "HardSigmoid")) {
        a->unary_op = WN_ELT_HARD_SIGMOID;
        e->alpha = wn_node_float(node, "alpha", 0.2f);
        e->beta = wn_node_float(node, "beta", 0.5f);
    } else if (wn_node_is(node, "HardSwish")) {
        a->unary_op = WN_ELT_HARD_SWISH;
        e->alpha = 1.0f / 6;
        e->beta = 0.5f;
    } else if (wn_node_is(node, "Erf")) {
        a->unary_op = WN_ELT_ERF;
    } else if (wn_node_is(node, "Exp")) {
        a->unary_op = WN_ELT_EXP;
    } else if (wn_node_is(node, "Gelu")) {
        a->unary_op = wn_node_str_is(node, "approximate", "none", "tanh") ? WN_ELT_GELU_TANH : WN_ELT_GELU;
    } else {
        return elt_binary(node, a);
    }
    return true;
}

bool wn_elt_unary_of(const struct wn_lower *lo, const struct wn_node *node, enum wn_elt_f32_unary *ret_op,
                     struct wn_elt_f32 *ret_args)
{
    struct elt_arg a = { 0 };
    if (*node->domain || !elt_op(lo, node, &a) || a.binary)
        return false;
    *ret_op = a.unary_op;
    *ret_args = a.args;
    return true;
}

/* ---- planes ---- */

#define REPEAT ((size_t)256) /* copies of a single element */

/* A row of y from one of x and a number. */
static void run_number(const struct elt_arg *a, struct wn_elt_f32 args, float number)
{
    float rep[REPEAT];
    const float *x = args.x;
    for (size_t i = 0; i < REPEAT; i++)
        rep[i] = number;
    for (size_t at = 0, n = args.n; at < n; at += REPEAT) {
        args.x = a->turned ? rep : x + at;
        args.b = a->turned ? x + at : rep;
        args.n = WN_MIN(n - at, REPEAT);
        wn_elt_f32_binary_run(a->binary_op, &args);
        args.y += args.n;
        args.mask = args.mask ? args.mask + args.n : NULL;
    }
}

static void run_elt(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->x.n_planes, 1, part, n_parts, &c0, &c1);
    char *x = (char *)wn_at(exec, a->x.loc) + a->x.base, *y = (char *)wn_at(exec, a->y.loc) + a->y.base;
    char *b = a->binary && !a->by_channel ? (char *)wn_at(exec, a->b.loc) + a->b.base : NULL;
    const float *number = a->by_channel ? wn_at(exec, a->pb) : NULL;
    for (size_t c = c0; c < c1; c++) {
        struct wn_elt_f32 args = a->args;
        args.x = (const float *)(x + c * a->x.plane_bytes);
        args.y = (float *)(y + c * a->y.plane_bytes);
        args.b = b ? (const float *)(b + c * a->b.plane_bytes) : NULL;
        args.n = a->y.layout.plane.cols;
        args.mask = a->mask;
        if (number)
            run_number(a, args, number[c]);
        else if (a->binary)
            wn_elt_f32_binary_run(a->binary_op, &args);
        else
            wn_elt_f32_unary_run(a->unary_op, &args);
    }
    if (a->pad)
        wn_planes_fill_pad(&a->y, y - a->y.base, 0, c0, c1);
}

/* A picture and a number for each of its channels: what squeeze-and-excitation multiplies with, and biases. */
enum winnow_status wn_lower_by_channel(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct elt_arg probe = { 0 };
    *done = false;
    const int at = lo->reference ? -1 : wn_geometry_by_channel(lo, node);
    if (at < 0 || !elt_binary(node, &probe))
        return WINNOW_OK;
    probe.turned = at == 1;
    const wn_vid x = node->in[at], b = node->in[!at];
    const struct wn_type *y = wn_lower_type(lo, node->out[0]);
    const struct wn_type *n = wn_lower_type(lo, b);
    struct elt_arg *a = wn_arena_memdup(&lo->plan->arena, &probe, sizeof probe);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->args = (struct wn_elt_f32){ .lo = -INFINITY, .hi = INFINITY };
    a->by_channel = true;
    WN_TRY(wn_planes_get(lo, x, WN_FORM_F32, &a->x));
    WN_TRY(wn_lower_plain(lo, b, &a->pb));
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    WN_TRY(wn_geometry_mask(lo, node->out[0], &a->mask));
    a->pad = wn_geometry_padded(lo, node->out[0]);
    if (n->rank == y->rank && n->dim[0] == y->dim[0])
        a->pb.image = (size_t)y->dim[1] * sizeof(float);
    WN_TRY(finish(lo, node, "eltwise_f32", run_elt, a, (struct wn_loc[]){ a->x.loc, a->pb, a->y.loc }, 3, done));
    wn_lower_images(lo, x);
    return WINNOW_OK;
}

enum winnow_status wn_lower_eltwise(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct elt_arg probe = { 0 };
    struct wn_conv_geom geom;
    *done = false;
    if (*node->domain || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME || !elt_op(lo, node, &probe) ||
        wn_geometry_by_channel(lo, node) >= 0)
        return WINNOW_OK;
    struct elt_arg *a = wn_arena_memdup(&lo->plan->arena, &probe, sizeof probe);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_planes_get(lo, node->in[0], WN_FORM_F32, &a->x));
    if (a->binary)
        WN_TRY(wn_planes_get(lo, node->in[1], WN_FORM_F32, &a->b));
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    WN_TRY(wn_geometry_mask(lo, node->out[0], &a->mask));
    a->pad = wn_geometry_padded(lo, node->out[0]);
    WN_TRY(finish(lo, node, "eltwise_f32", run_elt, a, (struct wn_loc[]){ a->x.loc, a->b.loc, a->y.loc }, 3, done));
    wn_lower_images(lo, node->in[0]);
    return WINNOW_OK;
}

/* ---- columns, and plain tensors ---- */

static void run_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    size_t f0, f1;
    wn_share(a->cy.k, 1, part, n_parts, &f0, &f1);
    for (size_t f = f0; f < f1; f++) {
        struct wn_elt_f32 args = a->args;
        args.x = wn_cols_at(exec, &a->cx, f);
        args.b = a->binary ? wn_cols_at(exec, &a->cb, f) : NULL;
        args.y = wn_cols_at(exec, &a->cy, f);
        args.n = a->cy.cols;
        if (a->binary)
            wn_elt_f32_binary_run(a->binary_op, &args);
        else
            wn_elt_f32_unary_run(a->unary_op, &args);
    }
}

/* Copies of an input's elements, by which few of them make a long run. */
struct copies {
    float at[REPEAT];
    size_t held, n; /* of which element, or of which block's; how many */
};

#define SHORT ((size_t)16) /* too few elements in a row for a call */

/* Where an input's elements for y[at] are, and how many of them lie there in a row. */
static const float *piece(const float *x, const struct period *p, size_t at, struct copies *c, size_t *ret_len)
{
    const size_t block = at / p->block, in = at % p->block;
    *ret_len = WN_MIN(*ret_len, p->block - in);
    x += block * p->n;
    if (p->run == 1 && (p->n >= SHORT || p->n == p->block)) {
        *ret_len = WN_MIN(*ret_len, p->n - in % p->n);
        return x + in % p->n;
    }
    const size_t i = p->run == 1 ? 0 : in / p->run % p->n, held = block * p->n + i;
    if (c->held != held) {
        c->held = held;
        c->n = p->run == 1 ? REPEAT / p->n * p->n : WN_MIN(p->run, REPEAT);
        for (size_t k = 0; k < c->n; k++)
            c->at[k] = p->run == 1 ? x[k % p->n] : x[i];
    }
    const size_t skip = p->run == 1 ? in % p->n : 0,
                 left = p->run == 1 ? c->n - skip : WN_MIN(p->run - in % p->run, c->n);
    *ret_len = WN_MIN(*ret_len, left);
    return c->at + skip;
}

static void run_plain(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    const float *x = wn_at(exec, a->px), *b = a->binary ? wn_at(exec, a->pb) : NULL;
    float *y = wn_at(exec, a->py);
    struct copies x_copies, b_copies;
    size_t from, to, len;
    x_copies.held = b_copies.held = SIZE_MAX;
    wn_share(a->n, 64, part, n_parts, &from, &to);
    for (; from < to; from += len) {
        struct wn_elt_f32 args = a->args;
        len = to - from;
        args.x = piece(x, &a->x_in, from, &x_copies, &len);
        args.b = a->binary ? piece(b, &a->b_in, from, &b_copies, &len) : NULL;
        args.y = y + from;
        args.n = len;
        if (a->binary)
            wn_elt_f32_binary_run(a->binary_op, &args);
        else
            wn_elt_f32_unary_run(a->unary_op, &args);
    }
}

/* How v's elements come again in y: along the leading axes that v lacks, and the trailing ones; or along axes in
 * between. */
static struct period period(const struct wn_lower *lo, wn_vid v, wn_vid y)
{
    const struct wn_type *t = wn_lower_type(lo, v), *o = wn_lower_type(lo, y);
    const size_t all = wn_lower_bytes(lo, y) / sizeof(float);
    const int64_t *dim = o->dim + o->rank - t->rank;
    struct period p = { .n = 1, .run = 1, .block = all };
    int end = t->rank, first;
    for (; end > 0 && t->dim[end - 1] == 1; end--)
        p.run *= (size_t)dim[end - 1];
    for (first = end; first > 0 && t->dim[first - 1] == dim[first - 1]; first--)
        p.n *= (size_t)dim[first - 1];
    size_t inner = p.n * p.run;
    for (; first > 0 && t->dim[first - 1] == 1; first--) /* what lies inside comes again here */
        inner *= (size_t)dim[first - 1];
    if (first > 0) { /* and there is more of v: the next block's */
        p.block = inner;
        for (; first > 0; first--)
            if (t->dim[first - 1] != dim[first - 1])
                return (struct period){ 0 };
        for (int i = 0; i < o->rank - t->rank; i++)
            if (o->dim[i] != 1)
                return (struct period){ 0 };
    }
    if (end == 0) /* one element */
        p.run = all;
    if (p.n > 1 && p.run > 1 && p.run < SHORT)
        p.n = 0;
    return p;
}

static bool is_plane(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_place *p = &lo->plan->place[v];
    return p->form[WN_FORM_PLAIN].kind == WN_LOC_NONE && p->form[WN_FORM_COLS].kind == WN_LOC_NONE;
}

static bool one_shape(const struct wn_lower *lo, const struct wn_node *node)
{
    const struct wn_type *y = wn_lower_type(lo, node->out[0]);
    for (unsigned i = 0; i < node->n_in && i < 2; i++) {
        const struct wn_type *x = wn_lower_type(lo, node->in[i]);
        if (x->rank != y->rank || memcmp(x->dim, y->dim, (size_t)y->rank * sizeof y->dim[0]) != 0)
            return false;
    }
    return true;
}

static enum winnow_status lower_in_cols(struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a, size_t k,
                                        bool *done)
{
    WN_TRY(wn_cols_get(lo, node->in[0], k, &a->cx));
    if (a->binary)
        WN_TRY(wn_cols_get(lo, node->in[1], k, &a->cb));
    WN_TRY(wn_cols_new(lo, node->out[0], k, &a->cy));
    return finish(lo, node, "eltwise_f32", run_cols, a, (struct wn_loc[]){ a->cx.loc, a->cb.loc, a->cy.loc }, 3, done);
}

static enum winnow_status lower_in_plain(struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a, bool *done)
{
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->px));
    if (a->binary)
        WN_TRY(wn_lower_plain(lo, node->in[1], &a->pb));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->py));
    return finish(lo, node, "eltwise_f32", run_plain, a, (struct wn_loc[]){ a->px, a->pb, a->py }, 3, done);
}

/* Pictures (rank 4) that are planes, or plain ones that the plane kernels read next, are wn_lower_eltwise's. */
enum winnow_status wn_lower_eltwise_flat(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct elt_arg probe = { 0 };
    struct wn_conv_geom geom;
    *done = false;
    if (lo->reference || *node->domain || node->n_out != 1 || !elt_op(lo, node, &probe) ||
        wn_lower_type(lo, node->out[0])->dtype != WINNOW_F32 || !wn_lower_bytes(lo, node->out[0]))
        return WINNOW_OK;
    const unsigned n_in = probe.binary ? 2 : 1;
    size_t k = 0;
    for (unsigned i = 0; i < n_in; i++) {
        if (is_plane(lo, node->in[i]))
            return WINNOW_OK;
        const struct wn_place *p = &lo->plan->place[node->in[i]];
        k = p->form[WN_FORM_COLS].kind != WN_LOC_NONE ? p->cols_k : k;
    }
    probe.n = wn_lower_bytes(lo, node->out[0]) / sizeof(float);
    probe.x_in = period(lo, node->in[0], node->out[0]);
    probe.b_in = probe.binary ? period(lo, node->in[1], node->out[0]) : probe.x_in;
    bool cols = k && one_shape(lo, node),
         picture = wn_lower_type(lo, node->out[0])->rank == 4 && wn_spatial_of(lo, node, &geom) == WN_SPATIAL_SAME;
    if (!cols && (picture || !probe.x_in.n || !probe.b_in.n))
        return WINNOW_OK;
    struct elt_arg *a = wn_arena_memdup(&lo->plan->arena, &probe, sizeof probe);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    return cols ? lower_in_cols(lo, node, a, k, done) : lower_in_plain(lo, node, a, done);
}
