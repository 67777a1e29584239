/* lower_f32.c: what f32 nets do besides convolution: pools, elementwise functions, concatenation, linear layers. */
#include <math.h>
#include <string.h>
#include "engine/kernels/eltwise/f32.h"
#include "engine/kernels/f32_gemv/f32_gemv.h"
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

/* ---- elementwise ---- */

struct elt_arg {
    bool binary;
    enum wn_elt_f32_unary unary_op;
    enum wn_elt_f32_binary binary_op;
    struct wn_elt_f32 args; /* without pointers */
    struct wn_planes x, b, y;
    const uint32_t *mask;
    bool pad;
};

static void run_elt(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->x.n_planes, 1, part, n_parts, &c0, &c1);
    char *x = (char *)wn_at(exec, a->x.loc) + a->x.base, *y = (char *)wn_at(exec, a->y.loc) + a->y.base;
    char *b = a->binary ? (char *)wn_at(exec, a->b.loc) + a->b.base : NULL;
    for (size_t c = c0; c < c1; c++) {
        struct wn_elt_f32 args = a->args;
        args.x = (const float *)(x + c * a->x.plane_bytes);
        args.y = (float *)(y + c * a->y.plane_bytes);
        args.b = b ? (const float *)(b + c * a->b.plane_bytes) : NULL;
        args.n = a->y.layout.plane.cols;
        args.mask = a->mask;
        if (a->binary)
            wn_elt_f32_binary_run(a->binary_op, &args);
        else
            wn_elt_f32_unary_run(a->unary_op, &args);
    }
    if (a->pad)
        wn_planes_fill_pad(&a->y, y - a->y.base, 0, c0, c1);
}

static bool constant_scalar(const struct wn_lower *lo, const struct wn_node *node, unsigned i, float *ret)
{
    if (i >= node->n_in || node->in[i] == WN_NONE)
        return true;
    const struct wn_tensor *t = lo->plan->g.values.at[node->in[i]].constant;
    if (!t || t->dtype != WINNOW_F32 || wn_tensor_count(t) != 1)
        return false;
    memcpy(ret, t->data, sizeof *ret);
    return true;
}

/* Which elementwise kernel a node is; false: none. */
static bool elt_op(const struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a)
{
    struct wn_elt_f32 *e = &a->args;
    *e = (struct wn_elt_f32){ .lo = -INFINITY, .hi = INFINITY };
    if (wn_node_is(node, "Relu")) {
        e->lo = 0;
        a->unary_op = WN_ELT_CLAMP;
    } else if (wn_node_is(node, "Clip")) {
        a->unary_op = WN_ELT_CLAMP;
        e->lo = wn_node_float(node, "min", e->lo);
        e->hi = wn_node_float(node, "max", e->hi);
        return constant_scalar(lo, node, 1, &e->lo) && constant_scalar(lo, node, 2, &e->hi);
    } else if (wn_node_is(node, "LeakyRelu")) {
        a->unary_op = WN_ELT_LEAKY;
        e->alpha = wn_node_float(node, "alpha", 0.01f);
    } else if (wn_node_is(node, "Sigmoid")) {
        a->unary_op = WN_ELT_SIGMOID;
    } else if (wn_node_is(node, "Tanh")) {
        a->unary_op = WN_ELT_TANH;
    } else if (wn_node_is(node, "HardSigmoid")) {
        a->unary_op = WN_ELT_HARD_SIGMOID;
        e->alpha = wn_node_float(node, "alpha", 0.2f);
        e->beta = wn_node_float(node, "beta", 0.5f);
    } else if (wn_node_is(node, "HardSwish")) {
        a->unary_op = WN_ELT_HARD_SWISH;
        e->alpha = 1.0f / 6;
        e->beta = 0.5f;
    } else if (wn_node_is(node, "Add") || wn_node_is(node, "Mul")) {
        a->binary = true;
        a->binary_op = wn_node_is(node, "Add") ? WN_ELT_ADD : WN_ELT_MUL;
    } else {
        return false;
    }
    return true;
}

enum winnow_status wn_lower_eltwise(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct elt_arg probe = { 0 };
    struct wn_conv_geom geom;
    *done = false;
    if (*node->domain || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME || !elt_op(lo, node, &probe))
        return WINNOW_OK;
    struct elt_arg *a = wn_arena_memdup(&lo->plan->arena, &probe, sizeof probe);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_planes_get(lo, node->in[0], WN_FORM_F32, &a->x));
    if (a->binary)
        WN_TRY(wn_planes_get(lo, node->in[1], WN_FORM_F32, &a->b));
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    WN_TRY(wn_geometry_mask(lo, node->out[0], &a->mask));
    a->pad = wn_geometry_padded(lo, node->out[0]);
    WN_TRY(finish(lo, node, "eltwise_f32", run_elt, a, (struct wn_loc[]){ a->x.loc, a->b.loc, a->y.loc }, 3, done));
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
    char *base = wn_at(exec, a->y.loc), *y = base;
    for (size_t i = 0, first = 0; i < a->n; i++) {
        size_t c0, c1;
        wn_share(a->x[i].n_planes, 1, part, n_parts, &c0, &c1);
        memcpy(y + c0 * a->y.plane_bytes, (char *)wn_at(exec, a->x[i].loc) + c0 * a->y.plane_bytes,
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

enum winnow_status wn_lower_concat(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_conv_geom geom;
    *done = false;
    if (!wn_node_is(node, "Concat") || wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME)
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

/* ---- linear layers ---- */

struct linear_arg {
    struct wn_f32_gemv_args args; /* without x, y, r */
    struct wn_loc x, y, r;
    size_t rows;
};

static void run_linear(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    struct wn_f32_gemv_args args = a->args;
    size_t r0, r1;
    wn_share(a->rows, 4, part, n_parts, &r0, &r1);
    args.x = wn_at(exec, a->x);
    args.y = wn_at(exec, a->y);
    args.r = a->r.kind == WN_LOC_NONE ? NULL : wn_at(exec, a->r);
    if (r0 < r1)
        wn_f32_gemv_run(&args, r0, r1);
}

enum winnow_status wn_lower_linear_f32(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "Linear"))
        return WINNOW_OK;
    const struct wn_fused_f32 *f = node->fused;
    const struct wn_graph *g = &lo->plan->g;
    const struct wn_tensor *w = g->values.at[node->in[1]].constant;
    struct linear_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !w->dim[1])
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    size_t k = (size_t)w->dim[1], rows = (size_t)w->dim[0], m = wn_lower_bytes(lo, node->in[0]) / 4 / k;
    a->rows = rows;
    a->args = (struct wn_f32_gemv_args){
        .w = w->data, .k = k, .m = m, .x_stride = k, .y_stride = rows, .lo = f->lo, .hi = f->hi
    };
    if (node->n_in >= 3 && node->in[2] != WN_NONE)
        a->args.bias = g->values.at[node->in[2]].constant->data;
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
    if (node->n_in == 4)
        WN_TRY(wn_lower_plain(lo, node->in[3], &a->r));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    WN_TRY(finish(lo, node, "f32_gemv", run_linear, a, (struct wn_loc[]){ a->x, a->y, a->r }, 3, done));
    struct wn_step *step = &lo->plan->steps.at[lo->plan->steps.n - 1];
    step->macs = (uint64_t)(m * k * rows);
    step->weight_bytes = w->bytes;
    step->pattern = "dense";
    step->why = f->note ? f->note : "";
    return WINNOW_OK;
}
