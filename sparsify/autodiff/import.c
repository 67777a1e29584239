/* import.c: an ONNX graph as operators that have gradients. */
#include "sparsify/autodiff/import.h"

#include <stdlib.h>
#include <string.h>

#define MAX_OPS 4096 /* choosing sides and laying out memory take time that grows with its square */

static enum winnow_status input(struct wn_import *im)
{
    struct wn_graph *g = im->g;
    if (g->inputs.n != 1)
        return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "training needs a model with one input, this one has %zu",
                       g->inputs.n);
    wn_vid vid = g->inputs.at[0];
    const struct wn_value *v = &g->values.at[vid];
    if (v->type.dtype != WINNOW_F32 || v->type.rank < 2)
        return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "input '%s': training needs f32 with a batch axis", v->name);
    int64_t dim[WINNOW_MAX_RANK];
    im->file_batch = v->type.dim[0];
    dim[0] = im->batch;
    size_t elements = (size_t)im->batch;
    for (int i = 1; i < v->type.rank; i++) {
        dim[i] = v->type.dim[i];
        if (dim[i] <= 0)
            return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "input '%s': axis %d has no fixed size", v->name, i);
        if (!wn_mul_size(elements, (size_t)dim[i], &elements) || elements > INT32_MAX)
            return wn_fail(im->err, WINNOW_E_TOO_LARGE, "input '%s': a batch of 2^31 elements or more", v->name);
    }
    im->val[vid] = im->net->logical.input =
        wn_net_add_val(im->net, &im->net->logical, v->name, vid, (unsigned)v->type.rank, dim);
    return im->val[vid] >= 0 ? WINNOW_OK : wn_fail(im->err, WINNOW_E_NOMEM, "input '%s'", v->name);
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

static enum winnow_status nodes(struct wn_import *im)
{
    for (size_t i = 0; i < im->g->nodes.n; i++) {
        const struct wn_node *n = &im->g->nodes.at[i];
        if (n->dead || !ready(im, n) || wn_import_is_softmax(n))
            continue;
        wn_read_fn *read = wn_import_reader(n);
        bool first = n->in[0] != WN_NONE && im->val[n->in[0]] >= 0;
        if (read && !first && !wn_import_any_order(n))
            return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "node '%s': %s of a constant by an activation", n->name,
                           n->op_type);
        if (n->n_out < 1 || n->out[0] == WN_NONE)
            continue;
        if (im->net->logical.op.n >= MAX_OPS)
            return wn_fail(im->err, WINNOW_E_TOO_LARGE, "more than %d operators to train", MAX_OPS);
        if (!read)
            return wn_fail(im->err, WINNOW_E_UNSUPPORTED, "node '%s': no gradient rule for %s%s%s", n->name, n->domain,
                           *n->domain ? "." : "", n->op_type);
        enum winnow_status s = read(im, n);
        if (s != WINNOW_OK)
            return wn_fail_at(im->err, s, "node '%s'", n->name);
    }
    return WINNOW_OK;
}

enum winnow_status wn_net_import(struct wn_net *net, struct wn_graph *g, int64_t batch,
                                 const struct wn_net_maker *maker, struct winnow_err *err)
{
    net->batch = batch;
    struct wn_import im = { .net = net, .g = g, .maker = maker, .batch = batch, .err = err };
    im.val = malloc((g->values.n + 1) * sizeof *im.val);
    if (!im.val)
        return wn_fail(err, WINNOW_E_NOMEM, "graph");
    for (size_t i = 0; i < g->values.n; i++)
        im.val[i] = -1;
    enum winnow_status s = input(&im);
    if (s == WINNOW_OK)
        s = nodes(&im);
    if (s == WINNOW_OK)
        s = output(&im);
    if (s == WINNOW_OK && !prune(net))
        s = wn_fail(err, WINNOW_E_NOMEM, "graph");
    free(im.val);
    return s;
}
