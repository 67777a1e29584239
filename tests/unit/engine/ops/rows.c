/* Batch-axis rules: where the batch goes, and when rows are mixed. */
#include <criterion/criterion.h>
#include "tests/unit/engine/ops/node.h"

/* `axes`: one letter per input: digit = its batch axis, '-' = none. `want`: digit, '-' or 'x' for mixed. */
struct rows_case {
    const char *op;
    int opset;
    const char *in, *attrs, *axes;
    char want;
};

Test(ops_rows, the_batch_is_followed_or_given_up)
{
    static const struct rows_case cases[] = {
        { "Relu", 14, "f32[?,3]", "", "0", '0' },
        { "Relu", 14, "f32[2,3]", "", "-", '-' },
        { "Add", 14, "f32[?,3] f32[3]", "", "0-", '0' },
        { "Add", 14, "f32[?,3] f32[?,3]", "", "00", '0' },
        { "Add", 14, "f32[?,3] f32[1,4,1,3]", "", "0-", '2' },
        { "Add", 14, "f32[?,3] f32[8,3]", "", "0-", 'x' },
        { "Add", 14, "f32[?] f32[?,1]", "", "00", 'x' },
        { "Conv", 11, "f32[?,3,4,4] f32[8,3,3,3]", "", "0-", '0' },
        { "Conv", 11, "f32[?,3,4,4] f32[8,3,3,3]", "", "1-", 'x' },
        { "Conv", 11, "f32[?,3,4,4] f32[?,3,3,3]", "", "00", 'x' },
        { "MaxPool", 12, "f32[?,3,4,4]", "kernel_shape=2,2", "0", '0' },
        { "Gemm", 11, "f32[?,3] f32[3,4] f32[4]", "", "0--", '0' },
        { "Gemm", 11, "f32[3,?] f32[3,4]", "transA=1", "1-", 'x' },
        { "Gemm", 11, "f32[?,3] f32[3,4] f32[5,4]", "", "0--", 'x' },
        { "MatMul", 13, "f32[?,7,3] f32[3,4]", "", "0-", '0' },
        { "MatMul", 13, "f32[?,3] f32[3,4]", "", "0-", '0' },
        { "MatMul", 13, "f32[?,2,7,3] f32[?,2,3,4]", "", "00", '0' },
        { "MatMul", 13, "f32[?,7,3] f32[5,3,4]", "", "0-", 'x' },
        { "MatMul", 13, "f32[7,?] f32[?,4]", "", "10", 'x' },
        { "MatMul", 13, "f32[2,3] f32[?,3,4]", "", "-0", '0' },
        { "Einsum", 12, "f32[?,7,3] f32[3,4]", "equation=bij,jk->ibk", "0-", '1' },
        { "Einsum", 12, "f32[?,7,3] f32[?,3,4]", "equation=bij,bjk->bik", "00", '0' },
        { "Einsum", 12, "f32[?,7,3] f32[?,3,4]", "equation=bij,cjk->bik", "00", 'x' },
        { "Einsum", 12, "f32[?,7,3] f32[5,3]", "equation=bij,bj->bi", "0-", 'x' },
        { "Einsum", 12, "f32[?,7,3]", "equation=bij->ij", "0", 'x' },
        { "Reshape", 14, "f32[?,4,3] i64[2]{0,-1}", "", "0-", '0' },
        { "Reshape", 14, "f32[?,4,3] i64[2]{-1,12}", "", "0-", '0' },
        { "Reshape", 14, "f32[?,4,3] i64[2]{-1,6}", "", "0-", 'x' },
        { "Reshape", 14, "f32[?,?,3] i64[4]{0,0,1,3}", "", "0-", '0' },
        { "Reshape", 14, "f32[?,?,6] i64[4]{0,0,2,-1}", "", "0-", '0' },
        { "Reshape", 14, "f32[?,?,3] i64[4]{-1,4,1,3}", "", "0-", 'x' },
        { "Reshape", 14, "f32[?,?,3] i64[2]{0,4}", "allowzero=1", "0-", 'x' },
        { "Flatten", 13, "f32[?,4,3]", "", "0", '0' },
        { "Flatten", 13, "f32[?,4,3]", "axis=2", "0", 'x' },
        { "Transpose", 13, "f32[?,4,3]", "perm=2,0,1", "0", '1' },
        { "Concat", 13, "f32[?,4] f32[?,3]", "axis=1", "00", '0' },
        { "Concat", 13, "f32[?,4] f32[?,4]", "axis=0", "00", 'x' },
        { "Concat", 13, "f32[?,4] f32[1,3]", "axis=1", "0-", 'x' },
        { "Split", 13, "f32[?,4]", "axis=1", "0", '0' },
        { "Split", 13, "f32[?,4]", "axis=0", "0", 'x' },
        { "Slice", 13, "f32[?,4] i64[1]{0} i64[1]{2} i64[1]{1}", "", "0---", '0' },
        { "Slice", 13, "f32[?,4] i64[1]{0} i64[1]{2} i64[1]{0}", "", "0---", 'x' },
        { "Gather", 13, "f32[100,8] i64[?,4]", "", "-0", '0' },
        { "Gather", 13, "f32[?,8,3] i64[]", "axis=1", "0-", '0' },
        { "Gather", 13, "f32[?,8] i64[2]", "axis=0", "0-", 'x' },
        { "Softmax", 13, "f32[?,8]", "", "0", '0' },
        { "Softmax", 13, "f32[?,8]", "axis=0", "0", 'x' },
        { "Softmax", 11, "f32[?,8,3]", "", "0", '0' },
        { "Softmax", 11, "f32[?,8,3]", "axis=0", "0", 'x' },
        { "ReduceMean", 13, "f32[?,8,3]", "axes=1,2 keepdims=0", "0", '0' },
        { "ReduceMean", 13, "f32[8,?,3]", "axes=0, keepdims=0", "1", '0' },
        { "ReduceMean", 13, "f32[?,8,3]", "", "0", 'x' },
        { "ArgMax", 13, "f32[?,8]", "axis=1", "0", '0' },
        { "ArgMax", 13, "f32[?,8]", "axis=0", "0", 'x' },
        { "LayerNormalization", 17, "f32[?,8,3] f32[3] f32[3]", "", "0--", '0' },
        { "LayerNormalization", 17, "f32[?,8] f32[8]", "axis=0", "0-", 'x' },
        { "BatchNormalization", 9, "f32[?,3,4,4] f32[3] f32[3] f32[3] f32[3]", "", "0----", '0' },
        { "DynamicQuantizeLinear", 11, "f32[?,3]", "", "0", 'x' },
        { "QuantizeLinear", 13, "f32[?,3] f32[] u8[]", "", "0--", '0' },
        { "QuantizeLinear", 13, "f32[?,3] f32[3] u8[3]", "axis=1", "0--", '0' },
        { "Shape", 13, "f32[?,3]", "", "0", 'x' },
        { "Shape", 15, "f32[?,3]", "start=1", "0", '-' },
        { "Expand", 13, "f32[?,1] i64[2]{1,4}", "", "0-", '0' },
        { "Squeeze", 13, "f32[?,1,3] i64[1]{1}", "", "0-", '0' },
        { "Squeeze", 13, "f32[?,1,3]", "", "0", 'x' },
        { "Unsqueeze", 13, "f32[?,3] i64[1]{0}", "", "0-", '1' },
        { "Tile", 13, "f32[?,3] i64[2]{1,2}", "", "0-", '0' },
        { "Tile", 13, "f32[?,3] i64[2]{2,1}", "", "0-", 'x' },
        { "Pad", 13, "f32[?,3] i64[4]{0,1,0,1}", "", "0-", '0' },
        { "Pad", 13, "f32[?,3] i64[4]{1,0,0,0}", "", "0-", 'x' },
        { "CumSum", 14, "f32[?,3] i64[]{1}", "", "0-", '0' },
        { "CumSum", 14, "f32[?,3] i64[]{0}", "", "0-", 'x' },
        { "Resize", 13, "f32[?,3,4,4] - f32[4]{1,1,2,2}", "", "0--", '0' },
        { "NonZero", 13, "f32[?,3]", "", "0", 'x' },
        { "com.microsoft:QLinearAdd", 1, "u8[?,3] f32[] u8[] u8[?,3] f32[] u8[] f32[] u8[]", "", "0--0----", '0' },
        { "QLinearConv", 10, "u8[?,3,4,4] f32[] u8[] i8[8,3,3,3] f32[] i8[] f32[] u8[]", "", "0-------", '0' },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        const struct rows_case *c = &cases[i];
        struct node_test t;
        struct wn_infer infer = { 0 };
        struct wn_type out[8];
        int axis[WN_OP_MAX_IN];
        node_make(&t, c->op, c->opset, c->in, c->attrs,
                  !strcmp(c->op, "DynamicQuantizeLinear") ? 3
                  : !strcmp(c->op, "Split")               ? 2
                                                          : 1);
        enum winnow_status status = wn_ops_resolve(&t.g, &t.err);
        wn_ops_infer_prepare(&t.g, t.node, &infer, out);
        if (status == WINNOW_OK)
            status = c->opset && !strcmp(c->op, "Split") && strstr(c->attrs, "axis=0")
                         ? WINNOW_OK
                         : wn_ops_infer_node(&infer, &t.err);
        cr_expect_eq(status, WINNOW_OK, "%s(%s): %s", c->op, c->in, t.err.msg);
        for (unsigned k = 0; k < infer.n_in; k++)
            axis[k] = c->axes[k] == '-' ? WN_ROWS_NONE : c->axes[k] - '0';
        struct wn_rows rows = { t.node, infer.n_in, &infer, axis, WN_ROWS_NONE };
        if (status == WINNOW_OK)
            t.node->op->rows(&rows);
        char got = rows.out_axis == WN_ROWS_MIXED  ? 'x'
                   : rows.out_axis == WN_ROWS_NONE ? '-'
                                                   : (char)('0' + rows.out_axis);
        cr_expect_eq(got, c->want, "%s(%s) %s with %s: %c, must be %c", c->op, c->in, c->attrs, c->axes, got, c->want);
        node_done(&t);
    }
}
