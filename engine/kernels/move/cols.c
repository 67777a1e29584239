/* cols.c: transpositions between rows and columns of tokens. */
#include "engine/kernels/move/cols.h"

#include <string.h>

#define BLOCK ((size_t)16)

void wn_move_rows_to_cols_f32(const float *x, size_t n, size_t k, float *y, size_t stride, size_t f0, size_t f1)
{
    const size_t padded = (n + WN_COLS - 1) / WN_COLS * WN_COLS;
    for (size_t f = f0; f < f1; f += BLOCK) {
        const size_t f_end = WN_MIN(f + BLOCK, f1);
        for (size_t t = 0; t < n; t += BLOCK) {
            const size_t t_end = WN_MIN(t + BLOCK, n);
            for (size_t i = f; i < f_end; i++)
                for (size_t j = t; j < t_end; j++)
                    y[i * stride + j] = x[j * k + i];
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
            for (size_t j = t; j < t_end; j++)
                for (size_t i = f; i < f_end; i++)
                    y[j * k + i] = x[i * stride + j];
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
