/* f32.c: see f32.h. */
#include "tests/checkkern/f32.h"

#include <math.h>
#include <string.h>

#define MARGIN 80 /* floats before and behind the columns of a plane that taps may reach */

static void make_args(struct ck *ck, struct ck_f32 *p, bool fixed)
{
    struct wn_f32_args *a = &p->args;
    const size_t y_n = p->rows * a->y_stride;
    const unsigned what = fixed ? 1 : (unsigned)ck_rand(ck, 64);
    a->lo = fixed ? 0 : -INFINITY;
    a->hi = INFINITY;
    if (what & 1) {
        float *bias = ck_buf(ck, p->rows * sizeof *bias);
        ck_fill_f32(ck, bias, p->rows);
        ck_freeze(ck, bias);
        a->bias = bias;
    }
    if (what & 2) {
        float *r = ck_buf(ck, y_n * sizeof *r);
        ck_fill_f32(ck, r, y_n);
        a->r = r;
        if (what & 32) { /* in place: the caller's y is the residual */
            memcpy(p->got, r, y_n * sizeof *r);
            a->r = p->got;
        }
    }
    if (what & 4)
        a->mask = ck_mask(ck, p->n);
    if (what & 8)
        a->lo = 0.0f;
    if (what & 16)
        a->hi = 0.75f;
}

/* Is the weight a term, which it is when some row of its block has a weight there? (0 * infinity is NaN.) */
static bool stored(const struct ck_f32 *p, size_t o, size_t k)
{
    const size_t block = WN_MAX(p->block, (size_t)1), first = o / block * block;
    for (size_t i = first; i < WN_MIN(first + block, p->rows); i++)
        if (p->w[i * p->k + k] != 0.0f)
            return true;
    return false;
}

/* Zeros, and mostly non-zeros, where the first row of a block has them. */
static void align_blocks(struct ck *ck, const struct ck_f32 *p)
{
    for (size_t i = 0; i < p->rows * p->k; i++) {
        const size_t o = i / p->k, first = o / p->block * p->block;
        if (o != first)
            p->w[i] = p->w[first * p->k + i % p->k] != 0.0f && ck_rand(ck, 8) ? ck_float(ck) : 0.0f;
    }
}

static void solve(struct ck_f32 *p)
{
    const struct wn_f32_args *a = &p->args;
    for (size_t o = 0; o < p->rows; o++)
        for (size_t c = 0; c < p->n; c++) {
            const size_t at = o * a->y_stride + c;
            double acc = (a->bias ? (double)a->bias[o] : 0) + (a->r ? (double)a->r[at] : 0), size = fabs(acc);
            for (size_t k = 0; k < p->k; k++) {
                const float *x = (const float *)(const void *)((const char *)a->x + p->koff[k]);
                if (!stored(p, o, k))
                    continue;
                double term = (double)p->w[o * p->k + k] * (double)x[c];
                acc += term;
                size += fabs(term);
            }
            if (acc < (double)a->lo)
                acc = (double)a->lo;
            if (acc > (double)a->hi)
                acc = (double)a->hi;
            p->want[at] = a->mask && !a->mask[c] ? 0.0f : (float)acc;
            p->size[at] = isnan(size) || isinf(size) ? 1.0f : (float)size;
        }
}

void ck_f32_make(struct ck *ck, struct ck_f32 *p, double density, bool fixed)
{
    if (!p->rows) {
        static const size_t kernels[] = { 1, 1, 3, 9 };
        p->taps = kernels[ck_rand(ck, 4)];
        p->rows = 1 + ck_rand(ck, ck_rand(ck, 8) ? 33 : 130);
        p->k = p->taps * (1 + ck_rand(ck, ck_rand(ck, 8) ? 40 : 700 / p->taps));
        p->n = WN_COLS * (1 + ck_rand(ck, 20));
    }
    const size_t channels = p->k / p->taps, stride = wn_round_up(p->n + 2 * MARGIN, 64) | 64;
    if (density < 0)
        ck_shape(ck, "rows=%zu planes=%zu taps=%zu n=%zu", p->rows, channels, p->taps, p->n);
    else
        ck_shape(ck, "rows=%zu k=%zu taps=%zu n=%zu density=%.2f", p->rows, p->k, p->taps, p->n, density);
    p->w = ck_buf(ck, p->rows * p->k * sizeof(float));
    for (size_t i = 0; i < p->rows * p->k; i++) {
        bool own = i % p->k / p->taps == i / p->k / (p->rows / channels ? p->rows / channels : 1);
        bool keep = density < 0 ? own : (double)(ck_rand64(ck) >> 11) * 0x1p-53 < density;
        p->w[i] = keep ? ck_float(ck) : 0.0f;
    }
    if (p->block > 1 && (fixed || ck_rand(ck, 2)))
        align_blocks(ck, p);
    p->koff = ck_buf(ck, p->k * sizeof(int32_t));
    for (size_t k = 0; k < p->k; k++) {
        const int32_t tap = p->taps > 1 ? (int32_t)ck_rand(ck, 2 * MARGIN + 1) - MARGIN : 0;
        p->koff[k] = ((int32_t)(k / p->taps * stride) + tap) * 4;
    }
    for (size_t k = p->taps; density < 0 && k < p->k; k++) /* the same taps in all planes */
        p->koff[k] = p->koff[k - p->taps] + (int32_t)(stride * 4);
    p->x_stride = stride * sizeof(float);
    /* the last plane ends with its margin, at the fence */
    const size_t x_n = channels * stride - (stride - p->n - 2 * MARGIN);
    float *x = ck_buf(ck, x_n * sizeof *x);
    ck_fill_f32(ck, x, x_n);
    if (!fixed && ck_rand(ck, 16) == 0)
        x[MARGIN + ck_rand(ck, p->n)] = ck_rand(ck, 2) ? NAN : INFINITY;
    ck_freeze(ck, x);
    p->args = (struct wn_f32_args){ .x = x + MARGIN, .n = p->n };
    p->args.y_stride = p->n + (fixed ? WN_COLS : WN_COLS * ck_rand(ck, 3));
    const size_t y_bytes = p->rows * p->args.y_stride * sizeof(float);
    p->want = ck_buf(ck, y_bytes);
    p->got = ck_buf(ck, y_bytes);
    p->size = wn_arena_alloc(ck_arena(ck), y_bytes);
    p->args.y = p->got;
    make_args(ck, p, fixed);
    if (!p->size)
        wn_die(__FILE__, __LINE__, "out of memory");
    if (!fixed)
        solve(p);
    for (size_t o = 0; p->args.r == p->got && o < p->rows; o++) /* what the kernel must leave alone between rows */
        memcpy(p->want + o * p->args.y_stride + p->n, p->got + o * p->args.y_stride + p->n,
               (p->args.y_stride - p->n) * sizeof(float));
}

void ck_f32_check(struct ck *ck, const struct ck_f32 *p)
{
    for (size_t o = 0; o < p->rows; o++) {
        const size_t at = o * p->args.y_stride;
        ck_near(ck, p->want + at, p->got + at, p->size + at, p->n);
        ck_same(ck, p->want + at + p->n, p->got + at + p->n, (p->args.y_stride - p->n) * sizeof(float));
    }
}
