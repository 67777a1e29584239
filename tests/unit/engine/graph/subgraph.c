/* subgraph.c: graphs in attributes, and what they take from around them. */
#include <criterion/criterion.h>
#include "tests/unit/engine/graph/build.h"

static struct wn_arena arena;
static struct wn_graph g;
static struct winnow_err err;

static enum winnow_status read_pb(struct pb graph)
{
    struct pb m = pb_model(graph);
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

static struct wn_graph *branch(struct wn_graph *in, const char *node, const char *attr)
{
    return wn_node_attr(find_node(in, node), attr)->g;
}

Test(subgraph, outer_values_are_named_and_ordered)
{
    cr_assert_eq(read_pb(pb_if_graph()), WINNOW_OK, "%s", err.msg);
    cr_assert_str_eq(g.nodes.at[0].name, "neg", "made before the branch that uses it");
    struct wn_graph *yes = branch(&g, "choose", "then_branch"), *no = branch(&g, "choose", "else_branch");
    cr_assert_eq(yes->outer, &g);
    wn_vid k = find_value(yes, "k"), x = find_value(yes, "x");
    cr_assert(yes->values.at[k].outer && yes->values.at[x].outer);
    cr_assert_not_null(yes->values.at[k].constant, "constants are known inside");
    cr_assert_eq(yes->values.at[x].producer, WN_NONE);
    cr_assert_eq(yes->inputs.n, 0);
    cr_assert_eq(wn_graph_outer_value(yes, x), &g.values.at[find_value(&g, "x")]);
    cr_assert_eq(wn_graph_outer_vid(yes, x), find_value(&g, "x"));
    cr_assert_eq(wn_graph_outer_vid(yes, yes->outputs.at[0]), WN_NONE);
    cr_assert_null(wn_graph_outer_value(yes, yes->outputs.at[0]));
    cr_assert_str_neq(yes->values.at[wn_graph_add_value(yes, NULL, WINNOW_F32, 0, NULL)].name,
                      g.values.at[wn_graph_add_value(&g, NULL, WINNOW_F32, 0, NULL)].name);
    cr_assert(no->values.at[find_value(no, "x2")].outer);
    cr_assert_eq(wn_graph_n_uses(&g, find_value(&g, "x")), 2);
    cr_assert_eq(wn_graph_n_uses(&g, find_value(&g, "x2")), 1);
    cr_assert_null(wn_graph_only_user(&g, find_value(&g, "x")), "one of its users sits in a branch");
    end();
}

Test(subgraph, replacing_reaches_inside)
{
    cr_assert_eq(read_pb(pb_if_graph()), WINNOW_OK, "%s", err.msg);
    wn_graph_replace_uses(&g, find_value(&g, "x2"), find_value(&g, "x"));
    struct wn_graph *no = branch(&g, "choose", "else_branch");
    cr_assert_str_eq(no->values.at[no->nodes.at[0].in[0]].name, "x");
    cr_assert_eq(wn_graph_sort(&g, &err), WINNOW_OK);
    cr_assert_null(find_node(&g, "neg"), "its only use is gone");
    end();
}

Test(subgraph, both_names_used_inside_become_one)
{
    cr_assert_eq(read_pb(pb_if_graph()), WINNOW_OK, "%s", err.msg);
    struct wn_graph *yes = branch(&g, "choose", "then_branch");
    wn_graph_replace_uses(&g, find_value(&g, "k"), find_value(&g, "x"));
    cr_assert_eq(yes->nodes.at[0].in[0], yes->nodes.at[0].in[1]);
    cr_assert_eq(wn_graph_n_uses(&g, find_value(&g, "k")), 0);
    end();
}

Test(subgraph, round_trip_and_copy)
{
    cr_assert_eq(read_pb(pb_if_graph()), WINNOW_OK, "%s", err.msg);
    struct wn_graph copy, again;
    void *bytes, *bytes2;
    size_t n, n2;
    cr_assert_eq(wn_graph_copy(&copy, &arena, &g, &err), WINNOW_OK);
    cr_assert_eq(branch(&copy, "choose", "then_branch")->outer, &copy);
    cr_assert_eq(wn_onnx_write(&copy, &bytes, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_read(bytes, n, NULL, &arena, &again, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_write(&again, &bytes2, &n2, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(n == n2 && memcmp(bytes, bytes2, n) == 0);
    free(bytes);
    free(bytes2);
    wn_graph_done(&copy);
    wn_graph_done(&again);
    end();
}

/* A branch that names its own value like one outside, and a branch inside it that takes that one. */
Test(subgraph, hidden_names_are_made_unique)
{
    static const int64_t d2[] = { 2 };
    struct pb inner = { 0 }, inner2 = { 0 }, outer = { 0 }, other = { 0 }, graph = { 0 };
    pb_msg(&inner, GRAPH_NODE, pb_node("Abs", "a", "h", "r"));
    pb_msg(&inner, GRAPH_OUT, pb_info("r", 1, 1, d2));
    pb_msg(&inner2, GRAPH_NODE, pb_node("Abs", "a", "x", "r"));
    pb_msg(&inner2, GRAPH_OUT, pb_info("r", 1, 1, d2));
    struct pb deep = pb_node("If", "deep", "c", "t");
    pb_msg(&deep, NODE_ATTR, pb_attr_graph("then_branch", inner));
    pb_msg(&deep, NODE_ATTR, pb_attr_graph("else_branch", inner2));
    pb_msg(&outer, GRAPH_NODE, pb_node("Exp", "e", "x", "h"));
    pb_msg(&outer, GRAPH_NODE, deep);
    pb_msg(&outer, GRAPH_OUT, pb_info("t", 1, 1, d2));
    pb_msg(&other, GRAPH_NODE, pb_node("Abs", "a", "h", "r"));
    pb_msg(&other, GRAPH_OUT, pb_info("r", 1, 1, d2));
    struct pb node = pb_node("If", "choose", "c", "y");
    pb_msg(&node, NODE_ATTR, pb_attr_graph("then_branch", outer));
    pb_msg(&node, NODE_ATTR, pb_attr_graph("else_branch", other));
    pb_msg(&graph, GRAPH_IN, pb_info("c", 9, 0, NULL));
    pb_msg(&graph, GRAPH_IN, pb_info("x", 1, 1, d2));
    pb_msg(&graph, GRAPH_NODE, pb_node("Neg", "neg", "x", "h"));
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 1, d2));
    cr_assert_eq(read_pb(graph), WINNOW_OK, "%s", err.msg);
    struct wn_graph *then = branch(&g, "choose", "then_branch"), *els = branch(&g, "choose", "else_branch");
    const struct wn_value *own = &then->values.at[find_node(then, "e")->out[0]];
    cr_assert_str_neq(own->name, "h");
    struct wn_graph *in = branch(then, "deep", "then_branch");
    cr_assert_eq(wn_graph_outer_value(in, in->nodes.at[0].in[0]), own, "the nearest one");
    cr_assert_eq(wn_graph_outer_value(els, els->nodes.at[0].in[0]), &g.values.at[find_value(&g, "h")]);
    struct wn_graph *in2 = branch(then, "deep", "else_branch");
    wn_vid x_between = find_value(then, "x");
    cr_assert(then->values.at[x_between].outer, "stands in each graph between");
    cr_assert_eq(wn_graph_outer_value(in2, in2->nodes.at[0].in[0]), &g.values.at[find_value(&g, "x")]);
    end();
}

Test(subgraph, a_branch_that_needs_its_own_result_is_a_cycle)
{
    static const int64_t d2[] = { 2 };
    struct pb yes = { 0 }, graph = { 0 };
    pb_msg(&yes, GRAPH_NODE, pb_node("Abs", "a", "y", "r"));
    pb_msg(&yes, GRAPH_OUT, pb_info("r", 1, 1, d2));
    struct pb node = pb_node("If", "choose", "c", "y");
    pb_msg(&node, NODE_ATTR, pb_attr_graph("then_branch", yes));
    pb_msg(&graph, GRAPH_IN, pb_info("c", 9, 0, NULL));
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 1, d2));
    cr_assert_eq(read_pb(graph), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'choose'") && strstr(err.msg, "cycle"), "%s", err.msg);
}

Test(subgraph, a_branch_that_takes_what_is_not_there)
{
    static const int64_t d2[] = { 2 };
    struct pb yes = { 0 }, graph = { 0 };
    pb_msg(&yes, GRAPH_NODE, pb_node("Abs", "inside", "ghost", "r"));
    pb_msg(&yes, GRAPH_OUT, pb_info("r", 1, 1, d2));
    struct pb node = pb_node("If", "choose", "c", "y");
    pb_msg(&node, NODE_ATTR, pb_attr_graph("then_branch", yes));
    pb_msg(&graph, GRAPH_IN, pb_info("c", 9, 0, NULL));
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&graph, GRAPH_OUT, pb_info("y", 1, 1, d2));
    cr_assert_eq(read_pb(graph), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'choose'") && strstr(err.msg, "'inside'") && strstr(err.msg, "'ghost'"), "%s", err.msg);
}
