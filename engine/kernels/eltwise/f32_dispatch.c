/* f32_dispatch.c: the fastest f32 elementwise kernels of this CPU, chosen once. */
#include "engine/kernels/eltwise/f32.h"

#include <pthread.h>

static const struct pair {
    wn_elt_f32_unary_fn *unary;
    wn_elt_f32_binary_fn *binary;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = { wn_elt_f32_unary_##NR##__##isa, wn_elt_f32_binary_##NR##__##isa },
#include "engine/kernels/eltwise/f32.def"
#undef KERNEL
};
static struct pair chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_elt_f32_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa].unary)
            chosen = kernels[isa];
}

void wn_elt_f32_unary_run(enum wn_elt_f32_unary op, const struct wn_elt_f32 *args)
{
    pthread_once(&chosen_once, wn_elt_f32_init);
    chosen.unary(op, args);
}

void wn_elt_f32_binary_run(enum wn_elt_f32_binary op, const struct wn_elt_f32 *args)
{
    pthread_once(&chosen_once, wn_elt_f32_init);
    chosen.binary(op, args);
}
