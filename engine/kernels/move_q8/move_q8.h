/* move_q8.h: u8 activations between forms and layouts: quantize, dequantize, quad <-> plane, image in and out (stride
 * phases: engine/kernels/move).
 *
 * USE   fill the struct and run blocks of it on any number of threads; c0..c1-1 are the block's channels (c0 a multiple
 *       of 4, c1 too or = channels). Nothing is packed; nothing is over-read (sources may be the caller's own tensors).
 *       Lanes of the last quad past `channels` and pad columns get the zero point.
 * EXACT the same bits on every ISA. */
#ifndef WN_MOVE_Q8_H
#define WN_MOVE_Q8_H

#include <math.h>
#include "engine/kernels/kernels.h"

/* ---- columns: one form to another ---- */
/** x and y point at the block's first column of channel 0. y may not overlap x. A contiguous tensor of n elements is
 * one channel in plane form: there n is any number; in quad form it is a multiple of WN_COLS. */
struct wn_move_q8 {
    const void *x;
    void *y;
    size_t x_stride, y_stride; /* bytes from one plane, or quad, to the next */
    size_t channels, n;
    enum wn_q8_out form;  /* of the u8 side of (de)quantize: WN_OUT_QUAD or WN_OUT_PLANE */
    float scale;          /* of the u8 side */
    int32_t zp;           /* of the u8 side */
    int32_t q_lo, q_hi;   /* quantize */
    const uint32_t *mask; /* [n] ~0u keeps, 0 writes the pad value; or NULL */
};
typedef void wn_move_q8_fn(const struct wn_move_q8 *args, size_t c0, size_t c1);

/** y u8 = clamp(rne(x / scale) + zp, q_lo, q_hi), x f32 planes; a true division, NaN counts as 0.0. wn.Quantize. */
wn_move_q8_fn wn_move_q8_quantize_run;
/** y f32 planes = (float)(x - zp) * scale; pad columns 0.0f. wn.Dequantize. */
wn_move_q8_fn wn_move_q8_dequantize_run;
/** Quad form to plane form, plane form to quad form. */
wn_move_q8_fn wn_move_q8_to_planes_run;
wn_move_q8_fn wn_move_q8_to_quads_run;

/** A quotient is only needed rounded, and x times 1 / scale rounds to the same integer unless it lies beside a tie: with
 * t = x / scale and p = x * (1 / scale), both in floats, |p - t| < 2^-22 |t| + 2^-148, which is at most 2^-13 where |t| <= 512;
 * beyond that every sum with a zero point leaves the bytes, whatever the rounding. So p decides where it is at most this
 * far from an integer; below 0: nowhere. For the kernels of quantize. */
static inline float wn_move_q8_half(float scale, float inverse)
{
    return isnormal(inverse) && isnormal(scale) ? 0.5f - 0x1p-13f : -1.0f;
}

/** range[0] and range[1] become the least and the greatest of themselves and all x (n columns of channels c0..c1-1,
 *  f32 planes; NaN is passed over, nothing is over-read). For DynamicQuantizeLinear, from 0 and 0. */
typedef void wn_move_q8_range_fn(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2]);
wn_move_q8_range_fn wn_move_q8_range_run;
/** Scale and zero point that DynamicQuantizeLinear gives to data in a range that contains 0. */
static inline void wn_move_q8_dynamic(const float range[2], float *ret_scale, int32_t *ret_zp)
{
    float scale = (range[1] - range[0]) / 255;
    scale = scale > 0 ? scale : 1;
    float zp = rintf(0 - range[0] / scale);
    *ret_scale = scale;
    *ret_zp = (int32_t)(zp > 0 ? (zp < 255 ? zp : 255) : 0); /* NaN: 0 */
}

/* ---- images: contiguous (channels, h, w), as tensors are, and planes with a pitch ---- */
struct wn_move_q8_image {
    const uint8_t *x; /* import: the tensor; export: element (0,0) of channel 0 */
    uint8_t *y;       /* the other one */
    size_t stride;    /* bytes from one plane, or quad, to the next on the laid-out side */
    size_t channels;
    int32_t h, w, pitch;
    size_t cols;         /* import writes exactly these columns: (h - 1) * pitch + w or more */
    enum wn_q8_out form; /* of the laid-out side */
    int32_t zp;          /* of the columns that are no pixels */
};
typedef void wn_move_q8_image_fn(const struct wn_move_q8_image *args, size_t c0, size_t c1);
wn_move_q8_image_fn wn_move_q8_import_run;
wn_move_q8_image_fn wn_move_q8_export_run;

#define KERNEL(isa, NR)                                                                                                \
    wn_move_q8_fn wn_move_q8_quantize_##NR##__##isa;                                                                   \
    wn_move_q8_fn wn_move_q8_dequantize_##NR##__##isa;                                                                 \
    wn_move_q8_fn wn_move_q8_to_planes_##NR##__##isa;                                                                  \
    wn_move_q8_fn wn_move_q8_to_quads_##NR##__##isa;                                                                   \
    wn_move_q8_range_fn wn_move_q8_range_##NR##__##isa;                                                                \
    wn_move_q8_image_fn wn_move_q8_import_##NR##__##isa;                                                               \
    wn_move_q8_image_fn wn_move_q8_export_##NR##__##isa;
#define QUANTIZE(isa, NR) wn_move_q8_fn wn_move_q8_quantize_##NR##__##isa;
#include "engine/kernels/move_q8/move_q8.def"
#undef KERNEL
#undef QUANTIZE

#endif
