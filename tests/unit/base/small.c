/* small.h: every code is the nearest to the number it stands for, and what does not fit goes where the type says. */
#include <criterion/criterion.h>
#include <math.h>
#include "base/small.h"

Test(small, codes_survive_a_round_trip)
{
    for (enum winnow_dtype t = WINNOW_F8E4M3FN; t <= WINNOW_I2; t++)
        for (unsigned b = 0; b < 1u << wn_small_bits(t); b++) {
            float f = wn_small_to_f32(t, (uint8_t)b);
            uint8_t back = wn_small_from_f32(t, f, false, WN_SMALL_NEAREST);
            if (isnan(f))
                cr_expect(isnan(wn_small_to_f32(t, back)), "type %d, code %u", t, b);
            else
                cr_expect_eq(back, b, "type %d, code %u becomes %u", t, b, back);
        }
}

Test(small, halves_go_to_even_and_the_rest_to_the_nearest)
{
    for (enum winnow_dtype t = WINNOW_F8E4M3FN; t <= WINNOW_F8E5M2FNUZ; t++)
        for (uint8_t b = 0; b < 0x77; b++) {
            float lo = wn_small_to_f32(t, b), hi = wn_small_to_f32(t, (uint8_t)(b + 1)), mid = lo + (hi - lo) / 2;
            cr_expect_eq(wn_small_from_f32(t, mid, true, WN_SMALL_NEAREST), b & 1 ? b + 1 : b, "type %d, %g", t,
                         (double)mid);
            cr_expect_eq(wn_small_from_f32(t, nextafterf(mid, 0), true, WN_SMALL_NEAREST), b);
            cr_expect_eq(wn_small_from_f32(t, nextafterf(mid, INFINITY), true, WN_SMALL_NEAREST), b + 1);
        }
}

Test(small, what_is_too_large)
{
    static const struct {
        enum winnow_dtype t;
        float x;
        bool saturate;
        uint8_t want;
    } cases[] = {
        { WINNOW_F8E4M3FN, 1e9f, true, 0x7e },
        { WINNOW_F8E4M3FN, -1e9f, true, 0xfe },
        { WINNOW_F8E4M3FN, 1e9f, false, 0x7f },
        { WINNOW_F8E5M2, -INFINITY, true, 0xfb },
        { WINNOW_F8E5M2, 1e9f, false, 0x7c },
        { WINNOW_F8E5M2FNUZ, 1e9f, false, 0x80 },
        { WINNOW_F8E4M3FNUZ, -1e-9f, true, 0x00 },
        { WINNOW_F4E2M1, 100, true, 0x07 },
        { WINNOW_F8E8M0, 3, true, 129 },
        { WINNOW_F8E8M0, 0x1p-140f, true, 0 },
        { WINNOW_I4, -9, true, 0x07 },
        { WINNOW_U2, 5, true, 0x01 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t got = wn_small_from_f32(cases[i].t, cases[i].x, cases[i].saturate, WN_SMALL_UP);
        cr_expect_eq(got, cases[i].want, "case %zu is %#x, must be %#x", i, got, cases[i].want);
    }
}
