/* lower_linear_q8.c: int8 linear layers, QLinear and DLinear: on few tokens as they lie (q8_gemv), on more with the
 * tokens as columns (cols_q8.h), dense, sparse in blocks or unstructured, by the cost table.
 *
 * A DLinear learns the scale and zero point of its activations when it runs: what a QLinear's plan holds for them (a
 * factor and an integer bias per row) each part computes for its own rows first. */
#include <math.h>
#include <string.h>
#include "engine/kernels/eltwise_q8/eltwise_q8.h"
#include "engine/plan/activate.h"
#include "engine/plan/cols_q8.h"
#include "engine/plan/q8_pack.h"

/* Rows of a block: their outputs stay in L1 from the bias to the kernel. Bytes of input that columns are cut by. */
#define BLOCK_ROWS  ((size_t)32)
#define BLOCK_BYTES ((size_t)256 << 10)
/* Columns of the widest tile of any kernel: a cut anywhere else leaves tiles that cost as much as whole ones. */
#define TILE_COLS ((size_t)128)
/* Columns of a block whose rows have an activation computed before they are quantized: 16 KiB of stack. */
#define ACT_COLS TILE_COLS
#define ACT_ROWS ((size_t)1024) /* of one token */

/* ---- choice ---- */

bool wn_q8_is_linear(const struct wn_node *node)
{
    return wn_fused_is(node, "QLinear") || wn_fused_is(node, "DLinear");
}

static const int32_t *weight_zps(const struct wn_node *node)
{
    return wn_fused_is(node, "DLinear") ? ((const struct wn_fused_dyn *)node->fused)->w_zp
                                        : ((const struct wn_fused_q8 *)node->fused)->w_zp;
}

enum winnow_status wn_q8_choose_linear(struct wn_lower *lo, const struct wn_node *node, struct wn_q8_choice *ret)
{
    static const enum wn_family all[] = { WN_FAMILY_q8_gemv, WN_FAMILY_q8_gemm,     WN_FAMILY_q8_spmm_b4,
                                          WN_FAMILY_q8_spmm, WN_FAMILY_q8_spmm_2x1, WN_FAMILY_q8_spmm_4x1 };
    struct wn_candidate found[WN_COUNT(all)];
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    const struct wn_fused_q8 *f = wn_fused_is(node, "QLinear") ? node->fused : NULL;
    struct wn_q8_choice c = { .why = "" };
    *ret = c;
    if (!w || w->rank != 2 || w->dim[0] < 1 || w->dim[1] < 1 || w->dim[1] > WN_Q8_MAX_K ||
        (f && f->y_f32 && node->n_in == 4) || !wn_lower_bytes(lo, node->in[0]))
        return WINNOW_OK;
    size_t N = (size_t)w->dim[0], K = (size_t)w->dim[1], m = wn_lower_bytes(lo, node->in[0]) / K;
    double cols = (double)wn_round_up(m, WN_COLS);
    c.sparsity = wn_facts_sparsity(lo->model->facts, w, N, K, 1);
    size_t n = weight_zps(node) ? 3 : WN_COUNT(all); /* sums of columns are made from quads */
    for (size_t i = 0; i < n; i++)
        found[i] = (struct wn_candidate){ all[i], wn_cost_of(all[i], &c.sparsity, (double)N,
                                                             all[i] == WN_FAMILY_q8_gemv ? (double)m : cols) };
    c.fits = true;
    WN_TRY(wn_q8_settle(lo, w, (double)m, found, n, &c));
    *ret = c;
    return WINNOW_OK;
}

static enum wn_form form_of(enum wn_q8_kind kind)
{
    return kind == WN_Q8_GEMV ? WN_FORM_PLAIN : kind == WN_Q8_SPMM ? WN_FORM_COLS_U8 : WN_FORM_COLS_QUAD;
}

/* Who reads v first, under another shape perhaps: then *v is that. NULL: nobody, or also the caller of the model. */
static const struct wn_node *first_reader(const struct wn_lower *lo, wn_vid *v)
{
    for (;;) {
        if (lo->user_at[*v] == lo->user_at[*v + 1] || lo->output[*v])
            return NULL;
        const struct wn_node *user = &lo->plan->g.nodes.at[lo->user[lo->user_at[*v]]];
        if (!wn_node_is_view(user) || user->in[0] != *v)
            return user;
        *v = user->out[0];
    }
}

enum winnow_status wn_q8_linear_form(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form *ret)
{
    const struct wn_node *user = first_reader(lo, &v);
    struct wn_q8_choice c;
    *ret = WN_FORM_PLAIN;
    if (user && wn_fused_is(user, "QAttention")) {
        *ret = user->in[2] == v ? WN_FORM_COLS_U8 : WN_FORM_COLS_QUAD;
        return WINNOW_OK;
    }
    if (!user || !wn_q8_is_linear(user) || user->in[0] != v)
        return WINNOW_OK;
    WN_TRY(wn_q8_choose(lo, user, &c));
    if (c.fits && (size_t)lo->plan->g.values.at[user->in[1]].constant->dim[1] == k)
        *ret = form_of(c.kind);
    return WINNOW_OK;
}

/* ---- the step ---- */

/* Where row 0 would be of rows that begin at p, for kernels that count rows from 0. */
static void *before(void *p, size_t bytes)
{
    return (void *)((uintptr_t)p - bytes);
}

struct linear_arg {
    const struct wn_q8_pack *pack;
    struct wn_q8_args args; /* without pointers into activations */
    struct wn_loc x, r, y;  /* GEMV: plain; r NONE: no residual */
    struct wn_cols8 cx, cr, cy8;
    struct wn_cols cy;
    const int32_t *off, *koff;
    struct wn_loc colsum; /* [columns] int32 */
    size_t m, k, rows, y_bytes;
    struct wn_tiling tiling; /* columns */
    bool dynamic;
    struct wn_loc x_scale, x_zp; /* DLinear; kind NONE: 1, 0 */
    const float *w_scale, *bias; /* [rows]; bias or NULL */
    const int32_t *w_sum;        /* [rows] sum of w - w_zp */
    struct wn_loc mul, ibias;    /* [rows] of this run */
    struct wn_activation act;    /* not NONE: args are those of a f32 output, which `quant` then makes bytes of */
    struct wn_move_q8 quant;     /* without x, y */
    struct wn_act_q8 bytes;      /* with an activation */
    const uint8_t *table;        /* [256] what becomes of the bytes; or NULL */
};

/* Factors and integer biases of rows [r0, r1) for the scale and zero point of this run. */
static void bind_rows(const struct linear_arg *a, struct wn_exec *exec, size_t r0, size_t r1, struct wn_q8_args *args)
{
    if (!a->dynamic)
        return;
    float *mul = wn_at(exec, a->mul);
    int32_t *bias = wn_at(exec, a->ibias);
    const uint32_t zp = a->x_zp.kind == WN_LOC_NONE ? 0 : *(const uint8_t *)wn_at(exec, a->x_zp);
    if (a->x_scale.kind == WN_LOC_NONE) {
        memcpy(mul + r0, a->w_scale + r0, (r1 - r0) * sizeof *mul);
    } else {
        const float scale = *(const float *)wn_at(exec, a->x_scale);
        for (size_t o = r0; o < r1; o++)
            mul[o] = scale * a->w_scale[o];
    }
    for (size_t o = r0; o < r1; o++)
        bias[o] = (int32_t)(0 - zp * (uint32_t)a->w_sum[o]);
    args->mul = mul;
    args->bias = bias;
}

/* Bytes of rows [from, to), which a kernel has just written for these arguments, become those of the table. */
static void look_up(const struct linear_arg *a, const struct wn_q8_args *args, size_t from, size_t to)
{
    const struct wn_elt_q8 elt = { .a = args->y,
                                   .y = args->y,
                                   .a_stride = args->y_stride,
                                   .y_stride = args->y_stride,
                                   .channels = a->rows,
                                   .n = args->n,
                                   .form = args->out,
                                   .table = a->table };
    wn_elt_q8_lookup_run(&elt, from, to);
}

/* The same of one token, whose rows lie side by side. */
static void look_up_token(const struct linear_arg *a, uint8_t *y, size_t n)
{
    const struct wn_elt_q8 elt = { .a = y, .y = y, .channels = 1, .n = n, .form = WN_OUT_PLANE, .table = a->table };
    wn_elt_q8_lookup_run(&elt, 0, 1);
}

/* One token's rows [r0, r1) with an activation. */
static void gemv_activated(const struct linear_arg *a, struct wn_q8_args args, size_t r0, size_t r1, uint8_t *y8)
{
    float tile[ACT_ROWS];
    for (size_t from = r0; from < r1; from += ACT_ROWS) {
        const size_t to = WN_MIN(from + ACT_ROWS, r1);
        struct wn_move_q8 quant = a->quant; /* the rows are one channel's columns */
        args.y = before(tile, from * sizeof *tile);
        wn_q8_gemv_run(&a->pack->gemv, &args, from, to);
        quant.y = y8 + from;
        quant.channels = 1;
        quant.form = WN_OUT_PLANE;
        wn_activate_bytes(&a->bytes, &quant, tile, to - from, 0, 1);
    }
}

static void run_gemv(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    struct wn_q8_args args = a->args;
    size_t r0, r1;
    wn_share(a->rows, 16, part, n_parts, &r0, &r1);
    if (r0 == r1)
        return;
    bind_rows(a, exec, r0, r1, &args);
    args.r = a->bias;
    for (size_t i = 0; i < a->m; i++) {
        args.x = (const uint8_t *)wn_at(exec, a->x) + i * a->k;
        args.y = (char *)wn_at(exec, a->y) + i * a->y_bytes;
        int32_t sum = args.w_zp ? wn_q8_gemv_sum(args.x, a->k) : 0;
        args.colsum = &sum;
        if (a->r.kind != WN_LOC_NONE)
            args.r = (const char *)wn_at(exec, a->r) + i * a->y_bytes;
        if (a->act.act != WN_ACT_NONE)
            gemv_activated(a, args, r0, r1, args.y);
        else
            wn_q8_gemv_run(&a->pack->gemv, &args, r0, r1);
        if (a->table)
            look_up_token(a, (uint8_t *)args.y + r0, r1 - r0);
    }
}

static void run_kernel(const struct linear_arg *a, const struct wn_q8_args *args, size_t from, size_t to)
{
    switch (a->pack->kind) {
    case WN_Q8_GEMM:
        wn_q8_gemm_run(a->pack->gemm, a->off, args, from, to);
        break;
    case WN_Q8_B4:
        wn_q8_spmm_b4_run(a->pack->b4, a->off, args, from, to);
        break;
    default:
        wn_q8_spmm_run(a->pack->spmm, a->off, args, from, to);
        break;
    }
}

/* y, which the kernel then adds its products to. */
static void put_bias(const struct linear_arg *a, const struct wn_q8_args *args, size_t from, size_t to)
{
    for (size_t o = from; o < to; o++) {
        float *y = (float *)(void *)((char *)args->y + o * args->y_stride);
        for (size_t c = 0; c < args->n; c++)
            y[c] = a->bias[o];
    }
}

/* A part's block, at most `at_once` columns and as many rows at a time as BLOCK_ROWS of a whole tile have outputs. */
static void each_tile(const struct linear_arg *a, struct wn_exec *exec, const struct wn_block *b, size_t at_once,
                      const struct wn_q8_args *all,
                      void (*run)(const struct linear_arg *a, struct wn_exec *exec, struct wn_q8_args *args, size_t c,
                                  size_t from, size_t to))
{
    for (size_t c = b->c0; c < b->c1; c += at_once) {
        struct wn_q8_args args = wn_q8_args_cols(all, c, WN_MIN(at_once, b->c1 - c));
        args.x = (const uint8_t *)wn_at(exec, a->cx.loc) + c * wn_cols8_elem(&a->cx);
        const size_t rows = BLOCK_ROWS * (TILE_COLS / WN_MIN(args.n, TILE_COLS)); /* a multiple of 4 */
        for (size_t from = b->r0; from < b->r1; from += rows)
            run(a, exec, &args, c, from, WN_MIN(from + rows, b->r1));
    }
}

/* The activation is computed tile by tile before bytes are made. */
static void activated_tile(const struct linear_arg *a, struct wn_exec *exec, struct wn_q8_args *args, size_t c,
                           size_t from, size_t to)
{
    _Alignas(64) float tile[BLOCK_ROWS * ACT_COLS];
    args->y_stride = args->n * sizeof *tile;
    args->y = before(tile, from * args->y_stride);
    run_kernel(a, args, from, to);
    struct wn_move_q8 quant = a->quant;
    quant.y = (uint8_t *)wn_at(exec, a->cy8.loc) + c * wn_cols8_elem(&a->cy8);
    wn_activate_bytes(&a->bytes, &quant, tile, args->n, from, to);
}

static void run_activated(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    struct wn_q8_args all = a->args;
    struct wn_block block[3];
    const unsigned n = wn_share_tiles(&a->tiling, part, n_parts, block);
    all.colsum = all.w_zp ? wn_at(exec, a->colsum) : NULL;
    for (unsigned i = 0; i < n; i++)
        each_tile(a, exec, &block[i], ACT_COLS, &all, activated_tile);
}

static void plain_tile(const struct linear_arg *a, struct wn_exec *exec, struct wn_q8_args *args, size_t c, size_t from,
                       size_t to)
{
    (void)exec, (void)c;
    if (a->bias) {
        put_bias(a, args, from, to);
        args->r = args->y;
    }
    run_kernel(a, args, from, to);
    if (a->table)
        look_up(a, args, from, to);
}

static void run_cols(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    struct wn_q8_args all = a->args;
    struct wn_block block[3];
    const unsigned n = wn_share_tiles(&a->tiling, part, n_parts, block);
    const size_t at_once = WN_MAX(BLOCK_BYTES / a->k / TILE_COLS * TILE_COLS, TILE_COLS);
    all.y = all.out == WN_OUT_F32 ? (void *)wn_cols_at(exec, &a->cy, 0) : wn_at(exec, a->cy8.loc);
    all.r = a->cr.k ? wn_at(exec, a->cr.loc) : NULL;
    all.colsum = all.w_zp ? wn_at(exec, a->colsum) : NULL;
    for (unsigned i = 0; i < n; i++) {
        bind_rows(a, exec, block[i].r0, block[i].r1, &all);
        each_tile(a, exec, &block[i], at_once, &all, plain_tile);
    }
}

static void run_colsum(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct linear_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->cx.cols, WN_COLS, part, n_parts, &c0, &c1);
    if (c0 < c1)
        wn_q8_colsum((const uint8_t *)wn_at(exec, a->cx.loc) + 4 * c0, a->koff, a->k, 1, c1 - c0,
                     (int32_t *)wn_at(exec, a->colsum) + c0);
}

/* ---- lowering ---- */

static enum winnow_status set_static(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    const struct wn_fused_q8 *f = node->fused;
    const bool f32 = f->y_f32 || f->act != WN_ACT_NONE;
    a->act = (struct wn_activation){ f->act, f->alpha, -INFINITY, INFINITY };
    if (f->act != WN_ACT_NONE)
        wn_activate_bytes_init(&a->act, f->y_scale, &a->bytes);
    a->table = f->table;
    a->quant = (struct wn_move_q8){
        .channels = a->rows, .scale = f->y_scale, .zp = f->y_zp, .q_lo = f->q_lo, .q_hi = f->q_hi
    };
    a->args = (struct wn_q8_args){ .n = 1,
                                   .y_stride = f32 ? 4 : 1,
                                   .out = f32 ? WN_OUT_F32 : WN_OUT_PLANE,
                                   .bias = wn_q8_bias(lo, node),
                                   .mul = f->mul,
                                   .w_zp = f->w_zp,
                                   .y_zp = f->y_zp,
                                   .q_lo = f->q_lo,
                                   .q_hi = f->q_hi,
                                   .lo = f->lo,
                                   .hi = f->hi,
                                   .r_mul = f->r_mul,
                                   .s_mul = f->s_mul,
                                   .s_lo = f->s_lo,
                                   .s_hi = f->s_hi,
                                   .r_zp = f->r_zp };
    return a->args.bias ? WINNOW_OK : wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
}

/* [rows] sum of w - w_zp, modulo 2^32. */
static int32_t *weight_sums(struct wn_lower *lo, const struct wn_tensor *w, const int32_t *w_zp)
{
    size_t N = (size_t)w->dim[0], K = (size_t)w->dim[1];
    int32_t *sum = wn_arena_calloc(&lo->plan->arena, N, sizeof *sum);
    const int64_t *row = wn_facts_row_sums(lo->model->facts, w, N, &lo->plan->arena);
    for (size_t o = 0; sum && row && o < N; o++)
        sum[o] = (int32_t)(uint32_t)(uint64_t)(row[o] - (w_zp ? (int64_t)K * w_zp[o] : 0));
    return row ? sum : NULL;
}

static enum winnow_status scalar_at(struct wn_lower *lo, const struct wn_node *node, unsigned i, struct wn_loc *ret)
{
    return i < node->n_in && node->in[i] != WN_NONE ? wn_lower_plain(lo, node->in[i], ret) : WINNOW_OK;
}

static enum winnow_status set_dynamic(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    const struct wn_fused_dyn *f = node->fused;
    const struct wn_graph *g = &lo->plan->g;
    a->dynamic = true;
    a->args = (struct wn_q8_args){
        .n = 1, .y_stride = 4, .out = WN_OUT_F32, .w_zp = f->w_zp, .q_hi = 255, .lo = f->lo, .hi = f->hi
    };
    a->w_scale = f->w_scale;
    if (node->n_in > 4 && node->in[4] != WN_NONE)
        a->bias = g->values.at[node->in[4]].constant->data;
    a->w_sum = weight_sums(lo, g->values.at[node->in[1]].constant, f->w_zp);
    if (!a->w_sum)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    WN_TRY(scalar_at(lo, node, 2, &a->x_scale));
    WN_TRY(scalar_at(lo, node, 3, &a->x_zp));
    size_t bytes = wn_round_up(a->rows * 4 + WN_OVERREAD, 64);
    a->mul = wn_lower_buf(lo, bytes);
    a->ibias = wn_lower_buf(lo, bytes);
    return a->mul.kind == WN_LOC_NONE || a->ibias.kind == WN_LOC_NONE ? WINNOW_E_NOMEM : WINNOW_OK;
}

struct copy_arg {
    struct wn_loc from, to;
    size_t bytes;
};

static void run_copy(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct copy_arg *a = step->arg;
    size_t from, to;
    wn_share(a->bytes, 64, part, n_parts, &from, &to);
    memcpy((char *)wn_at(exec, a->to) + from, (const char *)wn_at(exec, a->from) + from, to - from);
}

/* x where the kernel may read past its end: memory of the caller is copied first. */
static enum winnow_status padded_input(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    WN_TRY(wn_lower_plain(lo, node->in[0], &a->x));
    if (a->x.kind == WN_LOC_BUF)
        return WINNOW_OK;
    struct copy_arg *c = wn_arena_calloc(&lo->plan->arena, 1, sizeof *c);
    if (!c)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    *c = (struct copy_arg){ .from = a->x, .bytes = a->m * a->k };
    c->to = wn_lower_buf(lo, c->bytes + WN_OVERREAD);
    if (c->to.kind == WN_LOC_NONE || !wn_lower_step(lo, node, "copy", run_copy, c))
        return WINNOW_E_NOMEM;
    wn_lower_touch(lo, c->to);
    a->x = c->to;
    return WINNOW_OK;
}

static enum winnow_status lower_gemv(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    WN_TRY(padded_input(lo, node, a));
    if (node->n_in == 4 && !a->dynamic)
        WN_TRY(wn_lower_plain(lo, node->in[3], &a->r));
    return wn_lower_new_plain(lo, node->out[0], &a->y);
}

static enum winnow_status set_offsets(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    bool quads = a->cx.form == WN_FORM_COLS_QUAD;
    size_t n = quads ? (a->k + 3) / 4 : a->k;
    int32_t *koff = wn_arena_calloc(&lo->plan->arena, n + 16, sizeof *koff);
    if (!koff)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    if (n * a->cx.stride > INT32_MAX)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "node '%s': input of more than 2 GiB", node->name);
    for (size_t i = 0; i < n; i++)
        koff[i] = (int32_t)(i * a->cx.stride);
    a->koff = koff;
    return wn_q8_pack_link(lo, a->pack, 0, koff, &a->off);
}

static enum winnow_status add_colsum(struct wn_lower *lo, const struct wn_node *node, struct linear_arg *a)
{
    a->colsum = wn_lower_buf(lo, a->cx.cols * sizeof(int32_t) + WN_OVERREAD);
    if (a->colsum.kind == WN_LOC_NONE || !wn_lower_step(lo, node, "q8_colsum", run_colsum, a))
        return WINNOW_E_NOMEM;
    wn_lower_touch(lo, a->cx.loc);
    wn_lower_touch(lo, a->colsum);
    return WINNOW_OK;
}

/* Threads take columns (tokens), as all steps around do, but rows where those cost less: when attention comes next,
 * whose threads take heads, or where the weights, which all of them then read, are more than the activations. A
 * DLinear's factors are computed by who has the rows. q8_spmm is cut within its tiles of 128: half a tile costs half of
 * one, and on cores that share no cache what the steps between the layers read from others costs more than all they
 * compute. */
static struct wn_tiling tiling_of(const struct wn_lower *lo, const struct wn_node *node, enum wn_q8_kind kind,
                                  const struct linear_arg *a, size_t weight_bytes)
{
    wn_vid y = node->out[0];
    const struct wn_node *user = first_reader(lo, &y);
    struct wn_tiling t = wn_q8_tiling(kind, a->pack->arg.block, a->cx.cols, a->rows);
    const size_t y_elem = a->args.out == WN_OUT_F32 && a->act.act == WN_ACT_NONE ? sizeof(float) : 1;
    const bool heads = user && (wn_fused_is(user, "QAttention") || wn_fused_is(user, "Attention"));
    if (kind == WN_Q8_SPMM)
        t.tile = t.step = 64;
    if (a->dynamic || heads || weight_bytes > a->cx.cols * (a->k + a->rows * y_elem))
        t.tile = t.step = WN_MAX(a->cx.cols, (size_t)1);
    return t;
}

static enum winnow_status lower_cols(struct wn_lower *lo, const struct wn_node *node, enum wn_q8_kind kind,
                                     size_t weight_bytes, struct linear_arg *a)
{
    enum wn_form out;
    WN_TRY(wn_cols8_get(lo, node->in[0], a->k, form_of(kind), &a->cx));
    WN_TRY(set_offsets(lo, node, a));
    if (a->args.w_zp)
        WN_TRY(add_colsum(lo, node, a));
    a->tiling = tiling_of(lo, node, kind, a, weight_bytes);
    if (a->args.out == WN_OUT_F32 && a->act.act == WN_ACT_NONE) {
        WN_TRY(wn_cols_new(lo, node->out[0], a->rows, &a->cy));
        a->args.y_stride = a->cy.stride * sizeof(float);
        return WINNOW_OK;
    }
    WN_TRY(wn_q8_linear_form(lo, node->out[0], a->rows, &out));
    if (node->n_in == 4 &&
        wn_cols8_is(lo, node->in[3])) /* written as the residual lies, over it where that ends here */
        out = wn_cols8_form(lo, node->in[3]);
    if (out == WN_FORM_PLAIN)
        out = WN_FORM_COLS_QUAD;
    if (node->n_in == 4)
        WN_TRY(wn_cols8_get(lo, node->in[3], a->rows, out, &a->cr));
    WN_TRY(wn_cols8_new(lo, node->out[0], a->rows, out, &a->cy8));
    a->quant.form = out == WN_FORM_COLS_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE;
    a->quant.y_stride = a->cy8.stride;
    if (a->act.act != WN_ACT_NONE)
        return WINNOW_OK;
    a->args.out = out == WN_FORM_COLS_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE;
    a->args.y_stride = a->cy8.stride;
    return WINNOW_OK;
}

enum winnow_status wn_lower_linear_q8(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    struct wn_q8_choice c;
    *done = false;
    if (lo->reference || !wn_q8_is_linear(node))
        return WINNOW_OK;
    WN_TRY(wn_q8_choose(lo, node, &c));
    if (!c.fits)
        return WINNOW_OK;
    const struct wn_tensor *w = lo->plan->g.values.at[node->in[1]].constant;
    struct linear_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->k = (size_t)w->dim[1];
    a->rows = (size_t)w->dim[0];
    a->m = wn_lower_bytes(lo, node->in[0]) / a->k;
    bool dynamic = wn_fused_is(node, "DLinear"), gemv = c.kind == WN_Q8_GEMV;
    WN_TRY(dynamic ? set_dynamic(lo, node, a) : set_static(lo, node, a));
    a->y_bytes = a->rows * (a->args.out == WN_OUT_F32 && a->act.act == WN_ACT_NONE ? 4 : 1);
    size_t bytes;
    struct wn_q8_pack_arg pa = {
        .kind = c.kind, .block = c.block, .groups = 1, .rows = a->rows, .channels = a->k, .taps = 1
    };
    WN_TRY(wn_q8_pack_get(lo, w, &pa, &a->pack, &bytes));
    WN_TRY(gemv ? lower_gemv(lo, node, a) : lower_cols(lo, node, c.kind, bytes, a));
    const char *kernel = wn_q8_kernel_name(lo, a->pack);
    struct wn_step *step = kernel ? wn_lower_step(lo, node, kernel,
                                                  gemv                        ? run_gemv
                                                  : a->act.act != WN_ACT_NONE ? run_activated
                                                                              : run_cols,
                                                  a)
                                  : NULL;
    if (!step)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    step->macs = (uint64_t)(a->m * a->k * a->rows);
    step->weight_bytes = bytes;
    step->pattern = c.sparsity.pattern;
    step->sparsity = c.sparsity.share;
    step->why = c.why;
    step->choice = c.choice;
    const struct wn_loc used[] = { a->x,       a->r,      a->y,       a->cx.loc, a->cr.loc, a->cy.loc,
                                   a->cy8.loc, a->colsum, a->x_scale, a->x_zp,   a->mul,    a->ibias };
    for (size_t i = 0; i < WN_COUNT(used); i++)
        wn_lower_touch(lo, used[i]);
    wn_lower_over(lo, a->y, a->r, a->x);
    wn_lower_over(lo, a->cy8.loc, a->cr.loc, a->cx.loc);
    *done = true;
    return WINNOW_OK;
}
