/* png.c: PNG in, by libspng.
 *
 * DESIGN  The least conversion libspng can do without losing anything we keep: 8-bit grey stays one channel, everything
 *         without transparency becomes RGB, the rest RGBA, blended over black here. A walk over the chunks comes first:
 * one that holds hundreds of profiles and texts is refused before any is unpacked, and so is one that ends before IEND
 *         (libspng is content when it has all pixels). */
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

#define MAX_CHUNK  (4u << 20)
#define MAX_CACHE  (8u << 20)
#define MAX_CHUNKS 200 /* besides IDAT */

static void spng_freep(spng_ctx **ctx)
{
    spng_ctx_free(*ctx);
}

static enum winnow_status png_error(int rc, struct winnow_err *err)
{
    if (rc == SPNG_EMEM)
        return wn_fail(err, WINNOW_E_NOMEM, "reading a PNG picture");
    return wn_fail(err, WINNOW_E_MALFORMED, "broken PNG picture: %s", spng_strerror(rc));
}

/* Source: PNG specification, section 5.3. */
static enum winnow_status walk_chunks(const uint8_t *p, size_t n, struct winnow_err *err)
{
    unsigned extra = 0;
    for (size_t at = 8;;) {
        if (n - at < 12)
            return wn_fail(err, WINNOW_E_MALFORMED, "broken PNG picture: it ends early");
        size_t len = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (len > n - at - 12)
            return wn_fail(err, WINNOW_E_MALFORMED, "broken PNG picture: it ends early");
        if (memcmp(p + at + 4, "IEND", 4) == 0)
            return WINNOW_OK;
        if (memcmp(p + at + 4, "IDAT", 4) != 0 && (++extra > MAX_CHUNKS || len > MAX_CHUNK))
            return wn_fail(err, WINNOW_E_TOO_LARGE, "PNG picture with too many or too large extra chunks");
        at += len + 12;
    }
}

/* RGBA -> 3 or 1 channels over black, in place. */
static void blend(uint8_t *px, size_t n, uint32_t channels)
{
    for (size_t i = 0; i < n; i++) {
        unsigned a = px[4 * i + 3];
        uint8_t c[3];
        for (unsigned k = 0; k < 3; k++)
            c[k] = (uint8_t)((px[4 * i + k] * a + 127) / 255);
        memcpy(px + channels * i, c, channels);
    }
}

static enum winnow_status decode(spng_ctx *ctx, const struct spng_ihdr *head, struct wn_image *ret,
                                 struct winnow_err *err)
{
    struct spng_trns trns;
    bool grey = head->color_type == SPNG_COLOR_TYPE_GRAYSCALE || head->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
    bool alpha = head->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA ||
                 head->color_type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA || spng_get_trns(ctx, &trns) == 0;
    int fmt = alpha ? SPNG_FMT_RGBA8 : grey && head->bit_depth <= 8 ? SPNG_FMT_G8 : SPNG_FMT_RGB8;
    size_t pixels = (size_t)head->width * head->height, bytes = 0;
    int rc = spng_decoded_image_size(ctx, fmt, &bytes);
    if (rc)
        return png_error(rc, err);
    WN_CLEANUP(wn_freep) uint8_t *px = malloc(bytes);
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "PNG picture of %u x %u pixels", head->width, head->height);
    rc = spng_decode_image(ctx, px, bytes, fmt, alpha ? SPNG_DECODE_TRNS : 0);
    if (rc)
        return png_error(rc, err);
    uint32_t channels = grey ? 1 : 3;
    if (alpha)
        blend(px, pixels, channels);
    else if (grey && fmt == SPNG_FMT_RGB8) /* 16-bit grey: three equal channels */
        for (size_t i = 0; i < pixels; i++)
            px[i] = px[3 * i];
    if (bytes > pixels * channels) {
        uint8_t *fit = realloc(px, pixels * channels);
        px = fit ? fit : px;
    }
    *ret = (struct wn_image){ .w = head->width, .h = head->height, .channels = channels, .px = WN_TAKE(px) };
    return WINNOW_OK;
}

enum winnow_status wn_decode_png(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                 struct wn_image *ret, unsigned *ret_orientation, struct winnow_err *err)
{
    WN_TRY(walk_chunks(bytes, n, err));
    WN_CLEANUP(spng_freep) spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx)
        return wn_fail(err, WINNOW_E_NOMEM, "reading a PNG picture");
    struct spng_ihdr head;
    int rc = spng_set_chunk_limits(ctx, MAX_CHUNK, MAX_CACHE);
    if (!rc)
        rc = spng_set_crc_action(ctx, SPNG_CRC_ERROR, SPNG_CRC_DISCARD);
    if (!rc)
        rc = spng_set_png_buffer(ctx, bytes, n);
    if (!rc)
        rc = spng_get_ihdr(ctx, &head);
    if (rc)
        return png_error(rc, err);
    WN_TRY(wn_decode_check_size("PNG", head.width, head.height, limits, err));
    struct spng_exif exif;
    *ret_orientation = spng_get_exif(ctx, &exif) == 0 ? wn_exif_orientation(exif.data, exif.length) : 1;
    return decode(ctx, &head, ret, err);
}
