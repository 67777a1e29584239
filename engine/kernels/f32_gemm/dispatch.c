/* dispatch.c: the fastest f32_gemm kernel of this CPU, chosen once. */
#include "engine/kernels/f32_gemm/f32_gemm.h"

#include <pthread.h>

static wn_f32_gemm_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = wn_f32_gemm_##MR##x##NR##__##isa,
#include "engine/kernels/f32_gemm/f32_gemm.def"
#undef KERNEL
};
static wn_f32_gemm_fn *chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_gemm_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa])
            chosen = kernels[isa];
}

void wn_f32_gemm_run(const struct wn_f32_gemm *mat, const int32_t *koff, const struct wn_f32_args *args, size_t row0,
                     size_t row1)
{
    pthread_once(&chosen_once, wn_f32_gemm_init);
    chosen(mat, koff, args, row0, row1);
}
