/* lower_f32.c: f32 pools, and concatenation of channels. */
#include <string.h>
#include "engine/kernels/pool/f32.h"
#include "engine/plan/planes.h"
#include "engine/plan/q8.h"

static enum winnow_status finish(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                 void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                 const void *arg, const struct wn_loc *locs, size_t n_locs, bool *done)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    if (!kernel || !wn_lower_step(lo, node, kernel, run, arg))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    for (size_t i = 0; i < n_locs; i++)
        wn_lower_touch(lo, locs[i]);
    *done = true;
    return WINNOW_OK;
}

/* ---- pools ---- */

struct pool_arg {
    struct wn_pool_f32 pool;
    struct wn_planes x, y;
    struct wn_loc vec; /* global: a plain vector */
    bool pad;
};

static void run_pool(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct pool_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->x.n_planes, 1, part, n_parts, &c0, &c1);
    if (c0 == c1)
        return;
    const char *x = (char *)wn_at(exec, a->x.loc) + a->x.base + c0 * a->x.plane_bytes;
    char *y = (char *)wn_at(exec, a->y.loc);
    wn_pool_f32_run(&a->pool, &a->x.layout.plane, (const float *)x, &a->y.layout.plane,
                    (float *)(y + a->y.base + c0 * a->y.plane_bytes), c1 - c0);
    if (a->pad)
        wn_planes_fill_pad(&a->y, y, 0, c0, c1);
}

static void run_mean(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct pool_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->x.n_planes, 1, part, n_parts, &c0, &c1);
    if (c0 < c1)
        wn_pool_f32_mean_run(&a->x.layout.plane,
                             (const float *)((char *)wn_at(exec, a->x.loc) + a->x.base + c0 * a->x.plane_bytes),
                             (float *)wn_at(exec, a->vec) + c0, 1, c1 - c0);
}

enum winnow_status wn_lower_pool(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom g = { 0 };
    bool global = wn_node_is(node, "GlobalAveragePool"), max = wn_node_is(node, "MaxPool");
    *done = false;
    if (!(global || max || wn_node_is(node, "AveragePool")))
        return WINNOW_OK;
    enum wn_spatial kind = wn_spatial_of(lo, node, &g);
    if (wn_lower_type(lo, node->in[0])->dtype != WINNOW_F32 || (kind != WN_SPATIAL_FREE && kind != WN_SPATIAL_GLOBAL))
        return WINNOW_OK;
    struct pool_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_planes_get(lo, node->in[0], WN_FORM_F32, &a->x));
    if (global) {
        WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->vec));
        a->vec.image = a->x.n_planes * sizeof(float);
        WN_TRY(finish(lo, node, "pool_f32_mean", run_mean, a, (struct wn_loc[]){ a->x.loc, a->vec }, 2, done));
        wn_lower_images(lo, node->in[0]);
        return WINNOW_OK;
    }
    a->pool = (struct wn_pool_f32){ max ? WN_POOL_MAX : WN_POOL_AVERAGE,
                                    (int32_t)g.kh,
                                    (int32_t)g.kw,
                                    (int32_t)g.stride_h,
                                    (int32_t)g.stride_w,
                                    (int32_t)g.dil_h,
                                    (int32_t)g.dil_w,
                                    (int32_t)g.pad_t,
                                    (int32_t)g.pad_l,
                                    (int32_t)g.pad_b,
                                    (int32_t)g.pad_r,
                                    wn_node_int(node, "count_include_pad", 0) != 0 };
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    a->pad = wn_geometry_padded(lo, node->out[0]);
    WN_TRY(finish(lo, node, "pool_f32", run_pool, a, (struct wn_loc[]){ a->x.loc, a->y.loc }, 2, done));
    wn_lower_images(lo, node->in[0]);
    return WINNOW_OK;
}

/* ---- concatenation of channels: planes are copied as they lie ---- */

struct concat_arg {
    unsigned n;
    struct wn_planes *x;
    struct wn_planes y;
    bool pad; /* around y, whatever stands around the inputs */
    uint32_t pad_value;
};

static void run_concat(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct concat_arg *a = step->arg;
    char *base = wn_at(exec, a->y.loc), *y = base + a->y.base;
    for (size_t i = 0, first = 0; i < a->n; i++) {
        size_t c0, c1;
        wn_share(a->x[i].n_planes, 1, part, n_parts, &c0, &c1);
        memcpy(y + c0 * a->y.plane_bytes, (char *)wn_at(exec, a->x[i].loc) + a->x[i].base + c0 * a->y.plane_bytes,
               (c1 - c0) * a->y.plane_bytes);
        if (a->pad)
            wn_planes_fill_gaps(&a->y, base, a->pad_value, first + c0, first + c1);
        first += a->x[i].n_planes;
        y += a->x[i].n_planes * a->y.plane_bytes;
    }
}

/* Quads can be copied only when every input but the last fills its quads. */
static bool whole_quads(const struct wn_lower *lo, const struct wn_node *node)
{
    for (unsigned i = 0; i + 1 < node->n_in; i++)
        if (wn_lower_type(lo, node->in[i])->dim[1] % 4)
            return false;
    return true;
}

/* Some input is in planes already: else the plain tensors are copied as they lie. */
static bool any_planes(const struct wn_lower *lo, const struct wn_node *node)
{
    for (unsigned i = 0; i < node->n_in; i++)
        if (wn_planes_any(lo, node->in[i]))
            return true;
    return false;
}

enum winnow_status wn_lower_concat(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom geom;
    *done = false;
    if (!wn_node_is(node, "Concat") || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME || !any_planes(lo, node))
        return WINNOW_OK;
    bool f32 = wn_lower_type(lo, node->out[0])->dtype == WINNOW_F32;
    enum wn_form form = f32 ? WN_FORM_F32 : whole_quads(lo, node) ? wn_q8_out_form(lo, node->out[0]) : WN_FORM_PLANE8;
    struct concat_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !(a->x = wn_arena_calloc(&lo->plan->arena, node->n_in, sizeof *a->x)))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->n = node->n_in;
    for (unsigned i = 0; i < node->n_in; i++)
        WN_TRY(wn_planes_get(lo, node->in[i], form, &a->x[i]));
    WN_TRY(wn_planes_new(lo, node->out[0], form, &a->y));
    a->pad = wn_geometry_padded(lo, node->out[0]);
    a->pad_value = f32 ? 0 : wn_geometry_pad(lo, node->out[0]) * 0x01010101u;
    struct wn_step *step = wn_lower_step(lo, node, "concat", run_concat, a);
    if (!step)
        return WINNOW_E_NOMEM;
    wn_lower_images(lo, node->in[0]);
    for (unsigned i = 0; i < node->n_in; i++)
        wn_lower_touch(lo, a->x[i].loc);
    wn_lower_touch(lo, a->y.loc);
    *done = true;
    return WINNOW_OK;
}
