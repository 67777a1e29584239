/* dispatch.c: the fastest f32_conv kernel of this CPU, chosen once. */
#include "engine/kernels/f32_conv/f32_conv.h"

#include <pthread.h>

static const struct {
    wn_f32_conv_fn *fn;
    size_t pixels;
} kernels[WN_ISA_COUNT] = {
#define KERNEL(isa, NP, NR) [WN_ISA_##isa] = { wn_f32_conv_##NP##x##NR##__##isa, NP },
#include "engine/kernels/f32_conv/f32_conv.def"
#undef KERNEL
};
static wn_f32_conv_fn *chosen;
static size_t chosen_pixels;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

void wn_f32_conv_init(void)
{
    for (unsigned isa = 0; isa <= (unsigned)wn_cpu_isa(); isa++)
        if (kernels[isa].fn) {
            chosen = kernels[isa].fn;
            chosen_pixels = kernels[isa].pixels;
        }
}

void wn_f32_conv_run(const struct wn_f32_conv *mat, const struct wn_conv_window *win, const struct wn_f32_args *args,
                     int32_t oy0, int32_t oy1, size_t row0, size_t row1)
{
    pthread_once(&chosen_once, wn_f32_conv_init);
    chosen(mat, win, args, oy0, oy1, row0, row1);
}

size_t wn_f32_conv_pixels(void)
{
    pthread_once(&chosen_once, wn_f32_conv_init);
    return chosen_pixels;
}
