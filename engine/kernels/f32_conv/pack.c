/* pack.c: row-major weights -> panels of 16 output channels, tap by tap, and what a window over planes needs to know.
 */
#include "engine/kernels/f32_conv/f32_conv.h"

#include "winnow/winnow.h"

enum winnow_status wn_f32_conv_pack(struct wn_arena *arena, const float *w, size_t rows, size_t channels, size_t taps,
                                    struct wn_f32_conv *ret_mat, struct winnow_err *err)
{
    const size_t L = WN_F32_CONV_LANES, n_panels = (rows + L - 1) / L;
    size_t k, floats;
    float *to = wn_mul_size(channels, taps, &k) && wn_mul_size(n_panels, L, &floats) && wn_mul_size(floats, k, &floats)
                    ? wn_arena_calloc(arena, floats, sizeof *to)
                    : NULL;
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "dense weights (%zu, %zu, %zu)", rows, channels, taps);
    *ret_mat = (struct wn_f32_conv){ .rows = rows, .channels = channels, .taps = taps, .panels = to };
    for (size_t o = 0; o < rows; o++) {
        float *lane = to + o / L * L * k + o % L;
        for (size_t i = 0; i < channels; i++)
            for (size_t t = 0; t < taps; t++)
                lane[(t * channels + i) * L] = w[(o * channels + i) * taps + t];
    }
    return WINNOW_OK;
}

/* ---- windows ---- */

/* First and one past the last output whose tap at `kx` (in elements) lies in an input of `extent`. */
static void inside(const struct wn_f32_shape *s, int32_t kx, int32_t *ret_lo, int32_t *ret_hi)
{
    const int32_t at = kx - s->pad_l; /* of output 0 */
    const int32_t lo = at < 0 ? (-at + s->stride_w - 1) / s->stride_w : 0;
    const int32_t hi = at < s->w ? (s->w - 1 - at) / s->stride_w + 1 : 0;
    *ret_lo = WN_MIN(lo, s->ow);
    *ret_hi = WN_MAX(*ret_lo, WN_MIN(hi, s->ow));
}

#define EDGE 2 /* pixels at a row's end that tiles can leave out of a tap */

bool wn_f32_window_make(struct wn_arena *arena, const struct wn_f32_shape *shape, struct wn_f32_window *ret)
{
    const struct wn_f32_shape *s = shape;
    const size_t kw = (size_t)s->kw, taps = (size_t)s->kh * kw;
    int32_t *koff = wn_arena_calloc(arena, taps * s->channels + 2 * kw + 1, sizeof *koff);
    if (!koff)
        return false;
    int32_t *lo = koff + taps * s->channels, *hi = lo + kw;
    *ret = (struct wn_f32_window){ .shape = *s, .koff = koff, .lo = lo, .hi = hi, .right = s->ow };
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < s->channels; i++) {
            const size_t y = t / kw * (size_t)s->dil_h, x = t % kw * (size_t)s->dil_w;
            *koff++ = (int32_t)((i * s->x_stride + y * s->x_pitch + x) * sizeof(float));
        }
    bool both = false;
    for (int32_t kx = 0; kx < s->kw; kx++) {
        inside(s, kx * s->dil_w, &lo[kx], &hi[kx]);
        ret->left = WN_MAX(ret->left, lo[kx]);
        ret->right = WN_MIN(ret->right, hi[kx]);
        both |= lo[kx] > 0 && hi[kx] < s->ow;
    }
    ret->right = WN_MAX(ret->right, ret->left);
    ret->edges_apart = both || ret->left > EDGE || s->ow - ret->right > EDGE;
    return true;
}
