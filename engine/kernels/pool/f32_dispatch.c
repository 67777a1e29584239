/* f32_dispatch.c: the fastest f32 pooling kernels of this CPU, chosen once. */
#include "engine/kernels/pool/f32.h"

#include <pthread.h>

static const struct pair {
    wn_pool_f32_fn *pool;
    wn_pool_f32_mean_fn *mean;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NR) [WN_ISA_##isa] = { wn_pool_f32_##NR##__##isa, wn_pool_f32_mean_##NR##__##isa },
#include "engine/kernels/pool/f32.def"
#undef KERNEL
};
static struct pair chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_pool_f32_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa].pool)
            chosen = kernels[isa];
}

void wn_pool_f32_run(const struct wn_pool_f32 *pool, const struct wn_plane *in, const float *x,
                     const struct wn_plane *out, float *y, size_t channels)
{
    pthread_once(&chosen_once, wn_pool_f32_init);
    chosen.pool(pool, in, x, out, y, channels);
}

void wn_pool_f32_mean_run(const struct wn_plane *in, const float *x, float *y, size_t y_stride, size_t channels)
{
    pthread_once(&chosen_once, wn_pool_f32_init);
    chosen.mean(in, x, y, y_stride, channels);
}
