/* scalar.c: the reference: plain C, window by window. */
#include "engine/kernels/pool_q8/pool_q8.h"

#include "engine/kernels/q8_bytes.h"

/* Byte offset of channel o, column c in a form. */
static size_t at(enum wn_q8_out form, size_t stride, size_t o, size_t c)
{
    return form == WN_OUT_QUAD ? o / 4 * stride + 4 * c + o % 4 : o * stride + c;
}

static uint8_t window(const struct wn_pool_q8 *p, size_t o, int32_t oy, int32_t ox)
{
    struct wn_pool_q8_axis v =
        wn_pool_q8_axis_at(oy, p->kh, p->stride_h, p->dil_h, p->pad_t, p->pad_b, p->in.h, p->count_include_pad);
    struct wn_pool_q8_axis u =
        wn_pool_q8_axis_at(ox, p->kw, p->stride_w, p->dil_w, p->pad_l, p->pad_r, p->in.w, p->count_include_pad);
    int32_t real = (v.end - v.first) * (u.end - u.first), sum = 0;
    uint8_t top = 0;
    if (!real)
        return (uint8_t)p->y_zp;
    for (int32_t ky = v.first; ky < v.end; ky++)
        for (int32_t kx = u.first; kx < u.end; kx++) {
            int32_t y = oy * p->stride_h - p->pad_t + ky * p->dil_h, x = ox * p->stride_w - p->pad_l + kx * p->dil_w;
            uint8_t e = p->x[at(p->form, p->x_stride, o, (size_t)y * (size_t)p->in.pitch + (size_t)x)];
            top = WN_MAX(top, e);
            sum += e;
        }
    if (p->kind == WN_POOL_Q8_MAX)
        return top;
    float f = (float)(sum - real * p->x_zp) * (p->mul / (float)(v.counted * u.counted));
    return wn_q8_byte(f, p->y_zp, p->q_lo, p->q_hi);
}

void wn_pool_q8_1__scalar(const struct wn_pool_q8 *p, size_t c0, size_t c1)
{
    size_t pitch = (size_t)p->out.pitch;
    for (size_t o = c0; o < wn_round_up(c1, wn_q8_lanes(p->form)); o++)
        for (size_t c = 0; c < p->out.cols; c++) {
            bool pixel = o < p->channels && c / pitch < (size_t)p->out.h && c % pitch < (size_t)p->out.w;
            p->y[at(p->form, p->y_stride, o, c)] =
                pixel ? window(p, o, (int32_t)(c / pitch), (int32_t)(c % pitch)) : (uint8_t)p->y_zp;
        }
}

void wn_pool_q8_global_1__scalar(const struct wn_pool_q8_global *p, size_t c0, size_t c1)
{
    for (size_t o = c0; o < wn_round_up(c1, wn_q8_lanes(p->form)); o++) {
        uint32_t sum = 0;
        for (int32_t y = 0; y < p->in.h && o < p->channels; y++)
            for (int32_t x = 0; x < p->in.w; x++)
                sum += p->x[at(p->form, p->x_stride, o, (size_t)y * (size_t)p->in.pitch + (size_t)x)];
        float f = (float)((int32_t)sum - p->in.h * p->in.w * p->x_zp) * p->mul;
        for (size_t c = 0; c < p->y_cols; c++)
            p->y[at(p->form, p->y_stride, o, c)] =
                c == 0 && o < p->channels ? wn_q8_byte(f, p->y_zp, p->q_lo, p->q_hi) : (uint8_t)p->y_zp;
    }
}
