/* What the passes make of small graphs: which operators are left, and with which parameters. That the answers stay the
 * same is tests/unit/engine/plan/random_net.c. */
#include "tests/unit/engine/plan/net.h"

/* Fold and run the passes, as loading a model does. */
static void optimise(struct net *n)
{
    cr_assert_eq(net_check(n), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(wn_pass_fold(&n->g, &n->err), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(wn_graph_sort(&n->g, &n->err), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(wn_passes_run(&n->g, &n->err), WINNOW_OK, "%s", n->err.msg);
}

static void expect_nodes(struct net *n, const char *want)
{
    char got[512];
    cr_expect_str_eq(net_list(n, got, sizeof got), want, "%s", got);
}

static wn_vid image(struct net *n, int64_t c)
{
    return net_input(n, "x", WINNOW_F32, 4, NET_DIMS(-1, c, 6, 6));
}

static wn_vid conv(struct net *n, wn_vid x, int64_t o, int64_t c, int64_t k, bool bias)
{
    wn_vid in[] = { x, net_normals(n, 4, NET_DIMS(o, c, k, k), 0.3f), bias ? net_normals(n, 1, &o, 0.3f) : WN_NONE };
    wn_vid y = net_op(n, "Conv", in, bias ? 3 : 2);
    net_ints(n, "pads", NET_DIMS(k / 2, k / 2, k / 2, k / 2), 4);
    return y;
}

static wn_vid vec_f32(struct net *n, int64_t count, float x)
{
    wn_vid v = net_const(n, WINNOW_F32, 1, &count, NULL);
    for (int64_t i = 0; i < count; i++)
        ((float *)net_data(n, v))[i] = x;
    return v;
}

/* ---- f32 ---- */

Test(passes, bias_residual_and_clamp_go_into_the_convolution)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = image(&n, 4), a = net_op(&n, "Relu", NET_IN(conv(&n, x, 4, 4, 3, true)));
    wn_vid b = conv(&n, a, 4, 4, 3, false);
    b = net_op(&n, "Add", NET_IN(b, net_normals(&n, 3, NET_DIMS(4, 1, 1), 1)));
    wn_vid y = net_op(&n, "Clip", NET_IN(net_op(&n, "Add", NET_IN(b, x)), net_f32(&n, 0), net_f32(&n, 6)));
    net_output(&n, y);
    optimise(&n);
    expect_nodes(&n, "wn.Conv,wn.Conv");
    const struct wn_node *last = &n.g.nodes.at[1];
    const struct wn_fused_f32 *f = last->fused;
    cr_expect_eq(last->n_in, 4);
    cr_expect(f->lo == 0 && f->hi == 6 && f->geom.kh == 3 && f->geom.pad_t == 1);
    net_done(&n);
}

Test(passes, a_value_that_others_read_keeps_its_activation_outside)
{
    struct net n;
    net_init(&n, 1);
    wn_vid a = conv(&n, image(&n, 4), 4, 4, 1, true), r = net_op(&n, "Relu", NET_IN(a));
    net_output(&n, net_op(&n, "Concat", NET_IN(a, r)));
    net_int(&n, "axis", 1);
    optimise(&n);
    expect_nodes(&n, "wn.Conv,Relu,Concat");
    net_done(&n);
}

Test(passes, batch_normalization_goes_into_the_convolution)
{
    struct net n;
    net_init(&n, 1);
    wn_vid c = conv(&n, image(&n, 2), 3, 2, 1, false);
    net_output(&n, net_op(&n, "BatchNormalization",
                          NET_IN(c, vec_f32(&n, 3, 2), vec_f32(&n, 3, 1), vec_f32(&n, 3, 0.5f), vec_f32(&n, 3, 4))));
    net_node(&n)->n_attr = 0;
    wn_node_set_float(&n.g, net_node(&n), "epsilon", 0);
    const float w0 = ((const float *)n.g.values.at[n.g.nodes.at[0].in[1]].constant->data)[0];
    optimise(&n);
    expect_nodes(&n, "wn.Conv");
    const struct wn_node *node = &n.g.nodes.at[0];
    cr_expect_float_eq(((const float *)n.g.values.at[node->in[1]].constant->data)[0], w0, 1e-7); /* 2 / sqrt(4) */
    cr_expect_float_eq(((const float *)n.g.values.at[node->in[2]].constant->data)[0], 0.5f, 1e-7);
    net_done(&n);
}

Test(passes, gemm_and_matmul_become_linear)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, 4));
    wn_vid a = net_op(&n, "Gemm", NET_IN(x, net_normals(&n, 2, NET_DIMS(4, 5), 1), net_normals(&n, 1, NET_DIMS(5), 1)));
    a = net_op(&n, "Relu", NET_IN(a));
    wn_vid b = net_op(&n, "MatMul", NET_IN(a, net_normals(&n, 2, NET_DIMS(5, 3), 1)));
    net_output(&n, net_op(&n, "Add", NET_IN(b, net_normals(&n, 1, NET_DIMS(3), 1))));
    optimise(&n);
    expect_nodes(&n, "wn.Linear,wn.Linear");
    cr_expect_eq(n.g.nodes.at[0].n_in, 3);
    cr_expect_eq(n.g.nodes.at[1].n_in, 3);
    cr_expect_eq(n.g.values.at[n.g.nodes.at[1].in[1]].type.dim[0], 3); /* (N, K) */
    net_done(&n);
}

Test(passes, nodes_that_do_nothing_go_but_every_output_keeps_its_value)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = image(&n, 1), a = net_op(&n, "Identity", NET_IN(x));
    wn_vid b = net_op(&n, "Dropout", NET_IN(a)), c = net_op(&n, "Cast", NET_IN(b));
    net_int(&n, "to", WINNOW_F32);
    wn_vid y = net_op(&n, "Abs", NET_IN(c)), z = net_op(&n, "Identity", NET_IN(y));
    net_output(&n, y);
    net_output(&n, z);
    optimise(&n);
    expect_nodes(&n, "Abs,Identity");
    net_done(&n);
}

/* What is too much work stays as it is; what costs less is still folded. */
Test(passes, folding_gives_up)
{
    struct net n;
    net_init(&n, 1);
    float w[64] = { 1, 2, 3 };
    wn_vid a = net_const(&n, WINNOW_F32, 2, NET_DIMS(8, 8), w);
    wn_vid product = net_op(&n, "MatMul", NET_IN(a, a)), sum = net_op(&n, "Add", NET_IN(a, a));
    net_output(&n, product);
    net_output(&n, sum);
    n.g.fold_limit = 1000; /* the product takes 512 and 768 for bytes, the sum 768 */
    cr_assert_eq(net_check(&n), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_pass_fold(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_expect_null(n.g.values.at[product].constant);
    cr_expect_not_null(n.g.values.at[sum].constant);
    cr_expect_eq(n.g.fold_work, 768);
    n.g.fold_limit = 0;
    cr_assert_eq(wn_pass_fold(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_expect_not_null(n.g.values.at[product].constant);
    net_done(&n);
}

Test(passes, constants_fold_and_f16_is_widened)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = net_input(&n, "x", WINNOW_F16, 2, NET_DIMS(-1, 2)),
           w = net_const(&n, WINNOW_F16, 2, NET_DIMS(2, 2), NULL);
    uint16_t *h = net_data(&n, w);
    h[0] = h[3] = 0x3c00;
    wn_vid sum = net_op(&n, "Add", NET_IN(w, w));
    net_output(&n, net_op(&n, "MatMul", NET_IN(x, sum)));
    optimise(&n);
    expect_nodes(&n, "Cast,wn.Linear,Cast");
    const struct wn_node *linear = net_find(&n, "wn", "Linear");
    cr_expect_eq(((const float *)n.g.values.at[linear->in[1]].constant->data)[0], 2.0f);
    cr_expect_eq(n.g.values.at[n.g.outputs.at[0]].type.dtype, WINNOW_F16);
    net_done(&n);
}

/* ---- int8 ---- */

struct q {
    float scale;
    int zp;
    bool i8;
};

static wn_vid zp_of(struct net *n, struct q q)
{
    return q.i8 ? net_i8(n, q.zp) : net_u8(n, q.zp);
}

static wn_vid quantized(struct net *n, wn_vid v, struct q q)
{
    return net_op(n, "QuantizeLinear", NET_IN(v, net_f32(n, q.scale), zp_of(n, q)));
}

static wn_vid dequantized(struct net *n, wn_vid v, struct q q)
{
    return net_op(n, "DequantizeLinear", NET_IN(v, net_f32(n, q.scale), zp_of(n, q)));
}

static wn_vid qdq(struct net *n, wn_vid v, struct q q)
{
    return dequantized(n, quantized(n, v, q), q);
}

/* DequantizeLinear of constant weights, per tensor. */
static wn_vid weights(struct net *n, unsigned rank, const int64_t *dim, struct q q)
{
    wn_vid w = net_const(n, q.i8 ? WINNOW_I8 : WINNOW_U8, rank, dim, NULL);
    for (size_t i = 0; i < n->g.values.at[w].constant->bytes; i++)
        ((uint8_t *)net_data(n, w))[i] = (uint8_t)net_pick(n, 0, 255);
    return dequantized(n, w, q);
}

static const struct q act = { 0.05f, 128, false }, act_i8 = { 0.05f, 3, true }, sym = { 0.01f, 0, true },
                      asym = { 0.01f, 120, false };

Test(passes, qdq_convolution_takes_in_activation_and_quantization)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = qdq(&n, image(&n, 4), act);
    wn_vid c = net_op(&n, "Conv", NET_IN(x, weights(&n, 4, NET_DIMS(8, 4, 3, 3), sym), vec_f32(&n, 8, 0.5f)));
    net_output(&n, qdq(&n, net_op(&n, "Relu", NET_IN(c)), (struct q){ 0.1f, 10, false }));
    optimise(&n);
    expect_nodes(&n, "wn.Quantize,wn.QConv,wn.Dequantize");
    const struct wn_node *node = net_find(&n, "wn", "QConv");
    const struct wn_fused_q8 *f = node->fused;
    cr_expect(!f->y_f32 && f->x_zp == 128 && f->y_zp == 10 && f->q_lo == 10 && f->q_hi == 255 && !f->w_zp);
    cr_expect_float_eq(f->mul[0], 0.05 * 0.01 / 0.1, 1e-9);
    cr_expect_eq(((const int32_t *)n.g.values.at[node->in[2]].constant->data)[7], 1000); /* 0.5 / (0.05 * 0.01) */
    net_done(&n);
}

Test(passes, i8_activations_become_u8_with_flips_that_cancel)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = qdq(&n, image(&n, 4), act_i8);
    wn_vid a = qdq(&n, net_op(&n, "Conv", NET_IN(x, weights(&n, 4, NET_DIMS(4, 4, 1, 1), sym))), act_i8);
    wn_vid b = qdq(&n, net_op(&n, "Conv", NET_IN(a, weights(&n, 4, NET_DIMS(4, 4, 1, 1), sym))), act_i8);
    net_output(&n, net_op(&n, "Relu", NET_IN(b)));
    optimise(&n);
    expect_nodes(&n, "wn.Quantize,wn.QConv,wn.QConv,wn.Dequantize,Relu");
    cr_expect_eq(((const struct wn_fused_q8 *)n.g.nodes.at[1].fused)->x_zp, 131);
    net_done(&n);
}

Test(passes, u8_weights_keep_the_rest_of_their_zero_point)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = qdq(&n, net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, 4)), act);
    wn_vid y = net_op(&n, "MatMul", NET_IN(x, weights(&n, 2, NET_DIMS(4, 3), asym)));
    net_output(&n, net_op(&n, "Add", NET_IN(y, vec_f32(&n, 3, 1))));
    optimise(&n);
    expect_nodes(&n, "wn.Quantize,wn.QLinear");
    const struct wn_fused_q8 *f = n.g.nodes.at[1].fused;
    cr_assert(f->y_f32 && f->w_zp && n.g.nodes.at[1].n_in == 3);
    cr_expect_eq(f->w_zp[2], 120 - 128);
    net_done(&n);
}

Test(passes, qlinear_operators_become_the_same_int8_form)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = net_input(&n, "x", WINNOW_U8, 4, NET_DIMS(-1, 4, 6, 6));
    wn_vid w = net_const(&n, WINNOW_I8, 4, NET_DIMS(4, 4, 1, 1), NULL), s = net_f32(&n, 0.1f), z = net_u8(&n, 100);
    wn_vid ws = net_f32(&n, 0.02f), wz = net_i8(&n, 0);
    wn_vid a = net_op(&n, "QLinearConv", NET_IN(x, s, z, w, ws, wz, s, z));
    wn_vid b = net_op(&n, "com.microsoft:QLinearAdd", NET_IN(a, s, z, x, s, z, s, z));
    wn_vid c = net_op(&n, "com.microsoft:QLinearGlobalAveragePool", NET_IN(b, s, z, s, z));
    wn_vid d = net_op(&n, "Flatten", NET_IN(c)), m = net_const(&n, WINNOW_I8, 2, NET_DIMS(4, 3), NULL);
    net_output(&n, net_op(&n, "QLinearMatMul", NET_IN(d, s, z, m, ws, wz, s, z)));
    optimise(&n);
    expect_nodes(&n, "wn.QConv,wn.QGlobalAveragePool,Flatten,wn.QLinear");
    net_done(&n);
}

/* A convolution whose result somebody else reads too keeps it, and of two convolutions one takes the other's result. */
Test(passes, an_addition_joins_the_convolution_before_it)
{
    struct net n;
    for (int shared = 0; shared < 2; shared++) {
        net_init(&n, 1);
        wn_vid x = net_input(&n, "x", WINNOW_U8, 4, NET_DIMS(-1, 4, 6, 6));
        wn_vid w = net_const(&n, WINNOW_I8, 4, NET_DIMS(4, 4, 1, 1), NULL), s = net_f32(&n, 0.1f), z = net_u8(&n, 100);
        wn_vid ws = net_f32(&n, 0.02f), wz = net_i8(&n, 0);
        wn_vid a = net_op(&n, "QLinearConv", NET_IN(x, s, z, w, ws, wz, s, z));
        wn_vid b = net_op(&n, "QLinearConv", NET_IN(a, s, z, w, ws, wz, s, z));
        wn_vid y = net_op(&n, "com.microsoft:QLinearAdd", NET_IN(b, s, z, a, s, z, s, net_u8(&n, 7)));
        net_output(&n, y);
        if (shared)
            net_output(&n, b);
        optimise(&n);
        expect_nodes(&n, shared ? "wn.QConv,wn.QConv,wn.QAdd" : "wn.QConv,wn.QConv");
        if (!shared) {
            const struct wn_node *sum = wn_graph_producer(&n.g, n.g.outputs.at[0]);
            const struct wn_fused_q8 *f = sum->fused;
            cr_expect(sum->n_in == 4 && f->y_zp == 7 && f->r_zp == 100 && f->s_lo == -100 && f->s_hi == 155);
        }
        net_done(&n);
    }
}

Test(passes, residual_pool_concat_and_functions_between_dq_and_q)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = qdq(&n, image(&n, 4), act), p = net_op(&n, "MaxPool", NET_IN(x));
    net_ints(&n, "kernel_shape", NET_DIMS(1, 1), 2);
    wn_vid sum = qdq(&n, net_op(&n, "Relu", NET_IN(net_op(&n, "Add", NET_IN(x, p)))), (struct q){ 0.1f, 0, false });
    wn_vid fn = qdq(&n, net_op(&n, "Sigmoid", NET_IN(net_op(&n, "Mul", NET_IN(sum, net_f32(&n, 2))))), act);
    wn_vid cat = net_op(&n, "Concat", NET_IN(sum, fn));
    net_int(&n, "axis", 1);
    net_output(&n, quantized(&n, net_op(&n, "GlobalAveragePool", NET_IN(qdq(&n, cat, act))), act));
    optimise(&n);
    cr_expect_eq(net_count(&n, "wn", "QAdd"), 1);
    cr_expect_eq(net_count(&n, "wn", "Requantize"), 2); /* the functions; the other half of the concatenation */
    cr_expect_eq(net_count(&n, "wn", "QGlobalAveragePool"), 1);
    cr_expect_eq(net_count(&n, "", "Concat"), 1);
    cr_expect_eq(net_count(&n, "wn", "Dequantize") + net_count(&n, "", "Sigmoid") + net_count(&n, "", "Add"), 0);
    cr_expect_eq(n.g.values.at[net_find(&n, "", "Concat")->out[0]].type.dtype, WINNOW_U8);
    cr_expect_eq(n.g.values.at[net_find(&n, "", "MaxPool")->out[0]].type.dtype, WINNOW_U8);
    net_done(&n);
}

Test(passes, a_bias_that_does_not_fit_is_told)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = qdq(&n, image(&n, 4), act);
    net_output(&n, net_op(&n, "Conv", NET_IN(x, weights(&n, 4, NET_DIMS(4, 4, 1, 1), sym), vec_f32(&n, 4, 1e9f))));
    optimise(&n);
    expect_nodes(&n, "wn.Quantize,wn.Dequantize,wn.Conv");
    const char *note = ((const struct wn_fused_f32 *)net_find(&n, "wn", "Conv")->fused)->note;
    cr_assert(note);
    cr_expect(strstr(note, "bias does not fit"));
    net_done(&n);
}

/* ---- size ---- */

Test(passes, a_hundred_thousand_nodes_take_seconds, .timeout = 60)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 4, NET_DIMS(-1, 1, 1, 1)),
           w = net_normals(&n, 4, NET_DIMS(1, 1, 1, 1), 1);
    wn_vid before = x, s = net_f32(&n, 0.5f), z = net_u8(&n, 0);
    for (int i = 0; i < 12000; i++) {
        wn_vid y = net_op(&n, "Conv", NET_IN(x, w));
        y = net_op(&n, "Identity", NET_IN(net_op(&n, "Add", NET_IN(y, before))));
        before = y;
        x = net_op(&n, "QuantizeLinear", NET_IN(y, s, z));
        x = net_op(&n, "DequantizeLinear", NET_IN(net_op(&n, "Identity", NET_IN(x)), s, z));
        x = net_op(&n, "Add", NET_IN(net_op(&n, "MaxPool", NET_IN(x)), x));
        net_ints(&n, "kernel_shape", NET_DIMS(1, 1), 2);
    }
    net_output(&n, x);
    for (wn_nid i = 0; i < n.g.nodes.n; i++) /* net_ints went to the newest node, not to the pool */
        if (strcmp(n.g.nodes.at[i].op_type, "MaxPool") == 0)
            wn_node_set_ints(&n.g, &n.g.nodes.at[i], "kernel_shape", NET_DIMS(1, 1), 2);
    winnow_model *model = net_load(&n, false);
    winnow_model_unref(model);
    net_done(&n);
}
