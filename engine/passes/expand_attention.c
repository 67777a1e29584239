/* expand_attention.c: attention in one node, of ONNX Runtime and of ONNX, as products, softmax and transposes, and
 * rotary embeddings. Sources: ONNX Runtime docs/ContribOperators.md; ONNX Operators.md, Attention, RotaryEmbedding.
 *
 * All forms meet in one core: queries, keys and values as (B, heads, length, head size), and an additive bias that
 * every mask is turned into. Names: S queries, T keys. */
#include <float.h>
#include <math.h>
#include "engine/passes/expand.h"

/* ---- heads ---- */

static const int64_t heads_first[] = { 0, 2, 1, 3 };

/* (B, S, heads * size) -> (B, heads, S, size) */
static wn_vid split_heads(struct wn_ex *ex, wn_vid x, int64_t heads)
{
    wn_vid apart = wn_ex_reshape(ex, x, (const int64_t[]){ 0, 0, heads, -1 }, 4, WN_NONE);
    return wn_ex_transpose(ex, apart, heads_first, 4, WN_NONE);
}

/* (B, heads, S, size) -> (B, S, heads * size) */
static void join_heads(struct wn_ex *ex, wn_vid x, wn_vid out)
{
    wn_vid last = wn_ex_transpose(ex, x, heads_first, 4, WN_NONE);
    wn_ex_reshape(ex, last, (const int64_t[]){ 0, 0, -1 }, 3, out);
}

/* ---- masks: all become f32, broadcastable to (B, heads, S, T), to be added to the scores ---- */

/* Of the dtype of the node's first input where that is a float (QAttention's is not). */
static wn_vid where(struct wn_ex *ex, wn_vid cond, float yes, float no)
{
    enum winnow_dtype t = wn_ex_type(ex, wn_ex_in(ex, 0))->dtype;
    bool narrow = t == WINNOW_F16 || t == WINNOW_BF16 || t == WINNOW_F64;
    wn_vid a = narrow ? wn_ex_number(ex, yes, wn_ex_in(ex, 0)) : wn_ex_f32(ex, yes);
    wn_vid b = narrow ? wn_ex_number(ex, no, wn_ex_in(ex, 0)) : wn_ex_f32(ex, no);
    return wn_ex_op(ex, "Where", 16, WN_EX_IN(cond, a, b), WN_NONE);
}

/* Either may be WN_NONE. */
static wn_vid both(struct wn_ex *ex, wn_vid a, wn_vid b)
{
    if (a == WN_NONE || b == WN_NONE)
        return a == WN_NONE ? b : a;
    return wn_ex_op(ex, "Add", 14, WN_EX_IN(a, b), WN_NONE);
}

/* True for the first len[b] keys: (B, 1, 1, T). */
static wn_vid first_keys(struct wn_ex *ex, wn_vid len, wn_vid n_keys)
{
    wn_vid n =
        wn_ex_reshape(ex, wn_ex_cast(ex, len, WINNOW_I64, WN_NONE), (const int64_t[]){ -1, 1, 1, 1 }, 4, WN_NONE);
    return wn_ex_op(ex, "Less", 13, WN_EX_IN(wn_ex_range(ex, n_keys), n), WN_NONE);
}

/* Query i sees key j where j <= i + offset: (S, T), or (B, 1, S, T) for offsets (B, 1, 1, 1). */
static wn_vid causal(struct wn_ex *ex, wn_vid n_queries, wn_vid n_keys, wn_vid offset, float hidden)
{
    wn_vid i = wn_ex_unsqueeze(ex, wn_ex_range(ex, n_queries), (const int64_t[]){ 1 }, 1);
    if (offset != WN_NONE)
        i = wn_ex_op(ex, "Add", 14, WN_EX_IN(i, offset), WN_NONE);
    return where(ex, wn_ex_op(ex, "LessOrEqual", 16, WN_EX_IN(wn_ex_range(ex, n_keys), i), WN_NONE), 0, hidden);
}

/* mask_index of Attention, key_padding_mask of MultiHeadAttention: (B) key lengths; (B, T), (B, S, T), (B, 1, S, T)
 * 1 for a key that is seen. */
static enum winnow_status index_mask(struct wn_ex *ex, wn_vid mask, wn_vid n_keys, int64_t batch, wn_vid *ret)
{
    *ret = WN_NONE;
    if (mask == WN_NONE)
        return WINNOW_OK;
    const struct wn_type *t = wn_ex_type(ex, mask);
    float hidden = wn_node_float(&ex->node, "mask_filter_value", -10000.0f);
    if (t->rank < 1 || t->rank > 4)
        return wn_ex_lack(ex, "a mask of unknown rank, or rank %d", t->rank);
    if (t->rank == 1 && t->dim[0] >= 0 && batch >= 0 && t->dim[0] != batch)
        return wn_ex_lack(ex, "a mask of %lld numbers for %lld rows: only key lengths", (long long)t->dim[0],
                          (long long)batch);
    if (t->rank == 1) {
        *ret = where(ex, first_keys(ex, mask, n_keys), 0, hidden);
        return WINNOW_OK;
    }
    int rank = t->rank; /* t moves with the next value */
    wn_vid seen = wn_ex_cast(ex, mask, WINNOW_I64, WN_NONE);
    if (rank < 4)
        seen = wn_ex_unsqueeze(ex, seen, (const int64_t[]){ 1, 2 }, rank == 2 ? 2 : 1);
    seen = wn_ex_op(ex, "Greater", 13, WN_EX_IN(seen, wn_ex_i64(ex, 0)), WN_NONE);
    *ret = where(ex, seen, 0, hidden);
    return WINNOW_OK;
}

/* ---- the core ---- */

struct core {
    wn_vid q, k, v; /* (B, heads, …) */
    wn_vid bias;    /* or WN_NONE */
    float scale, softcap;
    wn_vid out;       /* where the context goes, or WN_NONE */
    wn_vid scores[4]; /* raw, after softcap, after bias, after softmax: in an output of the node, or WN_NONE */
};

static wn_vid core(struct wn_ex *ex, const struct core *c)
{
    wn_vid keys = wn_ex_transpose(ex, c->k, (const int64_t[]){ 0, 1, 3, 2 }, 4, WN_NONE);
    wn_vid p = wn_ex_op(ex, "MatMul", 13, WN_EX_IN(c->q, keys), WN_NONE);
    wn_vid scale = wn_ex_number(ex, c->scale, p);
    p = wn_ex_op(ex, "Mul", 14, WN_EX_IN(p, scale), c->scores[0]);
    if (c->softcap > 0) {
        wn_vid cap = wn_ex_number(ex, c->softcap, p);
        p = wn_ex_op(ex, "Tanh", 13, WN_EX_IN(wn_ex_op(ex, "Div", 14, WN_EX_IN(p, cap), WN_NONE)), WN_NONE);
        p = wn_ex_op(ex, "Mul", 14, WN_EX_IN(p, cap), WN_NONE);
    }
    if (c->scores[1] != WN_NONE)
        wn_ex_op(ex, "Identity", 13, WN_EX_IN(p), c->scores[1]);
    if (c->bias != WN_NONE)
        p = wn_ex_op(ex, "Add", 14, WN_EX_IN(p, c->bias), WN_NONE);
    if (c->scores[2] != WN_NONE)
        wn_ex_op(ex, "Identity", 13, WN_EX_IN(p), c->scores[2]);
    wn_ex_start(ex, "Softmax", 13, WN_EX_IN(p), WN_NONE);
    wn_ex_int(ex, "axis", -1);
    p = wn_ex_done(ex);
    if (c->scores[3] != WN_NONE)
        wn_ex_op(ex, "Identity", 13, WN_EX_IN(p), c->scores[3]);
    return wn_ex_op(ex, "MatMul", 13, WN_EX_IN(p, c->v), c->out);
}

static const struct core empty_core = { .bias = WN_NONE,
                                        .out = WN_NONE,
                                        .scores = { WN_NONE, WN_NONE, WN_NONE, WN_NONE } };

static enum winnow_status lacks(struct wn_ex *ex, unsigned i, bool output, const char *what)
{
    return (output ? wn_ex_out(ex, i) : wn_ex_in(ex, i)) == WN_NONE ? WINNOW_OK : wn_ex_lack(ex, "%s", what);
}

/* num_heads, and the attributes and states that none of the com.microsoft forms below takes. */
static enum winnow_status read_heads(struct wn_ex *ex, int64_t *ret)
{
    *ret = wn_node_int(&ex->node, "num_heads", 0);
    if (*ret < 1)
        return wn_fail(ex->err, WINNOW_E_MALFORMED, "node '%s': num_heads is %lld", ex->node.name, (long long)*ret);
    if (wn_node_int(&ex->node, "do_rotary", 0))
        return wn_ex_lack(ex, "attribute do_rotary");
    return WINNOW_OK;
}

/* Attribute scale, or 1 / sqrt(size); 0 (ONNX Runtime's default) means the latter. */
static enum winnow_status read_scale(struct wn_ex *ex, int64_t size, float *ret)
{
    *ret = wn_node_float(&ex->node, "scale", 0);
    if (*ret != 0)
        return WINNOW_OK;
    if (size < 1)
        return wn_ex_lack(ex, "heads of unknown size");
    *ret = (float)(1 / sqrt((double)size));
    return WINNOW_OK;
}

/* ---- com.microsoft Attention, QAttention ---- */

/* Widths of Q, K and V in the merged projection. */
static enum winnow_status read_widths(struct wn_ex *ex, wn_vid weights, int64_t heads, int64_t ret[3])
{
    const struct wn_type *w = wn_ex_type(ex, weights);
    int64_t total = w->rank == 2 ? w->dim[1] : -1;
    size_t n;
    const int64_t *sizes = wn_node_ints(&ex->node, "qkv_hidden_sizes", &n);
    for (unsigned i = 0; i < 3; i++)
        ret[i] = n == 3 ? sizes[i] : total / 3;
    if (total < 3 || ret[0] < 1 || ret[2] < 1 || ret[0] != ret[1] || ret[0] > total || ret[2] > total ||
        ret[0] + ret[1] + ret[2] != total || ret[0] % heads || ret[2] % heads)
        return wn_ex_lack(ex, "%lld columns of weights for %lld heads", (long long)total, (long long)heads);
    return WINNOW_OK;
}

/* What follows the projections, which stand in p[3] as (B, S, width). */
static enum winnow_status self_attention(struct wn_ex *ex, const wn_vid p[3], const int64_t width[3], int64_t heads,
                                         wn_vid mask, wn_vid bias)
{
    struct core c = empty_core;
    int64_t batch = wn_ex_type(ex, wn_ex_in(ex, 0))->rank == 3 ? wn_ex_type(ex, wn_ex_in(ex, 0))->dim[0] : -1;
    WN_TRY(read_scale(ex, width[0] / heads, &c.scale));
    wn_vid length = wn_ex_extent(ex, wn_ex_in(ex, 0), 1);
    WN_TRY(index_mask(ex, mask, length, batch, &c.bias));
    if (wn_node_int(&ex->node, "unidirectional", 0))
        c.bias = both(ex, c.bias, causal(ex, length, length, WN_NONE, -FLT_MAX));
    c.bias = both(ex, c.bias, bias);
    c.q = split_heads(ex, p[0], heads);
    c.k = split_heads(ex, p[1], heads);
    c.v = split_heads(ex, p[2], heads);
    join_heads(ex, core(ex, &c), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

enum winnow_status wn_expand_attention(struct wn_ex *ex)
{
    /* input, weights, bias, mask_index, past, attention_bias, past_sequence_length */
    int64_t heads, width[3], from = 0;
    wn_vid p[3], w = wn_ex_in(ex, 1), b = wn_ex_in(ex, 2);
    WN_TRY(read_heads(ex, &heads));
    WN_TRY(lacks(ex, 4, false, "a past state"));
    WN_TRY(lacks(ex, 1, true, "a present state"));
    WN_TRY(read_widths(ex, w, heads, width));
    for (unsigned i = 0; i < 3; from += width[i++]) {
        p[i] = wn_ex_op(ex, "MatMul", 13, WN_EX_IN(wn_ex_in(ex, 0), wn_ex_columns(ex, w, from, width[i])), WN_NONE);
        if (b != WN_NONE)
            p[i] = wn_ex_op(ex, "Add", 14, WN_EX_IN(p[i], wn_ex_columns(ex, b, from, width[i])), WN_NONE);
    }
    return self_attention(ex, p, width, heads, wn_ex_in(ex, 3), wn_ex_in(ex, 5));
}

enum winnow_status wn_expand_qattention(struct wn_ex *ex)
{
    /* input, weight, bias, input_scale, weight_scale, mask_index, input_zp, weight_zp, past */
    int64_t heads, width[3], from = 0;
    wn_vid p[3];
    WN_TRY(read_heads(ex, &heads));
    WN_TRY(lacks(ex, 8, false, "a past state"));
    WN_TRY(lacks(ex, 1, true, "a present state"));
    WN_TRY(read_widths(ex, wn_ex_in(ex, 1), heads, width));
    for (unsigned i = 0; i < 3; from += width[i++]) {
        wn_vid part[4]; /* weight, scale, zero point, bias */
        static const unsigned input[] = { 1, 4, 7, 2 };
        for (unsigned k = 0; k < 4; k++)
            part[k] = wn_ex_columns(ex, wn_ex_in(ex, input[k]), from, width[i]);
        p[i] = wn_ex_int_product(ex, wn_ex_in(ex, 0), wn_ex_in(ex, 3), wn_ex_in(ex, 6), part[0], part[1], part[2],
                                 part[3], WN_NONE);
    }
    return self_attention(ex, p, width, heads, wn_ex_in(ex, 5), WN_NONE);
}

/* ---- com.microsoft MultiHeadAttention ---- */

static wn_vid with_bias(struct wn_ex *ex, wn_vid x, wn_vid bias, int64_t from, int64_t n)
{
    return bias == WN_NONE ? x : wn_ex_op(ex, "Add", 14, WN_EX_IN(x, wn_ex_columns(ex, bias, from, n)), WN_NONE);
}

enum winnow_status wn_expand_multi_head_attention(struct wn_ex *ex)
{
    /* query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value */
    struct core c = empty_core;
    int64_t heads;
    wn_vid q = wn_ex_in(ex, 0), k = wn_ex_in(ex, 1), v = wn_ex_in(ex, 2), bias = wn_ex_in(ex, 3);
    WN_TRY(read_heads(ex, &heads));
    WN_TRY(lacks(ex, 6, false, "a past state"));
    WN_TRY(lacks(ex, 1, true, "a present state"));
    const struct wn_type *tq = wn_ex_type(ex, q), *tk = wn_ex_type(ex, k), *tv = wn_ex_type(ex, v);
    int64_t width = tq->rank == 3 ? tq->dim[2] : -1, width_v = tv->rank == 3 ? tv->dim[2] : -1, batch = tq->dim[0];
    bool split = tk->rank == 4 && tv->rank == 4;
    if (tq->rank != 3 || (!split && (tk->rank != 3 || tv->rank != 3)))
        return wn_ex_lack(ex, "packed or unknown forms of query, key and value");
    if (bias != WN_NONE && (width < 1 || (!split && width_v < 1)))
        return wn_ex_lack(ex, "a bias for a query of unknown width");
    if (width > 0 && width % heads)
        return wn_ex_lack(ex, "a query of %lld columns for %lld heads", (long long)width, (long long)heads);
    WN_TRY(read_scale(ex, width / heads, &c.scale));
    c.q = split_heads(ex, with_bias(ex, q, bias, 0, width), heads);
    c.k = split ? k : split_heads(ex, with_bias(ex, k, bias, width, width), heads);
    c.v = split ? v : split_heads(ex, with_bias(ex, v, bias, 2 * width, width_v), heads);
    wn_vid n_keys = wn_ex_extent(ex, k, split ? 2 : 1);
    WN_TRY(index_mask(ex, wn_ex_in(ex, 4), n_keys, batch, &c.bias));
    if (wn_node_int(&ex->node, "unidirectional", 0))
        c.bias = both(ex, c.bias, causal(ex, wn_ex_extent(ex, q, 1), n_keys, WN_NONE, -FLT_MAX));
    c.bias = both(ex, c.bias, wn_ex_in(ex, 5));
    join_heads(ex, core(ex, &c), wn_ex_out(ex, 0));
    return WINNOW_OK;
}

/* ---- ONNX Attention (opset 23, 24) ---- */

/* Every key head serves `times` query heads. x (B, heads, T, size), size known. */
static wn_vid repeat_heads(struct wn_ex *ex, wn_vid x, int64_t heads, int64_t times, int64_t size)
{
    if (times == 1)
        return x;
    wn_vid apart = wn_ex_unsqueeze(ex, x, (const int64_t[]){ 2 }, 1);
    wn_vid each = wn_ex_op(ex, "Expand", 13, WN_EX_IN(apart, WN_EX_I64S(ex, 1, 1, times, 1, 1)), WN_NONE);
    return wn_ex_reshape(ex, each, (const int64_t[]){ 0, heads * times, -1, size }, 4, WN_NONE);
}

/* attn_mask: bool (true: seen) or to be added; may be shorter than the keys, which are then hidden. */
static enum winnow_status onnx_mask(struct wn_ex *ex, wn_vid mask, int64_t keys, wn_vid *ret)
{
    *ret = mask;
    if (mask == WN_NONE)
        return WINNOW_OK;
    const struct wn_type *t = wn_ex_type(ex, mask);
    if (t->rank < 1 || t->dtype == WINNOW_UNDEFINED)
        return wn_ex_lack(ex, "a mask of unknown rank or type");
    int rank = t->rank;
    int64_t have = t->dim[rank - 1];
    if (t->dtype == WINNOW_BOOL)
        *ret = where(ex, mask, 0, -INFINITY);
    if (have < 0 || keys < 0 || have >= keys)
        return WINNOW_OK;
    int64_t pads[2 * WINNOW_MAX_RANK] = { 0 };
    pads[2 * rank - 1] = keys - have;
    wn_vid hidden = wn_ex_number(ex, -INFINITY, wn_ex_in(ex, 0));
    *ret = wn_ex_op(ex, "Pad", 13, WN_EX_IN(*ret, wn_ex_i64s(ex, pads, 2 * rank), hidden), WN_NONE);
    return WINNOW_OK;
}

/* Keys or values with the cached ones before them; also to output `present`. */
static wn_vid with_past(struct wn_ex *ex, wn_vid x, wn_vid past, wn_vid present)
{
    if (past != WN_NONE) {
        wn_ex_start(ex, "Concat", 13, WN_EX_IN(past, x), present);
        wn_ex_int(ex, "axis", 2);
        return wn_ex_done(ex);
    }
    if (present != WN_NONE)
        wn_ex_op(ex, "Identity", 13, WN_EX_IN(x), present);
    return x;
}

/* All masks in one; WN_NONE when every query sees every key. */
static enum winnow_status onnx_bias(struct wn_ex *ex, const struct core *c, wn_vid *ret)
{
    wn_vid n_keys = wn_ex_extent(ex, c->k, 2), valid = wn_ex_in(ex, 6), past = wn_ex_in(ex, 4), offset = WN_NONE;
    WN_TRY(onnx_mask(ex, wn_ex_in(ex, 3), wn_ex_type(ex, c->k)->rank == 4 ? wn_ex_type(ex, c->k)->dim[2] : -1, ret));
    if (wn_node_int(&ex->node, "is_causal", 0)) {
        wn_vid n_queries = wn_ex_extent(ex, c->q, 2);
        if (past != WN_NONE)
            offset = wn_ex_extent(ex, past, 2);
        else if (valid != WN_NONE)
            offset = wn_ex_reshape(
                ex, wn_ex_op(ex, "Sub", 14, WN_EX_IN(wn_ex_cast(ex, valid, WINNOW_I64, WN_NONE), n_queries), WN_NONE),
                (const int64_t[]){ -1, 1, 1, 1 }, 4, WN_NONE);
        *ret = both(ex, *ret, causal(ex, n_queries, n_keys, offset, -INFINITY));
    }
    if (valid != WN_NONE)
        *ret = both(ex, *ret, where(ex, first_keys(ex, valid, n_keys), 0, -INFINITY));
    return WINNOW_OK;
}

/* A query that sees no key answers 0, not NaN. */
static wn_vid guard(struct wn_ex *ex, wn_vid x, wn_vid bias, wn_vid out)
{
    wn_vid best = wn_ex_op(ex, "ReduceMax", 18, WN_EX_IN(bias, WN_EX_I64S(ex, -1)), WN_NONE);
    wn_vid hidden = wn_ex_number(ex, -INFINITY, best);
    wn_vid zero = wn_ex_number(ex, 0, x);
    return wn_ex_op(ex, "Where", 16, WN_EX_IN(wn_ex_op(ex, "Equal", 13, WN_EX_IN(best, hidden), WN_NONE), zero, x),
                    out);
}

static enum winnow_status onnx_inputs(struct wn_ex *ex, struct core *c, int rank)
{
    wn_vid in[] = { wn_ex_in(ex, 0), wn_ex_in(ex, 1), wn_ex_in(ex, 2) };
    int64_t q_heads = wn_node_int(&ex->node, "q_num_heads", 0), kv_heads = wn_node_int(&ex->node, "kv_num_heads", 0);
    if (rank == 3 && (q_heads < 1 || kv_heads < 1))
        return wn_fail(ex->err, WINNOW_E_MALFORMED, "node '%s': q_num_heads and kv_num_heads must be given",
                       ex->node.name);
    for (unsigned i = 0; i < 3 && rank == 3; i++)
        in[i] = split_heads(ex, in[i], i ? kv_heads : q_heads);
    c->q = in[0];
    c->k = with_past(ex, in[1], wn_ex_in(ex, 4), wn_ex_out(ex, 1));
    c->v = with_past(ex, in[2], wn_ex_in(ex, 5), wn_ex_out(ex, 2));
    if (ex->failed)
        return WINNOW_OK;
    const struct wn_type *q = wn_ex_type(ex, c->q), *k = wn_ex_type(ex, c->k), *v = wn_ex_type(ex, c->v);
    if (q->rank != 4 || k->rank != 4 || v->rank != 4)
        return wn_ex_lack(ex, "inputs of unknown rank");
    WN_TRY(read_scale(ex, q->dim[3], &c->scale));
    q_heads = q->dim[1];
    kv_heads = k->dim[1];
    if (q_heads == kv_heads && q_heads > 0)
        return WINNOW_OK;
    int64_t k_size = k->dim[3], v_size = v->dim[3];
    if (q_heads < 1 || kv_heads < 1 || q_heads % kv_heads || k_size < 1 || v_size < 1)
        return wn_ex_lack(ex, "%lld query heads and %lld key heads", (long long)q_heads, (long long)kv_heads);
    c->k = repeat_heads(ex, c->k, kv_heads, q_heads / kv_heads, k_size);
    c->v = repeat_heads(ex, c->v, kv_heads, q_heads / kv_heads, v_size);
    return WINNOW_OK;
}

enum winnow_status wn_expand_onnx_attention(struct wn_ex *ex)
{
    /* Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen -> Y, present_key, present_value, qk_matmul_output */
    struct core c = empty_core;
    int rank = wn_ex_type(ex, wn_ex_in(ex, 0))->rank;
    int64_t mode = wn_node_int(&ex->node, "qk_matmul_output_mode", 0);
    if (rank != 3 && rank != 4)
        return wn_ex_lack(ex, "inputs of unknown rank, or rank %d", rank);
    if (wn_node_int(&ex->node, "left_window_size", -1) >= 0 || wn_node_int(&ex->node, "right_window_size", -1) >= 0)
        return wn_ex_lack(ex, "sliding windows");
    if (mode < 0 || mode > 3)
        return wn_ex_lack(ex, "qk_matmul_output_mode %lld", (long long)mode);
    c.softcap = wn_node_float(&ex->node, "softcap", 0);
    WN_TRY(onnx_inputs(ex, &c, rank));
    if (ex->failed)
        return WINNOW_OK;
    WN_TRY(onnx_bias(ex, &c, &c.bias));
    bool may_be_blind = wn_ex_in(ex, 3) != WN_NONE || wn_ex_in(ex, 6) != WN_NONE, probs = wn_ex_out(ex, 3) != WN_NONE;
    if (mode < 3 || !may_be_blind)
        c.scores[mode] = wn_ex_out(ex, 3);
    else if (probs)
        c.scores[3] = wn_graph_add_value(ex->g, NULL, WINNOW_UNDEFINED, -1, NULL);
    c.out = rank == 4 && !may_be_blind ? wn_ex_out(ex, 0) : WN_NONE;
    wn_vid y = core(ex, &c);
    if (may_be_blind && mode == 3 && probs)
        guard(ex, c.scores[3], c.bias, wn_ex_out(ex, 3));
    if (may_be_blind && !ex->failed)
        y = guard(ex, y, c.bias, rank == 4 ? wn_ex_out(ex, 0) : WN_NONE);
    if (rank == 3)
        join_heads(ex, y, wn_ex_out(ex, 0));
    return WINNOW_OK;
}

/* ---- ONNX RotaryEmbedding ---- */

static wn_vid last_axis(struct wn_ex *ex, wn_vid x, int64_t from, int64_t to, int64_t step)
{
    return wn_ex_op(ex, "Slice", 13,
                    WN_EX_IN(x, WN_EX_I64S(ex, from), WN_EX_I64S(ex, to), WN_EX_I64S(ex, -1), WN_EX_I64S(ex, step)),
                    WN_NONE);
}

static wn_vid concat_last(struct wn_ex *ex, wn_vid a, wn_vid b)
{
    wn_ex_start(ex, "Concat", 13, WN_EX_IN(a, b), WN_NONE);
    wn_ex_int(ex, "axis", -1);
    return wn_ex_done(ex);
}

/* a * b + sign * c * d */
static wn_vid pair(struct wn_ex *ex, const char *op, wn_vid a, wn_vid b, wn_vid c, wn_vid d)
{
    wn_vid ab = wn_ex_op(ex, "Mul", 14, WN_EX_IN(a, b), WN_NONE), cd = wn_ex_op(ex, "Mul", 14, WN_EX_IN(c, d), WN_NONE);
    return wn_ex_op(ex, op, 14, WN_EX_IN(ab, cd), WN_NONE);
}

/* x (B, S, heads, size) with its first `n` columns turned. */
static wn_vid turned(struct wn_ex *ex, wn_vid x, int64_t n, wn_vid cos, wn_vid sin)
{
    bool interleaved = wn_node_int(&ex->node, "interleaved", 0) != 0;
    wn_vid a = interleaved ? last_axis(ex, x, 0, n, 2) : last_axis(ex, x, 0, n / 2, 1);
    wn_vid b = interleaved ? last_axis(ex, x, 1, n, 2) : last_axis(ex, x, n / 2, n, 1);
    wn_vid real = pair(ex, "Sub", cos, a, sin, b), imag = pair(ex, "Add", sin, a, cos, b);
    if (!interleaved)
        return concat_last(ex, real, imag);
    real = wn_ex_unsqueeze(ex, real, (const int64_t[]){ -1 }, 1);
    imag = wn_ex_unsqueeze(ex, imag, (const int64_t[]){ -1 }, 1);
    return wn_ex_reshape(ex, concat_last(ex, real, imag), (const int64_t[]){ 0, 0, 0, -1 }, 4, WN_NONE);
}

enum winnow_status wn_expand_rotary(struct wn_ex *ex)
{
    wn_vid x = wn_ex_in(ex, 0), cache[] = { wn_ex_in(ex, 1), wn_ex_in(ex, 2) }, ids = wn_ex_in(ex, 3);
    int rank = wn_ex_type(ex, x)->rank;
    int64_t heads = wn_node_int(&ex->node, "num_heads", 0), n = wn_node_int(&ex->node, "rotary_embedding_dim", 0);
    const struct wn_type *t = wn_ex_type(ex, cache[0]);
    if ((rank != 3 && rank != 4) || (rank == 3 && heads < 1))
        return wn_ex_lack(ex, "an input of rank %d with %lld heads", rank, (long long)heads);
    bool part = n > 0;
    if (!part && t->rank > 0 && t->dim[t->rank - 1] > 0 && t->dim[t->rank - 1] < (1 << 20))
        n = 2 * t->dim[t->rank - 1];
    if (n < 2 || n % 2)
        return wn_ex_lack(ex, "%lld columns to turn", (long long)n);
    for (unsigned i = 0; i < 2; i++) {
        if (ids != WN_NONE)
            cache[i] = wn_ex_op(ex, "Gather", 13, WN_EX_IN(cache[i], ids), WN_NONE);
        cache[i] = wn_ex_unsqueeze(ex, cache[i], (const int64_t[]){ 2 }, 1);
    }
    x = rank == 4 ? wn_ex_transpose(ex, x, heads_first, 4, WN_NONE)
                  : wn_ex_reshape(ex, x, (const int64_t[]){ 0, 0, heads, -1 }, 4, WN_NONE);
    wn_vid y = turned(ex, x, n, cache[0], cache[1]);
    if (part)
        y = concat_last(ex, y, last_axis(ex, x, n, INT64_MAX, 1));
    if (rank == 4)
        wn_ex_transpose(ex, y, heads_first, 4, wn_ex_out(ex, 0));
    else
        wn_ex_reshape(ex, y, (const int64_t[]){ 0, 0, -1 }, 3, wn_ex_out(ex, 0));
    return WINNOW_OK;
}
