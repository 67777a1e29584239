/* quant_dynamic.c: integer products whose activations are quantized at run time become layers of the int8 form
 * (DLinear, fused.h). The pattern, as ONNX Runtime's quantize_dynamic and the expansion of its operators write it:
 *
 *     DynamicQuantizeLinear -> MatMulInteger(x, W) -> Cast to f32 -> Mul(x_scale * w_scale) -> Add(bias) -> Relu
 *
 * with constant W. What is missing at the end is no matter; a product that is not cast to f32 stays MatMulInteger. */
#include <math.h>
#include <string.h>
#include "engine/passes/quant.h"

struct product {
    wn_vid x, x_scale, x_zp, y;
    struct wn_qweight w;
    wn_vid bias;
    float lo, hi;
};

static bool one_number(const struct wn_graph *g, wn_vid v)
{
    const struct wn_type *t = &g->values.at[v].type;
    return t->rank == 0 || (t->rank == 1 && t->dim[0] == 1);
}

/* A f32 constant with one number, or one for each of N columns, as [1] or [N]. */
static bool per_column(const struct wn_graph *g, wn_vid v, int64_t N, struct wn_tensor *ret)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    int64_t n = t ? wn_tensor_count(t) : 0;
    if (!t || t->dtype != WINNOW_F32 || (n != 1 && (n != N || t->dim[t->rank - 1] != N)))
        return false;
    *ret = *t;
    ret->rank = 1;
    ret->dim[0] = n;
    return true;
}

/* What the products are multiplied with: a number known at run time (WN_NONE: 1) and constants. */
static bool read_scale(struct wn_graph *g, wn_vid s, int64_t N, wn_vid *ret_x, struct wn_tensor *ret_w)
{
    *ret_x = WN_NONE;
    if (per_column(g, s, N, ret_w))
        return true;
    const struct wn_node *mul = wn_graph_producer(g, s);
    for (unsigned i = 0; i < 2 && mul && wn_node_is(mul, "Mul"); i++)
        if (per_column(g, mul->in[i], N, ret_w) && g->values.at[mul->in[1 - i]].type.dtype == WINNOW_F32 &&
            one_number(g, mul->in[1 - i])) {
            *ret_x = mul->in[1 - i];
            return true;
        }
    static const float one = 1;
    *ret_x = s;
    *ret_w =
        (struct wn_tensor){ .dtype = WINNOW_F32, .rank = 1, .dim = { 1 }, .bytes = 4, .data = (void *)(uintptr_t)&one };
    return g->values.at[s].type.dtype == WINNOW_F32 && one_number(g, s);
}

/* The zero point in u8 terms; false: one per row. WN_NONE stays where it means 0. */
static bool read_x_zp(struct wn_graph *g, const struct wn_node *node, wn_vid *ret)
{
    static const uint8_t half = 128;
    bool i8 = g->values.at[node->in[0]].type.dtype == WINNOW_I8;
    *ret = wn_in(node, 2);
    if (*ret != WN_NONE && !one_number(g, *ret))
        return false;
    if (*ret == WN_NONE && i8)
        *ret = wn_graph_add_const(g, NULL, WINNOW_U8, 0, NULL, &half);
    else if (i8)
        *ret = wn_as_u8(g, *ret);
    return *ret != WN_NONE || !i8;
}

/* The value after the Cast to f32 that alone reads v, or WN_NONE. */
static wn_vid cast_of(struct wn_graph *g, wn_vid v, struct wn_node **ret_cast)
{
    *ret_cast = wn_graph_only_user(g, v);
    bool fits = *ret_cast && wn_node_is(*ret_cast, "Cast") && wn_node_int(*ret_cast, "to", 0) == WINNOW_F32;
    return fits ? (*ret_cast)->out[0] : WN_NONE;
}

/* A constant vector that is added, and a clamp, while nobody else looks at the value between. */
static bool take_end(struct wn_graph *g, struct product *p)
{
    struct wn_node *next = wn_graph_only_user(g, p->y);
    struct wn_tensor b;
    if (next && wn_node_is(next, "Add")) {
        wn_vid other = next->in[next->in[0] == p->y];
        const struct wn_tensor *t = wn_const_of(g, other);
        if (per_column(g, other, p->w.O, &b) && b.dim[0] == p->w.O && (int)t->rank <= g->values.at[p->y].type.rank) {
            p->bias = wn_graph_add_const(g, NULL, WINNOW_F32, 1, b.dim, b.data);
            p->y = next->out[0];
            wn_graph_kill(g, next);
            if (p->bias == WN_NONE)
                return false;
            next = wn_graph_only_user(g, p->y);
        }
    }
    if (next && wn_clamp_of(g, next, &p->lo, &p->hi)) {
        p->y = next->out[0];
        wn_graph_kill(g, next);
    } else {
        p->lo = -INFINITY;
        p->hi = INFINITY;
    }
    return true;
}

static enum winnow_status put(struct wn_graph *g, struct wn_node node, struct product *p, struct winnow_err *err)
{
    struct wn_fused_dyn f = { .w_scale = p->w.scale, .w_zp = p->w.zp, .lo = p->lo, .hi = p->hi };
    void *fused = wn_fused_dup(g, &f, sizeof f);
    wn_vid in[] = { wn_as_u8(g, p->x), p->w.w, p->x_scale, p->x_zp, p->bias };
    if (!fused || in[0] == WN_NONE || !wn_fused_add(g, "DLinear", node.name, in, WN_COUNT(in), p->y, fused))
        return WN_OOM(err, &node);
    return WINNOW_OK;
}

static enum winnow_status matmul_integer(struct wn_graph *g, struct wn_node node, struct winnow_err *err)
{
    struct product p = { .x = node.in[0], .bias = WN_NONE };
    const struct wn_tensor *w = wn_const_in(g, &node, 1), *zp = wn_const_in(g, &node, 3);
    struct wn_tensor w_scale;
    struct wn_node *cast, *mul;
    wn_vid f = cast_of(g, node.out[0], &cast);
    if (!w || w->rank != 2 || wn_const_of(g, p.x) || (wn_in(&node, 3) != WN_NONE && !zp) || f == WN_NONE ||
        g->values.at[p.x].type.rank < 1 || !read_x_zp(g, &node, &p.x_zp))
        return WINNOW_OK;
    mul = wn_graph_only_user(g, f);
    wn_vid s = mul && wn_node_is(mul, "Mul") && mul->in[0] != mul->in[1] ? mul->in[mul->in[0] == f] : WN_NONE;
    bool scaled = s != WN_NONE && read_scale(g, s, w->dim[1], &p.x_scale, &w_scale);
    static const float one = 1;
    if (!scaled) {
        p.x_scale = WN_NONE;
        w_scale = (struct wn_tensor){
            .dtype = WINNOW_F32, .rank = 1, .dim = { 1 }, .bytes = 4, .data = (void *)(uintptr_t)&one
        };
    }
    if (!wn_qweight_make(g, g->values.at[node.in[1]].name, w, &w_scale, zp, true, &p.w))
        return WINNOW_OK;
    p.y = scaled ? mul->out[0] : f;
    wn_graph_kill(g, &g->nodes.at[g->values.at[node.out[0]].producer]);
    wn_graph_kill(g, cast);
    if (scaled)
        wn_graph_kill(g, mul);
    return take_end(g, &p) ? put(g, node, &p, err) : WN_OOM(err, &node);
}

enum winnow_status wn_pass_quant_dynamic(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++)
        if (wn_node_is(&g->nodes.at[i], "MatMulInteger"))
            WN_TRY(matmul_integer(g, g->nodes.at[i], err));
    return WINNOW_OK;
}
