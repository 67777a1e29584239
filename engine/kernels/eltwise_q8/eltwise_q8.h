/* eltwise_q8.h: int8 operations from element to element, in quad or plane form (the same one for all operands).
 *
 * USE   fill struct wn_elt_q8 and run blocks of it on any number of threads: operands point at the block's first column
 *       of channel 0, `n` is its columns; c0..c1-1 are its channels. Nothing is packed. A contiguous tensor of n
 *       elements is one channel in plane form: n need not be a multiple of WN_COLS, nothing is over-read.
 *       y may be a or b. Pad columns (mask) and lanes of the last quad past `channels` get y_zp.
 * EXACT the same bits on every ISA. Sources: wn.QAdd and wn.Requantize of fused.h. */
#ifndef WN_ELTWISE_Q8_H
#define WN_ELTWISE_Q8_H

#include "engine/kernels/kernels.h"

struct wn_elt_q8 {
    const uint8_t *a, *b; /* b: add only */
    uint8_t *y;
    size_t a_stride, b_stride, y_stride; /* bytes from one plane, or quad, to the next */
    size_t channels, n;
    enum wn_q8_out form; /* WN_OUT_QUAD or WN_OUT_PLANE */
    float a_mul, b_mul;  /* add */
    int32_t a_zp, b_zp, y_zp, q_lo, q_hi;
    const uint8_t *table; /* [256] lookup */
    const uint32_t *mask; /* [n] ~0u keeps, 0 writes y_zp; or NULL */
};

/** Channels c0..c1-1 (quad: c0 a multiple of 4, c1 too or = channels), all n columns. */
typedef void wn_elt_q8_fn(const struct wn_elt_q8 *args, size_t c0, size_t c1);
/** y = clamp(rne((a - a_zp) * a_mul + (b - b_zp) * b_mul) + y_zp, q_lo, q_hi) */
wn_elt_q8_fn wn_elt_q8_add_run;
/** y = table[a]: requantization and every other function of one u8 (x ^ 0x80 included). */
wn_elt_q8_fn wn_elt_q8_lookup_run;

/** table[a] = clamp(rne((a - a_zp) * mul) + y_zp, q_lo, q_hi) for a change of scale; mul = a_scale / y_scale. */
void wn_elt_q8_requant_table(float mul, int32_t a_zp, int32_t y_zp, int32_t q_lo, int32_t q_hi, uint8_t table[256]);

#define KERNEL(isa, NR)                                                                                                \
    wn_elt_q8_fn wn_elt_q8_add_##NR##__##isa;                                                                          \
    wn_elt_q8_fn wn_elt_q8_lookup_##NR##__##isa;
#include "engine/kernels/eltwise_q8/eltwise_q8.def"
#undef KERNEL

#endif
