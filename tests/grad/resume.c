/* resume.c: a training that is stopped and resumed ends in the same bits; checkpoints that are not whole are refused.
 */
#include <unistd.h>
#include "base/file.h"
#include "tests/grad/grad.h"

/** A recipe in a nutshell: learning rate falls, half the weights go at step 3, quantization comes at step 7. */
struct recipe {
    struct wn_modifier mod;
    struct state {
        uint32_t calls, pruned;
    } state;
};

static int by_size(const void *a, const void *b)
{
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x > y) - (x < y);
}

static enum winnow_status prune_half(struct wn_trainer *tr, struct winnow_err *err)
{
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        if (!p->prunable)
            continue;
        float *sorted = malloc(p->n * sizeof *sorted);
        uint8_t *m = malloc(p->n);
        memcpy(sorted, p->w, p->n * sizeof *sorted);
        qsort(sorted, p->n, sizeof *sorted, by_size);
        for (size_t k = 0; k < p->n; k++)
            m[k] = fabsf(p->w[k]) >= fabsf(sorted[p->n * 7 / 10]);
        enum winnow_status s = wn_trainer_set_mask(tr, p, m, err);
        free(sorted);
        free(m);
        WN_TRY(s);
    }
    return WINNOW_OK;
}

static enum winnow_status before_step(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                      struct winnow_err *err)
{
    struct recipe *r = (struct recipe *)(void *)m;
    r->state.calls++;
    wn_trainer_set_lr(tr, (float)(0.05 * (1 - now->t / now->epochs)));
    if (now->step == 3 && !r->state.pruned) {
        r->state.pruned = 1;
        WN_TRY(prune_half(tr, err));
        WN_TRY(wn_trainer_reestimate_bn(tr, 2, err));
    }
    if (now->step == 7 && !wn_trainer_quant_enabled(tr)) {
        WN_TRY(wn_trainer_quant_enable(tr, NULL, err));
        WN_TRY(wn_trainer_quant_calibrate(tr, 2, err));
    }
    return WINNOW_OK;
}

/** A teacher in a nutshell: sees the batch the net was given, and may change the gradient (here: by nothing). */
static enum winnow_status after_loss(struct wn_modifier *m, struct wn_trainer *tr, const float *logits, float *dlogits,
                                     const uint32_t *sample, float *loss, struct winnow_err *err)
{
    (void)m;
    unsigned rows;
    const float *x = wn_trainer_batch(tr, &rows);
    double sum = 0;
    for (size_t i = 0; i < rows * wn_trainer_row_elements(tr); i++)
        sum += (double)x[i];
    bool sane = rows == 16 && isfinite(sum) && sum > 0 && sample[0] != sample[1] && isfinite(logits[0]) &&
                isfinite(dlogits[0]) && *loss > 0;
    return sane ? WINNOW_OK : wn_fail(err, WINNOW_E_INTERNAL, "after_loss saw something else than the batch");
}

static void recipe_free(struct wn_modifier *m)
{
    free(m);
}

static const struct wn_modifier_ops recipe_ops = {
    .name = "TestRecipe", .before_step = before_step, .after_loss = after_loss, .free = recipe_free
};

static struct wn_trainer *make(const struct build *b)
{
    struct winnow_err err;
    struct wn_train_opts o = { .batch = 16, .threads = 2, .seed = 11, .momentum = 0.9f, .nesterov = true };
    struct wn_trainer *tr = trainer(b, &o);
    struct recipe *r = calloc(1, sizeof *r);
    r->mod = (struct wn_modifier){ &recipe_ops, &r->state, sizeof r->state };
    wn_trainer_set_weight_decay(tr, 1e-3f);
    must(wn_trainer_add_modifier(tr, &r->mod, &err), &err);
    return tr;
}

static bool stop_at(void *arg, struct wn_trainer *tr, const struct wn_train_progress *p)
{
    (void)tr;
    return p->time.step + 1 != *(uint64_t *)arg;
}

static bool same(struct wn_trainer *a, struct wn_trainer *b)
{
    bool eq = wn_trainer_n_params(a) == wn_trainer_n_params(b);
    for (unsigned i = 0; eq && i < wn_trainer_n_params(a); i++) {
        struct wn_param *p = wn_trainer_param(a, i), *q = wn_trainer_param(b, i);
        eq = p->n == q->n && memcmp(p->w, q->w, p->n * sizeof(float)) == 0 &&
             (!p->v || memcmp(p->v, q->v, p->n * sizeof(float)) == 0) && !p->mask == !q->mask &&
             (!p->mask || memcmp(p->mask, q->mask, p->n) == 0);
    }
    for (unsigned i = 0; eq && i < wn_trainer_n_quant_points(a); i++) {
        struct wn_quant_point p, q;
        wn_trainer_quant_point(a, i, &p);
        wn_trainer_quant_point(b, i, &q);
        eq = p.lo == q.lo && p.hi == q.hi;
    }
    return eq;
}

static void refused(const struct build *b, const char *path, const struct wn_train_ids *ids)
{
    struct winnow_err err;
    void *bytes = NULL;
    size_t n = 0;
    must(wn_file_read(path, 0, &bytes, &n, &err), &err);
    char bad[256];
    snprintf(bad, sizeof bad, "%s.bad", path);
    bool all = true;
    uint8_t *p = bytes;
    for (int i = 0; i < 12; i++) {
        size_t cut = i < 6 ? n * (size_t)i / 6 : n, flip = n * (size_t)(i - 6) / 6 + 9;
        if (i >= 6)
            p[flip] ^= 0x20;
        must(wn_file_write_durable(bad, bytes, cut, &err), &err);
        struct wn_trainer *tr = make(b);
        all &= wn_trainer_restore(tr, bad, ids, &err) != WINNOW_OK;
        wn_trainer_free(tr);
        if (i >= 6)
            p[flip] ^= 0x20;
    }
    unlink(bad);
    free(bytes);
    check_true("cut and altered checkpoints are refused", all);
    struct wn_train_ids other = *ids;
    other.recipe[5] ^= 1;
    struct wn_trainer *tr = make(b);
    check_true("a checkpoint of another recipe is a conflict",
               wn_trainer_restore(tr, path, &other, &err) == WINNOW_E_CONFLICT);
    wn_trainer_free(tr);
}

void test_resume(void)
{
    struct build b;
    struct winnow_err err;
    build_init(&b, 1, 12, 12);
    build_conv(&b, (struct conv){ .o = 16, .k = 3, .pad = 1 });
    build_bn(&b);
    build_relu(&b);
    build_conv(&b, (struct conv){ .o = 16, .k = 3, .stride = 2, .pad = 1 });
    build_bn(&b);
    build_relu(&b);
    wn_node_set_float(&b.g, build_node(&b, "Dropout", NULL, 0), "ratio", 0.2f);
    build_gap(&b);
    build_gemm(&b, 5, true, true);
    build_output(&b);
    enum { ROWS = 16 * 4 + 7 };
    uint8_t *px = malloc(ROWS * 144);
    uint32_t *label = random_labels(ROWS, 5);
    for (size_t i = 0; i < ROWS * 144; i++)
        px[i] = (uint8_t)(128.0f + 127.0f * rnd());
    struct wn_train_data data = {
        .n = ROWS, .label = label, .px = px, .h = 12, .w = 12, .c = 1, .flip = true, .crop_pad = 2
    };
    uint64_t stop = 0;
    struct wn_fit_opts fit = { .epochs = 3, .on_step = stop_at, .arg = &stop };
    struct wn_trainer *whole = make(&b);
    must(wn_trainer_fit(whole, &data, &fit, &err), &err);
    char path[] = "/tmp/wn-grad-XXXXXX";
    int fd = mkstemp(path);
    struct wn_train_ids ids = { { 1 }, { 2 }, { 3 } };
    struct wn_trainer *part = make(&b);
    const uint64_t stops[] = { 2, 5, 9 };
    for (size_t i = 0; i < WN_COUNT(stops); i++) {
        stop = stops[i];
        check_true("stopped in time", wn_trainer_fit(part, &data, &fit, &err) == WINNOW_E_CANCELLED);
        must(wn_trainer_checkpoint(part, path, &ids, &err), &err);
        wn_trainer_free(part);
        part = make(&b);
        must(wn_trainer_restore(part, path, &ids, &err), &err);
    }
    stop = 0;
    must(wn_trainer_fit(part, &data, &fit, &err), &err);
    check_true("stopped and resumed three times: the same bits as uninterrupted", same(whole, part));
    refused(&b, path, &ids);
    close(fd);
    unlink(path);
    wn_trainer_free(whole);
    wn_trainer_free(part);
    free(px);
    free(label);
    build_done(&b);
}
