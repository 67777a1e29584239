/* pool.c: MaxPool, AveragePool, LpPool and their global forms, over any number of spatial axes.
 * Source: ONNX Operators.md. Averages are summed in f64. */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>

/* ---- geometry ---- */
static enum winnow_status pool_init(struct wn_window *w, const struct wn_node *node, const struct wn_type *x,
                                    struct winnow_err *err)
{
    WN_TRY(wn_window_init(w, node, x, NULL, wn_node_int(node, "ceil_mode", 0) != 0, err));
    int64_t taps;
    for (int i = 0; i < w->nd; i++)
        if (w->pad[i] >= w->kernel[i] * w->dil[i] || w->pad_end[i] >= w->kernel[i] * w->dil[i])
            return wn_bad(err, "pads %lld and %lld must be smaller than the kernel's %lld", (long long)w->pad[i],
                          (long long)w->pad_end[i], (long long)w->kernel[i]);
    return wn_dim_prod(w->kernel, 0, w->nd, &taps, err);
}

static enum winnow_status infer_pool(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, mask, err));
    struct wn_type *y = &in->out[0];
    const struct wn_type *x = &in->in[0];
    y->dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    struct wn_window w;
    WN_TRY(pool_init(&w, in->node, x, err));
    *y = *x;
    memcpy(y->dim + 2, w.out, (size_t)w.nd * sizeof y->dim[0]);
    return WINNOW_OK;
}

enum winnow_status wn_infer_pool(struct wn_infer *in, struct winnow_err *err)
{
    int64_t p = wn_node_int(in->node, "p", 2);
    if (p < 1)
        return wn_bad(err, "attribute p: %lld is out of range", (long long)p);
    return infer_pool(in, WN_FLOATS, err);
}

enum winnow_status wn_infer_max_pool(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(infer_pool(in, WN_FLOATS | WN_U8_I8, err));
    if (in->n_out > 1) {
        in->out[1] = in->out[0];
        in->out[1].dtype = WINNOW_I64;
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_global_pool(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    in->out[0] = in->in[0];
    for (int i = 2; i < in->out[0].rank; i++)
        in->out[0].dim[i] = 1;
    return WINNOW_OK;
}

/* ---- walking windows ---- */

struct visit {
    double sum, best;
    int64_t best_at;       /* offset in the plane, -1: no tap lies in the input */
    int64_t count, inside; /* taps in the padded input, taps in the input */
};

/* Number of taps of a window starting at `start` that lie before position `to`. */
static int64_t taps_before(int64_t to, int64_t start, int64_t dil, int64_t kernel)
{
    return to <= start ? 0 : WN_MIN(kernel, (to - start + dil - 1) / dil);
}

/* Visit the taps of output pixel o that lie in the input. `p`: 0 average, < 0 maximum, > 0 Lp norm. */
static void visit_window(const struct wn_window *w, const double *x, const int64_t *o, int64_t p, struct visit *v)
{
    int64_t first[WN_MAX_SPATIAL], taps[WN_MAX_SPATIAL], k[WN_MAX_SPATIAL] = { 0 };
    *v = (struct visit){ .best = -INFINITY, .best_at = -1, .count = 1, .inside = 1 };
    for (int i = 0; i < w->nd; i++) {
        int64_t start = o[i] * w->stride[i] - w->pad[i];
        int64_t k0 = taps_before(0, start, w->dil[i], w->kernel[i]);
        taps[i] = taps_before(w->in[i], start, w->dil[i], w->kernel[i]) - k0;
        first[i] = start + k0 * w->dil[i];
        v->inside *= WN_MAX(taps[i], 0);
        v->count *= taps_before(w->in[i] + w->pad_end[i], start, w->dil[i], w->kernel[i]);
    }
    if (v->inside == 0)
        return;
    do {
        int64_t at = 0;
        for (int i = 0; i < w->nd; i++)
            at = at * w->in[i] + first[i] + k[i] * w->dil[i];
        if (p < 0 && (v->best_at < 0 || x[at] > v->best || x[at] != x[at])) {
            v->best = x[at];
            v->best_at = at;
        } else if (p >= 0) {
            v->sum += p == 0 ? x[at] : p == 1 ? fabs(x[at]) : p == 2 ? x[at] * x[at] : pow(fabs(x[at]), (double)p);
        }
    } while (wn_next_index((unsigned)w->nd, taps, k));
}

/* Column-major number of element `at` of a plane (storage_order = 1). */
static int64_t column_major(const struct wn_window *w, int64_t at)
{
    int64_t y = 0, idx[WN_MAX_SPATIAL];
    for (int i = w->nd; i-- > 0; at /= w->in[i])
        idx[i] = at % w->in[i];
    for (int i = w->nd; i-- > 0;)
        y = y * w->in[i] + idx[i];
    return y;
}

struct pool {
    struct wn_window win;
    int64_t p;
    bool count_pad, by_column;
};

static double result_of(const struct pool *pl, const struct visit *v)
{
    if (pl->p < 0)
        return v->best;
    if (pl->p == 0)
        return v->inside ? v->sum / (double)(pl->count_pad ? v->count : v->inside) : 0;
    return pl->p == 1 ? v->sum : pl->p == 2 ? sqrt(v->sum) : pow(v->sum, 1.0 / (double)pl->p);
}

static enum winnow_status run_pool(struct wn_run *run, const struct pool *pl, struct winnow_err *err)
{
    const struct wn_window *w = &pl->win;
    struct wn_tensor *out = &run->out[0];
    int64_t *indices = run->n_out > 1 ? run->out[1].data : NULL, in_size, at = 0, n = wn_tensor_count(out);
    WN_TRY(wn_dim_prod(w->in, 0, w->nd, &in_size, err));
    const double *x = wn_as_f64(run->in[0], run->tmp);
    double *y = wn_arena_calloc(run->tmp, (size_t)n, sizeof *y);
    if (!x || !y)
        return wn_nomem(err);
    for (int64_t plane = 0; at < n; plane++) {
        int64_t o[WN_MAX_SPATIAL] = { 0 };
        do {
            struct visit v;
            visit_window(w, x + plane * in_size, o, pl->p, &v);
            if (indices)
                indices[at] = plane * in_size + (pl->by_column ? column_major(w, WN_MAX(v.best_at, 0)) : v.best_at);
            y[at++] = result_of(pl, &v);
        } while (wn_next_index((unsigned)w->nd, w->out, o));
    }
    for (int64_t i = 0; i < n; i += WN_CHUNK)
        wn_store(out->dtype, out->data, i, (size_t)WN_MIN(n - i, WN_CHUNK), WN_CLS_F64, y + i);
    return WINNOW_OK;
}

static enum winnow_status run_local(struct wn_run *run, struct pool *pl, struct winnow_err *err)
{
    struct wn_type x = wn_type_of(run->in[0]);
    WN_TRY(pool_init(&pl->win, run->node, &x, err));
    return run_pool(run, pl, err);
}

/* Global pooling is one window over everything. */
static enum winnow_status run_global(struct wn_run *run, struct pool *pl, struct winnow_err *err)
{
    struct wn_window *w = &pl->win;
    const struct wn_tensor *x = run->in[0];
    w->nd = 1;
    w->in[0] = 1;
    for (unsigned i = 2; i < x->rank; i++)
        w->in[0] *= x->dim[i];
    w->kernel[0] = w->in[0];
    w->out[0] = w->stride[0] = w->dil[0] = 1;
    if (w->in[0] == 0)
        return wn_bad(err, "nothing to pool: a spatial extent is 0");
    return run_pool(run, pl, err);
}

enum winnow_status wn_run_max_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .p = -1, .by_column = wn_node_int(run->node, "storage_order", 0) != 0 };
    return run_local(run, &pl, err);
}

enum winnow_status wn_run_average_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .count_pad = wn_node_int(run->node, "count_include_pad", 0) != 0 };
    return run_local(run, &pl, err);
}

enum winnow_status wn_run_lp_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .p = wn_node_int(run->node, "p", 2) };
    return run_local(run, &pl, err);
}

enum winnow_status wn_run_global_max_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .p = -1 };
    return run_global(run, &pl, err);
}

enum winnow_status wn_run_global_average_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .p = 0 };
    return run_global(run, &pl, err);
}

enum winnow_status wn_run_global_lp_pool(struct wn_run *run, struct winnow_err *err)
{
    struct pool pl = { .p = wn_node_int(run->node, "p", 2) };
    return run_global(run, &pl, err);
}

/* The second output counts through the whole batch. */
void wn_rows_max_pool(struct wn_rows *r)
{
    wn_rows_axis0(r);
    if (r->out_axis >= 0 && r->node->n_out > 1 && r->node->out[1] != WN_NONE)
        r->out_axis = WN_ROWS_MIXED;
}
