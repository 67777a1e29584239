/* pack.c: row-major weights -> panels of 16 output channels, tap by tap, in quads of input channels. */
#include "engine/kernels/q8_conv/q8_conv.h"

#include "winnow/winnow.h"

static void fill(const struct wn_q8_conv *mat, const int8_t *w, int8_t *panels, int32_t *sums)
{
    const size_t L = WN_CONV_LANES, steps = mat->taps * mat->quads;
    for (size_t o = 0; o < mat->rows; o++) {
        int8_t *lane = panels + 4 * (o / L * L * steps + o % L);
        for (size_t i = 0; i < mat->channels; i++)
            for (size_t t = 0; t < mat->taps; t++) {
                const int8_t weight = w[(o * mat->channels + i) * mat->taps + t];
                lane[4 * L * (t * mat->quads + i / 4) + i % 4] = weight;
                sums[t * mat->lanes + o] += weight;
            }
    }
}

enum winnow_status wn_q8_conv_pack(struct wn_arena *arena, const int8_t *w, size_t rows, size_t channels, size_t taps,
                                   struct wn_q8_conv *ret_mat, struct winnow_err *err)
{
    struct wn_q8_conv mat = { .rows = rows, .channels = channels, .taps = taps };
    size_t k, weights, sums;
    if (!wn_mul_size(channels, taps, &k) || k == 0 || k > WN_Q8_MAX_K || rows == 0 || rows > SIZE_MAX - WN_CONV_LANES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu x %zu weights", rows, channels, taps);
    mat.quads = wn_q8_quads(channels, 1);
    mat.lanes = wn_round_up(rows, WN_CONV_LANES);
    if (!wn_mul_size(mat.lanes, 4 * mat.quads * taps, &weights) ||
        !wn_mul_size(mat.lanes, taps * sizeof *mat.sums, &sums))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu x %zu weights", rows, channels, taps);
    int32_t *tap_sums = wn_arena_calloc(arena, sums, 1); /* the smaller first: an arena's blocks double */
    int8_t *panels = wn_arena_calloc(arena, weights, 1);
    if (!panels || !tap_sums)
        return wn_fail(err, WINNOW_E_NOMEM, "packing an int8 matrix of %zu rows by %zu weights", rows, k);
    fill(&mat, w, panels, tap_sums);
    mat.panels = (const int32_t *)(const void *)panels;
    mat.sums = tap_sums;
    mat.bytes = weights + sums;
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_conv_outside(const struct wn_q8_conv *mat, int32_t x_zp, int32_t *outside)
{
    for (size_t i = 0; i < mat->taps * mat->lanes; i++)
        outside[i] = x_zp * mat->sums[i];
}

void wn_q8_conv_gap(const struct wn_conv_shape *s, const struct wn_q8_args *args, int32_t oy, size_t row0, size_t row1)
{
    const bool quads = args->out == WN_OUT_QUAD;
    const size_t elem = args->out == WN_OUT_PLANE ? 1 : 4, first = quads ? row0 / 4 : row0,
                 end = quads ? (row1 + 3) / 4 : row1;
    const size_t from = (size_t)oy * s->y_pitch + (size_t)s->ow, n = wn_conv_row_end(s, oy) - (size_t)s->ow;
    for (size_t p = first; p < end; p++)
        memset((char *)args->y + p * args->y_stride + from * elem, args->out == WN_OUT_F32 ? 0 : args->y_zp, n * elem);
}
