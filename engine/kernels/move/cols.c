/* cols.c: transpositions between rows and columns of tokens. */
#include "engine/kernels/move/cols.h"

#include <string.h>
#include "engine/kernels/move/v128.h"

#define BLOCK ((size_t)16)

/* dst (cols, rows), dst_stride apart = src (rows, cols), src_stride apart, transposed; at most BLOCK of each. */
static void turn_block(const float *src, size_t src_stride, float *dst, size_t dst_stride, size_t rows, size_t cols)
{
    const size_t r4 = rows / 4 * 4, c4 = cols / 4 * 4;
    for (size_t c = 0; c < c4; c += 4)
        for (size_t r = 0; r < r4; r += 4)
            v128_transpose_f32(src + r * src_stride + c, src_stride, dst + c * dst_stride + r, dst_stride);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = c < c4 ? r4 : 0; r < rows; r++)
            dst[c * dst_stride + r] = src[r * src_stride + c];
}

void wn_move_rows_to_cols_f32(const float *x, size_t n, size_t k, float *y, size_t stride, size_t f0, size_t f1)
{
    const size_t padded = (n + WN_COLS - 1) / WN_COLS * WN_COLS;
    for (size_t f = f0; f < f1; f += BLOCK) {
        const size_t f_end = WN_MIN(f + BLOCK, f1);
        for (size_t t = 0; t < n; t += BLOCK) {
            const size_t t_end = WN_MIN(t + BLOCK, n);
            turn_block(x + t * k + f, k, y + f * stride + t, stride, t_end - t, f_end - f);
        }
        for (size_t i = f; i < f_end; i++)
            for (size_t j = n; j < padded; j++)
                y[i * stride + j] = 0;
    }
}

void wn_move_cols_to_rows_f32(const float *x, size_t stride, float *y, size_t n, size_t k, size_t f0, size_t f1)
{
    for (size_t f = f0; f < f1; f += BLOCK) {
        const size_t f_end = WN_MIN(f + BLOCK, f1);
        for (size_t t = 0; t < n; t += BLOCK) {
            const size_t t_end = WN_MIN(t + BLOCK, n);
            turn_block(x + f * stride + t, stride, y + t * k + f, k, f_end - f, t_end - t);
        }
    }
}

/* Four bytes at a time: a quad is a dword of a row. */
void wn_move_rows_to_quads_u8(const uint8_t *x, size_t n, size_t k, uint8_t *y, size_t stride, size_t f0, size_t f1)
{
    const size_t padded = (n + WN_COLS - 1) / WN_COLS * WN_COLS;
    for (size_t f = f0; f < f1; f += 4 * BLOCK) {
        const size_t f_end = WN_MIN(f + 4 * BLOCK, f1);
        for (size_t t = 0; t < n; t += BLOCK) {
            const size_t t_end = WN_MIN(t + BLOCK, n);
            for (size_t i = f; i < f_end; i += 4)
                for (size_t j = t; j < t_end; j++) {
                    uint32_t quad = 0;
                    if (i + 4 <= k)
                        memcpy(&quad, x + j * k + i, 4);
                    else
                        memcpy(&quad, x + j * k + i, k - i);
                    memcpy(y + i / 4 * stride + 4 * j, &quad, 4);
                }
        }
        for (size_t i = f; i < f_end; i += 4)
            memset(y + i / 4 * stride + 4 * n, 0, 4 * (padded - n));
    }
}

void wn_move_quads_to_rows_u8(const uint8_t *x, size_t stride, uint8_t *y, size_t n, size_t k, size_t f0, size_t f1)
{
    for (size_t f = f0; f < f1; f += 4 * BLOCK) {
        const size_t f_end = WN_MIN(f + 4 * BLOCK, f1);
        for (size_t t = 0; t < n; t += BLOCK) {
            const size_t t_end = WN_MIN(t + BLOCK, n);
            for (size_t j = t; j < t_end; j++)
                for (size_t i = f; i < f_end; i += 4)
                    memcpy(y + j * k + i, x + i / 4 * stride + 4 * j, WN_MIN((size_t)4, k - i));
        }
    }
}
