/* Attention whose products are quantized, in the spellings of its exporters, random shapes and zero points: it becomes
 * one operator, which answers the same bits on every instruction set, on one and on two threads, and what the file's
 * own operators answer, but for weights that the last bit of an exponential rounds to the neighbouring byte. */
#include "tests/unit/engine/plan/net.h"

enum { NO_MASK, PER_KEY, PER_QUERY, TWO_MASKS, WHERE, WHERE_AND_MASK, MASKS };
enum { SCALE_SCORES, SCALE_QUERIES, NO_SCALE, SCALES };

struct setting {
    int64_t batch, heads, d, dv, n_q, n_k;
    int mask, scale;
    bool i8;             /* activations */
    bool operators;      /* QLinearMatMul; else MatMul between Q and DQ */
    bool scores;         /* are quantized; with operators always */
    bool y;              /* is quantized; with operators always */
    bool transposed_all; /* K comes as (B, h, S, d) and is turned once more */
};

static struct net n;

static wn_vid op1(const char *op, wn_vid a)
{
    return net_op(&n, op, NET_IN(a));
}

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

static wn_vid transpose(wn_vid v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    wn_vid y = op1("Transpose", v);
    net_ints(&n, "perm", NET_DIMS(a, b, c, d), 4);
    return y;
}

/* A quantized value, its scale and zero point. */
struct quantized {
    wn_vid v, scale, zp;
};

static struct quantized quantize(wn_vid x, float scale, int zp, bool i8)
{
    struct quantized q = { .scale = net_f32(&n, scale), .zp = i8 ? net_i8(&n, zp - 128) : net_u8(&n, zp) };
    q.v = net_op(&n, "QuantizeLinear", NET_IN(x, q.scale, q.zp));
    return q;
}

static wn_vid dequantize(struct quantized q)
{
    return net_op(&n, "DequantizeLinear", NET_IN(q.v, q.scale, q.zp));
}

static wn_vid heads_of(wn_vid x, int64_t heads, int64_t d)
{
    return op2("Reshape", x, net_i64s(&n, NET_DIMS(0, 0, heads, d), 4));
}

/* a b, quantized or f32. */
static wn_vid product(const struct setting *s, struct quantized a, struct quantized b, bool quantized, float scale,
                      int zp)
{
    if (!s->operators) {
        wn_vid y = op2("MatMul", dequantize(a), dequantize(b));
        return quantized ? dequantize(quantize(y, scale, zp, s->i8)) : y;
    }
    struct quantized y = { .scale = net_f32(&n, scale), .zp = s->i8 ? net_i8(&n, zp - 128) : net_u8(&n, zp) };
    y.v = net_op(&n, "QLinearMatMul", NET_IN(a.v, a.scale, a.zp, b.v, b.scale, b.zp, y.scale, y.zp));
    return dequantize(y);
}

static wn_vid hide(const struct setting *s, wn_vid scores, wn_vid mask)
{
    switch (s->mask) {
    case PER_KEY:
    case PER_QUERY:
        return op2("Add", scores, mask);
    case TWO_MASKS:
        return op2("Add", net_normals(&n, 4, NET_DIMS(1, s->heads, 1, s->n_k), 1), op2("Add", scores, mask));
    case WHERE:
        return net_op(&n, "Where", NET_IN(op2("Less", mask, net_f32(&n, 0)), net_f32(&n, -50), scores));
    case WHERE_AND_MASK:
        scores = op2("Add", scores, net_normals(&n, 3, NET_DIMS(s->heads, 1, s->n_k), 1));
        return net_op(&n, "Where", NET_IN(op2("Less", mask, net_f32(&n, 0)), net_f32(&n, -INFINITY), scores));
    default:
        return scores;
    }
}

static int zero(void)
{
    static const int usual[] = { 0, 128, 255, 117 };
    return usual[net_pick(&n, 0, 3)];
}

static void build(const struct setting *s)
{
    wn_vid x[3], in[4];
    const int64_t rows[] = { s->n_q, s->n_k, s->n_k }, width[] = { s->d, s->d, s->dv };
    static const char *const names[] = { "q", "k", "v" };
    for (int i = 0; i < 3; i++) {
        in[i] = net_input(&n, names[i], WINNOW_F32, 3, NET_DIMS(-1, rows[i], s->heads * width[i]));
        x[i] = heads_of(in[i], s->heads, width[i]);
    }
    in[3] = net_input(&n, "mask", WINNOW_F32, 4, NET_DIMS(-1, 1, s->mask == PER_KEY ? 1 : s->n_q, s->n_k));
    if (s->scale == SCALE_QUERIES)
        x[0] = op2("Div", x[0], net_f32(&n, sqrtf((float)s->d)));
    struct quantized q = quantize(transpose(x[0], 0, 2, 1, 3), 1 / 32.0f, zero(), s->i8);
    struct quantized k =
        quantize(s->transposed_all ? transpose(transpose(x[1], 0, 2, 1, 3), 0, 1, 3, 2) : transpose(x[1], 0, 2, 3, 1),
                 1 / 64.0f, zero(), s->i8);
    struct quantized v = quantize(transpose(x[2], 0, 2, 1, 3), 1 / 64.0f, zero(), s->i8);
    wn_vid scores = product(s, q, k, s->scores || s->operators, 1 / 8.0f, zero());
    if (s->scale == SCALE_SCORES)
        scores = op2("Mul", scores, net_f32(&n, 1 / sqrtf((float)s->d)));
    wn_vid p = op1("Softmax", hide(s, scores, in[3]));
    net_int(&n, "axis", -1);
    wn_vid y = product(s, quantize(p, 1 / 256.0f, net_pick(&n, 0, 3) ? s->i8 ? 128 : 0 : 3, s->i8), v, s->operators,
                       1 / 32.0f, zero());
    y = op2("Reshape", transpose(y, 0, 2, 1, 3), net_i64s(&n, NET_DIMS(0, 0, s->heads * s->dv), 3));
    net_output(&n, s->y && !s->operators ? dequantize(quantize(y, 1 / 32.0f, zero(), s->i8)) : y);
}

static float *noise(int64_t count, float scale)
{
    float *x = malloc((size_t)(count + 1) * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = scale * net_normal(&n);
    return x;
}

/* Shares of values that differ at all. */
static double unequal(const struct winnow_tensor *a, const struct winnow_tensor *b)
{
    size_t count = a->bytes / sizeof(float), other = 0;
    for (size_t i = 0; i < count; i++)
        other += fabsf(((const float *)a->data)[i] - ((const float *)b->data)[i]) > 1e-5f;
    return (double)other / (double)count;
}

static void check(const struct setting *s, const struct winnow_tensor *x, const char *what)
{
    winnow_model *ref = net_load(&n, true);
    struct net_answer want = net_run(ref, 1, x, 4), first = { 0 };
    for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&n, false);
        for (unsigned threads = 1; threads <= 2; threads++) {
            struct net_answer got = net_run(model, threads, x, 4);
            if (!first.t.data) {
                first = got;
                cr_expect_leq(unequal(&got.t, &want.t), 0.02, "%s: %g of the values differ", what,
                              unequal(&got.t, &want.t));
                cr_expect_leq(net_difference(&got.t, &want.t), 0.05, "%s: differs by %g", what,
                              net_difference(&got.t, &want.t));
                continue;
            }
            cr_expect(got.t.bytes == first.t.bytes && !memcmp(got.t.data, first.t.data, got.t.bytes),
                      "%s on %s, %u threads: other bits than the reference", what, wn_isa_name((enum wn_isa)isa),
                      threads);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    free(first.t.data);
    winnow_model_unref(ref);
}

static void try(unsigned seed)
{
    char what[256];
    net_init(&n, seed);
    n.opset = 17;
    n.g.opsets.at[0].version = 17;
    const struct setting s = { .batch = net_pick(&n, 1, 3),
                               .heads = net_pick(&n, 1, 3),
                               .d = net_pick(&n, 0, 1) ? 4 * net_pick(&n, 1, 8) : net_pick(&n, 1, 30),
                               .dv = net_pick(&n, 0, 1) ? 4 * net_pick(&n, 1, 8) : net_pick(&n, 1, 30),
                               .n_q = net_pick(&n, 1, 40),
                               .n_k = net_pick(&n, 1, 40),
                               .mask = (int)net_pick(&n, 0, MASKS - 1),
                               .scale = (int)net_pick(&n, 0, SCALES - 1),
                               .i8 = net_pick(&n, 0, 1),
                               .operators = net_pick(&n, 0, 2) == 0,
                               .scores = net_pick(&n, 0, 1),
                               .y = net_pick(&n, 0, 1),
                               .transposed_all = net_pick(&n, 0, 1) };
    snprintf(what, sizeof what,
             "seed %u: batch %d, %d heads of %d and %d, %d queries, %d keys, mask %d scale %d%s%s%s%s", seed,
             (int)s.batch, (int)s.heads, (int)s.d, (int)s.dv, (int)s.n_q, (int)s.n_k, s.mask, s.scale,
             s.i8 ? " i8" : "", s.operators ? " operators" : "", s.scores ? " scores" : "", s.y ? " y" : "");
    build(&s);
    const int64_t mask_rows = s.mask == PER_KEY ? 1 : s.n_q;
    float *q = noise(s.batch * s.n_q * s.heads * s.d, 2), *k = noise(s.batch * s.n_k * s.heads * s.d, 1),
          *v = noise(s.batch * s.n_k * s.heads * s.dv, 1), *mask = noise(s.batch * mask_rows * s.n_k, 1);
    for (int64_t i = 0; i < s.batch * mask_rows * s.n_k; i++)
        mask[i] = i % s.n_k && mask[i] < -0.5f ? -10000.0f : 0.0f; /* key 0 is always seen */
    check(&s,
          (struct winnow_tensor[]){ net_tensor(WINNOW_F32, 3, NET_DIMS(s.batch, s.n_q, s.heads * s.d), q),
                                    net_tensor(WINNOW_F32, 3, NET_DIMS(s.batch, s.n_k, s.heads * s.d), k),
                                    net_tensor(WINNOW_F32, 3, NET_DIMS(s.batch, s.n_k, s.heads * s.dv), v),
                                    net_tensor(WINNOW_F32, 4, NET_DIMS(s.batch, 1, mask_rows, s.n_k), mask) },
          what);
    cr_assert_eq(wn_graph_sort(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    cr_expect_eq(net_count(&n, "wn", "QAttention"), 1, "%s: not fused", what);
    cr_expect(!net_count(&n, "", "MatMul") && !net_count(&n, "", "Softmax"), "%s", what);
    free(q);
    free(k);
    free(v);
    free(mask);
    net_done(&n);
}

Test(attention_q8, every_spelling_is_one_operator, .timeout = 300)
{
    for (unsigned seed = 1; seed <= 150; seed++)
        try(seed);
}
