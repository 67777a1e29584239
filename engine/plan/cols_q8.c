/* cols_q8.c: u8 values as columns of tokens: their buffers, and the changes of form that make them. */
#include "engine/plan/cols_q8.h"

#include "engine/kernels/move/cols.h"
#include "engine/kernels/move_q8/move_q8.h"
#include "engine/plan/planes.h"

static struct wn_cols8 describe(const struct wn_lower *lo, wn_vid v, size_t k, enum wn_form form)
{
    struct wn_cols8 c = { .loc = lo->plan->place[v].form[form], .form = form, .k = k };
    c.n = wn_lower_bytes(lo, v) / k;
    c.cols = wn_round_up(c.n, WN_COLS);
    c.stride = wn_round_up(c.cols * wn_cols8_elem(&c), 64);
    c.stride = c.stride / 64 % 2 ? c.stride : c.stride + 64;
    return c;
}

static bool has(const struct wn_lower *lo, wn_vid v, enum wn_form form)
{
    return lo->plan->place[v].form[form].kind != WN_LOC_NONE;
}

bool wn_cols8_is(const struct wn_lower *lo, wn_vid v)
{
    return has(lo, v, WN_FORM_COLS_QUAD) || has(lo, v, WN_FORM_COLS_U8);
}

enum wn_form wn_cols8_form(const struct wn_lower *lo, wn_vid v)
{
    return has(lo, v, WN_FORM_COLS_QUAD) ? WN_FORM_COLS_QUAD
           : has(lo, v, WN_FORM_COLS_U8) ? WN_FORM_COLS_U8
                                         : WN_FORM_COUNT;
}

enum winnow_status wn_cols8_new(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form form, struct wn_cols8 *ret)
{
    struct wn_place *place = &lo->plan->place[v];
    struct wn_cols8 c = describe(lo, v, k, form);
    size_t bytes, limit = lo->model->opts.max_memory_bytes, planes = form == WN_FORM_COLS_QUAD ? (k + 3) / 4 : k;
    if (!wn_mul_size(planes, c.stride, &bytes) || bytes > limit)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "value '%s' needs more memory than the limit of %zu bytes",
                       lo->plan->g.values.at[v].name, limit);
    if (place->cols_k != k) /* columns of another number of features are not the same columns */
        place->form[WN_FORM_COLS_QUAD] = place->form[WN_FORM_COLS_U8] = (struct wn_loc){ 0 };
    c.loc = wn_lower_buf(lo, bytes + WN_OVERREAD);
    if (c.loc.kind == WN_LOC_NONE)
        return WINNOW_E_NOMEM;
    place->form[form] = c.loc;
    place->cols_k = k;
    *ret = c;
    return WINNOW_OK;
}

bool wn_cols8_view(struct wn_lower *lo, wn_vid in, wn_vid out)
{
    const struct wn_place *from = &lo->plan->place[in];
    struct wn_place *to = &lo->plan->place[out];
    const struct wn_type *t = wn_lower_type(lo, out);
    size_t k = 1;
    if (!wn_cols8_is(lo, in) || has(lo, in, WN_FORM_PLAIN) || lo->output[out])
        return false;
    for (int i = t->rank; i-- > 0 && k < from->cols_k;)
        k *= (size_t)t->dim[i];
    if (k != from->cols_k)
        return false;
    to->form[WN_FORM_COLS_QUAD] = from->form[WN_FORM_COLS_QUAD];
    to->form[WN_FORM_COLS_U8] = from->form[WN_FORM_COLS_U8];
    to->cols_k = k;
    return true;
}

/* ---- changes of form ---- */

struct move_arg {
    struct wn_cols8 x, y; /* to the other form; x alone: to or from the plain tensor */
    struct wn_loc plain;
};

static const struct wn_node move_node = { .name = "", .op_type = "Layout" };

static void run_to_quads(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t f0, f1;
    wn_share(a->x.k, 64, part, n_parts, &f0, &f1);
    wn_move_rows_to_quads_u8(wn_at(exec, a->plain), a->x.n, a->x.k, wn_at(exec, a->x.loc), a->x.stride, f0, f1);
}

static void run_to_rows(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t f0, f1;
    wn_share(a->x.k, 64, part, n_parts, &f0, &f1);
    wn_move_quads_to_rows_u8(wn_at(exec, a->x.loc), a->x.stride, wn_at(exec, a->plain), a->x.n, a->x.k, f0, f1);
}

static void run_form(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    const struct wn_tiling t = wn_cols8_tiling(&a->y);
    struct wn_block block[3];
    const unsigned n = wn_share_tiles(&t, part, n_parts, block);
    for (unsigned i = 0; i < n; i++) {
        const struct wn_block *b = &block[i];
        const struct wn_move_q8 move = { .x = (uint8_t *)wn_at(exec, a->x.loc) + b->c0 * wn_cols8_elem(&a->x),
                                         .y = (uint8_t *)wn_at(exec, a->y.loc) + b->c0 * wn_cols8_elem(&a->y),
                                         .x_stride = a->x.stride,
                                         .y_stride = a->y.stride,
                                         .channels = a->x.k,
                                         .n = b->c1 - b->c0 };
        (a->y.form == WN_FORM_COLS_QUAD ? wn_move_q8_to_quads_run : wn_move_q8_to_planes_run)(&move, b->r0, b->r1);
    }
}

static enum winnow_status add_move(struct wn_lower *lo, wn_vid v, const char *kernel,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const struct move_arg *a)
{
    struct wn_step *step = wn_lower_step(lo, &move_node, kernel, run, a);
    if (!step)
        return WINNOW_E_NOMEM;
    step->name = lo->plan->g.values.at[v].name;
    step->out = v;
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->y.loc);
    wn_lower_touch(lo, a->plain);
    return WINNOW_OK;
}

static enum winnow_status from_plain(struct wn_lower *lo, wn_vid v, size_t k)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_lower_plain(lo, v, &a->plain));
    WN_TRY(wn_cols8_new(lo, v, k, WN_FORM_COLS_QUAD, &a->x));
    return add_move(lo, v, "rows_to_quads", run_to_quads, a);
}

static enum winnow_status to_other(struct wn_lower *lo, wn_vid v, enum wn_form from, enum wn_form to)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    size_t k = lo->plan->place[v].cols_k;
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    a->x = describe(lo, v, k, from);
    WN_TRY(wn_cols8_new(lo, v, k, to, &a->y));
    return add_move(lo, v, to == WN_FORM_COLS_QUAD ? "move_q8_to_quads" : "move_q8_to_planes", run_form, a);
}

enum winnow_status wn_cols8_get(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form form, struct wn_cols8 *ret)
{
    enum wn_form other = form == WN_FORM_COLS_QUAD ? WN_FORM_COLS_U8 : WN_FORM_COLS_QUAD;
    bool same = lo->plan->place[v].cols_k == k;
    if (!(same && wn_cols8_is(lo, v)))
        WN_TRY(from_plain(lo, v, k));
    if (!has(lo, v, form))
        WN_TRY(to_other(lo, v, other, form));
    *ret = describe(lo, v, k, form);
    return WINNOW_OK;
}

enum winnow_status wn_cols8_to_plain(struct wn_lower *lo, wn_vid v)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_cols8_get(lo, v, lo->plan->place[v].cols_k, WN_FORM_COLS_QUAD, &a->x));
    WN_TRY(wn_lower_new_plain(lo, v, &a->plain));
    return add_move(lo, v, "quads_to_rows", run_to_rows, a);
}
