/* q8_epilogue.h: what every int8 family does with a finished accumulator (the arithmetic that fused.h promises).
 *
 * This is the definition; q8_epilogue_avx2.h and q8_epilogue_avx512.h say the same in vectors, bit for bit.
 * ROUNDING  A float is cut to [-65536, 65536] (a NaN, which only a broken scale can make, becomes 65536), then rounded
 *   half to even. Adding y_zp and clamping to q_lo..q_hi afterwards gives what unbounded arithmetic would.
 * ACCUMULATORS  are 32 bits and wrap: w_zp * colsum may overflow on its way as long as the result fits. The caller
 *   keeps K <= WN_Q8_MAX_K so that it does.
 * PRECONDITIONS  bias and mul are never NULL; 0 <= y_zp, r_zp, q_lo, q_hi <= 255; lo <= hi; s_lo <= s_hi are whole
 *   numbers; colsum comes with w_zp. */
#ifndef WN_Q8_EPILOGUE_H
#define WN_Q8_EPILOGUE_H

#include <math.h>
#include <string.h>
#include "engine/kernels/kernels.h"

/** Products of 255 and -128 that certainly fit 31 bits, with room for a bias of the same size. */
#define WN_Q8_MAX_K 32768u
#define WN_Q8_CUT   65536.0f
#define WN_Q8_INLINE static inline __attribute__((always_inline))

WN_Q8_INLINE int32_t wn_q8_rne(float f)
{
    f = f < WN_Q8_CUT ? f : WN_Q8_CUT;
    f = f > -WN_Q8_CUT ? f : -WN_Q8_CUT;
    return (int32_t)lrintf(f);
}

/** rne, zero point and clamp: a real value in units of the output's scale becomes its byte. */
WN_Q8_INLINE uint8_t wn_q8_byte(float f, int32_t y_zp, int32_t q_lo, int32_t q_hi)
{
    int32_t q = wn_q8_rne(f) + y_zp;
    return (uint8_t)(q < q_lo ? q_lo : q > q_hi ? q_hi : q);
}

/** Byte offset of element (row o, column c) of y and r. */
WN_Q8_INLINE size_t wn_q8_out_at(const struct wn_q8_args *a, size_t o, size_t c)
{
    switch (a->out) {
    case WN_OUT_QUAD:
        return o / 4 * a->y_stride + 4 * c + o % 4;
    case WN_OUT_PLANE:
        return o * a->y_stride + c;
    default:
        return o * a->y_stride + 4 * c;
    }
}

/** The same outputs from column c on, n columns: y, r, mask and colsum move, x stays (its form is the family's matter).
 */
static inline struct wn_q8_args wn_q8_args_cols(const struct wn_q8_args *a, size_t c, size_t n)
{
    struct wn_q8_args b = *a;
    size_t at = a->out == WN_OUT_PLANE ? c : 4 * c;
    b.n = n;
    b.y = (char *)a->y + at;
    b.r = a->r ? (const char *)a->r + at : NULL;
    b.mask = a->mask ? a->mask + c : NULL;
    b.colsum = a->colsum ? a->colsum + c : NULL;
    return b;
}

/** Finish element (o, c): `acc` holds bias[o] + sum(w * x). Subtracts the weight zero point's share, scales, adds the
 *  residual, clamps and stores, or stores the pad value where the mask says so. */
WN_Q8_INLINE void wn_q8_put(const struct wn_q8_args *a, size_t o, size_t c, uint32_t acc)
{
    size_t at = wn_q8_out_at(a, o, c);
    bool keep = !a->mask || a->mask[c];
    if (a->w_zp)
        acc -= (uint32_t)a->w_zp[o] * (uint32_t)a->colsum[c];
    float f = (float)(int32_t)acc * a->mul[o];
    if (a->out == WN_OUT_F32) {
        if (a->r) {
            float r;
            memcpy(&r, (const char *)a->r + at, sizeof r);
            f = f + r;
        }
        f = f < a->lo ? a->lo : f;
        f = f > a->hi ? a->hi : f;
        f = keep ? f : 0.0f;
        memcpy((char *)a->y + at, &f, sizeof f);
        return;
    }
    if (a->r) {
        f = f < a->s_hi ? f : a->s_hi; /* a NaN too */
        f = f > a->s_lo ? f : a->s_lo;
        f = rintf(f) * a->s_mul + (float)((int32_t)((const uint8_t *)a->r)[at] - a->r_zp) * a->r_mul;
    }
    ((uint8_t *)a->y)[at] = keep ? wn_q8_byte(f, a->y_zp, a->q_lo, a->q_hi) : (uint8_t)a->y_zp;
}

/** The lanes of the last quad that are no rows hold the zero point. Call after the last row; other forms need nothing.
 */
WN_Q8_INLINE void wn_q8_put_pad_rows(const struct wn_q8_args *a, size_t rows)
{
    if (a->out == WN_OUT_QUAD)
        for (size_t o = rows; o % 4; o++)
            for (size_t c = 0; c < a->n; c++)
                ((uint8_t *)a->y)[wn_q8_out_at(a, o, c)] = (uint8_t)a->y_zp;
}

#endif
