/* lower_conv.c: f32 convolutions on planes: depthwise, sparse (unstructured or in blocks of rows) or dense, whichever
 * the cost table says. */
#include <math.h>
#include <string.h>
#include "engine/kernels/f32_dw/f32_dw.h"
#include "engine/plan/activate.h"
#include "engine/plan/direct.h"
#include "engine/plan/f32_pack.h"
#include "engine/plan/planes.h"

/* Results that are computed before their activation: they stay in L2 in between. */
#define ACT_FLOATS ((size_t)64 << 10)

struct conv_arg {
    const struct wn_f32_pack *pack;
    struct wn_f32_dw dw; /* depthwise */
    struct wn_f32_dw2 dw2;
    bool depthwise, strided_dw;
    struct wn_conv_window win; /* f32_conv */
    struct wn_planes x, y;
    struct wn_loc r;
    size_t r_base, group_bytes, channel_bytes;
    const int32_t **off; /* [groups] linked offsets, or koff for gemm and dw */
    const float *bias;
    const uint32_t *mask;
    size_t groups, live; /* columns of y up to its last pixel */
    struct wn_activation act;
    struct wn_tiling tiling; /* of the rows of a group */
    bool pad;
};

static bool is_direct(const struct conv_arg *a)
{
    return a->pack && a->pack->family == WN_FAMILY_f32_conv;
}

/* A block of the columns (f32_conv: of the output rows) and of group g's rows. */
static void run_group(const struct conv_arg *a, struct wn_exec *exec, size_t g, const struct wn_block *b)
{
    const char *x = (char *)wn_at(exec, a->x.loc) + a->x.base + g * a->group_bytes;
    const char *r = a->r.kind == WN_LOC_NONE ? NULL : (char *)wn_at(exec, a->r) + a->r_base;
    char *y = (char *)wn_at(exec, a->y.loc) + a->y.base;
    const bool direct = is_direct(a);
    const size_t first = g * a->tiling.rows, pitch = direct ? a->win.shape.y_pitch : 1, c0 = b->c0 * pitch;
    const size_t c1 = b->c1 == a->tiling.cols ? a->y.layout.plane.cols : b->c1 * pitch, from = direct ? 0 : c0;
    const struct wn_f32_args args = {
        .x = (const float *)x + from,
        .n = c1 - c0,
        .live = a->live > c0 ? WN_MIN(a->live, c1) - c0 : 0,
        .y = (float *)(y + first * a->y.plane_bytes) + from,
        .y_stride = a->y.plane_bytes / 4,
        .bias = a->bias ? a->bias + first : NULL,
        .r = r ? (const float *)(r + first * a->y.plane_bytes) + from : NULL,
        .mask = a->mask ? a->mask + from : NULL,
        .lo = a->act.act == WN_ACT_NONE ? a->act.lo : -INFINITY,
        .hi = a->act.act == WN_ACT_NONE ? a->act.hi : INFINITY,
    };
    if (direct)
        wn_f32_conv_run(&a->pack->conv[g], &a->win, &args, (int32_t)b->c0, (int32_t)b->c1, b->r0, b->r1);
    else if (a->strided_dw)
        wn_f32_dw2_run(&a->dw, &a->dw2, a->off[0], a->channel_bytes, &args, b->r0, b->r1);
    else if (a->depthwise)
        wn_f32_dw_run(&a->dw, a->off[0], a->channel_bytes, &args, b->r0, b->r1);
    else
        wn_f32_pack_run(a->pack, g, a->off[g], &args, b->r0, b->r1);
    for (size_t o = b->r0; o < b->r1 && a->act.act != WN_ACT_NONE; o++)
        wn_activate(&a->act, a->mask ? a->mask + c0 : NULL, args.y + o * args.y_stride + (c0 - from), c1 - c0);
    if (a->pad)
        wn_planes_fill_beside(&a->y, wn_at(exec, a->y.loc), 0, first + b->r0, first + b->r1, c0, c1);
}

/* The block in pieces, cut where its kernel would cut it, when an activation has to be computed on what it writes. */
static void run_block(const struct conv_arg *a, struct wn_exec *exec, size_t g, const struct wn_block *b)
{
    const size_t tile = a->tiling.tile, unit = a->tiling.unit, per = is_direct(a) ? a->win.shape.y_pitch : 1;
    const size_t rows = (b->r1 - b->r0) * per;
    size_t cols = b->c1 - b->c0, at_once = b->r1 - b->r0;
    if (a->act.act != WN_ACT_NONE) {
        cols = WN_MAX(ACT_FLOATS / rows / tile * tile, tile);
        at_once = WN_MAX(ACT_FLOATS / per / cols / unit * unit, unit);
    }
    for (size_t c = b->c0; c < b->c1; c += cols)
        for (size_t r = b->r0; r < b->r1; r += at_once)
            run_group(a, exec, g, &(struct wn_block){ c, WN_MIN(c + cols, b->c1), r, WN_MIN(r + at_once, b->r1) });
}

static void run_conv(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct conv_arg *a = step->arg;
    struct wn_block block[3];
    unsigned n = wn_share_tiles(&a->tiling, part, n_parts, block);
    for (unsigned i = 0; i < n; i++)
        for (size_t g = 0; g < a->groups; g++)
            run_block(a, exec, g, &block[i]);
}

/* Byte offset of every k from column 0 of the group's first channel. */
static int32_t *make_koff(struct wn_lower *lo, const struct wn_source *src, size_t channels, size_t taps)
{
    int32_t *koff = wn_arena_calloc(&lo->plan->arena, channels * taps + 1, sizeof *koff);
    for (size_t i = 0; koff && i < channels; i++)
        for (size_t t = 0; t < taps; t++)
            koff[i * taps + t] = (int32_t)(i * src->channel_bytes) + src->tap_off[t];
    return koff;
}

static enum winnow_status link_groups(struct wn_lower *lo, struct conv_arg *a, const int32_t *koff)
{
    for (size_t g = 0; g < a->pack->groups; g++)
        WN_TRY(wn_f32_pack_link(lo, a->pack, g, koff, &a->off[g]));
    return WINNOW_OK;
}

/* ---- which kernel ---- */

/* Dense or sparse. Other kernels than f32_conv read phases of a strided layer's input. */
static const struct wn_choice *choose(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_sparsity *s,
                                      const struct wn_window *win, double cols)
{
    static const enum wn_family all[] = { WN_FAMILY_f32_gemm, WN_FAMILY_f32_conv, WN_FAMILY_f32_spmm,
                                          WN_FAMILY_f32_spmm_2x1, WN_FAMILY_f32_spmm_4x1 };
    const double rows = (double)w->dim[0];
    struct wn_candidate c[WN_COUNT(all)];
    const double channels = (double)(w->dim[1] * win->geom.groups);
    const double phases = win->strided ? wn_cost_to_phases(channels, (double)(win->h * win->w)) : 0;
    for (size_t i = 0; i < WN_COUNT(all); i++)
        c[i] = (struct wn_candidate){ all[i], all[i] == WN_FAMILY_f32_conv
                                                  ? wn_direct_cost(all[i], wn_f32_conv_pixels(), win, s, rows)
                                                  : wn_cost_of(all[i], s, rows, cols) + phases };
    return wn_lower_choose(lo, w, cols, c, WN_COUNT(all));
}

/* What the layer is, and which kernel runs it. */
static enum winnow_status decide(struct wn_lower *lo, const struct wn_node *node, struct conv_arg *a,
                                 const struct wn_window *win, struct wn_step *info)
{
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    const size_t I = (size_t)w->dim[1], O = (size_t)w->dim[0];
    const struct wn_sparsity s = wn_facts_sparsity(lo->model->facts, w, O, I, win->n_taps);
    a->depthwise = I == 1 && win->geom.groups > 1;
    a->strided_dw = wn_geometry_strided_dw(lo, node, &win->geom);
    info->sparsity = s.share;
    info->pattern = s.pattern;
    info->macs = (uint64_t)s.count * (uint64_t)(win->oh * win->ow);
    if (a->depthwise)
        return WINNOW_OK;
    info->choice = choose(lo, w, &s, win, (double)wn_geometry_of(lo, node->out[0], 4).plane.cols);
    if (!info->choice)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    info->why = info->choice->why;
    return WINNOW_OK;
}

/* ---- the step ---- */

static enum winnow_status set_depthwise(struct wn_lower *lo, const struct wn_tensor *w, struct conv_arg *a,
                                        const struct wn_source *src, const struct wn_window *win, struct wn_step *info)
{
    const size_t cols = a->y.layout.plane.cols, O = (size_t)w->dim[0];
    const void *data;
    WN_TRY(wn_facts_pin(lo->model->facts, w, &data, lo->err));
    a->groups = 1;
    a->dw = (struct wn_f32_dw){ .w = data, .taps = win->n_taps, .mult = O / (size_t)win->geom.groups };
    a->off[0] = src->tap_off;
    a->dw2 = (struct wn_f32_dw2){ .oh = (int32_t)win->oh, .ow = (int32_t)win->ow, .y_cols = cols };
    a->dw2.x_down = (size_t)win->geom.stride_h * (size_t)a->x.layout.plane.pitch;
    a->dw2.y_pitch = (size_t)a->y.layout.plane.pitch;
    a->tiling = (struct wn_tiling){ .cols = cols, .tile = cols, .step = cols, .rows = O, .unit = 1 };
    info->weight_bytes = w->bytes;
    info->kernel = wn_arena_printf(&lo->plan->arena, "f32_dw__%s", wn_isa_name(wn_cpu_isa()));
    return WINNOW_OK;
}

static enum winnow_status set_weights(struct wn_lower *lo, const struct wn_node *node, struct conv_arg *a,
                                      const struct wn_source *src, const struct wn_window *win, struct wn_step *info)
{
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    const size_t groups = (size_t)win->geom.groups, taps = win->n_taps, I = (size_t)w->dim[1], O = (size_t)w->dim[0];
    if (a->depthwise)
        return set_depthwise(lo, w, a, src, win, info);
    struct wn_f32_pack_arg pa = { .groups = groups, .rows = O / groups, .k = I * taps, .taps = taps };
    pa.family = info->choice->family;
    WN_TRY(wn_f32_pack_get(lo, w, &pa, &a->pack, &info->weight_bytes));
    info->kernel = wn_f32_kernel_name(lo, pa.family);
    a->groups = groups;
    a->group_bytes = I * src->channel_bytes;
    if (pa.family == WN_FAMILY_f32_conv) {
        a->tiling = wn_direct_tiling(win, pa.rows);
        return wn_direct_window(lo, win, I, &a->x, &a->y, &a->win) ? WINNOW_OK
                                                                   : wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    }
    a->tiling = wn_f32_tiling(pa.family, a->y.layout.plane.cols, pa.rows);
    int32_t *koff = make_koff(lo, src, I, taps);
    return koff ? link_groups(lo, a, koff) : wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
}

/* What the kernel reads: the input's planes as they lie, or as its columns want them. */
static enum winnow_status set_source(struct wn_lower *lo, const struct wn_node *node, const struct wn_choice *choice,
                                     const struct wn_window *win, bool strided_dw, struct wn_source *src)
{
    if (!strided_dw && (!choice || choice->family != WN_FAMILY_f32_conv))
        return wn_planes_source(lo, node, win, WN_FORM_F32, 0, src);
    WN_TRY(wn_direct_source(lo, node, WN_FORM_F32, src));
    if (!strided_dw)
        return WINNOW_OK;
    const struct wn_conv_geom *g = &win->geom;
    src->tap_off = wn_arena_calloc(&lo->plan->arena, win->n_taps + 1u, sizeof *src->tap_off);
    if (!src->tap_off)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (int64_t t = 0; t < win->n_taps; t++) {
        const int64_t y = t / g->kw * g->dil_h - g->pad_t, x = t % g->kw * g->dil_w - g->pad_l;
        src->tap_off[t] = (int32_t)((y * src->planes.layout.plane.pitch + x) * (int64_t)sizeof(float));
    }
    return WINNOW_OK;
}

enum winnow_status wn_lower_conv_f32(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom geom;
    struct wn_window win;
    *done = false;
    if (!wn_fused_is(node, "Conv") || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_WINDOW ||
        !wn_window_make(lo, &geom, node->in[0], &win))
        return WINNOW_OK;
    const struct wn_fused_f32 *f = node->fused;
    struct wn_source src;
    struct conv_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    struct wn_step info = { .why = "", .pattern = "" };
    if (!a || !(a->off = wn_arena_calloc(&lo->plan->arena, (size_t)geom.groups + 1, sizeof *a->off)))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(decide(lo, node, a, &win, &info));
    WN_TRY(set_source(lo, node, info.choice, &win, a->strided_dw, &src));
    struct wn_planes r = { 0 };
    if (node->n_in == 4 && node->in[3] != WN_NONE)
        WN_TRY(wn_planes_get(lo, node->in[3], WN_FORM_F32, &r));
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    a->x = src.planes;
    a->channel_bytes = src.channel_bytes;
    a->r = r.loc;
    a->r_base = r.base;
    a->act = (struct wn_activation){ f->act, f->alpha, f->lo, f->hi };
    a->pad = wn_geometry_padded(lo, node->out[0]);
    const struct wn_plane *plane = &a->y.layout.plane;
    a->live = (size_t)(plane->h - 1) * (size_t)plane->pitch + (size_t)plane->w;
    WN_TRY(wn_geometry_mask(lo, node->out[0], &a->mask));
    if (node->n_in >= 3 && node->in[2] != WN_NONE)
        a->bias = lo->plan->g.values.at[node->in[2]].constant->data;
    WN_TRY(set_weights(lo, node, a, &src, &win, &info));
    struct wn_step *step = wn_lower_step(lo, node, info.kernel, run_conv, a);
    if (!step)
        return WINNOW_E_NOMEM;
    wn_lower_images(lo, node->in[0]);
    step->why = f->note ? f->note : info.why;
    step->choice = info.choice;
    step->pattern = info.pattern;
    step->sparsity = info.sparsity;
    step->macs = info.macs;
    step->weight_bytes = info.weight_bytes;
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->y.loc);
    wn_lower_touch(lo, a->r);
    wn_lower_over(lo, a->y.loc, a->r, a->x.loc);
    *done = true;
    return WINNOW_OK;
}
