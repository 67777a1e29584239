/* avx2.c: rows of bytes by 32, quads by 8 or 16 columns; ends of rows byte by byte. */
#include "engine/kernels/move_q8/move_q8.h"

#include "engine/kernels/q8_bytes_avx2.h"

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
        __m128i v[4];
        for (unsigned k = 0; k < 4; k++)
            v[k] = _mm_loadu_si128((const __m128i *)(r->row[k] + r->step[k] * (at + i)));
        __m128i lo01 = _mm_unpacklo_epi8(v[0], v[1]), hi01 = _mm_unpackhi_epi8(v[0], v[1]);
        __m128i lo23 = _mm_unpacklo_epi8(v[2], v[3]), hi23 = _mm_unpackhi_epi8(v[2], v[3]);
        _mm_storeu_si128((__m128i *)(y + 4 * i), _mm_unpacklo_epi16(lo01, lo23));
        _mm_storeu_si128((__m128i *)(y + 4 * i + 16), _mm_unpackhi_epi16(lo01, lo23));
        _mm_storeu_si128((__m128i *)(y + 4 * i + 32), _mm_unpacklo_epi16(hi01, hi23));
        _mm_storeu_si128((__m128i *)(y + 4 * i + 48), _mm_unpackhi_epi16(hi01, hi23));
    }
    for (; i < n; i++)
        for (unsigned k = 0; k < 4; k++)
            y[4 * i + k] = r->row[k][r->step[k] * (at + i)];
}

/* The first nrows of four rows. */
static void deinterleave(const uint8_t *x, size_t n, uint8_t *const row[4], size_t nrows)
{
    const __m128i by_row = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128 v[4];
        for (unsigned k = 0; k < 4; k++) {
            __m128i q = _mm_loadu_si128((const __m128i *)(x + 4 * i + 16 * k));
            v[k] = _mm_castsi128_ps(_mm_shuffle_epi8(q, by_row));
        }
        _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
        for (size_t k = 0; k < nrows; k++)
            _mm_storeu_si128((__m128i *)(row[k] + i), _mm_castps_si128(v[k]));
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
    size_t bytes = n * wn_q8_lanes(form);
    const __m256i pad = _mm256_set1_epi8((char)zp);
    for (size_t i = 0; mask && i < bytes; i += 32) {
        __m256i keep = wn_q8_keep32(form, 0, 4, mask, i, bytes);
        wn_q8_store32(y + i, _mm256_blendv_epi8(pad, wn_q8_load32(y + i, bytes - i), keep), bytes - i);
    }
}

/* ---- columns ---- */
#define BLOCK 512u /* columns quantized at a time: four rows of bytes stay in L1 until they are interleaved */

/* minps and maxps answer their second operand where one is NaN. */
void wn_move_q8_range_32__avx2(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2])
{
    __m256 lo[4], hi[4];
    for (unsigned k = 0; k < 4; k++) {
        lo[k] = _mm256_set1_ps(range[0]);
        hi[k] = _mm256_set1_ps(range[1]);
    }
    for (size_t o = c0; o < c1; o++) {
        const float *row = (const float *)(const void *)((const char *)x + o * x_stride);
        size_t c = 0;
        for (; c + 32 <= n; c += 32)
            for (unsigned k = 0; k < 4; k++) {
                const __m256 v = _mm256_loadu_ps(row + c + 8 * k);
                lo[k] = _mm256_min_ps(v, lo[k]);
                hi[k] = _mm256_max_ps(v, hi[k]);
            }
        for (; c < n; c++) {
            const __m256 v = _mm256_set1_ps(row[c]);
            lo[0] = _mm256_min_ps(v, lo[0]);
            hi[0] = _mm256_max_ps(v, hi[0]);
        }
    }
    lo[0] = _mm256_min_ps(_mm256_min_ps(lo[0], lo[1]), _mm256_min_ps(lo[2], lo[3]));
    hi[0] = _mm256_max_ps(_mm256_max_ps(hi[0], hi[1]), _mm256_max_ps(hi[2], hi[3]));
    float l[8], h[8];
    _mm256_storeu_ps(l, lo[0]);
    _mm256_storeu_ps(h, hi[0]);
    for (unsigned k = 0; k < 8; k++) {
        range[0] = l[k] < range[0] ? l[k] : range[0];
        range[1] = h[k] > range[1] ? h[k] : range[1];
    }
}

/* n columns of one row. */
static void quantize_row(const struct wn_q8_avx2 *e, const float *x, __m256 scale, size_t n, uint8_t *y)
{
    for (size_t i = 0; i < n; i += 32) {
        float part[32] = { 0 };
        const float *p = x + i;
        if (n - i < 32) {
            memcpy(part, p, (n - i) * sizeof *p);
            p = part;
        }
        __m256 f[4];
        for (unsigned k = 0; k < 4; k++) {
            __m256 v = _mm256_loadu2_m128(p + 4 * k + 16, p + 4 * k);
            v = _mm256_div_ps(v, scale);
            f[k] = _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
        }
        wn_q8_store32(y + i, wn_q8_narrow(e, f), n - i);
    }
}

void wn_move_q8_quantize_32__avx2(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    struct wn_q8_args q = { .y_zp = args->zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    const struct wn_q8_avx2 e = wn_q8_avx2_begin(&q);
    const __m256 scale = _mm256_set1_ps(args->scale);
    size_t lanes = wn_q8_lanes(args->form);
    uint8_t block[4][BLOCK] __attribute__((aligned(32)));
    for (size_t o = c0; o < c1; o += lanes) {
        uint8_t *y = (uint8_t *)args->y + o / lanes * args->y_stride;
        for (size_t c = 0; c < args->n; c += BLOCK) {
            size_t n = WN_MIN(args->n - c, (size_t)BLOCK);
            struct rows r = { .row = { block[0], block[1], block[2], block[3] }, .step = { 1, 1, 1, 1 } };
            for (size_t k = 0; k < lanes; k++) {
                if (o + k >= args->channels) {
                    memset(block[k], args->zp, n);
                    continue;
                }
                const float *x = (const float *)(const void *)((const char *)args->x + (o + k) * args->x_stride);
                quantize_row(&e, x + c, scale, n, lanes == 1 ? y + c : block[k]);
            }
            if (lanes == 4)
                interleave(&r, 0, n, y + 4 * c);
        }
        mask_bytes(y, args->form, args->n, args->mask, args->zp);
    }
}

static void dequantize_row(const struct wn_move_q8 *args, const uint8_t *x, size_t c, size_t n, float *y)
{
    const __m256i zp = _mm256_set1_epi32(args->zp);
    const __m256 scale = _mm256_set1_ps(args->scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(x + i)));
        __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(v, zp)), scale);
        if (args->mask)
            f = _mm256_and_ps(f, _mm256_loadu_ps((const float *)(const void *)(args->mask + c + i)));
        _mm256_storeu_ps(y + i, f);
    }
    for (; i < n; i++)
        y[i] = !args->mask || args->mask[c + i] ? (float)(x[i] - args->zp) * args->scale : 0.0f;
}

void wn_move_q8_dequantize_32__avx2(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form);
    uint8_t block[4][BLOCK];
    uint8_t *const row[4] = { block[0], block[1], block[2], block[3] };
    for (size_t o = c0; o < c1; o += lanes) {
        const uint8_t *x = (const uint8_t *)args->x + o / lanes * args->x_stride;
        size_t nrows = WN_MIN(c1 - o, lanes);
        for (size_t c = 0; c < args->n; c += BLOCK) {
            size_t n = WN_MIN(args->n - c, (size_t)BLOCK);
            if (lanes == 4)
                deinterleave(x + 4 * c, n, row, nrows);
            for (size_t k = 0; k < nrows; k++) {
                float *y = (float *)(void *)((char *)args->y + (o + k) * args->y_stride);
                dequantize_row(args, lanes == 4 ? block[k] : x + c, c, n, y + c);
            }
        }
    }
}

void wn_move_q8_to_planes_32__avx2(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    for (size_t o = c0; o < c1; o += 4) {
        size_t nrows = WN_MIN(c1 - o, (size_t)4);
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

void wn_move_q8_to_quads_32__avx2(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    uint8_t pad[16];
    memset(pad, args->zp, sizeof pad);
    for (size_t o = c0; o < c1; o += 4) {
        struct rows r = rows_of(args->x, args->x_stride, o, args->channels, pad);
        uint8_t *y = (uint8_t *)args->y + o / 4 * args->y_stride;
        interleave(&r, 0, args->n, y);
        mask_bytes(y, WN_OUT_QUAD, args->n, args->mask, args->zp);
    }
}

/* ---- images ---- */
void wn_move_q8_import_32__avx2(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch, lanes = wn_q8_lanes(args->form);
    uint8_t pad[16];
    memset(pad, args->zp, sizeof pad);
    for (size_t o = c0; o < c1; o += lanes) {
        struct rows r = rows_of(args->x, h * w, o, args->channels, pad);
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

void wn_move_q8_export_32__avx2(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch, lanes = wn_q8_lanes(args->form);
    for (size_t o = c0; o < c1; o += lanes) {
        const uint8_t *x = args->x + o / lanes * args->stride;
        size_t nrows = WN_MIN(c1 - o, lanes);
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
