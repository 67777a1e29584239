/* Shapes that depend on data: planned up to them, run node by node from there; results in the scratch's memory or in
 * the caller's. */
#include "engine/plan/plan.h"
#include "tests/unit/engine/plan/net.h"

#define N 6

/* y = GatherND(Relu(x), Transpose(NonZero(Relu(x)))): the positive elements of x. z = x + 1, which is planned. */
static winnow_model *positives(struct net *n)
{
    net_init(n, 1);
    wn_vid x = net_input(n, "x", WINNOW_F32, 1, NET_DIMS(-1));
    wn_vid r = net_op(n, "Relu", NET_IN(x)), at = net_op(n, "NonZero", NET_IN(r));
    wn_vid rows = net_op(n, "Transpose", NET_IN(at));
    net_output(n, net_op(n, "GatherND", NET_IN(r, rows)));
    net_output(n, net_op(n, "Add", NET_IN(x, net_f32(n, 1))));
    return net_load(n, false);
}

static struct winnow_tensor row(float *x)
{
    return (struct winnow_tensor){ .dtype = WINNOW_F32, .rank = 1, .shape = { N }, .data = x, .bytes = N * sizeof *x };
}

static void expect_floats(const struct winnow_tensor *t, const float *want, int64_t n)
{
    cr_assert(t->rank == 1 && t->shape[0] == n && t->bytes == (size_t)n * sizeof *want, "%lld elements",
              (long long)t->shape[0]);
    for (int64_t i = 0; i < n; i++)
        cr_expect_eq(((float *)t->data)[i], want[i]);
}

Test(late, data_decides_the_shape)
{
    struct net n;
    winnow_model *model = positives(&n);
    winnow_scratch *scratch;
    struct winnow_err err;
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, NULL), WINNOW_OK);
    float a[N] = { -1, 2, 0, 4, -5, 6 }, b[N] = { -1, -1, -1, -1, -1, -1 }, c[N] = { 1, 2, 3, 4, 5, 6 };
    struct {
        float *x;
        int64_t n;
        float want[N];
    } runs[] = { { a, 3, { 2, 4, 6 } }, { b, 0, { 0 } }, { c, 6, { 1, 2, 3, 4, 5, 6 } } };
    for (size_t i = 0; i < WN_COUNT(runs); i++) {
        struct winnow_tensor x = row(runs[i].x), y[2] = { 0 };
        cr_assert_eq(winnow_run(model, scratch, &x, 1, y, 2, &err), WINNOW_OK, "%s", err.msg);
        expect_floats(&y[0], runs[i].want, runs[i].n);
        cr_expect(y[1].shape[0] == N && ((float *)y[1].data)[0] == runs[i].x[0] + 1);
    }
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    net_done(&n);
}

Test(late, the_callers_memory_must_be_large_enough)
{
    struct net n;
    winnow_model *model = positives(&n);
    winnow_scratch *scratch;
    struct winnow_err err;
    float a[N] = { 1, 2, 3, 4, -5, 6 }, room[N], more[N];
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, NULL), WINNOW_OK);
    struct winnow_tensor x = row(a), y[2] = { { .data = room, .bytes = sizeof room }, { .data = more, .bytes = 24 } };
    cr_assert_eq(winnow_run(model, scratch, &x, 1, y, 2, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(y[0].data, (void *)room);
    expect_floats(&y[0], (const float[]){ 1, 2, 3, 4, 6 }, 5);
    y[0].bytes = 4 * sizeof(float);
    y[1].bytes = sizeof more;
    cr_expect_eq(winnow_run(model, scratch, &x, 1, y, 2, &err), WINNOW_E_MALFORMED);
    cr_expect(strstr(err.msg, "needs 20 bytes, 16 are given"), "%s", err.msg);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    net_done(&n);
}
