/* planes.c: see planes.h. */
#include "engine/kernels/move/planes.h"

#include <string.h>
#include "engine/kernels/move/v128.h"

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

/* The first n bytes of a vector. */
static v128 first_bytes(size_t n)
{
    static const int8_t live[32] = { [0 ... 15] = -1 };
    return v128_load(live + 16 - WN_MIN(n, (size_t)16));
}

/* The most phases there are: strides of 8 (a larger stride has no window in a plan). */
static const int8_t in_order[64] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                     32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                     48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63 };

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
        const v128 pads = v128_splat_##bits(pad);                                                                      \
        for (size_t at = wn_round_up(pitch, per); at > 0;) {                                                           \
            at -= per;                                                                                                 \
            const v128 keep_a = first_bytes(have_a > at ? (have_a - at) * sizeof(type) : 0);                           \
            const v128 keep_b = first_bytes(have_b > at ? (have_b - at) * sizeof(type) : 0);                           \
            const type *from = src + (have_a > at ? 2 * at : 0);                                                       \
            for (size_t y = 0, o = at; y < rows; y++, from += step, o += pitch) {                                      \
                v128 even, odd;                                                                                        \
                v128_halves_##bits(from, &even, &odd);                                                                 \
                if (a)                                                                                                 \
                    v128_store(a + o, v128_select(keep_a, even, pads));                                                \
                if (b)                                                                                                 \
                    v128_store(b + o, v128_select(keep_b, odd, pads));                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    ROWS_INLINE fill_##bits(type *to, type pad, size_t n)                                                              \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            to[i] = pad;                                                                                               \
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
            y = WN_MIN(real, (dp->cols - whole) / pitch + 1);                                                          \
            halve_rows_##bits(src, step, y, w, to[0], to[1], pitch, pad);                                              \
            for (size_t px = 0; px < 2 && y == dh; px++)                                                               \
                if (to[px])                                                                                            \
                    fill_##bits(to[px] + dh * pitch, pad, dp->cols - WN_MIN(dp->cols, dh * pitch));                    \
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
/* (n, k) -> (k, n) in blocks of 16 x 16: whole cache lines on both sides. */
static void transpose(const float *src, size_t src_stride, size_t n, size_t k, float *dst, size_t dst_stride)
{
    for (size_t i0 = 0; i0 < n; i0 += 16)
        for (size_t j0 = 0; j0 < k; j0 += 16) {
            const size_t i1 = WN_MIN(i0 + 16, n), j1 = WN_MIN(j0 + 16, k), i4 = i0 + (i1 - i0) / 4 * 4;
            size_t j = j0;
            for (; j + 4 <= j1; j += 4) {
                for (size_t i = i0; i < i4; i += 4)
                    v128_transpose_f32(src + i * src_stride + j, src_stride, dst + j * dst_stride + i, dst_stride);
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
