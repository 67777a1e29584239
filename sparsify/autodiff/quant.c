/* quant.c: where fake-quantizers go, and what they compute with.
 *
 * PLACES  The graph input; outputs of weighted layers, of batch norm, sums, concats and averages, but behind the
 *   activation where one follows; not the scores. Max pools, Flatten, Pad and Dropout pass quantized values on
 * unchanged. With that, every Conv/Linear input and both inputs of a residual sum are quantized. SCALE   activations
 * u8: lo' = min(lo, 0), hi' = max(hi, 0), s = (hi' - lo') / 255, z = clamp(rne(-lo' / s), 0, 255). weights s8 per
 * output channel: s = max|w| / max, z = 0; recomputed whenever they are used. */
#include "sparsify/autodiff/rules_impl.h"

void wn_observer_scale(const struct wn_observer *ob, float *ret_scale, int *ret_zero)
{
    float lo = fminf(ob->lo, 0.0f), hi = fmaxf(ob->hi, 0.0f);
    float s = fmaxf((hi - lo) / 255.0f, 1e-8f), z = rintf(-lo / s);
    *ret_scale = s;
    *ret_zero = z < 0 ? 0 : z > 255 ? 255 : (int)z;
}

void wn_quant_weights(const float *w, size_t rows, size_t per_row, int max, float *ret_w, float *ret_scale)
{
    for (size_t r = 0; r < rows; r++) {
        const float *p = w + r * per_row;
        float top = 0;
        for (size_t i = 0; i < per_row; i++)
            top = fmaxf(top, fabsf(p[i]));
        float s = top > 0 ? top / (float)max : 1.0f;
        ret_scale[r] = s;
        for (size_t i = 0; ret_w && i < per_row; i++)
            ret_w[r * per_row + i] = rintf(p[i] / s) * s;
    }
}

/** Whether an operator reads the value behind a fake-quantizer or the one before it. */
static bool reads_quantized(const struct wn_net *net, const struct wn_net_op *op)
{
    bool weighted = op->rule == &wn_rule_conv || op->rule == &wn_rule_linear;
    return net->pictures ? !weighted || op->quant : op->quant && op->rule != &wn_rule_embed;
}

bool wn_net_all_read_quantized(const struct wn_net *net, int val)
{
    const struct wn_net_list *l = &net->logical;
    for (size_t i = 0; i < l->op.n; i++)
        for (unsigned k = 0; k < l->op.at[i].n_in; k++)
            if (l->op.at[i].in[k] == val && l->op.at[i].rule != &wn_rule_fq && !reads_quantized(net, &l->op.at[i]))
                return false;
    return true;
}

static bool passes_on(const struct wn_net_op *op)
{
    return op->rule == &wn_rule_flatten || op->rule == &wn_rule_window || op->rule == &wn_rule_dropout ||
           (op->rule == &wn_rule_pool && op->u.pool.kind == WN_POOL_MAX);
}

/** Encoders: only what products with weights read is quantized, and what was asked for. */
static bool feeds_layer(const struct wn_net *net, int val)
{
    for (size_t i = 0; i < net->logical.op.n; i++)
        for (unsigned k = 0; k < net->logical.op.at[i].n_in; k++)
            if (net->logical.op.at[i].in[k] == val && reads_quantized(net, &net->logical.op.at[i]))
                return true;
    return false;
}

bool wn_net_wants_observer(const struct wn_net *net, int val)
{
    const struct wn_net_list *l = &net->logical;
    int maker = l->val.at[val].maker;
    if (!net->pictures)
        return feeds_layer(net, val);
    if (val == l->output || (maker >= 0 && passes_on(&l->op.at[maker])))
        return false;
    unsigned users = 0, activations = 0;
    for (size_t i = 0; i < l->op.n; i++)
        for (unsigned k = 0; k < l->op.at[i].n_in; k++)
            if (l->op.at[i].in[k] == val) {
                const struct wn_net_op *u = &l->op.at[i];
                bool weighted = u->rule == &wn_rule_conv || u->rule == &wn_rule_linear;
                if (weighted && !u->quant)
                    continue; /* a layer that stays float does not ask for it */
                users++;
                activations += u->rule == &wn_rule_act || u->rule == &wn_rule_bn;
            }
    return users > activations;
}

enum winnow_status wn_net_insert_fq(struct wn_net *net, int val, struct wn_observer *ob, struct winnow_err *err)
{
    struct wn_net_list *l = &net->logical;
    struct wn_net_val v = l->val.at[val];
    int out = wn_net_add_val(net, l, v.name, v.vid, v.rank, v.dim);
    struct wn_net_op *op = out < 0 ? NULL : wn_net_add_op(&net->arena, l, &wn_rule_fq, v.name, &val, 1, out);
    if (!op)
        return wn_fail(err, WINNOW_E_NOMEM, "fake-quantizer of '%s'", v.name);
    op->u.observer = ob;
    size_t last = l->op.n - 1;
    for (size_t i = 0; i < last; i++)
        for (unsigned k = 0; k < l->op.at[i].n_in; k++) {
            struct wn_net_op *u = &l->op.at[i];
            if (u->in[k] == val && reads_quantized(net, u))
                u->in[k] = out;
        }
    /* to its place: right behind the maker */
    size_t to = v.maker < 0 ? 0 : (size_t)v.maker + 1;
    struct wn_net_op moved = l->op.at[last];
    memmove(&l->op.at[to + 1], &l->op.at[to], (last - to) * sizeof moved);
    l->op.at[to] = moved;
    for (size_t i = 0; i < l->op.n; i++)
        l->val.at[l->op.at[i].out].maker = (int)i;
    return WINNOW_OK;
}
