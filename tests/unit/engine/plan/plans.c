/* Plans of a model: kept by shape, shared by scratches, bounded, and without memory of what ran before. */
#include <pthread.h>
#include "engine/plan/facts.h"
#include "engine/plan/model.h"
#include "engine/plan/plans.h"
#include "tests/unit/engine/plan/net.h"

/* tokens (N, S, 8) -> linear -> relu -> linear -> y, for any S. */
static winnow_model *make_linear(struct net *n)
{
    net_init(n, 7);
    wn_vid x = net_input(n, "tokens", WINNOW_F32, 3, NET_DIMS(-1, -1, 8));
    wn_vid y = net_op(n, "MatMul", NET_IN(x, net_normals(n, 2, NET_DIMS(8, 24), 0.3f)));
    y = net_op(n, "MatMul", NET_IN(net_op(n, "Relu", NET_IN(y)), net_normals(n, 2, NET_DIMS(24, 5), 0.3f)));
    net_output(n, y);
    return net_load(n, false);
}

static struct winnow_tensor tokens(int64_t length)
{
    struct winnow_tensor t = net_tensor(WINNOW_F32, 3, NET_DIMS(1, length, 8), NULL);
    t.data = calloc(1, t.bytes + 1);
    for (size_t i = 0; i < t.bytes / 4; i++)
        ((float *)t.data)[i] = (float)(i % 13) - 6;
    return t;
}

static struct wn_plan *plan_for(winnow_model *model, int64_t length)
{
    struct wn_plan *plan;
    struct winnow_err err = { 0 };
    struct wn_type type = { .dtype = WINNOW_F32, .rank = 3, .dim = { 1, length, 8 } };
    cr_assert_eq(wn_plans_get(model->plans, model, &type, &plan, &err), WINNOW_OK, "%s", err.msg);
    return plan;
}

Test(plans, an_answer_does_not_depend_on_the_shapes_before)
{
    struct net n;
    winnow_model *model = make_linear(&n);
    winnow_scratch *used, *fresh;
    cr_assert_eq(winnow_scratch_new(model, NULL, &used, NULL), WINNOW_OK);
    static const int64_t lengths[] = { 40, 3, 17, 40, 200, 1, 17, 3 };
    for (size_t i = 0; i < WN_COUNT(lengths); i++) {
        struct winnow_tensor x = tokens(lengths[i]);
        cr_assert_eq(winnow_scratch_new(model, NULL, &fresh, NULL), WINNOW_OK);
        struct net_answer got = net_run_on(model, used, &x, 1, 0), want = net_run_on(model, fresh, &x, 1, 0);
        cr_expect_eq(got.t.bytes, want.t.bytes);
        cr_expect_arr_eq(got.t.data, want.t.data, want.t.bytes);
        winnow_scratch_free(fresh);
        free(got.t.data);
        free(want.t.data);
        free(x.data);
    }
    winnow_scratch_free(used);
    winnow_model_unref(model);
    net_done(&n);
}

Test(plans, are_made_once_and_bounded)
{
    struct net n;
    winnow_model *model = make_linear(&n);
    struct wn_plan *first = plan_for(model, 1), *again = plan_for(model, 1);
    cr_expect_eq(first, again);
    wn_plan_unref(again);
    for (int64_t length = 2; length <= WN_PLANS_MAX; length++) {
        wn_plan_unref(plan_for(model, length));
        wn_plan_unref(plan_for(model, 1)); /* stays because it is asked for */
    }
    again = plan_for(model, 1);
    cr_expect_eq(first, again);
    wn_plan_unref(again);
    const size_t held = wn_plans_bytes(model->plans);
    for (int64_t length = 1000; length < 1000 + 2 * WN_PLANS_MAX; length++)
        wn_plan_unref(plan_for(model, length));
    cr_expect_lt(wn_plans_bytes(model->plans), 3 * held, "as many as before, if larger");
    again = plan_for(model, 1);
    cr_expect_neq(first, again, "it fell out, and lives as long as it is held");
    cr_expect_eq(first->in_type[0].dim[1], 1);
    wn_plan_unref(again);
    wn_plan_unref(first);
    winnow_model_unref(model);
    net_done(&n);
}

struct asker {
    winnow_model *model;
    int failed;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    for (int64_t i = 0; i < 400; i++) {
        struct wn_plan *plan;
        struct wn_type type = { .dtype = WINNOW_F32, .rank = 3, .dim = { 1, 1 + i * 7 % 90, 8 } };
        if (wn_plans_get(a->model->plans, a->model, &type, &plan, NULL) != WINNOW_OK) {
            a->failed++;
            continue;
        }
        a->failed += plan->in_type[0].dim[1] != type.dim[1];
        wn_plan_unref(plan);
    }
    return NULL;
}

Test(plans, many_threads_may_ask)
{
    struct net n;
    pthread_t thread[4];
    struct asker a[4];
    winnow_model *model = make_linear(&n);
    for (int i = 0; i < 4; i++) {
        a[i] = (struct asker){ model, 0 };
        cr_assert_eq(pthread_create(&thread[i], NULL, ask, &a[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        cr_expect_eq(a[i].failed, 0);
    }
    winnow_model_unref(model);
    net_done(&n);
}

Test(facts, are_of_the_content)
{
    struct net n;
    winnow_model *model = make_linear(&n);
    struct wn_tensor *w = NULL;
    for (size_t i = 0; i < model->g.values.n; i++)
        if (model->g.values.at[i].constant && model->g.values.at[i].constant->rank == 2)
            w = (struct wn_tensor *)(uintptr_t)model->g.values.at[i].constant;
    cr_assert(w);
    struct wn_tensor own = *w; /* not the graph's: nothing is remembered of it */
    struct wn_hash a = wn_facts_hash(model->facts, w), b = wn_facts_hash(model->facts, &own);
    cr_expect(a.low == b.low && a.high == b.high);
    const size_t O = (size_t)w->dim[0], I = (size_t)w->dim[1];
    cr_expect_eq(wn_facts_sparsity(model->facts, w, O, I, 1).nonzeros, O * I);
    cr_expect_eq(wn_facts_sparsity(model->facts, w, 1, O * I, 1).nonzeros, O * I);
    own.data = calloc(1, own.bytes);
    struct wn_hash c = wn_facts_hash(model->facts, &own);
    cr_expect(a.low != c.low);
    cr_expect_eq(wn_facts_sparsity(model->facts, &own, O, I, 1).nonzeros, 0);
    free(own.data);
    winnow_model_unref(model);
    net_done(&n);
}
