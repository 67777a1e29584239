/* image.c: telling formats apart, EXIF orientation, grey and colour, PNG out. */
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

#define DEFAULT_SIDE   8192
#define DEFAULT_PIXELS (UINT64_C(64) << 20)
#define DEFAULT_BYTES  ((size_t)32 << 20)

/* ---- formats ---- */
static bool starts(const void *bytes, size_t n, size_t at, const char *magic, size_t magic_n)
{
    return n >= at + magic_n && memcmp((const char *)bytes + at, magic, magic_n) == 0;
}

/* Name of a picture format that we know but do not read, or NULL. */
static const char *other_format(const void *bytes, size_t n)
{
    if (starts(bytes, n, 0, "GIF8", 4))
        return "GIF";
    if (starts(bytes, n, 0, "RIFF", 4) && starts(bytes, n, 8, "WEBP", 4))
        return "WebP";
    if (starts(bytes, n, 0, "II*\0", 4) || starts(bytes, n, 0, "MM\0*", 4))
        return "TIFF";
    if (starts(bytes, n, 4, "ftyp", 4))
        return "HEIF or AVIF";
    if (starts(bytes, n, 0, "BM", 2))
        return "BMP";
    if (starts(bytes, n, 0, "\0\0\0\x0cjP  ", 8) || starts(bytes, n, 0, "\xff\x4f\xff\x51", 4))
        return "JPEG 2000";
    if (starts(bytes, n, 0, "<svg", 4) || starts(bytes, n, 0, "<?xml", 5))
        return "SVG";
    return NULL;
}

enum winnow_status wn_decode_check_size(const char *what, uint64_t w, uint64_t h, const struct wn_image_limits *limits,
                                        struct winnow_err *err)
{
    if (!w || !h)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s picture without pixels", what);
    if (w > limits->max_side || h > limits->max_side)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s picture of %llu x %llu pixels; a side may have %u", what,
                       (unsigned long long)w, (unsigned long long)h, limits->max_side);
    if (w * h > limits->max_pixels)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s picture of %llu x %llu pixels; %llu are allowed", what,
                       (unsigned long long)w, (unsigned long long)h, (unsigned long long)limits->max_pixels);
    return WINNOW_OK;
}

enum winnow_status wn_image_decode(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                   struct wn_image *ret_image, struct winnow_err *err)
{
    struct wn_image_limits l = limits ? *limits : (struct wn_image_limits){ 0 };
    l.max_side = l.max_side ? WN_MIN(l.max_side, 65535u) : DEFAULT_SIDE;
    l.max_pixels = l.max_pixels ? WN_MIN(l.max_pixels, UINT64_C(1) << 29) : DEFAULT_PIXELS;
    l.max_bytes = l.max_bytes ? WN_MIN(l.max_bytes, (size_t)1 << 30) : DEFAULT_BYTES;
    if (n == 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "picture of 0 bytes");
    if (n > l.max_bytes)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "picture of %zu bytes; %zu are allowed", n, l.max_bytes);
    struct wn_image image = { 0 };
    unsigned orientation = 1;
    if (starts(bytes, n, 0, "\x89PNG\r\n\x1a\n", 8))
        WN_TRY(wn_decode_png(bytes, n, &l, &image, &orientation, err));
    else if (starts(bytes, n, 0, "\xff\xd8\xff", 3))
        WN_TRY(wn_decode_jpeg(bytes, n, &l, &image, &orientation, err));
    else if (other_format(bytes, n))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "%s pictures are not supported; send PNG or JPEG",
                       other_format(bytes, n));
    else
        return wn_fail(err, WINNOW_E_MALFORMED, "not a PNG or JPEG picture");
    enum winnow_status status = wn_image_orient(&image, orientation, err);
    if (status == WINNOW_OK)
        *ret_image = image;
    else
        wn_image_done(&image);
    return status;
}

void wn_image_done(struct wn_image *image)
{
    free(image->px);
    *image = (struct wn_image){ 0 };
}

/* ---- EXIF ---- */
struct tiff {
    const unsigned char *p;
    size_t n;
    bool big;
};

static unsigned u16_at(const struct tiff *t, size_t at)
{
    return t->big ? (unsigned)t->p[at] << 8 | t->p[at + 1] : (unsigned)t->p[at + 1] << 8 | t->p[at];
}

static uint32_t u32_at(const struct tiff *t, size_t at)
{
    uint32_t a = u16_at(t, at), b = u16_at(t, at + 2);
    return t->big ? a << 16 | b : b << 16 | a;
}

unsigned wn_exif_orientation(const void *bytes, size_t n)
{
    enum { ENTRY = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };
    struct tiff t = { .p = bytes, .n = n };
    if (n < 14 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return 1;
    t.big = t.p[0] == 'M';
    size_t at = u32_at(&t, 4);
    if (at > n - 2)
        return 1;
    size_t count = u16_at(&t, at);
    at += 2;
    for (; count && n - at >= ENTRY; count--, at += ENTRY) {
        if (u16_at(&t, at) != TAG_ORIENTATION)
            continue;
        unsigned v = u16_at(&t, at + 8);
        return u16_at(&t, at + 2) == TYPE_SHORT && u32_at(&t, at + 4) == 1 && v >= 1 && v <= 8 ? v : 1;
    }
    return 1;
}

/* What each orientation needs, in this order: swap axes, then mirror left-right, then mirror top-bottom. */
static const struct {
    bool swap, mirror_x, mirror_y;
} turns[9] = {
    [2] = { .mirror_x = true },
    [3] = { .mirror_x = true, .mirror_y = true },
    [4] = { .mirror_y = true },
    [5] = { .swap = true },
    [6] = { .swap = true, .mirror_x = true },
    [7] = { .swap = true, .mirror_x = true, .mirror_y = true },
    [8] = { .swap = true, .mirror_y = true },
};

enum winnow_status wn_image_orient(struct wn_image *image, unsigned orientation, struct winnow_err *err)
{
    if (orientation < 2 || orientation > 8)
        return WINNOW_OK;
    bool swap = turns[orientation].swap;
    uint32_t w = swap ? image->h : image->w, h = swap ? image->w : image->h, c = image->channels;
    uint8_t *px = malloc((size_t)w * h * c);
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "turning a picture of %u x %u pixels", w, h);
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++) {
            uint32_t tx = turns[orientation].mirror_x ? w - 1 - x : x, ty = turns[orientation].mirror_y ? h - 1 - y : y;
            size_t from = swap ? (size_t)tx * image->w + ty : (size_t)ty * image->w + tx;
            memcpy(px + ((size_t)y * w + x) * c, image->px + from * c, c);
        }
    free(image->px);
    *image = (struct wn_image){ .w = w, .h = h, .channels = c, .px = px };
    return WINNOW_OK;
}

/* ---- channels ---- */
enum winnow_status wn_image_convert(const struct wn_image *image, uint32_t channels, struct wn_image *ret,
                                    struct winnow_err *err)
{
    size_t n = (size_t)image->w * image->h;
    uint8_t *px = malloc(WN_MAX(n * channels, (size_t)1));
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "picture of %u x %u pixels", image->w, image->h);
    const uint8_t *from = image->px;
    if (channels == image->channels)
        memcpy(px, from, n * channels);
    else if (channels == 1)
        for (size_t i = 0; i < n; i++, from += 3) /* 0.299 R + 0.587 G + 0.114 B in 16-bit fractions, rounded */
            px[i] = (uint8_t)((from[0] * 19595u + from[1] * 38470u + from[2] * 7471u + 32768u) >> 16);
    else
        for (size_t i = 0; i < n; i++)
            memset(px + 3 * i, from[i], 3);
    *ret = (struct wn_image){ .w = image->w, .h = image->h, .channels = channels, .px = px };
    return WINNOW_OK;
}

/* ---- PNG out ---- */
static void spng_freep(spng_ctx **ctx)
{
    spng_ctx_free(*ctx);
}

enum winnow_status wn_image_encode_png(const struct wn_image *image, void **ret_bytes, size_t *ret_n,
                                       struct winnow_err *err)
{
    WN_CLEANUP(spng_freep) spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!ctx)
        return wn_fail(err, WINNOW_E_NOMEM, "writing a PNG picture");
    struct spng_ihdr head = {
        .width = image->w,
        .height = image->h,
        .bit_depth = 8,
        .color_type = image->channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR,
    };
    int rc = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    if (!rc)
        rc = spng_set_option(ctx, SPNG_IMG_COMPRESSION_LEVEL, 6);
    if (!rc)
        rc = spng_set_ihdr(ctx, &head);
    if (!rc)
        rc = spng_encode_image(ctx, image->px, (size_t)image->w * image->h * image->channels, SPNG_FMT_PNG,
                               SPNG_ENCODE_FINALIZE);
    if (rc)
        return wn_fail(err, rc == SPNG_EMEM ? WINNOW_E_NOMEM : WINNOW_E_INTERNAL, "writing a PNG picture: %s",
                       spng_strerror(rc));
    void *bytes = spng_get_png_buffer(ctx, ret_n, &rc);
    if (!bytes)
        return wn_fail(err, WINNOW_E_NOMEM, "writing a PNG picture");
    *ret_bytes = bytes;
    return WINNOW_OK;
}
