/* cost.c: the cost table, and the counting of zeros that its choice needs. */
#include "engine/plan/cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    double per_step, per_row, over;
} table[WN_FAMILY_COUNT][WN_ISA_COUNT] = {
#define COST(family, isa, step, row, over) [WN_FAMILY_##family][WN_ISA_##isa] = { step, row, over },
#include "engine/plan/cost.def"
#undef COST
};

static const char *const names[WN_FAMILY_COUNT] = {
    [WN_FAMILY_f32_gemm] = "f32_gemm",         [WN_FAMILY_f32_conv] = "f32_conv",
    [WN_FAMILY_f32_spmm] = "f32_spmm",         [WN_FAMILY_f32_spmm_2x1] = "f32_spmm_2x1",
    [WN_FAMILY_f32_spmm_4x1] = "f32_spmm_4x1", [WN_FAMILY_f32_gemv] = "f32_gemv",
    [WN_FAMILY_q8_gemm] = "q8_gemm",           [WN_FAMILY_q8_conv] = "q8_conv",
    [WN_FAMILY_q8_gemv] = "q8_gemv",           [WN_FAMILY_q8_spmm_b4] = "q8_spmm_b4",
    [WN_FAMILY_q8_spmm] = "q8_spmm",           [WN_FAMILY_q8_spmm_2x1] = "q8_spmm_2x1",
    [WN_FAMILY_q8_spmm_4x1] = "q8_spmm_4x1",   [WN_FAMILY_to_plane] = "to_plane",
    [WN_FAMILY_to_phases] = "to_phases",
};

const char *wn_family_name(enum wn_family family)
{
    return names[family];
}

unsigned wn_family_block(enum wn_family family)
{
    switch (family) {
    case WN_FAMILY_f32_spmm_2x1:
    case WN_FAMILY_q8_spmm_2x1:
        return 2;
    case WN_FAMILY_f32_spmm_4x1:
    case WN_FAMILY_q8_spmm_4x1:
        return 4;
    default:
        return 1;
    }
}

/* ---- zeros ---- */

static bool is_zero(const void *w, size_t elem, size_t i)
{
    return elem == 4 ? ((const float *)w)[i] == 0 : ((const int8_t *)w)[i] == 0;
}

/* 1x4 blocks of input channels at one tap. */
static void count_quads(struct wn_sparsity *s, const void *w, size_t elem, size_t O, size_t I, size_t taps)
{
    for (size_t o = 0; o < O; o++)
        for (size_t i = 0; i < I; i += 4)
            for (size_t t = 0; t < taps; t++) {
                size_t full = 0;
                for (size_t k = i; k < I && k < i + 4; k++)
                    full += !is_zero(w, elem, (o * I + k) * taps + t);
                s->nonzeros += full;
                s->full_blocks += full > 0;
                s->blocks++;
            }
}

/* Blocks of output channels at one of the k inputs and taps. */
static void count_rows(struct wn_sparsity *s, const void *w, size_t elem, size_t O, size_t k)
{
    for (size_t o = 0; o < O; o += 4)
        for (size_t i = 0; i < k; i++) {
            bool full[2] = { false, false };
            for (size_t r = o; r < O && r < o + 4; r++)
                full[(r - o) / 2] |= !is_zero(w, elem, r * k + i);
            s->pairs += (size_t)full[0] + full[1];
            s->fours += full[0] || full[1];
        }
}

/* Do blocks of that size hold hardly more zeros than they must? */
static bool fits(const struct wn_sparsity *s, size_t blocks, size_t size)
{
    return blocks * size <= s->nonzeros + s->nonzeros / 3;
}

struct wn_sparsity wn_sparsity_of(const void *w, size_t elem, size_t O, size_t I, size_t taps)
{
    struct wn_sparsity s = { .count = O * I * taps, .pattern = "dense" };
    count_quads(&s, w, elem, O, I, taps);
    count_rows(&s, w, elem, O, I * taps);
    s.share = s.count ? 1 - (double)s.nonzeros / (double)s.count : 0;
    if (s.share < 0.05)
        return s;
    s.pattern = fits(&s, s.full_blocks, 4) ? "1x4"
                : fits(&s, s.fours, 4)     ? "4x1"
                : fits(&s, s.pairs, 2)     ? "2x1"
                                           : "unstructured";
    return s;
}

/* ---- costs ---- */

static double cycles(enum wn_family family, double steps, double rows, double cols)
{
    enum wn_isa isa = wn_cpu_isa();
    if (table[family][isa].per_step == 0)
        return INFINITY;
    const double width = (cols + table[family][isa].over * ceil(cols / 64)) / 64;
    return (steps * table[family][isa].per_step + rows * table[family][isa].per_row) * width;
}

static size_t steps_of(enum wn_family family, const struct wn_sparsity *s)
{
    switch (family) {
    case WN_FAMILY_f32_spmm:
    case WN_FAMILY_q8_spmm:
        return s->nonzeros;
    case WN_FAMILY_f32_spmm_2x1:
    case WN_FAMILY_q8_spmm_2x1:
        return s->pairs;
    case WN_FAMILY_f32_spmm_4x1:
    case WN_FAMILY_q8_spmm_4x1:
        return s->fours;
    case WN_FAMILY_q8_spmm_b4:
        return s->full_blocks;
    case WN_FAMILY_q8_gemm: /* these count the channels that fill up a quad */
    case WN_FAMILY_q8_conv:
        return s->blocks * 4;
    default:
        return s->count;
    }
}

/* q8_spmm works on whole steps of columns, whatever is used of the last. */
static double whole_steps(enum wn_family family, double cols)
{
#ifdef __aarch64__
    static const double step[WN_ISA_COUNT] = { [WN_ISA_scalar] = 1, [WN_ISA_neon] = 16, [WN_ISA_neoni8mm] = 16 };
#else
    static const double step[WN_ISA_COUNT] = {
        [WN_ISA_scalar] = 1, [WN_ISA_avx2] = 32, [WN_ISA_avx2vnni] = 32, [WN_ISA_avx512vnni] = 32
    };
#endif
    bool bytes = family == WN_FAMILY_q8_spmm || family == WN_FAMILY_q8_spmm_2x1 || family == WN_FAMILY_q8_spmm_4x1;
    return bytes ? ceil(cols / step[wn_cpu_isa()]) * step[wn_cpu_isa()] : cols;
}

double wn_cost_of(enum wn_family family, const struct wn_sparsity *s, double rows, double cols)
{
    cols = whole_steps(family, cols);
    return cycles(family, (double)steps_of(family, s), rows, cols);
}

/* A vector of 16 rows alone takes so many times half of what two take: it waits for broadcasts. */
#define ALONE 1.7

double wn_cost_of_conv(enum wn_family family, const struct wn_sparsity *s, double rows, double groups, double pixels,
                       double inside)
{
    const double panels = ceil(rows / groups / 16), odd = fmod(panels, 2);
    const double lanes = (panels + (ALONE - 1) * odd) * 16 * groups;
    return cycles(family, (double)steps_of(family, s) * lanes / rows * inside, rows, pixels);
}

double wn_cost_to_plane(double channels, double cols)
{
    return cycles(WN_FAMILY_to_plane, channels, 0, cols);
}

double wn_cost_to_phases(double channels, double cols)
{
    return cycles(WN_FAMILY_to_phases, channels, 0, cols);
}

enum wn_family wn_cost_cheapest(const struct wn_candidate *c, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = c[i].cycles < c[best].cycles ? i : best;
    return c[best].family;
}

const char *wn_cost_line(struct wn_arena *arena, const struct wn_candidate *c, size_t n)
{
    char line[256] = "predicted kcycles:";
    size_t at = strlen(line);
    const char *comma = "";
    for (size_t i = 0; i < n && at < sizeof line; i++) {
        if (isinf(c[i].cycles))
            continue;
        at += (size_t)snprintf(line + at, sizeof line - at, "%s %s %.0f", comma, names[c[i].family], c[i].cycles / 1e3);
        comma = ",";
    }
    const char *copy = wn_arena_printf(arena, "%s", line);
    return copy ? copy : "";
}
