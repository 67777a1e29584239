/* dispatch.c: stream and block, then the CPU decide the kernel; a CPU that could pack a stream can run it. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

static wn_q8_spmm_fn *const kernels[WN_Q8_SPMM_STREAMS][WN_Q8_SPMM_MAX_BLOCK + 1][WN_ISA_COUNT] = {
#define KERNEL(isa, stream, MR, NR) [WN_Q8_SPMM_##stream][MR][WN_ISA_##isa] = wn_q8_spmm_##MR##x##NR##__##isa,
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL
};

enum wn_q8_spmm_stream wn_q8_spmm_stream_of(enum wn_isa isa)
{
#define KERNEL(isa_, stream, MR, NR)                                                                                   \
    if (isa == WN_ISA_##isa_)                                                                                          \
        return WN_Q8_SPMM_##stream;
#include "engine/kernels/q8_spmm/q8_spmm.def"
#undef KERNEL
    return WN_Q8_SPMM_PLAIN;
}

bool wn_q8_spmm_takes(enum wn_q8_spmm_stream stream, unsigned block)
{
    return block <= WN_Q8_SPMM_MAX_BLOCK && WN_BEST_KERNEL(kernels[stream][block]);
}

void wn_q8_spmm_run(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                    size_t row1)
{
    WN_BEST_KERNEL(kernels[mat->stream][mat->block])(mat, off, args, row0, row1);
}

void wn_q8_spmm_colsum(const uint8_t *x, const int32_t *koff, size_t k, size_t n, int32_t *colsum)
{
    static wn_q8_spmm_colsum_fn *const by_isa[WN_ISA_COUNT] = {
#define COLSUM(isa) [WN_ISA_##isa] = wn_q8_spmm_colsum__##isa,
#include "engine/kernels/q8_spmm/colsum.def"
#undef COLSUM
    };
    WN_BEST_KERNEL(by_isa)(x, koff, k, n, colsum);
}
