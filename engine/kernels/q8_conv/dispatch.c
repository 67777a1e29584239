/* dispatch.c: packed weights are the same for all, so the CPU decides the kernel. */
#include "engine/kernels/q8_conv/q8_conv.h"

static const struct kernel {
    wn_q8_conv_fn *fn;
    size_t pixels;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NP, NR) [WN_ISA_##isa] = { wn_q8_conv_##NP##x##NR##__##isa, NP },
#include "engine/kernels/q8_conv/q8_conv.def"
#undef KERNEL
};

static const struct kernel *best(void)
{
    unsigned isa = (unsigned)wn_cpu_isa();
    while (!kernels[isa].fn)
        isa--; /* there is a scalar one */
    return &kernels[isa];
}

void wn_q8_conv_run(const struct wn_q8_conv *mat, const struct wn_conv_window *win, const int32_t *outside,
                    const struct wn_q8_args *args, int32_t oy0, int32_t oy1, size_t row0, size_t row1)
{
    best()->fn(mat, win, outside, args, oy0, oy1, row0, row1);
}

size_t wn_q8_conv_pixels(void)
{
    return best()->pixels;
}
