/* cost.c: what the weights of a layer look like, and which family that makes the cheapest. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include "engine/plan/cost.h"

enum { O = 22, I = 18, TAPS = 3 }; /* tails in every direction */

static uint32_t state;

static unsigned next_random(unsigned n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* Blocks of rows x inputs at one tap, one in ten of them full. */
static void fill(int8_t *w, size_t rows, size_t inputs)
{
    memset(w, 0, O * I * TAPS);
    for (size_t o = 0; o < O; o += rows)
        for (size_t i = 0; i < I; i += inputs)
            for (size_t t = 0; t < TAPS; t++) {
                if (next_random(10))
                    continue;
                for (size_t r = o; r < O && r < o + rows; r++)
                    for (size_t k = i; k < I && k < i + inputs; k++)
                        w[(r * I + k) * TAPS + t] = (int8_t)(1 + next_random(127));
            }
}

static struct wn_sparsity look(size_t rows, size_t inputs)
{
    int8_t w[O * I * TAPS];
    float f[O * I * TAPS];
    state = (uint32_t)(rows * 8 + inputs);
    fill(w, rows, inputs);
    for (size_t i = 0; i < O * I * TAPS; i++)
        f[i] = w[i];
    struct wn_sparsity s = wn_sparsity_of(w, 1, O, I, TAPS), of_f32 = wn_sparsity_of(f, 4, O, I, TAPS);
    size_t nonzeros = 0;
    for (size_t i = 0; i < O * I * TAPS; i++)
        nonzeros += w[i] != 0;
    cr_assert_eq(s.nonzeros, nonzeros);
    cr_assert_eq(of_f32.nonzeros, nonzeros);
    cr_assert_eq(of_f32.fours, s.fours);
    cr_assert_str_eq(of_f32.pattern, s.pattern);
    return s;
}

Test(cost, patterns_are_told_apart)
{
    cr_assert_str_eq(look(1, 4).pattern, "1x4");
    cr_assert_str_eq(look(4, 1).pattern, "4x1");
    cr_assert_str_eq(look(2, 1).pattern, "2x1");
    cr_assert_str_eq(look(1, 1).pattern, "unstructured");
    int8_t dense[O * I * TAPS];
    memset(dense, 1, sizeof dense);
    struct wn_sparsity s = wn_sparsity_of(dense, 1, O, I, TAPS);
    cr_assert_str_eq(s.pattern, "dense");
    cr_assert_eq(s.pairs, O / 2 * I * TAPS);
    cr_assert_eq(s.fours, (O + 3) / 4 * I * TAPS);
}

Test(cost, positions_of_blocks_are_counted_once)
{
    struct wn_sparsity four = look(4, 1), one = look(1, 1);
    cr_assert_leq(four.nonzeros, 4 * four.fours);
    cr_assert_geq(four.nonzeros, 4 * four.fours - 2 * I * TAPS, "only the last block is short");
    cr_assert_leq(one.fours, one.pairs);
    cr_assert_leq(one.pairs, one.nonzeros);
}

/* Families that an instruction set lacks cost infinitely much and are not spoken of. */
Test(cost, only_kernels_that_are_there)
{
    static const enum wn_family all[] = { WN_FAMILY_q8_gemm, WN_FAMILY_q8_spmm, WN_FAMILY_q8_spmm_4x1 };
    struct wn_candidate c[WN_COUNT(all)];
    struct wn_sparsity s = look(4, 1);
    struct wn_arena arena = { 0 };
    wn_cpu_force(WN_ISA_scalar);
    for (size_t i = 0; i < WN_COUNT(all); i++)
        c[i] = (struct wn_candidate){ all[i], wn_cost_of(all[i], &s, O, 64) };
    cr_assert(isinf(c[2].cycles) && !isinf(c[1].cycles));
    cr_assert_eq(wn_cost_cheapest(c, WN_COUNT(all)), WN_FAMILY_q8_spmm);
    const char *line = wn_cost_line(&arena, c, WN_COUNT(all));
    cr_assert(strstr(line, "q8_spmm ") && !strstr(line, "4x1"), "%s", line);
    wn_arena_done(&arena);
    if (!wn_cpu_has(WN_ISA_avx512vnni))
        return;
    wn_cpu_force(WN_ISA_avx512vnni);
    for (size_t i = 0; i < WN_COUNT(all); i++)
        c[i].cycles = wn_cost_of(all[i], &s, O, 64);
    cr_assert_eq(wn_cost_cheapest(c, WN_COUNT(all)), WN_FAMILY_q8_spmm_4x1);
    cr_assert_eq(wn_family_block(WN_FAMILY_q8_spmm_4x1), 4);
}
