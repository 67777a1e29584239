/* dispatch.c: the stream, then the CPU decide the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_dw/q8_dw.h"

static wn_q8_dw_fn *const kernels[WN_Q8_DW_STREAMS][WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_DW_##stream][WN_ISA_##isa] = wn_q8_dw_##MR##x##NR##__##isa,
#include "engine/kernels/q8_dw/q8_dw.def"
#undef KERNEL
};

static const enum wn_q8_dw_stream streams[WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_ISA_##isa] = WN_Q8_DW_##stream,
#include "engine/kernels/q8_dw/q8_dw.def"
#undef KERNEL
};

enum wn_q8_dw_stream wn_q8_dw_stream_of(enum wn_isa isa)
{
    while (isa > WN_ISA_scalar && streams[isa] == WN_Q8_DW_PLAIN) /* no kernel of its own: the next lesser one's */
        isa--;
    return streams[isa];
}

void wn_q8_dw_run(const struct wn_q8_dw *mat, const int32_t *off, size_t x_stride, const struct wn_q8_args *args,
                  size_t c0, size_t c1)
{
    WN_BEST_KERNEL(kernels[mat->stream])(mat, off, x_stride, args, c0, c1);
}
