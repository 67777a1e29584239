/* x times a gate of x in the spellings of exporters: each becomes Swish or HardSwish; what only looks like it stays. */
#include "engine/passes/passes.h"
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

static wn_vid hard_sigmoid(wn_vid x, float alpha)
{
    wn_vid y = net_op(&n, "HardSigmoid", NET_IN(x));
    wn_node_set_float(&n.g, net_node(&n), "alpha", alpha);
    return y;
}

static wn_vid relu6(wn_vid x, float shift, float top)
{
    return net_op(&n, "Clip", NET_IN(op2("Add", net_f32(&n, shift), x), net_f32(&n, 0), net_f32(&n, top)));
}

enum {
    SILU,
    SILU_TURNED,
    HARD,
    HARD_SIXTH_OF_GATE,
    HARD_SIXTH_OF_ALL,
    HARD_DIVIDED,
    OTHER_ALPHA,
    OTHER_SHIFT,
    OTHER_TOP,
    OTHER_X,
    GATE_READ,
    KINDS
};

static wn_vid make(wn_vid x, int kind)
{
    wn_vid other = net_op(&n, "Abs", NET_IN(x));
    switch (kind) {
    case SILU:
        return op2("Mul", x, net_op(&n, "Sigmoid", NET_IN(x)));
    case SILU_TURNED:
        return op2("Mul", net_op(&n, "Sigmoid", NET_IN(x)), x);
    case HARD:
        return op2("Mul", x, hard_sigmoid(x, 1.0f / 6));
    case HARD_SIXTH_OF_GATE:
        return op2("Mul", x, op2("Div", relu6(x, 3, 6), net_f32(&n, 6)));
    case HARD_SIXTH_OF_ALL:
        return op2("Mul", op2("Mul", relu6(x, 3, 6), x), net_f32(&n, 1.0f / 6));
    case HARD_DIVIDED:
        return op2("Div", op2("Mul", x, relu6(x, 3, 6)), net_f32(&n, 6));
    case OTHER_ALPHA:
        return op2("Mul", x, hard_sigmoid(x, 0.2f));
    case OTHER_SHIFT:
        return op2("Div", op2("Mul", x, relu6(x, 2, 6)), net_f32(&n, 6));
    case OTHER_TOP:
        return op2("Div", op2("Mul", x, relu6(x, 3, 5)), net_f32(&n, 6));
    case OTHER_X:
        return op2("Mul", x, net_op(&n, "Sigmoid", NET_IN(other)));
    default: { /* the gate is needed for itself */
        wn_vid gate = net_op(&n, "Sigmoid", NET_IN(x));
        return op2("Sub", op2("Mul", x, gate), gate);
    }
    }
}

Test(swish, in_every_spelling)
{
    for (int kind = 0; kind < KINDS; kind++) {
        float data[2 * 3 * 16];
        net_init(&n, 5);
        wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, 3, 16));
        net_output(&n, make(x, kind));
        for (size_t i = 0; i < WN_COUNT(data); i++)
            data[i] = 4 * net_normal(&n);
        const struct winnow_tensor in = net_tensor(WINNOW_F32, 3, NET_DIMS(2, 3, 16), data);
        winnow_model *ref = net_load(&n, true), *model = net_load(&n, false);
        struct net_answer want = net_run(ref, 1, &in, 1), got = net_run(model, 1, &in, 1);
        cr_expect_leq(net_difference(&got.t, &want.t), 1e-6, "kind %d", kind);
        free(want.t.data);
        free(got.t.data);
        winnow_model_unref(ref);
        winnow_model_unref(model);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        const char *wanted = kind < HARD ? "Swish" : kind < OTHER_ALPHA ? "HardSwish" : NULL;
        cr_expect_eq(net_count(&n, "", "Swish") + net_count(&n, "", "HardSwish"), wanted ? 1 : 0, "kind %d", kind);
        if (wanted)
            cr_expect(net_count(&n, "", wanted) == 1 && n.g.nodes.n == 1, "kind %d: %zu nodes", kind, n.g.nodes.n);
        net_done(&n);
    }
}
