/* How many rows the table has that an input is looked up in. */
#include "tests/unit/engine/plan/net.h"

static wn_vid ids(struct net *n)
{
    net_init(n, 1);
    return net_input(n, "ids", WINNOW_I64, 2, NET_DIMS(-1, 5));
}

static void expect_table(struct net *n, wn_vid y, int64_t want)
{
    net_output(n, y);
    winnow_model *model = net_load(n, false);
    cr_expect_eq(winnow_model_input(model, 0)->table_rows, want);
    winnow_model_unref(model);
    net_done(n);
}

Test(tables, rows_of_the_smallest)
{
    struct net n;
    wn_vid x = ids(&n), big = net_normals(&n, 2, NET_DIMS(9, 3), 1), small = net_normals(&n, 2, NET_DIMS(7, 3), 1);
    expect_table(
        &n, net_op(&n, "Add", NET_IN(net_op(&n, "Gather", NET_IN(big, x)), net_op(&n, "Gather", NET_IN(small, x)))), 7);
}

Test(tables, over_nodes_that_move_and_convert)
{
    struct net n;
    wn_vid x = net_op(&n, "Cast", NET_IN(ids(&n)));
    net_int(&n, "to", 6);
    wn_vid flat = net_op(&n, "Reshape", NET_IN(x, net_i64s(&n, NET_DIMS(-1, 5, 1), 3)));
    wn_vid table = net_normals(&n, 2, NET_DIMS(3, 11), 1), y = net_op(&n, "Gather", NET_IN(table, flat));
    net_int(&n, "axis", -1);
    expect_table(&n, y, 11);
}

Test(tables, none_where_ids_are_computed)
{
    struct net n;
    wn_vid x = ids(&n), table = net_normals(&n, 2, NET_DIMS(9, 3), 1);
    wn_vid one = net_i64s(&n, NET_DIMS(1), 1);
    expect_table(&n, net_op(&n, "Gather", NET_IN(table, net_op(&n, "Min", NET_IN(x, one)))), 0);
    x = ids(&n);
    expect_table(&n, net_op(&n, "Gather", NET_IN(x, net_i64s(&n, NET_DIMS(1), 1))), 0);
}
