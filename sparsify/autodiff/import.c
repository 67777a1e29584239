/* import.c: an ONNX graph as operators that have gradients. */
#include "sparsify/autodiff/import.h"

#include <stdlib.h>
#include <string.h>
#include "engine/ops/ops.h"

#define MAX_KNOWN_BYTES ((size_t)1 << 30) /* memory of one node that is computed once */
#define MAX_KNOWN       ((size_t)1 << 27) /* numbers computed from constants, ids and masks, all nodes together */
#define MAX_OPS         4096 /* choosing sides and laying out memory take time that grows with its square */

/* ---- inputs ---- */

static enum winnow_status picture(struct wn_import *im)
{
    struct wn_graph *g = im->g;
    wn_vid vid = g->inputs.at[0];
    const struct wn_value *v = &g->values.at[vid];
    int64_t dim[WINNOW_MAX_RANK];
    im->file_batch = v->type.dim[0];
    dim[0] = im->batch;
    size_t elements = (size_t)im->batch;
    for (int i = 1; i < v->type.rank; i++) {
        dim[i] = v->type.dim[i];
        if (dim[i] <= 0)
            return UNSUPPORTED("input '%s': axis %d has no fixed size", v->name, i);
        if (!wn_mul_size(elements, (size_t)dim[i], &elements) || elements > INT32_MAX)
            return wn_fail(im->err, WINNOW_E_TOO_LARGE, "input '%s': a batch of 2^31 elements or more", v->name);
    }
    im->val[vid] = im->net->logical.input =
        wn_net_add_val(im->net, &im->net->logical, v->name, vid, (unsigned)v->type.rank, dim);
    return im->val[vid] >= 0 ? WINNOW_OK : wn_fail(im->err, WINNOW_E_NOMEM, "input '%s'", v->name);
}

/** An input (B, L) of integers (or of f32, as some files have their masks). */
static enum winnow_status integers(struct wn_import *im, wn_vid vid)
{
    const struct wn_value *v = &im->g->values.at[vid];
    const struct wn_type *t = &v->type;
    struct wn_net_feed f = { .name = v->name, .vid = vid, .t = { .dtype = t->dtype, .rank = 2 } };
    if ((t->dtype != WINNOW_I64 && t->dtype != WINNOW_I32 && t->dtype != WINNOW_F32) || t->rank != 2)
        return UNSUPPORTED("input '%s': training needs integers of shape (batch, length)", v->name);
    f.t.dim[0] = im->batch;
    f.t.dim[1] = t->dim[1] > 0 ? t->dim[1] : im->length;
    if ((t->dim[0] > 0 && t->dim[0] != im->batch) || f.t.dim[1] < 1 || f.t.dim[1] > 65536)
        return UNSUPPORTED("input '%s': training needs a free batch axis", v->name);
    if (t->dim[1] <= 0)
        im->net->length = im->length;
    f.t.bytes = (size_t)(f.t.dim[0] * f.t.dim[1]) * winnow_dtype_size(t->dtype);
    return wn_vec_push(&im->net->feed, f) ? WINNOW_OK : wn_fail(im->err, WINNOW_E_NOMEM, "input '%s'", v->name);
}

static enum winnow_status inputs(struct wn_import *im)
{
    struct wn_graph *g = im->g;
    if (g->inputs.n < 1 || g->inputs.n > WN_TRAIN_MAX_INPUTS)
        return UNSUPPORTED("training needs a model with 1 to %d inputs, this one has %zu", WN_TRAIN_MAX_INPUTS,
                           g->inputs.n);
    const struct wn_value *first = &g->values.at[g->inputs.at[0]];
    im->net->logical.input = -1;
    im->net->length = 0;
    im->net->pictures = g->inputs.n == 1 && first->type.dtype == WINNOW_F32;
    if (im->net->pictures && first->type.rank < 2)
        return UNSUPPORTED("input '%s': training needs f32 with a batch axis", first->name);
    if (im->net->pictures)
        return picture(im);
    for (size_t i = 0; i < g->inputs.n; i++)
        WN_TRY(integers(im, g->inputs.at[i]));
    for (size_t i = 0; i < im->net->feed.n; i++) /* the vector stands still now */
        im->step[im->net->feed.at[i].vid] = &im->net->feed.at[i].t;
    return WINNOW_OK;
}

static enum winnow_status output(struct wn_import *im)
{
    struct wn_graph *g = im->g;
    if (g->outputs.n == 0)
        return wn_fail(im->err, WINNOW_E_MALFORMED, "model has no output");
    wn_vid vid = g->outputs.at[0];
    const char *name = g->values.at[vid].name;
    for (const struct wn_node *n = wn_graph_producer(g, vid); n && n->n_in > 0 && wn_import_is_softmax(n);
         n = wn_graph_producer(g, vid))
        vid = n->in[0];
    int at = im->val[vid];
    const struct wn_net_val *v = at >= 0 ? &im->net->logical.val.at[at] : NULL;
    if (!v || v->dim[0] != im->batch || !(v->rank == 2 || (v->rank == 4 && v->dim[2] == 1 && v->dim[3] == 1)))
        return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "output '%s': training needs scores of shape (N, classes)", name);
    if (v->maker < 0)
        return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "output '%s': nothing to train", name);
    im->net->logical.output = at;
    return WINNOW_OK;
}

/** Drop operators that the output does not need. */
static bool prune(struct wn_net *net)
{
    struct wn_net_list *l = &net->logical;
    bool *need = calloc(l->val.n + 1, sizeof *need);
    if (!need)
        return false;
    need[l->output] = true;
    for (size_t i = l->op.n; i-- > 0;)
        for (unsigned k = 0; need[l->op.at[i].out] && k < l->op.at[i].n_in; k++)
            need[l->op.at[i].in[k]] = true;
    size_t kept = 0;
    for (size_t i = 0; i < l->op.n; i++)
        if (need[l->op.at[i].out]) {
            l->op.at[kept] = l->op.at[i];
            l->op.at[kept].id = (unsigned)kept;
            l->val.at[l->op.at[kept].out].maker = (int)kept;
            kept++;
        }
    l->op.n = kept;
    free(need);
    return true;
}

/** A node whose inputs are not all known belongs to a branch that is computed from something else than the input; it is
 *  skipped, and reported if the output turns out to need it. */
static bool ready(const struct wn_import *im, const struct wn_node *n)
{
    bool any = false;
    for (unsigned i = 0; i < n->n_in; i++)
        any |= n->in[i] != WN_NONE && im->val[n->in[i]] >= 0;
    return any;
}

static enum winnow_status check_room(struct wn_import *im)
{
    if (im->net->logical.op.n >= MAX_OPS)
        return wn_fail(im->err, WINNOW_E_TOO_LARGE, "more than %d operators to train", MAX_OPS);
    return WINNOW_OK;
}

static enum winnow_status no_rule(struct wn_import *im, const struct wn_node *n)
{
    return UNSUPPORTED("node '%s': no gradient rule for %s%s%s", n->name, n->domain, *n->domain ? "." : "", n->op_type);
}

static enum winnow_status nodes(struct wn_import *im)
{
    for (size_t i = 0; i < im->g->nodes.n; i++) {
        const struct wn_node *n = &im->g->nodes.at[i];
        if (n->dead || !ready(im, n) || wn_import_is_softmax(n))
            continue;
        wn_read_fn *read = wn_import_reader(n);
        bool first = n->in[0] != WN_NONE && im->val[n->in[0]] >= 0;
        if (read && !first && !wn_import_any_order(n))
            return UNSUPPORTED("node '%s': %s of a constant by an activation", n->name, n->op_type);
        if (n->n_out < 1 || n->out[0] == WN_NONE)
            continue;
        WN_TRY(check_room(im));
        if (!read)
            return no_rule(im, n);
        enum winnow_status s = read(im, n);
        if (s != WINNOW_OK)
            return wn_fail_at(im->err, s, "node '%s'", n->name);
    }
    return WINNOW_OK;
}

/* ---- encoders: what is known, what a step computes first, what is differentiable ---- */

static const struct wn_tensor *number_of(const struct wn_import *im, wn_vid v)
{
    return im->known[v] ? im->known[v] : im->g->values.at[v].constant;
}

enum where { KNOWN, STEP, DIFFERENTIABLE, NOWHERE };

static enum where where_is(const struct wn_import *im, wn_vid v)
{
    if (im->val[v] >= 0)
        return DIFFERENTIABLE;
    return number_of(im, v) ? KNOWN : im->step[v] ? STEP : NOWHERE;
}

/** The least known of a node's inputs. */
static enum where inputs_are(const struct wn_import *im, const struct wn_node *n)
{
    enum where worst = KNOWN;
    for (unsigned i = 0; i < n->n_in; i++)
        if (n->in[i] != WN_NONE)
            worst = WN_MAX(worst, where_is(im, n->in[i]));
    return worst;
}

/** Rows of a table of weights: differentiable, though its inputs are not. */
static bool is_table(const struct wn_import *im, const struct wn_node *n)
{
    const struct wn_tensor *t = wn_node_is(n, "Gather") && n->n_in == 2 ? im->g->values.at[n->in[0]].constant : NULL;
    return t && t->dtype == WINNOW_F32 && t->rank == 2 && wn_node_int(n, "axis", 0) == 0;
}

/** Types of a node's outputs, from what is known now of its inputs. `in` gets each input's tensor (its data only where
 * it is known). A size that is known and too large is an error. */
static enum winnow_status outputs_of(struct wn_import *im, const struct wn_node *n, const struct wn_tensor **in,
                                     struct wn_type *out)
{
    WN_CLEANUP(wn_freep) struct wn_infer *infer = calloc(1, sizeof *infer);
    if (!infer)
        return NOMEM();
    *infer = (struct wn_infer){ .node = n, .n_in = n->n_in, .n_out = n->n_out, .out = out };
    for (unsigned i = 0; i < n->n_out; i++)
        out[i].rank = -1;
    for (unsigned i = 0; i < n->n_in; i++) {
        infer->in[i].rank = -1;
        if (n->in[i] == WN_NONE)
            continue;
        infer->value[i] = number_of(im, n->in[i]);
        in[i] = infer->value[i] ? infer->value[i] : im->step[n->in[i]];
        infer->given[i] = true;
        infer->in[i].dtype = in[i]->dtype;
        infer->in[i].rank = (int)in[i]->rank;
        memcpy(infer->in[i].dim, in[i]->dim, sizeof infer->in[i].dim);
    }
    WN_TRY(wn_ops_infer_node(infer, im->err));
    for (unsigned i = 0; i < n->n_out; i++) {
        size_t elements = 1;
        for (int d = 0; d < out[i].rank; d++)
            if (out[i].dim[d] >= 0 && !wn_mul_size(elements, (size_t)out[i].dim[d], &elements))
                elements = SIZE_MAX;
        im->known_elements += WN_MIN(elements, (size_t)MAX_KNOWN + 1);
        if (im->known_elements > MAX_KNOWN)
            return wn_fail(im->err, WINNOW_E_TOO_LARGE, "more than %zu numbers computed beside training",
                           (size_t)MAX_KNOWN);
    }
    return WINNOW_OK;
}

static enum winnow_status compute_now(struct wn_import *im, const struct wn_node *n)
{
    const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
    WN_CLEANUP(wn_freep) struct wn_type *type = calloc(n->n_out + 1u, sizeof *type);
    struct wn_tensor *out = wn_arena_calloc(&im->net->arena, n->n_out + 1, sizeof *out);
    struct wn_arena tmp;
    if (!out || !type)
        return NOMEM();
    WN_TRY(outputs_of(im, n, in, type));
    wn_arena_init(&tmp, MAX_KNOWN_BYTES);
    enum winnow_status s = wn_ops_run_node(n, in, out, &im->net->arena, &tmp, im->err);
    for (unsigned i = 0; i < n->n_out && s == WINNOW_OK; i++) {
        if (n->out[i] == WN_NONE)
            continue;
        /* what the run allocated by itself goes with `tmp` */
        if (type[i].rank < 0 && !(out[i].data = wn_arena_memdup(&im->net->arena, out[i].data, out[i].bytes)))
            s = NOMEM();
        im->known[n->out[i]] = &out[i];
    }
    wn_arena_done(&tmp);
    return s;
}

/** Put a node among those that a step runs first: its outputs' shapes must follow from what is known now. */
static enum winnow_status compute_later(struct wn_import *im, const struct wn_node *n)
{
    struct wn_arena *a = &im->net->arena;
    struct wn_net_pre pre = { n, wn_arena_calloc(a, n->n_in + 1, sizeof *pre.in),
                              wn_arena_calloc(a, n->n_out + 1, sizeof *pre.out) };
    WN_CLEANUP(wn_freep) struct wn_type *out = calloc(n->n_out + 1u, sizeof *out);
    if (!pre.in || !pre.out || !out)
        return NOMEM();
    WN_TRY(outputs_of(im, n, pre.in, out));
    for (unsigned i = 0; i < n->n_out; i++) {
        bool fixed = out[i].rank >= 0 && out[i].dtype != WINNOW_UNDEFINED && out[i].dtype != WINNOW_STRING;
        for (int d = 0; d < out[i].rank; d++)
            fixed = fixed && out[i].dim[d] >= 0;
        if (!fixed)
            return UNSUPPORTED("the shape of %s depends on the data", n->op_type);
        pre.out[i] = (struct wn_tensor){ .dtype = out[i].dtype, .rank = (unsigned)out[i].rank };
        memcpy(pre.out[i].dim, out[i].dim, sizeof pre.out[i].dim);
        if (n->out[i] != WN_NONE)
            im->step[n->out[i]] = &pre.out[i];
    }
    return wn_vec_push(&im->net->pre, pre) ? WINNOW_OK : NOMEM();
}

/** Shape and Size need no numbers. */
static enum winnow_status shape_of(struct wn_import *im, const struct wn_node *n)
{
    int64_t dim[WINNOW_MAX_RANK];
    unsigned rank;
    if (im->val[n->in[0]] >= 0) {
        const struct wn_net_val *v = wn_im_val(im, im->val[n->in[0]]);
        memcpy(dim, v->dim, sizeof dim);
        rank = v->rank;
    } else {
        memcpy(dim, im->step[n->in[0]]->dim, sizeof dim);
        rank = im->step[n->in[0]]->rank;
    }
    int64_t from = wn_node_int(n, "start", 0), to = wn_node_int(n, "end", rank), count = 1;
    from = WN_MAX(0, WN_MIN(from < 0 ? from + rank : from, rank));
    to = WN_MAX(from, WN_MIN(to < 0 ? to + rank : to, rank));
    struct wn_tensor *t = wn_arena_calloc(&im->net->arena, 1, sizeof *t);
    int64_t *data = wn_arena_alloc(&im->net->arena, (WINNOW_MAX_RANK + 1) * sizeof *data);
    if (!t || !data)
        return NOMEM();
    bool size = wn_node_is(n, "Size");
    for (unsigned i = 0; i < rank; i++)
        count *= dim[i];
    if (size)
        *data = count;
    else
        memcpy(data, dim + from, (size_t)(to - from) * sizeof *data);
    *t = (struct wn_tensor){ .dtype = WINNOW_I64, .rank = size ? 0 : 1, .dim = { to - from }, .data = data };
    t->bytes = (size_t)(size ? 1 : to - from) * sizeof *data;
    im->known[n->out[0]] = t;
    return WINNOW_OK;
}

/** Operators whose readers take an activation at any place. */
static bool any_place(const struct wn_node *n)
{
    static const char *const types[] = { "Add", "Sub", "Mul", "Div", "Pow", "Where", "MatMul", "Concat", "Gather" };
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (wn_node_is(n, types[i]))
            return true;
    return false;
}

static enum winnow_status differentiable(struct wn_import *im, const struct wn_node *n, wn_nid at)
{
    WN_TRY(check_room(im));
    if (n->out[0] == WN_NONE)
        return WINNOW_OK;
    if (!im->net->no_fuse && im->chain[at].role == WN_ROLE_ALONE)
        wn_import_find_chain(im, at);
    if (im->chain[at].role == WN_ROLE_INSIDE)
        return WINNOW_OK;
    if (im->chain[at].role != WN_ROLE_ALONE)
        return wn_import_read_chain(im, at);
    wn_read_fn *read = wn_import_nd_reader(n);
    if (read && !any_place(n) && (n->in[0] == WN_NONE || im->val[n->in[0]] < 0))
        return UNSUPPORTED("%s of a constant by an activation", n->op_type);
    return read ? read(im, n) : no_rule(im, n);
}

static enum winnow_status encoder_node(struct wn_import *im, wn_nid at)
{
    const struct wn_node *n = &im->g->nodes.at[at];
    enum where in = inputs_are(im, n);
    if (n->n_in > WN_OP_MAX_IN || n->n_out > WN_OP_MAX_IN)
        return UNSUPPORTED("%u inputs, %u outputs", n->n_in, n->n_out);
    if (im->chain[at].role != WN_ROLE_ALONE)
        return differentiable(im, n, at);
    if (in == NOWHERE)
        return WINNOW_OK; /* of something that is not trained; reported if the output needs it */
    if (is_table(im, n))
        return differentiable(im, n, at);
    if ((wn_node_is(n, "Shape") || wn_node_is(n, "Size")) && in != KNOWN)
        return shape_of(im, n);
    return in == KNOWN ? compute_now(im, n) : in == STEP ? compute_later(im, n) : differentiable(im, n, at);
}

static enum winnow_status encoder(struct wn_import *im)
{
    for (size_t i = 0; i < im->g->nodes.n; i++) {
        const struct wn_node *n = &im->g->nodes.at[i];
        if (n->dead || n->n_out < 1)
            continue;
        enum winnow_status s = encoder_node(im, (wn_nid)i);
        if (s != WINNOW_OK)
            return wn_fail_at(im->err, s, "node '%s'", n->name);
    }
    return WINNOW_OK;
}

static void import_done(struct wn_import *im)
{
    free(im->val);
    free(im->wrap);
    free((void *)im->known);
    free((void *)im->step);
    free(im->chain);
}

enum winnow_status wn_net_import(struct wn_net *net, struct wn_graph *g, int64_t batch, int64_t length,
                                 const struct wn_net_maker *maker, struct winnow_err *err)
{
    net->batch = batch;
    size_t n = g->values.n + 1;
    WN_CLEANUP(import_done)
    struct wn_import im = { .net = net, .g = g, .maker = maker, .batch = batch, .length = length, .err = err };
    im.val = malloc(n * sizeof *im.val);
    im.wrap = malloc(n * sizeof *im.wrap);
    im.known = calloc(n, sizeof *im.known);
    im.step = calloc(n, sizeof *im.step);
    im.chain = calloc(g->nodes.n + 1, sizeof *im.chain);
    if (!im.val || !im.wrap || !im.known || !im.step || !im.chain)
        return wn_fail(err, WINNOW_E_NOMEM, "graph");
    for (size_t i = 0; i < g->values.n; i++)
        im.val[i] = im.wrap[i] = -1;
    WN_TRY(inputs(&im));
    WN_TRY(net->pictures ? nodes(&im) : encoder(&im));
    WN_TRY(output(&im));
    return prune(net) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "graph");
}
