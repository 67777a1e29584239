/* Random pairs of shapes that broadcast, on plain tensors: the plan answers what the reference does, to the bit, on
 * every instruction set, with one to three threads. */
#include "tests/unit/engine/plan/net.h"

/* One extent of y in four has one element in x, and one in four in b. */
static void shapes(struct net *n, unsigned rank, int64_t y[4], int64_t x[4], int64_t b[4])
{
    static const int64_t extents[] = { 1, 2, 3, 5, 17, 40, 300 };
    int64_t count = 1;
    for (unsigned i = 0; i < rank; i++) {
        const int64_t most = 20000 / count;
        y[i] = extents[net_pick(n, 0, 6)];
        y[i] = y[i] > most ? 1 : y[i];
        count *= y[i];
        const int which = (int)net_pick(n, 0, 7);
        x[i] = which < 2 ? 1 : y[i];
        b[i] = which == 2 || which == 3 ? 1 : y[i];
    }
}

static void check_pair(uint64_t seed)
{
    static const char *const ops[] = { "Add", "Sub", "Mul", "Div" };
    struct net n;
    int64_t y[4], x[4], b[4];
    net_init(&n, seed);
    const unsigned rank = (unsigned)net_pick(&n, 1, 4), skip = (unsigned)net_pick(&n, 0, rank - 1);
    shapes(&n, rank, y, x, b);
    const bool lead = net_pick(&n, 0, 1); /* b lacks leading axes */
    const unsigned b_rank = rank - (lead ? skip : 0);
    struct winnow_tensor in[2] = { net_tensor(WINNOW_F32, rank, x, NULL),
                                   net_tensor(WINNOW_F32, b_rank, b + rank - b_rank, NULL) };
    wn_vid v[2];
    for (unsigned i = 0; i < 2; i++) {
        v[i] = net_input(&n, i ? "b" : "x", WINNOW_F32, (int)in[i].rank, in[i].shape);
        in[i].data = malloc(in[i].bytes);
        for (size_t k = 0; k < in[i].bytes / sizeof(float); k++)
            ((float *)in[i].data)[k] = net_normal(&n);
    }
    const unsigned first = (unsigned)net_pick(&n, 0, 1);
    net_output(&n, net_op(&n, ops[seed % 4], NET_IN(v[first], v[!first])));
    winnow_model *ref = net_load(&n, true);
    struct net_answer want = net_run(ref, 1, in, 2);
    for (int isa = 0; isa < WN_ISA_COUNT; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = net_load(&n, false);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct net_answer got = net_run(model, threads, in, 2);
            cr_expect(got.t.bytes == want.t.bytes && memcmp(got.t.data, want.t.data, got.t.bytes) == 0,
                      "seed %lu, %s, %u threads: %s of rank %u and %u differs", seed, wn_isa_name((enum wn_isa)isa),
                      threads, ops[seed % 4], rank, b_rank);
            free(got.t.data);
        }
        winnow_model_unref(model);
    }
    net_force(WN_ISA_scalar);
    free(want.t.data);
    free(in[0].data);
    free(in[1].data);
    winnow_model_unref(ref);
    net_done(&n);
}

Test(plan_random_broadcast, pairs_equal_their_reference, .timeout = 300)
{
    for (uint64_t seed = 0; seed < 400; seed++)
        check_pair(seed);
}
