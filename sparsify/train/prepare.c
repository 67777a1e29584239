/* prepare.c: a loaded graph made fit for training: constants folded and our own, none shared, biases where they belong.
 */
#include <stdlib.h>
#include <string.h>
#include "engine/ops/ops.h"
#include "engine/passes/passes.h"
#include "sparsify/train/train_impl.h"

enum winnow_status wn_graph_own_constants(struct wn_graph *g, struct wn_arena *arena, struct winnow_err *err)
{
    for (size_t i = 0; i < g->values.n; i++) {
        const struct wn_tensor *c = g->values.at[i].constant;
        if (!c || c->dtype == WINNOW_STRING)
            continue;
        struct wn_tensor *t = wn_arena_memdup(arena, c, sizeof *c);
        if (!t || !(t->data = wn_arena_memdup(arena, c->data, c->bytes)))
            return wn_fail(err, WINNOW_E_NOMEM, "constant '%s'", g->values.at[i].name);
        g->values.at[i].constant = t;
    }
    return WINNOW_OK;
}

/** Exporters share equal constants (fresh batch norms, zero biases); parameters must not be shared. */
static enum winnow_status untie(struct wn_graph *g, struct winnow_err *err)
{
    bool *used = calloc(g->values.n + 1, sizeof *used);
    size_t known = g->values.n;
    if (!used)
        return wn_fail(err, WINNOW_E_NOMEM, "graph");
    enum winnow_status s = WINNOW_OK;
    for (size_t i = 0; i < g->nodes.n && s == WINNOW_OK; i++) {
        struct wn_node *n = &g->nodes.at[i];
        for (unsigned k = 0; k < n->n_in && !n->dead; k++) {
            wn_vid v = n->in[k];
            const struct wn_tensor *c = v != WN_NONE ? g->values.at[v].constant : NULL;
            if (!c || c->dtype != WINNOW_F32 || v >= known)
                continue;
            if (used[v]) {
                char *name = wn_arena_printf(g->arena, "%s.%s.%u", g->values.at[v].name, n->name, k);
                wn_vid copy = name ? wn_graph_add_const(g, name, c->dtype, c->rank, c->dim, c->data) : WN_NONE;
                if (copy == WN_NONE)
                    s = wn_fail(err, WINNOW_E_NOMEM, "graph");
                else
                    n->in[k] = copy;
            }
            used[v] = true;
        }
    }
    free(used);
    return s;
}

/** Conv + Add of one number per channel: the bias of the convolution, as some exporters spell it. */
static bool take_bias(struct wn_graph *g, struct wn_node *add)
{
    unsigned con = g->values.at[add->in[0]].constant ? 0 : 1;
    const struct wn_tensor *t = g->values.at[add->in[con]].constant;
    wn_vid act = add->in[1 - con];
    struct wn_node *conv = t ? wn_graph_producer(g, act) : NULL;
    if (!conv || !wn_node_is(conv, "Conv") || conv->n_in != 2 || wn_graph_n_uses(g, act) != 1 || t->rank < 3)
        return true;
    const struct wn_tensor *w = g->values.at[conv->in[1]].constant;
    int64_t c = t->dim[t->rank - 3];
    if (!w || w->dim[0] != c || wn_tensor_count(t) != c || t->dtype != WINNOW_F32)
        return true;
    wn_vid b = wn_graph_add_const(g, g->values.at[add->in[con]].name, WINNOW_F32, 1, &c, t->data);
    wn_vid *in = wn_arena_calloc(g->arena, 3, sizeof *in);
    if (b == WN_NONE || !in)
        return false;
    memcpy(in, conv->in, 2 * sizeof *in);
    in[2] = b;
    conv->in = in;
    conv->n_in = 3;
    wn_graph_replace_uses(g, add->out[0], act);
    wn_graph_kill(g, add);
    return true;
}

enum winnow_status wn_graph_prepare(struct wn_graph *g, struct winnow_err *err)
{
    WN_TRY(wn_ops_resolve(g, err));
    WN_TRY(wn_pass_fold(g, err));
    WN_TRY(wn_graph_own_constants(g, g->arena, err));
    WN_TRY(untie(g, err));
    for (size_t i = 0; i < g->nodes.n; i++) {
        struct wn_node *n = &g->nodes.at[i];
        if (!n->dead && wn_node_is(n, "Add") && n->n_in == 2 && !take_bias(g, n))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", n->name);
    }
    return wn_graph_sort(g, err);
}
