/* lanes.c: geometry, the index structure of a sparse convolution, and its three passes over all blocks.
 *
 * DESIGN  One CSR for the forward pass (a row per output channel), whose offsets backward-weights shares, and one per
 *         stride phase for backward-data (a row per input channel). All are made from the mask alone, when it changes;
 *         a step only gathers the values of the kept weights. Backward-weights touches kept positions only: gradual
 *         pruning never lets a weight return, so the others' gradients would be multiplied by zero anyway. */
#include "sparsify/kernels/lanes.h"

#include <stdlib.h>
#include <string.h>
#include "engine/kernels/kernels.h"
#include "sparsify/kernels/team.h"

const struct wn_lanes_kernels *wn_lanes_kernels(void)
{
    switch (wn_cpu_isa()) {
    case WN_ISA_avx512vnni:
        return &wn_lanes_kernels__avx512vnni;
    case WN_ISA_avx2:
    case WN_ISA_avx2vnni:
        return &wn_lanes_kernels__avx2;
    default:
        return &wn_lanes_kernels__scalar;
    }
}

/* ---- geometry ---- */

void wn_lanes_geom_image(struct wn_lanes_geom *g, int64_t n, int64_t c, int64_t h, int64_t w, int halo)
{
    g->nb = (int)(n / WN_LANES);
    g->c = (int)c;
    g->h = (int)h;
    g->w = (int)w;
    g->halo = halo;
    g->pitch = (int)w + halo;
    g->plane = (size_t)(h + 2 * halo) * (size_t)g->pitch + (size_t)halo;
    if (g->plane % 64 == 0)
        g->plane++; /* planes 4 KiB apart would share cache sets */
    g->origin = (size_t)halo * (size_t)g->pitch + (size_t)halo;
    g->block = g->plane * (size_t)c;
}

void wn_lanes_geom_matrix(struct wn_lanes_geom *g, int64_t n, int64_t f)
{
    int64_t blocks = n / WN_LANES, w = 7;
    while (blocks % w)
        w--;
    wn_lanes_geom_image(g, n / w, f, 1, w, 0);
}

int wn_lanes_conv_halo_x(int k, int stride, int pad_begin, int dilation, int64_t in, int64_t out)
{
    int64_t after = (out - 1) * stride + (int64_t)(k - 1) * dilation - pad_begin - (in - 1);
    return (int)WN_MAX((int64_t)pad_begin, WN_MAX(after, 0));
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

int wn_lanes_conv_halo_y(int k, int stride, int pad_begin, int dilation, int64_t in, int64_t out)
{
    int64_t before = -floor_div((int64_t)pad_begin - (int64_t)(k - 1) * dilation, stride);
    int64_t after = floor_div(in - 1 + pad_begin, stride) - (out - 1);
    return (int)WN_MAX(before, WN_MAX(after, 0));
}

/* ---- structure ---- */

struct csr {
    uint32_t *start; /* [rows + 1] */
    int32_t *off;    /* [nnz] floats */
    uint32_t *pos;   /* [nnz] index into the dense weights */
    float *val;      /* [nnz] */
    uint32_t rows, nnz;
};

struct phase {
    struct csr csr;
    int h, w;   /* pixels of this phase */
    int py, px; /* first of them */
};

struct wn_lanes_conv {
    struct wn_lanes_conv_shape s;
    const struct wn_lanes_kernels *kern;
    struct csr fwd;
    struct phase *phase; /* [sh * sw] */
    float *dw;           /* [nnz] */
};

static void csr_done(struct csr *c)
{
    free(c->start);
    free(c->off);
    free(c->pos);
    free(c->val);
}

static bool csr_alloc(struct csr *c, uint32_t rows, uint32_t nnz)
{
    c->rows = rows;
    c->nnz = nnz;
    c->start = calloc((size_t)rows + 1, sizeof *c->start);
    c->off = malloc(((size_t)nnz + 1) * sizeof *c->off);
    c->pos = malloc(((size_t)nnz + 1) * sizeof *c->pos);
    c->val = malloc(((size_t)nnz + 1) * sizeof *c->val);
    return c->start && c->off && c->pos && c->val;
}

void wn_lanes_conv_free(struct wn_lanes_conv *cv)
{
    if (!cv)
        return;
    csr_done(&cv->fwd);
    for (int i = 0; cv->phase && i < cv->s.sh * cv->s.sw; i++)
        csr_done(&cv->phase[i].csr);
    free(cv->phase);
    free(cv->dw);
    free(cv);
}

static void conv_freep(struct wn_lanes_conv **p)
{
    wn_lanes_conv_free(*p);
}

size_t wn_lanes_conv_kept(const struct wn_lanes_conv *cv)
{
    return cv->fwd.nnz;
}

static bool build_forward(struct wn_lanes_conv *cv, const uint8_t *mask)
{
    const struct wn_lanes_conv_shape *s = &cv->s;
    int ig = s->i / s->groups, og = s->o / s->groups;
    size_t n = (size_t)s->o * (size_t)ig * (size_t)(s->kh * s->kw), nnz = 0;
    for (size_t k = 0; k < n; k++)
        nnz += !mask || mask[k];
    if (!csr_alloc(&cv->fwd, (uint32_t)s->o, (uint32_t)nnz))
        return false;
    uint32_t at = 0, k = 0;
    for (int o = 0; o < s->o; o++) {
        for (int i = 0; i < ig; i++)
            for (int ky = 0; ky < s->kh; ky++)
                for (int kx = 0; kx < s->kw; kx++, k++) {
                    if (mask && !mask[k])
                        continue;
                    ptrdiff_t px = (ptrdiff_t)(o / og * ig + i) * (ptrdiff_t)s->x.plane +
                                   (ptrdiff_t)(ky * s->dh - s->ph) * s->x.pitch + (kx * s->dw - s->pw);
                    cv->fwd.off[at] = (int32_t)(px * WN_LANES);
                    cv->fwd.pos[at++] = k;
                }
        cv->fwd.start[o + 1] = at;
    }
    return true;
}

/** The taps of one stride phase, by input channel; order within a row: output channel, then ky, kx. */
static bool build_phase(struct wn_lanes_conv *cv, struct phase *ph)
{
    const struct wn_lanes_conv_shape *s = &cv->s;
    int ig = s->i / s->groups, og = s->o / s->groups, taps = s->kh * s->kw;
    uint32_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (!csr_alloc(&ph->csr, (uint32_t)s->i, count))
                return false;
            for (uint32_t k = 0; k < cv->fwd.nnz; k++) {
                uint32_t p = cv->fwd.pos[k], o = p / (uint32_t)(ig * taps), i = p / (uint32_t)taps % (uint32_t)ig;
                int ky = (int)(p % (uint32_t)taps) / s->kw, kx = (int)(p % (uint32_t)taps) % s->kw;
                if ((ph->py + s->ph - ky * s->dh) % s->sh == 0 && (ph->px + s->pw - kx * s->dw) % s->sw == 0)
                    ph->csr.start[o / (uint32_t)og * (uint32_t)ig + i + 1]++;
            }
            for (int i = 0; i < s->i; i++)
                ph->csr.start[i + 1] += ph->csr.start[i];
        }
        uint32_t *next = NULL;
        if (pass == 1) {
            next = malloc((size_t)s->i * sizeof *next);
            if (!next)
                return false;
            memcpy(next, ph->csr.start, (size_t)s->i * sizeof *next);
        }
        for (uint32_t k = 0; k < cv->fwd.nnz; k++) {
            uint32_t p = cv->fwd.pos[k], o = p / (uint32_t)(ig * taps), i = p / (uint32_t)taps % (uint32_t)ig;
            int ky = (int)(p % (uint32_t)taps) / s->kw, kx = (int)(p % (uint32_t)taps) % s->kw;
            int ty = ph->py + s->ph - ky * s->dh, tx = ph->px + s->pw - kx * s->dw;
            if (ty % s->sh || tx % s->sw)
                continue;
            if (pass == 0) {
                count++;
                continue;
            }
            uint32_t at = next[o / (uint32_t)og * (uint32_t)ig + i]++;
            ptrdiff_t px = (ptrdiff_t)o * (ptrdiff_t)s->y.plane + (ptrdiff_t)(ty / s->sh) * s->y.pitch + tx / s->sw;
            ph->csr.off[at] = (int32_t)(px * WN_LANES);
            ph->csr.pos[at] = p;
        }
        free(next);
    }
    return true;
}

enum winnow_status wn_lanes_conv_new(const struct wn_lanes_conv_shape *shape, const uint8_t *mask,
                                     struct wn_lanes_conv **ret, struct winnow_err *err)
{
    if (wn_lanes_floats(&shape->x) > INT32_MAX || wn_lanes_floats(&shape->y) > INT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "activation of more than 2^31 elements");
    WN_CLEANUP(conv_freep) struct wn_lanes_conv *cv = calloc(1, sizeof *cv);
    if (!cv)
        return wn_fail(err, WINNOW_E_NOMEM, "sparse convolution");
    cv->s = *shape;
    cv->kern = wn_lanes_kernels();
    cv->phase = calloc((size_t)(shape->sh * shape->sw), sizeof *cv->phase);
    if (!cv->phase || !build_forward(cv, mask))
        return wn_fail(err, WINNOW_E_NOMEM, "sparse convolution");
    cv->dw = malloc(((size_t)cv->fwd.nnz + 1) * sizeof *cv->dw);
    if (!cv->dw)
        return wn_fail(err, WINNOW_E_NOMEM, "sparse convolution");
    for (int py = 0; py < shape->sh; py++)
        for (int px = 0; px < shape->sw; px++) {
            struct phase *ph = &cv->phase[py * shape->sw + px];
            ph->py = py;
            ph->px = px;
            ph->h = (shape->x.h - py + shape->sh - 1) / shape->sh;
            ph->w = (shape->x.w - px + shape->sw - 1) / shape->sw;
            if (ph->h > 0 && ph->w > 0 && !build_phase(cv, ph))
                return wn_fail(err, WINNOW_E_NOMEM, "sparse convolution");
        }
    *ret = WN_TAKE(cv);
    return WINNOW_OK;
}

/* ---- passes ---- */

struct call {
    struct wn_lanes_conv *cv;
    const float *x, *dy, *bias, *add;
    float *y, *db;
};

static void gather(struct csr *c, const float *w)
{
    for (uint32_t k = 0; k < c->nnz; k++)
        c->val[k] = w[c->pos[k]];
}

static void forward_part(void *arg, unsigned i, unsigned n)
{
    const struct call *c = arg;
    const struct wn_lanes_conv_shape *s = &c->cv->s;
    const struct csr *m = &c->cv->fwd;
    struct wn_lanes_sum job = { m->rows, m->start, m->off, m->val, c->bias, s->y.h, s->y.w, 0, 0, 0, 0, 0, 0 };
    job.x_row = (size_t)(s->sh * s->x.pitch) * WN_LANES;
    job.x_px = (size_t)s->sw * WN_LANES;
    job.y_row = (size_t)s->y.pitch * WN_LANES;
    job.y_px = WN_LANES;
    job.y_plane = s->y.plane * WN_LANES;
    size_t from, to;
    wn_team_share((size_t)s->x.nb, i, n, &from, &to);
    for (size_t b = from; b < to; b++)
        c->cv->kern->sum(&job, c->x + wn_lanes_at(&s->x, (int)b, 0, 0, 0), NULL,
                         c->y + wn_lanes_at(&s->y, (int)b, 0, 0, 0));
}

void wn_lanes_conv_forward(struct wn_lanes_conv *cv, unsigned threads, const float *x, const float *w,
                           const float *bias, float *y)
{
    gather(&cv->fwd, w);
    for (int p = 0; p < cv->s.sh * cv->s.sw; p++)
        if (cv->phase[p].csr.start)
            gather(&cv->phase[p].csr, w);
    struct call c = { .cv = cv, .x = x, .bias = bias, .y = y };
    wn_team_run(threads, (size_t)cv->s.x.nb, forward_part, &c);
}

static void back_data_part(void *arg, unsigned i, unsigned n)
{
    const struct call *c = arg;
    const struct wn_lanes_conv_shape *s = &c->cv->s;
    size_t from, to;
    wn_team_share((size_t)s->x.nb, i, n, &from, &to);
    for (size_t b = from; b < to; b++)
        for (int p = 0; p < s->sh * s->sw; p++) {
            const struct phase *ph = &c->cv->phase[p];
            if (!ph->csr.start)
                continue;
            const struct csr *m = &ph->csr;
            struct wn_lanes_sum job = { m->rows, m->start, m->off, m->val, NULL, ph->h, ph->w, 0, 0, 0, 0, 0, 0 };
            job.x_row = (size_t)s->y.pitch * WN_LANES;
            job.x_px = WN_LANES;
            job.y_row = (size_t)(s->sh * s->x.pitch) * WN_LANES;
            job.y_px = (size_t)s->sw * WN_LANES;
            job.y_plane = s->x.plane * WN_LANES;
            size_t at = wn_lanes_at(&s->x, (int)b, 0, ph->py, ph->px);
            c->cv->kern->sum(&job, c->dy + wn_lanes_at(&s->y, (int)b, 0, 0, 0), c->add ? c->add + at : NULL, c->y + at);
        }
}

void wn_lanes_conv_back_data(struct wn_lanes_conv *cv, unsigned threads, const float *dy, const float *add, float *dx)
{
    struct call c = { .cv = cv, .dy = dy, .add = add, .y = dx };
    wn_team_run(threads, (size_t)cv->s.x.nb, back_data_part, &c);
}

/** Output channels are shared out so that every part has about as many kept weights. */
static uint32_t row_at(const struct csr *m, unsigned i, unsigned n)
{
    if (i >= n)
        return m->rows;
    uint32_t want = (uint32_t)((uint64_t)m->nnz * i / n), r = 0;
    while (r < m->rows && m->start[r] < want)
        r++;
    return i == 0 ? 0 : r;
}

/** Rows whose input, all channels of it, takes about a third of a 512 KiB cache. */
static int chunk_rows(int channels, const struct wn_lanes_sum *job)
{
    size_t rows = 160 * 1024 / (job->x_row * sizeof(float) * (size_t)channels);
    return rows < 1 ? 1 : rows > (size_t)job->h ? WN_MAX(job->h, 1) : (int)rows;
}

static void back_weights_part(void *arg, unsigned i, unsigned n)
{
    const struct call *c = arg;
    const struct wn_lanes_conv_shape *s = &c->cv->s;
    const struct csr *m = &c->cv->fwd;
    struct wn_lanes_sum job = { m->rows, m->start, m->off, NULL, NULL, s->y.h, s->y.w, 0, 0, 0, 0, 0, 0 };
    job.x_row = (size_t)(s->sh * s->x.pitch) * WN_LANES;
    job.x_px = (size_t)s->sw * WN_LANES;
    job.y_row = (size_t)s->y.pitch * WN_LANES;
    job.y_px = WN_LANES;
    job.y_plane = s->y.plane * WN_LANES;
    job.chunk = chunk_rows(s->x.c, &job);
    int blocks = s->x.nb;
    if (s->y.h == 1 && s->x.h == 1) { /* a linear layer: blocks are taken as rows, so that sums run over many pixels */
        job.h = s->x.nb;
        job.x_row = s->x.block * WN_LANES;
        job.y_row = s->y.block * WN_LANES;
        job.chunk = (int)WN_MAX((size_t)2, ((size_t)512 << 10) / (job.x_row * sizeof(float)));
        blocks = 1;
    }
    uint32_t from = row_at(m, i, n), to = row_at(m, i + 1, n);
    memset(c->cv->dw + m->start[from], 0, (size_t)(m->start[to] - m->start[from]) * sizeof(float));
    for (int b = 0; b < blocks; b++)
        c->cv->kern->dot(&job, from, to, c->x + wn_lanes_at(&s->x, b, 0, 0, 0), c->dy + wn_lanes_at(&s->y, b, 0, 0, 0),
                         c->cv->dw);
    for (uint32_t k = m->start[from]; k < m->start[to]; k++)
        c->y[m->pos[k]] = c->cv->dw[k];
    if (c->db)
        for (uint32_t o = from; o < to; o++)
            c->db[o] = (float)c->cv->kern->channel_sum(&s->y, (int)o, c->dy);
}

void wn_lanes_conv_back_weights(struct wn_lanes_conv *cv, unsigned threads, const float *x, const float *dy, float *dw,
                                float *db)
{
    struct call c = { .cv = cv, .x = x, .dy = dy, .y = dw, .db = db };
    wn_team_run(threads, (size_t)cv->s.o, back_weights_part, &c);
}
