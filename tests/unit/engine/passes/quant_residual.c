/* What stands behind an int8 linear layer that makes bytes becomes part of it: a table (GELU between two quantizations)
 * and the sum with a residual; the same bits on every instruction set and any number of threads. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

static wn_vid pair(wn_vid x, float scale, int zp)
{
    wn_vid s = net_f32(&n, scale), z = net_u8(&n, zp), q = net_op(&n, "QuantizeLinear", NET_IN(x, s, z));
    return net_op(&n, "DequantizeLinear", NET_IN(q, s, z));
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
    return pair(op2("Add", y, net_normals(&n, 1, NET_DIMS(N), 0.5f)), 1 / 24.0f, 121);
}

static wn_vid gelu(wn_vid x)
{
    wn_vid e = net_op(&n, "Erf", NET_IN(op2("Div", x, net_f32(&n, 1.41421354f))));
    return pair(op2("Mul", op2("Mul", x, op2("Add", e, net_f32(&n, 1))), net_f32(&n, 0.5f)), 1 / 50.0f, 9);
}

/* A bias is rounded to a product's units, so a few lie a step or two beside what the file's own operators answer in
 * floats. */
static void near(const struct net_answer *got, const struct net_answer *want, float step, const char *what)
{
    const size_t count = want->t.bytes / sizeof(float);
    size_t other = 0;
    for (size_t i = 0; i < count; i++) {
        const float d = fabsf(((const float *)got->t.data)[i] - ((const float *)want->t.data)[i]);
        other += d > 0;
        cr_assert_leq(d, 2.001f * step, "%s: value %zu differs by %g", what, i, d);
    }
    cr_expect_leq(other, 1 + count / 20, "%s: %zu of %zu differ from the reference", what, other, count);
}

static void check(const struct winnow_tensor *x, float step, const char *what)
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
                near(&got, &literal, step, what);
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

/* x -> linear, table -> linear, and x again where `sums`. */
static void block(int64_t length, int density, bool blocks, bool sums, const char *what)
{
    const int64_t K = 36, H = 70;
    n.opset = 17;
    n.g.opsets.at[0].version = 17;
    wn_vid x = pair(net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, K)), 1 / 32.0f, 128);
    wn_vid y = linear(gelu(linear(x, K, H, density, blocks)), H, K, density, blocks);
    if (sums) /* either operand first */
        y = pair(length % 2 ? op2("Add", x, y) : op2("Add", y, x), 1 / 16.0f, 130);
    net_output(&n, y);
    float *data = malloc((size_t)(length * K) * sizeof *data);
    for (int64_t k = 0; k < length * K; k++)
        data[k] = net_normal(&n);
    check((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 2, NET_DIMS(length, K), data) },
          sums ? 1 / 16.0f : 1 / 24.0f, what);
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
