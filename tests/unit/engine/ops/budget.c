/* What loops may spend: one allowance for all of a run's threads and loops, by CPU time, nodes and the clock; and what a
 * node costs, told from its shapes. */
#include "engine/ops/budget.h"
#include <criterion/criterion.h>
#include "tests/unit/engine/ops/node.h"

#define MS (UINT64_C(1) * 1000000u)

static void burn(uint64_t ns)
{
    for (uint64_t end = wn_thread_cpu_ns() + ns; wn_thread_cpu_ns() < end;)
        ;
}

Test(budget, time_in_loops_is_paid_for_together)
{
    struct wn_allowance all;
    struct wn_budget a, b;
    struct winnow_err err;
    wn_allowance_init(&all, 40 * MS, 0);
    wn_budget_init(&a, &all);
    wn_budget_init(&b, &all);
    burn(60 * MS); /* outside of loops */
    cr_expect_eq(wn_budget_node(&a, NULL), WINNOW_OK);
    cr_assert(wn_budget_enter(&a));
    cr_expect(!wn_budget_enter(&a), "already in a loop");
    burn(30 * MS);
    wn_budget_leave(&a);
    burn(60 * MS);
    cr_assert(wn_budget_enter(&b)); /* another thread's, or the next loop */
    cr_expect_eq(wn_budget_node(&b, NULL), WINNOW_OK);
    burn(20 * MS);
    cr_expect_eq(wn_budget_node(&b, &err), WINNOW_E_TOO_LARGE);
    cr_expect(strstr(err.msg, "0.04 s of CPU time"), "%s", err.msg);
    cr_expect_eq(wn_budget_work(&b, 1 << 24, NULL), WINNOW_OK, "looked at again in 2 ms only");
    wn_budget_leave(&b);
}

Test(budget, long_nodes_ask_too)
{
    struct wn_allowance all;
    struct wn_budget b;
    wn_allowance_init(&all, 5 * MS, 0);
    wn_budget_init(&b, &all);
    cr_assert(wn_budget_enter(&b));
    burn(10 * MS);
    cr_expect_eq(wn_budget_work(&b, 1000, NULL), WINNOW_OK);
    cr_expect_eq(wn_budget_work(&b, 1 << 20, NULL), WINNOW_E_TOO_LARGE);
    wn_budget_leave(&b);
}

Test(budget, nodes)
{
    struct wn_allowance all;
    struct wn_budget b;
    struct winnow_err err;
    wn_allowance_init(&all, 0, 0);
    atomic_store(&all.nodes, 2);
    wn_budget_init(&b, &all);
    cr_expect_eq(wn_budget_node(&b, NULL), WINNOW_OK);
    cr_expect_eq(wn_budget_node(&b, NULL), WINNOW_OK);
    cr_expect_eq(wn_budget_node(&b, &err), WINNOW_E_TOO_LARGE);
    cr_expect(strstr(err.msg, "nodes in loops"), "%s", err.msg);
}

Test(budget, the_end_of_its_time)
{
    struct wn_allowance all;
    struct wn_budget b;
    wn_allowance_init(&all, 0, wn_now_ns() + 3600 * 1000 * MS);
    wn_budget_init(&b, &all);
    cr_expect_eq(wn_budget_node(&b, NULL), WINNOW_OK);
    wn_allowance_init(&all, 0, wn_now_ns() - 1);
    cr_expect_eq(wn_budget_node(&b, NULL), WINNOW_E_DEADLINE);
    cr_expect_eq(wn_budget_work(&b, 1 << 20, NULL), WINNOW_E_DEADLINE, "outside of loops too");
}

static uint64_t work_of(const char *op, const char *inputs, const char *attrs)
{
    struct node_test t;
    struct wn_infer infer;
    struct wn_type out[8];
    node_make(&t, op, 17, inputs, attrs, 1);
    cr_assert_eq(node_infer(&t), WINNOW_OK, "%s: %s", op, t.err.msg);
    wn_ops_infer_prepare(&t.g, t.node, &infer, out);
    cr_assert_eq(wn_ops_infer_node(&infer, NULL), WINNOW_OK);
    const uint64_t work = wn_ops_work(&infer);
    cr_expect_eq(wn_ops_work_is_linear(t.node), work == 4 * 200, "%s", op);
    node_done(&t);
    return work;
}

Test(budget, work_is_told_from_shapes)
{
    cr_expect_eq(work_of("Relu", "f32[10,10]", ""), 4 * 200);
    cr_expect_eq(work_of("MatMul", "f32[3,5] f32[5,7]", ""), 3 * 5 * 7 + 4 * (15 + 35 + 21));
    cr_expect_eq(work_of("Gemm", "f32[5,3] f32[5,7]", "transA=1"), 3 * 5 * 7 + 4 * (15 + 35 + 21));
    cr_expect_eq(work_of("Conv", "f32[1,2,8,8] f32[4,2,3,3]", ""), 4 * 36 * 18 + 4 * (128 + 72 + 144));
    cr_expect_eq(work_of("Einsum", "f32[6] f32[7]", "equation=i,j->ij"), 42 + 4 * (6 + 7 + 42));
    cr_expect_eq(work_of("LSTM", "f32[2,1,3] f32[1,16,3] f32[1,16,4]", "hidden_size=4"), UINT64_MAX);
    cr_expect_eq(work_of("MatMul", "f32[3037000500,3037000500] f32[3037000500,1]", ""), UINT64_MAX);
}
