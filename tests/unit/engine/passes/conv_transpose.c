/* Every small ConvTranspose: the convolutions that it becomes, beside what the operator computes. */
#include "tests/unit/engine/plan/net.h"

enum { C = 2, O = 3, SIDE = 4 };

static struct net n;

struct geometry {
    int64_t in, k, stride, pad[2];
    bool open; /* the extent is not known before a request */
};

static void transposed(const struct geometry *g)
{
    const int64_t dim[] = { -1, C, g->open ? -1 : g->in };
    net_init(&n, 7);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, dim);
    wn_vid y = net_op(&n, "ConvTranspose", NET_IN(x, net_normals(&n, 3, NET_DIMS(C, O, g->k), 1)));
    net_ints(&n, "strides", &g->stride, 1);
    net_ints(&n, "pads", g->pad, 2);
    net_output(&n, y);
}

static void check(const struct geometry *g)
{
    char what[96];
    float data[2 * C * SIDE];
    snprintf(what, sizeof what, "%s%ld, k %ld, stride %ld, pads %ld %ld", g->open ? "open " : "", g->in, g->k, g->stride,
             g->pad[0], g->pad[1]);
    transposed(g);
    for (size_t i = 0; i < WN_COUNT(data); i++)
        data[i] = net_normal(&n);
    const struct winnow_tensor x = net_tensor(WINNOW_F32, 3, NET_DIMS(2, C, g->in), data);
    winnow_model *ref = net_load(&n, true), *model = net_load(&n, false);
    struct net_answer want = net_run(ref, 1, &x, 1), got = net_run(model, 1, &x, 1);
    cr_expect_leq(net_difference(&got.t, &want.t), 1e-6, "%s", what);
    free(want.t.data);
    free(got.t.data);
    winnow_model_unref(ref);
    winnow_model_unref(model);
    cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s: %s", what, n.err.msg);
    const unsigned left = net_count(&n, "", "ConvTranspose");
    cr_expect_eq(left, g->k < g->stride, "%s: only a phase without a tap keeps the operator", what);
    net_done(&n);
}

Test(conv_transpose, of_every_small_geometry)
{
    struct geometry g;
    for (g.in = 1; g.in <= SIDE; g.in++)
        for (g.k = 1; g.k <= 5; g.k++)
            for (g.stride = 1; g.stride <= 3; g.stride++)
                for (g.pad[0] = 0; g.pad[0] <= 2; g.pad[0]++)
                    for (g.pad[1] = 0; g.pad[1] <= 2; g.pad[1]++)
                        for (int open = 0; open < 2; open++) {
                            g.open = open;
                            if ((g.in - 1) * g.stride + g.k - g.pad[0] - g.pad[1] > 0)
                                check(&g);
                        }
}

/* Extents whose product overflows are refused, whether by the operator or by what it becomes. */
Test(conv_transpose, an_extent_that_overflows_is_refused)
{
    const struct geometry g = { .in = INT64_MAX / 2, .k = 3, .stride = 3 };
    transposed(&g);
    enum winnow_status status = wn_passes_run(&n.g, &n.err);
    if (status == WINNOW_OK)
        status = net_check(&n);
    cr_expect_neq(status, WINNOW_OK);
    net_done(&n);
}

Test(conv_transpose, other_attributes_keep_the_operator)
{
    static const struct {
        const char *name;
        int64_t v;
    } attr[] = { { "dilations", 2 }, { "output_shape", 8 } };
    for (size_t i = 0; i < WN_COUNT(attr); i++) {
        const struct geometry g = { .in = 4, .k = 3, .stride = 2 };
        transposed(&g);
        net_ints(&n, attr[i].name, &attr[i].v, 1);
        cr_assert_eq(wn_passes_run(&n.g, &n.err), WINNOW_OK, "%s", n.err.msg);
        cr_expect_eq(net_count(&n, "", "ConvTranspose"), 1, "%s", attr[i].name);
        net_done(&n);
    }
}
