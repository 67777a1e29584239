/* f32.h: random problems for the f32 matrix families, and their answer in double precision from the dense weights. */
#ifndef CHECKKERN_F32_H
#define CHECKKERN_F32_H

#include "tests/checkkern/checkkern.h"

#define CK_F32_DEPTHWISE (-1.0) /* density: row o has weights for one input plane only, o / (rows / planes) */

struct ck_f32 {
    size_t rows, k, taps, n;
    size_t block;             /* rows that have their non-zeros, at least some of them, at the same k; 0: 1 */
    size_t x_stride;          /* bytes from plane to plane of x */
    float *w;                 /* (rows, k) */
    int32_t *koff;            /* [k] */
    struct wn_f32_args args;  /* y = got */
    float *want, *got, *size; /* rows * y_stride */
};

/** A convolution-like problem of random shape (planes of `taps` ks each, offsets on either side of column 0), with any
 *  mix of bias, residual (sometimes in place), mask and clamp, and weights of which `density` are not 0. Shapes given
 * in `p` (rows, k, taps, n; k a multiple of taps) are kept, rows = 0 draws them. fixed: for timing: bias and a clamp at
 * 0 only, and no answer. */
void ck_f32_make(struct ck *ck, struct ck_f32 *p, double density, bool fixed);
/** Compare got with want, all rows. */
void ck_f32_check(struct ck *ck, const struct ck_f32 *p);

#endif
