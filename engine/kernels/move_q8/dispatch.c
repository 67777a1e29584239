/* dispatch.c: the best kernel that this CPU (WINNOW_CPU permitting) has; AVX-512 machines run the AVX2 ones, which the
 * memory bounds anyway, except where they divide. */
#include "engine/kernels/move_q8/move_q8.h"

static wn_move_q8_fn *const quantize[WN_ISA_COUNT] = {
#define KERNEL(isa, NR)   [WN_ISA_##isa] = wn_move_q8_quantize_##NR##__##isa,
#define QUANTIZE(isa, NR) KERNEL(isa, NR)
#include "engine/kernels/move_q8/move_q8.def"
#undef KERNEL
#undef QUANTIZE
};

static const struct set {
    wn_move_q8_fn *dequantize, *to_planes, *to_quads;
    wn_move_q8_image_fn *import, *export;
    wn_move_q8_range_fn *range;
} *const others[WN_ISA_COUNT] = {
#define KERNEL(isa, NR)                                                                                                \
    [WN_ISA_##isa] = &(const struct set){ .dequantize = wn_move_q8_dequantize_##NR##__##isa,                           \
                                          .to_planes = wn_move_q8_to_planes_##NR##__##isa,                             \
                                          .to_quads = wn_move_q8_to_quads_##NR##__##isa,                               \
                                          .import = wn_move_q8_import_##NR##__##isa,                                   \
                                          .export = wn_move_q8_export_##NR##__##isa,                                   \
                                          .range = wn_move_q8_range_##NR##__##isa },
#include "engine/kernels/move_q8/move_q8.def"
#undef KERNEL
};

void wn_move_q8_quantize_run(const struct wn_move_q8 *args, size_t c0, size_t c1)
{
    WN_BEST_KERNEL(quantize)(args, c0, c1);
}

#define DISPATCH(args_type, what)                                                                                      \
    void wn_move_q8_##what##_run(const struct args_type *args, size_t c0, size_t c1)                                   \
    {                                                                                                                  \
        WN_BEST_KERNEL(others)->what(args, c0, c1);                                                                    \
    }
DISPATCH(wn_move_q8, dequantize)
DISPATCH(wn_move_q8, to_planes)
DISPATCH(wn_move_q8, to_quads)
DISPATCH(wn_move_q8_image, import)
DISPATCH(wn_move_q8_image, export)

void wn_move_q8_range_run(const float *x, size_t x_stride, size_t n, size_t c0, size_t c1, float range[2])
{
    WN_BEST_KERNEL(others)->range(x, x_stride, n, c0, c1, range);
}
