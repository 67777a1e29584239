/* Reference runs: the cases at the edges of arithmetic and of the operators' modes. */
#include <criterion/criterion.h>
#include <math.h>
#include "base/half.h"
#include "tests/unit/engine/ops/node.h"

struct run_case {
    const char *op;
    int opset;
    const char *in, *attrs, *want;
};

static void check_runs(const struct run_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct node_test t;
        struct wn_tensor out[8];
        char got[512];
        node_make(&t, c[i].op, c[i].opset, c[i].in, c[i].attrs, 1);
        enum winnow_status status = node_run(&t, out, got, sizeof got);
        cr_expect_eq(status, WINNOW_OK, "%s(%s): %s", c[i].op, c[i].in, t.err.msg);
        if (status == WINNOW_OK)
            cr_expect_str_eq(got, c[i].want, "%s(%s) %s is %s, must be %s", c[i].op, c[i].in, c[i].attrs, got,
                             c[i].want);
        node_done(&t);
    }
}

Test(ops_run, integer_arithmetic_is_defined_everywhere)
{
    static const struct run_case cases[] = {
        { "Div", 14, "i32[4]{7,-7,5,-2147483648} i32[4]{2,2,0,-1}", "", "3,-3,0,-2147483648" },
        { "Div", 14, "i64[2]{-9223372036854775808,1} i64[2]{-1,0}", "", "-9223372036854775808,0" },
        { "Div", 14, "u8[2]{200,7} u8[2]{7,0}", "", "28,0" },
        { "Mod", 13, "i32[4]{-5,5,-5,5} i32[4]{3,-3,-3,0}", "", "1,-1,-2,0" },
        { "Mod", 13, "i32[2]{-5,5} i32[2]{3,-3}", "fmod=1", "-2,2" },
        { "Add", 14, "i8[2]{127,-128} i8[2]{1,-1}", "", "-128,127" },
        { "Mul", 14, "i64[1]{9223372036854775807} i64[1]{2}", "", "-2" },
        { "Sub", 14, "u8[1]{0} u8[1]{1}", "", "255" },
        { "Neg", 13, "i64[1]{-9223372036854775808}", "", "-9223372036854775808" },
        { "Abs", 13, "i8[1]{-128}", "", "-128" },
        { "Pow", 13, "i64[4]{2,-1,3,0} i64[4]{62,-3,-1,0}", "", "4611686018427387904,-1,0,1" },
        { "Pow", 13, "i32[1]{2} f32[1]{0.5}", "", "1" },
        { "BitShift", 11, "u64[2]{1,1} u64[2]{63,64}", "direction=LEFT", "9223372036854775808,0" },
        { "ReduceSum", 13, "i32[2]{2147483647,1}", "", "-2147483648" },
        { "ReduceMax", 18, "u64[2]{1,-1}", "", "18446744073709551615" },
        { "Max", 13, "i8[2]{-1,2} i8[2]{1,-2}", "", "1,2" },
        { "MatMulInteger", 10, "u8[1,2]{255,255} i8[2,1]{127,127} u8[]{128} i8[]{-128}", "", "64770" },
        { "CumSum", 14, "i64[3]{1,2,3} i64[]{0}", "exclusive=1 reverse=1", "5,3,0" },
    };
    check_runs(cases, WN_COUNT(cases));
}

Test(ops_run, conversions_saturate_and_nan_is_zero)
{
    static const struct run_case cases[] = {
        { "Cast", 13, "f32[5]{nan,inf,-inf,3.9,-3.9}", "to=6", "0,2147483647,-2147483648,3,-3" },
        { "Cast", 13, "f32[3]{300,-1,255.9}", "to=2", "255,0,255" },
        { "Cast", 13, "f32[2]{1e30,-1e30}", "to=7", "9223372036854775807,-9223372036854775808" },
        { "Cast", 13, "f32[2]{1e30,-1}", "to=13", "18446744073709551615,0" },
        { "Cast", 13, "i64[2]{300,-129}", "to=3", "44,127" },
        { "Cast", 13, "f32[3]{nan,0,-0.5}", "to=9", "1,0,1" },
        { "Cast", 13, "f32[2]{65520,1e-9}", "to=10", "inf,0" },
        { "QuantizeLinear", 13, "f32[6]{nan,inf,-inf,0.5,1.5,-0.5} f32[]{1} u8[]{10}", "", "10,255,0,10,12,10" },
        { "QuantizeLinear", 13, "f32[2]{1,-1} f32[]{0} i8[]{0}", "", "127,-128" },
        { "QuantizeLinear", 13, "f32[2,2]{1,2,3,4} f32[2]{1,2} i8[2]{0,1}", "axis=0", "1,2,3,3" },
        { "DequantizeLinear", 13, "u8[2]{0,255} f32[]{0.5} u8[]{128}", "", "-64,63.5" },
        { "DynamicQuantizeLinear", 11, "f32[2]{0,0}", "", "0,0" },
    };
    check_runs(cases, WN_COUNT(cases) - 1);
    struct node_test t; /* all zero: a scale of 1, never 0 / 0 */
    struct wn_tensor out[3];
    char got[64];
    node_make(&t, "DynamicQuantizeLinear", 11, "f32[2]{0,0}", "", 3);
    cr_assert_eq(node_run(&t, out, got, sizeof got), WINNOW_OK);
    cr_assert_str_eq(got, "0,0");
    cr_assert_float_eq(*(float *)out[1].data, 1, 0);
    node_done(&t);
}

Test(ops_run, nan_passes_comparisons)
{
    static const struct run_case cases[] = {
        { "Relu", 14, "f32[3]{nan,-1,2}", "", "nan,0,2" },
        { "Clip", 13, "f32[3]{nan,-1,9} f32[]{0} f32[]{6}", "", "nan,0,6" },
        { "Clip", 6, "f32[3]{nan,-1,9}", "min=0f max=6f", "nan,0,6" },
        { "Max", 13, "f32[1]{nan} f32[1]{1}", "", "nan" },
        { "IsNaN", 13, "f32[2]{nan,1}", "", "1,0" },
        { "IsInf", 10, "f32[3]{inf,-inf,1}", "detect_negative=0", "1,0,0" },
        { "Round", 11, "f32[5]{0.5,1.5,2.5,-0.5,-1.5}", "", "0,2,2,-0,-2" },
    };
    check_runs(cases, WN_COUNT(cases));
}

Test(ops_run, modes_and_opsets)
{
    static const struct run_case cases[] = {
        { "Softmax", 11, "f32[1,2,2]{0,0,0,0}", "", "0.25,0.25,0.25,0.25" },
        { "Softmax", 13, "f32[1,2,2]{0,0,0,0}", "", "0.5,0.5,0.5,0.5" },
        { "Softmax", 13, "f32[2]{1000,1000}", "", "0.5,0.5" },
        { "Softmax", 13, "f16[2]{1,1}", "", "0.5,0.5" },
        { "Einsum", 12, "f32[2,2]{1,2,3,4} f32[2,1]{5,6}", "equation=ij,jk->ki", "17,39" },
        { "Einsum", 12, "i32[2,2]{1,2,3,4}", "equation=ii", "5" },
        { "Einsum", 12, "f32[2,2,1]{1,2,3,4} f32[2,1]{2,3}", "equation=...ij,...j->...i", "2,4,9,12" },
        { "Einsum", 12, "f32[2]{2,3} f32[0]{}", "equation=i,j->i", "0,0" },
        { "Gelu", 20, "f32[2]{0,1}", "", "0,0.841345" },
        { "Gelu", 20, "f32[1]{1}", "approximate=tanh", "0.841192" },
        { "Conv", 11, "f32[1,1,3]{1,2,3} f32[1,1,2]{1,10}", "pads=1,0", "10,21,32" },
        { "Conv", 11, "f64[1,2,2]{1,2,3,4} f64[2,1,1]{1,10} f64[2]{0,1}", "group=2", "1,2,31,41" },
        { "AveragePool", 11, "f32[1,1,3]{1,2,3}", "kernel_shape=2, pads=1,0", "1,1.5,2.5" },
        { "AveragePool", 11, "f32[1,1,3]{1,2,3}", "kernel_shape=2, pads=1,0 count_include_pad=1", "0.5,1.5,2.5" },
        { "MaxPool", 12, "i8[1,1,3]{-5,-2,-3}", "kernel_shape=2, strides=2, ceil_mode=1", "-2,-3" },
        { "MaxPool", 12, "f32[1,1,5]{1,2,3,4,5}", "kernel_shape=2, dilations=2,", "3,4,5" },
        { "Gemm", 11, "f32[1,2]{1,2} f32[2,2]{1,2,3,4} f32[]{1}", "alpha=2f beta=3f transB=1", "13,25" },
        { "MatMul", 13, "i32[2]{1,2} i32[2,2]{1,2,3,4}", "", "7,10" },
        { "Slice", 13, "i64[4]{1,2,3,4} i64[1]{-1} i64[1]{-9223372036854775808} i64[1]{0} i64[1]{-1}", "", "4,3,2,1" },
        { "Slice", 13, "i64[4]{1,2,3,4} i64[1]{3} i64[1]{0} i64[1]{0} i64[1]{-9223372036854775808}", "", "4" },
        { "Pad", 13, "i8[3]{1,2,3} i64[2]{2,1}", "mode=reflect", "3,2,1,2,3,2" },
        { "Pad", 13, "f32[3]{1,2,3} i64[2]{-1,1} f32[]{9}", "", "2,3,9" },
        { "Pad", 10, "f32[2]{1,2}", "pads=1,0 value=7f", "7,1,2" },
        { "ReduceMean", 18, "i64[3]{-1,-1,-5}", "", "-2" },
        { "ReduceLogSumExp", 18, "f32[2]{1000,1000}", "", "1000.69" },
        { "ArgMax", 12, "f32[3]{2,2,1}", "select_last_index=1", "1" },
        { "OneHot", 11, "i64[3]{1,-1,9} i64[]{3} u8[2]{0,1}", "", "0,1,0,0,0,1,0,0,0" },
        { "Resize", 13, "u8[1,1,1,2]{1,2} - f32[4]{1,1,1,2}", "", "1,1,2,2" },
        { "Resize", 13, "f32[1,1,1,2]{0,4} - f32[4]{1,1,1,2}", "mode=linear", "0,1,3,4" },
        { "Upsample", 9, "f32[1,1,1,2]{1,2} f32[4]{1,1,2,1}", "", "1,2,1,2" },
        { "TopK", 11, "f32[4]{1,nan,3,2} i64[1]{2}", "largest=0", "1,2" },
        { "NonZero", 13, "f32[2,2]{1,0,0,2}", "", "0,1,0,1" },
        { "Compress", 11, "i64[4]{1,2,3,4} bool[3]{0,1,1}", "", "2,3" },
        { "com.microsoft:QLinearAdd", 1, "u8[2]{10,250} f32[]{1} u8[]{0} u8[2]{5,250} f32[]{1} - f32[]{1} u8[]{0}", "",
          "15,255" },
        { "com.microsoft:QLinearMul", 1, "i8[1]{-3} f32[]{2} i8[]{1} i8[1]{5} f32[]{1} i8[]{0} f32[]{4} i8[]{0}", "",
          "-10" },
    };
    check_runs(cases, WN_COUNT(cases));
}

Test(ops_run, indices_out_of_range_are_refused)
{
    static const struct run_case cases[] = {
        { "Gather", 13, "f32[2]{1,2} i64[1]{2}", "", "index 2 is out of range for an extent of 2" },
        { "Gather", 13, "f32[2]{1,2} i64[1]{-3}", "", "index -3" },
        { "GatherElements", 13, "f32[2]{1,2} i64[1]{9}", "", "index 9" },
        { "GatherND", 13, "f32[2]{1,2} i64[1,1]{2}", "", "index 2" },
        { "ScatterND", 16, "f32[2]{1,2} i64[1,1]{2} f32[1]{0}", "", "index 2" },
        { "ScatterElements", 16, "f32[2]{1,2} i64[1]{-9223372036854775808} f32[1]{0}", "",
          "index -9223372036854775808" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct node_test t;
        struct wn_tensor out[8];
        char got[64];
        node_make(&t, cases[i].op, cases[i].opset, cases[i].in, "", 1);
        cr_expect_eq(node_run(&t, out, got, sizeof got), WINNOW_E_MALFORMED, "%s", cases[i].op);
        cr_expect(strstr(t.err.msg, cases[i].want), "%s", t.err.msg);
        node_done(&t);
    }
}

Test(ops_run, memory_is_bounded_by_the_arena)
{
    struct node_test t;
    struct wn_tensor out[1];
    char got[8];
    node_make(&t, "ConstantOfShape", 9, "i64[2]{1000000,1000000}", "", 1);
    cr_assert_eq(node_run(&t, out, got, sizeof got), WINNOW_E_NOMEM);
    node_done(&t);
}

Test(ops_run, half_floats_round_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = wn_f16_to_f32((uint16_t)h);
        if (!isnan(f))
            cr_assert_eq(wn_f32_to_f16(f), h, "%x", h);
        else
            cr_assert(isnan(wn_f16_to_f32(wn_f32_to_f16(f))));
    }
    cr_assert_eq(wn_f32_to_f16(1.00048828125f), 0x3c00); /* half way: to the even one */
    cr_assert_eq(wn_f32_to_f16(1.00146484375f), 0x3c02);
    cr_assert_eq(wn_f32_to_f16(65519.996f), 0x7bff);
    cr_assert_eq(wn_f32_to_f16(0x1.8p-24f), 2);
    cr_assert_eq(wn_f32_to_bf16(1.00390625f), 0x3f80);
    cr_assert_eq(wn_f32_to_bf16(-INFINITY), 0xff80);
    cr_assert(isnan(wn_bf16_to_f32(wn_f32_to_bf16(NAN))));
}
