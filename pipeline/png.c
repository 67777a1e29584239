/* png.c: PNG in, by libspng.
 *
 * DESIGN  The least conversion libspng can do without losing anything we keep: 8-bit grey stays one channel, everything
 *         without transparency becomes RGB, the rest RGBA, blended over black here. Chunks we do not use (profiles,
 * texts) are bounded in size, total and number, so a file full of them is refused, not unpacked. */
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

#define MAX_CHUNK  (4u << 20)
#define MAX_CACHE  (8u << 20)
#define MAX_CHUNKS 500

static void spng_freep(spng_ctx **ctx)
{
    spng_ctx_free(*ctx);
}

static enum winnow_status png_error(int rc, struct winnow_err *err)
{
    if (rc == SPNG_EMEM)
        return wn_fail(err, WINNOW_E_NOMEM, "reading a PNG picture");
    if (rc == SPNG_ECHUNK_LIMITS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "PNG picture with too many or too large extra chunks");
    return wn_fail(err, WINNOW_E_MALFORMED, "broken PNG picture: %s", spng_strerror(rc));
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
    WN_CLEANUP(spng_freep) spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx)
        return wn_fail(err, WINNOW_E_NOMEM, "reading a PNG picture");
    struct spng_ihdr head;
    int rc = spng_set_chunk_limits(ctx, MAX_CHUNK, MAX_CACHE);
    if (!rc)
        rc = spng_set_option(ctx, SPNG_CHUNK_COUNT_LIMIT, MAX_CHUNKS);
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
