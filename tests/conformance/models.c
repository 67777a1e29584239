/* models.c: real models from end to end by the reference runs, against the outputs of another engine.
 *
 *     models [FOLDER]      default: ../shared/data (see its MANIFEST.md); without it says so and exits 0
 *
 * Graph optimisation is off on both sides. Float models must agree closely; int8 models within a few quantization
 * steps, as rounding differs. The largest output of every row must be the same one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/half.h"
#include "base/npy.h"
#include "engine/graph/onnx.h"
#include "engine/ops/ops.h"

static const struct {
    const char *model, *input, *output;
    double atol;
} cases[] = {
    { "mnist_cntk", "Input3=mnist_digit7", "Plus214_Output_0", 1e-2 },
    { "resnet20_cifar10_bn_fp32", "input=cifar8", "logits", 1e-3 },
    { "resnet20_cifar10_fp32", "input=cifar8", "logits", 1e-3 },
    { "resnet20_cifar10_sparse80_fp32", "input=cifar8", "logits", 1e-3 },
    { "resnet20_cifar10_sparse80_qdq", "input=cifar8", "logits", 0.3 },
    { "squeezenet1.1_fp32", "data_0=golden_retriever_caffe224", "softmaxout_1", 1e-4 },
    { "squeezenet1.1_fp16", "data_0=golden_retriever_caffe224_f16", "softmaxout_1", 1e-2 },
    { "mobilenetv2_1.0_224_qlinear", "input=zebra_tf224", "logits", 0.3 },
    { "mobilenetv2_1.0_224_qdq", "input=zebra_tf224", "logits", 0.3 },
    { "mobilenetv2_1.0_224_fp32", "input=zebra_tf224", "logits", 1e-3 },
    { "bert_tiny_agnews_fp32",
      "input_ids=agnews4.input_ids attention_mask=agnews4.attention_mask token_type_ids=agnews4.token_type_ids",
      "logits", 1e-3 },
    { "bert_tiny_agnews_dynint8",
      "input_ids=agnews4.input_ids attention_mask=agnews4.attention_mask token_type_ids=agnews4.token_type_ids",
      "logits", 0.1 },
};

static enum winnow_dtype dtype_of(enum wn_npy_type t)
{
    return t == WN_NPY_F4 ? WINNOW_F32 : t == WN_NPY_F2 ? WINNOW_F16 : t == WN_NPY_I8 ? WINNOW_I64 : WINNOW_I32;
}

static struct wn_tensor *load(const char *folder, const char *name, struct wn_arena *arena, struct winnow_err *err)
{
    char path[4096];
    struct wn_npy a;
    snprintf(path, sizeof path, "%s/reference/%s.npy", folder, name);
    if (wn_npy_read(path, (size_t)1 << 30, &a, err) != WINNOW_OK)
        return NULL;
    struct wn_tensor *t = wn_arena_calloc(arena, 1, sizeof *t);
    t->dtype = dtype_of(a.type);
    t->rank = a.rank;
    memcpy(t->dim, a.shape, a.rank * sizeof t->dim[0]);
    t->bytes = a.bytes;
    t->data = wn_arena_memdup(arena, a.data, a.bytes);
    free(a.data);
    return t;
}

/* "name=file name=file": every graph input of that name gets the file. */
static enum winnow_status set_inputs(const struct wn_graph *g, const char *list, const char *folder,
                                     const struct wn_tensor **value, struct wn_arena *arena, struct winnow_err *err)
{
    char *copy = wn_arena_strndup(arena, list, strlen(list)), *save;
    for (char *item = strtok_r(copy, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *file = strchr(item, '=');
        *file++ = 0;
        for (size_t i = 0; i < g->inputs.n; i++)
            if (!strcmp(g->values.at[g->inputs.at[i]].name, item) &&
                !(value[g->inputs.at[i]] = load(folder, file, arena, err)))
                return err->status;
    }
    for (size_t i = 0; i < g->inputs.n; i++)
        if (!value[g->inputs.at[i]])
            return wn_fail(err, WINNOW_E_NOT_FOUND, "no data for input '%s'", g->values.at[g->inputs.at[i]].name);
    return WINNOW_OK;
}

static enum winnow_status run(struct wn_graph *g, const struct wn_tensor **value, struct wn_arena *arena,
                              struct winnow_err *err)
{
    for (size_t v = 0; v < g->values.n; v++)
        value[v] = g->values.at[v].constant ? g->values.at[v].constant : value[v];
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
        struct wn_tensor *out = wn_arena_calloc(arena, node->n_out + 1, sizeof *out);
        struct wn_arena tmp;
        wn_arena_init(&tmp, 0);
        for (unsigned k = 0; k < node->n_in; k++)
            in[k] = node->in[k] == WN_NONE ? NULL : value[node->in[k]];
        enum winnow_status status = wn_ops_run_node(node, in, out, arena, &tmp, err);
        wn_arena_done(&tmp);
        WN_TRY(status);
        for (unsigned k = 0; k < node->n_out; k++)
            if (node->out[k] != WN_NONE)
                value[node->out[k]] = &out[k];
    }
    return WINNOW_OK;
}

static float at(const struct wn_tensor *t, int64_t i)
{
    return t->dtype == WINNOW_F16 ? wn_f16_to_f32(((const uint16_t *)t->data)[i]) : ((const float *)t->data)[i];
}

static enum winnow_status compare(const struct wn_tensor *got, const struct wn_tensor *want, double atol, double *worst,
                                  struct winnow_err *err)
{
    int64_t n = wn_tensor_count(got), cols = WN_MAX(want->dim[1], 1), top_got = 0, top_want = 0;
    *worst = 0;
    if (n != wn_tensor_count(want) || got->dtype != want->dtype)
        return wn_fail(err, WINNOW_E_INTERNAL, "%lld elements, must be %lld", (long long)n,
                       (long long)wn_tensor_count(want));
    for (int64_t i = 0; i < n; i++) {
        if (i % cols == 0)
            top_got = top_want = i;
        top_got = at(got, i) > at(got, top_got) ? i : top_got;
        top_want = at(want, i) > at(want, top_want) ? i : top_want;
        double d = fabs((double)at(got, i) - (double)at(want, i));
        *worst = d > *worst || d != d ? d : *worst;
        if ((i + 1) % cols == 0 && top_got != top_want)
            return wn_fail(err, WINNOW_E_INTERNAL, "row %lld: class %lld, must be %lld", (long long)(i / cols),
                           (long long)(top_got % cols), (long long)(top_want % cols));
    }
    return *worst <= atol ? WINNOW_OK : wn_fail(err, WINNOW_E_INTERNAL, "differs by %g, at most %g", *worst, atol);
}

static enum winnow_status test(const char *folder, size_t i, struct wn_arena *arena, struct wn_graph *g, double *worst,
                               struct winnow_err *err)
{
    const struct wn_tensor **value = wn_arena_calloc(arena, g->values.n + 1, sizeof *value);
    char name[256];
    WN_TRY(wn_ops_resolve(g, err));
    WN_TRY(wn_ops_infer_graph(g, err));
    WN_TRY(set_inputs(g, cases[i].input, folder, value, arena, err));
    WN_TRY(run(g, value, arena, err));
    snprintf(name, sizeof name, "%s.out.%s", cases[i].model, cases[i].output);
    const struct wn_tensor *want = load(folder, name, arena, err);
    if (!want)
        return err->status;
    for (size_t o = 0; o < g->outputs.n; o++)
        if (!strcmp(g->values.at[g->outputs.at[o]].name, cases[i].output))
            return compare(value[g->outputs.at[o]], want, cases[i].atol, worst, err);
    return wn_fail(err, WINNOW_E_NOT_FOUND, "no output '%s'", cases[i].output);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "../shared/data";
    unsigned passed = 0, failed = 0, absent = 0;
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        char path[4096];
        struct wn_arena arena;
        struct wn_graph g;
        struct winnow_err err = { 0 };
        double worst = 0;
        snprintf(path, sizeof path, "%s/models/%s.onnx", folder, cases[i].model);
        if (access(path, R_OK)) {
            printf("left out: %s is not there\n", path);
            absent++;
            continue;
        }
        wn_arena_init(&arena, 0);
        uint64_t start = wn_now_ns();
        enum winnow_status status = wn_onnx_read_file(path, NULL, &arena, &g, &err);
        if (status == WINNOW_OK) {
            status = test(folder, i, &arena, &g, &worst, &err);
            wn_graph_done(&g);
        }
        wn_arena_done(&arena);
        printf("%s %-32s largest difference %.3g, %.1f s %s\n", status == WINNOW_OK ? "passed" : "FAILED",
               cases[i].model, worst, (double)(wn_now_ns() - start) * 1e-9, status == WINNOW_OK ? "" : err.msg);
        *(status == WINNOW_OK ? &passed : &failed) += 1;
    }
    printf("models: %u passed, %u failed, %u left out\n", passed, failed, absent);
    return failed != 0;
}
