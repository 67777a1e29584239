/* dispatch.c: the fastest f32_dw kernels of this CPU, chosen once. */
#include "engine/kernels/f32_dw/f32_dw.h"

#include <pthread.h>

static const struct kernels {
    wn_f32_dw_fn *dw;
    wn_f32_dw2_fn *dw2;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = { wn_f32_dw_##MR##x##NR##__##isa, wn_f32_dw2_##MR##x##NR##__##isa },
#include "engine/kernels/f32_dw/f32_dw.def"
#undef KERNEL
};
static struct kernels chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_dw_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa].dw)
            chosen = kernels[isa];
}

void wn_f32_dw_run(const struct wn_f32_dw *dw, const int32_t *koff, size_t x_stride, const struct wn_f32_args *args,
                   size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_dw_init);
    chosen.dw(dw, koff, x_stride, args, row0, row1);
}

void wn_f32_dw2_run(const struct wn_f32_dw *dw, const struct wn_f32_dw2 *shape, const int32_t *koff, size_t x_stride,
                    const struct wn_f32_args *args, size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_dw_init);
    chosen.dw2(dw, shape, koff, x_stride, args, row0, row1);
}
