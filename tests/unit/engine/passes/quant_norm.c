/* LayerNormalization between a dequantization and a quantization works on bytes: the same bits on every instruction set
 * and any number of threads, in columns of either form and on few tokens, with gamma and beta quantized or not. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

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
        wn_vid x = net_pair(&n, net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, K)), 1 / 32.0f, 128);
        wn_vid y = net_pair(&n, product(x, K, densities[i / 8]), 1 / 8.0f, 121), gamma = vector(K, 1, bytes);
        y = beta ? net_op(&n, "LayerNormalization", NET_IN(y, gamma, vector(K, 0, bytes)))
                 : net_op(&n, "LayerNormalization", NET_IN(y, gamma));
        net_output(&n, net_pair(&n, y, 1 / 30.0f, 120));
        float *data = malloc((size_t)(length * K) * sizeof *data);
        for (int64_t k = 0; k < length * K; k++)
            data[k] = net_normal(&n);
        const struct winnow_tensor in = net_tensor(WINNOW_F32, 2, NET_DIMS(length, K), data);
        net_check_exact(&n, &in, 1 / 30.0f, 50, what);
        free(data);
        cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(n.g.nodes.n, 4, "%s: %zu operators are left", what, n.g.nodes.n); /* Q, QLinear, QLayerNorm, DQ */
        net_done(&n);
    }
}
