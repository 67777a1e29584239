/* neon.c: up to BLOCK columns of a row of outputs at a time: each tap of the window contributes a row of bytes, gathered
 * by the stride, with 0 where the tap is outside the input: 0 changes neither a maximum nor a sum. Not timed
 * (CONTRIBUTING.md, check-neon); AVX2's shorter ways for maxima were not carried over. */
#include "engine/kernels/pool_q8/pool_q8.h"

#include "engine/kernels/q8_bytes_neon.h"

#define BLOCK 128u /* output columns */

struct row {
    uint8_t tap[4 * BLOCK], top[4 * BLOCK];
    uint32_t sum[4 * BLOCK];
    int32_t ox;                          /* first column of the block */
    size_t n;                            /* columns */
    int32_t real[BLOCK], counted[BLOCK]; /* taps of a row of the window, by column */
    int32_t zero[BLOCK + 16];            /* real elements times x_zp, by column */
    float mul[BLOCK + 16];               /* by column */
};

/* ---- gathering ---- */

/* Floor of a / b, b > 0. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* y[j] = x[2 j], n elements of `lanes` bytes; nothing behind the last is read. */
static void every_second(const uint8_t *x, size_t lanes, size_t n, uint8_t *y)
{
    size_t j = 0;
    if (lanes == 4) {
        for (; j + 4 < n; j += 4) {
            const uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(x + 8 * j));
            const uint32x4_t b = vreinterpretq_u32_u8(vld1q_u8(x + 8 * j + 16));
            vst1q_u8(y + 4 * j, vreinterpretq_u8_u32(vuzp1q_u32(a, b)));
        }
        for (; j < n; j++)
            memcpy(y + 4 * j, x + 8 * j, 4);
        return;
    }
    for (; j + 16 < n; j += 16)
        vst1q_u8(y + j, vuzp1q_u8(vld1q_u8(x + 2 * j), vld1q_u8(x + 2 * j + 16)));
    for (; j < n; j++)
        y[j] = x[2 * j];
}

static void every_nth(const uint8_t *x, size_t lanes, size_t step, size_t n, uint8_t *y)
{
    if (step == 1)
        memcpy(y, x, lanes * n);
    else if (step == 2)
        every_second(x, lanes, n, y);
    else
        for (size_t j = 0; j < n; j++)
            memcpy(y + lanes * j, x + lanes * step * j, lanes);
}

/* Tap kx of the block's outputs from the input row x into r->tap. */
static void gather_tap(const struct wn_pool_q8 *p, const uint8_t *x, int32_t kx, struct row *r)
{
    const size_t lanes = wn_q8_lanes(p->form);
    const int64_t shift = (int64_t)kx * p->dil_w - p->pad_l, first = r->ox, last = first + (int64_t)r->n;
    const int64_t from = WN_MIN(WN_MAX(-floor_div(shift, p->stride_w), first), last);
    const int64_t to = WN_MIN(WN_MAX(floor_div(p->in.w - 1 - shift, p->stride_w) + 1, from), last);
    const size_t before = (size_t)(from - first), n = (size_t)(to - from);
    memset(r->tap, 0, lanes * before);
    if (n)
        every_nth(x + (ptrdiff_t)lanes * (from * p->stride_w + shift), lanes, (size_t)p->stride_w, n,
                  r->tap + lanes * before);
    memset(r->tap + lanes * (before + n), 0, lanes * (r->n - before - n));
}

/* ---- windows ---- */

/* Whole vectors; the bytes behind the block's end are garbage that nothing uses. */
static void add_tap(struct row *r, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 16) {
        const uint8x16_t t = vld1q_u8(r->tap + i);
        const uint16x8_t lo = vmovl_u8(vget_low_u8(t)), hi = vmovl_high_u8(t);
        vst1q_u32(r->sum + i, vaddw_u16(vld1q_u32(r->sum + i), vget_low_u16(lo)));
        vst1q_u32(r->sum + i + 4, vaddw_high_u16(vld1q_u32(r->sum + i + 4), lo));
        vst1q_u32(r->sum + i + 8, vaddw_u16(vld1q_u32(r->sum + i + 8), vget_low_u16(hi)));
        vst1q_u32(r->sum + i + 12, vaddw_high_u16(vld1q_u32(r->sum + i + 12), hi));
    }
}

static void max_tap(struct row *r, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 16)
        vst1q_u8(r->top + i, vmaxq_u8(vld1q_u8(r->top + i), vld1q_u8(r->tap + i)));
}

/* The columns of a block: the same for all rows and channels. */
static void plan_columns(const struct wn_pool_q8 *p, int32_t ox, struct row *r)
{
    r->ox = ox;
    r->n = WN_MIN((size_t)(p->out.w - ox), (size_t)BLOCK);
    for (size_t c = 0; c < r->n; c++) {
        const struct wn_pool_q8_axis u = wn_pool_q8_axis_at(ox + (int32_t)c, p->kw, p->stride_w, p->dil_w, p->pad_l,
                                                            p->pad_r, p->in.w, p->count_include_pad);
        r->real[c] = u.end - u.first;
        r->counted[c] = u.counted;
    }
}

/* What the columns divide by, and what their zero points amount to, for windows with v's rows. */
static void plan_row(const struct wn_pool_q8 *p, const struct wn_pool_q8_axis *v, struct row *r)
{
    for (size_t c = 0; c < r->n && p->kind == WN_POOL_Q8_AVERAGE; c++) {
        const int32_t real = (v->end - v->first) * r->real[c];
        r->zero[c] = real * p->x_zp;
        r->mul[c] = real ? p->mul / (float)(v->counted * r->counted[c]) : 0.0f;
    }
}

/* Bytes i..i+15 of the block, averages. */
static uint8x16_t averages(const struct wn_pool_q8 *p, const struct wn_q8_neon *e, const struct row *r, size_t i)
{
    float32x4_t f[4];
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++) {
        const bool quad = p->form == WN_OUT_QUAD;
        const int32x4_t zero = quad ? vdupq_n_s32(r->zero[i / 4 + k]) : vld1q_s32(r->zero + i + 4 * k);
        const float32x4_t mul = quad ? vdupq_n_f32(r->mul[i / 4 + k]) : vld1q_f32(r->mul + i + 4 * k);
        const int32x4_t sum = vreinterpretq_s32_u32(vld1q_u32(r->sum + i + 4 * k));
        f[k] = vmulq_f32(vcvtq_f32_s32(vsubq_s32(sum, zero)), mul);
    }
    return wn_q8_neon_bytes(e, f);
}

static void finish_row(const struct wn_pool_q8 *p, const struct wn_q8_neon *e, const struct row *r, size_t c,
                       const struct wn_pool_q8_axis *v, uint8_t *y)
{
    const size_t lanes = wn_q8_lanes(p->form), bytes = r->n * lanes;
    const uint8x16_t keep = wn_q8_keep16(p->form, c, p->channels, NULL, 0, 16);
    for (size_t i = 0; i < bytes; i += 16) {
        const uint8x16_t b = p->kind == WN_POOL_Q8_AVERAGE ? averages(p, e, r, i) : vld1q_u8(r->top + i);
        wn_q8_store16(y + i, vbslq_u8(keep, b, e->pad), bytes - i);
    }
    for (size_t j = 0; j < r->n; j++)
        if (v->first == v->end || !r->real[j])
            memset(y + lanes * j, p->y_zp, lanes);
}

/* The block's outputs of row oy. */
static void pool_row(const struct wn_pool_q8 *p, const struct wn_q8_neon *e, size_t c, int32_t oy, struct row *r)
{
    const size_t lanes = wn_q8_lanes(p->form), bytes = lanes * r->n;
    const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
    uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride + lanes * ((size_t)oy * (size_t)p->out.pitch + (size_t)r->ox);
    const struct wn_pool_q8_axis v =
        wn_pool_q8_axis_at(oy, p->kh, p->stride_h, p->dil_h, p->pad_t, p->pad_b, p->in.h, p->count_include_pad);
    plan_row(p, &v, r);
    memset(r->top, 0, bytes);
    memset(r->sum, 0, wn_round_up(bytes, 16) * sizeof r->sum[0]);
    for (int32_t ky = v.first; ky < v.end; ky++) {
        const int64_t row = (int64_t)oy * p->stride_h - p->pad_t + (int64_t)ky * p->dil_h;
        for (int32_t kx = 0; kx < p->kw; kx++) {
            gather_tap(p, x + (size_t)row * (size_t)p->in.pitch * lanes, kx, r);
            (p->kind == WN_POOL_Q8_MAX ? max_tap : add_tap)(r, bytes);
        }
    }
    finish_row(p, e, r, c, &v, y);
}

void wn_pool_q8_16__neon(const struct wn_pool_q8 *p, size_t c0, size_t c1)
{
    const struct wn_q8_args q = { .y_zp = p->y_zp, .q_lo = p->q_lo, .q_hi = p->q_hi };
    const struct wn_q8_neon e = wn_q8_neon_begin(&q);
    const size_t lanes = wn_q8_lanes(p->form), h = (size_t)p->out.h, w = (size_t)p->out.w, pitch = (size_t)p->out.pitch;
    struct row r;
    for (int32_t ox = 0; ox < p->out.w; ox += (int32_t)BLOCK) {
        plan_columns(p, ox, &r);
        for (size_t c = c0; c < c1; c += lanes)
            for (int32_t oy = 0; oy < p->out.h; oy++)
                pool_row(p, &e, c, oy, &r);
    }
    for (size_t c = c0; c < c1; c += lanes)
        for (size_t i = 0; i < h; i++) { /* columns that are no pixels */
            const size_t from = i * pitch + w, to = i + 1 < h ? (i + 1) * pitch : p->out.cols;
            if (from < to)
                memset(p->y + wn_q8_plane_of(p->form, c) * p->y_stride + lanes * from, p->y_zp, lanes * (to - from));
        }
}

/* ---- the mean of a plane ---- */

/* n columns of a row into sum [lanes]. */
static void add_columns(const uint8_t *x, size_t lanes, size_t n, uint32_t sum[4])
{
    uint32x4_t acc[4] = { vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0) };
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        if (lanes == 1) {
            acc[0] = vpadalq_u16(acc[0], vpaddlq_u8(vld1q_u8(x + i)));
            continue;
        }
        const uint8x16x4_t q = vld4q_u8(x + 4 * i);
        WN_UNROLL
        for (unsigned k = 0; k < 4; k++)
            acc[k] = vpadalq_u16(acc[k], vpaddlq_u8(q.val[k]));
    }
    for (unsigned k = 0; k < lanes; k++)
        sum[k] += vaddvq_u32(acc[k]);
    for (; i < n; i++)
        for (size_t k = 0; k < lanes; k++)
            sum[k] += x[lanes * i + k];
}

void wn_pool_q8_global_16__neon(const struct wn_pool_q8_global *p, size_t c0, size_t c1)
{
    const size_t lanes = wn_q8_lanes(p->form);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
        uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride;
        uint32_t sum[4] = { 0 };
        for (int32_t i = 0; i < p->in.h; i++)
            add_columns(x + lanes * (size_t)i * (size_t)p->in.pitch, lanes, (size_t)p->in.w, sum);
        memset(y, p->y_zp, lanes * p->y_cols);
        for (size_t k = 0; k < lanes && c + k < p->channels; k++) {
            const float f = (float)((int32_t)sum[k] - p->in.h * p->in.w * p->x_zp) * p->mul;
            y[k] = wn_q8_byte(f, p->y_zp, p->q_lo, p->q_hi);
        }
    }
}
