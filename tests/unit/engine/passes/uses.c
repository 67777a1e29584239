/* The index of uses (wn_graph_index) answers what looking through the graph answers, after any edits. */
#include "tests/unit/engine/plan/net.h"

/* Compare all answers with those of a graph that is the same but keeps no index. */
static void expect_same(struct wn_graph *g)
{
    struct wn_uses *uses = g->uses;
    cr_assert(uses);
    for (wn_vid v = 0; v < g->values.n; v++) {
        unsigned n = wn_graph_n_uses(g, v);
        struct wn_node *user = wn_graph_only_user(g, v);
        g->uses = NULL;
        cr_assert_eq(wn_graph_n_uses(g, v), n, "value %u", v);
        cr_assert_eq(wn_graph_only_user(g, v), user, "value %u", v);
        g->uses = uses;
    }
}

static void random_edits(uint64_t seed)
{
    struct net n;
    net_init(&n, seed);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 1, NET_DIMS(4));
    for (int i = 0; i < 12; i++) {
        wn_vid in[] = { (wn_vid)net_pick(&n, 0, (int64_t)n.g.values.n - 1),
                        (wn_vid)net_pick(&n, 0, (int64_t)n.g.values.n - 1) };
        x = net_op(&n, "Add", in, 2);
    }
    net_output(&n, x);
    net_output(&n, (wn_vid)net_pick(&n, 0, (int64_t)n.g.values.n - 1));
    wn_graph_index(&n.g);
    expect_same(&n.g);
    for (int i = 0; i < 12; i++) {
        wn_vid a = (wn_vid)net_pick(&n, 0, (int64_t)n.g.values.n - 1),
               b = (wn_vid)net_pick(&n, 0, (int64_t)n.g.values.n - 1);
        switch (net_pick(&n, 0, 2)) {
        case 0:
            wn_graph_kill(&n.g, &n.g.nodes.at[net_pick(&n, 0, (int64_t)n.g.nodes.n - 1)]);
            break;
        case 1:
            wn_graph_replace_uses(&n.g, a, b);
            break;
        default:
            net_op(&n, "Add", NET_IN(a, b));
        }
        expect_same(&n.g);
    }
    net_done(&n);
}

Test(uses, the_index_keeps_up_with_edits)
{
    for (uint64_t seed = 1; seed < 60; seed++)
        random_edits(seed);
}
