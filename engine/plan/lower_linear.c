/* lower_linear.c: f32 linear layers: on few rows as they lie (f32_gemv), on more with the rows as columns (cols.h),
 * dense or sparse, whichever the cost table says. */
#include <math.h>
#include "engine/kernels/f32_gemv/f32_gemv.h"
#include "engine/passes/fused.h"
#include "engine/plan/activate.h"
#include "engine/plan/cols.h"
#include "engine/plan/f32_pack.h"
#include "engine/plan/planes.h"

/* Output features that are multiplied before their activation is computed: they stay in L1 in between. */
#define ACT_ROWS ((size_t)4 * WN_F32_PACK_ROWS)
/* Rows of a block that are faster as columns than one by one. */
#define COLUMNS_FROM WN_COLS

struct linear_arg {
    struct wn_f32_gemv_args gemv; /* without x, y, r */
    struct wn_loc x, y, r;        /* plain */
    const struct wn_f32_pack *pack;
    struct wn_cols cx, cy, cr; /* columns */
    const int32_t *off;
    const float *bias;
    size_t rows;
    struct wn_activation act;
    bool alone; /* each row's sums are those that it has without the others */
};

/* Outputs whose weights stay in L1 while row after row is multiplied with them. */
static size_t outputs_in_l1(size_t k)
{
    const size_t fit = ((size_t)20 << 10) / (sizeof(float) * k) / WN_F32_GEMV_MR * WN_F32_GEMV_MR;
    return WN_MAX(fit, (size_t)WN_F32_GEMV_MR);
}

static void run_alone(const struct linear_arg *a, const struct wn_f32_gemv_args *args, size_t r0, size_t r1)
{
    const size_t step = outputs_in_l1(args->x_stride);
    for (size_t from = r0; from < r1; from += step)
        for (size_t m = 0; m < args->m; m++) {
            struct wn_f32_gemv_args row = *args;
            row.m = 1;
            row.x += m * args->x_stride;
            row.y += m * args->y_stride;
            if (row.r)
                row.r += m * args->y_stride;
            wn_f32_gemv_run(&a->pack->gemm[0], &row, from, WN_MIN(from + step, r1));
        }
}

static void run_rows(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    struct wn_f32_gemv_args args = a->gemv;
    size_t r0, r1;
    wn_share(a->rows, WN_F32_GEMV_MR, part, n_parts, &r0, &r1);
    args.x = wn_at(exec, a->x);
    args.y = wn_at(exec, a->y);
    args.r = a->r.kind == WN_LOC_NONE ? NULL : wn_at(exec, a->r);
    if (r0 == r1)
        return;
    if (a->alone)
        run_alone(a, &args, r0, r1);
    else
        wn_f32_gemv_run(&a->pack->gemm[0], &args, r0, r1);
    for (size_t m = 0; m < args.m && a->act.act != WN_ACT_NONE; m++)
        wn_activate(&a->act, NULL, args.y + m * args.y_stride + r0, r1 - r0);
}

static void product(const struct linear_arg *a, const struct wn_f32_args *args, size_t r0, size_t r1)
{
    if (a->alone)
        wn_f32_gemv_cols_run(&a->pack->gemm[0], a->off, args, r0, r1);
    else
        wn_f32_pack_run(a->pack, 0, a->off, args, r0, r1);
}

static void run_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    size_t r0, r1;
    wn_share(a->rows, WN_F32_PACK_ROWS, part, n_parts, &r0, &r1);
    struct wn_f32_args args = { .x = wn_cols_at(exec, &a->cx, 0),
                                .n = a->cx.cols,
                                .y = wn_cols_at(exec, &a->cy, 0),
                                .y_stride = a->cy.stride,
                                .bias = a->bias,
                                .r = a->cr.k ? wn_cols_at(exec, &a->cr, 0) : NULL,
                                .lo = a->act.act == WN_ACT_NONE ? a->act.lo : -INFINITY,
                                .hi = a->act.act == WN_ACT_NONE ? a->act.hi : INFINITY };
    if (a->act.act == WN_ACT_NONE) {
        if (r0 < r1)
            product(a, &args, r0, r1);
        return;
    }
    for (size_t from = r0; from < r1; from += ACT_ROWS) {
        const size_t to = WN_MIN(from + ACT_ROWS, r1);
        product(a, &args, from, to);
        for (size_t o = from; o < to; o++)
            wn_activate(&a->act, NULL, args.y + o * args.y_stride, args.n);
    }
}

/* The family for m rows. */
static const struct wn_choice *choose(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_sparsity *s,
                                      size_t rows, size_t m)
{
    static const enum wn_family all[] = { WN_FAMILY_f32_gemv, WN_FAMILY_f32_gemm, WN_FAMILY_f32_spmm,
                                          WN_FAMILY_f32_spmm_2x1, WN_FAMILY_f32_spmm_4x1 };
    struct wn_candidate c[WN_COUNT(all)];
    double cols = (double)wn_round_up(m, WN_COLS);
    for (size_t i = 0; i < WN_COUNT(all); i++)
        c[i] = (struct wn_candidate){ all[i], wn_cost_of(all[i], s, (double)rows,
                                                         all[i] == WN_FAMILY_f32_gemv ? (double)m : cols) };
    return wn_lower_choose(lo, w, (double)m, c, WN_COUNT(all));
}

static enum winnow_status lower_cols(struct wn_lower *lo, const struct wn_node *node, const struct wn_tensor *w,
                                     enum wn_family family, struct linear_arg *a, size_t *ret_bytes)
{
    const size_t k = (size_t)w->dim[1];
    const struct wn_f32_pack_arg pa = { .family = family == WN_FAMILY_f32_gemv ? WN_FAMILY_f32_gemm : family,
                                        .groups = 1,
                                        .rows = a->rows,
                                        .k = k,
                                        .taps = 1 };
    WN_TRY(wn_f32_pack_get(lo, w, &pa, &a->pack, ret_bytes));
    WN_TRY(wn_cols_get(lo, node->in[0], k, &a->cx));
    if (node->n_in == 4)
        WN_TRY(wn_cols_get(lo, node->in[3], a->rows, &a->cr));
    WN_TRY(wn_cols_new(lo, node->out[0], a->rows, &a->cy));
    int32_t *koff = wn_arena_calloc(&lo->plan->arena, k, sizeof *koff);
    if (!koff || k * a->cx.stride > INT32_MAX / sizeof(float))
        return wn_fail(lo->err, koff ? WINNOW_E_TOO_LARGE : WINNOW_E_NOMEM, "node '%s'", node->name);
    for (size_t i = 0; i < k; i++)
        koff[i] = (int32_t)(i * a->cx.stride * sizeof(float));
    WN_TRY(wn_f32_pack_link(lo, a->pack, 0, koff, &a->off));
    if (!wn_lower_step(lo, node, wn_f32_kernel_name(lo, family), run_cols, a))
        return WINNOW_E_NOMEM;
    wn_lower_touch(lo, a->cx.loc);
    wn_lower_touch(lo, a->cr.loc);
    wn_lower_touch(lo, a->cy.loc);
    wn_lower_over(lo, a->cy.loc, a->cr.loc, a->cx.loc);
    return WINNOW_OK;
}

static enum winnow_status lower_rows(struct wn_lower *lo, const struct wn_node *node, const struct wn_tensor *w,
                                     size_t m, struct linear_arg *a, size_t *ret_bytes)
{
    const size_t k = (size_t)w->dim[1];
    const bool plain = a->act.act == WN_ACT_NONE;
    const struct wn_f32_pack_arg pa = { .family = WN_FAMILY_f32_gemm, .groups = 1, .rows = a->rows, .k = k, .taps = 1 };
    WN_TRY(wn_f32_pack_get(lo, w, &pa, &a->pack, ret_bytes));
    a->gemv = (struct wn_f32_gemv_args){ .m = m,
                                         .x_stride = k,
                                         .y_stride = a->rows,
                                         .bias = a->bias,
                                         .lo = plain ? a->act.lo : -INFINITY,
                                         .hi = plain ? a->act.hi : INFINITY };
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
    if (node->n_in == 4)
        WN_TRY(wn_lower_plain(lo, node->in[3], &a->r));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    if (!wn_lower_step(lo, node, wn_f32_kernel_name(lo, WN_FAMILY_f32_gemv), run_rows, a))
        return WINNOW_E_NOMEM;
    wn_lower_touch(lo, a->x);
    wn_lower_touch(lo, a->r);
    wn_lower_touch(lo, a->y);
    wn_lower_over(lo, a->y, a->r, a->x);
    return WINNOW_OK;
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
    if (!a || !w->dim[0] || !w->dim[1])
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    const size_t k = (size_t)w->dim[1], m = wn_lower_bytes(lo, node->in[0]) / sizeof(float) / k;
    a->rows = (size_t)w->dim[0];
    a->act = (struct wn_activation){ f->act, f->alpha, f->lo, f->hi };
    if (node->n_in >= 3 && node->in[2] != WN_NONE)
        a->bias = g->values.at[node->in[2]].constant->data;
    const struct wn_sparsity s = wn_facts_sparsity(lo->model->facts, w, a->rows, k, 1);
    size_t bytes = w->bytes;
    const bool block = lo->model->row_block > 1; /* whatever m is, the kernel is that of one row */
    const struct wn_choice *choice = choose(lo, w, &s, a->rows, block ? 1 : m);
    if (!choice)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->alone = block && choice->family == WN_FAMILY_f32_gemv;
    if (choice->family == WN_FAMILY_f32_gemv && !(block && m >= COLUMNS_FROM && wn_f32_gemv_has_cols()))
        WN_TRY(lower_rows(lo, node, w, m, a, &bytes));
    else
        WN_TRY(lower_cols(lo, node, w, choice->family, a, &bytes));
    struct wn_step *step = &lo->plan->steps.at[lo->plan->steps.n - 1];
    step->macs = (uint64_t)(m * k * a->rows);
    step->weight_bytes = bytes;
    step->pattern = s.pattern;
    step->sparsity = s.share;
    step->why = f->note ? f->note : choice->why;
    step->choice = choice;
    *done = true;
    return WINNOW_OK;
}
