/* LayerNormalization between a dequantization and a quantization works on bytes: the same bits on every instruction set
 * and any number of threads, in columns of either form and on few tokens, with gamma and beta quantized or not. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid pair(wn_vid x, float scale, int zp)
{
    wn_vid s = net_f32(&n, scale), z = net_u8(&n, zp), q = net_op(&n, "QuantizeLinear", NET_IN(x, s, z));
    return net_op(&n, "DequantizeLinear", NET_IN(q, s, z));
}

/* x W, weights (K, K) of scale 1/128 of which a share is not 0. */
static wn_vid product(wn_vid x, int64_t K, int density)
{
    wn_vid w = net_const(&n, WINNOW_I8, 2, NET_DIMS(K, K), NULL);
    for (int64_t i = 0; i < K * K; i++)
        ((int8_t *)net_data(&n, w))[i] = (int8_t)(net_pick(&n, 0, 99) < density ? net_pick(&n, -127, 127) : 0);
    return net_op(&n, "MatMul",
                  NET_IN(x, net_op(&n, "DequantizeLinear", NET_IN(w, net_f32(&n, 1 / 128.0f), net_i8(&n, 0)))));
}

/* gamma or beta [K]; in bytes as quantizers write it that take every constant. */
static wn_vid vector(int64_t K, float shift, bool bytes)
{
    if (!bytes) {
        wn_vid v = net_normals(&n, 1, NET_DIMS(K), 0.2f);
        for (int64_t i = 0; i < K; i++)
            ((float *)net_data(&n, v))[i] += shift;
        return v;
    }
    wn_vid v = net_const(&n, WINNOW_U8, 1, NET_DIMS(K), NULL);
    for (int64_t i = 0; i < K; i++)
        ((uint8_t *)net_data(&n, v))[i] = (uint8_t)net_pick(&n, 90, 200);
    return net_op(&n, "DequantizeLinear", NET_IN(v, net_f32(&n, 1 / 100.0f), net_u8(&n, shift > 0 ? 30 : 140)));
}

/* What a float rounds to another step may come out a step or so apart. */
static void near(const struct net_answer *got, const struct net_answer *want, const char *what)
{
    const size_t count = want->t.bytes / sizeof(float);
    size_t other = 0;
    for (size_t i = 0; i < count; i++) {
        const float d = fabsf(((const float *)got->t.data)[i] - ((const float *)want->t.data)[i]);
        other += d > 0;
        cr_assert_leq(d, 2.001f / 30, "%s: value %zu differs by %g", what, i, d);
    }
    cr_expect_leq(other, 1 + count / 50, "%s: %zu of %zu differ from the reference", what, other, count);
}

static void check(const struct winnow_tensor *x, const char *what)
{
    winnow_model *ref = net_load(&n, true);
    struct net_answer literal = net_run(ref, 1, x, 1), want = { 0 };
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&n, false);
        for (unsigned threads = 1; threads < 4; threads++) {
            struct net_answer got = net_run(model, threads, x, 1);
            if (!want.t.data) {
                near(&got, &literal, what);
                want = got;
                continue;
            }
            cr_expect(!memcmp(got.t.data, want.t.data, want.t.bytes), "%s on %s, %u threads: other bytes", what,
                      wn_isa_name((enum wn_isa)isa), threads);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(literal.t.data);
    free(want.t.data);
    winnow_model_unref(ref);
}

Test(quant_norm, bytes_to_bytes, .timeout = 120)
{
    static const int64_t lengths[] = { 1, 6, 23, 150 };
    static const int densities[] = { 100, 5 };
    for (unsigned i = 0; i < 16; i++) {
        char what[64];
        const int64_t length = lengths[i % 4], K = i % 3 ? 70 : 36;
        const bool bytes = i / 4 % 2, beta = i % 5 != 0;
        snprintf(what, sizeof what, "%d tokens, density %d", (int)length, densities[i / 8]);
        net_init(&n, i + 1);
        n.opset = 17;
        n.g.opsets.at[0].version = 17;
        wn_vid x = pair(net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, K)), 1 / 32.0f, 128);
        wn_vid y = pair(product(x, K, densities[i / 8]), 1 / 8.0f, 121), gamma = vector(K, 1, bytes);
        y = beta ? net_op(&n, "LayerNormalization", NET_IN(y, gamma, vector(K, 0, bytes)))
                 : net_op(&n, "LayerNormalization", NET_IN(y, gamma));
        net_output(&n, pair(y, 1 / 30.0f, 120));
        float *data = malloc((size_t)(length * K) * sizeof *data);
        for (int64_t k = 0; k < length * K; k++)
            data[k] = net_normal(&n);
        check((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 2, NET_DIMS(length, K), data) }, what);
        free(data);
        cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(n.g.nodes.n, 4, "%s: %zu operators are left", what, n.g.nodes.n); /* Q, QLinear, QLayerNorm, DQ */
        net_done(&n);
    }
}
