/* swish.c: x times a gate of x, in the words of its exporters -> the operators Swish and HardSwish.
 *
 *     x * sigmoid(x)          SiLU, which ONNX has had an operator for since opset 24 only
 *     x * hard_sigmoid(x)     alpha 1/6, beta 1/2
 *     x * clip(x + 3, 0, 6)   divided by 6, before or after */
#include <math.h>
#include "engine/passes/impl.h"
#include "engine/passes/match.h"

/* v = clip(x + 3, 0, 6). */
static bool is_relu6_of(struct wn_graph *g, wn_vid v, wn_vid x)
{
    float lo, hi;
    const struct wn_node *clip = wn_graph_producer(g, v);
    if (!clip || !wn_node_is(clip, "Clip") || !wn_clamp_of(g, clip, &lo, &hi) || lo != 0 || hi != 6)
        return false;
    const struct wn_node *add = wn_made_by(g, clip->in[0], "Add");
    const wn_vid three = add ? wn_other_in(add, x) : WN_NONE;
    return three != WN_NONE && wn_number_is(g, three, 3);
}

/* v = c * clip(x + 3, 0, 6); c is 1 or 1/6. */
static bool is_hard_gate_of(struct wn_graph *g, wn_vid v, wn_vid x, double *ret_c)
{
    wn_vid inner;
    const struct wn_node *node = wn_graph_producer(g, v);
    *ret_c = 1;
    if (!node)
        return false;
    if (wn_node_is(node, "HardSigmoid")) {
        *ret_c = 1.0 / 6;
        return node->in[0] == x && fabsf(wn_node_float(node, "alpha", 0.2f) * 6 - 1) < 1e-6f &&
               wn_node_float(node, "beta", 0.5f) == 0.5f;
    }
    return is_relu6_of(g, v, x) ||
           (wn_scaled_by(g, node, &inner, ret_c) && fabs(*ret_c * 6 - 1) < 1e-6 && is_relu6_of(g, inner, x));
}

/* The node behind a product y, when it alone divides it by 6. */
static struct wn_node *sixth_of(struct wn_graph *g, wn_vid y)
{
    struct wn_node *next = wn_graph_only_user(g, y);
    wn_vid x;
    double c;
    return next && wn_scaled_by(g, next, &x, &c) && x == y && fabs(c * 6 - 1) < 1e-6 ? next : NULL;
}

/* Which operator the product `mul` is of *ret_x; NULL: none. *ret_end: the node whose result it is. */
static const char *match(struct wn_graph *g, struct wn_node *mul, wn_vid *ret_x, struct wn_node **ret_end)
{
    for (int i = 0; i < 2; i++) {
        const wn_vid x = mul->in[!i], gate = mul->in[i];
        const struct wn_node *sigmoid = wn_made_by(g, gate, "Sigmoid");
        double c;
        *ret_x = x;
        *ret_end = mul;
        if (g->values.at[x].type.dtype != WINNOW_F32 || wn_graph_n_uses(g, gate) != 1)
            continue;
        if (sigmoid && sigmoid->in[0] == x)
            return "Swish";
        if (!is_hard_gate_of(g, gate, x, &c))
            continue;
        if (c == 1 && !(*ret_end = sixth_of(g, mul->out[0])))
            continue;
        return "HardSwish";
    }
    return NULL;
}

enum winnow_status wn_pass_swish(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct wn_node *node = &g->nodes.at[i], *end;
        wn_vid x;
        if (node->dead || !wn_node_is(node, "Mul") || node->in[0] == node->in[1])
            continue;
        const char *type = match(g, node, &x, &end);
        if (!type)
            continue;
        const char *name = end->name;
        const wn_vid y = end->out[0];
        wn_graph_kill(g, end);
        if (!wn_std_add(g, type, *type == 'S' ? 24 : 14, name, &x, 1, y))
            return wn_fail(err, WINNOW_E_NOMEM, "node '%s'", name);
    }
    return WINNOW_OK;
}
