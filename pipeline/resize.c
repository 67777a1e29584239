/* resize.c: resampling by a triangle filter with antialiasing, in two passes.
 *
 * DESIGN  The result is what PIL's BILINEAR gives, to the bit: weights are made in double and rounded to 22-bit
 * fractions, all sums are integers, and the picture between the passes is 8-bit. So the same picture gives the same
 * bytes on every machine and in Python. Considered: stb_image_resize. Rejected: its assertions about its own filter
 * tables fail for ordinary sizes (594 -> 384 pixels), and without them those tables may overflow. Source:
 * python-pillow/Pillow src/libImaging/Resample.c (the formulas). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

#define FRACTION 22
#define HALF     (1u << (FRACTION - 1))

/* For each output position the inputs it is made of: `first`, `n`, and their weights. */
struct taps {
    uint32_t out, max; /* outputs; room per output */
    struct {
        uint32_t first, n;
    } * span;         /* [out] */
    uint32_t *weight; /* [out][max] */
};

static void taps_done(struct taps *t)
{
    free(t->span);
    free(t->weight);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Taps for `in` pixels of which [from, from + part) become `out`. False when out of memory. */
static bool taps_init(struct taps *t, uint32_t in, double from, double part, uint32_t out)
{
    double scale = part / out, stretch = fmax(scale, 1), weights_sum;
    t->out = out;
    t->max = (uint32_t)ceil(stretch) * 2 + 1;
    t->span = calloc(out, sizeof *t->span);
    t->weight = calloc((size_t)out * t->max, sizeof *t->weight);
    double *w = calloc(t->max, sizeof *w);
    bool ok = t->span && t->weight && w;
    for (uint32_t o = 0; ok && o < out; o++) {
        double centre = from + (o + 0.5) * scale;
        double lo = fmax(centre - stretch + 0.5, 0), hi = fmin(centre + stretch + 0.5, in);
        uint32_t first = (uint32_t)WN_MIN(lo, in - 1.0), end = WN_MIN((uint32_t)fmax(hi, 0), first + t->max), n = 0;
        weights_sum = 0;
        for (uint32_t i = first; i < end; i++, n++)
            weights_sum += w[n] = triangle((i + 0.5 - centre) / stretch);
        for (uint32_t i = 0; i < n && weights_sum > 0; i++)
            t->weight[(size_t)o * t->max + i] = (uint32_t)floor(0.5 + w[i] / weights_sum * (1 << FRACTION));
        t->span[o].first = first;
        t->span[o].n = n;
    }
    free(w);
    return ok;
}

/* A sum of weighted bytes and one half, rounded. 32 bits hold it: the weights of an output add up to 2^22, give or take
 * half a unit for each of at most 2 * 8192 + 1 taps. */
static uint8_t to_u8(uint32_t sum)
{
    return (uint8_t)WN_MIN(sum >> FRACTION, 255u);
}

/* One row: (in, 1) -> (t->out, 1). */
static void across_1(const struct taps *t, const uint8_t *from, uint8_t *to)
{
    for (uint32_t o = 0; o < t->out; o++) {
        const uint8_t *p = from + t->span[o].first;
        const uint32_t *w = t->weight + (size_t)o * t->max;
        uint32_t sum = HALF;
        for (uint32_t i = 0; i < t->span[o].n; i++)
            sum += p[i] * w[i];
        *to++ = to_u8(sum);
    }
}

/* One row: (in, 3) -> (t->out, 3). */
static void across_3(const struct taps *t, const uint8_t *from, uint8_t *to)
{
    for (uint32_t o = 0; o < t->out; o++, to += 3) {
        const uint8_t *p = from + (size_t)t->span[o].first * 3;
        const uint32_t *w = t->weight + (size_t)o * t->max, *end = w + t->span[o].n;
        uint32_t r = HALF, g = HALF, b = HALF;
        for (; w < end; w++, p += 3) {
            r += p[0] * *w;
            g += p[1] * *w;
            b += p[2] * *w;
        }
        to[0] = to_u8(r);
        to[1] = to_u8(g);
        to[2] = to_u8(b);
    }
}

static void add_row(uint32_t *restrict sum, const uint8_t *restrict row, uint32_t w, size_t n)
{
    for (size_t x = 0; x < n; x++)
        sum[x] += row[x] * w;
}

/* All rows: rows of `n` bytes, the first of which is row `base` of the source. `sum` [n] is working memory. */
static void down(const struct taps *t, size_t n, const uint8_t *from, uint32_t base, uint32_t *sum, uint8_t *to)
{
    for (uint32_t o = 0; o < t->out; o++, to += n) {
        const uint8_t *p = from + (size_t)(t->span[o].first - base) * n;
        const uint32_t *w = t->weight + (size_t)o * t->max;
        for (size_t x = 0; x < n; x++)
            sum[x] = HALF;
        for (uint32_t i = 0; i < t->span[o].n; i++, p += n)
            add_row(sum, p, w[i], n);
        for (size_t x = 0; x < n; x++)
            to[x] = to_u8(sum[x]);
    }
}

static bool resize(const struct wn_image *image, const struct taps *tx, const struct taps *ty, uint8_t *px)
{
    uint32_t base = ty->span[0].first, end = ty->span[ty->out - 1].first + ty->span[ty->out - 1].n;
    size_t from_n = (size_t)image->w * image->channels, n = (size_t)tx->out * image->channels;
    WN_CLEANUP(wn_freep) uint8_t *middle = malloc((end - base) * n);
    WN_CLEANUP(wn_freep) uint32_t *sum = malloc(n * sizeof *sum);
    if (!middle || !sum)
        return false;
    for (uint32_t y = base; y < end; y++)
        if (image->channels == 1)
            across_1(tx, image->px + y * from_n, middle + (y - base) * n);
        else
            across_3(tx, image->px + y * from_n, middle + (y - base) * n);
    down(ty, n, middle, base, sum, px);
    return true;
}

enum winnow_status wn_image_resize(const struct wn_image *image, double part_w, double part_h, uint32_t w, uint32_t h,
                                   uint8_t *px, struct winnow_err *err)
{
    if (part_w == 1 && part_h == 1 && w == image->w && h == image->h) {
        memcpy(px, image->px, (size_t)w * h * image->channels);
        return WINNOW_OK;
    }
    struct taps tx = { 0 }, ty = { 0 };
    bool ok = taps_init(&tx, image->w, image->w * (1 - part_w) / 2, image->w * part_w, w) &&
              taps_init(&ty, image->h, image->h * (1 - part_h) / 2, image->h * part_h, h) &&
              resize(image, &tx, &ty, px);
    taps_done(&tx);
    taps_done(&ty);
    return ok ? WINNOW_OK
              : wn_fail(err, WINNOW_E_NOMEM, "resizing a picture of %u x %u pixels to %u x %u", image->w, image->h, w,
                        h);
}
