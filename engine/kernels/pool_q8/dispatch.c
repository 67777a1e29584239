/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has; AVX-512 machines run the AVX2 ones. */
#include "engine/kernels/pool_q8/pool_q8.h"

static wn_pool_q8_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_pool_q8_##NR##__##isa,
#include "engine/kernels/pool_q8/pool_q8.def"
#undef KERNEL
};

static wn_pool_q8_global_fn *const globals[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_pool_q8_global_##NR##__##isa,
#include "engine/kernels/pool_q8/pool_q8.def"
#undef KERNEL
};

void wn_pool_q8_run(const struct wn_pool_q8 *pool, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(kernels)(pool, c0, c1);
}

void wn_pool_q8_global_run(const struct wn_pool_q8_global *pool, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(globals)(pool, c0, c1);
}
