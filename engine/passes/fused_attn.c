/* fused_attn.c: shape rules and plain-C runs of the fused attention operators. */
#include <math.h>
#include "engine/ops/ops.h"
#include "engine/passes/fused_table.h"

/* a and b where one may be 1; -1 stays unknown. */
static bool broadcast(int64_t a, int64_t b, int64_t *ret)
{
    *ret = a == 1 ? b : b == 1 || a == b || b < 0 ? a : a < 0 ? b : -2;
    return *ret != -2;
}

/* Extent i (of 4, from the right) of the mask. */
static int64_t mask_dim(const int64_t *dim, int rank, int i)
{
    return i < 4 - rank ? 1 : dim[i - (4 - rank)];
}

enum winnow_status wn_infer_attention(struct wn_infer *in, struct winnow_err *err)
{
    struct wn_type *y = &in->out[0];
    *y = (struct wn_type){ .dtype = WINNOW_F32, .rank = -1 };
    for (unsigned i = 0; i < 3; i++)
        if (in->in[i].rank >= 0 && in->in[i].rank != 4)
            return wn_fail(err, WINNOW_E_MALFORMED, "attention: input %u has rank %d, must be 4", i, in->in[i].rank);
    const int64_t *q = in->in[0].dim, *k = in->in[1].dim, *v = in->in[2].dim;
    if (in->in[0].rank < 0 || in->in[1].rank < 0 || in->in[2].rank < 0)
        return WINNOW_OK;
    int64_t b, same;
    if (!broadcast(q[0], k[0], &b) || !broadcast(b, v[0], &b) || (k[1] >= 0 && v[1] >= 0 && k[1] != v[1]) ||
        (q[3] >= 0 && k[3] >= 0 && q[3] != k[3]) || (q[2] >= 0 && k[2] >= 0 && q[2] != k[2]) ||
        (q[2] >= 0 && v[2] >= 0 && q[2] != v[2]))
        return wn_fail(err, WINNOW_E_MALFORMED, "attention: shapes of queries, keys and values do not fit");
    if (in->n_in > 3 && in->in[3].rank >= 0) {
        const int64_t want[4] = { b, q[2], q[1], k[1] };
        for (int i = 0; i < 4 && in->in[3].rank <= 4; i++) {
            int64_t m = mask_dim(in->in[3].dim, in->in[3].rank, i);
            if (!broadcast(want[i], m, &same) || (i && want[i] == 1 && m > 1))
                return wn_fail(err, WINNOW_E_UNSUPPORTED, "attention: a mask wider than the scores");
            b = i ? b : same;
        }
    }
    *y = (struct wn_type){ .dtype = WINNOW_F32, .rank = 4, .dim = { b, q[1], q[2], v[3] } };
    return WINNOW_OK;
}

enum winnow_status wn_infer_qattention(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_fused_qattn *f = in->node->fused;
    WN_TRY(wn_infer_attention(in, err));
    in->out[0].dtype = f->y_f32 ? WINNOW_F32 : WINNOW_U8;
    return WINNOW_OK;
}

/* One query of one head: where it starts in Q and Y, its head in K and V, its mask (NULL, or of key 0); in elements. */
struct query {
    size_t q, k, v, y;
    const float *mask;
    int64_t n_k, d, dv, k_row, v_row, mask_key; /* elements from key to key */
    const struct wn_run *run;
};

static float masked(const struct query *a, int64_t j, bool replace, float s)
{
    if (!a->mask)
        return s;
    float m = a->mask[j * a->mask_key];
    return replace ? (m != 0 ? m : s) : s + m;
}

static float score(const struct query *a, int64_t j)
{
    const struct wn_fused_attn *f = a->run->node->fused;
    const float *q = (const float *)a->run->in[0]->data + a->q, *k = (const float *)a->run->in[1]->data + a->k;
    double sum = 0;
    for (int64_t i = 0; i < a->d; i++)
        sum += (double)q[i] * (double)k[j * a->k_row + i];
    return masked(a, j, f->replace, (float)sum * f->scale);
}

/* p becomes e^(p - the largest); returns the sum. */
static double exponentials(float *p, int64_t n)
{
    float top = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        top = p[j] > top ? p[j] : top;
    for (int64_t j = 0; j < n; j++)
        sum += (double)(p[j] = expf(p[j] - top));
    return sum;
}

static void attend(const struct query *a, float *p)
{
    const struct wn_fused_attn *f = a->run->node->fused;
    const float *v = (const float *)a->run->in[2]->data + a->v;
    float *y = (float *)a->run->out[0].data + a->y;
    for (int64_t j = 0; j < a->n_k; j++)
        p[j] = score(a, j);
    double sum = exponentials(p, a->n_k);
    bool none = f->guarded && !(sum > 0);
    for (int64_t i = 0; i < a->dv; i++) {
        double out = 0;
        for (int64_t j = 0; j < a->n_k; j++)
            out += (double)p[j] * (double)v[j * a->v_row + i];
        y[i] = none ? 0.0f : (float)(out / sum);
    }
}

/* rne with saturation, zero point and clamp to a byte; NaN counts as 0. */
static int32_t byte(float x, int32_t zp)
{
    x = x < 65536.0f ? x : x != x ? 0.0f : 65536.0f;
    int32_t i = (int32_t)rintf(x > -65536.0f ? x : -65536.0f) + zp;
    return i < 0 ? 0 : i > 255 ? 255 : i;
}

static float q_score(const struct query *a, int64_t j)
{
    const struct wn_fused_qattn *f = a->run->node->fused;
    const uint8_t *q = (const uint8_t *)a->run->in[0]->data + a->q, *k = (const uint8_t *)a->run->in[1]->data + a->k;
    uint32_t sum = 0; /* wraps on absurd sizes */
    for (int64_t i = 0; i < a->d; i++)
        sum += (uint32_t)((q[i] - f->q_zp) * (k[j * a->k_row + i] - f->k_zp));
    float s = (float)(int32_t)sum * f->mul;
    if (f->s_mul != 0)
        s = (float)(byte(s, f->s_zp) - f->s_zp) * f->s_mul;
    return masked(a, j, f->replace, s);
}

static void q_attend(const struct query *a, float *p)
{
    const struct wn_fused_qattn *f = a->run->node->fused;
    const uint8_t *v = (const uint8_t *)a->run->in[2]->data + a->v;
    for (int64_t j = 0; j < a->n_k; j++)
        p[j] = q_score(a, j);
    double sum = exponentials(p, a->n_k);
    for (int64_t i = 0; i < a->dv; i++) {
        uint32_t out = 0;
        for (int64_t j = 0; j < a->n_k; j++)
            out += (uint32_t)((byte((float)((double)p[j] / sum) / f->p_scale, f->p_zp) - f->p_zp) *
                              (v[j * a->v_row + i] - f->v_zp));
        const float y = (float)(int32_t)out * f->y_mul;
        if (f->y_f32)
            ((float *)a->run->out[0].data)[a->y + (size_t)i] = y;
        else
            ((uint8_t *)a->run->out[0].data)[a->y + (size_t)i] = (uint8_t)byte(y, f->y_zp);
    }
}

/* Every query of every head, one after the other. */
static enum winnow_status each_query(struct wn_run *run, void (*attend_one)(const struct query *, float *),
                                     struct winnow_err *err)
{
    const struct wn_tensor *q = run->in[0], *k = run->in[1], *v = run->in[2];
    const struct wn_tensor *m = run->n_in > 3 ? run->in[3] : NULL, *y = &run->out[0];
    int64_t heads = q->dim[2], d = q->dim[3], dv = v->dim[3], n_k = k->dim[1], md[4] = { 1, 1, 1, 1 };
    float *p = wn_arena_calloc(run->tmp, (size_t)n_k + 1, sizeof *p);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "out of memory");
    for (int i = 0; m && i < 4; i++)
        md[i] = mask_dim(m->dim, (int)m->rank, i);
    for (int64_t b = 0; b < y->dim[0]; b++)
        for (int64_t i = 0; i < y->dim[1]; i++)
            for (int64_t h = 0; h < heads; h++) {
                int64_t mb = md[0] == 1 ? 0 : b, mh = md[1] == 1 ? 0 : h, mq = md[2] == 1 ? 0 : i;
                struct query a = { .q = (size_t)((((q->dim[0] == 1 ? 0 : b) * q->dim[1] + i) * heads + h) * d),
                                   .k = (size_t)(((k->dim[0] == 1 ? 0 : b) * n_k * heads + h) * d),
                                   .v = (size_t)(((v->dim[0] == 1 ? 0 : b) * n_k * heads + h) * dv),
                                   .y = (size_t)(((b * y->dim[1] + i) * heads + h) * dv),
                                   .mask = m ? (const float *)m->data + ((mb * md[1] + mh) * md[2] + mq) * md[3] : NULL,
                                   .n_k = n_k,
                                   .d = d,
                                   .dv = dv,
                                   .k_row = heads * d,
                                   .v_row = heads * dv,
                                   .mask_key = md[3] == 1 ? 0 : 1,
                                   .run = run };
                attend_one(&a, p);
            }
    return WINNOW_OK;
}

enum winnow_status wn_run_attention(struct wn_run *run, struct winnow_err *err)
{
    return each_query(run, attend, err);
}

enum winnow_status wn_run_qattention(struct wn_run *run, struct winnow_err *err)
{
    return each_query(run, q_attend, err);
}
