/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has; AVX-512 machines run the AVX2 ones, which the
 * memory bounds anyway, except where they divide. */
#include "engine/kernels/move_q8/move_q8.h"

#define DISPATCH(args_type, what)                                                                                      \
    void wn_move_q8_##what##_run(const struct args_type *args, size_t c0, size_t c1)                                   \
    {                                                                                                                  \
        if (wn_cpu_isa() == WN_ISA_scalar)                                                                             \
            wn_move_q8_##what##_1__scalar(args, c0, c1);                                                               \
        else                                                                                                           \
            wn_move_q8_##what##_32__avx2(args, c0, c1);                                                                \
    }

void wn_move_q8_quantize_run(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    static wn_move_q8_fn *const kernels[WN_ISA_COUNT] = { wn_move_q8_quantize_1__scalar, wn_move_q8_quantize_32__avx2,
                                                          wn_move_q8_quantize_16__avx512vnni };
    kernels[wn_cpu_isa()](args, c0, c1);
}

DISPATCH(wn_move_q8, dequantize)
DISPATCH(wn_move_q8, to_planes)
DISPATCH(wn_move_q8, to_quads)
DISPATCH(wn_move_q8_image, import)
DISPATCH(wn_move_q8_image, export)

void wn_move_q8_range_run(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2])
{
    if (wn_cpu_isa() == WN_ISA_scalar)
        wn_move_q8_range_1__scalar(x, x_stride, n, c0, c1, range);
    else
        wn_move_q8_range_32__avx2(x, x_stride, n, c0, c1, range);
}
