/* dispatch.c: the stream, then the CPU decide the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_stem/q8_stem.h"

static wn_q8_stem_fn *const kernels[WN_Q8_GEMM_STREAMS][WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_GEMM_##stream][WN_ISA_##isa] = wn_q8_stem_##MR##x##NR##__##isa,
#include "engine/kernels/q8_stem/q8_stem.def"
#undef KERNEL
};

void wn_q8_stem_run(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                    size_t row1)
{
    WN_BEST_KERNEL(kernels[mat->gemm.stream])(mat, off, args, row0, row1);
}
