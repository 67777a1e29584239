/* build.c: nets for the checks, made node by node. */
#include "tests/grad/grad.h"

void build_init(struct build *b, int64_t c, int64_t h, int64_t w)
{
    memset(b, 0, sizeof *b);
    wn_arena_init(&b->arena, 0);
    wn_graph_init(&b->g, &b->arena);
    struct wn_opset set = { "", 14 };
    (void)wn_vec_push(&b->g.opsets, set);
    b->g.ir_version = 8;
    b->c = c;
    b->h = h;
    b->w = w;
    int64_t dim[4] = { -1, c, h, w };
    b->at = wn_graph_add_value(&b->g, "x", WINNOW_F32, h ? 4 : 2, dim);
    (void)wn_vec_push(&b->g.inputs, b->at);
}

void build_done(struct build *b)
{
    wn_graph_done(&b->g);
    wn_arena_done(&b->arena);
}

wn_vid build_const(struct build *b, const char *name, unsigned rank, const int64_t *dim, float scale)
{
    wn_vid v = wn_graph_add_const(&b->g, name, WINNOW_F32, rank, dim, NULL);
    float *d = b->g.values.at[v].constant->data;
    for (int64_t i = 0; i < wn_tensor_count(b->g.values.at[v].constant); i++)
        d[i] = scale * rnd();
    return v;
}

wn_vid build_ints(struct build *b, size_t n, const int64_t *v)
{
    int64_t dim = (int64_t)n;
    return wn_graph_add_const(&b->g, NULL, WINNOW_I64, 1, &dim, v);
}

struct wn_node *build_node(struct build *b, const char *type, const wn_vid *more, unsigned n_more)
{
    wn_vid in[16] = { b->at }, out = wn_graph_add_value(&b->g, NULL, WINNOW_F32, -1, NULL);
    char name[64];
    for (unsigned i = 0; i < n_more; i++)
        in[i + 1] = more[i];
    snprintf(name, sizeof name, "/net/%s_%u/%s", type, b->n++, type);
    struct wn_node *n = wn_graph_add_node(&b->g, "", type, name, in, n_more + 1, &out, 1);
    n->opset = 14;
    b->at = out;
    return n;
}

void build_conv(struct build *b, struct conv cv)
{
    char name[64];
    cv.group = cv.group ? cv.group : 1;
    cv.stride = cv.stride ? cv.stride : 1;
    cv.dilation = cv.dilation ? cv.dilation : 1;
    int64_t dim[4] = { cv.o, b->c / cv.group, cv.k, cv.k };
    snprintf(name, sizeof name, "conv%u.weight", b->n);
    wn_vid more[2] = { build_const(b, name, 4, dim, sqrtf(3.0f / (float)(dim[1] * cv.k * cv.k))), WN_NONE };
    snprintf(name, sizeof name, "conv%u.bias", b->n);
    if (cv.bias)
        more[1] = build_const(b, name, 1, dim, 0.3f);
    struct wn_node *n = build_node(b, "Conv", more, cv.bias ? 2 : 1);
    int64_t st[2] = { cv.stride, cv.stride }, pads[4] = { cv.pad, cv.pad, cv.pad, cv.pad };
    int64_t di[2] = { cv.dilation, cv.dilation }, ks[2] = { cv.k, cv.k };
    wn_node_set_ints(&b->g, n, "strides", st, 2);
    wn_node_set_ints(&b->g, n, "pads", pads, 4);
    wn_node_set_ints(&b->g, n, "dilations", di, 2);
    wn_node_set_ints(&b->g, n, "kernel_shape", ks, 2);
    wn_node_set_int(&b->g, n, "group", cv.group);
    int64_t span = (cv.k - 1) * cv.dilation + 1;
    b->c = cv.o;
    b->h = (b->h + 2 * cv.pad - span) / cv.stride + 1;
    b->w = (b->w + 2 * cv.pad - span) / cv.stride + 1;
}

void build_bn(struct build *b)
{
    static const char *const what[4] = { "weight", "bias", "running_mean", "running_var" };
    wn_vid in[4];
    for (unsigned i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "bn%u.%s", b->n, what[i]);
        in[i] = build_const(b, name, 1, &b->c, 0.2f);
        float *d = b->g.values.at[in[i]].constant->data;
        for (int64_t c = 0; c < b->c; c++)
            d[c] += i == 0 || i == 3 ? 1.0f : 0.0f;
    }
    build_node(b, "BatchNormalization", in, 4);
}

void build_relu(struct build *b)
{
    build_node(b, "Relu", NULL, 0);
}

void build_flatten(struct build *b)
{
    build_node(b, "Flatten", NULL, 0);
    b->c *= b->h * b->w;
    b->h = b->w = 0;
}

void build_gap(struct build *b)
{
    build_node(b, "GlobalAveragePool", NULL, 0);
    b->h = b->w = 1;
    build_flatten(b);
}

void build_gemm(struct build *b, int64_t o, bool trans_b, bool bias)
{
    char name[64];
    int64_t dim[2] = { trans_b ? o : b->c, trans_b ? b->c : o };
    snprintf(name, sizeof name, "fc%u.weight", b->n);
    wn_vid more[2] = { build_const(b, name, 2, dim, sqrtf(3.0f / (float)b->c)), WN_NONE };
    snprintf(name, sizeof name, "fc%u.bias", b->n);
    if (bias)
        more[1] = build_const(b, name, 1, &o, 0.3f);
    struct wn_node *n = build_node(b, "Gemm", more, bias ? 2 : 1);
    wn_node_set_int(&b->g, n, "transB", trans_b);
    b->c = o;
}

void build_matmul(struct build *b, int64_t o, bool bias)
{
    int64_t dim[2] = { b->c, o };
    char name[32];
    snprintf(name, sizeof name, "onnx::MatMul_%u", b->n);
    wn_vid w = build_const(b, name, 2, dim, sqrtf(3.0f / (float)b->c));
    build_node(b, "MatMul", &w, 1);
    b->c = o;
    if (bias) {
        snprintf(name, sizeof name, "onnx::Add_%u", b->n);
        wn_vid v = build_const(b, name, 1, &o, 0.3f);
        build_node(b, "Add", &v, 1);
    }
}

void build_add(struct build *b, wn_vid other)
{
    build_node(b, "Add", &other, 1);
}

void build_output(struct build *b)
{
    b->g.values.at[b->at].type.rank = 2;
    b->g.values.at[b->at].type.dim[0] = -1;
    b->g.values.at[b->at].type.dim[1] = b->c;
    (void)wn_vec_push(&b->g.outputs, b->at);
}

static void block(struct build *b, int64_t o, int64_t stride)
{
    wn_vid x = b->at;
    int64_t c = b->c, h = b->h, w = b->w;
    build_conv(b, (struct conv){ .o = o, .k = 3, .stride = stride, .pad = 1 });
    build_bn(b);
    build_relu(b);
    build_conv(b, (struct conv){ .o = o, .k = 3, .pad = 1 });
    build_bn(b);
    wn_vid main_path = b->at;
    if (stride != 1 || o != c) {
        b->at = x;
        b->c = c;
        b->h = h;
        b->w = w;
        build_conv(b, (struct conv){ .o = o, .k = 1, .stride = stride });
        build_bn(b);
        x = b->at;
    }
    b->at = main_path;
    build_add(b, x);
    build_relu(b);
}

void build_small_resnet(struct build *b)
{
    build_init(b, 1, 28, 28);
    build_conv(b, (struct conv){ .o = 24, .k = 3, .stride = 2, .pad = 1 });
    build_bn(b);
    build_relu(b);
    block(b, 24, 1);
    block(b, 48, 2);
    block(b, 144, 2);
    build_gap(b);
    build_gemm(b, 10, true, true);
    build_output(b);
}
