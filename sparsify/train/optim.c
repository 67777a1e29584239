/* optim.c: the optimizers, and clipping by norm.
 *
 * SGD     as PyTorch has it (dampening 0): d = g + wd * w; v = mu * v + d; w -= lr * (nesterov ? d + mu * v : v).
 * ADAMW   m += (1 - b1) (g - m); v += (1 - b2) (g^2 - v); w -= lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd
 * * w), t counted per parameter. Source: Loshchilov and Hutter, Decoupled weight decay regularization; PyTorch. MASKED
 * Pruned weights and their moments are 0 and stay 0. TABLES  Rows of embeddings that a step did not touch do not move:
 * their moments neither decay nor push (PyTorch's dense AdamW would let them drift). */
#include <math.h>
#include <string.h>
#include "sparsify/kernels/team.h"
#include "sparsify/train/train_impl.h"

struct move {
    const struct wn_trainer *tr;
    struct wn_param *p;
    float lr, wd;
    struct wn_adamw adam;
};

static void piece(const struct move *s, size_t at, size_t n)
{
    struct wn_param *p = s->p;
    const uint8_t *keep = p->mask ? p->mask + at : NULL;
    if (p->v2)
        s->tr->net.rows->adamw(p->w + at, p->v + at, p->v2 + at, p->g + at, keep, n, &s->adam);
    else
        s->tr->net.kern->sgd(p->w + at, p->v + at, p->g + at, keep, n, s->lr, s->tr->opts.momentum, s->wd,
                             s->tr->opts.nesterov);
}

/** Masked parameters, mostly zeros: sixteen positions at a time are skipped when none is kept. */
static void masked(const struct move *s, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i += 16) {
        size_t m = WN_MIN((size_t)16, from + n - i);
        uint64_t any[2] = { 0 };
        memcpy(any, s->p->mask + i, m);
        if (any[0] | any[1])
            piece(s, i, m);
    }
}

static void move_part(void *arg, unsigned i, unsigned n)
{
    const struct move *s = arg;
    struct wn_param *p = s->p;
    size_t from, to, width = p->row ? (size_t)p->dim[1] : 1;
    wn_team_share(p->row ? p->n_rows : p->n, i, n, &from, &to);
    if (p->row)
        for (size_t r = from; r < to; r++)
            piece(s, p->row[r] * width, width);
    else if (p->mask)
        masked(s, from, to - from);
    else
        piece(s, from, to - from);
}

/* ---- clipping ---- */

static double square(const float *g, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)g[i] * (double)g[i];
    return s;
}

/** Norm over all trained parameters, in their order; in double. */
static double norm(const struct wn_trainer *tr)
{
    double s = 0;
    for (size_t i = 0; i < tr->param.n; i++) {
        const struct wn_param *p = &tr->param.at[i]->pub;
        if (!p->trainable)
            continue;
        if (!p->row)
            s += square(p->g, p->n);
        for (size_t r = 0; p->row && r < p->n_rows; r++)
            s += square(p->g + p->row[r] * (size_t)p->dim[1], (size_t)p->dim[1]);
    }
    return sqrt(s);
}

static void scale(float *g, size_t n, float k)
{
    for (size_t i = 0; i < n; i++)
        g[i] *= k;
}

static void clip(struct wn_trainer *tr)
{
    float k = (float)((double)tr->opts.clip_norm / (norm(tr) + 1e-6));
    for (size_t i = 0; i < tr->param.n && k < 1; i++) {
        struct wn_param *p = &tr->param.at[i]->pub;
        if (!p->trainable)
            continue;
        if (!p->row)
            scale(p->g, p->n, k);
        for (size_t r = 0; p->row && r < p->n_rows; r++)
            scale(p->g + p->row[r] * (size_t)p->dim[1], (size_t)p->dim[1], k);
    }
}

/* ---- all parameters ---- */

void wn_trainer_optimize(struct wn_trainer *tr)
{
    const struct wn_train_opts *o = &tr->opts;
    if (o->clip_norm > 0)
        clip(tr);
    for (size_t i = 0; i < tr->param.n; i++) {
        struct wn_param *p = &tr->param.at[i]->pub;
        if (!p->trainable)
            continue;
        struct move s = { tr, p, tr->lr * p->lr_scale, p->decay ? tr->wd : 0.0f, { .lr = 0 } };
        if (p->v2) {
            double t = (double)++p->moves;
            s.adam = (struct wn_adamw){ .lr = s.lr,
                                        .beta1 = o->beta1,
                                        .beta2 = o->beta2,
                                        .eps = o->eps,
                                        .decay = s.wd,
                                        .fix1 = (float)(1 / (1 - pow((double)o->beta1, t))),
                                        .fix2 = (float)(1 / (1 - pow((double)o->beta2, t))) };
        }
        size_t n = p->row ? p->n_rows * (size_t)p->dim[1] : p->n;
        wn_team_run(o->threads, n / 65536 + 1, move_part, &s);
    }
}
