/* pack.c: 9-bit depthwise weights in every stream, and refusals. */
#include <criterion/criterion.h>
#include <string.h>
#include "engine/kernels/q8_dw/q8_dw.h"

/* The weight of channel o and tap t as the stream's slots add up to it. */
static int weight(const struct wn_q8_dw *mat, size_t o, size_t t)
{
    int sum = 0;
    if (mat->stream == WN_Q8_DW_PLAIN)
        return mat->w16[o * mat->taps + t];
    for (size_t s = 0; s < mat->noffs; s++)
        if (mat->tap[s] == t)
            sum += mat->stream == WN_Q8_DW_PAIR ? mat->w16[o / 4 * mat->noffs * 4 + s / 2 * 8 + o % 4 * 2 + s % 2]
                                                : mat->w8[o / 4 * mat->noffs * 4 + s / 4 * 16 + o % 4 * 4 + s % 4];
    return sum;
}

Test(q8_dw_pack, every_weight_of_nine_bits)
{
    enum { CHANNELS = 7, TAPS = 9 };
    static const int most[] = { 127, 254, 255 };
    for (unsigned stream = 0; stream < WN_Q8_DW_STREAMS; stream++)
        for (unsigned m = 0; m < 3; m++) {
            int16_t w[CHANNELS * TAPS];
            for (int i = 0; i < CHANNELS * TAPS; i++)
                w[i] = (int16_t)(i * 37 % (2 * most[m] + 1) - most[m]);
            w[5] = (int16_t)most[m];
            w[6] = (int16_t)-most[m];
            struct wn_arena arena = { 0 };
            struct wn_q8_dw mat;
            cr_assert_eq(wn_q8_dw_pack((enum wn_q8_dw_stream)stream, w, CHANNELS, TAPS, &arena, &mat, NULL), WINNOW_OK);
            for (size_t o = 0; o < CHANNELS; o++)
                for (size_t t = 0; t < TAPS; t++)
                    cr_assert_eq(weight(&mat, o, t), w[o * TAPS + t], "stream %u, channel %zu, tap %zu", stream, o, t);
            wn_arena_done(&arena);
        }
}

Test(q8_dw_pack, refuses)
{
    struct wn_arena arena = { 0 };
    struct wn_q8_dw mat = { .taps = 77 };
    struct winnow_err err = { 0 };
    int16_t w[8] = { 0, 1, 2, 256 };
    cr_assert_eq(wn_q8_dw_pack(WN_Q8_DW_PAIR, w, 2, 2, &arena, &mat, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "channel 1"));
    cr_assert_eq(wn_q8_dw_pack(WN_Q8_DW_PAIR, w, 2, 0, &arena, &mat, &err), WINNOW_E_TOO_LARGE);
    cr_assert_eq(wn_q8_dw_pack(WN_Q8_DW_PAIR, w, 1, 5000, &arena, &mat, &err), WINNOW_E_TOO_LARGE);
    wn_arena_init(&arena, 1);
    cr_assert_eq(wn_q8_dw_pack(WN_Q8_DW_QUAD, w, 1, 2, &arena, &mat, &err), WINNOW_E_NOMEM);
    cr_assert_eq(mat.taps, 77, "untouched on failure");
    wn_arena_done(&arena);
}
