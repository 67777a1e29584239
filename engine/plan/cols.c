/* cols.c: values as columns of tokens: their buffers, views of them, and the transpositions that make them. */
#include "engine/plan/cols.h"

#include "engine/kernels/move/cols.h"
#include "engine/plan/planes.h"

static size_t count_of(const struct wn_lower *lo, wn_vid v)
{
    return wn_lower_bytes(lo, v) / sizeof(float);
}

static struct wn_cols describe(const struct wn_lower *lo, wn_vid v, size_t k)
{
    struct wn_cols c = { .loc = lo->plan->place[v].form[WN_FORM_COLS], .k = k, .n = count_of(lo, v) / k };
    c.cols = wn_round_up(c.n, WN_COLS);
    c.stride = c.cols / WN_COLS % 2 ? c.cols : c.cols + WN_COLS;
    return c;
}

size_t wn_cols_last(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    return t->rank > 0 ? (size_t)t->dim[t->rank - 1] : 0;
}

bool wn_cols_has(const struct wn_lower *lo, wn_vid v, size_t k)
{
    const struct wn_place *place = &lo->plan->place[v];
    return place->form[WN_FORM_COLS].kind != WN_LOC_NONE && place->cols_k == k;
}

enum winnow_status wn_cols_new(struct wn_lower *lo, wn_vid v, size_t k, struct wn_cols *ret)
{
    struct wn_cols c = describe(lo, v, k);
    size_t bytes, limit = lo->model->opts.max_memory_bytes;
    if (!wn_mul_size(c.k, c.stride, &bytes) || !wn_mul_size(bytes, sizeof(float), &bytes) || bytes > limit)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "value '%s' needs more memory than the limit of %zu bytes",
                       lo->plan->g.values.at[v].name, limit);
    c.loc = wn_lower_buf(lo, bytes + WN_OVERREAD);
    if (c.loc.kind == WN_LOC_NONE)
        return WINNOW_E_NOMEM;
    lo->plan->place[v].form[WN_FORM_COLS] = c.loc;
    lo->plan->place[v].cols_k = k;
    *ret = c;
    return WINNOW_OK;
}

bool wn_cols_view(struct wn_lower *lo, wn_vid in, wn_vid out)
{
    const struct wn_place *from = &lo->plan->place[in];
    struct wn_place *to = &lo->plan->place[out];
    if (from->form[WN_FORM_COLS].kind == WN_LOC_NONE || from->form[WN_FORM_PLAIN].kind != WN_LOC_NONE ||
        lo->output[out])
        return false;
    const struct wn_type *t = wn_lower_type(lo, out);
    size_t k = 1;
    for (int i = t->rank; i-- > 0 && k < from->cols_k;)
        k *= (size_t)t->dim[i];
    if (k != from->cols_k)
        return false;
    to->form[WN_FORM_COLS] = from->form[WN_FORM_COLS];
    to->cols_k = k;
    return true;
}

/* ---- transpositions ---- */

struct move_arg {
    struct wn_cols cols;
    struct wn_loc plain;
};

static const struct wn_node move_node = { .name = "", .op_type = "Layout" };

static void run_to_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t f0, f1;
    wn_share(a->cols.k, WN_COLS, part, n_parts, &f0, &f1);
    wn_move_rows_to_cols_f32(wn_at(exec, a->plain), a->cols.n, a->cols.k, wn_at(exec, a->cols.loc), a->cols.stride, f0,
                             f1);
}

static void run_to_rows(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t f0, f1;
    wn_share(a->cols.k, WN_COLS, part, n_parts, &f0, &f1);
    wn_move_cols_to_rows_f32(wn_at(exec, a->cols.loc), a->cols.stride, wn_at(exec, a->plain), a->cols.n, a->cols.k, f0,
                             f1);
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
    wn_lower_touch(lo, a->cols.loc);
    wn_lower_touch(lo, a->plain);
    return WINNOW_OK;
}

enum winnow_status wn_cols_get(struct wn_lower *lo, wn_vid v, size_t k, struct wn_cols *ret)
{
    if (wn_cols_has(lo, v, k)) {
        *ret = describe(lo, v, k);
        return WINNOW_OK;
    }
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_lower_plain(lo, v, &a->plain));
    WN_TRY(wn_cols_new(lo, v, k, &a->cols));
    *ret = a->cols;
    return add_move(lo, v, "rows_to_cols", run_to_cols, a);
}

enum winnow_status wn_cols_to_plain(struct wn_lower *lo, wn_vid v)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    a->cols = describe(lo, v, lo->plan->place[v].cols_k);
    WN_TRY(wn_lower_new_plain(lo, v, &a->plain));
    return add_move(lo, v, "cols_to_rows", run_to_rows, a);
}
