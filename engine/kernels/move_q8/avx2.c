/* avx2.c: rows of bytes by 32, quads by 8 or 16 columns; ends of rows byte by byte. */
#include "engine/kernels/move_q8/rows.h"
#include "engine/kernels/q8_bytes_avx2.h"

/* ---- four rows of bytes <-> quads; any n, nothing over-read or over-written ---- */
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

struct quantizer {
    struct wn_q8_avx2 e;
    __m256 scale, inverse, half;
};

static struct quantizer quantizer_of(const struct wn_move_q8 *args)
{
    const struct wn_q8_args q = { .y_zp = args->zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    const float inverse = 1 / args->scale;
    return (struct quantizer){ wn_q8_avx2_begin(&q), _mm256_set1_ps(args->scale), _mm256_set1_ps(inverse),
                               _mm256_set1_ps(wn_move_q8_half(args->scale, inverse)) };
}

/* rne(x / scale) of 32 columns as the reference has it. NaN counts as 0. */
static __attribute__((noinline)) __m256i divided(const struct quantizer *q, const float *p)
{
    __m256 f[4];
    for (unsigned k = 0; k < 4; k++) {
        __m256 v = _mm256_div_ps(_mm256_loadu2_m128(p + 4 * k + 16, p + 4 * k), q->scale);
        f[k] = _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
    }
    return wn_q8_narrow(&q->e, f);
}

/* The bytes of 32 columns; the division is done only where one of them lies beside a tie (move_q8.h). */
WN_Q8_INLINE __m256i quantized(const struct quantizer *q, const float *p)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 near = _mm256_castsi256_ps(_mm256_set1_epi32(-1)); /* all distances from integers are */
    __m256i i[4];
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++) {
        const __m256 v = _mm256_mul_ps(_mm256_loadu2_m128(p + 4 * k + 16, p + 4 * k), q->inverse);
        i[k] = _mm256_cvtps_epi32(v);
        const __m256 d = _mm256_andnot_ps(sign, _mm256_sub_ps(v, _mm256_cvtepi32_ps(i[k])));
        near = _mm256_and_ps(near, _mm256_cmp_ps(d, q->half, _CMP_LE_OQ)); /* not of NaN and infinities */
    }
    if (WN_UNLIKELY(_mm256_movemask_ps(near) != 0xff))
        return divided(q, p);
    return wn_q8_narrow_i32(&q->e, i);
}

/* n columns of one row. */
static void quantize_row(const struct quantizer *q, const float *x, size_t n, uint8_t *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(y + i), quantized(q, x + i));
    if (i < n) {
        float part[32] = { 0 };
        memcpy(part, x + i, (n - i) * sizeof *part);
        wn_q8_store32(y + i, quantized(q, part), n - i);
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

#define NAME(what) wn_move_q8_##what##_32__avx2
#include "engine/kernels/move_q8/loops.inc"
