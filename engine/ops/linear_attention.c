/* linear_attention.c: operators of models that keep a state per layer in place of all keys: LinearAttention and
 * CausalConvWithState (opset 27), and TensorScatter, which writes into a cache (onnx/defs/nn/defs.cc). */
#include <math.h>
#include <string.h>
#include "engine/ops/impl.h"

/* ---- LinearAttention ---- */

struct rule {
    bool gated, delta;
    int64_t q_heads, kv_heads;
};

static enum winnow_status read_rule(const struct wn_infer *in, const struct wn_node *node, struct rule *r,
                                    struct winnow_err *err)
{
    static const char *const names[] = { "linear", "gated", "delta", "gated_delta" };
    unsigned i = 0;
    while (i < 4 && !wn_node_str_is(node, "update_rule", "gated_delta", names[i]))
        i++;
    if (i == 4)
        return wn_bad(err, "attribute update_rule");
    *r = (struct rule){ .gated = i & 1,
                        .delta = i >> 1,
                        .q_heads = wn_node_int(node, "q_num_heads", -1),
                        .kv_heads = wn_node_int(node, "kv_num_heads", -1) };
    if (r->q_heads < 1 || r->kv_heads < 1 || r->q_heads % r->kv_heads)
        return wn_bad(err, "%lld heads of queries and %lld of keys", (long long)r->q_heads, (long long)r->kv_heads);
    if (in && ((in->n_in > 4 && in->given[4]) != r->gated || (in->n_in > 5 && in->given[5]) != r->delta))
        return wn_bad(err, "decay and beta do not fit update_rule %s", names[i]);
    return WINNOW_OK;
}

static enum winnow_status per_head(const struct wn_type *t, int64_t heads, const char *what, int64_t *ret,
                                   struct winnow_err *err)
{
    *ret = -1;
    if (t->rank < 0 || t->dim[2] < 0)
        return WINNOW_OK;
    if (t->dim[2] % heads)
        return wn_bad(err, "%s has %lld columns for %lld heads", what, (long long)t->dim[2], (long long)heads);
    *ret = t->dim[2] / heads;
    return WINNOW_OK;
}

enum winnow_status wn_infer_linear_attention(struct wn_infer *in, struct winnow_err *err)
{
    struct rule r;
    int64_t dk, dk2, dv, batch = -1, steps = -1, same;
    for (unsigned i = 0; i < 6; i++) {
        WN_TRY(wn_want(in, i, WN_D(F32) | WN_D(F16) | WN_D(BF16), err));
        WN_TRY(wn_want_rank(in, i, i == 3 ? 4 : 3, i == 3 ? 4 : 3, err));
    }
    WN_TRY(read_rule(in, in->node, &r, err));
    for (unsigned i = 0; i < 6 && i < in->n_in; i++) {
        if (!in->given[i] || in->in[i].rank < 0)
            continue;
        WN_TRY(wn_dim_same(batch, in->in[i].dim[0], "batches", &batch, err));
        if (i != 3)
            WN_TRY(wn_dim_same(steps, in->in[i].dim[1], "lengths", &steps, err));
    }
    WN_TRY(per_head(&in->in[0], r.q_heads, "query", &dk, err));
    WN_TRY(per_head(&in->in[1], r.kv_heads, "key", &dk2, err));
    WN_TRY(per_head(&in->in[2], r.kv_heads, "value", &dv, err));
    WN_TRY(wn_dim_same(dk, dk2, "sizes of queries and keys", &dk, err));
    int64_t state[4] = { batch, r.kv_heads, dk, dv };
    for (int a = 0; in->n_in > 3 && in->given[3] && in->in[3].rank == 4 && a < 4; a++)
        WN_TRY(wn_dim_same(in->in[3].dim[a], state[a], "past_state", &state[a], err));
    if (r.gated && in->in[4].rank == 3 && in->in[4].dim[2] >= 0 && in->in[4].dim[2] != r.kv_heads && dk >= 0)
        WN_TRY(wn_dim_same(in->in[4].dim[2], r.kv_heads * dk, "columns of decay", &same, err));
    if (r.delta && in->in[5].rank == 3 && in->in[5].dim[2] != 1)
        WN_TRY(wn_dim_same(in->in[5].dim[2], r.kv_heads, "columns of beta", &same, err));
    in->out[0] = (struct wn_type){ .dtype = in->in[0].dtype, .rank = 3, .dim = { batch, steps, -1 } };
    WN_TRY(wn_dim_mul(dv, r.q_heads, &in->out[0].dim[2], err));
    if (in->n_out > 1) {
        in->out[1] = (struct wn_type){ .dtype = in->in[0].dtype, .rank = 4 };
        memcpy(in->out[1].dim, state, sizeof state);
        if (in->n_in > 3 && in->given[3])
            in->out[1].dtype = in->in[3].dtype;
    }
    return WINNOW_OK;
}

/* One step of one head: S is [dk][dv], `v` [dv] is overwritten. */
static void update(float *S, const float *k, float *v, const float *decay, bool per_key, const float *beta, int64_t dk,
                   int64_t dv)
{
    for (int64_t i = 0; decay && i < dk; i++)
        for (int64_t j = 0; j < dv; j++)
            S[i * dv + j] *= expf(decay[per_key ? i : 0]);
    for (int64_t j = 0; beta && j < dv; j++) {
        float seen = 0;
        for (int64_t i = 0; i < dk; i++)
            seen += S[i * dv + j] * k[i];
        v[j] = *beta * (v[j] - seen);
    }
    for (int64_t i = 0; i < dk; i++)
        for (int64_t j = 0; j < dv; j++)
            S[i * dv + j] += k[i] * v[j];
}

struct linear {
    struct rule r;
    int64_t batch, steps, dk, dv, n_decay, n_beta;
    float scale;
    const float *q, *k, *v, *decay, *beta;
    float *S, *y, *row; /* S [batch][kv_heads][dk][dv], row [dv] */
};

static void attend(struct linear *l, int64_t b, int64_t head, int64_t t)
{
    int64_t at = b * l->steps + t, H = l->r.kv_heads, dk = l->dk, dv = l->dv, group = l->r.q_heads / H;
    bool per_key = l->n_decay != H;
    float *S = l->S + (b * H + head) * dk * dv;
    memcpy(l->row, l->v + (at * H + head) * dv, (size_t)dv * sizeof *l->row);
    update(S, l->k + (at * H + head) * dk, l->row,
           l->r.gated ? l->decay + at * l->n_decay + head * (per_key ? dk : 1) : NULL, per_key,
           l->r.delta ? l->beta + at * l->n_beta + (l->n_beta == 1 ? 0 : head) : NULL, dk, dv);
    for (int64_t g = 0; g < group; g++) {
        const float *q = l->q + (at * l->r.q_heads + head * group + g) * dk;
        float *y = l->y + (at * l->r.q_heads + head * group + g) * dv;
        memset(y, 0, (size_t)dv * sizeof *y);
        for (int64_t i = 0; i < dk; i++)
            for (int64_t j = 0; j < dv; j++)
                y[j] += l->scale * q[i] * S[i * dv + j];
    }
}

static const float *take(struct wn_run *run, unsigned i, bool *ok)
{
    if (i >= run->n_in || !run->in[i])
        return NULL;
    const float *p = wn_as_f32(run->in[i], run->tmp);
    *ok = *ok && p;
    return p;
}

enum winnow_status wn_run_linear_attention(struct wn_run *run, struct winnow_err *err)
{
    struct linear l = { .batch = run->in[0]->dim[0], .steps = run->in[0]->dim[1] };
    bool ok = true;
    WN_TRY(read_rule(NULL, run->node, &l.r, err));
    l.dk = run->in[0]->dim[2] / l.r.q_heads;
    l.dv = run->in[2]->dim[2] / l.r.kv_heads;
    l.q = take(run, 0, &ok), l.k = take(run, 1, &ok), l.v = take(run, 2, &ok);
    const float *past = take(run, 3, &ok);
    l.decay = take(run, 4, &ok), l.beta = take(run, 5, &ok);
    l.n_decay = l.decay ? run->in[4]->dim[2] : 0;
    l.n_beta = l.beta ? run->in[5]->dim[2] : 0;
    l.scale = wn_node_float(run->node, "scale", 0);
    if (l.scale == 0)
        l.scale = 1 / sqrtf((float)l.dk);
    int64_t n = l.batch * l.r.kv_heads * l.dk * l.dv;
    l.S = run->n_out > 1 ? wn_out_f32(run, 1) : wn_arena_calloc(run->tmp, (size_t)n, sizeof *l.S);
    l.y = wn_out_f32(run, 0);
    l.row = wn_arena_calloc(run->tmp, (size_t)l.dv, sizeof *l.row);
    if (!ok || !l.S || !l.y || !l.row)
        return wn_nomem(err);
    if (past)
        memcpy(l.S, past, (size_t)n * sizeof *l.S);
    else
        memset(l.S, 0, (size_t)n * sizeof *l.S);
    for (int64_t b = 0; b < l.batch; b++)
        for (int64_t head = 0; head < l.r.kv_heads; head++)
            for (int64_t t = 0; t < l.steps; t++)
                attend(&l, b, head, t);
    wn_put_f32(run, 0, l.y);
    if (run->n_out > 1)
        wn_put_f32(run, 1, l.S);
    return WINNOW_OK;
}

/* ---- CausalConvWithState: input [N, C, L], weight [C, 1, k], bias, past [N, C, k - 1] ---- */

static enum winnow_status is_silu(const struct wn_node *node, bool *ret, struct winnow_err *err)
{
    *ret = wn_node_str_is(node, "activation", "none", "silu") || wn_node_str_is(node, "activation", "none", "swish");
    return *ret || wn_node_str_is(node, "activation", "none", "none") ? WINNOW_OK : wn_bad(err, "attribute activation");
}

enum winnow_status wn_infer_causal_conv(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *w = &in->in[1];
    int64_t same, channels = -1, carried = -1;
    bool silu;
    for (unsigned i = 0; i < 4; i++) {
        WN_TRY(wn_want(in, i, WN_D(F32) | WN_D(F16) | WN_D(BF16), err));
        WN_TRY(wn_want_same(in, 0, i, err));
        WN_TRY(wn_want_rank(in, i, i == 2 ? 1 : 3, i == 2 ? 1 : 3, err));
    }
    WN_TRY(is_silu(in->node, &silu, err));
    if (x->rank == 3)
        channels = x->dim[1];
    if (w->rank == 3) {
        WN_TRY(wn_dim_same(channels, w->dim[0], "channels of input and weight", &channels, err));
        WN_TRY(wn_dim_same(w->dim[1], 1, "axis 1 of the weight", &same, err));
        if (w->dim[2] == 0)
            return wn_bad(err, "a kernel of extent 0");
        carried = w->dim[2] < 0 ? -1 : w->dim[2] - 1;
    }
    if (in->n_in > 2 && in->given[2] && in->in[2].rank == 1)
        WN_TRY(wn_dim_same(channels, in->in[2].dim[0], "channels and bias", &channels, err));
    int64_t state[3] = { x->rank == 3 ? x->dim[0] : -1, channels, carried };
    for (int a = 0; in->n_in > 3 && in->given[3] && in->in[3].rank == 3 && a < 3; a++)
        WN_TRY(wn_dim_same(in->in[3].dim[a], state[a], "past_state", &state[a], err));
    in->out[0] = *x;
    if (in->n_out > 1) {
        in->out[1] = (struct wn_type){ .dtype = x->dtype, .rank = 3 };
        memcpy(in->out[1].dim, state, sizeof state);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_causal_conv(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int64_t C = x->dim[1], L = x->dim[2], k = run->in[1]->dim[2], rows = x->dim[0] * C;
    bool ok = true, silu;
    WN_TRY(is_silu(run->node, &silu, err));
    const float *xs = take(run, 0, &ok), *w = take(run, 1, &ok), *bias = take(run, 2, &ok), *past = take(run, 3, &ok);
    float *y = wn_out_f32(run, 0), *state = run->n_out > 1 ? wn_out_f32(run, 1) : NULL;
    float *line = wn_arena_calloc(run->tmp, (size_t)(L + k), sizeof *line);
    if (!ok || !y || !line || (run->n_out > 1 && !state))
        return wn_nomem(err);
    for (int64_t r = 0; r < rows; r++) {
        int64_t c = r % C;
        if (past)
            memcpy(line, past + r * (k - 1), (size_t)(k - 1) * sizeof *line);
        memcpy(line + k - 1, xs + r * L, (size_t)L * sizeof *line);
        for (int64_t t = 0; t < L; t++) {
            float sum = bias ? bias[c] : 0;
            for (int64_t i = 0; i < k; i++)
                sum += w[c * k + i] * line[t + i];
            y[r * L + t] = silu ? sum / (1 + expf(-sum)) : sum;
        }
        if (state)
            memcpy(state + r * (k - 1), line + L, (size_t)(k - 1) * sizeof *line);
    }
    wn_put_f32(run, 0, y);
    if (state)
        wn_put_f32(run, 1, state);
    return WINNOW_OK;
}

/* ---- TensorScatter ---- */

enum winnow_status wn_infer_tensor_scatter(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *u = &in->in[1];
    int axis;
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    WN_TRY(wn_want(in, 2, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 2, 1, 1, err));
    if (!wn_node_str_is(in->node, "mode", "linear", "linear") &&
        !wn_node_str_is(in->node, "mode", "linear", "circular"))
        return wn_bad(err, "attribute mode");
    in->out[0] = *x;
    if (x->rank < 0 || u->rank < 0)
        return WINNOW_OK;
    if (x->rank != u->rank)
        return wn_bad(err, "the cache has rank %d, the update %d", x->rank, u->rank);
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", -2), x->rank, "axis", &axis, err));
    if (axis == 0)
        return wn_bad(err, "axis 0 is the batch");
    for (int a = 0; a < x->rank; a++)
        if (a != axis)
            WN_TRY(wn_dim_same(x->dim[a], u->dim[a], "cache and update", &same, err));
    if (x->dim[axis] >= 0 && u->dim[axis] > x->dim[axis])
        return wn_bad(err, "an update of %lld into a cache of %lld", (long long)u->dim[axis], (long long)x->dim[axis]);
    if (in->n_in > 2 && in->given[2] && in->in[2].rank == 1)
        return wn_dim_same(x->dim[0], in->in[2].dim[0], "batch and write_indices", &same, err);
    return WINNOW_OK;
}

enum winnow_status wn_run_tensor_scatter(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *u = run->in[1];
    bool circular = wn_node_str_is(run->node, "mode", "linear", "circular");
    int axis;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", -2), (int)x->rank, "axis", &axis, err));
    int64_t outer = 1, room = x->dim[axis], n = u->dim[axis];
    size_t block = winnow_dtype_size(x->dtype);
    for (int a = 0; a < axis; a++)
        outer *= x->dim[a];
    for (unsigned a = (unsigned)axis + 1; a < x->rank; a++)
        block *= (size_t)x->dim[a];
    memcpy(run->out[0].data, x->data, x->bytes);
    for (int64_t o = 0; o < outer; o++) {
        int64_t from = run->n_in > 2 && run->in[2] ? wn_scalar_int(run->in[2], o / (outer / x->dim[0])) : 0;
        if (from < 0 || (!circular && from > room - n))
            return wn_bad(err, "write index %lld of a cache of %lld", (long long)from, (long long)room);
        for (int64_t i = 0; i < n; i++)
            memcpy((char *)run->out[0].data + (size_t)(o * room + (from % WN_MAX(room, 1) + i) % room) * block,
                   (const char *)u->data + (size_t)(o * n + i) * block, block);
    }
    return WINNOW_OK;
}
