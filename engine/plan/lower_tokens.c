/* lower_tokens.c: what stands between the layers of a transformer: layer normalization, softmax, pieces of the
 * features, one token of each sequence. */
#include <string.h>
#include "engine/kernels/norm_f32/norm_f32.h"
#include "engine/plan/cols.h"
#include "engine/plan/planes.h"

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

/* ---- layer normalization ---- */

struct norm_arg {
    struct wn_norm_f32 args; /* without x, r, y */
    struct wn_cols cx, cr, cy;
    struct wn_loc x, y;
};

static void run_norm_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct norm_arg *a = step->arg;
    struct wn_norm_f32 args = a->args;
    size_t c0, c1;
    wn_share(a->cx.cols, WN_COLS, part, n_parts, &c0, &c1);
    args.n = c1 - c0;
    args.x = wn_cols_at(exec, &a->cx, 0) + c0;
    args.r = a->cr.k ? wn_cols_at(exec, &a->cr, 0) + c0 : NULL;
    args.y = wn_cols_at(exec, &a->cy, 0) + c0;
    if (args.n)
        wn_norm_f32_cols_run(&args);
}

static void run_norm_rows(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct norm_arg *a = step->arg;
    struct wn_norm_f32 args = a->args;
    size_t t0, t1;
    wn_share(a->args.n, 1, part, n_parts, &t0, &t1);
    args.n = t1 - t0;
    args.x = (const float *)wn_at(exec, a->x) + t0 * args.k;
    args.y = (float *)wn_at(exec, a->y) + t0 * args.k;
    wn_norm_f32_rows_run(&args);
}

/* Data of a f32 constant with n elements; NULL when it is none. */
static const float *constant(const struct wn_lower *lo, const struct wn_node *node, unsigned i, size_t n)
{
    if (i >= node->n_in || node->in[i] == WN_NONE)
        return NULL;
    const struct wn_tensor *t = lo->plan->g.values.at[node->in[i]].constant;
    return t && t->dtype == WINNOW_F32 && t->bytes == n * sizeof(float) ? t->data : NULL;
}

/* Elements of v from `axis` (or from the end) on; 0 when the axis is none. */
static size_t inner(const struct wn_lower *lo, wn_vid v, int64_t axis)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    size_t n = 1;
    axis = axis < 0 ? axis + t->rank : axis;
    if (axis < 0 || axis >= t->rank)
        return 0;
    for (int i = (int)axis; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

/* Features of what node normalizes, when a kernel fits; else 0. */
static size_t norm_features(const struct wn_lower *lo, const struct wn_node *node)
{
    if (lo->reference || !wn_node_is(node, "LayerNormalization") || node->n_out != 1 ||
        wn_lower_type(lo, node->in[0])->dtype != WINNOW_F32)
        return 0;
    const size_t k = inner(lo, node->in[0], wn_node_int(node, "axis", -1));
    const bool beta = node->n_in > 2 && node->in[2] != WN_NONE;
    return !k || !constant(lo, node, 1, k) || (beta && !constant(lo, node, 2, k)) ? 0 : k;
}

/* A sum of two values of one shape, of which at least one lies in columns, that a normalization alone reads: it adds
 * them itself. */
enum winnow_status wn_lower_norm_sum(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    const struct wn_graph *g = &lo->plan->g;
    *done = false;
    if (lo->reference || !wn_node_is(node, "Add") || node->in[0] == node->in[1])
        return WINNOW_OK;
    const wn_vid y = node->out[0];
    if (lo->output[y] || lo->user_at[y + 1] - lo->user_at[y] != 1)
        return WINNOW_OK;
    const struct wn_node *norm = &g->nodes.at[lo->user[lo->user_at[y]]];
    const size_t k = norm->in[0] == y ? norm_features(lo, norm) : 0;
    if (!k || (!wn_cols_has(lo, node->in[0], k) && !wn_cols_has(lo, node->in[1], k)))
        return WINNOW_OK;
    const struct wn_type *t = wn_lower_type(lo, y);
    for (unsigned i = 0; i < 2; i++) {
        const struct wn_type *x = wn_lower_type(lo, node->in[i]);
        if (g->values.at[node->in[i]].constant || x->rank != t->rank ||
            memcmp(x->dim, t->dim, (size_t)t->rank * sizeof t->dim[0]) != 0)
            return WINNOW_OK;
    }
    *done = true;
    return WINNOW_OK;
}

/* The sum that wn_lower_norm_sum() left to the normalization of v; NULL: v is made already. */
static const struct wn_node *sum_of(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_place *place = &lo->plan->place[v];
    for (int f = 0; f < WN_FORM_COUNT; f++)
        if (place->form[f].kind != WN_LOC_NONE)
            return NULL;
    return &lo->plan->g.nodes.at[lo->plan->g.values.at[v].producer];
}

enum winnow_status wn_lower_layer_norm(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    const size_t k = norm_features(lo, node);
    *done = false;
    if (!k)
        return WINNOW_OK;
    const struct wn_node *sum = sum_of(lo, node->in[0]);
    struct norm_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->args = (struct wn_norm_f32){ .k = k,
                                    .n = wn_lower_bytes(lo, node->in[0]) / sizeof(float) / k,
                                    .gamma = constant(lo, node, 1, k),
                                    .beta = constant(lo, node, 2, k),
                                    .eps = wn_node_float(node, "epsilon", 1e-5f) };
    if (!sum && a->args.n <= WN_COLS / 2 && !wn_cols_has(lo, node->in[0], k)) {
        WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
        WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
        return finish(lo, node, "norm_f32", run_norm_rows, a, (struct wn_loc[]){ a->x, a->y }, 2, done);
    }
    WN_TRY(wn_cols_get(lo, sum ? sum->in[0] : node->in[0], k, &a->cx));
    if (sum)
        WN_TRY(wn_cols_get(lo, sum->in[1], k, &a->cr));
    WN_TRY(wn_cols_new(lo, node->out[0], k, &a->cy));
    a->args.x_stride = a->cx.stride;
    a->args.r_stride = a->cr.stride;
    a->args.y_stride = a->cy.stride;
    return finish(lo, node, "norm_f32", run_norm_cols, a, (struct wn_loc[]){ a->cx.loc, a->cr.loc, a->cy.loc }, 3,
                  done);
}

/* ---- softmax ---- */

struct softmax_arg {
    size_t k, n;
    struct wn_loc x, y;
};

static void run_softmax(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct softmax_arg *a = step->arg;
    size_t t0, t1;
    wn_share(a->n, 1, part, n_parts, &t0, &t1);
    const struct wn_softmax_f32 args = { .k = a->k,
                                         .n = t1 - t0,
                                         .x = (const float *)wn_at(exec, a->x) + t0 * a->k,
                                         .y = (float *)wn_at(exec, a->y) + t0 * a->k };
    wn_softmax_f32_run(&args);
}

enum winnow_status wn_lower_softmax(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_node_is(node, "Softmax") || wn_lower_type(lo, node->in[0])->dtype != WINNOW_F32)
        return WINNOW_OK;
    const size_t k = inner(lo, node->in[0], wn_node_int(node, "axis", node->opset < 13 ? 1 : -1));
    if (!k || (node->opset >= 13 && k != wn_cols_last(lo, node->in[0]))) /* before 13: all axes from there on */
        return WINNOW_OK;
    struct softmax_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->k = k;
    a->n = wn_lower_bytes(lo, node->in[0]) / sizeof(float) / k;
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    return finish(lo, node, "softmax_f32", run_softmax, a, (struct wn_loc[]){ a->x, a->y }, 2, done);
}

/* ---- pieces of the features: another offset into the same columns ---- */

enum winnow_status wn_lower_split(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (!wn_node_is(node, "Split") || !wn_cols_has(lo, node->in[0], wn_cols_last(lo, node->in[0])))
        return WINNOW_OK;
    const int rank = wn_lower_type(lo, node->in[0])->rank;
    const int64_t axis = wn_node_int(node, "axis", 0);
    if (axis != -1 && axis != rank - 1)
        return WINNOW_OK;
    struct wn_cols x;
    WN_TRY(wn_cols_get(lo, node->in[0], wn_cols_last(lo, node->in[0]), &x));
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE)
            return WINNOW_OK;
        if (lo->output[node->out[i]] || !wn_cols_last(lo, node->out[i]))
            return WINNOW_OK;
    }
    for (unsigned i = 0; i < node->n_out; i++) {
        struct wn_place *place = &lo->plan->place[node->out[i]];
        place->form[WN_FORM_COLS] = x.loc;
        place->cols_k = wn_cols_last(lo, node->out[i]);
        x.loc.offset += place->cols_k * x.stride * sizeof(float);
    }
    *done = true;
    return WINNOW_OK;
}

/* ---- one token of each sequence (the first: what classifiers pool) ---- */

struct token_arg {
    struct wn_cols x;
    struct wn_loc y;
    size_t sequences, length, at;
};

static void run_token(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct token_arg *a = step->arg;
    float *y = wn_at(exec, a->y);
    size_t f0, f1;
    wn_share(a->x.k, 16, part, n_parts, &f0, &f1);
    for (size_t b = 0; b < a->sequences; b++)
        for (size_t f = f0; f < f1; f++)
            y[b * a->x.k + f] = wn_cols_at(exec, &a->x, f)[b * a->length + a->at];
}

enum winnow_status wn_lower_token(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (!wn_node_is(node, "Gather"))
        return WINNOW_OK;
    const struct wn_type *x = wn_lower_type(lo, node->in[0]);
    const struct wn_tensor *idx = lo->plan->g.values.at[node->in[1]].constant;
    const int64_t axis = wn_node_int(node, "axis", 0);
    if (!idx || wn_tensor_count(idx) != 1 || x->rank < 2 || (axis != x->rank - 2 && axis != -2) ||
        !wn_cols_has(lo, node->in[0], wn_cols_last(lo, node->in[0])))
        return WINNOW_OK;
    const int64_t length = x->dim[x->rank - 2];
    int64_t at = idx->dtype == WINNOW_I64 ? *(const int64_t *)idx->data : *(const int32_t *)idx->data;
    at = at < 0 ? at + length : at;
    if (at < 0 || at >= length)
        return WINNOW_OK; /* the reference operator says what is wrong */
    struct token_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_cols_get(lo, node->in[0], wn_cols_last(lo, node->in[0]), &a->x));
    a->length = (size_t)length;
    a->at = (size_t)at;
    a->sequences = a->x.n / a->length;
    WN_TRY(wn_lower_new_plain(lo, node->out[0], &a->y));
    return finish(lo, node, "token", run_token, a, (struct wn_loc[]){ a->x.loc, a->y }, 2, done);
}
