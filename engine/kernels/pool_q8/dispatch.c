/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has; AVX-512 machines run the AVX2 ones. */
#include "engine/kernels/pool_q8/pool_q8.h"

void wn_pool_q8_run(const struct wn_pool_q8 *pool, size_t c0, size_t c1)
{
    (wn_cpu_isa() == WN_ISA_scalar ? wn_pool_q8_1__scalar : wn_pool_q8_32__avx2)(pool, c0, c1);
}

void wn_pool_q8_global_run(const struct wn_pool_q8_global *pool, size_t c0, size_t c1)
{
    (wn_cpu_isa() == WN_ISA_scalar ? wn_pool_q8_global_1__scalar : wn_pool_q8_global_32__avx2)(pool, c0, c1);
}
