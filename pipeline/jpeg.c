/* jpeg.c: JPEG in, by libjpeg-turbo's TurboJPEG API.
 *
 * DESIGN  A walk over the markers first: size, number of scans, EXIF and Adobe blocks. A progressive file may hold
 * thousands of scans, each a pass over all coefficients, so scans times pixels is bounded before anything is decoded.
 * The slow accurate DCT is used: its SIMD and plain forms give the same pixels on every machine. A picture that ends
 * early or has broken data is refused; libjpeg alone would fill the rest with grey. */
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include "pipeline/decode.h"

#define MAX_SCANS       100
#define MAX_SCAN_PIXELS (UINT64_C(1) << 30)

struct jpeg_head {
    unsigned w, h, components, scans, orientation;
    bool adobe; /* CMYK is stored inverted */
};

static enum winnow_status broken(struct winnow_err *err, const char *what)
{
    return wn_fail(err, WINNOW_E_MALFORMED, "broken JPEG picture: %s", what);
}

/* What a marker segment (without marker and length) tells. */
static enum winnow_status on_segment(struct jpeg_head *head, unsigned marker, const uint8_t *p, size_t n,
                                     struct winnow_err *err)
{
    bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame) {
        if (n < 6 || head->w)
            return broken(err, head->w ? "two frames" : "frame header is cut off");
        if (p[0] != 8)
            return wn_fail(err, WINNOW_E_UNSUPPORTED, "JPEG picture with %u bits per sample; 8 are supported", p[0]);
        head->h = (unsigned)p[1] << 8 | p[2];
        head->w = (unsigned)p[3] << 8 | p[4];
        head->components = p[5];
        if (marker == 0xc3 || (marker >= 0xc5 && marker <= 0xc7) || marker >= 0xcb)
            return wn_fail(err, WINNOW_E_UNSUPPORTED, "lossless or hierarchical JPEG pictures are not supported");
    } else if (marker == 0xe1 && n > 6 && memcmp(p, "Exif\0\0", 6) == 0) {
        head->orientation = wn_exif_orientation(p + 6, n - 6);
    } else if (marker == 0xee && n >= 12 && memcmp(p, "Adobe", 5) == 0) {
        head->adobe = true;
    }
    return WINNOW_OK;
}

/* Walk the markers to the end. Data of a scan is skipped by looking for the next 0xff that is a marker. */
static enum winnow_status read_head(const uint8_t *p, size_t n, struct jpeg_head *head, struct winnow_err *err)
{
    size_t at = 2; /* behind SOI */
    for (;;) {
        const uint8_t *ff = at < n ? memchr(p + at, 0xff, n - at) : NULL;
        if (!ff || (size_t)(ff - p) + 1 >= n)
            return broken(err, "it ends early");
        at = (size_t)(ff - p) + 1;
        unsigned marker = p[at];
        if (marker == 0xff) /* fill byte */
            continue;
        at++;
        if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd8))
            continue;
        if (marker == 0xd9)
            return head->w && head->scans ? WINNOW_OK : broken(err, "no picture in it");
        if (n - at < 2)
            return broken(err, "it ends early");
        size_t len = (size_t)p[at] << 8 | p[at + 1];
        if (len < 2 || len > n - at)
            return broken(err, "it ends early");
        if (marker == 0xda && ++head->scans > MAX_SCANS)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "JPEG picture with more than %d scans", MAX_SCANS);
        WN_TRY(on_segment(head, marker, p + at + 2, len - 2, err));
        at += len;
    }
}

/* CMYK, in place to RGB. */
static void from_cmyk(uint8_t *px, size_t n, bool inverted)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c[4];
        memcpy(c, px + 4 * i, 4);
        for (unsigned k = 0; !inverted && k < 4; k++)
            c[k] = (uint8_t)(255 - c[k]);
        for (unsigned k = 0; k < 3; k++)
            px[3 * i + k] = (uint8_t)((c[k] * c[3] + 127) / 255);
    }
}

static void tj_freep(tjhandle *tj)
{
    if (*tj)
        tjDestroy(*tj);
}

/* A warning that loses no picture data. */
static bool harmless(tjhandle tj)
{
    return tjGetErrorCode(tj) == TJERR_WARNING && strstr(tjGetErrorStr2(tj), "extraneous bytes before marker");
}

enum winnow_status wn_decode_jpeg(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                  struct wn_image *ret, unsigned *ret_orientation, struct winnow_err *err)
{
    struct jpeg_head head = { .orientation = 1 };
    WN_TRY(read_head(bytes, n, &head, err));
    WN_TRY(wn_decode_check_size("JPEG", head.w, head.h, limits, err));
    size_t pixels = (size_t)head.w * head.h;
    if (head.scans > 3 && (uint64_t)pixels * head.scans > MAX_SCAN_PIXELS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "JPEG picture of %u x %u pixels in %u scans", head.w, head.h,
                       head.scans);
    WN_CLEANUP(tj_freep) tjhandle tj = tjInitDecompress();
    if (!tj)
        return wn_fail(err, WINNOW_E_NOMEM, "reading a JPEG picture");
    int w, h, subsampling, space;
    if (tjDecompressHeader3(tj, bytes, (unsigned long)n, &w, &h, &subsampling, &space) < 0 && !harmless(tj))
        return broken(err, tjGetErrorStr2(tj));
    if ((unsigned)w != head.w || (unsigned)h != head.h)
        return broken(err, "two sizes");
    bool grey = space == TJCS_GRAY, cmyk = space == TJCS_CMYK || space == TJCS_YCCK;
    size_t channels = grey ? 1 : cmyk ? 4 : 3;
    WN_CLEANUP(wn_freep) uint8_t *px = malloc(pixels * channels);
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "JPEG picture of %d x %d pixels", w, h);
    if (tjDecompress2(tj, bytes, (unsigned long)n, px, w, 0, h,
                      grey   ? TJPF_GRAY
                      : cmyk ? TJPF_CMYK
                             : TJPF_RGB,
                      TJFLAG_ACCURATEDCT) < 0 &&
        !harmless(tj))
        return broken(err, tjGetErrorStr2(tj));
    if (cmyk)
        from_cmyk(px, pixels, head.adobe);
    *ret_orientation = head.orientation;
    *ret = (struct wn_image){ .w = head.w, .h = head.h, .channels = grey ? 1 : 3, .px = WN_TAKE(px) };
    return WINNOW_OK;
}
