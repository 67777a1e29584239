/* window.c: the geometry of a sliding window, shared by convolution and pooling.  Source: ONNX Conv, MaxPool. */
#include "engine/ops/impl.h"

#include <string.h>

/* An attribute with one integer in [lo, hi] per spatial axis (or `per` per axis). */
static enum winnow_status per_axis(const struct wn_node *node, const char *name, int nd, int per, int64_t lo,
                                   int64_t hi, int64_t *ret, struct winnow_err *err)
{
    size_t n;
    const int64_t *v = wn_node_ints(node, name, &n);
    if (!v || n == 0)
        return WINNOW_OK;
    if (n != (size_t)(nd * per))
        return wn_bad(err, "attribute %s has %zu elements, must have %d", name, n, nd * per);
    for (size_t i = 0; i < n; i++) {
        if (v[i] < lo || v[i] > hi)
            return wn_bad(err, "attribute %s: %lld is out of range", name, (long long)v[i]);
        ret[i] = v[i];
    }
    return WINNOW_OK;
}

static void print_extents(char *to, size_t size, const int64_t *v, int n)
{
    size_t at = 0;
    for (int i = 0; i < n && at < size; i++)
        at += (size_t)__builtin_snprintf(to + at, size - at, "%s%lld", i ? "x" : "", (long long)v[i]);
}

#define EXTENT_MAX INT32_MAX /* of kernel, stride, dilation, pad: sums and products of two stay far from overflow */

static enum winnow_status too_large(const struct wn_window *w, const int64_t *padded, struct winnow_err *err)
{
    char kernel[96], input[96];
    print_extents(kernel, sizeof kernel, w->kernel, w->nd);
    print_extents(input, sizeof input, padded, w->nd);
    return wn_bad(err, "kernel %s exceeds padded input %s", kernel, input);
}

static enum winnow_status resolve_axis(struct wn_window *w, int i, bool same, bool upper, bool valid, bool ceil_mode,
                                       int64_t *padded, struct winnow_err *err)
{
    int64_t in = w->in[i], s = w->stride[i];
    if (in > INT64_MAX / 4)
        return wn_bad(err, "input extent %lld is too large", (long long)in);
    if (valid)
        w->pad[i] = w->pad_end[i] = 0;
    if (in < 0 || w->kernel[i] < 0) {
        w->out[i] = same && in >= 0 ? (in + s - 1) / s : -1;
        if (same)
            w->pad[i] = w->pad_end[i] = -1;
        if (in < 0 && !same && w->kernel[i] == 1 && s == 1 && w->pad[i] + w->pad_end[i] == 0)
            w->out[i] = in;
        padded[i] = INT64_MAX;
        return WINNOW_OK;
    }
    int64_t span = (w->kernel[i] - 1) * w->dil[i] + 1;
    if (same) {
        w->out[i] = (in + s - 1) / s;
        int64_t total = WN_MAX((w->out[i] - 1) * s + span - in, 0);
        w->pad[i] = upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad[i];
        padded[i] = in + total;
        return WINNOW_OK;
    }
    padded[i] = in + w->pad[i] + w->pad_end[i];
    int64_t room = padded[i] - span;
    w->out[i] = room < 0 ? 0 : (ceil_mode ? (room + s - 1) / s : room / s) + 1;
    if (ceil_mode && room >= 0 && (w->out[i] - 1) * s >= in + w->pad[i]) /* a window wholly in the end padding */
        w->out[i]--;
    if (room < 0)
        padded[i] = -padded[i] - 1; /* noted; the message wants all extents first */
    return WINNOW_OK;
}

enum winnow_status wn_window_init(struct wn_window *w, const struct wn_node *node, const struct wn_type *x,
                                  const int64_t *kernel, bool ceil_mode, struct winnow_err *err)
{
    memset(w, 0, sizeof *w);
    if (x->rank < 3)
        return wn_bad(err, "input 0 has rank %d, must be at least 3", x->rank);
    w->nd = x->rank - 2;
    for (int i = 0; i < w->nd; i++) {
        w->in[i] = x->dim[i + 2];
        w->stride[i] = w->dil[i] = 1;
        w->kernel[i] = kernel ? kernel[i] : 0;
    }
    int64_t attr_kernel[WN_MAX_SPATIAL] = { 0 }, pads[2 * WN_MAX_SPATIAL] = { 0 };
    WN_TRY(per_axis(node, "kernel_shape", w->nd, 1, 1, EXTENT_MAX, attr_kernel, err));
    WN_TRY(per_axis(node, "strides", w->nd, 1, 1, EXTENT_MAX, w->stride, err));
    WN_TRY(per_axis(node, "dilations", w->nd, 1, 1, EXTENT_MAX, w->dil, err));
    WN_TRY(per_axis(node, "pads", w->nd, 2, 0, EXTENT_MAX, pads, err));
    for (int i = 0; i < w->nd; i++) {
        w->pad[i] = pads[i];
        w->pad_end[i] = pads[i + w->nd];
        if (!kernel && attr_kernel[i] == 0)
            return wn_bad(err, "attribute kernel_shape is missing");
        if (kernel && attr_kernel[i])
            WN_TRY(wn_dim_same(kernel[i], attr_kernel[i], "kernel_shape and the weights' extent", &w->kernel[i], err));
        else if (!kernel)
            w->kernel[i] = attr_kernel[i];
        if (w->kernel[i] == 0 || w->kernel[i] > EXTENT_MAX)
            return wn_bad(err, "kernel extent %lld is out of range", (long long)w->kernel[i]);
    }
    bool upper = wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_UPPER");
    bool lower = wn_node_str_is(node, "auto_pad", "NOTSET", "SAME_LOWER");
    bool valid = wn_node_str_is(node, "auto_pad", "NOTSET", "VALID");
    if (!upper && !lower && !valid && !wn_node_str_is(node, "auto_pad", "NOTSET", "NOTSET"))
        return wn_bad(err, "attribute auto_pad is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID");
    int64_t padded[WN_MAX_SPATIAL];
    bool bad = false;
    for (int i = 0; i < w->nd; i++) {
        WN_TRY(resolve_axis(w, i, upper || lower, upper, valid, ceil_mode, padded, err));
        bad |= padded[i] < 0;
    }
    for (int i = 0; bad && i < w->nd; i++)
        padded[i] = padded[i] < 0 ? -(padded[i] + 1) : padded[i];
    return bad ? too_large(w, padded, err) : WINNOW_OK;
}
