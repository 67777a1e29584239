/* Tuning: whatever is measured to be fastest, answers stay; what lost is given up; what was found is kept with the
 * compiled model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/graph/onnx.h"
#include "engine/plan/choice.h"
#include "engine/plan/model.h"
#include "engine/plan/scratch.h"
#include "tests/unit/engine/plan/net.h"

/* Two convolutions or linear layers with a tenth of their weights. */
static void build(struct net *n, bool q8)
{
    net_init(n, 31);
    const int64_t dim[] = { 128, 64, 3, 3 }, more[] = { 64, 128, 1, 1 };
    wn_vid x = net_input(n, "x", q8 ? WINNOW_U8 : WINNOW_F32, 4, NET_DIMS(-1, 64, 14, 14));
    wn_vid s = net_f32(n, 0.02f), z = net_u8(n, 7);
    for (int i = 0; i < 2; i++) {
        const int64_t *d = i ? more : dim, count = d[0] * d[1] * d[2] * d[3];
        wn_vid w = q8 ? net_const(n, WINNOW_I8, 4, d, NULL) : net_normals(n, 4, d, 0.1f);
        for (int64_t k = 0; k < count; k++) {
            const bool kept = net_pick(n, 0, 9) == 0;
            if (q8)
                ((int8_t *)net_data(n, w))[k] = kept ? (int8_t)net_pick(n, -128, 127) : 0;
            else if (!kept)
                ((float *)net_data(n, w))[k] = 0;
        }
        x = q8 ? net_op(n, "QLinearConv", NET_IN(x, s, z, w, net_f32(n, 0.005f), net_i8(n, 0), s, z))
               : net_op(n, "Conv", NET_IN(x, w));
        if (!i)
            net_ints(n, "pads", NET_DIMS(1, 1, 1, 1), 4);
    }
    net_output(n, x);
}

static struct winnow_tensor input(bool q8)
{
    const size_t elements = 64 * 14 * 14;
    struct winnow_tensor x = { .dtype = q8 ? WINNOW_U8 : WINNOW_F32, .rank = 4, .shape = { 1, 64, 14, 14 } };
    x.bytes = elements * (q8 ? 1 : 4);
    x.data = malloc(x.bytes);
    for (size_t i = 0; i < elements; i++) {
        const unsigned v = (unsigned)(i * 2654435761u >> 9) & 255;
        if (q8)
            ((uint8_t *)x.data)[i] = (uint8_t)v;
        else
            ((float *)x.data)[i] = (float)v / 64 - 2;
    }
    return x;
}

static const char *first_why(const winnow_scratch *scratch)
{
    struct winnow_step s;
    for (unsigned i = 0; i < winnow_scratch_n_steps(scratch); i++) {
        winnow_scratch_step(scratch, i, &s);
        if (strstr(s.why, "predicted"))
            return s.why;
    }
    return "";
}

static void check(bool q8)
{
    struct net n;
    struct winnow_err err = { 0 };
    winnow_scratch *scratch;
    build(&n, q8);
    winnow_model *model = net_load(&n, false);
    struct winnow_tensor x = input(q8);
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK, "%s", err.msg);
    struct net_answer before = net_run_on(model, scratch, &x, 1, 0);
    const size_t held = winnow_model_weight_bytes(model);
    cr_expect_null(strstr(first_why(scratch), "measured"));
    cr_assert_eq(winnow_scratch_tune(scratch, &x, 1, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(strstr(first_why(scratch), "measured us: "), "%s", first_why(scratch));
    struct net_answer after = net_run_on(model, scratch, &x, 1, 0);
    cr_assert_eq(before.t.bytes, after.t.bytes);
    if (q8)
        cr_expect_eq(memcmp(before.t.data, after.t.data, before.t.bytes), 0);
    for (size_t i = 0; !q8 && i < before.t.bytes / 4; i++)
        cr_assert(fabsf(((float *)before.t.data)[i] - ((float *)after.t.data)[i]) < 1e-4f);
    /* Two forms of a layer at most: the first, from which its weights come back, and the one that won. */
    cr_expect_leq(winnow_model_weight_bytes(model), 2 * held + 2 * (size_t)(128 * 64 * 9 + 128 * 64) * (q8 ? 1 : 4));
    free(before.t.data);
    free(after.t.data);
    free(x.data);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    net_done(&n);
}

Test(tune, int8_answers_stay, .timeout = 60)
{
    check(true);
}

Test(tune, f32_answers_stay_but_for_rounding, .timeout = 60)
{
    check(false);
}

/* What wins is what was fastest, whatever the table says; and only where it is settled so. */
Test(tune, the_fastest_measured_is_taken)
{
    struct net n;
    build(&n, true);
    winnow_model *model = net_load(&n, false);
    struct wn_arena arena;
    wn_arena_init(&arena, 0);
    const struct wn_tensor *w = NULL;
    for (size_t i = 0; i < model->g.nodes.n && !w; i++)
        if (model->g.nodes.at[i].fused && model->g.nodes.at[i].n_in > 1)
            w = model->g.values.at[model->g.nodes.at[i].in[1]].constant;
    const struct wn_candidate c[] = { { WN_FAMILY_q8_gemm, 100 },
                                      { WN_FAMILY_q8_spmm, 50 },
                                      { WN_FAMILY_q8_spmm_b4, INFINITY } };
    const struct wn_choice *choice = wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3);
    cr_assert_eq(choice->family, WN_FAMILY_q8_spmm);
    cr_assert(wn_tuned_note(model->tuned, choice, WN_FAMILY_q8_gemm, 3.0));
    cr_assert(wn_tuned_note(model->tuned, choice, WN_FAMILY_q8_spmm, 4.0));
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3)->family, WN_FAMILY_q8_spmm);
    wn_tuned_settle(model->tuned, choice, true);
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3)->family, WN_FAMILY_q8_gemm);
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 78, c, 3)->family, WN_FAMILY_q8_spmm,
                 "other columns");
    wn_choosing_set(model->tuned, WN_CHOOSE_TABLE, 0);
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3)->family, WN_FAMILY_q8_spmm);
    wn_choosing_set(model->tuned, WN_CHOOSE_FORCED, WN_FAMILY_q8_spmm_b4);
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3)->family, WN_FAMILY_q8_spmm, "not possible");
    wn_choosing_set(model->tuned, WN_CHOOSE_TUNED, 0);
    wn_tuned_settle(model->tuned, choice, false);
    cr_expect_eq(wn_choose(model->tuned, model->facts, &arena, w, 77, c, 3)->family, WN_FAMILY_q8_spmm);
    wn_arena_done(&arena);
    winnow_model_unref(model);
    net_done(&n);
}

Test(tune, what_was_found_is_kept, .timeout = 60)
{
    struct net n;
    struct winnow_err err = { 0 };
    winnow_scratch *scratch;
    winnow_model *model;
    char dir[] = "/tmp/winnow-tune-XXXXXX", path[128], cache[128];
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.onnx", dir);
    snprintf(cache, sizeof cache, "%s/cache", dir);
    build(&n, true);
    cr_assert_eq(net_check(&n), WINNOW_OK);
    cr_assert_eq(wn_onnx_write_file(&n.g, path, false, &n.err), WINNOW_OK);
    net_done(&n);
    usleep(2100000);
    struct winnow_tensor x = input(true);
    const struct winnow_load_opts opts = { .cache = cache };
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(winnow_model_load(path, &opts, &model, &err), WINNOW_OK, "%s", err.msg);
        cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK, "%s", err.msg);
        if (!i)
            cr_assert_eq(winnow_scratch_tune(scratch, &x, 1, &err), WINNOW_OK, "%s", err.msg);
        else
            cr_assert_eq(winnow_scratch_reserve(scratch, &x, 1, &err), WINNOW_OK, "%s", err.msg);
        cr_expect(strstr(first_why(scratch), "measured us: "), "%d: %s", i, first_why(scratch));
        if (!i)
            cr_assert_eq(winnow_cache_save(model, path, &opts, NULL, 0, &err), WINNOW_OK, "%s", err.msg);
        winnow_scratch_free(scratch);
        winnow_model_unref(model);
    }
    free(x.data);
    char command[160];
    snprintf(command, sizeof command, "rm -r %s", dir);
    cr_expect_eq(system(command), 0);
}

Test(tune, a_peak_is_measured)
{
    cr_expect_gt(winnow_cpu_peak(false), 0);
    cr_expect_gt(winnow_cpu_peak(true), 0);
}
