/* dispatch.c: the stream, then the CPU decide the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_gemm/q8_gemm.h"

static wn_q8_gemm_fn *const kernels[WN_Q8_GEMM_STREAMS][WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_GEMM_##stream][WN_ISA_##isa] = wn_q8_gemm_##MR##x##NR##__##isa,
#include "engine/kernels/q8_gemm/q8_gemm.def"
#undef KERNEL
};

static const enum wn_q8_gemm_stream streams[WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_ISA_##isa] = WN_Q8_GEMM_##stream,
#include "engine/kernels/q8_gemm/q8_gemm.def"
#undef KERNEL
};

enum wn_q8_gemm_stream wn_q8_gemm_stream_of(enum wn_isa isa)
{
    return streams[isa];
}

void wn_q8_gemm_run(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                    size_t row1)
{
    WN_BEST_KERNEL(kernels[mat->stream])(mat, off, args, row0, row1);
}
