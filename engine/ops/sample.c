/* sample.c: values between the points of a grid: GridSample, AffineGrid and DeformConv (onnx/defs/nn/defs.cc). */
#include <math.h>
#include <string.h>
#include "engine/ops/impl.h"

#define MAX_AXES 3 /* a cubic value of more is a sum over thousands */

/* ---- GridSample: X [N, C, d1...dk], grid [N, o1...ok, k] with coordinates from -1 to 1, the last axis first ---- */

enum mode { LINEAR, NEAREST, CUBIC };
enum padding { ZEROS, BORDER, REFLECTION };

struct sampler {
    enum mode mode;
    enum padding padding;
    bool corners; /* -1 and 1 are the middles of the outermost points, not their outer edges */
    int nd;
    int64_t dim[MAX_AXES], stride[MAX_AXES];
    const float *x; /* one channel */
};

static enum winnow_status read_sampler(const struct wn_node *node, struct sampler *s, struct winnow_err *err)
{
    static const char *const modes[] = { "linear", "nearest", "cubic" }, *const old_modes[] = { "bilinear", "nearest",
                                                                                                "bicubic" };
    static const char *const paddings[] = { "zeros", "border", "reflection" };
    bool mode = false, padding = false;
    for (unsigned i = 0; i < 3; i++) {
        if (wn_node_str_is(node, "mode", "linear", modes[i]) || wn_node_str_is(node, "mode", "linear", old_modes[i])) {
            s->mode = (enum mode)i;
            mode = true;
        }
        if (wn_node_str_is(node, "padding_mode", "zeros", paddings[i])) {
            s->padding = (enum padding)i;
            padding = true;
        }
    }
    s->corners = wn_node_int(node, "align_corners", 0) != 0;
    return mode && padding ? WINNOW_OK : wn_bad(err, "attribute %s", mode ? "padding_mode" : "mode");
}

enum winnow_status wn_infer_grid_sample(struct wn_infer *in, struct winnow_err *err)
{
    struct sampler s;
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want(in, 1, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 3, 2 + MAX_AXES, err));
    WN_TRY(wn_want_rank(in, 1, 3, 2 + MAX_AXES, err));
    WN_TRY(read_sampler(in->node, &s, err));
    const struct wn_type *x = &in->in[0], *grid = &in->in[1];
    in->out[0].dtype = x->dtype;
    if (x->rank < 0 || grid->rank < 0)
        return WINNOW_OK;
    if (x->rank != grid->rank)
        return wn_bad(err, "X has rank %d, grid %d", x->rank, grid->rank);
    WN_TRY(wn_dim_same(x->dim[0], grid->dim[0], "batches of X and grid", &same, err));
    in->out[0].rank = x->rank;
    in->out[0].dim[0] = same;
    WN_TRY(wn_dim_same(grid->dim[grid->rank - 1], x->rank - 2, "coordinates and axes", &same, err));
    in->out[0].dim[1] = x->dim[1];
    for (int a = 2; a < x->rank; a++)
        in->out[0].dim[a] = grid->dim[a - 1];
    return WINNOW_OK;
}

/* A coordinate outside, mirrored at lo and hi as often as needed. */
static float reflect(float p, float lo, float hi)
{
    float range = hi - lo;
    if (!(range > 0) || !isfinite(p))
        return lo;
    float off = fmodf(fabsf(p - lo), 2 * range);
    return lo + (off > range ? 2 * range - off : off);
}

/* The index along an axis that stands for `i`; -1: a zero. */
static int64_t index_of(const struct sampler *s, int axis, float i)
{
    int64_t n = s->dim[axis];
    if (s->padding == BORDER)
        i = fminf(fmaxf(i, 0), (float)(n - 1));
    else if (s->padding == REFLECTION)
        i = s->corners ? reflect(i, 0, (float)(n - 1)) : reflect(i, -0.5f, (float)n - 0.5f);
    if (!(i >= 0 && i <= (float)(n - 1)))
        return -1;
    return (int64_t)i;
}

static int weights(const struct sampler *s, float p, float *first, float w[4])
{
    const float a = -0.75f;
    if (s->mode == NEAREST) {
        *first = rintf(p);
        w[0] = 1;
        return 1;
    }
    float lo = floorf(p), t = p - lo;
    if (s->mode == LINEAR) {
        *first = lo;
        w[0] = 1 - t, w[1] = t;
        return 2;
    }
    *first = lo - 1;
    w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1;
    w[3] = ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a;
    return 4;
}

static float value_at(const struct sampler *s, const float *p, int axis, int64_t at)
{
    if (axis == s->nd)
        return s->x[at];
    float first, w[4], sum = 0;
    int n = weights(s, p[axis], &first, w);
    for (int k = 0; k < n; k++) {
        int64_t i = index_of(s, axis, first + (float)k);
        if (i >= 0)
            sum += w[k] * value_at(s, p, axis + 1, at + i * s->stride[axis]);
    }
    return sum;
}

/* From -1 ... 1 to points of the axis, put inside where the padding says so. */
static float place(const struct sampler *s, int axis, float g)
{
    float n = (float)s->dim[axis], p = s->corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
    if (s->mode == NEAREST)
        return p;
    if (s->padding == BORDER)
        return s->mode == CUBIC ? p : fminf(fmaxf(p, 0), n - 1);
    if (s->padding == REFLECTION)
        return s->corners ? reflect(p, 0, n - 1) : reflect(p, -0.5f, n - 0.5f);
    return p;
}

enum winnow_status wn_run_grid_sample(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *grid = run->in[1];
    struct sampler s = { .nd = (int)x->rank - 2 };
    WN_TRY(read_sampler(run->node, &s, err));
    int64_t points = 1, channel = 1, N = x->dim[0], C = x->dim[1];
    for (int a = s.nd; a-- > 0;) {
        s.dim[a] = x->dim[a + 2];
        s.stride[a] = channel;
        channel *= s.dim[a];
        points *= grid->dim[a + 1];
    }
    const float *xs = wn_as_f32(x, run->tmp), *gs = wn_as_f32(grid, run->tmp);
    float *y = wn_out_f32(run, 0);
    if (!xs || !gs || !y)
        return wn_nomem(err);
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < points; i++) {
            float p[MAX_AXES];
            for (int a = 0; a < s.nd; a++)
                p[a] = place(&s, a, gs[(n * points + i) * s.nd + s.nd - 1 - a]);
            for (int64_t c = 0; c < C; c++) {
                s.x = xs + (n * C + c) * channel;
                y[(n * C + c) * points + i] = channel ? value_at(&s, p, 0, 0) : 0;
            }
        }
    wn_put_f32(run, 0, y);
    return WINNOW_OK;
}

/* ---- AffineGrid: theta [N, k, k + 1], size [N, C, d1...dk] -> grid [N, d1...dk, k] ---- */

enum winnow_status wn_infer_affine_grid(struct wn_infer *in, struct winnow_err *err)
{
    int64_t size[WINNOW_MAX_RANK], same;
    size_t n;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 3, 3, err));
    in->out[0].dtype = in->in[0].dtype;
    if (in->in[1].rank == 1 && in->in[1].dim[0] >= 0 && in->in[1].dim[0] != 4 && in->in[1].dim[0] != 5)
        return wn_bad(err, "size has %lld elements, must have 4 or 5", (long long)in->in[1].dim[0]);
    if (!in->value[1])
        return WINNOW_OK;
    WN_TRY(wn_ints(in->value[1], "size", size, WN_COUNT(size), &n, err));
    if (n != 4 && n != 5)
        return wn_bad(err, "size has %zu elements, must have 4 or 5", n);
    int nd = (int)n - 2;
    if (in->in[0].rank == 3) {
        WN_TRY(wn_dim_same(in->in[0].dim[0], size[0], "batches of theta and size", &same, err));
        WN_TRY(wn_dim_same(in->in[0].dim[1], nd, "rows of theta", &same, err));
        WN_TRY(wn_dim_same(in->in[0].dim[2], nd + 1, "columns of theta", &same, err));
    }
    in->out[0].rank = nd + 2;
    in->out[0].dim[0] = size[0];
    for (int a = 0; a < nd; a++)
        in->out[0].dim[a + 1] = size[a + 2];
    in->out[0].dim[nd + 1] = nd;
    for (int a = 0; a < nd + 1; a++)
        if (in->out[0].dim[a] < 0)
            return wn_bad(err, "size has the extent %lld", (long long)in->out[0].dim[a]);
    return WINNOW_OK;
}

enum winnow_status wn_run_affine_grid(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *g = &run->out[0];
    bool corners = wn_node_int(run->node, "align_corners", 0) != 0;
    int nd = (int)g->rank - 2;
    int64_t points = 1;
    for (int a = 0; a < nd; a++)
        points *= g->dim[a + 1];
    const float *theta = wn_as_f32(run->in[0], run->tmp);
    float *y = wn_out_f32(run, 0);
    if (!theta || !y)
        return wn_nomem(err);
    for (int64_t n = 0; n < g->dim[0]; n++) {
        int64_t idx[WINNOW_MAX_RANK] = { 0 };
        for (int64_t i = 0; i < points; i++, wn_next_index((unsigned)nd, g->dim + 1, idx)) {
            float at[MAX_AXES + 1];
            for (int a = 0; a < nd; a++) { /* the last axis first */
                int64_t k = idx[nd - 1 - a], extent = g->dim[nd - a];
                at[a] = corners ? (extent > 1 ? (float)(2 * k) / (float)(extent - 1) - 1 : 0)
                                : (float)(2 * k + 1) / (float)extent - 1;
            }
            at[nd] = 1;
            for (int r = 0; r < nd; r++) {
                float sum = 0;
                for (int c = 0; c <= nd; c++)
                    sum += theta[(n * nd + r) * (nd + 1) + c] * at[c];
                y[(n * points + i) * nd + r] = sum;
            }
        }
    }
    wn_put_f32(run, 0, y);
    return WINNOW_OK;
}

/* ---- DeformConv in two dimensions: X, W, offset [N, groups * kernel * 2, oh, ow], B, mask ---- */

enum winnow_status wn_infer_deform_conv(struct wn_infer *in, struct winnow_err *err)
{
    struct wn_window w;
    const struct wn_type *x = &in->in[0], *weight = &in->in[1];
    int64_t group = wn_node_int(in->node, "group", 1), offset_group = wn_node_int(in->node, "offset_group", 1), same, n;
    for (unsigned i = 0; i < 5; i++)
        WN_TRY(wn_want(in, i, WN_FLOATS, err));
    if (x->rank >= 0 && x->rank != 4)
        return wn_lack(err, "input 0 of rank %d; only pictures are supported", x->rank);
    WN_TRY(wn_want_rank(in, 1, 4, 4, err));
    WN_TRY(wn_want_rank(in, 2, 4, 4, err));
    WN_TRY(wn_want_rank(in, 3, 1, 1, err));
    WN_TRY(wn_want_rank(in, 4, 4, 4, err));
    if (group < 1 || offset_group < 1)
        return wn_bad(err, "group %lld, offset_group %lld", (long long)group, (long long)offset_group);
    in->out[0].dtype = x->dtype;
    if (x->rank < 0 || weight->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_window_init(&w, in->node, x, weight->dim + 2, false, err));
    WN_TRY(wn_dim_mul(weight->dim[1], group, &n, err));
    WN_TRY(wn_dim_same(x->dim[1], n, "channels of X and W", &same, err));
    if ((same >= 0 && same % offset_group) || (weight->dim[0] >= 0 && weight->dim[0] % group))
        return wn_bad(err, "%lld channels in %lld offset groups, %lld filters in %lld groups", (long long)same,
                      (long long)offset_group, (long long)weight->dim[0], (long long)group);
    int64_t want[4] = { x->dim[0], -1, w.out[0], w.out[1] };
    WN_TRY(wn_dim_mul(w.kernel[0], w.kernel[1], &n, err));
    WN_TRY(wn_dim_mul(n, offset_group, &n, err));
    for (unsigned i = 2; i < 5 && i < in->n_in; i++) {
        if (i == 3 || !in->given[i] || in->in[i].rank != 4)
            continue;
        WN_TRY(wn_dim_mul(n, i == 2 ? 2 : 1, &want[1], err));
        for (int a = 0; a < 4; a++)
            WN_TRY(wn_dim_same(in->in[i].dim[a], want[a], i == 2 ? "offsets" : "mask", &same, err));
    }
    if (in->n_in > 3 && in->given[3] && in->in[3].rank == 1)
        WN_TRY(wn_dim_same(in->in[3].dim[0], weight->dim[0], "bias and filters", &same, err));
    in->out[0] =
        (struct wn_type){ .dtype = x->dtype, .rank = 4, .dim = { x->dim[0], weight->dim[0], w.out[0], w.out[1] } };
    return WINNOW_OK;
}

static float bilinear(const float *x, int64_t H, int64_t W, float py, float px)
{
    if (!(py > -1 && py < (float)H && px > -1 && px < (float)W))
        return 0;
    float y0 = floorf(py), x0 = floorf(px), wy = py - y0, wx = px - x0, sum = 0;
    for (int k = 0; k < 4; k++) {
        int64_t i = (int64_t)y0 + k / 2, j = (int64_t)x0 + k % 2;
        if (i >= 0 && i < H && j >= 0 && j < W)
            sum += (k / 2 ? wy : 1 - wy) * (k % 2 ? wx : 1 - wx) * x[i * W + j];
    }
    return sum;
}

struct deform {
    struct wn_window w;
    int64_t C, M, per_group, per_offset; /* channels, filters, channels of a group and of an offset group */
    int64_t group, offset_group;
    const float *x, *weight, *offset, *bias, *mask; /* x, offset, mask of one picture */
};

static float deform_at(const struct deform *d, int64_t m, int64_t oy, int64_t ox)
{
    const struct wn_window *w = &d->w;
    int64_t points = w->out[0] * w->out[1], at = oy * w->out[1] + ox, kernel = w->kernel[0] * w->kernel[1];
    int64_t first = m / (d->M / d->group) * d->per_group;
    float sum = d->bias ? d->bias[m] : 0;
    for (int64_t c = 0; c < d->per_group; c++)
        for (int64_t k = 0; k < kernel; k++) {
            int64_t tap = (first + c) / d->per_offset * kernel + k;
            float py = (float)(oy * w->stride[0] - w->pad[0] + k / w->kernel[1] * w->dil[0]);
            float px = (float)(ox * w->stride[1] - w->pad[1] + k % w->kernel[1] * w->dil[1]);
            py += d->offset[2 * tap * points + at];
            px += d->offset[(2 * tap + 1) * points + at];
            float v = bilinear(d->x + (first + c) * w->in[0] * w->in[1], w->in[0], w->in[1], py, px);
            sum += d->weight[(m * d->per_group + c) * kernel + k] * v * (d->mask ? d->mask[tap * points + at] : 1);
        }
    return sum;
}

enum winnow_status wn_run_deform_conv(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_type t = wn_type_of(x);
    struct deform d = { .C = x->dim[1],
                        .M = run->in[1]->dim[0],
                        .per_group = run->in[1]->dim[1],
                        .group = wn_node_int(run->node, "group", 1),
                        .offset_group = wn_node_int(run->node, "offset_group", 1) };
    WN_TRY(wn_window_init(&d.w, run->node, &t, run->in[1]->dim + 2, false, err));
    d.per_offset = WN_MAX(d.C / d.offset_group, 1);
    bool bias = run->n_in > 3 && run->in[3], mask = run->n_in > 4 && run->in[4];
    const float *xs = wn_as_f32(x, run->tmp), *offset = wn_as_f32(run->in[2], run->tmp);
    const float *masks = mask ? wn_as_f32(run->in[4], run->tmp) : NULL;
    d.weight = wn_as_f32(run->in[1], run->tmp);
    d.bias = bias ? wn_as_f32(run->in[3], run->tmp) : NULL;
    float *y = wn_out_f32(run, 0);
    if (!xs || !offset || !d.weight || !y || (bias && !d.bias) || (mask && !masks))
        return wn_nomem(err);
    int64_t points = d.w.out[0] * d.w.out[1], taps = d.offset_group * d.w.kernel[0] * d.w.kernel[1];
    for (int64_t n = 0; n < x->dim[0]; n++) {
        d.x = xs + n * d.C * d.w.in[0] * d.w.in[1];
        d.offset = offset + n * 2 * taps * points;
        d.mask = masks ? masks + n * taps * points : NULL;
        for (int64_t m = 0; m < d.M; m++)
            for (int64_t i = 0; i < points; i++)
                y[(n * d.M + m) * points + i] = deform_at(&d, m, i / d.w.out[1], i % d.w.out[1]);
    }
    wn_put_f32(run, 0, y);
    return WINNOW_OK;
}
