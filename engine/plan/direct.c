/* direct.c: see direct.h. */
#include "engine/plan/direct.h"

#include <math.h>

/* Share of the taps along one axis that lie inside the picture, over all outputs. */
static double inside(int64_t n_out, int64_t n_in, int64_t taps, int64_t stride, int64_t dil, int64_t pad)
{
    double in = 0;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t at = t * dil - pad; /* in the picture: 0 <= at + o * stride < n_in */
        const int64_t from = at < 0 ? WN_MIN((-at + stride - 1) / stride, n_out) : 0;
        const int64_t to = at < n_in ? WN_MIN((n_in - at + stride - 1) / stride, n_out) : 0;
        in += (double)WN_MAX(to - from, 0);
    }
    return in / ((double)n_out * (double)taps);
}

/* Tiles of fewer than 4 pixels take as long as 4. */
double wn_direct_cost(enum wn_family family, size_t pixels, const struct wn_window *win, const struct wn_sparsity *s,
                      double rows)
{
    const struct wn_conv_geom *g = &win->geom;
    if (g->stride_w > WN_CONV_STRIDE)
        return INFINITY;
    const int64_t most = (int64_t)pixels, n = (win->ow + most - 1) / most;
    return wn_cost_of_conv(family, s, rows, (double)g->groups, (double)win->oh * (double)WN_MAX(win->ow, 4 * n),
                           inside(win->oh, win->h, g->kh, g->stride_h, g->dil_h, g->pad_t) *
                               inside(win->ow, win->w, g->kw, g->stride_w, g->dil_w, g->pad_l));
}

bool wn_direct_window(struct wn_lower *lo, const struct wn_window *win, size_t channels, const struct wn_planes *x,
                      const struct wn_planes *y, struct wn_conv_window *ret)
{
    const struct wn_conv_geom *g = &win->geom;
    const struct wn_conv_shape shape = {
        .channels = channels,
        .h = (int32_t)win->h,
        .w = (int32_t)win->w,
        .oh = (int32_t)win->oh,
        .ow = (int32_t)win->ow,
        .kh = (int32_t)g->kh,
        .kw = (int32_t)g->kw,
        .stride_h = (int32_t)g->stride_h,
        .stride_w = (int32_t)g->stride_w,
        .dil_h = (int32_t)g->dil_h,
        .dil_w = (int32_t)g->dil_w,
        .pad_t = (int32_t)g->pad_t,
        .pad_l = (int32_t)g->pad_l,
        .x_pitch = (size_t)x->layout.plane.pitch,
        .x_stride = x->plane_bytes / 4,
        .y_pitch = (size_t)y->layout.plane.pitch,
        .y_cols = y->layout.plane.cols,
    };
    return wn_conv_window_make(&lo->plan->arena, &shape, ret);
}

struct wn_tiling wn_direct_tiling(const struct wn_window *win, size_t rows)
{
    const size_t oh = (size_t)win->oh;
    const bool by_pixels = rows * win->n_taps <= (size_t)(win->h * win->w);
    return (struct wn_tiling){ .cols = oh, .tile = by_pixels ? 1 : oh, .step = 1, .rows = rows, .unit = WN_CONV_ROWS };
}

enum winnow_status wn_direct_source(struct wn_lower *lo, const struct wn_node *node, enum wn_form form,
                                    struct wn_source *ret)
{
    WN_TRY(wn_planes_get(lo, node->in[0], form, &ret->planes));
    ret->channel_bytes = ret->planes.plane_bytes;
    return wn_planes_check(lo, node, &ret->planes);
}
