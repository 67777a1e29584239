/* pack.c: row-major weights -> panels of 16 output channels, tap by tap. */
#include "engine/kernels/f32_conv/f32_conv.h"

#include "winnow/winnow.h"

enum winnow_status wn_f32_conv_pack(struct wn_arena *arena, const float *w, size_t rows, size_t channels, size_t taps,
                                    struct wn_f32_conv *ret_mat, struct winnow_err *err)
{
    const size_t L = WN_CONV_LANES, n_panels = (rows + L - 1) / L;
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
