/* dispatch.c: the fastest attn_f32 kernel of this CPU, chosen once. */
#include "engine/kernels/attn_f32/attn_f32.h"

#include <pthread.h>

static wn_attn_f32_fn *const kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, MR, NR) [WN_ISA_##isa] = wn_attn_f32_##MR##x##NR##__##isa,
#include "engine/kernels/attn_f32/attn_f32.def"
#undef KERNEL
};
static wn_attn_f32_fn *chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_attn_f32_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa])
            chosen = kernels[isa];
}

void wn_attn_f32_run(const struct wn_attn_f32 *args)
{
    pthread_once(&chosen_once, wn_attn_f32_init);
    chosen(args);
}
