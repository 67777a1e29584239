/* The table: lookups by opset, arity, listing. */
#include <criterion/criterion.h>
#include "tests/unit/engine/ops/node.h"

Test(ops_table, the_newest_entry_not_above_the_opset_is_taken)
{
    cr_assert_eq(wn_ops_find("", "Squeeze", 12)->since, 1);
    cr_assert_eq(wn_ops_find("", "Squeeze", 13)->since, 13);
    cr_assert_eq(wn_ops_find("", "Squeeze", 99)->since, 13);
    cr_assert_eq(wn_ops_find("ai.onnx", "Relu", 14), wn_ops_find("", "Relu", 14));
    cr_assert_null(wn_ops_find("", "Gelu", 19));
    cr_assert_not_null(wn_ops_find("com.microsoft", "QLinearAdd", 1));
    cr_assert_null(wn_ops_find("", "QLinearAdd", 20));
    cr_assert_null(wn_ops_find("", "", 20));
    cr_assert_null(wn_ops_find("", "~", 20));
}

Test(ops_table, every_entry_is_whole_and_found_again)
{
    size_t n = 0;
    for (const struct wn_op *op; (op = wn_ops_at(n)); n++) {
        cr_expect(op->infer && op->run && op->rows, "%s", op->type);
        cr_expect(op->min_in <= op->max_in && op->max_in <= WN_OP_MAX_IN && op->min_out <= op->max_out, "%s", op->type);
        cr_expect_eq(wn_ops_find(op->domain, op->type, op->since), op, "%s %d is given twice", op->type, op->since);
    }
    cr_assert_gt(n, 150);
}

Test(ops_table, every_rule_lives_with_nothing_known)
{
    for (size_t i = 0; wn_ops_at(i); i++) {
        const struct wn_op *op = wn_ops_at(i);
        struct wn_node node = { .name = "it", .domain = op->domain, .op_type = op->type, .opset = op->since, .op = op };
        wn_vid out_ids[64] = { 0 };
        struct wn_type out[64];
        node.n_out = op->min_out;
        node.out = out_ids;
        struct wn_infer infer = { .node = &node, .n_in = op->min_in, .n_out = op->min_out, .out = out };
        int axis[WN_OP_MAX_IN] = { 0 };
        for (unsigned k = 0; k < op->min_in; k++) {
            infer.in[k].rank = -1;
            infer.given[k] = true;
        }
        for (unsigned k = 0; k < op->min_out; k++)
            out[k] = (struct wn_type){ .rank = -1 };
        (void)wn_ops_infer_node(&infer, NULL); /* may refuse (a missing attribute), may not crash */
        struct wn_rows rows = { &node, op->min_in, &infer, axis, WN_ROWS_NONE };
        if (op->min_in)
            op->rows(&rows);
    }
}
