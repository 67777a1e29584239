/* When the rows of a batch are independent, and what is said when they are not. */
#include "tests/unit/engine/plan/net.h"

/* Loads the net and compares the verdict; `want` is NULL for true, else a part of the reason. */
static void expect_rows(struct net *n, wn_vid y, const char *want)
{
    const char *why = NULL;
    net_output(n, y);
    winnow_model *model = net_load(n, false);
    bool independent = winnow_model_rows_independent(model, &why);
    cr_expect_eq(independent, want == NULL, "%s", why ? why : "independent");
    if (want && why)
        cr_expect(strstr(why, want), "'%s' does not say '%s'", why, want);
    winnow_model_unref(model);
    net_done(n);
}

static wn_vid image(struct net *n)
{
    net_init(n, 1);
    return net_input(n, "x", WINNOW_F32, 4, NET_DIMS(-1, 2, 3, 4));
}

Test(rows, layers_keep_rows_apart)
{
    struct net n;
    wn_vid x = image(&n), c = net_op(&n, "Conv", NET_IN(x, net_normals(&n, 4, NET_DIMS(5, 2, 1, 1), 1)));
    wn_vid p = net_op(&n, "GlobalAveragePool", NET_IN(net_op(&n, "Add", NET_IN(c, c)))),
           f = net_op(&n, "Flatten", NET_IN(p));
    expect_rows(&n, net_op(&n, "Softmax", NET_IN(f)), NULL);
}

Test(rows, reshape_with_the_batch_in_front)
{
    struct net n;
    wn_vid x = image(&n);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(x, net_i64s(&n, NET_DIMS(0, -1), 2))), NULL);
    x = image(&n);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(x, net_i64s(&n, NET_DIMS(-1, 24), 2))), NULL);
}

Test(rows, reshape_that_mixes_rows)
{
    struct net n;
    wn_vid x = image(&n);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(x, net_i64s(&n, NET_DIMS(-1, 12), 2))), "may mix rows");
    x = image(&n);
    expect_rows(&n, net_op(&n, "Flatten", NET_IN(x)), NULL);
    x = image(&n);
    wn_vid y = net_op(&n, "Flatten", NET_IN(x));
    net_int(&n, "axis", 2);
    expect_rows(&n, y, "may mix rows");
}

Test(rows, slice_softmax_and_sums_over_the_batch)
{
    struct net n;
    wn_vid x = image(&n), one = net_i64s(&n, NET_DIMS(1), 1), zero = net_i64s(&n, NET_DIMS(0), 1);
    expect_rows(&n, net_op(&n, "Slice", NET_IN(x, zero, one, zero)), "Slice");
    x = image(&n);
    one = net_i64s(&n, NET_DIMS(1), 1);
    zero = net_i64s(&n, NET_DIMS(0), 1);
    expect_rows(&n, net_op(&n, "Slice", NET_IN(x, zero, one, one)), NULL);
    x = image(&n);
    wn_vid y = net_op(&n, "Softmax", NET_IN(x));
    net_int(&n, "axis", 0);
    expect_rows(&n, y, "Softmax");
    x = image(&n);
    zero = net_i64s(&n, NET_DIMS(0), 1);
    expect_rows(&n, net_op(&n, "ReduceSum", NET_IN(x, zero)), "ReduceSum");
    x = image(&n);
    wn_vid t = net_op(&n, "Transpose", NET_IN(x));
    net_ints(&n, "perm", NET_DIMS(1, 0, 2, 3), 4);
    expect_rows(&n, t, "first dimension");
}

Test(rows, a_scale_taken_from_all_rows_mixes_them)
{
    struct net n;
    wn_vid x = image(&n), q[3];
    net_ops(&n, "DynamicQuantizeLinear", NET_IN(x), 3, q);
    expect_rows(&n, net_op(&n, "DequantizeLinear", NET_IN(q[0], q[1], q[2])), "DynamicQuantizeLinear");
}

Test(rows, a_fixed_batch_and_constant_outputs_are_no_rows)
{
    struct net n;
    net_init(&n, 1);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(4, 3));
    expect_rows(&n, net_op(&n, "Relu", NET_IN(x)), "no dynamic first dimension");
    x = image(&n);
    wn_vid c = net_op(&n, "Abs", NET_IN(net_normals(&n, 1, NET_DIMS(3), 1)));
    net_output(&n, net_op(&n, "Relu", NET_IN(x)));
    expect_rows(&n, c, "does not carry the batch");
}

/* x.size(0) as exporters write it: [N] */
static wn_vid batch_of(struct net *n, wn_vid x)
{
    wn_vid g =
        net_op(n, "Gather", NET_IN(net_op(n, "Shape", NET_IN(x)), net_const(n, WINNOW_I64, 0, NULL, NET_DIMS(0))));
    return net_op(n, "Unsqueeze", NET_IN(g, net_i64s(n, NET_DIMS(0), 1)));
}

Test(rows, computed_target_shapes_are_followed)
{
    struct net n;
    wn_vid x = image(&n), shape = net_op(&n, "Concat", NET_IN(batch_of(&n, x), net_i64s(&n, NET_DIMS(-1), 1)));
    net_int(&n, "axis", 0);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(x, shape)), NULL);
    /* taken from an earlier value than the one reshaped */
    x = image(&n);
    shape = net_op(&n, "Concat", NET_IN(batch_of(&n, x), net_i64s(&n, NET_DIMS(6, 4), 2)));
    net_int(&n, "axis", 0);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(net_op(&n, "Relu", NET_IN(x)), shape)), NULL);
    x = image(&n);
    shape = net_op(&n, "Concat", NET_IN(batch_of(&n, x), net_i64s(&n, NET_DIMS(-1), 1)));
    net_int(&n, "axis", 0);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(net_op(&n, "Relu", NET_IN(x)), shape)), NULL);
    /* the batch is not in front any more */
    x = image(&n);
    shape = net_op(&n, "Concat", NET_IN(net_i64s(&n, NET_DIMS(24), 1), batch_of(&n, x)));
    net_int(&n, "axis", 0);
    expect_rows(&n, net_op(&n, "Reshape", NET_IN(x, shape)), "may mix rows");
}

Test(rows, followed_shapes_give_the_same_answers)
{
    struct net n;
    net_init(&n, 1);
    float data[3 * 6];
    for (int i = 0; i < 18; i++)
        data[i] = (float)i;
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, 2, -1)), s = net_op(&n, "Shape", NET_IN(x));
    wn_vid two = net_op(&n, "Gather", NET_IN(s, net_i64s(&n, NET_DIMS(2), 1)));
    wn_vid shape = net_op(&n, "Concat", NET_IN(batch_of(&n, x), two, net_i64s(&n, NET_DIMS(2), 1)));
    net_int(&n, "axis", 0);
    net_output(&n, net_op(&n, "Reshape", NET_IN(x, shape)));
    winnow_model *model = net_load(&n, false);
    struct winnow_tensor in = net_tensor(WINNOW_F32, 3, NET_DIMS(3, 2, 3), data);
    struct net_answer y = net_run(model, 1, &in, 1);
    cr_expect(y.t.rank == 3 && y.t.shape[0] == 3 && y.t.shape[1] == 3 && y.t.shape[2] == 2);
    cr_expect_arr_eq(y.t.data, data, sizeof data);
    free(y.t.data);
    winnow_model_unref(model);
    net_done(&n);
}

/* ---- shapes that a graph computes ---- */

static wn_vid i64(struct net *n, int64_t v)
{
    return net_const(n, WINNOW_I64, 0, NULL, &v);
}

static wn_vid ids(struct net *n)
{
    net_init(n, 1);
    wn_vid x = net_input(n, "ids", WINNOW_I64, 2, NET_DIMS(-1, -1));
    n->g.values.at[x].dim_name[0] = "batch";
    return x;
}

static wn_vid extent_of(struct net *n, wn_vid x, int64_t axis)
{
    wn_vid d = net_op(n, "Gather", NET_IN(net_op(n, "Shape", NET_IN(x)), i64(n, axis)));
    return net_op(n, "Unsqueeze", NET_IN(d, net_i64s(n, NET_DIMS(0), 1)));
}

static wn_vid shape_of(struct net *n, const wn_vid *in, size_t count)
{
    wn_vid y = net_op(n, "Concat", in, count);
    net_int(n, "axis", 0);
    return y;
}

static wn_vid embedded(struct net *n, wn_vid x)
{
    return net_op(n, "Gather", NET_IN(net_normals(n, 2, NET_DIMS(50, 8), 1), x));
}

Test(rows, position_embeddings_by_a_computed_length)
{
    struct net n;
    wn_vid x = ids(&n), one = net_i64s(&n, NET_DIMS(1), 1), at = net_const(&n, WINNOW_I64, 2, NET_DIMS(1, 50), NULL);
    wn_vid p = net_op(&n, "Slice", NET_IN(at, net_i64s(&n, NET_DIMS(0), 1), extent_of(&n, x, 1), one, one));
    expect_rows(&n, net_op(&n, "Add", NET_IN(embedded(&n, x), embedded(&n, p))), NULL);
    /* by the batch: another answer in another batch */
    x = ids(&n);
    one = net_i64s(&n, NET_DIMS(1), 1);
    at = net_const(&n, WINNOW_I64, 2, NET_DIMS(1, 50), NULL);
    p = net_op(&n, "Slice", NET_IN(at, net_i64s(&n, NET_DIMS(0), 1), extent_of(&n, x, 0), one, one));
    expect_rows(&n, net_op(&n, "Add", NET_IN(embedded(&n, x), embedded(&n, p))), "Slice");
}

Test(rows, expand_to_a_computed_shape)
{
    struct net n;
    wn_vid x = ids(&n), b = extent_of(&n, x, 0), s = extent_of(&n, x, 1), one = net_i64s(&n, NET_DIMS(1), 1);
    wn_vid m = net_op(&n, "Unsqueeze", NET_IN(x, net_i64s(&n, NET_DIMS(1, 2), 2)));
    expect_rows(&n, net_op(&n, "Expand", NET_IN(m, shape_of(&n, (wn_vid[]){ b, one, s, s }, 4))), NULL);
    x = ids(&n); /* the batch in another place */
    b = extent_of(&n, x, 0);
    one = net_i64s(&n, NET_DIMS(1), 1);
    m = net_op(&n, "Unsqueeze", NET_IN(x, net_i64s(&n, NET_DIMS(1, 2), 2)));
    expect_rows(&n, net_op(&n, "Expand", NET_IN(m, shape_of(&n, (wn_vid[]){ one, one, b, one }, 4))), "Expand");
    x = ids(&n); /* one row for all */
    b = extent_of(&n, x, 0);
    s = extent_of(&n, x, 1);
    m = net_op(&n, "Range", NET_IN(i64(&n, 0), net_op(&n, "Squeeze", NET_IN(s)), i64(&n, 1)));
    wn_vid e = net_op(&n, "Expand", NET_IN(m, shape_of(&n, (wn_vid[]){ b, s }, 2)));
    expect_rows(&n, net_op(&n, "Add", NET_IN(embedded(&n, x), embedded(&n, e))), NULL);
}

Test(rows, token_types_that_a_file_makes_itself)
{
    struct net n;
    wn_vid x = ids(&n), t = net_op(&n, "ConstantOfShape", NET_IN(net_op(&n, "Shape", NET_IN(x)))); /* f32 zeros */
    t = net_op(&n, "Cast", NET_IN(t));
    net_int(&n, "to", WINNOW_I64);
    expect_rows(&n, net_op(&n, "Add", NET_IN(embedded(&n, x), embedded(&n, t))), NULL);
}

/* `mask.expand(b, -1, …)` reaches a file as Where(Equal(shape, -1), ones, shape). */
Test(rows, minus_one_in_an_expanded_shape)
{
    struct net n;
    wn_vid x = ids(&n), s = extent_of(&n, x, 1), one = net_i64s(&n, NET_DIMS(1), 1), b = extent_of(&n, x, 0);
    wn_vid shape = shape_of(&n, (wn_vid[]){ b, one, net_i64s(&n, NET_DIMS(-1), 1), s }, 4);
    wn_vid eq = net_op(&n, "Equal", NET_IN(shape, net_i64s(&n, NET_DIMS(-1, -1, -1, -1), 4)));
    shape = net_op(&n, "Where", NET_IN(eq, net_i64s(&n, NET_DIMS(1, 1, 1, 1), 4), shape));
    wn_vid m = net_op(&n, "Unsqueeze", NET_IN(x, net_i64s(&n, NET_DIMS(1, 2), 2)));
    expect_rows(&n, net_op(&n, "Expand", NET_IN(m, shape)), NULL);
}

Test(rows, a_length_computed_from_the_batch_mixes_rows)
{
    struct net n;
    wn_vid x = ids(&n), bs = net_op(&n, "Mul", NET_IN(extent_of(&n, x, 0), extent_of(&n, x, 1)));
    wn_vid all = net_op(&n, "ConstantOfShape", NET_IN(shape_of(&n, (wn_vid[]){ extent_of(&n, x, 0), bs }, 2)));
    expect_rows(&n, all, "ConstantOfShape");
}
