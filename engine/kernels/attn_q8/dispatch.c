/* dispatch.c: nothing is packed, so the CPU decides the kernel. */
#include "engine/kernels/attn_q8/attn_q8.h"

static wn_attn_q8_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, KR, NR) [WN_ISA_##isa] = wn_attn_q8_##KR##x##NR##__##isa,
#include "engine/kernels/attn_q8/attn_q8.def"
#undef KERNEL
};

void wn_attn_q8_run(const struct wn_attn_q8 *args)
{
    WN_BEST_KERNEL(kernels)(args);
}
