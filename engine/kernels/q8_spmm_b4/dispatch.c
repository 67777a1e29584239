/* dispatch.c: the stream, then the CPU decide the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"

static wn_q8_spmm_b4_fn *const kernels[WN_Q8_SPMM_B4_STREAMS][WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_SPMM_B4_##stream][WN_ISA_##isa] = wn_q8_spmm_b4_##MR##x##NR##__##isa,
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.def"
#undef KERNEL
};

static const enum wn_q8_spmm_b4_stream streams[WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_ISA_##isa] = WN_Q8_SPMM_B4_##stream,
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.def"
#undef KERNEL
};

enum wn_q8_spmm_b4_stream wn_q8_spmm_b4_stream_of(enum wn_isa isa)
{
    return streams[isa];
}

void wn_q8_spmm_b4_run(const struct wn_q8_spmm_b4 *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                       size_t row1)
{
    WN_BEST_KERNEL(kernels[mat->stream])(mat, off, args, row0, row1);
}
