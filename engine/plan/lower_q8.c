/* lower_q8.c: int8 convolutions on planes: depthwise, dense (columns or pixels), sparse in blocks or unstructured, by
 * the cost table. */
#include <math.h>
#include <string.h>
#include "engine/plan/activate.h"
#include "engine/plan/direct.h"
#include "engine/plan/home.h"
#include "engine/plan/q8_pack.h"

/* ---- choice ---- */

enum winnow_status wn_q8_settle(struct wn_lower *lo, const struct wn_tensor *w, double cols,
                                const struct wn_candidate *c, size_t n, struct wn_q8_choice *choice)
{
    choice->choice = wn_lower_choose(lo, w, cols, c, n);
    if (!choice->choice)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    const enum wn_family family = choice->choice->family;
    choice->kind = family == WN_FAMILY_q8_gemm      ? WN_Q8_GEMM
                   : family == WN_FAMILY_q8_conv    ? WN_Q8_CONV
                   : family == WN_FAMILY_q8_gemv    ? WN_Q8_GEMV
                   : family == WN_FAMILY_q8_spmm_b4 ? WN_Q8_B4
                                                    : WN_Q8_SPMM;
    choice->block = wn_family_block(family);
    choice->why = choice->choice->why;
    return WINNOW_OK;
}

/* Which kernels can run a layer. */
struct fit {
    bool quads;  /* its weights and groups suit those on quads */
    bool planes; /* those on planes */
    bool direct; /* q8_conv */
};

/* Returns the number of candidates. */
static size_t candidates(const struct wn_sparsity *s, const struct wn_window *win, double rows, double cols,
                         double channels, struct fit fit, struct wn_candidate *c)
{
    static const enum wn_family on_quads[] = { WN_FAMILY_q8_gemm, WN_FAMILY_q8_spmm_b4 };
    static const enum wn_family on_planes[] = { WN_FAMILY_q8_spmm, WN_FAMILY_q8_spmm_2x1, WN_FAMILY_q8_spmm_4x1 };
    const double phases = win->strided ? wn_cost_to_phases(channels, (double)(win->h * win->w)) : 0;
    size_t n = 0;
    for (size_t i = 0; fit.quads && i < WN_COUNT(on_quads); i++)
        c[n++] = (struct wn_candidate){ on_quads[i], wn_cost_of(on_quads[i], s, rows, cols) + phases };
    if (fit.direct)
        c[n++] = (struct wn_candidate){ WN_FAMILY_q8_conv,
                                        wn_direct_cost(WN_FAMILY_q8_conv, wn_q8_conv_pixels(), win, s, rows) };
    for (size_t i = 0; fit.planes && i < WN_COUNT(on_planes); i++)
        c[n++] = (struct wn_candidate){ on_planes[i], wn_cost_of(on_planes[i], s, rows, cols) +
                                                          wn_cost_to_plane(channels, cols) + phases };
    return n;
}

static enum winnow_status choose(struct wn_lower *lo, const struct wn_node *node, struct wn_q8_choice *ret)
{
    const struct wn_fused_q8 *f = node->fused;
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    const struct wn_type *x = wn_lower_type(lo, node->in[0]);
    struct wn_q8_choice c = { .why = "" };
    struct wn_window win;
    *ret = c;
    if (!w || w->rank < 3 || !wn_window_make(lo, &f->geom, node->in[0], &win))
        return WINNOW_OK;
    size_t groups = (size_t)f->geom.groups, I = (size_t)w->dim[1], O = (size_t)w->dim[0], taps = win.n_taps;
    size_t cols = wn_geometry_of(lo, node->out[0], 4).plane.cols;
    if (I * taps > WN_Q8_MAX_K || (node->n_in == 4 && !wn_geometry_joined(lo, node->in[3], node->out[0])))
        return WINNOW_OK;
    c.sparsity = wn_facts_sparsity(lo->model->facts, w, O, I, taps);
    if (I == 1 && groups > 1 && O == groups) {
        c.fits = taps <= WN_Q8_DW_MAX_TAPS;
        c.kind = WN_Q8_DW;
        *ret = c;
        return WINNOW_OK;
    }
    if (groups == 1 && I <= 4 && I * taps <= WN_Q8_STEM_MAX_K && c.sparsity.share < 0.5) {
        c.fits = true;
        c.kind = WN_Q8_STEM;
        c.why = "few input channels: taps are gathered, not channels";
        *ret = c;
        return WINNOW_OK;
    }
    struct wn_candidate all[6];
    struct fit fit = { .quads = groups == 1 || (I % 4 == 0 && O / groups % 4 == 0), .planes = !f->w_zp };
    fit.direct = fit.quads && !f->w_zp && f->act == WN_ACT_NONE;
    size_t n = candidates(&c.sparsity, &win, (double)O, (double)cols, (double)x->dim[1], fit, all);
    c.fits = n && (groups == 1 || O / groups % 4 == 0);
    if (c.fits)
        WN_TRY(wn_q8_settle(lo, w, (double)cols, all, n, &c));
    *ret = c;
    return WINNOW_OK;
}

/* Counting zeros takes a while: once per node. */
enum winnow_status wn_q8_choose(struct wn_lower *lo, const struct wn_node *node, struct wn_q8_choice *ret)
{
    struct wn_q8_choice **made = &lo->choice[node - lo->plan->g.nodes.at];
    if (!*made) {
        WN_TRY(wn_q8_is_linear(node) ? wn_q8_choose_linear(lo, node, ret) : choose(lo, node, ret));
        *made = wn_arena_memdup(&lo->plan->arena, ret, sizeof *ret);
    }
    if (!*made)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    *ret = **made;
    return WINNOW_OK;
}

/* Steps that read and write whatever form their input is in. */
static bool passes_on(const struct wn_node *node)
{
    return wn_fused_is(node, "QAdd") || wn_fused_is(node, "Requantize") || wn_fused_is(node, "QAveragePool") ||
           wn_node_is(node, "MaxPool") || wn_node_is(node, "Concat") || wn_node_is(node, "Resize");
}

enum winnow_status wn_q8_wishes(struct wn_lower *lo)
{
    const struct wn_graph *g = &lo->plan->g;
    for (size_t i = g->nodes.n; i-- > 0 && !lo->reference;) {
        const struct wn_node *node = &g->nodes.at[i];
        int wish = 0;
        if (node->dead || node->n_out != 1)
            continue;
        wn_vid y = node->out[0];
        for (uint32_t k = lo->user_at[y]; k < lo->user_at[y + 1]; k++) {
            const struct wn_node *user = &g->nodes.at[lo->user[k]];
            struct wn_q8_choice c = { 0 };
            if (passes_on(user))
                wish += lo->form_wish[user->out[0]];
            if (!wn_fused_is(user, "QConv"))
                continue;
            if (user->n_in == 4 && user->in[3] == y)
                wish += lo->form_wish[user->out[0]];
            if (user->in[0] != y)
                continue;
            WN_TRY(wn_q8_choose(lo, user, &c));
            wish += c.fits ? c.kind == WN_Q8_SPMM || c.kind == WN_Q8_STEM ? 1 : -1 : 0;
        }
        lo->form_wish[y] = (int8_t)((wish > 0) - (wish < 0));
    }
    return WINNOW_OK;
}

enum wn_form wn_q8_out_form(const struct wn_lower *lo, wn_vid v)
{
    return lo->form_wish[v] > 0 ? WN_FORM_PLANE8 : WN_FORM_QUAD;
}

/* ---- the step ---- */

/* Results that are computed before their activation and quantization: 32 KiB of stack. Columns of them, where the
 * kernel has no tiles of its own. */
#define ACT_FLOATS ((size_t)2 << 10)
#define ACT_COLS   ((size_t)512)

struct conv_arg {
    const struct wn_q8_pack *pack;
    struct wn_planes x, y, r;  /* r: a residual, laid out as y */
    struct wn_q8_args args;    /* without pointers into activations */
    struct wn_conv_window win; /* CONV */
    struct wn_beside beside;   /* CONV: f32 channels beside each other; at NULL: planes */
    const int32_t **outside;   /* CONV: [groups], each NULL where x's zero point is 0 */
    struct wn_loc colsum;      /* [groups][cols] int32 */
    const int32_t **off;       /* [pack groups] */
    const int32_t **quad_off;  /* [1] koff of a group, for column sums */
    size_t rows, group_rows, groups, channels, taps, group_bytes, channel_bytes;
    struct wn_tiling tiling; /* of the rows of a group */
    bool pad;
    uint32_t pad_value;
    struct wn_activation act; /* not NONE: args are those of a f32 output, which `quant` then makes bytes of */
    struct wn_move_q8 quant;  /* without x, y */
    struct wn_act_q8 bytes;   /* with an activation */
};

static char *row_at(const struct conv_arg *a, char *y, size_t row, size_t col)
{
    size_t plane = a->quant.form == WN_OUT_QUAD ? row / 4 : row;
    return y + plane * a->y.plane_bytes + col * a->y.elem;
}

/* What a block covers: CONV's are of output rows. */
static struct wn_block columns_of(const struct conv_arg *a, const struct wn_block *b)
{
    struct wn_block cols = *b;
    if (a->pack->kind == WN_Q8_CONV) {
        cols.c0 *= a->win.shape.y_pitch;
        cols.c1 = b->c1 == a->tiling.cols ? a->win.shape.y_cols : b->c1 * a->win.shape.y_pitch;
    }
    return cols;
}

/* Rows [b->r0, b->r1) of group g, at columns from `c0` on. */
static void run_kernel(const struct conv_arg *a, size_t g, const struct wn_q8_args *args, const struct wn_block *b)
{
    switch (a->pack->kind) {
    case WN_Q8_DW:
        wn_q8_dw_run(&a->pack->dw, a->off[0], a->channel_bytes, args, b->r0, b->r1);
        break;
    case WN_Q8_GEMM:
        wn_q8_gemm_run(&a->pack->gemm[g], a->off[g], args, b->r0, b->r1);
        break;
    case WN_Q8_CONV:
        wn_q8_conv_run(&a->pack->conv[g], &a->win, a->outside[g], args, (int32_t)b->c0, (int32_t)b->c1, b->r0, b->r1);
        break;
    case WN_Q8_B4:
        wn_q8_spmm_b4_run(&a->pack->b4[g], a->off[g], args, b->r0, b->r1);
        break;
    case WN_Q8_STEM:
        wn_q8_stem_run(&a->pack->stem, a->off[0], args, b->r0, b->r1);
        break;
    default:
        wn_q8_spmm_run(&a->pack->spmm[g], a->off[g], args, b->r0, b->r1);
        break;
    }
}

/* A block of the columns (CONV: of the output rows) and of group g's rows: into the output, or without gaps into
 * `tile`, as f32 (not CONV). */
static void run_group(const struct conv_arg *a, struct wn_exec *exec, size_t g, const struct wn_block *b, float *tile)
{
    struct wn_q8_args args = a->args;
    char *x = (char *)wn_at(exec, a->x.loc) + a->x.base, *y = (char *)wn_at(exec, a->y.loc) + a->y.base;
    const struct wn_block cols = columns_of(a, b);
    const size_t first = g * a->group_rows, from = a->pack->kind == WN_Q8_CONV ? 0 : cols.c0; /* what args point at */
    args.x = (const uint8_t *)x + g * a->group_bytes + from * a->x.elem;
    args.n = cols.c1 - cols.c0;
    args.y = row_at(a, y, first, from);
    if (tile) {
        args.y_stride = args.n * sizeof *tile;
        args.y = (void *)((uintptr_t)tile - b->r0 * args.y_stride); /* where row 0 would be */
    }
    if (a->r.loc.kind != WN_LOC_NONE)
        args.r = row_at(a, (char *)wn_at(exec, a->r.loc) + a->r.base, first, from);
    args.bias += first;
    args.mul += first;
    if (args.w_zp) {
        args.w_zp += first;
        if (a->colsum.kind != WN_LOC_NONE)
            args.colsum = (const int32_t *)wn_at(exec, a->colsum) + g * a->y.layout.plane.cols + from;
    }
    if (args.mask)
        args.mask += from;
    run_kernel(a, g, &args, b);
}

/* The same with an activation: piece by piece, which are quantized when they are computed. */
static void run_activated(const struct conv_arg *a, struct wn_exec *exec, size_t g, const struct wn_block *b)
{
    _Alignas(64) float tile[ACT_FLOATS];
    const size_t cols = WN_MIN(a->tiling.tile, ACT_COLS), rows = ACT_FLOATS / cols / 8 * 8;
    const size_t first = g * a->group_rows;
    struct wn_move_q8 quant = a->quant;
    for (size_t c = b->c0; c < b->c1; c += cols)
        for (size_t r = b->r0; r < b->r1; r += rows) {
            const struct wn_block piece = { c, WN_MIN(c + cols, b->c1), r, WN_MIN(r + rows, b->r1) };
            run_group(a, exec, g, &piece, tile);
            quant.y = row_at(a, (char *)wn_at(exec, a->y.loc) + a->y.base, first, c);
            quant.mask = a->quant.mask ? a->quant.mask + c : NULL;
            wn_activate_bytes(&a->bytes, &quant, tile, piece.c1 - c, r, piece.r1);
        }
}

/* The function of a row of pixels, whose channels lie beside each other in runs. */
static void beside_function(const struct conv_arg *a, float *y)
{
    const struct wn_beside *to = &a->beside;
    struct wn_elt_f32 args = to->args;
    for (size_t o = 0, end; o < a->group_rows; o = end) {
        for (end = o + 1; end < a->group_rows && to->at[end] == to->at[end - 1] + 1; end++)
            ;
        const size_t ow = (size_t)a->win.shape.ow, n = to->px == end - o ? ow : 1; /* pixels without gaps */
        args.n = n * (end - o);
        for (size_t x = 0; x < ow; x += n) {
            args.x = args.y = y + to->at[o] + x * to->px;
            wn_elt_f32_unary_run(to->op, &args);
        }
    }
}

/* A line of pixels, then the function of it, while it is in the cache. */
static void run_beside(const struct conv_arg *a, struct wn_exec *exec, const struct wn_block *b)
{
    for (size_t oy = b->c0; oy < b->c1; oy++) {
        run_group(a, exec, 0, &(struct wn_block){ oy, oy + 1, b->r0, b->r1 }, NULL);
        if (a->beside.unary)
            beside_function(a, (float *)wn_at(exec, a->beside.loc) + oy * a->beside.line);
    }
}

static void run_conv(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct conv_arg *a = step->arg;
    const bool quads = a->quant.form == WN_OUT_QUAD;
    struct wn_block block[3];
    unsigned n = wn_share_tiles(&a->tiling, part, n_parts, block);
    for (unsigned i = 0; i < n; i++)
        for (size_t g = 0; g < a->groups; g++) {
            const struct wn_block *b = &block[i];
            const struct wn_block cols = columns_of(a, b);
            const size_t r0 = g * a->group_rows + b->r0, r1 = g * a->group_rows + b->r1;
            if (a->beside.at)
                run_beside(a, exec, b);
            else if (a->act.act != WN_ACT_NONE)
                run_activated(a, exec, g, b);
            else
                run_group(a, exec, g, b, NULL);
            if (a->pad)
                wn_planes_fill_beside(&a->y, wn_at(exec, a->y.loc), a->pad_value, quads ? r0 / 4 : r0,
                                      quads ? (r1 + 3) / 4 : r1, cols.c0, cols.c1);
        }
}

static void run_colsum(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct conv_arg *a = step->arg;
    size_t c0, c1, cols = a->y.layout.plane.cols;
    wn_share(cols, WN_COLS, part, n_parts, &c0, &c1);
    const uint8_t *x = (uint8_t *)wn_at(exec, a->x.loc) + a->x.base;
    for (size_t g = 0; g < a->groups && c0 < c1; g++)
        wn_q8_colsum(x + g * a->group_bytes + c0 * a->x.elem, a->quad_off[0], a->channels, a->taps, c1 - c0,
                     (int32_t *)wn_at(exec, a->colsum) + g * cols + c0);
}

/* ---- offsets, bias ---- */

static int32_t *quad_koff(struct wn_lower *lo, const struct wn_source *src, size_t channels, size_t taps)
{
    int32_t *koff = wn_arena_calloc(&lo->plan->arena, wn_q8_quads(channels, taps) + 1, sizeof *koff);
    if (koff)
        wn_q8_quads_koff(channels, taps, (int32_t)src->channel_bytes, src->tap_off, koff);
    return koff;
}

static int32_t *plane_koff(struct wn_lower *lo, const struct wn_source *src, size_t channels, size_t taps)
{
    int32_t *koff = wn_arena_calloc(&lo->plan->arena, channels * taps + 1, sizeof *koff);
    for (size_t i = 0; koff && i < channels; i++)
        for (size_t t = 0; t < taps; t++)
            koff[i * taps + t] = (int32_t)(i * src->channel_bytes) + src->tap_off[t];
    return koff;
}

/* The window of CONV, and what its taps add in the padding. */
static enum winnow_status link_window(struct wn_lower *lo, struct conv_arg *a, const struct wn_window *win,
                                      int32_t x_zp)
{
    struct wn_arena *arena = &lo->plan->arena;
    a->tiling = wn_direct_tiling(win, a->group_rows);
    if (a->beside.at) { /* whole lines, for the function */
        a->tiling.tile = 1;
        a->tiling.unit = a->group_rows;
    }
    a->outside = wn_arena_calloc(arena, a->groups, sizeof *a->outside);
    bool ok = a->outside && wn_direct_window(lo, win, (a->channels + 3) / 4, &a->x, &a->y, &a->win);
    if (a->beside.at) {
        a->win.shape.y_at = a->beside.at;
        a->win.shape.y_px = a->beside.px;
        a->win.shape.y_pitch = a->beside.line;
    }
    for (size_t g = 0; g < a->groups && x_zp && ok; g++) {
        const struct wn_q8_conv *mat = &a->pack->conv[g];
        int32_t *outside = wn_arena_calloc(arena, mat->taps * mat->lanes, sizeof *outside);
        if ((ok = outside))
            wn_q8_conv_outside(mat, x_zp, outside);
        a->outside[g] = outside;
    }
    return ok ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
}

static enum winnow_status link_offsets(struct wn_lower *lo, struct conv_arg *a, const struct wn_source *src)
{
    const struct wn_q8_pack *p = a->pack;
    int32_t *koff = p->kind == WN_Q8_SPMM || p->kind == WN_Q8_STEM ? plane_koff(lo, src, a->channels, a->taps)
                    : p->kind == WN_Q8_DW                          ? src->tap_off
                                                                   : quad_koff(lo, src, a->channels, a->taps);
    if (!koff || !(a->quad_off = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a->quad_off)))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    a->quad_off[0] = koff;
    for (size_t g = 0; g < p->groups; g++)
        WN_TRY(wn_q8_pack_link(lo, p, g, koff, &a->off[g]));
    return WINNOW_OK;
}

/* bias + K * w_zp * x_zp - x_zp * sum(w): what the zero points add whatever the activations (fused.h). */
const int32_t *wn_q8_bias(struct wn_lower *lo, const struct wn_node *node)
{
    const struct wn_fused_q8 *f = node->fused;
    const struct wn_graph *g = &lo->plan->g;
    const struct wn_tensor *w = g->values.at[node->in[1]].constant;
    const struct wn_tensor *b = node->n_in > 2 && node->in[2] != WN_NONE ? g->values.at[node->in[2]].constant : NULL;
    size_t O = (size_t)w->dim[0], K = O ? w->bytes / O : 0;
    int32_t *bias = wn_arena_calloc(&lo->plan->arena, O + 16, sizeof *bias);
    const int64_t *sum = wn_facts_row_sums(lo->model->facts, w, O, &lo->plan->arena);
    for (size_t o = 0; bias && sum && o < O; o++) {
        int64_t zp = f->w_zp ? f->w_zp[o] : 0;
        int64_t v = (b ? ((const int32_t *)b->data)[o] : 0) - f->x_zp * (sum[o] - (int64_t)K * zp);
        bias[o] = (int32_t)(uint32_t)v;
    }
    return sum ? bias : NULL;
}

static enum winnow_status set_epilogue(struct wn_lower *lo, const struct wn_node *node, struct conv_arg *a,
                                       enum wn_form form)
{
    const struct wn_fused_q8 *f = node->fused;
    struct wn_q8_args *e = &a->args;
    const bool activated = f->act != WN_ACT_NONE;
    a->quant = (struct wn_move_q8){ .form = form == WN_FORM_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE,
                                    .y_stride = a->y.plane_bytes,
                                    .channels = a->group_rows,
                                    .scale = f->y_scale,
                                    .zp = f->y_zp,
                                    .q_lo = f->q_lo,
                                    .q_hi = f->q_hi };
    a->act = (struct wn_activation){ f->act, f->alpha, -INFINITY, INFINITY };
    if (f->act != WN_ACT_NONE)
        wn_activate_bytes_init(&a->act, f->y_scale, &a->bytes);
    e->out = f->y_f32 || activated ? WN_OUT_F32 : a->quant.form;
    e->y_stride = a->y.plane_bytes;
    e->mul = f->mul;
    e->bias = wn_q8_bias(lo, node);
    e->s_mul = f->s_mul;
    e->s_lo = f->s_lo;
    e->s_hi = f->s_hi;
    e->r_mul = f->r_mul;
    e->r_zp = f->r_zp;
    e->y_zp = f->y_zp;
    e->q_lo = f->q_lo;
    e->q_hi = f->q_hi;
    e->lo = activated ? -INFINITY : f->lo;
    e->hi = activated ? INFINITY : f->hi;
    e->w_zp = a->pack->kind == WN_Q8_DW ? NULL : f->w_zp;
    a->pad = wn_geometry_padded(lo, node->out[0]);
    a->pad_value = f->y_f32 ? 0 : (uint32_t)f->y_zp * 0x01010101u;
    if (!e->bias)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_geometry_mask(lo, node->out[0], activated ? &a->quant.mask : &e->mask));
    return WINNOW_OK;
}

static enum winnow_status get_pack(struct wn_lower *lo, const struct wn_node *node, struct conv_arg *a,
                                   const struct wn_q8_choice *c, size_t *ret_bytes)
{
    const struct wn_fused_q8 *f = node->fused;
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    struct wn_q8_pack_arg pa = { c->kind, c->block, a->groups, a->group_rows, a->channels, a->taps, f->w_zp };
    if (c->kind == WN_Q8_DW)
        pa.groups = (size_t)f->geom.groups;
    return wn_q8_pack_get(lo, w, &pa, &a->pack, ret_bytes);
}

static enum winnow_status add_colsum(struct wn_lower *lo, const struct wn_node *node, struct conv_arg *a)
{
    size_t bytes = wn_round_up(a->groups * a->y.layout.plane.cols * sizeof(int32_t), 64);
    size_t images = (size_t)wn_lower_type(lo, node->in[0])->dim[0];
    a->colsum = wn_lower_buf(lo, bytes * images + WN_OVERREAD); /* less than y */
    a->colsum.image = bytes;
    struct wn_step *step = wn_lower_step(lo, node, "q8_colsum", run_colsum, a);
    if (!step || a->colsum.kind == WN_LOC_NONE)
        return WINNOW_E_NOMEM;
    wn_lower_images(lo, node->in[0]);
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->colsum);
    return WINNOW_OK;
}

enum winnow_status wn_lower_conv_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom geom;
    struct wn_window win;
    struct wn_q8_choice c;
    *done = false;
    if (!wn_fused_is(node, "QConv") || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_WINDOW ||
        !wn_window_make(lo, &geom, node->in[0], &win))
        return WINNOW_OK;
    WN_TRY(wn_q8_choose(lo, node, &c));
    if (!c.fits)
        return WINNOW_OK;
    const struct wn_fused_q8 *f = node->fused;
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    struct conv_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    bool dw = c.kind == WN_Q8_DW;
    a->rows = (size_t)w->dim[0];
    a->groups = dw ? 1 : (size_t)geom.groups;
    a->group_rows = a->rows / a->groups;
    a->channels = (size_t)w->dim[1];
    a->taps = win.n_taps;
    size_t bytes;
    WN_TRY(get_pack(lo, node, a, &c, &bytes));
    if (!(a->off = wn_arena_calloc(&lo->plan->arena, a->pack->groups + 1, sizeof *a->off)))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    struct wn_source src;
    bool planes = c.kind == WN_Q8_SPMM || c.kind == WN_Q8_STEM;
    enum wn_form in_form = planes ? WN_FORM_PLANE8 : WN_FORM_QUAD, out_form = WN_FORM_F32;
    if (c.kind == WN_Q8_CONV)
        WN_TRY(wn_direct_source(lo, node, in_form, &src));
    else
        WN_TRY(wn_planes_source(lo, node, &win, in_form, (uint8_t)f->x_zp, &src));
    if (!f->y_f32)
        out_form = wn_q8_out_form(lo, node->out[0]);
    if (node->n_in == 4)
        WN_TRY(wn_planes_get(lo, node->in[3], out_form, &a->r));
    bool beside = false;
    if (c.kind == WN_Q8_CONV && f->y_f32 && f->act == WN_ACT_NONE && node->n_in < 4 && a->groups == 1)
        WN_TRY(wn_home_beside(lo, node->out[0], &beside, &a->beside));
    if (beside)
        a->y = (struct wn_planes){ .loc = a->beside.loc, .elem = sizeof(float) };
    else
        WN_TRY(wn_planes_new(lo, node->out[0], out_form, &a->y));
    a->x = src.planes;
    a->channel_bytes = src.channel_bytes;
    a->group_bytes = (in_form == WN_FORM_QUAD ? (a->channels + 3) / 4 : a->channels) * src.channel_bytes;
    a->tiling = wn_q8_tiling(c.kind, c.block, a->y.layout.plane.cols, a->group_rows);
    WN_TRY(c.kind == WN_Q8_CONV ? link_window(lo, a, &win, f->x_zp) : link_offsets(lo, a, &src));
    WN_TRY(set_epilogue(lo, node, a, out_form));
    if (beside) {
        a->pad = false;
        a->args.mask = NULL;
    }
    if (a->args.w_zp && c.kind != WN_Q8_STEM) /* the stem sums on its way */
        WN_TRY(add_colsum(lo, node, a));
    const char *kernel = wn_q8_kernel_name(lo, a->pack);
    struct wn_step *step = kernel ? wn_lower_step(lo, node, kernel, run_conv, a) : NULL;
    if (!step)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    wn_lower_images(lo, node->in[0]);
    step->why = c.why;
    step->choice = c.choice;
    step->pattern = c.sparsity.pattern;
    step->sparsity = c.sparsity.share;
    step->macs = (uint64_t)c.sparsity.count * (uint64_t)(win.oh * win.ow);
    step->weight_bytes = bytes;
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->r.loc);
    wn_lower_touch(lo, a->y.loc);
    wn_lower_touch(lo, a->colsum);
    wn_lower_over(lo, a->y.loc, a->r.loc, a->x.loc);
    *done = true;
    return WINNOW_OK;
}
