/* make_cnn.c: writes a small residual network with batch norm and random weights (He), for tests that train one.
 *
 *     make_cnn OUT.onnx CHANNELS SIDE CLASSES [SEED [bn|nobn|softmax]] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/onnx.h"

static uint64_t state;

/* Source: xorshift64* (Vigna 2016). */
static double uniform(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (double)((state * 0x2545f4914f6cdd1dULL) >> 11) * 0x1p-53;
}

static float normal(double sd)
{
    return (float)(sd * sqrt(-2 * log(uniform() + 1e-12)) * cos(6.283185307179586 * uniform()));
}

static struct wn_arena arena;
static struct wn_graph g;
static bool with_bn = true;

static void *must(void *p)
{
    if (!p) {
        fputs("make_cnn: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static wn_vid constant(const char *layer, const char *what, unsigned rank, const int64_t *dim, double sd, float value)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    wn_vid v = wn_graph_add_const(&g, name, WINNOW_F32, rank, dim, NULL);
    if (v == WN_NONE)
        must(NULL);
    float *w = g.values.at[v].constant->data;
    for (int64_t i = 0; i < wn_tensor_count(g.values.at[v].constant); i++)
        w[i] = sd > 0 ? normal(sd) : value;
    return v;
}

static wn_vid value(const char *name)
{
    wn_vid v = wn_graph_add_value(&g, name, WINNOW_F32, -1, NULL);
    if (v == WN_NONE)
        must(NULL);
    return v;
}

static wn_vid node(const char *op, const char *name, const wn_vid *in, unsigned n_in)
{
    wn_vid out = value(name);
    struct wn_node *n = must(wn_graph_add_node(&g, "", op, name, in, n_in, &out, 1));
    n->opset = 13;
    return out;
}

static wn_vid conv(wn_vid x, const char *layer, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    int64_t dim[4] = { out, in, k, k }, pads[4] = { k / 2, k / 2, k / 2, k / 2 }, strides[2] = { stride, stride };
    wn_vid ins[3] = { x, constant(layer, "weight", 4, dim, sqrt(2.0 / (double)(in * k * k)), 0) };
    if (!with_bn)
        ins[2] = constant(layer, "bias", 1, &out, 0, 0);
    wn_vid y = node("Conv", layer, ins, with_bn ? 2 : 3);
    struct wn_node *n = &g.nodes.at[g.nodes.n - 1];
    if (!wn_node_set_ints(&g, n, "pads", pads, 4) || !wn_node_set_ints(&g, n, "strides", strides, 2) ||
        !wn_node_set_ints(&g, n, "kernel_shape", (int64_t[]){ k, k }, 2))
        must(NULL);
    return y;
}

static wn_vid bn(wn_vid x, const char *layer, int64_t c)
{
    if (!with_bn)
        return x;
    wn_vid ins[5] = { x, constant(layer, "weight", 1, &c, 0, 1), constant(layer, "bias", 1, &c, 0, 0),
                      constant(layer, "running_mean", 1, &c, 0, 0), constant(layer, "running_var", 1, &c, 0, 1) };
    return node("BatchNormalization", layer, ins, 5);
}

static wn_vid relu(wn_vid x, const char *name)
{
    return node("Relu", name, &x, 1);
}

static wn_vid block(wn_vid x, const char *name, int64_t in, int64_t out, int64_t stride)
{
    char n[6][48];
    static const char *const parts[6] = { "conv1", "bn1", "conv2", "bn2", "down", "downbn" };
    for (unsigned i = 0; i < 6; i++)
        snprintf(n[i], sizeof n[i], "%s.%s", name, parts[i]);
    wn_vid y = bn(conv(x, n[0], in, out, 3, stride), n[1], out);
    char act[48];
    snprintf(act, sizeof act, "%s.relu1", name);
    y = bn(conv(relu(y, act), n[2], out, out, 3, 1), n[3], out);
    wn_vid skip = in == out && stride == 1 ? x : bn(conv(x, n[4], in, out, 1, stride), n[5], out);
    snprintf(act, sizeof act, "%s.add", name);
    wn_vid sum = node("Add", act, (wn_vid[]){ y, skip }, 2);
    snprintf(act, sizeof act, "%s.relu2", name);
    return relu(sum, act);
}

int main(int argc, char **argv)
{
    struct winnow_err err;
    if (argc < 5) {
        fputs("usage: make_cnn OUT.onnx CHANNELS SIDE CLASSES [SEED [bn|nobn|softmax [beside]]]\n", stderr);
        return 2;
    }
    int64_t c = atoi(argv[2]), side = atoi(argv[3]), classes = atoi(argv[4]);
    state = (argc > 5 ? strtoull(argv[5], NULL, 10) : 1) * 0x9e3779b97f4a7c15ULL + 1;
    const char *kind = argc > 6 ? argv[6] : "bn";
    with_bn = strcmp(kind, "nobn") != 0;
    wn_arena_init(&arena, 0);
    wn_graph_init(&g, &arena);
    g.ir_version = 8;
    g.name = "small";
    g.producer = "winnow tests";
    if (!wn_vec_push(&g.opsets, (struct wn_opset){ "", 13 }))
        must(NULL);
    wn_vid x = wn_graph_add_value(&g, "input", WINNOW_F32, 4, (int64_t[]){ -1, c, side, side });
    if (x == WN_NONE || !wn_vec_push(&g.inputs, x))
        must(NULL);
    wn_vid y = relu(bn(conv(x, "conv1", c, 16, 3, 1), "bn1", 16), "relu1");
    y = block(y, "layer1.0", 16, 16, 1);
    y = block(y, "layer2.0", 16, 32, 2);
    y = node("GlobalAveragePool", "pool", &y, 1);
    y = node("Flatten", "flatten", &y, 1);
    wn_vid gemm[3] = { y, constant("fc", "weight", 2, (int64_t[]){ classes, 32 }, sqrt(1.0 / 32), 0),
                       constant("fc", "bias", 1, &classes, 0, 0) };
    y = node("Gemm", "logits", gemm, 3);
    if (!wn_node_set_int(&g, &g.nodes.at[g.nodes.n - 1], "transB", 1))
        must(NULL);
    if (strcmp(kind, "softmax") == 0)
        y = node("Softmax", "probabilities", &y, 1);
    g.values.at[y].type = (struct wn_type){ WINNOW_F32, 2, { -1, classes } };
    if (!wn_vec_push(&g.outputs, y))
        must(NULL);
    if (wn_onnx_write_file(&g, argv[1], argc > 7, &err) != WINNOW_OK) {
        fprintf(stderr, "make_cnn: %s\n", err.msg);
        return 1;
    }
    wn_graph_done(&g);
    wn_arena_done(&arena);
    return 0;
}
