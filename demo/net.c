/* net.c: the demo's base model before it has learned anything: a residual CNN for 28x28 grey pictures and 26 classes,
 * 0.3 M parameters, written as ONNX with batch norm in it.
 *
 *     stem  3x3 /2, 24                         28 -> 14
 *     block 3x3 24, 3x3 24                     14
 *     block 3x3 48 /2, 3x3 48, short-cut 1x1    7
 *     block 3x3 144 /2, 3x3 144, short-cut 1x1  4
 *     mean over the picture, 26 scores
 *
 * Weights: normal, variance 2 / fan-in (He et al., 2015), from a seed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "engine/graph/onnx.h"

#define CLASSES 26

struct maker {
    struct wn_arena arena;
    struct wn_graph g;
    uint64_t state; /* splitmix64 */
    unsigned n;     /* nodes so far */
    bool lost;      /* out of memory somewhere */
};

static double uniform(struct maker *m)
{
    uint64_t z = (m->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static float normal(struct maker *m, double deviation)
{
    double r = sqrt(-2 * log(uniform(m))), a = 2 * M_PI * uniform(m);
    return (float)(deviation * r * cos(a));
}

/* A constant of `rank` extents; deviation > 0 draws it, else every element is `value`. */
static wn_vid constant(struct maker *m, const char *layer, const char *what, unsigned rank, const int64_t *dim,
                       double deviation, float value)
{
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)dim[i];
    float *data = malloc(n * sizeof *data);
    char *name = wn_asprintf("%s.%s", layer, what);
    wn_vid v = WN_NONE;
    if (data && name) {
        for (size_t i = 0; i < n; i++)
            data[i] = deviation > 0 ? normal(m, deviation) : value;
        v = wn_graph_add_const(&m->g, name, WINNOW_F32, rank, dim, data);
    }
    free(data);
    free(name);
    m->lost |= v == WN_NONE;
    return v;
}

static struct wn_node *node(struct maker *m, const char *op, const char *name, const wn_vid *in, unsigned n_in,
                            wn_vid *ret_out)
{
    *ret_out = wn_graph_add_value(&m->g, NULL, WINNOW_F32, -1, NULL);
    char *full = name ? wn_strdup(name) : wn_asprintf("%s_%u", op, m->n);
    struct wn_node *made =
        full && *ret_out != WN_NONE ? wn_graph_add_node(&m->g, "", op, full, in, n_in, ret_out, 1) : NULL;
    free(full);
    m->n++;
    m->lost |= !made;
    return made;
}

static wn_vid conv(struct maker *m, wn_vid x, const char *name, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    const int64_t dim[4] = { out, in, k, k };
    const wn_vid with[2] = { x, constant(m, name, "weight", 4, dim, sqrt(2.0 / (double)(in * k * k)), 0) };
    wn_vid y;
    struct wn_node *made = node(m, "Conv", name, with, 2, &y);
    const int64_t kernel[2] = { k, k }, steps[2] = { stride, stride }, p = k / 2, pads[4] = { p, p, p, p };
    m->lost |= !made || !wn_node_set_ints(&m->g, made, "kernel_shape", kernel, 2) ||
               !wn_node_set_ints(&m->g, made, "strides", steps, 2) || !wn_node_set_ints(&m->g, made, "pads", pads, 4);
    return y;
}

static wn_vid norm(struct maker *m, wn_vid x, const char *name, int64_t channels)
{
    const wn_vid with[5] = { x, constant(m, name, "weight", 1, &channels, 0, 1),
                             constant(m, name, "bias", 1, &channels, 0, 0),
                             constant(m, name, "running_mean", 1, &channels, 0, 0),
                             constant(m, name, "running_var", 1, &channels, 0, 1) };
    wn_vid y;
    node(m, "BatchNormalization", name, with, 5, &y);
    return y;
}

static wn_vid relu(struct maker *m, wn_vid x)
{
    wn_vid y;
    node(m, "Relu", NULL, &x, 1, &y);
    return y;
}

static wn_vid part(struct maker *m, wn_vid x, const char *block, const char *which, int64_t in, int64_t out, int64_t k,
                   int64_t stride)
{
    char c[64], b[64];
    snprintf(c, sizeof c, "%s.conv%s", block, which);
    snprintf(b, sizeof b, "%s.bn%s", block, which);
    return norm(m, conv(m, x, c, in, out, k, stride), b, out);
}

static wn_vid block(struct maker *m, wn_vid x, const char *name, int64_t in, int64_t out, int64_t stride)
{
    wn_vid y = relu(m, part(m, x, name, "1", in, out, 3, stride));
    y = part(m, y, name, "2", out, out, 3, 1);
    wn_vid past = in == out && stride == 1 ? x : part(m, x, name, "_past", in, out, 1, stride);
    const wn_vid both[2] = { y, past };
    wn_vid sum;
    node(m, "Add", NULL, both, 2, &sum);
    return relu(m, sum);
}

static void build(struct maker *m)
{
    const int64_t pixels[4] = { -1, 1, 28, 28 }, scores[2] = { -1, CLASSES }, fc[2] = { CLASSES, 144 };
    wn_vid in = wn_graph_add_value(&m->g, "pixels", WINNOW_F32, 4, pixels);
    m->lost |= in == WN_NONE || !wn_vec_push(&m->g.inputs, in);
    if (m->lost)
        return;
    m->g.values.at[in].dim_name[0] = "N";
    wn_vid x = relu(m, part(m, in, "stem", "", 1, 24, 3, 2));
    x = block(m, x, "block1", 24, 24, 1);
    x = block(m, x, "block2", 24, 48, 2);
    x = block(m, x, "block3", 48, 144, 2);
    wn_vid mean, flat;
    node(m, "GlobalAveragePool", NULL, &x, 1, &mean);
    node(m, "Flatten", NULL, &mean, 1, &flat);
    const wn_vid with[3] = { flat, constant(m, "fc", "weight", 2, fc, sqrt(1.0 / 144), 0),
                             constant(m, "fc", "bias", 1, fc, 0, 0) };
    wn_vid out = wn_graph_add_value(&m->g, "scores", WINNOW_F32, 2, scores);
    struct wn_node *gemm = out == WN_NONE ? NULL : wn_graph_add_node(&m->g, "", "Gemm", "fc", with, 3, &out, 1);
    m->lost |= !gemm || !wn_node_set_int(&m->g, gemm, "transB", 1) || !wn_vec_push(&m->g.outputs, out) ||
               !wn_vec_push(&m->g.opsets, (struct wn_opset){ "", 13 });
    if (!m->lost)
        m->g.values.at[out].dim_name[0] = "N";
}

int main(int argc, char **argv)
{
    struct maker m = { .state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1 };
    struct winnow_err err;
    if (argc < 2) {
        fprintf(stderr, "Usage: net OUT.onnx [SEED]\n");
        return 2;
    }
    wn_arena_init(&m.arena, 0);
    wn_graph_init(&m.g, &m.arena);
    m.g.name = "letters";
    m.g.producer = "winnow demo";
    m.g.ir_version = 8;
    build(&m);
    enum winnow_status status =
        m.lost ? wn_fail(&err, WINNOW_E_NOMEM, "building the graph") : wn_onnx_write_file(&m.g, argv[1], false, &err);
    wn_graph_done(&m.g);
    wn_arena_done(&m.arena);
    if (status != WINNOW_OK)
        fprintf(stderr, "net: %s\n", err.msg);
    return status != WINNOW_OK;
}
