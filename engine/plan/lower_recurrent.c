/* lower_recurrent.c: what of RNN, GRU and LSTM has to run step by step: the products of R with the state (f32_gemv,
 * which adds what X contributes), activations by the vector functions, the new state.
 *
 * DESIGN  Directions and blocks of sequences are independent of each other, and what threads share out; blocks are the
 *         same whatever the number of threads, so answers are too. A sequence that ended stays in its block and is not
 *         written. A GRU's R is packed gate by gate, for its third product starts when the second is done.
 *         Rejected: sharing out the rows of one product, which takes a barrier between all steps' products. */
#include <math.h>
#include <string.h>
#include "engine/kernels/eltwise/f32.h"
#include "engine/ops/budget.h"
#include "engine/plan/f32_pack.h"

#define BLOCK ((size_t)8) /* sequences: what f32_gemv takes at once */

struct act {
    enum wn_elt_f32_unary op;
    float alpha, beta, lo;
};

struct recurrent_arg {
    const struct wn_node *node;
    const struct wn_recurrent *d;
    const struct wn_f32_pack *pack; /* a group per direction; of a GRU per direction and gate */
    const float *bias;              /* [dirs][GH], or NULL */
    struct wn_loc x, len, h0, c0;   /* kind NONE: omitted */
    struct wn_loc y[3];             /* Y, Y_h, Y_c */
    struct wn_loc mem;              /* mem_floats for each direction and block */
    size_t steps, batch, H, GH, blocks, mem_floats;
    struct act act[2 * WN_RECURRENT_ACTS];
};

/* One block of sequences in one direction, while it runs. */
struct block {
    const struct recurrent_arg *a;
    const struct act *act;
    size_t dir, first, n;     /* sequences first .. first + n - 1 */
    const int32_t *len;       /* [batch], or NULL */
    const float *x, *bias;    /* of this direction */
    float *y;                 /* of this direction, or NULL */
    float *h, *c, *gates, *t; /* [n] of H, H, GH and H floats */
};

/* ---- where things lie ---- */

static size_t row_of(const struct recurrent_arg *a, size_t step, size_t seq)
{
    return a->d->batch_first ? seq * a->steps + step : step * a->batch + seq;
}

/* Of Y, which has the directions between the steps and the sequences unless batch_first. */
static float *y_at(const struct block *b, size_t step, size_t seq)
{
    const struct recurrent_arg *a = b->a;
    return b->y + (a->d->batch_first ? row_of(a, step, seq) * a->d->dirs + b->dir
                                     : (step * a->d->dirs + b->dir) * a->batch + seq) *
                      a->H;
}

static size_t state_at(const struct block *b, size_t seq)
{
    const struct recurrent_arg *a = b->a;
    return (a->d->batch_first ? seq * a->d->dirs + b->dir : b->dir * a->batch + seq) * a->H;
}

static size_t length(const struct block *b, size_t i)
{
    return b->len ? (size_t)b->len[b->first + i] : b->a->steps;
}

/* ---- one step ---- */

static void activate(const struct act *f, float *v, size_t n)
{
    const struct wn_elt_f32 e = {
        .x = v, .y = v, .n = n, .alpha = f->alpha, .beta = f->beta, .lo = f->lo, .hi = INFINITY
    };
    wn_elt_f32_unary_run(f->op, &e);
}

static float clip_of(const struct recurrent_arg *a)
{
    return a->d->clip > 0 ? a->d->clip : INFINITY;
}

/* y = x op z, clipped; y may be x or z. */
static void combine(enum wn_elt_f32_binary op, const float *x, const float *z, float clip, float *y, size_t n)
{
    const struct wn_elt_f32 e = { .x = x, .b = z, .y = y, .n = n, .lo = -clip, .hi = clip };
    wn_elt_f32_binary_run(op, &e);
}

/* y = R x + bias (+ y), where `add` clipped; `gate`: of a GRU, else 0. */
static void product(const struct block *b, size_t gate, const float *x, float *y, size_t y_stride, bool add)
{
    const struct recurrent_arg *a = b->a;
    const struct wn_f32_gemm *mat = &a->pack->gemm[b->dir * (a->pack->groups / a->d->dirs) + gate];
    const float clip = add ? clip_of(a) : INFINITY;
    const struct wn_f32_gemv_args args = { .x = x,
                                           .m = b->n,
                                           .x_stride = a->H,
                                           .y = y,
                                           .y_stride = y_stride,
                                           .bias = b->bias ? b->bias + gate * a->H : NULL,
                                           .r = add ? y : NULL,
                                           .lo = -clip,
                                           .hi = clip };
    wn_f32_gemv_run(mat, &args, 0, mat->rows);
}

static bool live(const struct block *b, size_t i, size_t k)
{
    return k < length(b, i);
}

static void step_rnn(const struct block *b, size_t k)
{
    const size_t H = b->a->H;
    product(b, 0, b->h, b->gates, H, true);
    for (size_t i = 0; i < b->n; i++)
        if (live(b, i, k)) {
            activate(&b->act[0], b->gates + i * H, H);
            memcpy(b->h + i * H, b->gates + i * H, H * sizeof *b->h);
        }
}

/* Gates i, o, f, c. */
static void step_lstm(const struct block *b, size_t k)
{
    const size_t H = b->a->H, GH = b->a->GH;
    const bool coupled = b->a->d->coupled;
    product(b, 0, b->h, b->gates, GH, true);
    for (size_t i = 0; i < b->n; i++) {
        float *in = b->gates + i * GH, *out = in + H, *forget = in + 2 * H, *new = in + 3 * H;
        float *c = b->c + i * H, *h = b->h + i * H;
        if (!live(b, i, k))
            continue;
        activate(&b->act[0], in, (coupled ? 2 : 3) * H);
        activate(&b->act[1], new, H);
        for (size_t j = 0; j < H && coupled; j++)
            forget[j] = 1 - in[j];
        combine(WN_ELT_MUL, in, new, INFINITY, new, H);
        combine(WN_ELT_MUL, forget, c, INFINITY, c, H);
        combine(WN_ELT_ADD, c, new, INFINITY, c, H);
        memcpy(h, c, H * sizeof *h);
        activate(&b->act[2], h, H);
        combine(WN_ELT_MUL, h, out, INFINITY, h, H);
    }
}

/* Gates z, r, h. */
static void step_gru(const struct block *b, size_t k)
{
    const size_t H = b->a->H, GH = b->a->GH;
    const bool late = b->a->d->late_reset;
    product(b, 0, b->h, b->gates, GH, true);
    product(b, 1, b->h, b->gates + H, GH, true);
    if (late)
        product(b, 2, b->h, b->t, H, false);
    for (size_t i = 0; i < b->n; i++) {
        float *g = b->gates + i * GH, *t = b->t + i * H;
        const float *from = late ? t : b->h + i * H;
        activate(&b->act[0], g, 2 * H);
        combine(WN_ELT_MUL, g + H, from, INFINITY, t, H);
        if (late)
            combine(WN_ELT_ADD, g + 2 * H, t, clip_of(b->a), g + 2 * H, H);
    }
    if (!late)
        product(b, 2, b->t, b->gates + 2 * H, GH, true);
    for (size_t i = 0; i < b->n; i++) {
        float *z = b->gates + i * GH, *new = z + 2 * H, *h = b->h + i *H;
        if (!live(b, i, k))
            continue;
        activate(&b->act[1], new, H);
        combine(WN_ELT_SUB, h, new, INFINITY, h, H); /* new + z (h - new) */
        combine(WN_ELT_MUL, h, z, INFINITY, h, H);
        combine(WN_ELT_ADD, h, new, INFINITY, h, H);
    }
}

/* ---- a block ---- */

static void load(const struct block *b, const struct wn_exec *exec)
{
    const struct recurrent_arg *a = b->a;
    const float *h0 = wn_at(exec, a->h0), *c0 = wn_at(exec, a->c0);
    const size_t bytes = a->H * sizeof(float);
    memset(b->h, 0, b->n * bytes);
    memset(b->c, 0, b->n * bytes);
    memset(b->gates, 0, b->n * a->GH * sizeof(float));
    for (size_t i = 0; i < b->n; i++) {
        if (h0)
            memcpy(b->h + i * a->H, h0 + state_at(b, b->first + i), bytes);
        if (c0)
            memcpy(b->c + i * a->H, c0 + state_at(b, b->first + i), bytes);
    }
}

static void keep(const struct block *b, const struct wn_exec *exec)
{
    const struct recurrent_arg *a = b->a;
    float *y_h = wn_at(exec, a->y[1]), *y_c = wn_at(exec, a->y[2]);
    const size_t bytes = a->H * sizeof(float);
    for (size_t i = 0; i < b->n; i++) {
        for (size_t k = length(b, i); k < a->steps && b->y; k++)
            memset(y_at(b, k, b->first + i), 0, bytes);
        if (y_h)
            memcpy(y_h + state_at(b, b->first + i), b->h + i * a->H, bytes);
        if (y_c)
            memcpy(y_c + state_at(b, b->first + i), b->c + i * a->H, bytes);
    }
}

static enum winnow_status run_block(const struct block *b, const struct wn_exec *exec, struct wn_budget *budget,
                                    struct winnow_err *err)
{
    static void (*const step[])(const struct block *, size_t) = { step_rnn, step_gru, step_lstm };
    const struct recurrent_arg *a = b->a;
    const bool backward = a->d->backward || b->dir == 1;
    size_t steps = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->len && (b->len[b->first + i] < 0 || (size_t)b->len[b->first + i] > a->steps))
            return wn_fail(err, WINNOW_E_MALFORMED, "sequence length %d of %zu steps", (int)b->len[b->first + i],
                           a->steps);
        steps = WN_MAX(steps, length(b, i));
    }
    load(b, exec);
    for (size_t k = 0; k < steps; k++) {
        WN_TRY(wn_budget_work(budget, a->GH * a->H * b->n / 8, err));
        for (size_t i = 0; i < b->n; i++)
            if (live(b, i, k))
                memcpy(b->gates + i * a->GH,
                       b->x + row_of(a, backward ? length(b, i) - 1 - k : k, b->first + i) * a->d->dirs * a->GH,
                       a->GH * sizeof(float));
        step[a->d->kind](b, k);
        for (size_t i = 0; i < b->n && b->y; i++)
            if (live(b, i, k))
                memcpy(y_at(b, backward ? length(b, i) - 1 - k : k, b->first + i), b->h + i * a->H,
                       a->H * sizeof(float));
    }
    keep(b, exec);
    return WINNOW_OK;
}

/* The first thread that fails says why. */
static void fail(struct wn_exec *exec, const struct wn_node *node, const struct winnow_err *err)
{
    enum winnow_status none = WINNOW_OK;
    if (!__atomic_compare_exchange_n(&exec->status, &none, err->status, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    exec->err = *err;
    wn_fail_at(&exec->err, err->status, "node '%s'", node->name);
}

static void run_recurrent(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct recurrent_arg *a = step->arg;
    struct wn_budget budget;
    struct winnow_err err;
    size_t from, to;
    if (__atomic_load_n(&exec->status, __ATOMIC_RELAXED) != WINNOW_OK)
        return;
    wn_budget_init(&budget, exec->loops);
    wn_share(a->d->dirs * a->blocks, 1, part, n_parts, &from, &to);
    for (size_t i = from; i < to; i++) {
        const size_t dir = i / a->blocks, first = i % a->blocks * BLOCK, n = WN_MIN(BLOCK, a->batch - first);
        float *mem = (float *)wn_at(exec, a->mem) + i * a->mem_floats;
        const struct block b = { .a = a,
                                 .act = a->act + dir * wn_recurrent_acts(a->d->kind),
                                 .dir = dir,
                                 .first = first,
                                 .n = n,
                                 .len = wn_at(exec, a->len),
                                 .x = (const float *)wn_at(exec, a->x) + dir * a->GH,
                                 .bias = a->bias ? a->bias + dir * a->GH : NULL,
                                 .y = wn_at(exec, a->y[0]),
                                 .h = mem,
                                 .c = mem + n * a->H,
                                 .t = mem + 2 * n * a->H,
                                 .gates = mem + 3 * n * a->H };
        if (run_block(&b, exec, &budget, &err) != WINNOW_OK)
            fail(exec, a->node, &err);
    }
}

/* ---- lowering ---- */

/* The vector function for an activation; false: there is none. */
static bool act_of(const struct wn_recurrent_act *from, struct act *ret)
{
    *ret = (struct act){ .alpha = from->a, .beta = from->b, .lo = -INFINITY };
    switch (from->f) {
    case WN_RECURRENT_TANH:
        ret->op = WN_ELT_TANH;
        return true;
    case WN_RECURRENT_SIGMOID:
        ret->op = WN_ELT_SIGMOID;
        return true;
    case WN_RECURRENT_RELU:
        ret->op = WN_ELT_CLAMP;
        ret->lo = 0;
        return true;
    case WN_RECURRENT_LEAKY_RELU:
        ret->op = WN_ELT_LEAKY;
        return true;
    case WN_RECURRENT_HARD_SIGMOID:
        ret->op = WN_ELT_HARD_SIGMOID;
        return true;
    case WN_RECURRENT_ELU:
        ret->op = WN_ELT_ELU;
        return true;
    default:
        return false;
    }
}

static enum winnow_status optional(struct wn_lower *lo, const struct wn_node *node, unsigned i, struct wn_loc *ret)
{
    return i < node->n_in && node->in[i] != WN_NONE ? wn_lower_plain(lo, node->in[i], ret) : WINNOW_OK;
}

static void touch_all(struct wn_lower *lo, const struct recurrent_arg *a)
{
    const struct wn_loc used[] = { a->x, a->len, a->h0, a->c0, a->y[0], a->y[1], a->y[2], a->mem };
    for (size_t i = 0; i < WN_COUNT(used); i++)
        wn_lower_touch(lo, used[i]);
}

/* Shapes and activations; false: left to the reference. */
static bool describe(struct wn_lower *lo, const struct wn_node *node, struct recurrent_arg *a)
{
    const struct wn_type *x = wn_lower_type(lo, node->in[0]), *r = wn_lower_type(lo, node->in[1]);
    a->node = node;
    a->d = node->fused;
    a->steps = (size_t)x->dim[a->d->batch_first];
    a->batch = (size_t)x->dim[!a->d->batch_first];
    a->H = (size_t)r->dim[2];
    a->GH = (size_t)r->dim[1];
    a->blocks = (a->batch + BLOCK - 1) / BLOCK;
    a->mem_floats = wn_round_up(WN_MIN(a->batch, BLOCK) * (3 * a->H + a->GH), 16);
    for (unsigned i = 0; i < a->d->dirs * wn_recurrent_acts(a->d->kind); i++)
        if (!act_of(&a->d->acts[i], &a->act[i]))
            return false;
    return a->batch > 0;
}

enum winnow_status wn_lower_recurrent(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "Recurrent"))
        return WINNOW_OK;
    struct recurrent_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !describe(lo, node, a))
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    const struct wn_graph *g = &lo->plan->g;
    const struct wn_tensor *r = g->values.at[node->in[1]].constant;
    const size_t groups = a->d->dirs * (a->d->kind == WN_GRU ? 3u : 1u);
    const struct wn_f32_pack_arg pa = {
        .family = WN_FAMILY_f32_gemm, .groups = groups, .rows = a->d->dirs * a->GH / groups, .k = a->H, .taps = 1
    };
    size_t bytes, mem;
    if (!wn_mul_size(a->d->dirs * a->blocks * sizeof(float), a->mem_floats, &mem))
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "node '%s'", node->name);
    WN_TRY(wn_f32_pack_get(lo, r, &pa, &a->pack, &bytes));
    if (node->n_in > 2 && node->in[2] != WN_NONE)
        a->bias = g->values.at[node->in[2]].constant->data;
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
    WN_TRY(optional(lo, node, 3, &a->len));
    WN_TRY(optional(lo, node, 4, &a->h0));
    WN_TRY(optional(lo, node, 5, &a->c0));
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE)
            WN_TRY(wn_lower_new_plain(lo, node->out[i], &a->y[i]));
    a->mem = wn_lower_buf(lo, mem);
    struct wn_step *step = a->mem.kind == WN_LOC_NONE
                               ? NULL
                               : wn_lower_step(lo, node, wn_f32_kernel_name(lo, WN_FAMILY_f32_gemv), run_recurrent, a);
    if (!step)
        return WINNOW_E_NOMEM;
    touch_all(lo, a);
    step->macs = (uint64_t)(a->d->dirs * a->GH * a->H) * a->steps * a->batch;
    step->weight_bytes = bytes;
    *done = true;
    return WINNOW_OK;
}
