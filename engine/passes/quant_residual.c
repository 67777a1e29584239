/* quant_residual.c: what stands behind a layer that makes bytes becomes part of it.
 *
 * QConv or QLinear, then QAdd with another tensor -> one layer with a residual (fused.h). The layer's own result is
 * still rounded as the file has it, in a register instead of in memory: in a ResNet the additions were a quarter of the
 * time at 95 % zeros. QLinear, then Requantize (GELU between two quantizations, say) -> QLinear with a table. */
#include "engine/passes/fused.h"
#include "engine/passes/impl.h"

/* The layer of this type that makes v, bytes without a residual or a table, for one reader; else NULL. */
static struct wn_node *bytes_of(struct wn_graph *g, wn_vid v, const char *type)
{
    struct wn_node *layer = wn_graph_producer(g, v);
    if (!layer || !wn_fused_is(layer, type) || layer->n_in > 3 || wn_graph_n_uses(g, v) != 1)
        return NULL;
    const struct wn_fused_q8 *q = layer->fused;
    return q->y_f32 || q->table ? NULL : layer;
}

/* The layer that makes operand `side` of an addition for nobody else; NULL: there is none that could take it over. */
static struct wn_node *layer_of(struct wn_graph *g, const struct wn_node *add, unsigned side)
{
    const struct wn_fused_qelt *f = add->fused;
    if (add->in[1 - side] == add->in[side])
        return NULL;
    struct wn_node *layer = bytes_of(g, add->in[side], "QConv");
    if (!layer)
        layer = bytes_of(g, add->in[side], "QLinear");
    if (!layer)
        return NULL;
    const struct wn_fused_q8 *q = layer->fused;
    return q->act == WN_ACT_NONE && q->y_zp == (side ? f->b_zp : f->a_zp) ? layer : NULL;
}

/* `behind`, which is killed as well, and `at` become one layer of the kind of `at`. */
static enum winnow_status put(struct wn_graph *g, struct wn_node *at, struct wn_node *behind, wn_vid r,
                              const struct wn_fused_q8 *f, struct winnow_err *err)
{
    const struct wn_node layer = *at, last = *behind;
    const wn_vid in[] = { layer.in[0], layer.in[1], wn_in(&layer, 2), r };
    void *fused = wn_fused_dup(g, f, sizeof *f);
    wn_graph_kill(g, behind);
    wn_graph_kill(g, at);
    const unsigned n_in = r == WN_NONE ? layer.n_in : 4;
    return fused && wn_fused_add(g, layer.op_type, last.name, in, n_in, last.out[0], fused) ? WINNOW_OK
                                                                                            : WN_OOM(err, &last);
}

static enum winnow_status fuse_sum(struct wn_graph *g, struct wn_node *add, struct winnow_err *err)
{
    struct wn_node *a = layer_of(g, add, 0), *b = layer_of(g, add, 1);
    if (!a && !b)
        return WINNOW_OK;
    const unsigned side = a > b ? 0 : 1; /* of two the later one: the other operand lives no longer for it */
    struct wn_node *layer = side ? b : a;
    const struct wn_fused_qelt *s = add->fused;
    struct wn_fused_q8 f = *(const struct wn_fused_q8 *)layer->fused;
    f.s_lo = (float)(f.q_lo - f.y_zp);
    f.s_hi = (float)(f.q_hi - f.y_zp);
    f.s_mul = side ? s->b_mul : s->a_mul;
    f.r_mul = side ? s->a_mul : s->b_mul;
    f.r_zp = side ? s->a_zp : s->b_zp;
    f.y_zp = s->y_zp;
    f.q_lo = s->q_lo;
    f.q_hi = s->q_hi;
    return put(g, layer, add, add->in[1 - side], &f, err);
}

static enum winnow_status fuse_table(struct wn_graph *g, struct wn_node *lookup, struct winnow_err *err)
{
    struct wn_node *layer = bytes_of(g, lookup->in[0], "QLinear");
    if (!layer)
        return WINNOW_OK;
    struct wn_fused_q8 f = *(const struct wn_fused_q8 *)layer->fused;
    if (f.act != WN_ACT_NONE)
        return WINNOW_OK;
    f.table = ((const struct wn_fused_qelt *)lookup->fused)->table;
    return put(g, layer, lookup, WN_NONE, &f, err);
}

enum winnow_status wn_pass_quant_residual(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i];
        if (wn_fused_is(node, "QAdd"))
            WN_TRY(fuse_sum(g, node, err));
        else if (wn_fused_is(node, "Requantize"))
            WN_TRY(fuse_table(g, node, err));
    }
    return WINNOW_OK;
}
