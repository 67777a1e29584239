/* Runs: nothing is allocated, buffers that live at the same time do not overlap, shapes may change, and what is wrong
 * with a request is said. */
#include <malloc.h>
#include "engine/plan/plan.h"
#include "tests/unit/engine/plan/net.h"

/* ---- memory ---- */

static struct wn_buf *add_buf(struct wn_plan *plan, size_t bytes, uint32_t first, uint32_t last)
{
    cr_assert(wn_vec_push(&plan->bufs, (struct wn_buf){ .bytes = bytes, .first = first, .last = last }));
    return &plan->bufs.at[plan->bufs.n - 1];
}

static void expect_disjoint(const struct wn_plan *plan)
{
    for (size_t i = 0; i < plan->bufs.n; i++)
        for (size_t k = 0; k < i; k++) {
            const struct wn_buf *a = &plan->bufs.at[i], *b = &plan->bufs.at[k];
            bool together = a->first <= b->last && b->first <= a->last;
            bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            cr_assert(!together || apart, "buffers %zu and %zu overlap", i, k);
            cr_assert(a->offset % 64 == 0 && a->offset + a->bytes <= plan->act_bytes);
        }
}

/* Few buffers go the one way, very many the other. */
static void check_memory(size_t n, uint64_t seed)
{
    struct net rnd;
    struct wn_plan plan = { 0 };
    struct winnow_err err;
    net_init(&rnd, seed);
    for (size_t i = 0; i < n; i++) {
        uint32_t first = (uint32_t)net_pick(&rnd, 0, 200);
        add_buf(&plan, (size_t)net_pick(&rnd, 0, 5000), first, first + (uint32_t)net_pick(&rnd, 0, n > 1000 ? 3 : 30));
    }
    cr_assert_eq(wn_plan_memory(&plan, 0, &err), WINNOW_OK);
    expect_disjoint(&plan);
    cr_expect_eq(wn_plan_memory(&plan, 1000, &err), WINNOW_E_TOO_LARGE);
    cr_expect(strstr(err.msg, "the limit is 1000"), "%s", err.msg);
    wn_vec_done(&plan.bufs);
    net_done(&rnd);
}

Test(memplan, buffers_alive_together_do_not_overlap)
{
    for (uint64_t seed = 1; seed < 20; seed++)
        check_memory(80, seed);
    check_memory(4500, 1);
}

/* 0 -> 1 -> 2: each read where the next is written. 3 wants the place of 4, which is read later; 5 that of 6, which is
 * smaller; 7 that of 8, which nothing wrote before the step. */
Test(memplan, a_sum_lies_over_its_addend)
{
    static const struct wn_buf buf[] = {
        { .bytes = 1000, .first = 0, .last = 1 },
        { .bytes = 1000, .first = 1, .last = 4, .over = 1 },
        { .bytes = 900, .first = 4, .last = 9, .over = 2 },
        { .bytes = 1000, .first = 2, .last = 3, .over = 5 },
        { .bytes = 1000, .first = 1, .last = 3 },
        { .bytes = 1000, .first = 5, .last = 6, .over = 7 },
        { .bytes = 900, .first = 3, .last = 5 },
        { .bytes = 1000, .first = 7, .last = 8, .over = 9 },
        { .bytes = 1000, .first = 7, .last = 7 },
    };
    struct wn_plan plan = { 0 };
    for (size_t i = 0; i < WN_COUNT(buf); i++)
        cr_assert(wn_vec_push(&plan.bufs, buf[i]));
    cr_assert_eq(wn_plan_memory(&plan, 0, NULL), WINNOW_OK);
    const struct wn_buf *b = plan.bufs.at;
    cr_expect_eq(b[0].offset, b[1].offset);
    cr_expect_eq(b[1].offset, b[2].offset);
    for (size_t i = 0; i < WN_COUNT(buf); i++)
        for (size_t k = 0; k < i; k++) {
            bool together = buf[i].first <= buf[k].last && buf[k].first <= buf[i].last;
            bool apart = b[i].offset + b[i].bytes <= b[k].offset || b[k].offset + b[k].bytes <= b[i].offset;
            cr_expect(!together || apart || i <= 2, "buffers %zu and %zu overlap", i, k);
        }
    wn_vec_done(&plan.bufs);
}

Test(memplan, memory_is_used_again)
{
    struct wn_plan plan = { 0 };
    for (uint32_t i = 0; i < 50; i++)
        add_buf(&plan, 1000, i, i + 1);
    cr_assert_eq(wn_plan_memory(&plan, 0, NULL), WINNOW_OK);
    cr_expect_lt(plan.act_bytes, 3 * 1200);
    wn_vec_done(&plan.bufs);
}

/* ---- runs ---- */

/* x (N, 3, H, W) -> conv 3x3 -> relu -> conv 1x1 stride 2 -> y; H and W dynamic when not given. */
static winnow_model *make_conv(struct net *n, int64_t h, int64_t w)
{
    net_init(n, 5);
    wn_vid x = net_input(n, "image", WINNOW_F32, 4, NET_DIMS(-1, 3, h, w));
    wn_vid y = net_op(n, "Conv", NET_IN(x, net_normals(n, 4, NET_DIMS(8, 3, 3, 3), 0.3f)));
    net_ints(n, "pads", NET_DIMS(1, 1, 1, 1), 4);
    y = net_op(n, "Conv", NET_IN(net_op(n, "Relu", NET_IN(y)), net_normals(n, 4, NET_DIMS(5, 8, 1, 1), 0.3f)));
    net_ints(n, "strides", NET_DIMS(2, 2), 2);
    net_output(n, y);
    return net_load(n, false);
}

static struct winnow_tensor picture(int64_t rows, int64_t h, int64_t w)
{
    struct winnow_tensor t = net_tensor(WINNOW_F32, 4, NET_DIMS(rows, 3, h, w), NULL);
    t.data = calloc(1, t.bytes + 1);
    for (size_t i = 0; i < t.bytes / 4; i++)
        ((float *)t.data)[i] = (float)(i % 17) - 8;
    return t;
}

Test(run, a_second_run_allocates_nothing)
{
    struct net n;
    struct winnow_err err;
    for (unsigned threads = 1; threads <= 2; threads++) {
        winnow_model *model = make_conv(&n, 20, 20);
        winnow_pool *pool;
        winnow_scratch *scratch;
        struct winnow_tensor x = picture(4, 20, 20), y = { 0 };
        cr_assert_eq(winnow_pool_new(threads, &pool, &err), WINNOW_OK);
        cr_assert_eq(winnow_scratch_new(model, pool, &scratch, &err), WINNOW_OK);
        cr_assert_eq(winnow_scratch_reserve(scratch, &x, 1, &err), WINNOW_OK);
        bool ok = winnow_run(model, scratch, &x, 1, &y, 1, &err) == WINNOW_OK; /* the threads have started now */
        size_t before = mallinfo2().uordblks, held = winnow_scratch_bytes(scratch), after;
        for (int64_t rows = 4; rows >= 1; rows--) { /* also with fewer rows than were reserved */
            x.shape[0] = rows;
            x.bytes = (size_t)rows * 3 * 20 * 20 * 4;
            memset(&y, 0, sizeof y);
            ok = winnow_run(model, scratch, &x, 1, &y, 1, &err) == WINNOW_OK && ok;
        }
        after = mallinfo2().uordblks;
        cr_expect(ok, "%s", err.msg); /* only now: criterion's checks allocate */
        cr_expect_eq(after, before);
        cr_expect_eq(winnow_scratch_bytes(scratch), held);
        free(x.data);
        winnow_scratch_free(scratch);
        winnow_pool_free(pool);
        winnow_model_unref(model);
        net_done(&n);
    }
}

Test(run, dynamic_extents_are_planned_again)
{
    struct net n;
    winnow_model *model = make_conv(&n, -1, -1), *ref = net_load(&n, true);
    winnow_scratch *a, *b;
    cr_assert_eq(winnow_scratch_new(model, NULL, &a, NULL), WINNOW_OK);
    cr_assert_eq(winnow_scratch_new(ref, NULL, &b, NULL), WINNOW_OK);
    static const int64_t extents[][2] = { { 8, 8 }, { 31, 5 }, { 1, 1 }, { 8, 8 }, { 16, 40 } };
    for (size_t i = 0; i < WN_COUNT(extents); i++) {
        struct winnow_tensor x = picture(2, extents[i][0], extents[i][1]);
        struct net_answer got = net_run_on(model, a, &x, 1, 0), want = net_run_on(ref, b, &x, 1, 0);
        cr_expect_leq(net_difference(&got.t, &want.t), 1e-5);
        free(got.t.data);
        free(want.t.data);
        free(x.data);
    }
    winnow_scratch_free(a);
    winnow_scratch_free(b);
    winnow_model_unref(model);
    winnow_model_unref(ref);
    net_done(&n);
}

Test(run, no_rows_give_no_rows)
{
    struct net n;
    winnow_model *model = make_conv(&n, 8, 8);
    struct winnow_tensor x = picture(0, 8, 8);
    struct net_answer y = net_run(model, 1, &x, 1);
    cr_expect(y.t.shape[0] == 0 && y.t.bytes == 0 && y.t.shape[1] == 5 && y.t.shape[2] == 4);
    free(y.t.data);
    free(x.data);
    winnow_model_unref(model);
    net_done(&n);
}

static void expect_refused(winnow_model *model, const struct winnow_tensor *x, unsigned n_x, const char *want)
{
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    struct winnow_tensor y = { 0 };
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK);
    cr_expect_neq(winnow_run(model, scratch, x, n_x, &y, 1, &err), WINNOW_OK);
    cr_expect(strstr(err.msg, want), "'%s' does not say '%s'", err.msg, want);
    winnow_scratch_free(scratch);
}

Test(run, wrong_requests_are_told_what_is_wrong)
{
    struct net n;
    winnow_model *model = make_conv(&n, 8, 8);
    struct winnow_tensor x = picture(1, 8, 8), bad = x;
    bad.dtype = WINNOW_U8;
    expect_refused(model, &bad, 1, "input 'image' is u8, the model wants f32");
    bad = x;
    bad.rank = 3;
    expect_refused(model, &bad, 1, "input 'image' has shape [1,3,8], the model wants [-1,3,8,8]");
    bad = x;
    bad.shape[1] = 4;
    expect_refused(model, &bad, 1, "has shape [1,4,8,8], the model wants [-1,3,8,8]");
    bad = x;
    bad.shape[0] = -2;
    expect_refused(model, &bad, 1, "has shape [-2,3,8,8]");
    bad = x;
    bad.bytes -= 4;
    expect_refused(model, &bad, 1, "holds 764 bytes, its shape needs 768");
    bad = x;
    bad.shape[0] = INT64_MAX / 8;
    expect_refused(model, &bad, 1, "too large");
    expect_refused(model, &x, 0, "0 inputs given, the model has 1");
    free(x.data);
    winnow_model_unref(model);
    net_done(&n);
}

Test(run, small_outputs_and_limits_are_refused)
{
    struct net n;
    winnow_model *model = make_conv(&n, 8, 8);
    winnow_scratch *scratch;
    struct winnow_err err;
    float little[4];
    struct winnow_tensor x = picture(1, 8, 8), y = { .data = little, .bytes = sizeof little };
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, NULL), WINNOW_OK);
    cr_expect_eq(winnow_run(model, scratch, &x, 1, &y, 1, &err), WINNOW_E_MALFORMED);
    cr_expect(strstr(err.msg, "needs 320 bytes, 16 are given"), "%s", err.msg);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    void *bytes;
    size_t size;
    struct winnow_load_opts opts = { .max_memory_bytes = 1000 };
    cr_assert_eq(wn_onnx_write(&n.g, &bytes, &size, NULL), WINNOW_OK);
    cr_expect_eq(winnow_model_load_memory(bytes, size, "test", &opts, &model, &err), WINNOW_E_TOO_LARGE);
    free(bytes);
    free(x.data);
    net_done(&n);
}

/* A product of a column and a row: small inputs, a large output that no buffer of the plan holds. */
Test(run, the_limit_holds_for_outputs_too)
{
    struct net n;
    net_init(&n, 1);
    const int64_t column[] = { -1, 1 }, row[] = { 1, -1 }, both[] = { -1, -1 };
    wn_vid in[] = { wn_graph_add_value(&n.g, "a", WINNOW_F32, 2, column),
                    wn_graph_add_value(&n.g, "b", WINNOW_F32, 2, row) };
    wn_vid y = wn_graph_add_value(&n.g, "y", WINNOW_F32, 2, both);
    cr_assert(wn_vec_push(&n.g.inputs, in[0]) && wn_vec_push(&n.g.inputs, in[1]) && wn_vec_push(&n.g.outputs, y));
    cr_assert(wn_graph_add_node(&n.g, "", "MatMul", "outer", in, 2, &y, 1));
    void *bytes;
    size_t size;
    winnow_model *model;
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    struct winnow_load_opts opts = { .max_memory_bytes = 64 << 10 };
    cr_assert_eq(wn_onnx_write(&n.g, &bytes, &size, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_model_load_memory(bytes, size, "outer", &opts, &model, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK);
    static float ones[256];
    for (int64_t side = 100; side <= 200; side += 100) { /* 40 000 bytes, then 160 000 */
        struct winnow_tensor x[] = {
            { .dtype = WINNOW_F32, .rank = 2, .shape = { side, 1 }, .data = ones, .bytes = (size_t)side * 4 },
            { .dtype = WINNOW_F32, .rank = 2, .shape = { 1, side }, .data = ones, .bytes = (size_t)side * 4 },
        };
        struct winnow_tensor out = { 0 };
        enum winnow_status status = winnow_run(model, scratch, x, 2, &out, 1, &err);
        cr_expect_eq(status, side == 100 ? WINNOW_OK : WINNOW_E_TOO_LARGE);
    }
    cr_expect(strstr(err.msg, "output 'y' needs 160000 bytes, the limit is 65536"), "%s", err.msg);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    free(bytes);
    net_done(&n);
}

/* A value that two convolutions read with different zero points has two paddings. */
Test(run, each_reader_gets_the_padding_of_its_zero_point)
{
    struct net n;
    net_init(&n, 3);
    wn_vid x = net_input(&n, "x", WINNOW_U8, 4, NET_DIMS(-1, 4, 5, 5)), s = net_f32(&n, 1), ws = net_f32(&n, 0.02f);
    wn_vid w = net_const(&n, WINNOW_I8, 4, NET_DIMS(4, 4, 3, 3), NULL), wz = net_i8(&n, 0), y[2];
    for (int i = 0; i < 144; i++)
        ((int8_t *)net_data(&n, w))[i] = (int8_t)net_pick(&n, -9, 9);
    for (int i = 0; i < 2; i++) {
        y[i] = net_op(&n, "QLinearConv", NET_IN(x, s, net_u8(&n, i ? 200 : 7), w, ws, wz, s, net_u8(&n, 128)));
        net_ints(&n, "pads", NET_DIMS(1, 1, 1, 1), 4);
    }
    net_output(&n, net_op(&n, "Concat", NET_IN(y[0], y[1])));
    net_int(&n, "axis", 1);
    uint8_t data[100];
    for (int i = 0; i < 100; i++)
        data[i] = (uint8_t)net_pick(&n, 0, 255);
    winnow_model *model = net_load(&n, false), *ref = net_load(&n, true);
    struct winnow_tensor in = net_tensor(WINNOW_U8, 4, NET_DIMS(1, 4, 5, 5), data);
    struct net_answer got = net_run(model, 1, &in, 1), want = net_run(ref, 1, &in, 1);
    cr_expect_eq(net_difference(&got.t, &want.t), 0);
    free(got.t.data);
    free(want.t.data);
    winnow_model_unref(model);
    winnow_model_unref(ref);
    net_done(&n);
}

/* What `winnow analyze` prints. */
Test(run, steps_say_what_runs_and_how_long)
{
    struct net n;
    winnow_model *model = make_conv(&n, 8, 8);
    winnow_scratch *scratch;
    struct winnow_tensor x = picture(1, 8, 8), y = { 0 };
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, NULL), WINNOW_OK);
    cr_assert_eq(winnow_scratch_reserve(scratch, &x, 1, NULL), WINNOW_OK);
    winnow_scratch_profile(scratch, true);
    cr_assert_eq(winnow_run(model, scratch, &x, 1, &y, 1, NULL), WINNOW_OK);
    uint64_t macs = 0, ns = 0;
    for (unsigned i = 0; i < winnow_scratch_n_steps(scratch); i++) {
        struct winnow_step step;
        winnow_scratch_step(scratch, i, &step);
        macs += step.macs;
        ns += step.ns;
        cr_expect(step.name && *step.op && *step.kernel && step.why && step.pattern);
    }
    cr_expect_eq(macs, 8u * 27 * 64 + 5u * 8 * 16);
    cr_expect_gt(ns, 0);
    free(x.data);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    net_done(&n);
}
