/* rows.h: four rows of bytes that are to become quads, as avx2.c and neon.c see them. */
#ifndef WN_MOVE_Q8_ROWS_H
#define WN_MOVE_Q8_ROWS_H

#include <string.h>
#include "engine/kernels/move_q8/move_q8.h"

/** A lane of padding reads a row of zero points that stands still. */
struct rows {
    const uint8_t *row[4];
    size_t step[4]; /* 1, or 0 for padding */
};

/** Four rows of planes at x from channel o on; rows past `channels` read pad (16 zero points). */
static inline struct rows rows_of(const uint8_t *x, size_t stride, size_t o, size_t channels, const uint8_t *pad)
{
    struct rows r;
    for (size_t k = 0; k < 4; k++) {
        r.step[k] = o + k < channels;
        r.row[k] = o + k < channels ? x + (o + k) * stride : pad;
    }
    return r;
}

#endif
