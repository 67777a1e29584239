/* conv_window.c: what a window over planes needs to know. */
#include "engine/kernels/conv_window.h"

#define ELEMENT 4 /* bytes */

/* First and one past the last output whose tap at `kx` (in elements) lies in an input of `extent`. */
static void inside(const struct wn_conv_shape *s, int32_t kx, int32_t *ret_lo, int32_t *ret_hi)
{
    const int32_t at = kx - s->pad_l; /* of output 0 */
    const int32_t lo = at < 0 ? (-at + s->stride_w - 1) / s->stride_w : 0;
    const int32_t hi = at < s->w ? (s->w - 1 - at) / s->stride_w + 1 : 0;
    *ret_lo = WN_MIN(lo, s->ow);
    *ret_hi = WN_MAX(*ret_lo, WN_MIN(hi, s->ow));
}

#define EDGE 2 /* pixels at a row's end that tiles can leave out of a tap */

bool wn_conv_window_make(struct wn_arena *arena, const struct wn_conv_shape *shape, struct wn_conv_window *ret)
{
    const struct wn_conv_shape *s = shape;
    const size_t kw = (size_t)s->kw, taps = (size_t)s->kh * kw;
    int32_t *koff = wn_arena_calloc(arena, taps * s->channels + 2 * kw + WN_CONV_AHEAD, sizeof *koff);
    if (!koff)
        return false;
    int32_t *lo = koff + taps * s->channels, *hi = lo + kw;
    *ret = (struct wn_conv_window){ .shape = *s, .koff = koff, .lo = lo, .hi = hi, .right = s->ow };
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < s->channels; i++) {
            const size_t y = t / kw * (size_t)s->dil_h, x = t % kw * (size_t)s->dil_w;
            *koff++ = (int32_t)((i * s->x_stride + y * s->x_pitch + x) * ELEMENT);
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
