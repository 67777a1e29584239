/* dispatch.c: the fastest norm_f32 kernels of this CPU, chosen once. */
#include "engine/kernels/norm_f32/norm_f32.h"

#include <pthread.h>

static const struct set {
    wn_norm_f32_cols_fn *cols;
    wn_norm_f32_rows_fn *rows;
    wn_softmax_f32_fn *softmax;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NR)                                                                                                \
    [WN_ISA_##isa] = { wn_norm_f32_cols_##NR##__##isa, wn_norm_f32_rows_##NR##__##isa, wn_softmax_f32_##NR##__##isa },
#include "engine/kernels/norm_f32/norm_f32.def"
#undef KERNEL
};
static struct set chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_norm_f32_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa].cols)
            chosen = kernels[isa];
}

void wn_norm_f32_cols_run(const struct wn_norm_f32 *args)
{
    pthread_once(&chosen_once, wn_norm_f32_init);
    chosen.cols(args);
}

void wn_norm_f32_rows_run(const struct wn_norm_f32 *args)
{
    pthread_once(&chosen_once, wn_norm_f32_init);
    chosen.rows(args);
}

void wn_softmax_f32_run(const struct wn_softmax_f32 *args)
{
    pthread_once(&chosen_once, wn_norm_f32_init);
    chosen.softmax(args);
}
