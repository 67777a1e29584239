/* resize.c: Resize and Upsample: nearest, linear and cubic over any axes.  Source: ONNX Operators.md, Resize.
 *
 * DESIGN  Interpolation is separable: for each axis that changes, every output position is a short list of taps (input
 *         position, weight), and the axes are applied one after the other in f64. Nearest neighbour has one tap per
 *         position and is a gather of elements, for every dtype. */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

enum coord { HALF_PIXEL, PYTORCH, ALIGN, ASYMMETRIC, TF_HALF, TF_CROP, SYMMETRIC };
enum mode { NEAREST, LINEAR, CUBIC };
enum rounding { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL };

struct resize {
    int rank;
    enum mode mode;
    enum coord coord;
    enum rounding rounding;
    bool antialias, exclude_outside;
    double cubic_a, extrapolation;
    int64_t in[WINNOW_MAX_RANK], out[WINNOW_MAX_RANK]; /* -1 = unknown */
    double scale[WINNOW_MAX_RANK], roi_from[WINNOW_MAX_RANK], roi_to[WINNOW_MAX_RANK];
    unsigned kept; /* bit a: axis a is the same whatever its extent */
};

/* ---- reading the node ---- */
static enum winnow_status choose(const struct wn_node *node, const char *attr, const char *def,
                                 const char *const *names, size_t n, unsigned *ret, struct winnow_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (wn_node_str_is(node, attr, def, names[i])) {
            *ret = (unsigned)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute %s has an unknown value", attr);
}

static enum winnow_status read_modes(struct resize *r, const struct wn_node *node, struct winnow_err *err)
{
    static const char *const modes[] = { "nearest", "linear", "cubic", "bilinear" };
    static const char *const coords[] = { "half_pixel",          "pytorch_half_pixel",   "align_corners",
                                          "asymmetric",          "tf_half_pixel_for_nn", "tf_crop_and_resize",
                                          "half_pixel_symmetric" };
    static const char *const roundings[] = { "round_prefer_floor", "round_prefer_ceil", "floor", "ceil" };
    bool old = node->opset < 11;
    unsigned mode = 0, coord = 0, rounding = 0;
    WN_TRY(choose(node, "mode", "nearest", modes, WN_COUNT(modes), &mode, err));
    WN_TRY(choose(node, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel", coords, WN_COUNT(coords),
                  &coord, err));
    WN_TRY(choose(node, "nearest_mode", old ? "floor" : "round_prefer_floor", roundings, WN_COUNT(roundings), &rounding,
                  err));
    r->mode = mode == 3 ? LINEAR : (enum mode)mode;
    r->coord = (enum coord)coord;
    r->rounding = (enum rounding)rounding;
    r->antialias = wn_node_int(node, "antialias", 0) != 0 && r->mode != NEAREST;
    r->exclude_outside = wn_node_int(node, "exclude_outside", 0) != 0;
    r->cubic_a = wn_node_float(node, "cubic_coeff_a", -0.75f);
    r->extrapolation = wn_node_float(node, "extrapolation_value", 0);
    return WINNOW_OK;
}

/* The axes that scales, sizes and roi speak of. */
static enum winnow_status read_axes(const struct wn_node *node, int rank, int *axes, int *ret_n, struct winnow_err *err)
{
    size_t n;
    const int64_t *v = node->opset >= 18 ? wn_node_ints(node, "axes", &n) : NULL;
    unsigned seen = 0;
    *ret_n = v ? (int)n : rank;
    if (v && n > (size_t)rank)
        return wn_bad(err, "attribute axes has %zu elements for rank %d", n, rank);
    for (int i = 0; i < *ret_n; i++) {
        axes[i] = i;
        if (v)
            WN_TRY(wn_axis(v[i], rank, "axis", &axes[i], err));
        if (seen >> axes[i] & 1)
            return wn_bad(err, "axis %d is given twice", axes[i]);
        seen |= 1u << axes[i];
    }
    return WINNOW_OK;
}

#define EXTENT_MAX (1ll << 40)

static enum winnow_status use_scale(struct resize *r, int a, double scale, struct winnow_err *err)
{
    if (!(scale > 0) || !(scale <= 1e9))
        return wn_bad(err, "scale %g of axis %d", scale, a);
    r->scale[a] = scale;
    if (scale == 1)
        r->kept |= 1u << a;
    if (r->in[a] < 0)
        return WINNOW_OK;
    double out = floor((double)((float)r->in[a] * (float)scale));
    if (out > EXTENT_MAX)
        return wn_bad(err, "axis %d: extent %lld by %g is too large", a, (long long)r->in[a], scale);
    r->out[a] = scale == 1 ? r->in[a] : (int64_t)out;
    return WINNOW_OK;
}

/* Sizes, where the aspect may have to be kept. */
static enum winnow_status use_sizes(struct resize *r, const struct wn_node *node, const int64_t *sizes, const int *axes,
                                    int n, struct winnow_err *err)
{
    bool larger = wn_node_str_is(node, "keep_aspect_ratio_policy", "stretch", "not_smaller");
    bool smaller = wn_node_str_is(node, "keep_aspect_ratio_policy", "stretch", "not_larger");
    double common = 0;
    for (int i = 0; i < n; i++) {
        int a = axes[i];
        if (sizes[i] < 0 || sizes[i] > EXTENT_MAX)
            return wn_bad(err, "size %lld of axis %d", (long long)sizes[i], a);
        if (r->in[a] == 0 && sizes[i] > 0)
            return wn_bad(err, "axis %d: extent 0 cannot become %lld", a, (long long)sizes[i]);
        double s = r->in[a] > 0 ? (double)sizes[i] / (double)r->in[a] : 1;
        common = i == 0 || (larger ? s > common : s < common) ? s : common;
        r->out[a] = sizes[i];
        r->scale[a] = s;
    }
    for (int i = 0; (larger || smaller) && i < n; i++) {
        int a = axes[i];
        r->scale[a] = common;
        r->out[a] = r->in[a] < 0 ? -1 : (int64_t)floor((double)r->in[a] * common + 0.5);
    }
    return WINNOW_OK;
}

/* Which inputs hold what depends on the opset. -1: there is none. */
static void input_places(const struct wn_node *node, int *roi, int *scales, int *sizes)
{
    bool resize = !strcmp(node->op_type, "Resize");
    *roi = resize && node->opset >= 11 ? 1 : -1;
    *scales = !resize ? (node->opset >= 9 ? 1 : -1) : node->opset >= 11 ? 2 : 1;
    *sizes = resize && node->opset >= 11 ? 3 : -1;
}

/* `in` [n_in]: the inputs' data, NULL where omitted or unknown. *ret_known: all of it was there. */
static enum winnow_status resize_init(struct resize *r, const struct wn_node *node, const struct wn_type *x,
                                      const struct wn_tensor *const *in, const bool *given, unsigned n_in,
                                      struct winnow_err *err)
{
    int roi_at, scales_at, sizes_at, axes[WINNOW_MAX_RANK], n;
    memset(r, 0, sizeof *r);
    r->rank = x->rank;
    WN_TRY(read_modes(r, node, err));
    WN_TRY(read_axes(node, x->rank, axes, &n, err));
    input_places(node, &roi_at, &scales_at, &sizes_at);
    unsigned touched = 0;
    for (int i = 0; i < n; i++)
        touched |= 1u << axes[i];
    for (int a = 0; a < x->rank; a++) {
        r->in[a] = x->dim[a];
        r->out[a] = touched >> a & 1 ? -1 : x->dim[a];
        r->scale[a] = r->roi_to[a] = 1;
        r->kept |= touched >> a & 1 ? 0 : 1u << a;
    }
    bool has_sizes = sizes_at >= 0 && (unsigned)sizes_at < n_in && given[sizes_at];
    bool has_scales = scales_at >= 0 && (unsigned)scales_at < n_in && given[scales_at];
    const struct wn_tensor *roi = roi_at >= 0 && (unsigned)roi_at < n_in ? in[roi_at] : NULL;
    if (has_scales && in[scales_at] && wn_tensor_count(in[scales_at]) == 0)
        has_scales = false; /* opset 11: an empty tensor stands for an omitted one */
    if (has_sizes && in[sizes_at] && wn_tensor_count(in[sizes_at]) == 0)
        has_sizes = false;
    const struct wn_attr *attr = scales_at < 0 ? wn_node_attr(node, "scales") : NULL;
    if (!has_sizes && !has_scales && !attr)
        return wn_bad(err, "neither scales nor sizes");
    if (roi && r->coord == TF_CROP) {
        if (!wn_dtype_is_float(roi->dtype) || wn_tensor_count(roi) != 2 * n)
            return wn_bad(err, "roi must have %d numbers", 2 * n);
        for (int i = 0; i < n; i++) {
            r->roi_from[axes[i]] = wn_scalar(roi, i);
            r->roi_to[axes[i]] = wn_scalar(roi, i + n);
        }
    }
    if (has_sizes) {
        int64_t sizes[WINNOW_MAX_RANK];
        size_t have;
        if (!in[sizes_at])
            return WINNOW_OK;
        WN_TRY(wn_ints(in[sizes_at], "sizes", sizes, WINNOW_MAX_RANK, &have, err));
        return have == (size_t)n ? use_sizes(r, node, sizes, axes, n, err)
                                 : wn_bad(err, "sizes has %zu elements, must have %d", have, n);
    }
    const struct wn_tensor *scales = attr ? NULL : in[scales_at];
    if (!attr && !scales)
        return WINNOW_OK;
    int64_t have = attr ? (int64_t)attr->n : wn_tensor_count(scales);
    if (have != n || (attr && !attr->floats) || (scales && !wn_dtype_is_float(scales->dtype)))
        return wn_bad(err, "scales has %lld numbers, must have %d", (long long)have, n);
    for (int i = 0; i < n; i++)
        WN_TRY(use_scale(r, axes[i], attr ? (double)attr->floats[i] : wn_scalar(scales, i), err));
    return WINNOW_OK;
}

enum winnow_status wn_infer_resize(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct resize r;
    WN_TRY(wn_want(in, 0, WN_NUMBERS | WN_D(BOOL), err));
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(resize_init(&r, in->node, x, in->value, in->given, in->n_in, err));
    in->out[0].rank = x->rank;
    memcpy(in->out[0].dim, r.out, sizeof in->out[0].dim);
    return WINNOW_OK;
}

void wn_rows_resize(struct wn_rows *row)
{
    const struct wn_infer *in = row->infer;
    struct resize r;
    if (!wn_rows_trivial(row) && wn_rows_only(row, 0) && in->in[0].rank >= 0 &&
        resize_init(&r, row->node, &in->in[0], in->value, in->given, in->n_in, NULL) == WINNOW_OK &&
        (r.kept >> row->in_axis[0] & 1))
        row->out_axis = row->in_axis[0];
}

/* ---- taps ---- */

/* Where output position x of axis a lies in the input. */
static double source_of(const struct resize *r, int a, int64_t x)
{
    double s = r->scale[a], in = (double)r->in[a], out = (double)r->out[a], at = (double)x;
    switch (r->coord) {
    case PYTORCH:
        return r->out[a] > 1 ? (at + 0.5) / s - 0.5 : 0;
    case ALIGN:
        return s * in != 1 ? at * (in - 1) / (s * in - 1) : 0; /* ONNX's tests: the extent before rounding down */
    case ASYMMETRIC:
        return at / s;
    case TF_HALF:
        return (at + 0.5) / s;
    case TF_CROP:
        return r->out[a] > 1 ? r->roi_from[a] * (in - 1) + at * (r->roi_to[a] - r->roi_from[a]) * (in - 1) / (out - 1)
                             : 0.5 * (r->roi_from[a] + r->roi_to[a]) * (in - 1);
    case SYMMETRIC:
        return in / 2 * (1 - out / (s * in)) + (at + 0.5) / s - 0.5;
    default:
        return (at + 0.5) / s - 0.5;
    }
}

static bool is_outside(const struct resize *r, int a, double x)
{
    return r->coord == TF_CROP && !(x >= 0 && x <= (double)(r->in[a] - 1));
}

static int64_t nearest_of(const struct resize *r, int a, int64_t x)
{
    double at = source_of(r, a, x), y;
    switch (r->rounding) {
    case PREFER_FLOOR:
        y = ceil(at - 0.5);
        break;
    case PREFER_CEIL:
        y = floor(at + 0.5);
        break;
    case FLOOR:
        y = floor(at);
        break;
    default:
        y = ceil(at);
    }
    int64_t i = wn_i64_of_f64(y);
    return WN_MAX(WN_MIN(i, r->in[a] - 1), 0);
}

bool wn_resize_map(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *const *in,
                   unsigned n_in, int axis, int64_t n_out, int32_t *ret_map)
{
    bool given[WN_OP_MAX_IN] = { true };
    struct resize r;
    for (unsigned i = 1; i < n_in; i++)
        given[i] = in[i] != NULL;
    if (resize_init(&r, node, x, in, given, n_in, NULL) != WINNOW_OK || r.mode != NEAREST || r.out[axis] != n_out ||
        r.in[axis] > INT32_MAX)
        return false;
    for (int64_t i = 0; i < n_out; i++) {
        if (is_outside(&r, axis, source_of(&r, axis, i)))
            return false;
        ret_map[i] = (int32_t)nearest_of(&r, axis, i);
    }
    return true;
}

static double kernel_at(const struct resize *r, double t)
{
    t = fabs(t);
    if (r->mode == LINEAR)
        return t < 1 ? 1 - t : 0;
    double c = r->cubic_a;
    if (t <= 1)
        return ((c + 2) * t - (c + 3)) * t * t + 1;
    return t < 2 ? ((c * t - 5 * c) * t + 8 * c) * t - 4 * c : 0;
}

/* y = x with axis a interpolated. Both are row-major with `outer` blocks before and `inner` elements after the axis. */
static void resize_axis(const struct resize *r, int a, int64_t outer, int64_t inner, const double *x, double *y)
{
    double stretch = r->antialias && r->scale[a] < 1 ? r->scale[a] : 1, reach = (r->mode == LINEAR ? 1 : 2) / stretch;
    int64_t n = r->in[a], first = (int64_t)floor(-reach) + 1, last = 1 - first;
    memset(y, 0, (size_t)(outer * r->out[a] * inner) * sizeof *y);
    for (int64_t o = 0; o < r->out[a]; o++) {
        double at = source_of(r, a, o);
        at = at > -4 ? (at < (double)n + 4 ? at : (double)n + 4) : -4; /* beyond, only edges are seen */
        double base = floor(at), sum = 0;
        for (int pass = 0; pass < 2; pass++) /* first the weights' sum, then the values */
            for (int64_t k = first; k <= last; k++) {
                int64_t from = (int64_t)base + k;
                double w = kernel_at(r, ((double)k - (at - base)) * stretch);
                if (w == 0 || (r->exclude_outside && (from < 0 || from >= n)))
                    continue;
                if (pass == 0) {
                    sum += w;
                    continue;
                }
                from = WN_MAX(WN_MIN(from, n - 1), 0);
                w = (r->exclude_outside || r->antialias) && sum != 0 ? w / sum : w;
                for (int64_t b = 0; b < outer; b++)
                    for (int64_t i = 0; i < inner; i++)
                        y[(b * r->out[a] + o) * inner + i] += w * x[(b * n + from) * inner + i];
            }
    }
}

/* ---- running ---- */
static enum winnow_status run_nearest(struct wn_run *run, const struct resize *r, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int64_t own[WINNOW_MAX_RANK], *from[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    size_t elem = winnow_dtype_size(x->dtype);
    wn_strides(x->rank, x->dim, own);
    for (int a = 0; a < r->rank; a++) {
        from[a] = wn_arena_calloc(run->tmp, (size_t)r->out[a], sizeof **from);
        if (!from[a])
            return wn_nomem(err);
        for (int64_t i = 0; i < r->out[a]; i++)
            from[a][i] = is_outside(r, a, source_of(r, a, i)) ? -1 : nearest_of(r, a, i) * own[a];
    }
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t at = 0;
        for (int a = 0; a < r->rank && at >= 0; a++)
            at = from[a][idx[a]] < 0 ? -1 : at + from[a][idx[a]];
        if (at < 0)
            wn_store(y->dtype, y->data, i, 1, WN_CLS_F64, &r->extrapolation);
        else
            memcpy((char *)y->data + (size_t)i * elem, (const char *)x->data + (size_t)at * elem, elem);
    }
    return WINNOW_OK;
}

static enum winnow_status run_interpolate(struct wn_run *run, const struct resize *r, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    const double *v = wn_as_f64(run->in[0], run->tmp);
    int64_t dim[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    memcpy(dim, r->in, sizeof dim);
    for (int a = 0; v && a < r->rank; a++) {
        int64_t outer, inner, total;
        if (r->out[a] == r->in[a] && r->coord != TF_CROP)
            continue;
        WN_TRY(wn_dim_prod(dim, 0, a, &outer, err));
        WN_TRY(wn_dim_prod(dim, a + 1, r->rank, &inner, err));
        dim[a] = r->out[a];
        WN_TRY(wn_dim_prod(dim, 0, r->rank, &total, err));
        double *next = wn_arena_calloc(run->tmp, (size_t)total, sizeof *next);
        if (next && total)
            resize_axis(r, a, outer, inner, v, next);
        v = next;
    }
    if (!v)
        return wn_nomem(err);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        bool outside = false;
        for (int a = 0; r->coord == TF_CROP && a < r->rank; a++)
            outside |= is_outside(r, a, source_of(r, a, idx[a]));
        wn_store(y->dtype, y->data, i, 1, WN_CLS_F64, outside ? &r->extrapolation : &v[i]);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_resize(struct wn_run *run, struct winnow_err *err)
{
    struct wn_type x = wn_type_of(run->in[0]);
    bool given[WN_OP_MAX_IN];
    struct resize r;
    for (unsigned i = 0; i < run->n_in; i++)
        given[i] = run->in[i] != NULL;
    WN_TRY(resize_init(&r, run->node, &x, run->in, given, run->n_in, err));
    if (wn_tensor_count(&run->out[0]) == 0)
        return WINNOW_OK;
    return r.mode == NEAREST ? run_nearest(run, &r, err) : run_interpolate(run, &r, err);
}
