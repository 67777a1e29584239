/* q8_quads.h: how weights and columns are counted when activations are in quad form.
 *
 * A quad is four neighbouring input channels at one tap: 4 weights times the 4 bytes of one column. Quads are numbered
 * kq = (channel / 4) * taps + tap, so that the taps of one plane follow each other. Channels past C weigh 0. */
#ifndef WN_Q8_QUADS_H
#define WN_Q8_QUADS_H

#include "base/arena.h"
#include "engine/kernels/q8_epilogue.h"

/** Quads per row. */
static inline size_t wn_q8_quads(size_t channels, size_t taps)
{
    return (channels + 3) / 4 * taps;
}

/** Weights of (rows, channels, taps) s8, as ONNX stores (O, I, kh, kw), in quad order: dst (rows, quads, 4). */
void wn_q8_quads_weights(const int8_t *w, size_t rows, size_t channels, size_t taps, int8_t *dst);

/** koff[kq] = (channel / 4) * plane_bytes + tap_off[tap]: byte offsets of every quad from column 0 of quad plane 0.
 *  plane_bytes  from one quad plane to the next (4 * wn_plane.stride)
 *  tap_off      [taps] bytes: 4 * (dy * pitch + dx), or 4 * the tap's place among the phases of a strided input */
void wn_q8_quads_koff(size_t channels, size_t taps, int32_t plane_bytes, const int32_t *tap_off, int32_t *koff);

/** colsum[c] = sum of the real x (channels past the last one do not count) at koff for n columns (a multiple of
 *  WN_COLS), as wn_q8_args.colsum wants it. On the best instruction set there is; up to WN_OVERREAD bytes are
 * over-read. */
void wn_q8_colsum(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n, int32_t *colsum);

typedef void wn_q8_colsum_fn(const uint8_t *x, const int32_t *koff, size_t channels, size_t taps, size_t n,
                             int32_t *colsum);
#define COLSUM(isa) wn_q8_colsum_fn wn_q8_colsum__##isa;
#include "engine/kernels/q8_colsum.def"
#undef COLSUM

/** How many of quad kq's four channels are real, as 1s to multiply by: one byte per channel. */
static inline int32_t wn_q8_quads_ones(size_t kq, size_t channels, size_t taps)
{
    size_t last = channels % 4;
    return last && kq / taps == channels / 4 ? (int32_t)(0x01010101u >> (8 * (4 - last))) : 0x01010101;
}

#endif
