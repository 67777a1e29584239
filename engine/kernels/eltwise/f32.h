/* f32.h (eltwise): f32 operations from element to element, on runs of any length: rows of planes, or whole tensors.
 *
 * A plan calls them once per plane (with the column mask, so that pad columns stay 0) or, when no mask is needed, once
 * per contiguous range of a tensor. Nothing is packed. Any number of threads, each on its own range. Sources: ONNX
 * operators of the same names. The scalar reference uses libm; the vector kernels are within 5e-7 * max(1, |y|)
 * of the exact value (erf 1.1 units in the last place, gelu 1.4e-7, the others 1.3e-7 or less, on [-20, 20]). NaN gives
 * NaN. */
#ifndef WN_ELTWISE_F32_H
#define WN_ELTWISE_F32_H

#include "engine/kernels/kernels.h"

enum wn_elt_f32_unary {
    WN_ELT_CLAMP,        /* x; Relu is lo = 0, Clip is lo, hi */
    WN_ELT_LEAKY,        /* x > 0 ? x : alpha * x                     LeakyRelu, PRelu (per channel) */
    WN_ELT_HARD_SIGMOID, /* min(1, max(0, alpha * x + beta)) */
    WN_ELT_HARD_SWISH,   /* x * min(1, max(0, alpha * x + beta))      ONNX: alpha 1/6, beta 0.5 */
    WN_ELT_EXP,          /* e^x */
    WN_ELT_ELU,          /* x > 0 ? x : alpha * (e^x - 1) */
    WN_ELT_SIGMOID,      /* 1 / (1 + e^-x) */
    WN_ELT_SILU,         /* x / (1 + e^(-alpha * x))                  alpha = 1; 1.702 is the quick Gelu */
    WN_ELT_TANH,
    WN_ELT_ERF,
    WN_ELT_GELU,      /* x / 2 * (1 + erf(x / sqrt 2)) */
    WN_ELT_GELU_TANH, /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
    WN_ELT_UNARY_COUNT
};
enum wn_elt_f32_binary { WN_ELT_ADD, WN_ELT_SUB, WN_ELT_MUL, WN_ELT_DIV, WN_ELT_BINARY_COUNT };

struct wn_elt_f32 {
    const float *x;       /* [n] */
    const float *b;       /* [n], binary only */
    float *y;             /* [n]; may be x or b */
    size_t n;             /* any */
    const uint32_t *mask; /* [n] ~0u keeps, 0 writes 0.0f; or NULL */
    float alpha, beta;
    float lo, hi; /* clamp of the result; -INFINITY, INFINITY for none */
};

/** y[i] = clamp(op(x[i])). Reads and writes exactly n elements. */
typedef void wn_elt_f32_unary_fn(enum wn_elt_f32_unary op, const struct wn_elt_f32 *args);
/** y[i] = clamp(x[i] op b[i]). */
typedef void wn_elt_f32_binary_fn(enum wn_elt_f32_binary op, const struct wn_elt_f32 *args);
/** The fastest kernels this CPU has (WINNOW_CPU permitting). Any thread. */
wn_elt_f32_unary_fn wn_elt_f32_unary_run;
wn_elt_f32_binary_fn wn_elt_f32_binary_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_elt_f32_init(void);

#define KERNEL(isa, NR)                                                                                                \
    wn_elt_f32_unary_fn wn_elt_f32_unary_##NR##__##isa;                                                                \
    wn_elt_f32_binary_fn wn_elt_f32_binary_##NR##__##isa;
#include "engine/kernels/eltwise/f32.def"
#undef KERNEL

#endif
