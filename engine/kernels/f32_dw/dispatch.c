/* dispatch.c: the fastest f32_dw kernel of this CPU, chosen once. */
#include "engine/kernels/f32_dw/f32_dw.h"

#include <pthread.h>

static wn_f32_dw_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = wn_f32_dw_##MR##x##NR##__##isa,
#include "engine/kernels/f32_dw/f32_dw.def"
#undef KERNEL
};
static wn_f32_dw_fn *chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_dw_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa])
            chosen = kernels[isa];
}

void wn_f32_dw_run(const struct wn_f32_dw *dw, const int32_t *koff, size_t x_stride, const struct wn_f32_args *args,
                   size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_dw_init);
    chosen(dw, koff, x_stride, args, row0, row1);
}
