/* What exporters write for layer normalization, GELU and attention, in their spellings: each becomes one operator, and
 * the fused model answers as the file's own operators do, on every instruction set, on one and on two threads. */
#include "tests/unit/engine/plan/net.h"

static struct net n;

static wn_vid op1(const char *op, wn_vid a)
{
    return net_op(&n, op, NET_IN(a));
}

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

/* a op b, or b op a. */
static wn_vid either(const char *op, wn_vid a, wn_vid b, bool swap)
{
    return swap ? op2(op, b, a) : op2(op, a, b);
}

static void start(unsigned seed, int opset)
{
    net_init(&n, seed);
    n.opset = opset;
    n.g.opsets.at[0].version = opset;
}

static float *noise(size_t count, float scale)
{
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = scale * net_normal(&n);
    return x;
}

static bool have(enum wn_isa isa)
{
    return wn_cpu_has(isa);
}

/* On one thread every sequence alone answers as in the batch, bit for bit. */
static void expect_rows_alone(winnow_model *model, const struct winnow_tensor *x, unsigned n_x,
                              const struct winnow_tensor *all, const char *what)
{
    const size_t row = all->bytes / (size_t)all->shape[0];
    cr_expect(winnow_model_rows_independent(model, NULL), "%s: rows are not independent", what);
    for (int64_t b = 0; b < all->shape[0]; b++) {
        struct winnow_tensor one[2];
        for (unsigned i = 0; i < n_x; i++) {
            one[i] = x[i];
            one[i].bytes /= (size_t)x[i].shape[0];
            one[i].data = (char *)x[i].data + (size_t)b * one[i].bytes;
            one[i].shape[0] = 1;
        }
        struct net_answer got = net_run(model, 1, one, n_x);
        cr_expect(got.t.bytes == row && memcmp(got.t.data, (char *)all->data + (size_t)b * row, row) == 0,
                  "%s: sequence %d alone differs", what, (int)b);
        free(got.t.data);
    }
}

/* The model by its own operators and fused, on these inputs; each sequence alone too, where `rows`. */
static void expect_equal(const struct winnow_tensor *x, unsigned n_x, bool rows, const char *what)
{
    winnow_model *ref = net_load(&n, true);
    struct net_answer want = net_run(ref, 1, x, n_x);
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!have((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&n, false);
        for (unsigned threads = 1; threads <= 2; threads++) {
            struct net_answer got = net_run(model, threads, x, n_x);
            double d = net_difference(&got.t, &want.t);
            cr_expect_leq(d, 1e-5, "%s on %s, %u threads: difference %g", what, wn_isa_name((enum wn_isa)isa), threads,
                          d);
            if (threads == 1 && rows)
                expect_rows_alone(model, x, n_x, &got.t, what);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    winnow_model_unref(ref);
}

static void expect_same(const struct winnow_tensor *x, unsigned n_x, const char *what)
{
    expect_equal(x, n_x, true, what);
}

static void expect_fused_alike(const struct winnow_tensor *x, unsigned n_x, const char *what)
{
    expect_equal(x, n_x, false, what);
}

static void optimise(void)
{
    cr_assert_eq(net_check(&n), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_pass_fold(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_pass_shapes(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
}

static void expect_nodes(const char *want, const char *what)
{
    char got[4096];
    optimise();
    cr_expect_str_eq(net_list(&n, got, sizeof got), want, "%s: %s", what, got);
}

/* ---- layer normalization ---- */

enum { POW, MUL, SQUARES };
enum { DIV, RECIPROCAL, ONE_OVER, POWER, KERAS, KERAS_CENTRED, TAILS };

static wn_vid mean(wn_vid x)
{
    if (n.opset >= 18)
        return op2("ReduceMean", x, net_i64s(&n, NET_DIMS(-1), 1));
    wn_vid y = op1("ReduceMean", x);
    net_ints(&n, "axes", NET_DIMS(-1), 1);
    return y;
}

static wn_vid layer_norm(wn_vid x, int64_t k, int square, int tail, bool two_subs, bool gamma, bool beta, bool swap)
{
    wn_vid m = mean(x), d = op2("Sub", x, m), d2 = two_subs ? op2("Sub", x, mean(x)) : d;
    wn_vid sq = square == POW ? op2("Pow", d, net_f32(&n, 2)) : op2("Mul", d, d);
    wn_vid v = either("Add", mean(sq), net_f32(&n, 1e-5f), swap), g = net_normals(&n, 1, &k, 1),
           b = net_normals(&n, 1, &k, 1), y;
    if (tail == POWER) {
        y = either("Mul", d2, op2("Pow", v, net_f32(&n, -0.5f)), swap);
    } else {
        wn_vid std = op1("Sqrt", v);
        if (tail == DIV) {
            y = op2("Div", d2, std);
        } else {
            wn_vid inv = tail == ONE_OVER ? op2("Div", net_f32(&n, 1), std) : op1("Reciprocal", std);
            if (tail == KERAS) {
                wn_vid s = either("Mul", inv, g, swap);
                return either("Add", either("Mul", x, s, swap), op2("Sub", b, either("Mul", m, s, swap)), swap);
            }
            if (tail == KERAS_CENTRED)
                return either("Add", either("Mul", d2, either("Mul", inv, g, swap), swap), b, swap);
            y = either("Mul", d2, inv, swap);
        }
    }
    y = gamma ? either("Mul", y, g, swap) : y;
    return beta ? either("Add", y, b, swap) : y;
}

static wn_vid tokens(int64_t k)
{
    return net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, -1, k));
}

Test(transformer, layer_norm_in_every_spelling)
{
    static const int opsets[] = { 11, 13, 14, 17, 18, 20 };
    unsigned count = 0;
    for (int tail = 0; tail < TAILS; tail++)
        for (unsigned bits = 0; bits < 32; bits++) {
            bool gamma = bits & 4, beta = bits & 8, swap = bits & 16;
            int opset = opsets[count++ % WN_COUNT(opsets)];
            char what[96];
            snprintf(what, sizeof what, "layer norm: tail %d bits %u opset %d", tail, bits, opset);
            start(count, opset);
            wn_vid x = tokens(24);
            net_output(&n, layer_norm(x, 24, bits & 1 ? MUL : POW, tail, bits & 2, gamma, beta, swap));
            if (bits == 31 || bits == 4) { /* 1 and 3 sequences: rows and columns of tokens */
                float *data = noise(3 * 5 * 24, 2);
                for (int64_t b = 1; b <= 3; b += 2)
                    expect_same((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 3, NET_DIMS(b, 5, 24), data) }, 1,
                                what);
                free(data);
            }
            expect_nodes("LayerNormalization", what);
            net_done(&n);
        }
}

Test(transformer, what_only_looks_like_layer_norm_stays)
{
    start(1, 17);
    wn_vid x = tokens(8), d = op2("Sub", x, mean(x)), other = op2("Sub", x, mean(op1("Relu", x)));
    wn_vid s = op1("Sqrt", op2("Add", mean(op2("Mul", d, d)), net_f32(&n, 1e-5f)));
    net_output(&n, op2("Div", other, s)); /* divides another difference */
    optimise();
    cr_expect_eq(net_count(&n, "", "LayerNormalization"), 0);
    net_done(&n);
    start(1, 17);
    x = tokens(8);
    wn_vid m = op1("ReduceMean", x);
    net_ints(&n, "axes", NET_DIMS(1), 1); /* over tokens */
    d = op2("Sub", x, m);
    wn_vid v = op1("ReduceMean", op2("Mul", d, d));
    net_ints(&n, "axes", NET_DIMS(1), 1);
    net_output(&n, op2("Div", d, op1("Sqrt", op2("Add", v, net_f32(&n, 1e-5f)))));
    optimise();
    cr_expect_eq(net_count(&n, "", "LayerNormalization"), 0);
    net_done(&n);
}

/* ---- GELU ---- */

enum { ERF, TANH_POW, TANH_CUBE, TANH_FACTORED, KINDS };

static wn_vid gelu(wn_vid x, int kind, int order, bool div, bool swap)
{
    wn_vid half = div ? net_f32(&n, 2) : net_f32(&n, 0.5f), s;
    const char *by = div ? "Div" : "Mul";
    if (kind == ERF) {
        s = div ? op2("Div", x, net_f32(&n, 1.41421354f)) : either("Mul", x, net_f32(&n, 0.70710677f), swap);
        s = op1("Erf", s);
    } else {
        wn_vid root = net_f32(&n, 0.7978846f), c = net_f32(&n, 0.044715f), u;
        if (kind == TANH_FACTORED) {
            wn_vid p = either("Add", either("Mul", either("Mul", c, x, swap), x, swap), net_f32(&n, 1), swap);
            u = either("Mul", either("Mul", x, root, swap), p, swap);
        } else {
            wn_vid cube = kind == TANH_POW ? op2("Pow", x, net_f32(&n, 3)) : op2("Mul", op2("Mul", x, x), x);
            u = either("Mul", either("Add", x, either("Mul", cube, c, swap), swap), root, swap);
        }
        s = op1("Tanh", u);
    }
    s = either("Add", s, net_f32(&n, 1), swap);
    if (order == 0)
        return op2(by, either("Mul", x, s, swap), half);
    if (order == 1)
        return either("Mul", x, op2(by, s, half), swap);
    return either("Mul", op2(by, x, half), s, swap);
}

Test(transformer, gelu_in_every_spelling)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int order = 0; order < 3; order++)
            for (unsigned bits = 0; bits < 4; bits++) {
                char what[96];
                snprintf(what, sizeof what, "gelu: kind %d order %d bits %u", kind, order, bits);
                start(7, 17);
                net_output(&n, gelu(tokens(40), kind, order, bits & 1, bits & 2));
                float *data = noise(40 * 6, 3);
                expect_same((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 3, NET_DIMS(1, 6, 40), data) }, 1, what);
                free(data);
                optimise();
                const struct wn_node *node = net_find(&n, "", "Gelu");
                cr_expect(node && n.g.nodes.n == 1, "%s: not fused", what);
                if (node)
                    cr_expect(wn_node_str_is(node, "approximate", "none", kind == ERF ? "none" : "tanh"), "%s", what);
                net_done(&n);
            }
}

Test(transformer, bias_gelu_and_residual_go_into_linear_layers)
{
    for (int64_t length = 1; length <= 40; length += 13) {
        start(3, 17);
        wn_vid x = tokens(24), y = op2("MatMul", x, net_normals(&n, 2, NET_DIMS(24, 40), 0.2f));
        y = gelu(op2("Add", net_normals(&n, 1, NET_DIMS(40), 0.1f), y), ERF, 0, true, false);
        y = op2("MatMul", y, net_normals(&n, 2, NET_DIMS(40, 24), 0.2f));
        net_output(&n, op2("Add", op2("Add", y, net_normals(&n, 1, NET_DIMS(24), 0.1f)), x));
        float *data = noise((size_t)length * 2 * 24, 1);
        expect_same((struct winnow_tensor[]){ net_tensor(WINNOW_F32, 3, NET_DIMS(2, length, 24), data) }, 1, "mlp");
        free(data);
        expect_nodes("wn.Linear,wn.Linear", "mlp");
        net_done(&n);
    }
}

/* ---- attention ---- */

enum { H = 2, D = 8, K = H * D };
enum { NO_MASK, ADDED, ADDED_INF, EXPANDED, WHERE_FILL, WHERE_KEEP, CAUSAL, GATHERED, MASKS };
enum { ONCE, TWICE, DETOUR, TURNS }; /* how K is transposed */
enum { DIV_SCORES, MUL_SCORES, MUL_Q, MUL_BOTH, NO_SCALE, SCALES };

struct spelling {
    int mask, scale, opset;
    bool shapes; /* reshape by Shape, Gather, Concat; else by constants */
    int turn;
    bool guard; /* Where(IsNaN(weights), 0, weights) */
};

static wn_vid unsqueeze(wn_vid v, int64_t axis)
{
    if (n.opset >= 13)
        return op2("Unsqueeze", v, net_i64s(&n, &axis, 1));
    wn_vid y = op1("Unsqueeze", v);
    net_ints(&n, "axes", &axis, 1);
    return y;
}

static wn_vid extent(wn_vid v, int64_t axis)
{
    wn_vid d = op2("Gather", op1("Shape", v), net_const(&n, WINNOW_I64, 0, NULL, &axis));
    return unsqueeze(d, 0);
}

static wn_vid concat(const wn_vid *in, size_t count)
{
    wn_vid y = net_op(&n, "Concat", in, count);
    net_int(&n, "axis", 0);
    return y;
}

static wn_vid transpose(wn_vid v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    wn_vid y = op1("Transpose", v);
    net_ints(&n, "perm", NET_DIMS(a, b, c, d), 4);
    return y;
}

static wn_vid heads_of(wn_vid v, const struct spelling *s)
{
    if (!s->shapes)
        return op2("Reshape", v, net_i64s(&n, NET_DIMS(0, 0, H, D), 4));
    wn_vid to[] = { extent(v, 0), extent(v, 1), net_i64s(&n, NET_DIMS(H), 1), net_i64s(&n, NET_DIMS(D), 1) };
    return op2("Reshape", v, concat(to, 4));
}

static wn_vid projection(wn_vid x)
{
    wn_vid y = op2("MatMul", x, net_normals(&n, 2, NET_DIMS(K, K), 0.5f));
    return op2("Add", net_normals(&n, 1, NET_DIMS(K), 0.1f), y);
}

/* (B, 1, 1, S) f32, 1 where a token is. */
static wn_vid seen(wn_vid mask)
{
    wn_vid m = op1("Cast", unsqueeze(unsqueeze(mask, 1), 2));
    net_int(&n, "to", WINNOW_F32);
    return m;
}

static wn_vid number(int64_t v)
{
    return net_const(&n, WINNOW_I64, 0, NULL, &v);
}

static wn_vid range_of(wn_vid v, int64_t axis)
{
    wn_vid to = op2("Gather", op1("Shape", v), number(axis));
    return net_op(&n, "Range", NET_IN(number(0), to, number(1)));
}

static wn_vid looked_up(wn_vid mask)
{
    wn_vid b = unsqueeze(unsqueeze(unsqueeze(range_of(mask, 0), 1), 2), 3),
           s = unsqueeze(unsqueeze(unsqueeze(range_of(mask, 1), 0), 0), 0), shape = op1("Shape", op2("Max", b, s));
    wn_vid at[] = { unsqueeze(op2("Expand", b, shape), -1), unsqueeze(op2("Expand", s, shape), -1) };
    wn_vid m = op1("Cast", mask);
    net_int(&n, "to", WINNOW_BOOL);
    wn_vid idx = concat(at, 2);
    net_int(&n, "axis", -1);
    return op2("GatherND", m, idx);
}

/* (B, h, S, d) -> (B, h, d, S) by three axes and back, by computed shapes. */
static wn_vid detour(wn_vid k)
{
    wn_vid in[] = { net_i64s(&n, NET_DIMS(-1), 1), extent(k, 2), extent(k, 3) };
    wn_vid out[] = { extent(k, 0), extent(k, 1), extent(k, 3), extent(k, 2) };
    wn_vid t = op1("Transpose", op2("Reshape", k, concat(in, 3)));
    net_ints(&n, "perm", NET_DIMS(0, 2, 1), 3);
    return op2("Reshape", t, concat(out, 4));
}

static wn_vid masked(wn_vid scores, wn_vid mask, const struct spelling *s)
{
    wn_vid one = net_f32(&n, 1), m;
    switch (s->mask) {
    case ADDED:
        return op2("Add", scores, op2("Mul", op2("Sub", one, seen(mask)), net_f32(&n, -10000)));
    case ADDED_INF: /* finfo.min, mask first */
        return op2("Add", op2("Mul", op2("Sub", one, seen(mask)), net_f32(&n, -3.4028235e38f)), scores);
    case EXPANDED: { /* (B, 1, S, S), as newer exports make it */
        wn_vid to[] = { extent(mask, 0), net_i64s(&n, NET_DIMS(1), 1), extent(mask, 1), extent(mask, 1) };
        m = op2("Sub", one, op2("Expand", seen(mask), concat(to, 4)));
        wn_vid hidden = op1("Cast", m);
        net_int(&n, "to", WINNOW_BOOL);
        return op2("Add", scores, net_op(&n, "Where", NET_IN(hidden, net_f32(&n, -3.4028235e38f), m)));
    }
    case WHERE_FILL:
        m = op2("Equal", unsqueeze(unsqueeze(mask, 1), 2), net_i64s(&n, NET_DIMS(0), 1));
        return net_op(&n, "Where", NET_IN(m, net_f32(&n, -INFINITY), scores));
    case WHERE_KEEP:
        m = op1("Cast", unsqueeze(unsqueeze(mask, 1), 2));
        net_int(&n, "to", WINNOW_BOOL);
        return net_op(&n, "Where", NET_IN(m, scores, net_f32(&n, -10000)));
    case CAUSAL: { /* keys up to the query's own place */
        wn_vid at = range_of(mask, 1);
        m = op2("Less", unsqueeze(at, 1), unsqueeze(at, 0));
        return net_op(&n, "Where", NET_IN(m, net_f32(&n, -INFINITY), scores));
    }
    case GATHERED: /* the mask looked up at every place, and in every query's row, as PyTorch's newest exporter does */
        m = op2("And", looked_up(mask),
                op2("GreaterOrEqual", unsqueeze(unsqueeze(unsqueeze(range_of(mask, 1), 0), 0), 3), number(0)));
        return op2("Add", scores, net_op(&n, "Where", NET_IN(m, net_f32(&n, 0), net_f32(&n, -3.4028235e38f))));
    default:
        return scores;
    }
}

static wn_vid attention(wn_vid x, wn_vid mask, const struct spelling *s)
{
    wn_vid q = transpose(heads_of(projection(x), s), 0, 2, 1, 3), k = heads_of(projection(x), s),
           v = transpose(heads_of(projection(x), s), 0, 2, 1, 3), root = net_f32(&n, 1.6817928f); /* 8^(1/4) */
    if (s->turn == ONCE)
        k = transpose(k, 0, 2, 3, 1);
    else
        k = s->turn == TWICE ? transpose(transpose(k, 0, 2, 1, 3), 0, 1, 3, 2) : detour(transpose(k, 0, 2, 1, 3));
    if (s->scale == MUL_Q)
        q = op2("Mul", q, net_f32(&n, 0.35355338f));
    if (s->scale == MUL_BOTH) {
        q = op2("Div", q, root);
        k = op2("Div", k, root);
    }
    wn_vid scores = op2("MatMul", q, k);
    if (s->scale == DIV_SCORES)
        scores = op2("Div", scores, net_f32(&n, 2.828427f));
    if (s->scale == MUL_SCORES)
        scores = op2("Mul", net_f32(&n, 0.35355338f), scores);
    wn_vid p = op1("Softmax", masked(scores, mask, s));
    net_int(&n, "axis", n.opset < 13 ? 3 : -1);
    if (s->guard)
        p = net_op(&n, "Where", NET_IN(op1("IsNaN", p), net_f32(&n, 0), p));
    wn_vid y = transpose(op2("MatMul", p, v), 0, 2, 1, 3);
    if (!s->shapes)
        return op2("Reshape", y, net_i64s(&n, NET_DIMS(0, 0, K), 3));
    wn_vid to[] = { extent(y, 0), extent(y, 1), net_i64s(&n, NET_DIMS(K), 1) };
    return op2("Reshape", y, concat(to, 3));
}

static void check_attention(const struct spelling *s, bool run)
{
    char what[128];
    snprintf(what, sizeof what, "attention: mask %d scale %d opset %d shapes %d turn %d guard %d", s->mask, s->scale,
             s->opset, s->shapes, s->turn, s->guard);
    start(5, s->opset);
    wn_vid x = tokens(K), mask = net_input(&n, "mask", WINNOW_I64, 2, NET_DIMS(-1, -1));
    n.g.values.at[x].dim_name[0] = n.g.values.at[mask].dim_name[0] = "batch";
    n.g.values.at[x].dim_name[1] = n.g.values.at[mask].dim_name[1] = "sequence";
    wn_vid y = attention(x, mask, s);
    net_output(&n, op2("Add", op2("MatMul", y, net_normals(&n, 2, NET_DIMS(K, K), 0.5f)), x));
    for (int64_t length = 3; run && length <= 35; length += 16) {
        float *data = noise((size_t)(2 * length * K), 1);
        int64_t *keep = malloc((size_t)(2 * length) * sizeof *keep);
        for (int64_t i = 0; i < 2 * length; i++)
            keep[i] = i < length + 2 || i % 3 == 0; /* the second sequence has holes */
        struct winnow_tensor in[] = { net_tensor(WINNOW_F32, 3, NET_DIMS(2, length, K), data),
                                      net_tensor(WINNOW_I64, 2, NET_DIMS(2, length), keep) };
        expect_same(in, 2, what);
        free(data);
        free(keep);
    }
    optimise();
    cr_expect_eq(net_count(&n, "wn", "Attention"), 1, "%s", what);
    cr_expect_eq(net_count(&n, "wn", "Linear"), 4, "%s", what);
    cr_expect(!net_count(&n, "", "MatMul") && !net_count(&n, "", "Softmax") && !net_count(&n, "", "Transpose"), "%s",
              what);
    net_done(&n);
}

Test(transformer, attention_in_every_spelling)
{
    static const int opsets[] = { 11, 13, 14, 17, 18, 20 };
    unsigned count = 0;
    for (int mask = 0; mask < MASKS; mask++)
        for (int scale = 0; scale < SCALES; scale++)
            for (unsigned bits = 0; bits < 6; bits++) {
                struct spelling s = { mask, scale, opsets[count++ % WN_COUNT(opsets)], bits & 1, bits / 2, bits == 4 };
                if (mask == GATHERED)
                    s.opset = WN_MAX(s.opset, 17);
                check_attention(&s, scale == mask % SCALES && bits != 2);
            }
}

Test(transformer, attention_takes_its_transpose_from_under_a_quantization)
{
    for (int guard = 0; guard < 2; guard++) {
        start(5, 17);
        wn_vid x = tokens(K), scale = net_f32(&n, 1 / 64.0f), zp = net_u8(&n, 128);
        struct spelling s = { NO_MASK, DIV_SCORES, 17, false, ONCE, guard };
        wn_vid q = net_op(&n, "QuantizeLinear", NET_IN(attention(x, x, &s), scale, zp));
        net_output(&n, net_op(&n, "DequantizeLinear", NET_IN(q, scale, zp)));
        optimise();
        cr_expect_eq(net_count(&n, "wn", "Attention"), 1, "guard %d", guard);
        cr_expect_eq(net_count(&n, "", "Transpose"), 0, "guard %d", guard);
        net_done(&n);
    }
}

Test(transformer, weights_that_others_read_stay)
{
    start(5, 17);
    wn_vid x = tokens(K);
    struct spelling s = { NO_MASK, DIV_SCORES, 17, false, ONCE, false };
    net_output(&n, attention(x, x, &s));
    for (size_t i = 0; i < n.g.nodes.n; i++)
        if (wn_node_is(&n.g.nodes.at[i], "Softmax"))
            net_output(&n, n.g.nodes.at[i].out[0]);
    optimise();
    cr_expect_eq(net_count(&n, "wn", "Attention"), 0);
    net_done(&n);
}

/* ---- attention in other words ---- */

enum { EINSUM, EINSUM_HEADS_FIRST, MERGED, MERGED_APART_FOR_MASK, TOKENS_FIRST, TWO_MASKS, WORDS };

static wn_vid einsum(const char *equation, wn_vid a, wn_vid b)
{
    wn_vid y = op2("Einsum", a, b);
    cr_assert(wn_node_set_str(&n.g, &n.g.nodes.at[n.g.nodes.n - 1], "equation", equation));
    return y;
}

static wn_vid permuted3(wn_vid v, int64_t a, int64_t b, int64_t c)
{
    wn_vid y = op1("Transpose", v);
    net_ints(&n, "perm", NET_DIMS(a, b, c), 3);
    return y;
}

static wn_vid shaped(wn_vid v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return op2("Reshape", v, net_i64s(&n, NET_DIMS(a, b, c, d), d ? 4 : 3));
}

static wn_vid softmax(wn_vid x)
{
    wn_vid y = op1("Softmax", x);
    net_int(&n, "axis", -1);
    return y;
}

/* x (B, S, K), mask (B, 1, 1, S) to be added. */
static wn_vid attention_in(int words, wn_vid x, wn_vid mask, int64_t B, int64_t S)
{
    wn_vid q = projection(x), k = projection(x), v = projection(x), y, scale = net_f32(&n, 0.35355338f);
    if (words == TOKENS_FIRST) { /* (S, B h, d) */
        wn_vid p[] = { q, k, v };
        for (int i = 0; i < 3; i++)
            p[i] = shaped(permuted3(p[i], 1, 0, 2), S, B * H, D, 0);
        wn_vid s = op2("MatMul", permuted3(op2("Mul", p[0], scale), 1, 0, 2), permuted3(p[1], 1, 2, 0));
        y = permuted3(op2("MatMul", softmax(s), permuted3(p[2], 1, 0, 2)), 1, 0, 2);
        return permuted3(shaped(y, S, B, K, 0), 1, 0, 2);
    }
    q = shaped(q, 0, 0, H, D);
    k = shaped(k, 0, 0, H, D);
    v = shaped(v, 0, 0, H, D);
    if (words == EINSUM) {
        wn_vid p = softmax(op2("Add", op2("Mul", einsum("bqhd,bkhd->bhqk", q, k), scale), mask));
        return shaped(einsum("bhqk,bkhd->bqhd", p, v), 0, 0, K, 0);
    }
    q = transpose(q, 0, 2, 1, 3);
    k = transpose(k, 0, 2, 1, 3);
    v = transpose(v, 0, 2, 1, 3);
    if (words == EINSUM_HEADS_FIRST) {
        wn_vid p = softmax(op2("Add", op2("Mul", einsum("bhid,bhjd->bhij", q, k), scale), mask));
        return shaped(transpose(einsum("bhij,bhjd->bhid", p, v), 0, 2, 1, 3), 0, 0, K, 0);
    }
    if (words == TWO_MASKS) {
        wn_vid bias = net_normals(&n, 3, NET_DIMS(H, 1, S), 1);
        wn_vid s = op2("Mul", op2("MatMul", q, transpose(k, 0, 1, 3, 2)), scale);
        y = op2("MatMul", softmax(op2("Add", op2("Add", bias, s), mask)), v);
        return shaped(transpose(y, 0, 2, 1, 3), 0, 0, K, 0);
    }
    q = shaped(q, B * H, S, D, 0);
    k = permuted3(shaped(k, B * H, S, D, 0), 0, 2, 1);
    v = shaped(v, B * H, S, D, 0);
    wn_vid s = op2("MatMul", op2("Mul", q, scale), k);
    if (words == MERGED)
        s = op2("Add", s, net_normals(&n, 2, NET_DIMS(S, S), 1));
    else
        s = shaped(op2("Add", shaped(s, B, H, S, S), mask), B * H, S, S, 0);
    y = transpose(shaped(op2("MatMul", softmax(s), v), B, H, S, D), 0, 2, 1, 3);
    return shaped(y, 0, 0, K, 0);
}

Test(transformer, attention_in_other_words)
{
    const int64_t B = 2, S = 19;
    for (int words = 0; words < WORDS; words++) {
        char what[64];
        snprintf(what, sizeof what, "attention in words %d", words);
        start((unsigned)words + 1, 17);
        wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(B, S, K));
        wn_vid mask = net_input(&n, "mask", WINNOW_F32, 4, NET_DIMS(B, 1, 1, S));
        net_output(&n, op2("MatMul", attention_in(words, x, mask, B, S), net_normals(&n, 2, NET_DIMS(K, K), 0.5f)));
        float *data = noise((size_t)(B * S * K), 1), *hide = noise((size_t)(B * S), 1);
        for (int64_t i = 0; i < B * S; i++)
            hide[i] = i % S && hide[i] < -0.5f ? -10000.0f : 0.0f;
        const struct winnow_tensor in[] = { net_tensor(WINNOW_F32, 3, NET_DIMS(B, S, K), data),
                                            net_tensor(WINNOW_F32, 4, NET_DIMS(B, 1, 1, S), hide) };
        expect_fused_alike(in, 2, what);
        optimise();
        cr_assert_eq(wn_pass_heads(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(net_count(&n, "wn", "Attention"), 1, "%s: not fused", what);
        cr_expect(!net_count(&n, "", "MatMul") && !net_count(&n, "", "Softmax") && !net_count(&n, "", "Einsum"), "%s",
                  what);
        free(data);
        free(hide);
        net_done(&n);
    }
}
