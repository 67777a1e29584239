/* lower_norm_q8.c: layer normalization of bytes: as the tokens lie, or in the columns of the layers around. */
#include <string.h>
#include "engine/kernels/norm_q8/norm_q8.h"
#include "engine/plan/cols_q8.h"
#include "engine/plan/q8.h"

struct norm_arg {
    struct wn_norm_q8 args; /* without x, y */
    struct wn_cols8 cx, cy;
    struct wn_loc x, y;
};

static void run_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct norm_arg *a = step->arg;
    const size_t elem = wn_cols8_elem(&a->cx);
    struct wn_norm_q8 args = a->args;
    size_t c0, c1;
    wn_share(a->cx.cols, 64 / elem, part, n_parts, &c0, &c1);
    if (c0 == c1)
        return;
    args.n = c1 - c0;
    args.x = (const uint8_t *)wn_at(exec, a->cx.loc) + c0 * elem;
    args.y = (uint8_t *)wn_at(exec, a->cy.loc) + c0 * elem;
    wn_norm_q8_cols_run(&args);
}

static void run_rows(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct norm_arg *a = step->arg;
    struct wn_norm_q8 args = a->args;
    size_t t0, t1;
    wn_share(a->args.n, 1, part, n_parts, &t0, &t1);
    if (t0 == t1)
        return;
    args.n = t1 - t0;
    args.x = (const uint8_t *)wn_at(exec, a->x) + t0 * args.k;
    args.y = (uint8_t *)wn_at(exec, a->y) + t0 * args.k;
    wn_norm_q8_rows_run(&args);
}

/* A parameter [k] that the kernels may read past. */
static const float *padded(struct wn_lower *lo, const struct wn_node *node, unsigned i, size_t k)
{
    float *p = wn_arena_calloc(&lo->plan->arena, wn_round_up(k, WN_NORM_Q8_PAD), sizeof *p);
    if (p)
        memcpy(p, lo->plan->g.values.at[node->in[i]].constant->data, k * sizeof *p);
    return p;
}

static enum winnow_status set_cols(struct wn_lower *lo, const struct wn_node *node, enum wn_form form,
                                   struct norm_arg *a)
{
    WN_TRY(wn_cols8_get(lo, node->in[0], a->args.k, form, &a->cx));
    WN_TRY(wn_cols8_new(lo, node->out[0], a->args.k, form, &a->cy));
    a->args.form = form == WN_FORM_COLS_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE;
    a->args.x_stride = a->cx.stride;
    a->args.y_stride = a->cy.stride;
    return WINNOW_OK;
}

enum winnow_status wn_lower_norm_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "QLayerNorm"))
        return WINNOW_OK;
    const struct wn_fused_qnorm *f = node->fused;
    const size_t k = (size_t)wn_tensor_count(lo->plan->g.values.at[node->in[1]].constant);
    const size_t n = wn_lower_bytes(lo, node->in[0]) / k;
    if (!n || k > WN_Q8_MAX_K)
        return WINNOW_OK;
    struct norm_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    const char *kernel = wn_arena_printf(&lo->plan->arena, "norm_q8__%s", wn_isa_name(wn_cpu_isa()));
    if (!a || !kernel)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->args = (struct wn_norm_q8){
        .k = k, .n = n, .gamma = padded(lo, node, 1, k), .beta = padded(lo, node, 2, k), .eps = f->eps, .y_zp = f->y_zp
    };
    enum wn_form form = wn_cols8_form(lo, node->in[0]);
    if (form == WN_FORM_COUNT)
        WN_TRY(wn_q8_linear_form(lo, node->out[0], k, &form));
    if (form == WN_FORM_PLAIN) {
        WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
        WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    } else {
        WN_TRY(set_cols(lo, node, form, a));
    }
    if (!a->args.gamma || !a->args.beta ||
        !wn_lower_step(lo, node, kernel, form == WN_FORM_PLAIN ? run_rows : run_cols, a))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    const struct wn_loc none = { 0 }, used[] = { a->x, a->y, a->cx.loc, a->cy.loc };
    for (size_t i = 0; i < WN_COUNT(used); i++)
        wn_lower_touch(lo, used[i]);
    wn_lower_over(lo, a->y, a->x, none);
    wn_lower_over(lo, a->cy.loc, a->cx.loc, none);
    *done = true;
    return WINNOW_OK;
}
