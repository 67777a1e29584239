/* image.c: what is decoded, what is refused and how, PNG round trips, EXIF orientation. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include "base/base.h"
#include "base/file.h"
#include "pipeline/decode.h"

/* A smooth picture with some detail; the same every time. */
static struct wn_image sample(uint32_t w, uint32_t h, uint32_t channels)
{
    struct wn_image im = { w, h, channels, malloc((size_t)w * h * channels) };
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < channels; c++)
                im.px[(y * w + x) * channels + c] = (uint8_t)(x * 7 + y * 3 + c * 40 + (x * y) % 5);
    return im;
}

static void *jpeg_of(const struct wn_image *im, int flags, size_t *ret_n)
{
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    tjhandle tj = tjInitCompress();
    cr_assert_eq(tjCompress2(tj, im->px, (int)im->w, 0, (int)im->h, im->channels == 1 ? TJPF_GRAY : TJPF_RGB, &bytes,
                             &n, im->channels == 1 ? TJSAMP_GRAY : TJSAMP_420, 90, flags),
                 0);
    tjDestroy(tj);
    void *copy = malloc(n);
    memcpy(copy, bytes, n);
    tjFree(bytes);
    *ret_n = n;
    return copy;
}

Test(image, png_round_trip)
{
    for (uint32_t channels = 1; channels <= 3; channels += 2)
        for (uint32_t w = 1; w < 40; w += 13) {
            struct wn_image im = sample(w, 9, channels), back = { 0 };
            struct winnow_err err = { 0 };
            void *png, *again;
            size_t n, n2;
            cr_assert_eq(wn_image_encode_png(&im, &png, &n, &err), WINNOW_OK, "%s", err.msg);
            cr_assert_eq(wn_image_encode_png(&im, &again, &n2, &err), WINNOW_OK, "%s", err.msg);
            cr_expect(n == n2 && memcmp(png, again, n) == 0);
            cr_assert_eq(wn_image_decode(png, n, NULL, &back, &err), WINNOW_OK, "%s", err.msg);
            cr_assert(back.w == w && back.h == 9 && back.channels == channels);
            cr_expect_arr_eq(back.px, im.px, (size_t)w * 9 * channels);
            wn_image_done(&im);
            wn_image_done(&back);
            free(png);
            free(again);
        }
}

Test(image, jpeg_is_close_and_repeatable)
{
    for (uint32_t channels = 1; channels <= 3; channels += 2) {
        struct wn_image im = sample(33, 21, channels), a = { 0 }, b = { 0 };
        for (size_t i = 0; i < (size_t)33 * 21 * channels; i++)
            im.px[i] = (uint8_t)(60 + i % (33 * channels)); /* smooth */
        struct winnow_err err = { 0 };
        for (int progressive = 0; progressive < 2; progressive++) {
            size_t n;
            void *jpeg = jpeg_of(&im, progressive ? TJFLAG_PROGRESSIVE : 0, &n);
            cr_assert_eq(wn_image_decode(jpeg, n, NULL, &a, &err), WINNOW_OK, "%s", err.msg);
            cr_assert_eq(wn_image_decode(jpeg, n, NULL, &b, &err), WINNOW_OK, "%s", err.msg);
            cr_assert(a.w == 33 && a.h == 21 && a.channels == channels);
            cr_expect_arr_eq(a.px, b.px, (size_t)33 * 21 * channels);
            long far = 0;
            for (size_t i = 0; i < (size_t)33 * 21 * channels; i++)
                far += abs(a.px[i] - im.px[i]);
            cr_expect_lt(far / (33 * 21 * (long)channels), 6);
            wn_image_done(&a);
            wn_image_done(&b);
            free(jpeg);
        }
        wn_image_done(&im);
    }
}

Test(image, every_truncation_is_refused)
{
    struct wn_image im = sample(24, 17, 3), out = { 0 };
    struct winnow_err err;
    for (int kind = 0; kind < 3; kind++) {
        size_t n;
        void *bytes;
        if (kind == 0)
            cr_assert_eq(wn_image_encode_png(&im, &bytes, &n, &err), WINNOW_OK);
        else
            bytes = jpeg_of(&im, kind == 2 ? TJFLAG_PROGRESSIVE : 0, &n);
        for (size_t cut = 0; cut < n; cut++) {
            void *copy = malloc(cut + 1);
            memcpy(copy, bytes, cut);
            cr_expect_eq(wn_image_decode(copy, cut, NULL, &out, &err), WINNOW_E_MALFORMED, "kind %d, %zu of %zu", kind,
                         cut, n);
            free(copy);
        }
        free(bytes);
    }
    wn_image_done(&im);
}

Test(image, broken_bytes_never_crash)
{
    struct wn_image im = sample(20, 20, 3), out = { 0 };
    unsigned seed = 1;
    for (int kind = 0; kind < 3; kind++) {
        size_t n;
        void *bytes;
        if (kind == 0)
            cr_assert_eq(wn_image_encode_png(&im, &bytes, &n, NULL), WINNOW_OK);
        else
            bytes = jpeg_of(&im, kind == 2 ? TJFLAG_PROGRESSIVE : 0, &n);
        for (int turn = 0; turn < 500; turn++) {
            unsigned char *copy = malloc(n);
            memcpy(copy, bytes, n);
            for (int k = 0; k < 3; k++) {
                seed = seed * 1103515245u + 12345u;
                copy[(seed >> 8) % n] = (unsigned char)(seed >> 3);
            }
            if (wn_image_decode(copy, n, NULL, &out, NULL) == WINNOW_OK)
                wn_image_done(&out);
            free(copy);
        }
        free(bytes);
    }
    wn_image_done(&im);
}

/* ---- PNGs by hand ---- */
static void put_u32(unsigned char *to, uint32_t v)
{
    to[0] = (unsigned char)(v >> 24);
    to[1] = (unsigned char)(v >> 16);
    to[2] = (unsigned char)(v >> 8);
    to[3] = (unsigned char)v;
}

static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uint32_t crc = ~0u;
    for (; n; n--, p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static size_t put_chunk(unsigned char *to, const char *type, const void *data, uint32_t n)
{
    put_u32(to, n);
    memcpy(to + 4, type, 4);
    if (n)
        memcpy(to + 8, data, n);
    put_u32(to + 8 + n, crc_of(to + 4, n + 4));
    return n + 12;
}

static size_t put_head(unsigned char *to, uint32_t w, uint32_t h, unsigned depth, unsigned color)
{
    unsigned char d[13] = { 0 };
    put_u32(d, w);
    put_u32(d + 4, h);
    d[8] = (unsigned char)depth;
    d[9] = (unsigned char)color;
    memcpy(to, "\x89PNG\r\n\x1a\n", 8);
    return 8 + put_chunk(to + 8, "IHDR", d, 13);
}

/* IDAT (one stored deflate block) and IEND. */
static size_t put_data(unsigned char *to, const void *raw, unsigned n)
{
    unsigned char z[256] = { 0x78, 0x01, 1, (unsigned char)n, 0, (unsigned char)~n, 0xff };
    uint32_t a = 1, b = 0;
    memcpy(z + 7, raw, n);
    for (unsigned i = 0; i < n; i++)
        b += a += z[7 + i];
    put_u32(z + 7 + n, b << 16 | a);
    size_t at = put_chunk(to, "IDAT", z, 11 + n);
    return at + put_chunk(to + at, "IEND", NULL, 0);
}

Test(image, bombs_are_refused_by_their_header)
{
    unsigned char png[512];
    struct wn_image out = { 0 };
    struct winnow_err err;
    size_t n = put_head(png, 60000, 60000, 8, 2);
    n += put_data(png + n, "x", 1);
    cr_expect_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "PNG picture of 60000 x 60000 pixels; a side may have 8192");
    n = put_head(png, 300, 300, 8, 2);
    n += put_data(png + n, "x", 1);
    struct wn_image_limits limits = { .max_pixels = 1000 };
    cr_expect_eq(wn_image_decode(png, n, &limits, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "PNG picture of 300 x 300 pixels; 1000 are allowed");
    n = put_head(png, 0x80000001u, 1, 8, 2);
    cr_expect_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_E_MALFORMED);

    struct wn_image im = sample(16, 16, 3);
    unsigned char *jpeg = jpeg_of(&im, 0, &n);
    for (size_t i = 0; i + 9 < n; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0)
            memcpy(jpeg + i + 5, "\xff\xff\xff\xff", 4);
    cr_expect_eq(wn_image_decode(jpeg, n, NULL, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "JPEG picture of 65535 x 65535 pixels; a side may have 8192");
    free(jpeg);
    limits = (struct wn_image_limits){ .max_bytes = 100 };
    cr_expect_eq(wn_image_decode(im.px, 101, &limits, &out, &err), WINNOW_E_TOO_LARGE);
    wn_image_done(&im);
}

Test(image, many_scans_and_chunks_are_refused)
{
    struct wn_image im = sample(16, 16, 3), out = { 0 };
    struct winnow_err err;
    size_t n, scan = 0;
    unsigned char *jpeg = jpeg_of(&im, TJFLAG_PROGRESSIVE, &n);
    for (size_t i = 2; i + 4 < n; i++) /* the last scan, again and again */
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xda)
            scan = i;
    size_t len = n - 2 - scan, total = scan + 10000 * len;
    unsigned char *bomb = malloc(total + 2);
    memcpy(bomb, jpeg, scan);
    for (size_t i = 0; i < 10000; i++)
        memcpy(bomb + scan + i * len, jpeg + scan, len);
    memcpy(bomb + total, "\xff\xd9", 2);
    cr_expect_eq(wn_image_decode(bomb, total + 2, NULL, &out, &err), WINNOW_E_TOO_LARGE, "%s", err.msg);
    free(bomb);
    free(jpeg);
    wn_image_done(&im);

    unsigned char *png = malloc(1 << 20);
    n = put_head(png, 4, 4, 8, 0);
    for (int i = 0; i < 10000; i++)
        n += put_chunk(png + n, "tEXt", "a\0b", 3);
    n += put_data(png + n, "\0\1\2\3\4\0\1\2\3\4\0\1\2\3\4\0\1\2\3\4", 20);
    cr_expect_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_E_TOO_LARGE, "%s", err.msg);
    free(png);
}

Test(image, png_kinds)
{
    unsigned char png[512];
    struct wn_image out = { 0 };
    struct winnow_err err = { 0 };
    size_t n = put_head(png, 2, 1, 8, 6); /* RGBA over black */
    n += put_data(png + n, "\0\xff\x80\x00\x80\x0a\x14\x1e\xff", 9);
    cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.channels == 3 && memcmp(out.px, "\x80\x40\x00\x0a\x14\x1e", 6) == 0);
    wn_image_done(&out);
    n = put_head(png, 2, 1, 16, 0); /* 16-bit grey */
    n += put_data(png + n, "\0\x12\x34\xff\xff", 5);
    cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.channels == 1 && out.px[0] == 0x12 && out.px[1] == 0xff);
    wn_image_done(&out);
    n = put_head(png, 8, 1, 1, 0); /* one bit */
    n += put_data(png + n, "\0\xaa", 2);
    cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.channels == 1 && memcmp(out.px, "\xff\0\xff\0\xff\0\xff\0", 8) == 0);
    wn_image_done(&out);
    n = put_head(png, 2, 1, 8, 3); /* palette, its second entry transparent */
    n += put_chunk(png + n, "PLTE", "\1\2\3\4\5\6", 6);
    n += put_chunk(png + n, "tRNS", "\xff\0", 2);
    n += put_data(png + n, "\0\0\1", 3);
    cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.channels == 3 && memcmp(out.px, "\1\2\3\0\0\0", 6) == 0);
    wn_image_done(&out);
    n = put_head(png, 2, 1, 8, 4); /* grey and alpha */
    n += put_data(png + n, "\0\x80\xff\x80\x00", 5);
    cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.channels == 1 && memcmp(out.px, "\x80\0", 2) == 0);
    wn_image_done(&out);
}

Test(image, other_formats_are_named)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum winnow_status status;
        const char *msg;
    } cases[] = {
        { "GIF89a......", 12, WINNOW_E_UNSUPPORTED, "GIF pictures are not supported; send PNG or JPEG" },
        { "RIFF....WEBP", 12, WINNOW_E_UNSUPPORTED, "WebP pictures are not supported; send PNG or JPEG" },
        { "....ftypavif", 12, WINNOW_E_UNSUPPORTED, "HEIF or AVIF pictures are not supported; send PNG or JPEG" },
        { "hello world.", 12, WINNOW_E_MALFORMED, "not a PNG or JPEG picture" },
        { "", 0, WINNOW_E_MALFORMED, "picture of 0 bytes" },
        { "\xff\xd8\xff\xd9", 4, WINNOW_E_MALFORMED, "broken JPEG picture: no picture in it" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_image out;
        struct winnow_err err = { 0 };
        cr_expect_eq(wn_image_decode(cases[i].bytes, cases[i].n, NULL, &out, &err), cases[i].status);
        cr_expect_str_eq(err.msg, cases[i].msg);
    }
}

/* A big-endian EXIF block with this orientation. */
static void exif_of(unsigned orientation, unsigned char tiff[26])
{
    memcpy(tiff, "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0", 26);
    tiff[19] = (unsigned char)orientation;
}

Test(image, exif_orientation)
{
    /* 2 x 3 pixels 1..6 as stored, and as they must be shown for each orientation (Exif 2.32, table 6) */
    static const struct {
        uint32_t w, h;
        uint8_t px[6];
    } shown[9] = {
        [1] = { 2, 3, { 1, 2, 3, 4, 5, 6 } }, [2] = { 2, 3, { 2, 1, 4, 3, 6, 5 } },
        [3] = { 2, 3, { 6, 5, 4, 3, 2, 1 } }, [4] = { 2, 3, { 5, 6, 3, 4, 1, 2 } },
        [5] = { 3, 2, { 1, 3, 5, 2, 4, 6 } }, [6] = { 3, 2, { 5, 3, 1, 6, 4, 2 } },
        [7] = { 3, 2, { 6, 4, 2, 5, 3, 1 } }, [8] = { 3, 2, { 2, 4, 6, 1, 3, 5 } },
    };
    for (unsigned o = 1; o <= 8; o++) {
        unsigned char tiff[26], png[512];
        struct wn_image out = { 0 };
        struct winnow_err err = { 0 };
        exif_of(o, tiff);
        cr_expect_eq(wn_exif_orientation(tiff, sizeof tiff), o);
        size_t n = put_head(png, 2, 3, 8, 0);
        n += put_chunk(png + n, "eXIf", tiff, sizeof tiff);
        n += put_data(png + n, "\0\1\2\0\3\4\0\5\6", 9);
        cr_assert_eq(wn_image_decode(png, n, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
        cr_expect(out.w == shown[o].w && out.h == shown[o].h, "orientation %u: %u x %u", o, out.w, out.h);
        cr_expect_arr_eq(out.px, shown[o].px, 6, "orientation %u", o);
        wn_image_done(&out);
    }
    unsigned char tiff[26];
    exif_of(6, tiff);
    for (size_t cut = 0; cut < sizeof tiff - 4; cut++)
        cr_expect_eq(wn_exif_orientation(tiff, cut), 1);
    exif_of(9, tiff);
    cr_expect_eq(wn_exif_orientation(tiff, sizeof tiff), 1);
    tiff[4] = 0xff; /* directory far outside */
    cr_expect_eq(wn_exif_orientation(tiff, sizeof tiff), 1);
}

Test(image, exif_in_jpeg_turns)
{
    struct wn_image im = sample(16, 8, 1), out = { 0 };
    struct winnow_err err = { 0 };
    size_t n;
    unsigned char *jpeg = jpeg_of(&im, 0, &n), *with = malloc(n + 36);
    memcpy(with, jpeg, 2);
    memcpy(with + 2,
           "\xff\xe1\0\x22"
           "Exif\0\0",
           10);
    exif_of(6, with + 12);
    memcpy(with + 38, jpeg + 2, n - 2);
    cr_assert_eq(wn_image_decode(with, n + 36, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(out.w == 8 && out.h == 16);
    wn_image_done(&out);
    wn_image_done(&im);
    free(jpeg);
    free(with);
}

Test(image, real_photographs)
{
    const char *dir = "../shared/data/images";
    DIR *d = opendir(dir);
    if (!d)
        cr_skip_test("no ../shared/data/images here");
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, ".jp"))
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        void *bytes;
        size_t n;
        struct wn_image im = { 0 };
        struct winnow_err err = { 0 };
        cr_assert_eq(wn_file_read(path, 1 << 24, &bytes, &n, &err), WINNOW_OK, "%s", err.msg);
        cr_expect_eq(wn_image_decode(bytes, n, NULL, &im, &err), WINNOW_OK, "%s: %s", path, err.msg);
        cr_expect(im.channels == 3 && im.w > 50 && im.h > 50);
        wn_image_done(&im);
        free(bytes);
        count++;
    }
    closedir(d);
    cr_expect_geq(count, 10);
}

Test(image, grey_and_colour)
{
    struct wn_image rgb = { 2, 1, 3, (uint8_t[]){ 255, 0, 0, 10, 20, 30 } }, out;
    cr_assert_eq(wn_image_convert(&rgb, 1, &out, NULL), WINNOW_OK);
    cr_expect(out.px[0] == 76 && out.px[1] == 18, "%u %u", out.px[0], out.px[1]); /* as PIL's convert("L") */
    struct wn_image back;
    cr_assert_eq(wn_image_convert(&out, 3, &back, NULL), WINNOW_OK);
    cr_expect(memcmp(back.px, "\x4c\x4c\x4c\x12\x12\x12", 6) == 0);
    wn_image_done(&out);
    wn_image_done(&back);
}

/* No size within the limits may leave the tables of taps. */
Test(image, resize_takes_every_size)
{
    static uint8_t src[8192 * 3], px[4096 * 3];
    static const uint32_t sizes[] = { 1, 2, 3, 7, 28, 32, 224, 299, 384, 4096 };
    struct winnow_err err = { 0 };
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 31);
    for (uint32_t from = 1; from <= 8192; from += from < 400 ? 1 : 97)
        for (size_t k = 0; k < WN_COUNT(sizes) - (from % 16 != 0); k++) {
            struct wn_image row = { from, 1, 3, src }, column = { 1, from, 3, src };
            cr_expect_eq(wn_image_resize(&row, 1, 1, sizes[k], 1, px, &err), WINNOW_OK, "%u -> %u: %s", from, sizes[k],
                         err.msg);
            cr_expect_eq(wn_image_resize(&column, 1, 1, 1, sizes[k], px, &err), WINNOW_OK, "%u -> %u: %s", from,
                         sizes[k], err.msg);
            double part = 0.875 * WN_MIN(1.0, 300.0 / from);
            cr_expect_eq(wn_image_resize(&row, part, 1, sizes[k], 1, px, &err), WINNOW_OK, "%g of %u -> %u: %s", part,
                         from, sizes[k], err.msg);
        }
}

Test(image, resize_keeps_flat_areas_and_means)
{
    uint8_t flat[50 * 40], out[224 * 224];
    memset(flat, 137, sizeof flat);
    struct wn_image im = { 50, 40, 1, flat };
    cr_assert_eq(wn_image_resize(&im, 1, 1, 224, 224, out, NULL), WINNOW_OK);
    for (size_t i = 0; i < sizeof out; i++)
        cr_assert_eq(out[i], 137);
    for (size_t i = 0; i < sizeof flat; i++)
        flat[i] = i % 2 ? 200 : 100;
    cr_assert_eq(wn_image_resize(&im, 1, 1, 10, 10, out, NULL), WINNOW_OK);
    for (size_t i = 0; i < 100; i++)
        cr_assert(abs(out[i] - 150) < 12, "%u", out[i]);
}
