/* dispatch.c: the stream decides the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

static wn_q8_spmm_fn *const kernels[WN_Q8_SPMM_STREAMS] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_SPMM_##stream] = wn_q8_spmm_##MR##x##NR##__##isa,
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL
};

static const enum wn_q8_spmm_stream streams[WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_ISA_##isa] = WN_Q8_SPMM_##stream,
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL
};

enum wn_q8_spmm_stream wn_q8_spmm_stream_of(enum wn_isa isa)
{
    return streams[isa];
}

void wn_q8_spmm_run(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                    size_t row1)
{
    kernels[mat->stream](mat, off, args, row0, row1);
}

void wn_q8_spmm_colsum(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum)
{
    (wn_cpu_isa() == WN_ISA_scalar ? wn_q8_spmm_colsum__scalar : wn_q8_spmm_colsum__avx2)(x, koff, k, n, colsum);
}
