/* Geometry of the lanes layout. */
#include <criterion/criterion.h>
#include "sparsify/kernels/lanes.h"
#include "sparsify/kernels/rng.h"

TestSuite(lanes);

Test(lanes, a_halo_surrounds_every_pixel)
{
    struct wn_lanes_geom g;
    wn_lanes_geom_image(&g, 32, 3, 4, 5, 2);
    cr_assert_eq(g.nb, 2);
    cr_assert_geq(wn_lanes_at(&g, 0, 0, -2, -2), 0);
    cr_assert_leq(wn_lanes_at(&g, 1, 2, 5, 6) + WN_LANES, wn_lanes_floats(&g));
    /* right of a row and left of the next are the same zeros */
    cr_assert_eq(wn_lanes_at(&g, 0, 1, 0, 5), wn_lanes_at(&g, 0, 1, 1, -2));
    cr_assert_lt(wn_lanes_at(&g, 0, 0, 5, 6), wn_lanes_at(&g, 0, 1, 0, 0));
}

Test(lanes, planes_are_not_a_page_apart)
{
    struct wn_lanes_geom g;
    wn_lanes_geom_image(&g, 16, 3, 8, 8, 0);
    cr_assert_neq(g.plane * WN_LANES * sizeof(float) % 4096, 0);
}

Test(lanes, a_matrix_is_a_row_of_sample_blocks)
{
    struct wn_lanes_geom g;
    wn_lanes_geom_matrix(&g, 128, 10);
    cr_assert_eq(g.w * g.nb * WN_LANES, 128);
    cr_assert_eq(g.w, 4);
    wn_lanes_geom_matrix(&g, 16 * 11, 10); /* no divisor up to 7 */
    cr_assert_eq(g.w, 1);
}

Test(lanes, halos_cover_what_a_convolution_reads)
{
    for (int k = 1; k <= 5; k++)
        for (int s = 1; s <= 3; s++)
            for (int p = 0; p < k; p++)
                for (int n = k; n < 12; n++) {
                    int out = (n + 2 * p - k) / s + 1;
                    int hx = wn_lanes_conv_halo_x(k, s, p, 1, n, out), hy = wn_lanes_conv_halo_y(k, s, p, 1, n, out);
                    for (int o = 0; o < out; o++)
                        for (int t = 0; t < k; t++) {
                            cr_assert_geq(o * s + t - p, -hx);
                            cr_assert_lt(o * s + t - p, n + hx);
                        }
                    for (int i = 0; i < n; i++)
                        for (int t = 0; t < k; t++)
                            if ((i + p - t) % s == 0) {
                                cr_assert_geq((i + p - t) / s, -hy);
                                cr_assert_lt((i + p - t) / s, out + hy);
                            }
                }
}

Test(lanes, random_numbers_go_by_counter)
{
    cr_assert_eq(wn_rng(1, 2, 3, 4), wn_rng(1, 2, 3, 4));
    cr_assert_neq(wn_rng(1, 2, 3, 4), wn_rng(1, 2, 4, 3));
    double mean = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        float u = wn_rng_unit(wn_rng(9, 1, 2, i));
        cr_assert(u >= 0 && u < 1);
        cr_assert_lt(wn_rng_below(wn_rng(9, 1, 3, i), 7), 7);
        mean += (double)u / 10000;
    }
    cr_assert_float_eq(mean, 0.5, 0.02);
}
