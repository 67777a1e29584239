/* ck_conv.h: what the checks of f32_conv and q8_conv share: windows over planes. */
#ifndef CK_CONV_H
#define CK_CONV_H

#include "engine/kernels/conv_window.h"
#include "tests/checkkern/checkkern.h"

/** A window at random; elements (of 4 bytes) are called channels, at most `most` or, seldom, enough for several chunks.
 */
static inline void ck_conv_draw(struct ck *ck, struct wn_conv_shape *s, size_t most)
{
    static const int32_t kernels[] = { 1, 1, 3, 3, 5, 7 };
    s->kh = kernels[ck_rand(ck, 6)];
    s->kw = ck_rand(ck, 4) ? s->kh : kernels[ck_rand(ck, 6)];
    s->stride_h = 1 + (int32_t)ck_rand(ck, 3);
    s->stride_w = 1 + (int32_t)ck_rand(ck, WN_CONV_STRIDE);
    s->dil_h = 1 + (int32_t)ck_rand(ck, 2);
    s->dil_w = 1 + (int32_t)ck_rand(ck, 2);
    s->pad_t = (int32_t)ck_rand(ck, (size_t)s->kh + 1);
    s->pad_l = (int32_t)ck_rand(ck, (size_t)s->kw + 1);
    s->channels = 1 + ck_rand(ck, ck_rand(ck, 8) ? most : 4000 / (size_t)(s->kh * s->kw));
    s->h = WN_MAX((s->kh - 1) * s->dil_h + 1 - 2 * s->pad_t, 1) + (int32_t)ck_rand(ck, 8);
    s->w = WN_MAX((s->kw - 1) * s->dil_w + 1 - 2 * s->pad_l, 1) + (int32_t)ck_rand(ck, ck_rand(ck, 2) ? 10 : 40);
}

/** Its output, and pitches and strides that leave gaps. */
static inline void ck_conv_lay(struct ck *ck, struct wn_conv_shape *s, size_t gap, size_t rows)
{
    s->oh = (s->h + 2 * s->pad_t - (s->kh - 1) * s->dil_h - 1) / s->stride_h + 1;
    s->ow = (s->w + 2 * s->pad_l - (s->kw - 1) * s->dil_w - 1) / s->stride_w + 1;
    s->x_pitch = (size_t)s->w + gap;
    s->x_stride = (size_t)s->h * s->x_pitch + gap;
    s->y_pitch = (size_t)s->ow + gap;
    s->y_cols = wn_round_up((size_t)(s->oh - 1) * s->y_pitch + (size_t)s->ow, WN_COLS);
    ck_shape(ck, "%zu<-%zu %dx%d/%dx%d dil %dx%d pad %d,%d %dx%d->%dx%d", rows, s->channels, s->kh, s->kw, s->stride_h,
             s->stride_w, s->dil_h, s->dil_w, s->pad_t, s->pad_l, s->h, s->w, s->oh, s->ow);
}

/** Layers to time. */
struct ck_conv_layer {
    size_t rows, channels;
    int32_t k, side, stride;
};
static const struct ck_conv_layer ck_conv_layers[] = {
    { 64, 3, 7, 224, 2 },   { 64, 64, 3, 56, 1 },    { 256, 64, 1, 56, 1 },   { 64, 256, 1, 56, 1 },
    { 128, 128, 3, 56, 2 }, { 128, 128, 3, 28, 1 },  { 512, 128, 1, 28, 1 },  { 128, 512, 1, 28, 1 },
    { 256, 256, 3, 14, 1 }, { 1024, 256, 1, 14, 1 }, { 256, 1024, 1, 14, 1 }, { 512, 512, 3, 7, 1 },
    { 2048, 512, 1, 7, 1 }, { 512, 2048, 1, 7, 1 },  { 96, 16, 1, 112, 1 },   { 384, 64, 1, 14, 1 }
};

/** The window of a layer, with `channels` elements; lay it out next. */
static inline struct wn_conv_shape ck_conv_shape_of(const struct ck_conv_layer *l, size_t channels)
{
    return (struct wn_conv_shape){ .channels = channels,
                                   .kh = l->k,
                                   .kw = l->k,
                                   .h = l->side,
                                   .w = l->side,
                                   .stride_h = l->stride,
                                   .stride_w = l->stride,
                                   .dil_h = 1,
                                   .dil_w = 1,
                                   .pad_t = l->k / 2,
                                   .pad_l = l->k / 2 };
}

#endif
