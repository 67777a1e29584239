/* lower_move.c: random nets of what only moves, and of exact functions between: the plan answers what the reference
 * does, to the bit, with one to three threads. Behind convolutions (of whole numbers, so exact) moves read planes. */
#include "engine/plan/choice.h"
#include "engine/plan/model.h"
#include "tests/unit/engine/plan/net.h"

#define POOL 24
#define MOST 6000 /* elements of a value */

struct maker {
    struct net n;
    wn_vid v[POOL]; /* f32 values so far, their extents known */
    unsigned n_v;
};

static const struct wn_type *type(struct maker *m, wn_vid v)
{
    return net_type(&m->n, v);
}

static wn_vid keep(struct maker *m, wn_vid v)
{
    if (m->n_v < POOL)
        m->v[m->n_v++] = v;
    return v;
}

/* Any value, the newest as likely as all others. */
static wn_vid some(struct maker *m)
{
    return net_pick(&m->n, 0, 1) ? m->v[m->n_v - 1] : m->v[net_pick(&m->n, 0, m->n_v - 1)];
}

static wn_vid function(struct maker *m, wn_vid x)
{
    static const char *const ops[] = { "Relu", "LeakyRelu", "Mul" };
    const int which = (int)net_pick(&m->n, 0, 2);
    return which == 2 ? net_op(&m->n, ops[2], NET_IN(x, net_f32(&m->n, 2))) : net_op(&m->n, ops[which], NET_IN(x));
}

static wn_vid transpose(struct maker *m, wn_vid x)
{
    const int rank = type(m, x)->rank;
    int64_t perm[8];
    for (int i = 0; i < rank; i++)
        perm[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        const int k = (int)net_pick(&m->n, 0, i);
        const int64_t t = perm[i];
        perm[i] = perm[k];
        perm[k] = t;
    }
    wn_vid y = net_op(&m->n, "Transpose", NET_IN(x));
    net_ints(&m->n, "perm", perm, (size_t)rank);
    return net_pick(&m->n, 0, 1) ? function(m, y) : y;
}

static wn_vid cut(struct maker *m, wn_vid x, int64_t from, int64_t to, int64_t axis, int64_t step)
{
    return net_op(&m->n, "Slice",
                  NET_IN(x, net_i64s(&m->n, &from, 1), net_i64s(&m->n, &to, 1), net_i64s(&m->n, &axis, 1),
                         net_i64s(&m->n, &step, 1)));
}

static wn_vid slice(struct maker *m, wn_vid x)
{
    const struct wn_type t = *type(m, x);
    const int64_t axis = net_pick(&m->n, 0, t.rank - 1), n = t.dim[axis], from = net_pick(&m->n, 0, n - 1);
    if (net_pick(&m->n, 0, 3) == 0)
        return cut(m, x, from, -n - 1, axis, -net_pick(&m->n, 1, 2));
    return cut(m, x, from, net_pick(&m->n, from + 1, n), axis, net_pick(&m->n, 1, 2));
}

/* Another shape of the same elements: an axis of one more, or two axes as one. */
static wn_vid view(struct maker *m, wn_vid x)
{
    const struct wn_type t = *type(m, x);
    int64_t dim[8], rank = 0;
    const int at = (int)net_pick(&m->n, 0, t.rank - 1);
    const bool joins = t.rank > 2 && at + 1 < t.rank && net_pick(&m->n, 0, 1);
    for (int i = 0; i < t.rank; i++) {
        if (i == at && !joins && t.rank < 6)
            dim[rank++] = 1;
        dim[rank++] = t.dim[i];
        if (i == at + 1 && joins)
            dim[--rank - 1] *= t.dim[i];
    }
    return net_op(&m->n, "Reshape", NET_IN(x, net_i64s(&m->n, dim, rank)));
}

/* x in pieces along an axis, some changed, in order again, or not; some pieces are looked at by others as well. */
static wn_vid put_back(struct maker *m, wn_vid x)
{
    const struct wn_type t = *type(m, x);
    const int64_t axis = net_pick(&m->n, 0, t.rank - 1), n = t.dim[axis];
    int64_t at = 0, to;
    wn_vid piece[4];
    unsigned count = 0;
    for (; at < n && count < 4; at = to) {
        to = count == 3 ? n : net_pick(&m->n, at + 1, n);
        piece[count] = cut(m, x, at, to, axis, 1);
        if (net_pick(&m->n, 0, 7) == 0)
            keep(m, piece[count]);
        if (net_pick(&m->n, 0, 1))
            piece[count] = function(m, piece[count]);
        count++;
    }
    if (net_pick(&m->n, 0, 7) == 0)
        keep(m, function(m, x));
    if (count > 1 && net_pick(&m->n, 0, 5) == 0) {
        const wn_vid first = piece[0];
        piece[0] = piece[count - 1];
        piece[count - 1] = first;
    }
    wn_vid y = net_op(&m->n, "Concat", piece, count);
    net_int(&m->n, "axis", net_pick(&m->n, 0, 1) ? axis : axis - t.rank);
    return y;
}

/* Values that differ along one axis at most, one after the other along it. */
static wn_vid join(struct maker *m, wn_vid x)
{
    const struct wn_type tx = *type(m, x);
    const int64_t axis = net_pick(&m->n, 0, 2) ? 0 : net_pick(&m->n, 0, tx.rank - 1);
    wn_vid in[4] = { x };
    unsigned count = 1;
    for (unsigned i = 0; i < m->n_v && count < 4; i++) {
        const struct wn_type *t = type(m, m->v[i]);
        bool fits = m->v[i] != x && t->rank == tx.rank;
        for (int a = 0; a < tx.rank && fits; a++)
            fits = a == axis || t->dim[a] == tx.dim[a];
        if (fits)
            in[count++] = m->v[i];
    }
    if (count == 1)
        in[count++] = net_pick(&m->n, 0, 1) ? function(m, x) : net_normals(&m->n, (unsigned)tx.rank, tx.dim, 1);
    wn_vid y = net_op(&m->n, "Concat", in, count);
    net_int(&m->n, "axis", axis);
    return y;
}

static wn_vid conv(struct maker *m, wn_vid x)
{
    const struct wn_type t = *type(m, x);
    const int64_t out = net_pick(&m->n, 1, 40), w_dim[] = { out, t.dim[1], 1, 1 };
    wn_vid w = net_const(&m->n, WINNOW_F32, 4, w_dim, NULL);
    for (int64_t i = 0; i < out * t.dim[1]; i++)
        ((float *)net_data(&m->n, w))[i] = (float)net_pick(&m->n, -3, 3);
    return net_op(&m->n, "Conv", NET_IN(x, w));
}

static wn_vid step(struct maker *m)
{
    wn_vid x = some(m);
    switch (net_pick(&m->n, 0, 6)) {
    case 0:
        return slice(m, x);
    case 1:
        return view(m, x);
    case 2:
        return join(m, x);
    case 3:
    case 4:
        return put_back(m, x);
    case 5:
        return function(m, x);
    default:
        return transpose(m, x);
    }
}

static int64_t elements(const struct wn_type *t)
{
    int64_t n = 1;
    for (int a = 0; a < t->rank; a++)
        n *= t->dim[a];
    return n;
}

static struct winnow_tensor build(struct maker *m, uint64_t seed)
{
    net_init(&m->n, seed);
    m->n_v = 0;
    const bool picture = net_pick(&m->n, 0, 1);
    const int64_t rank = picture ? 4 : net_pick(&m->n, 2, 5);
    int64_t dim[5];
    for (int64_t i = 0; i < rank; i++)
        dim[i] = i == 0 && net_pick(&m->n, 0, 2) ? 1 : net_pick(&m->n, 2, picture && i > 1 ? 21 : 5);
    struct winnow_tensor in = net_tensor(WINNOW_F32, (unsigned)rank, dim, NULL);
    in.data = malloc(in.bytes);
    for (size_t i = 0; i < in.bytes / sizeof(float); i++)
        ((float *)in.data)[i] = (float)net_pick(&m->n, -9, 9);
    wn_vid x = keep(m, net_input(&m->n, "x", WINNOW_F32, (int)rank, dim));
    if (picture)
        keep(m, conv(m, x));
    for (int64_t i = net_pick(&m->n, 2, 8); i > 0; i--) {
        const wn_vid y = step(m);
        if (elements(type(m, y)) <= MOST)
            keep(m, y);
    }
    net_output(&m->n, m->v[m->n_v - 1]);
    for (unsigned i = 1; i + 1 < m->n_v && m->n.g.outputs.n < 3; i++)
        if (net_pick(&m->n, 0, 5) == 0)
            net_output(&m->n, m->v[i]);
    return in;
}

/* A detector's head: an int8 convolution whose f32 channels are turned behind its pixels. */
static struct winnow_tensor build_head(struct maker *m, uint64_t seed)
{
    net_init(&m->n, seed);
    m->n_v = 0;
    const int64_t parts = net_pick(&m->n, 1, 3), each = net_pick(&m->n, 12, 40), k = net_pick(&m->n, 0, 1) ? 3 : 1;
    const int64_t dim[] = { 1, net_pick(&m->n, 1, 9), net_pick(&m->n, 1, 9), net_pick(&m->n, 1, 17) };
    const int64_t w_dim[] = { parts * each, dim[1], k, k }, pads[] = { k / 2, k / 2, k / 2, k / 2 };
    struct winnow_tensor in = net_tensor(WINNOW_U8, 4, dim, NULL);
    in.data = malloc(in.bytes);
    for (size_t i = 0; i < in.bytes; i++)
        ((uint8_t *)in.data)[i] = (uint8_t)net_pick(&m->n, 0, 255);
    wn_vid x = net_input(&m->n, "x", WINNOW_U8, 4, dim), w = net_const(&m->n, WINNOW_I8, 4, w_dim, NULL);
    for (int64_t i = 0; i < w_dim[0] * w_dim[1] * k * k; i++)
        ((int8_t *)net_data(&m->n, w))[i] = (int8_t)net_pick(&m->n, -127, 127);
    x = net_op(&m->n, "DequantizeLinear",
               NET_IN(x, net_f32(&m->n, 0.02f), net_u8(&m->n, (int)net_pick(&m->n, 0, 255))));
    w = net_op(&m->n, "DequantizeLinear", NET_IN(w, net_f32(&m->n, 0.01f), net_i8(&m->n, 0)));
    wn_vid y = net_op(&m->n, "Conv", NET_IN(x, w));
    net_ints(&m->n, "pads", pads, 4);
    const int64_t split[] = { 1, parts, each, dim[2], dim[3] };
    static const int64_t perms[][5] = { { 0, 1, 3, 4, 2 }, { 0, 3, 4, 1, 2 }, { 0, 1, 4, 3, 2 }, { 3, 0, 1, 4, 2 } };
    static const int64_t whole[] = { 0, 2, 3, 1 };
    const bool splits = net_pick(&m->n, 0, 3) > 0;
    if (splits)
        y = net_op(&m->n, "Reshape", NET_IN(y, net_i64s(&m->n, split, 5)));
    y = net_op(&m->n, "Transpose", NET_IN(y));
    net_ints(&m->n, "perm", splits ? perms[net_pick(&m->n, 0, 3)] : whole, splits ? 5 : 4);
    y = net_pick(&m->n, 0, 2) ? function(m, y) : y;
    net_output(&m->n, net_pick(&m->n, 0, 1) ? put_back(m, y) : y);
    return in;
}

static void check_net(struct maker *made, struct winnow_tensor in, enum wn_family family, uint64_t seed)
{
    struct maker m = *made;
    const bool head = family == WN_FAMILY_q8_conv; /* its reference is the layer on columns, and steps behind it */
    winnow_model *ref = net_load(&m.n, !head), *model = net_load(&m.n, false);
    wn_choosing_set(model->tuned, WN_CHOOSE_FORCED, family);
    if (head)
        wn_choosing_set(ref->tuned, WN_CHOOSE_FORCED, WN_FAMILY_q8_gemm);
    for (unsigned threads = 1; threads <= 3; threads++) {
        winnow_pool *pool = NULL;
        winnow_scratch *s, *rs;
        cr_assert_eq(winnow_pool_new(threads, &pool, &m.n.err), WINNOW_OK, "%s", m.n.err.msg);
        cr_assert_eq(winnow_scratch_new(model, pool, &s, &m.n.err), WINNOW_OK, "%s", m.n.err.msg);
        cr_assert_eq(winnow_scratch_new(ref, NULL, &rs, &m.n.err), WINNOW_OK, "%s", m.n.err.msg);
        for (unsigned out = 0; out < m.n.g.outputs.n; out++) {
            struct net_answer got = net_run_on(model, s, &in, 1, out), want = net_run_on(ref, rs, &in, 1, out);
            cr_expect(net_difference(&got.t, &want.t) == 0, "seed %lu, %u threads: output %u differs (%g)", seed, threads,
                      out, net_difference(&got.t, &want.t));
            free(got.t.data);
            free(want.t.data);
        }
        winnow_scratch_free(rs);
        winnow_scratch_free(s);
        winnow_pool_free(pool);
    }
    free(in.data);
    winnow_model_unref(ref);
    winnow_model_unref(model);
    net_done(&m.n);
}

static void check(uint64_t seed)
{
    struct maker m;
    const bool head = seed % 3 == 2;
    struct winnow_tensor in = head ? build_head(&m, seed) : build(&m, seed);
    check_net(&m, in, head ? WN_FAMILY_q8_conv : WN_FAMILY_f32_gemm, seed);
}

Test(lower_move, random_nets_equal_their_reference, .timeout = 300)
{
    const char *first = getenv("WINNOW_TEST_SEED"), *count = getenv("WINNOW_TEST_NETS");
    const uint64_t from = first ? strtoull(first, NULL, 10) : 0, n = count ? strtoull(count, NULL, 10) : 300;
    for (uint64_t seed = from; seed < from + n; seed++)
        check(seed);
}
