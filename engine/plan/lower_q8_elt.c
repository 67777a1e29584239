/* lower_q8_elt.c: int8 nets besides convolution: quantize, dequantize, sums, tables. Pictures run on planes; any
 * other tensor runs as one long channel. */
#include <math.h>
#include <string.h>
#include "engine/kernels/eltwise_q8/eltwise_q8.h"
#include "engine/kernels/move_q8/move_q8.h"
#include "engine/plan/q8.h"

struct elt_arg {
    wn_move_q8_fn *move; /* one of the two */
    wn_elt_q8_fn *elt;
    struct wn_move_q8 m;
    struct wn_elt_q8 e;
    struct wn_planes a, b, y; /* loc and base are also set for plain tensors */
    size_t channels, n, a_elem, y_elem;
    bool flat, pad, quad;
    uint32_t pad_value;
};

static void run_block(const struct elt_arg *a, struct wn_exec *exec, size_t c0, size_t c1, size_t n0, size_t n1)
{
    char *x = (char *)wn_at(exec, a->a.loc) + a->a.base + n0 * a->a_elem;
    char *y = (char *)wn_at(exec, a->y.loc) + a->y.base + n0 * a->y_elem;
    if (a->move) {
        struct wn_move_q8 m = a->m;
        m.x = x;
        m.y = y;
        m.n = n1 - n0;
        a->move(&m, c0, c1);
        return;
    }
    struct wn_elt_q8 e = a->e;
    e.a = (const uint8_t *)x;
    e.y = (uint8_t *)y;
    if (a->b.loc.kind != WN_LOC_NONE)
        e.b = (const uint8_t *)wn_at(exec, a->b.loc) + a->b.base + n0 * a->a_elem;
    e.n = n1 - n0;
    a->elt(&e, c0, c1);
}

static void run_elt(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    size_t from, to;
    if (a->flat) {
        wn_share(a->n, 64, part, n_parts, &from, &to);
        if (from < to)
            run_block(a, exec, 0, 1, from, to);
        return;
    }
    wn_share(a->channels, 4, part, n_parts, &from, &to);
    if (from < to)
        run_block(a, exec, from, to, 0, a->n);
    if (a->pad)
        wn_planes_fill_pad(&a->y, wn_at(exec, a->y.loc), a->pad_value, a->quad ? from / 4 : from,
                           a->quad ? (to + 3) / 4 : to);
}

static enum winnow_status add_step(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                   const struct elt_arg *a)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    if (!kernel || !wn_lower_step(lo, node, kernel, run_elt, a))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    if (!a->flat)
        wn_lower_images(lo, node->in[0]);
    wn_lower_touch(lo, a->a.loc);
    wn_lower_touch(lo, a->b.loc);
    wn_lower_touch(lo, a->y.loc);
    return WINNOW_OK;
}

/* Operands as planes in `x_form` and `y_form`. */
static enum winnow_status on_planes(struct wn_lower *lo, const struct wn_node *node, enum wn_form x_form,
                                    enum wn_form y_form, struct elt_arg *a)
{
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, node->out[0]), d);
    WN_TRY(wn_planes_get(lo, node->in[0], x_form, &a->a));
    if (node->n_in > 1)
        WN_TRY(wn_planes_get(lo, node->in[1], x_form, &a->b));
    WN_TRY(wn_planes_new(lo, node->out[0], y_form, &a->y));
    a->channels = (size_t)d[1];
    a->n = a->y.layout.plane.cols;
    a->a_elem = a->a.elem;
    a->y_elem = a->y.elem;
    a->pad = wn_geometry_padded(lo, node->out[0]);
    a->quad = y_form == WN_FORM_QUAD;
    const uint32_t *mask;
    WN_TRY(wn_geometry_mask(lo, node->out[0], &mask));
    enum wn_q8_out form = (y_form == WN_FORM_F32 ? x_form : y_form) == WN_FORM_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE;
    a->m.x_stride = a->e.a_stride = a->a.plane_bytes;
    a->e.b_stride = a->b.plane_bytes;
    a->m.y_stride = a->e.y_stride = a->y.plane_bytes;
    a->m.channels = a->e.channels = a->channels;
    a->m.form = a->e.form = form;
    a->m.mask = a->e.mask = mask;
    return WINNOW_OK;
}

/* Operands as plain tensors of n elements. */
static enum winnow_status on_plain(struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a)
{
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->a.loc));
    if (node->n_in > 1)
        WN_TRY(wn_lower_plain(lo, node->in[1], &a->b.loc));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y.loc));
    const struct wn_type *x = wn_lower_type(lo, node->in[0]), *y = wn_lower_type(lo, node->out[0]);
    a->a_elem = winnow_dtype_size(x->dtype);
    a->y_elem = winnow_dtype_size(y->dtype);
    a->n = wn_lower_bytes(lo, node->out[0]) / a->y_elem;
    a->flat = true;
    a->m.channels = a->e.channels = 1;
    a->m.form = a->e.form = WN_OUT_PLANE;
    return WINNOW_OK;
}

/* The form an elementwise step reads and writes: what its input is in, or what is wanted where it is in both. */
static enum wn_form form_of(const struct wn_lower *lo, wn_vid v)
{
    if (lo->plan->place[v].form[WN_FORM_QUAD].kind != WN_LOC_NONE &&
        lo->plan->place[v].form[WN_FORM_PLANE8].kind != WN_LOC_NONE)
        return wn_q8_out_form(lo, v);
    return wn_planes_only(lo, v) ? WN_FORM_PLANE8 : WN_FORM_QUAD;
}

static void flip_table(uint8_t *table)
{
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)(i ^ 0x80);
}

static enum winnow_status set_op(struct wn_lower *lo, const struct wn_node *node, struct elt_arg *a)
{
    const struct wn_fused_qelt *f = node->fused;
    if (wn_fused_is(node, "Flip")) {
        uint8_t *table = wn_arena_alloc(&lo->plan->arena, 256);
        if (!table)
            return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
        flip_table(table);
        a->elt = wn_elt_q8_lookup_run;
        a->e.table = table;
        return WINNOW_OK;
    }
    a->pad_value = (uint32_t)f->y_zp * 0x01010101u;
    if (wn_fused_is(node, "Quantize")) {
        a->move = wn_move_q8_quantize_run;
        a->m.scale = f->a_mul;
        a->m.zp = f->y_zp;
        a->m.q_lo = f->q_lo;
        a->m.q_hi = f->q_hi;
    } else if (wn_fused_is(node, "Dequantize")) {
        a->move = wn_move_q8_dequantize_run;
        a->m.scale = f->a_mul;
        a->m.zp = f->a_zp;
        a->pad_value = 0;
    } else if (wn_fused_is(node, "Requantize")) {
        a->elt = wn_elt_q8_lookup_run;
        a->e.table = f->table;
        a->e.y_zp = f->y_zp;
    } else {
        a->elt = wn_elt_q8_add_run;
        a->e.a_mul = f->a_mul;
        a->e.b_mul = f->b_mul;
        a->e.a_zp = f->a_zp;
        a->e.b_zp = f->b_zp;
        a->e.y_zp = f->y_zp;
        a->e.q_lo = f->q_lo;
        a->e.q_hi = f->q_hi;
    }
    return WINNOW_OK;
}

enum winnow_status wn_lower_eltwise_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    static const char *const types[] = { "Quantize", "Dequantize", "Requantize", "QAdd", "Flip" };
    struct wn_conv_geom geom;
    *done = false;
    for (size_t i = 0; i < WN_COUNT(types) && !lo->reference; i++)
        *done = *done || wn_fused_is(node, types[i]);
    if (!*done)
        return WINNOW_OK;
    struct elt_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(set_op(lo, node, a));
    bool quantize = wn_fused_is(node, "Quantize"), dequantize = wn_fused_is(node, "Dequantize");
    /* a model's input: four times smaller before it is laid out in planes */
    bool first = quantize && lo->plan->place[node->in[0]].form[WN_FORM_F32].kind == WN_LOC_NONE;
    if (wn_spatial_of(lo, node, &geom) != WN_SPATIAL_SAME || first) {
        WN_TRY(on_plain(lo, node, a));
    } else {
        enum wn_form x = quantize ? WN_FORM_F32 : form_of(lo, node->in[0]), y = dequantize ? WN_FORM_F32 : x;
        if (quantize)
            y = wn_q8_out_form(lo, node->out[0]);
        WN_TRY(on_planes(lo, node, x, y, a));
    }
    return add_step(lo, node, quantize || dequantize ? "move_q8" : "eltwise_q8", a);
}
