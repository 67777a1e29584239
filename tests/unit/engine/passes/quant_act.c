/* An activation between an int8 linear layer and the quantization behind it is computed by the layer: the same bits on
 * one and two threads, and what the file's own operators answer, but for values that the last bit of the function
 * rounds to the neighbouring byte. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

/* Weights (K, N), a share of them 0, scale 1/128. */
static wn_vid weights(int64_t K, int64_t N, int density)
{
    wn_vid w = net_const(&n, WINNOW_I8, 2, NET_DIMS(K, N), NULL);
    int8_t *p = net_data(&n, w);
    for (int64_t i = 0; i < K * N; i++)
        p[i] = (int8_t)(net_pick(&n, 0, 99) < density ? net_pick(&n, -127, 127) : 0);
    return net_op(&n, "DequantizeLinear", NET_IN(w, net_f32(&n, 1 / 128.0f), net_i8(&n, 0)));
}

static wn_vid activated(wn_vid x, int kind)
{
    if (kind == 1)
        return net_op(&n, "Tanh", NET_IN(x));
    if (kind == 2)
        return net_op(&n, "Sigmoid", NET_IN(x));
    wn_vid e = net_op(&n, "Erf", NET_IN(op2("Div", x, net_f32(&n, 1.41421354f))));
    return op2("Mul", op2("Mul", x, op2("Add", e, net_f32(&n, 1))), net_f32(&n, 0.5f));
}

static void check(const struct winnow_tensor *x, const char *what)
{
    winnow_model *ref = net_load(&n, true);
    struct net_answer want = net_run(ref, 1, x, 1);
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&n, false);
        struct net_answer got = net_run(model, 1, x, 1), two = net_run(model, 2, x, 1);
        const size_t count = want.t.bytes / sizeof(float);
        size_t other = 0;
        for (size_t i = 0; i < count; i++) { /* steps of 1/32 */
            const float d = fabsf(((const float *)got.t.data)[i] - ((const float *)want.t.data)[i]);
            other += d > 0;
            cr_assert_leq(d, 1 / 32.0f, "%s on %s: value %zu differs by %g", what, wn_isa_name((enum wn_isa)isa), i, d);
        }
        cr_expect_leq(other, 1 + count / 500, "%s on %s: %zu of %zu differ", what, wn_isa_name((enum wn_isa)isa), other,
                      count);
        cr_expect(!memcmp(got.t.data, two.t.data, got.t.bytes), "%s: other bits on two threads", what);
        free(got.t.data);
        free(two.t.data);
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    winnow_model_unref(ref);
}

Test(quant_act, activations_join_the_layer, .timeout = 120)
{
    static const int64_t lengths[] = { 1, 6, 23, 150 };
    static const int densities[] = { 100, 5 };
    for (unsigned i = 0; i < 24; i++) {
        char what[64];
        const int64_t length = lengths[i % 4], K = 36, N = 70;
        const int kind = (int)(i / 4 % 3), density = densities[i / 12];
        snprintf(what, sizeof what, "activation %d, %d tokens, density %d", kind, (int)length, density);
        net_init(&n, i + 1);
        n.opset = 17;
        n.g.opsets.at[0].version = 17;
        wn_vid x = net_pair(&n, net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, K)), 1 / 32.0f, 128);
        wn_vid y = op2("Add", op2("MatMul", x, weights(K, N, density)), net_normals(&n, 1, NET_DIMS(N), 0.5f));
        net_output(&n, net_pair(&n, activated(y, kind), 1 / 32.0f, 9));
        float *data = malloc((size_t)(length * K) * sizeof *data);
        for (int64_t k = 0; k < length * K; k++)
            data[k] = net_normal(&n);
        check((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 2, NET_DIMS(length, K), data) }, what);
        free(data);
        cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(n.g.nodes.n, 3, "%s: %zu operators are left", what,
                     n.g.nodes.n); /* Quantize, QLinear, Dequantize */
        net_done(&n);
    }
}
