/* What operators of com.microsoft and functions of ONNX become. That the answers are ONNX Runtime's is
 * tests/engine_contrib.py; that ONNX's functions compute what ONNX says is tests/conformance. */
#include "tests/unit/engine/plan/net.h"

static void expand(struct net *n)
{
    cr_assert_eq(wn_pass_expand(&n->g, &n->err), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(net_check(n), WINNOW_OK, "%s", n->err.msg);
}

static void expect_nodes(struct net *n, const char *want)
{
    char got[1024];
    cr_expect_str_eq(net_list(n, got, sizeof got), want, "%s", got);
}

static void expect_refused(struct net *n, enum winnow_status status, const char *why)
{
    cr_expect_eq(wn_pass_expand(&n->g, &n->err), status);
    cr_expect(strstr(n->err.msg, why) && strstr(n->err.msg, "_"), "%s", n->err.msg);
    net_done(n);
}

static wn_vid tokens(struct net *n, int64_t width)
{
    return net_input(n, "x", WINNOW_F32, 3, NET_DIMS(-1, -1, width));
}

Test(expand, leaves_a_graph_without_such_operators_alone)
{
    struct net n;
    net_init(&n, 1);
    net_output(&n, net_op(&n, "Relu", NET_IN(tokens(&n, 4))));
    expand(&n);
    expect_nodes(&n, "Relu");
    net_done(&n);
}

Test(expand, skip_layer_normalization_becomes_add_and_layer_normalization)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = tokens(&n, 4), gamma = net_normals(&n, 1, NET_DIMS(4), 1), out[4];
    net_ops(&n, "com.microsoft:SkipLayerNormalization", NET_IN(x, x, gamma, WN_NONE, gamma), 4, out);
    net_output(&n, out[0]);
    net_output(&n, out[3]);
    expand(&n);
    expect_nodes(&n, "Add,Add,LayerNormalization");
    const struct wn_node *norm = net_find(&n, "", "LayerNormalization");
    cr_expect_eq(wn_node_float(norm, "epsilon", 1), 1e-12f);
    cr_expect_eq(n.g.values.at[n.g.outputs.at[1]].producer, 1, "the sum goes to the fourth output");
    net_done(&n);
}

Test(expand, constant_weights_of_merged_projections_are_cut_apart)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = tokens(&n, 6), w = net_normals(&n, 2, NET_DIMS(6, 18), 1), b = net_normals(&n, 1, NET_DIMS(18), 1);
    wn_vid mask = net_input(&n, "mask", WINNOW_I32, 1, NET_DIMS(-1));
    net_output(&n, net_op(&n, "com.microsoft:Attention", NET_IN(x, w, b, mask)));
    net_int(&n, "num_heads", 2);
    expand(&n);
    cr_expect_eq(net_count(&n, "", "MatMul"), 5);
    cr_expect_eq(net_count(&n, "", "Slice"), 0);
    for (size_t i = 0, found = 0; i < n.g.nodes.n; i++) {
        const struct wn_node *node = &n.g.nodes.at[i];
        const struct wn_tensor *part = wn_node_is(node, "MatMul") ? n.g.values.at[node->in[1]].constant : NULL;
        if (!part)
            continue;
        cr_expect(part->dim[0] == 6 && part->dim[1] == 6);
        cr_expect_eq(((float *)part->data)[6], ((float *)net_data(&n, w))[18 + 6 * found], "row 1 of part %zu", found);
        found++;
    }
    const struct wn_type *y = &n.g.values.at[n.g.outputs.at[0]].type;
    cr_expect(y->rank == 3 && y->dim[2] == 6, "rank %d", y->rank);
    const char *why = "";
    cr_expect_eq(wn_pass_fold(&n.g, &n.err), WINNOW_OK);
    cr_expect(wn_rows_independent(&n.g, &why), "%s", why);
    net_done(&n);
}

Test(expand, dynamic_quantization_stays_integer_and_mixes_rows)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = tokens(&n, 8), w = net_const(&n, WINNOW_I8, 2, NET_DIMS(8, 3), NULL);
    net_output(&n, net_op(&n, "com.microsoft:DynamicQuantizeMatMul", NET_IN(x, w, net_f32(&n, 0.5f), net_i8(&n, 0))));
    expand(&n);
    expect_nodes(&n, "DynamicQuantizeLinear,MatMulInteger,Cast,Mul,Mul");
    const char *why = NULL;
    cr_expect(!wn_rows_independent(&n.g, &why));
    cr_expect(strstr(why, "DynamicQuantizeLinear"), "%s", why);
    net_done(&n);
}

Test(expand, forms_that_are_not_there_are_refused_by_name)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = tokens(&n, 6), w = net_normals(&n, 2, NET_DIMS(6, 18), 1), b = net_normals(&n, 1, NET_DIMS(18), 1);
    wn_vid past = net_input(&n, "past", WINNOW_F32, 5, NET_DIMS(2, -1, 2, -1, 3));
    net_output(&n, net_op(&n, "com.microsoft:Attention", NET_IN(x, w, b, WN_NONE, past)));
    net_int(&n, "num_heads", 2);
    expect_refused(&n, WINNOW_E_UNSUPPORTED, "past state");
    net_init(&n, 1);
    net_output(&n,
               net_op(&n, "com.microsoft:Attention", NET_IN(tokens(&n, 6), net_normals(&n, 2, NET_DIMS(6, 18), 1))));
    net_int(&n, "num_heads", 4);
    expect_refused(&n, WINNOW_E_UNSUPPORTED, "18 columns of weights for 4 heads");
    net_init(&n, 1);
    net_output(&n,
               net_op(&n, "com.microsoft:Attention", NET_IN(tokens(&n, 6), net_normals(&n, 2, NET_DIMS(6, 18), 1))));
    expect_refused(&n, WINNOW_E_MALFORMED, "num_heads is 0");
    net_init(&n, 1);
    net_output(&n, net_op(&n, "com.microsoft:BiasGelu", NET_IN(tokens(&n, 6))));
    expect_refused(&n, WINNOW_E_MALFORMED, "input 1 of BiasGelu");
    net_init(&n, 1);
    net_output(&n, net_op(&n, "com.microsoft:FusedGemm", NET_IN(net_normals(&n, 2, NET_DIMS(2, 2), 1), tokens(&n, 2))));
    wn_node_set_str(&n.g, net_node(&n), "activation", "Sinusoid");
    expect_refused(&n, WINNOW_E_UNSUPPORTED, "its activation");
}
