/* scalar.c: the reference: plain C, element by element. */
#include "engine/kernels/move_q8/move_q8.h"

#include "engine/kernels/q8_bytes.h"

/* Byte offset of channel o, column c in a form. */
static size_t at(enum wn_q8_out form, size_t stride, size_t o, size_t c)
{
    return form == WN_OUT_QUAD ? o / 4 * stride + 4 * c + o % 4 : o * stride + c;
}

/* One past the last lane that a block of channels writes. */
static size_t lanes_end(enum wn_q8_out form, size_t c1)
{
    return wn_round_up(c1, wn_q8_lanes(form));
}

void wn_move_q8_quantize_1__scalar(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    for (size_t o = c0; o < lanes_end(args->form, c1); o++)
        for (size_t c = 0; c < args->n; c++) {
            uint8_t y = (uint8_t)args->zp;
            if (o < args->channels && (!args->mask || args->mask[c])) {
                float f = ((const float *)(const void *)((const char *)args->x + o * args->x_stride))[c] / args->scale;
                y = wn_q8_byte(isnan(f) ? 0.0f : f, args->zp, args->q_lo, args->q_hi);
            }
            ((uint8_t *)args->y)[at(args->form, args->y_stride, o, c)] = y;
        }
}

void wn_move_q8_range_1__scalar(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2])
{
    for (size_t o = c0; o < c1; o++)
        for (size_t c = 0; c < n; c++) {
            float v = ((const float *)(const void *)((const char *)x + o * x_stride))[c];
            range[0] = v < range[0] ? v : range[0];
            range[1] = v > range[1] ? v : range[1];
        }
}

void wn_move_q8_dequantize_1__scalar(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    for (size_t o = c0; o < c1; o++) {
        float *y = (float *)(void *)((char *)args->y + o * args->y_stride);
        for (size_t c = 0; c < args->n; c++) {
            int32_t x = ((const uint8_t *)args->x)[at(args->form, args->x_stride, o, c)];
            y[c] = !args->mask || args->mask[c] ? (float)(x - args->zp) * args->scale : 0.0f;
        }
    }
}

static void change_form(const struct wn_move_q8 *args, enum wn_q8_out from, enum wn_q8_out to, size_t c0, size_t c1)
{
    for (size_t o = c0; o < lanes_end(to, c1); o++)
        for (size_t c = 0; c < args->n; c++) {
            bool live = o < args->channels && (!args->mask || args->mask[c]);
            ((uint8_t *)args->y)[at(to, args->y_stride, o, c)] =
                live ? ((const uint8_t *)args->x)[at(from, args->x_stride, o, c)] : (uint8_t)args->zp;
        }
}

void wn_move_q8_to_planes_1__scalar(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    change_form(args, WN_OUT_QUAD, WN_OUT_PLANE, c0, c1);
}

void wn_move_q8_to_quads_1__scalar(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    change_form(args, WN_OUT_PLANE, WN_OUT_QUAD, c0, c1);
}

void wn_move_q8_import_1__scalar(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch;
    for (size_t o = c0; o < lanes_end(args->form, c1); o++)
        for (size_t c = 0; c < args->cols; c++) {
            bool pixel = o < args->channels && c / pitch < h && c % pitch < w;
            args->y[at(args->form, args->stride, o, c)] =
                pixel ? args->x[(o * h + c / pitch) * w + c % pitch] : (uint8_t)args->zp;
        }
}

void wn_move_q8_export_1__scalar(const struct wn_move_q8_image *args, size_t c0, size_t c1)
{
    size_t h = (size_t)args->h, w = (size_t)args->w, pitch = (size_t)args->pitch;
    for (size_t o = c0; o < c1; o++)
        for (size_t i = 0; i < h * w; i++)
            args->y[o * h * w + i] = args->x[at(args->form, args->stride, o, i / w * pitch + i % w)];
}
