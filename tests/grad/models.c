/* models.c: published models from ../shared/data: the trainer computes the reference's scores, batch norm can be put
 * back in, a step runs. Left out where the data is not there. */
#include <unistd.h>
#include "base/npy.h"
#include "engine/graph/onnx.h"
#include "tests/grad/grad.h"

#define DATA "../shared/data/"

static bool load_npy(const char *name, struct wn_npy *ret)
{
    char path[256];
    struct winnow_err err;
    snprintf(path, sizeof path, DATA "reference/%s", name);
    return wn_npy_read(path, 64u << 20, ret, &err) == WINNOW_OK && ret->type == WN_NPY_F4;
}

struct model {
    const char *file, *input, *output;
    unsigned batch;
    bool softmax; /* the reference holds probabilities, the trainer stops at scores */
};

static double score_error(const float *got, const float *want, size_t n, size_t k, bool softmax)
{
    double worst = 0, size = 0;
    for (size_t r = 0; r < n; r++) {
        double sum = 0, top = -INFINITY;
        for (size_t c = 0; softmax && c < k; c++)
            top = fmax(top, (double)got[r * k + c]);
        for (size_t c = 0; softmax && c < k; c++)
            sum += exp((double)got[r * k + c] - top);
        for (size_t c = 0; c < k; c++) {
            double v = softmax ? exp((double)got[r * k + c] - top) / sum : (double)got[r * k + c];
            worst = fmax(worst, fabs(v - (double)want[r * k + c]));
            size = fmax(size, fabs((double)want[r * k + c]));
        }
    }
    return worst / size;
}

static void one(const struct model *m)
{
    char path[256], line[160];
    struct winnow_err err;
    struct wn_npy in = { 0 }, out = { 0 };
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    snprintf(path, sizeof path, DATA "models/%s", m->file);
    if (access(path, R_OK) != 0 || !load_npy(m->input, &in) || !load_npy(m->output, &out)) {
        left_out(m->file, "not in " DATA);
        return;
    }
    must(wn_onnx_read_file(path, NULL, &arena, &g, &err), &err);
    struct wn_train_opts o = { .batch = m->batch, .no_sparse = m->batch % 16 != 0 };
    struct wn_trainer *tr = trainer(&(struct build){ .g = g }, &o);
    size_t n = (size_t)in.shape[0], k = wn_trainer_n_classes(tr);
    float *scores = malloc(n * k * sizeof *scores);
    must(wn_trainer_predict(tr, in.data, n, scores, &err), &err);
    snprintf(line, sizeof line, "%s: scores as the reference", m->file);
    check(line, score_error(scores, out.data, n, k, m->softmax), 1e-4);
    size_t row = wn_trainer_row_elements(tr);
    float *x = malloc(m->batch * row * sizeof *x), loss;
    uint32_t *y = calloc(m->batch, sizeof *y);
    for (unsigned i = 0; i < m->batch; i++)
        memcpy(x + i * row, (const float *)in.data + (i % n) * row, row * sizeof *x);
    if (wn_trainer_n_bn(tr) == 0) {
        struct wn_train_data data = { .n = m->batch, .row = x, .label = y };
        must(wn_trainer_bind_data(tr, &data, &err), &err);
        must(wn_trainer_insert_bn(tr, 1, &err), &err);
        must(wn_trainer_predict(tr, in.data, n, scores, &err), &err);
        snprintf(line, sizeof line, "%s: batch norm put back in, same scores", m->file);
        check(line, score_error(scores, out.data, n, k, m->softmax), 2e-4);
    }
    must(wn_trainer_step(tr, x, y, &loss, &err), &err);
    snprintf(line, sizeof line, "%s: a training step", m->file);
    check_true(line, isfinite(loss));
    free(x);
    free(y);
    free(scores);
    wn_trainer_free(tr);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    wn_npy_done(&in);
    wn_npy_done(&out);
}

/** A published encoder: the reference's scores, and steps that learn its four rows. */
static void encoder(void)
{
    static const char *const name[3] = { "input_ids", "attention_mask", "token_type_ids" };
    static const int64_t pad[3] = { 0, 0, 0 };
    struct winnow_err err;
    struct wn_npy in[3] = { 0 }, out = { 0 };
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    const int64_t *id[3];
    bool there = load_npy("bert_tiny_agnews_fp32.out.logits.npy", &out);
    for (int k = 0; k < 3 && there; k++) {
        char path[256];
        snprintf(path, sizeof path, DATA "reference/agnews4.%s.npy", name[k]);
        there = wn_npy_read(path, 1u << 20, &in[k], &err) == WINNOW_OK && in[k].type == WN_NPY_I8;
        id[k] = in[k].data;
    }
    if (!there || wn_onnx_read_file(DATA "models/bert_tiny_agnews_fp32.onnx", NULL, &arena, &g, &err) != WINNOW_OK) {
        left_out("bert_tiny_agnews_fp32.onnx", "not in " DATA);
        return;
    }
    size_t start[5], length = (size_t)in[0].shape[1];
    for (size_t i = 0; i < 5; i++)
        start[i] = i * length;
    uint32_t label[4] = { 3, 1, 0, 2 }, best[4];
    struct wn_train_tokens t = { .n_inputs = 3, .name = name, .id = id, .pad = pad, .start = start };
    struct wn_train_data data = { .n = 4, .label = label, .tokens = &t };
    struct wn_train_opts o = { .batch = 4, .optimizer = WN_OPT_ADAMW };
    struct wn_trainer *tr = trainer(&(struct build){ .g = g }, &o);
    struct wn_train_score score;
    float loss = 0, first = 0;
    double want = 0;
    bool same = true;
    must(wn_trainer_evaluate(tr, &data, &score, best, &err), &err);
    for (size_t r = 0; r < 4; r++) {
        const float *z = (const float *)out.data + r * 4;
        double sum = 0;
        size_t top = 0;
        for (size_t c = 0; c < 4; c++) {
            sum += exp((double)z[c]);
            top = z[c] > z[top] ? c : top;
        }
        want += (log(sum) - (double)z[label[r]]) / 4;
        same &= best[r] == top;
    }
    check("bert_tiny_agnews_fp32.onnx: loss as from the reference's scores", fabs(score.loss - want) / want, 1e-4);
    check_true("bert_tiny_agnews_fp32.onnx: the same classes", same);
    must(wn_trainer_bind_data(tr, &data, &err), &err);
    wn_trainer_set_lr(tr, 1e-3f);
    for (int i = 0; i < 12; i++) {
        must(wn_trainer_step(tr, NULL, NULL, &loss, &err), &err);
        first = i ? first : loss;
    }
    check_true("bert_tiny_agnews_fp32.onnx: twelve steps halve the loss", loss < first / 2);
    wn_trainer_free(tr);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    for (int k = 0; k < 3; k++)
        wn_npy_done(&in[k]);
    wn_npy_done(&out);
}

void test_models(void)
{
    encoder();
    static const struct model models[] = {
        { "resnet20_cifar10_bn_fp32.onnx", "cifar8.npy", "resnet20_cifar10_bn_fp32.out.logits.npy", 16, false },
        { "resnet20_cifar10_fp32.onnx", "cifar8.npy", "resnet20_cifar10_fp32.out.logits.npy", 16, false },
        { "resnet20_cifar10_sparse80_fp32.onnx", "cifar8.npy", "resnet20_cifar10_sparse80_fp32.out.logits.npy", 8,
          false },
        { "mnist_cntk.onnx", "mnist_digit7.npy", "mnist_cntk.out.Plus214_Output_0.npy", 16, false },
        { "squeezenet1.1_fp32.onnx", "golden_retriever_caffe224.npy", "squeezenet1.1_fp32.out.softmaxout_1.npy", 2,
          true },
        { "mobilenetv2_1.0_224_fp32.onnx", "zebra_tf224.npy", "mobilenetv2_1.0_224_fp32.out.probabilities.npy", 2,
          true },
    };
    for (size_t i = 0; i < WN_COUNT(models); i++)
        one(&models[i]);
}
