/* dispatch.c: packed weights are the same for all, so the CPU decides the kernel. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

static wn_q8_gemv_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = wn_q8_gemv_##MR##x##NR##__##isa,
#include "engine/kernels/q8_gemv/q8_gemv.def"
#undef KERNEL
};

void wn_q8_gemv_run(const struct wn_q8_gemv *mat, const struct wn_q8_args *args, size_t row0, size_t row1)
{
    WN_BEST_KERNEL(kernels)(mat, args, row0, row1);
}

int32_t wn_q8_gemv_sum(const uint8_t *x, size_t k)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += x[i];
    return (int32_t)sum;
}
