/* Memory of a plan: buffers that live together never overlap, the rest share; halos keep their own class. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include "sparsify/autodiff/plan_impl.h"

TestSuite(plan);

static bool overlap(const struct wn_net_buf *a, const struct wn_net_buf *b)
{
    return a->offset < b->offset + b->floats && b->offset < a->offset + a->floats;
}

Test(plan, buffers_that_live_together_do_not_overlap)
{
    struct wn_net net = { 0 };
    size_t naive = 0;
    srand(5);
    for (int i = 0; i < 200; i++) {
        int first = rand() % 100;
        struct wn_net_buf b = { (size_t)(1 + rand() % 500), 0, first, first + rand() % 10, (uint64_t)(rand() % 3) };
        naive += wn_round_up(b.floats, 16);
        cr_assert(wn_vec_push(&net.buf, b));
    }
    cr_assert(wn_plan_offsets(&net));
    for (size_t i = 0; i < net.buf.n; i++)
        for (size_t k = 0; k < i; k++) {
            const struct wn_net_buf *a = &net.buf.at[i], *b = &net.buf.at[k];
            cr_assert_eq(a->offset % 16, 0);
            if ((a->first <= b->last && b->first <= a->last) || a->zeroed != b->zeroed)
                cr_assert_not(overlap(a, b));
        }
    cr_assert_lt(net.memory_floats, naive / 3);
    wn_vec_done(&net.buf);
}

Test(plan, elements_lie_where_the_layouts_say)
{
    struct wn_net_val v = { .rank = 4, .dim = { 32, 5, 3, 7 }, .layout = WN_LAYOUT_PLAIN };
    cr_assert_eq(wn_val_at(&v, 1, 2, 1, 4), (size_t)(((1 * 5 + 2) * 3 + 1) * 7 + 4));
    v.layout = WN_LAYOUT_C8;
    cr_assert_eq(wn_val_at(&v, 1, 2, 1, 4), (size_t)(((1 * 1 + 0) * 3 + 1) * 7 * 8 + 4 * 8 + 2));
    v.layout = WN_LAYOUT_LANES;
    wn_lanes_geom_image(&v.geom, 32, 5, 3, 7, 1);
    cr_assert_eq(wn_val_at(&v, 17, 2, 1, 4), wn_lanes_at(&v.geom, 1, 2, 1, 4) + 1);
}
