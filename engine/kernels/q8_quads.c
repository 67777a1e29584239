/* q8_quads.c: weights and offsets in quad order. */
#include "engine/kernels/q8_quads.h"

#include <string.h>

void wn_q8_quads_weights(const int8_t *w, size_t rows, size_t channels, size_t taps, int8_t *dst)
{
    size_t row_bytes = 4 * wn_q8_quads(channels, taps);
    memset(dst, 0, rows * row_bytes);
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; i < channels; i++)
            for (size_t t = 0; t < taps; t++)
                dst[o * row_bytes + 4 * (i / 4 * taps + t) + i % 4] = w[(o * channels + i) * taps + t];
}

void wn_q8_quads_koff(size_t channels, size_t taps, int32_t plane_bytes, const int32_t *tap_off, int32_t *koff)
{
    for (size_t q = 0; q < (channels + 3) / 4; q++)
        for (size_t t = 0; t < taps; t++)
            koff[q * taps + t] = (int32_t)q * plane_bytes + tap_off[t];
}

void wn_q8_colsum(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n, int32_t *colsum)
{
    static wn_q8_colsum_fn *const by_isa[WN_ISA_COUNT] = {
#define COLSUM(isa) [WN_ISA_##isa] = wn_q8_colsum__##isa,
#include "engine/kernels/q8_colsum.def"
#undef COLSUM
    };
    WN_BEST_KERNEL(by_isa)(x, koff, channels, taps, n, colsum);
}

void wn_q8_colsum__scalar(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n,
                          int32_t *colsum)
{
    size_t quads = wn_q8_quads(channels, taps);
    memset(colsum, 0, n * sizeof *colsum);
    for (size_t kq = 0; kq < quads; kq++) {
        size_t real = WN_MIN(channels - 4 * (kq / taps), 4u);
        for (size_t c = 0; c < n; c++)
            for (size_t j = 0; j < real; j++)
                colsum[c] += x[koff[kq] + (ptrdiff_t)(4 * c + j)];
    }
}
