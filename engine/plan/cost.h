/* cost.h: predicted time of the kernel families, from one table per instruction set (cost.def): the same file gives the
 * same plan on the same kind of CPU. `winnow analyze` prints the predictions beside what it measured. */
#ifndef WN_COST_H
#define WN_COST_H

#include "engine/kernels/kernels.h"

enum wn_family {
    WN_FAMILY_f32_gemm,
    WN_FAMILY_f32_spmm,
    WN_FAMILY_f32_gemv,
    WN_FAMILY_q8_gemm,
    WN_FAMILY_q8_gemv,
    WN_FAMILY_q8_spmm_b4,
    WN_FAMILY_q8_spmm,
    WN_FAMILY_to_plane,
    WN_FAMILY_COUNT
};

/** Cycles of `steps` inner steps and `rows` output rows over `cols` columns, on the instruction set in use. */
double wn_cost_cycles(enum wn_family family, double steps, double rows, double cols);
const char *wn_family_name(enum wn_family family);

/** What the weights of a layer look like. */
struct wn_sparsity {
    size_t count, nonzeros;
    size_t blocks, full_blocks; /* 1x4 blocks of input channels at one tap: all, and those not all zero */
    double share;               /* of zeros, 0 … 1 */
    const char *pattern;        /* "dense", "1x4" or "unstructured" */
};
/** w (O, I, taps) f32 (elem 4) or s8 (elem 1). */
struct wn_sparsity wn_sparsity_of(const void *w, size_t elem, size_t O, size_t I, size_t taps);

#endif
