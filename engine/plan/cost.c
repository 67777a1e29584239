/* cost.c: the cost table, and the counting of zeros that its choice needs. */
#include "engine/plan/cost.h"

static const struct {
    double per_step, per_row;
} table[WN_FAMILY_COUNT][WN_ISA_COUNT] = {
#define COST(family, isa, step, row) [WN_FAMILY_##family][WN_ISA_##isa] = { step, row },
#include "engine/plan/cost.def"
#undef COST
};

static const char *const names[WN_FAMILY_COUNT] = { "f32_gemm",   "f32_spmm", "f32_gemv", "q8_gemm",
                                                    "q8_spmm_b4", "q8_spmm",  "to_plane" };

const char *wn_family_name(enum wn_family family)
{
    return names[family];
}

double wn_cost_cycles(enum wn_family family, double steps, double rows, double cols)
{
    enum wn_isa isa = wn_cpu_isa();
    return (steps * table[family][isa].per_step + rows * table[family][isa].per_row) * cols / 64;
}

static bool is_zero(const void *w, size_t elem, size_t i)
{
    return elem == 4 ? ((const float *)w)[i] == 0 : ((const int8_t *)w)[i] == 0;
}

struct wn_sparsity wn_sparsity_of(const void *w, size_t elem, size_t O, size_t I, size_t taps)
{
    struct wn_sparsity s = { .count = O * I * taps, .pattern = "dense" };
    for (size_t o = 0; o < O; o++)
        for (size_t i = 0; i < I; i += 4)
            for (size_t t = 0; t < taps; t++) {
                size_t full = 0;
                for (size_t k = i; k < I && k < i + 4; k++)
                    full += !is_zero(w, elem, (o * I + k) * taps + t);
                s.nonzeros += full;
                s.full_blocks += full > 0;
                s.blocks++;
            }
    s.share = s.count ? 1 - (double)s.nonzeros / (double)s.count : 0;
    if (s.share >= 0.05)
        s.pattern = s.full_blocks * 4 <= s.nonzeros + s.nonzeros / 3 ? "1x4" : "unstructured";
    return s;
}
