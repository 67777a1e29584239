/* lower_cols_q8.c: what stands between int8 linear layers over tokens: DynamicQuantizeLinear, and quantize, dequantize,
 * sums and tables on columns (cols_q8.h). */
#include <string.h>
#include "engine/kernels/eltwise_q8/eltwise_q8.h"
#include "engine/kernels/move_q8/move_q8.h"
#include "engine/plan/cols_q8.h"
#include "engine/plan/q8_pack.h"

static enum winnow_status add_step(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const void *arg, const struct wn_loc *locs, size_t n_locs)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    if (!kernel || !wn_lower_step(lo, node, kernel, run, arg))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    for (size_t i = 0; i < n_locs; i++)
        wn_lower_touch(lo, locs[i]);
    return WINNOW_OK;
}

static enum wn_q8_out out_of(enum wn_form form)
{
    return form == WN_FORM_COLS_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE;
}

/* ---- DynamicQuantizeLinear: two steps, the range of the data and the quantization ---- */

#define MAX_PARTS 256u /* threads that share the work */

struct dynamic_arg {
    bool flat; /* plain tensors of n elements; else columns */
    size_t n;
    struct wn_loc x, y;
    struct wn_cols cx;
    struct wn_cols8 cy;
    struct wn_loc range;     /* [MAX_PARTS][2] f32 */
    struct wn_loc scale, zp; /* kind NONE: nobody asks */
};

static void run_range(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct dynamic_arg *a = step->arg;
    size_t from, to;
    n_parts = WN_MIN(n_parts, MAX_PARTS);
    if (part >= n_parts)
        return;
    float *range = (float *)wn_at(exec, a->range) + (size_t)2 * part;
    range[0] = range[1] = 0; /* zero must be exact */
    wn_share(a->flat ? a->n : a->cx.k, a->flat ? 64 : 4, part, n_parts, &from, &to);
    if (from < to && a->flat)
        wn_move_q8_range_run((const float *)wn_at(exec, a->x) + from, 0, to - from, 0, 1, range);
    else if (from < to)
        wn_move_q8_range_run(wn_cols_at(exec, &a->cx, 0), a->cx.stride * sizeof(float), a->cx.n, from, to, range);
}

static void run_quantize(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct dynamic_arg *a = step->arg;
    struct wn_move_q8 move = { .q_hi = 255 };
    float range[2] = { 0, 0 };
    size_t from, to;
    n_parts = WN_MIN(n_parts, MAX_PARTS);
    if (part >= n_parts)
        return;
    for (unsigned p = 0; p < n_parts; p++) {
        const float *r = (const float *)wn_at(exec, a->range) + (size_t)2 * p;
        range[0] = WN_MIN(range[0], r[0]);
        range[1] = WN_MAX(range[1], r[1]);
    }
    wn_move_q8_dynamic(range, &move.scale, &move.zp);
    if (part == 0 && a->scale.kind != WN_LOC_NONE)
        *(float *)wn_at(exec, a->scale) = move.scale;
    if (part == 0 && a->zp.kind != WN_LOC_NONE)
        *(uint8_t *)wn_at(exec, a->zp) = (uint8_t)move.zp;
    wn_share(a->flat ? a->n : a->cx.k, a->flat ? 64 : 4, part, n_parts, &from, &to);
    if (from == to)
        return;
    if (a->flat) {
        move.x = (const float *)wn_at(exec, a->x) + from;
        move.y = (uint8_t *)wn_at(exec, a->y) + from;
        move.channels = 1;
        move.n = to - from;
        move.form = WN_OUT_PLANE;
        wn_move_q8_quantize_run(&move, 0, 1);
        return;
    }
    move.x = wn_cols_at(exec, &a->cx, 0);
    move.y = wn_at(exec, a->cy.loc);
    move.x_stride = a->cx.stride * sizeof(float);
    move.y_stride = a->cy.stride;
    move.channels = a->cx.k;
    move.n = a->cx.cols;
    move.form = out_of(a->cy.form);
    wn_move_q8_quantize_run(&move, from, to);
}

static enum winnow_status scalar_out(struct wn_lower *lo, const struct wn_node *node, unsigned i, struct wn_loc *ret)
{
    return i < node->n_out && node->out[i] != WN_NONE ? wn_lower_new_plain(lo, node->out[i], ret) : WINNOW_OK;
}

enum winnow_status wn_lower_dynamic_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    enum wn_form form;
    *done = false;
    if (lo->reference || !wn_node_is(node, "DynamicQuantizeLinear") || node->out[0] == WN_NONE)
        return WINNOW_OK;
    wn_vid x = node->in[0], y = node->out[0];
    size_t k = wn_cols_last(lo, x), n = wn_lower_bytes(lo, x) / sizeof(float);
    struct dynamic_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !n)
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_q8_linear_form(lo, y, k, &form));
    a->flat = form == WN_FORM_PLAIN;
    a->n = n;
    if (a->flat) {
        WN_TRY(wn_lower_plain(lo, x, &a->x));
        WN_TRY(wn_lower_new_plain(lo, y, &a->y));
    } else {
        WN_TRY(wn_cols_get(lo, x, k, &a->cx));
        WN_TRY(wn_cols8_new(lo, y, k, form, &a->cy));
    }
    WN_TRY(scalar_out(lo, node, 1, &a->scale));
    WN_TRY(scalar_out(lo, node, 2, &a->zp));
    a->range = wn_lower_buf(lo, MAX_PARTS * 2 * sizeof(float));
    if (a->range.kind == WN_LOC_NONE)
        return WINNOW_E_NOMEM;
    const struct wn_loc all[] = { a->x, a->cx.loc, a->range, a->y, a->cy.loc, a->scale, a->zp };
    WN_TRY(add_step(lo, node, "q8_range", run_range, a, all, 3));
    WN_TRY(add_step(lo, node, "move_q8", run_quantize, a, all, WN_COUNT(all)));
    *done = true;
    return WINNOW_OK;
}

/* ---- elementwise operators ---- */

struct elt_arg {
    wn_move_q8_fn *move; /* one of the two */
    wn_elt_q8_fn *elt;
    struct wn_move_q8 m;
    struct wn_elt_q8 e;
    struct wn_cols f; /* the f32 side of (de)quantize */
    struct wn_cols8 a, b, y;
    bool to_f32;
};

static void run_elt(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct elt_arg *a = step->arg;
    const struct wn_cols8 *q = a->to_f32 ? &a->a : &a->y; /* the u8 side */
    const struct wn_tiling t = wn_cols8_tiling(q);
    const size_t elem = wn_cols8_elem(q);
    struct wn_block block[3];
    const unsigned n = wn_share_tiles(&t, part, n_parts, block);
    for (unsigned i = 0; i < n; i++) {
        const struct wn_block *b = &block[i];
        if (a->move) {
            struct wn_move_q8 m = a->m;
            void *f = wn_cols_at(exec, &a->f, 0) + b->c0, *u = (uint8_t *)wn_at(exec, q->loc) + b->c0 * elem;
            m.x = a->to_f32 ? u : f;
            m.y = a->to_f32 ? f : u;
            m.n = b->c1 - b->c0;
            a->move(&m, b->r0, b->r1);
            continue;
        }
        struct wn_elt_q8 e = a->e;
        e.a = (const uint8_t *)wn_at(exec, a->a.loc) + b->c0 * elem;
        e.b = a->b.k ? (const uint8_t *)wn_at(exec, a->b.loc) + b->c0 * elem : NULL;
        e.y = (uint8_t *)wn_at(exec, a->y.loc) + b->c0 * elem;
        e.n = b->c1 - b->c0;
        a->elt(&e, b->r0, b->r1);
    }
}

static enum winnow_status put_quantize(struct wn_lower *lo, const struct wn_node *node, size_t k, enum wn_form form,
                                       struct elt_arg *a)
{
    const struct wn_fused_qelt *f = node->fused;
    WN_TRY(wn_cols_get(lo, node->in[0], k, &a->f));
    WN_TRY(wn_cols8_new(lo, node->out[0], k, form, &a->y));
    a->move = wn_move_q8_quantize_run;
    a->m = (struct wn_move_q8){ .x_stride = a->f.stride * sizeof(float),
                                .y_stride = a->y.stride,
                                .channels = k,
                                .n = a->f.cols,
                                .form = out_of(form),
                                .scale = f->a_mul,
                                .zp = f->y_zp,
                                .q_lo = f->q_lo,
                                .q_hi = f->q_hi };
    return add_step(lo, node, "move_q8", run_elt, a, (struct wn_loc[]){ a->f.loc, a->y.loc }, 2);
}

static enum winnow_status put_dequantize(struct wn_lower *lo, const struct wn_node *node, size_t k, enum wn_form form,
                                         struct elt_arg *a)
{
    const struct wn_fused_qelt *f = node->fused;
    WN_TRY(wn_cols8_get(lo, node->in[0], k, form, &a->a));
    WN_TRY(wn_cols_new(lo, node->out[0], k, &a->f));
    a->move = wn_move_q8_dequantize_run;
    a->to_f32 = true;
    a->m = (struct wn_move_q8){ .x_stride = a->a.stride,
                                .y_stride = a->f.stride * sizeof(float),
                                .channels = k,
                                .n = a->f.cols,
                                .form = out_of(form),
                                .scale = f->a_mul,
                                .zp = f->a_zp };
    return add_step(lo, node, "move_q8", run_elt, a, (struct wn_loc[]){ a->f.loc, a->a.loc }, 2);
}

static enum winnow_status put_elt(struct wn_lower *lo, const struct wn_node *node, size_t k, enum wn_form form,
                                  struct elt_arg *a)
{
    const struct wn_fused_qelt *f = node->fused;
    bool add = wn_fused_is(node, "QAdd");
    WN_TRY(wn_cols8_get(lo, node->in[0], k, form, &a->a));
    if (add)
        WN_TRY(wn_cols8_get(lo, node->in[1], k, form, &a->b));
    WN_TRY(wn_cols8_new(lo, node->out[0], k, form, &a->y));
    a->elt = add ? wn_elt_q8_add_run : wn_elt_q8_lookup_run;
    a->e = (struct wn_elt_q8){ .a_stride = a->a.stride,
                               .b_stride = a->b.stride,
                               .y_stride = a->y.stride,
                               .channels = k,
                               .n = a->y.cols,
                               .form = out_of(form),
                               .a_mul = f->a_mul,
                               .b_mul = f->b_mul,
                               .a_zp = f->a_zp,
                               .b_zp = f->b_zp,
                               .y_zp = f->y_zp,
                               .q_lo = f->q_lo,
                               .q_hi = f->q_hi,
                               .table = f->table };
    return add_step(lo, node, "eltwise_q8", run_elt, a, (struct wn_loc[]){ a->a.loc, a->b.loc, a->y.loc }, 3);
}

enum winnow_status wn_lower_cols_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    bool quantize = wn_fused_is(node, "Quantize"), dequantize = wn_fused_is(node, "Dequantize");
    *done = false;
    if (lo->reference || !(quantize || dequantize || wn_fused_is(node, "QAdd") || wn_fused_is(node, "Requantize")))
        return WINNOW_OK;
    enum wn_form form = wn_cols8_form(lo, node->in[0]);
    size_t k = lo->plan->place[node->in[0]].cols_k;
    if (quantize) {
        k = wn_cols_last(lo, node->in[0]);
        if (!k || !wn_lower_bytes(lo, node->in[0]))
            return WINNOW_OK;
        WN_TRY(wn_q8_linear_form(lo, node->out[0], k, &form));
        if (form == WN_FORM_PLAIN)
            form = wn_cols_has(lo, node->in[0], k) ? WN_FORM_COLS_QUAD : WN_FORM_COUNT;
    }
    if (form == WN_FORM_COUNT)
        return WINNOW_OK;
    struct elt_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(quantize     ? put_quantize(lo, node, k, form, a)
           : dequantize ? put_dequantize(lo, node, k, form, a)
                        : put_elt(lo, node, k, form, a));
    *done = true;
    return WINNOW_OK;
}
