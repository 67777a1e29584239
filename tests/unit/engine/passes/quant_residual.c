/* What stands behind an int8 linear layer that makes bytes becomes part of it: a table (GELU between two quantizations)
 * and the sum with a residual; the same bits on every instruction set and any number of threads. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

/* Weights (K, N), a share of them 0 (in blocks of rows 4 high, where `blocks`), scale 1/128. */
static wn_vid weights(int64_t K, int64_t N, int density, bool blocks)
{
    wn_vid w = net_const(&n, WINNOW_I8, 2, NET_DIMS(K, N), NULL);
    int8_t *p = net_data(&n, w);
    for (int64_t k = 0; k < K; k++)
        for (int64_t o = 0; o < N; o++) {
            bool zero = blocks && o % 4 ? !p[k * N + o - 1] : net_pick(&n, 0, 99) >= density;
            p[k * N + o] = (int8_t)(zero ? 0 : net_pick(&n, 1, 127) * (net_pick(&n, 0, 1) ? 1 : -1));
        }
    return net_op(&n, "DequantizeLinear", NET_IN(w, net_f32(&n, 1 / 128.0f), net_i8(&n, 0)));
}

static wn_vid linear(wn_vid x, int64_t K, int64_t N, int density, bool blocks)
{
    wn_vid y = op2("MatMul", x, weights(K, N, density, blocks));
    return net_pair(&n, op2("Add", y, net_normals(&n, 1, NET_DIMS(N), 0.5f)), 1 / 24.0f, 121);
}

static wn_vid gelu(wn_vid x)
{
    wn_vid e = net_op(&n, "Erf", NET_IN(op2("Div", x, net_f32(&n, 1.41421354f))));
    return net_pair(&n, op2("Mul", op2("Mul", x, op2("Add", e, net_f32(&n, 1))), net_f32(&n, 0.5f)), 1 / 50.0f, 9);
}

/* x -> linear, table -> linear, and x again where `sums`. */
static void block(int64_t length, int density, bool blocks, bool sums, const char *what)
{
    const int64_t K = 36, H = 70;
    n.opset = 17;
    n.g.opsets.at[0].version = 17;
    wn_vid x = net_pair(&n, net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, K)), 1 / 32.0f, 128);
    wn_vid y = linear(gelu(linear(x, K, H, density, blocks)), H, K, density, blocks);
    if (sums) /* either operand first */
        y = net_pair(&n, length % 2 ? op2("Add", x, y) : op2("Add", y, x), 1 / 16.0f, 130);
    net_output(&n, y);
    float *data = malloc((size_t)(length * K) * sizeof *data);
    for (int64_t k = 0; k < length * K; k++)
        data[k] = net_normal(&n);
    const struct winnow_tensor in = net_tensor(WINNOW_F32, 2, NET_DIMS(length, K), data);
    net_check_exact(&n, &in, sums ? 1 / 16.0f : 1 / 24.0f, 20, what); /* biases are rounded to a product's units */
    free(data);
}

Test(quant_residual, tables_and_sums_join_the_layer, .timeout = 120)
{
    static const int64_t lengths[] = { 1, 6, 23, 150 };
    static const int densities[] = { 100, 5, 20 };
    for (unsigned i = 0; i < 24; i++) {
        char what[64];
        const int64_t length = lengths[i % 4];
        const bool sums = i / 4 % 2, blocks = i / 8 == 2;
        snprintf(what, sizeof what, "%d tokens, density %d%s", (int)length, densities[i / 8], sums ? ", a sum" : "");
        net_init(&n, i + 1);
        block(length, densities[i / 8], blocks, sums, what);
        cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(n.g.nodes.n, 4, "%s: %zu operators are left", what, n.g.nodes.n); /* Q, 2 QLinear, DQ */
        net_done(&n);
    }
}
