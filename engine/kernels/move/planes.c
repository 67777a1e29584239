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

/* Even and odd elements of 32 bytes. */
ROWS_INLINE halves_4(const uint32_t *src, __m128i *even, __m128i *odd)
{
    const __m128 lo = _mm_loadu_ps((const float *)(const void *)src);
    const __m128 hi = _mm_loadu_ps((const float *)(const void *)(src + 4));
    *even = _mm_castps_si128(_mm_shuffle_ps(lo, hi, 0x88));
    *odd = _mm_castps_si128(_mm_shuffle_ps(lo, hi, 0xdd));
}

ROWS_INLINE halves_1(const uint8_t *src, __m128i *even, __m128i *odd)
{
    const __m128i low = _mm_set1_epi16(0x00ff);
    const __m128i lo = _mm_loadu_si128((const __m128i *)(const void *)src);
    const __m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
    *even = _mm_packus_epi16(_mm_and_si128(lo, low), _mm_and_si128(hi, low));
    *odd = _mm_packus_epi16(_mm_srli_epi16(lo, 8), _mm_srli_epi16(hi, 8));
}

/* The first n bytes of a vector. */
static __m128i first_bytes(size_t n)
{
    static const int8_t live[32] = { [0 ... 15] = -1 };
    return _mm_loadu_si128((const __m128i *)(const void *)(live + 16 - WN_MIN(n, (size_t)16)));
}

ROWS_INLINE store_or(void *to, __m128i v, __m128i keep, __m128i other)
{
    _mm_storeu_si128(to, _mm_or_si128(_mm_and_si128(keep, v), _mm_andnot_si128(keep, other)));
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
    /* `rows` rows of w elements, `step` apart, by stride 2: even ones to a, odd ones to b (NULL: not wanted), with    \
     * pads up to the pitch. Vectors that reach over a row's end are stored before the start of the next. */           \
    static void halve_rows_##bits(const type *src, size_t step, size_t rows, size_t w, type *a, type *b, size_t pitch, \
                                  type pad)                                                                            \
    {                                                                                                                  \
        const size_t per = 16 / sizeof(type), have_a = (w + 1) / 2, have_b = w / 2;                                    \
        const __m128i pads = splat_##bits(pad);                                                                        \
        for (size_t at = wn_round_up(pitch, per); at > 0;) {                                                           \
            at -= per;                                                                                                 \
            const __m128i keep_a = first_bytes(have_a > at ? (have_a - at) * sizeof(type) : 0);                        \
            const __m128i keep_b = first_bytes(have_b > at ? (have_b - at) * sizeof(type) : 0);                        \
            const type *from = src + (have_a > at ? 2 * at : 0);                                                       \
            for (size_t y = 0, o = at; y < rows; y++, from += step, o += pitch) {                                      \
                __m128i even, odd;                                                                                     \
                halves_##bits(from, &even, &odd);                                                                      \
                if (a)                                                                                                 \
                    store_or(a + o, even, keep_a, pads);                                                               \
                if (b)                                                                                                 \
                    store_or(b + o, odd, keep_b, pads);                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    /* Row phase py of a channel. */                                                                                   \
    ROWS_INLINE split_##bits(const type *src, const struct wn_plane *sp, const struct wn_plane *dp, type *const *to,   \
                             size_t sh, size_t py, size_t sw, type pad)                                                \
    {                                                                                                                  \
        const size_t w = WN_MIN((size_t)sp->w, (size_t)dp->w * sw), h = (size_t)sp->h, dh = (size_t)dp->h;             \
        const size_t step = sh * (size_t)sp->pitch, pitch = (size_t)dp->pitch, whole = wn_round_up(pitch, 16);         \
        const size_t real = WN_MIN(h > py ? (h - py + sh - 1) / sh : 0, dh);                                           \
        size_t y = 0;                                                                                                  \
        src += py * (size_t)sp->pitch;                                                                                 \
        if (sw == 2 && real && dp->cols >= whole) {                                                                    \
            y = WN_MIN(WN_MIN(real, dh - 1), (dp->cols - whole) / pitch + 1);                                          \
            halve_rows_##bits(src, step, y, w, to[0], to[1], pitch, pad);                                              \
        }                                                                                                              \
        for (; y < dh; y++) {                                                                                          \
            const size_t at = y * pitch, end = y + 1 < dh ? at + pitch : dp->cols;                                     \
            if (sw == 1 && y < real) {                                                                                 \
                memcpy(to[0] + at, src + y * step, w * sizeof *src);                                                   \
                for (size_t i = at + w; i < end; i++)                                                                  \
                    to[0][i] = pad;                                                                                    \
                continue;                                                                                              \
            }                                                                                                          \
            for (size_t px = 0; px < sw; px++) {                                                                       \
                size_t i = at;                                                                                         \
                for (size_t x = px; to[px] && y < real && x < w; x += sw)                                              \
                    to[px][i++] = src[y * step + x];                                                                   \
                for (; to[px] && i < end; i++)                                                                         \
                    to[px][i] = pad;                                                                                   \
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
