/* recurrent.c: RNN, GRU and LSTM, as onnx/defs/rnn/defs.cc writes them.
 *
 * DESIGN  One walk over directions, batch entries and time; what differs is the cell. Weights are transposed once per
 *         run, so that a product is a sum of scaled rows and vectorizes without changing the order of additions. Time
 *         runs to each sequence's own length; what lies beyond is zero in Y, and Y_h is the last state within. */
#include "engine/ops/recurrent.h"

#include <math.h>
#include <string.h>
#include "engine/ops/budget.h"
#include "engine/ops/impl.h"

#define MAX_UNITS (1 << 20) /* of hidden_size */

static const struct {
    const char *type;
    int64_t gates;
    unsigned acts;
} kinds[] = { { "RNN", 1, 1 }, { "GRU", 3, 2 }, { "LSTM", 4, WN_RECURRENT_ACTS } };

static enum wn_recurrent_kind kind_of(const struct wn_node *node)
{
    enum wn_recurrent_kind k = WN_RNN;
    while (k < WN_LSTM && strcmp(kinds[k].type, node->op_type) != 0)
        k++;
    return k;
}

int64_t wn_recurrent_gates(enum wn_recurrent_kind kind)
{
    return kinds[kind].gates;
}

unsigned wn_recurrent_acts(enum wn_recurrent_kind kind)
{
    return kinds[kind].acts;
}

/* ---- activations ---- */

static const struct {
    const char *name;
    bool has_a, has_b;
    float a, b;
} act_table[] = {
    [WN_RECURRENT_TANH] = { "tanh", false, false, 0, 0 },
    [WN_RECURRENT_SIGMOID] = { "sigmoid", false, false, 0, 0 },
    [WN_RECURRENT_RELU] = { "relu", false, false, 0, 0 },
    [WN_RECURRENT_AFFINE] = { "affine", true, true, 1, 0 },
    [WN_RECURRENT_LEAKY_RELU] = { "leakyrelu", true, false, 0.01f, 0 },
    [WN_RECURRENT_THRESHOLDED_RELU] = { "thresholdedrelu", true, false, 1, 0 },
    [WN_RECURRENT_SCALED_TANH] = { "scaledtanh", true, true, 1, 1 },
    [WN_RECURRENT_HARD_SIGMOID] = { "hardsigmoid", true, true, 0.2f, 0.5f },
    [WN_RECURRENT_ELU] = { "elu", true, false, 1, 0 },
    [WN_RECURRENT_SOFTSIGN] = { "softsign", false, false, 0, 0 },
    [WN_RECURRENT_SOFTPLUS] = { "softplus", false, false, 0, 0 },
};

static float apply(const struct wn_recurrent_act *act, float x)
{
    switch (act->f) {
    case WN_RECURRENT_TANH:
        return tanhf(x);
    case WN_RECURRENT_SIGMOID:
        return 1 / (1 + expf(-x));
    case WN_RECURRENT_RELU:
        return x > 0 ? x : 0;
    case WN_RECURRENT_AFFINE:
        return act->a * x + act->b;
    case WN_RECURRENT_LEAKY_RELU:
        return x >= 0 ? x : act->a * x;
    case WN_RECURRENT_THRESHOLDED_RELU:
        return x > act->a ? x : 0;
    case WN_RECURRENT_SCALED_TANH:
        return act->a * tanhf(act->b * x);
    case WN_RECURRENT_HARD_SIGMOID:
        return fminf(1, fmaxf(0, act->a * x + act->b));
    case WN_RECURRENT_ELU:
        return x >= 0 ? x : act->a * expm1f(x);
    case WN_RECURRENT_SOFTSIGN:
        return x / (1 + fabsf(x));
    default:
        return log1pf(expf(x));
    }
}

static bool is_called(struct winnow_str s, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n && s.n == n; i++)
        if ((s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 'a' - 'A' : s.p[i]) != name[i])
            return false;
    return s.n == n;
}

/* The float list `name`; NULL and *n = 0 when absent. */
static const float *floats(const struct wn_node *node, const char *name, size_t *n)
{
    const struct wn_attr *a = wn_node_attr(node, name);
    bool ok = a && a->kind == WN_ATTR_FLOATS;
    *n = ok ? a->n : 0;
    return ok ? a->floats : NULL;
}

/* Activations of every direction, in order. Their parameters are taken from the two lists as they are needed. */
static enum winnow_status read_acts(const struct wn_node *node, enum wn_recurrent_kind kind, unsigned dirs,
                                    struct wn_recurrent_act *acts, struct winnow_err *err)
{
    unsigned n = kinds[kind].acts * dirs;
    const struct wn_attr *names = wn_node_attr(node, "activations");
    size_t n_a, n_b, at_a = 0, at_b = 0;
    const float *a = floats(node, "activation_alpha", &n_a), *b = floats(node, "activation_beta", &n_b);
    if (names && names->n && (names->kind != WN_ATTR_STRINGS || names->n != n))
        return wn_bad(err, "%zu activations, must be %u", names->n, n);
    for (unsigned i = 0; i < n; i++) {
        unsigned f = kind == WN_RNN || i % kinds[kind].acts ? WN_RECURRENT_TANH : WN_RECURRENT_SIGMOID;
        if (names && names->n) {
            for (f = 0; f < WN_COUNT(act_table) && !is_called(names->strs[i], act_table[f].name);)
                f++;
            if (f == WN_COUNT(act_table))
                return wn_bad(err, "unknown activation '%.*s'", (int)WN_MIN(names->strs[i].n, 32u), names->strs[i].p);
        }
        acts[i].f = f;
        acts[i].a = act_table[f].has_a && at_a < n_a ? a[at_a++] : act_table[f].a;
        acts[i].b = act_table[f].has_b && at_b < n_b ? b[at_b++] : act_table[f].b;
    }
    return WINNOW_OK;
}

enum winnow_status wn_recurrent_read(const struct wn_node *node, struct wn_recurrent *ret, struct winnow_err *err)
{
    *ret = (struct wn_recurrent){ .kind = kind_of(node),
                                  .dirs = 1,
                                  .late_reset = wn_node_int(node, "linear_before_reset", 0) != 0,
                                  .coupled = wn_node_int(node, "input_forget", 0) != 0,
                                  .clip = wn_node_float(node, "clip", 0) };
    if (wn_node_str_is(node, "direction", "forward", "bidirectional"))
        ret->dirs = 2;
    else if (wn_node_str_is(node, "direction", "forward", "reverse"))
        ret->backward = true;
    else if (!wn_node_str_is(node, "direction", "forward", "forward"))
        return wn_bad(err, "attribute direction");
    int64_t layout = wn_node_int(node, "layout", 0);
    if (layout != 0 && layout != 1)
        return wn_bad(err, "attribute layout: %lld", (long long)layout);
    ret->batch_first = layout == 1;
    WN_TRY(read_acts(node, ret->kind, ret->dirs, ret->acts, err));
    return ret->clip >= 0 ? WINNOW_OK : wn_bad(err, "attribute clip: %g", (double)ret->clip);
}

/* ---- shapes ---- */

struct shape {
    struct wn_recurrent d;
    int64_t steps, batch, inputs, units;
};

/* `said`: hidden_size, or -1. w: NULL where the products with X were made before. */
static enum winnow_status read_shape(const struct wn_recurrent *d, int64_t said, const struct wn_type *x,
                                     const struct wn_type *w, const struct wn_type *r, struct shape *s,
                                     struct winnow_err *err)
{
    *s = (struct shape){ .d = *d, .steps = -1, .batch = -1, .inputs = -1, .units = -1 };
    int64_t layout = d->batch_first, same, G = kinds[d->kind].gates, rows;
    if (x->rank == 3) {
        s->steps = x->dim[layout];
        s->batch = x->dim[1 - layout];
        s->inputs = x->dim[2];
    }
    if (r->rank == 3) {
        s->units = r->dim[2];
        WN_TRY(wn_dim_same(r->dim[0], d->dirs, "directions", &same, err));
        WN_TRY(wn_dim_mul(s->units, G, &rows, err));
        WN_TRY(wn_dim_same(r->dim[1], rows, "rows of R and gates", &same, err));
    }
    if (said == 0 || said > MAX_UNITS || s->units > MAX_UNITS)
        return wn_bad(err, "hidden_size %lld", (long long)(said == 0 || said > MAX_UNITS ? said : s->units));
    WN_TRY(wn_dim_same(s->units, said > 0 ? said : -1, "hidden_size and R", &s->units, err));
    if (w && w->rank == 3) {
        WN_TRY(wn_dim_same(w->dim[0], d->dirs, "directions", &same, err));
        WN_TRY(wn_dim_mul(s->units, G, &rows, err));
        WN_TRY(wn_dim_same(w->dim[1], rows, "rows of W and gates", &same, err));
        WN_TRY(wn_dim_same(w->dim[2], s->inputs, "columns of W and X", &s->inputs, err));
    }
    return WINNOW_OK;
}

/* Input i must have these extents. */
static enum winnow_status want_dims(const struct wn_infer *in, unsigned i, int rank, const int64_t *dim,
                                    struct winnow_err *err)
{
    int64_t same;
    WN_TRY(wn_want_rank(in, i, rank, rank, err));
    for (int a = 0; i < in->n_in && in->in[i].rank == rank && a < rank; a++)
        if (wn_dim_same(in->in[i].dim[a], dim[a], "", &same, NULL) != WINNOW_OK)
            return wn_bad(err, "input %u has extent %lld in axis %d, must have %lld", i, (long long)in->in[i].dim[a], a,
                          (long long)dim[a]);
    return WINNOW_OK;
}

static void set_dims(struct wn_type *t, enum winnow_dtype dtype, int rank, const int64_t *dim)
{
    t->dtype = dtype;
    t->rank = rank;
    for (int a = 0; a < rank; a++)
        t->dim[a] = dim[a];
}

/* Inputs from i on: sequence_lens, initial_h, initial_c. The outputs. */
static enum winnow_status infer_states(struct wn_infer *in, const struct shape *s, unsigned i, struct winnow_err *err)
{
    int64_t state[3] = { s->d.dirs, s->batch, s->units }, y[4] = { s->steps, s->d.dirs, s->batch, s->units };
    if (s->d.batch_first) {
        state[0] = s->batch, state[1] = s->d.dirs;
        y[0] = s->batch, y[1] = s->steps, y[2] = s->d.dirs;
    }
    WN_TRY(want_dims(in, i, 1, &s->batch, err));
    WN_TRY(want_dims(in, i + 1, 3, state, err));
    WN_TRY(want_dims(in, i + 2, 3, state, err));
    set_dims(&in->out[0], in->in[0].dtype, 4, y);
    for (unsigned o = 1; o < in->n_out; o++)
        set_dims(&in->out[o], in->in[0].dtype, 3, state);
    return WINNOW_OK;
}

enum winnow_status wn_infer_recurrent(struct wn_infer *in, struct winnow_err *err)
{
    static const unsigned floats_at[] = { 0, 1, 2, 3, 5, 6, 7 };
    struct wn_recurrent d;
    struct shape s;
    for (size_t i = 0; i < WN_COUNT(floats_at); i++) {
        WN_TRY(wn_want(in, floats_at[i], WN_D(F32) | WN_D(F16) | WN_D(BF16), err));
        WN_TRY(wn_want_same(in, 0, floats_at[i], err));
    }
    WN_TRY(wn_want(in, 4, WN_D(I32), err));
    for (unsigned i = 0; i < 3; i++)
        WN_TRY(wn_want_rank(in, i, 3, 3, err));
    WN_TRY(wn_recurrent_read(in->node, &d, err));
    WN_TRY(read_shape(&d, wn_node_int(in->node, "hidden_size", -1), &in->in[0], &in->in[1], &in->in[2], &s, err));
    int64_t b, G = kinds[d.kind].gates, peep;
    WN_TRY(wn_dim_mul(s.units, 2 * G, &b, err));
    WN_TRY(wn_dim_mul(s.units, 3, &peep, err));
    WN_TRY(want_dims(in, 3, 2, (const int64_t[]){ d.dirs, b }, err));
    WN_TRY(want_dims(in, 7, 2, (const int64_t[]){ d.dirs, peep }, err));
    return infer_states(in, &s, 4, err);
}

enum winnow_status wn_infer_recurrent_products(struct wn_infer *in, struct winnow_err *err)
{
    struct shape s;
    WN_TRY(read_shape(in->node->fused, -1, &in->in[0], NULL, &in->in[1], &s, err));
    return infer_states(in, &s, 3, err);
}

/* ---- one direction ---- */

/* Weights of one direction, transposed: [inputs][gates * units] and [units][gates * units]. */
struct cell {
    const struct shape *s;
    const struct wn_recurrent_act *acts;
    float *w, *r;         /* w: NULL where the products with X were made before */
    const float *wb, *rb; /* [gates * units] biases, or NULL */
    const float *p;       /* [3 * units] peepholes, or NULL */
    float *x_sum, *h_sum; /* [gates * units] of one step */
    float *h, *c, *new_h; /* [units] */
};

static void add_product(float *y, const float *x, int64_t n, const float *w, int64_t m)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            y[j] += x[i] * w[i * m + j];
}

static float clipped(const struct cell *cell, float v)
{
    const float clip = cell->s->d.clip;
    return clip > 0 ? fminf(clip, fmaxf(-clip, v)) : v;
}

static void start_sum(float *y, const float *bias, int64_t n)
{
    if (bias)
        memcpy(y, bias, (size_t)n * sizeof *y);
    else
        memset(y, 0, (size_t)n * sizeof *y);
}

static void step_rnn(struct cell *cell)
{
    for (int64_t i = 0; i < cell->s->units; i++)
        cell->new_h[i] = apply(&cell->acts[0], clipped(cell, cell->x_sum[i] + cell->h_sum[i]));
}

/* Gates z, r, h. linear_before_reset: r multiplies the product with R and its bias; else the state before it. */
static void step_gru(struct cell *cell)
{
    int64_t H = cell->s->units;
    bool late = cell->s->d.late_reset;
    float *z = cell->x_sum, *r = cell->x_sum + H, *g = cell->x_sum + 2 * H, *hg = cell->h_sum + 2 * H;
    for (int64_t i = 0; i < 2 * H; i++)
        cell->x_sum[i] = apply(&cell->acts[0], clipped(cell, cell->x_sum[i] + cell->h_sum[i]));
    if (!late) {
        for (int64_t i = 0; i < H; i++)
            cell->new_h[i] = r[i] * cell->h[i];
        start_sum(hg, cell->rb ? cell->rb + 2 * H : NULL, H);
        for (int64_t k = 0; k < H; k++)
            for (int64_t i = 0; i < H; i++)
                hg[i] += cell->new_h[k] * cell->r[k * 3 * H + 2 * H + i];
    }
    for (int64_t i = 0; i < H; i++) {
        float n = apply(&cell->acts[1], clipped(cell, g[i] + (late ? r[i] * hg[i] : hg[i])));
        cell->new_h[i] = (1 - z[i]) * n + z[i] * cell->h[i];
    }
}

/* Gates i, o, f, c. */
static void step_lstm(struct cell *cell)
{
    int64_t H = cell->s->units;
    bool coupled = cell->s->d.coupled;
    const float *p = cell->p;
    for (int64_t k = 0; k < H; k++) {
        float i = cell->x_sum[k] + cell->h_sum[k], o = cell->x_sum[H + k] + cell->h_sum[H + k];
        float f = cell->x_sum[2 * H + k] + cell->h_sum[2 * H + k], c = cell->x_sum[3 * H + k] + cell->h_sum[3 * H + k];
        i = apply(&cell->acts[0], clipped(cell, i + (p ? p[k] * cell->c[k] : 0)));
        f = coupled ? 1 - i : apply(&cell->acts[0], clipped(cell, f + (p ? p[2 * H + k] * cell->c[k] : 0)));
        cell->c[k] = f * cell->c[k] + i * apply(&cell->acts[1], clipped(cell, c));
        o = apply(&cell->acts[0], clipped(cell, o + (p ? p[H + k] * cell->c[k] : 0)));
        cell->new_h[k] = o * apply(&cell->acts[2], cell->c[k]);
    }
}

static void step(struct cell *cell, const float *x)
{
    int64_t H = cell->s->units, GH = kinds[cell->s->d.kind].gates * H;
    start_sum(cell->x_sum, cell->w ? cell->wb : x, GH);
    if (cell->w)
        add_product(cell->x_sum, x, cell->s->inputs, cell->w, GH);
    start_sum(cell->h_sum, cell->rb, GH);
    add_product(cell->h_sum, cell->h, H, cell->r, GH);
    if (cell->s->d.kind == WN_RNN)
        step_rnn(cell);
    else if (cell->s->d.kind == WN_GRU)
        step_gru(cell);
    else
        step_lstm(cell);
    memcpy(cell->h, cell->new_h, (size_t)H * sizeof *cell->h);
}

/* ---- the walk ---- */

struct walk {
    struct shape s;
    const float *x, *w, *r, *wb, *rb, *h0, *c0, *p; /* w: NULL where x holds products */
    size_t b_stride;                                /* from the biases of one direction to the next */
    const int64_t *len;
    float *y, *y_h, *y_c; /* NULL where not wanted */
};

/* Offset of state [dir, batch] in elements. */
static int64_t state_at(const struct shape *s, unsigned dir, int64_t batch)
{
    return (s->d.batch_first ? batch * s->d.dirs + dir : dir * s->batch + batch) * s->units;
}

static enum winnow_status run_sequence(const struct walk *wk, struct cell *cell, unsigned dir, int64_t b,
                                       struct wn_budget *budget, struct winnow_err *err)
{
    const struct shape *s = &wk->s;
    size_t bytes = (size_t)s->units * sizeof(float);
    int64_t len = wk->len ? wk->len[b] : s->steps, at = state_at(s, dir, b);
    const int64_t GH = kinds[s->d.kind].gates * s->units;
    const float *x = wk->w ? wk->x : wk->x + dir * GH;
    const uint64_t step_work = (uint64_t)(GH * (s->units + (wk->w ? s->inputs : 1)));
    bool backward = s->d.backward || dir == 1;
    memset(cell->h, 0, bytes);
    memset(cell->c, 0, bytes);
    if (wk->h0)
        memcpy(cell->h, wk->h0 + at, bytes);
    if (wk->c0)
        memcpy(cell->c, wk->c0 + at, bytes);
    for (int64_t k = 0; k < len; k++) {
        int64_t t = backward ? len - 1 - k : k;
        WN_TRY(wn_budget_work(budget, step_work, err));
        step(cell, x + (s->d.batch_first ? b * s->steps + t : t * s->batch + b) * s->inputs);
        if (wk->y)
            memcpy(wk->y + (s->d.batch_first ? (b * s->steps + t) * s->d.dirs + dir
                                             : (t * s->d.dirs + dir) * s->batch + b) *
                               s->units,
                   cell->h, bytes);
    }
    if (wk->y_h)
        memcpy(wk->y_h + at, cell->h, bytes);
    if (wk->y_c)
        memcpy(wk->y_c + at, cell->c, bytes);
    return WINNOW_OK;
}

static float *transposed(const float *w, int64_t rows, int64_t cols, struct wn_arena *arena)
{
    float *t = wn_arena_calloc(arena, (size_t)(rows * cols), sizeof *t);
    for (int64_t i = 0; t && i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            t[k * rows + i] = w[i * cols + k];
    return t;
}

static enum winnow_status run_direction(const struct walk *wk, struct wn_run *run, unsigned dir, struct winnow_err *err)
{
    const struct shape *s = &wk->s;
    int64_t H = s->units, GH = kinds[s->d.kind].gates * H;
    struct cell cell = { .s = s,
                         .acts = s->d.acts + dir * kinds[s->d.kind].acts,
                         .w = wk->w ? transposed(wk->w + dir * GH * s->inputs, GH, s->inputs, run->tmp) : NULL,
                         .r = transposed(wk->r + dir * GH * H, GH, H, run->tmp),
                         .wb = wk->wb ? wk->wb + dir * wk->b_stride : NULL,
                         .rb = wk->rb ? wk->rb + dir * wk->b_stride : NULL,
                         .p = wk->p ? wk->p + dir * 3 * H : NULL,
                         .x_sum = wn_arena_calloc(run->tmp, (size_t)GH, sizeof(float)),
                         .h_sum = wn_arena_calloc(run->tmp, (size_t)GH, sizeof(float)),
                         .h = wn_arena_calloc(run->tmp, (size_t)H, sizeof(float)),
                         .c = wn_arena_calloc(run->tmp, (size_t)H, sizeof(float)),
                         .new_h = wn_arena_calloc(run->tmp, (size_t)H, sizeof(float)) };
    if ((wk->w && !cell.w) || !cell.r || !cell.x_sum || !cell.h_sum || !cell.h || !cell.c || !cell.new_h)
        return wn_nomem(err);
    for (int64_t b = 0; b < s->batch; b++)
        WN_TRY(run_sequence(wk, &cell, dir, b, run->budget, err));
    return WINNOW_OK;
}

/* Input i as f32; NULL when omitted, and *ok false when out of memory. */
static const float *take(struct wn_run *run, unsigned i, bool *ok)
{
    if (i >= run->n_in || !run->in[i])
        return NULL;
    const float *p = wn_as_f32(run->in[i], run->tmp);
    *ok = *ok && p;
    return p;
}

/* All of wk but where the outputs are; lens: which input holds sequence_lens. */
static enum winnow_status run_walk(struct wn_run *run, struct walk *wk, unsigned lens, struct winnow_err *err)
{
    bool ok = true;
    wk->h0 = take(run, lens + 1, &ok), wk->c0 = take(run, lens + 2, &ok);
    wk->len = run->n_in > lens && run->in[lens] ? wn_as_i64(run->in[lens], run->tmp) : NULL;
    if (!ok || (run->n_in > lens && run->in[lens] && !wk->len))
        return wn_nomem(err);
    for (int64_t b = 0; wk->len && b < wk->s.batch; b++)
        if (wk->len[b] < 0 || wk->len[b] > wk->s.steps)
            return wn_bad(err, "sequence length %lld of %lld steps", (long long)wk->len[b], (long long)wk->s.steps);
    float *out[3] = { 0 };
    for (unsigned i = 0; i < run->n_out; i++)
        if (!(out[i] = wn_out_f32(run, i)))
            return wn_nomem(err);
    memset(out[0], 0, (size_t)wn_tensor_count(&run->out[0]) * sizeof(float));
    wk->y = out[0], wk->y_h = out[1], wk->y_c = out[2];
    for (unsigned dir = 0; dir < wk->s.d.dirs; dir++)
        WN_TRY(run_direction(wk, run, dir, err));
    for (unsigned i = 0; i < run->n_out; i++)
        wn_put_f32(run, i, out[i]);
    return WINNOW_OK;
}

enum winnow_status wn_run_recurrent(struct wn_run *run, struct winnow_err *err)
{
    struct walk wk = { 0 };
    struct wn_recurrent d;
    struct wn_type x = wn_type_of(run->in[0]), w = wn_type_of(run->in[1]), r = wn_type_of(run->in[2]);
    bool ok = true;
    WN_TRY(wn_recurrent_read(run->node, &d, err));
    WN_TRY(read_shape(&d, wn_node_int(run->node, "hidden_size", -1), &x, &w, &r, &wk.s, err));
    wk.x = take(run, 0, &ok), wk.w = take(run, 1, &ok), wk.r = take(run, 2, &ok), wk.wb = take(run, 3, &ok);
    wk.p = take(run, 7, &ok);
    if (!ok)
        return wn_nomem(err);
    const size_t gates = (size_t)(kinds[d.kind].gates * wk.s.units);
    wk.rb = wk.wb ? wk.wb + gates : NULL;
    wk.b_stride = 2 * gates;
    return run_walk(run, &wk, 4, err);
}

enum winnow_status wn_run_recurrent_products(struct wn_run *run, struct winnow_err *err)
{
    struct walk wk = { 0 };
    struct wn_type x = wn_type_of(run->in[0]), r = wn_type_of(run->in[1]);
    bool ok = true;
    WN_TRY(read_shape(run->node->fused, -1, &x, NULL, &r, &wk.s, err));
    wk.x = take(run, 0, &ok), wk.r = take(run, 1, &ok), wk.rb = take(run, 2, &ok);
    wk.b_stride = (size_t)(kinds[wk.s.d.kind].gates * wk.s.units);
    return ok ? run_walk(run, &wk, 3, err) : wn_nomem(err);
}

/* X and the states carry the batch along their batch axis; Y has it elsewhere than the states unless layout is 1. */
void wn_rows_recurrent(struct wn_rows *r)
{
    if (wn_rows_trivial(r))
        return;
    bool first = wn_node_int(r->node, "layout", 0) == 1;
    int axis = first ? 0 : 1;
    for (unsigned i = 0; i < r->n_in; i++) {
        bool batched = i == 0 || i == 4 || i == 5 || i == 6;
        if (r->infer->given[i] && r->in_axis[i] != (!batched ? WN_ROWS_NONE : i == 4 ? 0 : axis))
            return;
    }
    bool y = r->node->out[0] != WN_NONE, states = false;
    for (unsigned i = 1; i < r->node->n_out; i++)
        states |= r->node->out[i] != WN_NONE;
    if (first)
        r->out_axis = 0;
    else if (y != states)
        r->out_axis = y ? 2 : 1;
}
