/* dispatch.c: the fastest f32_spmm kernel of this CPU, chosen once. */
#include "engine/kernels/f32_spmm/f32_spmm.h"

#include <pthread.h>

static wn_f32_spmm_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = wn_f32_spmm_##MR##x##NR##__##isa,
#include "engine/kernels/f32_spmm/f32_spmm.def"
#undef KERNEL
};
static wn_f32_spmm_fn *chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_spmm_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa])
            chosen = kernels[isa];
}

void wn_f32_spmm_run(const struct wn_f32_spmm *mat, const int32_t *off, const struct wn_f32_args *args, size_t row0,
                     size_t row1)
{
    pthread_once(&chosen_once, wn_f32_spmm_init);
    chosen(mat, off, args, row0, row1);
}
