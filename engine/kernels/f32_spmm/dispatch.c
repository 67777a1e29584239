/* dispatch.c: the fastest f32_spmm kernels of this CPU, by rows of a block, chosen once. */
#include "engine/kernels/f32_spmm/f32_spmm.h"

#include <pthread.h>

#define BLOCK_MAX 4
static wn_f32_spmm_fn *const kernels[WN_ISA_COUNT][BLOCK_MAX + 1] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa][MR] = wn_f32_spmm_##MR##x##NR##__##isa,
#include "engine/kernels/f32_spmm/f32_spmm.def"
#undef KERNEL
};
static wn_f32_spmm_fn *chosen[BLOCK_MAX + 1];
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_spmm_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        for (unsigned block = 1; block <= BLOCK_MAX; block++)
            if (kernels[isa][block])
                chosen[block] = kernels[isa][block];
}

void wn_f32_spmm_run(const struct wn_f32_spmm *mat, const int32_t *off, const struct wn_f32_args *args, size_t row0,
                     size_t row1)
{
    pthread_once(&chosen_once, wn_f32_spmm_init);
    chosen[mat->block](mat, off, args, row0, row1);
}
