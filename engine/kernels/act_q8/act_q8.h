/* act_q8.h: an activation and the quantization behind it, floats to bytes in one pass.
 *
 *     y u8 = clamp(rne(act(x) / scale) + zp, q_lo, q_hi)
 *
 * EXACT  The bytes are those of wn_elt_f32_unary_run() and wn_move_q8_quantize_run() one after the other, on the same
 * ISA, for every x, infinities and (quiet) NaN included. Only the way there is shorter (avx512vnni.c): an approximation
 *        of known error says which byte, and where it lies so near a boundary between two bytes that it cannot say, the
 *        activation itself is computed.
 * USE    wn_act_q8_init() once, then run blocks of channels on any number of threads. */
#ifndef WN_ACT_Q8_H
#define WN_ACT_Q8_H

#include "engine/kernels/eltwise/f32.h"
#include "engine/kernels/move_q8/move_q8.h"

/** Pieces of the approximation, and coefficients of each. */
#define WN_ACT_Q8_PIECES 32
#define WN_ACT_Q8_COEFS  4

struct wn_act_q8 {
    enum wn_elt_f32_unary op;
    struct wn_elt_f32 elt; /* alpha, beta, lo, hi, mask NULL; without x, y, n */
    float scale;
    float near; /* approximation less exact, in steps of y: at most this; 0: there is none, act is computed for all x */
    float top;  /* |x| from where on the approximation is a constant */
    float pieces; /* a piece is as wide as the inverse of this, and piece i lies around i times that */
    float piece[WN_ACT_Q8_COEFS][WN_ACT_Q8_PIECES]; /* of |x|^i */
};

/** elt: what eltwise takes beside data (mask NULL); scale: of y, above 0. */
void wn_act_q8_init(struct wn_act_q8 *act, enum wn_elt_f32_unary op, const struct wn_elt_f32 *elt, float scale);

/** Channels c0 .. c1-1 as quantize of move_q8.h has them (its contract holds, over-reading included), but that x is
 * also written: it is left as it was, or overwritten. quant->x is unused, quant->scale as at init. */
typedef void wn_act_q8_fn(const struct wn_act_q8 *act, const struct wn_move_q8 *quant, float *x, size_t c0, size_t c1);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_act_q8_fn wn_act_q8_run;

#define KERNEL(isa, NR) wn_act_q8_fn wn_act_q8_##NR##__##isa;
#include "engine/kernels/act_q8/act_q8.def"
#undef KERNEL

#endif
