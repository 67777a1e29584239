/* Random chains of integer linear layers over tokens, in every spelling: the optimised plan answers what the reference
 * run of the file's own operators answers, bit for bit, on every instruction set, with one to three threads. */
#include "tests/unit/engine/plan/net.h"

enum mode { DYNAMIC, QLINEAR, QDQ, CONV, MODES };

struct maker {
    struct net n;
    enum mode mode;
    int rank;      /* of the tokens: 2, 3 or 4; of pictures: 3 or 4 */
    int64_t width; /* of the last axis, or channels, now */
    int64_t h, w;  /* of pictures */
    char log[1024];
};

static int64_t pick(struct maker *m, int64_t lo, int64_t hi)
{
    return net_pick(&m->n, lo, hi);
}

static bool chance(struct maker *m, int percent)
{
    return pick(m, 0, 99) < percent;
}

/* Powers of two where the reference computes in floats between Q and DQ: its sums are then exact. */
static float scale(struct maker *m)
{
    return m->mode == QDQ ? ldexpf(1, (int)pick(m, -7, -4)) : 0.002f + 0.02f * net_unit(&m->n);
}

/* ---- weights ---- */

struct weights {
    wn_vid w, scale, zp;
    float unit[80];
};

/* (K, N), or (N, K) when `by_rows`, u8 or i8 with zero points per tensor, per column, or none; any pattern of zeros. */
static struct weights weights(struct maker *m, int64_t K, int64_t N, bool by_rows)
{
    static const int densities[] = { 100, 100, 30, 8, 0 };
    struct net *n = &m->n;
    bool u8 = chance(m, 50), per_column = chance(m, 50);
    int64_t rows = (int64_t)1 << pick(m, 0, 2), inputs = rows == 1 && chance(m, 50) ? 4 : 1; /* of a block */
    int density = densities[pick(m, 0, 4)], zero = u8 ? 128 : 0;
    int64_t count = per_column ? N : 1, dim[] = { by_rows ? N : K, by_rows ? K : N };
    enum winnow_dtype t = u8 ? WINNOW_U8 : WINNOW_I8;
    struct weights w = { .w = net_const(n, t, 2, dim, NULL), .zp = WN_NONE };
    w.scale = net_const(n, WINNOW_F32, per_column ? 1 : 0, &count, NULL);
    for (int64_t i = 0; i < N; i++)
        w.unit[i] = i < count ? scale(m) : w.unit[0];
    memcpy(net_data(n, w.scale), w.unit, (size_t)count * sizeof(float));
    int kind = (int)pick(m, 0, 2); /* of zero points: none, usual, odd */
    if (u8 || kind || m->mode != DYNAMIC) {
        w.zp = net_const(n, t, per_column ? 1 : 0, &count, NULL);
        for (int64_t i = 0; i < count; i++)
            ((uint8_t *)net_data(n, w.zp))[i] = (uint8_t)(kind == 2 ? pick(m, 0, 255) : zero);
    }
    uint8_t *p = net_data(n, w.w);
    for (int64_t o = 0; o < N; o++)
        for (int64_t k = 0, keep = 1; k < K; k++) {
            int64_t first = o / rows * rows;
            if (o != first)
                keep = p[by_rows ? first * K + k : k * N + first] != zero;
            else if (k % inputs == 0)
                keep = chance(m, density);
            uint8_t v = (uint8_t)(keep ? pick(m, 0, 255) : zero);
            p[by_rows ? o * K + k : k * N + o] = chance(m, 1) ? (u8 ? 255 : 0x80) : v;
        }
    size_t used = strlen(m->log);
    snprintf(m->log + used, sizeof m->log - used, "%ldx%ld %s%s %d%%%s; ", K, N, u8 ? "u8" : "i8",
             per_column ? " per column" : "", density, kind == 2 ? " odd zero points" : "");
    return w;
}

static wn_vid swapped(struct maker *m, const char *op, wn_vid a, wn_vid b)
{
    return chance(m, 50) ? net_op(&m->n, op, NET_IN(a, b)) : net_op(&m->n, op, NET_IN(b, a));
}

/* ---- DynamicQuantizeLinear and MatMulInteger; f32 in, f32 out ---- */

static wn_vid dynamic_product(struct maker *m, const wn_vid q[3], int64_t N)
{
    struct net *n = &m->n;
    struct weights w = weights(m, m->width, N, false);
    wn_vid acc = net_op(n, "MatMulInteger", NET_IN(q[0], w.w, q[2], w.zp));
    wn_vid f = net_op(n, "Cast", NET_IN(acc));
    net_int(n, "to", WINNOW_F32);
    int how = (int)pick(m, 0, 9);
    if (how == 0) /* a scale that is only known at run time */
        f = swapped(m, "Mul", f, q[1]);
    else if (how == 1) /* only known when the file was written */
        f = swapped(m, "Mul", f, w.scale);
    else if (how > 2)
        f = swapped(m, "Mul", f, swapped(m, "Mul", q[1], w.scale));
    if (how > 2 && chance(m, 60))
        f = swapped(m, "Add", f, net_normals(n, 1, &N, 0.5f));
    return chance(m, 30) ? net_op(n, "Relu", NET_IN(f)) : f;
}

static wn_vid dynamic_layer(struct maker *m, wn_vid x)
{
    int64_t N = pick(m, 1, 70);
    wn_vid q[3], y;
    net_ops(&m->n, "DynamicQuantizeLinear", NET_IN(x), 3, q);
    y = dynamic_product(m, q, N);
    if (chance(m, 40)) /* as Q, K and V do */
        y = net_op(&m->n, "Add", NET_IN(y, dynamic_product(m, q, N)));
    m->width = N;
    return y;
}

/* ---- static scales ---- */

struct quant {
    wn_vid scale, zp;
    float s;
};

static struct quant quant(struct maker *m, bool i8)
{
    struct quant q = { .s = scale(m) * 4 };
    q.scale = net_f32(&m->n, q.s);
    q.zp = i8 ? net_i8(&m->n, (int)pick(m, -20, 20)) : net_u8(&m->n, (int)pick(m, 100, 150));
    return q;
}

/* QuantizeLinear, one to three integer layers, DequantizeLinear. */
static wn_vid qlinear_layers(struct maker *m, wn_vid x)
{
    struct net *n = &m->n;
    bool i8 = chance(m, 40);
    struct quant in = quant(m, i8);
    wn_vid v = net_op(n, "QuantizeLinear", NET_IN(x, in.scale, in.zp));
    for (int64_t i = 0, layers = pick(m, 1, 3); i < layers; i++) {
        int64_t N = pick(m, 1, 70);
        struct quant out = quant(m, i8);
        if (m->rank == 2 && chance(m, 50)) {
            bool trans = chance(m, 50);
            struct weights w = weights(m, m->width, N, trans);
            wn_vid c = chance(m, 50) ? net_const(n, WINNOW_I32, 1, &N, NULL) : WN_NONE;
            for (int64_t o = 0; c != WN_NONE && o < N; o++)
                ((int32_t *)net_data(n, c))[o] = (int32_t)pick(m, -5000, 5000);
            v = net_op(n, "com.microsoft:QGemm", NET_IN(v, in.scale, in.zp, w.w, w.scale, w.zp, c, out.scale, out.zp));
            net_int(n, "transB", trans);
        } else {
            struct weights w = weights(m, m->width, N, false);
            v = net_op(n, "QLinearMatMul", NET_IN(v, in.scale, in.zp, w.w, w.scale, w.zp, out.scale, out.zp));
        }
        if (chance(m, 30)) { /* a residual */
            struct quant sum = quant(m, i8);
            v = net_op(n, "com.microsoft:QLinearAdd",
                       NET_IN(v, out.scale, out.zp, v, out.scale, out.zp, sum.scale, sum.zp));
            out = sum;
        }
        in = out;
        m->width = N;
    }
    return net_op(n, "DequantizeLinear", NET_IN(v, in.scale, in.zp));
}

static wn_vid qdq(struct maker *m, wn_vid x, struct quant q)
{
    return net_op(&m->n, "DequantizeLinear",
                  NET_IN(net_op(&m->n, "QuantizeLinear", NET_IN(x, q.scale, q.zp)), q.scale, q.zp));
}

static wn_vid qdq_layer(struct maker *m, wn_vid x)
{
    struct net *n = &m->n;
    int64_t N = pick(m, 1, 70);
    struct quant in = quant(m, chance(m, 40));
    struct weights w = weights(m, m->width, N, false);
    wn_vid v = qdq(m, x, in), f = net_op(n, "DequantizeLinear", NET_IN(w.w, w.scale, w.zp));
    net_int(n, "axis", 1);
    v = net_op(n, "MatMul", NET_IN(v, f));
    if (chance(m, 60)) {
        wn_vid b = net_const(n, WINNOW_F32, 1, &N, NULL);
        for (int64_t o = 0; o < N; o++)
            ((float *)net_data(n, b))[o] = (float)pick(m, -3000, 3000) * in.s * w.unit[o];
        v = swapped(m, "Add", v, b);
    }
    m->width = N;
    return chance(m, 70) ? qdq(m, v, quant(m, chance(m, 40))) : v;
}

/* ---- DynamicQuantizeLinear and ConvInteger ---- */

/* One number, or one per channel as (O, 1, 1); f32. */
static wn_vid channel_const(struct maker *m, const float *v, int64_t count)
{
    int64_t dim[] = { count, 1, 1 };
    wn_vid c = net_const(&m->n, WINNOW_F32, count == 1 ? 0 : (unsigned)m->rank - 1, dim, NULL);
    memcpy(net_data(&m->n, c), v, (size_t)count * sizeof(float));
    return c;
}

static wn_vid conv_layer(struct maker *m, wn_vid x)
{
    struct net *n = &m->n;
    int64_t O = pick(m, 1, 20), kh = m->rank == 4 ? pick(m, 1, WN_MIN(3, m->h)) : 1, kw = pick(m, 1, WN_MIN(3, m->w));
    int64_t stride[2] = { pick(m, 1, 2), pick(m, 1, 2) }, pad[4] = { 0 }, K = m->width * kh * kw;
    struct weights w = weights(m, K, O, true);
    int64_t count = wn_tensor_count(n->g.values.at[w.scale].constant), shape[] = { O, m->width, kh, kw };
    if (m->rank == 3)
        shape[2] = kw;
    wn_vid four = net_const(n, n->g.values.at[w.w].type.dtype, (unsigned)m->rank, shape, net_data(n, w.w)), q[3];
    net_ops(n, "DynamicQuantizeLinear", NET_IN(x), 3, q);
    wn_vid acc = net_op(n, "ConvInteger", NET_IN(q[0], four, q[2], w.zp));
    for (int i = 0; i < 4; i++)
        pad[i] = pick(m, 0, 1);
    size_t s = (size_t)m->rank - 2;
    if (s == 1)
        pad[0] = pad[2] = 0;
    net_ints(n, "strides", stride + 2 - s, s);
    net_ints(n, "pads", s == 2 ? pad : (const int64_t[]){ pad[1], pad[3] }, 2 * s);
    m->h = (m->h + pad[0] + pad[2] - kh) / (s == 2 ? stride[0] : 1) + 1;
    m->w = (m->w + pad[1] + pad[3] - kw) / stride[1] + 1;
    wn_vid f = net_op(n, "Cast", NET_IN(acc));
    net_int(n, "to", WINNOW_F32);
    f = swapped(m, "Mul", f, swapped(m, "Mul", q[1], channel_const(m, w.unit, count)));
    if (chance(m, 60)) {
        float b[20];
        for (int64_t o = 0; o < O; o++)
            b[o] = net_normal(n);
        f = swapped(m, "Add", f, channel_const(m, b, O));
    }
    m->width = O;
    return chance(m, 40) ? net_op(n, "Relu", NET_IN(f)) : f;
}

/* ---- one net ---- */

static void make(struct maker *m, uint64_t seed, int64_t dim[4])
{
    *m = (struct maker){ .mode = (enum mode)(seed % MODES) };
    net_init(&m->n, seed);
    m->rank = (int)pick(m, 2, 4);
    m->width = pick(m, 1, 70);
    for (int i = 0; i < m->rank; i++)
        dim[i] = i == m->rank - 1 ? m->width : m->rank == 2 ? pick(m, 1, 70) : pick(m, 1, i ? 9 : 5);
    int64_t declared[4] = { -1, -1, -1, -1 };
    declared[m->rank - 1] = m->width;
    if (m->mode == CONV) {
        m->rank = WN_MAX(m->rank, 3);
        m->width = pick(m, 1, 9);
        dim[0] = pick(m, 1, 3);
        dim[1] = declared[1] = m->width;
        dim[2] = m->h = m->rank == 4 ? pick(m, 1, 9) : 1;
        dim[m->rank - 1] = m->w = pick(m, 1, 17);
        declared[m->rank - 1] = -1;
    }
    if (chance(m, 30))
        memcpy(declared, dim, sizeof declared);
    wn_vid v = net_input(&m->n, "x", WINNOW_F32, m->rank, declared);
    for (int64_t i = 0, layers = pick(m, 1, 4); i < layers; i++)
        v = m->mode == DYNAMIC   ? dynamic_layer(m, v)
            : m->mode == QLINEAR ? qlinear_layers(m, v)
            : m->mode == QDQ     ? qdq_layer(m, v)
                                 : conv_layer(m, v);
    net_output(&m->n, v);
}

/* Steps of the plan for x whose kernel's name begins with `kernel`. */
static unsigned count_steps(winnow_model *model, const struct winnow_tensor *x, const char *kernel)
{
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    unsigned count = 0;
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK, "%s", err.msg);
    free(net_run_on(model, scratch, x, 1, 0).t.data);
    for (unsigned i = 0; i < winnow_scratch_n_steps(scratch); i++) {
        struct winnow_step step;
        winnow_scratch_step(scratch, i, &step);
        count += strncmp(step.kernel, kernel, strlen(kernel)) == 0;
    }
    winnow_scratch_free(scratch);
    return count;
}

static void check_net(uint64_t seed)
{
    struct maker m;
    int64_t dim[4];
    make(&m, seed, dim);
    struct winnow_tensor x = net_tensor(WINNOW_F32, (unsigned)m.rank, dim, NULL);
    float *data = malloc(x.bytes + 1);
    x.data = data;
    for (size_t i = 0; i < x.bytes / sizeof *data; i++)
        data[i] = net_normal(&m.n);
    winnow_model *ref = net_load(&m.n, true);
    struct net_answer want = net_run(ref, 1, &x, 1);
    for (int isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&m.n, false);
        if (m.mode == DYNAMIC || m.mode == CONV)
            cr_expect(!winnow_model_rows_independent(model, NULL), "seed %lu: rows share a scale", seed);
        static const char *const slow[] = { "ref:DLinear", "ref:QLinear", "ref:MatMul",
                                            "ref:QGemm",   "ref:Dynamic", "ref:ConvInteger" };
        for (size_t i = 0; i < WN_COUNT(slow); i++)
            cr_expect_eq(count_steps(model, &x, slow[i]), 0, "seed %lu: %s\n  %s", seed, slow[i], m.log);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct net_answer got = net_run(model, threads, &x, 1);
            double d = net_difference(&got.t, &want.t);
            cr_expect_eq(d, 0, "seed %lu, %s, %u threads: difference %g\n  mode %d rank %d: %s", seed,
                         wn_isa_name((enum wn_isa)isa), threads, d, m.mode, m.rank, m.log);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    free(data);
    winnow_model_unref(ref);
    net_done(&m.n);
}

static void check_mode(enum mode mode)
{
    net_check_seeds(mode, MODES, check_net);
}

Test(plan_random_linear, layers_quantized_at_run_time, .timeout = 300)
{
    check_mode(DYNAMIC);
}

Test(plan_random_linear, layers_of_quantized_operators, .timeout = 300)
{
    check_mode(QLINEAR);
}

Test(plan_random_linear, layers_between_dequantizations, .timeout = 300)
{
    check_mode(QDQ);
}

Test(plan_random_linear, convolutions_quantized_at_run_time, .timeout = 300)
{
    check_mode(CONV);
}
