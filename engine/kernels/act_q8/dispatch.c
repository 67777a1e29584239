/* dispatch.c: nothing is packed, so the CPU decides the kernel. */
#include "engine/kernels/act_q8/act_q8.h"

static wn_act_q8_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = wn_act_q8_##NR##__##isa,
#include "engine/kernels/act_q8/act_q8.def"
#undef KERNEL
};

void wn_act_q8_run(const struct wn_act_q8 *act, const struct wn_move_q8 *quant, float *x, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(kernels)(act, quant, x, c0, c1);
}
