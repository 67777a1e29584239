/* onnx_read.c: what files say comes out right, and what they get wrong is named. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include "tests/unit/engine/graph/build.h"

static struct wn_arena arena;
static struct wn_graph g;
static struct winnow_err err;

/* Read a file and release its bytes; on success g and arena are to be released by end(). */
static enum winnow_status read_file(struct pb m)
{
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_onnx_read(m.p, m.n, NULL, &arena, &g, &err);
    free(m.p);
    if (status != WINNOW_OK)
        wn_arena_done(&arena);
    return status;
}

static void end(void)
{
    wn_graph_done(&g);
    wn_arena_done(&arena);
}

/* Expect a refusal whose message holds `part`. */
static void refused(struct pb graph, enum winnow_status want, const char *part)
{
    enum winnow_status status = read_file(pb_model(graph));
    cr_expect_eq(status, want, "%s instead of %s: %s", winnow_status_name(status), winnow_status_name(want), err.msg);
    cr_expect(status != WINNOW_OK && strstr(err.msg, part), "'%s' lacks '%s'", err.msg, part);
    if (status == WINNOW_OK)
        end();
}

Test(onnx_read, small_model)
{
    struct pb m = pb_model(pb_small_graph()), meta = { 0 };
    pb_str(&meta, 1, "task");
    pb_str(&meta, 2, "nothing");
    pb_msg(&m, MODEL_META, meta);
    cr_assert_eq(read_file(m), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.nodes.n, 3);
    cr_assert_eq(g.inputs.n, 1);
    cr_assert_eq(g.outputs.n, 1);
    cr_assert_str_eq(g.name, "small");
    cr_assert_str_eq(g.producer, "test");
    cr_assert_eq(g.ir_version, 8);
    cr_assert_eq(g.opsets.at[0].version, 17);
    cr_assert_str_eq(g.meta.at[0].value, "nothing");
    cr_assert_str_eq(g.nodes.at[2].name, "Relu_2", "made up");
    cr_assert_eq(g.nodes.at[2].opset, 17);
    const struct wn_value *x = &g.values.at[g.inputs.at[0]];
    cr_assert_eq(x->type.dtype, WINNOW_F32);
    cr_assert_eq(x->type.dim[0], -1);
    cr_assert_eq(x->type.dim[1], 2);
    cr_assert_str_eq(x->dim_name[0], "N");
    cr_assert_null(x->dim_name[1]);
    const struct wn_tensor *w = g.values.at[find_value(&g, "w")].constant;
    cr_assert_eq(((const float *)w->data)[3], 4);
    cr_assert_eq((uintptr_t)w->data % 64, 0);
    end();
}

/* ---- tensors ---- */

/* A graph with one initializer that an Identity passes on. */
static struct pb tensor_graph(struct pb tensor)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_INIT, tensor);
    pb_msg(&graph, GRAPH_NODE, pb_node("Identity", "id", "t", "y"));
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 0, NULL));
    return graph;
}

static const struct wn_tensor *read_tensor(struct pb tensor)
{
    enum winnow_status status = read_file(pb_model(tensor_graph(tensor)));
    cr_assert_eq(status, WINNOW_OK, "%s", err.msg);
    return g.values.at[find_value(&g, "t")].constant;
}

static const int64_t three[] = { 3 };

/* Three elements carried by a list of varints, packed or one by one. */
static struct pb varint_tensor(int type, unsigned field, bool packed, int64_t a, int64_t b, int64_t c)
{
    struct pb t = pb_tensor("t", type, 1, three), list = { 0 };
    int64_t v[] = { a, b, c };
    for (int i = 0; i < 3; i++) {
        if (packed)
            pb_varint(&list, (uint64_t)v[i]);
        else
            pb_int(&t, field, v[i]);
    }
    if (packed)
        pb_msg(&t, field, list);
    return t;
}

static void check_bytes(struct pb tensor, const void *want, size_t n)
{
    const struct wn_tensor *t = read_tensor(tensor);
    cr_expect_eq(t->bytes, n);
    cr_expect(t->bytes == n && memcmp(t->data, want, n) == 0, "dtype %s", winnow_dtype_name(t->dtype));
    end();
}

Test(onnx_read, typed_data)
{
    for (int packed = 0; packed < 2; packed++) {
        check_bytes(varint_tensor(WINNOW_I8, TENSOR_INT32S, packed, -128, 0, 127), (int8_t[]){ -128, 0, 127 }, 3);
        check_bytes(varint_tensor(WINNOW_U8, TENSOR_INT32S, packed, 0, 1, 255), (uint8_t[]){ 0, 1, 255 }, 3);
        check_bytes(varint_tensor(WINNOW_BOOL, TENSOR_INT32S, packed, 0, 1, 2), (uint8_t[]){ 0, 1, 1 }, 3);
        check_bytes(varint_tensor(WINNOW_I16, TENSOR_INT32S, packed, -5, 0, 5), (int16_t[]){ -5, 0, 5 }, 6);
        check_bytes(varint_tensor(WINNOW_U16, TENSOR_INT32S, packed, 1, 2, 65535), (uint16_t[]){ 1, 2, 65535 }, 6);
        check_bytes(varint_tensor(WINNOW_F16, TENSOR_INT32S, packed, 0x3c00, 0xbc00, 0),
                    (uint16_t[]){ 0x3c00, 0xbc00, 0 }, 6);
        check_bytes(varint_tensor(WINNOW_BF16, TENSOR_INT32S, packed, 0x3f80, 0xbf80, 0),
                    (uint16_t[]){ 0x3f80, 0xbf80, 0 }, 6);
        check_bytes(varint_tensor(WINNOW_I32, TENSOR_INT32S, packed, INT32_MIN, -1, INT32_MAX),
                    (int32_t[]){ INT32_MIN, -1, INT32_MAX }, 12);
        check_bytes(varint_tensor(WINNOW_I64, TENSOR_INT64S, packed, INT64_MIN, -1, INT64_MAX),
                    (int64_t[]){ INT64_MIN, -1, INT64_MAX }, 24);
        check_bytes(varint_tensor(WINNOW_U32, TENSOR_UINT64S, packed, 0, 1, UINT32_MAX),
                    (uint32_t[]){ 0, 1, UINT32_MAX }, 12);
        check_bytes(varint_tensor(WINNOW_U64, TENSOR_UINT64S, packed, 0, 1, -1), (uint64_t[]){ 0, 1, UINT64_MAX }, 24);
    }
    struct pb f = pb_tensor("t", WINNOW_F32, 1, three), d = pb_tensor("t", WINNOW_F64, 1, three);
    pb_bytes(&f, TENSOR_FLOATS, (float[]){ 1, 2 }, 8); /* a packed list may come in parts, and elements one by one */
    pb_float(&f, TENSOR_FLOATS, 3);
    check_bytes(f, (float[]){ 1, 2, 3 }, 12);
    pb_bytes(&d, TENSOR_DOUBLES, (double[]){ 1, 2, 3 }, 24);
    check_bytes(d, (double[]){ 1, 2, 3 }, 24);
}

Test(onnx_read, raw_data)
{
    struct pb t = pb_tensor("t", WINNOW_I16, 1, three), b = pb_tensor("t", WINNOW_BOOL, 1, three);
    pb_bytes(&t, TENSOR_RAW, "\1\0\2\0\xff\xff", 6);
    check_bytes(t, (int16_t[]){ 1, 2, -1 }, 6);
    pb_bytes(&b, TENSOR_RAW, "\0\1\x80", 3);
    check_bytes(b, (uint8_t[]){ 0, 1, 1 }, 3);
    struct pb empty = pb_tensor("t", WINNOW_F32, 2, (int64_t[]){ 5, 0 });
    check_bytes(empty, "", 0);
}

Test(onnx_read, strings)
{
    struct pb s = pb_tensor("t", WINNOW_STRING, 1, three);
    pb_str(&s, TENSOR_STRINGS, "one");
    pb_str(&s, TENSOR_STRINGS, "");
    pb_bytes(&s, TENSOR_STRINGS, "a\0\xff", 3);
    const struct wn_tensor *t = read_tensor(s);
    const struct winnow_str *str = t->data;
    cr_assert_eq(t->bytes, 3 * sizeof *str);
    cr_assert(str[0].n == 3 && memcmp(str[0].p, "one", 3) == 0);
    cr_assert_eq(str[1].n, 0);
    cr_assert(str[2].n == 3 && memcmp(str[2].p, "a\0\xff", 3) == 0);
    end();
}

Test(onnx_read, tensors_that_break_the_format)
{
    static const struct {
        int type;
        unsigned rank;
        int64_t dim[10];
        size_t raw;
        enum winnow_status want;
        const char *part;
    } cases[] = {
        { 1, 1, { 3 }, 11, WINNOW_E_MALFORMED, "11 bytes" },
        { 1, 1, { 3 }, 13, WINNOW_E_MALFORMED, "13 bytes" },
        { 1, 1, { 3 }, 0, WINNOW_E_MALFORMED, "0 bytes" },
        { 1, 0, { 0 }, 8, WINNOW_E_MALFORMED, "8 bytes" },
        { 1, 1, { -1 }, 4, WINNOW_E_MALFORMED, "negative" },
        { 1, 2, { 0, -4 }, 0, WINNOW_E_MALFORMED, "negative" },
        { 1, 1, { INT64_MIN }, 4, WINNOW_E_MALFORMED, "negative" },
        { 1, 1, { INT64_MAX }, 4, WINNOW_E_MALFORMED, "overflow" },
        { 1, 2, { 1ll << 32, 1ll << 32 }, 4, WINNOW_E_MALFORMED, "overflow" },
        { 1, 3, { 1ll << 32, 1ll << 32, 0 }, 0, WINNOW_E_MALFORMED, "overflow" },
        { 1, 2, { 1ll << 20, 1ll << 20 }, 4, WINNOW_E_MALFORMED, "4 bytes" },
        { 1, 9, { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 4, WINNOW_E_UNSUPPORTED, "rank 9" },
        { 0, 1, { 1 }, 4, WINNOW_E_MALFORMED, "data type" },
        { -1, 1, { 1 }, 4, WINNOW_E_MALFORMED, "data type" },
        { 14, 1, { 1 }, 8, WINNOW_E_UNSUPPORTED, "data type 14" },
        { 15, 1, { 1 }, 16, WINNOW_E_UNSUPPORTED, "data type 15" },
        { 27, 1, { 1 }, 1, WINNOW_E_UNSUPPORTED, "data type 27" },
        { 22, 1, { 3 }, 1, WINNOW_E_MALFORMED, "1 bytes of data where its shape demands 2" },
        { 1000, 1, { 1 }, 1, WINNOW_E_MALFORMED, "data type 1000" },
        { 8, 1, { 1 }, 1, WINNOW_E_MALFORMED, "raw data" },
    };
    char zeros[64] = { 0 };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct pb t = pb_tensor("t", cases[i].type, cases[i].rank, cases[i].dim);
        if (cases[i].raw)
            pb_bytes(&t, TENSOR_RAW, zeros, cases[i].raw);
        struct pb graph = tensor_graph(t);
        refused(graph, cases[i].want, cases[i].part);
        cr_expect(strstr(err.msg, "initializer 't'"), "case %zu: %s", i, err.msg);
    }
}

Test(onnx_read, data_in_the_wrong_place)
{
    static const int64_t one[] = { 1 };
    struct pb both = pb_tensor("t", 1, 1, one), ext = pb_tensor("t", 1, 1, one), loc = pb_tensor("t", 1, 1, one);
    struct pb wrong = pb_tensor("t", 1, 1, one), broken = pb_tensor("t", 1, 1, one), entry = { 0 };
    pb_float(&both, TENSOR_FLOATS, 1);
    pb_bytes(&both, TENSOR_RAW, "\0\0\0", 4);
    refused(tensor_graph(both), WINNOW_E_MALFORMED, "at once");
    pb_str(&entry, 1, "location");
    pb_str(&entry, 2, "../../etc/passwd");
    pb_msg(&ext, TENSOR_EXTERNAL, entry);
    refused(tensor_graph(ext), WINNOW_E_UNSUPPORTED, "external data");
    pb_int(&loc, TENSOR_LOCATION, 1);
    refused(tensor_graph(loc), WINNOW_E_MALFORMED, "without a location");
    pb_int(&wrong, TENSOR_INT64S, 1);
    refused(tensor_graph(wrong), WINNOW_E_MALFORMED, "0 bytes");
    pb_bytes(&broken, TENSOR_FLOATS, "\0\0\0\0\0", 5);
    refused(tensor_graph(broken), WINNOW_E_MALFORMED, "packed");
    refused(tensor_graph(varint_tensor(WINNOW_U8, TENSOR_INT32S, true, 0, 1, 256)), WINNOW_E_MALFORMED, "range");
    refused(tensor_graph(varint_tensor(WINNOW_I8, TENSOR_INT32S, false, 0, 1, -129)), WINNOW_E_MALFORMED, "range");
    refused(tensor_graph(varint_tensor(WINNOW_U32, TENSOR_UINT64S, true, 0, 1, 1ll << 32)), WINNOW_E_MALFORMED,
            "range");
}

/* A sparse tensor (2, 3) with values at (0, 1) and (1, 2), indices linear or by axis. */
static struct pb sparse(bool linear, int64_t last, int64_t d0)
{
    static const int64_t two[] = { 2 };
    struct pb values = pb_tensor("t", 1, 1, two), index, s = { 0 };
    pb_bytes(&values, TENSOR_RAW, (float[]){ 7, 9 }, 8);
    int64_t lin[] = { 1, last }, axes[] = { 0, 1, 1, last };
    index = pb_tensor(NULL, 7, linear ? 1 : 2, (int64_t[]){ 2, 2 });
    pb_bytes(&index, TENSOR_RAW, linear ? lin : axes, linear ? 16 : 32);
    pb_msg(&s, 1, values);
    pb_msg(&s, 2, index);
    pb_int(&s, 3, d0);
    pb_int(&s, 3, 3);
    return s;
}

static struct pb sparse_graph(struct pb s)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_SPARSE, s);
    pb_msg(&graph, GRAPH_NODE, pb_node("Identity", "id", "t", "y"));
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 0, NULL));
    return graph;
}

Test(onnx_read, sparse_initializers_become_dense)
{
    static const float want[] = { 0, 7, 0, 0, 0, 9 };
    for (int linear = 0; linear < 2; linear++) {
        cr_assert_eq(read_file(pb_model(sparse_graph(sparse(linear, linear ? 5 : 2, 2)))), WINNOW_OK, "%s", err.msg);
        const struct wn_tensor *t = g.values.at[find_value(&g, "t")].constant;
        cr_assert(t->rank == 2 && t->bytes == sizeof want && memcmp(t->data, want, sizeof want) == 0);
        end();
    }
    refused(sparse_graph(sparse(true, 6, 2)), WINNOW_E_MALFORMED, "out of range");
    refused(sparse_graph(sparse(true, -1, 2)), WINNOW_E_MALFORMED, "out of range");
    refused(sparse_graph(sparse(false, 3, 2)), WINNOW_E_MALFORMED, "out of range");
    refused(sparse_graph(sparse(true, 5, 1ll << 40)), WINNOW_E_TOO_LARGE, "dense form");
}

/* ---- graphs ---- */

Test(onnx_read, old_files_list_initializers_as_inputs)
{
    struct pb graph = pb_small_graph();
    pb_msg(&graph, GRAPH_IN, pb_info("w", 1, 2, (int64_t[]){ 2, 2 }));
    cr_assert_eq(read_file(pb_model(graph)), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.inputs.n, 1);
    cr_assert_not_null(g.values.at[find_value(&g, "w")].constant);
    end();
}

Test(onnx_read, omitted_inputs_and_outputs)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    pb_msg(&graph, GRAPH_NODE, pb_node("LSTM", "l", "x,,x,", ",y"));
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    cr_assert_eq(read_file(pb_model(graph)), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.nodes.at[0].n_in, 4);
    cr_assert_eq(g.nodes.at[0].in[1], WN_NONE);
    cr_assert_eq(g.nodes.at[0].in[3], WN_NONE);
    cr_assert_eq(g.nodes.at[0].out[0], WN_NONE);
    end();
}

Test(onnx_read, made_up_node_names_are_free)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    pb_msg(&graph, GRAPH_NODE, pb_node("Neg", "Relu_1", "x", "a"));
    pb_msg(&graph, GRAPH_NODE, pb_node("Relu", NULL, "a", "y"));
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    cr_assert_eq(read_file(pb_model(graph)), WINNOW_OK, "%s", err.msg);
    cr_assert_str_eq(g.nodes.at[1].name, "Relu_1_1");
    end();
}

/* x → node → y, with one more field in the graph. */
static struct pb around(struct pb node)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    return graph;
}

static struct pb with_node(struct pb node)
{
    struct pb graph = pb_small_graph();
    pb_msg(&graph, GRAPH_NODE, node);
    return graph;
}

Test(onnx_read, graphs_that_break_the_format)
{
    refused(around(pb_node("Relu", "r", "nothing", "y")), WINNOW_E_MALFORMED, "node 'r' (Relu): nothing makes");
    refused(around(pb_node("Relu", "r", "y", "y")), WINNOW_E_MALFORMED, "cycle");
    refused(around(pb_node("Relu", "r", "x", "z")), WINNOW_E_MALFORMED, "output 'y'");
    refused(around(pb_node("Relu", "r", "x", "x")), WINNOW_E_MALFORMED, "node 'r'");
    refused(around(pb_node("Split", "s", "x", "y,y")), WINNOW_E_MALFORMED, "defined twice");
    refused(around(pb_node("", "s", "x", "y")), WINNOW_E_MALFORMED, "no operator type");
    refused(with_node(pb_node("Relu", "again", "x", "q")), WINNOW_E_MALFORMED, "node 'again'");
    refused(with_node(pb_node("Relu", "again", "x", "w")), WINNOW_E_MALFORMED, "'w'");
    refused(with_node(pb_node("Relu", "lost", "lost", "lost")), WINNOW_E_MALFORMED, "'lost'");
    struct pb twice = pb_small_graph(), input = pb_small_graph(), init = pb_small_graph(), none = { 0 };
    pb_msg(&twice, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    refused(twice, WINNOW_E_MALFORMED, "listed twice");
    pb_msg(&input, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    refused(input, WINNOW_E_MALFORMED, "input 'x'");
    struct pb w = pb_tensor("w", 1, 1, (int64_t[]){ 0 });
    pb_msg(&init, GRAPH_INIT, w);
    refused(init, WINNOW_E_MALFORMED, "initializer 'w'");
    pb_msg(&none, GRAPH_NODE, pb_node("Relu", "r", NULL, "y"));
    refused(none, WINNOW_E_MALFORMED, "no outputs");
    struct pb node = pb_node("Relu", "r", "x", "y");
    pb_msg(&node, NODE_ATTR, pb_attr_int("axis", 1));
    pb_msg(&node, NODE_ATTR, pb_attr_int("axis", 2));
    refused(around(node), WINNOW_E_MALFORMED, "attribute 'axis' occurs twice");
    struct pb many = pb_node("Relu", "r", "x", "y");
    for (int i = 0; i < 65; i++)
        pb_msg(&many, NODE_ATTR, pb_attr_int("axis", 1));
    refused(around(many), WINNOW_E_TOO_LARGE, "attributes");
}

Test(onnx_read, inputs_we_cannot_hold)
{
    static const int64_t nine[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    struct pb a = pb_small_graph(), b = pb_small_graph(), c = pb_small_graph(), d = pb_small_graph();
    pb_msg(&a, GRAPH_IN, pb_info("z", 27, 0, NULL));
    refused(a, WINNOW_E_UNSUPPORTED, "input 'z': element type 27");
    pb_msg(&b, GRAPH_IN, pb_info("z", 1, 9, nine));
    refused(b, WINNOW_E_UNSUPPORTED, "rank 9");
    struct pb info = { 0 }, type = { 0 }, seq = { 0 };
    pb_msg(&type, 4, seq);
    pb_str(&info, 1, "z");
    pb_msg(&info, 2, type);
    pb_msg(&c, GRAPH_IN, info);
    refused(c, WINNOW_E_UNSUPPORTED, "a sequence");
    struct pb bare = { 0 };
    pb_str(&bare, 1, "z");
    pb_msg(&d, GRAPH_IN, bare);
    refused(d, WINNOW_E_MALFORMED, "no element type");
}

Test(onnx_read, operator_sets)
{
    struct pb m = { 0 }, graph = pb_small_graph();
    pb_int(&m, MODEL_IR, 8);
    pb_msg(&m, MODEL_GRAPH, graph);
    cr_assert_eq(read_file(m), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "version of the ONNX operators"), "%s", err.msg);
    struct pb old = { 0 };
    pb_int(&old, MODEL_IR, 2);
    pb_msg(&old, MODEL_GRAPH, pb_small_graph());
    cr_assert_eq(read_file(old), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.nodes.at[0].opset, 1);
    end();
    struct pb named = { 0 }, set = { 0 };
    pb_int(&named, MODEL_IR, 8);
    pb_str(&set, 1, "ai.onnx");
    pb_int(&set, 2, 13);
    pb_msg(&named, MODEL_OPSET, set);
    pb_msg(&named, MODEL_GRAPH, pb_small_graph());
    cr_assert_eq(read_file(named), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.nodes.at[0].opset, 13);
    end();
}

Test(onnx_read, attributes)
{
    struct pb node = pb_node("Relu", "r", "x", "y"), f = { 0 }, s = { 0 }, fs = { 0 }, is = { 0 }, ss = { 0 },
              t = { 0 };
    pb_str(&f, ATTR_NAME, "f"); /* without a type, as the oldest files have it */
    pb_float(&f, ATTR_F, 1.5f);
    pb_str(&s, ATTR_NAME, "s");
    pb_str(&s, ATTR_S, "text");
    pb_int(&s, ATTR_TYPE, 3);
    pb_str(&fs, ATTR_NAME, "fs");
    pb_float(&fs, ATTR_FLOATS, 1);
    pb_bytes(&fs, ATTR_FLOATS, (float[]){ 2, 3 }, 8);
    pb_int(&fs, ATTR_TYPE, 6);
    pb_str(&is, ATTR_NAME, "is");
    pb_int(&is, ATTR_INTS, -1);
    pb_int(&is, ATTR_INTS, 2);
    pb_int(&is, ATTR_TYPE, 7);
    pb_str(&ss, ATTR_NAME, "ss");
    pb_str(&ss, ATTR_STRINGS, "a");
    pb_str(&ss, ATTR_STRINGS, "bc");
    pb_int(&ss, ATTR_TYPE, 8);
    struct pb tensor = pb_tensor(NULL, 1, 0, NULL);
    pb_float(&tensor, TENSOR_FLOATS, 5);
    pb_str(&t, ATTR_NAME, "t");
    pb_msg(&t, ATTR_T, tensor);
    pb_int(&t, ATTR_TYPE, 4);
    pb_msg(&node, NODE_ATTR, f);
    pb_msg(&node, NODE_ATTR, s);
    pb_msg(&node, NODE_ATTR, fs);
    pb_msg(&node, NODE_ATTR, is);
    pb_msg(&node, NODE_ATTR, ss);
    pb_msg(&node, NODE_ATTR, t);
    cr_assert_eq(read_file(pb_model(around(node))), WINNOW_OK, "%s", err.msg);
    const struct wn_node *r = &g.nodes.at[0];
    size_t n;
    cr_assert_eq(wn_node_float(r, "f", 0), 1.5f);
    cr_assert(wn_node_str_is(r, "s", NULL, "text"));
    cr_assert_eq(wn_node_attr(r, "fs")->n, 3);
    cr_assert_eq(wn_node_attr(r, "fs")->floats[2], 3);
    cr_assert_eq(wn_node_ints(r, "is", &n)[0], -1);
    cr_assert_eq(wn_node_attr(r, "ss")->strs[1].n, 2);
    cr_assert_eq(*(const float *)wn_node_attr(r, "t")->t->data, 5);
    end();
}

Test(onnx_read, not_a_model)
{
    struct pb text = { 0 }, empty = { 0 };
    pb_raw(&text, "<!DOCTYPE html><html>", 21);
    cr_assert_eq(read_file(text), WINNOW_E_MALFORMED);
    cr_assert_eq(read_file(empty), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "empty"));
    struct pb headless = { 0 };
    pb_int(&headless, MODEL_IR, 8);
    cr_assert_eq(read_file(headless), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "no graph"));
    wn_arena_init(&arena, 0);
    cr_assert_eq(wn_onnx_read_file("/no/such/file.onnx", NULL, &arena, &g, &err), WINNOW_E_NOT_FOUND);
    cr_assert(strstr(err.msg, "/no/such/file.onnx"));
}

/* ---- real files ---- */

Test(onnx_read, real_models, .timeout = 120)
{
    static const char folder[] = "../shared/data/models";
    DIR *d = opendir(folder);
    if (!d)
        cr_skip("%s is not here: real models left out", folder);
    unsigned count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".onnx") != 0)
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        wn_arena_init(&arena, 0);
        cr_assert_eq(wn_onnx_read_file(path, NULL, &arena, &g, &err), WINNOW_OK, "%s", err.msg);
        cr_expect(g.nodes.n > 0 && g.inputs.n > 0 && g.outputs.n > 0, "%s", path);
        void *once, *twice;
        size_t n1, n2;
        struct wn_graph again;
        cr_assert_eq(wn_onnx_write(&g, &once, &n1, &err), WINNOW_OK, "%s: %s", path, err.msg);
        cr_assert_eq(wn_onnx_read(once, n1, NULL, &arena, &again, &err), WINNOW_OK, "%s: %s", path, err.msg);
        cr_assert_eq(wn_onnx_write(&again, &twice, &n2, &err), WINNOW_OK, "%s: %s", path, err.msg);
        cr_expect(n1 == n2 && memcmp(once, twice, n1) == 0, "%s: writing is not stable", path);
        free(once);
        free(twice);
        wn_graph_done(&again);
        end();
        count++;
    }
    closedir(d);
    cr_log_info("%u real models", count);
    cr_assert_gt(count, 0);
}
