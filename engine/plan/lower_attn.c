/* lower_attn.c: the fused attention operator: heads of all sequences, one after the other or dealt out over threads. */
#include "engine/kernels/attn_f32/attn_f32.h"
#include "engine/passes/fused.h"
#include "engine/plan/cols.h"
#include "engine/plan/planes.h"

struct attn_arg {
    struct wn_attn_f32 args; /* without pointers */
    struct wn_cols q, k, v, y, m;
    struct wn_loc mask;            /* one element per key, plain; or NONE */
    size_t sequences, heads, n_q;  /* n_q: of a sequence, args.n_q rounded up where nothing lies behind it */
    size_t q_step, k_step, v_step; /* columns from sequence to sequence; 0: all share one */
    size_t mask_b, mask_h;         /* elements of the mask (columns of m) from sequence to sequence, head to head */
};

static void head(const struct attn_arg *a, struct wn_exec *exec, size_t b, size_t h, size_t q0, size_t q1)
{
    struct wn_attn_f32 args = a->args;
    args.n_q = q1 - q0;
    args.q = wn_cols_at(exec, &a->q, h * args.d) + b * a->q_step + q0;
    args.k = wn_cols_at(exec, &a->k, h * args.d) + b * a->k_step;
    args.v = wn_cols_at(exec, &a->v, h * args.dv) + b * a->v_step;
    args.y = wn_cols_at(exec, &a->y, h * args.dv) + b * a->n_q + q0;
    const size_t at = b * a->mask_b + h * a->mask_h;
    if (args.mask_stride)
        args.mask = wn_cols_at(exec, &a->m, 0) + at + q0;
    else if (a->mask.kind != WN_LOC_NONE)
        args.mask = (const float *)wn_at(exec, a->mask) + at;
    wn_attn_f32_run(&args);
}

/* Blocks of queries, heads and sequences are dealt out in that order: neighbours share keys and values. */
static void run_attn(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct attn_arg *a = step->arg;
    const size_t n_q = a->args.n_q, blocks = (n_q + WN_ATTN_F32_QUERIES - 1) / WN_ATTN_F32_QUERIES;
    size_t from, to;
    wn_share(a->sequences * a->heads * blocks, 1, part, n_parts, &from, &to);
    while (from < to) {
        const size_t which = from / blocks, block = from % blocks, n = WN_MIN(blocks - block, to - from);
        head(a, exec, which / a->heads, which % a->heads, block * WN_ATTN_F32_QUERIES,
             WN_MIN((block + n) * WN_ATTN_F32_QUERIES, n_q));
        from += n;
    }
}

/* Extents of a mask right-aligned to (sequence, head, query, key); false when they do not broadcast to those. */
static bool mask_fits(const struct wn_type *t, const struct attn_arg *a, int64_t d[4])
{
    const int64_t want[4] = { (int64_t)a->sequences, (int64_t)a->heads, (int64_t)a->n_q, (int64_t)a->args.n_k };
    for (int i = 0; i < 4; i++)
        d[i] = i < 4 - t->rank ? 1 : t->dim[i - (4 - t->rank)];
    return d[3] == want[3] && (d[2] == 1 || d[2] == want[2]) && (d[1] == 1 || d[1] == want[1]) &&
           (d[0] == 1 || d[0] == want[0]);
}

static enum winnow_status add_mask(struct wn_lower *lo, wn_vid v, const int64_t d[4], struct attn_arg *a)
{
    const size_t row = d[2] == 1 ? (size_t)d[3] : (size_t)d[2]; /* of one head: keys, or columns of queries */
    a->mask_h = d[1] == 1 ? 0 : row;
    a->mask_b = d[0] == 1 ? 0 : (size_t)d[1] * row;
    if (d[2] == 1)
        return wn_lower_plain(lo, v, &a->mask);
    WN_TRY(wn_cols_get(lo, v, (size_t)d[3], &a->m));
    a->args.mask_stride = a->m.stride;
    return WINNOW_OK;
}

static size_t step_of(const struct wn_lower *lo, wn_vid v, size_t sequences)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    return t->dim[0] == 1 && sequences > 1 ? 0 : (size_t)t->dim[1];
}

enum winnow_status wn_lower_attn(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || !wn_fused_is(node, "Attention"))
        return WINNOW_OK;
    const struct wn_fused_attn *f = node->fused;
    const struct wn_type *q = wn_lower_type(lo, node->in[0]), *k = wn_lower_type(lo, node->in[1]),
                         *v = wn_lower_type(lo, node->in[2]), *y = wn_lower_type(lo, node->out[0]);
    int64_t mask[4];
    struct attn_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->sequences = (size_t)y->dim[0];
    a->n_q = (size_t)q->dim[1];
    a->heads = (size_t)q->dim[2];
    a->args = (struct wn_attn_f32){ .n_q = a->n_q,
                                    .n_k = (size_t)k->dim[1],
                                    .d = (size_t)q->dim[3],
                                    .dv = (size_t)v->dim[3],
                                    .scale = f->scale,
                                    .guarded = f->guarded,
                                    .replace = f->replace };
    const bool masked = node->n_in > 3;
    if (!a->sequences || !a->n_q || !a->heads || !a->args.n_k || !a->args.d || !a->args.dv ||
        (masked && !mask_fits(wn_lower_type(lo, node->in[3]), a, mask)))
        return WINNOW_OK;
    WN_TRY(wn_cols_get(lo, node->in[0], a->heads * a->args.d, &a->q));
    WN_TRY(wn_cols_get(lo, node->in[1], a->heads * a->args.d, &a->k));
    WN_TRY(wn_cols_get(lo, node->in[2], a->heads * a->args.dv, &a->v));
    if (masked)
        WN_TRY(add_mask(lo, node->in[3], mask, a));
    WN_TRY(wn_cols_new(lo, node->out[0], a->heads * a->args.dv, &a->y));
    a->q_step = step_of(lo, node->in[0], a->sequences);
    a->k_step = step_of(lo, node->in[1], a->sequences);
    a->v_step = step_of(lo, node->in[2], a->sequences);
    a->args.q_stride = a->q.stride;
    a->args.k_stride = a->k.stride;
    a->args.v_stride = a->v.stride;
    a->args.y_stride = a->y.stride;
    if (a->sequences == 1)
        a->args.n_q = a->y.cols;
    const char *kernel = wn_arena_printf(&lo->plan->arena, "attn_f32__%s", wn_isa_name(wn_cpu_isa()));
    struct wn_step *step = kernel ? wn_lower_step(lo, node, kernel, run_attn, a) : NULL;
    if (!step)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    step->macs = (uint64_t)(a->sequences * a->heads * a->n_q * a->args.n_k * (a->args.d + a->args.dv));
    const struct wn_loc used[] = { a->q.loc, a->k.loc, a->v.loc, a->m.loc, a->mask, a->y.loc };
    for (size_t i = 0; i < WN_COUNT(used); i++)
        wn_lower_touch(lo, used[i]);
    *done = true;
    return WINNOW_OK;
}
