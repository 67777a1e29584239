/* quant_residual.c: QConv, then QAdd with another tensor -> one QConv with a residual (fused.h). The layer's own result
 * is still rounded as the file has it, in a register instead of in memory: in a ResNet the additions were a quarter of
 * the time at 95 % zeros. */
#include "engine/passes/fused.h"
#include "engine/passes/impl.h"

/* The convolution that makes operand `side` of an addition for nobody else; NULL: there is none that could take it
 * over.
 */
static struct wn_node *layer_of(struct wn_graph *g, const struct wn_node *add, unsigned side)
{
    const struct wn_fused_qelt *f = add->fused;
    struct wn_node *conv = wn_graph_producer(g, add->in[side]);
    if (!conv || !wn_fused_is(conv, "QConv") || conv->n_in > 3 || wn_graph_n_uses(g, add->in[side]) != 1 ||
        add->in[1 - side] == add->in[side])
        return NULL;
    const struct wn_fused_q8 *q = conv->fused;
    return !q->y_f32 && q->act == WN_ACT_NONE && q->y_zp == (side ? f->b_zp : f->a_zp) ? conv : NULL;
}

static enum winnow_status fuse(struct wn_graph *g, struct wn_node *add, struct wn_node *conv, unsigned side,
                               struct winnow_err *err)
{
    const struct wn_fused_qelt *s = add->fused;
    struct wn_fused_q8 f = *(const struct wn_fused_q8 *)conv->fused;
    f.s_lo = (float)(f.q_lo - f.y_zp);
    f.s_hi = (float)(f.q_hi - f.y_zp);
    f.s_mul = side ? s->b_mul : s->a_mul;
    f.r_mul = side ? s->a_mul : s->b_mul;
    f.r_zp = side ? s->a_zp : s->b_zp;
    f.y_zp = s->y_zp;
    f.q_lo = s->q_lo;
    f.q_hi = s->q_hi;
    const struct wn_node layer = *conv, sum = *add;
    const wn_vid in[] = { layer.in[0], layer.in[1], wn_in(&layer, 2), sum.in[1 - side] };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_graph_kill(g, add);
    wn_graph_kill(g, conv);
    return fused && wn_fused_add(g, "QConv", sum.name, in, 4, sum.out[0], fused) ? WINNOW_OK : WN_OOM(err, &sum);
}

enum winnow_status wn_pass_quant_residual(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *add = &g->nodes.at[i];
        if (!wn_fused_is(add, "QAdd"))
            continue;
        struct wn_node *a = layer_of(g, add, 0), *b = layer_of(g, add, 1);
        if (a || b) /* of two the later one: the other operand lives no longer for it */
            WN_TRY(fuse(g, add, a > b ? a : b, a > b ? 0 : 1, err));
    }
    return WINNOW_OK;
}
