/* rows.c: which rows kernels this CPU runs. */
#include "sparsify/kernels/rows.h"

#include "engine/kernels/kernels.h"

const struct wn_rows_kernels *wn_rows_kernels(void)
{
    switch (wn_cpu_isa()) {
    case WN_ISA_avx512vnni:
        return &wn_rows_kernels__avx512vnni;
    case WN_ISA_avx2:
    case WN_ISA_avx2vnni:
        return &wn_rows_kernels__avx2;
    default:
        return &wn_rows_kernels__scalar;
    }
}
