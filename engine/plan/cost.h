/* cost.h: predicted time of the kernel families, from one table per instruction set (cost.def): the same file gives the
 * same plan on the same kind of CPU. `winnow analyze` prints the predictions beside what it measured. */
#ifndef WN_COST_H
#define WN_COST_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

/** spmm_2x1, spmm_4x1: the same packs and kernels as spmm, in blocks of 2 and 4 output rows. */
enum wn_family {
    WN_FAMILY_f32_gemm,
    WN_FAMILY_f32_conv,
    WN_FAMILY_f32_spmm,
    WN_FAMILY_f32_spmm_2x1,
    WN_FAMILY_f32_spmm_4x1,
    WN_FAMILY_f32_gemv,
    WN_FAMILY_q8_gemm,
    WN_FAMILY_q8_conv,
    WN_FAMILY_q8_gemv,
    WN_FAMILY_q8_spmm_b4,
    WN_FAMILY_q8_spmm,
    WN_FAMILY_q8_spmm_2x1,
    WN_FAMILY_q8_spmm_4x1,
    WN_FAMILY_to_plane,
    WN_FAMILY_to_phases,
    WN_FAMILY_COUNT
};

/** What the weights of a layer look like. */
struct wn_sparsity {
    size_t count, nonzeros;
    size_t blocks, full_blocks; /* 1x4 blocks of input channels at one tap: all, and those not all zero */
    size_t pairs, fours;        /* 2x1 and 4x1 blocks of output channels at one input and tap that are not all zero */
    double share;               /* of zeros, 0 … 1 */
    const char *pattern;        /* "dense", "1x4", "4x1", "2x1" or "unstructured" */
};
/** w (O, I, taps) f32 (elem 4) or s8 (elem 1). */
struct wn_sparsity wn_sparsity_of(const void *w, size_t elem, size_t O, size_t I, size_t taps);

/** Cycles of a layer with these weights and `rows` output rows over `cols` columns (gemv: rows of tokens), on the
 *  instruction set in use; INFINITY where it has no such kernel. */
double wn_cost_of(enum wn_family family, const struct wn_sparsity *s, double rows, double cols);
/** The same for f32_conv and q8_conv, which know pixels, not columns: over tiles with `pixels` of them in all (narrow ones
 * count as more), of whose taps `inside` (0 ... 1) are in the picture; rows in `groups` groups. */
double wn_cost_of_conv(enum wn_family family, const struct wn_sparsity *s, double rows, double groups, double pixels, double inside);
/** Cycles of turning `channels` channels of `cols` columns from quads to planes. */
double wn_cost_to_plane(double channels, double cols);

/** Cycles of taking `channels` channels of `cols` columns apart into the phases of a stride. */
double wn_cost_to_phases(double channels, double cols);

/** What may run a layer, and in how many cycles. */
struct wn_candidate {
    enum wn_family family;
    double cycles;
};
/** The cheapest of n >= 1, the first of equals. */
enum wn_family wn_cost_cheapest(const struct wn_candidate *c, size_t n);
/** "predicted kcycles: f32_gemm 12, f32_spmm 3", without those that this instruction set lacks; "" out of memory. */
const char *wn_cost_line(struct wn_arena *arena, const struct wn_candidate *c, size_t n);

const char *wn_family_name(enum wn_family family);
/** Rows that share their positions: 2, 4, or 1 for families other than the blocks of spmm. */
unsigned wn_family_block(enum wn_family family);

#endif
