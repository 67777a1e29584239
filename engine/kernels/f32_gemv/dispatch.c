/* dispatch.c: the fastest f32_gemv kernel of this CPU, chosen once. */
#include "engine/kernels/f32_gemv/f32_gemv.h"

#include <pthread.h>

static wn_f32_gemv_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NK) [WN_ISA_##isa] = wn_f32_gemv_##MR##x##NK##__##isa,
#define COLS(isa, MR, NR)
#include "engine/kernels/f32_gemv/f32_gemv.def"
};
static wn_f32_gemv_cols_fn *const cols_kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NK)
#define COLS(isa, MR, NR) [WN_ISA_##isa] = wn_f32_gemv_cols_##MR##x##NR##__##isa,
#include "engine/kernels/f32_gemv/f32_gemv.def"
};
static wn_f32_gemv_fn *chosen;
static wn_f32_gemv_cols_fn *cols; /* its counterpart, or NULL */
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_gemv_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa]) {
            chosen = kernels[isa];
            cols = cols_kernels[isa];
        }
}

bool wn_f32_gemv_has_cols(void)
{
    pthread_once(&chosen_once, wn_f32_gemv_init);
    return cols != NULL;
}

void wn_f32_gemv_cols_run(const struct wn_f32_gemm *mat, const int32_t *koff, const struct wn_f32_args *args,
                          size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_gemv_init);
    cols(mat, koff, args, row0, row1);
}

void wn_f32_gemv_run(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *args, size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_gemv_init);
    chosen(mat, args, row0, row1);
}
