/* lower_attn.c: the fused attention operators: heads of all sequences, one after the other or dealt out over threads.
 */
#include "engine/kernels/attn_f32/attn_f32.h"
#include "engine/kernels/attn_q8/attn_q8.h"
#include "engine/kernels/move_q8/move_q8.h"
#include "engine/passes/fused.h"
#include "engine/plan/cols_q8.h"
#include "engine/plan/q8.h"
#include "engine/plan/planes.h"

/* ---- what both have in common: sequences, heads, masks ---- */

struct frame {
    size_t sequences, heads, n_q, n_k, d, dv; /* n_q: of a sequence */
    size_t q_step, k_step, v_step;            /* columns from sequence to sequence; 0: all share one */
    struct wn_loc mask;                       /* one element per key, plain; or NONE */
    struct wn_cols m;                         /* or columns of queries */
    size_t mask_b, mask_h; /* elements of the mask (columns of m) from sequence to sequence, head to head */
};

/* Extents of a mask right-aligned to (sequence, head, query, key); false when they do not broadcast to those. */
static bool mask_fits(const struct wn_type *t, const struct frame *f, int64_t d[4])
{
    const int64_t want[4] = { (int64_t)f->sequences, (int64_t)f->heads, (int64_t)f->n_q, (int64_t)f->n_k };
    for (int i = 0; i < 4; i++)
        d[i] = i < 4 - t->rank ? 1 : t->dim[i - (4 - t->rank)];
    return d[3] == want[3] && (d[2] == 1 || d[2] == want[2]) && (d[1] == 1 || d[1] == want[1]) &&
           (d[0] == 1 || d[0] == want[0]);
}

static enum winnow_status add_mask(struct wn_lower *lo, wn_vid v, struct frame *f)
{
    int64_t d[4];
    mask_fits(wn_lower_type(lo, v), f, d);
    const size_t row = d[2] == 1 ? (size_t)d[3] : (size_t)d[2]; /* of one head: keys, or columns of queries */
    f->mask_h = d[1] == 1 ? 0 : row;
    f->mask_b = d[0] == 1 ? 0 : (size_t)d[1] * row;
    return d[2] == 1 ? wn_lower_plain(lo, v, &f->mask) : wn_cols_get(lo, v, (size_t)d[3], &f->m);
}

static size_t step_of(const struct wn_lower *lo, wn_vid v, size_t sequences)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    return t->dim[0] == 1 && sequences > 1 ? 0 : (size_t)t->dim[1];
}

/* False when there is nothing to do, or a mask of a shape that the kernels do not know. */
static bool read_frame(const struct wn_lower *lo, const struct wn_node *node, struct frame *f)
{
    const struct wn_type *q = wn_lower_type(lo, node->in[0]), *k = wn_lower_type(lo, node->in[1]),
                         *v = wn_lower_type(lo, node->in[2]), *y = wn_lower_type(lo, node->out[0]);
    int64_t mask[4];
    *f = (struct frame){ .sequences = (size_t)y->dim[0],
                         .heads = (size_t)q->dim[2],
                         .n_q = (size_t)q->dim[1],
                         .n_k = (size_t)k->dim[1],
                         .d = (size_t)q->dim[3],
                         .dv = (size_t)v->dim[3] };
    f->q_step = step_of(lo, node->in[0], f->sequences);
    f->k_step = step_of(lo, node->in[1], f->sequences);
    f->v_step = step_of(lo, node->in[2], f->sequences);
    return f->sequences && f->n_q && f->heads && f->n_k && f->d && f->dv &&
           (node->n_in < 4 || mask_fits(wn_lower_type(lo, node->in[3]), f, mask));
}

/* The mask of a head from query q0 on, NULL where there is none. */
static const float *mask_at(const struct frame *f, struct wn_exec *exec, size_t b, size_t h, size_t q0)
{
    const size_t at = b * f->mask_b + h * f->mask_h;
    if (f->m.k)
        return wn_cols_at(exec, &f->m, 0) + at + q0;
    return f->mask.kind == WN_LOC_NONE ? NULL : (const float *)wn_at(exec, f->mask) + at;
}

/* Calls `head` for the part's share: blocks of queries, heads and sequences are dealt out in that order: neighbours
 * share keys and values. n_q: queries of a sequence, perhaps rounded up. */
static void each_head(const void *arg, const struct frame *f, size_t n_q, size_t block_of, struct wn_exec *exec,
                      unsigned part, unsigned n_parts,
                      void (*head)(const void *, struct wn_exec *, size_t b, size_t h, size_t q0, size_t q1))
{
    const size_t blocks = (n_q + block_of - 1) / block_of;
    size_t from, to;
    wn_share(f->sequences * f->heads * blocks, 1, part, n_parts, &from, &to);
    while (from < to) {
        const size_t which = from / blocks, block = from % blocks, n = WN_MIN(blocks - block, to - from);
        head(arg, exec, which / f->heads, which % f->heads, block * block_of, WN_MIN((block + n) * block_of, n_q));
        from += n;
    }
}

static enum winnow_status add_step(struct wn_lower *lo, const struct wn_node *node, const char *family,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const void *arg, const struct frame *f, const struct wn_loc *locs, size_t n_locs)
{
    const char *kernel = wn_arena_printf(&lo->plan->arena, "%s__%s", family, wn_isa_name(wn_cpu_isa()));
    struct wn_step *step = kernel ? wn_lower_step(lo, node, kernel, run, arg) : NULL;
    if (!step)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    step->macs = (uint64_t)(f->sequences * f->heads * f->n_q * f->n_k * (f->d + f->dv));
    for (size_t i = 0; i < n_locs; i++)
        wn_lower_touch(lo, locs[i]);
    wn_lower_touch(lo, f->mask);
    wn_lower_touch(lo, f->m.loc);
    return WINNOW_OK;
}

/* ---- f32 ---- */

struct attn_arg {
    struct frame f;
    struct wn_attn_f32 args; /* without pointers; n_q rounded up where nothing lies behind it */
    struct wn_cols q, k, v, y;
};

static void head_f32(const void *arg, struct wn_exec *exec, size_t b, size_t h, size_t q0, size_t q1)
{
    const struct attn_arg *a = arg;
    struct wn_attn_f32 args = a->args;
    args.n_q = q1 - q0;
    args.q = wn_cols_at(exec, &a->q, h * args.d) + b * a->f.q_step + q0;
    args.k = wn_cols_at(exec, &a->k, h * args.d) + b * a->f.k_step;
    args.v = wn_cols_at(exec, &a->v, h * args.dv) + b * a->f.v_step;
    args.y = wn_cols_at(exec, &a->y, h * args.dv) + b * a->f.n_q + q0;
    args.mask = mask_at(&a->f, exec, b, h, q0);
    wn_attn_f32_run(&args);
}

static void run_f32(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct attn_arg *a = step->arg;
    each_head(a, &a->f, a->args.n_q, WN_ATTN_F32_QUERIES, exec, part, n_parts, head_f32);
}

enum winnow_status wn_lower_attn(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "Attention"))
        return WINNOW_OK;
    const struct wn_fused_attn *f = node->fused;
    struct attn_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !read_frame(lo, node, &a->f))
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(wn_cols_get(lo, node->in[0], a->f.heads * a->f.d, &a->q));
    WN_TRY(wn_cols_get(lo, node->in[1], a->f.heads * a->f.d, &a->k));
    WN_TRY(wn_cols_get(lo, node->in[2], a->f.heads * a->f.dv, &a->v));
    if (node->n_in > 3)
        WN_TRY(add_mask(lo, node->in[3], &a->f));
    WN_TRY(wn_cols_new(lo, node->out[0], a->f.heads * a->f.dv, &a->y));
    a->args = (struct wn_attn_f32){ .n_q = a->f.sequences == 1 ? a->y.cols : a->f.n_q,
                                    .n_k = a->f.n_k,
                                    .d = a->f.d,
                                    .dv = a->f.dv,
                                    .q_stride = a->q.stride,
                                    .k_stride = a->k.stride,
                                    .v_stride = a->v.stride,
                                    .y_stride = a->y.stride,
                                    .mask_stride = a->f.m.stride,
                                    .scale = f->scale,
                                    .guarded = f->guarded,
                                    .replace = f->replace };
    const struct wn_loc used[] = { a->q.loc, a->k.loc, a->v.loc, a->y.loc };
    *done = true;
    return add_step(lo, node, "attn_f32", run_f32, a, &a->f, used, WN_COUNT(used));
}

/* ---- int8 ---- */

/* A quantized value as quads, each head from a quad of its own on; or an output as planes. */
struct heads {
    bool planes;
    struct wn_loc loc;
    size_t stride;     /* bytes from quad to quad */
    size_t heads, d;   /* features of a head */
    int32_t zp;        /* what fills the last quad */
    struct wn_cols8 u; /* the value itself, as planes, where heads do not fill quads */
};

static const struct wn_node move_node = { .name = "", .op_type = "Layout" };

static size_t quads_of(const struct heads *x)
{
    return (x->d + 3) / 4;
}

static void run_heads(const struct heads *x, struct wn_exec *exec, unsigned part, unsigned n_parts, bool to_quads)
{
    uint8_t *planes = wn_at(exec, x->u.loc), *quads = wn_at(exec, x->loc);
    size_t h0, h1;
    wn_share(x->heads, 1, part, n_parts, &h0, &h1);
    for (size_t h = h0; h < h1; h++) {
        uint8_t *p = planes + h * x->d * x->u.stride, *q = quads + h * quads_of(x) * x->stride;
        const struct wn_move_q8 move = { .x = to_quads ? p : q,
                                         .y = to_quads ? q : p,
                                         .x_stride = to_quads ? x->u.stride : x->stride,
                                         .y_stride = to_quads ? x->stride : x->u.stride,
                                         .channels = x->d,
                                         .n = x->u.cols,
                                         .zp = x->zp };
        (to_quads ? wn_move_q8_to_quads_run : wn_move_q8_to_planes_run)(&move, 0, x->d);
    }
}

static void run_pad_heads(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    run_heads(step->arg, exec, part, n_parts, true);
}

static void run_join_heads(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    run_heads(step->arg, exec, part, n_parts, false);
}

/* Memory for quads of heads that do not fill them, beside the planes. */
static enum winnow_status padded_heads(struct wn_lower *lo, struct heads *x)
{
    size_t bytes;
    x->stride = wn_round_up(4 * x->u.cols, 64) + (x->u.cols / 16 % 2 ? 0 : 64);
    if (!wn_mul_size(x->heads * quads_of(x), x->stride, &bytes) || bytes > lo->model->opts.max_memory_bytes)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "attention needs more memory than the limit");
    x->loc = wn_lower_buf(lo, bytes + WN_OVERREAD);
    return x->loc.kind == WN_LOC_NONE ? WINNOW_E_NOMEM : WINNOW_OK;
}

static enum winnow_status move_heads(struct wn_lower *lo, wn_vid v, const char *kernel,
                                     void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                     const struct heads *x)
{
    struct wn_step *step = wn_lower_step(lo, &move_node, kernel, run, x);
    if (!step)
        return WINNOW_E_NOMEM;
    step->name = lo->plan->g.values.at[v].name;
    step->out = v;
    wn_lower_touch(lo, x->u.loc);
    wn_lower_touch(lo, x->loc);
    return WINNOW_OK;
}

static enum winnow_status get_heads(struct wn_lower *lo, wn_vid v, struct heads *x)
{
    if (x->d % 4 == 0) {
        WN_TRY(wn_cols8_get(lo, v, x->heads * x->d, WN_FORM_COLS_QUAD, &x->u));
        x->loc = x->u.loc;
        x->stride = x->u.stride;
        return WINNOW_OK;
    }
    WN_TRY(wn_cols8_get(lo, v, x->heads * x->d, WN_FORM_COLS_U8, &x->u));
    WN_TRY(padded_heads(lo, x));
    return move_heads(lo, v, "q8_pad_heads", run_pad_heads, x);
}

/* Bytes as their first reader wants them. */
static enum winnow_status new_heads(struct wn_lower *lo, wn_vid v, struct heads *x)
{
    enum wn_form form;
    WN_TRY(wn_q8_linear_form(lo, v, x->heads * x->d, &form));
    if (x->d % 4 == 0 || form == WN_FORM_COLS_U8) {
        x->planes = form == WN_FORM_COLS_U8;
        WN_TRY(wn_cols8_new(lo, v, x->heads * x->d, x->planes ? WN_FORM_COLS_U8 : WN_FORM_COLS_QUAD, &x->u));
        x->loc = x->u.loc;
        x->stride = x->u.stride;
        return WINNOW_OK;
    }
    WN_TRY(wn_cols8_new(lo, v, x->heads * x->d, WN_FORM_COLS_U8, &x->u));
    return padded_heads(lo, x);
}

struct attn_q8_arg {
    struct frame f;
    struct wn_attn_q8 args; /* as attn_arg's */
    struct heads q, k, y8;
    struct wn_cols8 v;
    struct wn_cols y; /* f32 output */
};

static void head_q8(const void *arg, struct wn_exec *exec, size_t b, size_t h, size_t q0, size_t q1)
{
    const struct attn_q8_arg *a = arg;
    struct wn_attn_q8 args = a->args;
    const size_t at = b * a->f.n_q + q0;
    args.n_q = q1 - q0;
    args.q = (const uint8_t *)wn_at(exec, a->q.loc) + h * quads_of(&a->q) * a->q.stride + 4 * (b * a->f.q_step + q0);
    args.k = (const uint8_t *)wn_at(exec, a->k.loc) + h * quads_of(&a->k) * a->k.stride + 4 * b * a->f.k_step;
    args.v = (const uint8_t *)wn_at(exec, a->v.loc) + h * args.dv * a->v.stride + b * a->f.v_step;
    if (args.out == WN_OUT_F32)
        args.y = wn_cols_at(exec, &a->y, h * args.dv) + at;
    else if (args.out == WN_OUT_QUAD)
        args.y = (uint8_t *)wn_at(exec, a->y8.loc) + h * quads_of(&a->y8) * a->y8.stride + 4 * at;
    else
        args.y = (uint8_t *)wn_at(exec, a->y8.loc) + h * args.dv * a->y8.stride + at;
    args.mask = mask_at(&a->f, exec, b, h, q0);
    wn_attn_q8_run(&args);
}

static void run_q8(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct attn_q8_arg *a = step->arg;
    each_head(a, &a->f, a->args.n_q, WN_ATTN_Q8_QUERIES, exec, part, n_parts, head_q8);
}

static struct wn_attn_q8 q8_args(const struct attn_q8_arg *a, const struct wn_fused_qattn *f)
{
    const size_t cols = f->y_f32 ? a->y.cols : a->y8.u.cols;
    return (struct wn_attn_q8){ .n_q = a->f.sequences == 1 ? cols : a->f.n_q,
                                .n_k = a->f.n_k,
                                .d = 4 * quads_of(&a->q),
                                .dv = a->f.dv,
                                .q_stride = a->q.stride,
                                .k_stride = a->k.stride,
                                .v_stride = a->v.stride,
                                .y_stride = f->y_f32 ? a->y.stride * sizeof(float) : a->y8.stride,
                                .q_zp = f->q_zp,
                                .k_zp = f->k_zp,
                                .v_zp = f->v_zp,
                                .s_zp = f->s_zp,
                                .p_zp = f->p_zp,
                                .y_zp = f->y_zp,
                                .mul = f->mul,
                                .s_mul = f->s_mul,
                                .p_scale = f->p_scale,
                                .y_mul = f->y_mul,
                                .mask_stride = a->f.m.stride,
                                .replace = f->replace,
                                .out = f->y_f32       ? WN_OUT_F32
                                       : a->y8.planes ? WN_OUT_PLANE
                                                      : WN_OUT_QUAD };
}

enum winnow_status wn_lower_attn_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "QAttention"))
        return WINNOW_OK;
    const struct wn_fused_qattn *f = node->fused;
    struct attn_q8_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a || !read_frame(lo, node, &a->f) || a->f.d > WN_ATTN_Q8_MAX_D || a->f.n_k > WN_ATTN_Q8_MAX_KEYS)
        return a ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->q = (struct heads){ .heads = a->f.heads, .d = a->f.d, .zp = f->q_zp };
    a->k = (struct heads){ .heads = a->f.heads, .d = a->f.d, .zp = f->k_zp };
    a->y8 = (struct heads){ .heads = a->f.heads, .d = a->f.dv, .zp = f->y_zp };
    WN_TRY(get_heads(lo, node->in[0], &a->q));
    WN_TRY(get_heads(lo, node->in[1], &a->k));
    WN_TRY(wn_cols8_get(lo, node->in[2], a->f.heads * a->f.dv, WN_FORM_COLS_U8, &a->v));
    if (node->n_in > 3)
        WN_TRY(add_mask(lo, node->in[3], &a->f));
    WN_TRY(f->y_f32 ? wn_cols_new(lo, node->out[0], a->f.heads * a->f.dv, &a->y) : new_heads(lo, node->out[0], &a->y8));
    a->args = q8_args(a, f);
    const struct wn_loc used[] = { a->q.loc, a->k.loc, a->v.loc, a->y.loc, a->y8.loc };
    *done = true;
    WN_TRY(add_step(lo, node, "attn_q8", run_q8, a, &a->f, used, WN_COUNT(used)));
    return f->y_f32 || a->f.dv % 4 == 0 || a->y8.planes
               ? WINNOW_OK
               : move_heads(lo, node->out[0], "q8_join_heads", run_join_heads, &a->y8);
}
