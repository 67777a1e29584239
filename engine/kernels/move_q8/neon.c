/* neon.c: rows of bytes and quads by 16 columns, which loads and stores of four registers take apart and put together;
 * ends of rows byte by byte. */
#include "engine/kernels/move_q8/rows.h"
#include "engine/kernels/q8_bytes_neon.h"

/* ---- four rows of bytes <-> quads; any n, nothing over-read or over-written ---- */
static void interleave(const struct rows *r, size_t at, size_t n, uint8_t *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint8x16x4_t q;
        WN_UNROLL
        for (unsigned k = 0; k < 4; k++)
            q.val[k] = vld1q_u8(r->row[k] + r->step[k] * (at + i));
        vst4q_u8(y + 4 * i, q);
    }
    for (; i < n; i++)
        for (unsigned k = 0; k < 4; k++)
            y[4 * i + k] = r->row[k][r->step[k] * (at + i)];
}

/* The first nrows of four rows. */
static void deinterleave(const uint8_t *x, size_t n, uint8_t *const row[4], size_t nrows)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint8x16x4_t q = vld4q_u8(x + 4 * i);
        vst1q_u8(row[0] + i, q.val[0]);
        if (nrows > 1)
            vst1q_u8(row[1] + i, q.val[1]);
        if (nrows > 2)
            vst1q_u8(row[2] + i, q.val[2]);
        if (nrows > 3)
            vst1q_u8(row[3] + i, q.val[3]);
    }
    for (; i < n; i++)
        for (size_t k = 0; k < nrows; k++)
            row[k][i] = x[4 * i + k];
}

static void mask_bytes(uint8_t *y, enum wn_q8_out form, size_t n, const uint32_t *mask, int32_t zp)
{
    const size_t bytes = n * wn_q8_lanes(form);
    const uint8x16_t pad = vdupq_n_u8((uint8_t)zp);
    for (size_t i = 0; mask && i < bytes; i += 16) {
        const uint8x16_t keep = wn_q8_keep16(form, 0, 4, mask, i, bytes);
        wn_q8_store16(y + i, vbslq_u8(keep, wn_q8_load16(y + i, bytes - i), pad), bytes - i);
    }
}

/* ---- columns ---- */
void wn_move_q8_range_16__neon(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2])
{
    float32x4_t lo[4], hi[4];
    for (unsigned k = 0; k < 4; k++) {
        lo[k] = vdupq_n_f32(range[0]);
        hi[k] = vdupq_n_f32(range[1]);
    }
    for (size_t o = c0; o < c1; o++) {
        const float *row = (const float *)(const void *)((const char *)x + o * x_stride);
        size_t c = 0;
        for (; c + 16 <= n; c += 16) {
            WN_UNROLL
            for (unsigned k = 0; k < 4; k++) {
                const float32x4_t v = vld1q_f32(row + c + 4 * k);
                lo[k] = wn_q8_neon_min(v, lo[k]);
                hi[k] = wn_q8_neon_max(v, hi[k]);
            }
        }
        for (; c < n; c++) {
            range[0] = row[c] < range[0] ? row[c] : range[0];
            range[1] = row[c] > range[1] ? row[c] : range[1];
        }
    }
    for (unsigned k = 0; k < 4; k++) {
        float l[4], h[4];
        vst1q_f32(l, lo[k]);
        vst1q_f32(h, hi[k]);
        for (unsigned i = 0; i < 4; i++) {
            range[0] = l[i] < range[0] ? l[i] : range[0];
            range[1] = h[i] > range[1] ? h[i] : range[1];
        }
    }
}

struct quantizer {
    struct wn_q8_neon e;
    float scale;
};

static struct quantizer quantizer_of(const struct wn_move_q8 *args)
{
    const struct wn_q8_args q = { .y_zp = args->zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    return (struct quantizer){ wn_q8_neon_begin(&q), args->scale };
}

/* n columns of one row. */
static void quantize_row(const struct quantizer *q, const float *x, size_t n, uint8_t *y)
{
    for (size_t i = 0; i < n; i += 16) {
        float part[16] = { 0 };
        const float *p = x + i;
        if (n - i < 16) {
            memcpy(part, p, (n - i) * sizeof *p);
            p = part;
        }
        float32x4_t f[4];
        WN_UNROLL
        for (unsigned k = 0; k < 4; k++) {
            const float32x4_t v = vdivq_f32(vld1q_f32(p + 4 * k), vdupq_n_f32(q->scale));
            f[k] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vceqq_f32(v, v)));
        }
        wn_q8_store16(y + i, wn_q8_neon_bytes(&q->e, f), n - i);
    }
}

static void dequantize_row(const struct wn_move_q8 *args, const uint8_t *x, size_t c, size_t n, float *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int32x4_t v[4];
        wn_q8_neon_widen(vld1q_u8(x + i), v);
        WN_UNROLL
        for (unsigned k = 0; k < 4; k++) {
            float32x4_t f = vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(v[k], vdupq_n_s32(args->zp))), args->scale);
            if (args->mask)
                f = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(f), vld1q_u32(args->mask + c + i + 4 * k)));
            vst1q_f32(y + i + 4 * k, f);
        }
    }
    for (; i < n; i++)
        y[i] = !args->mask || args->mask[c + i] ? (float)(x[i] - args->zp) * args->scale : 0.0f;
}

#define NAME(what) wn_move_q8_##what##_16__neon
#include "engine/kernels/move_q8/loops.inc"
