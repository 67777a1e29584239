/* Integer products with scales that are known, as SparseML's exporter writes them: each becomes a layer of the int8
 * form, and the answers stay what the file's own operators give; with a bias in f32 too, which is not rounded. */
#include "engine/passes/impl.h"
#include "engine/passes/passes.h"
#include "tests/unit/engine/plan/net.h"

enum { O = 12, C = 8, SIDE = 6 };
enum { NO_BIAS, INT_BIAS, F32_BIAS, BIASES };

struct spelling {
    int spatial; /* 0: MatMulInteger */
    int bias;
    bool per_channel, i8, w_zp, no_scale;
};

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

/* [O] behind which `spatial` axes stand, or a number. */
static wn_vid per_channel(enum winnow_dtype dtype, int spatial, bool one)
{
    const int64_t dim[] = { O, 1, 1 };
    wn_vid v = net_const(&n, dtype, one ? 0 : (unsigned)spatial + 1, dim, NULL);
    for (int o = 0; o < (one ? 1 : O); o++)
        if (dtype == WINNOW_I32)
            ((int32_t *)net_data(&n, v))[o] = (int32_t)net_pick(&n, -5000, 5000);
        else
            ((float *)net_data(&n, v))[o] = ldexpf(1, -(int)net_pick(&n, 9, 11));
    return v;
}

static wn_vid weights(const struct spelling *s)
{
    const int64_t conv[] = { O, C, 3, 3 }, matrix[] = { C, O };
    wn_vid w = net_const(&n, WINNOW_I8, s->spatial ? (unsigned)s->spatial + 2 : 2, s->spatial ? conv : matrix, NULL);
    const int64_t count = O * C * (s->spatial == 2 ? 9 : s->spatial ? 3 : 1);
    for (int64_t i = 0; i < count; i++)
        ((int8_t *)net_data(&n, w))[i] = (int8_t)net_pick(&n, -128, 127);
    return w;
}

static wn_vid f32_bias(const struct spelling *s)
{
    const int64_t dim[] = { O, 1, 1 };
    return net_normals(&n, (int)s->spatial + 1, dim, 0.3f);
}

static wn_vid product(const struct spelling *s, wn_vid x)
{
    wn_vid zp = s->i8 ? net_i8(&n, -7) : net_u8(&n, 117);
    wn_vid q = net_op(&n, "QuantizeLinear", NET_IN(x, net_f32(&n, 0.03125f), zp));
    wn_vid y = net_op(&n, s->spatial ? "ConvInteger" : "MatMulInteger",
                      NET_IN(q, weights(s), zp, net_i8(&n, s->w_zp ? 3 : 0)));
    if (s->spatial)
        net_ints(&n, "pads", NET_DIMS(1, 1, 1, 1), s->spatial == 2 ? 4 : 2);
    if (s->bias == INT_BIAS)
        y = op2("Add", per_channel(WINNOW_I32, s->spatial, false), y);
    y = net_op(&n, "Cast", NET_IN(y));
    net_int(&n, "to", 1);
    if (!s->no_scale)
        y = op2("Mul", y, per_channel(WINNOW_F32, s->spatial, !s->per_channel));
    if (s->bias == F32_BIAS)
        y = op2("Add", y, f32_bias(s));
    return y;
}

static void check(const struct spelling *s)
{
    static const int64_t shape[3][4] = { { -1, SIDE, C }, { -1, C, SIDE }, { -1, C, SIDE, SIDE } };
    float data[2 * C * SIDE * SIDE];
    int64_t dim[4] = { 2, shape[s->spatial][1], shape[s->spatial][2], shape[s->spatial][3] };
    char what[96];
    snprintf(what, sizeof what, "%d axes, bias %d, %s, %s%s%s", s->spatial, s->bias,
             s->per_channel ? "channels" : "one", s->i8 ? "i8" : "u8", s->w_zp ? ", w_zp" : "",
             s->no_scale ? ", no scale" : "");
    net_init(&n, 11);
    const unsigned rank = s->spatial == 2 ? 4 : 3;
    wn_vid x = net_input(&n, "x", WINNOW_F32, (int)rank, shape[s->spatial]);
    net_output(&n, net_op(&n, "Relu", NET_IN(product(s, x))));
    for (size_t i = 0; i < WN_COUNT(data); i++)
        data[i] = net_normal(&n);
    const struct winnow_tensor in = net_tensor(WINNOW_F32, rank, dim, data);
    winnow_model *ref = net_load(&n, true), *model = net_load(&n, false);
    struct net_answer want = net_run(ref, 1, &in, 1), got = net_run(model, 1, &in, 1);
    const double d = net_difference(&got.t, &want.t);
    cr_expect_leq(d, s->bias == F32_BIAS ? 1e-6 : 0, "%s: difference %g", what, d);
    free(want.t.data);
    free(got.t.data);
    winnow_model_unref(ref);
    winnow_model_unref(model);
    cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    const char *layer = s->bias == F32_BIAS ? "DLinear" : s->spatial ? "QConv" : "QLinear";
    cr_expect_eq(net_count(&n, "wn", layer), 1, "%s: no int8 layer", what);
    cr_expect_eq(net_count(&n, "", "ConvInteger") + net_count(&n, "", "MatMulInteger"), 0, "%s", what);
    net_done(&n);
}

Test(quant_integer, in_every_spelling)
{
    for (int spatial = 0; spatial < 3; spatial++)
        for (int bias = 0; bias < BIASES; bias++)
            for (unsigned bits = 0; bits < 16; bits++)
                check(&(struct spelling){ spatial, bias, bits & 1, bits & 2, bits & 4, bits & 8 });
}

/* A bias that f32 cannot hold: the product stays what it is, and right. */
Test(quant_integer, a_bias_that_does_not_come_back)
{
    float data[2 * SIDE * C] = { 1, -1, 2 };
    const int64_t dim = O;
    net_init(&n, 3);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, SIDE, C)), b = net_const(&n, WINNOW_I32, 1, &dim, NULL);
    for (int o = 0; o < O; o++)
        ((int32_t *)net_data(&n, b))[o] = 2000000011 - o;
    wn_vid q = net_op(&n, "QuantizeLinear", NET_IN(x, net_f32(&n, 0.5f), net_u8(&n, 100)));
    wn_vid y = net_op(&n, "MatMulInteger", NET_IN(q, weights(&(struct spelling){ 0 }), net_u8(&n, 100)));
    y = net_op(&n, "Cast", NET_IN(op2("Add", y, b)));
    net_int(&n, "to", 1);
    net_output(&n, y);
    const struct winnow_tensor in = net_tensor(WINNOW_F32, 3, NET_DIMS(2, SIDE, C), data);
    winnow_model *ref = net_load(&n, true), *model = net_load(&n, false);
    struct net_answer want = net_run(ref, 1, &in, 1), got = net_run(model, 1, &in, 1);
    cr_expect_eq(net_difference(&got.t, &want.t), 0);
    free(want.t.data);
    free(got.t.data);
    winnow_model_unref(ref);
    winnow_model_unref(model);
    net_done(&n);
}

/* ONNX wants a zero point for each scale: whether there is one of one and many of the other. */
Test(quant_integer, scales_and_zero_points_have_one_shape)
{
    for (int many_zp = 0; many_zp < 2; many_zp++) {
        const int64_t dim = O;
        net_init(&n, 5);
        wn_vid x = net_input(&n, "x", WINNOW_U8, 3, NET_DIMS(-1, SIDE, C));
        wn_vid zp = net_const(&n, WINNOW_I8, many_zp, &dim, NULL);
        memset(net_data(&n, zp), 3, many_zp ? O : 1);
        wn_vid y = net_op(&n, "MatMulInteger", NET_IN(x, weights(&(struct spelling){ 0 }), net_u8(&n, 100), zp));
        y = net_op(&n, "Cast", NET_IN(y));
        net_int(&n, "to", 1);
        net_output(&n, op2("Mul", y, per_channel(WINNOW_F32, 0, many_zp)));
        cr_assert_eq(wn_pass_quant_integer(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_assert_eq(net_check(&n), WINNOW_OK, "%s", n.err.msg);
        unsigned found = 0;
        for (size_t i = 0; i < n.g.nodes.n; i++) {
            const struct wn_node *node = &n.g.nodes.at[i];
            if (!wn_node_is(node, "DequantizeLinear"))
                continue;
            const struct wn_tensor *s = n.g.values.at[node->in[1]].constant, *z = n.g.values.at[node->in[2]].constant;
            cr_expect(s->rank == z->rank && wn_tensor_count(s) == wn_tensor_count(z), "%d: %u, %u", many_zp, s->rank,
                      z->rank);
            found += wn_tensor_count(s) == O;
        }
        cr_expect_eq(found, 1);
        net_done(&n);
    }
}
