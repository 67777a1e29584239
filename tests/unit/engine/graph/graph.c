/* graph.c: making, changing, copying and sorting graphs. */
#include "engine/graph/graph.h"

#include <criterion/criterion.h>
#include "tests/unit/engine/graph/build.h"

static struct wn_arena arena;
static struct wn_graph g;
static struct winnow_err err;

static void begin(void)
{
    wn_arena_init(&arena, 0);
    wn_graph_init(&g, &arena);
}

static void end(void)
{
    wn_graph_done(&g);
    wn_arena_done(&arena);
}

TestSuite(graph, .init = begin, .fini = end);

static wn_vid value(const char *name)
{
    return wn_graph_add_value(&g, name, WINNOW_F32, -1, NULL);
}

static wn_vid input(const char *name)
{
    wn_vid v = value(name);
    cr_assert(wn_vec_push(&g.inputs, v));
    return v;
}

static wn_vid unary(const char *op, const char *name, wn_vid in)
{
    wn_vid out = value(NULL);
    cr_assert_not_null(wn_graph_add_node(&g, "", op, name, &in, 1, &out, 1));
    return out;
}

static void output(wn_vid v)
{
    cr_assert(wn_vec_push(&g.outputs, v));
}

Test(graph, dtypes)
{
    cr_assert_eq(winnow_dtype_size(WINNOW_F16), 2);
    cr_assert_eq(winnow_dtype_size(WINNOW_STRING), sizeof(struct winnow_str));
    cr_assert_eq(winnow_dtype_size((enum winnow_dtype)14), 0, "complex64 is not ours");
    cr_assert_eq(winnow_dtype_size((enum winnow_dtype)99), 0);
    cr_assert_eq(winnow_dtype_size((enum winnow_dtype) - 1), 0);
    cr_assert_str_eq(winnow_dtype_name(WINNOW_BF16), "bf16");
    cr_assert_str_eq(winnow_dtype_name((enum winnow_dtype)15), "unknown");
    cr_assert_str_eq(winnow_dtype_name((enum winnow_dtype)1000), "unknown");
}

Test(graph, attributes_are_added_and_replaced)
{
    unary("Conv", "c", input("x"));
    struct wn_node *node = &g.nodes.at[0];
    size_t n;
    cr_assert(wn_node_set_int(&g, node, "group", 2));
    cr_assert(wn_node_set_float(&g, node, "alpha", 0.5f));
    cr_assert(wn_node_set_ints(&g, node, "pads", (int64_t[]){ 1, 2, 3, 4 }, 4));
    cr_assert(wn_node_set_str(&g, node, "auto_pad", "SAME_UPPER"));
    cr_assert(wn_node_set_int(&g, node, "group", 4));
    cr_assert_eq(node->n_attr, 4);
    cr_assert_eq(wn_node_int(node, "group", 1), 4);
    cr_assert_eq(wn_node_int(node, "alpha", 7), 7, "of another kind");
    cr_assert_eq(wn_node_float(node, "alpha", 0), 0.5f);
    cr_assert_eq(wn_node_ints(node, "pads", &n)[3], 4);
    cr_assert_eq(n, 4);
    cr_assert_null(wn_node_ints(node, "strides", &n));
    cr_assert_eq(n, 0);
    cr_assert(wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_UPPER"));
    cr_assert(wn_node_str_is(node, "absent", "NOTSET", "NOTSET"));
    cr_assert_not(wn_node_str_is(node, "auto_pad", "NOTSET", "SAME"));
    cr_assert(wn_node_is(node, "Conv"));
    cr_assert_not(wn_node_is(node, "Con"));
    cr_assert_not(wn_node_is_in(node, "com.microsoft", "Conv"));
    cr_assert_not(wn_node_is(NULL, "Conv"));
}

Test(graph, constants)
{
    wn_vid c = wn_graph_add_const(&g, "c", WINNOW_I8, 2, (int64_t[]){ 2, 3 }, "abcdef");
    cr_assert_eq(g.values.at[c].constant->bytes, 6);
    cr_assert(memcmp(g.values.at[c].constant->data, "abcdef", 6) == 0);
    cr_assert_eq(g.values.at[c].type.rank, 2);
    wn_vid zero = wn_graph_add_const(&g, NULL, WINNOW_F32, 0, NULL, NULL);
    cr_assert_eq(*(float *)g.values.at[zero].constant->data, 0);
    cr_assert_eq(wn_graph_add_const(&g, NULL, WINNOW_F32, 1, (int64_t[]){ -1 }, NULL), WN_NONE);
    cr_assert_eq(wn_graph_add_const(&g, NULL, WINNOW_F32, 2, (int64_t[]){ INT64_MAX, 4 }, NULL), WN_NONE);
    cr_assert_eq(wn_graph_add_const(&g, NULL, WINNOW_F32, 9, (int64_t[9]){ 1 }, NULL), WN_NONE);
}

Test(graph, sort_orders_keeps_order_and_drops_unused)
{
    wn_vid x = input("x"), a = value("a"), b = value("b");
    cr_assert_not_null(wn_graph_add_node(&g, "", "Relu", "second", &a, 1, &b, 1));
    cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", "first", &x, 1, &a, 1));
    unary("Abs", "unused", b);
    wn_vid c = unary("Exp", "third", b);
    output(c);
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(g.nodes.n, 3);
    cr_assert_str_eq(g.nodes.at[0].name, "first");
    cr_assert_str_eq(g.nodes.at[1].name, "second");
    cr_assert_str_eq(g.nodes.at[2].name, "third");
    cr_assert_eq(g.values.at[b].producer, 1);
    cr_assert_str_eq(wn_graph_producer(&g, c)->name, "third");
    cr_assert_null(wn_graph_producer(&g, x));
    cr_assert_null(wn_graph_producer(&g, WN_NONE));
}

Test(graph, sort_refuses_cycles_also_where_nobody_looks)
{
    wn_vid x = input("x"), a = value("a"), b = value("b");
    output(unary("Relu", "good", x));
    cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", "n1", &a, 1, &b, 1));
    cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", "n2", &b, 1, &a, 1));
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'n") && strstr(err.msg, "cycle"), "%s", err.msg);
}

Test(graph, sort_refuses_values_from_nowhere)
{
    output(unary("Relu", "lost", value("ghost")));
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'lost'") && strstr(err.msg, "'ghost'"), "%s", err.msg);
}

Test(graph, sort_refuses_two_producers)
{
    wn_vid x = input("x"), y = value("y");
    cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", "n1", &x, 1, &y, 1));
    cr_assert_not_null(wn_graph_add_node(&g, "", "Abs", "n2", &x, 1, &y, 1));
    output(y);
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'n2'"), "%s", err.msg);
}

Test(graph, uses_and_only_user)
{
    wn_vid x = input("x"), a = unary("Neg", "n", x), b = value("b");
    cr_assert_not_null(wn_graph_add_node(&g, "", "Mul", "square", (wn_vid[]){ a, a }, 2, &b, 1));
    output(b);
    cr_assert_eq(wn_graph_n_uses(&g, a), 2);
    cr_assert_str_eq(wn_graph_only_user(&g, a)->name, "square", "one node, twice");
    cr_assert_null(wn_graph_only_user(&g, b), "an output");
    wn_vid c = unary("Abs", "other", a);
    cr_assert_null(wn_graph_only_user(&g, a));
    wn_graph_kill(&g, find_node(&g, "other"));
    cr_assert_not_null(wn_graph_only_user(&g, a));
    cr_assert_eq(g.values.at[c].producer, WN_NONE);
    cr_assert_eq(wn_graph_n_uses(&g, c), 0);
}

Test(graph, an_output_keeps_its_name)
{
    wn_vid x = input("x"), a = unary("Neg", "n", x), y = value("y");
    cr_assert_not_null(wn_graph_add_node(&g, "", "Identity", "id", &a, 1, &y, 1));
    output(y);
    wn_graph_replace_uses(&g, y, a);
    cr_assert_eq(g.outputs.at[0], a);
    cr_assert_str_eq(g.values.at[a].name, "y");
    cr_assert_str_neq(g.values.at[y].name, "y");
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_OK);
    cr_assert_eq(g.nodes.n, 1);
}

Test(graph, an_output_that_would_be_an_input_stays)
{
    wn_vid x = input("x"), y = value("y");
    cr_assert_not_null(wn_graph_add_node(&g, "", "Identity", "id", &x, 1, &y, 1));
    wn_vid z = unary("Neg", "n", y);
    output(y);
    output(z);
    wn_graph_replace_uses(&g, y, x);
    cr_assert_eq(g.outputs.at[0], y, "an input cannot take the name");
    cr_assert_eq(find_node(&g, "n")->in[0], x, "other users take it");
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_OK);
    cr_assert_eq(g.nodes.n, 2);
}

Test(graph, copy_is_deep_and_shares_constants)
{
    wn_vid x = input("x"), c = wn_graph_add_const(&g, "c", WINNOW_F32, 0, NULL, &(float){ 3 }), y = value("y");
    struct wn_node *node = wn_graph_add_node(&g, "", "Mul", "m", (wn_vid[]){ x, c }, 2, &y, 1);
    cr_assert(wn_node_set_ints(&g, node, "pads", (int64_t[]){ 1, 2 }, 2));
    output(y);
    struct wn_arena arena2;
    struct wn_graph copy;
    wn_arena_init(&arena2, 0);
    cr_assert_eq(wn_graph_copy(&copy, &arena2, &g, &err), WINNOW_OK);
    node->in[0] = c;
    wn_graph_kill(&g, node);
    size_t n;
    cr_assert_eq(copy.nodes.at[0].in[0], x);
    cr_assert_not(copy.nodes.at[0].dead);
    cr_assert_eq(wn_node_ints(&copy.nodes.at[0], "pads", &n)[1], 2);
    cr_assert_eq(copy.values.at[c].constant, g.values.at[c].constant);
    cr_assert_eq(copy.values.at[y].producer, 0);
    wn_graph_done(&copy);
    wn_arena_done(&arena2);
}

Test(graph, copy_fails_cleanly_when_memory_ends)
{
    wn_vid x = input("x");
    for (int i = 0; i < 200; i++)
        x = unary("Neg", NULL, x);
    output(x);
    for (size_t limit = 4096; limit < 40000; limit += 4096) {
        struct wn_arena small;
        struct wn_graph copy;
        wn_arena_init(&small, limit);
        cr_assert_eq(wn_graph_copy(&copy, &small, &g, &err), WINNOW_E_NOMEM);
        wn_arena_done(&small);
    }
}

Test(graph, a_million_nodes_in_reverse, .timeout = 60)
{
    enum { N = 1000000 };
    wn_vid x = input("x");
    for (wn_vid i = 0; i < N; i++) /* value 1 + i is made from 2 + i; the last one from x */
        cr_assert(wn_vec_push(&g.values, (struct wn_value){ .name = "v", .type.rank = -1, .producer = WN_NONE }));
    for (wn_vid i = 0; i < N; i++) {
        wn_vid *ids = wn_arena_alloc(&arena, 2 * sizeof *ids);
        ids[0] = i + 1 < N ? i + 2 : x;
        ids[1] = i + 1;
        cr_assert(wn_vec_push(
            &g.nodes,
            (struct wn_node){
                .name = "n", .domain = "", .op_type = "Neg", .n_in = 1, .n_out = 1, .in = ids, .out = ids + 1 }));
    }
    output(1);
    uint64_t t = wn_now_ns();
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_OK, "%s", err.msg);
    cr_log_info("sorting %d nodes: %.0f ms", N, (double)(wn_now_ns() - t) / 1e6);
    cr_assert_eq(g.nodes.n, N);
    cr_assert_eq(g.nodes.at[0].in[0], x);
    cr_assert_eq(g.values.at[1].producer, N - 1);
}
