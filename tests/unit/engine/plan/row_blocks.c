/* Blocks of rows: models of vectors are planned for several rows at once, and each row's answer keeps its bits. */
#include "engine/passes/passes.h"
#include "tests/unit/engine/plan/net.h"

enum { ROWS = 150, WIDE = 83, HIDDEN = 70, CLASSES = 7 };

static struct net n;

static wn_vid op2(const char *op, wn_vid a, wn_vid b)
{
    return net_op(&n, op, NET_IN(a, b));
}

static wn_vid int8_weights(int64_t K, int64_t N)
{
    wn_vid w = net_const(&n, WINNOW_I8, 2, NET_DIMS(K, N), NULL);
    for (int64_t i = 0; i < K * N; i++)
        ((int8_t *)net_data(&n, w))[i] = (int8_t)net_pick(&n, -127, 127);
    return net_op(&n, "DequantizeLinear", NET_IN(w, net_f32(&n, 1 / 128.0f), net_i8(&n, 0)));
}

/* A linear layer, by Gemm or MatMul, with or without a bias, sums of some of them with what came before. */
static wn_vid layer(wn_vid x, int64_t K, int64_t N, bool int8)
{
    if (int8) {
        wn_vid y = op2("MatMul", net_pair(&n, x, 1 / 16.0f, 120), int8_weights(K, N));
        return net_pair(&n, op2("Add", y, net_normals(&n, 1, NET_DIMS(N), 1)), 1 / 4.0f, 128);
    }
    wn_vid w = net_normals(&n, 2, NET_DIMS(K, N), 0.2f);
    return net_pick(&n, 0, 1) ? net_op(&n, "Gemm", NET_IN(x, w, net_normals(&n, 1, NET_DIMS(N), 1)))
                              : op2("MatMul", x, w);
}

static void build(uint64_t seed, bool int8)
{
    static const char *const acts[] = { "Relu", "Tanh", "Sigmoid", "Elu" };
    net_init(&n, seed);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, 1, WIDE));
    wn_vid y = layer(net_op(&n, "Flatten", NET_IN(x)), WIDE, HIDDEN, int8);
    y = net_op(&n, acts[net_pick(&n, 0, 3)], NET_IN(y));
    y = op2("Add", y, layer(y, HIDDEN, HIDDEN, int8));
    y = net_op(&n, acts[net_pick(&n, 0, 3)], NET_IN(y));
    net_output(&n, net_op(&n, "Softmax", NET_IN(layer(y, HIDDEN, CLASSES, int8))));
}

/* The answers to batches of every size up to a few blocks are those of the rows alone. */
static void check(winnow_model *model, unsigned threads, float *data, const char *what)
{
    static const int64_t sizes[] = { 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 64, 65, 100, ROWS };
    float alone[ROWS][CLASSES];
    winnow_pool *pool = NULL;
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    if (threads > 1)
        cr_assert_eq(winnow_pool_new(threads, &pool, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_scratch_new(model, pool, &scratch, &err), WINNOW_OK, "%s", err.msg);
    for (int64_t r = 0; r < ROWS; r++) {
        const struct winnow_tensor x = net_tensor(WINNOW_F32, 3, NET_DIMS(1, 1, WIDE), data + r * WIDE);
        struct net_answer a = net_run_on(model, scratch, &x, 1, 0);
        memcpy(alone[r], a.t.data, sizeof alone[r]);
        free(a.t.data);
    }
    for (size_t i = 0; i < WN_COUNT(sizes); i++) {
        const struct winnow_tensor x = net_tensor(WINNOW_F32, 3, NET_DIMS(sizes[i], 1, WIDE), data);
        struct net_answer a = net_run_on(model, scratch, &x, 1, 0);
        cr_assert(a.t.shape[0] == sizes[i] && a.t.bytes == (size_t)sizes[i] * sizeof alone[0]);
        for (int64_t r = 0; r < sizes[i]; r++)
            cr_assert(!memcmp((char *)a.t.data + (size_t)r * sizeof alone[0], alone[r], sizeof alone[0]),
                      "%s, %u threads: row %ld of %ld has other bits than alone", what, threads, r, sizes[i]);
        free(a.t.data);
    }
    winnow_scratch_free(scratch);
    winnow_pool_free(pool);
}

Test(row_blocks, rows_keep_their_bits, .timeout = 120)
{
    float *data = malloc(sizeof *data * ROWS * WIDE);
    for (unsigned i = 0; i < 12; i++) {
        build(100 + i, i % 3 == 2);
        for (size_t k = 0; k < ROWS * WIDE; k++)
            data[k] = net_normal(&n);
        for (unsigned isa = 0; isa < WN_ISA_COUNT; isa++) {
            char what[64];
            if (!wn_cpu_has((enum wn_isa)isa))
                continue;
            net_force((enum wn_isa)isa);
            snprintf(what, sizeof what, "net %u on %s", i, wn_isa_name((enum wn_isa)isa));
            winnow_model *model = net_load(&n, false);
            for (unsigned threads = 1; threads <= 3; threads++)
                check(model, threads, data, what);
            winnow_model_unref(model);
        }
        net_done(&n);
    }
    net_force(WN_ISA_scalar);
    free(data);
}

static int64_t block_of(void)
{
    cr_assert_eq(net_check(&n), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
    const int64_t block = wn_row_block(&n.g);
    net_done(&n);
    return block;
}

Test(row_blocks, are_for_vectors_of_known_length_only)
{
    build(1, false);
    cr_expect_eq(block_of(), WN_ROW_BLOCK_F32);
    build(1, true);
    cr_expect_eq(block_of(), WN_ROW_BLOCK);

    net_init(&n, 1);
    wn_vid tokens = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, 5, 8));
    net_output(&n, op2("MatMul", tokens, net_normals(&n, 2, NET_DIMS(8, 4), 1)));
    cr_expect_eq(block_of(), 1, "tokens");

    net_init(&n, 1);
    net_output(&n, net_op(&n, "Relu", NET_IN(net_input(&n, "x", WINNOW_F32, 2, NET_DIMS(-1, -1)))));
    cr_expect_eq(block_of(), 1, "rows of any length");

    net_init(&n, 1);
    wn_vid image = net_input(&n, "x", WINNOW_F32, 4, NET_DIMS(-1, 2, 3, 3));
    wn_vid conv = net_op(&n, "Conv", NET_IN(image, net_normals(&n, 4, NET_DIMS(4, 2, 3, 3), 1)));
    net_output(&n, op2("MatMul", net_op(&n, "Flatten", NET_IN(conv)), net_normals(&n, 2, NET_DIMS(4, 4), 1)));
    cr_expect_eq(block_of(), 1, "pictures");
}
