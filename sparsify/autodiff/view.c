/* view.c: where an element lies in each layout, and copies between layouts. */
#include "sparsify/autodiff/rules_impl.h"

static size_t sample_at(const struct wn_net_val *v, int64_t n)
{
    const struct wn_lanes_geom *g = &v->geom;
    int64_t blk = n / WN_LANES, lane = n % WN_LANES;
    if (v->rank == 2)
        return wn_lanes_at(g, (int)(blk / g->w), 0, 0, (int)(blk % g->w)) + (size_t)lane;
    return wn_lanes_at(g, (int)blk, 0, 0, 0) + (size_t)lane;
}

size_t wn_val_at(const struct wn_net_val *v, int64_t n, int64_t c, int64_t h, int64_t w)
{
    int64_t H = wn_val_h(v), W = wn_val_w(v), C = v->dim[1];
    switch (v->layout) {
    case WN_LAYOUT_LANES:
        return sample_at(v, n) + ((size_t)c * v->geom.plane + (size_t)h * (size_t)v->geom.pitch + (size_t)w) * WN_LANES;
    case WN_LAYOUT_C8:
        return (((size_t)n * (wn_round_up((size_t)C, 8) / 8) + (size_t)(c / 8)) * (size_t)H + (size_t)h) * (size_t)W *
                   8 +
               (size_t)w * 8 + (size_t)(c % 8);
    default:
        return (((size_t)n * (size_t)C + (size_t)c) * (size_t)H + (size_t)h) * (size_t)W + (size_t)w;
    }
}

/** Floats from one pixel of a row to the next. */
static size_t pixel_step(const struct wn_net_val *v)
{
    return v->layout == WN_LAYOUT_LANES ? WN_LANES : v->layout == WN_LAYOUT_C8 ? 8 : 1;
}

struct copy {
    const struct wn_net_val *from, *to;
    const float *x;
    float *y;
};

/** Samples in groups of 16, so that a group's lines stay in the cache while its lanes are filled one by one. */
static void convert_part(void *arg, unsigned i, unsigned n)
{
    const struct copy *cp = arg;
    const struct wn_net_val *a = cp->from, *b = cp->to;
    int64_t N = a->dim[0], C = a->dim[1], H = wn_val_h(a), W = wn_val_w(a);
    size_t sa = pixel_step(a), sb = pixel_step(b), from, to;
    wn_team_share(((size_t)N + WN_LANES - 1) / WN_LANES, i, n, &from, &to);
    for (size_t g = from; g < to; g++) {
        int64_t n0 = (int64_t)g * WN_LANES, n1 = WN_MIN(n0 + WN_LANES, N);
        for (int64_t c = 0; c < C; c++)
            for (int64_t h = 0; h < H; h++)
                for (int64_t s = n0; s < n1; s++) {
                    const float *x = cp->x + wn_val_at(a, s, c, h, 0);
                    float *y = cp->y + wn_val_at(b, s, c, h, 0);
                    for (int64_t w = 0; w < W; w++)
                        y[(size_t)w * sb] = x[(size_t)w * sa];
                }
        if (b->layout == WN_LAYOUT_C8 && C % 8)
            for (int64_t s = n0; s < n1; s++)
                for (int64_t p = 0; p < H * W; p++)
                    for (int64_t c = C; c % 8; c++)
                        cp->y[wn_val_at(b, s, c, 0, 0) + (size_t)p * 8] = 0.0f;
    }
}

/** Matrices between plain and lanes, 16 rows at a time. */
static void matrix_part(void *arg, unsigned i, unsigned n)
{
    const struct copy *cp = arg;
    const struct wn_net_val *lanes = cp->to->layout == WN_LAYOUT_LANES ? cp->to : cp->from;
    const struct wn_lanes_geom *g = &lanes->geom;
    const struct wn_rows_kernels *k = wn_rows_kernels();
    size_t f = (size_t)g->c, step = g->plane * WN_LANES, from, to;
    wn_team_share((size_t)wn_val_rows(lanes) / WN_LANES, i, n, &from, &to);
    for (size_t b = from; b < to; b++) {
        size_t at = wn_lanes_at(g, (int)(b / (size_t)g->w), 0, 0, (int)(b % (size_t)g->w));
        if (lanes == cp->to)
            k->to_lanes(cp->y + at, step, cp->x + b * WN_LANES * f, f, f);
        else
            k->from_lanes(cp->y + b * WN_LANES * f, f, cp->x + at, step, f);
    }
}

void wn_val_convert(struct wn_net *net, const struct wn_net_val *from, const float *x, const struct wn_net_val *to,
                    float *y)
{
    struct copy cp = { from, to, x, y };
    if (from->layout == to->layout)
        memcpy(y, x, from->floats * sizeof(float));
    else if (!net->pictures)
        wn_team_run(net->threads, from->floats / 16384 + 1, matrix_part, &cp);
    else if (from->rank != 2 && from->rank != 4) /* other ranks are always plain */
        memcpy(y, x, (size_t)wn_val_count(from) * sizeof(float));
    else
        wn_team_run(net->threads, (size_t)from->dim[0] / WN_LANES + 1, convert_part, &cp);
}
