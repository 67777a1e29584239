/* planes.h (move): between the layouts that models speak (contiguous NCHW, rows of features) and planes; stride phases.
 *
 * Plain SSE2 or NEON (v128.h): these are bound by memory, so there is one version and no dispatch. In all of
 * them plane pointers are column 0 of channel 0 and planes are plane->stride elements apart; all plane->cols columns of
 * a destination are written, the pad value where they are no pixels. Any number of threads, each on its own channels.
 *
 * STRIDES  A convolution of stride (sh, sw) reads its input split into sh * sw phase planes: phase (py, px) holds the
 *          elements (y * sh + py, x * sw + px), so that successive outputs read successive elements of one phase. The
 * tap at input row y * sh + d (d = i * dil - pad, may be negative) is row y + floor(d / sh) of phase d mod sh; the
 *          columns alike. Phase planes take the output's pitch, and margins like any plane.
 *          With `phase` elements from one phase plane to the next and dst_plane->stride from channel to channel,
 *          koff = (channel * stride + (py * sw + px) * phase + floor(dy / sh) * pitch + floor(dx / sw)) * element. */
#ifndef WN_MOVE_PLANES_H
#define WN_MOVE_PLANES_H

#include "engine/kernels/kernels.h"

/** src (channels, h, w) contiguous -> dst planes; pad columns 0. */
void wn_move_nchw_to_plane_f32(const float *src, size_t channels, const struct wn_plane *plane, float *dst);
/** dst (channels, h, w) contiguous. */
void wn_move_plane_to_nchw_f32(const float *src, size_t channels, const struct wn_plane *plane, float *dst);

/** Split planes into stride phases. dst_plane: extents, pitch and cols of one phase plane; its stride is the distance
 * from channel to channel, `phase` the distance from phase (py, px) to the next in the order py * sw + px, in elements.
 * What src does not have (past its h, w) is `pad`. slot [sh * sw]: the place of each phase among those wanted, -1: not
 * wanted; NULL: all, in order. src and dst do not overlap; up to WN_OVERREAD bytes past src's last column
 * may be read. _4: f32 or quad elements; _1: bytes. 1 <= sh, sw <= 8. */
void wn_move_phases_4(const void *src, const struct wn_plane *src_plane, size_t channels, void *dst,
                      const struct wn_plane *dst_plane, size_t phase, const int8_t *slot, int32_t sh, int32_t sw,
                      uint32_t pad);
void wn_move_phases_1(const void *src, const struct wn_plane *src_plane, size_t channels, void *dst,
                      const struct wn_plane *dst_plane, size_t phase, const int8_t *slot, int32_t sh, int32_t sw,
                      uint8_t pad);

/** Tokens become columns: dst[j * dst_stride + i] = src[i * src_stride + j] for i < n, j < k; columns n .. cols - 1 are
 *  0 (cols >= n, a multiple of WN_COLS). Strides in floats. */
void wn_move_rows_to_columns_f32(const float *src, size_t src_stride, size_t n, size_t k, float *dst, size_t dst_stride,
                                 size_t cols);
/** Columns become tokens: dst[i * dst_stride + j] = src[j * src_stride + i] for i < n, j < k. */
void wn_move_columns_to_rows_f32(const float *src, size_t src_stride, size_t n, size_t k, float *dst,
                                 size_t dst_stride);

#endif
