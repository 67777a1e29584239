/* Weights that a layer alone reads are given up once they are packed, and come back bit for bit when another shape
 * wants them in another form: dense, unstructured and in blocks, f32 and int8, on every instruction set. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "engine/graph/onnx.h"
#include "engine/kernels/kernels.h"
#include "engine/plan/facts.h"
#include "engine/plan/model.h"
#include "engine/plan/packs.h"
#include "engine/plan/plans.h"
#include "tests/unit/engine/plan/net.h"

enum pattern { DENSE, SCATTERED, BLOCKS_1X4, BLOCKS_4X1, PATTERNS };

/* Whether weight (o, i) of a layer is not zero. */
static bool kept(uint64_t seed, enum pattern p, int64_t o, int64_t i)
{
    struct net rnd = { .seed = seed + 1 + (uint64_t)(p == BLOCKS_4X1 ? o / 4 : o) * 7919u +
                               (uint64_t)(p == BLOCKS_1X4 ? i / 4 : i) * 104729u };
    net_next(&rnd);
    net_next(&rnd);
    return p == DENSE || net_pick(&rnd, 0, 99) < 8;
}

/* (O, I, taps) as they stand in w, of `size` bytes each. */
static void thin(void *w, size_t size, int64_t O, int64_t I, int64_t taps, bool by_inputs, enum pattern p)
{
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < I; i++)
            for (int64_t t = 0; t < taps; t++)
                if (!kept((uint64_t)t, p, o, i))
                    memset((char *)w + size * (size_t)(by_inputs ? i * O + o : (o * I + i) * taps + t), 0, size);
}

/* A linear layer (256 -> 320) over any number of tokens. */
static winnow_model *linear_f32(struct net *n, enum pattern p)
{
    net_init(n, 5);
    wn_vid x = net_input(n, "x", WINNOW_F32, 3, NET_DIMS(-1, -1, 256)), w = net_normals(n, 2, NET_DIMS(256, 320), 0.1f);
    thin(net_data(n, w), 4, 320, 256, 1, true, p);
    net_output(n, net_op(n, "MatMul", NET_IN(x, w)));
    return net_load(n, false);
}

static wn_vid bytes(struct net *n, int rank, const int64_t *dim, int64_t count)
{
    wn_vid w = net_const(n, WINNOW_I8, (unsigned)rank, dim, NULL);
    for (int64_t i = 0; i < count; i++)
        ((int8_t *)net_data(n, w))[i] = (int8_t)(net_pick(n, 0, 9) ? net_pick(n, -128, 127) : -128);
    return w;
}

static winnow_model *linear_q8(struct net *n, enum pattern p)
{
    net_init(n, 6);
    wn_vid x = net_input(n, "x", WINNOW_U8, 3, NET_DIMS(-1, -1, 256)), w = bytes(n, 2, NET_DIMS(256, 320), 256 * 320);
    thin(net_data(n, w), 1, 320, 256, 1, true, p);
    wn_vid s = net_f32(n, 0.02f), z = net_u8(n, 7);
    net_output(n, net_op(n, "QLinearMatMul", NET_IN(x, s, z, w, net_f32(n, 0.01f), net_i8(n, 0), s, z)));
    return net_load(n, false);
}

/* A 3x3 convolution (64 -> 128 channels) of pictures of any size. */
static winnow_model *conv(struct net *n, enum pattern p, bool q8)
{
    net_init(n, 7);
    wn_vid x = net_input(n, "x", q8 ? WINNOW_U8 : WINNOW_F32, 4, NET_DIMS(-1, 64, -1, -1));
    wn_vid w = q8 ? bytes(n, 4, NET_DIMS(128, 64, 3, 3), 128 * 576) : net_normals(n, 4, NET_DIMS(128, 64, 3, 3), 0.1f);
    thin(net_data(n, w), q8 ? 1 : 4, 128, 64, 9, false, p);
    wn_vid s = net_f32(n, 0.02f), z = net_u8(n, 7);
    wn_vid y = q8 ? net_op(n, "QLinearConv", NET_IN(x, s, z, w, net_f32(n, 0.01f), net_i8(n, 0), s, z))
                  : net_op(n, "Conv", NET_IN(x, w));
    net_ints(n, "pads", NET_DIMS(1, 1, 1, 1), 4);
    net_output(n, y);
    return net_load(n, false);
}

static const struct wn_tensor *weights_of(const winnow_model *model)
{
    for (size_t i = 0; i < model->g.nodes.n; i++)
        if (model->g.nodes.at[i].fused && model->g.nodes.at[i].n_in > 1)
            return model->g.values.at[model->g.nodes.at[i].in[1]].constant;
    return NULL;
}

static void plan(winnow_model *model, int64_t a, int64_t b)
{
    struct wn_plan *made;
    struct winnow_err err = { 0 };
    const struct winnow_io *in = &model->inputs[0];
    struct wn_type type = { .dtype = in->dtype, .rank = (int)in->rank, .dim = { 1, a, 256 } };
    if (in->rank == 4)
        type = (struct wn_type){ .dtype = in->dtype, .rank = 4, .dim = { 1, 64, a, b } };
    cr_assert_eq(wn_plans_get(model->plans, model, &type, &made, &err), WINNOW_OK, "%s", err.msg);
    wn_plan_unref(made);
}

/* A model without a plan yet still has its weights; `first` is a shape whose layer is packed. */
static void check(winnow_model *model, const char *what, int pattern, int64_t first)
{
    const struct wn_tensor *w = weights_of(model);
    cr_assert(w);
    void *before = malloc(w->bytes);
    struct wn_borrow now;
    memcpy(before, w->data, w->bytes);
    const size_t held = wn_facts_bytes(model->facts);
    plan(model, first, first);
    cr_expect_eq(wn_facts_bytes(model->facts), held - w->bytes, "%s %d: not given up", what, pattern);
    cr_assert_eq(wn_facts_borrow(model->facts, w, &now, NULL), WINNOW_OK);
    cr_expect(now.made && memcmp(now.data, before, w->bytes) == 0, "%s %d: other weights came back", what, pattern);
    wn_facts_return(model->facts, &now);
    plan(model, 1, 1); /* one token, or one pixel: perhaps another form, from what came back */
    plan(model, 3, 7);
    cr_assert_eq(wn_facts_borrow(model->facts, w, &now, NULL), WINNOW_OK);
    cr_expect_eq(memcmp(now.data, before, w->bytes), 0, "%s %d", what, pattern);
    wn_facts_return(model->facts, &now);
    free(before);
    winnow_model_unref(model);
}

static void check_all(enum wn_isa isa)
{
    struct net n;
    net_force(isa);
    for (int p = 0; p < PATTERNS; p++) {
        check(linear_f32(&n, p), "f32 linear", p, 48);
        net_done(&n);
        check(linear_q8(&n, p), "int8 linear", p, 48);
        net_done(&n);
        check(conv(&n, p, false), "f32 convolution", p, 14);
        net_done(&n);
        check(conv(&n, p, true), "int8 convolution", p, 14);
        net_done(&n);
    }
}

Test(release, weights_come_back_from_their_packs)
{
    const enum wn_isa best = wn_cpu_isa();
    for (int isa = 0; isa <= (int)best; isa++)
        if (wn_cpu_has((enum wn_isa)isa))
            check_all((enum wn_isa)isa);
    net_force(best);
}

/* Few tokens and many read the same panels of a dense f32 layer. */
Test(release, short_and_long_inputs_share_a_pack)
{
    struct net n;
    const enum wn_isa best = wn_cpu_isa();
    for (int isa = 0; isa <= (int)best; isa++) {
        if (!wn_cpu_has((enum wn_isa)isa))
            continue;
        net_force((enum wn_isa)isa);
        winnow_model *model = linear_f32(&n, DENSE);
        plan(model, 48, 0);
        const size_t packed = wn_packs_bytes(model->packs);
        plan(model, 3, 0);
        plan(model, 1, 0);
        cr_expect_gt(packed, 0);
        cr_expect_eq(wn_packs_bytes(model->packs), packed, "%s", wn_isa_name((enum wn_isa)isa));
        winnow_model_unref(model);
        net_done(&n);
    }
    net_force(best);
}

/* Two layers with one tensor: nothing is given up. */
Test(release, what_others_read_stays)
{
    struct net n;
    net_init(&n, 9);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 4, NET_DIMS(-1, 64, -1, -1));
    wn_vid w = net_normals(&n, 4, NET_DIMS(64, 64, 3, 3), 0.1f);
    net_output(&n, net_op(&n, "Conv", NET_IN(net_op(&n, "Conv", NET_IN(x, w)), w)));
    winnow_model *model = net_load(&n, false);
    const size_t held = wn_facts_bytes(model->facts);
    plan(model, 14, 14);
    cr_expect_eq(wn_facts_bytes(model->facts), held);
    winnow_model_unref(model);
    net_done(&n);
}

/* Infinity times zero is no zero: such weights cannot come back, so they stay. */
Test(release, weights_that_are_not_finite_stay)
{
    struct net n;
    net_init(&n, 9);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, -1, 256)),
           w = net_normals(&n, 2, NET_DIMS(256, 256), 0.1f);
    ((float *)net_data(&n, w))[777] = INFINITY;
    net_output(&n, net_op(&n, "MatMul", NET_IN(x, w)));
    winnow_model *model = net_load(&n, false);
    const size_t held = wn_facts_bytes(model->facts);
    plan(model, 48, 0);
    cr_expect_eq(wn_facts_bytes(model->facts), held);
    winnow_model_unref(model);
    net_done(&n);
}

/* ---- peak memory ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WATCHED true /* by a sanitizer, which takes memory of its own */
#else
#define WATCHED false
#endif

/* The most memory this process has had, in bytes. */
static size_t peak(void)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

#define LAYERS 24

/* A chain of linear layers of 4 MiB each, as a file. */
static size_t write_chain(const char *path, bool q8)
{
    struct net n;
    size_t bytes = 0;
    net_init(&n, 3);
    wn_vid x = net_input(&n, "x", q8 ? WINNOW_U8 : WINNOW_F32, 3, NET_DIMS(-1, 48, q8 ? 2048 : 512));
    wn_vid s = net_f32(&n, 0.02f), z = net_u8(&n, 7);
    for (int i = 0; i < LAYERS; i++) {
        const int64_t in = q8 || i % 2 ? 2048 : 512, out = q8 || i % 2 == 0 ? 2048 : 512;
        if (q8) {
            wn_vid w = net_const(&n, WINNOW_I8, 2, NET_DIMS(in, out), NULL);
            for (int64_t k = 0; k < in * out; k++)
                ((int8_t *)net_data(&n, w))[k] = (int8_t)(k * 2654435761u >> 24);
            x = net_op(&n, "QLinearMatMul", NET_IN(x, s, z, w, net_f32(&n, 0.0001f), net_i8(&n, 0), s, z));
        } else {
            x = net_op(&n, "MatMul", NET_IN(x, net_normals(&n, 2, NET_DIMS(in, out), 0.02f)));
        }
        bytes += (size_t)(in * out) * (q8 ? 1 : 4);
    }
    net_output(&n, x);
    cr_assert_eq(net_check(&n), WINNOW_OK, "%s", n.err.msg);
    cr_assert_eq(wn_onnx_write_file(&n.g, path, false, &n.err), WINNOW_OK, "%s", n.err.msg);
    net_done(&n);
    return bytes;
}

/* Loading takes about the file once, though it is read, transposed and packed: each form goes when the next is there.
 */
static void check_peak(bool q8)
{
    char path[] = "/tmp/winnow-peak-XXXXXX.onnx";
    int fd = mkstemps(path, 5);
    cr_assert(fd >= 0);
    close(fd);
    /* The file is made by another process: what that took is none of this one's peak. */
    pid_t maker = fork();
    if (maker == 0)
        _exit(write_chain(path, q8) == 0);
    int how;
    cr_assert_eq(waitpid(maker, &how, 0), maker);
    cr_assert_eq(how, 0);
    const size_t before = peak(), file = (size_t)4 * LAYERS << 20;
    winnow_model *model;
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    cr_assert_eq(winnow_model_load(path, NULL, &model, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK, "%s", err.msg);
    const size_t after = peak();
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    remove(path);
    cr_expect_leq(after - before, file * 13 / 10, "%zu MiB for a file of %zu", (after - before) >> 20, file >> 20);
}

Test(release, loading_takes_the_file_once, .timeout = 120)
{
    if (WATCHED)
        cr_skip("under a sanitizer");
    check_peak(false);
}

Test(release, loading_int8_takes_the_file_once, .timeout = 120)
{
    if (WATCHED)
        cr_skip("under a sanitizer");
    check_peak(true);
}
