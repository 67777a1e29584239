/* lower_pool_q8.c: pools of u8 pictures. */
#include "engine/kernels/pool_q8/pool_q8.h"
#include "engine/plan/q8.h"

struct pool_arg {
    struct wn_pool_q8 pool; /* without x, y */
    struct wn_planes x, y;
    bool pad;
};

struct global_arg {
    struct wn_pool_q8_global pool; /* without x, y */
    struct wn_planes x;
    struct wn_loc y;
};

static void run_pool(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct pool_arg *a = step->arg;
    struct wn_pool_q8 pool = a->pool;
    size_t c0, c1;
    wn_share(pool.channels, 4, part, n_parts, &c0, &c1);
    char *y = wn_at(exec, a->y.loc);
    pool.x = (uint8_t *)wn_at(exec, a->x.loc) + a->x.base;
    pool.y = (uint8_t *)y + a->y.base;
    if (c0 == c1)
        return;
    wn_pool_q8_run(&pool, c0, c1);
    bool quad = pool.form == WN_OUT_QUAD;
    if (a->pad)
        wn_planes_fill_pad(&a->y, y, (uint32_t)pool.y_zp * 0x01010101u, quad ? c0 / 4 : c0, quad ? (c1 + 3) / 4 : c1);
}

static void run_global(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct global_arg *a = step->arg;
    struct wn_pool_q8_global pool = a->pool;
    size_t c0, c1;
    wn_share(pool.channels, 4, part, n_parts, &c0, &c1);
    pool.x = (uint8_t *)wn_at(exec, a->x.loc) + a->x.base;
    pool.y = wn_at(exec, a->y);
    if (c0 < c1)
        wn_pool_q8_global_run(&pool, c0, c1);
}

static enum winnow_status add_step(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const void *arg, struct wn_loc x, struct wn_loc y, bool *done)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    if (!kernel || !wn_lower_step(lo, node, kernel, run, arg))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    wn_lower_images(lo, node->in[0]);
    wn_lower_touch(lo, x);
    wn_lower_touch(lo, y);
    *done = true;
    return WINNOW_OK;
}

/* The mean of every channel, as a plain vector: one column per quad is the vector itself when the quads are full. */
static enum winnow_status global(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    const struct wn_fused_qelt *f = node->fused;
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, node->in[0]), d);
    bool quad = d[1] % 4 == 0 && !wn_planes_only(lo, node->in[0]);
    struct global_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    if (d[2] * d[3] > 1 << 22)
        return WINNOW_OK;
    WN_TRY(wn_planes_get(lo, node->in[0], quad ? WN_FORM_QUAD : WN_FORM_PLANE8, &a->x));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    a->y.image = (size_t)d[1];
    a->pool = (struct wn_pool_q8_global){
        .form = quad ? WN_OUT_QUAD : WN_OUT_PLANE,
        .x_stride = a->x.plane_bytes,
        .y_stride = quad ? 4 : 1,
        .channels = (size_t)d[1],
        .in = a->x.layout.plane,
        .y_cols = 1,
        .mul = f->a_mul / (float)(d[2] * d[3]),
        .x_zp = f->a_zp,
        .y_zp = f->y_zp,
        .q_lo = f->q_lo,
        .q_hi = f->q_hi,
    };
    return add_step(lo, node, "pool_q8_global", run_global, a, a->x.loc, a->y, done);
}

enum winnow_status wn_lower_pool_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom g = { 0 };
    bool max = wn_node_is(node, "MaxPool");
    *done = false;
    if (!max && !wn_fused_is(node, "QAveragePool") && !wn_fused_is(node, "QGlobalAveragePool"))
        return WINNOW_OK;
    enum wn_spatial kind = wn_spatial_of(lo, node, &g);
    if (wn_lower_type(lo, node->in[0])->dtype != WINNOW_U8 || (kind != WN_SPATIAL_FREE && kind != WN_SPATIAL_GLOBAL))
        return WINNOW_OK;
    if (kind == WN_SPATIAL_GLOBAL)
        return global(lo, node, done);
    const struct wn_fused_qelt *f = node->fused;
    struct pool_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    const enum wn_form form = wn_planes_only(lo, node->in[0]) ? WN_FORM_PLANE8 : WN_FORM_QUAD;
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_planes_get(lo, node->in[0], form, &a->x));
    WN_TRY(wn_planes_new(lo, node->out[0], form, &a->y));
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, node->in[0]), d);
    a->pad = wn_geometry_padded(lo, node->out[0]);
    a->pool = (struct wn_pool_q8){
        .kind = max ? WN_POOL_Q8_MAX : WN_POOL_Q8_AVERAGE,
        .form = form == WN_FORM_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE,
        .x_stride = a->x.plane_bytes,
        .y_stride = a->y.plane_bytes,
        .channels = (size_t)d[1],
        .in = a->x.layout.plane,
        .out = a->y.layout.plane,
        .kh = (int32_t)g.kh,
        .kw = (int32_t)g.kw,
        .stride_h = (int32_t)g.stride_h,
        .stride_w = (int32_t)g.stride_w,
        .dil_h = (int32_t)g.dil_h,
        .dil_w = (int32_t)g.dil_w,
        .pad_t = (int32_t)g.pad_t,
        .pad_l = (int32_t)g.pad_l,
        .pad_b = (int32_t)g.pad_b,
        .pad_r = (int32_t)g.pad_r,
        .q_hi = 255,
    };
    if (max) {
        a->pool.x_zp = a->pool.y_zp = wn_geometry_pad(lo, node->out[0]); /* what its readers want */
    } else {
        a->pool.count_include_pad = f->count_include_pad;
        a->pool.mul = f->a_mul;
        a->pool.x_zp = f->a_zp;
        a->pool.y_zp = f->y_zp;
        a->pool.q_lo = f->q_lo;
        a->pool.q_hi = f->q_hi;
    }
    return add_step(lo, node, "pool_q8", run_pool, a, a->x.loc, a->y.loc, done);
}
