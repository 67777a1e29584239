/* neon.c: rows of bytes and quads by 16 columns, which loads and stores of four registers take apart and put together;
 * ends of rows byte by byte. */
#include "engine/kernels/move_q8/move_q8.h"

#include "engine/kernels/q8_bytes_neon.h"

/* ---- four rows of bytes <-> quads; any n, nothing over-read or over-written ---- */
/* A lane of padding reads a row of zero points that stands still. */
struct rows {
    const uint8_t *row[4];
    size_t step[4]; /* 1, or 0 for padding */
};

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

static void fill(uint8_t *y, size_t lanes, size_t from, size_t to, int32_t zp)
{
    if (from < to)
        memset(y + lanes * from, zp, lanes * (to - from));
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
#define BLOCK 512u /* columns quantized at a time: four rows of bytes stay in L1 until they are interleaved */

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

/* n columns of one row. */
static void quantize_row(const struct wn_q8_neon *e, const float *x, float scale, size_t n, uint8_t *y)
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
            const float32x4_t v = vdivq_f32(vld1q_f32(p + 4 * k), vdupq_n_f32(scale));
            f[k] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vceqq_f32(v, v)));
        }
        wn_q8_store16(y + i, wn_q8_neon_bytes(e, f), n - i);
    }
}

void wn_move_q8_quantize_16__neon(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    const struct wn_q8_args q = { .y_zp = args->zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    const struct wn_q8_neon e = wn_q8_neon_begin(&q);
    const size_t lanes = wn_q8_lanes(args->form);
    uint8_t block[4][BLOCK];
    for (size_t o = c0; o < c1; o += lanes) {
        uint8_t *y = (uint8_t *)args->y + o / lanes * args->y_stride;
        for (size_t c = 0; c < args->n; c += BLOCK) {
            const size_t n = WN_MIN(args->n - c, (size_t)BLOCK);
            const struct rows r = { .row = { block[0], block[1], block[2], block[3] }, .step = { 1, 1, 1, 1 } };
            for (size_t k = 0; k < lanes; k++) {
                if (o + k >= args->channels) {
                    memset(block[k], args->zp, n);
                    continue;
                }
                const float *x = (const float *)(const void *)((const char *)args->x + (o + k) * args->x_stride);
                quantize_row(&e, x + c, args->scale, n, lanes == 1 ? y + c : block[k]);
            }
            if (lanes == 4)
                interleave(&r, 0, n, y + 4 * c);
        }
        mask_bytes(y, args->form, args->n, args->mask, args->zp);
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

void wn_move_q8_dequantize_16__neon(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    const size_t lanes = wn_q8_lanes(args->form);
    uint8_t block[4][BLOCK];
    uint8_t *const row[4] = { block[0], block[1], block[2], block[3] };
    for (size_t o = c0; o < c1; o += lanes) {
        const uint8_t *x = (const uint8_t *)args->x + o / lanes * args->x_stride;
        const size_t nrows = WN_MIN(c1 - o, lanes);
        for (size_t c = 0; c < args->n; c += BLOCK) {
            const size_t n = WN_MIN(args->n - c, (size_t)BLOCK);
            if (lanes == 4)
                deinterleave(x + 4 * c, n, row, nrows);
            for (size_t k = 0; k < nrows; k++) {
                float *y = (float *)(void *)((char *)args->y + (o + k) * args->y_stride);
                dequantize_row(args, lanes == 4 ? block[k] : x + c, c, n, y + c);
            }
        }
    }
}

void wn_move_q8_to_planes_16__neon(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    for (size_t o = c0; o < c1; o += 4) {
        const size_t nrows = WN_MIN(c1 - o, (size_t)4);
        uint8_t *row[4] = { 0 };
        for (size_t k = 0; k < nrows; k++)
            row[k] = (uint8_t *)args->y + (o + k) * args->y_stride;
        deinterleave((const uint8_t *)args->x + o / 4 * args->x_stride, args->n, row, nrows);
        for (size_t k = 0; k < nrows; k++)
            mask_bytes(row[k], WN_OUT_PLANE, args->n, args->mask, args->zp);
    }
}

/* Four rows of planes at x from channel o on; rows past `channels` read pad (16 zero points). */
static struct rows rows_of(const uint8_t *x, size_t stride, size_t o, size_t channels, const uint8_t *pad)
{
    struct rows r;
    for (size_t k = 0; k < 4; k++) {
        r.step[k] = o + k < channels;
        r.row[k] = o + k < channels ? x + (o + k) * stride : pad;
    }
    return r;
}

void wn_move_q8_to_quads_16__neon(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    uint8_t pad[16];
    memset(pad, args->zp, sizeof pad);
    for (size_t o = c0; o < c1; o += 4) {
        const struct rows r = rows_of(args->x, args->x_stride, o, args->channels, pad);
        uint8_t *y = (uint8_t *)args->y + o / 4 * args->y_stride;
        interleave(&r, 0, args->n, y);
        mask_bytes(y, WN_OUT_QUAD, args->n, args->mask, args->zp);
    }
}

/* ---- images ---- */
void wn_move_q8_import_16__neon(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    const size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch, lanes = wn_q8_lanes(args->form);
    uint8_t pad[16];
    memset(pad, args->zp, sizeof pad);
    for (size_t o = c0; o < c1; o += lanes) {
        const struct rows r = rows_of(args->x, h * w, o, args->channels, pad);
        uint8_t *y = args->y + o / lanes * args->stride;
        for (size_t i = 0; i < h; i++) {
            if (lanes == 4)
                interleave(&r, i * w, w, y + 4 * i * pitch);
            else
                memcpy(y + i * pitch, r.row[0] + i * w, w);
            fill(y, lanes, i * pitch + w, i + 1 < h ? (i + 1) * pitch : args->cols, args->zp);
        }
    }
}

void wn_move_q8_export_16__neon(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    const size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch, lanes = wn_q8_lanes(args->form);
    for (size_t o = c0; o < c1; o += lanes) {
        const uint8_t *x = args->x + o / lanes * args->stride;
        const size_t nrows = WN_MIN(c1 - o, lanes);
        for (size_t i = 0; i < h; i++) {
            uint8_t *row[4] = { 0 };
            for (size_t k = 0; k < nrows; k++)
                row[k] = args->y + ((o + k) * h + i) * w;
            if (lanes == 4)
                deinterleave(x + 4 * i * pitch, w, row, nrows);
            else
                memcpy(row[0], x + i * pitch, w);
        }
    }
}
