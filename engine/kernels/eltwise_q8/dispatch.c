/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has. */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

static wn_elt_q8_fn *const add[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_elt_q8_add_##NR##__##isa,
#include "engine/kernels/eltwise_q8/eltwise_q8.def"
#undef KERNEL
};

static wn_elt_q8_fn *const lookup[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_elt_q8_lookup_##NR##__##isa,
#include "engine/kernels/eltwise_q8/eltwise_q8.def"
#undef KERNEL
};

void wn_elt_q8_add_run(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(add)(args, c0, c1);
}

void wn_elt_q8_lookup_run(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(lookup)(args, c0, c1);
}
