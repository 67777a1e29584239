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
#define ROWS_INLINE static inline __attribute__((always_inline)) void

/* Two phases of a row of n elements: even ones to a, odd ones to b. `room` elements of each may be written, for what
 * lies behind the row's is written later. */
ROWS_INLINE halve_4(const uint32_t *src, size_t n, size_t room, uint32_t *a, uint32_t *b)
{
    size_t i = 0;
    for (; i + (room >= 4 ? 1 : 8) <= n; i += 8, room -= WN_MIN(room, (size_t)4)) {
        const __m128 lo = _mm_loadu_ps((const float *)(const void *)(src + i));
        const __m128 hi = _mm_loadu_ps((const float *)(const void *)(src + i + 4));
        _mm_storeu_ps((float *)(void *)(a + i / 2), _mm_shuffle_ps(lo, hi, 0x88));
        _mm_storeu_ps((float *)(void *)(b + i / 2), _mm_shuffle_ps(lo, hi, 0xdd));
    }
    for (; i < n; i++)
        (i % 2 ? b : a)[i / 2] = src[i];
}

ROWS_INLINE halve_1x32(const uint8_t *src, uint8_t *a, uint8_t *b)
{
    const __m128i low = _mm_set1_epi16(0x00ff);
    const __m128i lo = _mm_loadu_si128((const __m128i *)(const void *)src);
    const __m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
    _mm_storeu_si128((__m128i *)(void *)a, _mm_packus_epi16(_mm_and_si128(lo, low), _mm_and_si128(hi, low)));
    _mm_storeu_si128((__m128i *)(void *)b, _mm_packus_epi16(_mm_srli_epi16(lo, 8), _mm_srli_epi16(hi, 8)));
}

ROWS_INLINE halve_1(const uint8_t *src, size_t n, size_t room, uint8_t *a, uint8_t *b)
{
    size_t i = 0;
    for (; i + (room >= 16 ? 1 : 32) <= n; i += 32, room -= WN_MIN(room, (size_t)16))
        halve_1x32(src + i, a + i / 2, b + i / 2);
    for (; i < n; i++)
        (i % 2 ? b : a)[i / 2] = src[i];
}

/* The most phases there are: strides of 8 (a larger stride has no window in a plan). */
static const int8_t in_order[64] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                     32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                     48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63 };

static __m128i splat_1(uint8_t value)
{
    return _mm_set1_epi8((char)value);
}

static __m128i splat_4(uint32_t value)
{
    return _mm_set1_epi32((int)value);
}

/* One pass per element type: rows of src in order, each to the sw phases of its row phase; then the pads. What the
 * loops need is copied into variables of their own: bytes that are stored might be anything else's. `to` [sw]: where
 * the phases are, NULL: not wanted. */
#define PHASES(bits, type)                                                                                             \
    /* n elements; `room` may be written, for what lies behind them is written later. */                               \
    ROWS_INLINE fill_##bits(type *p, size_t n, size_t room, type value)                                                \
    {                                                                                                                  \
        if (n <= 16 / sizeof value && room >= 16 / sizeof value) {                                                     \
            _mm_storeu_si128((__m128i *)(void *)p, splat_##bits(value));                                               \
            return;                                                                                                    \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++)                                                                                 \
            p[i] = value;                                                                                              \
    }                                                                                                                  \
    ROWS_INLINE split_row_##bits(const type *src, size_t w, type *const *to, size_t at, size_t room, size_t sw)        \
    {                                                                                                                  \
        if (sw == 1) {                                                                                                 \
            memcpy(to[0] + at, src, w * sizeof *src);                                                                  \
            return;                                                                                                    \
        }                                                                                                              \
        if (sw == 2) {                                                                                                 \
            type other[128]; /* for the phase that nobody reads */                                                     \
            for (size_t x = 0; x < w; x += 256)                                                                        \
                halve_##bits(src + x, WN_MIN(w - x, (size_t)256), room - x / 2, to[0] ? to[0] + at + x / 2 : other,    \
                             to[1] ? to[1] + at + x / 2 : other);                                                      \
            return;                                                                                                    \
        }                                                                                                              \
        for (size_t px = 0; px < sw; px++)                                                                             \
            for (size_t x = px, i = 0; to[px] && x < w; x += sw, i++)                                                  \
                to[px][at + i] = src[x];                                                                               \
    }                                                                                                                  \
    /* Row phase py of a channel. */                                                                                   \
    ROWS_INLINE split_##bits(const type *src, const struct wn_plane *sp, const struct wn_plane *dp, type *const *to,   \
                             size_t sh, size_t py, size_t sw, type pad)                                                \
    {                                                                                                                  \
        const size_t w = WN_MIN((size_t)sp->w, (size_t)dp->w * sw), h = (size_t)sp->h, dh = (size_t)dp->h;             \
        const size_t step = sh * (size_t)sp->pitch, pitch = (size_t)dp->pitch;                                         \
        size_t left = dp->cols, have[8]; /* elements of a row, by column phase */                                      \
        for (size_t px = 0; px < sw; px++)                                                                             \
            have[px] = w > px ? (w - px + sw - 1) / sw : 0;                                                            \
        src += py * (size_t)sp->pitch;                                                                                 \
        for (size_t y = 0, at = 0; y < dh; y++, src += step, at += pitch, left -= pitch) {                             \
            const size_t all = y + 1 < dh ? pitch : left;                                                              \
            const bool real = y * sh + py < h;                                                                         \
            if (real)                                                                                                  \
                split_row_##bits(src, w, to, at, left, sw);                                                            \
            for (size_t px = 0; px < sw; px++) {                                                                       \
                const size_t n = real ? have[px] : 0;                                                                  \
                if (to[px])                                                                                            \
                    fill_##bits(to[px] + at + n, all - n, left - n, pad);                                              \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    void wn_move_phases_##bits(const void *src_, const struct wn_plane *sp, size_t channels, void *dst_,               \
                               const struct wn_plane *dp, size_t phase, const int8_t *slot, int32_t sh, int32_t sw,    \
                               type pad)                                                                               \
    {                                                                                                                  \
        slot = slot ? slot : in_order;                                                                                 \
        const type *src = src_;                                                                                        \
        type *dst = dst_;                                                                                              \
        for (size_t c = 0; c < channels; c++, src += sp->stride, dst += dp->stride)                                    \
            for (int32_t py = 0; py < sh; py++) {                                                                      \
                type *to[8];                                                                                           \
                bool wanted = false;                                                                                   \
                for (int32_t px = 0; px < sw; px++) {                                                                  \
                    const int8_t at = slot[py * sw + px];                                                              \
                    to[px] = at >= 0 ? dst + (size_t)at * phase : NULL;                                                \
                    wanted = wanted || at >= 0;                                                                        \
                }                                                                                                      \
                if (wanted && sw == 2) /* a constant: no loops over the phases */                                      \
                    split_##bits(src, sp, dp, to, (size_t)sh, (size_t)py, 2, pad);                                     \
                else if (wanted)                                                                                       \
                    split_##bits(src, sp, dp, to, (size_t)sh, (size_t)py, (size_t)sw, pad);                            \
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
