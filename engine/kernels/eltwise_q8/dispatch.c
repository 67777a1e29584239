/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has; AVX-512 machines run the AVX2 ones, which the
 * memory bounds anyway. */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

void wn_elt_q8_add_run(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    (wn_cpu_isa() == WN_ISA_scalar ? wn_elt_q8_add_1__scalar : wn_elt_q8_add_32__avx2)(args, c0, c1);
}

void wn_elt_q8_lookup_run(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    (wn_cpu_isa() == WN_ISA_scalar ? wn_elt_q8_lookup_1__scalar : wn_elt_q8_lookup_32__avx2)(args, c0, c1);
}
