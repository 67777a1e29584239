/* decode.h: the decoders behind wn_image_decode(). Both give packed pixels as stored, and the EXIF orientation. */
#ifndef WN_PIPELINE_DECODE_H
#define WN_PIPELINE_DECODE_H

#include "pipeline/pipeline.h"

/** Refuse sides and pixel counts over the limits (all fields set); `what` is "PNG" or "JPEG". */
WINNOW_MUST_USE enum winnow_status wn_decode_check_size(const char *what, uint64_t w, uint64_t h,
                                                        const struct wn_image_limits *limits, struct winnow_err *err);
/** `ret_orientation`: 1 … 8 as EXIF counts, 1 when there is none. */
WINNOW_MUST_USE enum winnow_status wn_decode_png(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                                 struct wn_image *ret, unsigned *ret_orientation,
                                                 struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_decode_jpeg(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                                  struct wn_image *ret, unsigned *ret_orientation,
                                                  struct winnow_err *err);
/** Orientation of an EXIF block (TIFF header and first directory; behind "Exif\0\0" in JPEG); 1 when there is none or
 * the block is broken. Source: Exif 2.32, tag 0x0112. */
unsigned wn_exif_orientation(const void *tiff, size_t n);
/** Turn and mirror so that orientation 1 results; pixels are replaced. E_NOMEM. */
WINNOW_MUST_USE enum winnow_status wn_image_orient(struct wn_image *image, unsigned orientation,
                                                   struct winnow_err *err);
/** Resize a part of an image to (w, h): triangle filter with antialiasing (as PIL's BILINEAR), edges repeated,
 * arithmetic in the values as stored. The part is centred, `part_w` by `part_h` of the whole (each in (0, 1]). px  (h,
 * w, image->channels) */
WINNOW_MUST_USE enum winnow_status wn_image_resize(const struct wn_image *image, double part_w, double part_h,
                                                   uint32_t w, uint32_t h, uint8_t *px, struct winnow_err *err);
/** The same pixels with 1 or 3 channels: grey is ITU-R 601 luma (as PIL's "L"), colour repeats grey. `ret->px` is
 *  malloc'ed. */
WINNOW_MUST_USE enum winnow_status wn_image_convert(const struct wn_image *image, uint32_t channels,
                                                    struct wn_image *ret, struct winnow_err *err);

#endif
