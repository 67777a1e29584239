/* quant_dynamic.c: integer products whose activations are quantized at run time become layers of the int8 form
 * (DLinear, fused.h). The pattern, as ONNX Runtime's quantize_dynamic and the expansion of its operators write it:
 *
 *     DynamicQuantizeLinear -> MatMulInteger(x, W) -> Cast to f32 -> Mul(x_scale * w_scale) -> Add(bias) -> Relu
 *
 * with constant W. What is missing at the end is no matter; a product that is not cast to f32 stays MatMulInteger.
 * ConvInteger (1-D, 2-D, one group) is the same product of what stands under its windows (Im2col), transposed. */
#include <math.h>
#include <string.h>
#include "engine/passes/quant.h"

struct product {
    int spatial; /* axes behind the channels: 0 for MatMulInteger */
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

/* What the products are multiplied with: a number known at run time (WN_NONE: 1) and constants. */
static bool read_scale(struct wn_graph *g, wn_vid s, int64_t N, int spatial, wn_vid *ret_x, struct wn_tensor *ret_w)
{
    *ret_x = WN_NONE;
    if (wn_per_channel(g, s, WINNOW_F32, N, spatial, ret_w))
        return true;
    const struct wn_node *mul = wn_graph_producer(g, s);
    for (unsigned i = 0; i < 2 && mul && wn_node_is(mul, "Mul"); i++)
        if (wn_per_channel(g, mul->in[i], WINNOW_F32, N, spatial, ret_w) &&
            g->values.at[mul->in[1 - i]].type.dtype == WINNOW_F32 && one_number(g, mul->in[1 - i])) {
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
        if (wn_per_channel(g, other, WINNOW_F32, p->w.O, p->spatial, &b) && b.dim[0] == p->w.O &&
            (int)t->rank <= g->values.at[p->y].type.rank) {
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

/* x becomes what stands under the windows, (N, …, K); y what DLinear makes of it, which is then transposed. */
static bool open_windows(struct wn_graph *g, const struct wn_node *node, const struct wn_conv_geom *geom,
                         struct product *p)
{
    static const int64_t perm[] = { 0, -1, 1, 2 };
    int64_t order[4];
    unsigned rank = (unsigned)p->spatial + 2;
    void *fused = wn_fused_dup(g, geom, sizeof *geom);
    wn_vid in[] = { wn_as_u8(g, p->x), p->x_zp };
    wn_vid rows = wn_graph_add_value(g, NULL, WINNOW_U8, -1, NULL);
    wn_vid last = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    if (!fused || in[0] == WN_NONE || rows == WN_NONE || last == WN_NONE ||
        !wn_fused_add(g, "Im2col", node->name, in, 2, rows, fused))
        return false;
    for (unsigned i = 0; i < rank; i++)
        order[i] = i == 1 ? (int64_t)rank - 1 : perm[i];
    struct wn_node *back = wn_graph_add_node(g, "", "Transpose", node->name, &last, 1, &p->y, 1);
    if (!back)
        return false;
    back->opset = 13;
    back->op = wn_ops_find("", "Transpose", 13);
    p->x = rows;
    p->y = last;
    return wn_node_set_ints(g, back, "perm", order, rank);
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

/* The weights as a matrix, and whether there is a layer for them. A convolution's become (O, K). */
static bool read_matrix(struct wn_graph *g, const struct wn_node *node, bool conv, struct product *p,
                        struct wn_tensor *ret_w, struct wn_conv_geom *ret_geom)
{
    const struct wn_tensor *w = wn_const_in(g, node, 1);
    int rank = g->values.at[p->x].type.rank;
    if (!w || wn_const_of(g, p->x) || (wn_in(node, 3) != WN_NONE && !wn_const_in(g, node, 3)) || rank < 1)
        return false;
    *ret_w = *w;
    if (!conv)
        return w->rank == 2;
    p->spatial = (int)w->rank - 2;
    if (w->rank < 3 || w->rank > 4 || rank != (int)w->rank || wn_tensor_count(w) == 0 ||
        wn_conv_geom_of(node, w->rank - 2, w->dim + 2, ret_geom, NULL) != WINNOW_OK || ret_geom->groups != 1)
        return false;
    ret_w->rank = 2;
    ret_w->dim[1] = wn_tensor_count(w) / w->dim[0];
    return true;
}

static enum winnow_status integer_product(struct wn_graph *g, struct wn_node node, bool conv, struct winnow_err *err)
{
    struct product p = { .x = node.in[0], .bias = WN_NONE };
    const struct wn_tensor *zp = wn_const_in(g, &node, 3);
    struct wn_tensor w, w_scale;
    struct wn_conv_geom geom;
    struct wn_node *cast, *mul;
    wn_vid f = cast_of(g, node.out[0], &cast);
    if (f == WN_NONE || !read_matrix(g, &node, conv, &p, &w, &geom) || !read_x_zp(g, &node, &p.x_zp))
        return WINNOW_OK;
    mul = wn_graph_only_user(g, f);
    wn_vid s = mul && wn_node_is(mul, "Mul") && mul->in[0] != mul->in[1] ? mul->in[mul->in[0] == f] : WN_NONE;
    bool scaled = s != WN_NONE && read_scale(g, s, w.dim[conv ? 0 : 1], p.spatial, &p.x_scale, &w_scale);
    static const float one = 1;
    if (!scaled) {
        p.x_scale = WN_NONE;
        w_scale = (struct wn_tensor){
            .dtype = WINNOW_F32, .rank = 1, .dim = { 1 }, .bytes = 4, .data = (void *)(uintptr_t)&one
        };
    }
    if (!wn_qweight_make(g, g->values.at[node.in[1]].name, &w, &w_scale, zp, !conv, &p.w))
        return WINNOW_OK;
    p.y = scaled ? mul->out[0] : f;
    wn_graph_kill(g, &g->nodes.at[g->values.at[node.out[0]].producer]);
    wn_graph_kill(g, cast);
    if (scaled)
        wn_graph_kill(g, mul);
    if (!take_end(g, &p) || (conv && !open_windows(g, &node, &geom, &p)))
        return WN_OOM(err, &node);
    return put(g, node, &p, err);
}

enum winnow_status wn_pass_quant_dynamic(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        const struct wn_node node = g->nodes.at[i];
        const bool conv = wn_node_is(&node, "ConvInteger");
        if (!conv && !wn_node_is(&node, "MatMulInteger"))
            continue;
        WN_TRY(integer_product(g, node, conv, err));
        wn_give_back_inputs(g, &node);
    }
    return WINNOW_OK;
}
