/* planes.c: see planes.h. */
#include "engine/kernels/move/planes.h"

#include <emmintrin.h>
#include <string.h>

/* ---- contiguous images ---- */
void wn_move_nchw_to_plane_f32(const float *src, size_t channels, const struct wn_plane *plane, float *dst)
{
    const size_t w = (size_t)plane->w;
    for (size_t c = 0; c < channels; c++, dst += plane->stride)
        for (int32_t y = 0; y < plane->h; y++, src += w) {
            float *row = dst + y * (ptrdiff_t)plane->pitch;
            const float *end = y + 1 < plane->h ? row + plane->pitch : dst + plane->cols;
            memcpy(row, src, w * sizeof *row);
            memset(row + w, 0, (size_t)(end - row - (ptrdiff_t)w) * sizeof *row);
        }
}

void wn_move_plane_to_nchw_f32(const float *src, size_t channels, const struct wn_plane *plane, float *dst)
{
    const size_t w = (size_t)plane->w;
    for (size_t c = 0; c < channels; c++, src += plane->stride)
        for (int32_t y = 0; y < plane->h; y++, dst += w)
            memcpy(dst, src + y * (ptrdiff_t)plane->pitch, w * sizeof *dst);
}

/* ---- stride phases ---- */
/* Two phases of a row of n elements: even ones to a, odd ones to b. */
static void halve_4(const uint32_t *src, size_t n, uint32_t *a, uint32_t *b)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128 lo = _mm_loadu_ps((const float *)(const void *)(src + i));
        const __m128 hi = _mm_loadu_ps((const float *)(const void *)(src + i + 4));
        _mm_storeu_ps((float *)(void *)(a + i / 2), _mm_shuffle_ps(lo, hi, 0x88));
        _mm_storeu_ps((float *)(void *)(b + i / 2), _mm_shuffle_ps(lo, hi, 0xdd));
    }
    for (; i + 2 <= n; i += 2) {
        a[i / 2] = src[i];
        b[i / 2] = src[i + 1];
    }
    if (i < n)
        a[i / 2] = src[i];
}

static void halve_1x32(const uint8_t *src, uint8_t *a, uint8_t *b)
{
    const __m128i low = _mm_set1_epi16(0x00ff);
    const __m128i lo = _mm_loadu_si128((const __m128i *)(const void *)src);
    const __m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
    _mm_storeu_si128((__m128i *)(void *)a, _mm_packus_epi16(_mm_and_si128(lo, low), _mm_and_si128(hi, low)));
    _mm_storeu_si128((__m128i *)(void *)b, _mm_packus_epi16(_mm_srli_epi16(lo, 8), _mm_srli_epi16(hi, 8)));
}

static void halve_1x8(const uint8_t *src, uint8_t *a, uint8_t *b)
{
    const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)src), zero = _mm_setzero_si128();
    const int even = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_and_si128(v, _mm_set1_epi16(0x00ff)), zero));
    const int odd = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_srli_epi16(v, 8), zero));
    memcpy(a, &even, 4);
    memcpy(b, &odd, 4);
}

/* What is left at the end is done once more together with what stands before it, where that is enough. */
static void halve_1(const uint8_t *src, size_t n, uint8_t *a, uint8_t *b)
{
    const size_t even = n & ~(size_t)1;
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        halve_1x32(src + i, a + i / 2, b + i / 2);
    if (i < even && n >= 32) {
        i = even - 32;
        halve_1x32(src + i, a + i / 2, b + i / 2);
        i = even;
    }
    for (; i + 8 <= n; i += 8)
        halve_1x8(src + i, a + i / 2, b + i / 2);
    if (i < even && n >= 8) {
        i = even - 8;
        halve_1x8(src + i, a + i / 2, b + i / 2);
        i = even;
    }
    for (; i < n; i++)
        (i % 2 ? b : a)[i / 2] = src[i];
}

/* The most phases there are: strides of 8 (a larger stride has no window in a plan). */
static const int8_t in_order[64] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                     32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                     48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63 };

/* Does anybody read one of these phases? */
static bool wanted(const int8_t *slot, int32_t sw)
{
    for (int32_t px = 0; px < sw; px++)
        if (slot[px] >= 0)
            return true;
    return false;
}

static __m128i splat_1(uint8_t value)
{
    return _mm_set1_epi8((char)value);
}

static __m128i splat_4(uint32_t value)
{
    return _mm_set1_epi32((int)value);
}

/* One pass per element type: rows of src in order, each to the sw phases of its row phase; then the pads. */
#define PHASES(bits, type)                                                                                             \
    /* n elements; `room` may be written, for what lies behind them is written later. */                               \
    static void fill_##bits(type *p, size_t n, size_t room, type value)                                                \
    {                                                                                                                  \
        if (n <= 16 / sizeof value && room >= 16 / sizeof value) {                                                     \
            _mm_storeu_si128((__m128i *)(void *)p, splat_##bits(value));                                               \
            return;                                                                                                    \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++)                                                                                 \
            p[i] = value;                                                                                              \
    }                                                                                                                  \
    static void split_row_##bits(const type *src, int32_t w, type *dst, size_t phase, const int8_t *slot, int32_t sw)  \
    {                                                                                                                  \
        if (sw == 1) {                                                                                                 \
            if (slot[0] >= 0)                                                                                          \
                memcpy(dst + (size_t)slot[0] * phase, src, (size_t)w * sizeof *dst);                                   \
            return;                                                                                                    \
        }                                                                                                              \
        if (sw == 2) {                                                                                                 \
            type other[128]; /* for the phase that nobody reads */                                                     \
            type *even = dst + (size_t)WN_MAX(slot[0], 0) * phase, *odd = dst + (size_t)WN_MAX(slot[1], 0) * phase;    \
            for (int32_t x = 0; x < w && (slot[0] >= 0 || slot[1] >= 0); x += 256)                                     \
                halve_##bits(src + x, (size_t)WN_MIN(w - x, 256), slot[0] < 0 ? other : even + x / 2,                  \
                             slot[1] < 0 ? other : odd + x / 2);                                                       \
            return;                                                                                                    \
        }                                                                                                              \
        for (int32_t px = 0; px < sw; px++)                                                                            \
            for (int32_t x = px, i = 0; slot[px] >= 0 && x < w; x += sw, i++)                                          \
                dst[(size_t)slot[px] * phase + (size_t)i] = src[x];                                                    \
    }                                                                                                                  \
    void wn_move_phases_##bits(const void *src_, const struct wn_plane *sp, size_t channels, void *dst_,               \
                               const struct wn_plane *dp, size_t phase, const int8_t *slot, int32_t sh, int32_t sw,    \
                               type pad)                                                                               \
    {                                                                                                                  \
        slot = slot ? slot : in_order;                                                                                 \
        const type *src = src_;                                                                                        \
        type *dst = dst_;                                                                                              \
        const int32_t w = WN_MIN(sp->w, dp->w * sw);                                                                   \
        size_t have[8]; /* elements of a row, by column phase */                                                       \
        for (int32_t px = 0; px < sw; px++)                                                                            \
            have[px] = w > px ? (size_t)((w - px + sw - 1) / sw) : 0;                                                  \
        for (size_t c = 0; c < channels; c++, src += sp->stride, dst += dp->stride)                                    \
            for (int32_t py = 0; py < sh; py++) {                                                                      \
                const int8_t *to = slot + py * sw;                                                                     \
                size_t left = dp->cols;                                                                                \
                for (int32_t y = 0; wanted(to, sw) && y < dp->h; y++, left -= (size_t)dp->pitch) {                     \
                    const int32_t sy = y * sh + py;                                                                    \
                    type *row = dst + (size_t)y * (size_t)dp->pitch;                                                   \
                    const size_t all = y + 1 < dp->h ? (size_t)dp->pitch : left;                                       \
                    if (sy < sp->h)                                                                                    \
                        split_row_##bits(src + (size_t)sy * (size_t)sp->pitch, w, row, phase, to, sw);                 \
                    for (int32_t px = 0; px < sw; px++) {                                                              \
                        const size_t n = sy < sp->h ? have[px] : 0;                                                    \
                        if (to[px] >= 0)                                                                               \
                            fill_##bits(row + (size_t)to[px] * phase + n, all - n, left - n, pad);                     \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
    }
PHASES(4, uint32_t)
PHASES(1, uint8_t)

/* ---- transposes ---- */
/* dst[j * dst_stride + i] = src[i * src_stride + j], i, j < 4 */
static void transpose4(const float *src, size_t src_stride, float *dst, size_t dst_stride)
{
    __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + src_stride), c = _mm_loadu_ps(src + 2 * src_stride),
           d = _mm_loadu_ps(src + 3 * src_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(dst, a);
    _mm_storeu_ps(dst + dst_stride, b);
    _mm_storeu_ps(dst + 2 * dst_stride, c);
    _mm_storeu_ps(dst + 3 * dst_stride, d);
}

/* (n, k) -> (k, n) in blocks of 16 x 16: whole cache lines on both sides. */
static void transpose(const float *src, size_t src_stride, size_t n, size_t k, float *dst, size_t dst_stride)
{
    for (size_t i0 = 0; i0 < n; i0 += 16)
        for (size_t j0 = 0; j0 < k; j0 += 16) {
            const size_t i1 = WN_MIN(i0 + 16, n), j1 = WN_MIN(j0 + 16, k), i4 = i0 + (i1 - i0) / 4 * 4;
            size_t j = j0;
            for (; j + 4 <= j1; j += 4) {
                for (size_t i = i0; i < i4; i += 4)
                    transpose4(src + i * src_stride + j, src_stride, dst + j * dst_stride + i, dst_stride);
                for (size_t i = i4; i < i1; i++)
                    for (size_t jj = j; jj < j + 4; jj++)
                        dst[jj * dst_stride + i] = src[i * src_stride + jj];
            }
            for (; j < j1; j++)
                for (size_t i = i0; i < i1; i++)
                    dst[j * dst_stride + i] = src[i * src_stride + j];
        }
}

void wn_move_rows_to_columns_f32(const float *src, size_t src_stride, size_t n, size_t k, float *dst, size_t dst_stride,
                                 size_t cols)
{
    transpose(src, src_stride, n, k, dst, dst_stride);
    for (size_t j = 0; cols > n && j < k; j++)
        memset(dst + j * dst_stride + n, 0, (cols - n) * sizeof *dst);
}

void wn_move_columns_to_rows_f32(const float *src, size_t src_stride, size_t n, size_t k, float *dst, size_t dst_stride)
{
    transpose(src, src_stride, k, n, dst, dst_stride);
}
