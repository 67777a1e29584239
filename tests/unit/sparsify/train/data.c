/* Batches: every epoch has its own order and each row once; augmentation depends on seed, epoch and sample alone. */
#include <criterion/criterion.h>
#include <string.h>
#include "sparsify/train/train_impl.h"

TestSuite(train_data);

struct fixture {
    struct wn_arena arena;
    struct wn_graph g;
    struct wn_trainer *tr;
};

/** A picture in, its pixels times an identity out: 12 pixels, 12 classes. */
static void fixture(struct fixture *f, unsigned batch, uint64_t seed)
{
    int64_t x_dim[4] = { -1, 1, 3, 4 }, w_dim[2] = { 12, 12 }, y_dim[2] = { -1, 12 };
    memset(f, 0, sizeof *f);
    wn_graph_init(&f->g, &f->arena);
    struct wn_opset set = { "", 13 };
    cr_assert(wn_vec_push(&f->g.opsets, set));
    wn_vid x = wn_graph_add_value(&f->g, "x", WINNOW_F32, 4, x_dim);
    wn_vid flat = wn_graph_add_value(&f->g, "flat", WINNOW_F32, 2, y_dim);
    wn_vid y = wn_graph_add_value(&f->g, "y", WINNOW_F32, 2, y_dim);
    wn_vid w = wn_graph_add_const(&f->g, "fc.weight", WINNOW_F32, 2, w_dim, NULL);
    for (int i = 0; i < 12; i++)
        ((float *)f->g.values.at[w].constant->data)[i * 13] = 1.0f;
    cr_assert(wn_vec_push(&f->g.inputs, x) && wn_vec_push(&f->g.outputs, y));
    wn_graph_add_node(&f->g, "", "Flatten", "/flat", &x, 1, &flat, 1)->opset = 13;
    wn_vid in[2] = { flat, w };
    wn_graph_add_node(&f->g, "", "MatMul", "/fc/MatMul", in, 2, &y, 1)->opset = 13;
    struct wn_train_opts o = { .batch = batch, .seed = seed };
    struct winnow_err err;
    cr_assert_eq(wn_trainer_new(&f->g, &o, &f->tr, &err), WINNOW_OK, "%s", err.msg);
}

static void done(struct fixture *f)
{
    wn_trainer_free(f->tr);
    wn_graph_done(&f->g);
    wn_arena_done(&f->arena);
}

enum { ROWS = 22 };
static uint8_t px[ROWS * 12];
static uint32_t label[ROWS];

static struct wn_train_data rows(void)
{
    for (int i = 0; i < ROWS * 12; i++)
        px[i] = (uint8_t)(1 + i % 251);
    return (struct wn_train_data){ .n = ROWS, .label = label, .px = px, .h = 3, .w = 4, .c = 1 };
}

Test(train_data, an_epoch_holds_every_row_at_most_once_and_drops_the_rest)
{
    struct fixture f;
    struct winnow_err err;
    struct wn_train_data d = rows();
    fixture(&f, 5, 1);
    cr_assert_eq(wn_trainer_bind_data(f.tr, &d, &err), WINNOW_OK);
    cr_assert_eq(wn_trainer_ready(f.tr, &err), WINNOW_OK);
    unsigned seen[2][ROWS] = { { 0 } };
    uint32_t first[2];
    for (uint64_t e = 0; e < 2; e++)
        for (uint64_t b = 0; b < 4; b++) {
            cr_assert_eq(wn_trainer_load(f.tr, e, b, &err), WINNOW_OK);
            for (int i = 0; i < 5; i++)
                seen[e][f.tr->sample[i]]++;
            if (b == 0)
                first[e] = f.tr->sample[0] * ROWS + f.tr->sample[1];
            for (int i = 0; i < 5; i++)
                for (int p = 0; p < 12; p++)
                    cr_assert_float_eq(wn_net_input(&f.tr->net)[i * 12 + p],
                                       (float)px[f.tr->sample[i] * 12 + (unsigned)p] / 255.0f, 1e-6f);
        }
    for (int e = 0; e < 2; e++) {
        unsigned total = 0;
        for (int i = 0; i < ROWS; i++) {
            cr_assert_leq(seen[e][i], 1);
            total += seen[e][i];
        }
        cr_assert_eq(total, 20);
    }
    cr_assert_neq(first[0], first[1], "two epochs in the same order");
    done(&f);
}

Test(train_data, augmentation_repeats_and_differs_between_epochs)
{
    struct fixture f;
    struct winnow_err err;
    struct wn_train_data d = rows();
    d.flip = true;
    d.crop_pad = 1;
    fixture(&f, 22, 7);
    cr_assert_eq(wn_trainer_bind_data(f.tr, &d, &err), WINNOW_OK);
    cr_assert_eq(wn_trainer_ready(f.tr, &err), WINNOW_OK);
    float once[ROWS * 12], other[ROWS * 12];
    uint32_t order[ROWS];
    cr_assert_eq(wn_trainer_load(f.tr, 3, 0, &err), WINNOW_OK);
    memcpy(once, wn_net_input(&f.tr->net), sizeof once);
    memcpy(order, f.tr->sample, sizeof order);
    cr_assert_eq(wn_trainer_load(f.tr, 4, 0, &err), WINNOW_OK);
    memcpy(other, wn_net_input(&f.tr->net), sizeof other);
    bool differs = false;
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < ROWS; k++)
            if (order[i] == f.tr->sample[k])
                differs |= memcmp(once + i * 12, other + k * 12, 12 * sizeof(float)) != 0;
    cr_assert(differs);
    cr_assert_eq(wn_trainer_load(f.tr, 3, 0, &err), WINNOW_OK);
    cr_assert_arr_eq(once, wn_net_input(&f.tr->net), sizeof once);
    done(&f);
}

Test(train_data, what_does_not_fit_is_refused)
{
    struct fixture f;
    struct winnow_err err;
    struct wn_train_data d = rows();
    fixture(&f, 5, 1);
    label[3] = 12;
    cr_assert_eq(wn_trainer_bind_data(f.tr, &d, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "row 3") != NULL);
    label[3] = 0;
    d.w = 5;
    cr_assert_eq(wn_trainer_bind_data(f.tr, &d, &err), WINNOW_E_MALFORMED);
    d.w = 4;
    d.n = 4;
    cr_assert_eq(wn_trainer_bind_data(f.tr, &d, &err), WINNOW_E_MALFORMED);
    done(&f);
}

Test(train_data, evaluation_pads_the_last_batch)
{
    struct fixture f;
    struct winnow_err err;
    fixture(&f, 16, 1);
    float x[ROWS * 12] = { 0 };
    for (int i = 0; i < ROWS; i++) {
        x[i * 12 + i % 12] = 5.0f;
        label[i] = (uint32_t)(i == 20 ? 0 : i % 12);
    }
    struct wn_train_data d = { .n = ROWS, .label = label, .row = x };
    struct wn_train_score score;
    uint32_t pred[ROWS];
    cr_assert_eq(wn_trainer_evaluate(f.tr, &d, &score, pred, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(score.n, ROWS);
    cr_assert_float_eq(score.accuracy, 21.0 / 22.0, 1e-9);
    cr_assert_eq(pred[20], 8);
    memset(label, 0, sizeof label);
    done(&f);
}
