/* masks: exact counts, ties, blocks, what was pruned stays pruned, no channel is emptied. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

static uint32_t seed = 1;

static float random_weight(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static struct wn_param make(size_t O, size_t I, size_t taps)
{
    struct wn_param p = {
        .name = "w", .rank = 4, .dim = { (int64_t)O, (int64_t)I, 1, (int64_t)taps }, .n = O * I * taps
    };
    p.w = malloc(p.n * sizeof *p.w);
    for (size_t i = 0; i < p.n; i++)
        p.w[i] = random_weight();
    return p;
}

static size_t zeros(const uint8_t *mask, size_t n)
{
    size_t z = 0;
    for (size_t i = 0; i < n; i++)
        z += !mask[i];
    return z;
}

Test(mask, exact_count_and_smallest)
{
    for (int round = 0; round < 50; round++) {
        struct wn_param p = make(3 + (size_t)round % 7, 5 + (size_t)round % 11, 1 + (size_t)round % 9), *pp = &p;
        uint8_t *mask = malloc(p.n);
        double s = (round % 10) / 12.0;
        cr_assert(wn_mask_choose(&pp, 1, s, false, WN_MASK_UNSTRUCTURED, &mask, NULL) == WINNOW_OK);
        cr_assert_eq(zeros(mask, p.n), (size_t)llround(s * (double)p.n));
        float largest_pruned = 0, smallest_kept = 9;
        for (size_t i = 0; i < p.n; i++) {
            if (mask[i])
                smallest_kept = fminf(smallest_kept, fabsf(p.w[i]));
            else
                largest_pruned = fmaxf(largest_pruned, fabsf(p.w[i]));
        }
        cr_assert(largest_pruned <= smallest_kept);
        free(mask);
        free(p.w);
    }
}

Test(mask, ties_go_to_the_lower_index)
{
    struct wn_param p = make(1, 8, 1), *pp = &p;
    uint8_t mask[8], *m = mask, want[8] = { 0, 0, 0, 1, 1, 1, 1, 1 };
    for (size_t i = 0; i < 8; i++)
        p.w[i] = 0.5f;
    cr_assert(wn_mask_choose(&pp, 1, 3.0 / 8, false, WN_MASK_UNSTRUCTURED, &m, NULL) == WINNOW_OK);
    cr_assert_arr_eq(mask, want, 8);
    free(p.w);
}

Test(mask, global_ranks_all_tensors_together)
{
    struct wn_param a = make(4, 16, 1), b = make(4, 16, 1), *pp[] = { &a, &b };
    uint8_t ma[64], mb[64], *m[] = { ma, mb };
    for (size_t i = 0; i < 64; i++)
        b.w[i] *= 10;
    cr_assert(wn_mask_choose(pp, 2, 0.5, true, WN_MASK_UNSTRUCTURED, m, NULL) == WINNOW_OK);
    cr_assert(zeros(ma, 64) > 50 && zeros(mb, 64) < 14, "the small tensor loses most");
    cr_assert(wn_mask_choose(pp, 2, 0.5, false, WN_MASK_UNSTRUCTURED, m, NULL) == WINNOW_OK);
    cr_assert_eq(zeros(ma, 64), 32);
    cr_assert_eq(zeros(mb, 64), 32);
    free(a.w);
    free(b.w);
}

/* Whole blocks of rows x inputs, with tails (of one or two rows, of two inputs), as many as were asked for. */
static void check_blocks(enum wn_mask_type type, size_t rows, size_t inputs)
{
    enum { O = 7, I = 10, TAPS = 3 };
    struct wn_param p = make(O, I, TAPS), *pp = &p;
    uint8_t *mask = malloc(p.n);
    cr_assert(wn_mask_choose(&pp, 1, 0.5, false, type, &mask, NULL) == WINNOW_OK);
    size_t groups = 0, pruned = 0;
    for (size_t o = 0; o < O; o += rows)
        for (size_t i = 0; i < I; i += inputs)
            for (size_t t = 0; t < TAPS; t++, groups++) {
                uint8_t first = mask[(o * I + i) * TAPS + t];
                pruned += !first;
                for (size_t r = o; r < O && r < o + rows; r++)
                    for (size_t k = i; k < I && k < i + inputs; k++)
                        cr_assert_eq(mask[(r * I + k) * TAPS + t], first);
            }
    cr_assert_eq(pruned, (size_t)llround(0.5 * (double)groups));
    free(mask);
    free(p.w);
}

Test(mask, blocks_of_input_or_output_channels)
{
    check_blocks(WN_MASK_1X4, 1, 4);
    check_blocks(WN_MASK_2X1, 2, 1);
    check_blocks(WN_MASK_4X1, 4, 1);
}

/* What an emptied channel gets back is a whole block: the pattern stays what the engine runs fast. */
Test(mask, an_emptied_channel_keeps_the_block_of_its_largest_weight)
{
    struct wn_param p = make(8, 6, 1), *pp = &p;
    uint8_t mask[48], *m = mask;
    for (size_t i = 0; i < 24; i++)
        p.w[i] = 1e-3f * (float)(1 + i % 5); /* the first four channels are tiny */
    p.w[3] = 2e-2f;
    cr_assert(wn_mask_choose(&pp, 1, 0.5, false, WN_MASK_4X1, &m, NULL) == WINNOW_OK);
    for (size_t o = 0; o < 4; o++)
        cr_assert_eq(mask[o * 6 + 3], 1, "channel %zu", o);
    cr_assert_eq(zeros(mask, 24), 20);
    free(p.w);
}

Test(mask, names)
{
    static const struct {
        const char *name;
        enum wn_mask_type type;
    } known[] = { { "unstructured", WN_MASK_UNSTRUCTURED },
                  { "block4", WN_MASK_1X4 },
                  { "4x1", WN_MASK_4X1 },
                  { "[4, 1]", WN_MASK_4X1 },
                  { "2x1", WN_MASK_2X1 },
                  { "[1,4]", WN_MASK_1X4 } };
    enum wn_mask_type type;
    for (size_t i = 0; i < WN_COUNT(known); i++)
        cr_assert(wn_mask_type_of(known[i].name, &type) && type == known[i].type, "%s", known[i].name);
    cr_assert(!wn_mask_type_of("2:4", &type));
    cr_assert(wn_mask_type_of_shape(2, 1, &type) && type == WN_MASK_2X1);
    cr_assert(!wn_mask_type_of_shape(4, 4, &type));
}

Test(mask, pruned_stays_pruned_and_no_channel_empties)
{
    struct wn_param p = make(8, 9, 9), *pp = &p;
    uint8_t *mask = malloc(p.n), *before = malloc(p.n);
    memset(before, 1, p.n);
    for (size_t i = 0; i < 81; i++)
        p.w[i] *= 1e-4f; /* the first channel is tiny */
    for (double s = 0.1; s < 0.99; s += 0.1) {
        cr_assert(wn_mask_choose(&pp, 1, s, false, WN_MASK_UNSTRUCTURED, &mask, NULL) == WINNOW_OK);
        for (size_t i = 0; i < p.n; i++) {
            cr_assert(before[i] || !mask[i], "weight %zu came back", i);
            if (!mask[i])
                p.w[i] = 0;
        }
        for (size_t o = 0; o < 8; o++)
            cr_assert(memchr(mask + o * 81, 1, 81) != NULL, "channel %zu is empty at %g", o, s);
        memcpy(before, mask, p.n);
    }
    free(mask);
    free(before);
    free(p.w);
}
