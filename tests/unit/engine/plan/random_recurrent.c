/* Random RNN, GRU and LSTM nets: the optimised plan answers what the reference run of the file's own operators answers,
 * on every instruction set, with one to three threads, the same whatever the number of threads; and a sequence's answer
 * has nothing of its neighbours in the batch. */
#include "tests/unit/engine/plan/net.h"

enum kind { RNN, GRU, LSTM, KINDS };

static const char *const ops[] = { "RNN", "GRU", "LSTM" };
static const int64_t gates[] = { 1, 3, 4 }, acts[] = { 1, 2, 3 };

struct maker {
    struct net n;
    enum kind kind;
    int64_t steps, batch, inputs, units, dirs;
    bool batch_first, lens, h0, c0;
    char log[512];
};

static int64_t pick(struct maker *m, int64_t lo, int64_t hi)
{
    return net_pick(&m->n, lo, hi);
}

static bool chance(struct maker *m, int percent)
{
    return pick(m, 0, 99) < percent;
}

/* The list of activations, by direction; any of ONNX's. */
static void set_acts(struct maker *m)
{
    static const char *const names[] = { "Tanh",      "Sigmoid", "Relu",     "HardSigmoid",
                                         "LeakyRelu", "Elu",     "Softsign", "ScaledTanh" };
    const int64_t count = m->dirs * acts[m->kind];
    struct net *n = &m->n;
    struct winnow_str *list = wn_arena_calloc(&n->arena, (size_t)count, sizeof *list);
    for (int64_t i = 0; i < count; i++) {
        const bool gate = m->kind != RNN && i % acts[m->kind] == 0;
        /* what grows without bound does not pass through a gate */
        const char *name = names[gate ? (chance(m, 50) ? 1 : 3) : pick(m, 0, 7)];
        list[i] = (struct winnow_str){ name, strlen(name) };
        snprintf(m->log + strlen(m->log), sizeof m->log - strlen(m->log), "%s ", name);
    }
    struct wn_node *node = net_node(n);
    net_int(n, "activations", 0); /* makes the attribute, which then becomes a list */
    for (unsigned a = 0; a < node->n_attr; a++)
        if (strcmp(node->attr[a].name, "activations") == 0)
            node->attr[a] = (struct wn_attr){
                .name = node->attr[a].name, .kind = WN_ATTR_STRINGS, .n = (size_t)count, .strs = list
            };
}

/* h0 is an input, or a constant with the same state for each sequence; lens an input. */
static void make(struct maker *m, uint64_t seed)
{
    static const char *const directions[] = { "forward", "reverse" };
    memset(m, 0, sizeof *m);
    struct net *n = &m->n;
    net_init(n, seed);
    m->kind = (enum kind)(seed % KINDS);
    m->steps = pick(m, 1, 9);
    m->batch = chance(m, 50) ? 1 : pick(m, 2, 19);
    m->inputs = pick(m, 1, 40);
    m->units = chance(m, 50) ? pick(m, 1, 12) : pick(m, 13, 70);
    m->dirs = chance(m, 50) ? 2 : 1;
    m->batch_first = chance(m, 30);
    m->lens = chance(m, 40);
    m->h0 = chance(m, 50);
    m->c0 = m->kind == LSTM && chance(m, 50);
    snprintf(m->log, sizeof m->log, "%s steps %ld batch %ld inputs %ld units %ld dirs %ld%s%s%s%s ", ops[m->kind],
             m->steps, m->batch, m->inputs, m->units, m->dirs, m->batch_first ? " batch first" : "",
             m->lens ? " lens" : "", m->h0 ? " h0" : "", m->c0 ? " c0" : "");
    const int64_t G = gates[m->kind] * m->units, B = m->batch_first ? 0 : 1;
    int64_t x_dim[3], s_dim[3] = { m->dirs, m->batch, m->units };
    x_dim[B] = m->batch, x_dim[1 - B] = m->steps, x_dim[2] = m->inputs;
    if (m->batch_first)
        s_dim[0] = m->batch, s_dim[1] = m->dirs;
    const float scale = 1.5f / sqrtf((float)m->units);
    wn_vid in[7] = { net_input(n, "x", WINNOW_F32, 3, x_dim),
                     net_normals(n, 3, NET_DIMS(m->dirs, G, m->inputs), 0.3f),
                     net_normals(n, 3, NET_DIMS(m->dirs, G, m->units), scale),
                     chance(m, 80) ? net_normals(n, 2, NET_DIMS(m->dirs, 2 * G), 0.3f) : WN_NONE,
                     WN_NONE,
                     WN_NONE,
                     WN_NONE };
    in[4] = m->lens ? net_input(n, "lens", WINNOW_I32, 1, &m->batch) : WN_NONE;
    in[5] = m->h0 ? net_input(n, "h0", WINNOW_F32, 3, s_dim) : WN_NONE;
    in[6] = m->c0 ? net_normals(n, 3, s_dim, 0.5f) : WN_NONE;
    wn_vid out[3];
    net_ops(n, ops[m->kind], in, m->kind == LSTM ? 7 : 6, m->kind == LSTM ? 3 : 2, out);
    net_int(n, "hidden_size", m->units);
    net_int(n, "layout", m->batch_first);
    wn_node_set_str(&n->g, net_node(n), "direction", m->dirs == 2 ? "bidirectional" : directions[pick(m, 0, 1)]);
    if (chance(m, 30))
        wn_node_set_float(&n->g, net_node(n), "clip", 0.2f + net_unit(n));
    if (m->kind == GRU)
        net_int(n, "linear_before_reset", chance(m, 50));
    if (m->kind == LSTM)
        net_int(n, "input_forget", chance(m, 20));
    if (chance(m, 40))
        set_acts(m);
    const int which = (int)pick(m, 0, 3); /* outputs that are wanted */
    if (which != 1)
        net_output(n, out[0]);
    if (which != 0)
        net_output(n, out[1]);
    if (m->kind == LSTM && which >= 2)
        net_output(n, out[2]);
}

/* Inputs for the net; free() each one's data. */
static unsigned inputs(struct maker *m, struct winnow_tensor x[3])
{
    struct net *n = &m->n;
    unsigned count = (unsigned)n->g.inputs.n;
    for (unsigned i = 0; i < count; i++) {
        const struct wn_type *t = &n->g.values.at[n->g.inputs.at[i]].type;
        x[i] = net_tensor(t->dtype, (unsigned)t->rank, t->dim, NULL);
        x[i].data = malloc(x[i].bytes + 1);
        for (size_t k = 0; k < x[i].bytes / 4; k++)
            if (t->dtype == WINNOW_F32)
                ((float *)x[i].data)[k] = net_normal(n);
            else
                ((int32_t *)x[i].data)[k] = (int32_t)pick(m, 0, m->steps);
    }
    return count;
}

/* Set what belongs to other sequences than the first to NaN, which spreads wherever it is read. */
static void spoil(const struct maker *m, const struct winnow_tensor *x)
{
    const int batch = m->batch_first ? 0 : 1;
    const int64_t inner = x->shape[2], middle = x->shape[1];
    for (int64_t i = 0; i < (int64_t)(x->bytes / sizeof(float)); i++)
        if ((batch ? i / inner % middle : i / inner / middle) > 0)
            ((float *)x->data)[i] = NAN;
}

/* Elements of output `out` that are of the first sequence. */
static bool is_first(const struct maker *m, const struct winnow_tensor *y, size_t i)
{
    int axis = m->batch_first ? 0 : y->rank == 4 ? 2 : 1;
    size_t inner = 1;
    for (unsigned a = (unsigned)axis + 1; a < y->rank; a++)
        inner *= (size_t)y->shape[a];
    return i / inner % (size_t)y->shape[axis] == 0;
}

/* Only what has an activation without a vector function runs by a reference, and nothing by that of the file's
 * operator. */
static void check_steps(const struct maker *m, const winnow_scratch *scratch, uint64_t seed)
{
    const bool odd = strstr(m->log, "Softsign") || strstr(m->log, "ScaledTanh");
    for (unsigned i = 0; i < winnow_scratch_n_steps(scratch); i++) {
        struct winnow_step step;
        winnow_scratch_step(scratch, i, &step);
        if (strcmp(step.op, "Recurrent") == 0)
            cr_expect_eq(strncmp(step.kernel, "ref:", 4) == 0, odd, "seed %lu: %s\n  %s", seed, step.kernel, m->log);
        cr_expect_str_neq(step.op, ops[m->kind], "seed %lu", seed);
    }
}

static void check_net(uint64_t seed)
{
    struct maker m;
    struct winnow_tensor x[3];
    make(&m, seed);
    const unsigned n_x = inputs(&m, x);
    winnow_model *ref = net_load(&m.n, true);
    struct winnow_err err;
    winnow_scratch *scratch;
    const unsigned n_y = winnow_model_n_outputs(ref);
    struct net_answer want[3], first[3];
    cr_assert_eq(winnow_scratch_new(ref, NULL, &scratch, &err), WINNOW_OK);
    for (unsigned o = 0; o < n_y; o++)
        want[o] = net_run_on(ref, scratch, x, n_x, o);
    winnow_scratch_free(scratch);
    for (int isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&m.n, false);
        for (unsigned threads = 1; threads <= 3; threads++) {
            winnow_pool *pool;
            cr_assert_eq(winnow_pool_new(threads, &pool, &err), WINNOW_OK);
            cr_assert_eq(winnow_scratch_new(model, pool, &scratch, &err), WINNOW_OK);
            for (unsigned o = 0; o < n_y; o++) {
                struct net_answer got = net_run_on(model, scratch, x, n_x, o);
                double d = net_difference(&got.t, &want[o].t);
                cr_expect_lt(d, 2e-5, "seed %lu, %s, %u threads, output %u: difference %g\n  %s", seed,
                             wn_isa_name((enum wn_isa)isa), threads, o, d, m.log);
                if (threads == 1) {
                    first[o] = got;
                    continue;
                }
                cr_expect_arr_eq(got.t.data, first[o].t.data, got.t.bytes, "seed %lu, %s: other bytes by %u threads",
                                 seed, wn_isa_name((enum wn_isa)isa), threads);
                free(got.t.data);
            }
            check_steps(&m, scratch, seed);
            winnow_scratch_free(scratch);
            winnow_pool_free(pool);
        }
        for (unsigned o = 0; o < n_y; o++)
            free(first[o].t.data);
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    for (unsigned o = 0; o < n_y; o++)
        free(want[o].t.data);
    for (unsigned i = 0; i < n_x; i++)
        free(x[i].data);
    winnow_model_unref(ref);
    net_done(&m.n);
}

Test(plan_random_recurrent, rnn, .timeout = 300)
{
    net_check_seeds(RNN, KINDS, check_net);
}

Test(plan_random_recurrent, gru, .timeout = 300)
{
    net_check_seeds(GRU, KINDS, check_net);
}

Test(plan_random_recurrent, lstm, .timeout = 300)
{
    net_check_seeds(LSTM, KINDS, check_net);
}

/* x, in which the other sequences are spoiled, as long as they may be. */
static void make_company(const struct maker *m, const struct winnow_tensor *x, unsigned n_x, struct winnow_tensor *ret)
{
    for (unsigned i = 0; i < n_x; i++) {
        ret[i] = x[i];
        ret[i].data = malloc(x[i].bytes + 1);
        memcpy(ret[i].data, x[i].data, x[i].bytes);
        if (x[i].dtype == WINNOW_F32)
            spoil(m, &ret[i]);
        for (int64_t k = 1; k < m->batch && x[i].dtype == WINNOW_I32; k++)
            ((int32_t *)ret[i].data)[k] = (int32_t)m->steps;
    }
}

static void check_company(uint64_t seed)
{
    struct maker m;
    struct winnow_tensor x[3], spoiled[3];
    make(&m, seed);
    const unsigned n_x = inputs(&m, x);
    make_company(&m, x, n_x, spoiled);
    for (int isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&m.n, false);
        struct net_answer want = net_run(model, 1, x, n_x), got = net_run(model, 1, spoiled, n_x);
        for (size_t i = 0; i < want.t.bytes / sizeof(float); i++)
            if (is_first(&m, &want.t, i))
                cr_expect(memcmp((float *)want.t.data + i, (float *)got.t.data + i, sizeof(float)) == 0,
                          "seed %lu, %s: element %zu of sequence 0 is another beside others\n  %s", seed,
                          wn_isa_name((enum wn_isa)isa), i, m.log);
        free(want.t.data);
        free(got.t.data);
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    for (unsigned i = 0; i < n_x; i++) {
        free(x[i].data);
        free(spoiled[i].data);
    }
    net_done(&m.n);
}

Test(plan_random_recurrent, sequences_do_not_meet, .timeout = 300)
{
    net_check_seeds(0, 1, check_company);
}
