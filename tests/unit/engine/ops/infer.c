/* Shape rules: what they say of unknown extents, and what they refuse. */
#include <criterion/criterion.h>
#include "tests/unit/engine/ops/node.h"

struct shape_case {
    const char *op;
    int opset;
    const char *in, *attrs, *want;
};

static void check_shapes(const struct shape_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct node_test t;
        char got[128];
        node_make(&t, c[i].op, c[i].opset, c[i].in, c[i].attrs, 1);
        enum winnow_status status = node_infer(&t);
        cr_expect_eq(status, WINNOW_OK, "%s(%s) %s: %s", c[i].op, c[i].in, c[i].attrs, t.err.msg);
        if (status == WINNOW_OK) {
            node_type(&t.g.values.at[t.out[0]].type, got, sizeof got);
            cr_expect_str_eq(got, c[i].want, "%s(%s) %s is %s, must be %s", c[i].op, c[i].in, c[i].attrs, got,
                             c[i].want);
        }
        node_done(&t);
    }
}

Test(ops_infer, unknown_extents_stay_open)
{
    static const struct shape_case cases[] = {
        { "Conv", 11, "f32[?,3,224,224] f32[16,3,3,3]", "pads=1,1,1,1 strides=2,2", "f32[?,16,112,112]" },
        { "Conv", 11, "f32[?,3,?,32] f32[16,3,3,3]", "pads=1,1,1,1", "f32[?,16,?,32]" },
        { "Conv", 11, "f32[?,3,?,?] f32[16,3,1,1]", "", "f32[?,16,?,?]" },
        { "Conv", 11, "f32[*] f32[16,3,3,3]", "", "f32[?,?,?,?]" },
        { "Conv", 11, "f32[1,4,9] f32[8,1,3]", "group=4 dilations=2,", "f32[1,8,5]" },
        { "Conv", 11, "f32[1,3,5,5] f32[4,3,3,3]", "auto_pad=SAME_UPPER strides=2,2", "f32[1,4,3,3]" },
        { "ConvTranspose", 11, "f32[?,4,3,3] f32[4,2,3,3]", "strides=2,2 group=2", "f32[?,4,7,7]" },
        { "MaxPool", 12, "f32[?,8,7,7]", "kernel_shape=3,3 strides=2,2 ceil_mode=1", "f32[?,8,3,3]" },
        { "GlobalAveragePool", 1, "f32[?,8,?,7]", "", "f32[?,8,1,1]" },
        { "Gemm", 11, "f32[?,10] f32[5,10] f32[5]", "transB=1", "f32[?,5]" },
        { "MatMul", 13, "f32[?,1,7,4] f32[3,4,2]", "", "f32[?,3,7,2]" },
        { "MatMul", 13, "f32[4] f32[4]", "", "f32[]" },
        { "Add", 14, "f32[?,3] f32[2,1,1]", "", "f32[2,?,3]" },
        { "Add", 14, "f32[?,3] f32[?,3]", "", "f32[?,3]" },
        { "Add", 14, "f32[?,3] f32[5,1]", "", "f32[5,3]" },
        { "Reshape", 14, "f32[?,4,3] i64[2]{0,-1}", "", "f32[?,12]" },
        { "Reshape", 14, "f32[?,4,3] i64[2]{-1,6}", "", "f32[?,6]" },
        { "Reshape", 14, "f32[2,4,3] i64[3]{-1,0,1}", "", "f32[6,4,1]" },
        { "Reshape", 14, "f32[2,4,3] i64[3]", "", "f32[?,?,?]" },
        { "Reshape", 14, "f32[0,4] i64[2]{0,-1}", "", "f32[0,0]" },
        { "Flatten", 13, "f32[?,4,3]", "", "f32[?,12]" },
        { "Flatten", 13, "f32[2,4,3]", "axis=0", "f32[1,24]" },
        { "Squeeze", 13, "f32[?,1,3] i64[1]{1}", "", "f32[?,3]" },
        { "Squeeze", 11, "f32[1,1,3]", "axes=0,-2", "f32[3]" },
        { "Squeeze", 13, "f32[?,1,3]", "", "f32[*]" },
        { "Unsqueeze", 13, "f32[?,3] i64[2]{0,-1}", "", "f32[1,?,3,1]" },
        { "Transpose", 13, "f32[?,3,4]", "perm=2,0,1", "f32[4,?,3]" },
        { "Concat", 13, "f32[?,3] f32[?,4] f32[2,1]", "axis=1", "f32[2,8]" },
        { "Concat", 13, "f32[?,3] f32[2,3]", "axis=0", "f32[?,3]" },
        { "Split", 18, "f32[?,7]", "axis=1 num_outputs=1", "f32[?,7]" },
        { "Slice", 13, "f32[?,10] i64[1]{2} i64[1]{-1} i64[1]{1} i64[1]{3}", "", "f32[?,3]" },
        { "Slice", 13, "f32[10] i64[1]{-1} i64[1]{-9223372036854775807} i64[1]{0} i64[1]{-3}", "", "f32[4]" },
        { "Slice", 9, "f32[?,10]", "starts=2, ends=100, axes=1,", "f32[?,8]" },
        { "Gather", 13, "f32[30522,128] i64[?,64]", "", "f32[?,64,128]" },
        { "Expand", 13, "f32[?,1,3] i64[3]{1,5,1}", "", "f32[?,5,3]" },
        { "Tile", 13, "f32[?,3] i64[2]{2,2}", "", "f32[?,6]" },
        { "Pad", 13, "f32[?,3] i64[4]{0,1,0,2}", "", "f32[?,6]" },
        { "ReduceMean", 18, "f32[?,3,4] i64[1]{-1}", "keepdims=0", "f32[?,3]" },
        { "ReduceSum", 13, "f32[?,3,4]", "noop_with_empty_axes=1", "f32[?,3,4]" },
        { "ReduceSum", 13, "f32[?,3,4]", "", "f32[1,1,1]" },
        { "ArgMax", 13, "f32[?,10]", "axis=1 keepdims=0", "i64[?]" },
        { "Shape", 15, "f32[?,3,4]", "start=1", "i64[2]" },
        { "Cast", 13, "f32[?,3]", "to=7", "i64[?,3]" },
        { "QuantizeLinear", 13, "f32[?,3] f32[] i8[]", "", "i8[?,3]" },
        { "QuantizeLinear", 13, "f32[?,3] f32[3]", "axis=1", "u8[?,3]" },
        { "DequantizeLinear", 13, "i32[?,3] f32[]", "", "f32[?,3]" },
        { "TopK", 11, "f32[?,10] i64[1]{3}", "", "f32[?,3]" },
        { "Resize", 13, "f32[?,3,8,8] - f32[4]{1,1,2,2}", "", "f32[?,3,16,16]" },
        { "Resize", 19, "f32[?,3,8,4] - - i64[2]{16,16}", "axes=2,3 keep_aspect_ratio_policy=not_larger",
          "f32[?,3,16,8]" },
        { "NonZero", 13, "f32[4,?]", "", "i64[2,?]" },
        { "com.microsoft:QGemm", 1, "u8[?,4] f32[] u8[] i8[5,4] f32[5] i8[5] i32[5] f32[] u8[]", "transB=1",
          "u8[?,5]" },
    };
    check_shapes(cases, WN_COUNT(cases));
}

struct bad_case {
    const char *op;
    int opset;
    const char *in, *attrs, *message; /* a part of the message */
};

Test(ops_infer, what_the_specification_forbids_is_refused_with_values)
{
    static const struct bad_case cases[] = {
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,5,5]", "", "kernel 5x5 exceeds padded input 4x4" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "dilations=2147483647,1", "exceeds padded input" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "group=0", "group: 0" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "group=-1", "group: -1" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "group=9223372036854775807", "group" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,1,3,3]", "group=2", "3 and 2 do not agree" },
        { "Conv", 11, "f32[1,4,4,4] f32[9,2,3,3]", "group=2", "9 output channels do not divide into 2" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "strides=0,1", "strides: 0" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "pads=-1,0,0,0", "pads: -1" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "pads=0,0,0", "pads has 3 elements, must have 4" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "dilations=0,0", "dilations: 0" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "strides=4294967296,1", "strides: 4294967296" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "kernel_shape=3,2", "3 and 2 do not agree" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3]", "auto_pad=MAYBE", "auto_pad" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3]", "", "weights have rank 3, input has 4" },
        { "Conv", 11, "f32[1,3,4,4] f32[8,3,3,3] f32[7]", "", "7 and 8 do not agree" },
        { "Conv", 11, "f32[3,4] f32[8,3]", "", "rank 2" },
        { "Conv", 11, "f32[1,3,4,4] f64[8,3,3,3]", "", "same dtype" },
        { "ConvTranspose", 11, "f32[1,3,4,4] f32[3,2,3,3]", "pads=9,9,9,9", "leave nothing" },
        { "ConvTranspose", 11, "f32[1,3,4,4] f32[3,2,3,3]", "output_padding=5,5", "output_padding: 5" },
        { "ConvTranspose", 11, "f32[1,3,4,4] f32[3,2,3,3]", "output_shape=999,999", "output_shape: 999 exceeds 6" },
        { "ConvTranspose", 11, "f32[1,3,4,4] f32[3,2,3,3]", "group=2", "3 channels do not divide into 2" },
        { "QLinearConv", 10, "u8[1,3,4,4] f32[] u8[] i8[8,3,3,3] f32[7] i8[] f32[] u8[]", "", "w_scale" },
        { "ConvInteger", 10, "u8[1,3,4,4] u8[8,3,3,3] i8[]", "", "same dtype" },
        { "MaxPool", 12, "f32[1,3,4,4]", "", "kernel_shape is missing" },
        { "MaxPool", 12, "f32[1,3,4,4]", "kernel_shape=2147483648,1", "kernel_shape: 2147483648" },
        { "MaxPool", 12, "f32[1,3,4,4]", "kernel_shape=0,1", "kernel_shape: 0" },
        { "MaxPool", 12, "f32[1,3,4,4]", "kernel_shape=2,2 pads=2,2,2,2", "smaller than the kernel" },
        { "MaxPool", 12, "f32[1,3,4,4]", "kernel_shape=5,5", "kernel 5x5 exceeds padded input 4x4" },
        { "MaxPool", 12, "f32[1,3,4,4]", "kernel_shape=2,2,2", "must have 2" },
        { "AveragePool", 11, "f32[1,3]", "kernel_shape=2,", "rank 2" },
        { "LRN", 13, "f32[1,3,4,4]", "size=0", "size: 0" },
        { "BatchNormalization", 9, "f32[1,3,4,4] f32[3] f32[3] f32[4] f32[3]", "", "mean: 4 and 3" },
        { "LayerNormalization", 17, "f32[2,3] f32[4]", "", "do not broadcast" },
        { "LayerNormalization", 17, "f32[2,3] f32[3]", "axis=2", "axis 2 is out of range" },
        { "MatMul", 13, "f32[2,3] f32[4,5]", "", "3 and 4 do not agree" },
        { "MatMul", 13, "f32[] f32[4,5]", "", "scalar" },
        { "Einsum", 12, "f32[2,3] f32[4,3]", "equation=ij,jk->ik", "extents 3 and 4" },
        { "Einsum", 12, "f32[2,3]", "equation=ij->ik", "no input has" },
        { "Einsum", 12, "f32[2,3]", "equation=ij->ii", "twice" },
        { "Einsum", 12, "f32[2,3]", "equation=i..j", "no ellipsis" },
        { "Einsum", 12, "f32[2,3]", "equation=ijk", "rank 2, its term 3" },
        { "Einsum", 12, "f32[2,3]", "equation=ij,jk", "2 terms for 1 inputs" },
        { "Gemm", 11, "f32[2,3] f32[4,3]", "", "3 and 4 do not agree" },
        { "Gemm", 11, "f32[2,3] f32[3,4] f32[3]", "", "broadcast" },
        { "Gemm", 11, "f32[2,3,1] f32[3,4]", "", "rank 3, must be 2" },
        { "Add", 14, "f32[2,3] f32[4]", "", "extents 3 and 4 of axis 1" },
        { "Add", 14, "f32[2] f64[2]", "", "same dtype" },
        { "Mod", 13, "f32[2] f32[2]", "", "fmod" },
        { "PRelu", 9, "f32[2,3] f32[4,2,3]", "", "slope is wider" },
        { "BitShift", 11, "u8[2] u8[2]", "direction=UP", "direction" },
        { "Softmax", 13, "f32[2,3]", "axis=-9", "axis -9 is out of range for rank 2" },
        { "Softmax", 11, "f32[2,3]", "axis=2", "axis 2" },
        { "ReduceSum", 13, "f32[2,3] i64[1]{2}", "", "axis 2" },
        { "ReduceMean", 11, "f32[2,3]", "axes=0,-3", "axis -3" },
        { "ArgMax", 13, "f32[2,0]", "axis=1", "extent of axis 1 is 0" },
        { "CumSum", 14, "f32[2,3] i64[]{2}", "", "axis 2" },
        { "Reshape", 14, "f32[2,3] i64[2]{4,-1}", "", "6 elements" },
        { "Reshape", 14, "f32[2,3] i64[2]{-1,-1}", "", "-1 at axes 0 and 1" },
        { "Reshape", 14, "f32[2,3] i64[1]{-2}", "", "extent -2" },
        { "Reshape", 14, "f32[2,3] i64[3]{2,3,0}", "", "0 at axis 2" },
        { "Reshape", 14, "f32[2,3] i64[2]{4611686018427387904,4}", "", "overflows" },
        { "Flatten", 13, "f32[2,3]", "axis=3", "axis 3" },
        { "Squeeze", 13, "f32[2,3] i64[1]{0}", "", "extent of axis 0 is 2" },
        { "Unsqueeze", 13, "f32[2,3] i64[2]{0,0}", "", "given twice" },
        { "Unsqueeze", 11, "f32[2,3]", "", "axes are missing" },
        { "Transpose", 13, "f32[2,3]", "perm=0,0", "no permutation" },
        { "Transpose", 13, "f32[2,3]", "perm=0,1,2", "3 elements for rank 2" },
        { "Concat", 13, "f32[2,3] f32[3,4]", "axis=1", "2 and 3 do not agree" },
        { "Concat", 13, "f32[2,3]", "", "axis is missing" },
        { "Split", 13, "f32[2,3] i64[1]{4}", "axis=1", "sum to 4" },
        { "Split", 13, "f32[2,3] i64[1]{-1}", "axis=1", "size -1" },
        { "Slice", 13, "f32[2,3] i64[1]{0} i64[1]{1} i64[1]{0} i64[1]{0}", "", "step 0" },
        { "Slice", 13, "f32[2,3] i64[2]{0,0} i64[1]{1}", "", "differ in length" },
        { "Slice", 13, "f32[2,3] i64[1]{0} i64[1]{1} i64[1]{2}", "", "axis 2" },
        { "Tile", 13, "f32[2,3] i64[2]{1,-1}", "", "repeats: -1" },
        { "Tile", 13, "f32[2,3] i64[2]{4611686018427387904,1}", "", "overflow" },
        { "Pad", 13, "f32[2,3] i64[4]{0,0,0,-4}", "", "leave nothing" },
        { "Pad", 13, "f32[2,3] i64[4]{0,3,0,0}", "mode=reflect", "reflect past" },
        { "Pad", 13, "f32[2,3] i64[3]{0,3,0}", "", "must have 4" },
        { "DepthToSpace", 13, "f32[1,6,2,2]", "blocksize=2", "6 channels" },
        { "DepthToSpace", 13, "f32[1,8,2,2]", "blocksize=0", "blocksize: 0" },
        { "SpaceToDepth", 13, "f32[1,8,3,2]", "blocksize=2", "extent 3" },
        { "Gather", 13, "f32[2,3] i64[1]", "axis=2", "axis 2" },
        { "GatherElements", 13, "f32[2,3] i64[3,3]", "axis=1", "exceeds data's 2" },
        { "GatherND", 13, "f32[2,3] i64[2,3]", "", "indices of 3 axes into rank 2" },
        { "OneHot", 11, "i64[2] i64[]{-1} f32[2]", "", "depth -1" },
        { "Expand", 13, "f32[2,3] i64[2]{2,4}", "", "do not broadcast" },
        { "Range", 11, "i64[]{0} i64[]{5} i64[]{0}", "", "by 0" },
        { "Range", 11, "f64[]{0} f64[]{1e300} f64[]{1}", "", "range" },
        { "ConstantOfShape", 9, "i64[1]{-1}", "", "extent -1" },
        { "ConstantOfShape", 9, "i64[2]{4611686018427387904,4}", "", "overflows" },
        { "QuantizeLinear", 13, "f32[2,3] f32[2] u8[3]", "", "2 and 3 do not agree" },
        { "QuantizeLinear", 13, "f32[2,3] f32[2]", "axis=1", "2 and 3 do not agree" },
        { "TopK", 11, "f32[2,3] i64[1]{4}", "", "K is 4" },
        { "Resize", 13, "f32[1,1,2,2]", "", "neither scales nor sizes" },
        { "Resize", 13, "f32[1,1,2,2] - f32[4]{1,1,0,1}", "", "scale 0" },
        { "Resize", 13, "f32[1,1,2,2] - f32[4]{1,1,1e30,1}", "", "scale" },
        { "Resize", 13, "f32[1,1,2,2] - - i64[4]{1,1,-5,1}", "", "size -5" },
        { "ScatterND", 16, "f32[2,3] i64[1,3] f32[1]", "", "3 axes into rank 2" },
        { "Clip", 11, "f32[2] f32[2]{0,1}", "", "must be a scalar" },
        { "Cast", 13, "f32[2]", "to=99", "data type 99" },
        { "Relu", 14, "bool[2]", "", "dtype bool" },
        { "Relu", 14, "f32[2] f32[2]", "", "takes 1 to 1 inputs, not 2" },
        { "Add", 14, "f32[2] -", "", "2 inputs, not 1" },
        { "Squeeze", 11, "f32[1,2] i64[1]{0}", "", "takes 1 to 1 inputs" },
        { "Frobnicate", 14, "f32[2]", "", "operator Frobnicate (opset 14) is not supported" },
        { "Gelu", 17, "f32[2]", "", "not supported" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct node_test t;
        node_make(&t, cases[i].op, cases[i].opset, cases[i].in, cases[i].attrs, 1);
        enum winnow_status status = node_infer(&t);
        cr_expect(status == WINNOW_E_MALFORMED || status == WINNOW_E_UNSUPPORTED || status == WINNOW_E_TOO_LARGE,
                  "%s(%s) %s was accepted", cases[i].op, cases[i].in, cases[i].attrs);
        cr_expect(strstr(t.err.msg, cases[i].message) && strstr(t.err.msg, "node 'it'"), "%s(%s) %s: '%s' lacks '%s'",
                  cases[i].op, cases[i].in, cases[i].attrs, t.err.msg, cases[i].message);
        node_done(&t);
    }
}

Test(ops_infer, a_contradiction_with_the_declared_output_is_an_error)
{
    struct node_test t;
    node_make(&t, "Relu", 14, "f32[?,3]", "", 1);
    struct wn_type *y = &t.g.values.at[t.out[0]].type;
    *y = (struct wn_type){ .dtype = WINNOW_F32, .rank = 2, .dim = { 7, 4 } };
    cr_assert_eq(node_infer(&t), WINNOW_E_MALFORMED);
    cr_assert(strstr(t.err.msg, "extent 4 in axis 1 but has 3"), "%s", t.err.msg);
    *y = (struct wn_type){ .dtype = WINNOW_F32, .rank = 2, .dim = { 7, 3 } };
    cr_assert_eq(node_infer(&t), WINNOW_OK);
    cr_assert_eq(t.g.values.at[t.out[0]].type.dim[0], -1, "a dynamic batch stays dynamic whatever is declared");
    node_done(&t);
}

Test(ops_infer, recurrent_and_detection_shapes)
{
    static const struct shape_case cases[] = {
        { "LSTM", 14, "f32[7,?,3] f32[2,20,3] f32[2,20,5]", "hidden_size=5 direction=bidirectional", "f32[7,2,?,5]" },
        { "GRU", 14, "f32[?,7,3] f32[1,15,3] f32[1,15,5]", "hidden_size=5 layout=1", "f32[?,7,1,5]" },
        { "RNN", 14, "f32[*] f32[1,5,3] f32[1,5,5]", "hidden_size=5", "f32[?,1,?,5]" },
        { "NonMaxSuppression", 11, "f32[1,6,4] f32[1,2,6]", "", "i64[?,3]" },
        { "RoiAlign", 16, "f32[1,8,9,9] f32[5,4] i64[5]", "output_height=2 output_width=3", "f32[5,8,2,3]" },
        { "GridSample", 20, "f32[?,3,8,8] f32[?,4,5,2]", "", "f32[?,3,4,5]" },
        { "DFT", 17, "f32[2,10,1]", "axis=1 onesided=1", "f32[2,6,2]" },
        { "STFT", 17, "f32[1,128,1] i64[]{8} - i64[]{16}", "", "f32[1,15,9,2]" },
        { "Col2Im", 18, "f32[1,5,5] i64[2]{5,5} i64[2]{1,5}", "", "f32[1,1,5,5]" },
        { "Det", 11, "f32[?,2,2]", "", "f32[?]" },
        { "Unique", 11, "f32[4,2]", "axis=0", "f32[?,2]" },
        { "SoftmaxCrossEntropyLoss", 13, "f32[3,5,2] i64[3,2]", "reduction=none", "f32[3,2]" },
    };
    check_shapes(cases, WN_COUNT(cases));
}
