/* kernels.h: what all kernel families share: planes, columns, epilogues, instruction sets.
 *
 * LAYOUT  Inside a plan, an image's channel is a plane: rows of `pitch` elements, where the padding to the right of one
 *   row is the padding to the left of the next. Element (y, x) is at origin + y * pitch + x. The columns of a kernel
 *   are the run of elements from (0,0) to the end of the last row, so that a stride-1 convolution's tap (dy, dx) is the
 *   constant offset dy * pitch + dx and a k x k convolution is a matrix product over columns. Three element forms:
 *     f32    [C][plane] float
 *     quad   [ceil(C/4)][plane][4] u8: four channels side by side; channels past C hold the zero point
 *     plane  [C][plane] u8
 *   Tokens of a transformer are columns of an image with h = 1.
 * PADDING  Everything around an image that a consumer reads holds 0 (f32) or the zero point (u8). Producers keep it so:
 *   the columns that are no pixels (row ends, and the tail up to a multiple of WN_COLS) are written as the pad value
 *   when `mask` is given, and may be garbage when it is NULL. The margins above and below are filled once by the plan.
 * COLUMNS  n is a multiple of WN_COLS. Kernels write exactly the n columns; they may read up to WN_OVERREAD bytes past
 *   the last element they need. Addresses of column 0 are 64-byte aligned; offsets need not be.
 * WEIGHTS  are packed once per model, whatever the shapes: streams hold k indices. For a concrete shape they are
 * linked: off[] = byte offset of every stored k from column 0 of channel 0 (koff[k] of the geometry). Offsets are
 * signed. EXACT    every int8 kernel equals its scalar reference bit for bit on every ISA; -ffp-contract=off
 * everywhere. */
#ifndef WN_KERNELS_H
#define WN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/base.h"

#define WN_COLS     16u
#define WN_OVERREAD 128u /* bytes */

/** Before a loop over registers whose bound is a constant after inlining, so that arrays become registers. In a build
 *  through SIMDe not every function is inlined, and clang makes a warning of a loop that it could not unroll. */
#if defined(WN_SIMDE)
#define WN_UNROLL
#elif defined(__clang__)
#define WN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define WN_UNROLL _Pragma("GCC unroll 16")
#endif
/** Before a loop of many turns: four at once. */
#ifdef __clang__
#define WN_UNROLL_4
#else
#define WN_UNROLL_4 _Pragma("GCC unroll 4")
#endif

/** Instruction sets with kernels on this architecture, slowest first. CPUs have all before their best one, except
 *  avx2vnni, which CPUs with avx512vnni may lack. A family's .def lists those it has. */
#ifdef __aarch64__
enum wn_isa { WN_ISA_scalar, WN_ISA_neon /* with dot products */, WN_ISA_neoni8mm, WN_ISA_COUNT };
#else
enum wn_isa { WN_ISA_scalar, WN_ISA_avx2, WN_ISA_avx2vnni, WN_ISA_avx512vnni, WN_ISA_COUNT };
#endif
/** The best one this CPU has, at most what WINNOW_CPU allows. Decided once; any thread. */
enum wn_isa wn_cpu_isa(void);
/** True when this CPU can run `isa` (whatever WINNOW_CPU says). */
bool wn_cpu_has(enum wn_isa isa);
const char *wn_isa_name(enum wn_isa isa);
/** Does wn_cpu_isa() have vectors of 512 bits? */
static inline bool wn_cpu_is_wide(void)
{
#ifdef __aarch64__
    return false;
#else
    return wn_cpu_isa() == WN_ISA_avx512vnni;
#endif
}
/** Beside wn_cpu_isa() of avx512vnni: permutations of bytes (AVX512-VBMI), which Cascade Lake lacks. */
bool wn_cpu_has_vbmi(void);
/** Of kernels that lie by instruction set, where NULL stands for none: the fastest that this CPU has and wn_cpu_isa()
 *  allows. If that allows none, the slowest: weights may have been packed before wn_cpu_force() lowered it. */
#define WN_BEST_KERNEL(kernels)                                                                                        \
    __extension__({                                                                                                    \
        int isa_ = (int)wn_cpu_isa();                                                                                  \
        while (isa_ > 0 && !((kernels)[isa_] && wn_cpu_has((enum wn_isa)isa_)))                                        \
            isa_--;                                                                                                    \
        while (isa_ < WN_ISA_COUNT - 1 && !((kernels)[isa_] && wn_cpu_has((enum wn_isa)isa_)))                         \
            isa_++;                                                                                                    \
        (kernels)[isa_];                                                                                               \
    })
/** For tests and benchmarks: use `isa` from now on (must be supported); affects later wn_<family>_init() calls. */
void wn_cpu_force(enum wn_isa isa);

/** One channel's plane. Extents and offsets in elements (f32: 4 bytes, quad: 4 bytes, plane form: 1 byte). */
struct wn_plane {
    int32_t h, w, pitch;
    size_t origin; /* of element (0,0) from the start of the plane; 64-byte aligned */
    size_t stride; /* from one plane to the next; an odd multiple of 64 bytes */
    size_t cols;   /* (h - 1) * pitch + w rounded up to WN_COLS */
};

/** Activations in and out of the f32 families. y may be r (in place), never x. */
struct wn_f32_args {
    const float *x;       /* column 0 of channel 0 */
    size_t n;             /* columns, a multiple of WN_COLS */
    size_t live;          /* columns up to the last one that is not padding; 0: n */
    float *y;             /* column 0 of row 0 */
    size_t y_stride;      /* floats between rows of y (and of r) */
    const float *bias;    /* [rows] or NULL */
    const float *r;       /* residual added before the clamp, laid out as y, may be y itself; or NULL */
    const uint32_t *mask; /* [n] ~0u keeps, 0 writes 0.0f; or NULL */
    float lo, hi;         /* clamp; -INFINITY, INFINITY for none. NaN passes through */
};

/** Zeros from the last of an output row's ow pixels to the next row's first, or, behind the last row, to the end of the
 *  columns. y: pixel 0 of row oy. */
static inline void wn_f32_gap(float *y, int32_t oy, int32_t oh, int32_t ow, size_t pitch, size_t cols)
{
    const size_t end = oy + 1 < oh ? pitch : cols - (size_t)oy * pitch;
    for (size_t c = (size_t)ow; c < end; c++)
        y[c] = 0;
}

enum wn_q8_out { WN_OUT_QUAD, WN_OUT_PLANE, WN_OUT_F32 };

/** Activations in and out of the int8 families, and the epilogue of fused.h:
 *    acc = bias[o] + sum(w * x) - w_zp[o] * colsum[c]         (bias already holds the zero-point terms)
 *    u8 : f = (float)acc * mul[o];                         y = clamp(rne(f) + y_zp, q_lo, q_hi), pad = y_zp
 *         with a residual, what the layer alone would give is rounded as its own tensor first:
 *         f = rne(clamp(f, s_lo, s_hi)) * s_mul + (float)(r - r_zp) * r_mul
 *    f32: f = (float)acc * mul[o] (+ r);                   y = clamp(f, lo, hi),                 pad = 0
 *  rne to int32 saturates out-of-range floats the way clamping before rounding does. */
struct wn_q8_args {
    const uint8_t *x; /* column 0 of channel (or quad) 0 */
    size_t n;
    void *y;
    size_t y_stride; /* bytes between planes of y: per output row (plane, f32), per four rows (quad) */
    enum wn_q8_out out;
    const int32_t *bias;   /* [rows] */
    const float *mul;      /* [rows] */
    const int32_t *w_zp;   /* [rows] or NULL */
    const int32_t *colsum; /* [n], with w_zp */
    const void *r;         /* residual laid out as y (u8 or f32), or NULL; may be y itself */
    float r_mul, s_mul;
    float s_lo, s_hi; /* whole numbers: the layer's own bounds less its zero point */
    int32_t r_zp, y_zp, q_lo, q_hi;
    float lo, hi;
    const uint32_t *mask; /* [n] ~0u keeps, 0 writes the pad value; or NULL */
};

/* Families, each in its folder with a header, a .def, pack.c, scalar.c, one file per ISA and dispatch.c:
 *   f32_gemm  dense      f32_conv  dense convolution, lanes over output channels
 *   f32_spmm  unstructured, Rx1      f32_dw  depthwise
 *   q8_gemm   dense      q8_conv  dense convolution, lanes over output channels
 *   q8_spmm_b4  1x4 blocks           q8_spmm  unstructured, Rx1   q8_dw  depthwise    q8_stem
 *   move      layout changes, quantize/dequantize, stride phases;  pool  max/average;  eltwise  add, activations     */

#endif
