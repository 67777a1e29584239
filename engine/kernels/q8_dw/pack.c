/* pack.c: depthwise filters -> the streams of q8_dw.h. */
#include "engine/kernels/q8_dw/q8_dw.h"

#include <stdlib.h>

static enum winnow_status no_memory(struct winnow_err *err, size_t channels, size_t taps)
{
    return wn_fail(err, WINNOW_E_NOMEM, "packing %zu depthwise filters of %zu taps", channels, taps);
}

/* Part number `part` of a weight in -255..255 as a sum of s8, the same for every number of parts that suffices. */
static int8_t part_of(int w, unsigned part)
{
    for (; part; part--)
        w -= WN_MAX(-128, WN_MIN(127, w));
    return (int8_t)WN_MAX(-128, WN_MIN(127, w));
}

static unsigned parts_needed(const int16_t *w, size_t n)
{
    int lo = 0, hi = 0;
    for (size_t i = 0; i < n; i++) {
        lo = WN_MIN(lo, w[i]);
        hi = WN_MAX(hi, w[i]);
    }
    return hi > 2 * 127 ? 3 : hi > 127 || lo < -128 ? 2 : 1;
}

static enum winnow_status pack_pair(const int16_t *w, struct wn_arena *arena, struct wn_q8_dw *mat,
                                    struct winnow_err *err)
{
    size_t groups = (mat->channels + 3) / 4;
    int16_t *w16 = wn_arena_calloc(arena, groups * mat->noffs, 4 * sizeof *w16);
    if (!w16)
        return no_memory(err, mat->channels, mat->taps);
    for (size_t o = 0; o < mat->channels; o++)
        for (size_t t = 0; t < mat->taps; t++)
            w16[o / 4 * mat->noffs * 4 + t / 2 * 8 + o % 4 * 2 + t % 2] = w[o * mat->taps + t];
    mat->w16 = w16;
    return WINNOW_OK;
}

static enum winnow_status pack_quad(const int16_t *w, unsigned parts, struct wn_arena *arena, struct wn_q8_dw *mat,
                                    struct winnow_err *err)
{
    size_t groups = (mat->channels + 3) / 4;
    int8_t *w8 = wn_arena_calloc(arena, groups * mat->noffs, 4);
    if (!w8)
        return no_memory(err, mat->channels, mat->taps);
    for (size_t o = 0; o < mat->channels; o++)
        for (size_t s = 0; s < mat->taps * parts; s++)
            w8[o / 4 * mat->noffs * 4 + s / 4 * 16 + o % 4 * 4 + s % 4] =
                part_of(w[o * mat->taps + s / parts], (unsigned)(s % parts));
    mat->w8 = w8;
    return WINNOW_OK;
}

static enum winnow_status pack_plain(const int16_t *w, struct wn_arena *arena, struct wn_q8_dw *mat,
                                     struct winnow_err *err)
{
    mat->w16 = wn_arena_memdup(arena, w, mat->channels * mat->taps * sizeof *w);
    return mat->w16 ? WINNOW_OK : no_memory(err, mat->channels, mat->taps);
}

enum winnow_status wn_q8_dw_pack(enum wn_q8_dw_stream stream, const int16_t *w, size_t channels, size_t taps,
                                 struct wn_arena *arena, struct wn_q8_dw *ret_mat, struct winnow_err *err)
{
    static const size_t step[WN_Q8_DW_STREAMS] = { 1, 2, 4 };
    size_t n;
    if (!taps || taps > WN_Q8_DW_MAX_TAPS || !wn_mul_size(channels, taps * 64, &n))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "depthwise filter of %zu taps x %zu channels: 1 to %u taps", taps,
                       channels, WN_Q8_DW_MAX_TAPS);
    n = channels * taps;
    for (size_t i = 0; i < n; i++)
        if (abs(w[i]) > 255)
            return wn_fail(err, WINNOW_E_MALFORMED, "depthwise filter of channel %zu: weight %d past 255", i / taps,
                           w[i]);
    unsigned parts = stream == WN_Q8_DW_QUAD ? parts_needed(w, n) : 1;
    struct wn_q8_dw mat = { .stream = stream, .channels = channels, .taps = taps };
    mat.noffs = wn_round_up(taps * parts, step[stream]);
    uint32_t *tap = wn_arena_calloc(arena, mat.noffs, sizeof *tap);
    if (!tap)
        return no_memory(err, channels, taps);
    for (size_t s = 0; s < mat.noffs; s++)
        tap[s] = (uint32_t)WN_MIN(s / parts, taps - 1);
    mat.tap = tap;
    if (stream == WN_Q8_DW_QUAD)
        WN_TRY(pack_quad(w, parts, arena, &mat, err));
    else
        WN_TRY((stream == WN_Q8_DW_PAIR ? pack_pair : pack_plain)(w, arena, &mat, err));
    *ret_mat = mat;
    return WINNOW_OK;
}

void wn_q8_dw_link(const struct wn_q8_dw *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->noffs; i++)
        off[i] = koff[mat->tap[i]];
}
