/* Rows of different length in one run: each as if it stood alone, zeros behind it. */
#include "tests/unit/engine/plan/net.h"

/* tokens (N, S, 8) -> linear -> y (N, S, 5); `across`: y (N, 5, S), whose rows are no beginnings of longer ones. */
static winnow_model *make_tokens(struct net *n, bool across)
{
    net_init(n, 11);
    wn_vid x = net_input(n, "tokens", WINNOW_F32, 3, NET_DIMS(-1, -1, 8));
    wn_vid y = net_op(n, "MatMul", NET_IN(x, net_normals(n, 2, NET_DIMS(8, 5), 0.3f)));
    if (across) {
        y = net_op(n, "Transpose", NET_IN(y));
        net_ints(n, "perm", NET_DIMS(0, 2, 1), 3);
    }
    net_output(n, y);
    return net_load(n, false);
}

#define ROWS 6
#define MOST 40

static float data[ROWS][MOST][8];

static struct winnow_tensor tokens(void)
{
    for (size_t i = 0; i < sizeof data / sizeof(float); i++)
        ((float *)data)[i] = (float)(i * 7 % 23) - 11;
    return net_tensor(WINNOW_F32, 3, NET_DIMS(ROWS, MOST, 8), data);
}

static void expect_alone(winnow_model *model, const float *y, int64_t row, uint32_t length)
{
    struct winnow_tensor one = net_tensor(WINNOW_F32, 3, NET_DIMS(1, length, 8), data[row]);
    struct net_answer want = net_run(model, 1, &one, 1);
    cr_expect_arr_eq(y, want.t.data, want.t.bytes, "row %lld of %u tokens", (long long)row, length);
    for (size_t i = (size_t)length * 5; i < (size_t)MOST * 5; i++)
        cr_expect_eq(y[i], 0);
    free(want.t.data);
}

Test(ragged, rows_are_as_they_are_alone)
{
    struct net n;
    struct winnow_err err = { 0 };
    static const uint32_t length[ROWS] = { 3, MOST, 17, 3, 1, 32 };
    for (unsigned threads = 1; threads <= 3; threads++) {
        winnow_model *model = make_tokens(&n, false);
        winnow_pool *pool;
        winnow_scratch *scratch;
        struct winnow_tensor x = tokens();
        cr_assert_eq(winnow_pool_new(threads, &pool, &err), WINNOW_OK);
        cr_assert_eq(winnow_scratch_new(model, pool, &scratch, &err), WINNOW_OK);
        for (int round = 0; round < 2; round++) {
            struct winnow_tensor y = { 0 };
            cr_assert_eq(winnow_run_ragged(model, scratch, &x, 1, length, &y, 1, &err), WINNOW_OK, "%s", err.msg);
            cr_expect(y.shape[0] == ROWS && y.shape[1] == MOST && y.shape[2] == 5);
            for (int64_t row = 0; row < ROWS; row++)
                expect_alone(model, (const float *)y.data + row * MOST * 5, row, length[row]);
            struct winnow_tensor all = { 0 }; /* and whole rows afterwards */
            cr_assert_eq(winnow_run(model, scratch, &x, 1, &all, 1, &err), WINNOW_OK, "%s", err.msg);
            expect_alone(model, (const float *)all.data + 2 * MOST * 5, 2, MOST);
        }
        winnow_scratch_free(scratch);
        winnow_pool_free(pool);
        winnow_model_unref(model);
        net_done(&n);
    }
}

Test(ragged, a_length_out_of_range_is_refused)
{
    struct net n;
    struct winnow_err err = { 0 };
    winnow_model *model = make_tokens(&n, false);
    winnow_scratch *scratch;
    struct winnow_tensor x = tokens(), y = { 0 };
    uint32_t length[ROWS] = { 1, 1, 1, 1, 1, MOST + 1 };
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK);
    cr_expect_eq(winnow_run_ragged(model, scratch, &x, 1, length, &y, 1, &err), WINNOW_E_MALFORMED);
    cr_expect(strstr(err.msg, "row 5 has length 41, of 40"), "%s", err.msg);
    length[5] = 0;
    cr_expect_eq(winnow_run_ragged(model, scratch, &x, 1, length, &y, 1, &err), WINNOW_E_MALFORMED);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    net_done(&n);
}

Test(ragged, outputs_that_do_not_allow_it_are_whole)
{
    struct net n;
    struct winnow_err err = { 0 };
    winnow_model *model = make_tokens(&n, true);
    winnow_scratch *a, *b;
    struct winnow_tensor x = tokens(), got = { 0 }, want = { 0 };
    static const uint32_t length[ROWS] = { 3, MOST, 17, 3, 1, 32 };
    cr_assert_eq(winnow_scratch_new(model, NULL, &a, &err), WINNOW_OK);
    cr_assert_eq(winnow_scratch_new(model, NULL, &b, &err), WINNOW_OK);
    cr_expect_eq(winnow_run_ragged(model, a, &x, 1, length, &got, 1, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(winnow_run(model, b, &x, 1, &want, 1, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(got.bytes, want.bytes);
    cr_expect_arr_eq(got.data, want.data, want.bytes);
    winnow_scratch_free(a);
    winnow_scratch_free(b);
    winnow_model_unref(model);
    net_done(&n);
}
