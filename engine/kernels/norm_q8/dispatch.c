/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has. */
#include "engine/kernels/norm_q8/norm_q8.h"

static wn_norm_q8_fn *const cols[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_norm_q8_cols_##NR##__##isa,
#include "engine/kernels/norm_q8/norm_q8.def"
#undef KERNEL
};

static wn_norm_q8_fn *const rows[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_norm_q8_rows_##NR##__##isa,
#include "engine/kernels/norm_q8/norm_q8.def"
#undef KERNEL
};

void wn_norm_q8_cols_run(const struct wn_norm_q8 *args)
{
    WN_BEST_KERNEL(cols)(args);
}

void wn_norm_q8_rows_run(const struct wn_norm_q8 *args)
{
    WN_BEST_KERNEL(rows)(args);
}
